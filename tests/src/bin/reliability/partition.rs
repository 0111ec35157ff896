//! A master whose network goes silent: nothing is closed, nothing is told. When does the other one
//! serve, and has the first one laid its office down by then?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use switchboard::Node;
use switchboard_tests::Scratch;
use tokio::sync::mpsc;

use crate::Options;
use crate::account::percentile;
use crate::kill::millis;
use crate::load;
use crate::process::{NodeProcess, router};
use crate::proxy::Cable;

/// Cuts the master off as often as asked; answers whether every promise was kept.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let rounds = options.number("rounds", 10)?;
    let heartbeat_ms = options.number("heartbeat-ms", 500)?;
    let heartbeat = Duration::from_millis(heartbeat_ms);
    // What a busy machine may add.
    let slack = Duration::from_millis(options.number("slack-ms", 100)?);
    let mut gaps = Vec::new();
    let mut margins = Vec::new();
    let mut failed = 0;
    for _ in 0..rounds {
        let round = one(heartbeat_ms).await?;
        gaps.push(round.gap);
        margins.push(round.margin);
        failed += round.failed;
    }
    gaps.sort();
    margins.sort();
    let gap = |part| millis(percentile(&gaps, part));
    println!("silent partitions              {rounds}, heartbeat {heartbeat_ms} ms");
    println!("time without service, ms       p50 {} max {}", gap(0.5), gap(1.0));
    println!(
        "  in heartbeats, at most       {:.2}",
        gaps.last().unwrap_or(&Duration::ZERO).as_secs_f64() / heartbeat.as_secs_f64()
    );
    let margin = margins.first().copied().unwrap_or_default();
    println!("old master gone before new, ms {:.1} at least", margin as f64 / 1e3);
    println!("idempotent calls failed        {failed}");
    let in_time = gaps.iter().all(|gap| *gap <= heartbeat * 3 + slack);
    Ok(in_time && margin > 0 && failed == 0)
}

struct Round {
    /// From the cut to the first answer of the other.
    gap: Duration,
    /// By how many microseconds the old master was gone before the new one was there.
    margin: i128,
    failed: u64,
}

async fn one(heartbeat_ms: u64) -> anyhow::Result<Round> {
    let scratch = Scratch::new();
    let routers = ["east", "west"].map(|name| router(name, CONFIG, None));
    let addresses = routers.each_ref().map(|router| router.listen().to_owned());
    let mut cables = Vec::new();
    for address in &addresses {
        cables.push(Cable::to(address.clone()).await?);
    }
    let through: Vec<String> = cables.iter().map(|cable| cable.address().to_owned()).collect();
    let more = [("heartbeat-ms", heartbeat_ms.to_string())];
    let mut first = NodeProcess::start("worker", "bank.1", &through, &more, &scratch)?;
    let mut second = NodeProcess::start("worker", "bank.2", &addresses, &more, &scratch)?;

    let mut builder = Node::builder("caller.1");
    for address in &addresses {
        builder = builder.router(address);
    }
    let node = builder.connect().await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (done, mut answers) = mpsc::unbounded_channel();
    let calls = tokio::spawn(load::charge(node.clone(), RATE, Arc::clone(&stop), done));
    let mut failed = 0;
    let answer = answers.recv().await.context("the load has ended")?;
    ensure!(matches!(answer.result, Ok(pid) if pid == first.pid()), "{answer:?}");

    let cut = Instant::now();
    cables.iter().for_each(Cable::cut);
    let gap = loop {
        let next = tokio::time::timeout(PATIENCE, answers.recv());
        let answer = next.await.context("nobody answers")?.context("the load has ended")?;
        match answer.result {
            Ok(pid) if pid == second.pid() => break answer.at - cut,
            Ok(_) => {}
            Err(_) => failed += 1,
        }
    };
    let promoted = moment(&second.expect("promoted")?)?;
    let demoted = moment(&first.expect("demoted")?)?;
    stop.store(true, Ordering::Relaxed);
    cables.iter().for_each(Cable::mend);
    calls.await?;
    while let Some(answer) = answers.recv().await {
        failed += u64::from(answer.result.is_err());
    }
    node.drain().await;
    Ok(Round { gap, margin: promoted - demoted, failed })
}

/// The time at the end of a line, in microseconds.
fn moment(line: &str) -> anyhow::Result<i128> {
    let time = line.rsplit(' ').next().unwrap_or_default().parse::<i128>();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i128;
    let time = time.with_context(|| format!("`{line}`"))?;
    ensure!(time <= now, "`{line}` is in the future");
    Ok(time)
}

const CONFIG: &str = "classes: {bank: {id: 5}, caller: {id: 9}}\n";
const RATE: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(30);
