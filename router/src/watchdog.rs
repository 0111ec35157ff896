//! Time that passes: sessions that fall silent, mailboxes that hold senders up for too long, and nodes
//! that the router does not read for a while but that shall know that it lives.
//!
//! A session is looked at once per deadline, not once per message, so a million quiet links cost little.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

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

/// Something to look at when its tick comes.
#[derive(Debug)]
enum Due {
    Hello(Weak<Mailbox>),
    Heartbeat(Weak<Mailbox>),
    Stall(Stall),
    Comfort(Weak<Mailbox>),
}

impl Watchdog {
    /// A new connection has to say Hello.
    pub(crate) fn expect_hello(&self, mailbox: &Arc<Mailbox>, shared: &Shared) {
        let timeout = shared.settings.load().limits.handshake_timeout_ms as u32;
        self.add(
            mailbox.last_heard() + shared.clock.ticks(timeout),
            Due::Hello(Arc::downgrade(mailbox)),
        );
    }

    /// A registered session has to show signs of life.
    pub(crate) fn expect_heartbeats(&self, mailbox: &Arc<Mailbox>, clock: &Clock) {
        if let Some(silence) = mailbox.silence() {
            self.add(clock.now() + silence, Due::Heartbeat(Arc::downgrade(mailbox)));
        }
    }

    /// A session is not read for a while; its node shall hear from the router all the same.
    pub(crate) fn comfort(&self, mailbox: &Arc<Mailbox>) {
        // One that is stopped and let go a thousand times a second needs no more than the others.
        if mailbox.set_comforted() {
            return;
        }
        let half = mailbox.silence().unwrap_or(1) / 2;
        self.add(mailbox.last_heard() + half, Due::Comfort(Arc::downgrade(mailbox)));
    }

    /// Takes the mailboxes that began to hold senders up.
    pub(crate) fn take_stalls(&self, out: &mut Outgoing, clock: &Clock) {
        for stall in out.take_stalls() {
            let patience = clock.ticks(stall.patience.as_millis() as u32);
            self.add(clock.now() + patience, Due::Stall(stall));
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
    loop {
        interval.tick().await;
        let now = shared.clock.advance();
        for due in shared.watchdog.take_due(now) {
            if let Some((tick, again)) = look_at(due, now) {
                shared.watchdog.add(tick, again);
            }
        }
        Local::with(|local| {
            again::expire(local);
            local.out.flush();
        });
    }
}

/// Looks at something whose tick has come. Answers when to look again, if ever.
fn look_at(due: Due, now: u32) -> Option<(u32, Due)> {
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
            let silence = mailbox.silence()?;
            // A session that is not read can't be heard; it starts anew when it is read again.
            if mailbox.is_paused() {
                return Some((now + silence, Due::Heartbeat(weak)));
            }
            let deadline = mailbox.last_heard() + silence;
            if deadline > now {
                return Some((deadline, Due::Heartbeat(weak)));
            }
            mailbox.end(Ending::HeartbeatLost);
            None
        }
        Due::Stall(Stall { mailbox, number, .. }) => {
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
            Some((now + (mailbox.silence()? / 6).max(1), Due::Comfort(weak)))
        }
    }
}
