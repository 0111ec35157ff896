//! The two kills: the master of the match servers, who comes back, and one of the two routers, who
//! does not.

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::account::{Killed, Outage};
use crate::audit::{self, Counts, Life};
use crate::crew::{Crew, Story};
use crate::stream::{GAMESVRS, MATCHSVR, Stream, now};
use crate::summary::Takeover;

/// What a kill was to idempotent calls.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Kill {
    pub killed: String,
    pub pid: u32,
    /// When, in microseconds since 1970.
    pub at: u64,
    /// How long it took until all was well again, in milliseconds.
    pub gap_ms: f64,
    /// Idempotent calls that were open at that moment, or made before all was well again.
    pub open: u64,
    /// Of these, how many were answered later.
    pub answered_later: u64,
    /// How long the slowest of them took, in milliseconds.
    pub slowest_ms: f64,
}

/// What is known of the takeover while it goes on.
#[derive(Debug)]
pub struct Change {
    pub kill: Kill,
    pub takeover: Takeover,
    /// When the last one was told.
    known: u64,
}

/// The end of a router.
#[derive(Debug)]
pub struct Blackout {
    pub kill: Kill,
    /// What it had counted shortly before.
    pub counts: Counts,
    /// When the last node knew.
    known: u64,
}

/// Kills the master, and waits until the backup works.
pub async fn kill_master(crew: &mut Crew) -> anyhow::Result<Change> {
    let old = crew.story.master().map_or(0, |(_, epoch)| epoch);
    let killed = now();
    let pid = crew.kill(MASTER).await?;
    crew.table.say(&format!("kill -9 {pid}: {MASTER}, the master, is dead"));
    crew.hear("the backup works as master", |story| {
        let seen = story.master_seen.iter().filter(|(epoch, _)| *epoch > old).count();
        seen >= GAMESVRS as usize
            && story.first.iter().any(|(who, epoch, _)| who == BACKUP && *epoch > old)
            && story.promoted.iter().any(|(who, epoch, _)| who == BACKUP && *epoch > old)
            && story.left_seen.iter().any(|at| *at >= killed)
    })
    .await?;
    let story = &crew.story;
    let since = |at: u64| at.saturating_sub(killed) as f64 / 1000.0;
    let promoted = story.promoted.iter().find(|(_, epoch, _)| *epoch > old);
    let (_, epoch, promoted) = promoted.context("nobody was promoted")?;
    let seen = story.master_seen.iter().filter(|(epoch, _)| *epoch > old).map(|(_, at)| *at).max();
    let seen = seen.unwrap_or(*promoted);
    let left = story.left_seen.iter().filter(|at| **at >= killed).min();
    let takeover = Takeover {
        left_seen_ms: left.map_or(0.0, |at| since(*at)),
        promoted_ms: since(*promoted),
        master_seen_ms: since(seen),
        epochs: [old, *epoch, 0],
        ..Takeover::default()
    };
    let known = seen.max(*promoted);
    crew.table.say(&format!("{BACKUP} took over {:.1} ms after the kill", takeover.promoted_ms));
    Ok(Change { kill: Kill::of(MASTER, pid, killed), takeover, known })
}

/// Brings the old master back, and waits until it is the master again.
pub async fn return_master(crew: &mut Crew, change: Change) -> anyhow::Result<Change> {
    let Change { mut takeover, .. } = change;
    crew.table.say(&format!("{MASTER} starts again"));
    crew.hire(MATCHSVR, 1, 2)?;
    let [_, second, _] = takeover.epochs;
    crew.hear("the old master is master again", |story| {
        let again = |(who, epoch, _): &(String, u64, u64)| who == MASTER && *epoch > second;
        story.is_there(MASTER) && story.first.iter().any(again) && story.promoted.iter().any(again)
    })
    .await?;
    let third = crew.story.promoted.iter().find(|(_, epoch, _)| *epoch > second);
    let (who, third, _) = third.context("nobody was promoted")?;
    ensure!(who == MASTER, "{who} was promoted, and not {MASTER}");
    takeover.epochs[2] = *third;
    Ok(Change { takeover, ..change })
}

