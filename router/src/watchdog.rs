//! Time that passes: sessions that fall silent, mailboxes that hold senders up for too long, and nodes
//! that the router does not read for a while but that shall know that it lives.
//!
//! A session is looked at once per deadline, not once per message, so a million quiet links cost little.
//!
//! BOUNDS: a session is given up no earlier than 2.98 heartbeats after the last read that brought
//! anything from it, by the monotonic clock; a node that lays an office down before that relies on it. It
//! is given up no later than [`GRAIN`] after that and what the scheduler adds, but for time in which the
//! router did not run or did not read the session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use switchboard_protocol::control::{Control, Ping};
use tracing::warn;

use crate::forward::again;
use crate::forward::local::Local;
use crate::mailbox::outgoing::Outgoing;
use crate::mailbox::{Ending, Mailbox, Stall};
use crate::shared::{Clock, Shared, TICK};

/// What other threads hand to the watchdog.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    inbox: Mutex<BTreeMap<u32, Vec<Due>>>,
}

/// Something to look at when its tick comes. There are up to two for each idle session, so what is large is boxed.
#[derive(Debug)]
enum Due {
    Hello(Weak<Mailbox>),
    Heartbeat(Weak<Mailbox>),
    Stall(Box<Stall>),
    Comfort(Weak<Mailbox>),
}

impl Watchdog {
    /// A new connection has to say Hello.
    pub(crate) fn expect_hello(&self, mailbox: &Arc<Mailbox>, shared: &Shared) {
        let timeout = shared.settings.load().limits.handshake_timeout_ms as u32;
        let tick = shared.clock.now() + shared.clock.ticks(timeout);
        self.add(tick, Due::Hello(Arc::downgrade(mailbox)));
    }

    /// A registered session has to show signs of life.
    pub(crate) fn expect_heartbeats(&self, mailbox: &Arc<Mailbox>) {
        if let Some(deadline) = deadline(mailbox) {
            self.add(Clock::tick_of(deadline), Due::Heartbeat(Arc::downgrade(mailbox)));
        }
    }

    /// A session is not read for a while; its node shall hear from the router all the same.
    pub(crate) fn comfort(&self, mailbox: &Arc<Mailbox>) {
        // One that is stopped and let go a thousand times a second needs no more than the others.
        if mailbox.set_comforted() {
            return;
        }
        let half = u64::from(mailbox.silence().unwrap_or(0)) / 2;
        let tick = Clock::tick_of(mailbox.last_heard() + half);
        self.add(tick, Due::Comfort(Arc::downgrade(mailbox)));
    }

    /// Takes the mailboxes that began to hold senders up.
    pub(crate) fn take_stalls(&self, out: &mut Outgoing, clock: &Clock) {
        for stall in out.take_stalls() {
            let patience = clock.ticks(stall.patience.as_millis() as u32);
            self.add(clock.now() + patience, Due::Stall(Box::new(stall)));
        }
    }

    fn add(&self, tick: u32, due: Due) {
        self.lock().entry(tick).or_default().push(due);
    }

    fn take_due(&self, now: u32) -> Vec<Due> {
        let mut inbox = self.lock();
        let later = inbox.split_off(&(now + 1));
        let due = std::mem::replace(&mut *inbox, later);
        due.into_values().flatten().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Vec<Due>>> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs for as long as the router does.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    // Who is due within this tick, by grains.
    let mut soon: BTreeMap<u64, Vec<Due>> = BTreeMap::new();
    loop {
        let clock = &shared.clock;
        let next = soon.first_key_value().map(|(grain, _)| *grain * GRAIN);
        let wait = next.map_or(TICK, |at| Duration::from_millis(at.saturating_sub(clock.now_ms())));
        tokio::select! {
            _ = interval.tick() => {}
            () = tokio::time::sleep(wait), if next.is_some() => {}
        }
        // ORDER: time that was lost is known to be before anyone is found silent.
        let now = clock.advance();
        let later = soon.split_off(&(clock.now_ms() / GRAIN + 1));
        let due = std::mem::replace(&mut soon, later).into_values().flatten();
        for due in due.chain(shared.watchdog.take_due(now)) {
            match look_at(due, now, clock) {
                Some(Again::Tick(tick, due)) => shared.watchdog.add(tick, due),
                Some(Again::Soon(ms, due)) => {
                    soon.entry(ms.div_ceil(GRAIN)).or_default().push(due);
                }
                None => {}
            }
        }
        Local::with(|local| {
            again::expire(local);
            local.out.flush();
        });
    }
}

/// When to look again.
enum Again {
    /// In this tick.
    Tick(u32, Due),
    /// Within the present tick, at this millisecond.
    Soon(u64, Due),
}

/// The first millisecond at which a session has been silent for too long, whatever fraction of one was
/// cut off from the time at which it was heard.
fn deadline(mailbox: &Mailbox) -> Option<u64> {
    Some(mailbox.last_heard() + u64::from(mailbox.silence()?) + 1)
}

/// Looks at something whose time has come.
fn look_at(due: Due, now: u32, clock: &Clock) -> Option<Again> {
    match due {
        Due::Hello(weak) => {
            let mailbox = weak.upgrade()?;
            if !mailbox.is_greeted() {
                mailbox.end(Ending::HandshakeTimeout);
            }
            None
        }
        Due::Heartbeat(weak) => {
            let mailbox = weak.upgrade()?;
            let silence = u64::from(mailbox.silence()?);
            // A session that is not read can't be heard; it starts anew when it is read again.
            if mailbox.is_paused() {
                return Some(Again::Tick(now + Clock::tick_of(silence), Due::Heartbeat(weak)));
            }
            let (now_ms, deadline) = (clock.now_ms(), deadline(&mailbox)?);
            if deadline > now_ms {
                let due = Due::Heartbeat(weak);
                let tick = Clock::tick_of(deadline);
                let in_this_tick = tick <= now;
                return Some(if in_this_tick {
                    Again::Soon(deadline, due)
                } else {
                    Again::Tick(tick, due)
                });
            }
            mailbox.end(Ending::HeartbeatLost);
            None
        }
        Due::Stall(stall) => {
            let Stall { mailbox, number, .. } = *stall;
            if mailbox.is_stalled(number) {
                let (session, pending) = (mailbox.session(), mailbox.pending());
                warn!(session, pending, "mailbox stalled its senders for stall_timeout: closing");
                mailbox.end(Ending::SlowConsumer);
            }
            None
        }
        Due::Comfort(weak) => {
            let mailbox = weak.upgrade()?;
            // ORDER: not looked after any more, and then not paused. The session's task does it the
            // other way round, so one of the two sees to it that a paused session is looked after.
            mailbox.unset_comforted();
            if !mailbox.is_paused() || mailbox.set_comforted() {
                return None;
            }
            let pong = Control::Pong(Ping::default()).to_frame().to_bytes();
            Local::with(|local| mailbox.push(&pong, &mut local.out));
            let sixth = Clock::tick_of(u64::from(mailbox.silence()?) / 6);
            Some(Again::Tick(now + sixth.max(1), Due::Comfort(weak)))
        }
    }
}

/// How fine the last look at a silent session is, in milliseconds.
const GRAIN: u64 = 5;
