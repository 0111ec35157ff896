//! What the handles of a node, its driver and its handlers have in common. Each field guards
//! itself; there is no lock over the whole.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use ahash::AHashMap;
use switchboard_protocol::control::Master;
use switchboard_protocol::{Class, Control, Header, ServiceId};

use crate::drops::Drops;
use crate::error::{CloseReason, ForwardError, RegisterError};
use crate::event::{Announcer, Event};
use crate::handlers::Handlers;
use crate::identity::Identity;
use crate::lifecycle::Lifecycle;
use crate::load::Load;
use crate::outbox::{Outbox, PushError};
use crate::pending::{Calls, Requests};
use crate::target::{Pick, Route, To};
use crate::watch::Watches;

/// The state of a node.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) outbox: Outbox,
    pub(crate) calls: Calls,
    pub(crate) requests: Requests,
    pub(crate) handlers: Handlers,
    pub(crate) events: Announcer,
    pub(crate) watches: Watches,
    pub(crate) load: Load,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) drops: Drops,
    pub(crate) call_timeout: Duration,
    identity: RwLock<Identity>,
    /// The classes that this node is master of, each with the id and the epoch.
    masterships: Mutex<AHashMap<Class, (ServiceId, u64)>>,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        handlers: Handlers,
        outbox_bytes: usize,
        call_timeout: Duration,
    ) -> Self {
        Self {
            outbox: Outbox::new(outbox_bytes),
            calls: Calls::new(),
            requests: Requests::new(),
            handlers,
            events: Announcer::new(),
            watches: Watches::default(),
            load: Load::default(),
            lifecycle: Lifecycle::new(),
            drops: Drops::default(),
            call_timeout,
            identity: RwLock::new(identity),
            masterships: Mutex::default(),
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
        let source = identity.primary();
        drop(identity);
        self.outbox.set_source(source);
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

    /// Puts a frame into the outbox, or says why it can't be sent.
    pub(crate) fn push(&self, header: Header, payload: &[u8]) -> Result<(), ForwardError> {
        self.outbox.push(header, payload).map_err(|error| match error {
            PushError::Down => self.down(),
            PushError::Full { queued, limit } => ForwardError::Full { queued, limit },
            PushError::TooLarge { length, max } => ForwardError::TooLarge { length, max },
        })
    }

    /// Puts a control message into the outbox, or says why it can't be sent.
    pub(crate) fn control(&self, message: &Control) -> Result<(), RegisterError> {
        self.outbox.push_control(message).map_err(|_| match self.lifecycle.reason() {
            Some(reason) => RegisterError::Closed(reason),
            None => RegisterError::NotConnected,
        })
    }

    /// Why there is no link: for now, or for good.
    fn down(&self) -> ForwardError {
        match self.lifecycle.reason() {
            Some(reason) => ForwardError::Closed(reason),
            None => ForwardError::NotConnected,
        }
    }

    pub(crate) fn closed(&self) -> Option<CloseReason> {
        self.lifecycle.reason()
    }

    /// Takes in who is master of a class now, and announces what that means for this node.
    pub(crate) fn master_is(&self, class: Class, master: Master) {
        let mine = master.id.filter(|id| self.identity().holds(*id));
        let mut masterships = self.masterships();
        let before = masterships.get(&class).copied();
        let now = match (mine, before) {
            // A router tells a master when it no longer is one. So a second promotion of the same
            // id means that a newer incarnation holds the id and the office, and the router's word
            // about the id is still on its way. The epoch is the newcomer's.
            (Some(id), Some((held, epoch))) if id == held && epoch != master.epoch => None,
            (Some(id), _) => Some((id, master.epoch)),
            (None, _) => None,
        };
        match now {
            Some(now) => masterships.insert(class, now),
            None => masterships.remove(&class),
        };
        drop(masterships);
        match (before, now) {
            (_, Some((_, epoch))) if before != now => {
                self.events.announce(Event::Promoted { class, epoch });
            }
            (Some(_), None) => self.events.announce(Event::Demoted { class }),
            _ => {}
        }
    }

    /// The epoch under which this node is master of a class, if it is.
    pub(crate) fn mastership(&self, class: Class) -> Option<u64> {
        self.masterships().get(&class).map(|(_, epoch)| *epoch)
    }

    /// Who gave up an id is not master under it, and without a link nobody can know who is.
    pub(crate) fn demote(&self, gone: impl Fn(ServiceId) -> bool) {
        let mut masterships = self.masterships();
        let lost: Vec<Class> =
            masterships.iter().filter(|(_, (id, _))| gone(*id)).map(|(class, _)| *class).collect();
        for class in &lost {
            masterships.remove(class);
        }
        drop(masterships);
        for class in lost {
            self.events.announce(Event::Demoted { class });
        }
    }

    fn masterships(&self) -> MutexGuard<'_, AHashMap<Class, (ServiceId, u64)>> {
        self.masterships.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A scratch buffer that grew beyond this is given back: 64 KiB.
const KEEP_CAPACITY: usize = 64 << 10;
