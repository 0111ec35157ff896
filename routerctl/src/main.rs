//! `routerctl`: what operators do with a router from a terminal, one file for each command.
//!
//! - `cli`: the commands and their options;
//! - `failure`: what can go wrong, and the exit code of each;
//! - `bench`: load, and what it costs the router.
#![forbid(unsafe_code)]

mod bench;
mod cli;
mod failure;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
