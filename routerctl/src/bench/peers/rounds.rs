//! The rounds of one piece of work: everybody in turn, and in every round another one begins, so that
//! nobody is always behind the same other.

use anyhow::{Context, Result};
use clap::Parser;

use super::Peers;
use super::account::Done;
use super::programme::Piece;
use super::roster::Entrant;
use crate::bench::Work;
use crate::bench::figures::Figures;
use crate::bench::progress::Progress;
use crate::bench::server::Server;
use crate::bench::workload::{Setting, Workload};

/// A command as it would stand behind `routerctl bench`.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(subcommand)]
    work: Work,
}

/// One that takes part, and how far it has come.
struct Runner<'a> {
    entrant: &'a Entrant,
    server: Option<Server>,
    rounds: Vec<Figures>,
    /// Why it gave up.
    failed: Option<String>,
}

/// Has everybody do a piece of work, again and again.
///
/// # Errors
/// If the router fails.
pub fn run(
    piece: &'static Piece,
    entrants: &[Entrant],
    options: &Peers,
    progress: &Progress,
) -> Result<Done> {
    let command = piece.command(options.effort);
    let line = Line::try_parse_from(command.split(' ')).context("a piece of work")?;
    let (_, workload) = line.work.workload().context("a piece of work is a workload")?;
    workload.check()?;
    let fresh = workload.wants_fresh_servers();
    let mut runners: Vec<Runner<'_>> = entrants.iter().map(Runner::new).collect();
    for round in u32::from(fresh)..=options.rounds {
        let first = round as usize % runners.len();
        for turn in 0..runners.len() {
            let place = (first + turn) % runners.len();
            let runner = &mut runners[place];
            let name = runner.entrant.name();
            let what = match round {
                0 => format!("{}; {name}, warming up", piece.title),
                _ => format!("{}; {name}, round {round} of {}", piece.title, options.rounds),
            };
            progress.begin(what.clone());
            match runner.round(workload, fresh, options, progress) {
                Ok(figures) if round > 0 => runner.rounds.extend(figures),
                Ok(_) => {}
                Err(error) if runner.entrant.peer.is_none() => return Err(error.context(what)),
                Err(error) => {
                    runner.failed = Some(format!("{error:#}"));
                    runner.server = None;
                }
            }
        }
    }
    let mut done = Done { piece, command, servers: Vec::new(), failed: Vec::new() };
    for runner in runners {
        let name = runner.entrant.name().to_owned();
        match runner.failed {
            None => done.servers.push((name, runner.rounds)),
            Some(why) => done.failed.push((name, why)),
        }
    }
    Ok(done)
}

impl<'a> Runner<'a> {
    fn new(entrant: &'a Entrant) -> Self {
        Self { entrant, server: None, rounds: Vec::new(), failed: None }
    }

    /// Does it once, unless it has given up.
    fn round(
        &mut self,
        workload: &dyn Workload,
        fresh: bool,
        options: &Peers,
        progress: &Progress,
    ) -> Result<Option<Figures>> {
        if self.failed.is_some() {
            return Ok(None);
        }
        if fresh {
            self.server = None;
        }
        let server = match &mut self.server {
            Some(server) => server,
            none => none.insert(self.entrant.start()?),
        };
        let setting = Setting { server, patience: options.patience(), progress };
        workload.round(&setting).map(Some)
    }
}
