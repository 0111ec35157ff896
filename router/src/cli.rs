//! The command line of `router`: options over the file, signals, exit codes.
//!
//! Exit codes: 0 after a drain, 1 when something fails while running, 2 for a mistake in the options or
//! the configuration, 130 when a second signal cuts a drain short.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::config::{self, Address, Config, ConfigError};
use crate::daemon::{Router, StartError};
use crate::reload::{ReloadError, Source};

/// Switchboard's router: forwards frames between the services that connect to it.
#[derive(Debug, Clone, Parser)]
#[command(name = "router", version)]
pub struct Options {
    /// Where nodes connect: IP:PORT or unix:/path; repeat for more [default: 0.0.0.0:2000]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<Address>,
    /// Where operators connect over HTTP [default: 127.0.0.1:2001]
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_admin)]
    pub admin: Option<SocketAddr>,
    /// A YAML file; see router.example.yaml. Options given here win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What the router calls itself [default: router]
    #[arg(long)]
    pub name: Option<String>,
    /// How many threads forward frames; 0 is one for each core [default: 0]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Which log lines to write to standard error, such as info or switchboard_router=debug
    /// [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Check options and configuration, and exit
    #[arg(long)]
    pub check: bool,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    run(Options::parse())
}

/// Runs the program with options that are parsed already.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    let config = match options.config() {
        Ok(config) => config,
        Err(mistake) => return fail(&mistake),
    };
    let filter = match EnvFilter::try_new(&config.log) {
        Ok(filter) => filter,
        Err(mistake) => return fail(&format!("log: `{}`: {mistake}", config.log)),
    };
    if options.check {
        return say("ok: the configuration is valid\n");
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .init();
    let source = options.config.is_some().then(|| {
        let options = options.clone();
        Box::new(move || options.config()) as Source
    });
    let router = match Router::start_with(config, source) {
        Ok(router) => router,
        Err(mistake @ (StartError::Config(_) | StartError::Bind { .. })) => return fail(&mistake),
        Err(error) => {
            error!(%error, "can't start");
            return ExitCode::FAILURE;
        }
    };
    serve(router)
}

impl Options {
    /// The file, and the options over it.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        if let Some(admin) = self.admin {
            config.admin = admin;
        }
        if let Some(name) = &self.name {
            config.name.clone_from(name);
        }
        if let Some(shards) = self.shards {
            config.shards = shards;
        }
        if let Some(log) = &self.log {
            config.log.clone_from(log);
        }
        config.validate()?;
        Ok(config)
    }
}

fn serve(router: Router) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "can't wait for signals");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        let signals = (|| {
            let terminate = signal(SignalKind::terminate())?;
            Ok::<_, io::Error>((
                terminate,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            ))
        })();
        let (mut terminate, mut interrupt, mut hangup) = match signals {
            Ok(signals) => signals,
            Err(error) => {
                error!(%error, "can't wait for signals");
                return ExitCode::FAILURE;
            }
        };
        let listen: Vec<String> = router.listen().iter().map(Address::to_string).collect();
        let ready = format!("ready listen={} admin={}\n", listen.join(","), router.admin());
        info!(listen = listen.join(","), admin = %router.admin(), "ready");
        // ORDER: who has read that the router is ready may ask it to leave.
        let mut asked = router.leave_requests();
        if say(&ready) != ExitCode::SUCCESS {
            warn!("standard output is closed; nobody was told that the router is ready");
        }
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // The sender lives as long as the router does.
                _ = asked.wait_for(|asked| *asked) => break,
                _ = hangup.recv() => reload(&router).await,
            }
        }
        leave(router, &mut terminate, &mut interrupt).await
    })
}

/// Drains; a second signal ends it at once.
async fn leave(router: Router, terminate: &mut Signal, interrupt: &mut Signal) -> ExitCode {
    let drained = tokio::task::spawn_blocking(move || {
        let cut_off = router.drain();
        drop(router);
        cut_off
    });
    tokio::select! {
        cut_off = drained => {
            info!(cut_off = cut_off.unwrap_or_default(), "drained; bye");
            ExitCode::SUCCESS
        }
        _ = terminate.recv() => now(),
        _ = interrupt.recv() => now(),
    }
}

fn now() -> ExitCode {
    warn!("second signal: leaving at once");
    // The thread that drains is not waited for.
    std::process::exit(130)
}

/// What came of it is in the log.
async fn reload(router: &Router) {
    if let Err(nothing @ ReloadError::NoSource) = router.reload().await {
        warn!("SIGHUP: {nothing}");
    }
}

fn fail(mistake: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("router: {mistake}");
    ExitCode::from(2)
}

fn say(line: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
