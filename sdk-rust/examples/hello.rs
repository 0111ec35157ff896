//! Two nodes say hello through a router: `cargo run --example hello -- 127.0.0.1:2000`.
//!
//! Any router will do, `router` without options for instance: class 5 needs no name.
#![allow(clippy::print_stdout, reason = "saying hello is what it is for")]

use switchboard::{Caller, Master, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = std::env::args().nth(1).unwrap_or_else(|| switchboard::DEFAULT_ROUTER.to_owned());

    let server = Node::builder("5.1").router(&router).connect().await?;
    server.on("greet", async |from: Caller, (name,): (String,)| {
        Ok(format!("hello, {name}, from a node that {} called", from.id()))
    });

    let client = Node::builder("5.2").router(&router).connect().await?;
    let greeting = client.call::<String>(Master, 5, "greet", ("world",)).await?;
    println!("{greeting}");

    client.close().await;
    server.close().await;
    Ok(())
}
