//! Switchboard's node for Lua. [`open`] makes the module in a Lua state; the program `lua-node` runs a script
//! as a node, and the crate in `module/` is the library that a Lua of your own loads.
//!
//! Only the Lua thread touches Lua. Sockets have a thread of their own, and what they bring waits in bounded
//! queues until the Lua thread takes it:
//!
//! - `bind/`: what scripts see, one room for each concern; the coroutines are in `lua/prelude.lua`;
//! - `reactor`: what waits for Lua, turn by turn; `signal` wakes it, `timers` says when, `runtime` is the
//!   other thread;
//! - `upkeep`: what the program around scripts does between messages; [`runner`]: that program, `lua-node`;
//! - `values/`: what travels; `failure`: what went wrong.
#![forbid(unsafe_code)]

mod alarm;
mod bind;
mod failure;
mod reactor;
#[cfg(feature = "runner")]
pub mod runner;
mod runtime;
mod signal;
mod timers;
mod unheard;
mod upkeep;
mod values;

pub use bind::{open, open_luna};
