//! Where frames go, by their modes, and that they arrive as they were sent.

use std::collections::BTreeMap;

use switchboard_protocol::control::{Hello, Load, Service, Unregister};
use switchboard_protocol::{Control, Flags, Frame, Mode, Reason, ServiceId};
use switchboard_tests::frames::{
    With, class, direct, hash, hello, id, number_of, numbered, service, to_class,
};
use switchboard_tests::{Incoming, RawNode, RouterProcess, eventually};

/// Nodes 5.1, 5.2 and so on, by their instances.
fn members(router: &RouterProcess, instances: &[u32]) -> BTreeMap<u32, RawNode> {
    instances.iter().map(|n| (*n, router.join(&[&format!("5.{n}")]))).collect()
}

/// How many data frames each has, once everything is quiet.
fn counts(sender: &mut RawNode, members: &mut BTreeMap<u32, RawNode>) -> BTreeMap<u32, usize> {
    sender.sync();
    let count = |(instance, node): (&u32, &mut RawNode)| {
        node.sync();
        (*instance, node.take_data().len())
    };
    members.iter_mut().map(count).collect()
}

/// Who gets each of these keys; 0 for a key that nobody gets.
fn owners(sender: &mut RawNode, members: &mut BTreeMap<u32, RawNode>, keys: &[u64]) -> Vec<u32> {
    let source = sender.id();
    let frames: Vec<Frame> = keys
        .iter()
        .enumerate()
        .map(|(n, key)| hash(source, 5, *key, numbered(n as u64, 8)))
        .collect();
    sender.send_all(&frames);
    sender.sync();
    let mut owners = vec![0; keys.len()];
    for (instance, node) in members {
        node.sync();
        for frame in node.take_data() {
            let owner = &mut owners[number_of(&frame.payload) as usize];
            assert_eq!(*owner, 0, "a key went to two instances");
            *owner = *instance;
        }
    }
    owners
}

fn leave(router: &RouterProcess, members: &mut BTreeMap<u32, RawNode>, instance: u32) {
    members.remove(&instance);
    let left = members.len() as u64;
    eventually("it has left", || router.metric("switchboard_instances", &[("class", "5")]) == left);
}

#[test]
fn every_mode_delivers_the_bytes_that_were_sent() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut target = router.join(&["5.1"]);
    let source = sender.id();
    let all = [Flags::NONE, Flags::CALL, Flags::REPLY, Flags::REPLY | Flags::ERROR];
    let extra = [Flags::NONE, Flags::DROPPABLE, Flags::REPORT | Flags::TRACE, Flags::TRACE];
    let mut sent = Vec::new();
    for mode in Mode::ALL {
        for flags in all.into_iter().flat_map(|one| extra.map(|two| one | two)) {
            if flags.contains(Flags::REPLY) && mode != Mode::Direct {
                continue;
            }
            for length in [0, 1, 100, 70_000] {
                let mut frame = match mode {
                    Mode::Direct => direct(source, target.id(), vec![0xa5; length]),
                    _ => to_class(source, mode, 5, vec![0x5a; length]),
                };
                frame.header.flags = flags;
                frame.header.ttl = 0x1234;
                frame.header.key = 0x8877_6655_4433_2211 * u64::from(mode == Mode::Hash);
                if flags.intersects(Flags::CALL | Flags::REPLY) {
                    frame.header.call_id = u64::MAX - sent.len() as u64;
                }
                if flags.contains(Flags::TRACE) {
                    frame.header.trace.trace_id = [7; 16];
                    frame.header.trace.span_id = [9; 8];
                }
                sent.push(frame);
            }
        }
    }
    let mut writer = sender.other_half();
    let to_send = sent.clone();
    let writing = std::thread::spawn(move || writer.send_all(&to_send));
    for frame in &sent {
        assert_eq!(target.expect_data().to_bytes(), frame.to_bytes(), "{:?}", frame.header);
    }
    writing.join().expect("all was sent");
    sender.sync();
}

#[test]
fn direct_reaches_the_one_instance_and_no_other() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2, 3]);
    let frames: Vec<_> = (0..30).map(|_| direct(sender.id(), id("5.2"), "you")).collect();
    sender.send_all(&frames);
    assert_eq!(counts(&mut sender, &mut members), BTreeMap::from([(1, 0), (2, 30), (3, 0)]));
}

