//! Who is there: watching, mastership, incarnations, heartbeats.

use std::time::{Duration, Instant};

use switchboard_protocol::control::{
    Event, GoAway, GoAwayReason, Hello, Joined, Left, LeftReason, Ping, Register, Replaced,
    Service, Unregister, Watch,
};
use switchboard_protocol::{Control, RefusalCode, ServiceId};
use switchboard_tests::frames::{class, direct, hello, id, numbered, service};
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

const QUICK: &str = "heartbeat: {min_ms: 100, default_ms: 1000}\n";

fn watcher(router: &RouterProcess) -> RawNode {
    let mut node = router.connect();
    // With no id of its own it is master of nothing, so it hears of class 5 alone.
    node.hello(Hello { watch: vec![class(5)], ..hello(&[]) });
    node
}

#[track_caller]
fn expect_live(node: &mut RawNode) -> Event {
    let event = node.expect_event();
    assert!(!event.snapshot && !event.complete, "{event:?}");
    event
}

fn with_incarnation(router: &RouterProcess, ids: &[&str], incarnation: u64) -> RawNode {
    let mut node = router.connect();
    node.hello(Hello { incarnation, ..hello(ids) });
    node
}

fn left(text: &str, reason: LeftReason) -> Vec<Left> {
    vec![Left { id: id(text), reason }]
}

fn joined(text: &str) -> Vec<Joined> {
    vec![Joined { id: id(text), metadata: Default::default() }]
}

#[track_caller]
fn master(event: &Event) -> (Option<ServiceId>, u64) {
    let master = event.master.unwrap_or_else(|| panic!("no master in {event:?}"));
    (master.id, master.epoch)
}

#[test]
fn a_watch_starts_with_the_picture_of_an_empty_class() {
    let router = RouterProcess::start();
    let mut node = watcher(&router);
    let event = node.expect_event();
    assert!(event.snapshot && event.complete);
    assert_eq!(
        (event.class, event.joined, event.left, event.master),
        (class(5), vec![], vec![], None)
    );
}

#[test]
fn a_watch_starts_with_everybody_who_is_there_and_goes_on_with_changes() {
    let router = RouterProcess::start();
    let mut one = router.connect();
    let metadata = [("zone".to_owned(), "north".to_owned())].into();
    one.hello(Hello { services: vec![Service { metadata, ..service("5.1") }], ..hello(&[]) });
    let two = router.join(&["5.2"]);

    let mut node = watcher(&router);
    let picture = node.expect_event();
    assert!(picture.snapshot && picture.complete);
    let ids: Vec<_> = picture.joined.iter().map(|joined| joined.id).collect();
    assert_eq!(ids, [id("5.1"), id("5.2")]);
    assert_eq!(picture.joined[0].metadata["zone"], "north");
    let (first, epoch) = master(&picture);
    assert_eq!(first, Some(id("5.1")));

    let _three = router.join(&["5.3"]);
    let event = expect_live(&mut node);
    assert_eq!((event.joined, event.left, event.master), (joined("5.3"), vec![], None));

    drop(two);
    let event = expect_live(&mut node);
    assert_eq!((event.left, event.master), (left("5.2", LeftReason::Disconnected), None));

    one.say(Control::Unregister(Unregister { request: 1, ids: vec![id("5.1")], draining: false }));
    let event = expect_live(&mut node);
    assert_eq!(event.left, left("5.1", LeftReason::Unregistered));
    let (next, higher) = master(&event);
    assert_eq!(next, Some(id("5.3")));
    assert!(higher > epoch, "{higher} after {epoch}");
}

#[test]
fn every_change_of_the_master_has_a_higher_epoch() {
    let router = RouterProcess::start();
    let mut node = watcher(&router);
    assert!(node.expect_event().complete);
    let mut last = 0;
    let mut expect = |node: &mut RawNode, id: Option<ServiceId>| {
        let (master, epoch) = master(&expect_live(node));
        assert_eq!(master, id);
        assert!(epoch > last, "{epoch} after {last}");
        last = epoch;
    };
    for _ in 0..5 {
        let two = router.join(&["5.2"]);
        expect(&mut node, Some(id("5.2")));
        let one = router.join(&["5.1"]);
        expect(&mut node, Some(id("5.1")));
        drop(one);
        expect(&mut node, Some(id("5.2")));
        drop(two);
        expect(&mut node, None);
    }
}

