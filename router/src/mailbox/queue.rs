//! Whole frames, side by side, on their way out; and the ones that leave without being written.

use std::io;

use switchboard_protocol::{Flags, Kind};

use super::outgoing::Outgoing;
use super::runs::{Frame, Frames, Runs};
use crate::counters::{Bucket, Outcome, Tally};
use crate::stream::WriteHalf;

/// A buffer of frames, of which the first bytes may be written already.
#[derive(Debug, Default)]
pub struct Queue {
    frames: Vec<u8>,
    /// Bytes at the front that the socket has taken.
    written: usize,
    /// The data frames in it, by what they count as.
    tally: Tally,
    /// Whether any of them may be DROPPABLE.
    droppable: bool,
    /// Bytes of the router's own messages that are in `frames`.
    control: usize,
}

impl Queue {
    /// Bytes still to be written.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len() - self.written
    }

    /// Whether all is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the frames of `bytes` that `runs` name.
    pub fn append(&mut self, bytes: &[u8], runs: &Runs, out: &mut Outgoing) {
        self.reserve(out);
        for run in runs.iter() {
            self.frames.extend_from_slice(&bytes[run.start..run.end]);
            self.tally.add(run.bucket, run.frames);
            self.droppable |= run.flags.contains(Flags::DROPPABLE);
        }
    }

    /// Adds a message of the router's own, which no counter of frames knows.
    pub fn append_control(&mut self, frame: &[u8], out: &mut Outgoing) {
        self.reserve(out);
        self.frames.extend_from_slice(frame);
        self.control += frame.len();
    }

    /// How many bytes of the router's own messages wait, and a little more.
    pub fn control(&self) -> usize {
        self.control
    }

    fn reserve(&mut self, out: &mut Outgoing) {
        if self.frames.capacity() == 0 {
            self.frames = out.take_buffer();
        }
    }

    /// What is left of runs of which the socket took `written` bytes, from the start of the frame that
    /// the cut went through.
    pub fn rest_of(bytes: &[u8], runs: &Runs, mut written: usize, out: &mut Outgoing) -> Self {
        let mut rest = Self { frames: out.take_buffer(), ..Self::default() };
        for frame in runs.frames(bytes) {
            let Some(bucket) = Bucket::of(frame.header.kind, frame.header.target) else { continue };
            if written >= frame.bytes.len() {
                written -= frame.bytes.len();
                out.counters.ended(bucket, Outcome::Delivered, 1);
                continue;
            }
            rest.written += std::mem::take(&mut written);
            rest.frames.extend_from_slice(frame.bytes);
            rest.tally.add(bucket, 1);
            rest.droppable |= frame.header.flags.contains(Flags::DROPPABLE);
        }
        rest
    }

    /// Writes until the socket takes no more.
    pub fn write_to(&mut self, writer: &WriteHalf, out: &Outgoing) -> io::Result<()> {
        while self.written < self.frames.len() {
            match writer.try_write(&self.frames[self.written..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.written += n,
            }
            out.counters.writes.increment();
        }
        Ok(())
    }

    /// Puts back what a writer took out, in front of what was appended meanwhile.
    pub fn put_in_front(&mut self, mut taken: Self, out: &mut Outgoing) {
        if taken.is_empty() {
            for (bucket, frames) in std::mem::take(&mut taken.tally).into_iter() {
                out.counters.ended(bucket, Outcome::Delivered, frames);
            }
            return out.give_buffer(taken.frames);
        }
        taken.forget_written(out);
        let appended = std::mem::replace(self, taken);
        self.frames.extend_from_slice(&appended.frames);
        self.tally.merge(appended.tally);
        self.droppable |= appended.droppable;
        self.control += appended.control;
        out.give_buffer(appended.frames);
    }

    /// Drops written frames off the front once they are as long as the rest, so that the cost of moving
    /// the rest stays in proportion to what was written.
    fn forget_written(&mut self, out: &Outgoing) {
        if self.written < self.len().max(WORTH_MOVING) {
            return;
        }
        let mut keep = 0;
        for frame in Frames::of(&self.frames) {
            if frame.at + frame.bytes.len() > self.written {
                break;
            }
            keep = frame.at + frame.bytes.len();
            if let Some(bucket) = Bucket::of(frame.header.kind, frame.header.target) {
                self.tally.subtract(bucket, 1);
                out.counters.ended(bucket, Outcome::Delivered, 1);
            } else {
                self.control = self.control.saturating_sub(frame.bytes.len());
            }
        }
        self.frames.drain(..keep);
        self.written -= keep;
    }

    /// Takes the DROPPABLE frames out that nothing of is written yet.
    pub fn shed_droppable(&mut self, lost: impl FnMut(Frame<'_>)) {
        if std::mem::take(&mut self.droppable) {
            self.retain(|frame, _| !frame.header.flags.contains(Flags::DROPPABLE), lost);
        }
    }

    /// Takes the oldest data frames out until at most `room` bytes are left to write. Messages of the
    /// router stay, and so does a frame that is half written.
    pub fn evict_to(&mut self, room: usize, lost: impl FnMut(Frame<'_>)) {
        let excess = self.len().saturating_sub(room);
        self.retain(|_, evicted| evicted >= excess, lost);
    }

    /// Keeps the frames that `keep` says, which is told of each frame and of the bytes taken out so far.
    fn retain(
        &mut self,
        keep: impl Fn(&Frame<'_>, usize) -> bool,
        mut lost: impl FnMut(Frame<'_>),
    ) {
        let frames = std::mem::take(&mut self.frames);
        let mut evicted = 0;
        for frame in Frames::of(&frames) {
            let data = Bucket::of(frame.header.kind, frame.header.target);
            match data {
                Some(bucket) if frame.at >= self.written && !keep(&frame, evicted) => {
                    self.tally.subtract(bucket, 1);
                    evicted += frame.bytes.len();
                    lost(frame);
                }
                _ => self.frames.extend_from_slice(frame.bytes),
            }
        }
    }

    /// Ends the queue: written frames are delivered, the others are lost.
    pub fn abandon(self, out: &mut Outgoing, mut lost: impl FnMut(Frame<'_>, &mut Outgoing)) {
        for frame in Frames::of(&self.frames) {
            let Kind::Data(mode) = frame.header.kind else { continue };
            if frame.at + frame.bytes.len() <= self.written {
                let bucket = Bucket::new(mode, frame.header.target);
                out.counters.ended(bucket, Outcome::Delivered, 1);
            } else {
                lost(frame, out);
            }
        }
    }
}

/// Written frames shorter than this are not worth moving the rest for.
const WORTH_MOVING: usize = 64 << 10;
