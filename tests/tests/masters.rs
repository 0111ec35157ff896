//! Who is master: each policy, what a class is told and when, claims from other routers, epochs.

use std::time::{SystemTime, UNIX_EPOCH};

use switchboard_protocol::control::{
    Claim, Event, Hello, Load, Master, Register, Service, Unregister,
};
use switchboard_protocol::{Control, Mode, RefusalCode, ServiceId};
use switchboard_tests::frames::{class, hello, id, service, to_class};
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

fn config(policy: &str) -> String {
    format!("classes: {{matchsvr: {{id: 5, master: {policy}}}}}\n")
}

fn watcher(router: &RouterProcess) -> RawNode {
    let mut node = router.connect();
    node.hello(Hello { watch: vec![class(5)], ..hello(&[]) });
    node.expect_event();
    node
}

/// A node that is master elsewhere since this epoch.
fn claim(router: &RouterProcess, text: &str, master_since: u64) -> (RawNode, Master) {
    let mut node = router.connect();
    let services = vec![Service { master_since, ..service(text) }];
    let welcome = node.hello(Hello { services, ..hello(&[]) });
    (node, welcome.masters[&class(5)])
}

/// The next master that a node is told of.
#[track_caller]
fn master(node: &mut RawNode) -> (Option<ServiceId>, u64) {
    let master = node.expect("a master", |incoming| match incoming {
        Incoming::Control(Control::Event(Event { master, .. })) => *master,
        _ => None,
    });
    (master.id, master.epoch)
}

/// Who is master, as the next who comes is told.
fn present(router: &RouterProcess) -> Option<ServiceId> {
    let mut node = router.connect();
    node.hello(Hello { watch: vec![class(5)], ..hello(&[]) });
    node.expect_event().master.and_then(|master| master.id)
}

fn leave(router: &RouterProcess, node: RawNode) {
    let before = router.metric("switchboard_instances", &[("class", "matchsvr")]);
    drop(node);
    eventually("it has left", || {
        router.metric("switchboard_instances", &[("class", "matchsvr")]) < before
    });
}

fn report(node: &mut RawNode, load: u32) {
    node.say(Control::Load(Load { id: node.id(), load }));
    node.sync();
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_micros() as u64
}

#[test]
fn under_lowest_id_a_lower_one_takes_the_office_and_claims_count_for_nothing() {
    let router = RouterProcess::with(&config("lowest-id"));
    let two = router.join(&["5.2"]);
    let (_three, told) = claim(&router, "5.3", u64::MAX);
    assert_eq!(told.id, Some(id("5.2")));
    let one = router.join(&["5.1"]);
    assert_eq!(present(&router), Some(id("5.1")));
    leave(&router, one);
    assert_eq!(present(&router), Some(id("5.2")));
    leave(&router, two);
    assert_eq!(present(&router), Some(id("5.3")));
    assert_eq!(router.metric("switchboard_master_changes_total", &[("class", "matchsvr")]), 4);
}

#[test]
fn a_sticky_master_stays_until_it_leaves_and_then_the_lowest_id_follows() {
    let router = RouterProcess::with(&config("sticky"));
    let three = router.join(&["5.3"]);
    let one = router.join(&["5.1"]);
    let two = router.join(&["5.2"]);
    assert_eq!(present(&router), Some(id("5.3")), "who came lower later does not take it");
    leave(&router, two);
    assert_eq!(present(&router), Some(id("5.3")));
    let _two = router.join(&["5.2"]);
    leave(&router, three);
    assert_eq!(present(&router), Some(id("5.1")));
    leave(&router, one);
    assert_eq!(present(&router), Some(id("5.2")));
}

#[test]
fn the_instance_with_the_lowest_load_follows_a_master_that_leaves() {
    let router = RouterProcess::with(&config("lowest-load"));
    let mut one = router.join(&["5.1"]);
    let mut two = router.join(&["5.2"]);
    let mut three = router.join(&["5.3"]);
    let mut four = router.join(&["5.4"]);
    for (node, load) in [(&mut one, 9), (&mut two, 5), (&mut three, 2), (&mut four, 2)] {
        report(node, load);
    }
    assert_eq!(present(&router), Some(id("5.1")), "it does not move while its master lives");
    leave(&router, one);
    assert_eq!(present(&router), Some(id("5.3")), "the lowest id of the least loaded");
    report(&mut three, 100);
    assert_eq!(present(&router), Some(id("5.3")));
    leave(&router, three);
    assert_eq!(present(&router), Some(id("5.4")));
    // Who has reported nothing counts as 0.
    let _five = router.join(&["5.5"]);
    leave(&router, four);
    assert_eq!(present(&router), Some(id("5.5")));
}

