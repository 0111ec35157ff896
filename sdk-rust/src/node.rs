//! The handle that programs hold: a cheap clone whose every method goes to the shared state. The
//! last clone that is dropped closes the link.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use switchboard_protocol::control::{Register, Unregister};
use switchboard_protocol::{Class, Control, ServiceId};
use tokio::time::timeout;

use crate::args::{self, Args, FromArgs};
use crate::builder::Builder;
use crate::call::{Call, RawCall};
use crate::caller::Caller;
use crate::error::{CallError, ForwardError, RegisterError};
use crate::event::Events;
use crate::handlers::{self, HandlerError};
use crate::message::Message;
use crate::service::Service;
use crate::shared::{Shared, with_scratch};
use crate::target::{Pick, PickOne, To};
use crate::watch::Watcher;

/// A member of the cluster: calls others, and is called.
///
/// Cloning is cheap; all clones are one node with one link. Dropping the last one closes it.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// use switchboard::{Caller, Node, Random};
///
/// let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// node.on("add", async |_: Caller, (a, b): (u32, u32)| Ok(a + b));
///
/// let sum: u32 = node.call(Random, "matchsvr", "add", (2, 3)).await?;
/// assert_eq!(sum, 5);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Node {
    handle: Arc<Handle>,
}

/// Closes the node when the last clone is gone.
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Node {
    /// A node that offers a service: `"matchsvr.1"`, `"5.1"`, a [`ServiceId`], or with an instance
    /// that the router assigns `"matchsvr"` or a [`Class`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// use switchboard::{Class, Node};
    ///
    /// let first = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// let second = Node::builder("5.2").router(&address).connect().await?;
    /// let third = Node::builder(Class::of(5)).router(&address).connect().await?;
    /// assert_eq!(first.id().to_string(), "5.1");
    /// assert!(third.id().instance().is_assigned());
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(service: impl Into<Service>) -> Builder {
        Builder::new(service.into())
    }

    /// The node's first id, under which it sends. It changes only where the router assigns it, with
    /// each reconnect, or when the node gives it up.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        self.shared().identity().first()
    }

    /// All ids of the node.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// use switchboard::Node;
    ///
    /// let node = Node::builder("matchsvr.1").also("gamesvr.7").router(&address).connect().await?;
    /// assert_eq!(node.ids(), ["5.1".parse()?, "3.7".parse()?]);
    /// assert_eq!(node.ids()[0], node.id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ids(&self) -> Vec<ServiceId> {
        self.shared().ids()
    }

    /// The class that the router knows under a name.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Class, Node};
    ///
    /// assert_eq!(node.class("matchsvr"), Some(Class::of(5)));
    /// assert_eq!(node.class("bakery"), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn class(&self, name: &str) -> Option<Class> {
        self.shared().identity().class(name)
    }

    /// The epoch under which this node is master of a class; `None` if it is not the master, or
    /// can't know since the link is away.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Class, Event, Node};
    ///
    /// const MATCHSVR: Class = Class::of(5);
    /// let mut events = node.events();
    /// while let Some(event) = events.next().await {
    ///     if let Event::Promoted { class: MATCHSVR, epoch } = event {
    ///         assert_eq!(node.mastership(MATCHSVR), Some(epoch));
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mastership(&self, class: Class) -> Option<u64> {
        self.shared().mastership(class)
    }

    /// Sends a message for which no answer is expected, and returns at once.
    ///
    /// `Ok` means that it is in the outbox of a live link. Whether it arrives is known to the
    /// router; [`Node::message`] with `report` has it told. `args` is a tuple: `()` for none,
    /// `(x,)` for one.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Broadcast, Class, Direct, ForwardError, Hash, Master, Node};
    ///
    /// const MATCHSVR: Class = Class::of(5);
    /// let player_id = 4711_u64;
    /// node.forward(Master, MATCHSVR, "join_match", (player_id, "ranked"))?;
    /// node.forward(Hash(player_id), "gamesvr", "save", (player_id,))?;
    /// node.forward(Broadcast, "gamesvr", "closing", ())?;
    /// node.forward(Direct, "gamesvr.2", "kick", (player_id,))?;
    ///
    /// let error = node.forward(Master, "bakery", "bake", ()).unwrap_err();
    /// assert_eq!(error, ForwardError::UnknownClass("bakery".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward<'a>(
        &self,
        mode: impl Pick,
        to: impl Into<To<'a>>,
        method: &str,
        args: impl Args,
    ) -> Result<(), ForwardError> {
        let header = self.shared().route(&mode, to.into())?.header();
        with_scratch(|payload| {
            args::write_request(method, &args, payload).map_err(ForwardError::Encode)?;
            self.shared().push(header, payload)
        })
    }

    /// Sends a payload as it is, without the convention of method and arguments. It reaches the
    /// handler set with [`Node::on_raw`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Node, Random};
    ///
    /// node.forward_raw(Random, "gamesvr", b"any bytes")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward_raw<'a>(
        &self,
        mode: impl Pick,
        to: impl Into<To<'a>>,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), ForwardError> {
        let header = self.shared().route(&mode, to.into())?.header();
        self.shared().push(header, payload.as_ref())
    }

    /// A message like [`Node::forward`]'s, with options.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use std::time::Duration;
    /// use switchboard::{Broadcast, Event, Master, Node, Reason};
    ///
    /// let position = (1.5, 2.5);
    /// node.message(Broadcast, "matchsvr", "moved", (position,)).droppable().send()?;
    ///
    /// let ttl = Duration::from_millis(100);
    /// node.message(Master, "gamesvr", "start", ()).report().ttl(ttl).send()?;
    /// let mut events = node.events();
    /// while let Some(event) = events.next().await {
    ///     if let Event::Undelivered { reason, .. } = event {
    ///         assert_eq!(reason, Reason::NoInstance);
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn message<'a, 't, A: Args>(
        &'a self,
        mode: impl Pick,
        to: impl Into<To<'t>>,
        method: &'a str,
        args: A,
    ) -> Message<'a, A> {
        Message::new(self, self.shared().route(&mode, to.into()), method, args)
    }

    /// Calls a method and waits for its result.
    ///
    /// The call is sent when it is awaited. It ends in any case: with the result, with an error of
    /// the other side, with the router's word that nobody can take it, or at its deadline
    /// ([`Builder::call_timeout`](crate::Builder::call_timeout), or `.timeout(..)` on the call).
    ///
    /// A call picks one instance. [`Broadcast`](crate::Broadcast) has as many answers as there are
    /// instances, and does not compile here.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use std::time::Duration;
    /// use switchboard::{CallError, Caller, Hash, Master, Node, Reason};
    ///
    /// node.on("level", async |_: Caller, (player,): (u64,)| Ok(player % 60));
    /// let level: u64 = node.call(Hash(4711), "matchsvr", "level", (4711,)).await?;
    /// assert_eq!(level, 31);
    ///
    /// let call = node.call::<u32>(Master, "gamesvr", "load", ()).timeout(Duration::from_secs(1));
    /// assert_eq!(call.await, Err(CallError::NoRoute(Reason::NoInstance)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn call<'a, R>(
        &self,
        mode: impl PickOne,
        to: impl Into<To<'a>>,
        method: &str,
        args: impl Args,
    ) -> Call<R> {
        let mut payload = Vec::new();
        let written = args::write_request(method, &args, &mut payload).map_err(CallError::Encode);
        let payload = written.map(|()| Bytes::from(payload));
        Call::new(self.call_payload(mode, to.into(), payload))
    }

    /// Calls with a payload as it is, and waits for the payload of the reply.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Caller, Node, Random};
    ///
    /// node.on_raw(async |_: Caller, payload| Ok(payload));
    /// let reply = node.call_raw(Random, "matchsvr", "any bytes").await?;
    /// assert_eq!(reply, "any bytes");
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_raw<'a>(
        &self,
        mode: impl PickOne,
        to: impl Into<To<'a>>,
        payload: impl Into<Bytes>,
    ) -> RawCall {
        self.call_payload(mode, to.into(), Ok(payload.into()))
    }

    fn call_payload(
        &self,
        mode: impl PickOne,
        to: To<'_>,
        payload: Result<Bytes, CallError>,
    ) -> RawCall {
        let route = self.shared().route(&mode, to).map_err(CallError::from);
        let request = route.and_then(|route| Ok((route.header(), payload?)));
        RawCall::new(self.clone(), request, self.shared().call_timeout)
    }

    /// Handles a method, in place of the handler that it had.
    ///
    /// The handler takes who sent the message, and the arguments as a tuple of owned types. A
    /// caller gets what it returns; to a one-way message nobody listens.
    ///
    /// Handlers are started in the order in which messages came. One that doesn't wait is finished
    /// before the next is started; those that wait run side by side. A panic is answered with the
    /// code `panic` and harms nothing else.
    ///
    /// An async closure that uses something from outside takes the form
    /// `move |from, args| { let db = db.clone(); async move { .. } }`. A handler that holds a clone
    /// of its own node keeps the node alive; [`Caller::node`] does not.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use switchboard::{Caller, HandlerError, Node, Random};
    ///
    /// node.on("join_match", async |from: Caller, (player_id, mode): (u64, String)| {
    ///     if mode != "ranked" {
    ///         return Err(HandlerError::new("no_such_mode", format!("{mode}: try ranked")));
    ///     }
    ///     Ok(format!("{player_id} of {} is in", from.class()))
    /// });
    ///
    /// let visits = Arc::new(AtomicU32::new(0));
    /// node.on("visit", move |_: Caller, ()| {
    ///     let visits = Arc::clone(&visits);
    ///     async move { Ok(visits.fetch_add(1, Ordering::Relaxed) + 1) }
    /// });
    ///
    /// let answer: String = node.call(Random, "matchsvr", "join_match", (7, "ranked")).await?;
    /// assert_eq!(answer, "7 of 5 is in");
    /// assert_eq!(node.call::<u32>(Random, "matchsvr", "visit", ()).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<A, F, W, R>(&self, method: impl Into<String>, handler: F)
    where
        A: FromArgs,
        F: Fn(Caller, A) -> W + Send + Sync + 'static,
        W: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Serialize + 'static,
    {
        self.shared().handlers.insert(method.into(), handlers::typed(handler));
    }

    /// Handles everything that no method's handler takes, payloads as they are. What the handler
    /// returns is the payload of the reply.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use bytes::Bytes;
    /// use switchboard::{Caller, HandlerError, Node, Random};
    ///
    /// node.on_raw(async |_: Caller, payload: Bytes| {
    ///     if payload.is_empty() {
    ///         return Err(HandlerError::new("empty", "there is nothing to reverse"));
    ///     }
    ///     Ok(payload.iter().rev().copied().collect())
    /// });
    /// assert_eq!(node.call_raw(Random, "matchsvr", "abc").await?, "cba");
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_raw<F, W>(&self, handler: F)
    where
        F: Fn(Caller, Bytes) -> W + Send + Sync + 'static,
        W: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        self.shared().handlers.insert_raw(handlers::raw(handler));
    }

    /// Follows who is in a class and who is its master, across reconnects.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Membership, Node};
    ///
    /// let mut watcher = node.watch("gamesvr")?;
    /// let game = Node::builder("gamesvr.2").metadata("map", "harbour").router(&address);
    /// let game = game.connect().await?;
    /// while let Some(change) = watcher.next().await {
    ///     if let Membership::Joined { id, metadata } = change {
    ///         assert_eq!((id, metadata["map"].as_str()), (game.id(), "harbour"));
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch<'a>(&self, class: impl Into<To<'a>>) -> Result<Watcher, ForwardError> {
        let class = self.shared().class(class.into())?;
        match self.shared().closed() {
            Some(reason) => Err(ForwardError::Closed(reason)),
            None => Ok(self.shared().watches.watch(class, self.shared())),
        }
    }

    /// What happens to the node from now on; for the first who asks, from the beginning.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Event, Node};
    ///
    /// let first = node.events().next().await;
    /// assert!(matches!(first, Some(Event::Connected { .. })));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self) -> Events {
        self.shared().events.events()
    }

    /// Tells the router how busy this node is, for [`LeastLoaded`](crate::LeastLoaded): any number
    /// that grows with the work, such as players online. Cheap: at most ten reports a second are
    /// sent, of which each has the latest value, and a new link begins with one.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::Node;
    ///
    /// let players_online = 250;
    /// node.set_load(players_online);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_load(&self, load: u32) {
        self.shared().load.set(load);
    }

    /// Offers one more service over this link, and again after each reconnect.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Node, Service};
    ///
    /// let id = node.register(Service::from("gamesvr").metadata("map", "harbour")).await?;
    /// assert!(node.ids().contains(&id));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn register(&self, service: impl Into<Service>) -> Result<ServiceId, RegisterError> {
        let service = service.into().into_wire().map_err(RegisterError::Service)?;
        let shared = self.shared();
        let ticket = shared.requests.open();
        let request = ticket.number;
        shared.change_identity(|identity| identity.ask(request, service.clone()));
        let sent =
            shared.control(&Control::Register(Register { request, services: vec![service] }));
        if let Err(error) = sent {
            shared.change_identity(|identity| identity.deny(request));
            return Err(error);
        }
        let mut ticket = ticket;
        let answer = timeout(REGISTER_TIMEOUT, &mut ticket.answer).await;
        let ids = answer.map_err(|_| RegisterError::Timeout)?;
        let ids = ids.map_err(|_| RegisterError::LinkLost)??;
        ids.first().copied().ok_or(RegisterError::LinkLost)
    }

    /// Gives up one of the node's ids. When this returns, no message for it follows. A node keeps
    /// one id at least; to give up the last, close it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Node, RegisterError};
    ///
    /// let id = node.register("gamesvr.7").await?;
    /// node.unregister(id).await?;
    /// assert_eq!(node.unregister(id).await, Err(RegisterError::NotHeld(id)));
    /// assert_eq!(node.unregister(node.id()).await, Err(RegisterError::LastId(node.id())));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn unregister(&self, id: ServiceId) -> Result<(), RegisterError> {
        let shared = self.shared();
        shared.change_identity(|identity| match identity.ids().as_slice() {
            ids if !ids.contains(&id) => Err(RegisterError::NotHeld(id)),
            [_] => Err(RegisterError::LastId(id)),
            _ => {
                identity.remove(&[id]);
                Ok(())
            }
        })?;
        shared.demote(|held| held == id);
        let mut ticket = shared.requests.open();
        let unregister = Unregister { request: ticket.number, ids: vec![id] };
        if shared.control(&Control::Unregister(unregister)).is_err() {
            // Without a link the router has taken the id back already.
            return Ok(());
        }
        match timeout(REGISTER_TIMEOUT, &mut ticket.answer).await {
            Ok(Ok(Err(RegisterError::LinkLost)) | Err(_)) => Ok(()),
            Ok(Ok(answer)) => answer.map(|_| ()),
            Err(_) => Err(RegisterError::Timeout),
        }
    }

    /// Leaves in good order: gives the ids up, lets the outbox run empty, closes the socket. Takes
    /// no longer than about two seconds. All clones are closed with it, and calls under way fail.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{CloseReason, ForwardError, Master, Node};
    ///
    /// node.close().await;
    /// let error = node.forward(Master, "gamesvr", "start", ()).unwrap_err();
    /// assert_eq!(error, ForwardError::Closed(CloseReason::Local));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) {
        self.shared().lifecycle.request_close();
        self.shared().lifecycle.closed().await;
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    pub(crate) fn downgrade(&self) -> Weak<Handle> {
        Arc::downgrade(&self.handle)
    }

    pub(crate) fn upgrade(handle: &Weak<Handle>) -> Option<Self> {
        handle.upgrade().map(|handle| Self { handle })
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("ids", &self.ids()).finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lifecycle.request_close();
    }
}

/// How long the answer to a registration may take.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