#[test]
fn a_node_can_send_to_itself() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1", "6.1"]);
    node.send(&direct(id("5.1"), id("6.1"), "me"));
    assert_eq!(node.expect_data().payload, "me");
    node.send(&to_class(id("6.1"), Mode::Master, 5, "me too"));
    assert_eq!(node.expect_data().payload, "me too");
}

#[test]
fn master_is_the_lowest_id_and_moves_to_the_next_lowest_when_it_leaves() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[30, 7, 200, 9]);
    for master in [7, 9, 30, 200] {
        sender.send_all(&vec![to_class(sender.id(), Mode::Master, 5, "master"); 10]);
        let counts = counts(&mut sender, &mut members);
        for (instance, count) in counts {
            assert_eq!(count, if instance == master { 10 } else { 0 }, "{instance}");
        }
        leave(&router, &mut members, master);
    }
    sender.send(&to_class(sender.id(), Mode::Master, 5, "nobody").with(Flags::REPORT));
    assert_eq!(sender.expect_report().reason, Reason::NoInstance);
}

#[test]
fn a_returning_lower_id_is_master_again() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2]);
    leave(&router, &mut members, 1);
    members.insert(1, router.join(&["5.1"]));
    sender.send(&to_class(sender.id(), Mode::Master, 5, "master"));
    assert_eq!(counts(&mut sender, &mut members), BTreeMap::from([(1, 1), (2, 0)]));
}

#[test]
fn hash_spreads_keys_over_the_instances_in_ascending_order() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[40, 10, 30, 20]);
    let keys = [0, 1, 2, 3, 4, 5, 4_000_000_002, u64::MAX];
    assert_eq!(
        owners(&mut sender, &mut members, &keys),
        [10, 20, 30, 40, 10, 20, 30, 40],
        "the remainder of the key by 4"
    );
}

#[test]
fn a_fixed_slot_keeps_its_hole_and_its_keys_are_reported() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2, 3]);
    leave(&router, &mut members, 2);
    let keys: Vec<u64> = (0..30).collect();
    let expected: Vec<u32> = keys.iter().map(|key| [1, 0, 3][(key % 3) as usize]).collect();
    assert_eq!(owners(&mut sender, &mut members, &keys), expected);
    sender.send(&hash(sender.id(), 5, 1, "nobody").call(77));
    let report = sender.expect_report();
    assert_eq!((report.reason, report.header.call_id), (Reason::EmptySlot, 77));
    assert_eq!(report.header.key, 1);
    // Who comes back takes the old place, and a new one lengthens the row.
    members.insert(2, router.join(&["5.2"]));
    let expected: Vec<u32> = keys.iter().map(|key| (key % 3) as u32 + 1).collect();
    assert_eq!(owners(&mut sender, &mut members, &keys), expected);
    members.insert(4, router.join(&["5.4"]));
    let expected: Vec<u32> = keys.iter().map(|key| (key % 4) as u32 + 1).collect();
    assert_eq!(owners(&mut sender, &mut members, &keys), expected);
}

#[test]
fn a_fixed_class_that_walks_takes_the_next_live_slot() {
    let router = RouterProcess::with("classes: {db: {id: 5, hash: fixed, walk: true}}\n");
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2, 3, 4]);
    let left = |router: &RouterProcess, members: &mut BTreeMap<u32, RawNode>, instance| {
        members.remove(&instance);
        let live = members.len() as u64;
        eventually("it has left", || {
            router.metric("switchboard_instances", &[("class", "db")]) == live
        });
    };
    left(&router, &mut members, 2);
    assert_eq!(owners(&mut sender, &mut members, &[0, 1, 2, 3]), [1, 3, 3, 4]);
    left(&router, &mut members, 3);
    assert_eq!(owners(&mut sender, &mut members, &[0, 1, 2, 3]), [1, 4, 4, 4]);
    left(&router, &mut members, 4);
    assert_eq!(owners(&mut sender, &mut members, &[0, 1, 2, 3]), [1, 1, 1, 1]);
}

