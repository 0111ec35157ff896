//! Leaving without a lost frame: ids that are given up in two steps, and a router that drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use switchboard_protocol::control::{
    Event, GoAwayReason, Hello, LeftReason, Register, Service, Unregister, Watch,
};
use switchboard_protocol::{Control, Flags, Frame, Mode, Reason, RefusalCode, ServiceId};
use switchboard_tests::frames::{
    With, class, direct, hello, id, number_of, numbered, service, to_class,
};
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

#[track_caller]
fn give_up(node: &mut RawNode, ids: &[&str], draining: bool) {
    ask_to_give_up(node, ids, draining);
    expect_unregistered(node);
}

#[track_caller]
fn ask_to_give_up(node: &mut RawNode, ids: &[&str], draining: bool) {
    let ids = ids.iter().map(|text| id(text)).collect();
    node.say(Control::Unregister(Unregister { request: 1, ids, draining }));
}

#[track_caller]
fn expect_unregistered(node: &mut RawNode) {
    node.expect("Unregistered", |incoming| {
        matches!(incoming, Incoming::Control(Control::Unregistered(_))).then_some(())
    });
}

#[track_caller]
fn register(node: &mut RawNode, services: Vec<Service>) {
    node.say(Control::Register(Register { request: 2, services }));
    node.expect("Registered", |incoming| {
        matches!(incoming, Incoming::Control(Control::Registered(_))).then_some(())
    });
}

fn modes() -> impl Iterator<Item = Mode> {
    [Mode::Master, Mode::Hash, Mode::Random, Mode::Broadcast, Mode::LeastLoaded].into_iter()
}

fn is_told_replaced(node: &RawNode) -> bool {
    node.inbox().any(|incoming| matches!(incoming, Incoming::Control(Control::Replaced(_))))
}

/// Senders of one frame, on a thread each, until they are stopped.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn start(
        router: &RouterProcess,
        senders: u32,
        frame: impl Fn(RawNode) -> (RawNode, Frame),
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |n| {
            let (mut node, frame) = frame(router.join(&[&format!("6.{n}")]));
            let stop = stop.clone();
            std::thread::spawn(move || {
                let frames = vec![frame; 10];
                while !stop.load(Relaxed) {
                    node.send_all(&frames);
                }
            })
        };
        let threads = (1..=senders).map(start).collect();
        Self { stop, threads }
    }

    fn end(self) {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("all was sent"));
    }
}

#[test]
fn who_drains_is_picked_no_more_but_reached_by_its_id() {
    let router = RouterProcess::with("default_class: {hash: modulo}\n");
    let mut node = router.join(&["5.1"]);
    let mut other = router.join(&["5.2"]);
    let mut sender = router.join(&["6.1"]);
    give_up(&mut node, &["5.1"], true);
    for mode in modes() {
        for _ in 0..20 {
            sender.send(&to_class(sender.id(), mode, 5, "not you"));
            other.expect_data();
        }
    }
    sender.send(&direct(sender.id(), id("5.1"), "you"));
    assert_eq!(node.expect_data().payload, "you");
    // It may still send, and hears what became of it.
    node.send(&direct(id("5.1"), sender.id(), "from me"));
    assert_eq!(sender.expect_data().header.source, id("5.1").raw());
    node.send(&direct(id("5.1"), id("9.9"), "nobody").with(Flags::REPORT));
    assert_eq!(node.expect_report().reason, Reason::NotFound);
    assert_eq!(router.metric("switchboard_instances", &[("state", "draining")]), 1);
    assert_eq!(router.metric("switchboard_instances", &[("class", "5"), ("state", "live")]), 1);

    give_up(&mut node, &["5.1"], false);
    sender.send(&direct(sender.id(), id("5.1"), "gone").with(Flags::REPORT));
    assert_eq!(sender.expect_report().reason, Reason::NotFound);
    node.send(&direct(id("5.1"), sender.id(), "not mine any more"));
    assert_eq!(RefusalCode::from_raw(node.expect_refused().code), RefusalCode::NotRegistered);
    assert_eq!(router.metric("switchboard_instances", &[("state", "draining")]), 0);
}

