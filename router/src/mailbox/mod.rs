//! A session's bounded outbox, shared by every thread that has a frame for it.
//!
//! Frames are appended to one contiguous buffer, and whoever finds the socket free writes it out:
//! the write half itself lies in the outbox, and who takes it is the writer until it is put back.
//! Others append meanwhile and leave; the writer takes what they appended along (flat combining).
//! No lock is held across a system call, and a thread holds one mailbox's lock at a time.
//!
//! - [`badge`]: what operators see of the session: who it is, and what went in and out;
//! - [`outgoing`]: what a thread needs to write: its counters, spare buffers, dirty mailboxes;
//! - [`queue`]: the buffer of whole frames, and the frames that leave it unwritten;
//! - [`runs`]: the stretches of a read that go to one mailbox;
//! - [`marks`]: how long it took from there to here;
//! - `model`: all orders in which threads can meet here, tried by loom.
//!
//! INVARIANT: the buffer starts at a frame's boundary. Of a frame that is half written, the written
//! half stays in front until the rest is out, so that what is left can always be walked.

pub mod badge;
mod marks;
#[cfg(all(test, feature = "model"))]
pub mod model;
pub mod outgoing;
pub mod queue;
pub mod runs;

use std::io;
#[cfg(not(feature = "model"))]
use std::sync::atomic::AtomicU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, PoisonError};
#[cfg(not(feature = "model"))]
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(feature = "model")]
use loom::sync::atomic::AtomicU32;
#[cfg(feature = "model")]
use loom::sync::{Mutex, MutexGuard};
use switchboard_protocol::limits::MISSED_HEARTBEATS;
use switchboard_protocol::{Reason, ServiceId};

use self::badge::Badge;
use self::outgoing::Outgoing;
use self::queue::Queue;
use self::runs::Runs;
use crate::policy::{ClassPolicy, Overflow};
use crate::registry::Handle;
use crate::sessions::{Slot, State};
use crate::stream::WriteHalf;

/// The outbox of one session.
#[derive(Debug)]
pub struct Mailbox {
    slot: Slot,
    session: u64,
    status: AtomicU32,
    /// When it last was, in milliseconds of the router's clock.
    heard: AtomicU64,
    /// How many milliseconds it may be silent; 0 until it is registered.
    silence: AtomicU32,
    badge: Badge,
    outbox: Mutex<Outbox>,
}

#[derive(Debug)]
struct Outbox {
    /// Absent while someone writes, and after the end.
    writer: Option<WriteHalf>,
    queue: Queue,
    /// Bytes that the writer has taken out.
    in_flight: usize,
    /// The socket is full; the session's task writes on when it is not.
    blocked: bool,
    /// Some thread has it on its list to write.
    dirty: bool,
    /// The session ends, and its task waits until all is written.
    leaving: bool,
    /// Takes no more data: no id leads here any more, or soon none will.
    retired: bool,
    /// Takes nothing any more.
    closed: bool,
    /// Which round of waiters is next or there; a sender that waits remembers it.
    round: u32,
    /// How often it began to hold senders up, or to do so for another half of its mark.
    stalls: u32,
    /// While senders wait for room; most mailboxes never see one.
    jam: Option<Box<Jam>>,
    /// The session's task.
    owner: Option<Waker>,
    /// Why the session shall end.
    ending: Option<Ending>,
    /// Ids that a newer incarnation took.
    replaced: Vec<ServiceId>,
}

/// Senders that wait for room.
#[derive(Debug, Default)]
struct Jam {
    waiters: Vec<Waker>,
    /// The level at which they are woken.
    resume_at: usize,
    /// What waited in the mailbox when the present stall began, and how long it may from there.
    stalled_at: usize,
    patience: Duration,
}

