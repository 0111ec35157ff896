//! A node of a run: it lives as often as its plan says, and sends in each of its lives.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use switchboard_protocol::control::{Hello, Ping, Service};
use switchboard_protocol::limits::VERSION;
use switchboard_protocol::{Class, Control, Flags, Header, Instance, Mode, ServiceId};
use switchboard_router::Address;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::connection::{Reader, Seen, Socket};
use super::ledger::Ledger;
use super::plan::{End, LifePlan, MAX_FRAME, NodePlan, Plan};

/// What the nodes of a run share.
#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    pub tcp: Address,
    pub unix: Address,
    pub ledger: Arc<Mutex<Ledger>>,
    pub stage: watch::Receiver<Stage>,
    /// The same for readers.
    pub hurry: watch::Receiver<bool>,
    /// How many nodes have done what each stage asks.
    pub arrived: [AtomicUsize; 2],
    /// How many of them are still connected.
    pub connected: AtomicUsize,
}

/// How far a run is. Each stage begins when all nodes have done what the one before asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Everybody lives, and in the last life hears that the router has taken all.
    Sending,
    /// Everybody reads what is left.
    Settling,
    /// Everybody goes.
    Leaving,
}

impl World {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a node to the end of its last life.
pub async fn run(world: Arc<World>, at: usize) {
    let plan = &world.plan.nodes[at];
    let mut stage = world.stage.clone();
    let _: Result<_, _> = timeout(plan.comes_after, stage.wait_for(|_| false)).await;
    let mut usurped = Vec::new();
    for (number, life) in plan.lives.iter().enumerate() {
        let (wrote, written) = oneshot::channel();
        let living = tokio::spawn(live(world.clone(), at, number, wrote));
        if life.end == End::Usurped {
            // It also ends when the life does.
            let _ = written.await;
            usurped.push(living);
        } else if let Err(error) = living.await {
            world.ledger().wrong(format!("a node's own mistake: {error}"));
        }
    }
    for living in usurped {
        if let Err(error) = living.await {
            world.ledger().wrong(format!("a node's own mistake: {error}"));
        }
    }
}

/// One life.
struct Living {
    world: Arc<World>,
    life: usize,
    id: ServiceId,
    plan: LifePlan,
    socket: Arc<Socket>,
    seen: watch::Receiver<Seen>,
    rng: SmallRng,
}

async fn live(world: Arc<World>, at: usize, number: usize, wrote: oneshot::Sender<()>) {
    let node: &NodePlan = &world.plan.nodes[at];
    let plan = node.lives[number];
    let address = if node.unix { &world.unix } else { &world.tcp };
    let socket = match Socket::connect(address, &plan).await {
        Ok(socket) => Arc::new(socket),
        Err(error) => return world.ledger().wrong(format!("can't connect: {error}")),
    };
    let life = world.ledger().begin(node.id, plan.end);
    let chance = world.plan.seed ^ ((at as u64) << 40) ^ ((number as u64) << 32);
    let (seen_by_reader, seen) = watch::channel(Seen::default());
    let reader = tokio::spawn(
        Reader {
            socket: socket.clone(),
            life,
            plan,
            ledger: world.ledger.clone(),
            seen: seen_by_reader,
            hurry: world.hurry.clone(),
            rng: SmallRng::seed_from_u64(!chance),
        }
        .run(),
    );
    let (id, rng) = (node.id, SmallRng::seed_from_u64(chance));
    let mut living = Living { world, life, id, plan, socket, seen, rng };
    let speaking = living.speak(number as u64 + 1);
    let whole = match plan.end {
        // It may be its own mailbox that stops it.
        End::Deaf => timeout(DEAF, speaking).await.unwrap_or(false),
        _ => speaking.await,
    };
    // Nobody waits where the next life does not usurp this one.
    let _ = wrote.send(());
    living.end(whole).await;
    if matches!(plan.end, End::Dropped | End::Reset | End::Deaf) {
        reader.abort();
    }
    drop(living);
    // It was cut short, or has read to the end.
    let _ = reader.await;
}

impl Living {
    /// Says Hello, and sends all there is. Answers whether it went out.
    async fn speak(&mut self, incarnation: u64) -> bool {
        let services = vec![Service::of(self.id)];
        let hello = Hello {
            version: VERSION,
            services,
            incarnation,
            heartbeat_ms: 60_000,
            ..Hello::default()
        };
        if !self.say(&Control::Hello(hello)).await || !self.wait_for(|seen| seen.welcome).await {
            return false;
        }
        let mut left = self.plan.frames;
        while left > 0 {
            let mut bytes = BytesMut::new();
            let burst = self.rng.random_range(1..=left.min(60));
            left -= burst;
            for _ in 0..burst {
                let (header, length) = self.message();
                self.world.ledger().send(self.life, header, length).encode(&mut bytes);
            }
            // Where it ends before its time, it may end in the middle of a frame.
            let torn = left == 0 && matches!(self.plan.end, End::Dropped | End::Reset);
            let end = if torn { self.rng.random_range(0..=bytes.len()) } else { bytes.len() };
            if !self.write(&bytes[..end]).await {
                return false;
            }
        }
        true
    }

