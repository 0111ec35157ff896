//! The commands of `routerctl`, and how each of them ends.
//!
//! Exit codes: 0 when all is well, 1 when a check failed, 2 for a mistake in the options, 3 when the server
//! can't be reached or started.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::bench;
use crate::failure::exit_code;

/// What operators do with a router of Switchboard from a terminal.
///
/// Exit codes: 0 all is well, 1 a check failed, 2 a mistake in the options, 3 no server can be reached or
/// started.
#[derive(Debug, Parser)]
#[command(name = "routerctl", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::Bench),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(bench) => bench::run(&bench),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("routerctl: {error:#}");
            exit_code(&error)
        }
    }
}
