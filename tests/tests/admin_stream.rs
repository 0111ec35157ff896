//! The summary that those who listen are told once a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use switchboard_protocol::control::Register;
use switchboard_protocol::{Control, Mode};
use switchboard_tests::frames::{direct, hello, service, to_class};
use switchboard_tests::http::{Events, Request};
use switchboard_tests::{RouterProcess, eventually};

fn listen(router: &RouterProcess) -> Events {
    Request::get("/api/v1/stream").listen(router.admin()).expect("it is a stream")
}

/// The next summary that is as wanted.
fn until(events: &mut Events, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
    let mut latest = Value::Null;
    eventually(what, || {
        latest = events.next_json();
        wanted(&latest)
    });
    latest
}

const CLASSES: &str = "classes: {game: {id: 1}, svc: {id: 5, high_water_bytes: 100000000}, \
                       quiet: {id: 9}}\n";

#[test]
fn who_listens_is_told_at_once_and_then_every_second() {
    let router = RouterProcess::with(CLASSES);
    let _node = router.join(&["5.1", "5.2"]);
    let started = Instant::now();
    let mut stream = listen(&router);
    let first = stream.next_json();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!((&first["sessions"], &first["draining"]), (&json!(1), &json!(false)));
    let classes = first["classes"].as_array().expect("a list");
    let names: Vec<_> = classes.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["game", "svc", "quiet"]);
    assert_eq!((&classes[1]["instances"], &classes[1]["master"]), (&json!(2), &json!("svc.1")));
    assert_eq!(classes[1]["frames_per_second"], Value::Null, "there is nothing to compare with");
    assert_eq!(first["events"], json!([]), "what was before is told elsewhere");
    let second = stream.next_json();
    assert_eq!(second["classes"][1]["frames_per_second"], 0.0);
    let apart = second["at_ms"].as_u64().zip(first["at_ms"].as_u64()).map(|(b, a)| b - a);
    assert!(apart.is_some_and(|ms| ms >= 900), "{apart:?}");
    // Who comes later is told the latest at once.
    let mut other = listen(&router);
    let known = other.next_json();
    assert!(known["at_ms"].as_u64() >= second["at_ms"].as_u64());
}

#[test]
fn rates_and_who_talks_to_whom_follow_the_traffic() {
    let router = RouterProcess::with(CLASSES);
    let mut game = router.join(&["1.1"]);
    let mut svc = router.join(&["5.1"]);
    let mut stream = listen(&router);
    let summary = until(&mut stream, "both flows", |summary| {
        for _ in 0..50 {
            game.send(&to_class(game.id(), Mode::Master, 5, vec![0; 100]));
            svc.expect_data();
            svc.send(&direct(svc.id(), game.id(), "ok"));
            // And to nobody.
            game.send(&to_class(game.id(), Mode::Random, 9, ""));
        }
        summary["flows"].as_array().is_some_and(|flows| flows.len() == 3)
    });
    let rate = |value: &Value, name: &str| value[name].as_f64().unwrap_or(-1.0);
    let row = |name: &str| {
        let rows = summary["classes"].as_array().into_iter().flatten();
        rows.into_iter().find(|row| row["name"] == name).cloned().expect("a class")
    };
    let flow = |from: &str, to: &str| {
        let flows = summary["flows"].as_array().into_iter().flatten();
        let mut found = flows.filter(|flow| flow["from"] == from && flow["to"] == to);
        found.next().cloned().expect("a flow")
    };
    assert!(rate(&row("svc"), "frames_per_second") > 0.0);
    assert_eq!(
        rate(&row("svc"), "frames_per_second"),
        rate(&flow("game", "svc"), "frames_per_second")
    );
    assert_eq!(
        rate(&row("svc"), "bytes_per_second"),
        rate(&flow("game", "svc"), "bytes_per_second")
    );
    let per_frame = rate(&row("svc"), "bytes_per_second") / rate(&row("svc"), "frames_per_second");
    assert!((115.0..117.0).contains(&per_frame), "{per_frame} bytes in each, 116 were sent");
    assert!(rate(&flow("svc", "game"), "frames_per_second") > 0.0);
    assert!(rate(&row("svc"), "delivered_per_second") > 0.0);
    assert!(rate(&row("quiet"), "lost_per_second") > 0.0);
    assert_eq!(rate(&row("quiet"), "delivered_per_second"), 0.0);
    // What has stopped is told no more.
    until(&mut stream, "silence", |summary| summary["flows"] == json!([]));
}

