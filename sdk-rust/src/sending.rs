//! How a node sends: forward, call, and both with payloads as they are.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use switchboard_protocol::Class;

use crate::args::{self, Args};
use crate::call::{Call, Prepared, RawCall};
use crate::collect::Collect;
use crate::error::{CallError, ForwardError};
use crate::message::Message;
use crate::meter::Meter;
use crate::node::Node;
use crate::shared::with_scratch;
use crate::tally::RAW;
use crate::target::{Broadcast, Pick, PickOne, To};

impl Node {
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
        let sent = with_scratch(|payload| {
            args::write_request(method, &args, payload).map_err(ForwardError::Encode)?;
            self.shared().push(header, payload)
        });
        self.shared().counted(header.target, method, sent)
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
        self.shared().counted(header.target, RAW, self.shared().push(header, payload.as_ref()))
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
        Call::new(self.call_payload(mode, to.into(), method, encode(method, &args)))
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
        self.call_payload(mode, to.into(), RAW, Ok(payload.into()))
    }

    /// Asks everybody of a class a question, this node's own instances excepted, and gathers the
    /// answers until all are there, or the deadline. What comes back tells who has not answered.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// use switchboard::{Caller, Node};
    ///
    /// let players = async |from: Caller, ()| Ok(from.node().id().instance().raw() * 10);
    /// let one = Node::builder("gamesvr.1").router(&address).on("players", players).connect().await?;
    /// let two = Node::builder("gamesvr.2").router(&address).on("players", players).connect().await?;
    /// let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    ///
    /// let counts = node.collect::<u32>("gamesvr", "players", ()).await?;
    /// assert!(counts.is_complete());
    /// assert_eq!(counts.answers.iter().filter_map(|(_, count)| count.as_ref().ok()).sum::<u32>(), 30);
    /// # drop((one, two));
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect<'a, R: DeserializeOwned>(
        &self,
        class: impl Into<To<'a>>,
        method: &str,
        args: impl Args,
    ) -> Collect<R> {
        let (meter, request) =
            self.request(&Broadcast, class.into(), method, encode(method, &args));
        Collect::new(self.clone(), meter, request, self.shared().options.call_timeout)
    }

    fn call_payload(
        &self,
        mode: impl PickOne,
        to: To<'_>,
        method: &str,
        payload: Result<Bytes, CallError>,
    ) -> RawCall {
        let (meter, request) = self.request(&mode, to, method, payload);
        RawCall::new(self.clone(), meter, request, self.shared().options.call_timeout)
    }

    fn request(
        &self,
        mode: &impl Pick,
        to: To<'_>,
        method: &str,
        payload: Result<Bytes, CallError>,
    ) -> (Option<Arc<Meter>>, Prepared) {
        let header = match self.shared().route(mode, to) {
            Ok(route) => route.header(),
            Err(error) => return (None, Err(error.into())),
        };
        let meter = Class::of_target(header.target)
            .map(|class| Arc::clone(self.shared().tally.called.meter(class, method, || true)));
        (meter, payload.map(|payload| (header, payload)))
    }
}

fn encode(method: &str, args: &impl Args) -> Result<Bytes, CallError> {
    let mut payload = Vec::new();
    args::write_request(method, args, &mut payload).map_err(ForwardError::Encode)?;
    Ok(payload.into())
}
