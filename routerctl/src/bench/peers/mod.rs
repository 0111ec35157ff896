//! `routerctl bench peers`: everything that has a bar, done by the router, nats-server, redis-server and the
//! relay in turn, and a report of it.
//!
//! - `programme`: the pieces of work, and the bar of each; `roster`: who takes part; `rounds`: they do it;
//! - `bar`: whether the router's figures reach it; `account`: what came of it all, and where it was;
//! - `page`: the report; `readme`: its short table, in place.

mod account;
mod bar;
mod page;
mod programme;
mod readme;
mod roster;
mod rounds;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum, value_parser};

use crate::bench::check_directory;
use crate::bench::progress::Progress;

use account::Account;
use readme::Readme;

// A doc comment would be its help.
#[derive(Debug, Clone, Args)]
pub struct Peers {
    /// The router to start [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    router: Option<PathBuf>,
    /// The program nats-server [default: the installed one]
    #[arg(long, value_name = "PATH")]
    nats: Option<PathBuf>,
    /// The program redis-server [default: the installed one]
    #[arg(long, value_name = "PATH")]
    redis: Option<PathBuf>,
    /// Only these peers of the router, by commas
    #[arg(long, value_name = "PEER", value_delimiter = ',', conflicts_with = "without")]
    only: Vec<Peer>,
    /// All but these peers, by commas
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    without: Vec<Peer>,
    /// How much of each piece of work is done, in percent, for a look that is quick or thorough
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = value_parser!(u32).range(1..=10_000))]
    effort: u32,
    /// How many rounds count
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many seconds nothing may come before what is missing counts as lost
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=3600))]
    patience: u32,
    /// Write the report to this file, in Markdown
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Put the short table into this file, between the lines <!-- peers en --> (or zh) and <!-- /peers -->.
    /// May be repeated
    #[arg(long, value_name = "FILE")]
    readme: Vec<PathBuf>,
    /// Print JSON instead of the report
    #[arg(long)]
    json: bool,
    /// Show no progress on standard error
    #[arg(long)]
    quiet: bool,
}

/// Who does the same as the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    NatsServer,
    RedisServer,
    Relay,
}

/// Runs the command.
pub fn run(options: &Peers) -> Result<()> {
    // Whatever would be in the way at the end is said at the start.
    options.readme.iter().try_for_each(|path| Readme::open(path).map(drop))?;
    if let Some(report) = &options.report {
        check_directory("--report", report)?;
    }
    let progress = Progress::default();
    let account = progress.while_running(options.quiet, || Account::take(options, &progress));
    let account = match account {
        Ok(account) => account,
        Err(error) if options.json => {
            let error_text = format!("{error:#}");
            print(&format!("{:#}\n", serde_json::json!({"ok": false, "error": error_text})));
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    let page = page::report(&account);
    let json = options.json.then(|| format!("{:#}\n", account.json()));
    print(json.as_ref().unwrap_or(&page));
    if let Some(report) = &options.report {
        let what = || format!("can't write {}", report.display());
        std::fs::write(report, &page).with_context(what)?;
    }
    // Each is read once more: it may have been edited meanwhile.
    let report = options.report.as_deref();
    options.readme.iter().try_for_each(|path| Readme::open(path)?.put(&account, report))
}

impl Peers {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience.into())
    }

    fn takes(&self, peer: Peer) -> bool {
        (self.only.is_empty() || self.only.contains(&peer)) && !self.without.contains(&peer)
    }
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::NatsServer, Self::RedisServer, Self::Relay];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::RedisServer => "redis-server",
            Self::Relay => "relay",
        }
    }
}

fn print(text: &str) {
    // Who closed standard output does not want to know.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
