//! Promises about being called.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use switchboard::{Caller, Event, HandlerError, Mode, ServiceId};
use switchboard_protocol::{Flags, Frame, Header};
use tokio::sync::{Notify, Semaphore, mpsc};

use crate::support::*;

/// Code and text of an error reply.
fn error(reply: &Frame) -> (String, String) {
    assert_eq!(reply.header.flags, Flags::REPLY | Flags::ERROR);
    rmp_serde::from_slice(&reply.payload).unwrap()
}

#[tokio::test]
async fn a_handler_takes_typed_arguments_and_its_result_is_the_reply() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.on("join_match", async |from: Caller, (player_id, mode): (u64, String)| {
        assert_eq!((from.id(), from.mode()), (id(GAMESVR, 9), Mode::Random));
        assert!(from.wants_reply());
        Ok(player_id + mode.len() as u64)
    });
    let reply = session.call(b"\x93\xaajoin_match\x07\xa6ranked").await;
    assert_eq!(reply.header.flags, Flags::REPLY);
    assert_eq!(reply.header.source, id(MATCHSVR, 1).raw());
    assert_eq!(reply.payload, b"\x91\x0d"[..]);
}

#[tokio::test]
async fn a_one_way_message_runs_the_same_handler_and_has_no_reply() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("count", async |from: Caller, (n,): (u32,)| {
        let node = from.node();
        node.forward(switchboard::Direct, from.id(), "counted", (n, from.wants_reply()))?;
        Ok(n)
    });
    let (_node, mut session) = router.connect(builder).await;
    session.send(message(b"\x92\xa5count\x07")).await;
    session.send(message(b"\x92\xa5count\x08")).await;
    assert_eq!(session.data().await.payload, b"\x93\xa7counted\x07\xc2"[..]);
    assert_eq!(session.data().await.payload, b"\x93\xa7counted\x08\xc2"[..]);
}

#[tokio::test]
async fn a_reply_comes_from_the_id_that_was_called() {
    let router = FakeRouter::start().await;
    let builder = router.node().also("3.2").on("who", async |_: Caller, ()| Ok(()));
    let (_node, mut session) = router.connect(builder).await;
    let from = id(GAMESVR, 9);
    let direct = Header::direct(from, id(GAMESVR, 2));
    let class = Header::to_class(from, Mode::Master, GAMESVR);
    for header in [direct, class] {
        let header = Header { flags: Flags::CALL, call_id: 1, ..header };
        session.send(Frame::new(header, request("who"))).await;
        assert_eq!(session.data().await.header.source, id(GAMESVR, 2).raw());
    }
}

#[tokio::test]
async fn a_method_without_a_handler_is_answered_no_method() {
    let router = FakeRouter::start().await;
    let (_node, mut session) = router.connect(router.node()).await;
    let reply = session.call(&request("fly")).await;
    assert_eq!(error(&reply), ("no_method".to_owned(), "no handler for `fly`".to_owned()));
    let reply = session.call(b"gibberish").await;
    assert_eq!(error(&reply).0, "no_method");
}

#[tokio::test]
async fn arguments_that_dont_fit_are_answered_bad_args_and_name_the_method() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("join", async |_: Caller, _: (u64, String)| Ok(()));
    let (_node, mut session) = router.connect(builder).await;
    let (code, text) = error(&session.call(b"\x93\xa4join\x07\x08").await);
    assert_eq!(code, "bad_args");
    assert!(text.starts_with("`join`: argument 2: "), "{text}");
    let (_, text) = error(&session.call(b"\x94\xa4join\x07\xa1x\x09").await);
    assert_eq!(text, "`join`: takes 2 arguments and got 3");
}

#[tokio::test]
async fn an_error_of_a_handler_is_answered_with_its_code() {
    let router = FakeRouter::start().await;
    let builder = router
        .node()
        .on("buy", async |_: Caller, ()| -> Result<(), _> {
            Err(HandlerError::new("poor", "no money"))
        })
        .on("parse", async |_: Caller, (text,): (String,)| Ok(text.parse::<u32>()?));
    let (_node, mut session) = router.connect(builder).await;
    let reply = session.call(&request("buy")).await;
    assert_eq!(error(&reply), ("poor".to_owned(), "no money".to_owned()));
    let reply = session.call(b"\x92\xa5parse\xa1x").await;
    assert_eq!(error(&reply), ("error".to_owned(), "invalid digit found in string".to_owned()));
}

