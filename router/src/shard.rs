//! A shard: one thread with its own runtime, its own tools, and the sessions that it was dealt.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use crate::counters::Counters;
use crate::forward::local::{Local, Published};
use crate::parking::lots::Lots;

/// A running shard.
#[derive(Debug)]
pub(crate) struct Shard {
    /// Where to spawn its sessions.
    pub handle: Handle,
    /// Ends when the shard has.
    pub thread: JoinHandle<()>,
}

/// All threads that forward, the control thread last, as one to wait for.
#[derive(Debug)]
pub(crate) struct Fence(Box<[Handle]>);

impl Fence {
    /// A fence across these threads.
    pub(crate) fn new(threads: Vec<Handle>) -> Self {
        Self(threads.into())
    }

    /// How long each thread has worked since it began, and not waited for something to do.
    pub(crate) fn busy(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().map(|thread| thread.metrics().worker_total_busy_duration(0))
    }

    /// Waits until every thread has finished what it was at, and run every task that was ready to run
    /// then. A thread looks at the table anew for each batch, so none forwards any more by a table that
    /// was published before; and whoever had been woken to offer a frame again has done so.
    pub(crate) async fn pass(&self) {
        // A task from outside runs behind those that came from outside before; having yielded, it runs
        // behind those that the thread itself had found ready.
        let pass = |thread: &Handle| thread.spawn(tokio::task::yield_now());
        let passing: Vec<_> = self.0.iter().map(pass).collect();
        for passed in passing {
            // A thread that has ended forwards nothing.
            let _ = passed.await;
        }
    }
}

/// Starts a thread that runs tasks with tools of its own until `stop` says so.
pub(crate) fn start(
    name: String,
    published: Arc<Published>,
    lots: Arc<Lots>,
    counters: Arc<Counters>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<Shard> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let rng = SmallRng::seed_from_u64(rand::random());
        Local::new(published, lots, counters, rng).install();
        runtime.spawn(flush_forever());
        runtime.spawn(keep_up());
        // The sender is dropped with the router, which is as good as a stop.
        let _ = runtime.block_on(stop.wait_for(|stop| *stop));
        drop(runtime);
    })?;
    Ok(Shard { handle, thread })
}

fn runtime() -> io::Result<Runtime> {
    // The runtime looks for new input after every few tasks: the more sockets it finds ready at once,
    // the more frames go out in one write.
    Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()
}

/// Writes the dirty mailboxes out. It is woken by the first that becomes dirty, so it runs after the
/// tasks that are ready with it, and one write takes what all of them had for a mailbox.
async fn flush_forever() {
    poll_fn(|cx| {
        Local::with(|local| {
            local.out.set_flusher(cx.waker());
            local.out.flush_some(FLUSHES_PER_TURN);
        });
        Poll::<()>::Pending
    })
    .await;
}

/// Looks at the table now and then, so that a shard without traffic does not keep a snapshot, and with
/// it the mailboxes of sessions that have ended; nor the memory of its last flood.
async fn keep_up() {
    let mut interval = tokio::time::interval(KEEP_UP);
    loop {
        interval.tick().await;
        let dropped = Local::with(|local| {
            drop(local.load_table());
            local.out.rest()
        });
        if dropped >= WORTH_GIVING_BACK {
            switchboard_heap::give_back();
        }
    }
}

const KEEP_UP: Duration = Duration::from_secs(1);
const EVENT_INTERVAL: u32 = 8;
/// Some 10 to 20 ms: a broadcast may have made a million mailboxes dirty.
const FLUSHES_PER_TURN: usize = 2048;
/// Of a flood there is more in buffers than this, and of calls now and then less.
const WORTH_GIVING_BACK: usize = 256 << 10;