#[test]
fn explicit_slots_belong_to_instances_by_number() {
    let router = RouterProcess::with(
        "classes: {db: {id: 5, slots: 4}, walker: {id: 7, slots: 4, walk: true}}\n",
    );
    let mut sender = router.join(&["6.1"]);
    // 9 is beyond the slots and holds none.
    let mut members = members(&router, &[1, 3, 9]);
    assert_eq!(owners(&mut sender, &mut members, &[0, 1, 2, 3, 8]), [1, 0, 3, 0, 1]);
    sender.send(&hash(sender.id(), 5, 1, "hole").with(Flags::REPORT));
    assert_eq!(sender.expect_report().reason, Reason::EmptySlot);

    let mut walkers: Vec<RawNode> =
        ["7.2", "7.9"].iter().map(|name| router.join(&[name])).collect();
    for key in 0..4 {
        sender.send(&hash(sender.id(), 7, key, "walk"));
    }
    sender.sync();
    walkers.iter_mut().for_each(RawNode::sync);
    assert_eq!([walkers[0].take_data().len(), walkers[1].take_data().len()], [4, 0]);
}

#[test]
fn rendezvous_moves_only_the_keys_of_the_one_that_leaves() {
    let router = RouterProcess::with("classes: {cache: {id: 5, hash: rendezvous}}\n");
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2, 3, 4, 5]);
    let keys: Vec<u64> = (0..4_000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let before = owners(&mut sender, &mut members, &keys);
    for instance in 1..=5 {
        let share = before.iter().filter(|owner| **owner == instance).count();
        assert!((600..=1_000).contains(&share), "{instance} has {share} of 4000 keys");
    }
    members.remove(&3);
    eventually("it has left", || {
        router.metric("switchboard_instances", &[("class", "cache")]) == 4
    });
    let after = owners(&mut sender, &mut members, &keys);
    for (before, after) in before.iter().zip(&after) {
        match before {
            3 => assert!(*after != 3 && *after != 0),
            stays => assert_eq!(stays, after),
        }
    }
    // And they all come back to whoever takes its place.
    members.insert(3, router.join(&["5.3"]));
    assert_eq!(owners(&mut sender, &mut members, &keys), before);
}

#[test]
fn modulo_deals_the_keys_to_those_who_are_there() {
    let router = RouterProcess::with("classes: {pool: {id: 5, hash: modulo}}\n");
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[2, 4, 6]);
    assert_eq!(owners(&mut sender, &mut members, &[0, 1, 2, 3]), [2, 4, 6, 2]);
    members.remove(&4);
    eventually("it has left", || router.metric("switchboard_instances", &[("class", "pool")]) == 2);
    assert_eq!(owners(&mut sender, &mut members, &[0, 1, 2, 3]), [2, 6, 2, 6]);
}

#[test]
fn random_respects_the_weights_and_a_weight_of_zero_gets_none() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = BTreeMap::new();
    for (instance, weight) in [(1, 1), (2, 3), (3, 0), (4, 6)] {
        let mut node = router.connect();
        let service = Service { weight, ..service(&format!("5.{instance}")) };
        node.hello(Hello { services: vec![service], ..hello(&[]) });
        members.insert(instance, node);
    }
    const FRAMES: usize = 10_000;
    sender.send_all(&vec![to_class(sender.id(), Mode::Random, 5, "any"); FRAMES]);
    let counts = counts(&mut sender, &mut members);
    assert_eq!(counts[&3], 0);
    assert_eq!(counts.values().sum::<usize>(), FRAMES);
    // Six standard deviations either way: a fair router fails this once in 10^8 runs.
    for (instance, share) in [(1, 0.1), (2, 0.3), (4, 0.6)] {
        let expected = FRAMES as f64 * share;
        let deviation = (expected * (1.0 - share)).sqrt();
        let off = (counts[&instance] as f64 - expected).abs();
        assert!(off < 6.0 * deviation, "{instance} got {} of {FRAMES}", counts[&instance]);
    }
}

#[test]
fn random_among_weights_of_zero_reaches_nobody() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let services = vec![Service { weight: 0, ..service("5.1") }];
    let mut node = router.connect();
    node.hello(Hello { services, ..hello(&[]) });
    sender.send(&to_class(sender.id(), Mode::Random, 5, "any").with(Flags::REPORT));
    assert_eq!(sender.expect_report().reason, Reason::NoInstance);
    sender.send(&to_class(sender.id(), Mode::LeastLoaded, 5, "the least loaded"));
    assert_eq!(node.expect_data().payload, "the least loaded");
}

