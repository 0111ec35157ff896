//! `routerctl bench`: its load arrives, what goes wrong with it is found, and its exit codes.

use std::fs::Permissions;
use std::io::{BufReader, BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use switchboard_protocol::limits::FIXED_HEADER;
use switchboard_protocol::{FixedHeader, Kind};
use switchboard_tests::{RouterProcess, Scratch, binary};

/// Runs `routerctl bench`, and with it the router that was built with the tests.
fn bench(args: &[&str]) -> Output {
    let mut command = Command::new(binary::routerctl());
    command.arg("bench").args(args).args(["--quiet", "--json"]);
    if !args.iter().any(|arg| ["--connect", "--router"].contains(arg)) {
        command.arg("--router").arg(binary::router());
    }
    command.stdin(Stdio::null()).output().expect("routerctl starts")
}

/// What a run that went well says in JSON.
#[track_caller]
fn well(args: &[&str]) -> Value {
    let output = bench(args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["ok"], true, "{json}");
    assert_eq!(json["workload"], args[0], "{json}");
    json
}

/// What a run that did not says on standard error, in one line.
#[track_caller]
fn badly(code: i32, args: &[&str]) -> String {
    let output = bench(args);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let error = String::from_utf8(output.stderr).expect("text");
    error.lines().next().unwrap_or_default().to_owned()
}

/// A figure of the only server's last round.
#[track_caller]
fn figure(json: &Value, key: &str) -> f64 {
    let rounds = json["servers"][0]["rounds"].as_array().expect("rounds");
    let figure = rounds.last().expect("one round")[key].as_f64();
    figure.unwrap_or_else(|| panic!("no {key} in {json:#}"))
}

// ---- workloads -----------------------------------------------------------------------------------

#[test]
fn a_flood_arrives_and_is_measured() {
    let args = ["--senders", "3", "--receivers", "2", "--messages", "6000", "--rounds", "2"];
    let json = well(&[&["flood"][..], &args].concat());
    assert_eq!(json["servers"][0]["rounds"].as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!(figure(&json, "messages"), 6000.0);
    assert!(figure(&json, "cpu_ns_per_message") > 0.0);
    assert!(figure(&json, "messages_per_second") > 0.0);
}

#[test]
fn a_flood_arrives_in_any_window_and_payload() {
    for (window, payload) in [("0", "8"), ("1", "9"), ("5000", "1000"), ("4194304", "3000000")] {
        let args = ["flood", "--rounds", "1", "--window", window, "--payload", payload];
        let json = well(&[&args[..], &["--messages", "400", "--block", "100000"]].concat());
        assert_eq!(figure(&json, "messages"), 400.0, "window {window}, payload {payload}");
    }
}

#[test]
fn other_ways_to_address_a_message_arrive_as_exactly() {
    let cases: [(&[&str], f64); 5] = [
        (&["broadcast", "--receivers", "5", "--messages", "600"], 3000.0),
        (&["broadcast", "--senders", "3", "--receivers", "2", "--messages", "300"], 600.0),
        (&["hash", "--keys", "100", "--messages", "4000"], 4000.0),
        (&["master", "--messages", "4000"], 4000.0),
        (&["mixed", "--messages", "2000", "--longest", "200000"], 2000.0),
    ];
    for (args, messages) in cases {
        let json = well(&[args, &["--rounds", "1"]].concat());
        assert_eq!(figure(&json, "messages"), messages, "{args:?}");
        assert!(figure(&json, "cpu_ns_per_message") > 0.0, "{args:?}");
    }
}

#[test]
fn all_messages_of_a_key_come_to_one_receiver_whatever_the_policy() {
    for policy in ["fixed", "rendezvous", "modulo"] {
        let scratch = Scratch::new();
        let yaml = format!("default_class: {{hash: {policy}}}\n");
        let path = scratch.write("router.yaml", &yaml).display().to_string();
        let args = ["hash", "--messages", "4000", "--rounds", "1", "--router-config", &path];
        assert_eq!(figure(&well(&args), "messages"), 4000.0, "{policy}");
    }
}

#[test]
fn requests_are_answered_and_their_time_is_taken() {
    let cases: [&[&str]; 3] = [
        &["request", "--messages", "3000"],
        &[
            "request",
            "--clients",
            "3",
            "--answerers",
            "2",
            "--outstanding",
            "50",
            "--messages",
            "3000",
        ],
        // More than the sockets hold.
        &[
            "request",
            "--clients",
            "1",
            "--outstanding",
            "300",
            "--payload",
            "50000",
            "--messages",
            "3000",
        ],
    ];
    for args in cases {
        let json = well(&[args, &["--rounds", "1"]].concat());
        assert_eq!(figure(&json, "calls"), 3000.0, "{args:?}");
        assert_in_order(&json);
    }
    let json = well(&["ping-pong", "--messages", "500", "--rounds", "1"]);
    assert_eq!(figure(&json, "calls"), 500.0);
    assert_in_order(&json);
}

/// The fastest call takes longer than nothing, and the slowest less than all of them together.
#[track_caller]
fn assert_in_order(json: &Value) {
    let times = ["p50_us", "p99_us", "p999_us", "max_us"].map(|key| figure(json, key));
    assert!(times[0] > 1.0 && times.is_sorted(), "{times:?}");
    let all = figure(json, "calls") / figure(json, "calls_per_second") * 1e6;
    assert!(times[3] <= all * 1.01, "{times:?} in {all} us");
}

#[test]
fn connections_join_and_stay() {
    let json = well(&["connect", "--connections", "700", "--parallel", "50", "--rounds", "2"]);
    assert_eq!(figure(&json, "connections"), 700.0);
    assert!(figure(&json, "connections_per_second") > 0.0);
    assert!(figure(&json, "cpu_us_per_connection") > 0.0);
    // A router that counts how often it is started.
    let scratch = Scratch::new();
    let (starts, router) = (scratch.file("starts"), binary::router());
    let script =
        format!("#!/bin/sh\necho >> {}\nexec {} \"$@\"\n", starts.display(), router.display());
    let script = scratch.write("router", &script);
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("it is ours");
    let script = script.display().to_string();
    let args = ["idle", "--connections", "500", "--hold", "1", "--rounds", "2"];
    let json = well(&[&args[..], &["--router", &script]].concat());
    let starts = std::fs::read_to_string(&starts).expect("it was started");
    assert_eq!(starts.lines().count(), 2, "memory grows from a fresh one in each round");
    assert_eq!(json["servers"][0]["rounds"].as_array().map(Vec::len), Some(2), "{json}");
    assert_eq!(figure(&json, "connections"), 500.0);
    let each = figure(&json, "rss_bytes_per_connection");
    assert!((500.0..100_000.0).contains(&each), "{each}");
    let busy = figure(&json, "idle_cpu_percent");
    assert!((0.0..50.0).contains(&busy), "{busy}");
}

#[test]
fn every_connection_has_to_join() {
    let router = RouterProcess::with("limits: {max_connections: 30}\n");
    let args = ["connect", "--connections", "31", "--rounds", "1", "--connect", router.listen()];
    let error = badly(1, &args);
    assert!(error.contains("the router refuses: "), "{error}");
}

#[test]
fn calls_beside_a_flood_are_compared_with_calls_alone() {
    let json = well(&["fairness", "--messages", "300", "--rounds", "1"]);
    assert_eq!(figure(&json, "calls"), 300.0);
    assert!(figure(&json, "alone_p50_us") > 1.0 && figure(&json, "beside_p50_us") > 1.0, "{json}");
    assert!(figure(&json, "messages") > 1000.0, "the flood went on: {json}");
}

#[test]
fn a_flood_arrives_while_connections_leave_and_come_back() {
    let args = ["churn", "--rate", "300", "--connections", "100", "--seconds", "1"];
    let json = well(&[&args[..], &["--rounds", "1"]].concat());
    let rate = figure(&json, "reconnects_per_second");
    assert!((30.0..=301.0).contains(&rate), "{rate}");
    assert!(figure(&json, "calm_messages_per_second") > 1000.0, "{json}");
    assert!(figure(&json, "messages_per_second") > 1000.0, "{json}");
    assert!(figure(&json, "join_max_us") >= figure(&json, "join_p50_us"), "{json}");
}

#[test]
fn floods_and_calls_go_through_the_sdk_too() {
    let json = well(&["flood", "--sdk", "--messages", "8000", "--rounds", "1"]);
    assert_eq!(figure(&json, "messages"), 8000.0);
    assert!(figure(&json, "sdk_cpu_ratio") > 0.0, "{json}");
    let window =
        ["flood", "--sdk", "senders", "--window", "2000", "--senders", "1", "--receivers", "3"];
    let json = well(&[&window[..], &["--messages", "3000", "--rounds", "1"]].concat());
    assert_eq!(figure(&json, "messages"), 3000.0);
    let json = well(&["request", "--sdk", "--messages", "4000", "--rounds", "1"]);
    assert_eq!(figure(&json, "calls"), 4000.0);
    assert!(figure(&json, "sdk_cpu_ratio") > 0.0, "{json}");
    assert_in_order(&json);
}

#[test]
fn a_flood_goes_on_when_one_of_its_receivers_stops_reading() {
    // What the router counts shows that one did stop.
    let cases = [
        ("pause", "switchboard_source_pauses_total", &[][..]),
        ("drop-new", "switchboard_frames_total", &[("class", "252"), ("outcome", "full")]),
        ("disconnect", "switchboard_sessions_ended_total", &[("reason", "slow_consumer")]),
    ];
    for (policy, metric, labels) in cases {
        let yaml = format!("default_class: {{overflow: {policy}, stall_timeout_ms: 60000}}\n");
        let router = RouterProcess::with(&yaml);
        let pid = router.pid().to_string();
        let args = ["isolation", "--policy", policy, "--seconds", "1", "--rounds", "1"];
        let json = well(&[&args[..], &["--connect", router.listen(), "--pid", &pid]].concat());
        // How much of it is a figure, and no promise on a machine with other things to do.
        assert!(figure(&json, "kept_percent") > 10.0, "{policy}: {json}");
        assert!(figure(&json, "messages_per_second") > 1000.0, "{policy}: {json}");
        let grown = figure(&json, "grown_mib");
        assert!((0.0..64.0).contains(&grown), "{policy}: {grown}");
        assert!(router.metric(metric, labels) > 0, "{policy}: {:?}", router.log());
    }
}

#[test]
fn isolation_writes_the_configuration_of_the_router_it_starts() {
    // Under the router's defaults all senders would be held up for good.
    let args = ["isolation", "--policy", "disconnect", "--seconds", "1", "--rounds", "1"];
    assert!(figure(&well(&args), "kept_percent") > 10.0);
}

#[test]
fn another_router_does_the_same_in_turn_and_is_compared() {
    let other = binary::router().display().to_string();
    let args = ["flood", "--messages", "4000", "--rounds", "3", "--beside", &other];
    let json = well(&args);
    let servers = json["servers"].as_array().expect("servers");
    assert_eq!(servers.len(), 2);
    assert_eq!(servers[1]["rounds"].as_array().map(Vec::len), Some(3), "{json}");
    assert_eq!(servers[0]["cpu_ratio"], 1.0);
    assert!(servers[1]["cpu_ratio"].as_f64() > Some(0.0), "{json}");
}

#[test]
fn a_router_that_runs_already_is_measured_by_its_process_id() {
    let router = RouterProcess::start();
    let pid = router.pid().to_string();
    let args = ["flood", "--messages", "4000", "--rounds", "1", "--connect", router.listen()];
    let json = well(&[&args[..], &["--pid", &pid]].concat());
    assert!(figure(&json, "cpu_ns_per_message") > 0.0);
    assert_eq!(router.outcome("252", "delivered"), 8000, "with the round that warms up");
    let json = well(&args);
    assert!(json["servers"][0]["median"].get("cpu_ns_per_message").is_none(), "{json}");
}

// ---- what goes wrong is found --------------------------------------------------------------------

/// What becomes of one message on its way to the receivers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tamper {
    Drop,
    Twice,
    /// Once more, just before the router's next control message.
    Late,
    Swap,
    Byte,
    Cut,
}

/// A router's address that is a proxy's, which does something to its n-th message.
struct Proxy {
    address: String,
    /// Sender and number of the message, once it has come.
    victim: Arc<Mutex<Option<(u64, u64)>>>,
}

impl Proxy {
    fn start(router: &RouterProcess, nth: u64, tamper: Tamper) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens").to_string();
        let (victim, router) = (Arc::new(Mutex::new(None)), router.listen().to_owned());
        let noted = victim.clone();
        let count = Arc::new(AtomicU64::new(0));
        thread::spawn(move || {
            for node in listener.incoming().map_while(Result::ok) {
                let router = TcpStream::connect(&router).expect("the router listens");
                let (mut from_node, mut to_router) = both(&node, &router);
                thread::spawn(move || std::io::copy(&mut from_node, &mut to_router));
                let (count, noted) = (count.clone(), noted.clone());
                // It ends when either end hangs up.
                thread::spawn(move || relay(&router, &node, nth, tamper, &count, &noted));
            }
        });
        Self { address, victim }
    }

    fn victim(&self) -> (u64, u64) {
        let victim = self.victim.lock().expect("nobody panicked");
        victim.expect("a message came by")
    }
}

