//! A master, or a router, that is killed while calls go on, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use switchboard::Node;
use switchboard_tests::{RouterProcess, Scratch};
use tokio::sync::mpsc;

use crate::Options;
use crate::account::{Account, percentile};
use crate::load::{self, Done};
use crate::process::{NodeProcess, all_back, router};

/// Kills the master as often as asked; answers whether every promise was kept.
pub async fn masters(options: &Options) -> anyhow::Result<bool> {
    let kills = options.number("kills", 1_000)?;
    let pause = Duration::from_millis(options.number("pause-ms", 40)?);
    let mut scene = Scene::set(options.number("rate", 5_000)?).await?;
    for round in 1..=kills {
        let master = scene.next(|_| true).await?.pid;
        let at = scene.workers.iter().position(|worker| worker.pid() == master);
        // An answer that was on its way when its process was killed the last time.
        let Some(at) = at else { continue };
        let killed = Instant::now();
        scene.workers[at].kill()?;
        let back = scene.next(|pid| pid != master).await?.at;
        scene.gaps.push(back.saturating_duration_since(killed));
        scene.workers[at].start_again()?;
        scene.rest(pause, round).await;
    }
    scene.account("kills of the master").await
}

/// Kills the router in use as often as asked.
pub async fn routers(options: &Options) -> anyhow::Result<bool> {
    let kills = options.number("kills", 100)?;
    let mut scene = Scene::set(options.number("rate", 5_000)?).await?;
    for round in 1..=kills {
        scene.next(|_| true).await?;
        // The class has moved to the other one after the last kill.
        let in_use = round as usize % 2;
        scene.tally.hole = Duration::ZERO;
        scene.routers[in_use].1.signal("KILL");
        let (name, killed) = &mut scene.routers[in_use];
        let listen = killed.listen().to_owned();
        killed.wait_exit();
        *killed = router(name, CONFIG, Some(&listen));
        all_back(killed, NODES).await?;
        scene.rest(PAUSE, round).await;
        // Answers that were on their way come for a moment longer, so the longest time without any
        // is what counts.
        scene.next(|_| true).await?;
        scene.gaps.push(scene.tally.hole);
    }
    scene.account("kills of a router").await
}

/// Two routers, a master and its backup, and a caller that does not stop.
struct Scene {
    routers: [(&'static str, RouterProcess); 2],
    workers: [NodeProcess; 2],
    node: Node,
    stop: Arc<AtomicBool>,
    calls: tokio::task::JoinHandle<u64>,
    answers: mpsc::UnboundedReceiver<Done>,
    tally: Tally,
    gaps: Vec<Duration>,
    rate: u64,
    begun: Instant,
    // Dropped last: processes write to it.
    _scratch: Scratch,
}

/// An answer.
struct Answer {
    pid: u32,
    at: Instant,
}

impl Scene {
    async fn set(rate: u64) -> anyhow::Result<Self> {
        let scratch = Scratch::new();
        let routers = ["east", "west"].map(|name| (name, router(name, CONFIG, None)));
        let addresses = routers.each_ref().map(|(_, router)| router.listen().to_owned());
        let bank = |name: &str| NodeProcess::start("worker", name, &addresses, &[], &scratch);
        let workers = [bank("bank.1")?, bank("bank.2")?];
        let mut builder = Node::builder("caller.1")
            .backoff(Duration::from_millis(20), Duration::from_millis(500));
        for address in &addresses {
            builder = builder.router(address);
        }
        let node = builder.connect().await?;
        let stop = Arc::new(AtomicBool::new(false));
        let (done, answers) = mpsc::unbounded_channel();
        let calls = tokio::spawn(load::charge(node.clone(), rate, Arc::clone(&stop), done));
        Ok(Self {
            routers,
            workers,
            node,
            stop,
            calls,
            answers,
            tally: Tally::default(),
            gaps: Vec::new(),
            rate,
            begun: Instant::now(),
            _scratch: scratch,
        })
    }

    /// The next answer of a process that is wanted.
    async fn next(&mut self, wanted: impl Fn(u32) -> bool) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + PATIENCE;
        // What has come while nobody looked is old.
        while let Ok(done) = self.answers.try_recv() {
            self.tally.add(&done);
        }
        loop {
            let answer = tokio::time::timeout_at(deadline.into(), self.answers.recv());
            let done = answer.await.context("nobody answers any more")?;
            let Some(done) = done else { bail!("the load has ended") };
            self.tally.add(&done);
            if let Ok(pid) = done.result
                && wanted(pid)
            {
                return Ok(Answer { pid, at: done.at });
            }
        }
    }

    /// Lets things go on for a while.
    async fn rest(&self, pause: Duration, round: u64) {
        tokio::time::sleep(pause).await;
        if round.is_multiple_of(100) {
            eprintln!("{round} kills, {:.0?}", self.begun.elapsed());
        }
    }

    /// Ends the load, and adds up what became of every call.
    async fn account(mut self, what: &str) -> anyhow::Result<bool> {
        self.stop.store(true, Ordering::Relaxed);
        let made = self.calls.await?;
        while let Some(answer) = self.answers.recv().await {
            self.tally.add(&answer);
        }
        self.node.drain().await;
        let mut account = Account::default();
        for worker in &mut self.workers {
            worker.stop()?;
            worker.records()?.iter().try_for_each(|record| account.add(record))?;
        }
        let Tally { mut latencies, failed, .. } = self.tally;
        self.gaps.sort();
        latencies.sort();
        let answered = latencies.len();
        let never_run = answered.saturating_sub(account.runs.len());
        let gap = |part| millis(percentile(&self.gaps, part));
        let latency = |part| millis(percentile(&latencies, part));
        println!("{what:<30} {} in {:.0?}", self.gaps.len(), self.begun.elapsed());
        println!("idempotent calls               {made}, {} a second", self.rate);
        println!("answered                       {answered}");
        println!("failed                         {failed}");
        println!("run twice at one instance      {}", account.twice_at_one);
        println!("run at both instances          {}", account.at_several());
        println!("answered, but never run        {never_run}");
        println!("time without service, ms       {}", three(gap));
        println!("latency of a call, ms          {}", three(latency));
        let all = answered as u64 + failed == made && never_run == 0;
        Ok(all && failed == 0 && account.twice_at_one == 0)
    }
}

fn three(at: impl Fn(f64) -> String) -> String {
    format!("p50 {} p99 {} max {}", at(0.5), at(0.99), at(1.0))
}

/// What the answers come to.
#[derive(Debug, Default)]
struct Tally {
    latencies: Vec<Duration>,
    failed: u64,
    last: Option<Instant>,
    /// The longest time between two answers since somebody asked.
    hole: Duration,
}

impl Tally {
    fn add(&mut self, done: &Done) {
        match &done.result {
            Ok(_) => {
                self.latencies.push(done.took);
                let since = self.last.map(|last| done.at.saturating_duration_since(last));
                self.hole = self.hole.max(since.unwrap_or_default());
                self.last = Some(done.at);
            }
            Err(error) => {
                self.failed += 1;
                eprintln!("call {} failed after {:?}: {error}", done.number, done.took);
            }
        }
    }
}

/// Milliseconds with one decimal.
pub fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1e3)
}

/// Two workers and a caller.
const NODES: usize = 3;
const PAUSE: Duration = Duration::from_millis(40);
const CONFIG: &str = "classes: {bank: {id: 5}, caller: {id: 9}}\n";
const PATIENCE: Duration = Duration::from_secs(30);
