//! A master that is paused at the worst moment, and does no harm: `cargo run -p switchboard --example fence`.
//!
//! Being the master is checked before the work, and the work takes time. A process that is stopped
//! in between (by a debugger, a full disk, its virtual machine) goes on later as if nothing had
//! happened, while another one is the master. No lock and no lease prevents that; the store does,
//! if each write carries the epoch of its master and the store refuses what is older than it has
//! seen. The store here is a struct; in a database it is one more condition on the row:
//! `UPDATE .. SET balance = balance + ?, epoch = ? WHERE account = ? AND epoch <= ?`.
#![allow(clippy::print_stdout, reason = "telling a story is what it is for")]

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use switchboard::{Builder, Caller, Event, HandlerError, Master, Node};
use switchboard_router::{Config, Router};

/// An account, and the highest epoch that has written to it.
#[derive(Debug, Default)]
struct Store {
    balance: u64,
    epoch: u64,
    /// Writes that came too late.
    refused: u64,
}

impl Store {
    fn deposit(&mut self, epoch: u64, amount: u64) -> Result<u64, HandlerError> {
        if epoch < self.epoch {
            self.refused += 1;
            let text = format!("epoch {epoch} is over; epoch {} has written", self.epoch);
            return Err(HandlerError::new("fenced", text));
        }
        self.epoch = epoch;
        self.balance += amount;
        Ok(self.balance)
    }
}

type Shared = Arc<Mutex<Store>>;

/// A bank whose master writes with its epoch. Between the check and the write it does `before`.
fn bank(
    id: &str,
    router: &str,
    store: &Shared,
    before: impl Fn() + Send + Sync + 'static,
) -> Builder {
    let store = store.clone();
    Node::builder(id).router(router).on("deposit", move |caller: Caller, (amount,): (u64,)| {
        let node = caller.node();
        let epoch = node.epoch(node.id().class());
        before();
        let written = match epoch {
            Some(epoch) => {
                store.lock().unwrap_or_else(PoisonError::into_inner).deposit(epoch, amount)
            }
            None => Err(HandlerError::new("not_master", "this instance is not the master")),
        };
        println!("{} writes under {epoch:?}: {written:?}", node.id());
        async move { written }
    })
}

/// Tells the story, and fails if it ends otherwise.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = Config::local().with_class("bank", 5);
    // Who is silent for three heartbeats is given up.
    (config.heartbeat.min_ms, config.heartbeat.default_ms) = (100, 100);
    let router = Router::start(config)?;
    let address = router.listen()[0].to_string();
    let store = Shared::default();

    // The first master lives in a thread of its own, which stops dead between check and write: not
    // even a heartbeat leaves it.
    let (pause, mut paused) = tokio::sync::mpsc::unbounded_channel();
    let (wake, woken) = mpsc::channel::<()>();
    let woken = Mutex::new(woken);
    let first = bank("bank.1", &address, &store, move || {
        println!("bank.1 has checked its epoch, and stops dead");
        let _ = pause.send(());
        let _ = woken.lock().unwrap_or_else(PoisonError::into_inner).recv();
        println!("bank.1 wakes, and knows of nothing");
    });
    let (ready, connected) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let Ok(node) = first.connect().await else { return };
            let _ = ready.send(());
            let mut events = node.events();
            while let Some(event) = events.next().await {
                if let Event::Demoted { .. } = event {
                    break;
                }
            }
        });
        Ok(())
    });
    connected.await?;
    let _second = bank("bank.2", &address, &store, || {}).connect().await?;
    let client = Node::builder("9.1").router(&address).connect().await?;

    let deposit = client.call::<u64>(Master, "bank", "deposit", (100,)).idempotent();
    let deposit = tokio::spawn(deposit.timeout(Duration::from_secs(30)).into_future());
    paused.recv().await;
    // The router gives bank.1 up, elects bank.2, and the call goes there.
    println!("the client is told that the balance is {}", deposit.await??);
    wake.send(())?;
    thread.join().map_err(|_| "bank.1 panicked")??;

    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
    println!("the balance is {}; {} write was refused", store.balance, store.refused);
    assert_eq!((store.balance, store.refused), (100, 1));
    Ok(())
}
