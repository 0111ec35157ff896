//! Who is let in with which token, what it may register then, and that no secret is ever shown.

use std::time::Duration;

use switchboard::{ConnectError, Event, Events, Master, Node, RegisterError};
use switchboard_protocol::control::{Hello, Register, Service};
use switchboard_protocol::{Control, RefusalCode};
use switchboard_tests::frames::{direct, hello, id, service};
use switchboard_tests::http::Request;
use switchboard_tests::router::run;
use switchboard_tests::{Incoming, RawNode, RouterBuilder, RouterProcess, Scratch, eventually};

const GAMES: &str = "the-secret-of-games";
const TOOLS: &str = "the-secret-of-tools";
const WRONG: &str = "the-secret-of-nobody";

const CLASSES: &str = "classes: {matchsvr: {id: 5}, gamesvr: {id: 6}}\n";
/// Of games in the environment, and for one class; of tools in the file, and for all.
const TOKENS: &str = "tokens: [{name: games, env: GAMES_TOKEN, register: [gamesvr]}, \
                      {name: tools, value: the-secret-of-tools}]\n";

fn router() -> RouterBuilder {
    let yaml = format!("{CLASSES}{TOKENS}log: trace\n");
    RouterBuilder::default().config(&yaml).env("GAMES_TOKEN", GAMES)
}

fn with(token: &str, ids: &[&str]) -> Hello {
    Hello { token: token.to_owned(), ..hello(ids) }
}

#[track_caller]
fn join(router: &RouterProcess, token: &str, ids: &[&str]) -> RawNode {
    let mut node = router.connect();
    node.hello(with(token, ids));
    node
}

#[track_caller]
fn refused(router: &RouterProcess, hello: Hello) -> (RefusalCode, String) {
    let mut node = router.connect();
    node.say(Control::Hello(hello));
    let refused = node.expect_refused();
    node.expect_closed();
    (RefusalCode::from_raw(refused.code), refused.text)
}

fn unauthorized(text: &str) -> (RefusalCode, String) {
    (RefusalCode::Unauthorized, text.to_owned())
}

fn unknown() -> (RefusalCode, String) {
    unauthorized("the token is not one that this router knows")
}

fn games_only(class: &str) -> (RefusalCode, String) {
    let text = format!("token `games` may not register class {class}; it is for gamesvr");
    (RefusalCode::NotAllowed, text)
}

fn reload(router: &RouterProcess, expected: &str) {
    let before = router.log().matches(expected).count();
    router.signal("HUP");
    eventually(expected, || router.log().matches(expected).count() > before);
}

#[track_caller]
fn assert_hides_secrets(text: &str) {
    for secret in [GAMES, TOOLS, WRONG, "the-secret"] {
        assert!(!text.contains(secret), "`{secret}` is shown in:\n{text}");
    }
}

// ---- coming in -----------------------------------------------------------------------------------

#[test]
fn who_shows_a_token_is_let_in_and_reachable() {
    let router = router().start();
    let mut tool = join(&router, TOOLS, &["5.1", "9.1"]);
    let mut game = join(&router, GAMES, &["6.1"]);
    game.send(&direct(game.id(), tool.id(), "calling is not restricted"));
    assert_eq!(tool.expect_data().payload, "calling is not restricted");
    tool.send(&direct(tool.id(), game.id(), "hello"));
    assert_eq!(game.expect_data().payload, "hello");
    assert_eq!(router.metric("switchboard_handshake_failures_total", &[]), 0);
    eventually("the log names the token", || {
        let log = router.log();
        let line =
            log.lines().find(|line| line.contains("gamesvr.1") && line.contains("registered"));
        line.is_some_and(|line| line.contains("token=\"games\""))
    });
}

#[test]
fn without_a_token_nobody_is_let_in_and_is_told_what_to_do() {
    let router = router().start();
    let expected = unauthorized("a token is required: give the node one with `token`");
    assert_eq!(refused(&router, hello(&["6.1"])), expected);
    assert_eq!(refused(&router, hello(&[])), expected, "not to watch either");
    assert_eq!(router.metric("switchboard_handshake_failures_total", &[]), 2);
    assert_eq!(router.metric("switchboard_instances", &[]), 0);
}

