//! Promises about sending: forward, its options, and call.

use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use switchboard::{
    Broadcast, CallError, Class, Direct, Event, ForwardError, Hash, LeastLoaded, Master, Mode,
    Random, Reason, TargetError,
};
use switchboard_protocol::{Flags, Kind};

use crate::support::*;

#[tokio::test]
async fn forward_writes_mode_key_target_method_and_arguments() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.forward(Master, "gamesvr", "join", (7, "ranked")).unwrap();
    node.forward(Hash(42), 3, "join", ()).unwrap();
    node.forward(Random, GAMESVR, "join", vec![1, 2]).unwrap();
    node.forward(Broadcast, GAMESVR, "join", ()).unwrap();
    node.forward(LeastLoaded, GAMESVR, "join", ()).unwrap();
    node.forward(Direct, "gamesvr.2", "join", ()).unwrap();
    node.forward_raw(Direct, id(GAMESVR, 2), b"anything").unwrap();

    let expected: [(Mode, u32, u64, &[u8]); 7] = [
        (Mode::Master, 3 << 24, 0, b"\x93\xa4join\x07\xa6ranked"),
        (Mode::Hash, 3 << 24, 42, b"\x91\xa4join"),
        (Mode::Random, 3 << 24, 0, b"\x93\xa4join\x01\x02"),
        (Mode::Broadcast, 3 << 24, 0, b"\x91\xa4join"),
        (Mode::LeastLoaded, 3 << 24, 0, b"\x91\xa4join"),
        (Mode::Direct, id(GAMESVR, 2).raw(), 0, b"\x91\xa4join"),
        (Mode::Direct, id(GAMESVR, 2).raw(), 0, b"anything"),
    ];
    for (mode, target, key, payload) in expected {
        let frame = session.data().await;
        assert_eq!(frame.header.kind, Kind::Data(mode));
        assert_eq!((frame.header.target, frame.header.key), (target, key));
        assert_eq!((frame.header.flags, frame.header.ttl), (Flags::NONE, 0));
        assert_eq!(frame.header.source, id(MATCHSVR, 1).raw());
        assert_eq!(frame.payload, *payload);
    }
}

#[tokio::test]
async fn frames_leave_in_the_order_sent() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    for number in 0..20_000u32 {
        let mode = Hash(number);
        node.forward_raw(mode, GAMESVR, number.to_le_bytes()).unwrap();
    }
    for number in 0..20_000u32 {
        assert_eq!(session.data().await.payload, number.to_le_bytes()[..]);
    }
}

#[tokio::test]
async fn options_of_a_message_are_flags_and_ttl() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let message = node.message(Broadcast, GAMESVR, "move", (1,));
    message.droppable().report().echo().ttl(Duration::from_millis(250)).send().unwrap();
    let header = session.data().await.header;
    assert_eq!(header.flags, Flags::DROPPABLE | Flags::REPORT | Flags::ECHO);
    assert_eq!(header.ttl, 25);
}

#[tokio::test]
async fn an_echo_without_a_broadcast_is_an_error() {
    let router = FakeRouter::start().await;
    let (node, _session) = router.connect(router.node()).await;
    let result = node.message(Random, GAMESVR, "move", ()).echo().send();
    assert_eq!(result, Err(ForwardError::Target(TargetError::Echo)));
}

#[tokio::test]
async fn what_cant_be_sent_says_why() {
    let router = FakeRouter::start().await;
    let (node, mut session) = tokio::join!(within(router.node().connect()), async {
        let mut session = router.accept().await;
        session.welcome_with(|welcome| welcome.max_frame = 1000).await;
        session
    });
    let node = node.unwrap();
    assert_eq!(
        node.forward(Master, "chat", "x", ()),
        Err(ForwardError::UnknownClass("chat".to_owned()))
    );
    assert!(matches!(node.forward(Direct, GAMESVR, "x", ()), Err(ForwardError::Target(_))));
    assert_eq!(
        node.forward_raw(Random, GAMESVR, [0; 985]),
        Err(ForwardError::TooLarge { length: 1001, max: 1000 })
    );
    let unwritable = node.forward(Random, GAMESVR, "x", (Unwritable,));
    assert_eq!(unwritable, Err(ForwardError::Encode("on purpose".to_owned())));
    let call = within(node.call::<()>(Master, "chat", "x", ())).await;
    assert_eq!(call, Err(ForwardError::UnknownClass("chat".to_owned()).into()));

    // None of it left, and the link is none the worse.
    node.forward(Random, GAMESVR, "after", ()).unwrap();
    assert_eq!(session.data().await.payload, request("after"));
}

