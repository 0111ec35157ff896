//! What happens when: everybody comes, the players play, the master is killed, the backup takes over,
//! the old master returns, a router is killed, everybody leaves, and the account is made.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use crate::Options;
use crate::audit::{self, Life};
use crate::crew::{Crew, Story};
use crate::kills::{self, MASTER};
use crate::news::Order;
use crate::roles::dbagent::SHARDS;
use crate::stream::{GAMESVRS, MATCHSVR};
use crate::summary::Summary;
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
        eprintln!("cluster: the journals and the routers' logs are kept in {}", dir.display());
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
    crew.listen_until(start + length / 4).await?;
    let change = kills::kill_master(&mut crew).await?;
    crew.listen_until(start + length / 2).await?;
    let mut change = kills::return_master(&mut crew, change).await?;
    crew.listen_until(start + length * 3 / 4).await?;
    let blackout = kills::kill_router(&mut crew).await?;
    crew.listen_until(start + length).await?;
    let played = start.elapsed();
    crew.table.end("the players rest; what is under way is worked off");
    rest(&mut crew).await?;

    let mut counts = [audit::Counts::new(), blackout.counts.clone()];
    for router in crew.routers.values() {
        counts[0].extend(audit::final_counts(&router.admin).await?);
    }
    for name in crew.names("") {
        crew.order(&name, &Order::Report).await?;
    }
    let all = crew.names("").len();
    crew.hear("reports", |story| story.reports.len() == all).await?;
    for name in crew.names("") {
        crew.dismiss(&name).await?;
    }
    let Crew { story, mut table, routers, .. } = crew;
    for router in routers.into_values() {
        router.process.terminate()?;
        router.process.left().await?;
    }
    table.say("every node has left, and the router after them");

    let lives = [Life::read(dir, 1, 1)?, Life::read(dir, 2, 1)?, Life::read(dir, 1, 2)?];
    let outage = change.judge(&lives);
    let outages = vec![outage.clone(), blackout.outage(&outage)];
    let (book, problems, overtaken) = audit::book(&story, &lives, counts, outages);
    let mut account = book.close();
    account.problems.splice(..0, problems);
    account.overtaken = overtaken;
    let sent_per_second = (account.total.sent as f64 / played.as_secs_f64()) as u64;
    let summary = Summary {
        seconds: options.seconds,
        players: options.players,
        rate: options.rate,
        sent_per_second,
        closes: account.closes(),
        account,
        kills: [change.kill, blackout.kill].map(|kill| kill.find_calls(&story)),
        takeover: change.takeover,
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
    let there = |story: &Story| story.ready.keys().filter(|name| story.is_there(name)).count();
    crew.hear("all nodes are connected", |story| there(story) == all).await?;
    let is_master = |(who, _): (&str, u64)| who == MASTER;
    crew.hear("a master", |story| story.master().is_some_and(is_master)).await
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

/// How many mail servers there are.
const MAILSVRS: u32 = 3;