fn both(node: &TcpStream, router: &TcpStream) -> (TcpStream, TcpStream) {
    (node.try_clone().expect("a socket"), router.try_clone().expect("a socket"))
}

fn relay(
    router: &TcpStream,
    node: &TcpStream,
    nth: u64,
    tamper: Tamper,
    count: &AtomicU64,
    victim: &Mutex<Option<(u64, u64)>>,
) -> std::io::Result<()> {
    let (mut from, mut to) = (BufReader::new(router), BufWriter::new(node));
    let (mut kept, mut late) = (Vec::new(), Vec::new());
    loop {
        if from.buffer().is_empty() {
            to.flush()?;
        }
        let mut frame = vec![0; FIXED_HEADER];
        from.read_exact(&mut frame)?;
        let header = FixedHeader::parse(&frame, u32::MAX).expect("a frame").expect("it is whole");
        frame.resize(header.length as usize, 0);
        from.read_exact(&mut frame[FIXED_HEADER..])?;
        let payload = header.header_len();
        if matches!(header.kind, Kind::Data(_)) && count.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            let stamp = frame[payload..].first_chunk::<8>().expect("sender and number");
            let stamp = u64::from_le_bytes(*stamp);
            *victim.lock().expect("nobody panicked") = Some((stamp >> 48, stamp << 16 >> 16));
            match tamper {
                Tamper::Drop => continue,
                Tamper::Twice => to.write_all(&frame)?,
                Tamper::Late => late.clone_from(&frame),
                Tamper::Byte => frame[payload + 20] ^= 0x80,
                Tamper::Cut => {
                    frame.truncate(frame.len() - 1);
                    let length = frame.len() as u32;
                    frame[..4].copy_from_slice(&length.to_le_bytes());
                }
                Tamper::Swap => {
                    kept = frame;
                    continue;
                }
            }
        }
        if header.kind == Kind::Control {
            to.write_all(&std::mem::take(&mut late))?;
        }
        to.write_all(&frame)?;
        to.write_all(&std::mem::take(&mut kept))?;
    }
}

