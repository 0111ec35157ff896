//! Promises about several routers: which of them frames take, and what happens when one leaves.

use std::time::Duration;

use switchboard::{
    CallError, Caller, Direct, Event, GoAwayReason, Master, Membership, Node, Random, Reason,
    RefusalCode,
};
use switchboard_protocol::control::{self, GoAway, Master as Elected};
use switchboard_protocol::{Control, Flags};
use switchboard_router::{Config, Router};

use crate::support::*;

/// A node with links to two routers.
async fn two(one: &FakeRouter, other: &FakeRouter) -> (Node, Session, Session) {
    two_with(one, other, |_| {}, |_| {}).await
}

async fn two_with(
    one: &FakeRouter,
    other: &FakeRouter,
    first: impl FnOnce(&mut control::Welcome),
    second: impl FnOnce(&mut control::Welcome),
) -> (Node, Session, Session) {
    let builder = one.node().router(other.address());
    let (node, (one, other)) = tokio::join!(within(builder.connect()), async {
        let mut one = one.accept().await;
        one.welcome_with(|welcome| {
            welcome.router = "east".to_owned();
            first(welcome);
        })
        .await;
        let mut other = other.accept().await;
        other
            .welcome_with(|welcome| {
                welcome.router = "west".to_owned();
                second(welcome);
            })
            .await;
        (one, other)
    });
    let node = node.unwrap();
    let mut events = node.events();
    connected(&mut events).await;
    connected(&mut events).await;
    (node, one, other)
}

/// Which of two sessions gets the next frame, and the frame.
async fn whichever<'a>(
    one: &'a mut Session,
    other: &'a mut Session,
) -> (&'a mut Session, &'a mut Session, switchboard_protocol::Frame) {
    let frame = tokio::select! {
        frame = one.data() => Ok(frame),
        frame = other.data() => Err(frame),
    };
    match frame {
        Ok(frame) => (one, other, frame),
        Err(frame) => (other, one, frame),
    }
}

#[tokio::test]
async fn a_node_registers_the_same_id_with_all_its_routers() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let builder = Node::builder("matchsvr").router(one.address()).router(other.address());
    let (node, second) = tokio::join!(within(builder.connect()), async {
        let _first = one.welcome().await;
        other.welcome().await
    });
    let id = node.unwrap().id();
    let service = &second.hello.services[0];
    assert_eq!((service.id, service.assigned), (id.raw(), true));
    assert_eq!(second.hello.link, 1);
}

#[tokio::test]
async fn the_frames_of_a_class_take_one_router_and_another_when_it_is_lost() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let (node, mut one, mut other) = two(&one, &other).await;
    let mut events = node.events();
    node.forward(Random, GAMESVR, "0", ()).unwrap();
    let (chosen, spare, first) = whichever(&mut one, &mut other).await;
    assert_eq!(first.payload, request("0"));
    for number in 1..10 {
        let mode = Direct;
        node.forward(mode, id(GAMESVR, 3), &number.to_string(), ()).unwrap();
        assert_eq!(chosen.data().await.payload, request(&number.to_string()));
    }
    chosen.shutdown().await;
    lost(&mut events).await;
    node.forward(Master, GAMESVR, "moved", ()).unwrap();
    assert_eq!(spare.data().await.payload, request("moved"));
}

#[tokio::test]
async fn routers_that_a_router_tells_of_are_used_too() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let address = other.address();
    let (node, mut told) = tokio::join!(within(one.node().connect()), async {
        let mut session = one.accept().await;
        session.welcome_with(|welcome| welcome.routers = vec![address]).await;
        let told = other.welcome().await;
        drop(session);
        told
    });
    let node = node.unwrap();
    lost(&mut node.events()).await;
    node.forward(Random, GAMESVR, "x", ()).unwrap();
    assert_eq!(told.data().await.payload, request("x"));
}

