//! Bytes in, frames out: what a session's task does each time it is polled.

use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use switchboard_protocol::header::HeaderError;
use switchboard_protocol::limits::{FIXED_HEADER, MAX_CONTROL_FRAME};
use switchboard_protocol::{FixedHeader, Kind, Reason, RefusalCode};

use super::{End, Session, Step};
use crate::counters::{Bucket, Outcome, Volume};
use crate::forward::local::Local;
use crate::forward::{self, Source, Stop};
use crate::mailbox::runs::Frame;
use crate::registry::Refusal;
use crate::stream::ReadHalf;

/// What became of some bytes.
struct Taken {
    /// How many of them are used.
    used: usize,
    /// Whether the rest may hold whole frames, or nothing more is to be read in this turn.
    backlog: bool,
    /// What else is to be done.
    step: Option<Step>,
}

impl Session {
    /// Forwards what comes until something else is to be done.
    pub(super) fn poll_traffic(&mut self, cx: &mut Context<'_>, local: &mut Local) -> Poll<Step> {
        self.become_owner(cx);
        if let Some(end) = self.news() {
            return Poll::Ready(Step::End(end));
        }
        self.poll_flush(cx, local);
        if !self.may_read(cx, local) {
            return Poll::Pending;
        }
        if self.backlog {
            // The router takes its time over what this node has sent, and does not read it meanwhile.
            self.source.mailbox.heard(self.shared.clock.now_ms());
            let (tail, start) = (std::mem::take(&mut self.tail), self.start);
            let taken = self.take_in(&tail[start..], cx, local);
            self.keep_tail(tail, start + taken.used, taken.backlog);
            if let Some(step) = taken.step {
                return Poll::Ready(step);
            }
            if self.backlog || !self.may_read(cx, local) {
                return Poll::Pending;
            }
        }
        let mut scratch = local.take_scratch();
        let polled = self.poll_input(&mut scratch, cx, local);
        local.scratch = scratch;
        polled
    }

