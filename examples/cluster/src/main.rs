//! A whole cluster on one machine, in one command: `cargo run --release -p cluster`.
//!
//! It starts two routers and eleven nodes as processes of their own, lets 2,000 players send 18
//! messages a second through them, kills the master of the match servers and then a router, and
//! accounts for every message at the end. No idempotent call may fail.
//!
//! - `orchestra`: what happens when; `kills`: who dies; `crew`, `spawn`: the processes; `news`: what
//!   they say; `targets`: where Prometheus finds them;
//! - `roles`: what each of them does, the part to read for how to use the SDK;
//! - `stream`: the messages; `ledger`, `numbers`, `journal`, `latency`: what is noted of them;
//! - `audit`: gathers the notes; `account`: adds them up; `table`, `summary`: show them.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a table on the terminal is what it is for")]

mod account;
mod audit;
mod crew;
mod journal;
mod kills;
mod latency;
mod ledger;
mod news;
mod numbers;
mod orchestra;
mod roles;
mod spawn;
mod stream;
mod summary;
mod table;
mod targets;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Runs a cluster of game servers, kills a master and a router, and accounts for every message.
#[derive(Debug, Parser)]
#[command(name = "cluster", version, args_conflicts_with_subcommands = true)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How large, and how long.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// How long the players play
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(4..=3600))]
    pub seconds: u64,
    /// How many players there are
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub players: u64,
    /// How many messages each of them sends in a second
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub rate: u64,
    /// Print the summary as JSON to standard output, and the table to standard error
    #[arg(long)]
    pub json: bool,
    /// Write where Prometheus finds the routers and the nodes to this file, and export what nodes count
    #[arg(long, value_name = "FILE")]
    pub targets: Option<PathBuf>,
    /// Count a message as sent that is not, so that the account does not close
    #[arg(long, hide = true)]
    pub lose_one: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays one part, as a process that the cluster started
    #[command(hide = true)]
    Role(roles::Part),
}

fn main() -> ExitCode {
    let Cli { options, command } = Cli::parse();
    let result = match command {
        Some(Command::Role(part)) => {
            let who = format!("{:?}.{}", part.role, part.instance).to_lowercase();
            roles::play(part).map_err(|error| error.context(who))
        }
        None => orchestra::run(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cluster: {error:#}");
        ExitCode::FAILURE
    })
}
