//! The stretches of one read that go to one mailbox, in order. Frames that lie side by side and count
//! alike make one run.

use std::io::{self, IoSlice};

use switchboard_protocol::{FixedHeader, Flags};

use super::outgoing::Outgoing;
use crate::counters::{Bucket, Volume};
use crate::stream::WriteHalf;

/// The runs of one mailbox.
#[derive(Debug, Default)]
pub struct Runs {
    runs: Vec<Run>,
    bytes: usize,
    droppable: bool,
}

/// Adjacent frames of one class and mode, all of them DROPPABLE or none.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Where it starts in the bytes that were read.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// How many frames it holds.
    pub frames: u32,
    /// What they count as.
    pub bucket: Bucket,
    /// Every flag that any of them has.
    pub flags: Flags,
}

impl Runs {
    /// Adds a run; it merges with the last one where it can.
    #[inline]
    pub fn push(&mut self, run: Run) {
        self.bytes += run.end - run.start;
        self.droppable |= run.flags.contains(Flags::DROPPABLE);
        match self.runs.last_mut() {
            Some(last) if last.end == run.start && last.counts_like(&run) => {
                last.end = run.end;
                last.frames += run.frames;
                last.flags |= run.flags;
            }
            _ => self.runs.push(run),
        }
    }

    /// The runs of whole data frames that stand side by side in `bytes`.
    #[cfg(test)]
    pub fn of_frames(bytes: &[u8]) -> Self {
        let mut runs = Self::default();
        for frame in Frames::of(bytes) {
            if let Some(bucket) = Bucket::of(frame.header.kind, frame.header.target) {
                let (start, end) = (frame.at, frame.at + frame.bytes.len());
                runs.push(Run { start, end, frames: 1, bucket, flags: frame.header.flags });
            }
        }
        runs
    }

    /// How long they are together.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    /// Each of their stretches.
    pub fn slices<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.runs.iter().map(|run| &bytes[run.start..run.end])
    }

    /// Each of their frames.
    pub fn frames<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Frame<'a>> {
        self.slices(bytes).flat_map(Frames::of)
    }

    /// Forgets all, and keeps room for so many at most.
    pub fn clear(&mut self, room: usize) {
        self.runs.clear();
        self.runs.shrink_to(room);
        self.bytes = 0;
        self.droppable = false;
    }

    /// Takes the DROPPABLE frames out.
    pub fn shed_droppable(&mut self, bytes: &[u8], mut lost: impl FnMut(Frame<'_>)) {
        if !self.droppable {
            return;
        }
        for run in std::mem::take(self).runs {
            for frame in Frames::of(&bytes[run.start..run.end]) {
                let start = run.start + frame.at;
                let end = start + frame.bytes.len();
                if frame.header.flags.contains(Flags::DROPPABLE) {
                    lost(frame);
                } else {
                    let flags = frame.header.flags;
                    self.push(Run { start, end, frames: 1, flags, ..run });
                }
            }
        }
    }

    /// What they hold of which bucket. Most hold one bucket, which comes up once.
    pub fn tally(&self, mut add: impl FnMut(Bucket, Volume)) {
        for alike in self.runs.chunk_by(|one, next| one.bucket == next.bucket) {
            let mut volume = Volume::default();
            alike.iter().for_each(|run| volume += run.volume());
            add(alike[0].bucket, volume);
        }
    }

    /// Counts all frames as written.
    pub fn delivered(&self, out: &Outgoing) {
        self.tally(|bucket, volume| out.delivered(bucket, volume));
    }

    /// Writes the runs from where they lie. Answers how many bytes the socket took.
    pub fn write_to(
        &self,
        bytes: &[u8],
        writer: &WriteHalf,
        out: &Outgoing,
    ) -> (usize, io::Result<()>) {
        let mut written = 0;
        while written < self.bytes {
            let result = match self.runs.as_slice() {
                [only] => writer.try_write(&bytes[only.start + written..only.end]),
                _ => writer.try_write_vectored(&self.unwritten(bytes, written)),
            };
            match result {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => written += n,
                Err(error) => return (written, Err(error)),
            }
            out.counters.writes.increment();
        }
        (written, Ok(()))
    }

    fn unwritten<'a>(&self, bytes: &'a [u8], mut written: usize) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::with_capacity(self.runs.len().min(MAX_SLICES));
        for run in &self.runs {
            let skipped = written.min(run.end - run.start);
            written -= skipped;
            if run.start + skipped < run.end {
                slices.push(IoSlice::new(&bytes[run.start + skipped..run.end]));
            }
            if slices.len() == MAX_SLICES {
                break;
            }
        }
        slices
    }

    /// Whether the runs are so short that copying them together beats writing them one by one.
    pub fn is_scattered(&self) -> bool {
        self.runs.len() > 1 && self.bytes / self.runs.len() < WORTH_A_SLICE
    }
}

impl Run {
    /// How much it holds.
    #[inline]
    pub fn volume(&self) -> Volume {
        Volume { frames: self.frames, bytes: self.end - self.start }
    }

    /// Whether frames of both may stand in one run.
    #[inline]
    fn counts_like(&self, other: &Self) -> bool {
        let droppable = |run: &Self| run.flags.contains(Flags::DROPPABLE);
        self.bucket == other.bucket && droppable(self) == droppable(other)
    }
}

/// One frame as it lies in a buffer that holds whole, checked frames.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FixedHeader,
    /// All of it.
    pub bytes: &'a [u8],
    /// Where it starts.
    pub at: usize,
}

/// A walk over whole frames.
#[derive(Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// The frames that stand side by side in `bytes`.
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let rest = self.bytes.get(self.at..)?;
        // Every frame was checked when it came in, or was made here.
        let header = FixedHeader::parse(rest, u32::MAX).ok()??;
        let bytes = rest.get(..header.length as usize)?;
        let frame = Frame { header, bytes, at: self.at };
        self.at += bytes.len();
        Some(frame)
    }
}

/// Linux takes 1,024 slices in one writev.
const MAX_SLICES: usize = 1_024;
/// A slice costs writev about as much as copying this many bytes.
const WORTH_A_SLICE: usize = 2 << 10;
