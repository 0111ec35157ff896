//! The routers of a node: a port for each, and which of them a class's frames take.
//!
//! Sending looks a class's port up in a small cache and appends to that port's outbox. What changes
//! the choice (a link comes up, is told to leave, is lost) happens under the lock of the choice.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use switchboard_protocol::{Class, Control, FixedHeader, Flags, Header, Kind, ServiceId};
use tokio::sync::{Notify, watch};

use crate::calls::{Calls, News};
use crate::choice::{Choice, Standing};
use crate::link::Address;
use crate::outbox::{Outbox, PushError};

/// What handles, handlers and the link's driver know of one router.
#[derive(Debug)]
pub(crate) struct Port {
    /// Its place in the list of routers, which never changes.
    pub(crate) slot: usize,
    pub(crate) address: Address,
    pub(crate) outbox: Outbox,
    /// Messages from there that wait for their handlers or are being handled.
    handling: AtomicUsize,
    granted: Mutex<Granted>,
    /// What is granted has changed.
    changed: Notify,
}

/// The ids under which a router knows the node.
#[derive(Debug, Default)]
struct Granted {
    ids: Vec<ServiceId>,
    /// Those that it has been asked for and has not answered.
    asked: BTreeSet<ServiceId>,
}

/// A message that came through a port and is not finished yet.
#[derive(Debug)]
pub(crate) struct InHand(Arc<Port>);

/// All routers of a node.
#[derive(Debug)]
pub(crate) struct Links {
    ports: RwLock<Vec<Arc<Port>>>,
    choice: Mutex<Choice>,
    /// For each class the slot that was chosen, plus one; 0 where nobody has asked since the last
    /// change. Written under the lock of the choice.
    chosen: Box<[AtomicU8]>,
    /// Grows whenever a link comes or goes.
    changes: watch::Sender<u64>,
    outbox_bytes: usize,
}

/// Whether a link has only begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    New,
    Old,
}

impl Port {
    /// Notes a message that came through here.
    pub(crate) fn take_in_hand(self: &Arc<Self>) -> InHand {
        self.handling.fetch_add(1, Ordering::Relaxed);
        InHand(Arc::clone(self))
    }

    /// The router has granted these ids, and no others if this is a new link.
    pub(crate) fn grant(&self, ids: &[ServiceId], link: Age) {
        let mut granted = self.granted();
        if link == Age::New {
            *granted = Granted::default();
        }
        for id in ids {
            granted.asked.remove(id);
            if !granted.ids.contains(id) {
                granted.ids.push(*id);
            }
        }
        drop(granted);
        self.changed.notify_waiters();
    }

    /// The router has taken these ids back, or is asked to.
    pub(crate) fn revoke(&self, ids: &[ServiceId]) {
        self.granted().ids.retain(|id| !ids.contains(id));
    }

    /// Of the ids that the node holds, those to ask the router for. Then it has been asked.
    pub(crate) fn ask_for(&self, held: &[ServiceId]) -> Vec<ServiceId> {
        let mut granted = self.granted();
        let known = |id: &ServiceId| granted.ids.contains(id) || granted.asked.contains(id);
        let missing: Vec<_> = held.iter().filter(|id| !known(id)).copied().collect();
        granted.asked.extend(&missing);
        missing
    }

    /// The router has refused what it was asked for in passing.
    pub(crate) fn refused(&self) {
        self.granted().asked.clear();
        self.changed.notify_waiters();
    }

    /// Waits until the router has granted an id, or has not.
    pub(crate) async fn settled(&self, id: ServiceId) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if !self.granted().asked.contains(&id) {
                return;
            }
            changed.await;
        }
    }

    /// The ids under which this router knows the node.
    pub(crate) fn ids(&self) -> Vec<ServiceId> {
        self.granted().ids.clone()
    }

    fn granted(&self) -> MutexGuard<'_, Granted> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages from here are not finished yet.
    pub(crate) fn handling(&self) -> usize {
        self.handling.load(Ordering::Acquire)
    }
}

impl InHand {
    /// Where the message came from.
    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.0
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.handling.fetch_sub(1, Ordering::Release);
    }
}

impl Links {
    pub(crate) fn new(outbox_bytes: usize) -> Self {
        Self {
            ports: RwLock::default(),
            choice: Mutex::new(Choice::new()),
            chosen: (0..CLASSES).map(|_| AtomicU8::new(0)).collect(),
            changes: watch::Sender::new(0),
            outbox_bytes,
        }
    }

    /// Adds a router, unless its address is known or there are too many.
    pub(crate) fn add(&self, address: Address) -> Option<Arc<Port>> {
        let mut ports = self.ports.write().unwrap_or_else(PoisonError::into_inner);
        if ports.len() >= MAX_ROUTERS || ports.iter().any(|port| port.address == address) {
            return None;
        }
        let (slot, outbox) = (ports.len(), Outbox::new(self.outbox_bytes));
        let handling = AtomicUsize::new(0);
        let (granted, changed) = (Mutex::default(), Notify::new());
        let port = Arc::new(Port { slot, address, outbox, handling, granted, changed });
        ports.push(Arc::clone(&port));
        Some(port)
    }

    /// The routers to which there is a link.
    pub(crate) fn up(&self) -> Vec<Arc<Port>> {
        let choice = self.choice();
        self.ports().iter().filter(|port| choice.is_up(port.slot)).cloned().collect()
    }

