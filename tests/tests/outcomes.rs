//! What becomes of frames that do not arrive, who is told of it, and that all of them are counted.

use std::time::Duration;

use switchboard_protocol::{Control, Flags, Frame, Mode, Reason, RefusalCode, Report};
use switchboard_tests::frames::{With, direct, hash, id, numbered, to_class};
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

#[track_caller]
fn assert_about(report: &Report, frame: &Frame) {
    assert_eq!(report.header, frame.header);
    assert_eq!(report.length as usize, frame.len());
}

/// Waits until every frame that came in has ended in one outcome. Broadcasts may end in several.
#[track_caller]
fn expect_all_accounted_for(router: &RouterProcess, sent: u64) {
    let sums = || {
        let metrics = router.metrics();
        let of = |name: &str| {
            let modes = Mode::ALL.into_iter().filter(|mode| *mode != Mode::Broadcast);
            modes.map(|mode| metrics.sum(name, &[("mode", mode.name())])).sum::<u64>()
        };
        (of("switchboard_frames_received_total"), of("switchboard_frames_total"))
    };
    eventually("every frame has ended", || {
        let (received, ended) = sums();
        assert!(ended <= received, "{ended} ends of {received} frames");
        received == sent && ended == received
    });
    let settled = sums();
    assert_eq!(settled, (sent, sent));
}

#[test]
fn a_call_without_a_target_is_reported_at_once_with_its_reason() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let calls = [
        (Reason::NotFound, direct(node.id(), id("5.1"), "direct")),
        (Reason::NotFound, direct(node.id(), id("6.2"), "direct, of a class that is there")),
        (Reason::NoInstance, to_class(node.id(), Mode::Master, 5, "master")),
        (Reason::NoInstance, hash(node.id(), 5, 9, "hash")),
        (Reason::NoInstance, to_class(node.id(), Mode::Random, 5, "random")),
        (Reason::NoInstance, to_class(node.id(), Mode::LeastLoaded, 5, "least loaded")),
    ];
    for (n, (reason, frame)) in calls.into_iter().enumerate() {
        let frame = frame.call(n as u64 + 1);
        node.send(&frame);
        let report = node.expect_report();
        assert_eq!((report.reason, report.targets), (reason, 0), "{:?}", frame.header);
        assert_about(&report, &frame);
    }
}

#[test]
fn a_call_to_an_instance_that_has_left_is_reported() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    drop(router.join(&["5.1"]));
    eventually("it has left", || router.metric("switchboard_instances", &[("class", "5")]) == 0);
    for frame in [direct(node.id(), id("5.1"), "x"), to_class(node.id(), Mode::Random, 5, "x")] {
        node.send(&frame.clone().call(5));
        assert_about(&node.expect_report(), &frame.call(5));
    }
}

#[test]
fn the_caller_of_a_broadcast_is_told_how_many_it_went_to() {
    let router = RouterProcess::start();
    let mut caller = router.join(&["5.9"]);
    for targets in 0..4 {
        let call = to_class(caller.id(), Mode::Broadcast, 5, "all").call(u64::from(targets));
        caller.send(&call);
        let report = caller.expect_report();
        let reason = if targets == 0 { Reason::NoInstance } else { Reason::Delivered };
        assert_eq!((report.reason, report.targets), (reason, targets));
        assert_about(&report, &call);
        let echo = call.with(Flags::ECHO);
        caller.send(&echo);
        assert_eq!(caller.expect_report().targets, targets + 1);
        assert_eq!(caller.expect_data(), echo);
        std::mem::forget(router.join(&["5.0"]));
    }
    let nobody = to_class(caller.id(), Mode::Broadcast, 77, "nobody").call(1);
    caller.send(&nobody);
    let report = caller.expect_report();
    assert_eq!((report.reason, report.targets), (Reason::NoInstance, 0));
}

#[test]
fn a_one_way_frame_is_reported_only_if_it_asks() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let quiet = to_class(node.id(), Mode::Master, 5, "quiet");
    let loud = to_class(node.id(), Mode::Master, 5, "loud").with(Flags::REPORT);
    let broadcast = to_class(node.id(), Mode::Broadcast, 5, "loud").with(Flags::REPORT);
    let reply = direct(node.id(), id("5.1"), "reply").with(Flags::REPLY);
    node.send_all([&quiet, &loud, &reply, &broadcast, &quiet, &reply.clone().with(Flags::REPORT)]);
    node.sync();
    let reports = node.take_reports();
    let reasons: Vec<Reason> = reports.iter().map(|report| report.reason).collect();
    assert_eq!(reasons, [Reason::NoInstance, Reason::NoInstance, Reason::NotFound]);
    assert_about(&reports[0], &loud);
    assert_about(&reports[1], &broadcast);
    assert_about(&reports[2], &reply.with(Flags::REPORT));
}