#[test]
fn a_reload_to_lowest_id_elects_at_once_and_any_other_keeps_the_master() {
    let router = RouterProcess::with(&config("sticky"));
    let mut two = router.join(&["5.2"]);
    let mut one = router.join(&["5.1"]);
    let (_, first) = master(&mut two);
    let reload = |policy: &str| {
        router.rewrite_config(&config(policy));
        let before = router.log().matches("reloaded").count();
        router.signal("HUP");
        eventually("it is reloaded", || router.log().matches("reloaded").count() > before);
    };
    reload("lowest-load");
    assert_eq!(present(&router), Some(id("5.2")));
    let mut node = watcher(&router);
    reload("lowest-id");
    let (elected, epoch) = master(&mut two);
    assert_eq!(elected, Some(id("5.1")));
    assert!(epoch > first);
    assert_eq!(master(&mut one), (Some(id("5.1")), epoch));
    assert_eq!(master(&mut node), (Some(id("5.1")), epoch));
    reload("sticky");
    assert_eq!(present(&router), Some(id("5.1")));
}

#[test]
fn old_and_new_master_are_both_told_and_the_new_one_before_its_first_frame() {
    for policy in ["lowest-id", "sticky", "lowest-load"] {
        let router = RouterBuilder::default().shards(3).config(&config(policy)).start();
        let mut sender = router.join(&["6.1"]);
        let frame = to_class(sender.id(), Mode::Master, 5, "m");
        for round in 1..=20 {
            // It has both ids, so it is told twice: as the old master and as the new one. Which comes
            // first cannot be seen from here; the model of elections looks at it.
            let mut both = router.join(&["5.2", "5.3"]);
            assert_eq!(master(&mut both).0, Some(id("5.2")));
            let mut writer = sender.other_half();
            let flood = std::thread::spawn({
                let frames = vec![frame.clone(); 20];
                move || (0..30).for_each(|_| writer.send_all(&frames))
            });
            let ids = vec![id("5.2")];
            let give_up = Unregister { request: 1, ids, draining: false };
            both.say(Control::Unregister(give_up));
            let (next, epoch) = master(&mut both);
            assert_eq!((next, master(&mut both)), (Some(id("5.3")), (next, epoch)), "{policy}");
            let mut other = router.join(&["5.4"]);
            drop(both);
            flood.join().expect("all was sent");
            sender.sync();
            eventually("5.4 is alone", || {
                router.metric("switchboard_instances", &[("class", "matchsvr")]) == 1
            });
            sender.send(&frame);
            let told_first = other.expect("the news or a frame", |incoming| match incoming {
                Incoming::Data(_) => Some(false),
                Incoming::Control(Control::Event(event)) => {
                    (event.master.and_then(|master| master.id) == Some(id("5.4"))).then_some(true)
                }
                _ => None,
            });
            assert!(told_first, "{policy}, round {round}");
            other.expect_data();
            leave(&router, other);
        }
    }
}

#[test]
fn welcome_tells_the_masters_of_the_classes_that_a_session_joined() {
    let router = RouterProcess::with("routers: ['north.example:2000', 'unix:/run/south.sock']\n");
    let mut node = watcher(&router);
    let mut one = router.connect();
    let welcome = one.hello(hello(&["5.2", "6.0", "5.3"]));
    let (_, epoch) = master(&mut node);
    let of = |raw| welcome.masters.get(&class(raw)).map(|master| master.id);
    assert_eq!((of(5), of(6), of(7)), (Some(Some(id("5.2"))), Some(Some(welcome.ids[1])), None));
    assert_eq!(welcome.masters[&class(5)].epoch, epoch);
    let mut two = router.connect();
    let welcome = two.hello(hello(&["5.9"]));
    assert_eq!(welcome.masters[&class(5)], Master { id: Some(id("5.2")), epoch });
    assert_eq!(welcome.routers, ["north.example:2000", "unix:/run/south.sock"]);
    assert!(router.connect().hello(hello(&[])).masters.is_empty());
}

#[test]
fn welcome_tells_how_long_the_router_has_been_up_and_a_reload_where_the_others_are() {
    let router = RouterProcess::with("routers: []\n");
    let welcome = || router.connect().hello(hello(&[]));
    let first = welcome();
    assert_eq!(first.routers, [""; 0]);
    eventually("time passes", || welcome().uptime_ms > first.uptime_ms);
    assert!(welcome().uptime_ms < 60_000);
    router.rewrite_config("routers: ['north.example:2000']\n");
    router.signal("HUP");
    eventually("it is reloaded", || welcome().routers == ["north.example:2000"]);
    router.expect_log("applied=\"routers\"");
}

