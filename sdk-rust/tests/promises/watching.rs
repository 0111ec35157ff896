//! Promises about hearing of others: watchers, mastership, load.

use std::time::{Duration, Instant};

use switchboard::{Event, ForwardError, LeftReason, Membership, ServiceId, Watcher};
use switchboard_protocol::control::{self, Joined, Left, Master};
use switchboard_protocol::{Class, Control};

use crate::support::*;

fn joined(instances: &[u32]) -> control::Event {
    let joined = instances.iter().map(|instance| Joined {
        id: id(GAMESVR, *instance),
        metadata: [("zone".to_owned(), "eu".to_owned())].into(),
    });
    control::Event { joined: joined.collect(), ..control::Event::of(GAMESVR) }
}

fn snapshot(instances: &[u32]) -> Control {
    Control::Event(control::Event { snapshot: true, complete: true, ..joined(instances) })
}

fn master(class: Class, id: Option<ServiceId>, epoch: u64) -> Control {
    let master = Some(Master { id, epoch });
    Control::Event(control::Event { master, ..control::Event::of(class) })
}

/// Reads until Synced; who joined and who left.
async fn until_synced(watcher: &mut Watcher) -> (Vec<ServiceId>, Vec<ServiceId>) {
    let (mut joined, mut left) = (Vec::new(), Vec::new());
    loop {
        match within(watcher.next()).await.expect("the node is open") {
            Membership::Joined { id, .. } => joined.push(id),
            Membership::Left { id, .. } => left.push(id),
            Membership::Synced => return (joined, left),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_watcher_hears_who_is_there_and_every_change() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let mut watcher = node.watch("gamesvr").unwrap();
    assert_eq!(watcher.class(), GAMESVR);
    assert_eq!(session.control().await, Control::Watch(control::Watch::of(GAMESVR)));
    session.control_out(snapshot(&[1, 2])).await;
    let metadata: switchboard::Metadata = [("zone".to_owned(), "eu".to_owned())].into();
    let first = Membership::Joined { id: id(GAMESVR, 1), metadata };
    assert_eq!(within(watcher.next()).await, Some(first));
    assert_eq!(until_synced(&mut watcher).await, (vec![id(GAMESVR, 2)], vec![]));

    session.control_out(master(GAMESVR, Some(id(GAMESVR, 1)), 4)).await;
    let expected = Membership::Master { id: Some(id(GAMESVR, 1)), epoch: 4 };
    assert_eq!(within(watcher.next()).await, Some(expected));
    let left = vec![Left { id: id(GAMESVR, 1), reason: LeftReason::HeartbeatLost }];
    session
        .control_out(Control::Event(control::Event { left, ..control::Event::of(GAMESVR) }))
        .await;
    let expected = Membership::Left { id: id(GAMESVR, 1), reason: LeftReason::HeartbeatLost };
    assert_eq!(within(watcher.next()).await, Some(expected));
}

#[tokio::test]
async fn a_watcher_hears_the_difference_after_a_reconnect() {
    let router = FakeRouter::start().await;
    let (node, mut first) = router.connect(router.node()).await;
    let mut watcher = node.watch(GAMESVR).unwrap();
    first.control().await;
    first.control_out(snapshot(&[1, 2])).await;
    until_synced(&mut watcher).await;
    drop(first);
    let mut second = router.welcome().await;
    assert_eq!(second.hello.watch, [GAMESVR]);
    second.control_out(snapshot(&[2, 3])).await;
    let difference = until_synced(&mut watcher).await;
    assert_eq!(difference, (vec![id(GAMESVR, 3)], vec![id(GAMESVR, 1)]));
}

#[tokio::test]
async fn a_watch_between_hello_and_welcome_is_asked_for_after_it() {
    let router = FakeRouter::start().await;
    let (node, first) = router.connect(router.node()).await;
    drop(first);
    let mut second = router.accept().await;
    assert!(second.hello.watch.is_empty());
    let mut watcher = node.watch(GAMESVR).unwrap();
    second.welcome().await;
    assert_eq!(second.control().await, Control::Watch(control::Watch::of(GAMESVR)));
    second.control_out(snapshot(&[1])).await;
    assert_eq!(until_synced(&mut watcher).await, (vec![id(GAMESVR, 1)], vec![]));
}

#[tokio::test]
async fn a_second_watcher_is_told_what_is_known_without_asking_the_router() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let mut first = node.watch(GAMESVR).unwrap();
    session.control().await;
    session.control_out(snapshot(&[1, 2])).await;
    until_synced(&mut first).await;
    let mut second = node.watch(GAMESVR).unwrap();
    let (joined, _) = until_synced(&mut second).await;
    assert_eq!(joined, [id(GAMESVR, 1), id(GAMESVR, 2)]);

    // The router is told once, when the last of them is gone.
    drop(first);
    drop(second);
    assert_eq!(session.control().await, Control::Unwatch(control::Watch::of(GAMESVR)));
}

#[tokio::test]
async fn a_class_watched_from_the_start_is_known_to_a_later_watcher() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node().watch(GAMESVR)).await;
    assert_eq!(session.hello.watch, [GAMESVR]);
    session.control_out(snapshot(&[1])).await;
    let (joined, _) = until_synced(&mut node.watch(GAMESVR).unwrap()).await;
    assert_eq!(joined, [id(GAMESVR, 1)]);
}

