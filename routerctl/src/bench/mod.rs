//! `routerctl bench`: load on the raw protocol, and what it costs the router.
//!
//! - `workload`: the kinds of work; `contest`: their rounds; `server`: who takes part; `dialect`: how each is
//!   spoken to; `foreign`: those that are no routers; `relay`: one that only copies bytes;
//! - `plan`, `blocks`, `check`: what messages hold, how they are sent by the thousand, and whether they came;
//! - `traffic`, `sending`, `receiving`: messages one way, and the two threads for it; `flow`: what these know of
//!   each other;
//!   `calls`, `asking`, `answering`: the same of requests and replies; `crowd`: connections that only stay;
//!   `connection`, `poller`: the sockets;
//! - `sdk`: floods and calls through the Rust SDK instead;
//! - `grow`: how cost grows with what there is to do, a plot and a table of it;
//! - `peers`: all that has a bar beside other servers, and a report of it;
//! - `figures`, `report`, `progress`: what is measured, and what people see of it; `here`: where it was.

mod answering;
mod asking;
mod blocks;
mod calls;
mod check;
mod connection;
mod contest;
mod crowd;
mod dialect;
mod figures;
mod flow;
mod foreign;
mod grow;
mod here;
mod peers;
mod plan;
mod poller;
mod progress;
mod receiving;
mod relay;
mod report;
mod sdk;
mod sending;
mod server;
mod traffic;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand, value_parser};

use crate::failure::Failure;
use workload::{
    Broadcast, Churn, Connect, Fairness, Flood, Hash, Idle, Isolation, Master, Mixed, PingPong,
    Request, Workload,
};

/// Puts load on a router and prints what a message costs it.
///
/// The generator speaks the raw protocol: it encodes messages in blocks before it begins, so it is cheap
/// itself and may share the machine with the router. Every message has a number, and its receiver checks
/// order, all of the content, and in the end that nothing is missing and nothing came twice. Anything wrong
/// ends the run with exit code 1 and says which message of which sender it was.
///
/// Unless told otherwise it starts the `router` that lies beside this program on a free port, with default
/// settings, and kills it at the end. The first round warms up and does not count. With --beside, other
/// servers do the same work in turn; compare them by the ratio, which is the median of the rounds' ratios,
/// and not by figures of two runs.
#[derive(Debug, Clone, Args)]
#[command(disable_help_subcommand = true, after_long_help = EXAMPLES)]
pub struct Bench {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Clone, Subcommand)]
enum Work {
    /// Senders write as fast as they may, message i to receiver i modulo their number
    Flood(Of<Flood>),
    /// Every message goes to all receivers
    Broadcast(Of<Broadcast>),
    /// Every message has a key, and all of a key have to come to the same receiver
    Hash(Of<Hash>),
    /// Every message is for the master of the receivers
    Master(Of<Master>),
    /// A flood of short and long messages
    Mixed(Of<Mixed>),
    /// Clients keep calls open, and the time until each answer is taken
    Request(Of<Request>),
    /// One call at a time: how long a message takes there and back
    PingPong(Of<PingPong>),
    /// How long a call takes alone, and beside a flood
    Fairness(Of<Fairness>),
    /// What is left of a flood when one of its receivers stops reading
    Isolation(Of<Isolation>),
    /// Connections leave and come back all the time beside a flood
    Churn(Of<Churn>),
    /// Connections that register and then only ping: what each costs in memory
    Idle(Of<Idle>),
    /// How many connections a second connect and register
    Connect(Of<Connect>),
    /// All that has a bar, beside nats-server, redis-server and a relay of bytes: a report
    ///
    /// Each piece of work is another command of `routerctl bench`, named in the report: the same messages,
    /// windows and checks for everybody, round by round, everybody in turn in each. A peer that is not
    /// installed is named and left out; so is one that fails at a piece of work, there. Whether the bar is
    /// reached has no influence on the exit code.
    Peers(peers::Peers),
    /// How cost grows with instances, copies, connections and threads: a plot and a table
    ///
    /// Starts routers of its own, one for each sweep, and takes a few minutes. CPU time is that of the router. Messages
    /// are checked as in the other commands; of registrations each has to be answered.
    Grow(grow::Grow),
    /// Copies bytes until it is killed: the other end of --beside relay
    #[command(hide = true)]
    Relay,
}

// A workload with its own options and those of all. A doc comment would be its help.
#[derive(Debug, Clone, Args)]
struct Of<W: Args> {
    #[command(flatten)]
    workload: W,
    #[command(flatten)]
    common: Common,
}

