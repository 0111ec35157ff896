//! Rounds: the same work for each server in turn, again and again, so that whatever else the machine does
//! meets all of them alike. The first round warms up and does not count.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::bench::figures::Figures;
use crate::bench::foreign;
use crate::bench::progress::Progress;
use crate::bench::server::Server;
use crate::bench::workload::{Setting, Workload};
use crate::bench::{Common, report};
use crate::failure::Failure;

/// What every server came to, round by round.
#[derive(Debug)]
pub struct Results {
    /// Servers by name. The others are compared with the first.
    pub servers: Vec<(String, Vec<Figures>)>,
}

/// Where a server comes from.
#[derive(Debug, Clone)]
enum Entrant {
    Own(String, PathBuf),
    Nats,
    Redis,
    Relay,
    Others(String, Option<u32>),
}

/// Runs a workload and prints what came of it.
pub fn run(common: &Common, workload: &dyn Workload) -> Result<()> {
    let result = workload.check().and_then(|()| config(common, workload)).and_then(|config| {
        let progress = Progress::default();
        progress
            .while_running(common.quiet, || rounds(common, workload, config.as_ref(), &progress))
    });
    report::print(common, workload, result.as_ref());
    result.map(drop)
}

/// The configuration of routers that are started, in a file that goes away.
fn config(common: &Common, workload: &dyn Workload) -> Result<Option<NamedTempFile>> {
    let Some(yaml) = workload.router_config() else { return Ok(None) };
    if common.router_config.is_some() {
        let what = format!("--router-config: {} writes the configuration itself", workload.name());
        return Err(Failure::Usage(what).into());
    }
    let mut file = NamedTempFile::new().context("no temporary file for the configuration")?;
    file.write_all(yaml.as_bytes())?;
    Ok(Some(file))
}

fn rounds(
    common: &Common,
    workload: &dyn Workload,
    config: Option<&NamedTempFile>,
    progress: &Progress,
) -> Result<Results> {
    let entrants = entrants(common)?;
    let config = config.map(NamedTempFile::path).or(common.router_config.as_deref());
    let start = |entrant: &Entrant| entrant.start(config);
    let mut servers = entrants.iter().map(start).collect::<Result<Vec<Server>>>()?;
    let mut results = Results {
        servers: servers.iter().map(|server| (server.name().to_owned(), Vec::new())).collect(),
    };
    let fresh = workload.wants_fresh_servers();
    for round in u32::from(fresh)..=common.rounds {
        for (number, (name, rounds)) in results.servers.iter_mut().enumerate() {
            let what = match round {
                0 => format!("{name}, warming up"),
                _ => format!("{name}, round {round} of {}", common.rounds),
            };
            progress.begin(what.clone());
            if fresh && round > 1 {
                servers[number] = start(&entrants[number])?;
            }
            let server = &servers[number];
            let setting = Setting { server, patience: common.patience(), progress };
            let figures = workload.round(&setting).context(what)?;
            if round > 0 {
                rounds.push(figures);
            }
        }
    }
    Ok(results)
}

fn entrants(common: &Common) -> Result<Vec<Entrant>> {
    let first = match (&common.connect, &common.router) {
        (Some(address), _) => Entrant::Others(address.clone(), common.pid),
        (None, Some(program)) => Entrant::Own("switchboard".to_owned(), program.clone()),
        (None, None) => {
            let own = std::env::current_exe().context("this program has no path")?;
            Entrant::Own("switchboard".to_owned(), own.with_file_name("router"))
        }
    };
    let beside = common.beside.iter().map(|other| match other.to_str() {
        Some("nats-server") => Entrant::Nats,
        Some("redis-server") => Entrant::Redis,
        Some("relay") => Entrant::Relay,
        _ => Entrant::Own(other.display().to_string(), other.clone()),
    });
    Ok([first].into_iter().chain(beside).collect())
}

impl Entrant {
    fn start(&self, config: Option<&Path>) -> Result<Server> {
        match self {
            Self::Own(name, program) => Server::router(name, program, config),
            Self::Nats => foreign::nats(&foreign::installed("nats-server")?),
            Self::Redis => foreign::redis(&foreign::installed("redis-server")?),
            Self::Relay => Server::relay(),
            Self::Others(address, pid) => Server::attach(address, *pid),
        }
    }
}