#[test]
fn who_was_elected_last_elsewhere_takes_the_office_where_masters_stay() {
    for policy in ["sticky", "lowest-load"] {
        let router = RouterProcess::with(&config(policy));
        let mut one = router.join(&["5.1"]);
        let (_, first) = master(&mut one);
        // Elected here for want of a better one, it yields to any claim.
        let (mut two, told) = claim(&router, "5.2", 10);
        assert_eq!(told.id, Some(id("5.2")));
        assert!(told.epoch > first);
        assert_eq!(master(&mut one), (told.id, told.epoch), "the old master is told");
        assert_eq!(master(&mut two), (told.id, told.epoch), "and so is the new one");
        // An older claim, or an equal one, is none.
        assert_eq!(claim(&router, "5.3", 9).1, told);
        assert_eq!(claim(&router, "5.4", 10).1, told);
        let (five, told) = claim(&router, "5.5", 11);
        assert_eq!(told.id, Some(id("5.5")));
        assert_eq!(master(&mut two).0, Some(id("5.5")));
        // The claim goes with its master.
        leave(&router, five);
        assert_eq!(present(&router), Some(id("5.1")));
        let (_six, told) = claim(&router, "5.6", 1);
        assert_eq!(told.id, Some(id("5.6")), "{policy}");
    }
}

#[test]
fn of_the_masters_of_two_routers_the_one_that_was_elected_last_stays() {
    for policy in ["sticky", "lowest-load"] {
        let [north, south] = [(); 2].map(|()| RouterProcess::with(&config(policy)));
        let (mut three_north, before) = claim(&north, "5.3", 0);
        let mut one_north = north.join(&["5.1"]);
        let (mut one_south, last) = claim(&south, "5.1", 0);
        let mut three_south = south.join(&["5.3"]);
        assert!(last.epoch > before.epoch);
        assert_eq!(master(&mut three_north), (Some(id("5.3")), before.epoch));
        let mut node = watcher(&north);

        let says = |node: &mut RawNode, text: &str, epoch| {
            node.say(Control::Claim(Claim { id: id(text), epoch }));
            node.sync();
        };
        says(&mut three_south, "5.3", before.epoch);
        assert_eq!(present(&south), Some(id("5.1")));
        says(&mut one_north, "5.1", last.epoch);
        let (elected, epoch) = master(&mut three_north);
        assert_eq!(elected, Some(id("5.1")), "the old master hears of it");
        assert!(epoch > last.epoch);
        assert_eq!(master(&mut one_north), (Some(id("5.1")), epoch));
        assert_eq!(master(&mut node), (Some(id("5.1")), epoch));
        // Said once more, or of the past, it changes nothing.
        says(&mut one_north, "5.1", u64::MAX);
        says(&mut three_north, "5.3", before.epoch);
        says(&mut one_south, "5.1", last.epoch);
        assert_eq!((present(&north), present(&south)), (Some(id("5.1")), Some(id("5.1"))));
        let changes = |router: &RouterProcess| {
            router.metric("switchboard_master_changes_total", &[("class", "matchsvr")])
        };
        assert_eq!((changes(&north), changes(&south)), (2, 1));
    }
}

#[test]
fn a_claim_counts_for_a_live_id_of_the_session_and_under_a_policy_that_keeps_masters() {
    let router = RouterProcess::with(&config("sticky"));
    let _two = router.join(&["5.2"]);
    let mut one = router.join(&["5.1"]);
    let claim = |text: &str| Control::Claim(Claim { id: id(text), epoch: u64::MAX });
    for text in ["5.2", "5.9"] {
        one.say(claim(text));
        let refused = one.expect_refused();
        assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::NotRegistered);
        let name = text.replace("5.", "matchsvr.");
        assert_eq!(refused.text, format!("{name} is not registered by this session"));
    }
    one.say(Control::Unregister(Unregister { request: 1, ids: vec![id("5.1")], draining: true }));
    one.say(claim("5.1"));
    one.sync();
    assert_eq!(present(&router), Some(id("5.2")), "who drains is not elected");

    let router = RouterProcess::with(&config("lowest-id"));
    let _one = router.join(&["5.1"]);
    let mut two = router.join(&["5.2"]);
    two.say(claim("5.2"));
    two.sync();
    assert_eq!(present(&router), Some(id("5.1")));
}

