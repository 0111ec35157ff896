//! Frames that wait: for an instance to come, and for another one when theirs left.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use switchboard_protocol::control::{Control, Register, Unregister, Unregistered};
use switchboard_protocol::{Flags, Frame, Mode, Reason, ServiceId};
use switchboard_tests::frames::{With, direct, hash, hello, id, number_of, numbered, to_class};
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

const PARKS: &str = "classes: {c: {id: 5, park_ms: 60000}}\n";

/// A frame to class 5, by a mode that depends on its number.
fn by_any_mode(source: ServiceId, n: u64, length: usize) -> Frame {
    let payload = numbered(n, length);
    match n % 5 {
        0 => to_class(source, Mode::Master, 5, payload),
        1 => hash(source, 5, n, payload),
        2 => to_class(source, Mode::Random, 5, payload),
        3 => to_class(source, Mode::Broadcast, 5, payload),
        _ => to_class(source, Mode::LeastLoaded, 5, payload),
    }
}

fn parked(router: &RouterProcess) -> u64 {
    router.metric("switchboard_parked_frames", &[("class", "c")])
}

#[track_caller]
fn expect_parked(router: &RouterProcess, frames: u64) {
    eventually("they wait", || parked(router) == frames);
}

/// Every frame that came in has ended once, and none waits.
#[track_caller]
fn expect_settled(router: &RouterProcess) {
    eventually("every frame has ended", || is_settled(router));
}

fn is_settled(router: &RouterProcess) -> bool {
    let metrics = router.metrics();
    let received = metrics.sum("switchboard_frames_received_total", &[]);
    received == metrics.sum("switchboard_frames_total", &[])
        && metrics.sum("switchboard_parked_frames", &[]) == 0
        && metrics.sum("switchboard_parked_bytes", &[]) == 0
}

#[track_caller]
fn expect_numbers(node: &mut RawNode, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        assert_eq!(number_of(&node.expect_data().payload), n);
    }
}

#[test]
fn frames_wait_for_an_instance_and_reach_it_in_order_whatever_their_modes() {
    let router = RouterProcess::with(PARKS);
    let mut sender = router.join(&["6.1"]);
    let frames: Vec<_> = (0..1_000).map(|n| by_any_mode(sender.id(), n, 40)).collect();
    sender.send_all(&frames);
    expect_parked(&router, 1_000);
    let bytes: usize = frames.iter().map(Frame::len).sum();
    assert_eq!(router.metric("switchboard_parked_bytes", &[("class", "c")]), bytes as u64);
    let mut target = router.join(&["5.1"]);
    for frame in &frames {
        assert_eq!(target.expect_data(), *frame);
    }
    expect_settled(&router);
    assert_eq!(router.outcome("c", "delivered"), 1_000);
    assert_eq!(router.metric("switchboard_parked_total", &[("class", "c")]), 1_000);
    assert_eq!(router.metric("switchboard_released_total", &[("class", "c")]), 1_000);
    sender.sync();
    assert_eq!(sender.take_reports(), []);
}

#[test]
fn who_sends_while_frames_are_released_does_not_overtake_them() {
    const SENDERS: u64 = 3;
    const FRAMES: u64 = 20_000;
    let router = RouterBuilder::default()
        .shards(3)
        .config("classes: {c: {id: 5, park_ms: 60000, park_bytes: 100000000, high_water_bytes: 100000000}}\n")
        .start();
    let sending: Vec<_> = (1..=SENDERS)
        .map(|s| {
            let mut sender = router.join(&[&format!("6.{s}")]);
            thread::spawn(move || {
                for block in 0..FRAMES / 100 {
                    let frames = block * 100..block * 100 + 100;
                    let frames: Vec<_> = frames.map(|n| by_any_mode(sender.id(), n, 100)).collect();
                    sender.send_all(&frames);
                }
                sender
            })
        })
        .collect();
    eventually("some wait", || parked(&router) > 100);
    let mut target = router.join(&["5.1"]);
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for _ in 0..SENDERS * FRAMES {
        let frame = target.expect_data();
        let expected = next.entry(frame.header.source).or_default();
        assert_eq!(number_of(&frame.payload), *expected);
        *expected += 1;
    }
    let _senders: Vec<_> = sending.into_iter().map(|one| one.join().expect("all sent")).collect();
    expect_settled(&router);
}

