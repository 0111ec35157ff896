//! Whatever happens at the admin server, frames go on beside it: two nodes play ping-pong while operators, and others,
//! do their worst.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use switchboard_tests::frames::{direct, id, number_of, numbered};
use switchboard_tests::http::{self, Request};
use switchboard_tests::metrics::Metrics;
use switchboard_tests::{RawNode, RouterProcess};

/// Longer than any pause that a busy machine makes, and shorter than what the admin server waits for.
const LATE: Duration = Duration::from_secs(4);
/// The number that ends the game.
const OVER: u64 = 0;

/// Two nodes, one of which sends back what the other sends.
struct PingPong {
    pinger: RawNode,
    ponger: JoinHandle<()>,
    number: u64,
}

impl PingPong {
    fn start(router: &RouterProcess) -> Self {
        let mut node = router.join(&["5.2"]);
        let ponger = std::thread::spawn(move || {
            loop {
                let ping = node.expect_data().payload;
                if number_of(&ping) == OVER {
                    return;
                }
                node.send(&direct(node.id(), id("5.1"), &ping));
            }
        });
        Self { pinger: router.join(&["5.1"]), ponger, number: 0 }
    }

    fn serve(&mut self, number: u64) {
        self.pinger.send(&direct(self.pinger.id(), id("5.2"), numbered(number, 100)));
    }

    /// The other one leaves, and then this one.
    fn end(mut self) {
        self.serve(OVER);
        self.ponger.join().expect("it sent everything back");
    }

    /// One there and back. How long it took.
    fn play(&mut self) -> Duration {
        self.number += 1;
        let start = Instant::now();
        self.serve(self.number);
        assert_eq!(number_of(&self.pinger.expect_data().payload), self.number);
        start.elapsed()
    }
}

/// Somebody who asks again and again, on a thread of its own.
struct Nuisance {
    name: &'static str,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Nuisance {
    fn start(
        name: &'static str,
        stop: &Arc<AtomicBool>,
        round: impl Fn() + Send + 'static,
    ) -> Self {
        let rounds = Arc::new(AtomicU64::new(0));
        let (stop, counted) = (stop.clone(), rounds.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                round();
                counted.fetch_add(1, Relaxed);
            }
        });
        Self { name, rounds, thread }
    }
}

/// What is wrong about each of these, its status says.
fn ask_badly(admin: SocketAddr) {
    let wrong = [
        (Request::get("/api/v1/nothing"), 404),
        (Request::get("/api/v1/classes/nothing"), 404),
        (Request::new("BREW", "/metrics"), 405),
        (Request::post("/api/v1/classes/5/master").json("{"), 400),
        (Request::post("/api/v1/classes/5/master").json("x".repeat(70_000)), 413),
        (Request::post("/call/nothing/at_all").json("[]"), 404),
        (Request::post("/call/pingpong/ping?mode=sideways").json("[]"), 400),
    ];
    for (request, status) in wrong {
        let answer = request.send(admin).expect("an answer");
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
        assert!(answer.body.contains("\"detail\""), "{answer:?}");
    }
}

/// A request that comes letter by letter, until the router has had enough or the test has.
fn dribble(admin: SocketAddr, stop: &AtomicBool) {
    let mut stream = http::connect(admin).expect("it is accepted");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
    for letter in b"GET /metrics HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'o')) {
        let closed = stream.write_all(&[*letter]).is_err();
        let read = stream.read(&mut [0; 512]);
        let silent = |error: &std::io::Error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        };
        if closed || !read.as_ref().is_err_and(silent) || stop.load(Relaxed) {
            return;
        }
    }
}

fn scrape(admin: SocketAddr) -> Metrics {
    let page = Request::get("/metrics").send(admin).expect("a page");
    assert_eq!(page.status, 200, "{page:?}");
    Metrics::parse(&page.body)
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>().div_f64(times.len() as f64)
}

#[test]
fn every_pong_comes_in_time_whatever_the_admin_server_is_asked_and_in_a_drain_too() {
    let mut router = RouterProcess::with(
        "classes: {pingpong: {id: 5, master: sticky, http_calls: true}}\ndrain: {timeout_ms: 60000}\n",
    );
    let admin = router.admin();
    let mut game = PingPong::start(&router);
    let alone: Vec<_> = (0..2_000).map(|_| game.play()).collect();

    let idle: Vec<TcpStream> =
        (0..1_000).map(|_| http::connect(admin).expect("it is accepted")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let crowd = [
        Nuisance::start("scrapes", &stop, move || drop(scrape(admin))),
        Nuisance::start("asks badly", &stop, move || ask_badly(admin)),
        Nuisance::start("dribbles", &stop, move || dribble(admin, &stopped)),
    ];
    let annoying = |least: u64, crowd: &[Nuisance]| {
        let done = |one: &Nuisance| one.name == "dribbles" || one.rounds.load(Relaxed) >= least;
        assert!(crowd.iter().all(|one| !one.thread.is_finished()), "one of them panicked");
        crowd.iter().all(done)
    };
    let mut times = Vec::new();
    while times.len() < 2_000 || !annoying(50, &crowd) {
        times.push(game.play());
        assert!(times.len() < 5_000_000, "they are not answered");
    }
    let slowest = times.iter().max().copied().unwrap_or_default();
    let (alone, beside) = (mean(&alone), mean(&times));
    // All of them share the cores with the game, and on a small machine each waits for its turn.
    assert!(beside < 10 * alone + Duration::from_millis(1), "{alone:?} alone, and now {beside:?}");
    assert!(slowest < LATE, "{slowest:?}");

    router.signal("TERM");
    game.pinger.expect_go_away();
    let before = crowd[0].rounds.load(Relaxed);
    while crowd[0].rounds.load(Relaxed) < before + 10 {
        assert!(game.play() < LATE);
    }
    assert_eq!(scrape(admin).sum("switchboard_draining", &[]), 1);
    stop.store(true, Relaxed);
    for one in crowd {
        one.thread.join().unwrap_or_else(|_| panic!("{}", one.name));
    }
    drop(idle);
    game.end();
    assert!(router.wait_exit().success());
}
