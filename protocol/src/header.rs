//! The header of a frame. All integers are little-endian.
//!
//! ```text
//!  0        4    5    6      8        12       16
//! +--------+----+----+------+--------+--------+ - - - + - - - - - + - - - - - - - - - + - - - -
//! | length |kind|flag| ttl  | source | target | [key] | [call id] | [trace id, span]  | payload
//! +--------+----+----+------+--------+--------+ - - - + - - - - - + - - - - - - - - - + - - - -
//!    u32    u8   u8    u16     u32      u32      u64       u64          16 + 8 bytes
//! ```
//!
//! [`FixedHeader`] is the first 16 bytes, read in place: all that a router looks at on the way.
//! [`Header`] is the whole of it, for nodes. One function, [`FixedHeader::parse`], decides what is
//! well-formed, and both go through it.

use std::time::Duration;

use bytes::BufMut;

use crate::flags::Flags;
use crate::id::{Class, ServiceId};
use crate::kind::{Kind, Mode};
use crate::limits::{FIXED_HEADER, TTL_UNIT};

/// The first 16 bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedHeader {
    /// The whole frame in bytes, this field included.
    pub length: u32,
    /// What it is.
    pub kind: Kind,
    /// What it asks for.
    pub flags: Flags,
    /// How long it may wait, in units of 10 ms; 0 is the class's default.
    pub ttl: u16,
    /// The [`ServiceId`] of the sender; 0 from a router.
    pub source: u32,
    /// A [`ServiceId`] for Direct, else a class shifted to its place; 0 in control frames.
    pub target: u32,
}

/// Everything before the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// What it asks for.
    pub flags: Flags,
    /// How long it may wait, in units of 10 ms; 0 is the class's default.
    pub ttl: u16,
    /// The [`ServiceId`] of the sender; 0 from a router.
    pub source: u32,
    /// A [`ServiceId`] for Direct, else a class shifted to its place.
    pub target: u32,
    /// Written with kind Hash, and only then.
    pub key: u64,
    /// Written with CALL or REPLY, and only then.
    pub call_id: u64,
    /// Written with TRACE, and only then.
    pub trace: Trace,
}

/// Where a frame belongs in a distributed trace (W3C sizes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trace {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span within it that sent the frame.
    pub span_id: [u8; 8],
}

/// Why bytes are not a frame. After any of these but [`HeaderError::TooLarge`] the stream can't be
/// trusted any more: where the next frame starts is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The length field is less than a header.
    #[error("frame length {0} is below the 16 bytes of a header")]
    LengthBelowHeader(u32),
    /// The length field leaves no room for what kind and flags announce.
    #[error("frame length {length} is below the {needed} bytes that its kind and flags announce")]
    LengthBelowExtension {
        /// What the frame says.
        length: u32,
        /// The shortest that it could be.
        needed: u32,
    },
    /// No kind has this byte.
    #[error("unknown frame kind {0}: a node sends 1 to 6, and 16")]
    UnknownKind(u8),
    /// Flags that exclude each other, or that this kind does not have.
    #[error("flags {flags:?} do not go with kind {}: {why}", kind.raw())]
    Conflict {
        /// The kind.
        kind: Kind,
        /// The flags.
        flags: Flags,
        /// What rule they break.
        why: &'static str,
    },
    /// The target is neither a service id (Direct) nor a bare class (other modes).
    #[error("target {target:#010x} does not go with mode {mode}: {why}")]
    Target {
        /// The mode.
        mode: Mode,
        /// The target field.
        target: u32,
        /// What rule it breaks.
        why: &'static str,
    },
    /// Well-formed, but longer than allowed. The reader may skip `header.length` bytes and go on.
    #[error("frame of {} bytes is over the limit of {max}", header.length)]
    TooLarge {
        /// Its header.
        header: FixedHeader,
        /// The limit.
        max: u32,
    },
}

impl FixedHeader {
    /// Reads and checks the header at the start of `bytes`; `None` while fewer than 16 are there.
    ///
    /// `max_frame` is the longest frame that the reader takes.
    #[inline]
    pub fn parse(bytes: &[u8], max_frame: u32) -> Result<Option<Self>, HeaderError> {
        let Some(fixed) = bytes.first_chunk::<FIXED_HEADER>() else {
            return Ok(None);
        };
        let word = |at: usize| {
            u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let length = word(0);
        if length < FIXED_HEADER as u32 {
            return Err(HeaderError::LengthBelowHeader(length));
        }
        let kind = Kind::from_raw(fixed[4]).ok_or(HeaderError::UnknownKind(fixed[4]))?;
        let header = Self {
            length,
            kind,
            flags: Flags::from_raw(fixed[5]),
            ttl: u16::from_le_bytes([fixed[6], fixed[7]]),
            source: word(8),
            target: word(12),
        };
        header.check_flags()?;
        header.check_target()?;
        let needed = header.header_len() as u32;
        if length < needed {
            return Err(HeaderError::LengthBelowExtension { length, needed });
        }
        if length > max_frame {
            return Err(HeaderError::TooLarge { header, max: max_frame });
        }
        Ok(Some(header))
    }

    /// How many bytes come before the payload.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        FIXED_HEADER + extension_len(self.kind, self.flags)
    }