    /// Whether there is a link to any.
    pub(crate) fn is_up(&self) -> bool {
        let choice = self.choice();
        self.ports().iter().any(|port| choice.is_up(port.slot))
    }

    /// Whether a router other than this one takes frames.
    pub(crate) fn others(&self, slot: usize) -> bool {
        self.choice().others(slot)
    }

    /// The router that the frames of a class take.
    pub(crate) fn chosen(&self, class: Class) -> Option<usize> {
        self.choice().pick(class)
    }

    /// Wakes who waits for a link to come or go.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Hands a frame to the router of its class, or to another one than those tried; says which.
    pub(crate) fn push(
        &self,
        tried: &[usize],
        header: Header,
        payload: &[u8],
        before: impl Fn(usize) -> bool,
    ) -> Result<usize, PushError> {
        // A link may go down between the choice and the push; then there is another, or none.
        for _ in 0..=MAX_ROUTERS {
            let Some(slot) = self.slot(tried, header.target) else { return Err(PushError::Down) };
            if !before(slot) {
                // Whoever waits for the answer has been told of a lost link meanwhile.
                return Ok(slot);
            }
            match self.ports()[slot].outbox.push(header, payload) {
                Ok(()) => return Ok(slot),
                Err(PushError::Down) => self.forget_choices(&self.choice()),
                Err(error) => return Err(error),
            }
        }
        Err(PushError::Down)
    }

    /// Hands a frame to this router, or to another if there is no link to this one.
    pub(crate) fn push_to(
        &self,
        slot: usize,
        header: Header,
        payload: &[u8],
    ) -> Result<(), PushError> {
        match self.ports()[slot].outbox.push(header, payload) {
            Err(PushError::Down) => {}
            result => return result,
        }
        self.push(&[], header, payload, |_| true).map(|_| ())
    }

    /// Sends a control message to one router. A link that is going down takes it along.
    pub(crate) fn tell(&self, slot: usize, message: &Control) {
        if let Some(port) = self.ports().get(slot) {
            let _ = port.outbox.push_control(message);
        }
    }

    /// A link is up: its outbox is open.
    pub(crate) fn came_up(&self, slot: usize, name: &str, standing: Standing) {
        self.change(|choice| choice.up(slot, name, standing));
    }

    /// A router is going to leave: nothing new goes there if there is another.
    pub(crate) fn leaving(&self, slot: usize) {
        self.change(|choice| choice.leaving(slot));
    }

    /// A link is gone. Frames that were not begun to be written move to other routers, with the
    /// order that they have; says how many bytes could not.
    pub(crate) fn went_down(&self, slot: usize, calls: &Calls) -> usize {
        let mut lost = 0;
        // ORDER: whoever sends waits for the lock before it chooses anew, so nothing overtakes.
        self.change(|choice| {
            choice.down(slot);
            let unsent = self.ports()[slot].outbox.close();
            lost = unsent.writing;
            for frame in unsent.frames() {
                if !self.move_frame(slot, choice, frame, calls) {
                    lost += frame.len();
                }
            }
        });
        lost
    }

    fn move_frame(&self, slot: usize, choice: &mut Choice, frame: &[u8], calls: &Calls) -> bool {
        let Ok(Some(fixed)) = FixedHeader::parse(frame, u32::MAX) else { return true };
        let Kind::Data(_) = fixed.kind else { return true };
        let is_call = fixed.flags.contains(Flags::CALL);
        let call = Header::read(&fixed, frame).filter(|_| is_call).map(|header| header.call_id);
        let next = fixed.target_class().and_then(|class| choice.pick(class));
        let moved = next.is_some_and(|next| {
            if let Some(call) = call {
                calls.moved(call, slot, next);
            }
            self.ports()[next].outbox.push_frame(frame).is_ok()
        });
        if let (false, Some(call)) = (moved, call) {
            let slot = next.unwrap_or(slot);
            calls.tell(call, News::Unsent { slot });
        }
        moved
    }

    /// Changes the id that goes into frames which name no source.
    pub(crate) fn set_source(&self, source: Option<ServiceId>) {
        self.ports().iter().for_each(|port| port.outbox.set_source(source));
    }

    fn slot(&self, tried: &[usize], target: u32) -> Option<usize> {
        let class = Class::of_target(target)?;
        if !tried.is_empty() {
            return self.choice().next(class, tried);
        }
        let cached = &self.chosen[usize::from(class.raw())];
        match cached.load(Ordering::Acquire) {
            0 => {
                let mut choice = self.choice();
                let slot = choice.pick(class)?;
                cached.store(slot as u8 + 1, Ordering::Release);
                Some(slot)
            }
            chosen => Some(usize::from(chosen) - 1),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Choice)) {
        let mut choice = self.choice();
        change(&mut choice);
        self.forget_choices(&choice);
        drop(choice);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Whoever sends asks anew. Under the lock of the choice, as all writing to the cache.
    fn forget_choices(&self, _: &Choice) {
        self.chosen.iter().for_each(|chosen| chosen.store(0, Ordering::Release));
    }

    fn ports(&self) -> RwLockReadGuard<'_, Vec<Arc<Port>>> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn choice(&self) -> MutexGuard<'_, Choice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many routers a node connects to at most, those that others told it of included.
pub(crate) const MAX_ROUTERS: usize = 16;

const CLASSES: usize = 256;
