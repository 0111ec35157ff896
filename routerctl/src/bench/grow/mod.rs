//! `routerctl bench grow`: how the cost of a frame, of a registration and of a copy changes as a router gets more
//! to do; a plot and a table of it.
//!
//! - `frames`, `registering`, `floods`: the sweeps; `population`: a class of many ids on few connections;
//!   `load`: what flows in them; `random`: messages for anybody;
//! - `sweep`: what they measure; `chart`: the plot; `page`: the table, for a page too.

mod chart;
mod floods;
mod frames;
mod load;
mod page;
mod population;
mod random;
mod registering;
mod sweep;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, value_parser};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::bench::check_directory;
use crate::bench::crowd::allow_open_files;
use crate::bench::progress::Progress;
use crate::bench::server::Server;
use crate::failure::Failure;

use page::Origin;
use population::CONNECTIONS;
use sweep::Sweep;

/// The options of the sweeps.
#[derive(Debug, Clone, Args)]
pub struct Grow {
    /// How many instances the class has to which messages go: multiples of ten, ascending
    #[arg(long, value_delimiter = ',', default_value = "10,1000,100000,1000000",
          value_parser = value_parser!(u32).range(10..=8_000_000))]
    instances: Vec<u32>,
    /// To how many instances a class grows whose registration is timed
    #[arg(long, default_value_t = 1_000_000, value_parser = value_parser!(u32).range(1000..=8_000_000))]
    registered: u32,
    /// To how many connections a broadcast goes
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000",
          value_parser = value_parser!(u32).range(1..=60_000))]
    copies: Vec<u32>,
    /// How many connections send, and as many receive
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000",
          value_parser = value_parser!(u32).range(1..=10_000))]
    active: Vec<u32>,
    /// How many threads the router forwards with
    #[arg(long, value_delimiter = ',', default_value = "1,2,4",
          value_parser = value_parser!(u32).range(1..=1024))]
    shards: Vec<u32>,
    /// How many messages of 64 bytes a measurement takes at most, copies included
    #[arg(long, default_value_t = 2_000_000, value_parser = value_parser!(u64).range(1000..))]
    messages: u64,
    /// How many rounds count; one more warms up
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Write the plot here
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the tables into this Markdown file, between its lines `<!-- grow: begin -->` and `<!-- grow: end -->`
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// The router to start [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    router: Option<PathBuf>,
    /// How many seconds nothing may come before what is missing counts as lost
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u32).range(1..=3600))]
    patience: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show no progress on standard error
    #[arg(long)]
    quiet: bool,
}

/// Starts routers as the sweeps want them.
struct Lab<'a> {
    options: &'a Grow,
    router: PathBuf,
    progress: Progress,
}

/// Runs the command.
pub fn run(options: &Grow) -> Result<()> {
    let result = options.check().and_then(|()| {
        let lab = Lab::new(options)?;
        let before = Origin::look();
        let sweeps = lab.progress.while_running(options.quiet, || lab.sweeps())?;
        let origin = before.until_now();
        publish(options, &origin, &sweeps)?;
        Ok((origin, sweeps))
    });
    let text = match &result {
        Ok((origin, sweeps)) if options.json => {
            let sweeps: Vec<_> = sweeps.iter().map(Sweep::json).collect();
            format!(
                "{:#}\n",
                json!({"workload": "grow", "ok": true, "origin": origin.json(), "sweeps": sweeps})
            )
        }
        Ok((origin, sweeps)) => page::section(origin, sweeps),
        Err(error) if options.json => {
            format!(
                "{:#}\n",
                json!({"workload": "grow", "ok": false, "error": format!("{error:#}")})
            )
        }
        Err(_) => String::new(),
    };
    // Who closed standard output does not want to know.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    result.map(drop)
}

/// Writes the files that were asked for.
fn publish(options: &Grow, origin: &Origin, sweeps: &[Sweep]) -> Result<()> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    };
    if let Some(path) = &options.svg {
        write(path, chart::svg(sweeps))?;
    }
    if let Some(path) = &options.page {
        write(path, page::replace(path, &page::section(origin, sweeps))?)?;
    }
    Ok(())
}

impl Grow {
    /// Whether the options make sense, before anything is started.
    fn check(&self) -> Result<()> {
        let uneven = self.instances.iter().find(|n| !n.is_multiple_of(CONNECTIONS as u32));
        if let Some(uneven) = uneven {
            let what = format!(
                "--instances: {uneven} can't be dealt evenly to {CONNECTIONS} connections: give multiples of it"
            );
            return Err(Failure::Usage(what).into());
        }
        let ascends = |list: &[u32]| list.windows(2).all(|pair| pair[0] < pair[1]);
        for (name, list) in [
            ("instances", &self.instances),
            ("copies", &self.copies),
            ("active", &self.active),
            ("shards", &self.shards),
        ] {
            if !ascends(list) {
                let what = format!("--{name}: the numbers have to ascend, such as 10,100,1000");
                return Err(Failure::Usage(what).into());
            }
        }
        if let Some(page) = &self.page {
            page::replace(page, "")?;
        }
        if let Some(svg) = &self.svg {
            check_directory("--svg", svg)?;
        }
        let most = |list: &[u32]| list.iter().copied().max().unwrap_or(0) as usize;
        allow_open_files(most(&self.copies).max(2 * most(&self.active)))
    }
}

impl<'a> Lab<'a> {
    fn new(options: &'a Grow) -> Result<Self> {
        let router = match &options.router {
            Some(router) => router.clone(),
            None => std::env::current_exe()
                .context("this program has no path")?
                .with_file_name("router"),
        };
        Ok(Self { options, router, progress: Progress::default() })
    }

    fn sweeps(&self) -> Result<Vec<Sweep>> {
        Ok(vec![
            frames::by_instances(self)?,
            registering::by_size(self)?,
            floods::by_copies(self)?,
            floods::by_active(self)?,
            floods::by_shards(self)?,
        ])
    }

    /// A router of its own for a sweep; 0 shards are as many as there are cores.
    fn router(&self, shards: u32) -> Result<Server> {
        let mut file = NamedTempFile::new().context("no temporary file for the configuration")?;
        let ids = population::MOST_IDS;
        writeln!(file, "shards: {shards}\nlimits:\n  max_services_per_session: {ids}")?;
        Server::router("switchboard", &self.router, Some(file.path()))
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.options.patience.into())
    }
}
