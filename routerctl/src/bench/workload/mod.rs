//! What the generator can do to a server: one file for each kind of work.
//!
//! A workload speaks to the server through its dialect only, so each runs against every server whose dialect
//! has what it needs.

mod broadcast;
mod churn;
mod fairness;
mod flood;
mod hash;
mod idle;
mod isolation;
mod master;
mod mixed;
mod request;

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::bench::Pace;
use crate::bench::figures::Figures;
use crate::bench::flow::Flow;
use crate::bench::progress::Progress;
use crate::bench::server::Server;
use crate::bench::traffic::{Contents, Delivered, Route, Shape, Traffic, UNTIL_STOPPED};

pub use broadcast::Broadcast;
pub use churn::Churn;
pub use fairness::Fairness;
pub use flood::Flood;
pub use hash::Hash;
pub use idle::{Connect, Idle};
pub use isolation::Isolation;
pub use master::Master;
pub use mixed::Mixed;
pub use request::{PingPong, Request};

/// A kind of work.
pub trait Workload {
    /// Its word on the command line.
    fn name(&self) -> &'static str;

    /// How large it is, in a few words.
    fn describe(&self) -> String;

    /// Whether its options make sense, before anything is started.
    ///
    /// # Errors
    /// If they don't.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The configuration that routers have to be started with, if it matters.
    fn router_config(&self) -> Option<String> {
        None
    }

    /// Whether each round wants a server that has done nothing before, such as to see how its memory grows. There
    /// is no round to warm up then, and a server that was not started here stays what it is.
    fn wants_fresh_servers(&self) -> bool {
        false
    }

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
pub fn one_way(setting: &Setting<'_>, shape: &Shape<'_>) -> Result<Figures> {
    let flow = Flow::new(shape.senders)?;
    let delivered = Traffic::connect(setting, shape)?.run(&flow)?;
    Ok(Figures::of_messages(delivered.messages, delivered.spent))
}

/// A flood that goes on for as long as something else happens.
fn unending(senders: u16, receivers: u16, payload: u32, pace: &Pace) -> Shape<'_> {
    Shape {
        senders: senders.into(),
        receivers: receivers.into(),
        route: Route::Turns,
        contents: Contents::Uniform(payload as usize),
        each: UNTIL_STOPPED,
        pace,
    }
}

/// Does something else while a flood goes on; stops the flood when it is done.
fn beside<T>(
    setting: &Setting<'_>,
    shape: &Shape<'_>,
    work: impl FnOnce(&Flow) -> Result<T>,
) -> Result<(Delivered, T)> {
    let flow = Flow::new(shape.senders)?;
    let traffic = Traffic::connect(setting, shape)?;
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let delivered = traffic.run(&flow);
            // Whatever went wrong, nobody waits for more.
            flow.end();
            delivered
        });
        while flow.arrived_in_all() == 0 && !flow.is_over() {
            thread::sleep(SOON);
        }
        let worked = work(&flow);
        flow.stop();
        let delivered = flood.join().map_err(|_| anyhow!("the flood's thread panicked"))?;
        Ok((delivered?, worked?))
    })
}

const SOON: Duration = Duration::from_millis(1);
/// The longest payload: one that a router with default settings takes under any header.
pub const LONGEST: i64 = (16 << 20) - 56;
