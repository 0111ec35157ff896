//! A session's bounded outbox, shared by every thread that has a frame for it.
//!
//! Frames are appended to one contiguous buffer, and whoever finds the socket free writes it out:
//! the write half itself lies in the outbox, and who takes it is the writer until it is put back.
//! Others append meanwhile and leave; the writer takes what they appended along (flat combining).
//! No lock is held across a system call, and a thread holds one mailbox's lock at a time.
//!
//! - [`outgoing`]: what a thread needs to write: its counters, spare buffers, dirty mailboxes;
//! - [`queue`]: the buffer of whole frames, and the frames that leave it unwritten;
//! - [`runs`]: the stretches of a read that go to one mailbox.
//!
//! INVARIANT: the buffer starts at a frame's boundary. Of a frame that is half written, the written
//! half stays in front until the rest is out, so that what is left can always be walked.

pub mod outgoing;
pub mod queue;
pub mod runs;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use switchboard_protocol::{Reason, ServiceId};

use self::outgoing::Outgoing;
use self::queue::Queue;
use self::runs::Runs;
use crate::policy::{ClassPolicy, Overflow};
use crate::registry::Handle;
use crate::sessions::Slot;
use crate::stream::WriteHalf;

/// The outbox of one session.
#[derive(Debug)]
pub struct Mailbox {
    slot: Slot,
    session: u64,
    status: AtomicU32,
    heard: AtomicU32,
    silence: AtomicU32,
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
    /// Takes no more frames.
    closed: bool,
    /// The session's task waits until everything is written.
    draining: bool,
    /// Senders that wait for room, and the level at which they are woken.
    waiters: Vec<Waker>,
    resume_at: usize,
    /// How often it began to hold senders up.
    stalls: u32,
    /// The session's task.
    owner: Option<Waker>,
    /// Why the session shall end.
    ending: Option<Ending>,
    /// Ids that a newer incarnation took.
    replaced: Vec<ServiceId>,
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
}

/// The limits under which frames are offered, from the policy of the class they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    overflow: Overflow,
    high_water: usize,
    stall_timeout: Duration,
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
}

/// Bits of a mailbox's status, which its session's task looks at whenever it is polled.
mod status {
    pub(super) const WANT_WRITE: u32 = 1;
    pub(super) const ENDING: u32 = 2;
    pub(super) const REPLACED: u32 = 4;
    pub(super) const REGISTERED: u32 = 8;
    pub(super) const PAUSED: u32 = 16;
    pub(super) const COMFORTED: u32 = 32;
}

impl Handle for Arc<Mailbox> {
    fn session(&self) -> u64 {
        self.session
    }
}

