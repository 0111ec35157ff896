//! Consumers that do not keep up: what happens to their frames, to their senders, and to everybody else.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use switchboard_protocol::control::LeftReason;
use switchboard_protocol::control::Watch;
use switchboard_protocol::{Control, Flags, Reason, ServiceId};
use switchboard_tests::frames::{With, class, direct, hello, id, number_of, numbered, to_class};
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

/// More than all sockets on the way hold: what is sent beyond it waits in the router, or is dropped.
const ENOUGH: usize = 24 << 20;
const LENGTH: usize = 8_000;

/// Sends numbered frames from another thread until `count` are sent.
fn flood(mut sender: RawNode, target: ServiceId, count: u64, flags: Flags) -> JoinHandle<RawNode> {
    thread::spawn(move || {
        for n in 0..count {
            sender.send(&direct(sender.id(), target, numbered(n, LENGTH)).with(flags));
        }
        sender
    })
}

fn wait_for_pause(router: &RouterProcess) {
    eventually("a sender is paused", || router.metric("switchboard_source_pauses_total", &[]) > 0);
}

#[test]
fn a_slow_consumer_does_not_slow_those_who_do_not_send_to_it() {
    let router = RouterBuilder::default()
        .shards(1)
        .config("default_class: {high_water_bytes: 65536, stall_timeout_ms: 60000}\n")
        .start();
    let slow = router.join(&["5.1"]);
    let stuck = flood(router.join(&["6.1"]), id("5.1"), (ENOUGH / LENGTH) as u64, Flags::NONE);
    wait_for_pause(&router);
    // On the same thread of the router, and to the same class.
    let mut sender = router.join(&["6.2"]);
    let mut quick = router.join(&["5.2"]);
    let start = Instant::now();
    for n in 0..500 {
        sender.send(&direct(sender.id(), id("5.2"), numbered(n, LENGTH)));
        assert_eq!(number_of(&quick.expect_data().payload), n);
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(!stuck.is_finished());
    drop(slow);
    stuck.join().expect("it goes on when the slow one is gone").sync();
}

#[test]
fn pause_and_resume_lose_nothing() {
    const SENDERS: u64 = 3;
    let frames = (ENOUGH / LENGTH) as u64 / 2;
    let router = RouterBuilder::default()
        .shards(3)
        .config("default_class: {high_water_bytes: 65536, stall_timeout_ms: 60000}\n")
        .start();
    let mut consumer = router.join(&["5.1"]);
    let floods: Vec<_> = (1..=SENDERS)
        .map(|n| flood(router.join(&[&format!("6.{n}")]), id("5.1"), frames, Flags::REPORT))
        .collect();
    wait_for_pause(&router);
    let mut next = [0; SENDERS as usize];
    for _ in 0..SENDERS * frames {
        let frame = consumer.expect_data();
        let expected = &mut next[frame.header.source as usize % 8 - 1];
        assert_eq!(number_of(&frame.payload), *expected);
        *expected += 1;
    }
    for flood in floods {
        let mut sender = flood.join().expect("all was sent");
        sender.sync();
        assert_eq!(sender.take_reports(), []);
    }
    consumer.sync();
    assert_eq!(consumer.take_data(), []);
    assert_eq!(router.outcome("5", "delivered"), SENDERS * frames);
    assert_eq!(router.metric("switchboard_frames_total", &[]), SENDERS * frames);
}

#[test]
fn a_consumer_that_stalls_its_senders_is_closed_and_they_are_told_and_go_on() {
    let frames = (ENOUGH / LENGTH) as u64;
    let router = RouterProcess::with(
        "classes: {slow: {id: 5, high_water_bytes: 65536, stall_timeout_ms: 300}}\n",
    );
    let mut watcher = router.join(&[]);
    watcher.say(Control::Watch(Watch::of(class(5))));
    watcher.expect_event();
    let mut consumer = router.join(&["5.1"]);
    watcher.expect_event();
    let flood = flood(router.join(&["6.1"]), id("5.1"), frames, Flags::REPORT);
    assert_eq!(watcher.expect_event().left[0].reason, LeftReason::SlowConsumer);
    let mut sender = flood.join().expect("it goes on");
    sender.sync();
    router.expect_log("ids=slow.1");
    let reports = sender.take_reports();
    let lost: Vec<u64> = reports.iter().map(|report| u64::from(report.reason.raw())).collect();
    let count =
        |reason: Reason| lost.iter().filter(|raw| **raw == u64::from(reason.raw())).count() as u64;
    assert!(count(Reason::TargetLost) > 0);
    assert_eq!(count(Reason::TargetLost), router.outcome("slow", "target_lost"));
    // Those behind find the id gone, and those before were written to the socket.
    assert_eq!(count(Reason::NotFound), router.outcome("slow", "not_found"));
    assert_eq!(reports.len() as u64 + router.outcome("slow", "delivered"), frames);
    consumer.expect_closed();
    // The sender is as good as new.
    let mut other = router.join(&["5.2"]);
    sender.send(&direct(sender.id(), id("5.2"), "on"));
    assert_eq!(other.expect_data().payload, "on");
}

#[test]
fn a_consumer_that_reads_a_little_is_not_closed() {
    let router =
        RouterProcess::with("default_class: {high_water_bytes: 65536, stall_timeout_ms: 700}\n");
    let mut consumer = router.join(&["5.1"]);
    let frames = (ENOUGH / LENGTH) as u64;
    let flood = flood(router.join(&["6.1"]), id("5.1"), frames, Flags::NONE);
    wait_for_pause(&router);
    // Slower than the sender by far, but it reads.
    for n in 0..frames {
        assert_eq!(number_of(&consumer.expect_data().payload), n);
        if n % 250 == 0 {
            switchboard_tests::wait::holds_for(Duration::from_millis(200), || true);
        }
    }
    flood.join().expect("all was sent").sync();
}

/// Fills a consumer that does not read under a policy that never pauses. Answers the numbers that it gets
/// when it does read, and the sender.
fn overflow(router: &RouterProcess, flags: Flags) -> (Vec<u64>, RawNode, u64) {
    let frames = (ENOUGH / LENGTH) as u64;
    let mut consumer = router.join(&["5.1"]);
    let mut sender =
        flood(router.join(&["6.1"]), id("5.1"), frames, flags).join().expect("nothing pauses it");
    sender.sync();
    consumer.sync();
    let numbers = consumer.take_data().iter().map(|frame| number_of(&frame.payload)).collect();
    (numbers, sender, frames)
}

#[test]
fn drop_new_keeps_what_came_first_and_reports_the_rest() {
    let router =
        RouterProcess::with("classes: {c: {id: 5, overflow: drop-new, high_water_bytes: 65536}}\n");
    let (numbers, mut sender, frames) = overflow(&router, Flags::REPORT);
    let lost: Vec<u64> = (0..frames).filter(|n| numbers.binary_search(n).is_err()).collect();
    assert!(numbers.is_sorted() && numbers[0] == 0 && !lost.is_empty());
    let reports = sender.take_reports();
    assert!(reports.iter().all(|report| report.reason == Reason::Full));
    assert_eq!(reports.len(), lost.len());
    assert_eq!(router.outcome("c", "full"), lost.len() as u64);
    assert_eq!(router.outcome("c", "delivered"), numbers.len() as u64);
    assert_eq!(router.metric("switchboard_source_pauses_total", &[]), 0);
}

#[test]
fn drop_old_keeps_what_came_last_and_reports_the_rest() {
    let router =
        RouterProcess::with("classes: {c: {id: 5, overflow: drop-old, high_water_bytes: 65536}}\n");
    let (numbers, mut sender, frames) = overflow(&router, Flags::REPORT);
    assert!(numbers.is_sorted());
    // The newest are all there, as many as a mailbox holds.
    assert_eq!(numbers.last(), Some(&(frames - 1)));
    let tail = 65_536 / LENGTH as u64 / 2;
    assert!(numbers.ends_with(&(frames - tail..frames).collect::<Vec<_>>()), "{numbers:?}");
    let lost = frames - numbers.len() as u64;
    let reports = sender.take_reports();
    assert!(lost > 0 && reports.iter().all(|report| report.reason == Reason::Evicted));
    assert_eq!((reports.len() as u64, router.outcome("c", "evicted")), (lost, lost));
    assert_eq!(router.outcome("c", "delivered"), numbers.len() as u64);
}

#[test]
fn disconnect_closes_the_consumer_at_once() {
    let router = RouterProcess::with(
        "classes: {c: {id: 5, overflow: disconnect, high_water_bytes: 65536}}\n",
    );
    let mut watcher = router.join(&[]);
    watcher.say(Control::Watch(Watch::of(class(5))));
    watcher.expect_event();
    let mut consumer = router.join(&["5.1"]);
    watcher.expect_event();
    let frames = (ENOUGH / LENGTH) as u64;
    let mut sender =
        flood(router.join(&["6.1"]), id("5.1"), frames, Flags::REPORT).join().expect("no pause");
    assert_eq!(watcher.expect_event().left[0].reason, LeftReason::SlowConsumer);
    sender.sync();
    consumer.expect_closed();
    let reports = sender.take_reports();
    assert_eq!(reports.len() as u64 + router.outcome("c", "delivered"), frames);
    for (reason, outcome) in [
        (Reason::Full, "full"),
        (Reason::TargetLost, "target_lost"),
        (Reason::NotFound, "not_found"),
    ] {
        let told = reports.iter().filter(|report| report.reason == reason).count() as u64;
        assert_eq!(told, router.outcome("c", outcome), "{outcome}");
    }
    assert!(router.outcome("c", "full") > 0);
}

#[test]
fn droppable_frames_go_first_under_each_policy() {
    for policy in ["pause", "drop-new", "drop-old", "disconnect"] {
        let router = RouterProcess::with(&format!(
            "classes: {{c: {{id: 5, overflow: {policy}, high_water_bytes: 65536, stall_timeout_ms: 60000}}}}\n"
        ));
        let mut consumer = router.join(&["5.1"]);
        let mut sender = router.join(&["6.1"]);
        // Movement alone never pauses a sender, closes a consumer, or costs anything else its place.
        let moves = (ENOUGH / LENGTH) as u64;
        for n in 0..moves {
            sender
                .send(&direct(sender.id(), id("5.1"), numbered(n, LENGTH)).with(Flags::DROPPABLE));
        }
        for n in 0..3 {
            sender.send(&direct(sender.id(), id("5.1"), numbered(moves + n, 100)));
        }
        sender.sync();
        consumer.sync();
        let numbers: Vec<u64> =
            consumer.take_data().iter().map(|frame| number_of(&frame.payload)).collect();
        assert!(numbers.is_sorted(), "{policy}");
        assert!(numbers.ends_with(&[moves, moves + 1, moves + 2]), "{policy}");
        assert!((numbers.len() as u64) < moves, "{policy}");
        let dropped = router.outcome("c", "full") + router.outcome("c", "evicted");
        assert_eq!(dropped + numbers.len() as u64, moves + 3, "{policy}");
        assert_eq!(router.metric("switchboard_source_pauses_total", &[]), 0, "{policy}");
    }
}

#[test]
fn memory_is_bounded_while_a_consumer_is_stopped() {
    const SENDERS: u64 = 8;
    for (policy, flags) in [
        ("pause", Flags::NONE),
        ("drop-new", Flags::REPORT),
        ("drop-old", Flags::NONE),
        ("pause", Flags::DROPPABLE),
    ] {
        let router = RouterProcess::with(&format!(
            "default_class: {{overflow: {policy}, stall_timeout_ms: 60000}}\n"
        ));
        let consumer = router.join(&["5.1"]);
        let before = router.resident_bytes();
        let bytes: Vec<u8> = (0..400)
            .flat_map(|n| direct(id("6.1"), id("5.1"), numbered(n, 60_000)).with(flags).to_bytes())
            .collect();
        let senders: Vec<_> = (1..=SENDERS)
            .map(|n| {
                let mut sender = router.connect();
                sender.hello(hello(&[&format!("6.{n}")]));
                let mut bytes = bytes.clone();
                for frame in bytes.chunks_mut(60_016) {
                    frame[8] = n as u8;
                }
                thread::spawn(move || {
                    sender.send_until_stuck(&bytes, Duration::from_millis(300));
                    sender
                })
            })
            .collect();
        let senders: Vec<_> =
            senders.into_iter().map(|one| one.join().expect("all was tried")).collect();
        let grown = router.resident_bytes().saturating_sub(before);
        // 1 MiB in the mailbox, and a read of each sender; 192 MiB were offered.
        assert!(grown < 24 << 20, "{policy} {flags:?}: {grown} bytes");
        drop((senders, consumer));
    }
}

#[test]
fn a_node_that_does_not_read_its_reports_is_not_read_itself() {
    let router = RouterProcess::start();
    let mut node = router.join(&["6.1"]);
    let before = router.resident_bytes();
    let frame =
        to_class(node.id(), switchboard_protocol::Mode::Master, 5, "nobody").with(Flags::REPORT);
    let bytes = frame.to_bytes().repeat(1 << 20);
    let sent = node.send_until_stuck(&bytes, Duration::from_millis(500));
    assert!(sent < bytes.len());
    let grown = router.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    // It reads on, and all are there.
    let mut writer = node.other_half();
    let rest = bytes[sent..].to_vec();
    let writing = thread::spawn(move || writer.send_bytes(&rest));
    for _ in 0..bytes.len() / frame.len() {
        node.expect_report();
    }
    writing.join().expect("all was sent");
    node.sync();
}

#[test]
fn a_consumer_that_is_always_a_little_behind_can_go_on_asking() {
    // Its mailbox is never empty, and its own questions are answered with reports all the while.
    const REPORTS: u64 = 60_000;
    let router = RouterProcess::with(
        "default_class: {high_water_bytes: 262144, stall_timeout_ms: 60000}\nlimits: {max_frame_bytes: 4194304}\n",
    );
    let mut consumer = router.join(&["5.1"]);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let mut sender = router.join(&["6.1"]);
    let flood = thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            sender.send(&direct(sender.id(), id("5.1"), numbered(0, 200_000)));
        }
        sender
    });
    wait_for_pause(&router);
    let mut writer = consumer.other_half();
    let asking = thread::spawn(move || {
        let question =
            to_class(id("5.1"), switchboard_protocol::Mode::Master, 77, "").with(Flags::REPORT);
        for _ in 0..REPORTS / 100 {
            writer.send_all(&vec![question.clone(); 100]);
        }
    });
    let mut reports = 0;
    while reports < REPORTS {
        let is_report = consumer.expect("a frame or a report", |incoming| match incoming {
            Incoming::Data(_) => Some(false),
            Incoming::Report(_) => Some(true),
            _ => None,
        });
        reports += u64::from(is_report);
    }
    asking.join().expect("all was asked");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    eventually("the flood has stopped", || {
        consumer.read_for(Duration::from_millis(10));
        consumer.take_data();
        flood.is_finished()
    });
    flood.join().expect("it stopped").sync();
}