#[test]
fn what_waited_for_too_long_is_reported_and_counted() {
    let router = RouterProcess::with("classes: {c: {id: 5, park_ms: 300}}\n");
    let mut sender = router.join(&["6.1"]);
    let call = to_class(sender.id(), Mode::Master, 5, "call").call(7);
    let loud = hash(sender.id(), 5, 3, "loud").with(Flags::REPORT);
    let quiet = to_class(sender.id(), Mode::Random, 5, "quiet");
    let start = Instant::now();
    sender.send_all([&call, &quiet, &loud]);
    for frame in [&call, &loud] {
        let report = sender.expect_report();
        assert_eq!((report.reason, report.header), (Reason::Expired, frame.header));
    }
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    expect_settled(&router);
    assert_eq!(router.outcome("c", "expired"), 3);
    let mut late = router.join(&["5.1"]);
    late.sync();
    assert_eq!(late.take_data(), []);
}

#[test]
fn a_frames_own_ttl_wins_where_it_is_shorter() {
    let router = RouterProcess::with(PARKS);
    let mut sender = router.join(&["6.1"]);
    let mut brief = to_class(sender.id(), Mode::Master, 5, numbered(1, 8)).with(Flags::REPORT);
    brief.header.ttl = 10;
    let patient = to_class(sender.id(), Mode::Master, 5, numbered(2, 8)).with(Flags::REPORT);
    sender.send_all([&brief, &patient]);
    let report = sender.expect_report();
    assert_eq!((report.reason, report.header), (Reason::Expired, brief.header));
    expect_parked(&router, 1);
    expect_numbers(&mut router.join(&["5.1"]), [2]);
    expect_settled(&router);
}

#[test]
fn what_is_over_the_bound_bounces_as_if_none_waited() {
    let router = RouterProcess::with("classes: {c: {id: 5, park_ms: 60000, park_bytes: 4096}}\n");
    let mut sender = router.join(&["6.1"]);
    let frame = |n| to_class(sender.id(), Mode::Master, 5, numbered(n, 1_000)).with(Flags::REPORT);
    let frames: Vec<_> = (0..6).map(frame).collect();
    sender.send_all(&frames);
    for frame in &frames[4..] {
        let report = sender.expect_report();
        assert_eq!((report.reason, report.header), (Reason::NoInstance, frame.header));
    }
    assert_eq!(parked(&router), 4);
    expect_numbers(&mut router.join(&["5.1"]), 0..4);
    expect_settled(&router);
}

#[test]
fn a_class_that_does_not_park_bounces_at_once() {
    let router = RouterProcess::with(PARKS);
    let mut sender = router.join(&["6.1"]);
    sender.send(&to_class(sender.id(), Mode::Master, 7, "x").call(1));
    assert_eq!(sender.expect_report().reason, Reason::NoInstance);
}

#[test]
fn a_direct_frame_waits_for_an_id_that_just_left_and_for_no_other() {
    let router = RouterProcess::with(PARKS);
    let mut sender = router.join(&["6.1"]);
    drop(router.join(&["5.1"]));
    eventually("it has left", || router.metric("switchboard_instances", &[("class", "c")]) == 0);
    sender.send(&direct(sender.id(), id("5.1"), numbered(1, 8)).call(1));
    sender.send(&direct(sender.id(), id("5.2"), numbered(2, 8)).call(2));
    let report = sender.expect_report();
    assert_eq!((report.reason, report.header.call_id), (Reason::NotFound, 2));
    expect_parked(&router, 1);
    let mut other = router.join(&["5.3"]);
    other.sync();
    assert_eq!(other.take_data(), []);
    expect_parked(&router, 1);
    expect_numbers(&mut router.join(&["5.1"]), [1]);
    expect_settled(&router);
}

#[test]
fn a_fixed_slot_waits_for_its_owner_and_the_others_go_on() {
    let router = RouterProcess::with("classes: {c: {id: 5, slots: 2, park_ms: 60000}}\n");
    let mut sender = router.join(&["6.1"]);
    let mut one = router.join(&["5.1"]);
    for n in 0..100 {
        sender.send(&hash(sender.id(), 5, n, numbered(n, 8)));
    }
    expect_numbers(&mut one, (0..100).step_by(2));
    expect_parked(&router, 50);
    // A change that brings nobody for them leaves them as they are.
    let _third = router.join(&["5.3"]);
    expect_parked(&router, 50);
    expect_numbers(&mut router.join(&["5.2"]), (1..100).step_by(2));
    expect_settled(&router);
}

#[test]
fn a_reload_that_turns_parking_off_lets_nothing_wait_on() {
    let router = RouterProcess::with(PARKS);
    let mut sender = router.join(&["6.1"]);
    sender.send(&to_class(sender.id(), Mode::Master, 5, "x").call(1));
    expect_parked(&router, 1);
    router.rewrite_config("classes: {c: {id: 5}}\n");
    router.signal("HUP");
    assert_eq!(sender.expect_report().reason, Reason::NoInstance);
    expect_settled(&router);
}