#[tokio::test]
async fn a_panic_is_answered_and_the_link_lives() {
    let router = FakeRouter::start().await;
    let builder = router
        .node()
        .on("at_once", async |_: Caller, ()| -> Result<(), _> { panic!("on purpose") })
        .on("later", async |_: Caller, ()| -> Result<(), _> {
            tokio::task::yield_now().await;
            panic!("on {}", "purpose")
        })
        .on("fine", async |_: Caller, ()| Ok(()));
    let (_node, mut session) = router.connect(builder).await;
    for method in ["at_once", "later"] {
        let reply = session.call(&request(method)).await;
        let text = "the handler panicked: on purpose".to_owned();
        assert_eq!(error(&reply), ("panic".to_owned(), text));
    }
    assert_eq!(session.call(&request("fine")).await.payload, b"\x91\xc0"[..]);
}

#[tokio::test]
async fn a_failed_one_way_message_is_an_event() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    session.send(message(&request("fly"))).await;
    let failed = event(&mut node.events(), |event| match event {
        Event::Failed { from, method, code, .. } => Some((*from, method.clone(), code.clone())),
        _ => None,
    })
    .await;
    assert_eq!(failed, (id(GAMESVR, 9), "fly".to_owned(), "no_method".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_dont_wait_finish_in_the_order_of_their_messages() {
    let router = FakeRouter::start().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    // Ready channels use up the budget that tokio gives a task: that is no reason to wait.
    let (ready, channel) = mpsc::unbounded_channel();
    let channel = Arc::new(tokio::sync::Mutex::new(channel));
    for _ in 0..10_000 {
        ready.send(()).unwrap();
    }
    let busy = Arc::new(AtomicU32::new(0));
    let builder = router.node().on("note", move |_: Caller, (number,): (u32,)| {
        let (log, channel, busy) = (Arc::clone(&log), Arc::clone(&channel), Arc::clone(&busy));
        async move {
            assert_eq!(busy.fetch_add(1, Ordering::Relaxed), 0, "the one before is finished");
            for _ in 0..10 {
                channel.lock().await.recv().await;
            }
            log.lock().unwrap().push(number);
            busy.fetch_sub(1, Ordering::Relaxed);
            Ok(number)
        }
    });
    let (_node, mut session) = router.connect(builder).await;
    for number in 0..999u32 {
        session.send(message(&rmp_serde::to_vec(&("note", number)).unwrap())).await;
    }
    session.call(&rmp_serde::to_vec(&("note", 999)).unwrap()).await;
    assert_eq!(*seen.lock().unwrap(), (0..1000).collect::<Vec<u32>>());
}

#[tokio::test]
async fn handlers_that_wait_do_not_hold_up_others() {
    let router = FakeRouter::start().await;
    let gate = Arc::new(Notify::new());
    let waiting = Arc::clone(&gate);
    let builder = router
        .node()
        .on("wait", move |_: Caller, ()| {
            let gate = Arc::clone(&waiting);
            async move {
                gate.notified().await;
                Ok("waited")
            }
        })
        .on("go", async |_: Caller, ()| Ok("gone"));
    let (_node, mut session) = router.connect(builder).await;
    session.send(call(1, &request("wait"))).await;
    session.send(call(2, &request("go"))).await;
    assert_eq!(session.data().await.header.call_id, 2);
    gate.notify_one();
    assert_eq!(session.data().await.header.call_id, 1);
}

/// A node whose one handler waits until it is let go, with room for one such and two behind it.
async fn small_node(router: &FakeRouter) -> (switchboard::Node, Session, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&gate);
    let builder = router.node().handlers_waiting(1).handler_queue(2);
    let builder = builder.on("wait", move |from: Caller, ()| {
        let gate = Arc::clone(&waiting);
        async move {
            from.node().forward(switchboard::Direct, from.id(), "begun", ())?;
            gate.acquire().await?.forget();
            Ok(())
        }
    });
    let (node, mut session) = router.connect(builder).await;
    session.send(call(1, &request("wait"))).await;
    // From here on the only permit is taken, so what comes stays in the queue.
    assert_eq!(session.data().await.payload, request("begun"));
    (node, session, gate)
}

#[tokio::test]
async fn a_call_that_finds_the_queue_full_is_answered_busy() {
    let router = FakeRouter::start().await;
    let (_node, mut session, gate) = small_node(&router).await;
    for call_id in 2..=4 {
        session.send(call(call_id, &request("wait"))).await;
    }
    let busy = session.data().await;
    assert_eq!((busy.header.call_id, error(&busy).0.as_str()), (4, "busy"));
    gate.add_permits(3);
    for call_id in 1..=3 {
        let mut reply = session.data().await;
        while reply.payload == request("begun") {
            reply = session.data().await;
        }
        assert_eq!((reply.header.call_id, reply.header.flags), (call_id, Flags::REPLY));
    }
}

#[tokio::test]
async fn a_one_way_message_that_finds_the_queue_full_is_counted_and_announced() {
    let router = FakeRouter::start().await;
    let (node, mut session, _gate) = small_node(&router).await;
    for _ in 0..2 + 5 {
        session.send(message(&request("wait"))).await;
    }
    let mut events = node.events();
    let mut dropped = 0;
    while dropped < 5 {
        dropped += event(&mut events, |event| match event {
            Event::Overloaded { messages, replies: 0, .. } => Some(*messages),
            _ => None,
        })
        .await;
    }
    assert_eq!(dropped, 5);
}

#[tokio::test]
async fn replies_to_own_calls_do_not_wait_behind_handlers() {
    let router = FakeRouter::start().await;
    let (node, mut session, _gate) = small_node(&router).await;
    for call_id in 2..=4 {
        session.send(call(call_id, &request("wait"))).await;
    }
    assert_eq!(session.data().await.header.call_id, 4, "busy");
    let (result, ()) =
        tokio::join!(within(node.call::<u8>(switchboard::Random, GAMESVR, "x", ())), async {
            let request = session.data().await;
            session.answer(&request, Flags::NONE, b"\x91\x07").await;
        });
    assert_eq!(result, Ok(7));
}

#[tokio::test]
async fn a_handler_may_call_others() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("relay", async |from: Caller, ()| {
        let answer: u32 = from.node().call(switchboard::Random, "gamesvr", "ask", ()).await?;
        Ok(answer + 1)
    });
    let (_node, mut session) = router.connect(builder).await;
    session.send(call(1, &request("relay"))).await;
    let asked = session.data().await;
    session.answer(&asked, Flags::NONE, b"\x91\x07").await;
    assert_eq!(session.data().await.payload, b"\x91\x08"[..]);
}

