//! Promises about idempotent calls: sent again, run once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use switchboard::{
    CallError, Caller, Direct, Event, ForwardError, HandlerError, LeftReason, Master, Node, Random,
    Reason,
};
use switchboard_protocol::{Control, Flags, Frame, Header, control};
use tokio::sync::Notify;

use crate::support::*;

/// A call that may come again.
fn idempotent(call_id: u64, payload: &[u8]) -> Frame {
    let Frame { header, payload } = call(call_id, payload);
    Frame::new(Header { flags: header.flags | Flags::IDEMPOTENT, ..header }, payload)
}

fn charge(node: &Node) -> switchboard::Call<u32> {
    node.call::<u32>(Master, GAMESVR, "charge", ()).idempotent()
}

#[tokio::test]
async fn a_call_on_a_lost_link_is_sent_again_over_the_next_one_under_the_same_id() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let open = tokio::spawn(charge(&node).into_future());
    let first = session.data().await;
    assert!(first.header.flags.contains(Flags::CALL | Flags::IDEMPOTENT));
    drop(session);
    let mut session = router.welcome().await;
    let again = session.data().await;
    assert_eq!(again.header.call_id, first.header.call_id);
    assert_eq!(again.payload, first.payload);
    session.answer(&again, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(open).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn a_call_waits_for_a_link_and_for_somebody_to_take_it() {
    let router = FakeRouter::start().await;
    let (node, session) = router.connect(router.node()).await;
    let mut events = node.events();
    drop(session);
    lost(&mut events).await;
    let open = tokio::spawn(charge(&node).into_future());
    let mut session = router.welcome().await;
    for _ in 0..3 {
        let frame = session.data().await;
        session.report(&frame, Reason::NoInstance).await;
    }
    let frame = session.data().await;
    session.answer(&frame, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(open).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_sent_again_before_its_deadline() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let open = tokio::spawn(charge(&node).timeout(Duration::from_secs(2)).into_future());
    let first = session.data().await;
    let again = session.data().await;
    assert_eq!(again.header.call_id, first.header.call_id);
    assert!(again.header.ttl < first.header.ttl, "the time that is left gets less");
    session.answer(&first, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(open).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn the_death_of_an_instance_is_heard_of_and_the_call_sent_again_at_once() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let open = tokio::spawn(charge(&node).timeout(Duration::from_secs(60)).into_future());
    let first = within(async {
        let (mut frame, mut watched) = (None, false);
        while frame.is_none() || !watched {
            let next = session.frame().await.unwrap();
            match Control::decode(&next.payload) {
                Ok(Control::Watch(watch)) => watched = watch.changes_only,
                Ok(_) => {}
                Err(_) => frame = Some(next),
            }
        }
        frame.unwrap()
    })
    .await;
    let died = |reason| {
        let left = vec![control::Left { id: id(GAMESVR, 1), reason }];
        let master = Some(control::Master { id: Some(id(GAMESVR, 2)), epoch: 2 });
        Control::Event(control::Event { left, master, ..control::Event::of(GAMESVR) })
    };
    // Who gives its id up still answers; who dies does not.
    session.control_out(died(LeftReason::Unregistered)).await;
    session.control_out(died(LeftReason::Disconnected)).await;
    let again = session.data().await;
    assert_eq!(again.header.call_id, first.header.call_id);
    session.answer(&again, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(open).await.unwrap(), Ok(7));
}

#[tokio::test]
async fn a_call_fails_at_its_deadline_and_says_whether_it_may_have_been_run() {
    let router = FakeRouter::start().await;
    let (node, session) = router.connect(router.node()).await;
    let timeout = Duration::from_millis(200);
    let silent = within(charge(&node).timeout(timeout)).await;
    assert_eq!(silent, Err(CallError::Timeout));

    drop(session);
    lost(&mut node.events()).await;
    let unsent = within(charge(&node).timeout(timeout)).await;
    assert_eq!(unsent, Err(CallError::NotSent(ForwardError::NotConnected)));
}

#[tokio::test]
async fn an_error_of_the_handler_is_an_answer_and_not_tried_again() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let open = tokio::spawn(charge(&node).into_future());
    let frame = session.data().await;
    session.answer(&frame, Flags::ERROR, b"\x92\xa4poor\xa0").await;
    let error = within(open).await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Remote { code, .. } if code == "poor"), "{error}");

    let open = tokio::spawn(charge(&node).into_future());
    let frame = session.data().await;
    session.answer(&frame, Flags::ERROR, b"\x92\xaeoutside_window\xa0").await;
    let error = within(open).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::OutcomeUnknown(_)), "{error}");

    let open = tokio::spawn(charge(&node).into_future());
    let frame = session.data().await;
    session.answer(&frame, Flags::ERROR, b"\x92\xa4busy\xa0").await;
    let again = session.data().await;
    session.answer(&again, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(open).await.unwrap(), Ok(7), "who is busy has not begun");
}