/// More than the sockets on the way hold.
const ENOUGH: u64 = 24 << 20;
const LENGTH: usize = 8_000;

/// A consumer that has stopped reading, with frames of a mode in its mailbox, and a backup. Ends the
/// consumer, and answers the numbers that each of them got.
fn hand_over(mode: Mode, park_ms: u64) -> (RouterProcess, Vec<u64>, Vec<u64>, RawNode) {
    let frames = ENOUGH / LENGTH as u64;
    // The mailbox takes all of it.
    let router = RouterBuilder::default()
        .shards(3)
        .config(&format!(
            "classes: {{c: {{id: 5, hash: modulo, park_ms: {park_ms}, high_water_bytes: 100000000}}}}\n"
        ))
        .start();
    let mut first = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    let source = sender.id();
    let frame = |n: u64| {
        let payload = numbered(n, LENGTH);
        match mode {
            Mode::Direct => direct(source, id("5.1"), payload).with(Flags::REPORT),
            // With two instances, key 0 leads to the first, and alone the second takes it.
            Mode::Hash => hash(source, 5, 0, payload).with(Flags::REPORT),
            _ => to_class(source, mode, 5, payload).with(Flags::REPORT),
        }
    };
    (0..frames / 2).for_each(|n| sender.send(&frame(n)));
    sender.sync();
    let mut second = router.join(&["5.2"]);
    // New frames are on their way all the while.
    let mut writer = sender.other_half();
    let rest: Vec<_> = (frames / 2..frames).map(frame).collect();
    let writing = thread::spawn(move || writer.send_all(&rest));
    // What has come so far was written whole; then it is gone.
    first.expect_data();
    first.half_close();
    first.expect_closed();
    let mut got = vec![0];
    got.extend(first.take_data().iter().map(|frame| number_of(&frame.payload)));
    writing.join().expect("all was sent");
    sender.sync();
    eventually("every frame has ended", || {
        second.read_for(Duration::from_millis(10));
        is_settled(&router)
    });
    let others = second.take_data().iter().map(|frame| number_of(&frame.payload)).collect();
    (router, got, others, sender)
}

#[test]
fn what_a_dead_instance_did_not_get_reaches_the_next_in_order() {
    for mode in [Mode::Master, Mode::Hash] {
        for park_ms in [0, 60_000] {
            let (router, got, others, mut sender) = hand_over(mode, park_ms);
            let frames = ENOUGH / LENGTH as u64;
            assert!(got.is_sorted() && others.len() > 100, "{mode}");
            let all: Vec<u64> = got.iter().chain(&others).copied().collect();
            assert_eq!(all, (0..frames).collect::<Vec<_>>(), "{mode}");
            assert_eq!(router.outcome("c", "delivered"), frames);
            sender.sync();
            assert_eq!(sender.take_reports(), []);
        }
    }
}

#[test]
fn random_frames_that_a_dead_instance_did_not_get_are_neither_lost_nor_doubled() {
    for mode in [Mode::Random, Mode::LeastLoaded] {
        let (router, got, others, _) = hand_over(mode, 0);
        let frames = ENOUGH / LENGTH as u64;
        let mut all: Vec<u64> = got.iter().chain(&others).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..frames).collect::<Vec<_>>(), "{mode}");
        assert_eq!(router.outcome("c", "delivered"), frames);
    }
}

#[test]
fn direct_frames_of_a_dead_instance_bounce() {
    let (router, got, others, mut sender) = hand_over(Mode::Direct, 0);
    let frames = ENOUGH / LENGTH as u64;
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(got, (0..got.len() as u64).collect::<Vec<_>>());
    let reports = sender.take_reports();
    assert_eq!(reports.len() + got.len(), frames as usize);
    let lost = reports.iter().filter(|report| report.reason == Reason::TargetLost).count();
    assert!(lost > 100);
    assert_eq!(lost as u64, router.outcome("c", "target_lost"));
}

/// Numbered frames to the master of class 5, each to be reported if it is lost.
fn flood(sender: &mut RawNode, frames: u64) {
    for n in 0..frames {
        let frame = to_class(sender.id(), Mode::Master, 5, numbered(n, LENGTH));
        sender.send(&frame.with(Flags::REPORT));
    }
    sender.sync();
}

