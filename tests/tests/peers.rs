//! `routerctl bench` beside other servers: each does the same work, checked alike.

use std::process::{Command, Output, Stdio};

use serde_json::Value;
use switchboard_tests::binary;

/// Runs `routerctl bench`, and with it the router that was built with the tests.
fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(binary::routerctl());
    command.arg("bench").args(args).args(["--quiet", "--router"]).arg(binary::router());
    command.stdin(Stdio::null()).output().expect("routerctl starts")
}

/// What a run that went well says in JSON.
#[track_caller]
fn well(args: &[&str]) -> Value {
    let output = bench(&[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

// ---- the servers, one by one ---------------------------------------------------------------------

/// Every kind of work that others can do, in small, and how much of it there is to be done.
const WORK: [(&[&str], &str, f64); 8] = [
    (&["flood", "--senders", "1", "--receivers", "1", "--messages", "5000"], "messages", 5000.0),
    (&["flood", "--messages", "8000"], "messages", 8000.0),
    (&["flood", "--messages", "80", "--payload", "300000"], "messages", 80.0),
    (&["flood", "--messages", "2000", "--window", "0", "--payload", "8"], "messages", 2000.0),
    (&["broadcast", "--receivers", "5", "--messages", "600"], "messages", 3000.0),
    (&["request", "--messages", "1600"], "calls", 1600.0),
    (
        &["request", "--outstanding", "90", "--payload", "5000", "--messages", "1600"],
        "calls",
        1600.0,
    ),
    (&["ping-pong", "--messages", "200"], "calls", 200.0),
];

/// All of it arrives at this server, twice, and is measured.
#[track_caller]
fn does_the_work(server: &str) {
    for (args, what, count) in WORK {
        let json = well(&[args, &["--rounds", "2", "--beside", server]].concat());
        let other = &json["servers"][1];
        assert_eq!(other["name"], server, "{json}");
        let rounds = other["rounds"].as_array().expect("rounds");
        assert_eq!(rounds.len(), 2, "{args:?}: {json}");
        for round in rounds {
            assert_eq!(round[what], count, "{args:?}: {round}");
            assert!(round["cpu_ns_per_message"].as_f64() > Some(0.0), "{args:?}: {round}");
        }
    }
}

#[test]
fn nats_server_does_the_same_work() {
    does_the_work("nats-server");
}

#[test]
fn redis_server_does_the_same_work() {
    does_the_work("redis-server");
}

#[test]
fn the_relay_does_the_same_work() {
    does_the_work("relay");
}

#[test]
fn connections_that_only_stay_do_so_elsewhere_too() {
    let args = ["idle", "--connections", "300", "--hold", "0", "--rounds", "1"];
    let json =
        well(&[&args[..], &["--beside", "nats-server", "--beside", "redis-server"]].concat());
    for server in json["servers"].as_array().expect("servers") {
        let round = &server["rounds"][0];
        assert_eq!(round["connections"], 300.0, "{server}");
        assert!(round["rss_bytes_per_connection"].as_f64() > Some(0.0), "{server}");
    }
}

#[test]
fn work_that_a_server_does_not_know_is_said_by_name() {
    for (server, said) in [
        ("nats-server", "nats-server knows no keys and no masters"),
        ("redis-server", "redis-server knows no keys and no masters"),
        ("relay", "the relay knows no keys and no masters"),
    ] {
        let output = bench(&["hash", "--messages", "100", "--beside", server]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8(output.stderr).expect("text");
        assert_eq!(error, format!("routerctl: {server}, warming up: {said}\n"));
    }
}
