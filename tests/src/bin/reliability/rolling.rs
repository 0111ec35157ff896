//! A planned restart of everything, one after the other, while calls and messages go on.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use switchboard_tests::Scratch;

use crate::Options;
use crate::account::Account;
use crate::process::{NodeProcess, all_back, router};

/// What callers report when they stop.
#[derive(Debug, Default)]
struct Totals {
    answered: u64,
    failed: u64,
    notes: u64,
    not_sent: u64,
}

/// Restarts everything as often as asked; answers whether every promise was kept.
pub async fn run(options: &Options) -> anyhow::Result<bool> {
    let (rounds, rate) = (options.number("rounds", 1)?, options.number("rate", 1_000)?);
    let scratch = Scratch::new();
    let mut routers = ["east", "west"].map(|name| (name, router(name, CONFIG, None)));
    let addresses: Vec<String> =
        routers.iter().map(|(_, router)| router.listen().to_owned()).collect();
    let worker = |name: &str| NodeProcess::start("worker", name, &addresses, &[], &scratch);
    let mut workers: Vec<NodeProcess> =
        WORKERS.iter().map(|name| worker(name)).collect::<anyhow::Result<_>>()?;
    let more = [("rate", rate.to_string())];
    let caller = |name: &str| NodeProcess::start("caller", name, &addresses, &more, &scratch);
    let mut callers = [caller("caller.1")?, caller("caller.2")?];
    let nodes = workers.len() + callers.len();

    let mut totals = Totals::default();
    let mut restarts = 0;
    let begun = Instant::now();
    for _ in 0..rounds {
        for worker in &mut workers {
            pause().await;
            worker.stop()?;
            worker.start_again()?;
            restarts += 1;
        }
        for caller in &mut callers {
            pause().await;
            totals.add(&caller.stop()?)?;
            caller.start_again()?;
            restarts += 1;
        }
        for (name, process) in &mut routers {
            pause().await;
            let listen = process.listen().to_owned();
            process.signal("TERM");
            let status = process.wait_exit_within(PATIENCE);
            ensure!(status.success(), "router {name}: {status}\n{}", process.log());
            *process = router(name, CONFIG, Some(&listen));
            all_back(process, nodes).await?;
            restarts += 1;
        }
    }
    pause().await;
    for caller in &mut callers {
        totals.add(&caller.stop()?)?;
    }
    let took = begun.elapsed();
    let mut account = Account::default();
    for worker in &mut workers {
        worker.stop()?;
        worker.records()?.iter().try_for_each(|record| account.add(record))?;
    }
    let handled = account.notes.len() as u64;
    let twice = account.notes.values().filter(|times| **times > 1).count();
    println!("restarts under load            {restarts} in {took:.0?}: {nodes} nodes, 2 routers");
    println!("calls answered                 {}", totals.answered);
    println!("calls failed                   {}", totals.failed);
    println!("run twice at one instance      {}", account.twice_at_one);
    println!("one-way messages sent          {}", totals.notes);
    println!("refused to the sender          {}", totals.not_sent);
    println!("handled                        {handled}");
    println!("lost                           {}", totals.notes.saturating_sub(handled));
    println!("handled twice                  {twice}");
    let kept = totals.failed == 0 && totals.not_sent == 0 && account.twice_at_one == 0;
    Ok(kept && totals.notes == handled && twice == 0)
}

impl Totals {
    fn add(&mut self, line: &str) -> anyhow::Result<()> {
        let numbers: Result<Vec<u64>, _> = line.split(' ').map(str::parse).collect();
        let numbers = numbers.with_context(|| format!("`{line}`"))?;
        let [answered, failed, notes, not_sent] = numbers.as_slice() else {
            anyhow::bail!("`{line}` is not what a caller reports");
        };
        self.answered += answered;
        self.failed += failed;
        self.notes += notes;
        self.not_sent += not_sent;
        Ok(())
    }
}

/// Traffic as it is between two steps of a roll-out.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

const WORKERS: [&str; 5] = ["bank.1", "bank.2", "store.1", "store.2", "store.3"];
const CONFIG: &str =
    "classes: {bank: {id: 5}, store: {id: 6, hash: rendezvous}, caller: {id: 9}}\n";
const PATIENCE: Duration = Duration::from_secs(30);
