//! What frames count as: a class and a mode; and sums of frames by that.

use std::ops::AddAssign;

use switchboard_protocol::{Class, Kind, Mode};

/// A class and a mode, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

/// Frames, and how long they are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// How many.
    pub frames: u32,
    /// Their bytes.
    pub bytes: usize,
}

/// Frames by bucket. Most mailboxes only ever see one bucket, which needs no memory of its own.
#[derive(Debug, Default)]
pub struct Tally {
    first: Option<(Bucket, Volume)>,
    rest: Vec<(Bucket, Volume)>,
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

    /// The class that its frames are for.
    #[inline]
    pub fn class(self) -> Option<Class> {
        Class::of_target(u32::from(self.0) << 21)
    }

    /// All of them, by their places.
    pub(super) fn by_index() -> impl Iterator<Item = Self> {
        (0..BUCKETS as u16).map(Self)
    }

    /// All buckets that a frame can have.
    pub fn all() -> impl Iterator<Item = (Class, Mode, Self)> {
        (1..=u8::MAX).flat_map(|class| {
            let class = Class::of(class);
            Mode::ALL.into_iter().map(move |mode| (class, mode, Self::new(mode, class.as_target())))
        })
    }
}

impl Volume {
    /// One frame of this length.
    #[inline]
    pub const fn one(bytes: usize) -> Self {
        Self { frames: 1, bytes }
    }
}

impl AddAssign for Volume {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

impl Tally {
    /// Adds frames of a bucket.
    #[inline]
    pub fn add(&mut self, bucket: Bucket, volume: Volume) {
        match &mut self.first {
            Some((known, sum)) if *known == bucket => *sum += volume,
            None => self.first = Some((bucket, volume)),
            Some(_) => match self.rest.iter_mut().find(|(known, _)| *known == bucket) {
                Some((_, sum)) => *sum += volume,
                None => self.rest.push((bucket, volume)),
            },
        }
    }

    /// Takes a frame of a bucket off.
    pub fn subtract(&mut self, bucket: Bucket, bytes: usize) {
        let mut all = self.first.iter_mut().chain(&mut self.rest);
        if let Some((_, sum)) = all.find(|(known, _)| *known == bucket) {
            sum.frames = sum.frames.saturating_sub(1);
            sum.bytes = sum.bytes.saturating_sub(bytes);
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: Self) {
        for (bucket, volume) in other.into_iter() {
            self.add(bucket, volume);
        }
    }

    /// Everything in it.
    pub fn into_iter(self) -> impl Iterator<Item = (Bucket, Volume)> {
        self.first.into_iter().chain(self.rest)
    }
}

/// 256 classes, and 8 modes of which 6 are used.
pub(super) const BUCKETS: usize = 1 << 11;
