//! The handle that programs hold: a cheap clone whose every method goes to the shared state. The
//! last clone that is dropped closes the link. Its verbs for sending, handling and registering live in
//! `sending`, `handling` and `registering`.

use std::fmt;
use std::sync::{Arc, Weak};

use switchboard_protocol::{Class, ServiceId};

use crate::builder::Builder;
use crate::error::ForwardError;
use crate::event::Events;
use crate::service::Service;
use crate::shared::Shared;
use crate::target::To;
use crate::watch::Watcher;

/// A member of the cluster: calls others, and is called.
///
/// Cloning is cheap; all clones are one node. Dropping the last one closes its links.
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

    /// The node's first id, under which it sends. It changes when the node gives it up, and where it
    /// was assigned and is somebody else's when the node comes back from a time without any router.
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

    /// The name that the router has for a class; the first by the alphabet where it has several.
    #[must_use]
    pub fn class_name(&self, class: Class) -> Option<String> {
        self.shared().identity().class_name(class).map(str::to_owned)
    }

    /// The epoch under which this node is master of a class; `None` if it is not the master, or
    /// can't know. It is master while every router that it is connected to says so, and lays the
    /// office down two and a half heartbeats after the latest sign of life that its router is known
    /// to have had: almost half a heartbeat before a router elects another.
    ///
    /// An epoch grows with every change of the master. Write it beside what you change as master,
    /// and let the store refuse what comes with a lower one than it has seen: then a master that
    /// was paused at the wrong moment changes nothing when it wakes. The example `fence` shows it.
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
    ///         assert_eq!(node.epoch(MATCHSVR), Some(epoch));
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn epoch(&self, class: Class) -> Option<u64> {
        self.shared().epoch(class)
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
        let watcher = self.shared().watches.watch(class, self.shared());
        // ORDER: asked after the watcher is there. Either it hears of the end, or this does.
        match self.shared().closed() {
            Some(reason) => Err(ForwardError::Closed(reason)),
            None => Ok(watcher),
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
