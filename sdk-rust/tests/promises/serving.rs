//! Promises about the end of a node, and about asking everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use switchboard::{CallError, Caller, CloseReason, Direct, HandlerError, Node, Random, Reason};
use switchboard_protocol::{Control, control};
use switchboard_router::{Config, Router};
use tokio::sync::Notify;

use crate::support::*;

fn start() -> Router {
    Router::start(Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3)).unwrap()
}

async fn join(service: &str, router: &Router) -> Node {
    within(Node::builder(service).router(&router.listen()[0]).connect()).await.unwrap()
}

#[tokio::test]
async fn a_drain_finishes_what_is_there_and_takes_nothing_new() {
    let router = start();
    let (go, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (gate, told) = (Arc::clone(&go), Arc::clone(&begun));
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    let server = Node::builder("matchsvr.1")
        .router(&router.listen()[0])
        .on("slow", move |from: Caller, ()| {
            let (gate, told) = (Arc::clone(&gate), Arc::clone(&told));
            async move {
                told.notify_one();
                gate.notified().await;
                // A node that drains may still ask others, and hears their answers.
                let answer = from.node().call::<u32>(Direct, from.id(), "ask", ()).await?;
                Ok(answer)
            }
        })
        .on_stop(async move |_| stop.store(true, Ordering::Relaxed));
    let server = within(server.connect()).await.unwrap();
    let client = join("gamesvr.1", &router).await;
    client.on("ask", async |_: Caller, ()| Ok(7));
    let mut watcher = client.watch("matchsvr").unwrap();
    let open = tokio::spawn(client.call::<u32>(Random, "matchsvr", "slow", ()).into_future());
    within(begun.notified()).await;
    let draining = {
        let server = server.clone();
        tokio::spawn(async move { server.drain().await })
    };
    within(async {
        while !matches!(watcher.next().await, Some(switchboard::Membership::Left { .. })) {}
    })
    .await;
    let answer = within(client.call::<u32>(Random, "matchsvr", "slow", ())).await;
    assert_eq!(answer, Err(CallError::NoRoute(Reason::NoInstance)));
    assert!(!draining.is_finished() && !stopped.load(Ordering::Relaxed));
    go.notify_one();
    assert_eq!(within(open).await.unwrap(), Ok(7));
    within(draining).await.unwrap();
    assert!(stopped.load(Ordering::Relaxed));
    let closed = server.forward(Random, "gamesvr", "x", ());
    assert_eq!(closed, Err(switchboard::ForwardError::Closed(CloseReason::Local)));
}

#[tokio::test]
async fn a_drain_gives_ids_up_in_two_steps() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let draining = tokio::spawn(async move { node.drain().await });
    for expected in [true, false] {
        let Control::Unregister(unregister) = session.control().await else { panic!() };
        assert_eq!((unregister.draining, unregister.ids), (expected, vec![id(MATCHSVR, 1)]));
        let request = unregister.request;
        session.control_out(Control::Unregistered(control::Unregistered { request })).await;
    }
    session.ended().await;
    within(draining).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_in_time_whatever_hangs() {
    let router = start();
    let server = Node::builder("matchsvr.1")
        .router(&router.listen()[0])
        .drain_timeout(Duration::from_millis(50))
        .on("hang", async |_: Caller, ()| {
            std::future::pending::<()>().await;
            Ok(())
        });
    let server = within(server.connect()).await.unwrap();
    let client = join("gamesvr.1", &router).await;
    client.forward(Random, "matchsvr", "hang", ()).unwrap();
    // Behind the message that hangs.
    let _ = within(client.call::<()>(Random, "matchsvr", "x", ())).await;
    within(server.drain()).await;
}

#[tokio::test]
async fn on_start_runs_before_the_first_handler() {
    let router = start();
    let ready = Arc::new(AtomicU32::new(0));
    let (starting, asked) = (Arc::clone(&ready), Arc::clone(&ready));
    let server = Node::builder("matchsvr.1")
        .router(&router.listen()[0])
        .on_start(async move |node| {
            // The node is connected, and may call.
            let nobody = node.call::<()>(Random, "gamesvr", "x", ()).await;
            starting.store(1 + u32::from(nobody.is_err()), Ordering::Relaxed);
        })
        .on("ready", move |_: Caller, ()| {
            let ready = asked.load(Ordering::Relaxed);
            async move { Ok(ready) }
        });
    let server = within(server.connect()).await.unwrap();
    let ready = within(server.call::<u32>(Random, "matchsvr", "ready", ())).await;
    assert_eq!(ready, Ok(2));
}

#[tokio::test]
async fn everybody_is_asked_and_every_answer_is_told() {
    let router = start();
    let mut games = Vec::new();
    for instance in 1..=5_u32 {
        let game = join(&format!("gamesvr.{instance}"), &router).await;
        game.on("players", move |_: Caller, ()| async move {
            match instance {
                5 => Err(HandlerError::new("closed", "for the night")),
                _ => Ok(instance),
            }
        });
        games.push(game);
    }
    let node = join("matchsvr.1", &router).await;
    let counts = within(node.collect::<u32>("gamesvr", "players", ())).await.unwrap();
    assert!(counts.is_complete());
    assert_eq!((counts.asked, counts.missing), (5, vec![]));
    let mut answers: Vec<_> = counts
        .answers
        .iter()
        .map(|(id, answer)| (id.instance().raw(), answer.clone().ok()))
        .collect();
    answers.sort();
    assert_eq!(answers, [(1, Some(1)), (2, Some(2)), (3, Some(3)), (4, Some(4)), (5, None)]);
}

#[tokio::test]
async fn who_does_not_answer_is_named() {
    let router = start();
    let quick = join("gamesvr.1", &router).await;
    quick.on("players", async |_: Caller, ()| Ok(1));
    let slow = join("gamesvr.2", &router).await;
    slow.on("players", |_: Caller, ()| std::future::pending::<Result<u32, HandlerError>>());
    let node = join("matchsvr.1", &router).await;
    let question = node.collect::<u32>("gamesvr", "players", ());
    let counts = within(question.timeout(Duration::from_millis(200))).await.unwrap();
    assert_eq!(counts.answers, [(quick.id(), Ok(1))]);
    assert_eq!((counts.asked, counts.missing), (2, vec![slow.id()]));
}

#[tokio::test]
async fn asking_nobody_is_no_route() {
    let router = start();
    let node = join("matchsvr.1", &router).await;
    let nobody = within(node.collect::<u32>("gamesvr", "players", ())).await;
    assert_eq!(nobody, Err(CallError::NoRoute(Reason::NoInstance)));
    let unknown = within(node.collect::<u32>("chat", "players", ())).await;
    assert!(matches!(unknown, Err(CallError::NotSent(_))), "{unknown:?}");
}

#[tokio::test]
async fn a_question_that_the_router_does_not_answer_is_not_complete() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let ask = || node.collect::<u32>(GAMESVR, "players", ()).timeout(Duration::from_millis(200));
    // Who is there is never told, so nobody is asked.
    let unknown = tokio::spawn(ask().into_future());
    assert_eq!(within(unknown).await.unwrap(), Err(CallError::NoRoute(Reason::Expired)));
    // Who is there is told, and to how many the question went is not.
    let _watcher = node.watch(GAMESVR).unwrap();
    let event = control::Event { snapshot: true, complete: true, ..control::Event::of(GAMESVR) };
    loop {
        if matches!(session.control().await, Control::Watch(_)) {
            session.control_out(Control::Event(event.clone())).await;
        }
        let silent = within(ask()).await;
        if silent == Err(CallError::Timeout) {
            break;
        }
    }
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_router_that_has_not_answered_yet() {
    let (one, other) = (FakeRouter::start().await, FakeRouter::start().await);
    let builder = one.node().router(other.address()).connect_timeout(Duration::from_secs(60));
    let (node, (mut first, mut second)) = tokio::join!(within(builder.connect()), async {
        let first = one.welcome().await;
        (first, other.accept().await)
    });
    let node = node.unwrap();
    let draining = tokio::spawn(async move { node.drain().await });
    // No new link is made any more.
    second.ended().await;
    for _ in 0..2 {
        let Control::Unregister(unregister) = first.control().await else { panic!() };
        let request = unregister.request;
        first.control_out(Control::Unregistered(control::Unregistered { request })).await;
    }
    within(draining).await.unwrap();
}