    /// The hash key of `frame`, whose fixed header this is; `None` unless its kind is Hash.
    #[inline]
    #[must_use]
    pub fn key(&self, frame: &[u8]) -> Option<u64> {
        if self.kind != Kind::Data(Mode::Hash) {
            return None;
        }
        let key = frame.get(FIXED_HEADER..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*key))
    }

    /// The class that the frame is for.
    #[inline]
    #[must_use]
    pub fn target_class(&self) -> Option<Class> {
        Class::of_target(self.target)
    }

    /// The longest that the frame may wait, if it says.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        (self.ttl != 0).then(|| TTL_UNIT * u32::from(self.ttl))
    }

    #[inline]
    fn check_flags(&self) -> Result<(), HeaderError> {
        let (kind, flags) = (self.kind, self.flags);
        if flags == Flags::NONE {
            return Ok(());
        }
        let conflict = |why| Err(HeaderError::Conflict { kind, flags, why });
        if !matches!(kind, Kind::Data(_)) {
            return conflict("only data frames have flags");
        }
        if flags.contains(Flags::CALL | Flags::REPLY) {
            return conflict("a frame is a call or a reply");
        }
        if flags.contains(Flags::ERROR) && !flags.contains(Flags::REPLY) {
            return conflict("only a reply is an error");
        }
        if flags.contains(Flags::REPLY) && kind != Kind::Data(Mode::Direct) {
            return conflict("a reply is direct");
        }
        if flags.contains(Flags::ECHO) && kind != Kind::Data(Mode::Broadcast) {
            return conflict("only a broadcast has an echo");
        }
        if flags.contains(Flags::IDEMPOTENT) && !flags.contains(Flags::CALL) {
            return conflict("only a call is idempotent");
        }
        Ok(())
    }

    #[inline]
    fn check_target(&self) -> Result<(), HeaderError> {
        let Kind::Data(mode) = self.kind else { return Ok(()) };
        let target = self.target;
        let refuse = |why| Err(HeaderError::Target { mode, target, why });
        if target >> 24 == 0 {
            return refuse("its class is 0");
        }
        match (mode, target & 0x00ff_ffff) {
            (Mode::Direct, 0) => refuse("its instance is 0"),
            (Mode::Direct, _) | (_, 0) => Ok(()),
            _ => refuse("its instance is not 0"),
        }
    }
}

impl Header {
    /// A header with nothing optional.
    #[must_use]
    pub fn new(kind: Kind, source: u32, target: u32) -> Self {
        Self {
            kind,
            flags: Flags::NONE,
            ttl: 0,
            source,
            target,
            key: 0,
            call_id: 0,
            trace: Trace::default(),
        }
    }

    /// A data frame from `source` to one instance.
    #[must_use]
    pub fn direct(source: ServiceId, target: ServiceId) -> Self {
        Self::new(Kind::Data(Mode::Direct), source.raw(), target.raw())
    }

    /// A data frame from `source` to a class. The mode is not Direct.
    #[must_use]
    pub fn to_class(source: ServiceId, mode: Mode, class: Class) -> Self {
        debug_assert_ne!(mode, Mode::Direct, "Direct takes an instance");
        Self::new(Kind::Data(mode), source.raw(), class.as_target())
    }

    /// How many bytes come before the payload.
    #[must_use]
    pub fn len(&self) -> usize {
        FIXED_HEADER + extension_len(self.kind, self.flags)
    }

    /// Never: a header has at least 16 bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Reads what [`FixedHeader::parse`] has approved. `frame` holds at least the whole header.
    #[must_use]
    pub fn read(fixed: &FixedHeader, frame: &[u8]) -> Option<Self> {
        let mut header = Self {
            kind: fixed.kind,
            flags: fixed.flags,
            ttl: fixed.ttl,
            ..Self::new(fixed.kind, fixed.source, fixed.target)
        };
        let mut rest = frame.get(FIXED_HEADER..)?;
        if fixed.kind == Kind::Data(Mode::Hash) {
            header.key = u64::from_le_bytes(*take(&mut rest)?);
        }
        if fixed.flags.intersects(Flags::CALL | Flags::REPLY) {
            header.call_id = u64::from_le_bytes(*take(&mut rest)?);
        }
        if fixed.flags.contains(Flags::TRACE) {
            header.trace = Trace { trace_id: *take(&mut rest)?, span_id: *take(&mut rest)? };
        }
        Some(header)
    }

    /// Appends the header of a frame with `payload_len` bytes behind it.
    pub fn write(&self, payload_len: usize, to: &mut impl BufMut) {
        to.put_u32_le((self.len() + payload_len) as u32);
        to.put_u8(self.kind.raw());
        to.put_u8(self.flags.raw());
        to.put_u16_le(self.ttl);
        to.put_u32_le(self.source);
        to.put_u32_le(self.target);
        if self.kind == Kind::Data(Mode::Hash) {
            to.put_u64_le(self.key);
        }
        if self.flags.intersects(Flags::CALL | Flags::REPLY) {
            to.put_u64_le(self.call_id);
        }
        if self.flags.contains(Flags::TRACE) {
            to.put_slice(&self.trace.trace_id);
            to.put_slice(&self.trace.span_id);
        }
    }
}

#[inline]
fn extension_len(kind: Kind, flags: Flags) -> usize {
    let key = if kind == Kind::Data(Mode::Hash) { 8 } else { 0 };
    let call_id = if flags.intersects(Flags::CALL | Flags::REPLY) { 8 } else { 0 };
    let trace = if flags.contains(Flags::TRACE) { 24 } else { 0 };
    key + call_id + trace
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}