#[test]
fn a_class_in_which_all_drain_has_no_instance() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    give_up(&mut node, &["5.1"], true);
    for (n, mode) in modes().enumerate() {
        sender.send(&to_class(sender.id(), mode, 5, "anyone").call(n as u64));
        assert_eq!(sender.expect_report().reason, Reason::NoInstance, "{mode:?}");
    }
}

#[test]
fn calls_that_are_open_in_either_direction_end_with_their_answers() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1"]);
    let mut other = router.join(&["6.1"]);
    let reply = |from: &Frame, source| {
        let caller = ServiceId::from_raw(from.header.source).expect("an id");
        let mut reply = direct(source, caller, "reply");
        reply.header.call_id = from.header.call_id;
        reply.with(Flags::REPLY)
    };
    node.send(&direct(id("5.1"), id("6.1"), "mine").call(1));
    other.send(&to_class(id("6.1"), Mode::Master, 5, "theirs").call(2));
    let (mine, theirs) = (other.expect_data(), node.expect_data());
    give_up(&mut node, &["5.1"], true);
    other.send(&reply(&mine, id("6.1")));
    assert_eq!(node.expect_data().header.call_id, 1);
    node.send(&reply(&theirs, id("5.1")));
    assert_eq!(other.expect_data().header.call_id, 2);
}

#[test]
fn watchers_hear_once_that_it_left_and_who_is_master_now() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1"]);
    let mut other = router.join(&["5.2"]);
    let mut watcher = router.connect();
    watcher.hello(Hello { watch: vec![class(5)], ..hello(&[]) });
    let before = watcher.expect_event().master.expect("a master").epoch;
    give_up(&mut node, &["5.1"], true);
    let event = watcher.expect_event();
    let left: Vec<_> = event.left.iter().map(|left| (left.id, left.reason)).collect();
    assert_eq!(left, [(id("5.1"), LeftReason::Unregistered)]);
    let master = event.master.expect("another master");
    assert_eq!(master.id, Some(id("5.2")));
    assert!(master.epoch > before);
    for told in [&mut node, &mut other] {
        let mut last = None;
        while last != Some(master) {
            last = told.expect_event().master;
        }
    }
    give_up(&mut node, &["5.1"], false);
    drop(node);
    eventually("it is gone", || router.metric("switchboard_sessions", &[]) == 2);
    watcher.sync();
    let more = watcher.inbox().any(|one| matches!(one, Incoming::Control(Control::Event(_))));
    assert!(!more, "it left once");
    // Whoever watches anew does not see it.
    watcher.say(Control::Watch(Watch::of(class(5))));
    let Event { joined, .. } = watcher.expect_event();
    assert_eq!(joined.iter().map(|joined| joined.id).collect::<Vec<_>>(), [id("5.2")]);
}

#[test]
fn the_end_of_the_session_ends_the_draining() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1", "5.2"]);
    let mut sender = router.join(&["6.1"]);
    give_up(&mut node, &["5.1", "5.2"], true);
    drop(node);
    eventually("it is gone", || {
        router.metric("switchboard_instances", &[("state", "draining")]) == 0
    });
    sender.send(&direct(sender.id(), id("5.1"), "gone").with(Flags::REPORT));
    assert_eq!(sender.expect_report().reason, Reason::NotFound);
}

#[test]
fn a_process_that_takes_over_gets_the_id_and_the_draining_one_is_not_told_replaced() {
    let router = RouterProcess::start();
    let mut old = router.connect();
    old.hello(Hello { incarnation: 10, ..hello(&["5.1"]) });
    let mut sender = router.join(&["6.1"]);
    give_up(&mut old, &["5.1"], true);
    // The id is free, so even an older program may have it.
    let mut new = router.connect();
    new.hello(Hello { incarnation: 9, ..hello(&["5.1"]) });
    sender.send(&direct(sender.id(), id("5.1"), "to the new one"));
    assert_eq!(new.expect_data().payload, "to the new one");
    // What it had begun, the old one may still answer.
    old.send(&direct(id("5.1"), sender.id(), "from the old one"));
    assert_eq!(sender.expect_data().payload, "from the old one");
    give_up(&mut old, &["5.1"], false);
    assert!(!is_told_replaced(&old));
    // A late goodbye does not evict the newcomer, nor does the end.
    drop(old);
    eventually("it is gone", || router.metric("switchboard_sessions", &[]) == 2);
    sender.send(&direct(sender.id(), id("5.1"), "to the new one still"));
    assert_eq!(new.expect_data().payload, "to the new one still");
}