#[test]
fn broadcast_reaches_everyone_but_the_sender_unless_it_asks_for_an_echo() {
    let router = RouterProcess::start();
    let mut members = members(&router, &[1, 2, 3, 4]);
    let mut sender = members.remove(&3).expect("it is there");
    sender.send(&to_class(sender.id(), Mode::Broadcast, 5, "all"));
    sender.send(&to_class(sender.id(), Mode::Broadcast, 5, "all and me").with(Flags::ECHO));
    assert_eq!(counts(&mut sender, &mut members), BTreeMap::from([(1, 2), (2, 2), (4, 2)]));
    let echo = sender.take_data();
    assert_eq!(echo.len(), 1);
    assert_eq!(echo[0].payload, "all and me");
}

#[test]
fn broadcast_from_another_class_has_no_echo_to_give() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2]);
    sender.send(&to_class(sender.id(), Mode::Broadcast, 5, "all").with(Flags::ECHO));
    assert_eq!(counts(&mut sender, &mut members), BTreeMap::from([(1, 1), (2, 1)]));
    assert_eq!(sender.take_data(), []);
}

#[test]
fn broadcasts_of_one_read_arrive_whole_and_in_order_whatever_they_look_like() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1", "6.2"]);
    let mut members = members(&router, &[1, 2]);
    let other = id("6.2");
    // Long and short ones, from two ids, to two classes, with flags and without.
    let lengths = [40, 40, 8, 8, 64, 40, 7, 0, 300, 9];
    let frames: Vec<Frame> = (0..200_usize)
        .map(|n| {
            let source = if n % 17 == 0 { other } else { sender.id() };
            let class = if n % 23 == 0 { 6 } else { 5 };
            let payload = numbered(n as u64, 8 + lengths[n % lengths.len()]);
            let frame = to_class(source, Mode::Broadcast, class, payload);
            match n % 13 {
                0 => frame.with(Flags::DROPPABLE),
                1 => frame.with(Flags::REPORT),
                _ => frame,
            }
        })
        .collect();
    sender.send_all(&frames);
    sender.sync();
    let expected: Vec<u64> = (0..200).filter(|n| n % 23 != 0).collect();
    for member in members.values_mut() {
        member.sync();
        let got = member.take_data();
        let numbers: Vec<u64> = got.iter().map(|frame| number_of(&frame.payload)).collect();
        assert_eq!(numbers, expected);
        let sent = expected.iter().map(|n| &frames[*n as usize]);
        assert!(got.iter().zip(sent).all(|(got, sent)| got == sent), "as they were sent");
    }
    let copies = 2 * expected.len() as u64;
    eventually("all are counted", || router.outcome("5", "delivered") == copies);
    // Nobody else is of the sender's own class.
    assert_eq!(router.outcome("6", "no_instance"), 9);
}

#[test]
fn broadcasts_of_one_read_to_nobody_are_reported_one_by_one() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let frame = to_class(sender.id(), Mode::Broadcast, 6, "anybody?").with(Flags::REPORT);
    sender.send_all(&[frame.clone(), frame.clone(), frame]);
    sender.sync();
    let reports = sender.take_reports();
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(|report| report.reason == Reason::NoInstance), "{reports:?}");
}

#[test]
fn a_session_with_several_instances_gets_one_copy_of_a_broadcast() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut node = router.join(&["5.1", "5.2", "5.3"]);
    sender.send(&to_class(sender.id(), Mode::Broadcast, 5, "once"));
    sender.sync();
    node.sync();
    assert_eq!(node.take_data().len(), 1);
}

#[test]
fn least_loaded_follows_the_reports() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2]);
    let send = |sender: &mut RawNode| {
        sender.send_all(&vec![to_class(sender.id(), Mode::LeastLoaded, 5, "least"); 200]);
    };
    let report = |members: &mut BTreeMap<u32, RawNode>, loads: [u32; 2]| {
        for (load, (instance, node)) in loads.into_iter().zip(members) {
            node.say(Control::Load(Load { id: id(&format!("5.{instance}")), load }));
            node.sync();
        }
    };
    report(&mut members, [50, 40]);
    send(&mut sender);
    assert_eq!(counts(&mut sender, &mut members), BTreeMap::from([(1, 0), (2, 200)]));
    report(&mut members, [50, 60]);
    send(&mut sender);
    assert_eq!(counts(&mut sender, &mut members), BTreeMap::from([(1, 200), (2, 0)]));
}