#[tokio::test]
async fn two_addresses_of_one_router_make_one_link() {
    let mut config = Config::local().with_class("matchsvr", 5);
    config.listen.push(config.listen[0].clone());
    let router = Router::start(config).unwrap();
    let [one, other] = [&router.listen()[0], &router.listen()[1]];
    let node = within(Node::builder("5.1").router(one).router(other).connect()).await.unwrap();
    // The second link is refused by now, and the first one has lost nothing by it.
    node.on("hello", async |_: Caller, ()| Ok(1));
    assert_eq!(within(node.call::<u32>(Random, MATCHSVR, "hello", ())).await, Ok(1));
    let mut events = node.events();
    node.close().await;
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Replaced { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn nothing_new_goes_to_a_router_that_leaves_and_the_node_stays_for_what_comes() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let (node, mut one, mut other) = two(&one, &other).await;
    node.on("late", async |_: Caller, ()| Ok(7));
    let open = tokio::spawn(node.call::<u32>(Random, GAMESVR, "open", ()).into_future());
    let (leaving, staying, call) = whichever(&mut one, &mut other).await;
    let (reason, reconnect_after_ms) = (GoAwayReason::Shutdown, Some(0));
    leaving.control_out(Control::GoAway(GoAway { reason, reconnect_after_ms })).await;
    let mut events = node.events();
    event(&mut events, |event| matches!(event, Event::GoAway { .. }).then_some(())).await;
    node.forward(Random, GAMESVR, "new", ()).unwrap();
    assert_eq!(staying.data().await.payload, request("new"));
    // What others still send there is handled and answered there, and so is the open call.
    assert_eq!(leaving.call(&request("late")).await.payload, b"\x91\x07"[..]);
    leaving.answer(&call, Flags::NONE, b"\x91\x08").await;
    assert_eq!(within(open).await.unwrap(), Ok(8));
    match leaving.control().await {
        Control::Unregister(unregister) => assert!(!unregister.draining),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_call_that_one_router_returns_is_tried_at_the_other() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let (node, mut one, mut other) = two(&one, &other).await;
    let call = tokio::spawn(node.call::<u32>(Random, GAMESVR, "x", ()).into_future());
    let (first, second, frame) = whichever(&mut one, &mut other).await;
    first.report(&frame, Reason::NoInstance).await;
    let again = second.data().await;
    second.answer(&again, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(call).await.unwrap(), Ok(7));

    let call = tokio::spawn(node.call::<u32>(Random, GAMESVR, "x", ()).into_future());
    let frame = first.data().await;
    first.report(&frame, Reason::NoInstance).await;
    let again = second.data().await;
    second.report(&again, Reason::NotFound).await;
    assert_eq!(within(call).await.unwrap(), Err(CallError::NoRoute(Reason::NotFound)));
}

#[tokio::test]
async fn an_office_is_held_while_every_router_says_so() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let me = Some(id(MATCHSVR, 1));
    let master = |id, epoch| {
        move |welcome: &mut control::Welcome| {
            welcome.masters = [(MATCHSVR, Elected { id, epoch })].into();
        }
    };
    let (node, mut one, other) =
        two_with(&one, &other, master(me, 10), master(Some(id(MATCHSVR, 2)), 20)).await;
    assert_eq!(node.epoch(MATCHSVR), None, "the second router has another master");
    let mut other = other;
    let elected = |epoch| {
        let master = Some(Elected { id: Some(id(MATCHSVR, 1)), epoch });
        Control::Event(control::Event { master, ..control::Event::of(MATCHSVR) })
    };
    other.control_out(elected(30)).await;
    let mut events = node.events();
    let promoted = event(&mut events, |event| match event {
        Event::Promoted { epoch: 30, .. } => Some(()),
        _ => None,
    });
    promoted.await;
    assert_eq!(node.epoch(MATCHSVR), Some(30));
    other.shutdown().await;
    lost(&mut events).await;
    assert_eq!(node.epoch(MATCHSVR), Some(30), "an epoch does not shrink in office");
    one.shutdown().await;
    event(&mut events, |event| matches!(event, Event::Demoted { .. }).then_some(())).await;
    assert_eq!(node.epoch(MATCHSVR), None);
}

#[tokio::test]
async fn an_office_that_only_one_router_gives_is_claimed_at_the_other_after_a_while() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let names = |instance, epoch| {
        move |welcome: &mut control::Welcome| {
            let id = Some(id(MATCHSVR, instance));
            welcome.masters = [(MATCHSVR, Elected { id, epoch })].into();
        }
    };
    let (node, mut one, mut other) = two_with(&one, &other, names(1, 30), names(2, 20)).await;
    let begun = std::time::Instant::now();
    match other.control().await {
        Control::Claim(claim) => assert_eq!((claim.id, claim.epoch), (id(MATCHSVR, 1), 30)),
        message => panic!("{message:?}"),
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    let master = |instance, epoch| {
        let master = Some(Elected { id: Some(id(MATCHSVR, instance)), epoch });
        Control::Event(control::Event { master, ..control::Event::of(MATCHSVR) })
    };
    other.control_out(master(1, 40)).await;
    // The same holds in the middle of a session, although no heartbeat is due for long.
    one.control_out(master(2, 91)).await;
    match one.control().await {
        Control::Claim(claim) => assert_eq!((claim.id, claim.epoch), (id(MATCHSVR, 1), 40)),
        message => panic!("{message:?}"),
    }
    assert_eq!(node.epoch(MATCHSVR), None, "who had the office may not have heard yet");
}

#[tokio::test]
async fn an_office_is_laid_down_when_a_silent_router_may_have_given_it_up() {
    let router = FakeRouter::start().await;
    let heartbeat = Duration::from_millis(200);
    let (node, session) = tokio::join!(within(router.node().connect()), async {
        let mut session = router.accept().await;
        let master = Elected { id: Some(id(MATCHSVR, 1)), epoch: 7 };
        session
            .welcome_with(|welcome| {
                welcome.heartbeat_ms = heartbeat.as_millis() as u32;
                welcome.masters = [(MATCHSVR, master)].into();
            })
            .await;
        session
    });
    let node = node.unwrap();
    let mut events = node.events();
    let begun = std::time::Instant::now();
    assert_eq!(node.epoch(MATCHSVR), Some(7));
    event(&mut events, |event| matches!(event, Event::Demoted { .. }).then_some(())).await;
    assert!(begun.elapsed() <= heartbeat * 3, "{:?}", begun.elapsed());
    assert_eq!(node.epoch(MATCHSVR), None);
    // The link is not given up yet: that is the router's and the node's later decision.
    drop(session);
}

#[tokio::test]
async fn a_claim_is_told_to_routers_that_did_not_see_the_election() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let builder = one.node().router(other.address());
    let (node, second) = tokio::join!(within(builder.connect()), async {
        let mut first = one.accept().await;
        let master = Elected { id: Some(id(MATCHSVR, 1)), epoch: 7 };
        first.welcome_with(|welcome| welcome.masters = [(MATCHSVR, master)].into()).await;
        (other.accept().await, first)
    });
    assert_eq!(second.0.hello.services[0].master_since, 7);
    drop((node, second));
}