/// Why a session ends, as far as others decide it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It did not read what was sent to it.
    SlowConsumer,
    /// It missed its heartbeats.
    HeartbeatLost,
    /// It never said Hello.
    HandshakeTimeout,
    /// The socket failed while something was written.
    Broken,
    /// The router leaves.
    Shutdown,
    /// An operator closed it, and its node may come back after so many milliseconds, or not by itself.
    Closed(Option<u32>),
}

/// The limits under which frames are offered, from the policy of the class they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    overflow: Overflow,
    high_water: usize,
    stall_timeout: Duration,
}

/// What a session's end took back from its mailbox.
#[derive(Debug)]
pub struct Reclaimed {
    /// Whole data frames, side by side.
    pub frames: Vec<u8>,
    /// One of them was written in part, so the connection is of no use any more.
    pub cut: bool,
}

/// What became of frames that were offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Offer {
    /// They will be written, or were.
    Taken,
    /// The mailbox is full. Nothing was taken; the waker is woken when there is room.
    Wait,
    /// Nothing was taken, and nothing will be.
    Refused(Reason),
}

/// A sender that may have to wait for room.
#[derive(Debug)]
pub struct Waiter<'a> {
    /// How it is woken.
    pub waker: &'a Waker,
    /// The round of waiters that it is in, if any; 0 to begin with.
    pub round: &'a mut u32,
}

/// A mailbox that holds senders up.
#[derive(Debug)]
pub struct Stall {
    /// The mailbox.
    pub mailbox: Arc<Mailbox>,
    /// Which of its stalls this is.
    pub number: u32,
    /// How long it may.
    pub patience: Duration,
}

impl Admission {
    /// The limits of a class.
    pub fn of(policy: &ClassPolicy) -> Self {
        Self {
            overflow: policy.overflow,
            high_water: policy.high_water_bytes,
            stall_timeout: policy.stall_timeout(),
        }
    }

    /// The same for frames that the router holds already, in a place that they have to leave: no mark
    /// holds for them, and who waits for room came later.
    pub fn whatever(self) -> Self {
        Self { overflow: Overflow::DropNew, high_water: usize::MAX, ..self }
    }
}

/// Bits of a mailbox's status, which its session's task looks at whenever it is polled.
mod status {
    pub(super) const WANT_WRITE: u32 = 1;
    pub(super) const ENDING: u32 = 2;
    pub(super) const REPLACED: u32 = 4;
    pub(super) const PAUSED: u32 = 8;
    pub(super) const COMFORTED: u32 = 16;
    pub(super) const GREETED: u32 = 32;
}

impl Handle for Arc<Mailbox> {
    fn session(&self) -> u64 {
        self.session
    }
}

impl Mailbox {
    /// The mailbox of a new session.
    pub fn new(slot: Slot, session: u64, writer: WriteHalf, badge: Badge) -> Self {
        Self {
            slot,
            session,
            status: AtomicU32::new(0),
            heard: AtomicU64::new(0),
            silence: AtomicU32::new(0),
            badge,
            outbox: Mutex::new(Outbox {
                writer: Some(writer),
                queue: Queue::default(),
                in_flight: 0,
                blocked: false,
                dirty: false,
                leaving: false,
                retired: false,
                closed: false,
                round: 1,
                stalls: 0,
                jam: None,
                owner: None,
                ending: None,
                replaced: Vec::new(),
            }),
        }
    }

    /// A small number that no other living mailbox has.
    #[inline]
    pub fn index(&self) -> usize {
        self.slot.index()
    }

    /// The session's number.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Who it is, and what went in and out.
    pub fn badge(&self) -> &Badge {
        &self.badge
    }

    // ---- from senders --------------------------------------------------------------------------

