//! The boards and alerts of `dashboards/`, in front of a real Prometheus that scrapes real routers and nodes: every
//! query has something to show, and every alert fires when what it warns of happens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use switchboard_protocol::control::Hello;
use switchboard_protocol::{Control, Frame, Mode};
use switchboard_tests::boards::{self, Board, Query};
use switchboard_tests::frames::{direct, hello, id, to_class};
use switchboard_tests::http::Request;
use switchboard_tests::prometheus::{Prometheus, promtool, serve};
use switchboard_tests::wait::{holds_for, within};
use switchboard_tests::{RawNode, RouterBuilder, RouterProcess, binary, eventually, python};

const ROUTER: &str = "switchboard-router";
const NODE: &str = "switchboard-node";
/// How long a scene may take until all is seen that it shows, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// The demonstration. Its processes end with it.
struct Cluster(Child);

impl Cluster {
    fn start(targets: &Path) -> Self {
        let child = Command::new(binary::cluster())
            .args(["--seconds", "300", "--players", "100", "--targets"])
            .arg(targets)
            .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("the cluster starts"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A router with everything that there is to warn of, and the nodes that do it.
struct Trouble {
    router: RouterProcess,
    nodes: Vec<RawNode>,
    sender: RawNode,
    flapping: Option<RawNode>,
}

impl Trouble {
    const CONFIG: &str = "\
        heartbeat: {min_ms: 100}\n\
        classes:\n\
        \x20 slow: {id: 5, high_water_bytes: 65536, stall_timeout_ms: 600000}\n\
        \x20 lossy: {id: 6, high_water_bytes: 65536, overflow: drop-new}\n\
        \x20 away: {id: 7, park_ms: 600000}\n\
        \x20 flapping: {id: 8}\n\
        \x20 gone: {id: 9}\n\
        \x20 caller: {id: 10}\n";

    fn new() -> Self {
        let router = RouterProcess::with(Self::CONFIG);
        let nodes = vec![router.join(&["5.1"]), router.join(&["6.1"])];
        let sender = router.join(&["10.1"]);
        Self { router, nodes, sender, flapping: None }
    }

    /// Frames that nobody takes are parked, others are dropped.
    fn send(&mut self) {
        let source = self.sender.id();
        let large: Vec<Frame> = vec![direct(source, id("6.1"), [0; 8_000]); 50];
        self.sender.send_all(&large);
        self.sender.send_all(&vec![to_class(source, Mode::Master, 7, "to nobody yet"); 10]);
        self.sender.sync();
    }

    /// The same, and once Prometheus has seen the last change an instance comes or goes.
    fn go_on(&mut self, prometheus: &Prometheus) {
        self.send();
        let there = prometheus.query("switchboard_instances{class='flapping',state='live'} == 1");
        if there.is_empty() == self.flapping.is_some() {
            return;
        }
        self.flapping = match self.flapping {
            Some(_) => None,
            None => Some(self.router.join(&["8.1"])),
        };
    }

    /// A consumer that does not read has its mailbox full, and its sender is held up.
    fn fill_a_mailbox(&mut self) {
        let mut sender = self.router.join(&["10.0"]);
        let frame = direct(sender.id(), id("5.1"), [0; 8_000]).to_bytes();
        let sent = sender.send_until_stuck(&frame.repeat(3_000), Duration::from_secs(1));
        assert!(sent < frame.len() * 3_000, "it is held up");
        self.nodes.push(sender);
    }

    /// What happens once, and is remembered: nodes that fall silent, nodes that can't get in, a mistake in the
    /// configuration, a class whose only instance leaves.
    fn let_it_happen(&mut self) {
        for instance in 1..=5 {
            let mut silent = self.router.connect();
            let id = format!("10.{}", 1_000 + instance);
            silent.hello(Hello { heartbeat_ms: 100, ..hello(&[&id]) });
            self.nodes.push(silent);
            let mut stranger = self.router.connect();
            stranger.send(&Control::Hello(Hello { version: 0, ..hello(&["10.0"]) }).to_frame());
            stranger.expect_closed();
        }
        self.router.rewrite_config("classes: [");
        self.router.signal("HUP");
    }
}

/// Threads that send to nobody until this is dropped, more than one thread of a router can take.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(router: &RouterProcess) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let send = |mut sender: RawNode| {
            let stop = stop.clone();
            // Each to another class than the one before, so that none is like its neighbour.
            let classes = (0..5_000).map(|n| 20 + (n % 100) as u8);
            let frames = classes
                .map(|class| to_class(sender.id(), Mode::Random, class, "to nobody").to_bytes());
            let bytes: Vec<u8> = frames.flat_map(|frame| frame.to_vec()).collect();
            std::thread::spawn(move || {
                while !stop.load(Relaxed) && sender.try_send_bytes(&bytes).is_ok() {}
            })
        };
        let threads = [router.join(&["10.1"]), router.join(&["10.2"])].map(send).into();
        Self { stop, threads }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// A node that counts its calls, all of which fail.
struct Unlucky {
    runtime: tokio::runtime::Runtime,
    node: switchboard::Node,
    address: std::net::SocketAddr,
}

impl Unlucky {
    fn new(router: &RouterProcess) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let node = switchboard::Node::builder("caller").router(router.listen());
        let node = runtime.block_on(node.connect()).expect("it connects");
        let registry = prometheus::Registry::new();
        node.register_metrics(&registry).expect("it is registered once");
        let address = serve(move || {
            let encoder = prometheus::TextEncoder::new();
            encoder.encode_to_string(&registry.gather()).expect("numbers can be written")
        });
        Self { runtime, node, address }
    }

    fn go_on(&self) {
        let call = self.node.call(switchboard::Random, "gone", "nothing", ());
        let failed: Result<(), _> = self.runtime.block_on(async move { call.await });
        assert!(failed.is_err(), "nobody is there");
    }
}

/// A router with nearly as many files open as it may.
fn crowded() -> (RouterProcess, Vec<RawNode>) {
    let router = RouterProcess::start();
    let nodes = (0..80).map(|_| router.join(&["5.0"])).collect();
    let open = router.metric("process_open_fds", &[]);
    let limit = format!("--nofile={0}:{0}", open + 6);
    let limited =
        Command::new("prlimit").args(["--pid", &router.pid().to_string(), &limit]).status();
    assert!(limited.expect("prlimit runs").success());
    (router, nodes)
}

fn read(path: &str) -> String {
    let path = boards::directory().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The value of each line that has this key, such as `alert`.
fn values<'a>(yaml: &'a str, key: &str) -> Vec<&'a str> {
    let lines = yaml.lines().map(|line| line.trim_start().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": ")).collect()
}

