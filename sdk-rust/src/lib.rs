//! The Rust SDK of Switchboard: call services by class and mode through a router.
//!
//! ```
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use switchboard::{Caller, Master, Node};
//!
//! let address = "127.0.0.1:2000";
//! # let config = switchboard_router::Config::local().with_class("matchsvr", 5);
//! # let router = switchboard_router::Router::start(config)?;
//! # let address = &router.listen()[0];
//! let node = Node::builder("matchsvr.1").router(address).connect().await?;
//! node.on("greet", async |_: Caller, (name,): (String,)| Ok(format!("hello, {name}")));
//! let hello: String = node.call(Master, "matchsvr", "greet", ("world",)).await?;
//! # assert_eq!(hello, "hello, world");
//! # Ok(())
//! # }
//! ```
//!
//! A [`Node`] offers services and calls others. It reconnects by itself and tells of it in
//! [`Event`]s. Whom a message is for reads as two words: how to pick ([`Master`], [`Hash`](struct@Hash),
//! [`Random`], [`LeastLoaded`], [`Broadcast`], [`Direct`]) and what from (a class, or for `Direct`
//! one instance).
//!
//! The rooms, from the door inwards:
//!
//! - `builder`, `service`, `connecting`: what can be said before connecting, and how it begins; `node`:
//!   the handle; `serving`: how it ends well;
//! - `sending`, `target`, `key`, `message`, `call`, `repeated`, `collect`, `args`, `encoded`: sending;
//! - `handling`, `handlers`, `caller`, `incoming`, `runner`, `deliveries`: being called;
//! - `event`, `watch`, `view`, `inbox`, `registering`: hearing what happens, and offering more;
//! - `driver`, `link`, `session`, `dispatch`: the task that owns the socket to one router, from the
//!   outside in;
//! - `shared`, `links`, `outbox`, `calls`, `requests`, `identity`, `lifecycle`, `load`, `drops`: the
//!   state between handles and drivers;
//! - `choice`, `office`, `dispute`, `retry`, `window`, `backoff`: decisions that need no socket and no clock:
//!   which router, which offices, whether to send a call again, whether to run one;
//! - `tally`, `meter`, `sharded`, `latency`, `outcome`, `stats`: what is counted on the way, and how
//!   programs read it; `prometheus`: the same for a scrape, with the feature of that name;
//! - `error`: what can go wrong.
#![forbid(unsafe_code)]

mod args;
mod backoff;
mod builder;
mod call;
mod caller;
mod calls;
mod choice;
mod collect;
mod connecting;
mod deliveries;
mod dispatch;
mod dispute;
mod driver;
mod drops;
mod encoded;
mod error;
mod event;
mod handlers;
mod handling;
mod identity;
mod inbox;
mod incoming;
mod key;
mod latency;
mod lifecycle;
mod link;
mod links;
mod load;
mod message;
mod meter;
mod node;
mod office;
mod outbox;
mod outcome;
#[cfg(feature = "prometheus")]
mod prometheus;
mod registering;
mod repeated;
mod requests;
mod retry;
mod runner;
mod sending;
mod service;
mod serving;
mod session;
mod sharded;
mod shared;
mod stats;
mod tally;
mod target;
mod view;
mod watch;
mod window;

pub use args::{Args, FromArgs};
pub use builder::{
    Builder, DEFAULT_BACKOFF, DEFAULT_CALL_TIMEOUT, DEFAULT_CONNECT_TIMEOUT, DEFAULT_DRAIN_TIMEOUT,
    DEFAULT_HANDLER_QUEUE, DEFAULT_HANDLERS_WAITING, DEFAULT_OUTBOX_BYTES, DEFAULT_ROUTER,
    DEFAULT_WINDOW,
};
pub use call::{Call, RawCall};
pub use caller::Caller;
pub use collect::{Collect, Collected};
pub use deliveries::{Deliveries, Delivery};
pub use encoded::Encoded;
pub use error::{CallError, CloseReason, ConnectError, ForwardError, RegisterError, TargetError};
pub use event::{Event, Events};
pub use handlers::HandlerError;
pub use key::Key;
pub use latency::Latency;
pub use message::Message;
pub use node::Node;
pub use outcome::{Outcome, Outcomes};
pub use service::Service;
pub use stats::{Direction, MethodStats, Stats};
pub use target::{Broadcast, Direct, Hash, LeastLoaded, Master, Pick, PickOne, Random, To};
pub use watch::{Membership, Metadata, Watcher};

pub use switchboard_protocol::control::{GoAwayReason, LeftReason};
pub use switchboard_protocol::{Class, IdError, Instance, Mode, Reason, RefusalCode, ServiceId};

/// For simulations in tests, not part of the API.
#[doc(hidden)]
pub mod logic {
    pub use crate::backoff::Backoff;
    pub use crate::choice::{Choice, Standing};
    pub use crate::office::{Change, Input, Offices};
    pub use crate::retry::{Failure, Outcome, Retry, Step};
    pub use crate::window::{Admission, Key, Limits, Reply, Window};
}
