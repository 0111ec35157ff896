//! Promises about the first connection.

use std::time::Duration;

use crate::support::*;
use switchboard::{ConnectError, Direct, Event, ForwardError, Node, RefusalCode, Service};
use switchboard_protocol::Control;

#[tokio::test]
async fn a_node_says_who_it_is_and_what_it_offers() {
    let router = FakeRouter::start().await;
    let builder = router
        .node()
        .weight(3)
        .metadata("zone", "eu")
        .also(Service::from("gamesvr.2").weight(0))
        .also("matchsvr")
        .name("test")
        .token("secret")
        .heartbeat(Duration::from_millis(1500))
        .watch(GAMESVR);
    let (node, session) = router.connect(builder).await;
    let hello = &session.hello;
    assert_eq!((hello.version, hello.name.as_str(), hello.token.as_str()), (1, "test", "secret"));
    assert_eq!((hello.heartbeat_ms, hello.watch.as_slice()), (1500, [GAMESVR].as_slice()));
    assert!(hello.incarnation > 0);
    let [first, second, third] = hello.services.as_slice() else { panic!("{hello:?}") };
    assert_eq!((first.id, first.weight), (id(MATCHSVR, 1).raw(), 3));
    assert_eq!(first.metadata["zone"], "eu");
    let named = (second.class.as_str(), second.instance, second.weight);
    assert_eq!(named, ("gamesvr", 2, 0));
    assert_eq!((third.class.as_str(), third.instance, third.id), ("matchsvr", 0, 0));
    let assigned = id(MATCHSVR, 1 << 23);
    assert_eq!(node.id(), id(MATCHSVR, 1));
    assert_eq!(node.ids(), [id(MATCHSVR, 1), id(GAMESVR, 2), assigned]);
    assert_eq!(node.class("gamesvr"), Some(GAMESVR));
}

#[tokio::test]
async fn a_later_program_has_a_larger_incarnation() {
    let router = FakeRouter::start().await;
    let (_first, one) = router.connect(router.node()).await;
    let (_second, two) = router.connect(router.node()).await;
    assert!(one.hello.incarnation < two.hello.incarnation);
}

#[tokio::test]
async fn a_connected_node_can_send_at_once_and_its_first_event_says_so() {
    let router = FakeRouter::start().await;
    let (node, mut session) = router.connect(router.node()).await;
    node.forward(Direct, "3.1", "hello", ()).unwrap();
    assert_eq!(session.data().await.header.source, id(MATCHSVR, 1).raw());
    let first = within(node.events().next()).await;
    let ids = vec![id(MATCHSVR, 1)];
    assert_eq!(
        first,
        Some(Event::Connected { router: router.address(), name: "fake".to_owned(), ids })
    );
}

#[tokio::test]
async fn connecting_to_nothing_fails_and_names_every_address() {
    let gone = FakeRouter::start().await.address();
    let builder = Node::builder("5.1").router(&gone).router("unix:/nowhere/at/all");
    let error = within(builder.connect()).await.unwrap_err();
    assert!(matches!(&error, ConnectError::Unreachable { tried } if tried.len() == 2), "{error}");
    let text = error.to_string();
    assert!(text.contains(&gone) && text.contains("unix:/nowhere/at/all"), "{text}");
}

