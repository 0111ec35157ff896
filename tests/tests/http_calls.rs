//! Calls that come over HTTP: where they go, what comes back, and what is told when nothing does.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard::{Caller, HandlerError, Node};
use switchboard_protocol::{Control, Flags, Frame, Mode, RefusalCode};
use switchboard_tests::frames::{With, direct, hello, to_class};
use switchboard_tests::http::{Request, Response};
use switchboard_tests::{RawNode, RouterProcess, eventually};

const CLASSES: &str = "classes: {svc: {id: 5, http_calls: true}, secret: {id: 6}, \
                       shards: {id: 7, http_calls: true, slots: 2}}\n";

fn call(router: &RouterProcess, path: &str, arguments: &str) -> Response {
    router.ask(&Request::post(&format!("/call/{path}")).json(arguments))
}

/// A node that answers, on a runtime of its own, until this is dropped.
struct Service {
    _runtime: tokio::runtime::Runtime,
    _node: Node,
}

impl Service {
    fn start(router: &RouterProcess, id: &str) -> Self {
        Self::start_with(router, id, "")
    }

    fn start_with(router: &RouterProcess, id: &str, token: &str) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let name = id.to_owned();
        // Handlers first: a call may wait for the instance already.
        let connecting = Node::builder(id)
            .router(router.listen())
            .token(token)
            .on("add", async |_: Caller, (a, b): (i64, i64)| Ok(a + b))
            .on("who", move |_: Caller, (): ()| {
                let name = name.clone();
                async move { Ok(name) }
            })
            .on("fail", async |_: Caller, (code, text): (String, String)| {
                Err::<(), _>(HandlerError::new(code, text))
            })
            .on("hang", async |_: Caller, (): ()| {
                std::future::pending::<()>().await;
                Ok(())
            })
            .connect();
        let node = runtime.block_on(connecting).expect("it connects");
        Self { _runtime: runtime, _node: node }
    }
}

/// Answers each call to a node that it can't answer by itself, while `ask` asks for something.
fn with_answers(
    mut node: RawNode,
    answer: impl Fn(&Frame) -> Option<Frame> + Send + 'static,
    ask: impl FnOnce() -> Response,
) -> Response {
    let (done, asked) = mpsc::channel::<()>();
    let answering = std::thread::spawn(move || {
        while asked.try_recv() == Err(mpsc::TryRecvError::Empty) {
            node.read_for(Duration::from_millis(10));
            for frame in node.take_data() {
                if let Some(answer) = answer(&frame) {
                    node.send(&answer);
                }
            }
        }
    });
    let response = ask();
    drop(done);
    answering.join().expect("it answers");
    response
}

fn reply(call: &Frame, payload: &[u8]) -> Frame {
    let target = switchboard_protocol::ServiceId::from_raw(call.header.target);
    let from = target.unwrap_or_else(|_| "5.1".parse().expect("an id"));
    let to = switchboard_protocol::ServiceId::from_raw(call.header.source).expect("an id");
    let mut reply = direct(from, to, payload).with(Flags::REPLY);
    reply.header.call_id = call.header.call_id;
    reply
}

// ---- where it goes, and what comes back ----------------------------------------------------------

#[test]
fn a_call_in_json_is_answered_in_json() {
    let router = RouterProcess::with(CLASSES);
    let _service = Service::start(&router, "svc.1");
    for class in ["svc", "5"] {
        let answer = call(&router, &format!("{class}/add"), "[20, 22]");
        assert_eq!((answer.status, answer.json()), (200, json!([42])), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("switchboard-instance"), Some("svc.1"));
    }
    // It is a session like any other, and made once.
    let sessions = router.get("/api/v1/sessions");
    let caller = &sessions["sessions"][1];
    assert_eq!((&sessions["total"], &caller["name"]), (&json!(2), &json!("http-calls")));
    assert_eq!(caller["frames_in"], 2);
    assert_eq!(router.outcome("svc", "delivered"), 2);
    assert_eq!(router.get("/api/v1/classes/http-calls")["instances"], 1);
}

#[test]
fn where_nodes_need_a_token_the_router_itself_does_not() {
    let tokens = "tokens: [{name: services, value: a-secret-of-services, register: [svc]}]\n";
    let router = RouterProcess::with(&format!("{CLASSES}{tokens}"));
    let _service = Service::start_with(&router, "svc.1", "a-secret-of-services");
    let answer = call(&router, "svc/add", "[20, 22]");
    assert_eq!((answer.status, answer.json()), (200, json!([42])), "{answer:?}");
    let sessions = router.get("/api/v1/sessions")["sessions"].clone();
    let own = sessions.as_array().into_iter().flatten().find(|row| row["peer"] == "router");
    let own = own.expect("it is a session like any other");
    assert_eq!(own["name"], "http-calls");
    assert!(own["ids"][0].as_str().is_some_and(|id| id.starts_with("http-calls.")), "{own}");
    let mut stranger = router.connect();
    stranger.say(Control::Hello(hello(&["255.2"])));
    let refused = RefusalCode::from_raw(stranger.expect_refused().code);
    assert_eq!(refused, RefusalCode::Unauthorized, "others still do");
}

