//! From a connection to a registered node, and every way in which that is refused.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use switchboard_protocol::control::{Hello, Register, Service, Unregister};
use switchboard_protocol::{Control, Flags, Instance, Mode, RefusalCode};
use switchboard_tests::frames::{With, direct, hello, id, service, to_class};
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

const CLASSES: &str = "classes:\n  matchsvr: {id: 5}\n  gateway: {id: 6}\n";

#[track_caller]
fn refused_hello(router: &RouterProcess, hello: Hello) -> (RefusalCode, String) {
    let mut node = router.connect();
    node.say(Control::Hello(hello));
    let refused = node.expect_refused();
    node.expect_closed();
    (RefusalCode::from_raw(refused.code), refused.text)
}

fn by_name(class: &str, instance: u32) -> Service {
    Service { class: class.to_owned(), instance, ..Service::default() }
}

fn register(node: &mut RawNode, request: u32, services: Vec<Service>) -> Incoming {
    node.say(Control::Register(Register { request, services }));
    answer(node)
}

fn answer(node: &mut RawNode) -> Incoming {
    node.expect("an answer", |incoming| match incoming {
        Incoming::Control(
            Control::Registered(_) | Control::Unregistered(_) | Control::Refused(_),
        ) => Some(incoming.clone()),
        _ => None,
    })
}

#[test]
fn who_holds_a_welcome_can_be_reached() {
    let router = RouterBuilder::default().shards(4).config(CLASSES).start();
    let mut early = router.join(&["6.1"]);
    for instance in 1..=200 {
        let name = format!("5.{instance}");
        let mut late = router.join(&[&name]);
        early.send(&direct(early.id(), id(&name), "at once"));
        assert_eq!(late.expect_data().payload, "at once");
    }
}

#[test]
fn welcome_tells_ids_in_order_names_and_limits() {
    let router = RouterBuilder::default()
        .config(&format!(
            "{CLASSES}name: north\nlimits: {{max_frame_bytes: 100000, max_services_per_session: 9}}\n\
             heartbeat: {{default_ms: 700, min_ms: 300, max_ms: 4000}}\n"
        ))
        .start();
    let services = vec![service("7.3"), by_name("gateway", 2), service("5.1")];
    let welcome = router.connect().hello(Hello { services, heartbeat_ms: 0, ..hello(&[]) });
    assert_eq!(welcome.ids, [id("7.3"), id("6.2"), id("5.1")]);
    assert_eq!((welcome.version, welcome.router.as_str()), (1, "north"));
    let names: Vec<_> =
        welcome.classes.iter().map(|(class, name)| (class.raw(), name.as_str())).collect();
    assert_eq!(names, [(5, "matchsvr"), (6, "gateway")]);
    assert_eq!((welcome.max_frame, welcome.max_services), (100_000, 9));
    assert_eq!(welcome.heartbeat_ms, 700);
    let asked = |heartbeat_ms| {
        router.connect().hello(Hello { heartbeat_ms, ..hello(&["8.0"]) }).heartbeat_ms
    };
    assert_eq!((asked(1), asked(500), asked(60_000)), (300, 500, 4_000));
}

#[test]
fn no_two_sessions_share_a_number() {
    let router = RouterProcess::start();
    let sessions: Vec<u64> =
        (0..20).map(|_| router.connect().hello(hello(&["5.0"])).session).collect();
    let mut distinct = sessions.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), sessions.len(), "{sessions:?}");
}

#[test]
fn instance_zero_is_assigned_from_its_own_range_and_never_twice() {
    let router = RouterProcess::start();
    let mut one = router.join(&["5.0", "5.0", "6.0"]);
    let two = router.join(&["5.0"]);
    let mut ids = [one.ids.clone(), two.ids.clone()].concat();
    assert!(ids.iter().all(|id| id.instance().is_assigned()), "{ids:?}");
    assert_eq!(ids[2].class().raw(), 6);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    drop(two);
    eventually("5.0 has left", || router.metric("switchboard_instances", &[("class", "5")]) == 2);
    // A number that has just become free is not dealt to the next, who might get its late mail.
    let Incoming::Control(Control::Registered(again)) = register(&mut one, 7, vec![service("5.0")])
    else {
        panic!("not registered")
    };
    assert!(!ids.contains(&again.ids[0]), "{:?} among {ids:?}", again.ids);
}

#[test]
fn an_assigned_number_can_be_asked_for_again() {
    let router = RouterProcess::start();
    let first = router.join(&["5.0"]);
    let kept = first.id().to_string();
    drop(first);
    eventually("it has left", || router.metric("switchboard_instances", &[]) == 0);
    assert_eq!(router.join(&[&kept]).id().to_string(), kept);
}