#[test]
fn a_report_carries_the_whole_header_of_the_frame() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let mut frame = hash(node.id(), 5, 0x0102_0304_0506_0708, vec![1; 5_000])
        .call(42)
        .with(Flags::TRACE | Flags::REPORT);
    frame.header.ttl = 300;
    frame.header.trace.trace_id = *b"0123456789abcdef";
    frame.header.trace.span_id = *b"ghijklmn";
    node.send(&frame);
    assert_about(&node.expect_report(), &frame);
}

#[test]
fn delivered_frames_are_not_reported() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    node.send(&direct(node.id(), id("5.1"), "call").call(1).with(Flags::REPORT));
    node.sync();
    target.expect_data();
    node.sync();
    assert_eq!(node.take_reports(), []);
}

const SMALL_FRAMES: &str = "limits: {max_frame_bytes: 65536}\n";

#[test]
fn an_oversized_frame_is_skipped_and_refused_and_the_session_lives() {
    let router = RouterProcess::with(SMALL_FRAMES);
    let mut node = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    let hello = switchboard_tests::frames::hello(&["6.1"]);
    let mut offset = Control::Hello(hello).to_frame().len();
    for (length, reported) in [(65_537, false), (200_000, true), (5 << 20, true), (70_000, false)] {
        let mut frame = direct(node.id(), id("5.1"), vec![0xee; length - 16]);
        if reported {
            frame.header.flags = Flags::REPORT;
        }
        node.send_all([
            &direct(node.id(), id("5.1"), "before"),
            &frame,
            &direct(node.id(), id("5.1"), "after"),
        ]);
        let refused = node.expect_refused();
        assert_eq!(refused.code, RefusalCode::FrameTooLarge.raw());
        assert_eq!(
            refused.text,
            format!("frame of {length} bytes is over the limit of 65536; skipped")
        );
        assert_eq!(refused.offset, Some(offset as u64 + 22));
        offset += 22 + frame.len() + 21;
        assert_eq!(target.expect_data().payload, "before");
        assert_eq!(target.expect_data().payload, "after");
        node.sync();
        offset += Control::Ping(switchboard_protocol::control::Ping { nonce: 0x5357_0000 })
            .to_frame()
            .len();
        let reports = node.take_reports();
        assert_eq!(reports.len(), usize::from(reported));
        for report in reports {
            assert_eq!(report.reason, Reason::TooLarge);
            assert_about(&report, &frame);
        }
    }
    assert_eq!(router.outcome("5", "too_large"), 4);
    // The longest that is allowed goes through.
    node.send(&direct(node.id(), id("5.1"), vec![1; 65_536 - 16]));
    assert_eq!(target.expect_data().len(), 65_536);
}

#[test]
fn an_oversized_call_is_reported_however_its_bytes_come_in() {
    let router = RouterProcess::with(SMALL_FRAMES);
    let mut node = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    let call = hash(node.id(), 5, 7, vec![0; 100_000]).call(11).with(Flags::TRACE);
    let bytes = call.to_bytes();
    for cut in [1, 15, 16, 17, 24, 31, 32, 55, 56, 57, 50_000] {
        node.send_bytes(&bytes[..cut]);
        // The first part has been read when others are answered, one on each of the threads.
        for _ in 0..4 {
            target.sync();
        }
        node.send_bytes(&bytes[cut..]);
        assert_eq!(node.expect_refused().code, RefusalCode::FrameTooLarge.raw(), "cut at {cut}");
        let report = node.expect_report();
        assert_eq!(report.reason, Reason::TooLarge);
        assert_about(&report, &call);
        node.sync();
    }
}

#[test]
fn an_oversized_frame_with_a_borrowed_source_is_not_reported_to_the_lender() {
    let router = RouterProcess::with(SMALL_FRAMES);
    let mut victim = router.join(&["6.1"]);
    let mut liar = router.join(&["6.2"]);
    liar.send(&direct(victim.id(), id("5.1"), vec![0; 70_000]).call(1).with(Flags::REPORT));
    assert_eq!(liar.expect_refused().code, RefusalCode::FrameTooLarge.raw());
    liar.sync();
    victim.sync();
    assert_eq!(victim.take_reports(), []);
}

#[test]
fn every_frame_is_accounted_for_after_all_kinds_of_ends() {
    let router = RouterProcess::with(SMALL_FRAMES);
    let mut node = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    let mut sent = 0;
    for (n, mode) in
        [Mode::Master, Mode::Random, Mode::Hash, Mode::LeastLoaded].into_iter().enumerate()
    {
        node.send_all(&vec![to_class(node.id(), mode, 5, "there"); 100 + n]);
        node.send_all(&vec![to_class(node.id(), mode, 7, "not there"); 10 + n]);
        sent += 110 + 2 * n as u64;
    }
    node.send_all(&vec![direct(node.id(), id("7.1"), "not there"); 5]);
    node.send_all(&vec![direct(id("6.9"), id("5.1"), "not mine"); 5]);
    node.send(&direct(node.id(), id("5.1"), vec![0; 100_000]));
    sent += 11;
    node.sync();
    target.sync();
    expect_all_accounted_for(&router, sent);
    assert_eq!(router.outcome("5", "refused"), 5);
    assert_eq!(router.outcome("5", "too_large"), 1);
    assert_eq!(router.outcome("7", "not_found"), 5);
}