#[tokio::test]
async fn a_refusal_is_told_with_code_and_text() {
    let router = FakeRouter::start().await;
    let (result, ()) = tokio::join!(within(router.node().connect()), async {
        router.accept().await.refuse(RefusalCode::UnknownClass, "no class `matchsvr`").await;
    });
    match result.unwrap_err() {
        ConnectError::Refused { router: at, code, text } => {
            assert_eq!((at, code), (router.address(), RefusalCode::UnknownClass));
            assert_eq!(text, "no class `matchsvr`");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_router_that_does_not_answer_is_given_up_in_time() {
    let router = FakeRouter::start().await;
    let builder = router.node().connect_timeout(Duration::from_millis(50));
    let (result, _session) = tokio::join!(within(builder.connect()), router.accept());
    let text = result.unwrap_err().to_string();
    assert!(text.contains("no answer within 50ms"), "{text}");
}

#[tokio::test]
async fn what_is_not_a_router_is_told_as_such() {
    let router = FakeRouter::start().await;
    let (result, ()) = tokio::join!(within(router.node().connect()), async {
        let mut session = router.accept().await;
        session.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let text = result.unwrap_err().to_string();
    assert!(text.contains("what answers is not a router"), "{text}");
}

#[tokio::test]
async fn routers_are_tried_in_turn_until_one_takes_the_node() {
    let gone = FakeRouter::start().await.address();
    let (full, free) = (FakeRouter::start().await, FakeRouter::start().await);
    let builder = Node::builder("5.1").router(gone).router(full.address()).router(free.address());
    let (node, (), _session) = tokio::join!(
        within(builder.connect()),
        async { full.accept().await.refuse(RefusalCode::LimitExceeded, "full").await },
        free.welcome(),
    );
    assert_eq!(node.unwrap().id(), id(MATCHSVR, 1));
}

#[tokio::test]
async fn a_token_that_one_router_does_not_know_yet_is_shown_to_the_next() {
    for code in [RefusalCode::Unauthorized, RefusalCode::NotAllowed] {
        let (old, new) = (FakeRouter::start().await, FakeRouter::start().await);
        let builder = old.node().router(new.address()).token("the-new-secret");
        let builder = builder.backoff(Duration::ZERO, Duration::ZERO);
        let (node, (), second) = tokio::join!(
            within(builder.connect()),
            async { old.accept().await.refuse(code, "not yet").await },
            new.welcome(),
        );
        assert_eq!(second.hello.token, "the-new-secret");
        let node = node.unwrap();
        // Nor is the first one forgotten.
        old.accept().await.refuse(code, "still not").await;
        assert_eq!(old.welcome().await.hello.token, "the-new-secret");
        let mut events = node.events();
        let refused = event(&mut events, |event| match event {
            Event::Refused { code, text } => Some((*code, text.clone())),
            _ => None,
        });
        assert_eq!(refused.await, (code, "still not".to_owned()));
    }
}

#[tokio::test]
async fn a_bad_option_is_an_error_before_anything_is_dialled() {
    let text = |builder: switchboard::Builder| async {
        let error = within(builder.connect()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Option { .. }), "{error}");
        error.to_string()
    };
    let bad = text(Node::builder("matchsvr.one")).await;
    assert!(bad.starts_with("builder: `matchsvr.one` is not a service"), "{bad}");
    let bad = text(Node::builder("5.1").also("300.1")).await;
    assert!(bad.starts_with("also: `300.1` is not a service"), "{bad}");
    let bad = text(Node::builder("5.1").router("localhost")).await;
    assert!(bad.starts_with("router: `localhost` is not an address"), "{bad}");
}

#[tokio::test]
async fn a_frame_that_overtakes_welcome_is_not_lost() {
    let router = FakeRouter::start().await;
    let builder = router.node().on("ping", async |_: switchboard::Caller, ()| Ok("pong"));
    let (_node, mut session) = tokio::join!(within(builder.connect()), async {
        let mut session = router.accept().await;
        session.send(call(7, &request("ping"))).await;
        session.welcome().await;
        session
    });
    assert_eq!(session.data().await.payload, b"\x91\xa4pong"[..]);
}

#[tokio::test]
async fn a_name_to_watch_is_looked_up_when_the_router_has_told_its_names() {
    let router = FakeRouter::start().await;
    let (_node, mut session) = router.connect(router.node().watch("gamesvr")).await;
    assert!(session.hello.watch.is_empty());
    match session.control().await {
        Control::Watch(watch) => assert_eq!(watch.class, GAMESVR),
        other => panic!("{other:?}"),
    }
    let builder = router.node().watch("chat");
    let (result, _session) = tokio::join!(within(builder.connect()), router.welcome());
    assert_eq!(result.unwrap_err().to_string(), "watch: the router knows no class `chat`");
}

#[tokio::test]
async fn a_node_connects_through_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("switchboard-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let builder = Node::builder("5.1").router(format!("unix:{}", path.display()));
    let (node, stream) = tokio::join!(within(builder.connect()), async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 16);
        let welcome = switchboard_protocol::control::Welcome {
            ids: vec![id(MATCHSVR, 1)],
            ..Default::default()
        };
        let bytes = Control::Welcome(welcome).to_frame().to_bytes();
        stream.write_all(&bytes).await.unwrap();
        stream
    });
    let node = node.unwrap();
    assert_eq!(node.forward(Direct, "3.1", "hello", ()), Ok(()));
    assert_eq!(
        node.forward(switchboard::Master, "gamesvr", "hello", ()),
        Err(ForwardError::UnknownClass("gamesvr".to_owned()))
    );
    drop(stream);
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_class_to_watch_may_be_given_in_digits_and_an_instance_may_not() {
    let router = FakeRouter::start().await;
    let (_node, mut session) = router.connect(router.node().watch("3")).await;
    match session.control().await {
        Control::Watch(watch) => assert_eq!(watch.class, GAMESVR),
        other => panic!("{other:?}"),
    }
    let builder = router.node().watch(id(GAMESVR, 1));
    let (result, _session) = tokio::join!(within(builder.connect()), router.welcome());
    let text = result.unwrap_err().to_string();
    assert_eq!(text, "watch: `3.1` is one instance, not a class: to reach it, use Direct");
}

#[tokio::test]
async fn a_welcome_without_an_id_for_each_service_is_no_welcome() {
    let router = FakeRouter::start().await;
    let (result, ()) = tokio::join!(within(router.node().also("3.2").connect()), async {
        let mut session = router.accept().await;
        session.welcome_with(|welcome| welcome.ids.truncate(1)).await;
    });
    let text = result.unwrap_err().to_string();
    assert!(text.contains("1 ids for 2 services"), "{text}");
}
