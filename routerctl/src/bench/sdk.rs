//! The same floods and calls through the Rust SDK: its nodes in place of the generator's own connections,
//! with the same contents and the same check.
//!
//! As with the generator, one thread sends for all senders and one receives for all receivers; each is a
//! runtime of its own.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use clap::ValueEnum;
use hdrhistogram::Histogram;
use switchboard::{Caller, Direct, ForwardError, HandlerError, Node};
use tokio::task::JoinSet;

use crate::bench::calls;
use crate::bench::check::Check;
use crate::bench::dialect::{Switchboard, Who};
use crate::bench::flow::Flow;
use crate::bench::plan::Plan;
use crate::bench::receiving::Receiving;
use crate::bench::server::Meter;
use crate::bench::traffic::{Contents, Delivered, Shape};
use crate::bench::workload::Setting;
use crate::failure::Failure;

/// Who is a node of the SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ends {
    /// Senders and receivers
    Both,
    /// Senders; the generator itself receives
    Senders,
}

/// What the receiving nodes know together.
struct Arrivals {
    check: Mutex<Check>,
    flow: Flow,
    count: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

impl Arrivals {
    fn new(check: Check, senders: usize) -> Result<Arc<Self>> {
        let (count, failure) = (AtomicU64::new(0), Mutex::new(None));
        Ok(Arc::new(Self { check: Mutex::new(check), flow: Flow::new(senders)?, count, failure }))
    }

    /// A message has come. What is wrong with it ends the round.
    fn arrival(&self, receiver: usize, payload: &[u8]) {
        let checked = lock(&self.check).arrival(receiver, payload);
        match checked {
            Ok(sender) => {
                self.flow.arrived_one(sender);
                self.count.fetch_add(1, Ordering::Release);
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
        self.flow.end();
    }

    fn failure(&self) -> Result<()> {
        match lock(&self.failure).take() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }
}

/// A flood from nodes to nodes; its messages take turns at the receivers.
pub fn flood(setting: &Setting<'_>, shape: &Shape<'_>, ends: Ends) -> Result<Delivered> {
    let Contents::Uniform(length) = shape.contents else {
        return Err(anyhow!("messages of mixed sizes are not sent through the SDK"));
    };
    let router = setting.server.router_address()?;
    let plan = Arc::new(Plan::of(shape.senders, length));
    let window = shape.pace.window((length + HEADER) as u64);
    let arrivals = Arrivals::new(Check::turns(plan.clone(), shape.receivers), shape.senders)?;
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sent = in_a_runtime(async {
                let nodes = join(&router, shape.senders, Who::Sender).await;
                ready.wait();
                send(nodes?, shape, &plan, window, &arrivals).await
            });
            if sent.is_err() {
                arrivals.flow.end();
            }
            sent
        });
        let received = match ends {
            Ends::Both => in_a_runtime(receive(setting, shape, &router, window, &arrivals, &ready)),
            Ends::Senders => receive_raw(setting, shape, &plan, &arrivals.flow, &ready),
        };
        arrivals.flow.end();
        let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
        arrivals.failure()?;
        let delivered = received?;
        sent?;
        let expected = shape.each * shape.senders as u64;
        if delivered.messages != expected {
            let what = format!("{} messages came instead of {expected}", delivered.messages);
            return Err(Failure::Check(what).into());
        }
        Ok(delivered)
    })
}

/// The receivers of a flood as nodes.
async fn receive(
    setting: &Setting<'_>,
    shape: &Shape<'_>,
    router: &str,
    window: u64,
    arrivals: &Arc<Arrivals>,
    ready: &Barrier,
) -> Result<Delivered> {
    // A node drops what its handlers have no room for.
    let room = (window.min(1 << 24) as usize + 1) * shape.senders;
    let nodes = receivers(router, shape.receivers, room, arrivals).await;
    // ORDER: whatever went wrong, the other thread waits here.
    let meter = Meter::start(setting.server);
    ready.wait();
    let nodes = nodes?;
    arrive(setting, arrivals).await?;
    let spent = meter?.stop()?;
    // Whatever is still on its way comes before a node is closed.
    for node in nodes {
        node.close().await;
    }
    Ok(Delivered { messages: arrivals.count.load(Ordering::Acquire), spent })
}

