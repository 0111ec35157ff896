//! Marks behind the batches in a queue that are timed: when each was read, and where its last frame ends.
//! Most queues have none, and then they cost nothing but a look.

use std::time::{Duration, Instant};

/// The marks of a queue, in the order of their places.
#[derive(Debug, Default)]
pub struct Marks(Vec<Mark>);

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Where the batch ends in the queue.
    end: usize,
    /// When it was read.
    read_at: Instant,
}

impl Marks {
    /// Marks the end of a batch behind all others.
    #[inline]
    pub fn add(&mut self, end: usize, read_at: Option<Instant>) {
        if let Some(read_at) = read_at
            && self.0.len() < MOST
        {
            self.0.push(Mark { end, read_at });
        }
    }

    /// Takes the marks off up to `written`, and hands out how long each batch took.
    #[inline]
    pub fn pass(&mut self, written: usize, took: impl FnMut(Duration)) {
        if !self.0.is_empty() {
            self.pass_some(written, took);
        }
    }

    #[cold]
    fn pass_some(&mut self, written: usize, mut took: impl FnMut(Duration)) {
        let passed = self.0.partition_point(|mark| mark.end <= written);
        self.0.drain(..passed).for_each(|mark| took(mark.read_at.elapsed()));
        if self.0.is_empty() {
            // It may be long until this queue is timed again.
            self.0 = Vec::new();
        }
    }

    /// The first bytes of the queue are gone, which had no mark any more.
    pub fn move_up(&mut self, bytes: usize) {
        self.0.iter_mut().for_each(|mark| mark.end -= bytes);
    }

    /// Adds those of a queue that comes behind this many bytes.
    pub fn append(&mut self, behind: usize, others: Self) {
        let room = MOST.saturating_sub(self.0.len());
        let others = others.0.into_iter().take(room);
        self.0.extend(others.map(|mark| Mark { end: behind + mark.end, ..mark }));
    }

    /// A frame that ended at `end` ends at `to` now, or is gone. Frames are told of in order, each to the
    /// marks that [`std::mem::take`] took out, and the new places are `kept`.
    #[inline]
    pub fn follow(&mut self, end: usize, to: Option<usize>, kept: &mut Self) {
        while self.0.first().is_some_and(|mark| mark.end <= end) {
            let mark = self.0.remove(0);
            // A batch whose last frame is gone will never have been written.
            if let Some(to) = to {
                kept.0.push(Mark { end: to, ..mark });
            }
        }
    }
}

/// A queue has this many marks at most; what is beyond is not timed.
const MOST: usize = 64;