#[test]
fn a_node_may_register_nothing_and_watch_or_register_later() {
    let router = RouterProcess::start();
    let mut node = router.join(&[]);
    assert_eq!(node.ids, []);
    assert!(matches!(
        register(&mut node, 1, vec![service("5.1")]),
        Incoming::Control(Control::Registered(_))
    ));
}

#[test]
fn register_and_unregister_are_answered_with_their_request() {
    let router = RouterProcess::with(CLASSES);
    let mut node = router.join(&["5.1"]);
    let mut other = router.join(&["6.1"]);
    match register(&mut node, 41, vec![by_name("matchsvr", 2), service("7.9")]) {
        Incoming::Control(Control::Registered(answer)) => {
            assert_eq!((answer.request, answer.ids), (41, vec![id("5.2"), id("7.9")]));
        }
        other => panic!("{other:?}"),
    }
    other.send(&direct(other.id(), id("7.9"), "now"));
    assert_eq!(node.expect_data().payload, "now");
    node.send(&direct(id("7.9"), other.id(), "from the new id"));
    assert_eq!(other.expect_data().header.source, id("7.9").raw());

    node.say(Control::Unregister(Unregister {
        request: 42,
        ids: vec![id("7.9"), id("5.1")],
        draining: false,
    }));
    match answer(&mut node) {
        Incoming::Control(Control::Unregistered(answer)) => assert_eq!(answer.request, 42),
        other => panic!("{other:?}"),
    }
    other.send(&direct(other.id(), id("7.9"), "too late"));
    other.send(&direct(other.id(), id("5.2"), "still here"));
    assert_eq!(node.expect_data().payload, "still here");
    node.send(&direct(id("7.9"), other.id(), "not mine any more"));
    assert_eq!(RefusalCode::from_raw(node.expect_refused().code), RefusalCode::NotRegistered);
}

#[test]
fn a_session_cannot_unregister_what_it_does_not_hold() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1"]);
    let mut other = router.join(&["5.2"]);
    let ids = vec![id("5.1"), id("5.2")];
    node.say(Control::Unregister(Unregister { request: 3, ids, draining: false }));
    let refused = node.expect_refused();
    assert_eq!(
        (refused.request, refused.text.as_str()),
        (Some(3), "5.2 is not registered by this session")
    );
    assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::NotRegistered);
    // All or nothing: both are still there.
    other.send(&direct(other.id(), id("5.1"), "one"));
    assert_eq!(node.expect_data().payload, "one");
    node.send(&direct(node.id(), id("5.2"), "two"));
    assert_eq!(other.expect_data().payload, "two");
}

#[test]
fn a_register_is_all_or_nothing() {
    let router = RouterProcess::with(CLASSES);
    let mut node = router.join(&["6.1"]);
    let mut other = router.join(&["6.2"]);
    let services = vec![service("5.1"), by_name("nosuch", 1)];
    let Incoming::Control(Control::Refused(refused)) = register(&mut node, 8, services) else {
        panic!("not refused")
    };
    assert_eq!((refused.code, refused.request), (RefusalCode::UnknownClass.raw(), Some(8)));
    other.send(&direct(other.id(), id("5.1"), "nobody").with(Flags::REPORT));
    assert_eq!(other.expect_report().header.target, id("5.1").raw());
    node.sync();
}

#[test]
fn an_unknown_class_name_is_refused_with_the_known_ones() {
    let router = RouterProcess::with(CLASSES);
    let services = vec![by_name("machsvr", 1)];
    assert_eq!(
        refused_hello(&router, Hello { services, ..hello(&[]) }),
        (
            RefusalCode::UnknownClass,
            "no class is named `machsvr`; known are matchsvr, gateway".to_owned()
        )
    );
}

#[test]
fn a_class_name_on_a_router_without_names_is_refused_with_the_way_out() {
    let router = RouterProcess::start();
    let services = vec![by_name("matchsvr", 1)];
    let (code, text) = refused_hello(&router, Hello { services, ..hello(&[]) });
    assert_eq!(code, RefusalCode::UnknownClass);
    assert_eq!(
        text,
        "no class is named `matchsvr`: this router's configuration names none; use a number"
    );
}

