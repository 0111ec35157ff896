//! What operators read and do over HTTP, and what they are told when it can't be done.

use serde_json::{Value, json};
use switchboard_protocol::control::{GoAwayReason, Load, Master, Service};
use switchboard_protocol::{Class, Control, Mode};
use switchboard_router::{Address, Config, Router};
use switchboard_tests::frames::{direct, hello, id, to_class};
use switchboard_tests::http::Request;
use switchboard_tests::scratch::Scratch;
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, eventually};

/// A node that has a name, and tells something of itself.
fn named(router: &RouterProcess, name: &str, ids: &[&str]) -> RawNode {
    let mut node = router.connect();
    let mut hello = hello(ids);
    hello.name = name.to_owned();
    for service in &mut hello.services {
        service.metadata.insert("host".to_owned(), name.to_owned());
        service.weight = 3;
    }
    node.hello(hello);
    node
}

fn class(router: &RouterProcess, name: &str) -> Value {
    router.get(&format!("/api/v1/classes/{name}"))
}

fn session_of(router: &RouterProcess, id: &str) -> Value {
    let sessions = router.get("/api/v1/sessions");
    let found = sessions["sessions"].as_array().into_iter().flatten();
    let mut found =
        found.filter(|row| row["ids"].as_array().is_some_and(|ids| ids.contains(&json!(id))));
    found.next().cloned().unwrap_or_else(|| panic!("{id} is in no session: {sessions}"))
}

const CLASSES: &str = "classes: {matchsvr: {id: 5, master: sticky}, dbagent: {id: 6, slots: 4}, \
                       mailsvr: {id: 7, hash: rendezvous}, gate: {id: 8, hash: modulo}}\n";

// ---- reading -------------------------------------------------------------------------------------

#[test]
fn classes_tell_who_is_there_and_who_is_master() {
    let router = RouterProcess::with(CLASSES);
    let empty = router.get("/api/v1/classes");
    assert_eq!(empty["classes"].as_array().map(Vec::len), Some(4), "those with a name: {empty}");
    assert_eq!(empty["classes"][0]["instances"], 0);
    assert_eq!(empty["classes"][0]["master"], Value::Null);
    let mut one = named(&router, "one", &["5.1", "5.2", "99.7"]);
    one.say(Control::Load(Load { id: id("5.2"), load: 17 }));
    one.sync();
    let classes = router.get("/api/v1/classes");
    let rows: Vec<_> = classes["classes"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["matchsvr", "dbagent", "mailsvr", "gate", "99"]);
    assert_eq!(
        (&rows[0]["class"], &rows[0]["instances"], &rows[0]["weight"], &rows[0]["master"]),
        (&json!(5), &json!(2), &json!(6), &json!("matchsvr.1"))
    );
    assert!(rows[0]["epoch"].as_u64() > Some(0));
    for name in ["matchsvr", "5"] {
        let page = class(&router, name);
        assert_eq!(page["name"], "matchsvr");
        assert_eq!(page["policy"]["master"], "sticky");
        let members = page["members"].as_array().expect("a list");
        assert_eq!(members.len(), 2);
        let session = session_of(&router, "matchsvr.1")["session"].clone();
        assert_eq!(
            members[1],
            json!({"id": "matchsvr.2", "instance": 2, "session": session, "weight": 3, "load": 17,
                   "draining": false, "master": false, "slot": 1, "metadata": {"host": "one"}})
        );
        assert_eq!(members[0]["master"], true);
    }
}

