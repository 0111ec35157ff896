//! What a frame asks for, one bit each.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// The flags byte of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// A reply is expected; the frame has a call id.
    pub const CALL: Self = Self(1);
    /// This is a reply; the frame has the call id of what it answers.
    pub const REPLY: Self = Self(2);
    /// The reply is an error.
    pub const ERROR: Self = Self(4);
    /// First to go under pressure, such as movement that the next message overwrites.
    pub const DROPPABLE: Self = Self(8);
    /// Tell me if it can't be delivered.
    pub const REPORT: Self = Self(16);
    /// The frame has a trace id and a span id.
    pub const TRACE: Self = Self(32);
    /// A broadcast reaches its sender too.
    pub const ECHO: Self = Self(64);
    /// The caller may send this call again under the same call id; an instance that has it already
    /// does not run it a second time.
    pub const IDEMPOTENT: Self = Self(128);
    /// Every bit with a meaning, which is every bit.
    pub const ALL: Self = Self(255);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::CALL, "CALL"),
        (Self::REPLY, "REPLY"),
        (Self::ERROR, "ERROR"),
        (Self::DROPPABLE, "DROPPABLE"),
        (Self::REPORT, "REPORT"),
        (Self::TRACE, "TRACE"),
        (Self::ECHO, "ECHO"),
        (Self::IDEMPOTENT, "IDEMPOTENT"),
    ];

    /// The flags in a byte.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Self {
        Self(raw)
    }

    /// The byte.
    #[must_use]
    pub const fn raw(self) -> u8 {
        self.0
    }

    /// Both; for constants, where `|` is not to be had.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the flags that are set, in the order of their bits.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        f.write_str(&if names.is_empty() { "-".to_owned() } else { names.join("|") })
    }
}
