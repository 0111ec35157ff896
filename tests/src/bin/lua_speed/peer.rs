//! The other end, in Rust: counts and checks what comes, sends numbered messages with a window, answers
//! and makes calls.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use switchboard::{Caller, Direct, Node};
use tokio::sync::watch;

/// A node on a thread of its own.
pub(crate) struct Peer {
    thread: JoinHandle<anyhow::Result<()>>,
    begin: watch::Sender<bool>,
}

impl Peer {
    /// Starts it, and waits until it is connected.
    pub(crate) fn start(role: &str, router: String, count: u64) -> anyhow::Result<Self> {
        let (begin, may_begin) = watch::channel(false);
        let (connected, is_connected) = mpsc::channel();
        let role = role.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work(&role, router, count, connected, may_begin))
        });
        // Where it fails, the thread says why.
        let _ = is_connected.recv();
        Ok(Self { thread, begin })
    }

    pub(crate) fn begin(&self) {
        self.begin.send_replace(true);
    }

    pub(crate) fn finish(self) -> anyhow::Result<()> {
        self.begin();
        self.thread.join().map_err(|_| anyhow::anyhow!("the peer panicked"))?
    }
}

async fn work(
    role: &str,
    router: String,
    count: u64,
    connected: mpsc::Sender<()>,
    mut begin: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let (acked, mut acks) = watch::channel(0_u64);
    let (arrived, mut arrivals) = watch::channel(0_u64);
    let node = Node::builder("matchsvr.1")
        .router(&router)
        .handler_queue(1 << 20)
        .on("ack", move |_: Caller, (number,): (u64,)| {
            acked.send_replace(number);
            std::future::ready(Ok(()))
        })
        .on("echo", |_: Caller, (number, _, _): (u64, u64, String)| std::future::ready(Ok(number)))
        .on("join_match", move |_: Caller, (number, _, _): (u64, u64, String)| {
            // Fails the run: the count never comes.
            if number == *arrived.borrow() {
                arrived.send_modify(|arrived| *arrived += 1);
            }
            std::future::ready(Ok(()))
        })
        .connect()
        .await?;
    let _ = connected.send(());
    match role {
        "forward" => {
            let all = arrivals.wait_for(|arrived| *arrived == count);
            tokio::time::timeout(Duration::from_secs(60), all)
                .await
                .context("messages are missing, or out of order")??;
        }
        "handle" | "memory" => {
            begin.wait_for(|begin| *begin).await?;
            for number in 0..count {
                if number % 1000 == 0 && number >= WINDOW {
                    acks.wait_for(|acked| *acked + WINDOW > number).await?;
                }
                send(&node, number).await?;
            }
            acks.wait_for(|acked| *acked == count).await?;
        }
        "serve" => {
            begin.wait_for(|begin| *begin).await?;
            let callers = (0..64).map(|worker| {
                let node = node.clone();
                tokio::spawn(async move {
                    for number in 0..count / 64 {
                        let args = (number, worker, TEXT);
                        let same: u64 = node.call(Direct, "gamesvr.1", "echo", args).await?;
                        ensure!(same == number, "{same} in place of {number}");
                    }
                    anyhow::Ok(())
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await??;
            }
        }
        // Answers until it is told to end.
        _ => drop(begin.wait_for(|begin| *begin).await?),
    }
    node.close().await;
    Ok(())
}

/// Sends a message, waiting where the outbox is full.
async fn send(node: &Node, number: u64) -> anyhow::Result<()> {
    loop {
        match node.forward(Direct, "gamesvr.1", "join_match", (number, 7, TEXT)) {
            Err(switchboard::ForwardError::Full { .. }) => tokio::task::yield_now().await,
            sent => return Ok(sent?),
        }
    }
}

/// How many messages may be under way: less than a node's queue of handlers.
const WINDOW: u64 = 6000;

/// With method and numbers about 64 bytes.
const TEXT: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
