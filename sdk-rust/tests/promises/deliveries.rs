//! Promises to programs that handle messages on a thread of their own.

use switchboard::{
    Builder, Deliveries, Delivery, Encoded, Event, HandlerError, Mode, Node, Outcome, Stats,
};
use switchboard_protocol::{Flags, Frame, Header};

use crate::support::*;

async fn connect(router: &FakeRouter, builder: Builder) -> (Node, Deliveries, Session) {
    let (connected, session) =
        tokio::join!(within(builder.connect_with_deliveries()), router.welcome());
    let (node, deliveries) = connected.unwrap();
    (node, deliveries, session)
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    within(deliveries.next()).await.expect("the node is open")
}

fn error(reply: &Frame) -> (String, String) {
    assert_eq!(reply.header.flags, Flags::REPLY | Flags::ERROR);
    rmp_serde::from_slice(&reply.payload).unwrap()
}

fn served(stats: &Stats, method: &str) -> Option<(u64, u64, u64)> {
    let found = stats.served("gamesvr", method)?;
    let count = |outcome| found.outcomes.count(outcome) + found.messages.count(outcome);
    Some((count(Outcome::Ok), count(Outcome::Refused), count(Outcome::Cancelled)))
}

#[tokio::test]
async fn deliveries_come_in_order_and_are_answered_in_any() {
    let router = FakeRouter::start().await;
    let (_node, mut deliveries, mut session) = connect(&router, router.node()).await;
    session.send(call(1, b"\x93\xa4join\x07\xa6ranked")).await;
    session.send(call(2, b"\x91\xa5leave")).await;
    let (first, second) = (next(&mut deliveries).await, next(&mut deliveries).await);
    assert_eq!((first.from(), first.mode(), first.key()), (id(GAMESVR, 9), Mode::Random, None));
    assert_eq!((first.method(), second.method()), (Some("join"), Some("leave")));
    assert!(first.wants_reply());
    assert_eq!(first.args(), Some(Encoded { count: 2, bytes: &b"\x07\xa6ranked"[..] }));

    second.answer(Ok(Encoded { count: 0, bytes: Vec::new() }));
    let reply = session.data().await;
    assert_eq!((reply.header.call_id, &reply.payload[..]), (2, &b"\x90"[..]));
    first.answer(Ok(Encoded { count: 2, bytes: vec![8, 9] }));
    let reply = session.data().await;
    assert_eq!((reply.header.call_id, &reply.payload[..]), (1, &b"\x92\x08\x09"[..]));
}

#[tokio::test]
async fn a_key_comes_with_its_delivery() {
    let router = FakeRouter::start().await;
    let (_node, mut deliveries, mut session) = connect(&router, router.node()).await;
    let header = Header { key: 4711, ..Header::to_class(id(GAMESVR, 9), Mode::Hash, MATCHSVR) };
    session.send(Frame::new(header, request("save"))).await;
    let delivery = next(&mut deliveries).await;
    assert_eq!((delivery.mode(), delivery.key()), (Mode::Hash, Some(4711)));
    assert!(!delivery.wants_reply());
    delivery.answer(Ok(Encoded { count: 0, bytes: Vec::new() }));
}

#[tokio::test]
async fn a_call_that_is_dropped_is_answered_with_an_error() {
    let router = FakeRouter::start().await;
    let (node, mut deliveries, mut session) = connect(&router, router.node()).await;
    session.send(call(1, &request("join"))).await;
    drop(next(&mut deliveries).await);
    let (code, text) = error(&session.data().await);
    assert_eq!((&*code, &*text), ("error", "the handler ended without an answer"));
    assert_eq!(served(&node.stats(), "other"), Some((0, 0, 1)));
}

