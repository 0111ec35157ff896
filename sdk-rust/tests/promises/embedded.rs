//! The promises that take a real router: it runs inside the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use switchboard::{
    Broadcast, Builder, CallError, Caller, Class, CloseReason, ConnectError, Direct, Event, Hash,
    LeastLoaded, Master, Membership, Node, Random, Reason,
};
use switchboard_router::config::Drain;
use switchboard_router::{Config, Router};
use tokio::sync::mpsc;

use crate::support::{GAMESVR, MATCHSVR, connected, event, id, lost, within};

fn config() -> Config {
    Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3)
}

fn start() -> Router {
    Router::start(config()).unwrap()
}

fn node(service: &str, router: &Router) -> Builder {
    Node::builder(service).router(&router.listen()[0])
}

/// A node that answers `who` with its instance.
async fn member(service: &str, router: &Router) -> Node {
    let builder = node(service, router)
        .on("who", async |from: Caller, ()| Ok(from.node().id().instance().raw()));
    within(builder.connect()).await.unwrap()
}

#[tokio::test]
async fn every_mode_finds_its_target() {
    let router = start();
    let [one, two, three] = [
        member("matchsvr.1", &router).await,
        member("matchsvr.2", &router).await,
        member("matchsvr.3", &router).await,
    ];
    let client = member("gamesvr.1", &router).await;
    let who = async |call: switchboard::Call<u32>| within(call).await.unwrap();
    assert_eq!(who(client.call(Master, "matchsvr", "who", ())).await, 1);
    assert_eq!(who(client.call(Direct, "matchsvr.3", "who", ())).await, 3);
    assert_eq!(who(client.call(Direct, two.id(), "who", ())).await, 2);
    let by_key = who(client.call(Hash("guild"), MATCHSVR, "who", ())).await;
    assert_eq!(who(client.call(Hash("guild"), MATCHSVR, "who", ())).await, by_key);
    assert!((1..=3).contains(&who(client.call(Random, 5, "who", ())).await));
    // The router compares two; of two that are left, the busy one is never taken.
    within(three.close()).await;
    one.set_load(100);
    within(async {
        let mut idle = 0;
        while idle < 50 {
            let instance = who(client.call(LeastLoaded, MATCHSVR, "who", ())).await;
            idle = if instance == 2 { idle + 1 } else { 0 };
        }
    })
    .await;
}

#[tokio::test]
async fn a_broadcast_reaches_everyone_and_its_sender_where_it_asks() {
    let router = start();
    let (told, mut heard) = mpsc::unbounded_channel();
    let mut nodes = Vec::new();
    for service in ["matchsvr.1", "matchsvr.2", "matchsvr.3"] {
        let told = told.clone();
        let builder = node(service, &router).on("news", move |from: Caller, (what,): (String,)| {
            let _ = told.send((from.node().id().instance().raw(), what));
            async { Ok(()) }
        });
        nodes.push(within(builder.connect()).await.unwrap());
    }
    nodes[0].message(Broadcast, MATCHSVR, "news", ("mine",)).echo().send().unwrap();
    nodes[0].forward(Broadcast, MATCHSVR, "news", ("theirs",)).unwrap();
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(within(heard.recv()).await.unwrap());
    }
    all.sort();
    let expected = [(1, "mine"), (2, "mine"), (2, "theirs"), (3, "mine"), (3, "theirs")];
    assert_eq!(all, expected.map(|(instance, what)| (instance, what.to_owned())));
}

#[tokio::test]
async fn a_call_nobody_can_take_fails_at_once() {
    let router = start();
    let client = member("gamesvr.1", &router).await;
    let nobody = within(client.call::<u32>(Master, MATCHSVR, "who", ())).await;
    assert_eq!(nobody, Err(CallError::NoRoute(Reason::NoInstance)));
    let gone = within(client.call::<u32>(Direct, "matchsvr.9", "who", ())).await;
    assert_eq!(gone, Err(CallError::NoRoute(Reason::NotFound)));
}

#[tokio::test]
async fn the_master_moves_on_and_each_hears_of_it() {
    let router = start();
    let first = member("matchsvr.1", &router).await;
    let second = member("matchsvr.2", &router).await;
    let mut events = second.events();
    let mut watcher = second.watch(MATCHSVR).unwrap();
    let before = within(async {
        loop {
            if let Some(Membership::Master { id: Some(id), epoch }) = watcher.next().await {
                assert_eq!(id, first.id());
                break epoch;
            }
        }
    })
    .await;
    within(first.close()).await;
    let epoch = event(&mut events, |event| match event {
        Event::Promoted { class: MATCHSVR, epoch } => Some(*epoch),
        _ => None,
    })
    .await;
    assert!(epoch > before);
    assert_eq!(second.epoch(MATCHSVR), Some(epoch));
    assert_eq!(within(second.call::<u32>(Master, MATCHSVR, "who", ())).await, Ok(2));
}