    /// Offers the frames of `bytes` that `runs` name. They are taken whole or not at all, but
    /// DROPPABLE ones may go to make room.
    pub fn offer(
        self: &Arc<Self>,
        bytes: &[u8],
        runs: &mut Runs,
        admission: Admission,
        waiter: Waiter<'_>,
        out: &mut Outgoing,
    ) -> Offer {
        let mut outbox = self.lock();
        if outbox.closed || outbox.retired {
            return Offer::Refused(Reason::TargetLost);
        }
        if outbox.is_full(admission)
            && let Some(refused) = self.overflow(&mut outbox, bytes, runs, admission, waiter, out)
        {
            return refused;
        }
        let at_once = runs.bytes() >= WRITE_AT_ONCE && outbox.is_free() && outbox.queue.is_empty();
        if at_once && !runs.is_scattered() {
            self.write_from(outbox, bytes, runs, out);
        } else {
            outbox.queue.append(bytes, runs, out);
            if at_once {
                // The next mailbox of the batch gets the same buffer, while the cache still holds it.
                self.write_queue(outbox, out);
            } else {
                self.appended(outbox, out);
            }
        }
        Offer::Taken
    }

    /// Appends a message from the router itself. It passes the policies, which are for data, but a
    /// session that lets too much pile up is ended.
    pub fn push(self: &Arc<Self>, frame: &[u8], out: &mut Outgoing) {
        let mut outbox = self.lock();
        if outbox.closed {
            return;
        }
        if outbox.queue.control() >= MAX_CONTROL_BACKLOG {
            return self.end_locked(&mut outbox, Ending::SlowConsumer);
        }
        outbox.queue.append_control(frame, out);
        self.appended(outbox, out);
    }

    /// Appends a message without writing it: it leaves with the next one, or with [`Self::flush`].
    pub fn push_quietly(&self, frame: &[u8], out: &mut Outgoing) {
        let mut outbox = self.lock();
        if !outbox.closed {
            outbox.queue.append_control(frame, out);
        }
    }

    /// After something was appended: has it written, soon or now.
    fn appended(self: &Arc<Self>, mut outbox: MutexGuard<'_, Outbox>, out: &mut Outgoing) {
        if !outbox.is_free() {
            // The writer takes it along, or the session's task does when the socket has room.
            return;
        }
        if outbox.queue.len() >= EARLY_FLUSH {
            self.write_queue(outbox, out);
        } else if !outbox.dirty {
            outbox.dirty = true;
            drop(outbox);
            out.mark_dirty(self.clone());
        }
    }

    /// A full mailbox: what its policy says. `None` means that there is room after all.
    fn overflow(
        self: &Arc<Self>,
        outbox: &mut Outbox,
        bytes: &[u8],
        runs: &mut Runs,
        admission: Admission,
        waiter: Waiter<'_>,
        out: &mut Outgoing,
    ) -> Option<Offer> {
        runs.shed_droppable(bytes, |frame| out.lose(frame, Reason::Full));
        let worth = admission.high_water / 16;
        outbox.queue.shed_droppable(worth, |frame| out.lose(frame, Reason::Evicted));
        if runs.is_empty() {
            return Some(Offer::Taken);
        }
        if !outbox.is_full(admission) {
            return None;
        }
        match admission.overflow {
            Overflow::Pause => {
                if outbox.jam.is_none() {
                    let patience = admission.stall_timeout;
                    outbox.jam = Some(Box::new(Jam { patience, ..Jam::default() }));
                    self.begin_stall(outbox, out);
                }
                let round = outbox.round;
                let jam = outbox.jam.get_or_insert_default();
                if *waiter.round != round {
                    *waiter.round = round;
                    jam.waiters.push(waiter.waker.clone());
                }
                jam.resume_at = admission.high_water / 2;
                Some(Offer::Wait)
            }
            Overflow::DropNew => Some(Offer::Refused(Reason::Full)),
            Overflow::DropOld => {
                // More than these need: the next ones shall not walk the queue again.
                let high = admission.high_water;
                let room = high.saturating_sub(runs.bytes()).min(high - high / 4);
                let room = room.saturating_sub(outbox.in_flight);
                outbox.queue.evict_to(room, |frame| out.lose(frame, Reason::Evicted));
                (outbox.pending() >= admission.high_water).then_some(Offer::Refused(Reason::Full))
            }
            Overflow::Disconnect => {
                self.end_locked(outbox, Ending::SlowConsumer);
                Some(Offer::Refused(Reason::Full))
            }
        }
    }

