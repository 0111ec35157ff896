//! What the generator can do to a server: one file for each kind of work.
//!
//! A workload speaks to the server through its dialect only, so each runs against every server whose dialect
//! has what it needs.

mod broadcast;
mod flood;
mod hash;
mod master;
mod mixed;
mod request;

use std::time::Duration;

use anyhow::Result;

use crate::bench::figures::Figures;
use crate::bench::flow::Flow;
use crate::bench::progress::Progress;
use crate::bench::server::Server;
use crate::bench::traffic::{Shape, Traffic};

pub use broadcast::Broadcast;
pub use flood::Flood;
pub use hash::Hash;
pub use master::Master;
pub use mixed::Mixed;
pub use request::{PingPong, Request};

/// A kind of work.
pub trait Workload {
    /// Its word on the command line.
    fn name(&self) -> &'static str;

    /// How large it is, in a few words.
    fn describe(&self) -> String;

    /// Does it once.
    ///
    /// # Errors
    /// If a message is missing, damaged or out of order, or the server gives up.
    fn round(&self, setting: &Setting<'_>) -> Result<Figures>;
}

/// Where a round takes place.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub server: &'a Server,
    /// How long nothing may come before what is missing counts as lost.
    pub patience: Duration,
    pub progress: &'a Progress,
}

/// A round of messages one way.
fn one_way(setting: &Setting<'_>, shape: &Shape<'_>) -> Result<Figures> {
    let flow = Flow::new(shape.senders)?;
    let delivered = Traffic::connect(setting, shape)?.run(&flow)?;
    Ok(Figures::of_messages(delivered.messages, delivered.spent))
}

/// The longest payload: one that a router with default settings takes under any header.
pub const LONGEST: i64 = (16 << 20) - 56;
