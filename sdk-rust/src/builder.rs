//! Everything that can be said about a node before it connects. Each option has a default that is
//! good for most.

use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use switchboard_protocol::Class;
use switchboard_protocol::control::Hello;
use switchboard_protocol::limits::VERSION;
use tokio::sync::Semaphore;

use crate::args::FromArgs;
use crate::caller::Caller;
use crate::handlers::{self, HandlerError, Handlers};
use crate::node::Node;
use crate::service::Service;
use crate::serving::Hook;
use crate::shared::Options;
use crate::target::To;
use crate::window::Limits;

/// Where a node looks for a router unless told otherwise.
pub const DEFAULT_ROUTER: &str = "127.0.0.1:2000";

/// How long a call waits for its answer unless told otherwise.
pub const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes may wait for the router unless told otherwise: 8 MiB.
pub const DEFAULT_OUTBOX_BYTES: usize = 8 << 20;

/// How long a drain may take unless told otherwise.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How many finished idempotent calls are remembered, and for how long, unless told otherwise.
pub const DEFAULT_WINDOW: (usize, Duration) = (65_536, Duration::from_secs(60));

/// How many messages may wait for their handlers unless told otherwise.
pub const DEFAULT_HANDLER_QUEUE: usize = 8192;

/// How many handlers may wait for something at a time unless told otherwise.
pub const DEFAULT_HANDLERS_WAITING: usize = 1024;

/// How long an attempt to connect may take unless told otherwise.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The ceilings of the first and of the longest delay between attempts to reconnect, unless told
/// otherwise.
pub const DEFAULT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(5));

/// A node that is not connected yet, from [`Node::builder`].
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// use std::time::Duration;
/// use switchboard::{Caller, Node, Service};
///
/// let node = Node::builder("matchsvr.1")
///     .router(&address)
///     .weight(2)
///     .metadata("zone", "eu")
///     .also(Service::from("gamesvr").weight(0))
///     .name("match maker")
///     .token("from a file or the environment")
///     .heartbeat(Duration::from_secs(1))
///     .call_timeout(Duration::from_secs(2))
///     .connect_timeout(Duration::from_secs(3))
///     .backoff(Duration::from_millis(50), Duration::from_secs(2))
///     .outbox_bytes(1 << 20)
///     .handler_queue(1000)
///     .handlers_waiting(100)
///     .watch("gamesvr")
///     .on("ping", async |_: Caller, ()| Ok("pong"))
///     .connect()
///     .await?;
/// assert_eq!(node.ids().len(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "a node comes to life with `connect`"]
pub struct Builder {
    pub(crate) first: Service,
    pub(crate) more: Vec<Service>,
    pub(crate) routers: Vec<String>,
    pub(crate) watches: Vec<Watched>,
    pub(crate) hello: Hello,
    pub(crate) handlers: Handlers,
    pub(crate) options: Options,
    pub(crate) on_start: Option<Hook>,
    pub(crate) on_stop: Option<Hook>,
    pub(crate) handler_queue: usize,
    pub(crate) handlers_waiting: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: (Duration, Duration),
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { first, more, routers, options, .. } = self;
        let mut shown = f.debug_struct("Builder");
        shown.field("first", first).field("more", more).field("routers", routers);
        shown.field("options", options).finish_non_exhaustive()
    }
}

/// A class to watch from the start. Names can be looked up after the first Welcome.
#[derive(Debug)]
pub(crate) enum Watched {
    Class(Class),
    Name(String),
}

impl Builder {
    pub(crate) fn new(first: Service) -> Self {
        Self {
            first,
            more: Vec::new(),
            routers: Vec::new(),
            watches: Vec::new(),
            hello: Hello { version: VERSION, ..Hello::default() },
            handlers: Handlers::default(),
            options: Options {
                call_timeout: DEFAULT_CALL_TIMEOUT,
                drain_timeout: DEFAULT_DRAIN_TIMEOUT,
                outbox_bytes: DEFAULT_OUTBOX_BYTES,
                window: Limits {
                    entries: DEFAULT_WINDOW.0,
                    bytes: WINDOW_BYTES,
                    age: DEFAULT_WINDOW.1,
                },
            },
            on_start: None,
            on_stop: None,
            handler_queue: DEFAULT_HANDLER_QUEUE,
            handlers_waiting: DEFAULT_HANDLERS_WAITING,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            backoff: DEFAULT_BACKOFF,
        }
    }

    /// Where a router listens: `host:port` or `unix:/path`; [`DEFAULT_ROUTER`] unless given.
    ///
    /// May be given several times: the node connects to all of them, and to those that they tell
    /// it of. The frames for one class take one router for as long as that is there, so that their
    /// order holds; when it is lost, they take another at once.
    pub fn router(mut self, address: impl Display) -> Self {
        self.routers.push(address.to_string());
        self
    }

    /// Offers one more service.
    pub fn also(mut self, service: impl Into<Service>) -> Self {
        self.more.push(service.into());
        self
    }

