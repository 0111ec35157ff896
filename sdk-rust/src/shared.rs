//! What the handles of a node, its driver and its handlers have in common. Each field guards
//! itself; there is no lock over the whole.

use std::cell::Cell;
use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant};

use switchboard_protocol::control::{Master, Register, Unregister};
use switchboard_protocol::{Class, Control, Header, ServiceId};
use tokio::sync::{Notify, mpsc};

use crate::backoff;
use crate::calls::Calls;
use crate::drops::Drops;
use crate::error::{CloseReason, ForwardError, RegisterError};
use crate::event::{Announcer, Event};
use crate::handlers::Handlers;
use crate::identity::Identity;
use crate::incoming::Incoming;
use crate::lifecycle::Lifecycle;
use crate::links::{Links, Port};
use crate::load::Load;
use crate::meter::What;
use crate::office::{Change, Input, Offices};
use crate::outbox::PushError;
use crate::outcome::Outcome;
use crate::requests::{Requests, UNASKED};
use crate::serving::Hook;
use crate::tally::Tally;
use crate::target::{Pick, Route, To};
use crate::watch::Watches;
use crate::window::{Limits, Window};

/// The state of a node.
pub(crate) struct Shared {
    pub(crate) links: Links,
    pub(crate) calls: Calls,
    pub(crate) requests: Requests,
    pub(crate) handlers: Handlers,
    pub(crate) events: Announcer,
    pub(crate) watches: Watches,
    pub(crate) load: Load,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) drops: Drops,
    pub(crate) tally: Tally,
    pub(crate) options: Options,
    identity: RwLock<Identity>,
    /// The classes that this node is master of.
    offices: Mutex<Offices>,
    /// For whichever link sleeps until then.
    pub(crate) expires_sooner: Notify,
    /// What to do before the node closes.
    stop: Mutex<Option<Hook>>,
    /// Idempotent calls that this node has taken; an answer takes the router of the newest copy.
    window: Mutex<Window<usize>>,
    /// The way into the queue of handlers, for its length.
    queue: OnceLock<mpsc::WeakSender<Incoming>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What the builder says for good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) call_timeout: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) outbox_bytes: usize,
    pub(crate) window: Limits,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        incarnation: u64,
        handlers: Handlers,
        options: Options,
    ) -> Self {
        Self {
            links: Links::new(options.outbox_bytes),
            calls: Calls::new(incarnation),
            requests: Requests::default(),
            handlers,
            events: Announcer::new(),
            watches: Watches::default(),
            load: Load::new(),
            lifecycle: Lifecycle::new(),
            drops: Drops::default(),
            tally: Tally::default(),
            options,
            identity: RwLock::new(identity),
            offices: Mutex::default(),
            expires_sooner: Notify::new(),
            stop: Mutex::default(),
            window: Mutex::new(Window::new(options.window)),
            queue: OnceLock::new(),
        }
    }

    pub(crate) fn identity(&self) -> RwLockReadGuard<'_, Identity> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes who this node is; what it sends from then on goes under its first id.
    pub(crate) fn change_identity<T>(&self, change: impl FnOnce(&mut Identity) -> T) -> T {
        let mut identity: RwLockWriteGuard<'_, Identity> =
            self.identity.write().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut identity);
        // Under the lock: of two changes the later one's source stays.
        let source = identity.primary();
        self.links.set_source(source);
        drop(identity);
        result
    }

    pub(crate) fn ids(&self) -> Vec<ServiceId> {
        self.identity().ids()
    }

    pub(crate) fn class(&self, to: To<'_>) -> Result<Class, ForwardError> {
        Ok(to.class(|name| self.identity().class(name))?)
    }

    pub(crate) fn route(&self, pick: &impl Pick, to: To<'_>) -> Result<Route, ForwardError> {
        Ok(Route::find(pick, to, |name| self.identity().class(name))?)
    }

    /// Counts a one-way message by whether it was sent.
    pub(crate) fn counted(
        &self,
        target: u32,
        method: &str,
        sent: Result<(), ForwardError>,
    ) -> Result<(), ForwardError> {
        if let Some(class) = Class::of_target(target) {
            let outcome = if sent.is_ok() { Outcome::Ok } else { Outcome::NotSent };
            self.tally.called.meter(class, method, || true).ended(What::Message, outcome);
        }
        sent
    }

    /// Sends a one-way frame. A source of 0 stands for the node's first id.
    pub(crate) fn push(&self, header: Header, payload: &[u8]) -> Result<(), ForwardError> {
        self.links.push(&[], header, payload, |_| true).map_err(|e| self.not_sent(e))?;
        Ok(())
    }

    /// Sends a call, whose entry knows from then on which router it took.
    pub(crate) fn push_call(
        &self,
        tried: &[usize],
        header: Header,
        payload: &[u8],
    ) -> Result<usize, ForwardError> {
        let before = |slot| self.calls.route(header.call_id, slot);
        self.links.push(tried, header, payload, before).map_err(|error| self.not_sent(error))
    }

    /// Sends an answer where the question came from, or over another router.
    pub(crate) fn push_reply(
        &self,
        slot: usize,
        header: Header,
        payload: &[u8],
    ) -> Result<(), ForwardError> {
        self.links.push_to(slot, header, payload).map_err(|error| self.not_sent(error))
    }

    /// Sends a control message to one router, for those that tell registrations apart from messages.
    pub(crate) fn control(&self, port: &Port, message: &Control) -> Result<(), RegisterError> {
        port.outbox.push_control(message).map_err(|_| self.not_asked())
    }

    fn not_sent(&self, error: PushError) -> ForwardError {
        match error {
            PushError::Down => match self.lifecycle.reason() {
                Some(reason) => ForwardError::Closed(reason),
                None => ForwardError::NotConnected,
            },
            PushError::Full { queued, limit } => ForwardError::Full { queued, limit },
            PushError::TooLarge { length, max } => ForwardError::TooLarge { length, max },
        }
    }

    /// Why a router can't be asked for anything.
    pub(crate) fn not_asked(&self) -> RegisterError {
        match self.lifecycle.reason() {
            Some(reason) => RegisterError::Closed(reason),
            None => RegisterError::NotConnected,
        }
    }

    /// Why the node is closed, if it is.
    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.lifecycle.reason()
    }

    /// Asks a router for the ids that it has not granted, and gives up those that the node does not
    /// hold any more: it was asked before they were.
    pub(crate) fn settle_ids(&self, port: &Port) {
        let held = self.ids();
        let missing = port.ask_for(&held);
        let services: Vec<_> =
            missing.iter().filter_map(|id| self.identity().service(*id)).collect();
        // A link that is lost at once begins anew with all of it.
        if !services.is_empty() {
            let register = Control::Register(Register { request: UNASKED, services });
            let _ = port.outbox.push_control(&register);
        }
        let mut ids = port.ids();
        ids.retain(|id| !held.contains(id));
        if !ids.is_empty() {
            port.revoke(&ids);
            let unregister = Unregister { request: UNASKED, ids, draining: false };
            let _ = port.outbox.push_control(&Control::Unregister(unregister));
        }
    }

    /// Notes something that offices depend on, and announces what follows.
    pub(crate) fn office(&self, input: Input) {
        self.change_offices(|offices| offices.apply(input, Instant::now()));
    }

    /// Lays down the offices whose routers have been silent for too long, and claims those about which
    /// routers differ for too long.
    pub(crate) fn expire_offices(&self) {
        self.change_offices(|offices| offices.expire(Instant::now()));
    }

    /// When an office has to be laid down unless a router is heard before, or to be claimed.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.offices().next_expiry()
    }

    /// The offices that this node holds, for routers that did not see it get them.
    pub(crate) fn claims(&self) -> Vec<(Class, u64)> {
        self.offices().claims(Instant::now())
    }

    /// The epoch in which this node is master of a class, if it is.
    pub(crate) fn epoch(&self, class: Class) -> Option<u64> {
        self.offices().epoch(class, Instant::now())
    }

    /// A router names the master of a class.
    pub(crate) fn master_is(&self, slot: usize, class: Class, master: Master) {
        let mine = master.id.filter(|id| self.identity().holds(*id));
        self.office(Input::Master { slot, class, mine, epoch: master.epoch });
    }

    fn change_offices(&self, change: impl FnOnce(&mut Offices) -> Vec<Change>) {
        let jitter = backoff::jitter(LONGEST_JITTER, backoff::random());
        let mut offices = self.offices();
        let next = offices.next_expiry();
        // Announced under the lock, so that events come in the order of the changes.
        for change in change(&mut offices) {
            self.events.announce(match change {
                Change::Promoted { class, epoch } => Event::Promoted { class, epoch },
                Change::Demoted { class } => Event::Demoted { class },
            });
        }
        let disputes = offices.disputes(Instant::now(), jitter);
        let sooner = offices.next_expiry().is_some_and(|at| next.is_none_or(|next| at < next));
        drop(offices);
        if sooner {
            self.expires_sooner.notify_one();
        }
        for (slot, claim) in disputes {
            self.links.tell(slot, &Control::Claim(claim));
        }
    }

    fn offices(&self) -> MutexGuard<'_, Offices> {
        self.offices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to do before the node closes.
    pub(crate) fn set_stop(&self, stop: Option<Hook>) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = stop;
    }

    /// What to do before the node closes, for whoever is first to close it.
    pub(crate) fn take_stop(&self) -> Option<Hook> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the way into the queue of handlers; it does not keep the queue open.
    pub(crate) fn set_queue(&self, queue: mpsc::WeakSender<Incoming>) {
        // Set once, by the builder.
        let _ = self.queue.set(queue);
    }

    /// How many messages wait for their handlers.
    pub(crate) fn handler_queue(&self) -> usize {
        let queue = self.queue.get().and_then(mpsc::WeakSender::upgrade);
        queue.map_or(0, |queue| queue.max_capacity() - queue.capacity())
    }

    /// The memory of idempotent calls.
    pub(crate) fn window(&self) -> MutexGuard<'_, Window<usize>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lends a buffer of this thread, so that encoding a message allocates nothing. Arguments are
/// encoded here and not in the outbox, since a lock must not be held while foreign code runs:
/// serialising can be slow, can panic, and can send messages of its own.
pub(crate) fn with_scratch<T>(encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = encode(&mut scratch);
    if scratch.capacity() <= KEEP_CAPACITY {
        SCRATCH.set(scratch);
    }
    result
}

/// How much longer than it must a node waits before it claims an office: up to a second.
const LONGEST_JITTER: Duration = Duration::from_secs(1);

/// A scratch buffer that grew beyond this is given back: 64 KiB.
const KEEP_CAPACITY: usize = 64 << 10;