/// What a flood of one sender says whose n-th message to `receivers` was tampered with, and its number.
#[track_caller]
fn tampered(nth: u64, tamper: Tamper, receivers: &str) -> (String, u64) {
    let router = RouterProcess::start();
    let proxy = Proxy::start(&router, nth, tamper);
    let args = ["flood", "--senders", "1", "--receivers", receivers, "--messages", "2000"];
    let more = ["--rounds", "1", "--patience", "1", "--connect", &proxy.address];
    let error = badly(1, &[&args[..], &more].concat());
    let (sender, number) = proxy.victim();
    assert_eq!(sender, 0);
    // routerctl: router at 127.0.0.1:34567, round 1 of 1: receiver 0: ...
    let error = error.split_once(" of 1: ").map_or(error.clone(), |(_, what)| what.to_owned());
    (error, number)
}

#[test]
fn a_message_that_is_lost_is_named() {
    let (error, n) = tampered(3000, Tamper::Drop, "1");
    let expected = format!("expected message {n} of sender 0, got its message {}", n + 1);
    assert_eq!(error, format!("receiver 0: {expected}"));
    let (error, n) = tampered(2500, Tamper::Drop, "2");
    let expected = format!("expected message {n} of sender 0, got its message {}", n + 2);
    assert!(error.ends_with(&format!("receiver {}: {expected}", n % 2)), "{error}");
}