#[tokio::test]
async fn a_newer_program_under_the_same_id_replaces_the_older_one() {
    let router = start();
    let older = member("matchsvr.1", &router).await;
    let mut events = older.events();
    let promoted = async |events: &mut switchboard::Events| {
        event(events, |event| match event {
            Event::Promoted { epoch, .. } => Some(*epoch),
            _ => None,
        })
        .await
    };
    let first = promoted(&mut events).await;
    let newer = member("matchsvr.1", &router).await;
    let mut after = Vec::new();
    while let Some(event) = within(events.next()).await {
        after.push(event);
    }
    assert!(after.contains(&Event::Replaced { ids: vec![id(MATCHSVR, 1)] }), "{after:?}");
    assert_eq!(after.last(), Some(&Event::Closed(CloseReason::Replaced)));
    let promotions = after.iter().filter(|event| matches!(event, Event::Promoted { .. })).count();
    assert_eq!(promotions, 0, "the newcomer's epoch is not the old one's: {after:?}");
    assert!(promoted(&mut newer.events()).await > first);
    assert_eq!(within(newer.call::<u32>(Master, MATCHSVR, "who", ())).await, Ok(1));
}

#[tokio::test]
async fn nodes_come_back_to_a_router_that_was_restarted() {
    let router = start();
    let listen = router.listen().to_vec();
    let server = member("matchsvr.1", &router).await;
    let client = member("gamesvr.1", &router).await;
    let (mut server_events, mut client_events) = (server.events(), client.events());
    connected(&mut server_events).await;
    connected(&mut client_events).await;
    drop(router);
    lost(&mut client_events).await;
    let _router = within(async {
        loop {
            // The port may take a moment to be free again.
            match Router::start(Config { listen: listen.clone(), ..config() }) {
                Ok(router) => break router,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    connected(&mut server_events).await;
    connected(&mut client_events).await;
    assert_eq!(within(client.call::<u32>(Master, MATCHSVR, "who", ())).await, Ok(1));
}

#[tokio::test]
async fn a_draining_router_lets_its_nodes_go_to_another() {
    let drain = Drain { reconnect_spread_ms: 50, ..config().drain };
    let (one, two) = (Router::start(Config { drain, ..config() }).unwrap(), start());
    let server = node("matchsvr.1", &one).router(&two.listen()[0]);
    let server = within(server.connect()).await.unwrap();
    let mut events = server.events();
    connected(&mut events).await;
    let cut_off = within(tokio::task::spawn_blocking(move || one.drain())).await.unwrap();
    assert_eq!(cut_off, 0, "nobody had to be cut off");
    connected(&mut events).await;
    assert_eq!(two.sessions(), 1);
}

#[tokio::test]
async fn a_class_that_the_router_does_not_know_is_refused() {
    let router = start();
    let error = within(node("bakery.1", &router).connect()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn an_id_registered_later_is_reachable_until_it_is_given_up() {
    let router = start();
    let server = member("matchsvr.1", &router).await;
    let client = member("gamesvr.1", &router).await;
    let also = within(server.register("gamesvr.7")).await.unwrap();
    assert_eq!(also, id(GAMESVR, 7));
    assert_eq!(within(client.call::<u32>(Direct, also, "who", ())).await, Ok(1));
    within(server.unregister(also)).await.unwrap();
    let gone = within(client.call::<u32>(Direct, also, "who", ())).await;
    assert_eq!(gone, Err(CallError::NoRoute(Reason::NotFound)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_one_sender_arrive_in_order_and_none_is_lost() {
    const COUNT: u32 = 100_000;
    let router = start();
    let expected = Arc::new(AtomicU32::new(0));
    let (done, mut finished) = mpsc::unbounded_channel();
    let counter = Arc::clone(&expected);
    let builder = node("matchsvr.1", &router).handler_queue(COUNT as usize);
    let builder = builder.on("count", move |_: Caller, (number,): (u32,)| {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        if before != number || number + 1 == COUNT {
            let _ = done.send((before, number));
        }
        async { Ok(()) }
    });
    let _server = within(builder.connect()).await.unwrap();
    let client = member("gamesvr.1", &router).await;
    for number in 0..COUNT {
        while client.forward(Master, Class::of(5), "count", (number,)).is_err() {
            tokio::task::yield_now().await;
        }
    }
    let last = COUNT - 1;
    assert_eq!(within(finished.recv()).await, Some((last, last)));
}
