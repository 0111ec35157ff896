//! Who may ask the admin server, and what it answers to bad questions.

use std::io::{Read, Write};
use std::net::TcpStream;

use switchboard_router::secret::Secret;
use switchboard_router::{Config, Router};
use switchboard_tests::frames::direct;
use switchboard_tests::http::{self, Request};
use switchboard_tests::router::run;
use switchboard_tests::scratch::Scratch;
use switchboard_tests::{RouterProcess, eventually};

const CLASSES: &str = "classes: {matchsvr: {id: 5, master: sticky}}\n";

// ---- who may ask ---------------------------------------------------------------------------------

const TOKEN: &str = "correct-horse-battery-staple";

#[test]
fn an_address_that_others_reach_needs_a_token() {
    let output = run(&["--admin", "0.0.0.0:0", "--check"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "router: admin: 0.0.0.0:0 is reached from other machines: set admin_token, or use 127.0.0.1\n"
    );
    let scratch = Scratch::new();
    let token = scratch.write("token", TOKEN);
    let yaml = format!("admin_token: {{file: '{}'}}\n", token.display());
    let path = scratch.write("router.yaml", &yaml).display().to_string();
    assert_eq!(run(&["--admin", "0.0.0.0:0", "--config", &path, "--check"]).status.code(), Some(0));
}

#[test]
fn with_a_token_nothing_but_health_is_told_without_it() {
    let scratch = Scratch::new();
    let token = scratch.write("token", TOKEN);
    let router = RouterProcess::with(&format!("admin_token: {{file: '{}'}}\n", token.display()));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(router.http("GET", path).status, 200);
    }
    for path in ["/metrics", "/api/v1/classes", "/api/v1/config", "//", "/nosuch"] {
        let answer = router.http("GET", path);
        answer.assert_problem(401, "unauthorized", "Authorization: Bearer <token>");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"switchboard\""));
        for wrong in ["Bearer correct-horse-battery-stapl", "Bearer", "Basic Y29ycmVjdA==", TOKEN] {
            let answer = router.ask(&Request::get(path).header("authorization", wrong));
            answer.assert_problem(401, "unauthorized", "this is not the token");
        }
    }
    router.ask(&Request::post("/api/v1/drain")).assert_problem(401, "unauthorized", "token");
    let shown = |token: &str| {
        let request = Request::get("/metrics").header("authorization", &format!("Bearer {token}"));
        router.ask(&request).status
    };
    assert_eq!(shown(TOKEN), 200);
    // A reload reads it anew.
    scratch.write("token", "another-token-altogether\n");
    router.signal("HUP");
    eventually("the new token is in force", || shown("another-token-altogether") == 200);
    assert_eq!(shown(TOKEN), 401);
}

#[test]
fn a_reload_never_leaves_the_door_open() {
    let mut config = Config::local();
    config.admin.set_ip([0, 0, 0, 0].into());
    config.admin_token = Some(Secret::new(TOKEN));
    let router = Router::start(config).expect("it starts");
    // The new address takes a restart, so the old one is still open to others.
    let error = router.reconfigure(Config::local()).expect_err("there is no token");
    assert!(error.to_string().contains("is reached from other machines"), "{error}");
    let admin = std::net::SocketAddr::from(([127, 0, 0, 1], router.admin().port()));
    assert_eq!(Request::get("/metrics").send(admin).expect("an answer").status, 401);
}

#[test]
fn a_page_of_another_site_gets_nothing_done() {
    let router = RouterProcess::start();
    let here = format!("http://{}", router.admin());
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let answer = router.ask(&Request::post("/api/v1/drain").header(name, value));
        answer.assert_problem(403, "foreign_site", "another site");
    }
    let own = Request::post("/api/v1/reload").header("origin", &here);
    assert_eq!(router.ask(&own.header("sec-fetch-site", "same-origin")).status, 409);
    assert_eq!(router.http("GET", "/readyz").body, "ready\n");
}

#[test]
fn a_name_that_is_not_the_servers_is_refused() {
    let router = RouterProcess::with("admin_hosts: [ops.example]\n");
    let port = router.admin().port();
    let ask = |host: &str| router.ask(&Request::get("/api/v1/classes").header("host", host));
    for host in ["evil.example", "localhost.evil.example", "evil.example:80", ""] {
        ask(host).assert_problem(421, "unknown_host", "admin_hosts");
    }
    let known = [
        "localhost".to_owned(),
        format!("LOCALHOST:{port}"),
        format!("127.0.0.1:{port}"),
        "[::1]:80".to_owned(),
        "ops.example".to_owned(),
    ];
    for host in known {
        assert_eq!(ask(&host).status, 200, "{host}");
    }
    let probe = Request::get("/healthz").header("host", "evil.example");
    assert_eq!(router.ask(&probe).status, 200, "health is told to everybody");
}

// ---- bad questions -------------------------------------------------------------------------------