#[test]
fn epochs_grow_over_a_restart() {
    let epoch = || {
        let router = RouterProcess::start();
        let _one = router.join(&["5.1"]);
        master(&watcher(&router).expect_event()).1
    };
    let before = epoch();
    assert!(epoch() > before);
}

#[test]
fn a_master_that_watches_its_class_hears_of_it_before_its_first_frame() {
    let router = RouterBuilder::default().shards(3).start();
    let mut sender = router.join(&["6.1"]);
    for round in 0..30 {
        let low = router.join(&["5.1"]);
        let mut high = router.connect();
        high.hello(Hello { watch: vec![class(5)], ..hello(&["5.2"]) });
        let mut writer = sender.other_half();
        let source = sender.id();
        let flood = std::thread::spawn(move || {
            for _ in 0..50 {
                let frame = switchboard_tests::frames::to_class(
                    source,
                    switchboard_protocol::Mode::Master,
                    5,
                    "m",
                );
                writer.send_all(&vec![frame; 20]);
            }
        });
        drop(low);
        flood.join().expect("all was sent");
        sender.sync();
        sender.send(&switchboard_tests::frames::to_class(
            source,
            switchboard_protocol::Mode::Master,
            5,
            "m",
        ));
        // Whatever comes first: the news, or a frame.
        let told_first = high.expect("the news or a frame", |incoming| match incoming {
            Incoming::Data(_) => Some(false),
            Incoming::Control(Control::Event(event)) => {
                (event.master.and_then(|master| master.id) == Some(id("5.2"))).then_some(true)
            }
            _ => None,
        });
        assert!(told_first, "round {round}");
        drop(high);
        eventually("all have left", || {
            router.metric("switchboard_instances", &[("class", "5")]) == 0
        });
    }
}

#[test]
fn a_watch_misses_nothing_and_tells_nothing_twice() {
    const NODES: u32 = 300;
    let router = RouterBuilder::default().shards(3).start();
    let address = router.listen().to_owned();
    let joining = std::thread::spawn(move || {
        (1..=NODES).map(|n| RawNode::join(&address, &[&format!("5.{n}")])).collect::<Vec<_>>()
    });
    eventually("some are there", || router.metric("switchboard_instances", &[("class", "5")]) > 20);
    let mut node = watcher(&router);
    let mut seen = Vec::new();
    while seen.len() < NODES as usize {
        seen.extend(
            node.expect_event().joined.into_iter().map(|joined| joined.id.instance().raw()),
        );
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=NODES).collect::<Vec<_>>());
    let nodes = joining.join().expect("all have joined");
    drop(nodes);
    let mut gone = Vec::new();
    while gone.len() < NODES as usize {
        gone.extend(expect_live(&mut node).left.into_iter().map(|left| left.id.instance().raw()));
    }
    gone.sort_unstable();
    assert_eq!(gone, (1..=NODES).collect::<Vec<_>>());
}

