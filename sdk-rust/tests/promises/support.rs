//! A router that does what a test tells it to, frame by frame. It routes nothing: the test reads
//! what the node sent and answers by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use switchboard::{Builder, Event, Events, Node};
use switchboard_protocol::control::{Hello, Service, Welcome};
use switchboard_protocol::{
    Class, Control, Flags, Frame, Header, Instance, Kind, Mode, Reason, RefusalCode, Report,
    ServiceId, control,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// No condition is waited for any longer than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) const MATCHSVR: Class = Class::of(5);
pub(crate) const GAMESVR: Class = Class::of(3);

/// A listening fake.
pub(crate) struct FakeRouter {
    listener: TcpListener,
}

/// One node's connection to it.
pub(crate) struct Session {
    stream: TcpStream,
    buffer: BytesMut,
    pub(crate) hello: Hello,
}

impl FakeRouter {
    pub(crate) async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// A builder for `matchsvr.1` that knows this router and loses no time.
    pub(crate) fn node(&self) -> Builder {
        Node::builder("5.1")
            .router(self.address())
            .backoff(Duration::from_millis(1), Duration::from_millis(20))
    }

    /// Takes a connection and reads its Hello.
    pub(crate) async fn accept(&self) -> Session {
        within(async {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut session = Session { stream, buffer: BytesMut::new(), hello: Hello::default() };
            match session.control().await {
                Control::Hello(hello) => session.hello = hello,
                other => panic!("the first message is Hello, not {other:?}"),
            }
            session
        })
        .await
    }

    /// Takes a connection and welcomes it.
    pub(crate) async fn welcome(&self) -> Session {
        let mut session = self.accept().await;
        session.welcome().await;
        session
    }

    /// Connects a node, and gives both ends.
    pub(crate) async fn connect(&self, builder: Builder) -> (Node, Session) {
        let (node, session) = tokio::join!(within(builder.connect()), self.welcome());
        (node.unwrap(), session)
    }
}

impl Session {
    pub(crate) async fn welcome(&mut self) {
        self.welcome_with(|_| {}).await;
    }

    pub(crate) async fn welcome_with(&mut self, change: impl FnOnce(&mut Welcome)) {
        let ids = self.hello.services.iter().map(assign).collect();
        let mut welcome = Welcome {
            version: 1,
            router: "fake".to_owned(),
            session: 1,
            ids,
            classes: names(),
            heartbeat_ms: 60_000,
            max_frame: 16 << 20,
            max_services: 16,
            ..Welcome::default()
        };
        change(&mut welcome);
        self.control_out(Control::Welcome(welcome)).await;
    }

    pub(crate) async fn refuse(&mut self, code: RefusalCode, text: &str) {
        let refused =
            control::Refused { code: code.raw(), text: text.to_owned(), ..Default::default() };
        self.control_out(Control::Refused(refused)).await;
    }

    pub(crate) async fn send(&mut self, frame: Frame) {
        self.stream.write_all(&frame.to_bytes()).await.unwrap();
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn control_out(&mut self, message: Control) {
        self.send(message.to_frame()).await;
    }

    /// The next frame of any kind; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        within(async {
            loop {
                if let Some(frame) = Frame::decode(&mut self.buffer, u32::MAX).unwrap() {
                    return Some(frame);
                }
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        })
        .await
    }

    /// The next data frame; control messages on the way are passed over.
    pub(crate) async fn data(&mut self) -> Frame {
        loop {
            let frame = self.frame().await.expect("the link is up");
            if matches!(frame.header.kind, Kind::Data(_)) {
                return frame;
            }
        }
    }

    /// The next control message that is not a heartbeat; data on the way is passed over.
    pub(crate) async fn control(&mut self) -> Control {
        loop {
            let frame = self.frame().await.expect("the link is up");
            if frame.header.kind == Kind::Control {
                match Control::decode(&frame.payload).unwrap() {
                    Control::Ping(_) => {}
                    message => return message,
                }
            }
        }
    }

    /// Ends the connection from this side.
    pub(crate) async fn shutdown(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads on until the node ends the connection.
    pub(crate) async fn ended(&mut self) {
        while self.frame().await.is_some() {}
    }

    /// Answers a call with the payload of a reply.
    pub(crate) async fn answer(&mut self, call: &Frame, flags: Flags, payload: &[u8]) {
        self.send(reply_to(call, flags, payload)).await;
    }

    /// Tells the sender of a frame what became of it.
    pub(crate) async fn report(&mut self, frame: &Frame, reason: Reason) {
        let report =
            Report { reason, targets: 0, header: frame.header, length: frame.len() as u32 };
        self.send(report.to_frame()).await;
    }

    /// A call from `gamesvr.9` to the node's class; gives the reply.
    pub(crate) async fn call(&mut self, payload: &[u8]) -> Frame {
        self.send(call(77, payload)).await;
        let reply = self.data().await;
        assert_eq!((reply.header.call_id, reply.header.target), (77, id(GAMESVR, 9).raw()));
        assert!(reply.header.flags.contains(Flags::REPLY));
        reply
    }
}

pub(crate) fn id(class: Class, instance: u32) -> ServiceId {
    ServiceId::new(class, Instance::new(instance).unwrap())
}

/// A call from `gamesvr.9` to whatever `matchsvr` there is.
pub(crate) fn call(call_id: u64, payload: &[u8]) -> Frame {
    let header = Header::to_class(id(GAMESVR, 9), Mode::Random, MATCHSVR);
    Frame::new(Header { flags: Flags::CALL, call_id, ..header }, payload.to_vec())
}

/// A one-way message from `gamesvr.9`.
pub(crate) fn message(payload: &[u8]) -> Frame {
    let header = Header::to_class(id(GAMESVR, 9), Mode::Random, MATCHSVR);
    Frame::new(header, payload.to_vec())
}

pub(crate) fn reply_to(call: &Frame, flags: Flags, payload: &[u8]) -> Frame {
    let header = Header::direct(id(GAMESVR, 9), ServiceId::from_raw(call.header.source).unwrap());
    let header = Header { flags: Flags::REPLY | flags, call_id: call.header.call_id, ..header };
    Frame::new(header, payload.to_vec())
}

/// `[method]`.
pub(crate) fn request(method: &str) -> Vec<u8> {
    rmp_serde::to_vec(&(method,)).unwrap()
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(work: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work.into_future()).await.expect("this happens in time")
}

/// The next event that `wanted` makes something of.
pub(crate) async fn event<T>(events: &mut Events, wanted: impl Fn(&Event) -> Option<T>) -> T {
    within(async {
        loop {
            let event = events.next().await.expect("the node is open");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    })
    .await
}

/// Waits until the node has a link again.
pub(crate) async fn connected(events: &mut Events) {
    event(events, |event| matches!(event, Event::Connected { .. }).then_some(())).await;
}

/// Waits until the node has lost its link; says why.
pub(crate) async fn lost(events: &mut Events) -> String {
    event(events, |event| match event {
        Event::Lost { why, .. } => Some(why.clone()),
        _ => None,
    })
    .await
}

fn names() -> BTreeMap<Class, String> {
    [(MATCHSVR, "matchsvr".to_owned()), (GAMESVR, "gamesvr".to_owned())].into()
}

fn assign(service: &Service) -> ServiceId {
    let class = match names().iter().find(|(_, name)| **name == service.class) {
        Some((class, _)) => *class,
        None => Class::of_target(service.id).unwrap(),
    };
    let instance = match (service.id & 0xff_ffff) | service.instance {
        0 => Instance::FIRST_ASSIGNED.raw(),
        given => given,
    };
    id(class, instance)
}