#[test]
fn what_is_not_there_is_said_so() {
    let router = RouterProcess::with(CLASSES);
    for (path, status, detail) in [
        ("/api/v1", 404, "nothing is here"),
        ("/api/v1/classes/nosuch", 404, "there is no class `nosuch`"),
        ("/api/v1/classes/200", 404, "there is no class `200`"),
        ("/api/v1/classes/256", 404, "there is no class `256`"),
        ("/api/v1/classes/%ff", 400, "this is not UTF-8"),
        ("/api/v1/classes/5?limit=0", 400, "limit: 0 is out of range: 1 to 10000"),
        ("/api/v1/classes/5?cursor=x", 400, "cursor: `x`: invalid digit"),
        ("/api/v1/sessions/1", 404, "there is no session 1"),
        ("/api/v1/sessions/one", 400, "`one` is not a session"),
        ("/api/v1/sessions?sort=name", 400, "it is age, queue or rate"),
        (
            "/api/v1/sessions?order=age",
            400,
            "unknown parameter `order`: this path takes sort, limit, cursor",
        ),
        ("/api/v1/sessions?sort=age&sort=age", 400, "`sort` is given twice"),
        ("/api/v1/sessions?cursor=1", 400, "it is what the page before calls `next`"),
        ("/api/v1/config?x", 400, "this path takes nothing"),
    ] {
        let answer = router.http("GET", path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        let problem = answer.json();
        assert!(
            problem["detail"].as_str().is_some_and(|told| told.contains(detail)),
            "{path}: {problem}"
        );
    }
}

#[test]
fn a_method_that_a_path_does_not_take_is_named_with_those_that_it_does() {
    let router = RouterProcess::start();
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let answer = router.http(method, "/api/v1/classes");
        answer.assert_problem(405, "method_not_allowed", "only GET, HEAD");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    for method in ["GET", "HEAD", "PUT"] {
        let answer = router.http(method, "/api/v1/drain");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    let head = router.http("HEAD", "/api/v1/classes");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("content-length").is_some_and(|length| length != "0"), "{}", head.head);
}

#[test]
fn a_body_is_of_its_kind_its_length_and_in_json() {
    let router = RouterProcess::with(CLASSES);
    let master = || Request::post("/api/v1/classes/5/master");
    let ask = |request: Request| router.ask(&request);
    ask(master().body("{}")).assert_problem(415, "unsupported_media_type", "application/json");
    let plain = master().header("content-type", "text/plain").body("{}");
    ask(plain).assert_problem(415, "unsupported_media_type", "`text/plain`");
    ask(master().json("{")).assert_problem(400, "bad_request", "line 1 column 1");
    ask(master().json("")).assert_problem(400, "bad_request", "EOF");
    ask(master().json([0xff])).assert_problem(400, "bad_request", "the body can't be read");
    let long = format!("{{\"id\": \"{}\"}}", "x".repeat(70_000));
    ask(master().json(long)).assert_problem(413, "too_large", "the limit of 65536 bytes");
    ask(Request::post("/api/v1/reload").json("{}")).assert_problem(
        400,
        "bad_request",
        "takes no body",
    );
    // Of chunks nobody knows the length beforehand.
    let mut stream = http::connect(router.admin()).expect("it is accepted");
    let head = "POST /api/v1/classes/5/master HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("it is sent");
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    // It is cut off somewhere in the third.
    for _ in 0..3 {
        let _ = stream.write_all(chunk.as_bytes());
    }
    let answer = http::Response::read(&mut stream).expect("an answer");
    answer.assert_problem(413, "too_large", "the limit of 65536 bytes");
}

#[test]
fn what_is_not_http_ends_its_connection_only() {
    let router = RouterProcess::start();
    for garbage in ["\x16\x03\x01\0\0", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = http::connect(router.admin()).expect("it is accepted");
        stream.write_all(garbage.as_bytes()).expect("it is sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the connection ends");
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    assert_eq!(router.http("GET", "/healthz").status, 200);
}

#[test]
fn a_client_that_dribbles_its_request_is_given_up() {
    let router = RouterProcess::start();
    let mut head = http::connect(router.admin()).expect("it is accepted");
    head.write_all(b"GET /healthz HTTP/1.1\r\nho").expect("it is sent");
    let mut body = http::connect(router.admin()).expect("it is accepted");
    body.write_all(
        b"POST /api/v1/classes/5/master HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
          content-length: 20\r\n\r\n{\"id\"",
    )
    .expect("it is sent");
    let mut rest = Vec::new();
    head.read_to_end(&mut rest).expect("the connection ends");
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
    let answer = http::Response::read(&mut body).expect("an answer");
    answer.assert_problem(408, "request_timeout", "did not come within 10 s");
}

#[test]
fn a_thousand_idle_connections_hold_up_neither_operators_nor_frames() {
    let router = RouterProcess::start();
    let mut one = router.join(&["5.1"]);
    let mut two = router.join(&["5.2"]);
    let idle: Vec<TcpStream> =
        (0..1_000).map(|_| http::connect(router.admin()).expect("it is accepted")).collect();
    for n in 0..100_u8 {
        one.send(&direct(one.id(), two.id(), [n]));
        assert_eq!(two.expect_data().payload, [n].as_slice());
        if n % 10 == 0 {
            assert_eq!(router.get("/api/v1/sessions")["total"], 2);
        }
    }
    drop(idle);
}