#[test]
fn each_mode_leads_where_it_leads_a_node() {
    let router = RouterProcess::with(CLASSES);
    let _one = Service::start(&router, "svc.1");
    let _two = Service::start(&router, "svc.2");
    let _first = Service::start(&router, "shards.1");
    let _second = Service::start(&router, "shards.2");
    let who = |path: &str| {
        let answer = call(&router, path, "[]");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()[0].as_str().expect("a text").to_owned()
    };
    assert_eq!(who("svc/who"), "svc.1", "the master, unless told otherwise");
    assert_eq!(who("svc/who?mode=master"), "svc.1");
    for id in ["svc.2", "5.2"] {
        assert_eq!(who(&format!("svc/who?mode=direct&id={id}")), "svc.2");
    }
    assert_eq!(who("shards/who?mode=hash&key=42"), "shards.1");
    assert_eq!(who("shards/who?mode=hash&key=43"), "shards.2");
    let shard = |key: &str| {
        format!("shards.{}", switchboard_protocol::key::of_bytes(key.as_bytes()) % 2 + 1)
    };
    assert_eq!(who("shards/who?mode=hash&key=anna"), shard("anna"));
    assert_eq!(who("shards/who?mode=hash&key=%2243%22"), shard("43"), "in quotes it is a text");
    assert!(who("svc/who?mode=least_loaded").starts_with("svc."));
    let mut seen = std::collections::BTreeSet::new();
    eventually("both are picked", || {
        seen.insert(who("svc/who?mode=random"));
        seen.len() == 2
    });
}

#[test]
fn arguments_and_results_of_every_kind_go_through() {
    let router = RouterProcess::with(CLASSES);
    let node = router.join(&["5.1"]);
    // It answers with its arguments: what stands behind the method's name.
    let echo = |call: &Frame| {
        let rest = call.payload.strip_prefix(b"\x98\xa4echo").expect("[\"echo\", seven more]");
        Some(reply(call, &[b"\x97", rest].concat()))
    };
    let sent = json!([null, true, -7, u64::MAX, 1.5, "héllo", {"a": [{"$base64": "AP8="}]}]);
    let answer = with_answers(node, echo, || call(&router, "svc/echo", &sent.to_string()));
    assert_eq!((answer.status, answer.json()), (200, sent));
}

#[test]
fn a_parked_call_is_answered_by_whoever_comes() {
    let router = RouterProcess::with("classes: {svc: {id: 5, http_calls: true, park_ms: 60000}}\n");
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| call(&router, "svc/who?timeout=20s", "[]"));
        eventually("it waits", || router.metric("switchboard_parked_frames", &[]) == 1);
        let service = Service::start(&router, "svc.3");
        let answer = asked.join().expect("it is answered");
        drop(service);
        answer
    });
    assert_eq!((asked.status, asked.json()), (200, json!(["svc.3"])));
}

// ---- what is told when there is no answer --------------------------------------------------------

#[test]
fn classes_that_take_no_calls_are_not_told_apart_from_those_that_are_not_there() {
    let router = RouterProcess::with(CLASSES);
    let _service = Service::start(&router, "secret.1");
    for class in ["secret", "6", "nosuch", "99", "http-calls", "255"] {
        let answer = call(&router, &format!("{class}/who"), "[]");
        answer.assert_problem(
            404,
            "not_found",
            &format!("no class `{class}` takes calls over HTTP"),
        );
    }
    let get = router.http("GET", "/call/svc/who");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(router.http("GET", "/call").status, 404, "nothing is listed");
}

