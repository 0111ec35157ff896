//! Much at once: what a peer may ask for in one read, or many peers of one mailbox, costs them and not the
//! others.

use std::thread;
use std::time::{Duration, Instant};

use switchboard_protocol::control::{Hello, Ping, Watch};
use switchboard_protocol::{Control, Mode};
use switchboard_tests::frames::{class, hello, number_of, numbered, to_class};
use switchboard_tests::{Incoming, RouterProcess, eventually};

/// The control messages that a node has been told.
fn told(node: &switchboard_tests::RawNode) -> impl Iterator<Item = &Control> {
    node.inbox().filter_map(|incoming| match incoming {
        Incoming::Control(message) => Some(message),
        _ => None,
    })
}

#[test]
fn a_class_named_many_times_in_hello_is_pictured_once() {
    let router = RouterProcess::start();
    let _members: Vec<_> = (0..50).map(|_| router.join(&["5.0"])).collect();
    let mut node = router.connect();
    let watch = vec![class(5); 50_000];
    node.hello(Hello { watch, ..hello(&["6.1"]) });
    node.sync();
    let pictures = told(&node).filter(|message| match message {
        Control::Event(event) => event.snapshot && event.class == class(5),
        _ => false,
    });
    assert_eq!(pictures.count(), 1);
}

#[test]
fn a_flood_of_watches_leaves_the_router_to_the_others() {
    let router = RouterProcess::start();
    let _members: Vec<_> = (0..200).map(|_| router.join(&["5.0"])).collect();
    let mut flooder = router.join(&["6.1"]);
    let watch = Control::Watch(Watch::of(class(5))).to_frame().to_bytes();
    let before = router.resident_bytes();
    // It does not read the pictures, so it is stopped, and the others are not.
    flooder.send_until_stuck(&watch.repeat(20_000), Duration::from_millis(200));
    let mut other = router.join(&["7.1"]);
    other.sync();
    assert!(router.resident_bytes() < before + (64 << 20));
}

#[test]
fn a_hundred_thousand_pings_in_a_row_are_all_answered() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let mut writer = node.other_half();
    let pings: Vec<u8> = (1..=100_000_u64)
        .flat_map(|nonce| Control::Ping(Ping { nonce }).to_frame().to_bytes())
        .collect();
    let start = Instant::now();
    let sender = thread::spawn(move || writer.send_bytes(&pings));
    let mut next = 1;
    while next <= 100_000 {
        node.expect("the pong of this ping", |incoming| match incoming {
            Incoming::Control(Control::Pong(pong)) if pong.nonce == next => Some(()),
            _ => None,
        });
        next += 1;
    }
    sender.join().unwrap();
    // Were the rest of a read moved for each of them, it would be minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn more_broadcasts_than_a_batch_holds_reach_everyone_in_order() {
    let router = RouterProcess::start();
    let mut members: Vec<_> = (0..300).map(|_| router.join(&["5.0"])).collect();
    let mut sender = router.join(&["6.1"]);
    // A batch holds 64 MiB of copies, and a full read of 256 KiB makes 75: the rest of it waits for another turn.
    const BROADCASTS: u64 = 160;
    let frames: Vec<_> = (0..BROADCASTS)
        .map(|n| to_class(sender.id(), Mode::Broadcast, 5, numbered(n, 4 << 10)))
        .collect();
    sender.send_all(&frames);
    for member in &mut members {
        for n in 0..BROADCASTS {
            assert_eq!(number_of(&member.expect_data().payload), n);
        }
    }
    eventually("all is counted", || router.outcome("5", "delivered") == BROADCASTS * 300);
}

#[test]
fn one_broadcast_to_more_than_are_written_to_in_a_turn_reaches_everyone() {
    let router = RouterProcess::start();
    // A thread writes to 2,048 in a turn.
    let mut members: Vec<_> = (0..2_500).map(|_| router.join(&["5.0"])).collect();
    let mut sender = router.join(&["6.1"]);
    sender.send(&to_class(sender.id(), Mode::Broadcast, 5, numbered(1, 8)));
    for member in &mut members {
        assert_eq!(number_of(&member.expect_data().payload), 1);
    }
}