#[tokio::test]
async fn what_is_refused_was_not_run_and_its_name_is_not_counted() {
    let router = FakeRouter::start().await;
    let (node, mut deliveries, mut session) = connect(&router, router.node()).await;
    session.send(call(1, &request("fly"))).await;
    next(&mut deliveries).await.no_method();
    assert_eq!(error(&session.data().await), ("no_method".into(), "no handler for `fly`".into()));

    session.send(call(1, &request("fly"))).await;
    next(&mut deliveries).await.bad_args("argument 1 is an extension");
    let text = "`fly`: argument 1 is an extension";
    assert_eq!(error(&session.data().await), ("bad_args".into(), text.into()));

    session.send(call(1, &request("join"))).await;
    next(&mut deliveries).await.answer(Ok(Encoded { count: 1, bytes: vec![0xc0] }));
    session.data().await;
    let stats = node.stats();
    assert_eq!(served(&stats, "fly"), None);
    assert_eq!(served(&stats, "other"), Some((0, 2, 0)));
    assert_eq!(served(&stats, "join"), Some((1, 0, 0)));
}

#[tokio::test]
async fn a_handler_cant_say_that_it_did_not_run() {
    let router = FakeRouter::start().await;
    let (_node, mut deliveries, mut session) = connect(&router, router.node()).await;
    session.send(call(1, &request("join"))).await;
    let busy = HandlerError::new(HandlerError::BUSY, "too many players");
    next(&mut deliveries).await.answer(Err(busy));
    assert_eq!(error(&session.data().await).0, "error");
}

#[tokio::test]
async fn the_error_of_a_one_way_message_is_an_event() {
    let router = FakeRouter::start().await;
    let (node, mut deliveries, mut session) = connect(&router, router.node()).await;
    let mut events = node.events();
    session.send(message(&request("join"))).await;
    next(&mut deliveries).await.answer(Err(HandlerError::new("full", "no room")));
    let (code, method) = event(&mut events, |event| match event {
        Event::Failed { code, method, .. } => Some((code.clone(), method.clone())),
        _ => None,
    })
    .await;
    assert_eq!((&*code, &*method), ("full", "join"));
}

#[tokio::test]
async fn a_delivery_that_takes_a_while_is_in_flight_until_it_is_answered() {
    let router = FakeRouter::start().await;
    let (node, mut deliveries, mut session) = connect(&router, router.node()).await;
    session.send(call(1, &request("join"))).await;
    let mut delivery = next(&mut deliveries).await;
    delivery.begin();
    let in_flight = |stats: Stats| stats.iter().map(|method| method.in_flight).sum::<u64>();
    assert_eq!(in_flight(node.stats()), 1);
    delivery.answer(Ok(Encoded { count: 0, bytes: Vec::new() }));
    assert_eq!(in_flight(node.stats()), 0);
    assert_eq!(served(&node.stats(), "join"), Some((1, 0, 0)));
}

#[tokio::test]
async fn an_idempotent_call_is_delivered_once_and_its_copies_get_the_same_answer() {
    let router = FakeRouter::start().await;
    let (_node, mut deliveries, mut session) = connect(&router, router.node()).await;
    let mut copy = call(7, &request("charge"));
    copy.header.flags |= Flags::IDEMPOTENT;
    session.send(copy.clone()).await;
    next(&mut deliveries).await.answer(Ok(Encoded { count: 1, bytes: vec![3] }));
    let first = session.data().await;
    session.send(copy).await;
    let second = session.data().await;
    assert_eq!(first.payload, second.payload);
    session.send(message(&request("mark"))).await;
    assert_eq!(next(&mut deliveries).await.method(), Some("mark"));
}

#[tokio::test]
async fn a_drain_waits_for_deliveries_and_then_they_end() {
    let router = FakeRouter::start().await;
    let (node, mut deliveries, mut session) = connect(&router, router.node()).await;
    session.send(call(1, &request("join"))).await;
    let delivery = next(&mut deliveries).await;
    let drain = tokio::spawn(async move { node.drain().await });
    let unregister = session.control().await;
    assert!(matches!(unregister, switchboard_protocol::Control::Unregister(_)));
    session.control_out(switchboard_protocol::Control::Unregistered(Default::default())).await;
    delivery.answer(Ok(Encoded { count: 1, bytes: vec![1] }));
    assert_eq!(session.data().await.payload, b"\x91\x01"[..]);
    session.ended().await;
    drop(session);
    within(drain).await.unwrap();
    assert!(within(deliveries.next()).await.is_none());
}