#[test]
fn a_token_that_is_not_known_is_refused_however_near_it_is() {
    let router = router().start();
    let near = [WRONG, "t", &GAMES[1..], &GAMES[..GAMES.len() - 1], "THE-SECRET-OF-GAMES"];
    for token in near {
        assert_eq!(refused(&router, with(token, &["6.1"])), unknown(), "{token}");
    }
    assert_eq!(refused(&router, with(&format!("{GAMES}\n"), &["6.1"])), unknown());
    assert_eq!(refused(&router, with(&"x".repeat(60_000), &["6.1"])), unknown());
    let failures = router.metric("switchboard_handshake_failures_total", &[]);
    assert_eq!(failures, near.len() as u64 + 2);
}

#[test]
fn a_router_that_asks_for_no_token_lets_in_who_shows_one() {
    for yaml in ["", "tokens: []\n"] {
        let router = RouterProcess::with(yaml);
        join(&router, WRONG, &["5.1"]).sync();
        join(&router, "", &["5.2"]).sync();
    }
}

#[test]
fn a_secret_in_a_file_is_taken_without_the_end_of_its_line() {
    let scratch = Scratch::new();
    for (n, end) in ["", "\n", "\r\n"].into_iter().enumerate() {
        let path = scratch.write(&format!("token{n}"), &format!("{GAMES}{end}"));
        let yaml = format!("tokens: [{{name: games, file: '{}'}}]\n", path.display());
        let router = RouterProcess::with(&yaml);
        join(&router, GAMES, &["5.1"]).sync();
        assert_eq!(refused(&router, with(&format!("{GAMES}\n"), &["5.2"])), unknown());
    }
}

// ---- registering ---------------------------------------------------------------------------------

#[test]
fn a_class_that_the_token_is_not_for_is_refused_at_hello() {
    let router = router().start();
    assert_eq!(refused(&router, with(GAMES, &["5.1"])), games_only("matchsvr"));
    assert_eq!(refused(&router, with(GAMES, &["5.0"])), games_only("matchsvr"));
    assert_eq!(refused(&router, with(GAMES, &["6.1", "9.1"])), games_only("9"));
    let by_name = Service { class: "matchsvr".to_owned(), ..Service::default() };
    let by_name = Hello { services: vec![by_name], ..with(GAMES, &[]) };
    assert_eq!(refused(&router, by_name), games_only("matchsvr"));
    assert_eq!(router.metric("switchboard_handshake_failures_total", &[]), 4);
    assert_eq!(router.metric("switchboard_instances", &[]), 0, "all or nothing");
}

#[test]
fn a_class_that_the_token_is_not_for_is_refused_at_register_and_the_session_lives() {
    let router = router().start();
    let mut game = join(&router, GAMES, &["6.1"]);
    let services = vec![service("6.2"), service("5.1")];
    game.say(Control::Register(Register { request: 7, services }));
    let refused = game.expect_refused();
    assert_eq!(refused.request, Some(7));
    assert_eq!((RefusalCode::from_raw(refused.code), refused.text), games_only("matchsvr"));
    assert_eq!(router.metric("switchboard_instances", &[]), 1, "all or nothing");
    game.say(Control::Register(Register { request: 8, services: vec![service("6.2")] }));
    let ids = game.expect("Registered", |incoming| match incoming {
        Incoming::Control(Control::Registered(answer)) => Some(answer.ids.clone()),
        _ => None,
    });
    assert_eq!(ids, [id("6.2")]);
    assert_eq!(router.metric("switchboard_handshake_failures_total", &[]), 0);
}

#[test]
fn operators_see_where_a_secret_stands_and_never_what_it_says() {
    let router = router().start();
    let config = router.http("GET", "/api/v1/config");
    assert_hides_secrets(&config.body);
    assert_eq!(
        config.json()["tokens"],
        serde_json::json!([
            {"name": "games", "env": "GAMES_TOKEN", "register": ["gamesvr"]},
            {"name": "tools", "value": "hidden"},
        ])
    );
    let other = "tokens: [{name: tools, value: the-secret-of-nobody}]\n";
    router.rewrite_config(&format!("{CLASSES}{other}log: trace\n"));
    let reloaded = router.ask(&Request::post("/api/v1/reload"));
    assert_hides_secrets(&reloaded.body);
    assert_eq!(reloaded.json()["applied"], serde_json::json!(["tokens"]));
    assert_eq!(
        reloaded.json()["changes"][0]["to"],
        serde_json::json!([{"name": "tools", "value": "hidden"}])
    );
    assert_eq!(router.metric("switchboard_reloads_total", &[("outcome", "applied")]), 1);
}

// ---- reloading -----------------------------------------------------------------------------------

