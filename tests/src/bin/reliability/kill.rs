//! A master that is killed while calls go on, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use switchboard::Node;
use switchboard_tests::Scratch;
use tokio::sync::mpsc;

use crate::Options;
use crate::account::{Account, percentile};
use crate::load::{self, Done};
use crate::process::{NodeProcess, router};

/// Kills as often as asked; answers whether every promise was kept.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let (kills, rate) = (options.number("kills", 1_000)?, options.number("rate", 5_000)?);
    let scratch = Scratch::new();
    let routers = ["east", "west"].map(|name| router(name, CONFIG, None));
    let addresses = routers.each_ref().map(|router| router.listen().to_owned());
    let bank = |name: &str| NodeProcess::start("worker", name, &addresses, &[], &scratch);
    let mut workers = [bank("bank.1")?, bank("bank.2")?];

    let mut builder = Node::builder("caller.1");
    for address in &addresses {
        builder = builder.router(address);
    }
    let node = builder.connect().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (done, mut answers) = mpsc::unbounded_channel();
    let calls = tokio::spawn(load::charge(node.clone(), rate, Arc::clone(&stop), done));

    let mut tally = Tally::default();
    let mut gaps = Vec::new();
    let begun = Instant::now();
    for round in 1..=kills {
        let master = tally.next(&mut answers, |_| true).await?;
        let at = workers.iter().position(|worker| worker.pid() == master.0);
        // An answer that was on its way when its process was killed the last time.
        let Some(at) = at else { continue };
        let killed = Instant::now();
        workers[at].kill()?;
        let (_, back) = tally.next(&mut answers, |pid| pid != master.0).await?;
        gaps.push(back.saturating_duration_since(killed));
        workers[at].start_again()?;
        if round % 100 == 0 {
            eprintln!("{round} kills, {:.0?}", begun.elapsed());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let made = calls.await?;
    while let Some(answer) = answers.recv().await {
        tally.add(&answer);
    }
    node.drain().await;
    let mut account = Account::default();
    for worker in &mut workers {
        worker.stop()?;
        worker.records()?.iter().try_for_each(|record| account.add(record))?;
    }
    gaps.sort();
    tally.latencies.sort();
    let gap = |part| millis(percentile(&gaps, part));
    let latency = |part| millis(percentile(&tally.latencies, part));
    println!("kills                          {}", gaps.len());
    println!("idempotent calls               {made}, {rate} a second");
    println!("answered                       {}", tally.latencies.len());
    println!("failed                         {}", tally.failed);
    println!("run twice at one instance      {}", account.twice_at_one);
    println!("run at both, the first killed  {}", account.at_several());
    println!(
        "never run, though answered     {}",
        tally.latencies.len().saturating_sub(account.runs.len())
    );
    println!("time without service, ms       p50 {} p99 {} max {}", gap(0.5), gap(0.99), gap(1.0));
    println!(
        "latency of a call, ms          p50 {} p99 {} max {}",
        latency(0.5),
        latency(0.99),
        latency(1.0)
    );
    let all = tally.latencies.len() as u64 + tally.failed == made;
    Ok(all && tally.failed == 0 && account.twice_at_one == 0)
}

/// What the answers come to.
#[derive(Debug, Default)]
struct Tally {
    latencies: Vec<Duration>,
    failed: u64,
}

impl Tally {
    fn add(&mut self, done: &Done) {
        match &done.result {
            Ok(_) => self.latencies.push(done.took),
            Err(error) => {
                self.failed += 1;
                eprintln!("call {} failed after {:?}: {error}", done.number, done.took);
            }
        }
    }

    /// The next answer of a process that is wanted: which, and when it came.
    async fn next(
        &mut self,
        answers: &mut mpsc::UnboundedReceiver<Done>,
        wanted: impl Fn(u32) -> bool,
    ) -> anyhow::Result<(u32, Instant)> {
        let deadline = Instant::now() + PATIENCE;
        // What has come while nobody looked is old.
        while let Ok(done) = answers.try_recv() {
            self.add(&done);
        }
        loop {
            let answer = tokio::time::timeout_at(deadline.into(), answers.recv());
            let done = answer.await.context("nobody answers any more")?;
            let Some(done) = done else { bail!("the load has ended") };
            self.add(&done);
            if let Ok(pid) = done.result
                && wanted(pid)
            {
                return Ok((pid, done.at));
            }
        }
    }
}

/// Milliseconds with one decimal.
pub fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

const CONFIG: &str = "classes: {bank: {id: 5}, caller: {id: 9}}\n";
const PATIENCE: Duration = Duration::from_secs(30);