/// Those that have no answer yet.
fn unanswered(board: &Board, prometheus: &Prometheus) -> Vec<(Query, String)> {
    let chosen = board.choose_all(prometheus);
    let asked = board.queries().into_iter().filter_map(|query| {
        let expression = query.fill(&chosen);
        let series = prometheus.query(&expression);
        let named =
            |series: &Value| query.labels().all(|label| series["metric"][label].is_string());
        (!series.iter().any(named)).then_some((query, expression))
    });
    asked.collect()
}

#[test]
fn every_query_of_every_board_has_something_to_show() {
    let prometheus = Prometheus::start(None);
    let _cluster = Cluster::start(&prometheus.targets("cluster"));
    let mut trouble = Trouble::new();
    prometheus.scrape(&[(ROUTER, "trouble", trouble.router.admin())]);
    let up = |job: &str| prometheus.query(&format!("up{{job='{job}'}} == 1")).len();
    within(PATIENCE, "all are scraped", || (up(ROUTER), up(NODE)) == (3, 11));
    let all = boards::all();
    let mut left = Vec::new();
    holds_for(PATIENCE, || {
        trouble.go_on(&prometheus);
        left = all.iter().flat_map(|board| unanswered(board, &prometheus)).collect();
        !left.is_empty()
    });
    assert!(left.is_empty(), "nothing to show, or not by the labels of its legend: {left:#?}");
    assert_eq!(all.len(), 5);
    // Among them they have every kind of panel.
    for name in
        ["switchboard-traffic.json", "switchboard-mastership.json", "switchboard-overview.json"]
    {
        let picture = trouble.router.scratch().file("board.png");
        draw(name, &prometheus, &picture);
        let png = std::fs::read(&picture).expect("a picture");
        assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000, "{name}: {} bytes", png.len());
    }
}