/// Kills a router, and waits until every node goes on with the other one.
pub async fn kill_router(crew: &mut Crew) -> anyhow::Result<Blackout> {
    let router = crew.routers.get(ROUTER).with_context(|| format!("no {ROUTER}"))?;
    let counts = audit::counts_now(&router.admin).await?;
    let killed = now();
    let pid = crew.kill_router(ROUTER).await?;
    crew.table.say(&format!("kill -9 {pid}: {ROUTER}, one of two routers, is dead"));
    let all = crew.names("").len();
    crew.hear("all nodes go on", |story| story.links_lost.len() == all).await?;
    let known = crew.story.links_lost.values().max().copied().unwrap_or(killed);
    let gap_ms = known.saturating_sub(killed) as f64 / 1000.0;
    crew.table.say(&format!("all nodes go on with the other router {gap_ms:.1} ms after the kill"));
    let kill = Kill { gap_ms, ..Kill::of(&format!("router {ROUTER}"), pid, killed) };
    Ok(Blackout { kill, counts, known })
}

impl Kill {
    fn of(killed: &str, pid: u32, at: u64) -> Self {
        Self { killed: killed.to_owned(), pid, at, ..Self::default() }
    }

    /// Finds the idempotent calls that the kill concerned.
    pub fn find_calls(mut self, story: &Story) -> Self {
        let until = self.at + (self.gap_ms * 1000.0) as u64;
        let concerned = |sent: u64, end: u64| sent <= until && end > self.at;
        let sent = story.reports.values().flat_map(|report| report.sent.values());
        let waits = sent.flat_map(|sent| sent.waits.iter().copied());
        let waits = waits.filter(|(sent, answered)| concerned(*sent, *answered));
        let took: Vec<u64> = waits.map(|(sent, answered)| answered.saturating_sub(sent)).collect();
        let reports = story.reports.values().flat_map(|report| &report.sent);
        let failures = reports.filter(|(stream, _)| stream.idempotent());
        let failures = failures.flat_map(|(_, sent)| &sent.failures);
        let failed = failures.filter(|failure| concerned(failure.sent, failure.at)).count();
        self.answered_later = took.len() as u64;
        self.open = self.answered_later + failed as u64;
        self.slowest_ms = took.into_iter().max().unwrap_or_default() as f64 / 1000.0;
        self
    }
}

impl Change {
    /// What the journals add; and when messages may have been lost.
    pub fn judge(&mut self, lives: &[Life; 3]) -> Outage {
        let [_, backup, _] = lives;
        let [_, second, third] = self.takeover.epochs;
        // Two routers elect, so a master may go on under a higher epoch. 0 is nobody's.
        self.takeover.handled = [1..second, second..third, third..u64::MAX]
            .map(|epochs| lives.iter().map(|life| life.handled_in(epochs.clone())).sum());
        let first = backup.records.iter().find(|record| record.epoch >= second);
        let first = first.map_or(0, |record| record.at);
        self.kill.gap_ms = first.saturating_sub(self.kill.at) as f64 / 1000.0;
        Outage {
            of: Killed::Master,
            classes: vec![MATCHSVR.to_owned()],
            from: self.kill.at - UNDER_WAY,
            to: self.known.max(first) + LATE,
        }
    }
}

impl Blackout {
    /// When messages may have been lost after an earlier outage, and of which classes: those whose
    /// frames this router carried. Answers say nothing of it; they go back the way that the call came.
    pub fn outage(&self, after: &Outage) -> Outage {
        let counted = |stream: &&Stream| {
            let mut keys = self.counts.keys();
            stream.mode() != "direct"
                && keys.any(|(class, mode, _)| class == stream.class() && mode == stream.mode())
        };
        let carried = Stream::ALL.iter().filter(counted);
        let mut classes: Vec<String> = carried.map(|stream| stream.class().to_owned()).collect();
        classes.dedup();
        Outage {
            of: Killed::Router,
            classes,
            from: after.to.max(self.kill.at - UNDER_WAY),
            to: self.known + LATE,
        }
    }
}

/// The master, by its lowest id.
pub const MASTER: &str = "matchsvr.1";
const BACKUP: &str = "matchsvr.2";
/// The router that the shards' messages take.
const ROUTER: &str = "blue";
/// The longest that a message can have been under way when a process was killed: two seconds.
const UNDER_WAY: u64 = 2_000_000;
/// How late a clock may be read: a tenth of a second.
const LATE: u64 = 100_000;