    /// Reads until the socket has nothing more, but only once as much as the scratch buffer holds, so
    /// that a sender that never pauses leaves the others their turn.
    fn poll_input(
        &mut self,
        scratch: &mut [u8],
        cx: &mut Context<'_>,
        local: &mut Local,
    ) -> Poll<Step> {
        loop {
            // A short tail goes in front of what is read; a long one, part of a large frame, grows
            // where it is.
            let joined = self.tail.len() <= scratch.len() / 2;
            let start = if joined { self.tail.len() } else { 0 };
            scratch[..start].copy_from_slice(&self.tail[..start]);
            let room = scratch.len() - start;
            let n = match ready!(self.reader.poll_read(cx, &mut scratch[start..])) {
                Ok(0) | Err(_) => return Poll::Ready(Step::End(End::Disconnected)),
                Ok(n) => n,
            };
            let now = Instant::now();
            self.hear(now, local);
            local.out.counters.reads.increment();
            local.read_at = Some(now);
            self.source.mailbox.badge().read(n);
            let step = if joined {
                let bytes = &scratch[..start + n];
                let taken = self.take_in(bytes, cx, local);
                self.keep(&bytes[taken.used..], taken.backlog);
                taken.step
            } else {
                self.tail.extend_from_slice(&scratch[..n]);
                self.take_in_grown(cx, local)
            };
            // What is left of it is not timed: how long it lies here is not the router's affair alone.
            local.read_at = None;
            if let Some(step) = step {
                return Poll::Ready(step);
            }
            if self.backlog || !self.may_read(cx, local) {
                return Poll::Pending;
            }
            if n == room {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// The node has shown a sign of life.
    #[inline]
    fn hear(&self, now: Instant, local: &Local) {
        let now = self.shared.clock.ms_at(now);
        let missed = self.source.mailbox.heard_again(now);
        if missed > 0 {
            local.out.counters.heartbeats_missed.add(missed);
        }
    }

    /// A large frame that was read in parts: forwarded when it is whole, without another copy.
    fn take_in_grown(&mut self, cx: &mut Context<'_>, local: &mut Local) -> Option<Step> {
        let length = self.tail.first_chunk().map_or(0, |length| u32::from_le_bytes(*length));
        if self.tail.len() < length as usize {
            return None;
        }
        let tail = std::mem::take(&mut self.tail);
        let taken = self.take_in(&tail, cx, local);
        self.keep_tail(tail, taken.used, taken.backlog);
        taken.step
    }

    /// Forwards the frames in `bytes`.
    fn take_in(&mut self, bytes: &[u8], cx: &mut Context<'_>, local: &mut Local) -> Taken {
        let mut at = self.pass_over(bytes.len());
        if self.admitted.is_none()
            && let Some(step) = self.check_first(&bytes[at..])
        {
            return Taken { used: at, backlog: false, step: Some(step) };
        }
        let max_frame = self.shared.max_frame();
        let (used, stop) =
            forward::forward(&bytes[at..], &mut self.source, max_frame, cx.waker(), local);
        self.shared.watchdog.take_stalls(&mut local.out, &self.shared.clock);
        if let Some(spoofed) = self.source.spoofed.take() {
            let offset = self.offset + spoofed.at as u64;
            self.refuse_with(&spoofed.refusal(), Some(offset), None, local);
        }
        self.offset += used as u64;
        at += used;
        let rest = &bytes[at..];
        let is_turn = matches!(stop, Stop::Turn);
        let (more, step) = match stop {
            Stop::Incomplete => (false, None),
            Stop::Turn => {
                cx.waker().wake_by_ref();
                (true, None)
            }
            // It is woken when there is room.
            Stop::Barred => (true, None),
            Stop::Control(length) => {
                let body = Bytes::copy_from_slice(&rest[FIXED_HEADER..length]);
                self.offset += length as u64;
                at += length;
                (true, Some(Step::Control(body)))
            }
            // The report tells the whole header, so it waits until that is there.
            Stop::TooLarge(header) if rest.len() < header.header_len() => (false, None),
            Stop::TooLarge(header) => {
                let refusal = too_large(&header, rest, max_frame, &self.source, local);
                self.refuse_with(&refusal, Some(self.offset), None, local);
                self.skip = header.length;
                at += self.pass_over(rest.len());
                // What follows is taken in when the session is polled again.
                cx.waker().wake_by_ref();
                (true, None)
            }
            Stop::Malformed(why) => (false, Some(Step::End(End::Malformed(why, self.offset)))),
        };
        Taken { used: at, backlog: is_turn || (more && at < bytes.len()), step }
    }

    /// Passes over what is left of an oversized frame. Answers how many of `available` bytes that is.
    fn pass_over(&mut self, available: usize) -> usize {
        let skipped = (self.skip as usize).min(available);
        self.skip -= skipped as u32;
        self.offset += skipped as u64;
        skipped
    }

    /// Before Hello only a control frame may come.
    fn check_first(&self, bytes: &[u8]) -> Option<Step> {
        match FixedHeader::parse(bytes, MAX_CONTROL_FRAME) {
            Ok(None) => None,
            Ok(Some(header)) if header.kind == Kind::Control => None,
            Ok(Some(_)) | Err(HeaderError::TooLarge { .. }) => {
                Some(Step::End(Self::hello_expected()))
            }
            Err(error) => Some(Step::End(End::Malformed(error.to_string(), self.offset))),
        }
    }

    /// Keeps what a read left over.
    fn keep(&mut self, bytes: &[u8], backlog: bool) {
        self.tail.clear();
        self.tail.extend_from_slice(bytes);
        self.keep_tail_from(0, backlog);
    }

    /// Puts the tail back, of which everything before `start` is used.
    fn keep_tail(&mut self, tail: Vec<u8>, start: usize, backlog: bool) {
        self.tail = tail;
        self.keep_tail_from(start, backlog);
    }

    fn keep_tail_from(&mut self, start: usize, backlog: bool) {
        self.backlog = backlog;
        self.start = start;
        if !backlog {
            // Part of a frame is left, or nothing. Of a backlog nothing is moved: it may hold thousands
            // of control frames, which are used one by one.
            self.tail.drain(..start);
            self.start = 0;
        }
        if self.tail.is_empty() && self.tail.capacity() > MAX_IDLE_TAIL {
            self.tail = Vec::new();
        }
    }

    // ---- what comes before reading ---------------------------------------------------------------

    /// A task has the same waker for as long as it lives. ORDER: it is registered before anything is looked at
    /// that others set and then wake.
    fn become_owner(&mut self, cx: &Context<'_>) {
        if !self.is_owner {
            self.source.mailbox.set_owner(cx.waker());
            self.is_owner = true;
        }
    }

    /// What others decided about this session meanwhile.
    fn news(&mut self) -> Option<End> {
        let mailbox = &self.source.mailbox;
        if !mailbox.has_news() {
            return None;
        }
        let replaced = mailbox.take_replaced();
        self.source.ids.retain(|id| !replaced.contains(id));
        if let Some(ending) = mailbox.ending() {
            return Some(End::Asked(ending));
        }
        (self.source.ids.is_empty() && !replaced.is_empty()).then_some(End::Replaced)
    }

    /// Writes on where the socket was full.
    fn poll_flush(&mut self, cx: &mut Context<'_>, local: &mut Local) {
        while self.source.mailbox.wants_write() {
            match self.reader.poll_write_ready(cx) {
                Poll::Ready(_) => {
                    self.source.mailbox.flush_unblocked(&mut local.out);
                    self.shared.watchdog.take_stalls(&mut local.out, &self.shared.clock);
                }
                Poll::Pending => break,
            }
        }
    }

    /// Whether nothing that this session caused has to be dealt with before it may cause more.
    fn may_read(&mut self, cx: &Context<'_>, local: &mut Local) -> bool {
        let mailbox = self.source.mailbox.clone();
        if !self.source.held.is_empty() {
            if !forward::held::retry(&mut self.source, cx.waker(), local) {
                if !mailbox.is_paused() {
                    local.out.counters.pauses.increment();
                    mailbox.set_paused(true);
                    self.shared.watchdog.comfort(&mailbox);
                }
                self.shared.watchdog.take_stalls(&mut local.out, &self.shared.clock);
                return false;
            }
            mailbox.heard(self.shared.clock.now_ms());
            if mailbox.is_paused() {
                local.out.counters.resumes.increment();
                mailbox.set_paused(false);
            }
        }
        // Answers and reports that the peer does not read pile up in its own mailbox.
        !(mailbox.wants_write() && mailbox.control_backlog() > CLOGGED)
    }

    // ---- at the end --------------------------------------------------------------------------------

    /// Waits until everything is written, or can't be.
    pub(super) fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.become_owner(cx);
        Local::with(|local| {
            self.poll_flush(cx, local);
            let mailbox = &self.source.mailbox;
            mailbox.flush(&mut local.out);
            if mailbox.is_drained() || mailbox.ending() == Some(crate::mailbox::Ending::Broken) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
    }
}

/// Reads what the peer still sends, and forgets it.
pub(super) fn poll_discard(reader: &mut ReadHalf, cx: &mut Context<'_>) -> Poll<()> {
    Local::with(|local| {
        let mut scratch = local.take_scratch();
        let end = loop {
            match reader.poll_read(cx, &mut scratch) {
                Poll::Ready(Ok(0) | Err(_)) => break Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break Poll::Pending,
            }
        };
        local.scratch = scratch;
        end
    })
}

/// Counts a frame that is too long, and reports it, but not to others than its sender.
fn too_large(
    header: &FixedHeader,
    bytes: &[u8],
    max_frame: u32,
    source: &Source,
    local: &mut Local,
) -> Refusal {
    if let Some(bucket) = Bucket::of(header.kind, header.target) {
        let volume = Volume::one(header.length as usize);
        source.note(bucket, volume, local);
        if source.owns(header.source) {
            local.out.lose(Frame { header: *header, bytes, at: 0 }, Reason::TooLarge);
            forward::send_reports(local);
        } else {
            local.out.counters.ended(bucket, Outcome::TooLarge, volume);
        }
    }
    let (what, max) = match header.kind {
        Kind::Control => ("control frame", MAX_CONTROL_FRAME),
        _ => ("frame", max_frame),
    };
    let text = format!("{what} of {} bytes is over the limit of {max}; skipped", header.length);
    Refusal::new(RefusalCode::FrameTooLarge, text)
}

/// A tail that has grown beyond this is given back when it is empty.
const MAX_IDLE_TAIL: usize = 4 << 10;
/// A session with more than this in its own mailbox is not read until it has read some of it.
const CLOGGED: usize = 1 << 20;