#[test]
fn an_id_that_another_node_drains_is_taken_by_name_but_not_by_chance() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.8388700"]);
    give_up(&mut node, &["5.8388700"], true);
    let mut other = router.connect();
    let services = vec![Service { assigned: true, ..service("5.8388700") }];
    other.say(Control::Hello(Hello { services, incarnation: 77, ..hello(&[]) }));
    let refused = other.expect_refused();
    assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::IdTaken);
    let _other = router.join(&["5.8388700"]);
}

#[test]
fn ids_that_drain_may_be_taken_up_again_and_count_once() {
    let router = RouterProcess::with("limits: {max_services_per_session: 2}\n");
    let mut node = router.join(&["5.1", "5.2"]);
    let mut sender = router.join(&["6.1"]);
    for _ in 0..3 {
        give_up(&mut node, &["5.1", "5.2"], true);
        register(&mut node, vec![service("5.1"), service("5.2")]);
        sender.send(&to_class(sender.id(), Mode::Master, 5, "master again"));
        assert_eq!(node.expect_data().payload, "master again");
    }
    give_up(&mut node, &["5.1"], true);
    node.say(Control::Register(Register { request: 3, services: vec![service("5.3")] }));
    assert_eq!(RefusalCode::from_raw(node.expect_refused().code), RefusalCode::LimitExceeded);
}

#[test]
fn after_the_answer_nothing_comes_that_was_picked_before() {
    const SENDERS: u32 = 6;
    let router = RouterBuilder::default().shards(4).start();
    let _reading = read_all(router.join(&["5.9"]));
    let flood = Flood::start(&router, SENDERS, |node| {
        let frame = to_class(node.id(), Mode::Random, 5, numbered(0, 200));
        (node, frame)
    });
    for round in 0..60 {
        let mut node = router.join(&["5.1"]);
        node.expect_data();
        ask_to_give_up(&mut node, &["5.1"], true);
        expect_nothing_behind_the_answer(&mut node, round);
    }
    flood.end();
}

#[test]
fn after_the_last_answer_not_even_direct_frames_come() {
    let router = RouterBuilder::default().shards(4).start();
    let flood = Flood::start(&router, 6, |node| {
        let frame = direct(node.id(), id("5.1"), numbered(0, 200));
        (node, frame)
    });
    for round in 0..60 {
        let mut node = router.join(&["5.1"]);
        node.expect_data();
        ask_to_give_up(&mut node, &["5.1"], false);
        expect_nothing_behind_the_answer(&mut node, round);
    }
    flood.end();
}

// Frames of senders that wait for room are picked, but lie in no mailbox yet.
#[test]
fn senders_that_wait_for_room_come_before_the_answer() {
    let router = RouterBuilder::default()
        .shards(3)
        .config("default_class: {high_water_bytes: 4096, stall_timeout_ms: 60000}\n")
        .start();
    for round in 0..5 {
        let mut node = router.join(&["5.1"]);
        let mut writers = Vec::new();
        for n in 1..=4 {
            let mut sender = router.join(&[&format!("6.{n}")]);
            let frames = vec![to_class(sender.id(), Mode::Master, 5, numbered(n, 60_000)); 150];
            writers.push(std::thread::spawn(move || {
                sender.send_all(&frames);
                sender
            }));
        }
        let pauses = || router.metric("switchboard_source_pauses_total", &[]);
        let before = pauses();
        eventually("all senders wait", || pauses() >= before + 4 || pauses() >= 4 * (round + 1));
        ask_to_give_up(&mut node, &["5.1"], true);
        expect_nothing_behind_the_answer(&mut node, round);
        writers.into_iter().for_each(|writer| drop(writer.join().expect("all was sent")));
        drop(node);
        eventually("all are gone", || router.metric("switchboard_sessions", &[]) == 0);
    }
}

