//! Options, the configuration file, signals, exit codes, and the operators' pages.

use std::process::Output;
use std::time::{Duration, Instant};

use switchboard_protocol::control::GoAwayReason;
use switchboard_protocol::{Control, Flags, Mode, Reason, RefusalCode};
use switchboard_tests::frames::{With, direct, hash, hello, to_class};
use switchboard_tests::router::run;
use switchboard_tests::scratch::Scratch;
use switchboard_tests::{RawNode, RouterBuilder, RouterProcess, eventually};

#[track_caller]
fn first_error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let error = String::from_utf8(output.stderr.clone()).expect("messages are text");
    error.lines().next().unwrap_or_default().to_owned()
}

/// A mistake in the file is one line that begins with the program and the file.
#[track_caller]
fn mistake_in_file(yaml: &str) -> String {
    let scratch = Scratch::new();
    let path = scratch.write("router.yaml", yaml).display().to_string();
    let output = run(&["--config", &path, "--check"]);
    let line = first_error(&output);
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{output:?}");
    let rest = line.strip_prefix(&format!("router: {path}: ")).map(str::to_owned);
    rest.unwrap_or_else(|| panic!("does not name the file: {line}"))
}

// ---- options -------------------------------------------------------------------------------------

#[test]
fn mistakes_in_options_name_the_option_the_value_and_what_would_be_right() {
    let cases: [(&[&str], &str); 7] = [
        (&["--nosuch"], "error: unexpected argument '--nosuch' found"),
        (
            &["--listen", "nowhere"],
            "error: invalid value 'nowhere' for '--listen <ADDRESS>': `nowhere` is not an address: write an \
             IP address and a port, such as 0.0.0.0:2000, or unix:/path",
        ),
        (
            &["--listen", "unix:"],
            "error: invalid value 'unix:' for '--listen <ADDRESS>': `unix:` names no file: write \
             unix:/path/to/socket",
        ),
        (
            &["--admin", "2001"],
            "error: invalid value '2001' for '--admin <ADDRESS>': `2001` is not an address: write an IP \
             address and a port, such as 127.0.0.1:2001",
        ),
        (&["--shards", "1000", "--check"], "router: shards: 1000 is over 256"),
        (&["--name", "", "--check"], "router: name: \"\" is empty: a router needs a name"),
        (
            &["--log", "switchboard_router=loud", "--check"],
            "router: log: `switchboard_router=loud`: error parsing level filter: expected one of \"off\", \
             \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
        ),
    ];
    for (args, expected) in cases {
        assert_eq!(first_error(&run(args)), expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let scratch = Scratch::new();
    let path = scratch.file("none.yaml").display().to_string();
    assert_eq!(
        first_error(&run(&["--config", &path])),
        format!("router: {path}: No such file or directory (os error 2)")
    );
}

#[test]
fn mistakes_in_the_file_name_the_key_the_value_and_what_would_be_right() {
    let cases = [
        (
            "lisen: x\n",
            "unknown field `lisen`, expected one of `name`, `listen`, `admin`, `admin_token`, `admin_hosts`, \
             `shards`, `log`, `limits`, `heartbeat`, `drain`, `routers`, `tokens`, `http_calls`, `default_class`, \
             `classes`",
        ),
        (
            "limits: {max_conections: 1}\n",
            "limits: unknown field `max_conections`, expected one of `max_frame_bytes`, `max_connections`, \
             `max_services_per_session`, `handshake_timeout_ms` at line 1 column 10",
        ),
        (
            "classes: {a: {id: 5, overflw: pause}}\n",
            "classes.a: unknown field `overflw`, expected one of `hash`, `slots`, `walk`, `master`, `overflow`, \
             `high_water_bytes`, `stall_timeout_ms`, `park_ms`, `park_bytes`, `http_calls`",
        ),
        (
            "classes: {a: {id: 5, overflow: sometimes}}\n",
            "classes.a: unknown variant `sometimes`, expected one of `pause`, `drop-new`, `drop-old`, \
             `disconnect`",
        ),
        ("classes: {a: {id: 0}}\n", "classes.a.id: 0 is out of range: a class is 1 to 255"),
        ("classes: {a: {id: 5}, b: {id: 5}}\n", "classes.b.id: 5 is taken by `a`"),
        (
            "classes: {a.b: {id: 5}}\n",
            "classes: `a.b` is not a name: it starts with a letter and has no dot, space, slash, colon",
        ),
        ("classes: {a: {}}\n", "classes.a: missing field `id`: a class has a number, 1 to 255"),
        (
            "limits: {max_connections: 0}\n",
            "limits.max_connections: 0 lets nobody in: it is 1 or more",
        ),
        (
            "limits: {max_connections: many}\n",
            "limits.max_connections: invalid type: string \"many\", expected usize at line 1 column 27",
        ),
        (
            "limits: {handshake_timeout_ms: 1}\n",
            "limits.handshake_timeout_ms: 1 is too short: 100 ms or more",
        ),
        (
            "limits: {max_frame_bytes: 100}\n",
            "limits.max_frame_bytes: 100 is out of range: 65536 to 1073741824 bytes",
        ),
        ("heartbeat: {min_ms: 50}\n", "heartbeat.min_ms: 50 is too short: 100 ms or more"),
        (
            "heartbeat: {default_ms: 5, min_ms: 100}\n",
            "heartbeat.default_ms: 5 is not between min_ms (100) and max_ms (60000)",
        ),
        (
            "default_class: {high_water_bytes: 1}\n",
            "default_class.high_water_bytes: 1 is too little: 4096 bytes or more",
        ),
        (
            "routers: ['north']\n",
            "routers: `north` is not an address to dial: write host:port or unix:/path",
        ),
        (
            "default_class: {park_ms: 3600001}\n",
            "default_class.park_ms: 3600001 is over 3600000: an hour",
        ),
        (
            "classes: {a: {id: 5, park_bytes: 0}}\n",
            "classes.a.park_bytes: 0 is too little: 4096 bytes or more; park_ms: 0 turns parking off",
        ),
        ("listen: []\n", "listen: [] is empty: name one address at least, such as 0.0.0.0:2000"),
        (
            "listen: [nowhere]\n",
            "listen: `nowhere` is not an address: write an IP address and a port, such as 0.0.0.0:2000, or \
             unix:/path at line 1 column 9",
        ),
        (
            "admin: here\n",
            "admin: `here` is not an address: write an IP address and a port, such as 127.0.0.1:2001",
        ),
        (
            "admin: 0.0.0.0:2001\n",
            "admin: 0.0.0.0:2001 is reached from other machines: set admin_token, or use 127.0.0.1",
        ),
        (
            "admin_token: hunter2hunter2hunter2\n",
            "admin_token: is not where a secret stands: write {env: NAME} or {file: /path}",
        ),
        (
            "admin_token: {env: SWITCHBOARD_NO_SUCH_VARIABLE}\n",
            "admin_token.env: `SWITCHBOARD_NO_SUCH_VARIABLE` is not set in the router's environment: set it to \
             the secret",
        ),
        (
            "admin_token: {value: fifteen-letters}\n",
            "admin_token.value: it holds 15 bytes, and a secret has 16 to 1024",
        ),
        (
            "admin_token: {file: /path, vaule: hunter2hunter2hunter2}\n",
            "admin_token: unknown field `vaule`, expected one of `env`, `file`, `value`",
        ),
    ];
    for (yaml, expected) in cases {
        assert_eq!(mistake_in_file(yaml), expected, "{yaml}");
    }
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    assert!(mistake_in_file("name: [\n").contains("line 1 column"));
    assert!(!mistake_in_file("\tname: x\n").is_empty());
}

#[test]
fn check_says_that_all_is_well_and_starts_nothing() {
    let scratch = Scratch::new();
    for yaml in ["", "# nothing yet\n", "name: north\nclasses: {a: {id: 5, overflow: drop-old}}\n"]
    {
        let path = scratch.write("router.yaml", yaml).display().to_string();
        let output = run(&["--config", &path, "--check"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stdout, b"ok: the configuration is valid\n");
        assert_eq!(output.stderr, b"");
    }
}

#[test]
fn options_win_over_the_file() {
    let router = RouterBuilder::default()
        .config("name: from-file\nlisten: ['127.0.0.1:1']\nadmin: '127.0.0.1:1'\nshards: 7\n")
        .arg("--name")
        .arg("from-option")
        .start();
    assert_eq!(router.connect().hello(hello(&["5.1"])).router, "from-option");
}

#[test]
fn an_address_in_use_is_named_and_ends_with_2() {
    let router = RouterProcess::start();
    let taken = router.listen();
    assert_eq!(
        first_error(&run(&["--listen", taken, "--admin", "127.0.0.1:0"])),
        format!("router: listen: can't listen on {taken}: the address is in use")
    );
    let admin = router.admin().to_string();
    assert_eq!(
        first_error(&run(&["--listen", "127.0.0.1:0", "--admin", &admin])),
        format!("router: admin: can't listen on {admin}: the address is in use")
    );
}

// ---- listening -----------------------------------------------------------------------------------

#[test]
fn the_ready_line_is_all_that_goes_to_standard_output() {
    let mut router = RouterProcess::start();
    let expected = format!("ready listen={} admin={}\n", router.listen(), router.admin());
    assert_eq!(router.ready_line(), expected);
    let _node = router.join(&["5.1"]);
    drop(_node);
    router.signal("TERM");
    assert_eq!(router.wait_exit().code(), Some(0));
    assert_eq!(router.rest_of_stdout(), "");
}

#[test]
fn several_listeners_lead_to_one_router() {
    let scratch = Scratch::new();
    let path = scratch.file("router.sock");
    let mut router = RouterBuilder::default()
        .listen("127.0.0.1:0")
        .listen(format!("unix:{}", path.display()))
        .listen("127.0.0.1:0")
        .start();
    assert_eq!(router.listens().len(), 3);
    let mut nodes: Vec<RawNode> = (router.listens().iter().enumerate())
        .map(|(n, address)| RawNode::join(address, &[&format!("5.{}", n + 1)]))
        .collect();
    for from in 0..3 {
        for to in 0..3 {
            let frame = direct(nodes[from].id(), nodes[to].id(), "hello");
            nodes[from].send(&frame);
            assert_eq!(nodes[to].expect_data(), frame);
        }
    }
    drop(nodes);
    router.signal("TERM");
    assert_eq!(router.wait_exit().code(), Some(0));
    assert!(!path.exists(), "the socket file goes with the router");
}

#[test]
fn a_socket_file_that_a_killed_router_left_is_replaced_but_never_a_live_one() {
    let scratch = Scratch::new();
    let path = scratch.file("router.sock");
    let address = format!("unix:{}", path.display());
    let mut killed = RouterBuilder::default().listen(&address).start();
    killed.signal("KILL");
    killed.wait_exit();
    assert!(path.exists());
    let router = RouterBuilder::default().listen(&address).start();
    let mut node = router.join(&["5.1"]);
    assert_eq!(
        first_error(&run(&["--listen", &address, "--admin", "127.0.0.1:0"])),
        format!("router: listen: can't listen on {address}: the address is in use")
    );
    node.sync();
    let _other = router.join(&["5.2"]);
}

#[test]
fn a_file_that_is_not_a_socket_is_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.write("notes.txt", "not to be lost");
    let address = format!("unix:{}", path.display());
    assert_eq!(
        first_error(&run(&["--listen", &address, "--admin", "127.0.0.1:0"])),
        format!("router: listen: can't listen on {address}: there is a file that is not a socket")
    );
    assert_eq!(std::fs::read_to_string(&path).expect("it is still there"), "not to be lost");
}

// ---- leaving -------------------------------------------------------------------------------------

#[test]
fn sigterm_tells_the_nodes_to_go_lets_them_finish_and_ends_with_0() {
    for signal in ["TERM", "INT"] {
        let mut router =
            RouterProcess::with("drain: {timeout_ms: 60000, reconnect_spread_ms: 300}\n");
        let mut one = router.join(&["5.1"]);
        let mut two = router.join(&["5.2"]);
        let mut unknown = router.connect();
        eventually("it is accepted", || router.metric("switchboard_sessions", &[]) == 3);
        router.signal(signal);
        for node in [&mut one, &mut two, &mut unknown] {
            let go_away = node.expect_go_away();
            assert_eq!(go_away.reason, GoAwayReason::Shutdown);
            assert!(go_away.reconnect_after_ms.is_some_and(|ms| ms <= 300), "{go_away:?}");
        }
        eventually("nobody new is let in", || RawNode::try_connect(router.listen()).is_err());
        unknown.say(Control::Hello(hello(&["5.3"])));
        assert_eq!(unknown.expect_refused().code, RefusalCode::Draining.raw());
        let ready = router.http("GET", "/readyz");
        assert_eq!((ready.status, ready.body.as_str()), (503, "draining\n"));
        assert_eq!(router.http("GET", "/healthz").status, 200);
        // What is in flight is finished.
        one.send(&direct(one.id(), two.id(), "question").call(1));
        assert_eq!(two.expect_data().payload, "question");
        two.send(&direct(two.id(), one.id(), "answer"));
        assert_eq!(one.expect_data().payload, "answer");
        drop((one, two, unknown));
        assert_eq!(router.wait_exit().code(), Some(0));
        assert!(router.log().contains("drained; bye cut_off=0"), "{}", router.log());
    }
}

#[test]
fn a_router_that_all_have_left_does_not_wait_for_anyone() {
    let mut router =
        RouterBuilder::default().shards(4).config("drain: {timeout_ms: 60000}\n").start();
    let nodes: Vec<_> = (1..=9).map(|n| router.join(&[&format!("5.{n}")])).collect();
    nodes.into_iter().for_each(drop);
    router.signal("TERM");
    assert_eq!(router.wait_exit_within(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn nodes_that_stay_are_cut_off_at_the_drain_timeout() {
    let mut router = RouterProcess::with("drain: {timeout_ms: 300}\n");
    let mut node = router.join(&["5.1"]);
    let start = Instant::now();
    router.signal("TERM");
    node.expect_go_away();
    node.sync();
    node.expect_closed();
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(router.wait_exit().code(), Some(0));
    assert!(router.log().contains("drained; bye cut_off=1"), "{}", router.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut router = RouterProcess::with("drain: {timeout_ms: 60000}\n");
    let mut node = router.join(&["5.1"]);
    router.signal("TERM");
    node.expect_go_away();
    router.signal("TERM");
    assert_eq!(router.wait_exit_within(Duration::from_secs(5)).code(), Some(130));
}

// ---- reloading -----------------------------------------------------------------------------------

#[test]
fn sighup_takes_over_classes_and_limits_and_says_what_changed() {
    let router = RouterProcess::with("classes: {db: {id: 5}}\n");
    let mut sender = router.join(&["6.1"]);
    let mut node = router.join(&["5.2"]);
    sender.send(&hash(sender.id(), 5, 0, "first of those seen"));
    node.expect_data();
    router.rewrite_config(
        "name: other\nclasses: {db: {id: 5, slots: 4}, gate: {id: 6}}\n\
         limits: {max_frame_bytes: 70000, max_services_per_session: 2, max_connections: 3}\n",
    );
    router.signal("HUP");
    router.expect_log(
        "reloaded applied=\"limits, classes.db, classes.gate\" \
         needs_restart=\"name, limits.max_services_per_session\"",
    );
    sender.send(&hash(sender.id(), 5, 0, "slot 1 is empty").with(Flags::REPORT));
    assert_eq!(sender.expect_report().reason, Reason::EmptySlot);
    sender.send(&hash(sender.id(), 5, 1, "slot 2"));
    assert_eq!(node.expect_data().payload, "slot 2");
    sender.send(&to_class(sender.id(), Mode::Master, 5, vec![0; 80_000]));
    assert_eq!(sender.expect_refused().code, RefusalCode::FrameTooLarge.raw());
    let welcome = router.connect().hello(hello(&["7.1"]));
    assert_eq!(welcome.classes.len(), 2);
    assert_eq!((welcome.max_frame, welcome.router.as_str()), (70_000, "router"));
    assert_eq!(welcome.max_services, 64, "what needs a restart is not told before it");
    eventually("it has left", || router.metric("switchboard_sessions", &[]) == 2);
    let _third = router.join(&["7.2"]);
    assert_eq!(router.connect().expect_refused().code, RefusalCode::LimitExceeded.raw());
}

#[test]
fn a_reload_of_the_same_file_changes_nothing() {
    // What options override is not a difference.
    let router = RouterProcess::with("classes: {db: {id: 5}}\n");
    router.signal("HUP");
    router.expect_log("reloaded applied=\"\" needs_restart=\"\"");
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_says_why() {
    let good = "classes: {db: {id: 5, overflow: drop-new}}\n";
    let router = RouterProcess::with(good);
    let mut node = router.join(&["5.1"]);
    let path = router.config_path();
    for (yaml, why) in [
        (
            "classes: {db: {id: 7}}\nlimits: {max_connections: 0}\n",
            "limits.max_connections: 0 lets nobody in",
        ),
        ("classes: {db: {id: 7, overflw: x}}\n", "classes.db: unknown field `overflw`"),
        ("classes: [", "classes: "),
    ] {
        router.rewrite_config(yaml);
        router.signal("HUP");
        router.expect_log(&format!(
            "not reloaded: the old configuration stays in force mistake={path}: {why}"
        ));
        let welcome = router.connect().hello(hello(&["6.0"]));
        let class =
            welcome.classes.first_key_value().map(|(class, name)| (class.raw(), name.as_str()));
        assert_eq!(class, Some((5, "db")));
    }
    node.sync();
}

#[test]
fn sighup_without_a_file_is_harmless() {
    let router = RouterProcess::start();
    router.signal("HUP");
    router.expect_log("nothing to reload: the router was started without --config");
    router.join(&["5.1"]).sync();
}

// ---- the operators' pages ------------------------------------------------------------------------

#[test]
fn the_admin_server_answers_health_readiness_and_metrics() {
    let router = RouterBuilder::default().arg("--name").arg("north").start();
    let health = router.http("GET", "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "alive\n"));
    let ready = router.http("GET", "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    let _node = router.join(&["5.1", "5.2"]);
    let page = router.http("GET", "/metrics");
    assert_eq!(page.status, 200);
    assert!(page.head.to_ascii_lowercase().contains("content-type: text/plain"), "{}", page.head);
    assert!(page.body.contains("# TYPE switchboard_sessions gauge"));
    let metrics = router.metrics();
    assert_eq!(metrics.sum("switchboard_sessions", &[]), 1);
    assert_eq!(metrics.sum("switchboard_instances", &[("class", "5")]), 2);
    assert_eq!(metrics.sum("switchboard_build_info", &[("router", "north")]), 1);
    assert!(metrics.sum("switchboard_master_epoch", &[("class", "5")]) > 0);
}

#[test]
fn the_admin_server_says_what_it_does_not_have_and_does_not_do() {
    let router = RouterProcess::start();
    let missing = router.http("GET", "/nosuch");
    assert_eq!(missing.status, 404);
    let detail = missing.json()["detail"].to_string();
    assert!(detail.contains("there are /healthz, /readyz, /metrics, /call/"), "{detail}");
    let post = router.http("POST", "/healthz");
    assert_eq!(post.status, 405);
    assert_eq!(post.json()["detail"], "only GET, HEAD is answered here");
    assert!(post.head.to_ascii_lowercase().contains("allow: get, head"), "{}", post.head);
    let head = router.http("HEAD", "/healthz");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[test]
fn a_client_that_says_nothing_does_not_keep_others_from_the_admin_server() {
    let router = RouterProcess::start();
    let _silent: Vec<_> = (0..60)
        .map(|_| std::net::TcpStream::connect(router.admin()).expect("it is accepted"))
        .collect();
    assert_eq!(router.http("GET", "/healthz").status, 200);
}
