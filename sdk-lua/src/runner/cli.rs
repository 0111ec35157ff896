//! The command line of `lua-node`: options, the log, exit codes.
//!
//! Exit codes: 0 when the script has come to its end, 1 when it fails, 2 for a mistake in the options,
//! 3 when it ends because it can't connect; 130 and 143 when a second SIGINT or SIGTERM cuts its end short.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use super::run::{Failed, Kind};
use super::{amounts, check, run};

/// Runs a Lua script as a node of Switchboard, with Lua 5.4 inside.
#[derive(Debug, Parser)]
#[command(name = "lua-node", version, after_help = EXIT_CODES)]
pub struct Options {
    /// The script
    #[arg(value_name = "SCRIPT")]
    pub script: PathBuf,
    /// What the node offers: a class or an id, such as matchsvr.1
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// One more service that it offers; repeat for more
    #[arg(long, value_name = "SERVICE")]
    pub also: Vec<String>,
    /// Where a router is: HOST:PORT or unix:/path; repeat for more
    #[arg(long = "router", value_name = "ADDRESS", default_value = "127.0.0.1:2000")]
    pub routers: Vec<String>,
    /// The environment variable that holds the token to show to routers
    #[arg(long, value_name = "VARIABLE", conflicts_with = "token_file")]
    pub token_env: Option<String>,
    /// The file that holds the token to show to routers
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// What the node calls itself
    #[arg(long)]
    pub name: Option<String>,
    /// Its share of RANDOM messages against other instances: 1 unless set
    #[arg(long, value_name = "N")]
    pub weight: Option<u16>,
    /// Which log lines to write to standard error, such as info or script=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How often to look for files that have changed, and to load them again; 0 is never
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = amounts::time)]
    pub reload_every: Duration,
    /// How much memory Lua may take, such as 256MiB; beyond it a handler fails, and the node lives
    #[arg(long, value_name = "SIZE", value_parser = amounts::memory)]
    pub memory_limit: Option<usize>,
    /// How many instructions of Lua a handler, timer or hook may run until it waits, about; beyond them it
    /// fails, and the node lives
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(10_000..))]
    pub instruction_limit: Option<u64>,
    /// Parse the script and the files that it imports by a literal name, run nothing, and exit
    #[arg(long)]
    pub check: bool,
    /// What the script gets as `arg`, and its `main` as arguments
    #[arg(last = true, value_name = "ARGUMENT")]
    pub args: Vec<OsString>,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    execute(&Options::parse())
}

fn execute(options: &Options) -> ExitCode {
    if let Err(error) = std::fs::read(&options.script) {
        return mistake(&format!("cannot read {}: {error}", options.script.display()));
    }
    if options.check {
        return checked(&check::check(&options.script));
    }
    let filter = match EnvFilter::try_new(&options.log) {
        Ok(filter) => filter,
        Err(why) => return mistake(&format!("--log: `{}`: {why}", options.log)),
    };
    let token = match options.token() {
        Ok(token) => token,
        Err(why) => return mistake(&why),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    match run::run(options, token) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => told(&failed),
    }
}

impl Options {
    /// The token, which is never on the command line: others can read that.
    fn token(&self) -> Result<Option<String>, String> {
        let token = if let Some(variable) = &self.token_env {
            std::env::var(variable).map_err(|why| format!("--token-env: {variable}: {why}"))?
        } else if let Some(path) = &self.token_file {
            let read = std::fs::read_to_string(path);
            read.map_err(|why| format!("--token-file: cannot read {}: {why}", path.display()))?
        } else {
            return Ok(None);
        };
        Ok(Some(token.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// Says what a script ended with.
fn told(failed: &Failed) -> ExitCode {
    eprintln!("lua-node: {}", failed.text);
    let stack = failed.traceback.strip_prefix(&failed.text).unwrap_or(&failed.traceback);
    if !stack.is_empty() {
        eprintln!("{}", stack.trim_start_matches('\n'));
    }
    if let Some(why) = &failed.connect {
        eprintln!("lua-node: before that it could not connect: {why}");
    }
    ExitCode::from(match failed.kind {
        Kind::Script => 1,
        Kind::Usage => 2,
        Kind::Connect => 3,
    })
}

/// Says what the files are like.
fn checked(report: &check::Report) -> ExitCode {
    let mut text = String::new();
    for line in &report.fine {
        text.push_str(line);
        text.push('\n');
    }
    let mut out = io::stdout().lock();
    // Who does not read it has the exit code.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    for line in &report.wrong {
        eprintln!("{line}");
    }
    ExitCode::from(u8::from(!report.wrong.is_empty()))
}

fn mistake(what: &dyn Display) -> ExitCode {
    eprintln!("lua-node: {what}");
    ExitCode::from(2)
}

const EXIT_CODES: &str = "\
Exit codes:
  0    the script has come to its end
  1    it failed, while it was loaded or in `main`; with --check: a file does not parse
  2    a mistake in the options, or a script that can't be read
  3    it ended because it could not connect
  130  a second SIGINT while it was ending; 143: a second SIGTERM";