#[track_caller]
fn expect_nothing_behind_the_answer(node: &mut RawNode, round: u64) {
    let answered = |node: &RawNode| {
        let is_answer = |one: &Incoming| matches!(one, Incoming::Control(Control::Unregistered(_)));
        node.inbox().position(is_answer)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while answered(node).is_none() {
        assert!(Instant::now() < deadline, "round {round}: no answer");
        node.read_for(Duration::from_millis(1));
    }
    // Whatever is on its way comes before the answer to a ping, and some time later nothing does.
    node.sync();
    node.read_for(Duration::from_millis(20));
    let at = answered(node).expect("it came");
    let behind = node.inbox().skip(at).filter(|one| matches!(one, Incoming::Data(_))).count();
    assert_eq!(behind, 0, "round {round}");
}

/// Reads until the connection ends.
fn read_all(mut node: RawNode) -> std::thread::JoinHandle<()> {
    let closed = |incoming: &Incoming| Some(*incoming == Incoming::Closed);
    std::thread::spawn(move || while !node.expect("anything", closed) {})
}

#[test]
fn a_router_that_drains_forwards_until_its_nodes_have_left() {
    let mut router =
        RouterBuilder::default().shards(3).config("drain: {timeout_ms: 60000}\n").start();
    let mut silent = router.connect();
    let mut target = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    router.signal("TERM");
    for node in [&mut target, &mut sender] {
        let go_away = node.expect_go_away();
        assert_eq!(go_away.reason, GoAwayReason::Shutdown);
        assert!(go_away.reconnect_after_ms.is_some());
    }
    assert_eq!(router.http("GET", "/readyz").status, 503);
    assert_eq!(router.metric("switchboard_draining", &[]), 1);
    eventually("nobody is let in", || RawNode::try_connect(router.listen()).is_err());
    silent.say(Control::Hello(hello(&["5.2"])));
    let refused = silent.expect_refused();
    assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::Draining);
    drop(silent);
    // What a node does that leaves: it gives its ids up, finishes what it has, and goes.
    for n in 0..2_000 {
        sender.send(&to_class(sender.id(), Mode::Master, 5, numbered(n, 1_000)));
    }
    for n in 0..2_000 {
        assert_eq!(number_of(&target.expect_data().payload), n);
    }
    give_up(&mut target, &["5.1"], true);
    sender.send(&direct(sender.id(), id("5.1"), "still here"));
    assert_eq!(target.expect_data().payload, "still here");
    give_up(&mut target, &["5.1"], false);
    drop((sender, target));
    assert!(router.wait_exit().success());
    assert!(router.log().contains("drained; bye cut_off=0"), "{}", router.log());
}

#[test]
fn who_leaves_a_router_that_drains_gets_what_was_queued_for_it() {
    const FRAMES: u64 = 600;
    let mut router = RouterBuilder::default()
        .config("default_class: {high_water_bytes: 100000000}\ndrain: {timeout_ms: 60000}\n")
        .start();
    let mut target = router.join(&["5.1"]);
    let mut sender = router.join(&["6.1"]);
    for n in 0..FRAMES {
        sender.send(&direct(sender.id(), id("5.1"), numbered(n, 50_000)));
    }
    // More than the sockets hold.
    sender.sync();
    router.signal("TERM");
    sender.expect_go_away();
    drop(sender);
    eventually("the sender is gone", || router.metric("switchboard_sessions", &[]) == 1);
    ask_to_give_up(&mut target, &["5.1"], false);
    for n in 0..FRAMES {
        assert_eq!(number_of(&target.expect_data().payload), n);
    }
    expect_unregistered(&mut target);
    drop(target);
    assert!(router.wait_exit().success());
}
