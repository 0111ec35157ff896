//! What must hold for any bytes at all. The fuzz target and the seeded test in `tests/` both
//! include this file, so that what the fuzzer checks is checked by every test run too.

use bytes::{Buf, BytesMut};
use switchboard_protocol::codec::CodecError;
use switchboard_protocol::{Control, FixedHeader, Frame, FrameCodec, HeaderError, Kind, Report};
use tokio_util::codec::Decoder;

/// Small, so that inputs of a fuzzer's size reach the limit.
const MAX_FRAME: u32 = 1024;

/// Reads `data` as a stream of frames, and as each kind of body.
pub(crate) fn decode(data: &[u8]) {
    let whole = frames(data, data.len().max(1));
    // The first byte chooses how the stream is cut; the frames must not depend on it.
    let cut = data.first().map_or(1, |byte| usize::from(*byte) % 23 + 1);
    assert_eq!(frames(data, cut), whole, "cut into {cut}");

    control(data);
    report(data);
    for frame in whole.0 {
        match frame.header.kind {
            Kind::Control => control(&frame.payload),
            Kind::Report => report(&frame.payload),
            Kind::Data(_) | Kind::Relay => {}
        }
    }
}

/// The frames in `data`, which arrives in pieces of `cut` bytes, and how it ended: an error, or
/// how many bytes are left. Oversized frames are skipped, as a router does.
fn frames(data: &[u8], cut: usize) -> (Vec<Frame>, Result<usize, HeaderError>) {
    let mut codec = FrameCodec::new(MAX_FRAME);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut skip = 0;
    for piece in data.chunks(cut) {
        buffer.extend_from_slice(piece);
        loop {
            let skipped = skip.min(buffer.len());
            buffer.advance(skipped);
            skip -= skipped;
            if skip > 0 {
                break;
            }
            match next(&mut codec, &mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(HeaderError::TooLarge { header, .. }) => skip = header.length as usize,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(buffer.len() + skip))
}

/// One step of the codec, held against the header that is read in place.
fn next(codec: &mut FrameCodec, buffer: &mut BytesMut) -> Result<Option<Frame>, HeaderError> {
    let before = buffer.clone();
    let parsed = FixedHeader::parse(&before, MAX_FRAME);
    let decoded = match codec.decode(buffer) {
        Ok(decoded) => Ok(decoded),
        Err(CodecError::Header(error)) => Err(error),
        Err(other) => panic!("{other} while reading from memory"),
    };
    match (&parsed, &decoded) {
        (Ok(Some(fixed)), Ok(Some(frame))) => {
            let length = fixed.length as usize;
            assert_eq!(frame.to_bytes(), before[..length], "written as it was read");
            assert_eq!(buffer, &before[length..], "one frame is taken, and no more");
            assert_eq!(fixed.header_len(), frame.header.len());
            assert_eq!(fixed.key(&before).unwrap_or(0), frame.header.key);
            assert_eq!(
                (fixed.kind, fixed.flags, fixed.ttl, fixed.source, fixed.target),
                (
                    frame.header.kind,
                    frame.header.flags,
                    frame.header.ttl,
                    frame.header.source,
                    frame.header.target
                )
            );
        }
        (Ok(Some(fixed)), Ok(None)) => {
            assert!(before.len() < fixed.length as usize, "a whole frame was not taken");
            assert_eq!(buffer, &before, "an unfinished frame stays where it is");
        }
        (Ok(None), Ok(None)) => assert!(before.len() < 16),
        (Err(one), Err(other)) => {
            assert_eq!(one, other);
            assert_eq!(buffer, &before, "what is refused stays where it is");
            assert!(!one.to_string().is_empty());
        }
        _ => panic!("the header says {parsed:?}, the codec {decoded:?}"),
    }
    decoded
}

fn control(body: &[u8]) {
    match Control::decode(body) {
        Ok(message) => {
            let written = message.encode();
            assert_eq!(Control::decode(&written).as_ref(), Ok(&message), "reads what it wrote");
            assert_eq!(message.to_frame().payload, written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn report(body: &[u8]) {
    let Some(report) = Report::decode(&body.to_vec().into()) else { return };
    let frame = report.to_frame();
    assert_eq!(Report::decode(&frame.payload), Some(report), "reads what it wrote");
    // All but the zero bytes of the prefix and what follows the header.
    assert_eq!(frame.payload[8..], body[8..frame.payload.len()]);
}