    /// If no sender waits for room: how many rounds of them have come and gone.
    pub fn calm(&self) -> Option<u32> {
        let outbox = self.lock();
        outbox.jam.is_none().then_some(outbox.round)
    }

    /// Waits, as a sender would, until none waits. `noted` is 0 to begin with.
    pub fn poll_calm(&self, cx: &Context<'_>, noted: &mut u32) -> Poll<u32> {
        let mut outbox = self.lock();
        let (round, closed) = (outbox.round, outbox.closed);
        match &mut outbox.jam {
            Some(jam) if !closed => {
                if *noted != round {
                    *noted = round;
                    jam.waiters.push(cx.waker().clone());
                }
                Poll::Pending
            }
            _ => Poll::Ready(round),
        }
    }

    fn begin_stall(self: &Arc<Self>, outbox: &mut Outbox, out: &mut Outgoing) {
        let pending = outbox.pending();
        let Some(jam) = &mut outbox.jam else { return };
        outbox.stalls += 1;
        jam.stalled_at = pending;
        let (number, patience) = (outbox.stalls, jam.patience);
        out.stalled(Stall { mailbox: self.clone(), number, patience });
    }

    // ---- writing -------------------------------------------------------------------------------

    /// Writes what is queued, unless someone else does or the socket is full.
    pub fn flush(self: &Arc<Self>, out: &mut Outgoing) {
        let mut outbox = self.lock();
        outbox.dirty = false;
        if outbox.is_free() && !outbox.queue.is_empty() {
            self.write_queue(outbox, out);
        }
    }

    /// The same from the session's task, when the socket takes bytes again.
    pub fn flush_unblocked(self: &Arc<Self>, out: &mut Outgoing) {
        let mut outbox = self.lock();
        outbox.blocked = false;
        self.status.fetch_and(!status::WANT_WRITE, SeqCst);
        if outbox.writer.is_some() && !outbox.queue.is_empty() {
            self.write_queue(outbox, out);
        } else {
            // What was queued may have been shed meanwhile, and senders may wait all the same.
            self.release(outbox);
        }
        // What was released to it may be far above its mark. Who reads that as fast as it has to read what
        // is below does not stall.
        let mut outbox = self.lock();
        let pending = outbox.pending();
        if outbox.jam.as_ref().is_some_and(|jam| pending + jam.resume_at <= jam.stalled_at) {
            self.begin_stall(&mut outbox, out);
        }
    }

