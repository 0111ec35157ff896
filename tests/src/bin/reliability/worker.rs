//! A node that is called. What it has done it writes down at once, so that it can be counted even if
//! it is killed.

use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use switchboard::{Caller, Event, Node};

use crate::Options;

/// One line of a record: what was done, under which number.
pub const RUN: u8 = b'r';
pub const NOTE: u8 = b'n';

/// Works until SIGTERM.
pub async fn run(options: &Options) -> anyhow::Result<()> {
    let record = Arc::new(Mutex::new(File::create(options.text("records")?)?));
    let (runs, notes) = (Arc::clone(&record), record);
    let pid = std::process::id();
    let mut builder = Node::builder(options.text("service")?)
        .heartbeat(Duration::from_millis(options.number("heartbeat-ms", 1_500)?))
        .backoff(Duration::from_millis(20), Duration::from_millis(500))
        .on("charge", move |_: Caller, (number,): (u64,)| {
            write(&runs, RUN, number);
            async move { Ok(pid) }
        })
        .on("note", move |_: Caller, (number,): (u64,)| {
            write(&notes, NOTE, number);
            async move { Ok(()) }
        });
    let routers: Vec<&str> = options.text("routers")?.split(',').collect();
    for router in &routers {
        builder = builder.router(router);
    }
    let node = builder.connect().await?;
    let mut events = node.events();
    let mut connected = 0;
    while let Some(event) = events.next().await {
        connected += usize::from(matches!(event, Event::Connected { .. }));
        if connected == routers.len() {
            break;
        }
    }
    println!("ready");
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::Promoted { epoch, .. } => println!("promoted {epoch} {}", now()),
                Event::Demoted { .. } => println!("demoted {}", now()),
                _ => {}
            }
        }
    });
    if let Some(epoch) = node.epoch(node.id().class()) {
        println!("promoted {epoch} {}", now());
    }
    node.serve().await;
    println!("done");
    Ok(())
}

fn write(record: &Mutex<File>, what: u8, number: u64) {
    let mut line = [what; 9];
    line[1..].copy_from_slice(&number.to_le_bytes());
    let mut file = record.lock().unwrap_or_else(PoisonError::into_inner);
    // A record that can't be written shows as work that was not done.
    let _ = file.write_all(&line);
}

/// Microseconds since 1970.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
}
