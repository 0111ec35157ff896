//! What can go wrong, told apart by what the caller can do about it: not sent, no route, refused by
//! the remote handler, outcome unknown.

use std::io;

use switchboard_protocol::{IdError, Reason, RefusalCode, ServiceId};

use crate::handlers::HandlerError;

/// Why a node could not be connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An option of the builder can't be meant as it is.
    #[error("{option}: {why}")]
    Option {
        /// The builder's method.
        option: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// No router could be reached. Each address is listed with its own reason.
    #[error("no router can be reached: {}", tried.iter()
        .map(|(address, why)| format!("{address}: {why}"))
        .collect::<Vec<_>>()
        .join("; "))]
    Unreachable {
        /// The addresses in the order tried, each with what came of it.
        tried: Vec<(String, io::Error)>,
    },
    /// A router answered, and said no.
    #[error("{router} refuses this node ({code}): {text}")]
    Refused {
        /// Its address.
        router: String,
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: String,
    },
}

/// Why a name is not a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No class has this name.
    #[error("the router knows no class `{0}`")]
    UnknownClass(String),
    /// Direct was given a class.
    #[error("`{0}` is not one instance: Direct takes an id such as 5.1 or matchsvr.1")]
    NotAnInstance(String),
    /// A word that picks from a class was given one instance.
    #[error("`{0}` is one instance, not a class: to reach it, use Direct")]
    NotAClass(String),
    /// A number is out of range.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Only a broadcast has an echo.
    #[error("only a broadcast has an echo")]
    Echo,
}

/// Why a message was not sent. It is not on its way and will not be.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{ForwardError, Master, Node};
///
/// match node.forward(Master, "matchsvr", "moved", (1, 2)) {
///     Ok(()) => {}
///     Err(ForwardError::Full { .. }) => {} // leave this one out; the next is as good
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// There is no link to any router at the moment; the node is reconnecting.
    #[error("not connected to a router; the node is reconnecting")]
    NotConnected,
    /// The link does not keep up, and the outbox is over its bound.
    #[error("the outbox is full: {queued} bytes wait for the router, and {limit} may")]
    Full {
        /// Bytes that wait.
        queued: usize,
        /// Bytes that may wait: [`Builder::outbox_bytes`](crate::Builder::outbox_bytes).
        limit: usize,
    },
    /// No class has this name at the router.
    #[error("the router knows no class `{0}`")]
    UnknownClass(String),
    /// The target does not go with the word before it, or is out of range.
    #[error(transparent)]
    Target(TargetError),
    /// The router takes no frame of this size.
    #[error("frame of {length} bytes is over the router's limit of {max}")]
    TooLarge {
        /// Its length in bytes, header included.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The arguments could not be written.
    #[error("the arguments can't be encoded: {0}")]
    Encode(String),
    /// The node is closed for good.
    #[error("the node is closed: {0}")]
    Closed(CloseReason),
}

/// Why a call has no result, in classes that differ in what the caller can do.
///
/// | | did the handler run? |
/// |---|---|
/// | `NotSent` | no: the call never left this node |
/// | `NoRoute` | no: the routers found nobody, or nobody had it whole |
/// | `Refused` | no: the other node would not begin with it |
/// | `Remote` | yes, and this is its answer |
/// | `Timeout`, `OutcomeUnknown` | perhaps: [`CallError::outcome_unknown`] |
/// | `Decode` | yes, and its answer can't be read |
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = switchboard::Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{CallError, Master, Node};
///
/// match node.call::<()>(Master, "gamesvr", "charge", (7, 100)).await {
///     Ok(()) => {}
///     Err(CallError::Remote { code, text }) => eprintln!("no: {code}: {text}"),
///     Err(error) if error.outcome_unknown() => eprintln!("look before trying again: {error}"),
///     Err(error) => eprintln!("nothing happened, so try again: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// It never left this node.
    #[error(transparent)]
    NotSent(#[from] ForwardError),
    /// The routers could not deliver it. The handler never ran.
    #[error("no route: {0}")]
    NoRoute(Reason),
    /// The other node did not begin with it. The handler never ran.
    #[error("the other node refuses the call ({code}): {text}")]
    Refused {
        /// For programs: `busy`, `no_method` or `bad_args`. See
        /// [`HandlerError`](crate::HandlerError).
        code: String,
        /// For people.
        text: String,
    },
    /// The handler answered with an error.
    #[error("the remote handler answers {code}: {text}")]
    Remote {
        /// For programs: one of the handler's own, or `error`, `panic`, `too_large`.
        code: String,
        /// For people.
        text: String,
    },
    /// No answer came in time. The handler may have run, or may yet.
    #[error("no answer in time; the outcome is unknown")]
    Timeout,
    /// The handler may have run, and its answer will not come: the link was lost on the way, or
    /// the other node no longer remembers what became of a repeated call.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// An answer came, and it is not what was asked for. The handler ran.
    #[error("the answer can't be decoded: {0}")]
    Decode(String),
}

/// Why a registration did not happen, or its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// There is no link to a router at the moment.
    #[error("not connected to a router; the node is reconnecting")]
    NotConnected,
    /// The text is not a service.
    #[error("{0}")]
    Service(String),
    /// This node does not hold the id.
    #[error("this node does not hold {0}")]
    NotHeld(ServiceId),
    /// It is the last id of this node.
    #[error("{0} is the last id of this node; close the node to give it up")]
    LastId(ServiceId),
    /// The router says no.
    #[error("the router refuses ({code}): {text}")]
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: String,
    },
    /// The link was lost before the answer came.
    #[error("the link was lost before the router answered")]
    LinkLost,
    /// The router did not answer in time.
    #[error("the router did not answer in time")]
    Timeout,
    /// The node is closed for good.
    #[error("the node is closed: {0}")]
    Closed(CloseReason),
}

/// Why a node is closed and stays so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The program closed it, or dropped it.
    #[error("by this program")]
    Local,
    /// A newer incarnation took the ids of this node.
    #[error("a newer incarnation took over")]
    Replaced,
    /// The router told this node to go and not to come back.
    #[error("the router sent this node away: {0}")]
    SentAway(String),
    /// The router refused to take this node back.
    #[error("the router refuses this node ({code}): {text}")]
    Refused {
        /// Why, for programs.
        code: RefusalCode,
        /// Why, for people.
        text: String,
    },
}

impl CallError {
    /// Whether the work may have been done although there is no result: true for `Timeout`,
    /// `OutcomeUnknown` and `Decode`. Where it is false, trying again does nothing twice.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Timeout | Self::OutcomeUnknown(_) | Self::Decode(_))
    }
}

impl CallError {
    /// What an error that came as the answer means.
    pub(crate) fn from_answer((code, text): (String, String)) -> Self {
        match code.as_str() {
            HandlerError::BUSY | HandlerError::NO_METHOD | HandlerError::BAD_ARGS => {
                Self::Refused { code, text }
            }
            HandlerError::OUTSIDE_WINDOW => Self::OutcomeUnknown(text),
            _ => Self::Remote { code, text },
        }
    }
}

impl From<TargetError> for ForwardError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::UnknownClass(name) => Self::UnknownClass(name),
            other => Self::Target(other),
        }
    }
}