#[test]
fn each_class_of_a_session_keeps_its_own_policy() {
    let router = RouterProcess::with(
        "classes:\n  patient: {id: 5, overflow: pause, high_water_bytes: 65536, stall_timeout_ms: 60000}\n  \
         lossy: {id: 7, overflow: drop-new, high_water_bytes: 65536}\n",
    );
    let mut consumer = router.join(&["5.1", "7.1"]);
    let mut sender = router.join(&["6.1"]);
    let frames = (ENOUGH / LENGTH) as u64;
    let sending = thread::spawn(move || {
        for n in 0..frames {
            // The lossy one comes first in each write, and so in each read of the router.
            sender.send_all([
                &direct(sender.id(), id("7.1"), numbered(n, 100)),
                &direct(sender.id(), id("5.1"), numbered(n, LENGTH)),
            ]);
            sender.sync();
        }
        sender
    });
    wait_for_pause(&router);
    let mut next = 0;
    while next < frames {
        let frame = consumer.expect_data();
        if frame.header.target == id("5.1").raw() {
            assert_eq!(number_of(&frame.payload), next);
            next += 1;
        }
    }
    sending.join().expect("all was sent").sync();
    assert_eq!(router.outcome("patient", "full"), 0);
}

#[test]
fn a_large_mailbox_may_fill_up_without_costing_the_session() {
    let router = RouterProcess::with("default_class: {high_water_bytes: 100000000}\n");
    let mut consumer = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    let payload = vec![1; 1 << 20];
    for _ in 0..60 {
        sender.send(&direct(sender.id(), id("5.1"), &payload));
    }
    sender.sync();
    // The router has something to say to it as well.
    consumer.say(Control::Watch(Watch::of(class(6))));
    for _ in 0..60 {
        assert_eq!(consumer.expect_data().payload.len(), 1 << 20);
    }
    consumer.sync();
}