#[test]
fn an_instance_that_stalls_its_senders_loses_its_frames_to_the_next() {
    let router = RouterProcess::with(
        "classes: {c: {id: 5, high_water_bytes: 65536, stall_timeout_ms: 300}}\n",
    );
    let mut slow = router.join(&["5.1"]);
    let mut quick = router.join(&["5.2"]);
    let mut sender = router.join(&["6.1"]);
    let frames = ENOUGH / LENGTH as u64;
    let writing = thread::spawn(move || {
        flood(&mut sender, frames);
        sender
    });
    router.expect_log("closed: slow consumer");
    slow.expect_closed();
    let got: Vec<u64> = slow.take_data().iter().map(|frame| number_of(&frame.payload)).collect();
    let next = got.len() as u64;
    assert_eq!(got, (0..next).collect::<Vec<_>>());
    expect_numbers(&mut quick, next..frames);
    assert_eq!(writing.join().expect("all was sent").take_reports(), []);
    expect_settled(&router);
    assert_eq!(router.outcome("c", "delivered"), frames);
}

#[test]
fn what_nobody_is_left_for_waits_where_it_may_and_bounces_where_not() {
    for (park_ms, waits) in [(60_000, true), (0, false)] {
        let router = RouterProcess::with(&format!(
            "classes: {{c: {{id: 5, park_ms: {park_ms}, high_water_bytes: 100000000}}}}\n"
        ));
        let first = router.join(&["5.1"]);
        let mut sender = router.join(&["6.1"]);
        let frames = ENOUGH / LENGTH as u64;
        flood(&mut sender, frames);
        drop(first);
        if waits {
            eventually("they wait", || parked(&router) > 100);
            let left = parked(&router);
            expect_numbers(&mut router.join(&["5.2"]), frames - left..frames);
        } else {
            assert_eq!(sender.expect_report().reason, Reason::TargetLost);
        }
        expect_settled(&router);
        assert_eq!(router.outcome("c", "target_lost") == 0, waits);
    }
}

#[test]
fn no_data_follows_for_a_session_that_has_given_up_its_last_id() {
    let router = RouterProcess::with(
        "classes: {c: {id: 5, high_water_bytes: 65536, stall_timeout_ms: 60000}}\n",
    );
    let mut leaving = router.join(&["5.1"]);
    let mut staying = router.join(&["5.2"]);
    let mut sender = router.join(&["6.1"]);
    let frames = ENOUGH / LENGTH as u64;
    let writing = thread::spawn(move || {
        flood(&mut sender, frames);
        sender
    });
    // Then it holds frames that were picked for the one that leaves.
    eventually("the sender is paused", || {
        router.metric("switchboard_source_pauses_total", &[]) > 0
    });
    let ids = vec![id("5.1")];
    leaving.say(Control::Unregister(Unregister { request: 9, ids, draining: false }));
    eventually("it has left", || router.metric("switchboard_instances", &[("class", "c")]) == 1);
    let mut got = Vec::new();
    leaving.expect("Unregistered", |incoming| {
        if let Incoming::Data(frame) = incoming {
            got.push(number_of(&frame.payload));
        }
        let done = Incoming::Control(Control::Unregistered(Unregistered { request: 9 }));
        (*incoming == done).then_some(())
    });
    assert_eq!(got, (0..got.len() as u64).collect::<Vec<_>>());
    expect_numbers(&mut staying, got.len() as u64..frames);
    assert_eq!(writing.join().expect("all was sent").take_reports(), []);
    leaving.sync();
    assert_eq!(leaving.take_data().len(), got.len());
    // It may come back.
    let services = vec![switchboard_tests::frames::service("5.1")];
    leaving.say(Control::Register(Register { request: 10, services }));
    leaving.sync();
    staying.send(&to_class(staying.id(), Mode::Master, 5, "again"));
    assert_eq!(leaving.expect_data().payload, "again");
    expect_settled(&router);
}

#[test]
fn a_newer_incarnation_gets_what_the_older_one_did_not() {
    let router = RouterProcess::with("classes: {c: {id: 5, high_water_bytes: 100000000}}\n");
    let mut old = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    let frames = ENOUGH / LENGTH as u64;
    for n in 0..frames {
        let frame = match n % 2 {
            0 => direct(sender.id(), id("5.1"), numbered(n, LENGTH)),
            _ => to_class(sender.id(), Mode::Master, 5, numbered(n, LENGTH)),
        };
        sender.send(&frame.with(Flags::REPORT));
    }
    sender.sync();
    let mut newer = router.connect();
    newer.hello(switchboard_protocol::control::Hello { incarnation: 2, ..hello(&["5.1"]) });
    // It gets what is written already, and the rest of the frame that is begun.
    old.expect_closed();
    let got: Vec<u64> = old.take_data().iter().map(|frame| number_of(&frame.payload)).collect();
    assert_eq!(got, (0..got.len() as u64).collect::<Vec<_>>());
    expect_numbers(&mut newer, got.len() as u64..frames);
    expect_settled(&router);
    sender.sync();
    assert_eq!(sender.take_reports(), []);
}