#[test]
fn a_large_picture_comes_in_parts_of_which_the_last_is_marked() {
    let router = RouterProcess::with("limits: {max_services_per_session: 1000}\n");
    let mut nodes = Vec::new();
    for n in 0..5_u32 {
        let ids: Vec<String> = (1..=900).map(|i| format!("5.{}", n * 900 + i)).collect();
        nodes.push(router.join(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let mut node = watcher(&router);
    let (mut seen, mut parts) = (Vec::new(), 0);
    loop {
        let event = node.expect_event();
        assert!(event.snapshot);
        seen.extend(event.joined.iter().map(|joined| joined.id.instance().raw()));
        parts += 1;
        if event.complete {
            break;
        }
    }
    assert!(parts > 1);
    assert_eq!(seen, (1..=4_500).collect::<Vec<_>>());
}

#[test]
fn after_unwatch_nothing_is_told() {
    let router = RouterProcess::start();
    let mut node = watcher(&router);
    node.expect_event();
    node.say(Control::Unwatch(Watch::of(class(5))));
    // Loads are made in turn with unwatches, and answered where they are refused.
    node.say(Control::Load(switchboard_protocol::control::Load { id: id("9.9"), load: 1 }));
    node.expect_refused();
    let _one = router.join(&["5.1"]);
    node.sync();
    assert!(!node.inbox().any(|incoming| matches!(incoming, Incoming::Control(Control::Event(_)))));
    node.say(Control::Watch(Watch::of(class(5))));
    let event = node.expect_event();
    assert_eq!((event.snapshot, event.joined), (true, joined("5.1")));
}

#[test]
fn the_newest_incarnation_wins_and_the_older_is_told_so() {
    let router = RouterProcess::start();
    let mut node = watcher(&router);
    node.expect_event();
    let mut sender = router.join(&["6.1"]);
    let mut older = with_incarnation(&router, &["5.1"], 10);
    let (_, first) = master(&expect_live(&mut node));
    let mut newer = with_incarnation(&router, &["5.1"], 11);
    let told = older.expect("Replaced", |incoming| match incoming {
        Incoming::Control(Control::Replaced(replaced)) => Some(replaced.clone()),
        _ => None,
    });
    assert_eq!(told, Replaced { ids: vec![id("5.1")] });
    let go_away = older.expect_go_away();
    assert_eq!(go_away, GoAway { reason: GoAwayReason::Replaced, reconnect_after_ms: None });
    older.expect_closed();
    let event = expect_live(&mut node);
    assert_eq!((&event.left, &event.joined), (&left("5.1", LeftReason::Replaced), &joined("5.1")));
    let (who, second) = master(&event);
    assert_eq!(who, Some(id("5.1")));
    assert!(second > first, "another process is master now, so its epoch is higher");
    sender.send(&direct(sender.id(), id("5.1"), "to the newer"));
    assert_eq!(newer.expect_data().payload, "to the newer");
}

#[test]
fn an_equal_incarnation_takes_its_ids_back() {
    let router = RouterProcess::start();
    let mut before = with_incarnation(&router, &["5.1"], 10);
    let mut after = with_incarnation(&router, &["5.1"], 10);
    before.expect_closed();
    after.sync();
}

#[test]
fn a_hello_that_comes_late_does_not_take_the_ids_from_the_connection_that_followed() {
    let router = RouterProcess::with("classes: {matchsvr: {id: 5}}\n");
    let attempt = |attempt| Hello { incarnation: 10, link: 1, attempt, ..hello(&["5.1"]) };
    let mut late = router.connect();
    let mut holder = router.connect();
    holder.hello(attempt(2));
    assert_eq!(holder.expect_event().master.and_then(|master| master.id), Some(id("5.1")));
    late.say(Control::Hello(attempt(1)));
    let refused = late.expect_refused();
    assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::OutdatedIncarnation);
    assert_eq!(
        refused.text,
        "matchsvr.1 is held by a later connection of this node: attempt 2, and this is 1"
    );
    late.expect_closed();
    holder.sync();
    assert_eq!(holder.inbox().count(), 0, "the holder hears nothing of it");
    // A session that lives is refused as well, in the attempt of its hello.
    let mut other = router.connect();
    other.hello(Hello { services: vec![service("7.1")], ..attempt(1) });
    let services = vec![service("5.1")];
    other.say(Control::Register(Register { request: 3, services }));
    let refused = other.expect_refused();
    assert_eq!((refused.code, refused.request), (RefusalCode::OutdatedIncarnation.raw(), Some(3)));
    other.sync();
    // The next attempt takes them, as ever.
    router.connect().hello(attempt(3));
    holder.expect_closed();
}

#[test]
fn an_older_incarnation_is_refused() {
    let router = RouterProcess::with("classes: {matchsvr: {id: 5}}\n");
    let mut newer = with_incarnation(&router, &["5.1"], 11);
    let mut older = router.connect();
    older.say(Control::Hello(Hello { incarnation: 10, ..hello(&["5.2", "5.1"]) }));
    let refused = older.expect_refused();
    assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::OutdatedIncarnation);
    assert_eq!(refused.text, "matchsvr.1 is held by incarnation 11, which is newer than 10");
    older.expect_closed();
    newer.sync();
    assert_eq!(router.metric("switchboard_instances", &[]), 1, "all or nothing");
}

#[test]
fn a_session_that_loses_one_of_its_ids_keeps_the_others() {
    let router = RouterProcess::start();
    let mut older = with_incarnation(&router, &["5.1", "5.2"], 1);
    let mut newer = with_incarnation(&router, &["7.1"], 2);
    newer.say(Control::Register(Register { request: 1, services: vec![service("5.1")] }));
    older.expect("Replaced", |incoming| {
        matches!(incoming, Incoming::Control(Control::Replaced(_))).then_some(())
    });
    newer.send(&direct(id("7.1"), id("5.2"), "still yours"));
    assert_eq!(older.expect_data().payload, "still yours");
    older.send(&direct(id("5.1"), id("7.1"), "not mine any more"));
    assert_eq!(RefusalCode::from_raw(older.expect_refused().code), RefusalCode::NotRegistered);
    older.sync();
}

#[test]
fn a_late_goodbye_of_the_old_socket_does_not_evict_the_newcomer() {
    let router = RouterBuilder::default().shards(3).start();
    let mut sender = router.join(&["6.1"]);
    let mut node = watcher(&router);
    node.expect_event();
    for round in 0..300_u64 {
        let old = with_incarnation(&router, &["5.1"], 2 * round);
        let mut new = router.connect();
        // The goodbye and the newcomer's Hello reach the router together, on different threads, and now
        // the one, now the other is read first.
        if round % 2 == 0 {
            new.say(Control::Hello(Hello { incarnation: 2 * round + 1, ..hello(&["5.1"]) }));
            drop(old);
        } else {
            drop(old);
            new.say(Control::Hello(Hello { incarnation: 2 * round + 1, ..hello(&["5.1"]) }));
        }
        new.expect("Welcome", |incoming| {
            matches!(incoming, Incoming::Control(Control::Welcome(_))).then_some(())
        });
        eventually("the old one is gone", || router.metric("switchboard_sessions", &[]) == 3);
        sender.send(&direct(sender.id(), id("5.1"), "you"));
        assert_eq!(new.expect_data().payload, "you", "round {round}");
    }
}

#[test]
fn a_ping_is_answered_with_its_nonce() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1"]);
    for nonce in [0, 1, u64::MAX] {
        node.say(Control::Ping(Ping { nonce }));
        let pong = node.expect("Pong", |incoming| match incoming {
            Incoming::Control(Control::Pong(pong)) => Some(pong.nonce),
            _ => None,
        });
        assert_eq!(pong, nonce);
    }
}

