//! A cluster in one thread and in virtual time: the router's and the SDK's real decisions, on a
//! simulated network of simulated processes that fail. All chance comes from one seed, so a run that
//! goes wrong goes wrong again.
//!
//! - `world`: a cluster; `faults`: what goes wrong; `checks`: the books of what must hold; `paths`: which
//!   calls must not fail;
//! - `router`, `registrar`, `session` and `lots`, `node`, `link`, `caller` and `callee`: the processes;
//! - `stage`: time, chance and the agenda; `network`, `message`: what connects processes.
//!
//! Not simulated: bytes, sockets, threads, and clocks that run at different speeds.

mod callee;
mod caller;
mod checks;
mod faults;
mod link;
mod lots;
mod message;
mod network;
mod node;
mod paths;
mod registrar;
mod router;
mod session;
mod stage;
mod world;

pub use checks::Tally;
pub use faults::Weather;
pub use stage::{MS, SECOND};
pub use world::{Setup, run};