impl Mailbox {
    /// The mailbox of a new session.
    pub fn new(slot: Slot, session: u64, writer: WriteHalf) -> Self {
        Self {
            slot,
            session,
            status: AtomicU32::new(0),
            heard: AtomicU32::new(0),
            silence: AtomicU32::new(0),
            outbox: Mutex::new(Outbox {
                writer: Some(writer),
                queue: Queue::default(),
                in_flight: 0,
                blocked: false,
                dirty: false,
                closed: false,
                draining: false,
                waiters: Vec::new(),
                resume_at: 0,
                stalls: 0,
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

    // ---- from senders --------------------------------------------------------------------------

    /// Offers the frames of `bytes` that `runs` name. They are taken whole or not at all, but
    /// DROPPABLE ones may go to make room.
    pub fn offer(
        self: &Arc<Self>,
        bytes: &[u8],
        runs: &mut Runs,
        admission: Admission,
        waker: &Waker,
        out: &mut Outgoing,
    ) -> Offer {
        let mut outbox = self.lock();
        if outbox.closed {
            return Offer::Refused(Reason::TargetLost);
        }
        if outbox.pending() >= admission.high_water
            && let Some(refused) = self.overflow(&mut outbox, bytes, runs, admission, waker, out)
        {
            return refused;
        }
        if runs.bytes() >= DIRECT_WRITE && outbox.is_free() && outbox.queue.is_empty() {
            self.write_from(outbox, bytes, runs, out);
        } else {
            outbox.queue.append(bytes, runs, out);
            self.appended(outbox, out);
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
            return self.end_locked(outbox, Ending::SlowConsumer);
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
        waker: &Waker,
        out: &mut Outgoing,
    ) -> Option<Offer> {
        runs.shed_droppable(bytes, |frame| out.lose(frame, Reason::Full));
        outbox.queue.shed_droppable(|frame| out.lose(frame, Reason::Evicted));
        if runs.is_empty() {
            return Some(Offer::Taken);
        }
        if outbox.pending() < admission.high_water {
            return None;
        }
        match admission.overflow {
            Overflow::Pause => {
                if outbox.waiters.is_empty() {
                    outbox.stalls += 1;
                    let (number, patience) = (outbox.stalls, admission.stall_timeout);
                    out.stalled(Stall { mailbox: self.clone(), number, patience });
                }
                if !outbox.waiters.iter().any(|waiter| waiter.will_wake(waker)) {
                    outbox.waiters.push(waker.clone());
                }
                outbox.resume_at = admission.high_water / 2;
                Some(Offer::Wait)
            }
            Overflow::DropNew => Some(Offer::Refused(Reason::Full)),
            Overflow::DropOld => {
                let room = admission.high_water.saturating_sub(runs.bytes());
                let evictable = room.saturating_sub(outbox.in_flight);
                outbox.queue.evict_to(evictable, |frame| out.lose(frame, Reason::Evicted));
                (outbox.pending() >= admission.high_water).then_some(Offer::Refused(Reason::Full))
            }
            Overflow::Disconnect => {
                outbox.end(Ending::SlowConsumer);
                outbox.closed = true;
                self.status.fetch_or(status::ENDING, SeqCst);
                outbox.wake_owner();
                Some(Offer::Refused(Reason::Full))
            }
        }
    }

    // ---- writing -------------------------------------------------------------------------------

    /// Writes what is queued, unless someone else does or the socket is full.
    pub fn flush(&self, out: &mut Outgoing) {
        let mut outbox = self.lock();
        outbox.dirty = false;
        if outbox.is_free() && !outbox.queue.is_empty() {
            self.write_queue(outbox, out);
        }
    }

    /// The same from the session's task, when the socket takes bytes again.
    pub fn flush_unblocked(&self, out: &mut Outgoing) {
        let mut outbox = self.lock();
        outbox.blocked = false;
        self.status.fetch_and(!status::WANT_WRITE, SeqCst);
        if outbox.writer.is_some() && !outbox.queue.is_empty() {
            self.write_queue(outbox, out);
        }
    }

    /// Takes the write half, writes the queue out, and whatever is appended meanwhile.
    fn write_queue<'a>(&'a self, mut outbox: MutexGuard<'a, Outbox>, out: &mut Outgoing) {
        while let Some(writer) = outbox.writer.take() {
            let mut taken = std::mem::take(&mut outbox.queue);
            outbox.in_flight = taken.len();
            drop(outbox);
            let result = taken.write_to(&writer, out);
            outbox = self.lock();
            outbox.in_flight = 0;
            outbox.writer = Some(writer);
            outbox.queue.put_in_front(taken, out);
            if !self.settle(&mut outbox, result) || outbox.queue.is_empty() {
                break;
            }
        }
        self.release(outbox);
    }

    /// Takes the write half and writes straight from the buffer that was read into.
    fn write_from<'a>(
        &'a self,
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
        }
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
                self.status.fetch_or(status::WANT_WRITE, SeqCst);
            }
            Err(_) => {
                outbox.end(Ending::Broken);
                self.status.fetch_or(status::ENDING, SeqCst);
                outbox.blocked = true;
            }
        }
        // ORDER: the status is set before the task is woken, and the task registers its waker before
        // it looks at the status; so it sees the one or the other.
        outbox.wake_owner();
        false
    }

