//! Frames from one source to one target arrive in the order in which they were sent, whatever their modes
//! and sizes, and however their bytes come in.

use std::collections::BTreeMap;
use std::thread;

use switchboard_protocol::{Frame, Mode, ServiceId};
use switchboard_tests::frames::{direct, hash, id, number_of, numbered, to_class};
use switchboard_tests::{RawNode, RouterBuilder, RouterProcess};

/// A frame that can only go to the one instance of class 5 there is, by a mode that depends on its number.
fn to_the_one(source: ServiceId, target: ServiceId, n: u64, length: usize) -> Frame {
    let payload = numbered(n, length);
    match n % 6 {
        0 => direct(source, target, payload),
        1 => to_class(source, Mode::Master, 5, payload),
        2 => hash(source, 5, n, payload),
        3 => to_class(source, Mode::Random, 5, payload),
        4 => to_class(source, Mode::Broadcast, 5, payload),
        _ => to_class(source, Mode::LeastLoaded, 5, payload),
    }
}

#[track_caller]
fn expect_in_order(target: &mut RawNode, frames: u64) {
    for n in 0..frames {
        assert_eq!(number_of(&target.expect_data().payload), n);
    }
}

#[test]
fn mixed_modes_keep_their_order() {
    const FRAMES: u64 = 60_000;
    let router = RouterProcess::start();
    let mut target = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    let writing = thread::spawn(move || {
        for block in 0..FRAMES / 500 {
            let frame = |n| to_the_one(sender.id(), id("5.1"), n, 8 + (n % 90) as usize);
            let frames: Vec<_> = (block * 500..block * 500 + 500).map(frame).collect();
            sender.send_all(&frames);
        }
        sender
    });
    expect_in_order(&mut target, FRAMES);
    writing.join().expect("all was sent").sync();
}

#[test]
fn large_frames_between_small_ones_keep_their_order() {
    const FRAMES: u64 = 300;
    let length = |n: u64| match n % 25 {
        3 => 300 << 10,
        7 => 64 << 10,
        11 => (1 << 20) + 17,
        19 => 3 << 20,
        24 => 256 << 10,
        _ => 8 + (n % 40) as usize,
    };
    let router = RouterProcess::start();
    let mut target = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    let writing = thread::spawn(move || {
        for n in 0..FRAMES {
            sender.send(&to_the_one(sender.id(), id("5.1"), n, length(n)));
        }
        sender
    });
    for n in 0..FRAMES {
        let payload = target.expect_data().payload;
        assert_eq!(number_of(&payload), n);
        assert_eq!(payload.len(), length(n));
        assert!(payload[8..].iter().all(|byte| *byte == n as u8), "frame {n} is not what was sent");
    }
    writing.join().expect("all was sent").sync();
}

#[test]
fn writes_that_are_split_anywhere_make_the_same_frames() {
    const FRAMES: u64 = 3_000;
    let router = RouterProcess::start();
    let mut target = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    let frames: Vec<Frame> = (0..FRAMES)
        .map(|n| to_the_one(sender.id(), id("5.1"), n, 8 + (n * n % 700) as usize))
        .collect();
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
    let writing = thread::spawn(move || {
        let (mut at, mut chance) = (0, 12_345_u64);
        while at < bytes.len() {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // Mostly a few bytes, sometimes more than a frame.
            let length = match (chance >> 33) % 10 {
                0 => (chance >> 40) % 5_000,
                _ => (chance >> 40) % 40,
            };
            let end = bytes.len().min(at + 1 + length as usize);
            sender.send_bytes(&bytes[at..end]);
            at = end;
        }
        sender
    });
    for frame in &frames {
        assert_eq!(target.expect_data(), *frame);
    }
    writing.join().expect("all was sent").sync();
}

