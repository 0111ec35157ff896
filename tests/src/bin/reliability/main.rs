//! What the page `docs/reliability.md` claims, done for real: processes that are killed, restarted and
//! cut off while calls go on, and an account at the end.
//!
//! - `kill`: SIGKILL to the master, again and again, under idempotent calls;
//! - `routers`: SIGKILL to the router in use, again and again, under the same load;
//! - `rolling`: a planned restart of every node and every router under load;
//! - `partition`: a master whose network goes silent.
//!
//! Nodes are this program once more, in the role `worker` or `caller`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

mod account;
mod kill;
mod load;
mod partition;
mod process;
mod proxy;
mod rolling;
mod worker;

use std::time::Duration;

use anyhow::{Context, bail};

/// The options of a run, by name.
#[derive(Debug, Clone)]
pub struct Options(Vec<(String, String)>);

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Vec::new();
        while let Some(name) = args.next() {
            let Some(name) = name.strip_prefix("--") else { bail!("`{name}` is not an option") };
            let value = args.next().with_context(|| format!("--{name} has no value"))?;
            options.push((name.to_owned(), value));
        }
        Ok(Self(options))
    }

    /// An option that has to be there.
    pub fn text(&self, name: &str) -> anyhow::Result<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).with_context(|| format!("--{name} is missing"))
    }

    /// A number, or what stands for it.
    pub fn number(&self, name: &str, otherwise: u64) -> anyhow::Result<u64> {
        match self.text(name) {
            Err(_) => Ok(otherwise),
            Ok(value) => value.parse().with_context(|| format!("--{name} {value}")),
        }
    }
}

const USAGE: &str = "\
usage: reliability kill      [--kills 1000] [--rate 5000] [--pause-ms 40]
       reliability routers   [--kills 100] [--rate 5000]
       reliability rolling   [--rounds 1] [--rate 1000]
       reliability partition [--rounds 10] [--heartbeat-ms 500] [--slack-ms 100]

Each starts routers and nodes of its own on free ports of 127.0.0.1, prints what it measured, and exits
with 1 if a promise was broken.";

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let role = args.next().unwrap_or_default();
    if matches!(role.as_str(), "" | "-h" | "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let options = Options::read(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = match role.as_str() {
        "kill" => runtime.block_on(kill::masters(&options)),
        "routers" => runtime.block_on(kill::routers(&options)),
        "rolling" => runtime.block_on(rolling::run(&options)),
        "partition" => runtime.block_on(partition::run(&options)),
        "worker" => runtime.block_on(worker::run(&options)).map(|()| true),
        "caller" => runtime.block_on(load::serve(&options)).map(|()| true),
        other => bail!("`{other}` is not a run\n{USAGE}"),
    };
    runtime.shutdown_timeout(Duration::from_secs(1));
    if !result? {
        std::process::exit(1);
    }
    Ok(())
}