#[test]
fn a_node_that_falls_silent_is_given_up_after_three_heartbeats_and_told_so() {
    let router = RouterProcess::with(QUICK);
    let mut node = watcher(&router);
    node.expect_event();
    let mut silent = router.connect();
    let start = Instant::now();
    silent.hello(Hello { heartbeat_ms: 200, ..hello(&["5.1"]) });
    assert_eq!(expect_live(&mut node).joined, joined("5.1"));
    assert_eq!(expect_live(&mut node).left, left("5.1", LeftReason::HeartbeatLost));
    assert!(start.elapsed() >= Duration::from_millis(596), "{:?}", start.elapsed());
    assert_eq!(silent.expect_go_away().reason, GoAwayReason::HeartbeatLost);
    silent.expect_closed();
    router.expect_log("closed: heartbeat lost");
}

#[test]
fn a_silent_node_is_given_up_when_three_heartbeats_have_passed_and_hardly_later() {
    const NODES: u64 = 24;
    // Three heartbeats, less a fiftieth of one.
    let silence = Duration::from_millis(1_490);
    let router = RouterProcess::start();
    let last_words: Vec<_> = (1..=NODES)
        .map(|n| {
            let mut node = router.connect();
            // Without an id it is told of nothing, so the end is all that comes.
            node.hello(Hello { heartbeat_ms: 500, ..hello(&[]) });
            std::thread::spawn(move || {
                // Spread over the tick of the router's coarse clock, wherever that begins.
                switchboard_tests::wait::holds_for(Duration::from_millis(5 * n), || true);
                let start = Instant::now();
                node.say(Control::Ping(Ping::default()));
                node.expect_closed();
                start.elapsed()
            })
        })
        .collect();
    let mut times: Vec<Duration> =
        last_words.into_iter().map(|thread| thread.join().expect("it was told")).collect();
    times.sort_unstable();
    assert!(times[0] >= silence, "{times:?}");
    // Some may be told late on a machine that has other things to do.
    assert!(times[NODES as usize * 3 / 4] < silence + Duration::from_millis(50), "{times:?}");
}

#[test]
fn every_frame_is_a_sign_of_life() {
    let router = RouterProcess::with(QUICK);
    let mut target = router.join(&["5.2"]);
    let mut node = router.connect();
    node.hello(Hello { heartbeat_ms: 300, ..hello(&["5.1"]) });
    let start = Instant::now();
    // Data alone, for several times the silence that is allowed, in its own rhythm.
    while start.elapsed() < Duration::from_millis(2_500) {
        node.send(&direct(id("5.1"), id("5.2"), "alive"));
        target.expect_data();
        assert!(!target.read_for(Duration::from_millis(50)));
    }
    node.sync();
}