#[test]
fn the_last_message_is_missed_after_a_while() {
    let (error, n) = tampered(4000, Tamper::Drop, "1");
    assert_eq!(n, 1999);
    let said = "1999 messages came, then nothing for 1s: receiver 0 still expects message 1999 of sender 0";
    assert_eq!(error, said);
}

#[test]
fn a_message_that_comes_twice_is_named_even_if_it_is_the_last() {
    for (nth, tamper) in [(2700, Tamper::Twice), (4000, Tamper::Twice), (4000, Tamper::Late)] {
        let (error, n) = tampered(nth, tamper, "1");
        let expected = format!("expected message {} of sender 0, got its message {n}", n + 1);
        assert!(error.ends_with(&format!("receiver 0: {expected}")), "{error}");
    }
}

#[test]
fn messages_out_of_order_are_named() {
    let (error, n) = tampered(2500, Tamper::Swap, "1");
    let expected = format!("expected message {n} of sender 0, got its message {}", n + 1);
    assert!(error.ends_with(&format!("receiver 0: {expected}")), "{error}");
}

#[test]
fn a_message_that_is_damaged_is_named() {
    let (error, n) = tampered(2999, Tamper::Byte, "1");
    let said = format!("receiver 0: message {n} of sender 0 is damaged: expected 0x");
    assert!(
        error.contains(&said) && error.contains("as byte 20 of the payload, got 0x"),
        "{error}"
    );
    let (error, n) = tampered(2999, Tamper::Cut, "1");
    let said = format!("message {n} of sender 0 is damaged: expected 64 bytes, got 63");
    assert_eq!(error, format!("receiver 0: {said}"));
}

