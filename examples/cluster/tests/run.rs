//! Runs the real thing for a few seconds, with fewer players.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    // A run that does not close leaves its files; here they are of no use to anybody.
    command.args(arguments).env("TMPDIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

fn cluster(arguments: &[&str]) -> Output {
    command(arguments).output().expect("it starts")
}

fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}; standard error: {}", String::from_utf8_lossy(&output.stderr))
    })
}

#[test]
fn every_message_is_accounted_for_although_a_master_and_a_router_are_killed() {
    let output = cluster(&["--seconds", "4", "--players", "200", "--json"]);
    let summary = summary(&output);
    assert_eq!(summary["account"]["problems"], Value::Array(Vec::new()));
    assert_eq!((output.status.code(), &summary["closes"]), (Some(0), &Value::Bool(true)));

    let total = &summary["account"]["total"];
    let count = |field: &str| total[field].as_u64().unwrap();
    let told: u64 = total["told"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
    assert_eq!(
        count("sent"),
        count("delivered") + told + count("with_master") + count("with_router")
    );
    assert!(count("sent") > 7_000, "{total}");
    assert_eq!(summary["account"]["rows"].as_object().unwrap().len(), 9);

    for method in ["query", "find_match"] {
        let calls = &summary["account"]["rows"][method];
        assert_eq!(calls["sent"], calls["delivered"], "no idempotent call fails: {calls}");
        assert!(calls["sent"].as_u64().unwrap() > 0);
    }
    let kills = summary["kills"].as_array().unwrap();
    assert_eq!((&kills[0]["killed"], &kills[1]["killed"]), (&MASTER.into(), &ROUTER.into()));
    assert!(kills.iter().all(|kill| kill["open"] == kill["answered_later"]), "{kills:?}");

    let takeover = &summary["takeover"];
    let numbers = |field: &str| -> Vec<u64> {
        takeover[field].as_array().unwrap().iter().filter_map(Value::as_u64).collect()
    };
    assert!(numbers("epochs").is_sorted_by(|earlier, later| earlier < later), "{takeover}");
    assert!(numbers("handled").iter().all(|handled| *handled > 0), "{takeover}");
    assert!(takeover["promoted_ms"].as_f64().unwrap() > 0.0, "{takeover}");
    let table = String::from_utf8_lossy(&output.stderr);
    assert!(table.contains("matchsvr  master        join_match"), "{table}");
}

#[test]
fn one_message_that_nobody_sent_is_found_missing() {
    let output = cluster(&["--seconds", "4", "--players", "100", "--json", "--lose-one"]);
    let summary = summary(&output);
    assert_eq!((output.status.code(), &summary["closes"]), (Some(1), &Value::Bool(false)));
    assert_eq!(summary["account"]["total"]["lost"], 1);
    let problems = summary["account"]["problems"].as_array().unwrap();
    let wanted = "save from gamesvr.2: lost 1 without a word, among 100";
    assert!(problems.iter().any(|problem| problem == wanted), "{problems:?}");
}

/// The page that a target of Prometheus answers with.
fn scrape(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens there");
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in text");
    answer
}

#[test]
fn prometheus_is_told_where_everybody_is() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("targets.json");
    let _ = std::fs::remove_file(&file);
    let mut parent =
        command(&["--seconds", "60", "--players", "20", "--targets", file.to_str().unwrap()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let started = lines.map_while(Result::ok).find(|line| line.contains("20 players send"));
    assert!(started.is_some());
    let groups: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let groups = groups.as_array().unwrap();
    let of = |job: &str| groups.iter().filter(|group| group["labels"]["job"] == job).count();
    assert_eq!((of("switchboard-router"), of("switchboard-node"), groups.len()), (2, 11, 13));
    for group in groups {
        let page = scrape(group["targets"][0].as_str().unwrap());
        let name = match group["labels"]["job"].as_str() {
            Some("switchboard-router") => "\nswitchboard_sessions{",
            _ => "\nswitchboard_node_routers 2\n",
        };
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains(name), "{group}: {page}");
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
}

#[test]
fn a_value_that_makes_no_sense_is_refused() {
    for (option, value) in
        [("--seconds", "1"), ("--players", "1"), ("--rate", "0"), ("--rate", "fast")]
    {
        let output = cluster(&[option, value]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("invalid value '{value}' for '{option}")), "{text}");
    }
}

/// The state of a process and its parent's id, from `/proc/<pid>/stat`.
#[cfg(target_os = "linux")]
fn state_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

#[cfg(target_os = "linux")]
#[test]
fn no_process_outlives_the_one_that_started_it() {
    let mut parent = command(&["--seconds", "60", "--players", "20"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let started = lines.map_while(Result::ok).find(|line| line.contains("20 players send"));
    assert!(started.is_some());
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children: Vec<u32> = pids
        .filter(|pid| state_and_parent(*pid).is_some_and(|(_, of)| of == parent.id()))
        .collect();
    assert_eq!(children.len(), 13, "two routers and eleven nodes");

    parent.kill().unwrap();
    parent.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let lives = |pid: &u32| state_and_parent(*pid).is_some_and(|(state, _)| state != "Z");
    while children.iter().any(lives) {
        assert!(Instant::now() < deadline, "{children:?} live on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

const MASTER: &str = "matchsvr.1";
const ROUTER: &str = "router blue";