    /// Takes the write half, writes the queue out, and whatever is appended meanwhile.
    fn write_queue<'a>(
        self: &'a Arc<Self>,
        mut outbox: MutexGuard<'a, Outbox>,
        out: &mut Outgoing,
    ) {
        let mut rounds = 0;
        while let Some(writer) = outbox.writer.take() {
            let mut taken = std::mem::take(&mut outbox.queue);
            let length = taken.len();
            outbox.in_flight = length;
            drop(outbox);
            let result = taken.write_to(|bytes| writer.try_write(bytes), out);
            let written = length - taken.len();
            outbox = self.lock();
            outbox.in_flight = 0;
            outbox.writer = Some(writer);
            outbox.queue.put_in_front(taken, out);
            self.badge.wrote(out.take_delivered(), written);
            if !self.settle(&mut outbox, result) || outbox.queue.is_empty() {
                break;
            }
            rounds += 1;
            if rounds == MAX_ROUNDS {
                // Others append as fast as this thread writes. Its own sessions wait for their turn.
                if !outbox.dirty {
                    outbox.dirty = true;
                    out.mark_dirty(self.clone());
                }
                break;
            }
        }
        self.release(outbox);
    }

    /// Takes the write half and writes straight from the buffer that was read into.
    fn write_from<'a>(
        self: &'a Arc<Self>,
        mut outbox: MutexGuard<'a, Outbox>,
        bytes: &[u8],
        runs: &Runs,
        out: &mut Outgoing,
    ) {
        let Some(writer) = outbox.writer.take() else { return };
        outbox.in_flight = runs.bytes();
        drop(outbox);
        let (written, result) = runs.write_to(bytes, &writer, out);
        let mut outbox = self.lock();
        outbox.in_flight = 0;
        outbox.writer = Some(writer);
        if written < runs.bytes() {
            let rest = Queue::rest_of(bytes, runs, written, out);
            outbox.queue.put_in_front(rest, out);
        } else {
            runs.delivered(out);
            if let Some(read_at) = out.read_at {
                out.counters.read_to_write.record(read_at.elapsed());
            }
        }
        self.badge.wrote(out.take_delivered(), written);
        if self.settle(&mut outbox, result) && !outbox.queue.is_empty() {
            return self.write_queue(outbox, out);
        }
        self.release(outbox);
    }

    /// Notes how a write ended. Answers whether the socket takes more.
    fn settle(&self, outbox: &mut Outbox, result: io::Result<()>) -> bool {
        match result {
            Ok(()) => return !outbox.closed,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                outbox.blocked = true;
                self.tell_owner(outbox, status::WANT_WRITE);
            }
            Err(_) => {
                outbox.blocked = true;
                self.end_locked(outbox, Ending::Broken);
            }
        }
        false
    }

    /// Lets go of the lock, and wakes the senders for whom there is room now.
    fn release(&self, mut outbox: MutexGuard<'_, Outbox>) {
        if outbox.closed || outbox.leaving || outbox.retired {
            // Its task may be waiting for the write half to come back, or for the queue to run empty.
            outbox.wake_owner();
        }
        let (pending, over) = (outbox.pending(), outbox.closed || outbox.retired);
        let Some(jam) = outbox.jam.take_if(|jam| over || pending <= jam.resume_at) else { return };
        outbox.round = outbox.round.checked_add(1).unwrap_or(1);
        drop(outbox);
        jam.waiters.into_iter().for_each(Waker::wake);
    }

    // ---- from the session's task ---------------------------------------------------------------

    /// Makes the task the one to wake. ORDER: before it looks at the status.
    pub fn set_owner(&self, waker: &Waker) {
        self.lock().owner = Some(waker.clone());
    }

    /// Whether the socket was full, and the task shall write when it is not.
    #[inline]
    pub fn wants_write(&self) -> bool {
        self.status.load(SeqCst) & status::WANT_WRITE != 0
    }

    /// Whether anything else waits for the task.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.status.load(SeqCst) & (status::ENDING | status::REPLACED) != 0
    }

    /// Why the session shall end, if it shall.
    pub fn ending(&self) -> Option<Ending> {
        self.lock().ending
    }

    /// The ids that were taken from the session since it last asked.
    pub fn take_replaced(&self) -> Vec<ServiceId> {
        let mut outbox = self.lock();
        self.status.fetch_and(!status::REPLACED, SeqCst);
        std::mem::take(&mut outbox.replaced)
    }

    /// How many bytes wait.
    pub fn pending(&self) -> usize {
        self.lock().pending()
    }

    /// How many bytes of the router's own messages wait, at most.
    pub fn control_backlog(&self) -> usize {
        self.lock().queue.control()
    }

    /// Whether senders have waited for it ever since the stall of this number began.
    pub fn is_stalled(&self, number: u32) -> bool {
        let outbox = self.lock();
        outbox.jam.is_some() && outbox.stalls == number
    }

    /// Takes no more data from now on, and wakes whoever waits for room: what they hold goes to others.
    /// What is queued goes out, and so does what the router itself has to say.
    pub fn retire(&self) {
        let mut outbox = self.lock();
        outbox.retired = true;
        self.release(outbox);
    }

    /// After [`Self::retire`]: takes the data frames back that the socket has taken nothing of; with
    /// `begun` also the one that it took a part of, after which nothing can be written any more. `None`
    /// while another thread still writes; the task is woken when it is done.
    pub fn reclaim(&self, begun: bool, out: &Outgoing) -> Option<Reclaimed> {
        let mut outbox = self.lock();
        if outbox.in_flight > 0 {
            return None;
        }
        let mut frames = Vec::new();
        let cut = outbox.queue.reclaim(begun, &mut frames, out);
        self.badge.wrote(out.take_delivered(), 0);
        if cut {
            outbox.ending.get_or_insert(Ending::Broken);
            outbox.closed = true;
            drop(outbox.writer.take());
        }
        Some(Reclaimed { frames, cut })
    }

    /// Takes no more frames, and wakes whoever waits for room.
    pub fn close(&self) {
        let mut outbox = self.lock();
        outbox.closed = true;
        self.release(outbox);
    }

    /// Whether it takes no more frames.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether everything is written. If it is not, the task is woken after each write from now on,
    /// whichever thread it is that writes.
    pub fn is_drained(&self) -> bool {
        let mut outbox = self.lock();
        outbox.leaving = true;
        outbox.pending() == 0
    }

    /// After [`Self::close`]: drops the write half, and answers the data frames that are left. `None` while
    /// another thread still writes; the task is woken when it is done.
    pub fn abandon(&self, out: &Outgoing) -> Option<Vec<u8>> {
        let mut outbox = self.lock();
        if outbox.in_flight > 0 {
            return None;
        }
        let writer = outbox.writer.take();
        let rest = std::mem::take(&mut outbox.queue);
        drop(outbox);
        drop(writer);
        let mut left = Vec::new();
        rest.abandon(out, |frame| left.extend_from_slice(frame.bytes));
        // The session is over: nobody looks at what it got.
        out.take_delivered();
        Some(left)
    }

    /// How far the session has come.
    pub fn enter(&self, state: State) {
        self.slot.enter(state);
    }

    /// The session is over, though others may still know its mailbox.
    pub fn leave(&self) {
        self.slot.leave();
    }

    // ---- signs of life -------------------------------------------------------------------------

    /// The session sent something at this millisecond.
    #[inline]
    pub fn heard(&self, ms: u64) {
        self.heard.store(ms, Relaxed);
    }

    /// The same, and answers how many heartbeats it missed before that: nodes send one in each third of
    /// the time that they may be silent, and may be half of one late.
    #[inline]
    pub fn heard_again(&self, ms: u64) -> u64 {
        let quiet = ms.saturating_sub(self.heard.load(Relaxed));
        self.heard.store(ms, Relaxed);
        let silence = u64::from(self.silence.load(Relaxed));
        if quiet * 2 <= silence || silence == 0 {
            return 0;
        }
        (quiet * u64::from(MISSED_HEARTBEATS) + silence / 2) / silence - 1
    }

    /// When it last did.
    pub fn last_heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    /// Its Hello has come.
    pub fn set_greeted(&self) {
        self.status.fetch_or(status::GREETED, SeqCst);
    }

    /// Whether its Hello has come.
    pub fn is_greeted(&self) -> bool {
        self.status.load(SeqCst) & status::GREETED != 0
    }

    /// The session is registered, and may be silent for this many milliseconds.
    pub fn set_registered(&self, silence: u32) {
        self.silence.store(silence, Relaxed);
    }

    /// How many milliseconds it may be silent; `None` before its Hello.
    pub fn silence(&self) -> Option<u32> {
        match self.silence.load(Relaxed) {
            0 => None,
            silence => Some(silence),
        }
    }

    /// The router does not read this session, or does again.
    pub fn set_paused(&self, paused: bool) {
        if paused {
            self.status.fetch_or(status::PAUSED, SeqCst);
        } else {
            self.status.fetch_and(!status::PAUSED, SeqCst);
        }
    }

    /// Whether the router does not read this session at the moment.
    pub fn is_paused(&self) -> bool {
        self.status.load(SeqCst) & status::PAUSED != 0
    }

    /// Whether the watchdog already looks after its node while it is not read; from now on it does.
    pub fn set_comforted(&self) -> bool {
        self.status.fetch_or(status::COMFORTED, SeqCst) & status::COMFORTED != 0
    }

    /// The watchdog looks after it no more.
    pub fn unset_comforted(&self) {
        self.status.fetch_and(!status::COMFORTED, SeqCst);
    }

    // ---- from the router -----------------------------------------------------------------------

    /// Asks the session to end. The first reason stays.
    pub fn end(&self, ending: Ending) {
        self.end_locked(&mut self.lock(), ending);
    }

    fn end_locked(&self, outbox: &mut Outbox, ending: Ending) {
        outbox.ending.get_or_insert(ending);
        self.tell_owner(outbox, status::ENDING);
    }

    /// Has the session's task look at a bit of the status. ORDER: the bit is set before the task is
    /// woken, and the task registers its waker before it looks; so it sees the one or the other.
    fn tell_owner(&self, outbox: &Outbox, bit: u32) {
        self.status.fetch_or(bit, SeqCst);
        outbox.wake_owner();
    }

    /// Takes an id from the session, and lets its task know.
    pub fn replace(&self, id: ServiceId) {
        let mut outbox = self.lock();
        outbox.replaced.push(id);
        self.tell_owner(&outbox, status::REPLACED);
    }

    /// The session has these ids again: a loss of them that it has not looked at yet is void, and it takes
    /// data. ORDER: before the table is published.
    pub fn regain(&self, ids: &[ServiceId]) {
        let mut outbox = self.lock();
        outbox.replaced.retain(|id| !ids.contains(id));
        outbox.retired &= ids.is_empty();
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // A panic elsewhere leaves counts and bytes that are still whole.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    fn pending(&self) -> usize {
        self.queue.len() + self.in_flight
    }

    /// Whether frames under these limits have to wait or go. Under `pause` a mailbox that was full stays
    /// so until it has drained to its low mark, or who waits would be overtaken by who does not.
    fn is_full(&self, admission: Admission) -> bool {
        let pending = self.pending();
        pending >= admission.high_water
            || (admission.overflow == Overflow::Pause
                && self.jam.as_ref().is_some_and(|jam| pending > jam.resume_at))
    }

    fn is_free(&self) -> bool {
        self.writer.is_some() && !self.blocked
    }

    fn wake_owner(&self) {
        if let Some(owner) = &self.owner {
            owner.wake_by_ref();
        }
    }
}

