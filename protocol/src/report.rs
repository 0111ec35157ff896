//! What became of a frame, from the router to its sender: the body of a frame of kind 17.
//!
//! ```text
//!  0      1        4         8
//! +------+--------+---------+ - - - - - - - - - - - - - - - -
//! |reason| zero   | targets | the header of the frame, 16..=56
//! +------+--------+---------+ - - - - - - - - - - - - - - - -
//!   u8    3 bytes    u32
//! ```

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::frame::Frame;
use crate::header::{FixedHeader, Header};
use crate::kind::Kind;

/// Why a frame was not delivered, or that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It went to `targets` sessions. Only a broadcast CALL is told so.
    Delivered,
    /// The class has no live instance.
    NoInstance,
    /// No session holds the id.
    NotFound,
    /// The fixed slot that the key leads to is empty.
    EmptySlot,
    /// The target's mailbox is full, and its class drops what is new.
    Full,
    /// It left a full mailbox to make room.
    Evicted,
    /// It waited in the mailbox of an instance that left.
    TargetLost,
    /// It is longer than this router takes.
    TooLarge,
    /// It waited longer than it may.
    Expired,
    /// A reason of a later version.
    Other(u8),
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Why.
    pub reason: Reason,
    /// How many sessions it went to.
    pub targets: u32,
    /// The frame's own header, by which the sender knows it.
    pub header: Header,
    /// The frame's own length.
    pub length: u32,
}

impl Reason {
    /// Every reason that this version names.
    pub const ALL: [Self; 9] = [
        Self::Delivered,
        Self::NoInstance,
        Self::NotFound,
        Self::EmptySlot,
        Self::Full,
        Self::Evicted,
        Self::TargetLost,
        Self::TooLarge,
        Self::Expired,
    ];

    /// The number on the wire.
    #[must_use]
    pub const fn raw(self) -> u8 {
        match self {
            Self::Delivered => 0,
            Self::NoInstance => 1,
            Self::NotFound => 2,
            Self::EmptySlot => 3,
            Self::Full => 4,
            Self::Evicted => 5,
            Self::TargetLost => 6,
            Self::TooLarge => 7,
            Self::Expired => 8,
            Self::Other(raw) => raw,
        }
    }

    /// The reason with this number.
    #[must_use]
    pub fn from_raw(raw: u8) -> Self {
        Self::ALL.into_iter().find(|reason| reason.raw() == raw).unwrap_or(Self::Other(raw))
    }

    /// The word for it in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NoInstance => "no_instance",
            Self::NotFound => "not_found",
            Self::EmptySlot => "empty_slot",
            Self::Full => "full",
            Self::Evicted => "evicted",
            Self::TargetLost => "target_lost",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::Other(_) => "other",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(raw) => write!(f, "reason {raw}"),
            known => f.write_str(known.name()),
        }
    }
}

impl Report {
    /// The report about the frame at the start of `frame`, of which at least the header is there.
    #[must_use]
    pub fn about(reason: Reason, targets: u32, fixed: &FixedHeader, frame: &[u8]) -> Option<Self> {
        let header = Header::read(fixed, frame)?;
        Some(Self { reason, targets, header, length: fixed.length })
    }

    /// As a frame to the sender.
    #[must_use]
    pub fn to_frame(&self) -> Frame {
        let mut body = BytesMut::with_capacity(BODY_PREFIX + self.header.len());
        body.extend_from_slice(&[self.reason.raw(), 0, 0, 0]);
        body.extend_from_slice(&self.targets.to_le_bytes());
        // The header goes back as it came: its length field is that of the whole frame.
        let payload_len = (self.length as usize).saturating_sub(self.header.len());
        self.header.write(payload_len, &mut body);
        Frame::new(Header::new(Kind::Report, 0, self.header.source), body.freeze())
    }

    /// Reads the body of a report frame; `None` if it is not one.
    #[must_use]
    pub fn decode(body: &Bytes) -> Option<Self> {
        let (prefix, frame) = body.split_first_chunk::<BODY_PREFIX>()?;
        let targets = u32::from_le_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
        let fixed = FixedHeader::parse(frame, u32::MAX).ok()??;
        Self::about(Reason::from_raw(prefix[0]), targets, &fixed, frame)
    }
}

const BODY_PREFIX: usize = 8;