#[test]
fn slots_and_holes_are_told_as_the_policy_counts_them() {
    let router = RouterProcess::with(CLASSES);
    let stays = router.join(&["5.1", "5.3", "6.2", "6.9", "7.1", "8.4", "8.6"]);
    drop(router.join(&["5.2", "8.5"]));
    eventually("it has left", || class(&router, "gate")["instances"] == 2);
    let slots = |name| class(&router, name)["slots"].clone();
    assert_eq!(
        slots("matchsvr"),
        json!({"count": 3, "empty": 1, "holes": [{"slot": 1, "instance": 2}]})
    );
    assert_eq!(
        slots("dbagent"),
        json!({"count": 4, "empty": 3, "holes": [
            {"slot": 0, "instance": 1}, {"slot": 2, "instance": 3}, {"slot": 3, "instance": 4}]})
    );
    assert_eq!(slots("mailsvr"), Value::Null);
    assert_eq!(slots("gate"), json!({"count": 2, "empty": 0, "holes": []}));
    let places = |name| {
        let page = class(&router, name);
        let members = page["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|member| member["slot"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(places("matchsvr"), [json!(0), json!(2)]);
    assert_eq!(places("dbagent"), [json!(1), Value::Null], "9 is above the slots");
    assert_eq!(places("mailsvr"), [Value::Null]);
    assert_eq!(places("gate"), [json!(0), json!(1)]);
    drop(stays);
}

#[test]
fn an_instance_that_drains_is_told_apart() {
    let router = RouterProcess::with(CLASSES);
    let mut node = router.join(&["5.1", "5.2"]);
    let unregister = switchboard_protocol::control::Unregister {
        request: 1,
        ids: vec![id("5.1")],
        draining: true,
    };
    node.say(Control::Unregister(unregister));
    node.sync();
    let page = class(&router, "matchsvr");
    assert_eq!((&page["instances"], &page["draining"]), (&json!(1), &json!(1)));
    let told: Vec<_> = page["members"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|member| {
            (member["instance"].as_u64(), member["draining"].as_bool(), member["master"].as_bool())
        })
        .collect();
    assert_eq!(told, [(Some(1), Some(true), Some(false)), (Some(2), Some(false), Some(true))]);
}

#[test]
fn a_large_class_is_told_page_by_page() {
    let router =
        RouterBuilder::default().config("limits: {max_services_per_session: 100}\n").start();
    let ids: Vec<String> = (1..=25).map(|n| format!("5.{n}")).collect();
    let _node = router.join(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut seen, mut cursor) = (Vec::new(), 0);
    loop {
        let page = router.get(&format!("/api/v1/classes/5?limit=10&cursor={cursor}"));
        let members = page["members"].as_array().expect("a list");
        seen.extend(members.iter().map(|member| member["instance"].as_u64().expect("a number")));
        match page["next"].as_u64() {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert_eq!(seen, (1..=25).collect::<Vec<_>>());
}

#[test]
fn a_session_tells_who_it_is_and_what_went_in_and_out() {
    let router = RouterProcess::start();
    let mut one = named(&router, "gamesvr-1", &["5.1"]);
    let mut two = router.join(&["5.2"]);
    for n in 0..10 {
        one.send(&direct(one.id(), two.id(), vec![n; 100]));
    }
    (0..10).for_each(|_| drop(two.expect_data()));
    one.sync();
    eventually("what both have read is counted as written", || {
        session_of(&router, "5.1")["queue_bytes"] == 0
            && session_of(&router, "5.2")["frames_out"] == 10
    });
    let row = session_of(&router, "5.1");
    assert_eq!(row["name"], "gamesvr-1");
    assert!(row["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{row}");
    assert_eq!((&row["frames_in"], &row["frames_out"]), (&json!(10), &json!(0)));
    // Ten frames of 116 bytes, Hello and a ping.
    assert!(row["bytes_in"].as_u64().is_some_and(|bytes| (1_160..1_400).contains(&bytes)), "{row}");
    assert_eq!((&row["queue_bytes"], &row["paused"]), (&json!(0), &json!(false)));
    assert_eq!(row["heartbeat_ms"], 60_000);
    assert!(row["silent_ms"].as_u64() <= row["age_ms"].as_u64(), "{row}");
    let other = session_of(&router, "5.2");
    assert_eq!((&other["frames_in"], &other["frames_out"]), (&json!(0), &json!(10)));
    assert!(other["bytes_out"].as_u64() > Some(1_160), "{other}");
    let number = &row["session"];
    let alone = router.get(&format!("/api/v1/sessions/{number}"));
    assert_eq!((&alone["session"], &alone["ids"]), (number, &json!(["5.1"])));
}

#[test]
fn a_node_on_a_unix_socket_is_known_by_its_process() {
    let scratch = Scratch::new();
    let path = format!("unix:{}", scratch.file("router.sock").display());
    let router = RouterBuilder::default().listen(&path).start();
    let _node = router.join(&["5.1"]);
    let peer = format!("unix:pid={}", std::process::id());
    assert_eq!(session_of(&router, "5.1")["peer"], peer);
}

#[test]
fn sessions_are_sorted_and_told_page_by_page() {
    let router = RouterProcess::with("default_class: {high_water_bytes: 100000000}\n");
    let nodes: Vec<_> = (1..=7).map(|n| router.join(&[&format!("5.{n}")])).collect();
    let mut sender = router.join(&["6.1"]);
    // Who does not read has a queue: the fourth the longest, then the second.
    for (to, frames) in [(1, 100), (3, 200)] {
        for _ in 0..frames {
            sender.send(&direct(sender.id(), nodes[to].id(), vec![0; 100_000]));
        }
    }
    sender.sync();
    eventually("what it has read is off its queue", || {
        session_of(&router, "6.1")["queue_bytes"] == 0
    });
    let walk = |sort: &str| {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = router.get(&format!("/api/v1/sessions?sort={sort}&limit=3{cursor}"));
            assert_eq!(page["total"], 8);
            let rows = page["sessions"].as_array().expect("a list");
            assert!(rows.len() <= 3);
            seen.extend(rows.iter().map(|row| row["ids"][0].as_str().expect("an id").to_owned()));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return seen,
            }
        }
    };
    assert_eq!(walk("age"), ["5.1", "5.2", "5.3", "5.4", "5.5", "5.6", "5.7", "6.1"]);
    assert_eq!(walk("queue"), ["5.4", "5.2", "5.1", "5.3", "5.5", "5.6", "5.7", "6.1"]);
}

#[test]
fn the_rate_is_that_of_the_last_seconds() {
    let router = RouterProcess::start();
    let mut quiet = router.join(&["5.1"]);
    let mut busy = router.join(&["6.1"]);
    // The first to ask waits for a second, and so has something to compare with.
    let first = router.get("/api/v1/sessions?sort=rate");
    assert_eq!(first["sessions"][0]["frames_per_second"], 0.0);
    let mut rate = 0.0;
    eventually("who sends comes first", || {
        (0..10).for_each(|_| busy.send(&to_class(busy.id(), Mode::Master, 5, "x")));
        let page = router.get("/api/v1/sessions?sort=rate&limit=1");
        rate = page["sessions"][0]["frames_per_second"].as_f64().unwrap_or(0.0);
        rate > 1.0
    });
    assert!(rate < 1e6, "{rate}");
    quiet.sync();
}

#[test]
fn routers_and_config_tell_what_this_router_was_told() {
    let scratch = Scratch::new();
    let token = scratch.write("token", "0123456789abcdef-0123\n");
    let router = RouterBuilder::default()
        .config(&format!(
            "routers: ['10.0.0.2:2000']\nadmin_token: {{file: '{}'}}\nlimits: {{max_connections: 77}}\n",
            token.display()
        ))
        .arg("--name")
        .arg("north")
        .start();
    let get = |path: &str| {
        let request = Request::get(path).header("authorization", "Bearer 0123456789abcdef-0123");
        router.ask(&request)
    };
    let routers = get("/api/v1/routers").json();
    let this = &routers["this"];
    assert_eq!((&this["name"], &this["draining"]), (&json!("north"), &json!(false)));
    assert_eq!(this["listen"], json!([router.listen()]));
    assert_eq!(this["admin"], router.admin().to_string());
    assert_eq!(this["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(routers["others"], json!(["10.0.0.2:2000"]));
    let config = get("/api/v1/config");
    assert_eq!(config.json()["limits"]["max_connections"], 77);
    assert_eq!(config.json()["heartbeat"]["max_ms"], 60_000, "defaults are filled in");
    assert_eq!(config.json()["admin_token"], json!({ "file": token.to_str() }));
    assert!(!config.body.contains("0123456789abcdef"), "{}", config.body);
}

#[test]
fn a_port_that_is_opened_or_closed_meanwhile_is_told_so() {
    let mut router = Router::start(Config::local()).expect("it starts");
    let listen = |router: &Router| {
        let answer = Request::get("/api/v1/routers").send(router.admin()).expect("an answer");
        answer.json()["this"]["listen"].clone()
    };
    let any_port: Address = "127.0.0.1:0".parse().expect("an address");
    let first = router.listen()[0].clone();
    let second = router.open_port(&any_port).expect("it opens");
    assert_eq!(listen(&router), json!([first.to_string(), second.to_string()]));
    assert!(router.close_port(&first));
    assert_eq!(listen(&router), json!([second.to_string()]));
}

#[test]
fn events_tell_who_came_who_left_and_why() {
    let router = RouterProcess::with(CLASSES);
    let mut first = router.join(&["5.1"]);
    let mut second = router.join(&["5.2"]);
    second.sync();
    drop(first.other_half());
    first.half_close();
    first.expect_closed();
    assert_eq!(router.connect().join_refused(), 5);
    let events = router.get("/api/v1/events");
    let told: Vec<String> = events["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{} {} {}",
                text("event"),
                text("id"),
                if event["reason"].is_null() { text("code") } else { text("reason") }
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "joined matchsvr.1 -",
            "master matchsvr.1 -",
            "joined matchsvr.2 -",
            "left matchsvr.1 disconnected",
            "master matchsvr.2 -",
            "refused - unknown_class",
        ]
    );
    let numbers = |events: &Value| {
        let events = events["events"].as_array().expect("a list");
        events.iter().map(|event| event["number"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&events), [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(&router.get("/api/v1/events?since=4")), [5, 6]);
}

trait JoinRefused {
    fn join_refused(&mut self) -> u16;
}

impl JoinRefused for RawNode {
    /// Asks for a class that nobody knows, and answers with the code of the refusal.
    fn join_refused(&mut self) -> u16 {
        let service = Service { class: "nosuch".to_owned(), ..Service::default() };
        let mut hello = hello(&[]);
        hello.services.push(service);
        self.say(Control::Hello(hello));
        self.expect_refused().code
    }
}

// ---- doing ---------------------------------------------------------------------------------------

#[test]
fn a_session_that_an_operator_closes_is_told_when_to_come_back() {
    let router = RouterProcess::with(CLASSES);
    let mut watcher = router.connect();
    let mut greeting = hello(&["6.1"]);
    greeting.watch = vec![Class::of(5)];
    watcher.hello(greeting);
    for (query, after) in [
        ("", Some(1_000)),
        ("?reconnect_after_ms=250", Some(250)),
        ("?reconnect_after_ms=never", None),
    ] {
        let mut node = router.join(&["5.1"]);
        let number = session_of(&router, "matchsvr.1")["session"].clone();
        let answer =
            router.ask(&Request::post(&format!("/api/v1/sessions/{number}/disconnect{query}")));
        assert_eq!((answer.status, answer.json()), (202, json!({"session": number})));
        let go_away = node.expect_go_away();
        assert_eq!((go_away.reason, go_away.reconnect_after_ms), (GoAwayReason::Closed, after));
        node.expect_closed();
        eventually("it has left", || class(&router, "matchsvr")["instances"] == 0);
    }
    let events = router.get("/api/v1/events").to_string();
    assert!(events.contains("\"event\":\"disconnected\""), "{events}");
    assert!(events.contains("\"reason\":\"closed\""), "{events}");
    let closed = [("reason", "closed")];
    assert_eq!(router.metric("switchboard_sessions_ended_total", &closed), 3);
    let silent = router.connect();
    eventually("it is there", || {
        router.metric("switchboard_sessions", &[("state", "greeting")]) == 1
    });
    let unknown = |row: &Value| row["heartbeat_ms"].is_null().then(|| row["session"].clone());
    let rows = router.get("/api/v1/sessions")["sessions"].clone();
    let number = rows.as_array().into_iter().flatten().find_map(unknown).expect("it is there");
    assert_eq!(
        router.ask(&Request::post(&format!("/api/v1/sessions/{number}/disconnect"))).status,
        202
    );
    eventually("it was not admitted, because it was closed", || {
        router.metric("switchboard_handshake_failures_total", &closed) == 1
    });
    drop(silent);
    watcher.sync();
}

#[test]
fn the_office_goes_to_whom_an_operator_names_in_a_new_epoch() {
    let router = RouterProcess::with(CLASSES);
    let mut one = router.join(&["5.1"]);
    let mut two = router.join(&["5.2"]);
    let before = class(&router, "matchsvr")["epoch"].as_u64().expect("an epoch");
    let name =
        |body: &str| router.ask(&Request::post("/api/v1/classes/matchsvr/master").json(body));
    let answer = name(r#"{"id": "matchsvr.2"}"#);
    assert_eq!(answer.status, 200, "{answer:?}");
    let epoch = answer.json()["epoch"].as_u64().expect("an epoch");
    assert!(epoch > before, "{epoch} {before}");
    assert_eq!(answer.json()["master"], "matchsvr.2");
    let master = Some(Master { id: Some(id("5.2")), epoch });
    let hears = |node: &mut RawNode| {
        node.expect("who is master", |incoming| match incoming {
            Incoming::Control(Control::Event(event)) => (event.master == master).then_some(()),
            _ => None,
        });
    };
    hears(&mut one);
    hears(&mut two);
    one.send(&to_class(one.id(), Mode::Master, 5, "for the new one"));
    assert_eq!(two.expect_data().payload, "for the new one");
    // Once more changes nothing, and the number does as well as the name.
    let again = name(r#"{"id": "5.2"}"#);
    assert_eq!((again.status, again.json()["epoch"].as_u64()), (200, Some(epoch)));
    name(r#"{"id": "matchsvr.9"}"#).assert_problem(
        409,
        "conflict",
        "matchsvr.9 is not a live instance",
    );
    name(r#"{"id": "dbagent.1"}"#).assert_problem(
        400,
        "bad_request",
        "is not of the class matchsvr",
    );
    name(r#"{"id": "matchsvr"}"#).assert_problem(400, "bad_request", "such as matchsvr.1 or 5.1");
    name("{}").assert_problem(400, "bad_request", "missing field `id`");
    name(r#"{"id": "5.2", "epoch": 7}"#).assert_problem(
        400,
        "bad_request",
        "unknown field `epoch`",
    );
}

#[test]
fn an_office_that_is_the_lowest_ids_can_t_be_given_away() {
    let router = RouterProcess::with(CLASSES);
    let _node = router.join(&["6.1", "6.2"]);
    let answer =
        router.ask(&Request::post("/api/v1/classes/6/master").json(r#"{"id": "dbagent.2"}"#));
    answer.assert_problem(409, "conflict", "set it to sticky or lowest-load");
    assert_eq!(class(&router, "6")["master"], "dbagent.1");
}

#[test]
fn a_reload_tells_what_changed_and_what_needs_a_restart() {
    let router = RouterProcess::with("classes: {db: {id: 5}}\n");
    let reload = || router.ask(&Request::post("/api/v1/reload"));
    assert_eq!(reload().json(), json!({"applied": [], "needs_restart": [], "changes": []}));
    router.rewrite_config("name: other\nclasses: {db: {id: 5, slots: 4}}\n");
    let answer = reload();
    assert_eq!(
        answer.json(),
        json!({
            "applied": ["classes.db"],
            "needs_restart": ["name"],
            "changes": [
                {"key": "classes.db.slots", "from": 0, "to": 4, "needs_restart": false},
                {"key": "name", "from": "router", "to": "other", "needs_restart": true},
            ]
        })
    );
    assert_eq!(class(&router, "db")["slots"]["count"], 4, "it is in force when it is answered");
    router.expect_log("reloaded applied=\"classes.db\" needs_restart=\"name\"");
    router.rewrite_config("classes: {db: {id: 0}}\n");
    reload().assert_problem(409, "bad_config", "classes.db.id: 0 is out of range");
    assert_eq!(class(&router, "db")["slots"]["count"], 4);
    let events = router.get("/api/v1/events").to_string();
    assert!(
        events.contains("\"event\":\"reloaded\"") && events.contains("not_reloaded"),
        "{events}"
    );
}

#[test]
fn a_router_without_a_file_has_nothing_to_reload() {
    let router = RouterProcess::start();
    let answer = router.ask(&Request::post("/api/v1/reload"));
    answer.assert_problem(409, "conflict", "started without --config");
}

#[test]
fn a_drain_that_an_operator_asks_for_ends_like_sigterm_and_is_answered_meanwhile() {
    let mut router = RouterProcess::with("drain: {timeout_ms: 60000}\n");
    let mut node = router.join(&["5.1"]);
    let answer = router.ask(&Request::post("/api/v1/drain"));
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json(), json!({"draining": true, "sessions": 1, "timeout_ms": 60_000}));
    assert_eq!(node.expect_go_away().reason, GoAwayReason::Shutdown);
    assert_eq!(router.http("GET", "/readyz").status, 503);
    assert_eq!(router.metric("switchboard_draining", &[]), 1, "a scrape is answered");
    assert_eq!(router.get("/api/v1/routers")["this"]["draining"], true);
    assert_eq!(router.ask(&Request::post("/api/v1/drain")).status, 202, "twice is once");
    drop(node);
    assert_eq!(router.wait_exit().code(), Some(0));
}
