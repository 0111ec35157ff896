//! Calls and messages at a steady rate, whatever becomes of them: a call that hangs delays no other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use switchboard::{CallError, Hash, Master, Node, Random};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Options;

/// What became of a call.
#[derive(Debug)]
pub struct Done {
    /// Its number.
    pub number: u64,
    /// When its answer came.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
    /// The process that answered.
    pub result: Result<u32, CallError>,
}

/// Makes idempotent calls to the master of `bank` until it is stopped. Answers how many.
pub async fn charge(
    node: Node,
    rate: u64,
    stop: Arc<AtomicBool>,
    done: mpsc::UnboundedSender<Done>,
) -> u64 {
    let mut calls = JoinSet::new();
    let mut pace = Pace::new(rate);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..pace.due().await {
            number += 1;
            let call = node.call::<u32>(Master, "bank", "charge", (number,)).idempotent();
            let done = done.clone();
            calls.spawn(async move {
                let begun = Instant::now();
                let result = call.timeout(PATIENCE).await;
                let at = Instant::now();
                // Whoever listened is gone; then nobody counts.
                let _ = done.send(Done { number, at, took: at - begun, result });
            });
        }
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    number
}

/// How many messages are due.
struct Pace {
    begun: Instant,
    rate: u64,
    sent: u64,
    tick: tokio::time::Interval,
}

impl Pace {
    fn new(rate: u64) -> Self {
        let tick = tokio::time::interval(Duration::from_millis(1));
        Self { begun: Instant::now(), rate, sent: 0, tick }
    }

    async fn due(&mut self) -> u64 {
        self.tick.tick().await;
        let all = (self.begun.elapsed().as_secs_f64() * self.rate as f64) as u64;
        let due = all.saturating_sub(self.sent);
        self.sent = all;
        due
    }
}

/// The role `caller`: calls of both kinds and one-way messages, until SIGTERM.
pub async fn serve(options: &Options) -> anyhow::Result<()> {
    let mut builder = Node::builder(options.text("service")?)
        .backoff(Duration::from_millis(20), Duration::from_millis(500));
    for router in options.text("routers")?.split(',') {
        builder = builder.router(router);
    }
    let node = builder.connect().await?;
    let rate = options.number("rate", 1_000)?;
    // Numbers differ between all lives of all callers.
    let first = u64::from(node.id().instance().raw()) << 56 | u64::from(std::process::id()) << 32;
    println!("ready");

    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    tokio::spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            terminate.recv().await;
        }
        stopping.store(true, Ordering::Relaxed);
    });
    let (ok, not_sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (failed, mut failures) = mpsc::unbounded_channel();
    let mut calls = JoinSet::new();
    let mut pace = Pace::new(rate);
    let (mut number, mut notes) = (first, 0_u64);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..pace.due().await {
            number += 1;
            let charge = node.call::<u32>(Master, "bank", "charge", (number,)).idempotent();
            let plain = node.call::<u32>(Hash(number), "store", "charge", (number,));
            for (kind, call) in [("idempotent", charge), ("plain", plain)] {
                let (ok, failed) = (Arc::clone(&ok), failed.clone());
                calls.spawn(async move {
                    match call.timeout(PATIENCE).await {
                        Ok(_) => drop(ok.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => drop(failed.send(format!("{kind} call: {error}"))),
                    }
                });
            }
            for class in ["bank", "store"] {
                let sent = match class {
                    "bank" => node.forward(Master, class, "note", (number << 1,)),
                    _ => node.forward(Random, class, "note", (number << 1 | 1,)),
                };
                match sent {
                    Ok(()) => notes += 1,
                    Err(_) => drop(not_sent.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
    drop(failed);
    let mut why: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(failure) = failures.recv().await {
        *why.entry(failure).or_default() += 1;
    }
    for (why, times) in &why {
        eprintln!("{}: {times} x {why}", node.id());
    }
    node.drain().await;
    let (ok, not_sent) = (ok.load(Ordering::Relaxed), not_sent.load(Ordering::Relaxed));
    println!("done {ok} {} {notes} {not_sent}", why.values().sum::<u64>());
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(10);
