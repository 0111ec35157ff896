//! How sessions end, and why handshakes fail, in the words of metrics.

use switchboard_protocol::RefusalCode;

/// How a session ended. Each ends in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionEnd {
    /// The peer closed its side, or its socket failed while it was read.
    Disconnected,
    /// What it sent can't be read.
    Malformed,
    /// It was refused before it was admitted.
    NotAdmitted,
    /// It never said Hello.
    HandshakeTimeout,
    /// Its last id went to a newer incarnation.
    Replaced,
    /// It did not read what was sent to it.
    SlowConsumer,
    /// It missed its heartbeats.
    HeartbeatLost,
    /// The socket failed while it was written to.
    Broken,
    /// The router left.
    Shutdown,
    /// An operator closed it.
    Closed,
}

/// Why a connection was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It was told so, with this code.
    Refused(RefusalCode),
    /// The peer left before it was admitted.
    Disconnected,
    /// An operator closed it before.
    Closed,
    /// The socket failed before anything was read.
    Io,
}

impl SessionEnd {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Disconnected,
        Self::Malformed,
        Self::NotAdmitted,
        Self::HandshakeTimeout,
        Self::Replaced,
        Self::SlowConsumer,
        Self::HeartbeatLost,
        Self::Broken,
        Self::Shutdown,
        Self::Closed,
    ];

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Malformed => "malformed",
            Self::NotAdmitted => "not_admitted",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Replaced => "replaced",
            Self::SlowConsumer => "slow_consumer",
            Self::HeartbeatLost => "heartbeat_lost",
            Self::Broken => "broken",
            Self::Shutdown => "shutdown",
            Self::Closed => "closed",
        }
    }
}

impl HandshakeFailure {
    /// How many there are.
    pub const COUNT: usize = RefusalCode::ALL.len() + 3;

    /// All of them, in the order of their places.
    pub fn all() -> impl Iterator<Item = Self> {
        let refused = RefusalCode::ALL.into_iter().map(Self::Refused);
        refused.chain([Self::Disconnected, Self::Closed, Self::Io])
    }

    /// Its place among all.
    pub(super) fn index(self) -> usize {
        // A router refuses with codes that it names, so each has a place.
        Self::all().position(|known| known == self).unwrap_or(Self::COUNT - 1)
    }

    /// The word for it in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused(code) => code.name(),
            Self::Disconnected => "disconnected",
            Self::Closed => "closed",
            Self::Io => "io",
        }
    }
}
