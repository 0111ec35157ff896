//! Why a router refuses something. The number travels in Refused; the text beside it is for people.

use std::fmt;

/// The code in a Refused message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// The stream can't be read as frames from some offset on; the session ends.
    Malformed,
    /// The two ends share no protocol version; the session ends.
    Version,
    /// Something came before Hello; the session ends.
    HandshakeExpected,
    /// No Hello came in time; the session ends.
    HandshakeTimeout,
    /// No class has this name or number here.
    UnknownClass,
    /// A service id is 0, or out of range.
    InvalidId,
    /// This session registered the id before.
    AlreadyRegistered,
    /// A newer incarnation holds the id; do not come back with this one.
    OutdatedIncarnation,
    /// A frame's source is not an id of this session; the frame is dropped.
    NotRegistered,
    /// A frame is longer than this router takes; the frame is skipped.
    FrameTooLarge,
    /// A control message has a name that this router does not know.
    UnknownMessage,
    /// A control message can't be read, or can't be meant as it is.
    InvalidMessage,
    /// More than this router allows to one session, or to all.
    LimitExceeded,
    /// The router is about to leave.
    Draining,
    /// Another node holds the id that this one was assigned by another router.
    IdTaken,
    /// A token is required and was not shown, or nobody knows the one that was; the session ends.
    Unauthorized,
    /// The token that this session showed does not allow what it asks for.
    NotAllowed,
    /// A code of a later version.
    Other(u16),
}

impl RefusalCode {
    /// Every code that this version names.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::Version,
        Self::HandshakeExpected,
        Self::HandshakeTimeout,
        Self::UnknownClass,
        Self::InvalidId,
        Self::AlreadyRegistered,
        Self::OutdatedIncarnation,
        Self::NotRegistered,
        Self::FrameTooLarge,
        Self::UnknownMessage,
        Self::InvalidMessage,
        Self::LimitExceeded,
        Self::Draining,
        Self::IdTaken,
        Self::Unauthorized,
        Self::NotAllowed,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn raw(self) -> u16 {
        match self {
            Self::Malformed => 1,
            Self::Version => 2,
            Self::HandshakeExpected => 3,
            Self::HandshakeTimeout => 4,
            Self::UnknownClass => 5,
            Self::InvalidId => 6,
            Self::AlreadyRegistered => 7,
            Self::OutdatedIncarnation => 8,
            Self::NotRegistered => 9,
            Self::FrameTooLarge => 10,
            Self::UnknownMessage => 11,
            Self::InvalidMessage => 12,
            Self::LimitExceeded => 13,
            Self::Draining => 14,
            Self::IdTaken => 15,
            Self::Unauthorized => 16,
            Self::NotAllowed => 17,
            Self::Other(raw) => raw,
        }
    }

    /// The code with this number.
    #[must_use]
    pub fn from_raw(raw: u16) -> Self {
        Self::ALL.into_iter().find(|code| code.raw() == raw).unwrap_or(Self::Other(raw))
    }

    /// The word for it in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::HandshakeExpected => "handshake_expected",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::UnknownClass => "unknown_class",
            Self::InvalidId => "invalid_id",
            Self::AlreadyRegistered => "already_registered",
            Self::OutdatedIncarnation => "outdated_incarnation",
            Self::NotRegistered => "not_registered",
            Self::FrameTooLarge => "frame_too_large",
            Self::UnknownMessage => "unknown_message",
            Self::InvalidMessage => "invalid_message",
            Self::LimitExceeded => "limit_exceeded",
            Self::Draining => "draining",
            Self::IdTaken => "id_taken",
            Self::Unauthorized => "unauthorized",
            Self::NotAllowed => "not_allowed",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(raw) => write!(f, "code {raw}"),
            known => f.write_str(known.name()),
        }
    }
}
