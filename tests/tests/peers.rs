//! `routerctl bench` beside other servers: each does the same work, checked alike, and `bench peers` reports it.

use std::fs;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use switchboard_tests::{Scratch, binary};

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

#[test]
fn the_relay_says_whom_it_can_copy_to() {
    for (args, counts) in [
        (["flood", "--senders", "1", "--receivers", "3"], "not 1 and 3"),
        (["request", "--clients", "3", "--answerers", "2"], "not 3 and 2"),
        (["broadcast", "--senders", "2", "--receivers", "2"], "not 2 and 2"),
    ] {
        let output = bench(&[&args[..], &["--messages", "100", "--beside", "relay"]].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(error.ends_with(&format!("or one sender to all of them: {counts}\n")), "{error}");
    }
}

// ---- all of them, and the report -----------------------------------------------------------------

/// As little as there can be.
const LITTLE: [&str; 5] = ["peers", "--effort", "1", "--rounds", "1"];

/// The row of a table whose first cell begins like this.
#[track_caller]
fn row<'a>(text: &'a str, begins: &str) -> Vec<&'a str> {
    let found =
        text.lines().find(|line| line.strip_prefix("| ").is_some_and(|l| l.starts_with(begins)));
    let found = found.unwrap_or_else(|| panic!("no row {begins} in {text}"));
    found.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn all_peers_do_all_the_work_and_the_report_and_the_readmes_have_it() {
    let scratch = Scratch::new();
    let english = "# A\n\n<!-- peers en -->\nold\n<!-- /peers -->\n\nB\n";
    let english = scratch.write("README.md", english).display().to_string();
    let chinese = scratch.write("zh.md", "<!-- peers zh -->\n<!-- /peers -->\n");
    let chinese = chinese.display().to_string();
    let report = scratch.path().join("peers.md").display().to_string();
    let files = ["--readme", &english, "--readme", &chinese, "--report", &report];
    let output = bench(&[&LITTLE[..], &files].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(fs::read_to_string(&report).expect("a report"), printed);
    // What takes part, and that nobody failed.
    let names = "| | switchboard | nats-server | redis-server | relay |";
    assert!(printed.lines().any(|line| line == names), "{printed}");
    assert!(!printed.contains("failed"), "{printed}");
    for work in [
        "W1: ",
        "W2: ",
        "W1 with",
        "W2 with",
        "W4: ",
        "W3t: ",
        "Ping-pong: ",
        "Registration",
        "Idle",
    ] {
        let verdict = row(&printed, work);
        assert!(["met", "not met"].contains(&verdict[1]), "{verdict:?}");
        let compared = printed.split("## What was compared").nth(1).expect("a table");
        let compared = row(compared, work);
        let with_ratio = compared[2..].iter().filter(|cell| cell.contains("(×"));
        assert_eq!(with_ratio.count(), 3, "{compared:?}");
        // The short tables have the same.
        let english = fs::read_to_string(&english).expect("a file");
        assert_eq!(row(&english, work), compared);
        let chinese = fs::read_to_string(&chinese).expect("a file");
        assert!(chinese.contains(&compared[1..].join(" | ")), "{chinese}");
    }
    let english = fs::read_to_string(&english).expect("a file");
    assert!(english.starts_with("# A\n") && english.ends_with("\nB\n"), "{english}");
    assert!(!english.contains("old"), "{english}");
}

#[test]
fn a_peer_that_is_not_there_is_named_and_left_out() {
    let args = ["--nats", "/no/nats-server", "--redis", "/bin/sh", "--without", "relay"];
    let json = well(&[&LITTLE[..], &args].concat());
    let missing: Vec<&str> = json["missing"]
        .as_array()
        .expect("who is missing")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(missing.len(), 2, "{json}");
    let nats = "nats-server is left out: can't start /no/nats-server: No such file or directory";
    assert!(missing[0].starts_with(nats), "{missing:?}");
    assert!(
        missing[1].starts_with("redis-server is left out: can't start /bin/sh: it says"),
        "{missing:?}"
    );
    let work = json["work"].as_array().expect("work");
    assert_eq!(work.len(), 8, "{json}");
    for piece in work {
        assert_eq!(piece["servers"].as_array().map(Vec::len), Some(1), "{piece}");
        assert_eq!(piece["servers"][0]["name"], "switchboard");
    }
    // What is compared with nobody stays open, unless the router's own figure settles it.
    assert!(work[5]["measures"][0]["met"].is_null(), "{}", work[5]);
    assert!(work[7]["measures"][0]["met"].is_boolean(), "{}", work[7]);
}

#[test]
fn a_peer_that_gives_up_is_said_to_have_failed_and_the_others_go_on() {
    // It tells its version, and does not know the options of nats-server.
    let other = "/usr/bin/redis-server";
    let json = well(&[&LITTLE[..], &["--nats", other, "--only", "nats-server,relay"]].concat());
    for piece in json["work"].as_array().expect("work") {
        assert_eq!(piece["failed"][0]["name"], "nats-server", "{piece}");
        let error = piece["failed"][0]["error"].as_str().expect("why");
        assert!(
            error.contains("nats-server has ended instead of listening: exit status: "),
            "{error}"
        );
        assert_eq!(piece["servers"][1]["name"], "relay", "{piece}");
    }
}

#[test]
fn what_would_be_in_the_way_at_the_end_is_said_at_the_start() {
    let scratch = Scratch::new();
    let plain = scratch.write("README.md", "# A\n").display().to_string();
    for (args, said) in [
        (["--readme", "/no/README.md"], "--readme: /no/README.md: No such file".to_owned()),
        (
            ["--readme", &plain],
            format!("--readme: {plain} has no place for the table: a line <!-- peers"),
        ),
        (
            ["--report", "/no/where/peers.md"],
            "--report: there is no directory for /no/where".to_owned(),
        ),
    ] {
        let output = bench(&[&["peers"][..], &args].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(error.starts_with(&format!("routerctl: {said}")), "{error}");
    }
}