#[tokio::test]
async fn a_service_that_is_registered_later_is_registered_with_all_routers() {
    let [one, other] = [(); 2].map(|()| {
        let config = Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
        Router::start(config).unwrap()
    });
    let both = |service: &str| {
        let (one, other) = (&one.listen()[0], &other.listen()[0]);
        Node::builder(service).router(one).router(other)
    };
    let node = within(both("matchsvr.1").connect()).await.unwrap();
    let id = within(node.register("gamesvr.7")).await.unwrap();
    for router in [&one, &other] {
        let probe = Node::builder("matchsvr").router(&router.listen()[0]);
        let probe = within(probe.connect()).await.unwrap();
        let answer = within(probe.call::<()>(Direct, id, "x", ())).await;
        assert!(matches!(answer, Err(CallError::Refused { .. })), "{answer:?}");
    }
    within(node.unregister(id)).await.unwrap();
    let probe = within(both("matchsvr").connect()).await.unwrap();
    let answer = within(probe.call::<()>(Direct, id, "x", ())).await;
    assert_eq!(answer, Err(CallError::NoRoute(Reason::NotFound)));
}

#[tokio::test]
async fn a_lost_router_takes_nobody_out_of_a_watch_that_another_still_shows() {
    let start = || {
        Router::start(Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3)).unwrap()
    };
    let (one, other) = (start(), start());
    let both = |service: &str| {
        let (one, other) = (&one.listen()[0], &other.listen()[0]);
        Node::builder(service).router(one).router(other)
    };
    let game = within(both("gamesvr.1").connect()).await.unwrap();
    let node = within(both("matchsvr.1").connect()).await.unwrap();
    let mut watcher = node.watch("gamesvr").unwrap();
    let mut events = node.events();
    let next = within(watcher.next()).await;
    assert!(matches!(next, Some(Membership::Joined { id, .. }) if id == game.id()), "{next:?}");
    drop(one);
    lost(&mut events).await;
    within(game.close()).await;
    let left = within(async {
        loop {
            if let Some(Membership::Left { id, .. }) = watcher.next().await {
                return id;
            }
        }
    });
    assert_eq!(left.await, game.id());
}

#[tokio::test]
async fn an_id_that_is_somebody_elses_meanwhile_is_assigned_anew() {
    let router = FakeRouter::start().await;
    let builder = Node::builder("matchsvr").router(router.address());
    let (node, first) = router.connect(builder.backoff(Duration::ZERO, Duration::ZERO)).await;
    let mut events = node.events();
    connected(&mut events).await;
    drop(first);
    let mut second = router.accept().await;
    assert!(second.hello.services[0].assigned);
    second.refuse(RefusalCode::IdTaken, "another node holds it").await;
    let mut third = router.accept().await;
    assert_eq!((third.hello.services[0].instance, third.hello.services[0].assigned), (0, false));
    third.welcome_with(|welcome| welcome.ids = vec![id(MATCHSVR, 4711)]).await;
    connected(&mut events).await;
    assert_eq!(node.id(), id(MATCHSVR, 4711));
}

#[tokio::test]
async fn what_was_not_begun_to_be_sent_moves_to_another_router() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let (node, mut one, mut other) = two(&one, &other).await;
    node.forward(Random, GAMESVR, "first", ()).unwrap();
    let (chosen, spare, _) = whichever(&mut one, &mut other).await;
    // More than the sockets hold, to a router that does not read.
    node.forward_raw(Random, GAMESVR, vec![0; 6 << 20]).unwrap();
    // The link's task takes it and gets stuck; what comes now waits behind it.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    for number in 0..100 {
        node.forward(Random, GAMESVR, &number.to_string(), ()).unwrap();
    }
    let call = tokio::spawn(node.call::<u32>(Random, GAMESVR, "call", ()).into_future());
    tokio::task::yield_now().await;
    chosen.shutdown().await;
    for number in 0..100 {
        assert_eq!(spare.data().await.payload, request(&number.to_string()));
    }
    let frame = spare.data().await;
    assert_eq!(frame.payload, request("call"));
    spare.answer(&frame, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(call).await.unwrap(), Ok(7));
}
