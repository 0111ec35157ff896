//! A whole frame in memory, for nodes and tests. A router never makes one of what it forwards.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::header::{FixedHeader, Header, HeaderError};

/// A header and the payload behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Everything before the payload.
    pub header: Header,
    /// What the nodes say to each other; opaque to routers.
    pub payload: Bytes,
}

impl Frame {
    /// A frame.
    #[must_use]
    pub fn new(header: Header, payload: impl Into<Bytes>) -> Self {
        Self { header, payload: payload.into() }
    }

    /// Takes one frame off the front of `bytes`; `None` while it is not all there.
    ///
    /// Nothing is reserved for a frame before its header has passed every check, so a peer that
    /// announces a length can't make the reader allocate more than `max_frame`.
    pub fn decode(bytes: &mut BytesMut, max_frame: u32) -> Result<Option<Self>, HeaderError> {
        let Some(fixed) = FixedHeader::parse(bytes, max_frame)? else {
            return Ok(None);
        };
        let length = fixed.length as usize;
        if bytes.len() < length {
            make_room(bytes, length);
            return Ok(None);
        }
        let mut frame = bytes.split_to(length);
        // A checked header fits its frame, so `read` finds every part of it.
        let Some(header) = Header::read(&fixed, &frame) else { return Ok(None) };
        frame.advance(header.len());
        Ok(Some(Self { header, payload: frame.freeze() }))
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, to: &mut impl BufMut) {
        self.header.write(self.payload.len(), to);
        to.put_slice(&self.payload);
    }

    /// The whole frame in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    /// Never: a frame has at least its header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The frame's bytes, on their own.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len());
        self.encode(&mut bytes);
        bytes.freeze()
    }
}

/// Makes `bytes` large enough for the frame of `length` bytes that starts in it.
///
/// Not with `reserve`: where a short frame was taken off the front and a long one has begun behind
/// it, that doubles the buffer, which then keeps twice the longest frame or more.
fn make_room(bytes: &mut BytesMut, length: usize) {
    if !bytes.try_reclaim(length - bytes.len()) {
        let mut room = BytesMut::with_capacity(length);
        room.extend_from_slice(bytes);
        *bytes = room;
    }
}
