//! A counter for what many threads count very often: each has a number of its own, and adds to it
//! without telling the other processors, at a fifth of the price.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Numbers that are one sum.
#[derive(Debug, Default)]
pub(crate) struct Sharded([AtomicU64; SHARDS]);

impl Sharded {
    pub(crate) fn add_one(&self) {
        match shard() {
            SHARED => {
                self.0[SHARED].fetch_add(1, Relaxed);
            }
            // INVARIANT: nobody else writes here, so nothing is lost between the load and the store.
            own => self.0[own].store(self.0[own].load(Relaxed) + 1, Relaxed),
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|shard| shard.load(Relaxed)).sum()
    }
}

/// The number of this thread. The first threads that count have one of their own for good; those
/// that come later share the last.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(UNKNOWN) };
    }
    match SHARD.get() {
        UNKNOWN => {
            let shard = NEXT.fetch_add(1, Relaxed).min(SHARED);
            SHARD.set(shard);
            shard
        }
        known => known,
    }
}

/// A line of the processor's cache.
const SHARDS: usize = 8;

/// The shard of all threads that have none of their own.
const SHARED: usize = SHARDS - 1;

const UNKNOWN: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_with_more_threads_than_shards() {
        let counter = Sharded::default();
        let together = std::sync::Barrier::new(3 * SHARDS);
        std::thread::scope(|scope| {
            for _ in 0..3 * SHARDS {
                scope.spawn(|| {
                    together.wait();
                    (0..100_000).for_each(|_| counter.add_one());
                });
            }
        });
        assert_eq!(counter.sum(), 3 * SHARDS as u64 * 100_000);
    }
}
