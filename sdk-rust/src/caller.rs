//! Who sent a message, as its handler sees it.

use std::time::Duration;

use switchboard_protocol::{Class, Header, Kind, Mode, ServiceId};

use crate::node::Node;

/// The sender of a message, and how the message came.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Caller, Direct, Hash, Mode, Node};
///
/// node.on("whoami", async |from: Caller, ()| {
///     // A node may be called by key, and may call back.
///     assert_eq!((from.mode(), from.key()), (Mode::Hash, Some(7)));
///     from.node().forward(Direct, from.id(), "you_asked", ())?;
///     Ok(from.id().to_string())
/// });
/// assert_eq!(node.call::<String>(Hash(7), "matchsvr", "whoami", ()).await?, "5.1");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Caller {
    node: Node,
    id: ServiceId,
    header: Header,
}

impl Caller {
    pub(crate) fn new(node: Node, id: ServiceId, header: Header) -> Self {
        Self { node, id, header }
    }

    /// Who sent it. `node.forward(Direct, from.id(), ...)` answers a one-way message.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        self.id
    }

    /// The sender's class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.id.class()
    }

    /// The node that received it.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// How this node was picked.
    #[must_use]
    pub fn mode(&self) -> Mode {
        mode(&self.header)
    }

    /// The key, where the mode is Hash.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        (self.mode() == Mode::Hash).then_some(self.header.key)
    }

    /// Whether the sender waits for the handler's result.
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        self.header.flags.contains(switchboard_protocol::Flags::CALL)
    }

    /// How long the sender gave the message, counted from when it was sent; absent if it didn't
    /// say. A call carries its timeout here.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        ttl(&self.header)
    }
}

pub(crate) fn mode(header: &Header) -> Mode {
    match header.kind {
        Kind::Data(mode) => mode,
        // Only data frames come to handlers.
        _ => Mode::Direct,
    }
}

pub(crate) fn ttl(header: &Header) -> Option<Duration> {
    let ttl = u32::from(header.ttl);
    (ttl != 0).then(|| switchboard_protocol::limits::TTL_UNIT * ttl)
}
