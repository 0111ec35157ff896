//! The page at `/`, in a real browser. What it must show is in the scripts in `tests/browser`; what happens
//! meanwhile at the router is here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use switchboard_protocol::control::{Register, Service};
use switchboard_protocol::{Control, Mode};
use switchboard_tests::frames::{direct, hello, service, to_class};
use switchboard_tests::http::Request;
use switchboard_tests::{RawNode, RouterBuilder, RouterProcess, Scratch, browser, eventually};

fn address(router: &RouterProcess) -> String {
    format!("http://{}", router.admin())
}

/// A node that goes on sending, some ten frames at a time.
struct Talker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    fn start(mut node: RawNode, classes: &'static [u8]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut size = 0;
            while !stopped.load(Relaxed) {
                size = (size + 1) % 40;
                for class in classes {
                    let frame = to_class(node.id(), Mode::Master, *class, vec![0; size]);
                    // The router may be gone already.
                    let _ = node.try_send_bytes(&frame.to_bytes());
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// A node with a name, and one service that says more of itself.
fn join_as(router: &RouterProcess, name: &str, services: Vec<Service>) -> RawNode {
    let mut node = router.connect();
    let mut hello = hello(&[]);
    hello.name = name.to_owned();
    hello.services = services;
    node.hello(hello);
    node
}

/// Sends until the router reads no more.
fn stuff(sender: &mut RawNode, reader: &RawNode) {
    let frame = direct(sender.id(), reader.id(), vec![0; 100_000]).to_bytes();
    sender.send_until_stuck(&frame.repeat(500), Duration::from_millis(500));
}

const CLASSES: &str = "\
name: main
drain: {timeout_ms: 60000}
classes:
  game: {id: 1}
  svc: {id: 5, stall_timeout_ms: 60000}
  db: {id: 7, slots: 4}
  park: {id: 8, park_ms: 60000}
  quiet: {id: 9}
";

#[test]
fn what_happens_at_the_router_is_seen_on_the_page() {
    let mut router = RouterProcess::with(CLASSES);
    let mut nodes: BTreeMap<&str, RawNode> = BTreeMap::new();
    for (name, id) in [("game", "1.2"), ("svc.1", "5.1"), ("svc.2", "5.2"), ("db", "7.3")] {
        nodes.insert(name, router.join(&[id]));
    }
    let mut talkers: BTreeMap<&str, Talker> = BTreeMap::new();
    browser::run("live.py", &address(&router), |word| match word {
        "talk" => drop(talkers.insert("talk", Talker::start(router.join(&["1.1"]), &[5]))),
        "kill" => drop(nodes.remove("svc.1")),
        "return" => drop(nodes.insert("svc.1", router.join(&["5.1"]))),
        "lose" => drop(talkers.insert("lose", Talker::start(router.join(&["1.3"]), &[9]))),
        "stop losing" => drop(talkers.remove("lose")),
        "park" => {
            let game = nodes.get_mut("game").expect("it is there");
            (0..3).for_each(|_| game.send(&to_class(game.id(), Mode::Master, 8, "wait")));
        }
        "stuff" => {
            let heavy = Service { weight: 5, ..service("5.3") };
            let deaf = join_as(&router, "deaf", vec![heavy]);
            stuff(nodes.get_mut("game").expect("it is there"), &deaf);
            nodes.insert("svc.3", deaf);
        }
        "kill svc.2" => drop(nodes.remove("svc.2")),
        "reload badly" => {
            router.rewrite_config("classes: {svc: {id: 5000}}\n");
            router.signal("HUP");
        }
        "reload" => {
            router.rewrite_config(CLASSES);
            router.signal("HUP");
        }
        "drain" => router.signal("TERM"),
        "end" => {
            router.signal("KILL");
            router.wait_exit();
        }
        "start another" => {
            let admin = router.admin().to_string();
            let config = CLASSES.replace("name: main", "name: next");
            router = RouterBuilder::default().config(&config).admin(admin).start();
            nodes.insert("svc.7", router.join(&["5.7"]));
        }
        other => panic!("the script asks for `{other}`"),
    });
}

#[test]
fn hostile_names_stay_text() {
    const NAME: &str = "<img src=x onerror=window.hit=1>";
    let yaml = format!("name: '{NAME}'\nclasses: {{svc: {{id: 9, overflow: drop-new}}}}\n");
    let router = RouterProcess::with(&yaml);
    let metadata = BTreeMap::from([(NAME.to_owned(), NAME.to_owned())]);
    let services = vec![Service { metadata, ..service("9.1") }];
    let deaf = join_as(&router, NAME, services);
    let mut sender = router.join(&["9.2"]);
    for _ in 0..100 {
        sender.send(&direct(sender.id(), deaf.id(), vec![0; 100_000]));
    }
    let _talker = Talker::start(sender, &[9]);
    browser::run("names.py", &address(&router), |_| {});
}

#[test]
fn a_token_is_asked_for_once() {
    let scratch = Scratch::new();
    let token = scratch.write("token", "correct-horse-battery-staple");
    let yaml =
        format!("admin_token: {{file: '{}'}}\nclasses: {{svc: {{id: 5}}}}\n", token.display());
    let router = RouterProcess::with(&yaml);
    let mut nodes = vec![router.join(&["5.1"])];
    browser::run("door.py", &address(&router), |word| match word {
        "change the token" => {
            scratch.write("token", "another-token-altogether");
            router.signal("HUP");
        }
        "join" => nodes.push(router.join(&["5.2"])),
        other => panic!("the script asks for `{other}`"),
    });
}

#[test]
fn it_speaks_two_languages_fits_small_screens_and_is_used_without_a_mouse() {
    let router = RouterProcess::with(CLASSES);
    let _nodes = [router.join(&["5.1"]), router.join(&["5.2"]), router.join(&["7.3"])];
    let _talker = Talker::start(router.join(&["1.1"]), &[5]);
    browser::run("looks.py", &address(&router), |_| {});
}

#[test]
fn ten_thousand_instances_are_shown_within_a_second() {
    let router =
        RouterProcess::with("limits: {max_services_per_session: 1000}\nclasses: {many: {id: 5}}\n");
    let nodes: Vec<RawNode> = (0..10)
        .map(|n| {
            let mut node = router.connect();
            node.hello(hello(&[]));
            let ids = (1..=1_000).map(|id| service(&format!("5.{}", n * 1_000 + id)));
            node.say(Control::Register(Register { request: 1, services: ids.collect() }));
            node.sync();
            node
        })
        .collect();
    for line in browser::run("many.py", &address(&router), |_| {}) {
        println!("{line}");
    }
    drop(nodes);
}

// ---- as it is sent -------------------------------------------------------------------------------

#[test]
fn the_page_is_sent_once_and_lets_nothing_else_in() {
    let router = RouterProcess::start();
    let page = router.http("GET", "/");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let etag = page.header("etag").expect("a mark");
    for known in [etag.to_owned(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".into()] {
        let again = router.ask(&Request::get("/").header("if-none-match", &known));
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{known}");
        assert_eq!(again.header("etag"), Some(etag));
    }
    let other = router.ask(&Request::get("/").header("if-none-match", "\"other\""));
    assert_eq!(other.status, 200);
    let head = router.http("HEAD", "/");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    router.http("POST", "/").assert_problem(405, "method_not_allowed", "only GET, HEAD");
    let rebound = router.ask(&Request::get("/").header("host", "evil.example"));
    rebound.assert_problem(421, "unknown_host", "admin_hosts");
}

#[test]
fn the_page_is_sent_without_the_token_that_it_asks_for() {
    let scratch = Scratch::new();
    let token = scratch.write("token", "correct-horse-battery-staple");
    let router = RouterProcess::with(&format!("admin_token: {{file: '{}'}}\n", token.display()));
    eventually("it is there", || router.http("GET", "/").status == 200);
    assert_eq!(router.http("GET", "/api/v1/routers").status, 401);
}