#[test]
fn several_senders_and_receivers_each_see_their_order() {
    const PAIRS: u64 = 4;
    const FRAMES: u64 = 8_000;
    for shards in [1, 3] {
        let router = RouterBuilder::default().shards(shards).start();
        let receivers: Vec<RawNode> =
            (1..=PAIRS).map(|n| router.join(&[&format!("5.{n}")])).collect();
        let senders: Vec<_> = (1..=PAIRS)
            .map(|s| {
                let mut sender = router.join(&[&format!("6.{s}")]);
                thread::spawn(move || {
                    let source = sender.id();
                    for block in 0..FRAMES / 200 {
                        let frames = (block * 200..block * 200 + 200).flat_map(|n| {
                            (1..=PAIRS).map(move |r| {
                                // Large ones take another way through the router.
                                let length = if n % 97 == 0 { 90 << 10 } else { 24 };
                                match n % 2 {
                                    0 => direct(source, id(&format!("5.{r}")), numbered(n, length)),
                                    _ => hash(source, 5, r - 1, numbered(n, length)),
                                }
                            })
                        });
                        sender.send_all(&frames.collect::<Vec<_>>());
                    }
                    sender.sync();
                    sender
                })
            })
            .collect();
        let reading: Vec<_> = receivers
            .into_iter()
            .map(|mut receiver| {
                thread::spawn(move || {
                    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
                    for _ in 0..PAIRS * FRAMES {
                        let frame = receiver.expect_data();
                        let expected = next.entry(frame.header.source).or_default();
                        assert_eq!(number_of(&frame.payload), *expected);
                        *expected += 1;
                    }
                    receiver
                })
            })
            .collect();
        let _receivers: Vec<_> =
            reading.into_iter().map(|one| one.join().expect("in order")).collect();
        let _senders: Vec<_> =
            senders.into_iter().map(|one| one.join().expect("all was sent")).collect();
    }
}

#[test]
fn order_survives_pauses() {
    const FRAMES: u64 = 2_000;
    let router = RouterProcess::with("default_class: {high_water_bytes: 8192}\n");
    let mut target = router.join(&["5.1"]);
    let writing: Vec<_> = (1..=2)
        .map(|s| {
            let mut sender = router.join(&[&format!("6.{s}")]);
            thread::spawn(move || {
                for n in 0..FRAMES {
                    sender.send(&to_the_one(
                        sender.id(),
                        id("5.1"),
                        n,
                        5_000 + (n % 4_000) as usize,
                    ));
                }
                sender
            })
        })
        .collect();
    switchboard_tests::eventually("the senders are paused", || {
        router.metric("switchboard_source_pauses_total", &[]) > 0
    });
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for _ in 0..2 * FRAMES {
        let frame = target.expect_data();
        let expected = next.entry(frame.header.source).or_default();
        assert_eq!(number_of(&frame.payload), *expected);
        *expected += 1;
    }
    writing.into_iter().for_each(|one| one.join().expect("all was sent").sync());
}

#[test]
fn order_survives_a_consumer_that_falls_behind_several_threads() {
    const SENDERS: u64 = 4;
    const FRAMES: u64 = 30_000;
    let router = RouterBuilder::default()
        .shards(4)
        .config("default_class: {high_water_bytes: 8000000, stall_timeout_ms: 60000}\n")
        .start();
    let mut target = router.join(&["5.1"]);
    let writing: Vec<_> = (1..=SENDERS)
        .map(|s| {
            let mut sender = router.join(&[&format!("6.{s}")]);
            thread::spawn(move || {
                for block in 0..FRAMES / 10 {
                    let frame = |n| to_the_one(sender.id(), id("5.1"), n, 500 + (n % 300) as usize);
                    let frames: Vec<_> = (block * 10..block * 10 + 10).map(frame).collect();
                    sender.send_all(&frames);
                }
                sender
            })
        })
        .collect();
    // From here on it is never quite out of what waits, while more is added.
    switchboard_tests::eventually("the senders are paused", || {
        router.metric("switchboard_source_pauses_total", &[]) >= SENDERS
    });
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for _ in 0..SENDERS * FRAMES {
        let frame = target.expect_data();
        let expected = next.entry(frame.header.source).or_default();
        assert_eq!(number_of(&frame.payload), *expected);
        *expected += 1;
    }
    writing.into_iter().for_each(|one| one.join().expect("all was sent").sync());
}

#[test]
fn order_holds_over_a_unix_socket() {
    const FRAMES: u64 = 20_000;
    let scratch = switchboard_tests::scratch::Scratch::new();
    let path = format!("unix:{}", scratch.file("router.sock").display());
    let router = RouterBuilder::default().listen(&path).listen("127.0.0.1:0").start();
    let mut target = router.join(&["5.1"]);
    let mut sender = RawNode::join(&router.listens()[1], &["6.1"]);
    let writing = thread::spawn(move || {
        for block in 0..FRAMES / 500 {
            let frame =
                |n| to_the_one(sender.id(), id("5.1"), n, if n % 333 == 0 { 100_000 } else { 30 });
            let frames: Vec<_> = (block * 500..block * 500 + 500).map(frame).collect();
            sender.send_all(&frames);
        }
        sender
    });
    expect_in_order(&mut target, FRAMES);
    writing.join().expect("all was sent").sync();
}