#[test]
fn a_reload_takes_new_tokens_for_new_sessions_and_leaves_the_old_ones() {
    let scratch = Scratch::new();
    let path = scratch.write("token", GAMES);
    let yaml = |register: &str| {
        let path = path.display();
        format!("{CLASSES}tokens: [{{name: games, file: '{path}', register: [{register}]}}]\n")
    };
    let router = RouterProcess::with(&yaml("gamesvr"));
    let mut old = join(&router, GAMES, &["6.1"]);
    // The list is the same, and what the file holds is not.
    scratch.write("token", TOOLS);
    reload(&router, "reloaded applied=\"tokens\" needs_restart=\"\"");
    assert_eq!(refused(&router, with(GAMES, &["6.2"])), unknown());
    let mut new = join(&router, TOOLS, &["6.2"]);
    // Other classes are for new sessions too.
    router.rewrite_config(&yaml("matchsvr"));
    reload(&router, "reloaded applied=\"tokens\" needs_restart=\"\"");
    join(&router, TOOLS, &["5.3"]).sync();
    for node in [&mut old, &mut new] {
        node.say(Control::Register(Register { request: 1, services: vec![service("5.9")] }));
        let refused = node.expect_refused();
        assert_eq!((RefusalCode::from_raw(refused.code), refused.text), games_only("matchsvr"));
        node.sync();
    }
    reload(&router, "reloaded applied=\"\" needs_restart=\"\"");
    // A mistake changes nothing.
    scratch.write("token", "short");
    reload(&router, "not reloaded: the old configuration stays in force");
    join(&router, TOOLS, &["5.4"]).sync();
    // With the last token gone, none is asked for.
    router.rewrite_config(CLASSES);
    reload(&router, "reloaded applied=\"tokens\" needs_restart=\"\"");
    router.join(&["9.1"]).sync();
    assert_hides_secrets(&router.log());
}

// ---- mistakes, and what is never shown ------------------------------------------------------------

#[test]
fn a_mistake_in_a_token_is_one_line_with_file_and_key_and_without_the_secret() {
    let scratch = Scratch::new();
    let short = scratch.write("short", "secret\n");
    let binary = scratch.file("binary");
    std::fs::write(&binary, b"the-secret\xff").expect("the scratch directory is writable");
    let (short, binary) = (short.display().to_string(), binary.display().to_string());
    let missing = scratch.file("missing").display().to_string();
    let range = "and a secret has 8 to 1024";
    let cases = [
        (
            "{name: a, env: NO_SUCH_TOKEN}".to_owned(),
            "tokens.a.env: `NO_SUCH_TOKEN` is not set in the router's environment: set it to the secret"
                .to_owned(),
        ),
        (
            format!("{{name: a, file: '{short}'}}"),
            format!("tokens.a.file: `{short}` holds 6 bytes, {range}"),
        ),
        (
            format!("{{name: a, file: '{missing}'}}"),
            format!("tokens.a.file: `{missing}`: No such file or directory (os error 2)"),
        ),
        (
            format!("{{name: a, file: '{binary}'}}"),
            format!("tokens.a.file: `{binary}`: stream did not contain valid UTF-8"),
        ),
        (
            format!("{{name: a, value: {GAMES}, register: [gamsvr]}}"),
            "tokens.a.register: `gamsvr` is no class: take a name from `classes`, or a number, 1 to 255"
                .to_owned(),
        ),
        (
            format!("{{name: a, value: {GAMES}, file: {TOOLS}}}"),
            "tokens.a: `value` and `file` are two secrets: give one of `env`, `file` and `value`"
                .to_owned(),
        ),
        (
            format!("{{name: a, value: {GAMES}}}, {{name: b, value: {GAMES}}}"),
            "tokens.b: `a` has the same secret: each token has one of its own".to_owned(),
        ),
        (
            GAMES.to_owned(),
            "tokens[0]: is not a token: write {name: games, env: GAMES_TOKEN}".to_owned(),
        ),
        (
            format!("{{name: a, value: [{GAMES}]}}"),
            "tokens.a.value: is not a text: put it in quotes".to_owned(),
        ),
    ];
    for (token, expected) in cases {
        let yaml = format!("{CLASSES}tokens: [{token}]\n");
        let path = scratch.write("router.yaml", &yaml).display().to_string();
        for args in [&["--config", &path, "--check"][..], &["--config", &path]] {
            let output = run(args);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(error, format!("router: {path}: {expected}\n"));
            assert!(output.stdout.is_empty(), "{output:?}");
            assert_hides_secrets(&error);
        }
    }
}