/// What one read brings for a mailbox is written at once from this many bytes on: waiting for more would
/// save little.
const WRITE_AT_ONCE: usize = 32 << 10;
/// How often a thread writes what others appended meanwhile before it sees to its own sessions.
const MAX_ROUNDS: u32 = 4;
/// A queue of this many bytes is written at once instead of at the end of the batch.
const EARLY_FLUSH: usize = 256 << 10;
/// The most that a session may let pile up of the router's own messages. What it may of data is for its
/// classes' policies to say.
const MAX_CONTROL_BACKLOG: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use switchboard_protocol::control::{Control, Ping};
    use switchboard_protocol::{Frame as WholeFrame, Header};

    use super::*;
    use crate::sessions::Sessions;
    use crate::stream::{Accepted, ReadHalf};

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// A mailbox, and both ends of its socket.
    fn mailbox() -> (Arc<Mailbox>, ReadHalf, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let (reader, writer, peer) = Accepted::Unix(here).into_halves().unwrap();
        let (slot, number) = Arc::new(Sessions::default()).open(1).unwrap();
        let badge = Badge::new(peer, 0);
        (Arc::new(Mailbox::new(slot, number, writer, badge)), reader, there)
    }

    // A session whose peer had closed while another thread wrote to it used to sleep for two seconds.
    #[tokio::test]
    async fn a_task_that_waits_for_an_empty_mailbox_is_woken_by_whoever_empties_it() {
        let (mailbox, reader, _peer) = mailbox();
        poll_fn(|cx| reader.poll_write_ready(cx)).await.unwrap();
        let mut out = Outgoing::new(Arc::default());
        mailbox.push_quietly(&Control::Ping(Ping::default()).to_frame().to_bytes(), &mut out);

        let bell = Arc::new(Bell::default());
        mailbox.set_owner(&Waker::from(bell.clone()));
        assert!(!mailbox.is_drained());
        mailbox.flush(&mut out);
        assert_eq!(bell.0.load(SeqCst), 1);
        assert!(mailbox.is_drained());
    }

    fn frames(bytes: usize) -> (Vec<u8>, Runs) {
        let header = Header::direct("1.1".parse().unwrap(), "2.1".parse().unwrap());
        let frame = WholeFrame::new(header, vec![0; bytes - 16]).to_bytes().to_vec();
        let runs = Runs::of_frames(&frame);
        (frame, runs)
    }

    #[tokio::test]
    async fn who_waits_for_room_is_not_overtaken_by_who_does_not() {
        let (mailbox, _reader, _peer) = mailbox();
        let mut out = Outgoing::new(Arc::default());
        let policy = ClassPolicy { high_water_bytes: 10_000, ..ClassPolicy::default() };
        // The socket takes nothing.
        mailbox.lock().blocked = true;
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let mut offer = |round: &mut u32| {
            let (bytes, mut runs) = frames(1_000);
            let waiter = Waiter { waker: &waker, round };
            mailbox.offer(&bytes, &mut runs, Admission::of(&policy), waiter, &mut out)
        };
        for _ in 0..10 {
            assert_eq!(offer(&mut 0), Offer::Taken);
        }
        let mut first = 0;
        assert_eq!(offer(&mut first), Offer::Wait);
        assert_eq!(offer(&mut first), Offer::Wait);
        let waiters = mailbox.lock().jam.as_ref().map(|jam| jam.waiters.len());
        assert_eq!(waiters, Some(1), "it waits once, however often it asks");
        // Some of it goes, but it is above its low mark still: a newcomer waits as well.
        mailbox.lock().queue.evict_to(6_000, |_| {});
        assert_eq!(offer(&mut 0), Offer::Wait);
        mailbox.release(mailbox.lock());
        assert_eq!(bell.0.load(SeqCst), 0);
        mailbox.lock().queue.evict_to(5_000, |_| {});
        mailbox.release(mailbox.lock());
        assert_eq!(bell.0.load(SeqCst), 2, "both are woken");
        assert_eq!(offer(&mut first), Offer::Taken);
    }

    #[tokio::test]
    async fn a_heartbeat_that_is_less_than_half_late_is_not_missed() {
        let (mailbox, _reader, _peer) = mailbox();
        mailbox.heard(1_000);
        assert_eq!(mailbox.heard_again(60_000), 0, "none is due before Hello");
        // A heartbeat of a second.
        mailbox.set_registered(2_980);
        let gaps = [(1, 0), (1_000, 0), (1_480, 0), (1_500, 1), (2_400, 1), (2_500, 2), (2_979, 2)];
        let mut now = 60_000;
        for (gap, missed) in gaps {
            now += gap;
            assert_eq!(mailbox.heard_again(now), missed, "after {gap} ms");
        }
    }

    #[tokio::test]
    async fn an_id_that_is_granted_again_is_not_taken_any_more() {
        let (mailbox, _reader, _peer) = mailbox();
        let [one, two]: [ServiceId; 2] = ["5.1", "5.2"].map(|text| text.parse().unwrap());
        mailbox.replace(one);
        mailbox.replace(two);
        mailbox.regain(&[one]);
        assert_eq!(mailbox.take_replaced(), [two]);
    }
}
