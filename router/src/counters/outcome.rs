//! Where a frame may end, and the words for it in metrics.

use switchboard_protocol::Reason;

/// Where a frame, or one copy of a broadcast, ended. Each ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// Written to the target's socket.
    Delivered,
    /// The class has no live instance.
    NoInstance,
    /// No session holds the id.
    NotFound,
    /// The fixed slot is empty.
    EmptySlot,
    /// The mailbox was full.
    Full,
    /// It made room for a newer one.
    Evicted,
    /// The target's session ended before it was written.
    TargetLost,
    /// The sender's session ended while the frame waited for a full mailbox.
    SourceLost,
    /// Longer than the limit.
    TooLarge,
    /// Its source is not an id of the session that sent it.
    Refused,
    /// It waited for an instance for as long as it may.
    Expired,
}

impl Outcome {
    /// All outcomes, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Delivered,
        Self::NoInstance,
        Self::NotFound,
        Self::EmptySlot,
        Self::Full,
        Self::Evicted,
        Self::TargetLost,
        Self::SourceLost,
        Self::TooLarge,
        Self::Refused,
        Self::Expired,
    ];

    /// Those of frames that did not reach their target.
    pub fn losses() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|outcome| *outcome != Self::Delivered)
    }

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NoInstance => "no_instance",
            Self::NotFound => "not_found",
            Self::EmptySlot => "empty_slot",
            Self::Full => "full",
            Self::Evicted => "evicted",
            Self::TargetLost => "target_lost",
            Self::SourceLost => "source_lost",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

impl From<Reason> for Outcome {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Delivered => Self::Delivered,
            Reason::NoInstance => Self::NoInstance,
            Reason::EmptySlot => Self::EmptySlot,
            Reason::Full => Self::Full,
            Reason::Evicted => Self::Evicted,
            Reason::TargetLost => Self::TargetLost,
            Reason::TooLarge => Self::TooLarge,
            Reason::Expired => Self::Expired,
            _ => Self::NotFound,
        }
    }
}
