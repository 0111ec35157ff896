//! The account of a run: what came of every piece of work, on which machine, of which versions, and when.
//! It is all that a report is written from.

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::bar::Verdict;
use super::programme::{PROGRAMME, Piece};
use super::{Peer, Peers, roster, rounds};
use crate::bench::figures::Figures;
use crate::bench::here;
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
            date: here::today(),
            command: here::command_line(),
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
        Self {
            cores: here::cores(),
            cpu: here::cpu().unwrap_or_else(unknown),
            kernel: here::kernel(),
            system: here::system().unwrap_or_else(unknown),
            load: here::load(),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
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