#[tokio::test]
async fn a_call_that_comes_twice_is_run_once_and_answered_twice() {
    let router = FakeRouter::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let builder = router.node().on("charge", move |_: Caller, ()| {
        let run = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(run) }
    });
    let (_node, mut session) = router.connect(builder).await;
    for _ in 0..3 {
        session.send(idempotent(77, &request("charge"))).await;
        let reply = session.data().await;
        assert_eq!((reply.header.call_id, &reply.payload[..]), (77, &b"\x91\x01"[..]));
    }
    // Plain calls are what they are, each a new one.
    assert_eq!(session.call(&request("charge")).await.payload, b"\x91\x02"[..]);
    assert_eq!(session.call(&request("charge")).await.payload, b"\x91\x03"[..]);
    assert_eq!(runs.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn an_error_is_remembered_like_any_answer() {
    let router = FakeRouter::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let builder = router.node().on("charge", move |_: Caller, ()| {
        let run = counter.fetch_add(1, Ordering::Relaxed);
        async move { Err::<(), _>(HandlerError::new("poor", format!("{run}"))) }
    });
    let (_node, mut session) = router.connect(builder).await;
    for _ in 0..2 {
        session.send(idempotent(77, &request("charge"))).await;
        let reply = session.data().await;
        assert!(reply.header.flags.contains(Flags::ERROR));
        assert_eq!(reply.payload, b"\x92\xa4poor\xa10"[..]);
    }
}

#[tokio::test]
async fn a_copy_that_comes_while_the_call_runs_is_answered_with_it() {
    let router = FakeRouter::start().await;
    let go = Arc::new(Notify::new());
    let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::clone(&go));
    let counter = Arc::clone(&runs);
    let builder = router.node().on("charge", move |_: Caller, ()| {
        counter.fetch_add(1, Ordering::Relaxed);
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(7)
        }
    });
    let (_node, mut session) = router.connect(builder).await;
    session.send(idempotent(77, &request("charge"))).await;
    session.send(idempotent(77, &request("charge"))).await;
    // Behind both copies, so both are in when this is answered.
    assert!(session.call(&request("no such method")).await.header.flags.contains(Flags::ERROR));
    go.notify_waiters();
    go.notify_one();
    let reply = session.data().await;
    assert_eq!((reply.header.call_id, &reply.payload[..]), (77, &b"\x91\x07"[..]));
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert!(session.call(&request("no such method")).await.header.flags.contains(Flags::ERROR));
}

