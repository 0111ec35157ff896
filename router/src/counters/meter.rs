//! Frames and bytes side by side, as they are counted together: by a thread, or by a session. Whoever counts is
//! the only one at a time, anybody may read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Volume, add};

/// How many frames there were, and how many bytes.
#[derive(Debug, Default)]
pub struct Meter {
    frames: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    /// Adds frames with what they are long.
    #[inline]
    pub fn add(&self, volume: Volume) {
        self.add_frames(volume.frames.into());
        self.add_bytes(volume.bytes);
    }

    /// Adds frames whose bytes are counted by themselves.
    #[inline]
    pub fn add_frames(&self, frames: u64) {
        add(&self.frames, frames);
    }

    /// Adds bytes, whatever frames they are of.
    #[inline]
    pub fn add_bytes(&self, bytes: usize) {
        add(&self.bytes, bytes as u64);
    }

    /// Frames and bytes.
    pub fn read(&self) -> (u64, u64) {
        (self.frames.load(Relaxed), self.bytes.load(Relaxed))
    }
}