/// The receivers of a flood as the generator's own connections.
fn receive_raw(
    setting: &Setting<'_>,
    shape: &Shape<'_>,
    plan: &Arc<Plan>,
    flow: &Flow,
    ready: &Barrier,
) -> Result<Delivered> {
    let to = (0..shape.receivers).map(|number| setting.server.join(Who::Receiver(number)));
    let to: Result<Vec<_>> = to.collect();
    let meter = Meter::start(setting.server);
    ready.wait();
    let check = Check::turns(plan.clone(), shape.receivers);
    let mut receiving = Receiving::new(to?, check, flow, setting.progress, setting.patience)?;
    let messages = receiving.run(1)?;
    let spent = meter?.stop()?;
    if !flow.is_over() {
        receiving.expect_nothing()?;
    }
    Ok(Delivered { messages, spent })
}

/// Every sender sends what it has to, then stays until the round is over.
async fn send(
    nodes: Vec<Node>,
    shape: &Shape<'_>,
    plan: &Arc<Plan>,
    window: u64,
    arrivals: &Arc<Arrivals>,
) -> Result<()> {
    let mut senders = JoinSet::new();
    for (sender, node) in nodes.into_iter().enumerate() {
        let (plan, arrivals) = (plan.clone(), arrivals.clone());
        let (each, receivers) = (shape.each, shape.receivers as u64);
        senders.spawn(async move {
            let flow = &arrivals.flow;
            let mut payload = vec![0; plan.length(0)];
            for number in 0..each {
                if number % TURN == 0 {
                    tokio::task::yield_now().await;
                }
                while number - flow.arrived_of(sender) >= window {
                    if flow.is_over() {
                        return Ok(());
                    }
                    tokio::time::sleep(SOON).await;
                }
                plan.fill(sender, number, &mut payload);
                let to = Switchboard::id(Who::Receiver((number % receivers) as usize));
                while let Err(error) = node.forward_raw(Direct, to, &payload) {
                    if !matches!(error, ForwardError::Full { .. }) || flow.is_over() {
                        return Err(error).with_context(|| format!("sender {sender}"));
                    }
                    tokio::task::yield_now().await;
                }
            }
            flow.done(sender, each);
            while !flow.is_over() {
                tokio::time::sleep(SOON).await;
            }
            anyhow::Ok(())
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.context("a sender panicked")??;
    }
    Ok(())
}

/// Waits until everything that was sent has come.
async fn arrive(setting: &Setting<'_>, arrivals: &Arrivals) -> Result<()> {
    let (mut before, mut heard) = (0, Instant::now());
    loop {
        let count = arrivals.count.load(Ordering::Acquire);
        setting.progress.add(count - before);
        let sent = arrivals.flow.sent();
        if arrivals.flow.is_over() || sent.as_ref().is_some_and(|s| s.iter().sum::<u64>() <= count)
        {
            return Ok(());
        }
        if count > before {
            (before, heard) = (count, Instant::now());
        } else if heard.elapsed() > setting.patience {
            let missing = sent.and_then(|sent| lock(&arrivals.check).missing(&sent));
            let missing = missing.unwrap_or_else(|| "the senders wait for room to send".to_owned());
            let patience = setting.patience;
            let what = format!("{count} messages came, then nothing for {patience:?}: {missing}");
            return Err(Failure::Check(what).into());
        }
        tokio::time::sleep(SOON).await;
    }
}

/// Calls between nodes.
pub fn calls(setting: &Setting<'_>, shape: &calls::Shape) -> Result<calls::Answered> {
    let router = setting.server.router_address()?;
    let plan = Arc::new(Plan::of(shape.askers, shape.payload));
    let arrivals = Arrivals::new(Check::pairs(plan.clone(), shape.answerers), shape.askers)?;
    let ready = Barrier::new(2);
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            in_a_runtime(async {
                let room = shape.outstanding as usize * shape.askers;
                let nodes = receivers(&router, shape.answerers, room, &arrivals).await;
                ready.wait();
                let nodes = nodes?;
                while !arrivals.flow.is_over() {
                    tokio::time::sleep(SOON).await;
                }
                drop(nodes);
                Ok(())
            })
        });
        let answered = in_a_runtime(async {
            let nodes = join(&router, shape.askers, Who::Sender).await;
            ready.wait();
            let nodes = nodes?;
            let meter = Meter::start(setting.server)?;
            let took = ask(nodes, setting, shape, &plan).await?;
            Ok(calls::Answered { took, spent: meter.stop()? })
        });
        arrivals.flow.end();
        let answering = answering.join().map_err(|_| anyhow!("the answering thread panicked"))?;
        arrivals.failure()?;
        answering?;
        answered
    })
}

