//! What all threads of a router share, and the few numbers in it that change while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::config::{Address, Config, Drain, Heartbeat, HttpCalls, Limits};
use crate::counters::Counters;
use crate::events::Events;
use crate::forward::local::Published;
use crate::parking::lots::Lots;
use crate::policy::Policies;
use crate::registrar::Registrar;
use crate::secret::Secret;
use crate::sessions::Sessions;
use crate::shard::Fence;
use crate::tokens::Tokens;
use crate::watchdog::Watchdog;

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub name: String,
    /// Where nodes connect in fact.
    pub listen: ArcSwap<Vec<Address>>,
    pub settings: ArcSwap<Settings>,
    pub published: Arc<Published>,
    pub fence: Fence,
    pub lots: Arc<Lots>,
    pub sessions: Arc<Sessions>,
    pub registrar: Registrar,
    pub watchdog: Watchdog,
    pub events: Arc<Events>,
    pub clock: Clock,
    /// One for each thread that forwards or sends.
    pub counters: Vec<Arc<Counters>>,
    pub reloads: Reloads,
    max_frame: AtomicU32,
    draining: AtomicBool,
}

/// How often the configuration was read again.
#[derive(Debug, Default)]
pub(crate) struct Reloads {
    applied: AtomicU64,
    refused: AtomicU64,
    last_refused: AtomicBool,
}

/// What a reload may change.
#[derive(Debug)]
pub(crate) struct Settings {
    pub limits: Limits,
    pub heartbeat: Heartbeat,
    pub drain: Drain,
    /// Where other routers listen.
    pub routers: Vec<String>,
    pub tokens: Tokens,
    pub policies: Arc<Policies>,
    pub http_calls: HttpCalls,
    /// What operators have to show.
    pub admin_token: Option<Secret>,
    /// The names that the admin server is asked by.
    pub admin_hosts: Vec<String>,
}

/// The time in which the router ran: while the machine sleeps or the process is stopped, nobody can be
/// heard, and nobody is silent. Signs of life are noted to the millisecond; all else goes by ticks, which
/// are cheap to read and up to one behind.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    /// What the start is ago, as it was last looked at, in milliseconds.
    seen: AtomicU64,
    /// How much of that the router did not run.
    lost: AtomicU64,
    tick: AtomicU32,
}

impl Shared {
    pub(crate) fn new(
        config: &Config,
        listen: Vec<Address>,
        registrar: Registrar,
        counters: Vec<Arc<Counters>>,
        published: Arc<Published>,
        lots: Arc<Lots>,
        fence: Fence,
    ) -> Self {
        Self {
            name: config.name.clone(),
            listen: ArcSwap::from_pointee(listen),
            settings: ArcSwap::from_pointee(Settings::of(config)),
            published,
            fence,
            lots,
            sessions: Arc::default(),
            registrar,
            watchdog: Watchdog::default(),
            events: Arc::default(),
            clock: Clock {
                start: Instant::now(),
                seen: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                tick: AtomicU32::new(0),
            },
            counters,
            reloads: Reloads::default(),
            max_frame: AtomicU32::new(config.limits.max_frame_bytes),
            draining: AtomicBool::new(false),
        }
    }

    /// The longest frame that sessions may send now.
    #[inline]
    pub(crate) fn max_frame(&self) -> u32 {
        self.max_frame.load(Relaxed)
    }

    /// Takes what a reload may change.
    pub(crate) fn take_settings(&self, config: &Config) {
        self.settings.store(Arc::new(Settings::of(config)));
        self.max_frame.store(config.limits.max_frame_bytes, Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// From here on nobody new is let in.
    pub(crate) fn start_draining(&self) {
        self.draining.store(true, Relaxed);
    }
}

impl Reloads {
    /// Notes one, and whether it took effect.
    pub(crate) fn note(&self, applied: bool) {
        let counter = if applied { &self.applied } else { &self.refused };
        counter.fetch_add(1, Relaxed);
        self.last_refused.store(!applied, Relaxed);
    }

    /// Those that took effect, and those that had a mistake.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.applied.load(Relaxed), self.refused.load(Relaxed))
    }

    /// Whether the last one had a mistake, so that the file is not what is in force.
    pub(crate) fn last_was_refused(&self) -> bool {
        self.last_refused.load(Relaxed)
    }
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            limits: config.limits,
            heartbeat: config.heartbeat,
            drain: config.drain,
            routers: config.routers.clone(),
            tokens: Tokens::of(config),
            policies: Arc::new(config.policies()),
            http_calls: config.http_calls,
            admin_token: config.admin_token.clone(),
            admin_hosts: config.admin_hosts.clone(),
        }
    }
}

impl Clock {
    /// How long the router has been up.
    pub(crate) fn uptime_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Ticks since the start.
    #[inline]
    pub(crate) fn now(&self) -> u32 {
        self.tick.load(Relaxed)
    }

    /// Milliseconds since the start. What has been lost since the watchdog looked last is in it, so two
    /// readings are never further apart than the real times are.
    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    /// The same for an instant that is not long ago.
    #[inline]
    pub(crate) fn ms_at(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start).as_millis() as u64;
        elapsed.saturating_sub(self.lost.load(Relaxed))
    }

    /// Moves on to the present. Only the watchdog does.
    pub(crate) fn advance(&self) -> u32 {
        let seen = self.start.elapsed().as_millis() as u64;
        let passed = seen.saturating_sub(self.seen.swap(seen, Relaxed));
        let lost = passed.saturating_sub(LONGEST_STEP);
        let lost = self.lost.fetch_add(lost, Relaxed) + lost;
        let now = Self::tick_of(seen.saturating_sub(lost));
        self.tick.store(now, Relaxed);
        now
    }

    /// The tick in which a millisecond lies.
    pub(crate) fn tick_of(ms: u64) -> u32 {
        (ms / TICK.as_millis() as u64) as u32
    }

    /// How many ticks some milliseconds are, rounded up, and one for the tick that has begun.
    pub(crate) fn ticks(&self, ms: u32) -> u32 {
        ms.div_ceil(TICK.as_millis() as u32) + 1
    }
}

/// The watchdog looks once in a tick at least. More milliseconds than these between two looks are time in
/// which it could not.
const LONGEST_STEP: u64 = 300;
/// How fine the coarse time is.
pub(crate) const TICK: Duration = Duration::from_millis(100);