#[test]
fn a_node_that_a_slow_consumer_pauses_is_not_taken_for_dead_and_hears_pongs() {
    let router = RouterProcess::with(&format!(
        "{QUICK}default_class: {{high_water_bytes: 65536, stall_timeout_ms: 60000}}\n"
    ));
    let mut consumer = router.join(&["5.1"]);
    const FRAMES: u64 = 400;
    let bytes: Vec<u8> = (0..FRAMES)
        .flat_map(|n| direct(id("6.1"), id("5.1"), numbered(n, 60_000)).to_bytes())
        .collect();
    // Made before Hello: a heartbeat is short here.
    let mut sender = router.connect();
    sender.hello(Hello { heartbeat_ms: 200, ..hello(&["6.1"]) });
    let sent = sender.send_until_stuck(&bytes, Duration::from_millis(200));
    assert!(sent < bytes.len());
    eventually("it is paused", || router.metric("switchboard_source_pauses_total", &[]) > 0);
    // Several silences long it hears from the router, though it can't be heard itself.
    let start = Instant::now();
    let mut pongs = 0;
    while start.elapsed() < Duration::from_secs(3) {
        sender.expect("Pong", |incoming| {
            matches!(incoming, Incoming::Control(Control::Pong(_))).then_some(())
        });
        pongs += 1;
    }
    assert!((5..200).contains(&pongs), "{pongs} pongs in 3 s");
    let mut writer = sender.other_half();
    let writing = std::thread::spawn(move || writer.send_bytes(&bytes[sent..]));
    for n in 0..FRAMES {
        assert_eq!(switchboard_tests::frames::number_of(&consumer.expect_data().payload), n);
    }
    writing.join().expect("all was sent");
    sender.sync();
}

#[test]
fn a_node_that_is_paused_often_hears_no_more_pongs_than_one_that_is_paused_once() {
    // Unix sockets hold little, so that what the consumer reads soon lets the sender go on.
    let scratch = switchboard_tests::scratch::Scratch::new();
    let router = RouterBuilder::default()
        .listen(format!("unix:{}", scratch.file("router.sock").display()))
        .config(&format!(
            "{QUICK}default_class: {{high_water_bytes: 4096, stall_timeout_ms: 60000}}\n"
        ))
        .start();
    let mut consumer = router.join(&["5.1"]);
    let mut sender = router.connect();
    sender.hello(Hello { heartbeat_ms: 300, ..hello(&["6.1"]) });
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (mut writer, stopped) = (sender.other_half(), stop.clone());
    let writing = std::thread::spawn(move || {
        let frame = direct(id("6.1"), id("5.1"), numbered(0, 20_000)).to_bytes();
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            writer.send_bytes(&frame);
        }
    });
    let reading = std::thread::spawn(move || {
        while consumer.expect_data().payload.len() > 8 {
            // It reads far less than it is sent, so the sender is paused most of the time.
            switchboard_tests::wait::holds_for(Duration::from_millis(1), || true);
        }
        consumer
    });
    let start = Instant::now();
    let mut pauses = 0;
    while start.elapsed() < Duration::from_secs(3) || pauses < 50 {
        assert!(start.elapsed() < Duration::from_secs(20), "{pauses} pauses only");
        pauses = router.metric("switchboard_source_pauses_total", &[]);
        assert!(!sender.read_for(Duration::from_millis(20)));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writing.join().expect("it stopped");
    sender.send(&direct(id("6.1"), id("5.1"), [0; 8]));
    let _consumer = reading.join().expect("it has read everything");
    let pongs =
        sender.inbox().filter(|one| matches!(one, Incoming::Control(Control::Pong(_)))).count();
    let seconds = start.elapsed().as_secs() as usize + 1;
    assert!(pongs <= 10 * seconds, "{pongs} pongs in {seconds} s, {pauses} pauses");
}

#[test]
fn a_router_that_was_stopped_does_not_take_its_nodes_for_dead() {
    let router = RouterProcess::with(QUICK);
    let mut node = router.connect();
    node.hello(Hello { heartbeat_ms: 300, ..hello(&["5.1"]) });
    node.sync();
    router.signal("STOP");
    // Its pings wait in the socket while the machine has other plans, for several silences.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) {
        node.say(Control::Ping(Ping::default()));
        assert!(!node.read_for(Duration::from_millis(100)));
    }
    router.signal("CONT");
    node.sync();
}