#[test]
fn every_alert_fires_when_what_it_warns_of_happens() {
    // As they are, but that what has to last for minutes lasts for a second, and rates are of five seconds.
    let rules = read("prometheus/alerts.yml");
    let rules: Vec<String> = rules
        .lines()
        .map(|line| match line.split_once("for: ") {
            Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s"),
            _ => line.replace("[5m]", "[5s]"),
        })
        .collect();
    let prometheus = Prometheus::start(Some(&rules.join("\n")));
    let mut trouble = Trouble::new();
    let (crowded, _nodes) = crowded();
    let busy = RouterBuilder::default().shards(1).start();
    let doomed = RouterProcess::start();
    let unlucky = Unlucky::new(&trouble.router);
    prometheus.scrape(&[
        (ROUTER, "trouble", trouble.router.admin()),
        (ROUTER, "crowded", crowded.admin()),
        (ROUTER, "busy", busy.admin()),
        (ROUTER, "doomed", doomed.admin()),
        (NODE, "unlucky", unlucky.address),
    ]);
    let gone = trouble.router.join(&["9.1"]);
    eventually("all is well", || {
        let seen = ["up", "switchboard_masters{class='gone'} == 1", "ALERTS{alertstate='firing'}"];
        let [up, master, firing] = seen.map(|expression| prometheus.query(expression).len());
        assert!(firing <= 1, "only the file descriptors are short");
        (up, master) == (5, 1)
    });
    drop((gone, doomed));
    let _flood = Flood::start(&busy);
    trouble.fill_a_mailbox();
    trouble.let_it_happen();
    let rules = read("prometheus/alerts.yml");
    let names = values(&rules, "alert");
    let mut fired = BTreeMap::new();
    holds_for(PATIENCE, || {
        trouble.go_on(&prometheus);
        unlucky.go_on();
        let firing = prometheus.firing().into_iter();
        fired.extend(firing.map(|alert| (text(&alert["labels"]["alertname"]), alert)));
        fired.len() < names.len()
    });
    let silent: Vec<_> = names.iter().filter(|name| !fired.contains_key(**name)).collect();
    assert!(silent.is_empty(), "did not fire: {silent:?}");
    for alert in fired.values() {
        let annotations =
            ["summary", "description", "runbook_url"].map(|name| &alert["annotations"][name]);
        let whole = |annotation: &Value| {
            let text = text(annotation);
            !text.is_empty()
                && ["{{", "<error", "<no value>", "  "].iter().all(|bad| !text.contains(bad))
        };
        assert!(annotations.into_iter().all(whole), "{alert}");
    }
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    let dir = boards::directory().join("prometheus");
    let said = promtool(&dir, &["check", "rules", "--lint-fatal", "alerts.yml"], "");
    assert!(
        said.contains(&format!(
            "{} rules found",
            values(&read("prometheus/alerts.yml"), "alert").len()
        )),
        "{said}"
    );
    for config in ["prometheus.yml", "demonstration.yml"] {
        promtool(&dir, &["check", "config", config], "");
    }
    promtool(&dir, &["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn promtool_finds_nothing_to_blame_on_the_pages_of_routers_and_nodes() {
    let mut trouble = Trouble::new();
    trouble.send();
    let unlucky = Unlucky::new(&trouble.router);
    unlucky.go_on();
    for address in [trouble.router.admin(), unlucky.address] {
        let page = Request::get("/metrics").send(address).expect("a page").body;
        assert!(page.contains("class=\""), "{page}");
        promtool(&boards::directory(), &["check", "metrics"], &page);
    }
}

#[test]
fn every_alert_is_tested_explained_and_has_a_severity() {
    let rules = read("prometheus/alerts.yml");
    let names = values(&rules, "alert");
    assert!(names.len() >= 7, "{names:?}");
    let tests = read("prometheus/alerts_test.yml");
    let tested: BTreeSet<&str> = values(&tests, "alertname").into_iter().collect();
    let guide = read("../docs/operations.md");
    let headings: BTreeSet<&str> =
        guide.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let links = values(&rules, "runbook_url");
    let blocks = rules.split("- alert: ").skip(1);
    for ((name, link), block) in names.iter().zip(&links).zip(blocks) {
        assert!(tested.contains(name), "{name} is not in alerts_test.yml");
        assert!(headings.contains(name), "{name} is not in docs/operations.md");
        assert_eq!(*link, format!("docs/operations.md#{}", name.to_lowercase()));
        assert!(
            ["critical", "warning"]
                .iter()
                .any(|word| block.contains(&format!("severity: {word} }}"))),
            "{name}"
        );
    }
    assert_eq!(names.len(), links.len());
    assert_eq!(
        headings.iter().filter(|heading| heading.starts_with("Switchboard")).count(),
        names.len()
    );
}

/// The names of metrics that a source file declares.
fn declared(source: &str) -> BTreeSet<String> {
    let strings = source.split('"').skip(1).step_by(2);
    let is_name = |text: &&str| {
        ["switchboard_", "process_"].iter().any(|prefix| text.starts_with(prefix))
            && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    strings.filter(is_name).map(str::to_owned).collect()
}

/// The names of metrics that stand in an expression.
fn named(expression: &str) -> impl Iterator<Item = &str> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| ["switchboard_", "process_"].iter().any(|prefix| word.starts_with(prefix)))
}

#[test]
fn boards_and_alerts_name_metrics_that_there_are_and_every_metric_is_on_a_board() {
    let router = declared(include_str!("../../router/src/metrics/names.rs"));
    let node = declared(include_str!("../../sdk-rust/src/prometheus.rs"));
    assert!(router.len() > 30 && node.len() > 10, "{router:?} {node:?}");
    let known: BTreeSet<String> =
        router.into_iter().chain(node).filter(|name| !name.ends_with('_')).collect();
    let family = |name: &str| {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| name.strip_suffix(part));
        whole.filter(|whole| known.contains(*whole)).unwrap_or(name).to_owned()
    };
    let all = boards::all();
    let queries: Vec<Query> = all.iter().flat_map(Board::queries).collect();
    let shown: BTreeSet<String> =
        queries.iter().flat_map(|query| named(&query.expression)).map(family).collect();
    assert_eq!(shown, known);
    let rules = read("prometheus/alerts.yml");
    let lines = rules.lines().filter(|line| !line.trim_start().starts_with(['#', 's', 'd', 'r']));
    let warned: BTreeSet<String> = lines.flat_map(named).map(family).collect();
    assert!(warned.len() > 10 && warned.is_subset(&known), "{:?}", warned.difference(&known));
}