/// Every asker keeps its calls open until it has made all of them.
async fn ask(
    nodes: Vec<Node>,
    setting: &Setting<'_>,
    shape: &calls::Shape,
    plan: &Arc<Plan>,
) -> Result<Histogram<u64>> {
    let mut workers = JoinSet::new();
    for (asker, node) in nodes.into_iter().enumerate() {
        let next = Arc::new(AtomicU64::new(0));
        let to = Switchboard::id(Who::Receiver(asker % shape.answerers));
        for _ in 0..shape.outstanding.min(shape.each) {
            let (node, next, plan, each) = (node.clone(), next.clone(), plan.clone(), shape.each);
            let patience = setting.patience;
            workers.spawn(async move {
                let mut times = Vec::new();
                loop {
                    // ORDER: nothing waits between taking a number and sending it.
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= each {
                        return anyhow::Ok(times);
                    }
                    let mut payload = vec![0; plan.length(number)];
                    plan.fill(asker, number, &mut payload);
                    let payload = Bytes::from(payload);
                    let asked = Instant::now();
                    let call = node.call_raw(Direct, to, payload.clone()).timeout(patience);
                    let answer = call.await.map_err(|error| {
                        Failure::Check(format!("call {number} of sender {asker}: {error}"))
                    })?;
                    times.push(asked.elapsed().as_nanos() as u64);
                    if answer != payload {
                        let what = format!("the answer to call {number} of sender {asker}");
                        return Err(Failure::Check(format!("{what} is another one's")).into());
                    }
                }
            });
        }
    }
    let mut took = calls::times()?;
    while let Some(times) = workers.join_next().await {
        for time in times.context("an asker panicked")?? {
            took.saturating_record(time);
        }
    }
    setting.progress.add(took.len());
    Ok(took)
}

async fn join(router: &str, count: usize, who: fn(usize) -> Who) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(Node::builder(Switchboard::id(who(number))).router(router).connect().await?);
    }
    Ok(nodes)
}

/// Nodes that check what comes, and answer it.
async fn receivers(
    router: &str,
    count: usize,
    room: usize,
    arrivals: &Arc<Arrivals>,
) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for number in 0..count {
        let arrivals = arrivals.clone();
        let builder = Node::builder(Switchboard::id(Who::Receiver(number)))
            .router(router)
            .handler_queue(room);
        let builder = builder.on_raw(move |_: Caller, payload: Bytes| {
            arrivals.arrival(number, &payload);
            std::future::ready(Ok::<_, HandlerError>(payload))
        });
        nodes.push(builder.connect().await?);
    }
    Ok(nodes)
}

fn in_a_runtime<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands before a payload.
const HEADER: usize = 16;
/// How many messages a sender sends before others have their turn, the one that writes them among these.
const TURN: u64 = 256;
const SOON: Duration = Duration::from_millis(1);