/// The options of all workloads.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server and report")]
pub struct Common {
    /// The router to start [default: the one beside this program]
    #[arg(long, value_name = "PATH", conflicts_with = "connect")]
    router: Option<PathBuf>,
    /// The configuration file of routers that are started [default: none]
    #[arg(long, value_name = "FILE", conflicts_with = "connect")]
    router_config: Option<PathBuf>,
    /// Use a router that runs already. The generator registers as classes 251 and up
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,
    /// The process id of that router, if it runs on this machine, to tell its CPU time and memory
    #[arg(long, requires = "connect", conflicts_with = "router", value_parser = value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Another server that does the same in turn: the path of a router, such as that of an earlier commit,
    /// or nats-server, redis-server, or relay, which copies bytes from each sender to receivers of its own
    /// and is the ceiling. May be repeated
    #[arg(long, value_name = "SERVER")]
    beside: Vec<PathBuf>,
    /// How many rounds count
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// How many seconds nothing may come before what is missing counts as lost
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    patience: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show no progress on standard error
    #[arg(long)]
    quiet: bool,
}

/// How fast senders go.
#[derive(Debug, Clone, Args)]
pub struct Pace {
    /// How many bytes of a sender's messages may be on their way, the same for every server; 0 leaves it to
    /// the sockets
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 10)]
    window: u64,
    /// How many bytes a sender writes at a time
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 10, value_parser = value_parser!(u32).range(1..=64 << 20))]
    block: u32,
}

const EXAMPLES: &str = "\
Examples:
  routerctl bench flood                       4 senders, 4 receivers, 10 million messages of 64 bytes
  routerctl bench flood --senders 1 --receivers 1 --payload 1024
  routerctl bench peers                       all that has a bar, beside other servers
  routerctl bench flood --beside nats-server --beside path/to/the/router/before
  routerctl bench request                     8 clients, each with 8 calls open
  routerctl bench ping-pong                   one call at a time
  routerctl bench broadcast --receivers 32    each copy counts as a message
  routerctl bench idle --connections 20000    what a connection costs in memory
  routerctl bench isolation --policy drop-new one receiver of four stops reading
  routerctl bench flood --sdk --senders 1     through nodes of the Rust SDK, and without it to compare
  routerctl bench grow --svg growth.svg       what more instances and connections cost
  routerctl bench flood --connect 10.0.0.1:2000 --json

A figure is the median over the rounds. CPU time is that of all threads of the server, user and system, by
delivered message; a call is two messages. The generator's own is beside it, since both share a machine here.

Exit codes: 0 all is well, 1 a message was missing, damaged or out of order, 2 a mistake in the options, 3 the
server can't be reached or started.";

/// Runs the command.
pub fn run(bench: &Bench) -> Result<()> {
    match &bench.work {
        Work::Grow(options) => grow::run(options),
        Work::Peers(peers) => peers::run(peers),
        Work::Relay => relay::run(),
        work => match work.workload() {
            Some((common, workload)) => contest::run(common, workload),
            None => Ok(()),
        },
    }
}

impl Work {
    /// A workload, and the options of all; nothing for what is none.
    fn workload(&self) -> Option<(&Common, &dyn Workload)> {
        Some(match self {
            Self::Flood(of) => (&of.common, &of.workload),
            Self::Broadcast(of) => (&of.common, &of.workload),
            Self::Hash(of) => (&of.common, &of.workload),
            Self::Master(of) => (&of.common, &of.workload),
            Self::Mixed(of) => (&of.common, &of.workload),
            Self::Request(of) => (&of.common, &of.workload),
            Self::PingPong(of) => (&of.common, &of.workload),
            Self::Fairness(of) => (&of.common, &of.workload),
            Self::Isolation(of) => (&of.common, &of.workload),
            Self::Churn(of) => (&of.common, &of.workload),
            Self::Idle(of) => (&of.common, &of.workload),
            Self::Connect(of) => (&of.common, &of.workload),
            Self::Grow(_) | Self::Peers(_) | Self::Relay => return None,
        })
    }
}

/// Whether a file could be written there, before anything is measured for it.
fn check_directory(option: &str, file: &Path) -> Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) || file.is_dir() {
        let what = format!("{option}: there is no directory for {}", file.display());
        return Err(Failure::Usage(what).into());
    }
    Ok(())
}

impl Common {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience.into())
    }
}

impl Pace {
    /// The size of a block: at most half of the window, so that one is written while the last one arrives.
    fn block(&self) -> usize {
        let half = if self.window == 0 { u64::MAX } else { self.window / 2 };
        u64::from(self.block).min(half).max(1) as usize
    }

    /// How many messages of this size may be on their way.
    fn window(&self, message_bytes: u64) -> u64 {
        if self.window == 0 { u64::MAX / 4 } else { (self.window / message_bytes).max(1) }
    }
}