#[test]
fn the_router_as_a_caller_is_no_class_to_warn_of() {
    let router = RouterProcess::with("classes: {gone: {id: 5, http_calls: true}}\n");
    assert_eq!(router.ask(&Request::post("/call/gone/nothing").json("[]")).status, 503);
    let classes = router.metrics().by("switchboard_masters", &[], "class");
    let [(caller, 1)] = &classes[..] else { panic!("{classes:?}") };
    let rules = read("prometheus/alerts.yml");
    for metric in ["masters{", "master_changes_total{", "instances{state=\"live\","] {
        let without = format!("switchboard_{metric}class!=\"{caller}\"}}");
        assert!(rules.contains(&without), "{without}");
    }
}

#[test]
fn a_board_can_be_pointed_anywhere_and_says_what_it_is_for() {
    let mut uids = BTreeSet::new();
    for board in boards::all() {
        let Board { name, json } = &board;
        assert_eq!(json["uid"].as_str().map(|uid| format!("{uid}.json")).as_ref(), Some(name));
        assert!(uids.insert(text(&json["uid"])), "{name}");
        let variables = json["templating"]["list"].as_array().expect("variables");
        let variables: Vec<String> =
            variables.iter().map(|variable| text(&variable["name"])).collect();
        assert_eq!(variables[..4], ["datasource", "job", "instance", "class"], "{name}");
        for panel in board.panels().filter(|panel| panel["type"] != "row") {
            let title = text(&panel["title"]);
            assert!(text(&panel["description"]).len() > 20, "{name}: {title}");
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string()
                    || panel["type"] == "state-timeline"
                    || panel["type"] == "heatmap",
                "{name}: {title}"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
        }
        for Query { of, expression, .. } in board.queries() {
            let of_all = !expression.contains("ALERTS");
            assert!(
                !of_all || (expression.contains("$job") && expression.contains("$instance")),
                "{of}: {expression}"
            );
            let fixed = expression.split('[').skip(1).any(|window| !window.starts_with("$__"));
            assert!(!fixed, "its window does not follow the zoom: {of}: {expression}");
        }
    }
}

/// Runs Python, and panics with what it said if it is not content.
#[track_caller]
fn run(python: &Path, arguments: &[&Path]) -> String {
    let output = Command::new(python).args(arguments).output().expect("python runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn the_boards_are_what_their_source_makes() {
    run(Path::new("python3"), &[&boards::directory().join("make.py"), Path::new("--check")]);
}

#[test]
fn the_boards_fit_the_schema_of_grafana() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let python = python::with(&["grafana-foundation-sdk==1769699734!11.0.0"], dir);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/schema.py");
    let files: Vec<PathBuf> =
        boards::all().iter().map(|board| boards::directory().join(&board.name)).collect();
    let arguments: Vec<&Path> = [&script].into_iter().chain(&files).map(PathBuf::as_path).collect();
    let said = run(&python, &arguments);
    assert!(said.starts_with(&format!("{} boards", files.len())), "{said}");
}

/// Draws a board of the last minute.
#[track_caller]
fn draw(board: &str, prometheus: &Prometheus, picture: &Path) {
    let dir = boards::directory();
    let python = python::with(&["matplotlib==3.11.2"], Path::new(env!("CARGO_TARGET_TMPDIR")));
    let address = format!("http://{}", prometheus.address());
    let place = [dir.join("draw.py"), dir.join(board), address.into(), picture.to_owned()];
    let options = ["--minutes", "1", "--scrape", "0.5"].map(PathBuf::from);
    let arguments: Vec<&Path> = place.iter().chain(&options).map(PathBuf::as_path).collect();
    run(&python, &arguments);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