#[tokio::test]
async fn a_full_outbox_says_full_and_takes_more_once_it_has_room() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node().outbox_bytes(100_000)).await;
    // The session does not read, so the sockets fill up and then the outbox.
    let refused = within(async {
        loop {
            match node.forward_raw(Random, GAMESVR, [0; 50_000]) {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        }
    })
    .await;
    assert!(matches!(refused, ForwardError::Full { limit: 100_000, .. }), "{refused}");
    let call = within(node.call_raw(Random, GAMESVR, vec![0; 50_000])).await;
    assert!(matches!(call, Err(CallError::NotSent(ForwardError::Full { .. }))), "{call:?}");
    within(async {
        while node.forward_raw(Random, GAMESVR, [0; 50_000]).is_err() {
            session.data().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_router_that_does_not_read_does_not_stop_the_node_from_reading() {
    let router = FakeRouter::start().await;
    let seen = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&seen);
    let builder = router.node().on("poke", move |_: switchboard::Caller, ()| {
        notify.notify_one();
        async { Ok(()) }
    });
    let (node, mut session) = router.connect(builder).await;
    within(async {
        while node.forward_raw(Random, GAMESVR, vec![0; 1 << 20]).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    session.send(message(&request("poke"))).await;
    within(seen.notified()).await;
}

#[tokio::test]
async fn what_the_router_cant_deliver_and_was_to_report_is_an_event() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.message(Hash(42), GAMESVR, "x", ()).report().send().unwrap();
    let frame = session.data().await;
    session.report(&frame, Reason::EmptySlot).await;
    node.message(Direct, "3.2", "x", ()).report().send().unwrap();
    let frame = session.data().await;
    session.report(&frame, Reason::NotFound).await;
    let mut events = node.events();
    let mut next = async || {
        event(&mut events, |event| match event {
            Event::Undelivered { reason, mode, class, id, key } => {
                Some((*reason, *mode, *class, *id, *key))
            }
            _ => None,
        })
        .await
    };
    assert_eq!(next().await, (Reason::EmptySlot, Mode::Hash, GAMESVR, None, Some(42)));
    let to = Some(id(GAMESVR, 2));
    assert_eq!(next().await, (Reason::NotFound, Mode::Direct, GAMESVR, to, None));
}

#[tokio::test]
async fn a_call_has_the_result_of_its_reply() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let call = node.call::<u32>(Hash(7), "gamesvr", "load", (7,)).timeout(Duration::from_secs(9));
    let (result, request) = tokio::join!(within(call), async {
        let request = session.data().await;
        session.answer(&request, Flags::NONE, b"\x91\x2a").await;
        request
    });
    assert_eq!(result, Ok(42));
    assert_eq!((request.header.flags, request.header.key), (Flags::CALL, 7));
    assert_eq!(request.header.ttl, 900, "the router keeps it no longer than the caller waits");
    assert_eq!(request.payload, b"\x92\xa4load\x07"[..]);
}

#[tokio::test]
async fn replies_find_their_calls_in_any_order() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let calls: Vec<_> = (0..100u32)
        .map(|number| {
            let call = node.call::<u32>(Random, GAMESVR, "twice", (number,));
            tokio::spawn(call.into_future())
        })
        .collect();
    let mut requests = Vec::new();
    for _ in 0..100 {
        requests.push(session.data().await);
    }
    for request in requests.iter().rev() {
        let (_, number): (String, u32) = rmp_serde::from_slice(&request.payload).unwrap();
        let reply = rmp_serde::to_vec(&(number * 2,)).unwrap();
        session.answer(request, Flags::NONE, &reply).await;
    }
    for (number, call) in (0..).zip(calls) {
        assert_eq!(within(call).await.unwrap(), Ok(number * 2));
    }
}

#[tokio::test]
async fn a_raw_call_has_the_payload_of_its_reply() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let (result, ()) = tokio::join!(within(node.call_raw(Direct, "3.2", "ping")), async {
        let request = session.data().await;
        assert_eq!(request.payload, b"ping"[..]);
        session.answer(&request, Flags::NONE, b"pong").await;
    });
    assert_eq!(result.unwrap(), b"pong"[..]);
}

#[tokio::test]
async fn a_remote_error_has_code_and_text() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let (result, ()) = tokio::join!(within(node.call::<u32>(Random, GAMESVR, "buy", ())), async {
        let request = session.data().await;
        session.answer(&request, Flags::ERROR, b"\x92\xa4poor\xa8no money").await;
    });
    let error = result.unwrap_err();
    assert!(!error.outcome_unknown());
    let (code, text) = ("poor".to_owned(), "no money".to_owned());
    assert_eq!(error, CallError::Remote { code, text });
}