#[test]
fn calls_and_answers_that_are_damaged_or_lost_are_named() {
    for (nth, tamper, said) in [
        (500, Tamper::Byte, "is damaged: expected 0x"),
        (501, Tamper::Byte, "is damaged: expected 0x"),
        (600, Tamper::Drop, ", then nothing for 1s"),
        (601, Tamper::Twice, "expected message "),
        (4000, Tamper::Late, "sender 0 got a message more than all of its own"),
    ] {
        let router = RouterProcess::start();
        let proxy = Proxy::start(&router, nth, tamper);
        let args = ["ping-pong", "--messages", "1000", "--rounds", "1", "--patience", "1"];
        let error = badly(1, &[&args[..], &["--connect", &proxy.address]].concat());
        assert!(error.contains(said), "{nth}, {tamper:?}: {error}");
    }
}

#[test]
fn what_the_server_chooses_is_checked_like_the_rest() {
    for (workload, tamper, said) in [
        // If it was the last one for its receiver, nothing comes behind it that would tell.
        ("hash", Tamper::Drop, &["expected message ", "came nowhere"][..]),
        ("master", Tamper::Byte, &["is damaged: expected 0x"]),
        ("broadcast", Tamper::Twice, &["expected message "]),
        ("mixed", Tamper::Cut, &["is damaged: expected "]),
    ] {
        let router = RouterProcess::start();
        let proxy = Proxy::start(&router, 3000, tamper);
        let args = [workload, "--messages", "20000", "--rounds", "1", "--patience", "1"];
        let more = ["--receivers", "3", "--connect", &proxy.address];
        let error = badly(1, &[&args[..], &more].concat());
        let told = said.iter().any(|said| error.contains(said));
        assert!(told, "{workload}, {tamper:?}: {error}");
    }
}