#[test]
fn events_are_told_once_and_as_they_come() {
    let router = RouterProcess::with(CLASSES);
    let mut stream = listen(&router);
    stream.next_json();
    let node = router.join(&["5.1"]);
    let joined = until(&mut stream, "it joined", |summary| summary["events"] != json!([]));
    let words = |summary: &Value| {
        let events = summary["events"].as_array().cloned().unwrap_or_default();
        events
            .iter()
            .map(|event| event["event"].as_str().unwrap_or("?").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(words(&joined), ["joined", "master"]);
    drop(node);
    let left = until(&mut stream, "it left", |summary| summary["events"] != json!([]));
    assert_eq!(words(&left), ["left", "master"]);
    assert_eq!(left["events"][0]["reason"], "disconnected");
    let numbers: Vec<_> =
        [&joined, &left].iter().map(|summary| summary["events"][0]["number"].clone()).collect();
    assert_eq!(numbers, [1, 3]);
}

#[test]
fn who_does_not_read_comes_first_among_the_slow() {
    let router = RouterProcess::with(CLASSES);
    let mut sender = router.join(&["1.1"]);
    let deaf: Vec<_> = (1..=12).map(|n| router.join(&[&format!("5.{n}")])).collect();
    // Each one more than the one before, and more than a socket takes.
    for (n, node) in deaf.iter().enumerate() {
        for _ in 0..60 + n * 5 {
            sender.send(&direct(sender.id(), node.id(), vec![0; 100_000]));
        }
    }
    sender.sync();
    let mut stream = listen(&router);
    let summary = stream.next_json();
    let slow = summary["slow"].as_array().expect("a list");
    assert_eq!(slow.len(), 10, "{summary}");
    let bytes: Vec<_> =
        slow.iter().map(|row| row["queue_bytes"].as_u64().expect("bytes")).collect();
    assert!(bytes.is_sorted_by(|one, next| one >= next), "{bytes:?}");
    assert_eq!(slow[0]["ids"], json!(["svc.12"]), "{summary}");
    assert!(summary["queue_bytes"].as_u64() >= Some(bytes.iter().sum()));
}

#[test]
fn a_listener_that_does_not_read_holds_nobody_up() {
    let router = RouterProcess::with(CLASSES);
    let silent: Vec<_> = (0..63).map(|_| listen(&router)).collect();
    let mut stream = listen(&router);
    // One more than may.
    let more = router.ask(&Request::get("/api/v1/stream"));
    more.assert_problem(503, "busy", "64 listen already");
    (0..3).for_each(|_| drop(stream.next_json()));
    assert_eq!(router.http("GET", "/healthz").status, 200);
    drop(silent);
    eventually("there is room again", || {
        stream.next_json();
        Request::get("/api/v1/stream").listen(router.admin()).is_ok()
    });
}

#[test]
fn a_summary_of_ten_thousand_instances_is_small() {
    let router = RouterProcess::with("limits: {max_services_per_session: 1000}\n");
    let nodes: Vec<_> = (0..10)
        .map(|n| {
            let mut node = router.connect();
            node.hello(hello(&[]));
            let ids = (1..=1_000).map(|id| service(&format!("5.{}", n * 1_000 + id)));
            node.say(Control::Register(Register { request: 1, services: ids.collect() }));
            node.sync();
            node
        })
        .collect();
    let started = Instant::now();
    let summary = listen(&router).next_json();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    assert_eq!(summary["classes"][0]["instances"], 10_000);
    assert!(summary.to_string().len() < 2_000, "{} bytes", summary.to_string().len());
    drop(nodes);
}

#[test]
fn a_stream_ends_with_the_router() {
    let mut router = RouterProcess::with("drain: {timeout_ms: 60000}\n");
    let mut stream = listen(&router);
    let node = router.join(&["5.1"]);
    router.signal("TERM");
    until(&mut stream, "it drains", |summary| {
        summary["draining"] == true
            && summary["events"].to_string().contains("\"event\":\"draining\"")
    });
    drop(node);
    assert_eq!(router.wait_exit().code(), Some(0));
}