    /// The first service's share of [`Random`](crate::Random) messages against the other
    /// instances'; 1 unless set, and 0 takes none.
    pub fn weight(mut self, weight: u16) -> Self {
        self.first = self.first.weight(weight);
        self
    }

    /// Adds something that watchers of the first service's class are told of it.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.first = self.first.metadata(key, value);
        self
    }

    /// What people call this node, in the router's logs.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.hello.name = name.into();
        self
    }

    /// What proves who this node is, if the router asks for it. Without the right one
    /// [`connect`](Self::connect) says `Refused`, with the code
    /// [`Unauthorized`](crate::RefusalCode::Unauthorized), or
    /// [`NotAllowed`](crate::RefusalCode::NotAllowed) where the token is not for a service's class. A node
    /// that had been connected before says so in [`Event::Refused`](crate::Event::Refused), and tries again.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.hello.token = token.into();
        self
    }

    /// How often to ping; the router may decide otherwise, and does unless this is set. Each side
    /// gives the other up after three heartbeats without a sign of life.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.hello.heartbeat_ms = u32::try_from(interval.as_millis()).unwrap_or(u32::MAX).max(1);
        self
    }

    /// How long a call waits for its answer; [`DEFAULT_CALL_TIMEOUT`] unless set.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.options.call_timeout = timeout;
        self
    }

    /// How many bytes may wait for the router before sending says
    /// [`Full`](crate::ForwardError::Full); [`DEFAULT_OUTBOX_BYTES`] unless set.
    pub fn outbox_bytes(mut self, bytes: usize) -> Self {
        self.options.outbox_bytes = bytes;
        self
    }

    /// How long [`Node::drain`] may take until the node is closed in any case;
    /// [`DEFAULT_DRAIN_TIMEOUT`] unless set.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// How many finished idempotent calls this node remembers, and for how long, so that a copy
    /// which comes late is answered and not run again; [`DEFAULT_WINDOW`] unless set. A copy that
    /// comes later still fails at its caller with
    /// [`OutcomeUnknown`](crate::CallError::OutcomeUnknown). Answers are kept up to 64 MiB in all.
    pub fn window(mut self, calls: usize, age: Duration) -> Self {
        self.options.window.entries = calls.max(1);
        self.options.window.age = age;
        self
    }

    /// Runs when the node is connected, before the first handler does.
    pub fn on_start<F, W>(mut self, start: F) -> Self
    where
        F: FnOnce(Node) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.on_start = Some(Box::new(|node| Box::pin(start(node))));
        self
    }

    /// Runs at the end of [`Node::drain`], when everything is handled and before the links close.
    pub fn on_stop<F, W>(mut self, stop: F) -> Self
    where
        F: FnOnce(Node) -> W + Send + Sync + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        self.on_stop = Some(Box::new(|node| Box::pin(stop(node))));
        self
    }

    /// How many messages may wait for their handlers, 1 at least; [`DEFAULT_HANDLER_QUEUE`] unless
    /// set. Beyond that a call is answered `busy`, and a one-way message is dropped and counted in
    /// [`Event::Overloaded`](crate::Event::Overloaded).
    pub fn handler_queue(mut self, messages: usize) -> Self {
        self.handler_queue = messages.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How many handlers may wait for something at a time, 1 at least;
    /// [`DEFAULT_HANDLERS_WAITING`] unless set. While so many do, no message is begun.
    pub fn handlers_waiting(mut self, handlers: usize) -> Self {
        self.handlers_waiting = handlers.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long one attempt to connect may take, from dialling to Welcome;
    /// [`DEFAULT_CONNECT_TIMEOUT`] unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The delays between attempts to reconnect: anything from nothing up to a ceiling, which is
    /// `min` at first and doubles up to `max`; [`DEFAULT_BACKOFF`] unless set.
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.backoff = (min, max);
        self
    }

    /// Handles a method from the first message on; see [`Node::on`].
    pub fn on<A, F, W, R>(self, method: impl Into<String>, handler: F) -> Self
    where
        A: FromArgs,
        F: Fn(Caller, A) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Serialize + 'static,
    {
        self.handlers.insert(method.into(), handlers::typed(handler));
        self
    }

    /// Handles everything that no method's handler takes, from the first message on; see
    /// [`Node::on_raw`].
    pub fn on_raw<F, W>(self, handler: F) -> Self
    where
        F: Fn(Caller, Bytes) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        self.handlers.insert_raw(handlers::raw(handler));
        self
    }

    /// Watches a class from the start, so that a later [`Node::watch`] knows it already.
    pub fn watch<'a>(mut self, class: impl Into<To<'a>>) -> Self {
        self.watches.push(match class.into() {
            To::Class(class) => Watched::Class(class),
            To::Number(raw) => Watched::Name(raw.to_string()),
            To::Id(id) => Watched::Name(id.to_string()),
            To::Name(name) => Watched::Name(name.to_owned()),
        });
        self
    }
}

/// How many bytes of answers a node remembers.
const WINDOW_BYTES: usize = 64 << 20;
