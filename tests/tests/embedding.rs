//! A router inside another program: its ports, and its slots.

use switchboard_protocol::Reason;
use switchboard_router::{Config, Router};
use switchboard_tests::RawNode;
use switchboard_tests::frames::{With, direct, hash, id};

fn start() -> (Router, String) {
    let router = Router::start(Config::local()).expect("a free port");
    let address = router.listen()[0].to_string();
    (router, address)
}

#[test]
fn a_port_is_opened_and_closed_and_who_came_through_it_stays() {
    let (mut router, first) = start();
    let mut early = RawNode::join(&first, &["5.1"]);
    let second = router.open_port(&"127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(router.listen().len(), 2);
    assert!(router.close_port(&first.parse().unwrap()));
    assert!(!router.close_port(&first.parse().unwrap()), "it is closed already");
    assert_eq!(router.listen(), std::slice::from_ref(&second));
    RawNode::try_connect(&first).unwrap_err();
    let mut late = RawNode::join(&second.to_string(), &["5.2"]);
    late.send(&direct(id("5.2"), id("5.1"), "hello"));
    assert_eq!(&early.expect_data().payload[..], b"hello");
    let taken = router.open_port(&second).unwrap_err();
    assert_eq!(
        taken.to_string(),
        format!("listen: can't listen on {second}: the address is in use")
    );
}

#[test]
fn a_slot_is_kept_for_an_id_that_was_never_there_and_forgotten_when_told() {
    let (router, address) = start();
    let mut sender = RawNode::join(&address, &["1.1"]);
    let mut two = RawNode::join(&address, &["5.2"]);
    let ask = |sender: &mut RawNode, key| sender.send(&hash(id("1.1"), 5, key, "").call(key));
    ask(&mut sender, 10);
    assert_eq!(two.expect_data().header.call_id, 10, "one slot takes every key");

    router.keep_slot(id("5.1"));
    router.keep_slot(id("5.3"));
    router.keep_slot(id("5.2"));
    for (key, reason) in [(30, Some(Reason::EmptySlot)), (31, None), (32, Some(Reason::EmptySlot))]
    {
        ask(&mut sender, key);
        match reason {
            Some(reason) => assert_eq!(sender.expect_report().reason, reason, "key {key}"),
            None => assert_eq!(two.expect_data().header.call_id, key),
        }
    }

    let mut one = RawNode::join(&address, &["5.1"]);
    router.forget_slot(id("5.3"));
    router.forget_slot(id("5.1"));
    for key in 40..44 {
        ask(&mut sender, key);
        let node = if key % 2 == 0 { &mut one } else { &mut two };
        assert_eq!(node.expect_data().header.call_id, key, "who is there keeps its slot");
    }
}
