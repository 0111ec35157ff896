//! The router: a standalone daemon that forwards frames between services without opening them.
//!
//! The binary `router` is this library and a command line; programs and tests embed [`Router`].
//! A frame's way through the rooms:
//!
//! ```text
//! session/traffic  ->  forward  ->  mailbox  ->  socket
//! bytes to frames      frame to     accept or    whoever finds it
//!                      targets      refuse       free writes
//! ```
//!
//! - [`daemon`]: starts, reloads, drains and stops a router; [`cli`]: the command line; [`config`]: the
//!   file; [`policy`]: what it says of a class; [`tokens`]: what it says of who may come in; [`secret`]: what of it
//!   nobody is shown; [`reload`]: another file, while the router runs;
//! - `listener`, `shard`, `session`: from an accepted connection to its frames;
//! - `forward`: from frames to mailboxes; `mailbox`: a session's bounded outbox; [`parking`]: frames that
//!   wait for an instance;
//! - [`table`]: who is there, as shards read it; [`registry`]: its only writer, a pure state machine;
//!   `registrar`: the task around it; `watchdog`: what happens as time passes;
//! - `counters`, `events`: what is counted, and what happened; `metrics`, `admin`: where it can be seen.
#![forbid(unsafe_code)]

mod admin;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod caller;
pub mod cli;
pub mod config;
mod counters;
pub mod daemon;
mod events;
mod forward;
mod listener;
mod mailbox;
mod metrics;
pub mod parking;
pub mod policy;
mod registrar;
pub mod registry;
pub mod reload;
pub mod secret;
mod session;
mod sessions;
mod shard;
mod shared;
mod stream;
pub mod table;
pub mod tokens;
mod watchdog;

pub use config::{Address, Config};
pub use daemon::{Router, StartError};