#[tokio::test]
async fn a_raw_handler_takes_what_no_method_takes_as_it_is() {
    let router = FakeRouter::start().await;
    let builder = router
        .node()
        .on("known", async |_: Caller, ()| Ok(1))
        .on_raw(async |_: Caller, payload| Ok(payload));
    let (_node, mut session) = router.connect(builder).await;
    assert_eq!(session.call(&request("known")).await.payload, b"\x91\x01"[..]);
    assert_eq!(session.call(&request("other")).await.payload, request("other"));
    assert_eq!(session.call(b"\x00\x01").await.payload, b"\x00\x01"[..]);
}

#[tokio::test]
async fn a_later_handler_takes_the_place_of_an_earlier_one() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.on("version", async |_: Caller, ()| Ok(1));
    assert_eq!(session.call(&request("version")).await.payload, b"\x91\x01"[..]);
    node.on("version", async |_: Caller, ()| Ok(2));
    assert_eq!(session.call(&request("version")).await.payload, b"\x91\x02"[..]);
}

#[tokio::test]
async fn a_result_that_fits_no_frame_is_answered_too_large() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("all", async |_: Caller, ()| Ok("x".repeat(2000)));
    let (_node, mut session) = tokio::join!(within(builder.connect()), async {
        let mut session = router.accept().await;
        session.welcome_with(|welcome| welcome.max_frame = 1000).await;
        session
    });
    let (code, text) = error(&session.call(&request("all")).await);
    assert_eq!(code, "too_large");
    assert!(text.ends_with("is over the limit of 1000"), "{text}");
}

#[tokio::test]
async fn a_message_without_a_sender_is_not_for_handlers() {
    let router = FakeRouter::start().await;
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    let builder = router.node().on("count", move |_: Caller, ()| {
        let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(count) }
    });
    let (_node, mut session) = router.connect(builder).await;
    let mut nobody = message(&request("count"));
    nobody.header.source = 0;
    assert!(ServiceId::from_raw(0).is_err());
    session.send(nobody).await;
    assert_eq!(session.call(&request("count")).await.payload, b"\x91\x01"[..]);
}

#[tokio::test]
async fn a_handler_that_ran_can_not_say_that_it_did_not() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("x", async |_: Caller, ()| {
        Err::<(), _>(HandlerError::new(HandlerError::BUSY, "not really"))
    });
    let (_node, mut session) = router.connect(builder).await;
    let reply = session.call(&request("x")).await;
    let (code, text): (String, String) = rmp_serde::from_slice(&reply.payload).unwrap();
    assert_eq!((code.as_str(), text.as_str()), (HandlerError::ERROR, "busy: not really"));
}