#[tokio::test]
async fn a_call_that_may_have_been_forgotten_is_not_run() {
    let router = FakeRouter::start().await;
    let runs = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&runs);
    let builder = router.node().window(1, Duration::from_secs(60));
    let builder = builder.on("charge", move |_: Caller, ()| {
        let run = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(run) }
    });
    let (_node, mut session) = router.connect(builder).await;
    for (call_id, expected) in [(1, &b"\x91\x01"[..]), (2, b"\x91\x02"), (2, b"\x91\x02")] {
        session.send(idempotent(call_id, &request("charge"))).await;
        assert_eq!(session.data().await.payload, *expected);
    }
    session.send(idempotent(1, &request("charge"))).await;
    let reply = session.data().await;
    assert!(reply.header.flags.contains(Flags::ERROR));
    let (code, _): (String, String) = rmp_serde::from_slice(&reply.payload).unwrap();
    assert_eq!(code, HandlerError::OUTSIDE_WINDOW);
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_message_that_waited_longer_than_its_sender_gave_it_is_not_run() {
    let router = FakeRouter::start().await;
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let builder = router.node().handlers_waiting(1).on("slow", move |_: Caller, ()| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(1)
        }
    });
    let builder = builder.on("late", async |_: Caller, ()| Ok(2));
    let (node, mut session) = router.connect(builder).await;
    session.send(call(1, &request("slow"))).await;
    let Frame { header, payload } = call(2, &request("late"));
    session.send(Frame::new(Header { ttl: 1, ..header }, payload)).await;
    session.send(call(3, &request("late"))).await;
    // The node has read all three when it answers this.
    session.control_out(Control::Ping(control::Ping { nonce: 5 })).await;
    assert_eq!(session.control().await, Control::Pong(control::Ping { nonce: 5 }));
    let due = std::time::Instant::now() + Duration::from_millis(11);
    within(async {
        while std::time::Instant::now() < due {
            tokio::task::yield_now().await;
        }
    })
    .await;
    go.notify_one();
    assert_eq!(session.data().await.header.call_id, 1);
    assert_eq!(session.data().await.header.call_id, 3, "nobody waits for the second any more");
    let mut events = node.events();
    let expired = event(&mut events, |event| match event {
        Event::Overloaded { expired, .. } => Some(*expired),
        _ => None,
    });
    assert_eq!(expired.await, 1);
}

#[tokio::test]
async fn a_busy_instance_forgets_the_call_so_that_it_may_come_again() {
    let router = FakeRouter::start().await;
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let builder = router.node().handlers_waiting(1).handler_queue(1);
    let builder = builder.on("slow", move |_: Caller, ()| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(1)
        }
    });
    let builder = builder.on("charge", async |_: Caller, ()| Ok(2));
    let (_node, mut session) = router.connect(builder).await;
    // One waits in its handler and one in the queue, so one of the next two finds no room.
    session.send(call(1, &request("slow"))).await;
    let mut busy = 100;
    let refused = loop {
        session.send(idempotent(busy, &request("charge"))).await;
        let next = tokio::time::timeout(Duration::from_millis(50), session.data()).await;
        if let Ok(frame) = next {
            break frame;
        }
        busy += 1;
    };
    let (code, _): (String, String) = rmp_serde::from_slice(&refused.payload).unwrap();
    assert_eq!((code.as_str(), refused.header.call_id), (HandlerError::BUSY, busy));
    go.notify_one();
    assert_eq!(session.data().await.header.call_id, 1);
    for waited in 100..busy {
        assert_eq!(session.data().await.header.call_id, waited);
    }
    session.send(idempotent(busy, &request("charge"))).await;
    assert_eq!(session.data().await.payload, b"\x91\x02"[..]);
}

#[tokio::test]
async fn a_call_to_one_instance_can_be_repeated_too() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let call = node.call::<u32>(Direct, id(GAMESVR, 2), "charge", ()).idempotent();
    let open = tokio::spawn(call.into_future());
    let frame = session.data().await;
    session.report(&frame, Reason::NotFound).await;
    let frame = session.data().await;
    session.answer(&frame, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(open).await.unwrap(), Ok(7));
    assert!(
        within(node.call_raw(Random, GAMESVR, "x").idempotent().timeout(Duration::ZERO))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_call_is_not_repeated_under_another_id() {
    let router = FakeRouter::start().await;
    let builder = router.node().also("gamesvr.2");
    let (node, mut session) = router.connect(builder).await;
    let open = tokio::spawn(charge(&node).timeout(Duration::from_secs(1)).into_future());
    let first = session.data().await;
    assert_eq!(first.header.source, id(MATCHSVR, 1).raw());
    let leaving = {
        let node = node.clone();
        tokio::spawn(async move { node.unregister(id(MATCHSVR, 1)).await })
    };
    let number = loop {
        if let Control::Unregister(unregister) = session.control().await {
            break unregister.request;
        }
    };
    let unregistered = control::Unregistered { request: number };
    session.control_out(Control::Unregistered(unregistered)).await;
    within(leaving).await.unwrap().unwrap();
    let mut events = node.events();
    drop(session);
    lost(&mut events).await;
    let mut session = router.welcome().await;
    connected(&mut events).await;
    node.forward(Random, GAMESVR, "behind", ()).unwrap();
    assert_eq!(session.data().await.payload, request("behind"));
    let error = within(open).await.unwrap().unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
}