#[test]
fn least_loaded_among_many_shuns_the_busiest_and_shares_ties() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut members = members(&router, &[1, 2, 3, 4]);
    let busy = members.get_mut(&2).expect("it is there");
    busy.say(Control::Load(Load { id: id("5.2"), load: 1_000 }));
    busy.sync();
    sender.send_all(&vec![to_class(sender.id(), Mode::LeastLoaded, 5, "least"); 3_000]);
    let counts = counts(&mut sender, &mut members);
    assert_eq!(counts[&2], 0);
    for instance in [1, 3, 4] {
        assert!((800..=1_200).contains(&counts[&instance]), "{counts:?}");
    }
}

#[test]
fn a_load_of_another_sessions_instance_is_refused() {
    let router = RouterProcess::start();
    let mut node = router.join(&["5.1"]);
    let _other = router.join(&["5.2"]);
    node.say(Control::Load(Load { id: id("5.2"), load: 0 }));
    assert_eq!(node.expect_refused().text, "5.2 is not registered by this session");
    node.sync();
}

#[test]
fn a_reply_finds_its_caller() {
    let router = RouterProcess::start();
    let mut caller = router.join(&["6.0"]);
    let mut callee = router.join(&["5.1"]);
    caller.send(&to_class(caller.id(), Mode::Master, 5, "question").call(99));
    let question = callee.expect_data();
    let source = ServiceId::from_raw(question.header.source).expect("the caller's id");
    let mut reply = direct(callee.id(), source, "answer").with(Flags::REPLY);
    reply.header.call_id = question.header.call_id;
    callee.send(&reply);
    assert_eq!(caller.expect_data(), reply);
}

#[test]
fn no_frame_follows_unregistered() {
    let router = RouterProcess::start();
    let mut sender = router.join(&["6.1"]);
    let mut node = router.join(&["5.1", "7.1"]);
    sender.send_all(&vec![direct(sender.id(), id("5.1"), "in time"); 50]);
    sender.sync();
    node.say(Control::Unregister(Unregister { request: 1, ids: vec![id("5.1")], draining: false }));
    node.expect("Unregistered", |incoming| {
        matches!(incoming, Incoming::Control(Control::Unregistered(_))).then_some(())
    });
    assert_eq!(node.take_data().len(), 50);
    sender.send_all(&vec![direct(sender.id(), id("5.1"), "too late"); 50]);
    sender.sync();
    node.sync();
    assert_eq!(node.take_data(), []);
    assert_eq!(router.outcome("5", "not_found"), 50);
}

#[test]
fn frames_are_counted_by_class_and_mode() {
    let router = RouterProcess::with("classes: {matchsvr: {id: 5}}\n");
    let mut sender = router.join(&["6.1"]);
    let mut node = router.join(&["5.1"]);
    for mode in [Mode::Master, Mode::Hash, Mode::Random, Mode::Broadcast, Mode::LeastLoaded] {
        sender.send_all(&vec![to_class(sender.id(), mode, 5, "12345678"); 10 + mode as usize]);
    }
    sender.sync();
    node.sync();
    // What a node has read already is counted a moment later, when the write that brought it has returned.
    let sent = [Mode::Master, Mode::Hash, Mode::Random, Mode::Broadcast, Mode::LeastLoaded];
    let sent = sent.into_iter().map(|mode| 10 + mode as u64).sum::<u64>();
    eventually("all are counted", || router.outcome("matchsvr", "delivered") == sent);
    let metrics = router.metrics();
    for mode in [Mode::Master, Mode::Hash, Mode::Random, Mode::Broadcast, Mode::LeastLoaded] {
        let labels = [("class", "matchsvr"), ("mode", mode.name())];
        let frames = 10 + mode as u64;
        let length = if mode == Mode::Hash { 32 } else { 24 };
        assert_eq!(metrics.sum("switchboard_frames_received_total", &labels), frames);
        assert_eq!(metrics.sum("switchboard_received_bytes_total", &labels), frames * length);
        assert_eq!(
            metrics.by("switchboard_frames_total", &labels, "outcome"),
            [("delivered".to_owned(), frames)]
        );
    }
    assert_eq!(class(5), id("5.1").class());
}
