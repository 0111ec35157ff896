//! What frames count as: a class and a mode; and sums of frames by that.

use switchboard_protocol::{Class, Kind, Mode};

/// A class and a mode, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

/// Frames by bucket. Most mailboxes only ever see one bucket, which needs no memory of its own.
#[derive(Debug, Default)]
pub struct Tally {
    first: Option<(Bucket, u32)>,
    rest: Vec<(Bucket, u32)>,
}

impl Bucket {
    /// The bucket of a data frame's mode and target.
    #[inline]
    pub const fn new(mode: Mode, target: u32) -> Self {
        Self(((target >> 24) << 3) as u16 | mode as u16)
    }

    /// The bucket of a frame's header, if it is a data frame.
    pub fn of(kind: Kind, target: u32) -> Option<Self> {
        match kind {
            Kind::Data(mode) => Some(Self::new(mode, target)),
            _ => None,
        }
    }

    /// Whether it is that of broadcasts.
    #[inline]
    pub const fn is_broadcast(self) -> bool {
        self.0 & 7 == Mode::Broadcast as u16
    }

    /// Its place among all [`BUCKETS`].
    #[inline]
    pub(super) fn index(self) -> usize {
        self.0.into()
    }

    /// All buckets that a frame can have.
    pub fn all() -> impl Iterator<Item = (Class, Mode, Self)> {
        (1..=u8::MAX).flat_map(|class| {
            let class = Class::of(class);
            Mode::ALL.into_iter().map(move |mode| (class, mode, Self::new(mode, class.as_target())))
        })
    }
}

impl Tally {
    /// Adds frames of a bucket.
    #[inline]
    pub fn add(&mut self, bucket: Bucket, frames: u32) {
        match &mut self.first {
            Some((known, count)) if *known == bucket => *count += frames,
            None => self.first = Some((bucket, frames)),
            Some(_) => match self.rest.iter_mut().find(|(known, _)| *known == bucket) {
                Some((_, count)) => *count += frames,
                None => self.rest.push((bucket, frames)),
            },
        }
    }

    /// Takes frames of a bucket off.
    pub fn subtract(&mut self, bucket: Bucket, frames: u32) {
        let mut all = self.first.iter_mut().chain(&mut self.rest);
        if let Some((_, count)) = all.find(|(known, _)| *known == bucket) {
            *count = count.saturating_sub(frames);
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        for (bucket, frames) in other.into_iter() {
            self.add(bucket, frames);
        }
    }

    /// Everything in it.
    pub fn into_iter(self) -> impl Iterator<Item = (Bucket, u32)> {
        self.first.into_iter().chain(self.rest)
    }
}

/// 256 classes, and 8 modes of which 6 are used.
pub(super) const BUCKETS: usize = 1 << 11;
