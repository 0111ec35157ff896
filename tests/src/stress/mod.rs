//! A router under stress, in this process: nodes that read slowly, in small bites and through small buffers,
//! that close in every way and come back, and that number all they send. At the end each message is
//! accounted for, by the nodes and by the router's own counters.
//!
//! - [`plan`]: what a seed decides: the router's settings, the nodes, and the lives that each leads;
//! - `node`: a node, life after life; `connection`: its bytes, by whatever cuts and pauses;
//! - `ledger`: what was sent, came and was reported, and what is wrong at once; `account`: what must add up
//!   at the end;
//! - `run`: one seed, from the start of its router to its last account.
//!
//! Threads and sockets are real, so a seed replays its plan, not its schedule.

mod account;
mod connection;
mod ledger;
mod node;
pub mod plan;
mod run;

pub use account::Tally;
pub use run::{run, seeds};