    async fn end(&mut self, whole: bool) {
        match self.plan.end {
            End::Stays => self.stay(whole).await,
            End::HalfClosed => {
                // A connection that is gone has nothing to close.
                let _ = self.socket.half_close();
                self.wait_for(|_| false).await;
            }
            End::Usurped => {
                self.wait_for(|_| false).await;
            }
            End::Deaf => {
                let _: Result<_, _> = timeout(DEAF, self.wait_for(|_| false)).await;
            }
            End::Dropped | End::Reset => {}
        }
    }

    /// Goes through the stages with the others. Who is cut off before the end is late for none of them.
    async fn stay(&mut self, mut whole: bool) {
        self.world.connected.fetch_add(1, SeqCst);
        for (at, next) in [Stage::Settling, Stage::Leaving].into_iter().enumerate() {
            let nonce = at as u64 + 1;
            whole = whole && self.say(&Control::Ping(Ping { nonce })).await;
            whole = whole && self.wait_for(|seen| seen.pong >= nonce).await;
            self.world.arrived[at].fetch_add(1, SeqCst);
            let mut stage = self.world.stage.clone();
            whole = whole
                && tokio::select! {
                    // It ends with the life.
                    _ = self.seen.wait_for(|seen| seen.over) => false,
                    _ = stage.wait_for(|stage| *stage >= next) => true,
                };
        }
        if !whole {
            self.cut_off();
        }
        // Its reader ends with the connection.
        let _ = self.socket.half_close();
    }

    fn cut_off(&self) {
        self.world.connected.fetch_sub(1, SeqCst);
        let mut ledger = self.world.ledger();
        ledger.lives[self.life].cut_off = true;
        if !self.world.plan.may_cut_off() {
            ledger.wrong(format!("life {} was cut off in calm weather", self.life));
        }
    }

    async fn say(&mut self, message: &Control) -> bool {
        self.write(&message.to_frame().to_bytes()).await
    }

    /// Writes bytes, unless the life is over before all of them are out.
    async fn write(&mut self, bytes: &[u8]) -> bool {
        let mut seen = self.seen.clone();
        let over = seen.wait_for(|seen| seen.over);
        tokio::select! {
            biased;
            _ = over => false,
            written = self.socket.write(bytes, &mut self.rng) => written.is_ok(),
        }
    }

    /// Waits until the reader has seen something. Answers `false` if the life is over before.
    async fn wait_for(&mut self, mut something: impl FnMut(&Seen) -> bool) -> bool {
        let seen = self.seen.wait_for(|seen| something(seen) || seen.over).await;
        let seen = seen.map(|seen| *seen).unwrap_or(Seen { over: true, ..Seen::default() });
        something(&seen)
    }

    /// What is sent next: a header, and the length of the payload.
    fn message(&mut self) -> (Header, usize) {
        let rng = &mut self.rng;
        let class = Class::of(rng.random_range(5..8));
        let mode = Mode::ALL[rng.random_range(0..Mode::ALL.len())];
        let mut header = match mode {
            Mode::Direct => {
                // One of them may not be there.
                let instance = Instance::new(rng.random_range(1..=3)).expect("not 0");
                Header::direct(self.id, ServiceId::new(class, instance))
            }
            mode => Header::to_class(self.id, mode, class),
        };
        if mode == Mode::Hash {
            header.key = rng.random_range(0..12);
        }
        for (flag, one_in) in [(Flags::CALL, 4), (Flags::REPORT, 3), (Flags::DROPPABLE, 8)] {
            if rng.random_range(0..one_in) == 0
                || flag == Flags::REPORT && self.world.plan.all_report
            {
                header.flags |= flag;
            }
        }
        if mode == Mode::Broadcast && rng.random_ratio(1, 3) {
            header.flags |= Flags::ECHO;
        }
        let length = match rng.random_range(0..1_000) {
            0..700 => rng.random_range(0..200),
            700..900 => rng.random_range(200..4_000),
            900..980 => rng.random_range(4_000..60_000),
            980..998 if mode != Mode::Broadcast => rng.random_range(60_000..400_000),
            998.. => MAX_FRAME as usize,
            _ => 0,
        };
        (header, length)
    }
}

/// So long does who goes deaf wait to be cut off.
const DEAF: Duration = Duration::from_millis(450);