#[tokio::test]
async fn a_reply_of_the_wrong_type_is_an_error_that_says_the_work_was_done() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let (result, ()) = tokio::join!(within(node.call::<u32>(Random, GAMESVR, "x", ())), async {
        let request = session.data().await;
        session.answer(&request, Flags::NONE, b"\x91\xa4text").await;
    });
    let error = result.unwrap_err();
    assert!(matches!(error, CallError::Decode(_)), "{error}");
    assert!(error.outcome_unknown());
}

#[tokio::test]
async fn a_call_that_cant_be_delivered_fails_at_once() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    for reason in [
        Reason::NoInstance,
        Reason::NotFound,
        Reason::EmptySlot,
        Reason::Full,
        Reason::Evicted,
        Reason::TargetLost,
        Reason::TooLarge,
        Reason::Expired,
    ] {
        let (result, ()) = tokio::join!(within(node.call::<()>(Master, GAMESVR, "x", ())), async {
            let request = session.data().await;
            session.report(&request, reason).await;
        });
        let error = result.unwrap_err();
        assert!(!error.outcome_unknown());
        assert_eq!(error, CallError::NoRoute(reason));
    }
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_a_late_reply_harms_nobody() {
    let router = FakeRouter::start().await;
    let builder = router.node().call_timeout(Duration::from_millis(30));
    let (node, mut session) = router.connect(builder).await;
    let error = within(node.call::<u32>(Random, GAMESVR, "x", ())).await.unwrap_err();
    assert!(error.outcome_unknown());
    assert_eq!(error, CallError::Timeout);
    let late = session.data().await;
    session.answer(&late, Flags::NONE, b"\x91\x01").await;
    let call = node.call::<u32>(Random, GAMESVR, "y", ()).timeout(DEADLINE);
    let (result, ()) = tokio::join!(within(call), async {
        let request = session.data().await;
        session.answer(&request, Flags::NONE, b"\x91\x02").await;
    });
    assert_eq!(result, Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_fires_while_the_driver_is_stuck() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    // The driver wakes whoever waits for a reply; this one does not let it go.
    let (entered, stuck) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel();
    let waker = Waker::from(Arc::new(Trap { entered, released: Mutex::new(released) }));
    let mut first = node.call::<()>(Random, GAMESVR, "x", ()).into_future();
    assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let request = session.data().await;
    session.answer(&request, Flags::NONE, b"\x91\xc0").await;
    stuck.recv_timeout(DEADLINE).unwrap();

    // As a task, so that the runtime wakes its other thread, which then looks after the timers.
    let second = node.call::<()>(Random, GAMESVR, "y", ()).timeout(Duration::from_millis(50));
    let second = tokio::spawn(second.into_future());
    assert_eq!(within(second).await.unwrap(), Err(CallError::Timeout));
    release.send(()).unwrap();
    assert_eq!(within(first).await, Ok(()));
}

/// A waker that keeps its thread until it is released.
struct Trap {
    entered: std::sync::mpsc::Sender<()>,
    released: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Wake for Trap {
    fn wake(self: Arc<Self>) {
        let _ = self.entered.send(());
        let _ = self.released.lock().unwrap().recv_timeout(DEADLINE);
    }
}

/// What can't be serialised.
struct Unwritable;

impl serde::Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("on purpose"))
    }
}

#[tokio::test]
async fn a_call_is_sent_when_it_is_awaited_and_not_before() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    drop(node.call::<()>(Random, Class::of(3), "never", ()).into_future());
    node.forward(Random, Class::of(3), "after", ()).unwrap();
    assert_eq!(session.data().await.payload, request("after"));
}
