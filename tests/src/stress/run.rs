//! One seed, from the start of its router to its last account; and many.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use switchboard_router::{Address, Router};
use tokio::sync::watch;

use super::account::{self, Tally};
use super::ledger::Ledger;
use super::node::{self, Stage, World};
use super::plan::Plan;
use crate::Scratch;
use crate::http::request;
use crate::metrics::Metrics;

/// Runs a seed. The error is the first thing that was wrong.
pub fn run(seed: u64) -> Result<Tally> {
    let plan = Plan::of(seed);
    let scratch = Scratch::new();
    let mut config = plan.config();
    config.listen.push(Address::Unix(scratch.file("router.sock")));
    let router = Router::start(config)?;
    let [tcp, unix] = router.listen() else { bail!("two places to listen, and no other") };
    let (stage, in_stage) = watch::channel(Stage::Sending);
    let (hurry, in_hurry) = watch::channel(false);
    let world = Arc::new(World {
        ledger: Arc::new(Mutex::new(Ledger::new(plan.clone()))),
        tcp: tcp.clone(),
        unix: unix.clone(),
        stage: in_stage,
        hurry: in_hurry,
        arrived: Default::default(),
        connected: AtomicUsize::new(0),
        plan,
    });
    let nodes =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let living: Vec<_> =
        (0..world.plan.nodes.len()).map(|at| nodes.spawn(node::run(world.clone(), at))).collect();
    let all = living.len();
    let metrics = || -> Result<Metrics> {
        Ok(Metrics::parse(&request(router.admin(), "GET", "/metrics")?.body))
    };
    let passed = (|| {
        wait_for(&world, || {
            let on_its_way = all - world.arrived[0].load(Ordering::SeqCst);
            Ok((on_its_way > 0).then(|| format!("{on_its_way} nodes wait for the router")))
        })?;
        hurry.send_replace(true);
        wait_for(&world, || {
            let (there, connected) = (router.sessions(), world.connected.load(Ordering::SeqCst));
            if there != connected {
                return Ok(Some(format!("{there} sessions, and {connected} nodes")));
            }
            Ok(account::unsettled(&metrics()?))
        })?;
        stage.send_replace(Stage::Settling);
        wait_for(&world, || {
            let behind = all - world.arrived[1].load(Ordering::SeqCst);
            if behind > 0 {
                return Ok(Some(format!("{behind} nodes have something to read")));
            }
            // What a node has read leaves the books a moment later, when the write that brought it has returned.
            Ok(account::unsettled(&metrics()?))
        })
    })();
    if let Err(error) = passed {
        let sessions = request(router.admin(), "GET", "/api/v1/sessions")?.body;
        nodes.shutdown_background();
        bail!("{error}\n{:#?}\n{sessions}", world.plan);
    }
    let metrics = metrics()?;
    stage.send_replace(Stage::Leaving);
    nodes.block_on(async {
        for node in living {
            node.await?;
        }
        anyhow::Ok(())
    })?;
    let ledger = world.ledger();
    if let Some(wrong) = &ledger.violation {
        bail!("{wrong}\n{:#?}", world.plan);
    }
    account::check(&ledger, &metrics, &world.plan)
        .map_err(|error| anyhow!("{error:#}\n{:#?}", world.plan))
}

/// Runs seeds from `first` to `last` on some threads, and names the first that fails.
pub fn seeds(first: u64, last: u64, threads: usize) -> Result<Tally> {
    let next = AtomicU64::new(first);
    let work = || {
        let mut sum = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > last {
                return Ok(sum);
            }
            match run(seed) {
                Ok(tally) => sum += tally,
                Err(error) => {
                    next.store(u64::MAX / 2, Ordering::Relaxed);
                    return Err(error.context(format!("seed {seed}")));
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut sum = Tally::default();
        for worker in workers {
            match worker.join() {
                Ok(tally) => sum += tally?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(sum)
    })
}

/// Waits until nothing is left that it could wait for, unless something is wrong before.
fn wait_for(world: &World, mut what: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(what) = what()? {
        if let Some(wrong) = &world.ledger().violation {
            bail!("{wrong}");
        }
        ensure!(Instant::now() < deadline, "after {PATIENCE:?} still: {what}");
        thread::park_timeout(LOOK_AGAIN);
    }
    Ok(())
}

/// How long a run may take until something happens that must.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
