//! What happens when: everybody comes, the players play, the master is killed, the backup takes over,
//! the old master returns, everybody leaves, and the account is made.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;

use crate::Options;
use crate::account::Outage;
use crate::audit::{self, Life};
use crate::crew::{Crew, ROUTER_LOG};
use crate::news::Order;
use crate::roles::dbagent::SHARDS;
use crate::stream::{GAMESVRS, MATCHSVR, now};
use crate::summary::{Summary, Takeover};
use crate::table::{Screen, Table};

/// Runs the cluster; the exit code is 0 if the account closes.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let dir = tempfile::tempdir().context("a directory for journals")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(perform(options, dir.path()));
    // Ends the children that are left: their handles live in the runtime's tasks and in the crew.
    drop(runtime);
    let closes = result.as_ref().is_ok_and(|summary| summary.closes);
    if !closes {
        let dir = dir.keep();
        eprintln!("cluster: the journals and {ROUTER_LOG} are kept in {}", dir.display());
    }
    let summary = result?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    }
    Ok(if closes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn perform(options: &Options, dir: &Path) -> anyhow::Result<Summary> {
    let screen = if options.json { Screen::Stderr } else { Screen::Stdout };
    let mut crew = Crew::start(options, dir, Table::new(screen)).await?;
    assemble(&mut crew).await?;

    crew.begin();
    let Options { players, rate, seconds, .. } = options;
    crew.table.say(&format!("{players} players send {rate} messages a second each"));
    let start = Instant::now();
    for name in crew.names("gamesvr") {
        crew.order(&name, &Order::Start).await?;
    }
    let length = Duration::from_secs(*seconds);
    crew.listen_until(start + length / 2).await?;
    let takeover = kill_master(&mut crew).await?;
    crew.listen_until(start + length * 3 / 4).await?;
    let takeover = return_master(&mut crew, takeover).await?;
    crew.listen_until(start + length).await?;
    let played = start.elapsed();
    crew.table.end("the players rest; what is under way is worked off");
    rest(&mut crew).await?;

    let counts = audit::router_counts(&crew.admin).await?;
    for name in crew.names("") {
        crew.order(&name, &Order::Report).await?;
    }
    let all = crew.names("").len();
    crew.hear("reports", |story| story.reports.len() == all).await?;
    for name in crew.names("") {
        crew.dismiss(&name).await?;
    }
    let Crew { story, mut table, router, .. } = crew;
    router.terminate()?;
    router.left().await?;
    table.say("every node has left, and the router after them");

    let lives = [Life::read(dir, 1, 1)?, Life::read(dir, 2, 1)?, Life::read(dir, 1, 2)?];
    let (takeover, outage) = takeover.judge(&lives);
    let (book, problems) = audit::book(&story, &lives, counts, Some(outage));
    let mut account = book.close();
    account.problems.splice(..0, problems);
    let sent_per_second = (account.total.sent as f64 / played.as_secs_f64()) as u64;
    let summary = Summary {
        seconds: options.seconds,
        players: options.players,
        rate: options.rate,
        sent_per_second,
        closes: account.closes(),
        account,
        takeover,
        latency_micros: table.latencies(),
    };
    table.write(&summary.render());
    Ok(summary)
}

/// Starts every node, and waits until all are there.
async fn assemble(crew: &mut Crew) -> anyhow::Result<()> {
    let dbagents = u32::try_from(SHARDS)?;
    let classes =
        [("dbagent", dbagents), ("mailsvr", MAILSVRS), (MATCHSVR, 2), ("gamesvr", GAMESVRS)];
    for (class, count) in classes {
        for instance in 1..=count {
            crew.hire(class, instance, 1)?;
        }
    }
    let all = crew.names("").len();
    crew.hear("all nodes are connected", |story| story.ready.len() == all).await?;
    let is_master = |(who, _): (&str, u64)| who == VICTIM;
    crew.hear("a master", |story| story.master().is_some_and(is_master)).await
}

/// What is known of the takeover while it goes on.
struct Change {
    takeover: Takeover,
    killed: u64,
    /// When the last one was told.
    known: u64,
}

/// Kills the master, and waits until the backup works.
async fn kill_master(crew: &mut Crew) -> anyhow::Result<Change> {
    let old = crew.story.master().map_or(0, |(_, epoch)| epoch);
    let killed = now();
    let pid = crew.kill(VICTIM).await?;
    crew.table.say(&format!("kill -9 {pid}: {VICTIM}, the master, is dead"));
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
        killed: VICTIM.to_owned(),
        pid,
        left_seen_ms: left.map_or(0.0, |at| since(*at)),
        promoted_ms: since(*promoted),
        master_seen_ms: since(seen),
        epochs: [old, *epoch, 0],
        ..Takeover::default()
    };
    let known = seen.max(*promoted);
    crew.table.say(&format!("{BACKUP} took over {:.1} ms after the kill", takeover.promoted_ms));
    Ok(Change { takeover, killed, known })
}

/// Brings the old master back, and waits until it is the master again.
async fn return_master(crew: &mut Crew, change: Change) -> anyhow::Result<Change> {
    let Change { mut takeover, .. } = change;
    crew.table.say(&format!("{VICTIM} starts again"));
    crew.hire(MATCHSVR, 1, 2)?;
    let [_, second, _] = takeover.epochs;
    crew.hear("the old master is master again", |story| {
        let again = |(who, epoch, _): &(String, u64, u64)| who == VICTIM && *epoch > second;
        story.first.iter().any(again) && story.promoted.iter().any(again)
    })
    .await?;
    let third = crew.story.promoted.iter().find(|(_, epoch, _)| *epoch > second);
    let (who, third, _) = third.context("nobody was promoted")?;
    ensure!(who == VICTIM, "{who} was promoted, and not {VICTIM}");
    takeover.epochs[2] = *third;
    Ok(Change { takeover, ..change })
}

/// Lets the players rest, and waits until everything is handled that they sent.
async fn rest(crew: &mut Crew) -> anyhow::Result<()> {
    let gamesvrs = crew.names("gamesvr");
    for name in &gamesvrs {
        let others = crew.names("").into_iter().filter(|other| other != name).collect();
        crew.order(name, &Order::Stop { others }).await?;
    }
    crew.hear("the players rest", |story| story.stopped.len() == gamesvrs.len()).await
}

impl Change {
    /// What the journals add; and when messages may have been lost.
    fn judge(mut self, lives: &[Life; 3]) -> (Takeover, Outage) {
        let [_, backup, _] = lives;
        let epochs = self.takeover.epochs;
        self.takeover.handled =
            epochs.map(|epoch| lives.iter().map(|life| life.handled_in(epoch)).sum());
        let first = backup.records.iter().find(|record| record.epoch == epochs[1]);
        let first = first.map_or(0, |record| record.at);
        self.takeover.first_message_ms = first.saturating_sub(self.killed) as f64 / 1000.0;
        let outage = Outage { from: self.killed - UNDER_WAY, to: self.known.max(first) + LATE };
        (self.takeover, outage)
    }
}

const MAILSVRS: u32 = 3;
/// The master, by its lowest id.
const VICTIM: &str = "matchsvr.1";
const BACKUP: &str = "matchsvr.2";
/// The longest that a message can have been under way when its target was killed: two seconds.
const UNDER_WAY: u64 = 2_000_000;
/// How late a clock may be read: a tenth of a second.
const LATE: u64 = 100_000;
