//! Who takes part: the router, and those of its peers that are installed; of which version, with which
//! settings, and how each is started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{Peer, Peers};
use crate::bench::foreign::{self, NATS_SETTINGS, REDIS_SETTINGS};
use crate::bench::server::{Server, cannot_start};
use crate::failure::Failure;

/// One that takes part.
#[derive(Debug, Clone)]
pub struct Entrant {
    /// None is the router.
    pub peer: Option<Peer>,
    pub version: String,
    pub settings: String,
    program: PathBuf,
}

/// Who takes part, the router first, and why others don't.
///
/// # Errors
/// If there is no router.
pub fn gather(options: &Peers) -> Result<(Vec<Entrant>, Vec<String>)> {
    let own = std::env::current_exe().context("this program has no path")?;
    let router = options.router.clone().unwrap_or_else(|| own.with_file_name("router"));
    let build = "build it (cargo build --release --bin router) or name one with --router";
    let version =
        version(&router).map_err(|why| cannot_start(&router, format!("{why}; {build}")))?;
    let settings = "its default settings".to_owned();
    let mut entrants = vec![Entrant { peer: None, version, settings, program: router }];
    let mut missing = Vec::new();
    for peer in Peer::ALL.into_iter().filter(|peer| options.takes(*peer)) {
        match Entrant::find(peer, options, &own) {
            Ok(entrant) => entrants.push(entrant),
            Err(why) => missing.push(format!("{} is left out: {why}", peer.name())),
        }
    }
    Ok((entrants, missing))
}

impl Entrant {
    fn find(peer: Peer, options: &Peers, own: &Path) -> Result<Self, Failure> {
        let given = match peer {
            Peer::NatsServer => options.nats.clone(),
            Peer::RedisServer => options.redis.clone(),
            Peer::Relay => Some(own.to_owned()),
        };
        let program = given.map_or_else(|| foreign::installed(peer.name()), Ok)?;
        let version = version(&program).map_err(|why| cannot_start(&program, why))?;
        let settings = match peer {
            Peer::NatsServer => said(NATS_SETTINGS),
            Peer::RedisServer => said(REDIS_SETTINGS),
            Peer::Relay => "the router's threads, read size and socket options".to_owned(),
        };
        Ok(Self { peer: Some(peer), version, settings, program })
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.peer.map_or(ROUTER, Peer::name)
    }

    pub fn start(&self) -> Result<Server> {
        match self.peer {
            None => Server::router(ROUTER, &self.program, None),
            Some(Peer::NatsServer) => foreign::nats(&self.program),
            Some(Peer::RedisServer) => foreign::redis(&self.program),
            Some(Peer::Relay) => Server::relay(),
        }
    }
}

/// What a program says of its version.
fn version(program: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    number(&said).ok_or_else(|| format!("it says {said:?} when it is asked for its version"))
}

/// "nats-server: v2.9.10", "Redis server v=7.0.15 sha=00000000:0", "router 0.1.0".
fn number(said: &str) -> Option<String> {
    let words = said.split_whitespace().map(|word| word.trim_start_matches(['v', '=']));
    let mut numbers = words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    numbers.next().map(str::to_owned)
}

fn said(settings: &[&str]) -> String {
    if settings.is_empty() {
        return "its default settings".to_owned();
    }
    let quoted = |word: &&str| match word.contains(' ') || word.is_empty() {
        true => format!("\"{word}\""),
        false => (*word).to_owned(),
    };
    format!("`{}`", settings.iter().map(quoted).collect::<Vec<_>>().join(" "))
}

/// What the router is called.
pub const ROUTER: &str = "switchboard";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_each_program_says() {
        for (said, version) in [
            ("nats-server: v2.9.10\n", Some("2.9.10")),
            ("Redis server v=7.0.15 sha=00000000:0 bits=64\n", Some("7.0.15")),
            ("router 0.1.0\n", Some("0.1.0")),
            ("", None),
        ] {
            assert_eq!(number(said).as_deref(), version, "{said:?}");
        }
    }
}