#[test]
fn a_stall_is_noticed_though_the_sender_that_began_it_is_gone() {
    let router = RouterBuilder::default()
        .shards(2)
        .config("default_class: {high_water_bytes: 65536, stall_timeout_ms: 300}\n")
        .start();
    // Sessions are dealt to the threads in turn: the two senders are on different ones.
    let mut consumer = router.join(&["5.1"]);
    let mut first = router.join(&["6.1"]);
    let mut second = router.join(&["6.2"]);
    // Frames that fill the mailbox, the one that waits, and noise, as far as one read takes them.
    let frame = direct(id("6.1"), id("5.1"), numbered(0, 60_000)).to_bytes();
    let mut noisy = frame.repeat(3);
    noisy.extend([0; 16]);
    for _ in 0..ENOUGH / 60_000 {
        first.send_bytes(&frame);
        if router.metric("switchboard_source_pauses_total", &[]) > 0 {
            break;
        }
    }
    drop(first);
    let mut third = RawNode::connect(router.listen());
    third.hello(hello(&["6.3"]));
    let _ = third.try_send_bytes(&noisy);
    let frames: Vec<u8> = direct(id("6.2"), id("5.1"), numbered(0, 60_000)).to_bytes().repeat(400);
    let writing = thread::spawn(move || second.send_bytes(&frames));
    router.expect_log("closed: slow consumer");
    writing.join().expect("it goes on");
    consumer.expect_closed();
}
