//! Rounds: the same work for each server in turn, again and again, so that whatever else the machine does
//! meets all of them alike. The first round warms up and does not count.

use anyhow::{Context, Result};

use crate::bench::figures::Figures;
use crate::bench::progress::Progress;
use crate::bench::server::Server;
use crate::bench::workload::{Setting, Workload};
use crate::bench::{Common, report};

/// What every server came to, round by round.
#[derive(Debug)]
pub struct Results {
    /// Servers by name. The others are compared with the first.
    pub servers: Vec<(String, Vec<Figures>)>,
}

/// Runs a workload and prints what came of it.
pub fn run(common: &Common, workload: &dyn Workload) -> Result<()> {
    let result = servers(common).and_then(|servers| rounds(common, workload, &servers));
    report::print(common, workload, result.as_ref());
    result.map(drop)
}

fn servers(common: &Common) -> Result<Vec<Server>> {
    let config = common.router_config.as_deref();
    let mut servers = vec![match (&common.connect, &common.router) {
        (Some(address), _) => Server::attach(address, common.pid)?,
        (None, Some(program)) => Server::router("switchboard", program, config)?,
        (None, None) => {
            let own = std::env::current_exe().context("this program has no path")?;
            Server::router("switchboard", &own.with_file_name("router"), config)?
        }
    }];
    for other in &common.beside {
        servers.push(match other.to_str() {
            Some("nats-server") => Server::nats()?,
            _ => Server::router(other.display().to_string(), other, config)?,
        });
    }
    Ok(servers)
}

fn rounds(common: &Common, workload: &dyn Workload, servers: &[Server]) -> Result<Results> {
    let mut results = Results {
        servers: servers.iter().map(|server| (server.name().to_owned(), Vec::new())).collect(),
    };
    let progress = Progress::default();
    progress.while_running(common.quiet, || {
        for round in 0..=common.rounds {
            for (server, (name, rounds)) in servers.iter().zip(&mut results.servers) {
                let what = match round {
                    0 => format!("{name}, warming up"),
                    _ => format!("{name}, round {round} of {}", common.rounds),
                };
                progress.begin(what.clone());
                let setting = Setting { server, patience: common.patience(), progress: &progress };
                let figures = workload.round(&setting).context(what)?;
                if round > 0 {
                    rounds.push(figures);
                }
            }
        }
        Ok(results)
    })
}
