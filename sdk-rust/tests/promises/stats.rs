//! What a node counts: calls and messages on both sides, how they end, how long they take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard::{
    Broadcast, Builder, CallError, Caller, Direction, HandlerError, Hash, Master, MethodStats,
    Node, Outcome, Random, Reason, Stats,
};
use switchboard_protocol::{Flags, Frame, Header};
use switchboard_router::{Config, Router};
use tokio::sync::{Notify, Semaphore};

use crate::support::*;

fn start() -> Router {
    Router::start(Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3)).unwrap()
}

fn builder(service: &str, router: &Router) -> Builder {
    Node::builder(service).router(&router.listen()[0])
}

async fn node(service: &str, router: &Router) -> Node {
    within(builder(service, router).connect()).await.unwrap()
}

/// A snapshot in which something has happened.
async fn stats_when(node: &Node, happened: impl Fn(&Stats) -> bool) -> Stats {
    within(async {
        loop {
            let stats = node.stats();
            if happened(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

fn ended(method: &MethodStats) -> Vec<(Outcome, u64)> {
    method.outcomes.iter().collect()
}

fn served(stats: &Stats, method: &str, outcome: Outcome) -> u64 {
    stats
        .served(GAMESVR, method)
        .map_or(0, |method| method.outcomes.count(outcome) + method.messages.count(outcome))
}

#[tokio::test]
async fn calls_are_counted_on_both_sides_by_class_and_method_and_how_they_ended() {
    let router = start();
    let server = node("matchsvr.1", &router).await;
    server.on("good", async |_: Caller, (x,): (u32,)| Ok(x));
    server.on("bad", async |_: Caller, ()| Err::<(), _>(HandlerError::new("poor", "no money")));
    server.on("worse", async |_: Caller, ()| -> Result<(), HandlerError> { panic!("on purpose") });
    let client = node("gamesvr.1", &router).await;
    for x in 0..3 {
        within(client.call::<u32>(Random, "matchsvr", "good", (x,))).await.unwrap();
    }
    within(client.call::<String>(Random, "matchsvr", "good", (1,))).await.unwrap_err();
    within(client.call::<u32>(Random, "matchsvr", "good", ("x",))).await.unwrap_err();
    within(client.call::<()>(Random, "matchsvr", "bad", ())).await.unwrap_err();
    within(client.call::<()>(Random, "matchsvr", "worse", ())).await.unwrap_err();
    within(client.call::<()>(Random, "gamesvr", "good", ())).await.unwrap_err();
    within(client.call::<()>(Hash(1), 77, "good", ())).await.unwrap_err();

    let stats = client.stats();
    let called = |class, method| stats.called(MATCHSVR, method).filter(|_| class == 5).unwrap();
    let good = called(5, "good");
    assert_eq!((good.direction, good.class), (Direction::Called, MATCHSVR));
    assert_eq!((&*good.class_name, &*good.method, good.calls), ("matchsvr", "good", 5));
    assert_eq!(ended(good), [(Outcome::Ok, 3), (Outcome::Refused, 1), (Outcome::Decode, 1)]);
    assert_eq!((good.in_flight, good.latency.count()), (0, 5));
    assert_eq!(ended(called(5, "bad")), [(Outcome::Remote, 1)]);
    assert_eq!(ended(called(5, "worse")), [(Outcome::Remote, 1)]);
    assert_eq!(ended(stats.called("gamesvr", "good").unwrap()), [(Outcome::Refused, 1)]);
    assert_eq!(ended(stats.called("77", "good").unwrap()), [(Outcome::NoRoute, 1)]);
    assert_eq!(stats.iter().filter(|one| one.direction == Direction::Called).count(), 5);

    let stats = server.stats();
    let good = stats.served("gamesvr", "good").unwrap();
    assert_eq!((good.direction, good.class, good.calls), (Direction::Served, GAMESVR, 5));
    assert_eq!(ended(good), [(Outcome::Ok, 4), (Outcome::Refused, 1)]);
    assert_eq!(good.latency.count(), 5);
    assert_eq!(served(&stats, "bad", Outcome::Remote), 1);
    assert_eq!(served(&stats, "worse", Outcome::Panic), 1);
    assert!(stats.called("gamesvr", "good").is_none());
}

#[tokio::test]
async fn a_call_that_waits_is_in_flight_on_both_sides_and_its_time_is_measured() {
    let router = start();
    let server = node("matchsvr.1", &router).await;
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    server.on("wait", move |_: Caller, ()| {
        let opened = Arc::clone(&opened);
        async move {
            opened.notified().await;
            Ok(())
        }
    });
    let client = node("gamesvr.1", &router).await;
    let since = Instant::now();
    let call = tokio::spawn(client.call::<()>(Master, "matchsvr", "wait", ()).into_future());
    let running = |stats: &Stats| stats.served(GAMESVR, "wait").is_some_and(|m| m.in_flight == 1);
    let stats = stats_when(&server, running).await;
    let begun = Instant::now();
    assert_eq!(stats.served(GAMESVR, "wait").unwrap().calls, 1);
    let stats = client.stats();
    let wait = stats.called(MATCHSVR, "wait").unwrap();
    assert_eq!((wait.calls, wait.in_flight, wait.outcomes.total()), (1, 1, 0));
    assert_eq!((stats.open_calls, stats.routers), (1, 1));

    tokio::time::sleep(Duration::from_millis(30)).await;
    gate.notify_one();
    let waited = begun.elapsed();
    within(call).await.unwrap().unwrap();
    let most = since.elapsed();
    for (stats, direction) in [(client.stats(), "called"), (server.stats(), "served")] {
        let wait = stats.iter().find(|method| &*method.method == "wait").unwrap();
        let took = wait.latency.max();
        assert!((waited..=most).contains(&took), "{direction}: {waited:?} {took:?} {most:?}");
        assert_eq!(
            (wait.latency.p50(), wait.latency.p99(), wait.latency.mean()),
            (took, took, took)
        );
        assert_eq!((wait.in_flight, wait.outcomes.count(Outcome::Ok)), (0, 1));
    }
    assert_eq!(client.stats().open_calls, 0);
}

#[tokio::test]
async fn messages_are_counted_apart_from_calls() {
    let router = start();
    let server = node("matchsvr.1", &router).await;
    server.on("moved", async |_: Caller, (x,): (i32,)| match x {
        0 => Err(HandlerError::new("stuck", "nowhere to go")),
        _ => Ok(()),
    });
    let client = node("gamesvr.1", &router).await;
    for x in 0..5 {
        client.forward(Random, "matchsvr", "moved", (x,)).unwrap();
    }
    client.message(Broadcast, "matchsvr", "moved", (5,)).droppable().send().unwrap();
    client.forward_raw(Random, "matchsvr", b"bytes").unwrap();
    let stats = client.stats();
    let moved = stats.called("matchsvr", "moved").unwrap();
    assert_eq!((moved.messages.count(Outcome::Ok), moved.messages.total()), (6, 6));
    assert_eq!((moved.calls, moved.latency.count()), (0, 0));
    assert_eq!(stats.called("matchsvr", "").unwrap().messages.total(), 1);

    let stats = stats_when(&server, |stats| served(stats, "", Outcome::Refused) == 1).await;
    let moved = stats.served("gamesvr", "moved").unwrap();
    let ends: Vec<_> = moved.messages.iter().collect();
    assert_eq!(ends, [(Outcome::Ok, 5), (Outcome::Remote, 1)]);
    assert_eq!((moved.calls, moved.outcomes.total(), moved.latency.count()), (0, 0, 6));

    within(client.close()).await;
    client.forward(Random, MATCHSVR, "moved", (1,)).unwrap_err();
    within(client.call::<()>(Random, MATCHSVR, "moved", (1,))).await.unwrap_err();
    let stats = client.stats();
    let moved = stats.called(MATCHSVR, "moved").unwrap();
    assert_eq!(moved.messages.count(Outcome::NotSent), 1);
    assert_eq!(ended(moved), [(Outcome::NotSent, 1)]);
    assert_eq!((moved.latency.count(), stats.routers), (0, 0));
}

#[tokio::test]
async fn a_call_that_nobody_answers_or_waits_for_is_counted_as_such() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let call = node.call::<()>(Random, GAMESVR, "load", ()).timeout(Duration::from_millis(20));
    assert_eq!(within(call).await, Err(CallError::Timeout));
    let given_up = tokio::spawn(node.call::<()>(Random, GAMESVR, "load", ()).into_future());
    session.data().await;
    session.data().await;
    given_up.abort();
    let _ = given_up.await;
    let lost = tokio::spawn(node.call::<()>(Random, GAMESVR, "load", ()).into_future());
    session.data().await;
    drop(session);
    assert!(matches!(within(lost).await.unwrap(), Err(CallError::OutcomeUnknown(_))));
    let stats = node.stats();
    let load = stats.called(GAMESVR, "load").unwrap();
    let one_each = [Outcome::Timeout, Outcome::OutcomeUnknown, Outcome::Cancelled];
    assert_eq!(ended(load), one_each.map(|outcome| (outcome, 1)));
    assert_eq!((load.calls, load.in_flight, load.latency.count()), (3, 0, 2));
    assert!(
        load.latency.p50() >= Duration::from_millis(20)
            || load.latency.max() >= Duration::from_millis(20)
    );
}

#[tokio::test]
async fn copies_are_retries_of_one_call_and_duplicates_where_they_arrive() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let charge = node.call::<u32>(Random, GAMESVR, "charge", ()).idempotent();
    let charge = tokio::spawn(charge.into_future());
    for _ in 0..3 {
        let copy = session.data().await;
        session.report(&copy, Reason::NoInstance).await;
    }
    let copy = session.data().await;
    session.answer(&copy, Flags::NONE, b"\x91\x07").await;
    assert_eq!(within(charge).await.unwrap(), Ok(7));
    let stats = node.stats();
    let charge = stats.called(GAMESVR, "charge").unwrap();
    assert_eq!((charge.calls, charge.retries, ended(charge)), (1, 3, vec![(Outcome::Ok, 1)]));

    node.on("charge", async |_: Caller, ()| Ok(7));
    let Frame { header, payload } = call(1, &request("charge"));
    let idempotent = Header { flags: Flags::CALL | Flags::IDEMPOTENT, ..header };
    for _ in 0..3 {
        session.send(Frame { header: idempotent, payload: payload.clone() }).await;
        session.data().await;
    }
    let stats = node.stats();
    let charge = stats.served(GAMESVR, "charge").unwrap();
    assert_eq!(ended(charge), [(Outcome::Ok, 1), (Outcome::Duplicate, 2)]);
    assert_eq!((stats.window_calls, stats.window_bytes), (1, 2));
}

#[tokio::test]
async fn what_finds_no_room_or_comes_too_late_is_counted_and_the_queue_can_be_seen() {
    let router = FakeRouter::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let builder =
        router.node().handler_queue(2).handlers_waiting(1).on("wait", move |_: Caller, ()| {
            let opened = Arc::clone(&opened);
            async move {
                drop(opened.acquire().await?);
                Ok(())
            }
        });
    let (node, mut session) = router.connect(builder).await;
    let wait = request("wait");
    session.send(message(&wait)).await;
    stats_when(&node, |stats| {
        stats.served(GAMESVR, "wait").is_some_and(|wait| wait.in_flight == 1)
    })
    .await;
    let late = message(&wait);
    session.send(Frame { header: Header { ttl: 1, ..late.header }, ..late }).await;
    session.send(message(&wait)).await;
    session.send(message(&wait)).await;
    session.send(call(5, &wait)).await;
    let stats = stats_when(&node, |stats| served(stats, "wait", Outcome::Busy) == 2).await;
    let busy = stats.served(GAMESVR, "wait").unwrap();
    assert_eq!((busy.outcomes.count(Outcome::Busy), busy.messages.count(Outcome::Busy)), (1, 1));
    assert_eq!(stats.handler_queue, 2);
    tokio::time::sleep(Duration::from_millis(20)).await;
    gate.add_permits(1);
    let stats = stats_when(&node, |stats| served(stats, "wait", Outcome::Ok) == 2).await;
    assert_eq!(served(&stats, "wait", Outcome::Expired), 1);
    assert_eq!(stats.handler_queue, 0);
}

#[tokio::test]
async fn names_that_others_invent_share_one_entry() {
    let router = start();
    let server = node("matchsvr.1", &router).await;
    server.on("real", async |_: Caller, ()| Ok(()));
    server.on_raw(async |_: Caller, payload| Ok(payload));
    let client = node("gamesvr.1", &router).await;
    let invented = 2 * Stats::MAX_METHODS;
    for number in 0..invented {
        client.forward(Random, "matchsvr", &format!("invented_{number}"), ()).unwrap();
    }
    within(client.call::<()>(Random, "matchsvr", "real", ())).await.unwrap();
    within(client.call_raw(Random, "matchsvr", "bytes")).await.unwrap();

    let stats = server.stats();
    let names: Vec<&str> = stats.iter().map(|method| &*method.method).collect();
    assert_eq!(names, ["", "other", "real"]);
    assert_eq!(served(&stats, "other", Outcome::Ok), invented as u64);

    // The caller's own names are bounded in number.
    let stats = client.stats();
    assert_eq!(stats.iter().count(), Stats::MAX_METHODS + 2);
    let other = stats.called("matchsvr", "other").unwrap();
    let late = (invented - Stats::MAX_METHODS) as u64;
    assert_eq!((other.messages.total(), other.calls), (late, 1));
    assert_eq!(stats.called("matchsvr", "invented_0").unwrap().messages.total(), 1);
}

#[tokio::test]
async fn a_question_to_a_class_is_one_call() {
    let router = start();
    let ask = async |_: Caller, ()| Ok(1);
    let one = within(builder("gamesvr.1", &router).on("ask", ask).connect()).await.unwrap();
    let two = within(builder("gamesvr.2", &router).on("ask", ask).connect()).await.unwrap();
    let client = node("matchsvr.1", &router).await;
    let answers = within(client.collect::<u32>("gamesvr", "ask", ())).await.unwrap();
    assert!(answers.is_complete());
    let stats = client.stats();
    let ask = stats.called("gamesvr", "ask").unwrap();
    assert_eq!((ask.calls, ended(ask)), (1, vec![(Outcome::Ok, 1)]));
    for server in [one, two] {
        assert_eq!(server.stats().served("matchsvr", "ask").unwrap().calls, 1);
    }
}

#[tokio::test]
async fn bytes_that_wait_for_the_router_can_be_seen() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.forward_raw(Random, GAMESVR, [0; 1000]).unwrap();
    assert_eq!(node.stats().outbox_bytes, 1016);
    session.data().await;
    stats_when(&node, |stats| stats.outbox_bytes == 0).await;
}