/// Floods one consumer from several senders while `end` does something to it, and sees that every frame
/// is accounted for afterwards.
fn flood_while(config: &str, end: impl FnOnce(&RouterProcess, RawNode)) {
    const SENDERS: u64 = 3;
    const FRAMES: u64 = 4_000;
    let router = RouterBuilder::default().config(config).shards(3).start();
    let mut consumer = router.join(&["5.1"]);
    let sending: Vec<_> = (0..SENDERS)
        .map(|n| {
            let mut sender = router.join(&[&format!("6.{}", n + 1)]);
            std::thread::spawn(move || {
                for block in 0..FRAMES / 100 {
                    let frame = |n| direct(sender.id(), id("5.1"), numbered(n, 2_000));
                    let frames: Vec<_> = (block * 100..block * 100 + 100).map(frame).collect();
                    sender.send_all(&frames);
                }
                sender.sync();
                sender
            })
        })
        .collect();
    for _ in 0..200 {
        // Under `disconnect` the first burst of three threads may be more than its mailbox takes.
        let open = consumer.expect("a data frame, or the end", |incoming| match incoming {
            Incoming::Data(_) => Some(true),
            Incoming::Closed => Some(false),
            _ => None,
        });
        if !open {
            break;
        }
    }
    end(&router, consumer);
    let _senders: Vec<_> =
        sending.into_iter().map(|thread| thread.join().expect("all was sent")).collect();
    expect_all_accounted_for(&router, SENDERS * FRAMES);
}

#[test]
fn every_frame_is_accounted_for_when_the_consumer_is_killed() {
    flood_while("default_class: {high_water_bytes: 65536}\n", |router, consumer| {
        // Its mailbox is full by then, and so are the sockets.
        eventually("the senders are stopped", || {
            router.metric("switchboard_source_pauses_total", &[]) >= 3
        });
        drop(consumer);
        router.expect_log("ids=5.1");
        eventually("its mailbox is given up", || router.outcome("5", "target_lost") > 0);
    });
}

#[test]
fn every_frame_is_accounted_for_when_the_consumer_stops_writing_and_reads_on() {
    flood_while("", |_, mut consumer| {
        consumer.half_close();
        consumer.read_for(Duration::from_secs(20));
    });
}

#[test]
fn every_frame_is_accounted_for_when_the_consumer_pauses_and_goes_on() {
    flood_while("default_class: {high_water_bytes: 65536}\n", |router, mut consumer| {
        eventually("the senders are stopped", || {
            router.metric("switchboard_source_pauses_total", &[]) >= 3
        });
        for _ in 0..12_000 - 200 {
            consumer.expect_data();
        }
        consumer.sync();
    });
}

#[test]
fn every_frame_is_accounted_for_when_a_stalled_consumer_is_closed() {
    let config = "default_class: {high_water_bytes: 65536, stall_timeout_ms: 200}\n";
    flood_while(config, |router, consumer| {
        router.expect_log("closed: slow consumer");
        drop(consumer);
    });
}

#[test]
fn every_frame_is_accounted_for_when_full_mailboxes_drop() {
    for policy in ["drop-new", "drop-old", "disconnect"] {
        let config = format!("default_class: {{high_water_bytes: 65536, overflow: {policy}}}\n");
        flood_while(&config, |_, mut consumer| {
            consumer.read_for(Duration::from_secs(1));
        });
    }
}

#[test]
fn every_frame_is_accounted_for_when_its_sender_is_gone() {
    let router = RouterProcess::with(
        "default_class: {high_water_bytes: 65536, stall_timeout_ms: 60000}\nheartbeat: {min_ms: 100}\n",
    );
    let consumer = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    let frames: Vec<_> =
        (0..400).map(|n| direct(sender.id(), id("5.1"), numbered(n, 60_000))).collect();
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.to_bytes()).collect();
    let sent = sender.send_until_stuck(&bytes, Duration::from_millis(300));
    assert!(sent < bytes.len(), "the router stopped reading");
    // A newer incarnation takes its id, which ends the session though it is not read.
    let mut newer = router.connect();
    newer.hello(switchboard_protocol::control::Hello {
        incarnation: 2,
        ..switchboard_tests::frames::hello(&["6.1"])
    });
    sender.expect("Replaced", |incoming| {
        matches!(incoming, Incoming::Control(Control::Replaced(_))).then_some(())
    });
    sender.expect_closed();
    drop(consumer);
    eventually("every frame has ended", || {
        let metrics = router.metrics();
        let received = metrics.sum("switchboard_frames_received_total", &[]);
        received > 0 && received == metrics.sum("switchboard_frames_total", &[])
    });
    assert!(router.outcome("5", "source_lost") > 0);
}