#[test]
fn ids_out_of_range_are_refused() {
    let router = RouterProcess::with(CLASSES);
    let zero = Service { id: 0, ..Service::default() };
    assert_eq!(
        refused_hello(&router, Hello { services: vec![zero], ..hello(&[]) }),
        (
            RefusalCode::InvalidId,
            "service 0x00000000: class 0 is out of range: a class is 1 to 255".to_owned()
        )
    );
    let too_high = by_name("matchsvr", Instance::MAX.raw() + 1);
    assert_eq!(
        refused_hello(&router, Hello { services: vec![too_high], ..hello(&[]) }),
        (
            RefusalCode::InvalidId,
            "instance 16777216 is out of range: an instance is 1 to 16777215".to_owned()
        )
    );
}

#[test]
fn the_same_id_twice_in_one_session_is_refused() {
    let router = RouterProcess::with(CLASSES);
    let text = "matchsvr.1 is registered by this session already";
    assert_eq!(
        refused_hello(&router, hello(&["5.1", "5.1"])),
        (RefusalCode::AlreadyRegistered, text.to_owned())
    );
    let mut node = router.join(&["5.1"]);
    let Incoming::Control(Control::Refused(refused)) = register(&mut node, 2, vec![service("5.1")])
    else {
        panic!("not refused")
    };
    assert_eq!((refused.code, refused.text.as_str()), (RefusalCode::AlreadyRegistered.raw(), text));
    node.sync();
}

#[test]
fn more_services_than_the_limit_are_refused() {
    let router = RouterProcess::with("limits: {max_services_per_session: 2}\n");
    let text = "a session may register 2 services at most";
    assert_eq!(
        refused_hello(&router, hello(&["5.1", "5.2", "5.3"])),
        (RefusalCode::LimitExceeded, text.to_owned())
    );
    let mut node = router.join(&["5.1"]);
    let too_many = vec![service("5.2"), service("5.3")];
    let Incoming::Control(Control::Refused(refused)) = register(&mut node, 2, too_many) else {
        panic!("not refused")
    };
    assert_eq!((refused.code, refused.text.as_str()), (RefusalCode::LimitExceeded.raw(), text));
    assert!(matches!(
        register(&mut node, 3, vec![service("5.2")]),
        Incoming::Control(Control::Registered(_))
    ));
    // What is given up makes room again.
    node.say(Control::Unregister(Unregister { request: 4, ids: vec![id("5.1")], draining: false }));
    assert!(matches!(answer(&mut node), Incoming::Control(Control::Unregistered(_))));
    assert!(matches!(
        register(&mut node, 5, vec![service("5.3")]),
        Incoming::Control(Control::Registered(_))
    ));
}

#[test]
fn a_version_that_is_not_spoken_is_refused() {
    let router = RouterProcess::start();
    assert_eq!(
        refused_hello(&router, Hello { version: 0, ..hello(&["5.1"]) }),
        (
            RefusalCode::Version,
            "protocol version 0 is not spoken here: this router speaks 1".to_owned()
        )
    );
}

#[test]
fn a_node_of_a_later_version_is_answered_in_the_version_that_both_speak() {
    let router = RouterProcess::start();
    let welcome = router.connect().hello(Hello { version: 2, ..hello(&["5.1"]) });
    assert_eq!(welcome.version, 1);
}

#[test]
fn a_second_hello_is_refused_and_the_session_lives() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1"]);
    node.say(Control::Hello(hello(&["5.2"])));
    let refused = node.expect_refused();
    assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::InvalidMessage);
    assert_eq!(refused.text, "a session says Hello once");
    node.sync();
}

#[test]
fn what_comes_before_hello_is_refused() {
    let router = RouterProcess::start();
    let first: [(&str, Vec<u8>); 3] = [
        ("a data frame", direct(id("5.1"), id("5.2"), "hi").to_bytes().to_vec()),
        ("a ping", Control::Ping(Default::default()).to_frame().to_bytes().to_vec()),
        (
            "a message that nobody knows",
            b"\x18\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\x92\xa5dance\x80"[..].into(),
        ),
    ];
    for (what, bytes) in first {
        let mut node = router.connect();
        node.send_bytes(&bytes);
        let refused = node.expect_refused();
        assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::HandshakeExpected, "{what}");
        assert_eq!(
            refused.text, "the first frame of a session is Hello, a control frame",
            "{what}"
        );
        assert_eq!(refused.offset, Some(0), "{what}");
        node.expect_closed();
    }
}

#[test]
fn a_hello_that_cannot_be_read_is_refused_with_the_reason() {
    let router = RouterProcess::start();
    let mut node = router.connect();
    let body = b"\x92\xa5hello\x81\xa7version\xa3one";
    node.send_bytes(&[&[16 + body.len() as u8, 0, 0, 0, 16][..], &[0; 11], body].concat());
    let refused = node.expect_refused();
    assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::InvalidMessage);
    assert!(refused.text.starts_with("control message `hello`: "), "{}", refused.text);
    node.expect_closed();
}