#[test]
fn no_secret_is_in_the_log_whatever_becomes_of_it() {
    let router = router().start();
    let _in = join(&router, GAMES, &["6.1"]);
    refused(&router, with(WRONG, &["6.2"]));
    refused(&router, with(GAMES, &["5.1"]));
    let mut second = join(&router, TOOLS, &["5.1"]);
    second.say(Control::Hello(with(TOOLS, &["5.2"])));
    assert_eq!(RefusalCode::from_raw(second.expect_refused().code), RefusalCode::InvalidMessage);
    // A token that is a number, and one that is followed by what can't be read.
    for body in [
        &b"\x92\xa5hello\x81\xa5token\xce\x07\x5b\xcd\x15"[..],
        b"\x92\xa5hello\x81\xa5token\xaathe-secret!",
    ] {
        let mut node = router.connect();
        let length = 16 + body.len() as u8;
        node.send_bytes(&[&[length, 0, 0, 0, 16][..], &[0; 11], body].concat());
        let refused = node.expect_refused();
        assert_eq!(RefusalCode::from_raw(refused.code), RefusalCode::InvalidMessage);
        assert_hides_secrets(&refused.text);
        node.expect_closed();
    }
    reload(&router, "reloaded applied=\"\"");
    router.expect_log("not admitted");
    let page = router.http("GET", "/metrics").body;
    let log = router.log();
    assert!(log.contains("token `games` may not register class matchsvr"), "{log}");
    assert_hides_secrets(&log);
    assert_hides_secrets(&page);
    assert!(!log.contains("123456789"), "{log}");
}

// ---- with the SDK --------------------------------------------------------------------------------

/// Waits for an event that `pick` takes.
async fn event<T>(events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let wait = async {
        loop {
            let event = events.next().await.expect("the node is not closed");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes in time")
}

async fn next_refusal(events: &mut Events) -> (RefusalCode, String) {
    event(events, |event| match event {
        Event::Refused { code, text } => Some((code, text)),
        _ => None,
    })
    .await
}

async fn connected(events: &mut Events) {
    event(events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
}

#[tokio::test]
async fn a_node_that_is_refused_is_told_why_by_connect_and_by_register() {
    let router = router().start();
    let builder = |service: &str| Node::builder(service).router(router.listen());
    for (builder, expected) in [
        (builder("gamesvr"), unauthorized("a token is required: give the node one with `token`")),
        (builder("gamesvr").token(WRONG), unknown()),
        (builder("matchsvr").token(GAMES), games_only("matchsvr")),
    ] {
        match builder.connect().await {
            Err(error @ ConnectError::Refused { .. }) => {
                assert_hides_secrets(&format!("{error} {error:?}"));
                let ConnectError::Refused { code, text, .. } = error else { continue };
                assert_eq!((code, text), expected);
            }
            other => panic!("{other:?}"),
        }
    }
    let games = builder("gamesvr").token(GAMES).connect().await.expect("it is let in");
    let (code, text) = games_only("matchsvr");
    assert_eq!(games.register("matchsvr.1").await, Err(RegisterError::Refused { code, text }));
    games.register("gamesvr.2").await.expect("it is for this class");
    let tools = builder("matchsvr.1").token(TOOLS);
    let tools = tools.on("ping", async |_: switchboard::Caller, ()| Ok("pong"));
    let _tools = tools.connect().await.expect("it is let in");
    let answer: String = games.call(Master, "matchsvr", "ping", ()).await.expect("an answer");
    assert_eq!(answer, "pong");
}

#[tokio::test]
async fn a_node_whose_token_is_not_known_any_more_says_so_and_is_back_when_it_is() {
    let scratch = Scratch::new();
    let address = format!("unix:{}", scratch.file("router.sock").display());
    let tokens = |secret: &str| format!("{CLASSES}tokens: [{{name: games, value: {secret}}}]\n");
    let start = |secret| RouterBuilder::default().listen(&address).config(&tokens(secret)).start();
    let first = start(GAMES);
    let builder = Node::builder("gamesvr.1").router(&address).token(GAMES);
    let backoff = (Duration::from_millis(10), Duration::from_millis(50));
    let node = builder.backoff(backoff.0, backoff.1).connect().await.expect("it is let in");
    let mut events = node.events();
    connected(&mut events).await;
    drop(first);
    let second = start(TOOLS);
    for _ in 0..3 {
        assert_eq!(next_refusal(&mut events).await, unknown());
    }
    second.rewrite_config(&tokens(GAMES));
    reload(&second, "reloaded applied=\"tokens\"");
    connected(&mut events).await;
    eventually("it is registered", || second.metric("switchboard_instances", &[]) == 1);
    assert_hides_secrets(&second.log());
}