#[test]
fn a_master_that_only_changes_its_session_stays_and_one_that_starts_anew_does_not() {
    let router = RouterProcess::with(&config("sticky"));
    let join = |incarnation| {
        let mut node = router.connect();
        let welcome = node.hello(Hello { incarnation, ..hello(&["5.2"]) });
        (node, welcome.masters[&class(5)])
    };
    let (_old, before) = join(7);
    let _one = router.join(&["5.1"]);
    let (_again, after) = join(7);
    assert_eq!(after.id, Some(id("5.2")));
    assert!(after.epoch > before.epoch, "another session is another master");
    let (_new, after) = join(8);
    assert_eq!(after.id, Some(id("5.1")));
}

#[test]
fn epochs_follow_the_clock_and_grow_over_a_restart() {
    let mut last = 0;
    for _ in 0..3 {
        let router = RouterProcess::with(&config("lowest-id"));
        for _ in 0..5 {
            let before = now_us();
            let (_one, told) = claim(&router, "5.1", 0);
            assert!((before..=now_us()).contains(&told.epoch), "{} of {before}", told.epoch);
            assert!(told.epoch > last, "{} after {last}", told.epoch);
            last = told.epoch;
            eventually("it is there", || present(&router) == Some(id("5.1")));
        }
    }
}

#[test]
fn an_id_from_another_router_is_not_taken_from_who_holds_it() {
    let router = RouterProcess::with(&config("lowest-id"));
    let from_elsewhere = |text: &str| Service { assigned: true, ..service(text) };
    for text in ["5.8388700", "5.7"] {
        let join = |incarnation, service| {
            let mut node = router.connect();
            let services = vec![service];
            node.say(Control::Hello(Hello { services, incarnation, ..hello(&[]) }));
            node
        };
        let welcomed = |node: &mut RawNode| {
            node.expect("Welcome", |incoming| {
                matches!(incoming, Incoming::Control(Control::Welcome(_))).then_some(())
            });
        };
        let mut holder = join(10, from_elsewhere(text));
        welcomed(&mut holder);
        for incarnation in [9, 11] {
            let mut other = join(incarnation, from_elsewhere(text));
            let refused = other.expect_refused();
            assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::IdTaken);
            let name = text.replace("5.", "matchsvr.");
            assert_eq!(
                refused.text,
                format!(
                    "{name} is held by another node here; ask for instance 0 and use what is assigned"
                )
            );
            other.expect_closed();
        }
        holder.sync();
        // The node itself, over a new connection.
        let mut again = join(10, from_elsewhere(text));
        welcomed(&mut again);
        holder.expect_closed();
        // In a session that lives, it is refused and no more.
        let mut lives = router.join(&["6.1"]);
        let services = vec![from_elsewhere(text)];
        lives.say(Control::Register(Register { request: 4, services }));
        let refused = lives.expect_refused();
        assert_eq!((refused.code, refused.request), (RefusalCode::IdTaken.raw(), Some(4)));
        lives.sync();
        // By its plain name it goes to the newest, as any id does.
        let mut newest = join(12, service(text));
        welcomed(&mut newest);
        again.expect_closed();
    }
}

#[test]
fn routers_begin_to_assign_at_different_instances() {
    let assigned = |_| {
        let id = RouterProcess::start().join(&["5.0"]).id();
        assert!(id.instance().is_assigned());
        id
    };
    let mut ids: Vec<_> = (0..4).map(assigned).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[test]
fn who_watches_changes_only_hears_nothing_of_what_is_there() {
    let router = RouterProcess::with(&config("lowest-id"));
    let _one = router.join(&["5.1"]);
    let mut node = router.join(&[]);
    let mut watch = switchboard_protocol::control::Watch::of(class(5));
    watch.changes_only = true;
    node.say(Control::Watch(watch));
    node.sync();
    let two = router.join(&["5.2"]);
    let event = node.expect_event();
    assert!(!event.snapshot && !event.complete, "{event:?}");
    let joined: Vec<_> = event.joined.iter().map(|joined| joined.id).collect();
    assert_eq!((joined, event.master), (vec![id("5.2")], None));
    // Asked again, it is told once.
    node.say(Control::Watch(watch));
    node.sync();
    drop(two);
    assert_eq!(node.expect_event().left[0].id, id("5.2"));
    node.sync();
    assert!(!node.inbox().any(|incoming| matches!(incoming, Incoming::Control(Control::Event(_)))));
}