#[tokio::test]
async fn a_watcher_ends_with_its_node_and_a_class_without_a_name_cant_be_watched() {
    let router = FakeRouter::start().await;
    let (node, _session) = router.connect(router.node()).await;
    let error = node.watch("chat").unwrap_err();
    assert_eq!(error, ForwardError::UnknownClass("chat".to_owned()));
    let mut watcher = node.watch(GAMESVR).unwrap();
    drop(node);
    assert_eq!(within(watcher.next()).await, None);
}

/// The next change of mastership: the epoch, or none for a demotion.
async fn mastership(events: &mut switchboard::Events) -> Option<u64> {
    event(events, |event| match event {
        Event::Promoted { class: MATCHSVR, epoch } => Some(Some(*epoch)),
        Event::Demoted { class: MATCHSVR } => Some(None),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_node_hears_when_it_becomes_master_and_when_it_no_longer_is() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let mut events = node.events();
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 7)).await;
    assert_eq!(mastership(&mut events).await, Some(7));
    assert_eq!(node.epoch(MATCHSVR), Some(7));
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 2)), 8)).await;
    assert_eq!(mastership(&mut events).await, None);
    assert_eq!(node.epoch(MATCHSVR), None);
    // Of others it hears in a watcher, and only there.
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 3)), 9)).await;
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 10)).await;
    assert_eq!(mastership(&mut events).await, Some(10));
}

#[tokio::test]
async fn the_epoch_of_a_newer_incarnation_under_the_same_id_is_not_this_nodes() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let mut events = node.events();
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 7)).await;
    assert_eq!(mastership(&mut events).await, Some(7));
    // The same again, in a picture of the class for instance, changes nothing.
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 7)).await;
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 8)).await;
    assert_eq!(mastership(&mut events).await, None);
    assert_eq!(node.epoch(MATCHSVR), None);
}

#[tokio::test]
async fn who_gives_up_an_id_is_no_longer_master_under_it() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node().also("3.2")).await;
    let mut events = node.events();
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 7)).await;
    assert_eq!(mastership(&mut events).await, Some(7));
    let ids = vec![id(MATCHSVR, 1)];
    session.control_out(Control::Replaced(control::Replaced { ids })).await;
    assert_eq!(mastership(&mut events).await, None);
}

#[tokio::test]
async fn a_node_without_a_link_is_master_of_nothing() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    let mut events = node.events();
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 7)).await;
    assert_eq!(mastership(&mut events).await, Some(7));
    drop(session);
    assert_eq!(mastership(&mut events).await, None);
    assert_eq!(node.epoch(MATCHSVR), None);
}

#[tokio::test]
async fn a_node_is_told_of_its_mastership_before_the_first_message_to_it_as_master() {
    let router = FakeRouter::start().await;
    let builder = router
        .node()
        .on("epoch", async |from: switchboard::Caller, ()| Ok(from.node().epoch(MATCHSVR)));
    let (_node, mut session) = router.connect(builder).await;
    session.control_out(master(MATCHSVR, Some(id(MATCHSVR, 1)), 7)).await;
    assert_eq!(session.call(&request("epoch")).await.payload, b"\x91\x07"[..]);
}

/// The next load report.
async fn load(session: &mut Session) -> u32 {
    match session.control().await {
        Control::Load(load) => load.load,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn load_is_reported_at_most_ten_times_a_second_and_the_last_value_wins() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.set_load(1);
    assert_eq!(load(&mut session).await, 1);
    let begun = Instant::now();
    for value in 2..=1000 {
        node.set_load(value);
    }
    assert_eq!(load(&mut session).await, 1000);
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn load_is_reported_for_every_id_and_again_on_a_new_link() {
    let router = FakeRouter::start().await;
    let (node, mut first) = router.connect(router.node().also("3.2")).await;
    node.set_load(7);
    assert_eq!((load(&mut first).await, load(&mut first).await), (7, 7));
    drop(first);
    let mut second = router.welcome().await;
    assert_eq!((load(&mut second).await, load(&mut second).await), (7, 7));
}

#[tokio::test]
async fn a_service_that_is_new_has_the_load_of_its_node() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.set_load(5);
    let load = |id| Control::Load(control::Load { id, load: 5 });
    assert_eq!(session.control().await, load(id(MATCHSVR, 1)));
    let new = id(GAMESVR, 7);
    let registering = tokio::spawn(async move { node.register(new).await.map(|_| node) });
    let Control::Register(register) = session.control().await else { panic!() };
    let request = register.request;
    session.control_out(Control::Registered(control::Registered { request, ids: vec![new] })).await;
    let _node = within(registering).await.unwrap().unwrap();
    while session.control().await != load(new) {}
}
