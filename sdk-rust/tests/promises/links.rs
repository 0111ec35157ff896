//! Promises about links that are lost, and about getting new ones.

use std::time::{Duration, Instant};

use switchboard::{
    CallError, Caller, CloseReason, Event, ForwardError, GoAwayReason, Node, Random, RefusalCode,
    RegisterError,
};
use switchboard_protocol::control::{GoAway, Registered, Replaced, Unregistered};
use switchboard_protocol::{Control, Flags, control};

use crate::support::*;

#[tokio::test]
async fn calls_under_way_fail_at_once_when_the_link_is_lost() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let call = node.call::<()>(Random, GAMESVR, "x", ()).timeout(Duration::from_secs(3600));
            tokio::spawn(call.into_future())
        })
        .collect();
    for _ in 0..10 {
        session.data().await;
    }
    drop(session);
    for call in calls {
        let error = within(call).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::OutcomeUnknown(_)), "{error}");
        assert!(error.outcome_unknown());
    }
}

#[tokio::test]
async fn without_a_link_nothing_is_promised() {
    let router = FakeRouter::start().await;
    let (node, session) = router.connect(router.node()).await;
    let mut events = node.events();
    drop(session);
    lost(&mut events).await;
    // The fake accepts no one yet, so the node has no link for the time being.
    assert_eq!(node.forward(Random, GAMESVR, "x", ()), Err(ForwardError::NotConnected));
    let call = within(node.call::<()>(Random, GAMESVR, "x", ())).await;
    assert_eq!(call, Err(CallError::NotSent(ForwardError::NotConnected)));
    assert!(!call.unwrap_err().outcome_unknown());
    assert_eq!(within(node.register("3.7")).await, Err(RegisterError::NotConnected));
}