#[test]
fn what_the_callee_says_is_told_with_its_code() {
    let router = RouterProcess::with(CLASSES);
    let _service = Service::start(&router, "svc.1");
    let answer = call(&router, "svc/fail", r#"["no_money", "7 short"]"#);
    answer.assert_problem(502, "remote", "7 short");
    assert_eq!(answer.json()["code"], "no_money");
    let answer = call(&router, "svc/nosuch", "[]");
    answer.assert_problem(404, "refused", "nosuch");
    assert_eq!(answer.json()["code"], "no_method");
    let answer = call(&router, "svc/add", r#"["a", "b"]"#);
    answer.assert_problem(422, "refused", "");
    assert_eq!(answer.json()["code"], "bad_args");
}

#[test]
fn a_call_that_finds_nobody_is_told_at_once() {
    let router = RouterProcess::with(CLASSES);
    let _second = router.join(&["7.2"]);
    let started = Instant::now();
    for (path, code) in [
        ("svc/who", "no_instance"),
        ("svc/who?mode=random", "no_instance"),
        ("svc/who?mode=direct&id=svc.9", "not_found"),
        ("shards/who?mode=hash&key=0", "empty_slot"),
    ] {
        let answer = call(
            &router,
            &format!("{path}{}timeout=60s", if path.contains('?') { "&" } else { "?" }),
            "[]",
        );
        answer.assert_problem(503, "no_route", "no route");
        assert_eq!(answer.json()["code"], code, "{path}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_call_never_waits_longer_than_it_was_told() {
    let router = RouterProcess::with(CLASSES);
    let _service = Service::start(&router, "svc.1");
    let started = Instant::now();
    let answer = call(&router, "svc/hang?timeout=300ms", "[]");
    answer.assert_problem(504, "timeout", "no answer came within 300ms");
    assert!(started.elapsed() >= Duration::from_millis(300));
    // Nor unless it was told.
    let started = Instant::now();
    call(&router, "svc/hang", "[]").assert_problem(504, "timeout", "within 5s");
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[test]
fn a_callee_that_dies_or_a_link_that_is_closed_leaves_nobody_hanging() {
    let router = RouterProcess::with(CLASSES);
    let mut node = router.join(&["5.1"]);
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| call(&router, "svc/who?timeout=60s", "[]"));
        node.expect_data();
        let sessions = router.get("/api/v1/sessions");
        let rows = sessions["sessions"].as_array().expect("a list");
        let own = rows.iter().find(|row| row["name"] == "http-calls").expect("the router's own");
        let path = format!("/api/v1/sessions/{}/disconnect", own["session"]);
        // Told to go, it waits for what is under way; but the session is closed all the same.
        assert_eq!(router.ask(&Request::post(&path)).status, 202);
        asked.join().expect("it is answered")
    });
    answer.assert_problem(502, "outcome_unknown", "the outcome is unknown");
    // The next call makes another link.
    let _service = Service::start(&router, "svc.2");
    assert_eq!(call(&router, "svc/who?mode=direct&id=svc.2", "[]").json(), json!(["svc.2"]));
}

#[test]
fn an_answer_that_json_can_t_say_is_told_so() {
    let router = RouterProcess::with(CLASSES);
    for (payload, why) in [
        (&b"\x91\xa1\xff"[..], "result 1: a text is not UTF-8"),
        (b"\x91", "it is not MessagePack"),
        (b"\xc0", "it is not an array of results"),
        (b"\x91\xcb\x7f\xf0\0\0\0\0\0\0", "result 1: JSON has no inf"),
    ] {
        let node = router.join(&["5.1"]);
        let answer = with_answers(
            node,
            |call| Some(reply(call, payload)),
            || call(&router, "svc/who", "[]"),
        );
        answer.assert_problem(502, "decode", why);
    }
}

#[test]
fn a_call_that_can_t_be_meant_is_refused_before_it_is_sent() {
    let router = RouterProcess::with(&format!("http_calls: {{max_body_bytes: 2000}}\n{CLASSES}"));
    let mut node = router.join(&["5.1"]);
    for (path, arguments, status, detail) in [
        ("svc/who?mode=broadcast", "[]", 400, "HTTP has one"),
        ("svc/who?mode=any", "[]", 400, "`any` is not a mode"),
        ("svc/who?mode=hash", "[]", 400, "key: mode=hash needs one"),
        ("svc/who?key=1", "[]", 400, "key: mode=master takes none"),
        ("svc/who?mode=direct", "[]", 400, "id: mode=direct needs one"),
        ("svc/who?mode=random&id=svc.1", "[]", 400, "id: mode=random takes none"),
        ("svc/who?mode=direct&id=secret.1", "[]", 400, "is not of the class svc"),
        ("svc/who?mode=direct&id=svc", "[]", 400, "such as matchsvr.1 or 5.1"),
        ("svc/who?timeout=0s", "[]", 400, "it is 1ms to 60s"),
        ("svc/who?timeout=61s", "[]", 400, "it is 1ms to 60s"),
        ("svc/who?wait=1s", "[]", 400, "this path takes mode, key, id, timeout"),
        ("svc/who", "{}", 400, "invalid type: map, expected a sequence"),
        ("svc/who", "[", 400, "EOF while parsing"),
        ("svc/who", r#"[{"$base64": "!"}]"#, 400, "argument 1: `!` is not base64"),
        ("svc/%ff", "[]", 400, "this is not UTF-8"),
    ] {
        let answer = call(&router, path, arguments);
        answer.assert_problem(status, "bad_request", detail);
    }
    let long = format!("[\"{}\"]", "x".repeat(2_000));
    call(&router, "svc/who", &long).assert_problem(413, "too_large", "the limit of 2000 bytes");
    let plain = router.ask(&Request::post("/call/svc/who").body("[]"));
    plain.assert_problem(415, "unsupported_media_type", "application/json");
    let foreign =
        Request::post("/call/svc/who").json("[]").header("origin", "https://evil.example");
    router.ask(&foreign).assert_problem(403, "foreign_site", "another site");
    node.sync();
    assert!(node.take_data().is_empty());
}

#[test]
fn a_call_longer_than_a_frame_is_refused() {
    let router = RouterProcess::with(&format!("limits: {{max_frame_bytes: 70000}}\n{CLASSES}"));
    let _node = router.join(&["5.1"]);
    let long = format!("[\"{}\"]", "x".repeat(80_000));
    call(&router, "svc/who", &long).assert_problem(413, "too_large", "over the limit of 70000");
}

#[test]
fn a_reload_opens_and_closes_a_class() {
    let router = RouterProcess::with("classes: {svc: {id: 5}}\n");
    let _service = Service::start(&router, "5.1");
    let status = || call(&router, "svc/who", "[]").status;
    assert_eq!(status(), 404);
    router.rewrite_config("classes: {svc: {id: 5, http_calls: true}}\n");
    assert_eq!(router.ask(&Request::post("/api/v1/reload")).status, 200);
    assert_eq!(status(), 200);
    router.rewrite_config("classes: {svc: {id: 5, http_calls: true}, mine: {id: 255}}\n");
    let answer = router.ask(&Request::post("/api/v1/reload"));
    answer.assert_problem(
        409,
        "bad_config",
        "classes: `mine` is the router's own while a class has http_calls",
    );
    router.rewrite_config("classes: {svc: {id: 5}}\n");
    assert_eq!(router.ask(&Request::post("/api/v1/reload")).status, 200);
    assert_eq!(status(), 404);
}

// ---- beside other things -------------------------------------------------------------------------

#[test]
fn a_call_under_way_is_finished_while_the_router_drains_and_no_other_is_begun() {
    let mut router = RouterProcess::with(&format!("drain: {{timeout_ms: 60000}}\n{CLASSES}"));
    let mut node = router.join(&["5.1"]);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| call(&router, "svc/who?timeout=60s", "[]"));
        let frame = node.expect_data();
        router.signal("TERM");
        node.expect_go_away();
        eventually("no other is begun", || {
            let refused = call(&router, "svc/who", "[]");
            refused.status == 503 && refused.json()["error"] == "not_sent"
        });
        node.send(&reply(&frame, b"\x91\xa2me"));
        let answer = asked.join().expect("it is answered");
        assert_eq!((answer.status, answer.json()), (200, json!(["me"])));
    });
    drop(node);
    // The router's own session does not hold it up.
    assert_eq!(router.wait_exit().code(), Some(0));
    assert!(router.log().contains("drained; bye cut_off=0"), "{}", router.log());
}