#[test]
fn a_hello_may_come_in_single_bytes() {
    let router = RouterProcess::start();
    let mut node = router.connect();
    for byte in Control::Hello(hello(&["5.1"])).to_frame().to_bytes() {
        node.send_bytes(&[byte]);
    }
    node.expect("Welcome", |incoming| {
        matches!(incoming, Incoming::Control(Control::Welcome(_))).then_some(())
    });
}

#[test]
fn frames_right_behind_a_hello_wait_for_it() {
    let router = RouterProcess::start();
    let mut target = router.join(&["5.2"]);
    let mut node = router.connect();
    let hello = Control::Hello(hello(&["5.1"])).to_frame();
    node.send_all([
        &hello,
        &direct(id("5.1"), id("5.2"), "first"),
        &direct(id("5.1"), id("5.2"), "second"),
    ]);
    assert_eq!(target.expect_data().payload, "first");
    assert_eq!(target.expect_data().payload, "second");
}

#[test]
fn silence_is_answered_with_a_handshake_timeout() {
    let router = RouterProcess::with("limits: {handshake_timeout_ms: 200}\n");
    let mut silent = router.connect();
    let mut slow = router.connect();
    slow.send_bytes(&Control::Hello(hello(&["5.1"])).to_frame().to_bytes()[..20]);
    for node in [&mut silent, &mut slow] {
        let refused = node.expect_refused();
        assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::HandshakeTimeout);
        assert_eq!(refused.text, "no Hello came in time: it is the first frame of a session");
        node.expect_closed();
    }
    assert_eq!(router.metric("switchboard_handshake_failures_total", &[]), 2);
}

#[test]
fn a_registered_node_outlives_the_handshake_timeout() {
    let router = RouterProcess::with("limits: {handshake_timeout_ms: 100}\n");
    let mut node = router.join(&["5.1"]);
    let mut late = router.connect();
    late.expect_refused();
    assert!(!node.read_for(Duration::from_millis(300)));
    node.sync();
}

#[test]
fn connections_over_the_limit_are_told_so_and_closed() {
    let router = RouterProcess::with("limits: {max_connections: 2}\n");
    let one = router.join(&["5.1"]);
    let _two = router.join(&["5.2"]);
    for _ in 0..5 {
        let mut three = router.connect();
        let refused = three.expect_refused();
        assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::LimitExceeded);
        assert_eq!(refused.text, "this router takes 2 connections at most");
        three.expect_closed();
    }
    drop(one);
    eventually("a seat is free", || router.metric("switchboard_sessions", &[]) == 1);
    let _three = router.join(&["5.3"]);
}

#[test]
fn seats_of_nodes_that_left_are_free_again_on_every_thread() {
    let router =
        RouterBuilder::default().shards(3).config("limits: {max_connections: 6}\n").start();
    let start = Instant::now();
    for round in 0..5 {
        let nodes: Vec<_> = (1..=6).map(|n| router.join(&[&format!("5.{n}")])).collect();
        for node in nodes {
            drop(node);
        }
        eventually(&format!("all have left in round {round}"), || {
            router.metric("switchboard_sessions", &[]) == 0
        });
    }
    // Nobody waits for anything here, so nobody's patience may run out.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

#[test]
fn metadata_and_weights_are_taken_with_a_register() {
    let router = RouterProcess::start();
    let metadata = BTreeMap::from([("zone".to_owned(), "north".to_owned())]);
    let services = vec![Service { weight: 0, metadata: metadata.clone(), ..service("5.1") }];
    let mut light = router.connect();
    light.hello(Hello { services, ..hello(&[]) });
    let mut node = router.connect();
    let services = vec![Service { metadata: metadata.clone(), ..service("5.2") }];
    node.hello(Hello { services, watch: vec![id("5.1").class()], ..hello(&[]) });
    let joined = node.expect("the picture", |incoming| match incoming {
        Incoming::Control(Control::Event(event)) if event.snapshot => Some(event.joined.clone()),
        _ => None,
    });
    let told: Vec<_> = joined.iter().map(|joined| (joined.id, &joined.metadata)).collect();
    assert_eq!(told, [(id("5.1"), &metadata), (id("5.2"), &metadata)]);
    // A weight of 0 takes no Random frame.
    node.send_all(&vec![to_class(node.id(), Mode::Random, 5, "any"); 100]);
    for _ in 0..100 {
        node.expect_data();
    }
}