#[tokio::test]
async fn a_lost_link_is_told_with_what_was_not_sent() {
    let router = FakeRouter::start().await;
    let (node, session) = router.connect(router.node()).await;
    let mut events = node.events();
    // The session does not read, so not all of this can leave.
    within(async {
        while node.forward_raw(Random, GAMESVR, vec![0; 1 << 20]).is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(session);
    let unsent = event(&mut events, |event| match event {
        Event::Lost { unsent, .. } => Some(*unsent),
        _ => None,
    })
    .await;
    assert!(unsent > 1 << 20, "{unsent}");
}

#[tokio::test]
async fn a_node_comes_back_by_itself_as_who_it_was() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("ping", async |_: Caller, ()| Ok("pong"));
    let (node, first) = router.connect(builder).await;
    let mut events = node.events();
    let hello = first.hello.clone();
    assert_eq!(hello.attempt, 1);
    drop(first);
    let mut second = router.welcome().await;
    assert_eq!(second.hello, control::Hello { attempt: 2, ..hello });
    assert_eq!(second.call(&request("ping")).await.payload, b"\x91\xa4pong"[..]);
    connected(&mut events).await;
    lost(&mut events).await;
    let attempt = event(&mut events, |event| match event {
        Event::Reconnecting { attempt, .. } => Some(*attempt),
        _ => None,
    })
    .await;
    assert_eq!(attempt, 1);
    connected(&mut events).await;
    node.forward(Random, GAMESVR, "back", ()).unwrap();
    assert_eq!(second.data().await.payload, request("back"));
}

#[tokio::test]
async fn an_assigned_id_is_asked_for_again_and_another_one_where_it_is_taken() {
    let router = FakeRouter::start().await;
    let builder = Node::builder("matchsvr").router(router.address());
    let (node, first) = router.connect(builder.backoff(Duration::ZERO, Duration::ZERO)).await;
    let mut events = node.events();
    let assigned = id(MATCHSVR, 1 << 23);
    assert_eq!(node.id(), assigned);
    drop(first);

    let mut second = router.accept().await;
    let asked = &second.hello.services[0];
    assert_eq!((asked.id, asked.assigned), (assigned.raw(), true));
    second.refuse(RefusalCode::IdTaken, "another node holds it").await;

    let mut third = router.accept().await;
    let asked = &third.hello.services[0];
    assert_eq!((asked.id, asked.class.as_str(), asked.instance), (0, "matchsvr", 0));
    assert!(!asked.assigned, "any will do");
    third.welcome_with(|welcome| welcome.ids = vec![id(MATCHSVR, 4711)]).await;
    connected(&mut events).await;
    connected(&mut events).await;
    assert_eq!(node.id(), id(MATCHSVR, 4711));
    node.forward(Random, GAMESVR, "x", ()).unwrap();
    assert_eq!(third.data().await.header.source, id(MATCHSVR, 4711).raw());
}

#[tokio::test]
async fn after_a_lost_link_the_next_router_is_tried() {
    let (one, two) = (FakeRouter::start().await, FakeRouter::start().await);
    let builder = one.node().router(two.address());
    let (_node, session) = one.connect(builder).await;
    drop(session);
    two.welcome().await;
}

#[tokio::test]
async fn a_router_that_falls_silent_is_given_up() {
    let router = FakeRouter::start().await;
    let (node, mut session) = tokio::join!(within(router.node().connect()), async {
        let mut session = router.accept().await;
        session.welcome_with(|welcome| welcome.heartbeat_ms = 20).await;
        session
    });
    let begun = Instant::now();
    let why = lost(&mut node.unwrap().events()).await;
    assert_eq!(why, "the router fell silent");
    assert!(begun.elapsed() >= Duration::from_millis(3 * 20));
    let mut pings = 0;
    while let Some(frame) = session.frame().await {
        pings += u32::from(matches!(Control::decode(&frame.payload), Ok(Control::Ping(_))));
    }
    assert!(pings >= 3, "{pings}");
}

#[tokio::test]
async fn a_router_that_answers_pings_is_kept() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("ping", async |_: Caller, ()| Ok("pong"));
    let (node, mut session) = tokio::join!(within(builder.connect()), async {
        let mut session = router.accept().await;
        session.welcome_with(|welcome| welcome.heartbeat_ms = 10).await;
        session
    });
    let _node = node.unwrap();
    for _ in 0..20 {
        let frame = session.frame().await.expect("the link is up");
        match Control::decode(&frame.payload).unwrap() {
            Control::Ping(ping) => session.control_out(Control::Pong(ping)).await,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_ping_of_the_router_is_answered() {
    let router = FakeRouter::start().await;
    let (_node, mut session) = router.connect(router.node()).await;
    session.control_out(Control::Ping(control::Ping { nonce: 9 })).await;
    assert_eq!(session.control().await, Control::Pong(control::Ping { nonce: 9 }));
}

#[tokio::test]
async fn a_node_that_is_asked_to_leave_finishes_its_calls_and_comes_back() {
    let router = FakeRouter::start().await;
    let (node, mut first) = router.connect(router.node()).await;
    let call = node.call::<u8>(Random, GAMESVR, "x", ()).timeout(DEADLINE);
    let call = tokio::spawn(call.into_future());
    let request = first.data().await;
    let (reason, reconnect_after_ms) = (GoAwayReason::Shutdown, Some(0));
    first.control_out(Control::GoAway(GoAway { reason, reconnect_after_ms })).await;
    event(&mut node.events(), |event| matches!(event, Event::GoAway { .. }).then_some(())).await;
    for nonce in 1..=3 {
        let ping = control::Ping { nonce };
        first.control_out(Control::Ping(ping)).await;
        assert_eq!(first.control().await, Control::Pong(ping), "it stays while a call is open");
    }
    first.answer(&request, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(call).await.unwrap(), Ok(7));
    match first.control().await {
        Control::Unregister(unregister) => {
            let answer = Unregistered { request: unregister.request };
            first.control_out(Control::Unregistered(answer)).await;
        }
        other => panic!("{other:?}"),
    }
    first.ended().await;
    router.welcome().await;
}

#[tokio::test]
async fn a_node_comes_back_no_sooner_than_the_router_asked() {
    let router = FakeRouter::start().await;
    let (_node, mut session) = router.connect(router.node()).await;
    let (reason, reconnect_after_ms) = (GoAwayReason::SlowConsumer, Some(300));
    let begun = Instant::now();
    session.control_out(Control::GoAway(GoAway { reason, reconnect_after_ms })).await;
    drop(session);
    router.accept().await;
    assert!(begun.elapsed() >= Duration::from_millis(295), "{:?}", begun.elapsed());
}

/// The node is closed for the reason, says so at every turn, and does not come back.
async fn assert_closed(node: &Node, router: &FakeRouter, reason: CloseReason) {
    let mut events = node.events();
    let closed = event(&mut events, |event| match event {
        Event::Closed(reason) => Some(reason.clone()),
        _ => None,
    })
    .await;
    assert_eq!(closed, reason);
    assert_eq!(within(events.next()).await, None);
    let forward = node.forward(Random, GAMESVR, "x", ());
    assert_eq!(forward, Err(ForwardError::Closed(reason.clone())));
    let call = within(node.call::<()>(Random, GAMESVR, "x", ())).await;
    assert_eq!(call, Err(CallError::NotSent(ForwardError::Closed(reason.clone()))));
    let register = within(node.register("3.7")).await;
    assert_eq!(register, Err(RegisterError::Closed(reason.clone())));
    assert_eq!(node.watch(GAMESVR).unwrap_err(), ForwardError::Closed(reason));
    within(node.close()).await;
    let back = tokio::time::timeout(Duration::from_millis(100), router.accept()).await;
    assert!(back.is_err(), "a closed node stays away");
}

#[tokio::test]
async fn a_replaced_node_stays_away() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let ids = vec![id(MATCHSVR, 1)];
    session.control_out(Control::Replaced(Replaced { ids: ids.clone() })).await;
    let mut events = node.events();
    let replaced = event(&mut events, |event| match event {
        Event::Replaced { ids } => Some(ids.clone()),
        _ => None,
    });
    assert_eq!(replaced.await, ids);
    session.ended().await;
    assert_eq!(node.id(), id(MATCHSVR, 1), "who it was");
    let again = event(&mut events, |event| match event {
        Event::Closed(reason) => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(again.await, CloseReason::Replaced);
    let forward = node.forward(Random, GAMESVR, "x", ());
    assert_eq!(forward, Err(ForwardError::Closed(CloseReason::Replaced)));
    let back = tokio::time::timeout(Duration::from_millis(100), router.accept()).await;
    assert!(back.is_err(), "a replaced node stays away");
}

#[tokio::test]
async fn a_node_that_loses_one_id_of_two_goes_on_under_the_other() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node().also("3.2")).await;
    let ids = vec![id(MATCHSVR, 1)];
    session.control_out(Control::Replaced(Replaced { ids })).await;
    let mut events = node.events();
    event(&mut events, |event| matches!(event, Event::Replaced { .. }).then_some(())).await;
    assert_eq!(node.ids(), [id(GAMESVR, 2)]);
    node.forward(Random, GAMESVR, "x", ()).unwrap();
    assert_eq!(session.data().await.header.source, id(GAMESVR, 2).raw());
}

#[tokio::test]
async fn a_node_that_is_sent_away_for_good_is_closed() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let (reason, reconnect_after_ms) = (GoAwayReason::Closed, None);
    session.control_out(Control::GoAway(GoAway { reason, reconnect_after_ms })).await;
    session.ended().await;
    assert_closed(&node, &router, CloseReason::SentAway("Closed".to_owned())).await;
}

#[tokio::test]
async fn a_node_that_a_newer_incarnation_has_overtaken_is_closed() {
    let router = FakeRouter::start().await;
    let (node, session) = router.connect(router.node()).await;
    drop(session);
    router.accept().await.refuse(RefusalCode::OutdatedIncarnation, "5.1 has a newer one").await;
    let code = RefusalCode::OutdatedIncarnation;
    let reason = CloseReason::Refused { code, text: "5.1 has a newer one".to_owned() };
    assert_closed(&node, &router, reason).await;
}

#[tokio::test]
async fn any_other_refusal_is_told_and_tried_again() {
    let router = FakeRouter::start().await;
    let (node, session) = router.connect(router.node()).await;
    drop(session);
    router.accept().await.refuse(RefusalCode::Draining, "about to leave").await;
    router.welcome().await;
    let mut events = node.events();
    let refused = event(&mut events, |event| match event {
        Event::Refused { code, text } => Some((*code, text.clone())),
        _ => None,
    });
    assert_eq!(refused.await, (RefusalCode::Draining, "about to leave".to_owned()));
}

#[tokio::test]
async fn what_the_router_refuses_on_a_link_is_an_event() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    session.refuse(RefusalCode::FrameTooLarge, "too long").await;
    let mut events = node.events();
    let refused = event(&mut events, |event| match event {
        Event::Refused { code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(refused.await, RefusalCode::FrameTooLarge);
}

#[tokio::test]
async fn a_registered_service_is_the_nodes_own_from_then_on() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let (registered, ()) = tokio::join!(within(node.register("gamesvr.7")), async {
        match session.control().await {
            Control::Register(register) => {
                assert_eq!(register.services[0].class, "gamesvr");
                let (request, ids) = (register.request, vec![id(GAMESVR, 7)]);
                session.control_out(Control::Registered(Registered { request, ids })).await;
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(registered, Ok(id(GAMESVR, 7)));
    assert_eq!(node.ids(), [id(MATCHSVR, 1), id(GAMESVR, 7)]);
    drop(session);
    let session = router.welcome().await;
    assert_eq!(session.hello.services.len(), 2, "it is asked for again");
}

#[tokio::test]
async fn a_refused_registration_says_why_and_changes_nothing() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let (result, ()) = tokio::join!(within(node.register("3.7")), async {
        match session.control().await {
            Control::Register(register) => {
                let refused = control::Refused {
                    code: RefusalCode::LimitExceeded.raw(),
                    text: "16 are enough".to_owned(),
                    offset: None,
                    request: Some(register.request),
                };
                session.control_out(Control::Refused(refused)).await;
            }
            other => panic!("{other:?}"),
        }
    });
    let (code, text) = (RefusalCode::LimitExceeded, "16 are enough".to_owned());
    assert_eq!(result, Err(RegisterError::Refused { code, text }));
    assert_eq!(node.ids(), [id(MATCHSVR, 1)]);
    let bad = within(node.register("300.1")).await;
    assert!(matches!(bad, Err(RegisterError::Service(_))), "{bad:?}");
}

#[tokio::test]
async fn a_registration_fails_with_its_link() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let (result, ()) = tokio::join!(within(node.register("3.7")), async {
        session.control().await;
        drop(session);
    });
    assert_eq!(result, Err(RegisterError::LinkLost));
}

#[tokio::test]
async fn an_unregistered_id_is_given_up_and_the_last_is_kept() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node().also("3.2")).await;
    let (result, ()) = tokio::join!(within(node.unregister(id(MATCHSVR, 1))), async {
        match session.control().await {
            Control::Unregister(unregister) => {
                assert_eq!(unregister.ids, [id(MATCHSVR, 1)]);
                let answer = Unregistered { request: unregister.request };
                session.control_out(Control::Unregistered(answer)).await;
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(result, Ok(()));
    assert_eq!((node.id(), node.ids()), (id(GAMESVR, 2), vec![id(GAMESVR, 2)]));
    let (gone, last) = (id(MATCHSVR, 1), id(GAMESVR, 2));
    assert_eq!(within(node.unregister(gone)).await, Err(RegisterError::NotHeld(gone)));
    assert_eq!(within(node.unregister(last)).await, Err(RegisterError::LastId(last)));
}

#[tokio::test]
async fn close_gives_the_ids_up_after_everything_sent_before() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node().also("3.2")).await;
    for _ in 0..1000 {
        node.forward(Random, GAMESVR, "x", (vec![0; 100],)).unwrap();
    }
    let clone = node.clone();
    let ((), ()) = tokio::join!(within(node.close()), async {
        for _ in 0..1000 {
            session.data().await;
        }
        match session.control().await {
            Control::Unregister(unregister) => {
                assert_eq!(unregister.ids, [id(MATCHSVR, 1), id(GAMESVR, 2)]);
                let answer = Unregistered { request: unregister.request };
                session.control_out(Control::Unregistered(answer)).await;
            }
            other => panic!("{other:?}"),
        }
        session.ended().await;
    });
    assert_closed(&clone, &router, CloseReason::Local).await;
}

#[tokio::test]
async fn close_ends_though_the_router_answers_nothing() {
    let router = FakeRouter::start().await;
    let (node, _session) = router.connect(router.node()).await;
    within(node.close()).await;
}

#[tokio::test]
async fn close_ends_a_node_that_has_no_link() {
    let router = FakeRouter::start().await;
    let (node, session) = router.connect(router.node()).await;
    drop(session);
    lost(&mut node.events()).await;
    within(node.close()).await;
    assert_eq!(
        node.forward(Random, GAMESVR, "x", ()),
        Err(ForwardError::Closed(CloseReason::Local))
    );
}

#[tokio::test]
async fn dropping_the_last_clone_closes_the_link() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let clone = node.clone();
    drop(node);
    clone.forward(Random, GAMESVR, "alive", ()).unwrap();
    assert_eq!(session.data().await.payload, request("alive"));
    drop(clone);
    assert!(matches!(session.control().await, Control::Unregister(_)));
    session.ended().await;
}
