//! What the router counts, each number provoked in a real router and read from its page.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use switchboard_protocol::control::{Hello, Ping, Register, Unregister};
use switchboard_protocol::{Control, Mode, ServiceId};
use switchboard_tests::frames::{direct, hello, id, numbered, service, to_class};
use switchboard_tests::wait::holds_for;
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

#[track_caller]
fn expect(router: &RouterProcess, name: &str, labels: &[(&str, &str)], value: u64) {
    eventually(&format!("{name} {labels:?} is {value}"), || router.metric(name, labels) == value);
}

/// The names on the page, as they are declared.
fn families(page: &str) -> BTreeSet<String> {
    let declared = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    declared.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn give_up(node: &mut RawNode, ids: &[&str], draining: bool) {
    let ids = ids.iter().map(|text| id(text)).collect();
    node.say(Control::Unregister(Unregister { request: 1, ids, draining }));
    node.expect("Unregistered", |incoming| {
        matches!(incoming, Incoming::Control(Control::Unregistered(_))).then_some(())
    });
}

/// More than all sockets on the way hold, for a consumer that does not read.
fn flood(mut sender: RawNode, target: ServiceId) -> thread::JoinHandle<RawNode> {
    thread::spawn(move || {
        for n in 0..3_000 {
            sender.send(&direct(sender.id(), target, numbered(n, 8_000)));
        }
        sender
    })
}

#[test]
fn the_operators_guide_knows_every_metric_and_no_other() {
    let router = RouterProcess::with("classes: {c: {id: 5, park_ms: 60000}}\n");
    let mut node = router.join(&["6.1"]);
    // What has never happened to any class has no sample: a frame that arrives, and one that waits.
    node.send(&direct(node.id(), node.id(), "to myself"));
    node.send(&to_class(node.id(), Mode::Master, 5, "to nobody"));
    node.sync();
    // What a node has read is counted a moment later.
    expect(&router, "switchboard_frames_total", &[], 1);
    let on_the_page = families(&router.http("GET", "/metrics").body);
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let guide = std::fs::read_to_string(guide).expect("the guide is there");
    let words = guide.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let named =
        words.filter(|word| ["switchboard_", "process_"].iter().any(|p| word.starts_with(p)));
    let named = named.filter(|word| !word.starts_with("switchboard_node_"));
    let parts = ["_bucket", "_count", "_sum"];
    let family = |word: &str| {
        let whole = parts.iter().find_map(|part| word.strip_suffix(part));
        whole.filter(|whole| on_the_page.contains(*whole)).unwrap_or(word).to_owned()
    };
    let named: BTreeSet<String> = named.map(family).collect();
    assert_eq!(named, on_the_page);
}

#[test]
fn frames_and_bytes_are_counted_by_where_they_end_and_drops_by_reason() {
    let router = RouterProcess::with("classes: {c: {id: 5}, gone: {id: 7}}\n");
    let mut sender = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    let frames = [
        (direct(sender.id(), id("5.1"), [1; 10]), "c", "direct", "delivered"),
        (direct(sender.id(), id("5.1"), [2; 20]), "c", "direct", "delivered"),
        (direct(sender.id(), id("5.2"), [3; 30]), "c", "direct", "not_found"),
        (to_class(sender.id(), Mode::Random, 7, [4; 40]), "gone", "random", "no_instance"),
        (direct(id("9.9"), id("5.1"), [5; 50]), "c", "direct", "refused"),
    ];
    sender.send_all(frames.iter().map(|(frame, ..)| frame));
    target.expect_data();
    target.expect_data();
    sender.sync();
    expect(&router, "switchboard_frames_total", &[], frames.len() as u64);
    let metrics = router.metrics();
    for (_, class, mode, outcome) in &frames {
        let labels = [("class", *class), ("mode", *mode), ("outcome", *outcome)];
        let same = frames.iter().filter(|one| (one.1, one.2, one.3) == (*class, *mode, *outcome));
        let (count, bytes) = same.fold((0, 0), |sum, one| (sum.0 + 1, sum.1 + one.0.len() as u64));
        assert_eq!(metrics.sum("switchboard_frames_total", &labels), count, "{labels:?}");
        assert_eq!(metrics.sum("switchboard_ended_bytes_total", &labels), bytes, "{labels:?}");
    }
    let all: u64 = frames.iter().map(|(frame, ..)| frame.len() as u64).sum();
    assert_eq!(metrics.sum("switchboard_received_bytes_total", &[]), all);
    let dropped = metrics.by("switchboard_dropped_frames_total", &[("class", "c")], "reason");
    assert_eq!(dropped.len(), 10, "a rate needs the zeros: {dropped:?}");
    for (reason, frames) in dropped {
        let expected = u64::from(reason == "not_found" || reason == "refused");
        assert_eq!(frames, expected, "{reason}");
    }
    let gone = [("class", "gone"), ("reason", "no_instance")];
    assert_eq!(metrics.sum("switchboard_dropped_frames_total", &gone), 1);
    assert!(metrics.sum("switchboard_reads_total", &[]) > 0);
    assert!(metrics.sum("switchboard_writes_total", &[]) > 0);
}

#[test]
fn bytes_that_were_lost_with_a_full_mailbox_are_counted_as_what_they_were() {
    let router =
        RouterProcess::with("classes: {c: {id: 5, overflow: drop-old, high_water_bytes: 65536}}\n");
    let mut consumer = router.join(&["5.1"]);
    let mut sender = flood(router.join(&["6.1"]), id("5.1")).join().expect("nothing pauses it");
    sender.sync();
    consumer.sync();
    expect(&router, "switchboard_frames_total", &[], 3_000);
    let metrics = router.metrics();
    for outcome in ["delivered", "evicted"] {
        let labels = [("outcome", outcome)];
        let frames = metrics.sum("switchboard_frames_total", &labels);
        assert!(frames > 0, "{outcome}");
        assert_eq!(metrics.sum("switchboard_ended_bytes_total", &labels), frames * 8_016);
    }
}

#[test]
fn sessions_are_told_apart_by_how_far_they_have_come() {
    let router = RouterProcess::start();
    let in_state =
        |state, count| expect(&router, "switchboard_sessions", &[("state", state)], count);
    let silent = router.connect();
    in_state("greeting", 1);
    let mut node = router.join(&["5.1", "5.2"]);
    let _watcher = router.join(&[]);
    in_state("active", 2);
    give_up(&mut node, &["5.1"], true);
    let state = |state| router.metric("switchboard_sessions", &[("state", state)]);
    assert_eq!((state("active"), state("draining")), (2, 0), "it has an id that does not drain");
    give_up(&mut node, &["5.2"], true);
    in_state("draining", 1);
    node.say(Control::Register(Register { request: 2, services: vec![service("5.3")] }));
    in_state("draining", 0);
    in_state("active", 2);
    give_up(&mut node, &["5.1", "5.2", "5.3"], false);
    in_state("draining", 1);
    drop(silent);
    in_state("greeting", 0);
    assert_eq!(router.metric("switchboard_sessions", &[]), 2);
}

#[test]
fn every_connection_is_a_session_or_was_one_or_never_became_one() {
    let router = RouterProcess::with("limits: {max_connections: 3}\n");
    let _one = router.join(&["5.1"]);
    let _two = router.join(&["5.2"]);
    for ended in 1..=4 {
        drop(router.connect());
        expect(&router, "switchboard_sessions_ended_total", &[], ended);
        expect(&router, "switchboard_sessions", &[], 2);
    }
    let _silent = router.connect();
    expect(&router, "switchboard_sessions", &[], 3);
    let mut fourth = router.connect();
    fourth.expect_closed();
    let metrics = router.metrics();
    let refused = [("reason", "limit_exceeded")];
    let refused = metrics.sum("switchboard_handshake_failures_total", &refused);
    let ended = metrics.sum("switchboard_sessions_ended_total", &[]);
    assert_eq!((refused, ended), (1, 4));
    assert_eq!(metrics.sum("switchboard_connections_total", &[]), 3 + ended + refused);
    // A port scanner, or a probe that only connects.
    let left = [("reason", "disconnected")];
    assert_eq!(metrics.sum("switchboard_handshake_failures_total", &left), 4);
}

#[test]
fn handshakes_fail_for_reasons_that_are_counted() {
    let router = RouterProcess::with("limits: {handshake_timeout_ms: 400}\n");
    let newer = Hello { incarnation: 9, ..hello(&["5.1"]) };
    router.connect().hello(newer);
    let say = |hello: Hello| Control::Hello(hello).to_frame().to_bytes();
    let holder = Hello { incarnation: 9, ..hello(&["5.2"]) };
    let mut held = router.connect();
    held.hello(holder);
    let unknown = Control::Ping(Ping::default()).to_frame();
    let cases = [
        ("version", say(Hello { version: 0, ..hello(&["5.3"]) })),
        ("handshake_expected", unknown.to_bytes()),
        ("handshake_timeout", Vec::new().into()),
        ("malformed", vec![0; 16].into()),
        ("outdated_incarnation", say(hello(&["5.2"]))),
        ("limit_exceeded", say(hello(&vec!["7.0"; 65]))),
    ];
    for (reason, bytes) in &cases {
        let mut node = router.connect();
        node.send_bytes(bytes);
        node.expect_closed();
        let labels = [("reason", *reason)];
        assert_eq!(router.metric("switchboard_handshake_failures_total", &labels), 1, "{reason}");
    }
    let failures = router.metric("switchboard_handshake_failures_total", &[]);
    assert_eq!(failures, cases.len() as u64);
    let reasons = router.metrics().by("switchboard_handshake_failures_total", &[], "reason");
    assert!(reasons.len() >= 17 && reasons.iter().any(|one| *one == ("io".to_owned(), 0)));
}

#[test]
fn sessions_end_for_reasons_that_are_counted() {
    let router = RouterProcess::with(
        "limits: {handshake_timeout_ms: 300}\nheartbeat: {min_ms: 100}\n\
         classes: {c: {id: 7, overflow: disconnect, high_water_bytes: 65536}}\n",
    );
    drop(router.join(&["5.1"]));
    router.join(&["5.2"]).send_bytes(&[0; 16]);
    router.connect().hello(Hello { incarnation: 1, ..hello(&["5.3"]) });
    let mut old = router.join(&["5.4"]);
    router.connect().hello(Hello { incarnation: 2, ..hello(&["5.4"]) });
    old.expect_closed();
    router.connect().expect_closed();
    let mut refused = router.connect();
    refused.send_bytes(&direct(id("5.1"), id("5.1"), "no Hello").to_bytes());
    refused.expect_closed();
    let mut silent = router.connect();
    silent.hello(Hello { heartbeat_ms: 100, ..hello(&["5.5"]) });
    silent.expect_closed();
    let slow = router.join(&["7.1"]);
    flood(router.join(&["6.1"]), slow.id()).join().expect("nothing pauses it");
    for (reason, sessions) in [
        ("malformed", 1),
        ("replaced", 1),
        ("handshake_timeout", 1),
        ("not_admitted", 1),
        ("heartbeat_lost", 1),
        ("slow_consumer", 1),
        // The first, the third, who replaced the fourth, and who flooded.
        ("disconnected", 4),
        ("broken", 0),
        ("shutdown", 0),
    ] {
        expect(&router, "switchboard_sessions_ended_total", &[("reason", reason)], sessions);
    }
}

#[test]
fn a_heartbeat_that_is_late_is_counted_before_it_ends_the_session() {
    let router = RouterProcess::with("heartbeat: {min_ms: 100}\n");
    let mut node = router.connect();
    node.hello(Hello { heartbeat_ms: 1_000, ..hello(&["5.1"]) });
    // One is missed, and its node is there again.
    assert!(!node.read_for(Duration::from_millis(2_000)));
    node.sync();
    let missed = || router.metric("switchboard_heartbeats_missed_total", &[]);
    let late = missed();
    assert!((1..=2).contains(&late), "{late}");
    node.sync();
    assert_eq!(missed(), late, "it is in time again");
    node.expect_closed();
    expect(&router, "switchboard_heartbeats_missed_total", &[], late + 3);
    let lost = [("reason", "heartbeat_lost")];
    assert_eq!(router.metric("switchboard_sessions_ended_total", &lost), 1);
}

#[test]
fn a_full_mailbox_shows_with_its_bytes_and_with_the_senders_that_it_holds_up() {
    let router = RouterProcess::with(
        "default_class: {stall_timeout_ms: 60000}\n\
         classes: {slow: {id: 5, high_water_bytes: 65536, stall_timeout_ms: 60000}}\n",
    );
    // Two of its ids are of one class; what waits for them waits once.
    let mut consumers = [router.join(&["5.1", "5.3"]), router.join(&["5.2"])];
    let _idle = router.join(&["5.9"]);
    let class = [("class", "slow")];
    let floods = [flood(router.join(&["6.1"]), id("5.1")), flood(router.join(&["6.2"]), id("5.2"))];
    expect(&router, "switchboard_paused_sources", &[], 2);
    let metrics = router.metrics();
    let largest = metrics.sum("switchboard_mailbox_largest_bytes", &class);
    let sum = metrics.sum("switchboard_mailbox_bytes", &class);
    let mark = metrics.sum("switchboard_mailbox_high_water_bytes", &class);
    assert_eq!(mark, 65_536);
    assert!(largest >= mark && largest < 1 << 20, "{largest}");
    assert!(sum >= mark + largest && sum <= 2 * largest, "{sum} and {largest}");
    assert_eq!(metrics.sum("switchboard_mailbox_bytes", &[("class", "6")]), 0);
    for consumer in &mut consumers {
        for _ in 0..3_000 {
            consumer.expect_data();
        }
    }
    for flood in floods {
        flood.join().expect("all was sent").sync();
    }
    expect(&router, "switchboard_paused_sources", &[], 0);
    expect(&router, "switchboard_mailbox_bytes", &class, 0);
    expect(&router, "switchboard_mailbox_largest_bytes", &class, 0);
    assert!(router.metric("switchboard_source_pauses_total", &[]) >= 2);
}

#[test]
fn a_sender_that_ends_while_it_is_held_up_is_not_held_up_any_more() {
    let router = RouterProcess::with(
        "limits: {handshake_timeout_ms: 60000}\n\
         classes: {slow: {id: 5, high_water_bytes: 65536, stall_timeout_ms: 60000}}\n",
    );
    let _consumer = router.join(&["5.1"]);
    let flood = flood(router.join(&["6.1"]), id("5.1"));
    expect(&router, "switchboard_paused_sources", &[], 1);
    // A newer one takes its id, which ends it, though it is not read.
    router.connect().hello(Hello { incarnation: 2, ..hello(&["6.1"]) });
    expect(&router, "switchboard_paused_sources", &[], 0);
    drop(router);
    let _ = flood.join();
}

#[test]
fn instances_and_masters_are_counted_by_class() {
    let router = RouterProcess::with("classes: {m: {id: 5}}\n");
    let class = [("class", "m")];
    let state = |state| router.metric("switchboard_instances", &[("class", "m"), ("state", state)]);
    let mut node = router.join(&["5.1", "5.2", "5.3"]);
    assert_eq!((state("live"), state("draining")), (3, 0));
    assert_eq!(router.metric("switchboard_masters", &class), 1);
    let epoch = router.metric("switchboard_master_epoch", &class);
    give_up(&mut node, &["5.1"], true);
    assert_eq!((state("live"), state("draining")), (2, 1));
    assert!(router.metric("switchboard_master_epoch", &class) > epoch);
    assert_eq!(router.metric("switchboard_master_changes_total", &class), 2);
    drop(node);
    expect(&router, "switchboard_masters", &class, 0);
    assert_eq!((state("live"), state("draining")), (0, 0));
    assert_eq!(router.metric("switchboard_master_changes_total", &class), 4, "5.3, and then none");
}

#[test]
fn reloads_are_counted_and_an_old_name_does_not_linger() {
    let router = RouterProcess::with("classes: {before: {id: 5}, same: {id: 6}}\n");
    let mut node = router.join(&["5.1", "6.1"]);
    node.send(&direct(id("6.1"), id("5.1"), "counts"));
    node.expect_data();
    let reloads = |outcome| router.metric("switchboard_reloads_total", &[("outcome", outcome)]);
    let in_force = || router.metric("switchboard_last_reload_successful", &[]);
    assert_eq!((reloads("applied"), reloads("refused"), in_force()), (0, 0, 1));
    router.rewrite_config("classes: {after: {id: 5}, same: {id: 6}}\n");
    router.signal("HUP");
    eventually("it is applied", || reloads("applied") == 1);
    let page = router.http("GET", "/metrics").body;
    assert!(!page.contains("before"), "{page}");
    let delivered = [("class", "after"), ("outcome", "delivered")];
    assert_eq!(router.metric("switchboard_frames_total", &delivered), 1);
    assert_eq!(router.metric("switchboard_instances", &[("class", "after")]), 1);
    // One that can't be read, and one that can't be meant.
    for (wrong, mistakes) in [("classes: [", 1), ("limits: {max_frame_bytes: 1}\n", 2)] {
        router.rewrite_config(wrong);
        router.signal("HUP");
        eventually("it is refused", || reloads("refused") == mistakes);
        assert_eq!(in_force(), 0);
    }
    router.rewrite_config("classes: {same: {id: 6}}\n");
    router.signal("HUP");
    eventually("it is applied", || reloads("applied") == 2);
    assert_eq!(in_force(), 1);
    assert_eq!(router.metric("switchboard_instances", &[("class", "5")]), 1, "it has no name now");
}

#[test]
fn the_time_from_read_to_write_is_measured_for_some_batches() {
    const ROUNDS: u64 = 5_000;
    let router = RouterBuilder::default().shards(1).start();
    let mut node = router.join(&["5.1", "6.1"]);
    let count = || router.metric("switchboard_read_to_write_seconds_count", &[]);
    assert_eq!(count(), 0);
    let frame = direct(id("6.1"), id("5.1"), "ping");
    node.send(&frame);
    node.expect_data();
    // The first of a thread is one of them.
    expect(&router, "switchboard_read_to_write_seconds_count", &[], 1);
    for _ in 0..ROUNDS {
        node.send(&frame);
        node.expect_data();
    }
    let timed = count() - 1;
    // One in 128, and never none within 255.
    assert!((ROUNDS / 255..ROUNDS / 64).contains(&timed), "{timed} of {ROUNDS}");
    let metrics = router.metrics();
    let name = "switchboard_read_to_write_seconds";
    let sum = metrics.value(&format!("{name}_sum"), &[]);
    assert!(sum > 0.0 && sum < 5.0, "{sum}");
    let buckets = metrics.by(&format!("{name}_bucket"), &[], "le");
    assert_eq!(buckets.first().map(|(le, _)| le.as_str()), Some("0.00001"));
    assert_eq!(buckets.last(), Some(&("+Inf".to_owned(), timed + 1)));
    assert!(buckets.iter().map(|(_, count)| count).is_sorted(), "{buckets:?}");
}

#[test]
fn a_thread_that_works_is_busier_than_one_that_waits() {
    let router = RouterBuilder::default().shards(2).start();
    let start = Instant::now();
    let shards = || router.metrics().by("switchboard_shard_busy_seconds_total", &[], "shard");
    let names: Vec<String> = shards().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0", "1", "control"]);
    let busy =
        |shard| router.metrics().value("switchboard_shard_busy_seconds_total", &[("shard", shard)]);
    // The first connection goes to the first thread.
    let mut node = router.join(&["5.1", "6.1"]);
    let (worked, waited) = (busy("0"), busy("1"));
    let frames = vec![direct(id("6.1"), id("5.1"), [0; 8]); 2_000];
    eventually("it has worked", || {
        node.send_all(&frames);
        frames.iter().for_each(|_| drop(node.expect_data()));
        busy("0") > worked + 0.05
    });
    let (worked, waited) = (busy("0") - worked, busy("1") - waited);
    assert!(worked > 5.0 * waited, "{worked} s and {waited} s");
    assert!(worked < start.elapsed().as_secs_f64());
}

#[test]
fn the_process_is_on_the_page() {
    let router = RouterProcess::start();
    let before = router.metrics();
    let nodes: Vec<_> = (0..50).map(|_| router.connect()).collect();
    expect(&router, "switchboard_sessions", &[], 50);
    let metrics = router.metrics();
    let fds = |metrics: &switchboard_tests::metrics::Metrics| metrics.sum("process_open_fds", &[]);
    let grown = fds(&metrics) - fds(&before);
    assert!((50..60).contains(&grown), "{grown}");
    assert!(metrics.sum("process_max_fds", &[]) > fds(&metrics));
    let (shown, resident) =
        (metrics.sum("process_resident_memory_bytes", &[]), router.resident_bytes());
    assert!(shown.abs_diff(resident) < 4 << 20, "{shown} and {resident}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let started = metrics.value("process_start_time_seconds", &[]);
    assert!((started - now.as_secs_f64()).abs() < 60.0, "{started}");
    let cpu = || router.metrics().value("process_cpu_seconds_total", &[]);
    eventually("it has worked for a tick", || cpu() > 0.0);
    drop(nodes);
}

#[test]
fn connections_that_the_system_does_not_give_are_counted() {
    let router = RouterProcess::start();
    let limited = Command::new("prlimit")
        .args(["--pid", &router.pid().to_string(), "--nofile=40:40"])
        .status();
    assert!(limited.expect("prlimit runs").success());
    let nodes: Vec<_> = (0..60).map(|_| router.connect()).collect();
    router.expect_log("accept failed");
    drop(nodes);
    expect(&router, "switchboard_connections_total", &[], 60);
    assert!(router.metric("switchboard_accept_failures_total", &[]) > 0);
    assert_eq!(router.metric("process_max_fds", &[]), 40);
}

#[test]
fn classes_that_come_and_go_do_not_make_the_page_grow() {
    const CLASSES: u32 = 240;
    let router = RouterProcess::start();
    let mut sender = router.join(&["1.1"]);
    let mut sizes = Vec::new();
    for round in 1..=4 {
        let ids: Vec<String> = (2..2 + CLASSES).map(|class| format!("{class}.{round}")).collect();
        let nodes: Vec<_> = ids
            .chunks(60)
            .map(|ids| router.join(&ids.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        expect(&router, "switchboard_instances", &[], u64::from(CLASSES) + 1);
        for mode in [Mode::Master, Mode::Random, Mode::Broadcast, Mode::LeastLoaded] {
            for class in 2..2 + CLASSES {
                sender.send(&to_class(sender.id(), mode, class as u8, "to all classes"));
            }
        }
        sender.sync();
        drop(nodes);
        expect(&router, "switchboard_instances", &[], 1);
        sender.send_all(
            &(2..2 + CLASSES)
                .map(|class| to_class(sender.id(), Mode::Master, class as u8, "to nobody"))
                .collect::<Vec<_>>(),
        );
        sender.sync();
        let frames = u64::from(CLASSES) * 5 * round;
        expect(&router, "switchboard_frames_total", &[], frames);
        let metrics = router.metrics();
        sizes.push((metrics.count(None), metrics.count(Some("switchboard_instances"))));
    }
    // What a broadcast's copies ended in may differ at first.
    assert_eq!(sizes[1..].iter().collect::<BTreeSet<_>>().len(), 1, "{sizes:?}");
    assert_eq!(sizes[3].1, 2 * (CLASSES as usize + 1));
    assert!(holds_for(Duration::from_millis(100), || router.metrics().count(None) == sizes[3].0));
}
