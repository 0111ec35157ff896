//! The codec for `tokio_util::codec::Framed`, which nodes read and write through.

use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::frame::Frame;
use crate::header::HeaderError;
use crate::limits::DEFAULT_MAX_FRAME;

/// Reads and writes whole frames.
#[derive(Debug, Clone)]
pub struct FrameCodec {
    max_frame: u32,
}

/// Why a stream of frames ended.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes are not frames.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The frame to send is longer than the other end takes.
    #[error("frame of {length} bytes is over the limit of {max}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        max: u32,
    },
}

impl FrameCodec {
    /// A codec that takes and sends frames of at most `max_frame` bytes.
    #[must_use]
    pub fn new(max_frame: u32) -> Self {
        Self { max_frame }
    }

    /// Changes the limit, as Welcome does.
    pub fn set_max_frame(&mut self, max_frame: u32) {
        self.max_frame = max_frame;
    }
}

impl Default for FrameCodec {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_FRAME)
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        Ok(Frame::decode(bytes, self.max_frame)?)
    }
}

impl Encoder<Frame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: Frame, to: &mut BytesMut) -> Result<(), CodecError> {
        let length = frame.len();
        if length > self.max_frame as usize {
            return Err(CodecError::TooLarge { length, max: self.max_frame });
        }
        to.reserve(length);
        frame.encode(to);
        Ok(())
    }
}