#[test]
fn what_goes_wrong_between_nodes_of_the_sdk_is_found() {
    let cases: [(&[&str], u64, Tamper, &str); 4] = [
        (&["flood"], 700, Tamper::Drop, "expected message "),
        (
            &["flood", "--senders", "1", "--receivers", "1"],
            4000,
            Tamper::Drop,
            "3999 messages came",
        ),
        (&["flood"], 900, Tamper::Byte, "is damaged: expected 0x"),
        (&["ping-pong"], 600, Tamper::Byte, "the answer to call "),
    ];
    for (args, nth, tamper, said) in cases {
        let router = RouterProcess::start();
        let proxy = Proxy::start(&router, nth, tamper);
        let more = ["--sdk", "--messages", "4000", "--rounds", "1", "--patience", "1"];
        let error = badly(1, &[args, &more[..], &["--connect", &proxy.address]].concat());
        assert!(error.contains(said), "{args:?}, {nth}, {tamper:?}: {error}");
    }
}

#[test]
fn what_the_router_reports_ends_the_run() {
    // Two slots, of which the generator's only receiver is one.
    let router = RouterProcess::with("default_class: {slots: 2}\n");
    let args = ["hash", "--receivers", "1", "--messages", "100", "--connect", router.listen()];
    let error = badly(1, &args);
    assert!(error.ends_with("the router reports a message as empty_slot"), "{error}");
}

#[test]
fn a_failure_is_in_the_json_too() {
    let router = RouterProcess::start();
    let proxy = Proxy::start(&router, 10, Tamper::Byte);
    let output = bench(&["flood", "--messages", "2000", "--connect", &proxy.address]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["ok"], false);
    assert!(json["error"].as_str().is_some_and(|error| error.contains("is damaged")), "{json}");
}

// ---- exit codes ----------------------------------------------------------------------------------

#[test]
fn a_server_that_cannot_be_reached_or_started_is_exit_code_3() {
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr();
    let nobody = nobody.expect("it listened").to_string();
    let error = badly(3, &["flood", "--connect", &nobody]);
    assert!(error.contains(&format!("can't connect to {nobody}: Connection refused")), "{error}");
    let error = badly(3, &["flood", "--router", "/no/such/router"]);
    assert!(error.starts_with("routerctl: can't start /no/such/router: No such file"), "{error}");
    let error = badly(3, &["flood", "--router", "/bin/true"]);
    assert_eq!(error, "routerctl: can't start /bin/true: it printed \"\" and not where it listens");
}

#[test]
fn a_mistake_in_the_options_is_exit_code_2() {
    let cases: [(&[&str], &str); 7] = [
        (&["nothing"], "error: unrecognized subcommand 'nothing'"),
        (
            &["isolation", "--router-config", "router.yaml"],
            "routerctl: --router-config: isolation writes the configuration itself",
        ),
        (
            &["flood", "--payload", "7"],
            "error: invalid value '7' for '--payload <PAYLOAD>': 7 is not in 8..=16777160",
        ),
        (
            &["flood", "--receivers", "0"],
            "error: invalid value '0' for '--receivers <RECEIVERS>': 0 is not in 1..=65535",
        ),
        (
            &["flood", "--connect", "nowhere"],
            "routerctl: --connect: `nowhere` is not an address: write host:port, such as 127.0.0.1:2000",
        ),
        (
            &["flood", "--connect", "127.0.0.1:1", "--pid", "4294967295"],
            "routerctl: --pid: there is no process 4294967295",
        ),
        (
            &["flood", "--pid", "1"],
            "error: the argument '--pid <PID>' cannot be used with '--router <PATH>'",
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(badly(2, args), expected);
    }
}

#[test]
fn too_few_open_files_are_said_before_anything_starts() {
    let program = binary::routerctl().display();
    let line =
        format!("ulimit -n 300 && exec {program} bench idle --connections 1000 --router /no/such");
    let output = Command::new("sh").args(["-c", &line]).output().expect("a shell runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "routerctl: 1000 connections take 1256 open files, here and in the router, and the limit is 300: raise it \
         in this shell, as root: ulimit -n 1256\n"
    );
}