    /// Lets go of the lock, and wakes the senders for whom there is room now.
    fn release(&self, mut outbox: MutexGuard<'_, Outbox>) {
        if outbox.closed || outbox.draining {
            // Its task may be waiting for the write half to come back, or for the last byte to go.
            outbox.wake_owner();
        }
        if outbox.waiters.is_empty() || (outbox.pending() > outbox.resume_at && !outbox.closed) {
            return;
        }
        let waiters = std::mem::take(&mut outbox.waiters);
        drop(outbox);
        waiters.into_iter().for_each(Waker::wake);
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
        !outbox.waiters.is_empty() && outbox.stalls == number
    }

    /// Takes no more frames, and wakes whoever waits for room.
    pub fn close(&self) {
        let mut outbox = self.lock();
        outbox.closed = true;
        self.release(outbox);
    }

    /// Whether everything is written. If not, the task is woken after each write.
    pub fn is_drained(&self) -> bool {
        let mut outbox = self.lock();
        outbox.draining = true;
        outbox.pending() == 0
    }

    /// After [`Self::close`]: drops the write half and loses what is left, frame by frame. Answers
    /// `false` while another thread still writes; the task is woken when it is done.
    pub fn abandon(&self, out: &mut Outgoing) -> bool {
        let mut outbox = self.lock();
        if outbox.in_flight > 0 {
            return false;
        }
        let writer = outbox.writer.take();
        let rest = std::mem::take(&mut outbox.queue);
        drop(outbox);
        drop(writer);
        rest.abandon(out, |frame, out| out.lose(frame, Reason::TargetLost));
        true
    }

    /// The session is over, though others may still know its mailbox.
    pub fn leave(&self) {
        self.slot.leave();
    }

    // ---- signs of life -------------------------------------------------------------------------

    /// The session sent something at this tick.
    #[inline]
    pub fn heard(&self, tick: u32) {
        self.heard.store(tick, Relaxed);
    }

    /// When it last did.
    pub fn last_heard(&self) -> u32 {
        self.heard.load(Relaxed)
    }

    /// The session is registered, and may be silent for this many ticks.
    pub fn set_registered(&self, silence: u32) {
        self.silence.store(silence, Relaxed);
        self.status.fetch_or(status::REGISTERED, SeqCst);
    }

    /// How many ticks it may be silent; `None` before its Hello.
    pub fn silence(&self) -> Option<u32> {
        let registered = self.status.load(SeqCst) & status::REGISTERED != 0;
        registered.then(|| self.silence.load(Relaxed))
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
        self.end_locked(self.lock(), ending);
    }

    fn end_locked(&self, mut outbox: MutexGuard<'_, Outbox>, ending: Ending) {
        outbox.end(ending);
        self.status.fetch_or(status::ENDING, SeqCst);
        outbox.wake_owner();
    }

    /// Takes ids from the session, and lets it know.
    pub fn replace(self: &Arc<Self>, ids: &[ServiceId]) {
        let mut outbox = self.lock();
        outbox.replaced.extend_from_slice(ids);
        self.status.fetch_or(status::REPLACED, SeqCst);
        outbox.wake_owner();
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

    fn is_free(&self) -> bool {
        self.writer.is_some() && !self.blocked
    }

    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    fn wake_owner(&self) {
        if let Some(owner) = &self.owner {
            owner.wake_by_ref();
        }
    }
}

/// From this many bytes on, frames are written from where they were read instead of copied.
const DIRECT_WRITE: usize = 64 << 10;
/// A queue of this many bytes is written at once instead of at the end of the batch.
const EARLY_FLUSH: usize = 256 << 10;
/// The most that a session may let pile up of the router's own messages. What it may of data is for its
/// classes' policies to say.
const MAX_CONTROL_BACKLOG: usize = 32 << 20;
