//! A peer that announces much can't make the reader allocate much. The one test here owns the
//! process, so that the allocator below counts nothing but what it does.

// The trait is unsafe to implement; every call goes on to the system's allocator as it came.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use switchboard_protocol::{Control, Frame, FrameCodec, Report};
use tokio_util::codec::Decoder;

struct Counting;

/// Bytes that are allocated now, and the most that were since [`most_allocated`] began.
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn grown(by: usize) {
    let now = NOW.fetch_add(by, Ordering::Relaxed) + by;
    MOST.fetch_max(now, Ordering::Relaxed);
}

fn shrunk(by: usize) {
    NOW.fetch_sub(by, Ordering::Relaxed);
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrunk(layout.size());
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may exist at once.
        grown(size);
        shrunk(layout.size());
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns, and how far the allocated bytes rose above those at its start.
fn most_allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let result = work();
    (result, MOST.load(Ordering::Relaxed) - before)
}

const MAX_FRAME: u32 = 1 << 20;

/// Bookkeeping, error texts, and the copy of what has arrived.
const SLACK: usize = 4 << 10;

/// A list's announced length makes serde reserve this much at once, and a message has two lists.
const LISTS: usize = 2 << 20;

#[test]
fn what_a_peer_announces_does_not_decide_what_is_allocated() {
    a_header_reserves_at_most_its_frame();
    a_stream_keeps_its_buffer_within_the_longest_frame();
    a_control_message_reserves_by_what_has_arrived();
    a_report_reserves_nothing();
}

fn a_header_reserves_at_most_its_frame() {
    let lengths = (0..32).flat_map(|bit| [1u32 << bit, (1 << bit) - 1, (1 << bit) + 1]);
    for length in lengths.chain([MAX_FRAME - 1, MAX_FRAME, MAX_FRAME + 1, u32::MAX]) {
        for kind in [1, 3, 16, 17, 18, 255] {
            let mut bytes = header(length, kind);
            let (decoded, most) = most_allocated(|| Frame::decode(&mut bytes, MAX_FRAME).is_ok());
            let allowed = if decoded && length <= MAX_FRAME { length as usize } else { 0 };
            assert!(most <= allowed + SLACK, "{most} bytes for length {length}, kind {kind}");
        }
    }
}

/// A short frame, and behind it the start of a long one: `BytesMut::reserve` doubles such a buffer.
fn a_stream_keeps_its_buffer_within_the_longest_frame() {
    let lengths = (0..200_u32).map(|turn| if turn % 2 == 0 { 100 * turn + 16 } else { MAX_FRAME });
    let mut stream = BytesMut::new();
    for length in lengths.clone() {
        let start = stream.len();
        stream.put_slice(&header(length, 1));
        stream.resize(start + length as usize, 0);
    }
    let mut codec = FrameCodec::new(MAX_FRAME);
    let mut buffer = BytesMut::with_capacity(8 << 10);
    for length in lengths {
        loop {
            let held = buffer.len();
            let (frame, most) = most_allocated(|| codec.decode(&mut buffer).expect("well-formed"));
            let limit = MAX_FRAME as usize;
            assert!(most <= limit + SLACK, "{most} bytes for {length} with {held} there");
            assert!(buffer.capacity() <= limit + SLACK, "the buffer has {}", buffer.capacity());
            if let Some(frame) = frame {
                assert_eq!(frame.len(), length as usize);
                break;
            }
            // As `Framed` reads a socket that always has more: into all the room there is.
            buffer.reserve(1);
            let room = stream.len().min(buffer.capacity() - buffer.len());
            buffer.put_slice(&stream.split_to(room));
        }
    }
}

fn a_control_message_reserves_by_what_has_arrived() {
    let hostile: [(&str, &[u8]); 10] = [
        ("text of 4 GiB as the name", b"\x92\xdb\xff\xff\xff\xff"),
        ("text of 4 GiB", b"\x92\xa5hello\x81\xa5token\xdb\xff\xff\xff\xff"),
        ("list of 4 G services", b"\x92\xa5hello\x81\xa8services\xdd\xff\xff\xff\xff\x80"),
        ("list of 4 G ids", b"\x92\xa7welcome\x81\xa3ids\xdd\xff\xff\xff\xff\x01"),
        ("map of 4 G fields", b"\x92\xa5hello\xdf\xff\xff\xff\xff"),
        ("map of 4 G classes", b"\x92\xa7welcome\x81\xa7classes\xdf\xff\xff\xff\xff\x05\xa1a"),
        ("unknown bytes of 4 GiB", b"\x92\xa4ping\x81\xa1x\xc6\xff\xff\xff\xff"),
        ("unknown extension of 4 GiB", b"\x92\xa4ping\x81\xa1x\xc9\xff\xff\xff\xff\x01"),
        ("unknown list of 4 G", b"\x92\xa4ping\x81\xa1x\xdd\xff\xff\xff\xff\xc0"),
        (
            "lists of 4 G in both of its lists",
            b"\x92\xa5event\x83\xa5class\x05\xa4left\x90\xa6joined\xdd\xff\xff\xff\xff",
        ),
    ];
    for (what, body) in hostile {
        let (decoded, most) = most_allocated(|| Control::decode(body).is_ok());
        assert!(!decoded, "{what} was taken for a message");
        assert!(most <= LISTS + SLACK, "{most} bytes for {what}");
    }
    for (what, container) in [("lists", b"\x91".as_slice()), ("maps", b"\x81\xa1x")] {
        let body = [b"\x92\xa4ping\x81\xa1x", container.repeat(20_000).as_slice()].concat();
        let (decoded, most) = most_allocated(|| Control::decode(&body).is_ok());
        assert!(!decoded, "nested {what} were taken for a message");
        assert!(most <= body.len() + SLACK, "{most} bytes for nested {what}");
    }
}

fn a_report_reserves_nothing() {
    let body = Bytes::from([b"\x01\0\0\0\xff\xff\xff\xff", &header(u32::MAX, 1)[..]].concat());
    let (report, most) = most_allocated(|| Report::decode(&body));
    assert_eq!(report.expect("well-formed").length, u32::MAX);
    assert_eq!(most, 0);
}

/// The first 16 bytes of a frame to 1.1, which may be anything.
fn header(length: u32, kind: u8) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u32_le(length);
    bytes.put_slice(&[kind, 0, 0, 0]);
    bytes.put_u32_le(0x0200_0001);
    bytes.put_u32_le(if kind == 1 { 0x0100_0001 } else { 0x0100_0000 });
    bytes
}
