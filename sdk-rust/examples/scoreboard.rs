//! A scoreboard for the cluster of Lua nodes in `sdk-lua/examples/cluster`: what Lua sends is read into types.
//!
//! `cargo run --example scoreboard -- 127.0.0.1:2000`, with a router that knows the class `scoreboard`.

#![allow(clippy::print_stdout, reason = "it says that it is there")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use switchboard::{Caller, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = std::env::args().nth(1).unwrap_or_else(|| switchboard::DEFAULT_ROUTER.to_owned());
    // By match, so that one that is told twice counts once.
    let matches: Arc<Mutex<BTreeMap<String, Vec<u64>>>> = Arc::default();

    let played = matches.clone();
    let counted = matches;
    let node = Node::builder("scoreboard.1")
        .router(&router)
        .on("played", move |_: Caller, (name, players): (String, Vec<u64>)| {
            played.lock().unwrap_or_else(PoisonError::into_inner).insert(name, players);
            async { Ok(()) }
        })
        .on("count", move |_: Caller, ()| {
            let count = counted.lock().unwrap_or_else(PoisonError::into_inner).len();
            async move { Ok(count) }
        })
        .connect()
        .await?;
    println!("connected");
    node.serve().await;
    Ok(())
}