#[test]
fn calls_side_by_side_get_their_own_answers() {
    let router = RouterProcess::with(CLASSES);
    let _service = Service::start(&router, "svc.1");
    std::thread::scope(|scope| {
        for n in 0..8 {
            let router = &router;
            scope.spawn(move || {
                for m in 0..25 {
                    let answer = call(router, "svc/add", &format!("[{}, {m}]", n * 1_000));
                    assert_eq!(answer.json(), json!([n * 1_000 + m]));
                }
            });
        }
    });
}

#[test]
fn who_calls_the_router_is_told_that_it_has_no_methods() {
    let router = RouterProcess::with(CLASSES);
    let mut node = router.join(&["5.1"]);
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| call(&router, "svc/who", "[]"));
        let frame = node.expect_data();
        // What is not an answer, or to nothing that was asked, does no harm.
        let caller = switchboard_protocol::ServiceId::from_raw(frame.header.source).expect("an id");
        node.send(&direct(node.id(), caller, "one way"));
        let mut stray = reply(&frame, b"\x90");
        stray.header.call_id ^= 1;
        node.send(&stray);
        node.send(&to_class(node.id(), Mode::Master, 255, b"\x91\xa5hello").call(77));
        let answer = node.expect_data();
        assert_eq!((answer.header.call_id, answer.header.flags), (77, Flags::REPLY | Flags::ERROR));
        assert!(answer.payload.windows(9).any(|part| part == b"no_method"), "{answer:?}");
        node.send(&reply(&frame, b"\x90"));
        asked.join().expect("it is answered")
    });
    assert_eq!((asked.status, asked.json()), (200, Value::Array(Vec::new())));
}
