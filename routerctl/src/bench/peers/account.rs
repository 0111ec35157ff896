//! The account of a run: what came of every piece of work, on which machine, of which versions, and when.
//! It is all that a report is written from.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::bar::Verdict;
use super::programme::{PROGRAMME, Piece};
use super::{Peer, Peers, roster, rounds};
use crate::bench::figures::Figures;
use crate::bench::progress::Progress;
use crate::bench::report::{medians, of_round};

/// A whole run.
#[derive(Debug)]
pub struct Account {
    pub date: String,
    /// As it was given.
    pub command: String,
    /// Of the working tree, if it is one.
    pub revision: Option<String>,
    pub machine: Machine,
    pub rounds: u32,
    pub entrants: Vec<Described>,
    /// Why others take no part.
    pub missing: Vec<String>,
    pub pieces: Vec<Done>,
}

/// Where it was run.
#[derive(Debug)]
pub struct Machine {
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
    pub system: String,
    /// When the run began: how many others were at work.
    pub load: String,
}

/// One that took part.
#[derive(Debug)]
pub struct Described {
    pub name: String,
    pub version: String,
    pub settings: String,
}

/// A piece of work that was done.
#[derive(Debug)]
pub struct Done {
    pub piece: &'static Piece,
    pub command: String,
    /// By name, the router first.
    pub servers: Vec<(String, Vec<Figures>)>,
    /// By name, and why.
    pub failed: Vec<(String, String)>,
}

impl Account {
    /// Does all the work.
    pub fn take(options: &Peers, progress: &Progress) -> Result<Self> {
        let machine = Machine::look();
        let (entrants, missing) = roster::gather(options)?;
        if !options.quiet {
            missing.iter().for_each(|missing| eprintln!("{missing}"));
        }
        let pieces = PROGRAMME.iter().map(|piece| rounds::run(piece, &entrants, options, progress));
        let pieces = pieces.collect::<Result<_>>()?;
        let describe = |entrant: &roster::Entrant| Described {
            name: entrant.name().to_owned(),
            version: entrant.version.clone(),
            settings: entrant.settings.clone(),
        };
        Ok(Self {
            date: today(),
            command: command_line(),
            revision: revision(),
            machine,
            rounds: options.rounds,
            entrants: entrants.iter().map(describe).collect(),
            missing,
            pieces,
        })
    }

    /// All of it for programs.
    pub fn json(&self) -> Value {
        let entrants = self.entrants.iter().map(|entrant| {
            let Described { name, version, settings } = entrant;
            json!({"name": name, "version": version, "settings": settings})
        });
        let Machine { cores, cpu, kernel, system, load } = &self.machine;
        json!({
            "ok": true,
            "date": self.date,
            "command": self.command,
            "revision": self.revision,
            "machine": {"cores": cores, "cpu": cpu, "kernel": kernel, "system": system, "load": load},
            "rounds": self.rounds,
            "servers": entrants.collect::<Vec<_>>(),
            "missing": self.missing,
            "work": self.pieces.iter().map(Done::json).collect::<Vec<_>>(),
        })
    }
}

impl Done {
    fn json(&self) -> Value {
        let servers = self.servers.iter().map(|(name, rounds)| {
            let each = rounds.iter().map(of_round).collect::<Vec<_>>();
            json!({"name": name, "median": medians(rounds), "rounds": each})
        });
        let failed = self.failed.iter().map(|(name, why)| json!({"name": name, "error": why}));
        let measures = self.piece.measures.iter().map(|measure| {
            let ratios: Map<String, Value> = Peer::ALL
                .into_iter()
                .filter_map(|peer| {
                    let ratio = self.ratio(measure, Some(peer), None)?;
                    Some((peer.name().to_owned(), ratio.into()))
                })
                .collect();
            let verdict = Verdict::of(measure, self);
            json!({
                "title": measure.title,
                "figure": measure.figure.key,
                "ratio_to_router": ratios,
                "met": verdict.met,
                "verdict": verdict.why,
            })
        });
        json!({
            "title": self.piece.title,
            "command": self.command,
            "servers": servers.collect::<Vec<_>>(),
            "failed": failed.collect::<Vec<_>>(),
            "measures": measures.collect::<Vec<_>>(),
        })
    }
}

impl Machine {
    fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.split_once(['=', ':']));
            line.map_or_else(unknown, |(_, value)| value.trim().trim_matches('"').to_owned())
        };
        let load = read("/proc/loadavg");
        Self {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
            cpu: value(&read("/proc/cpuinfo"), "model name"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            system: value(&read("/etc/os-release"), "PRETTY_NAME"),
            load: load.split(' ').next().map_or_else(unknown, str::to_owned),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn command_line() -> String {
    let words = std::env::args().skip(1);
    ["routerctl".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

fn revision() -> Option<String> {
    let git = |words: &[&str]| {
        let output = std::process::Command::new("git").args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed { format!("{commit}, with changes") } else { commit })
}

fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86_400)
}

/// The date so many days after 1970-01-01.
fn date(days: u64) -> String {
    let (mut year, mut left) = (1970, days);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_453, "2025-12-31"),
            (20_778, "2026-11-21"),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}
