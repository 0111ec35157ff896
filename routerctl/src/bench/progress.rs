//! The line on standard error that says how far a run is: rewritten in place on a terminal, every ten
//! seconds elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What is being done, and how much of it.
#[derive(Debug, Default)]
pub struct Progress {
    what: Mutex<String>,
    done: AtomicU64,
    over: AtomicBool,
}

impl Progress {
    /// Something new begins.
    pub fn begin(&self, what: String) {
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = what;
        self.done.store(0, Ordering::Relaxed);
    }

    /// So much more of it is done.
    pub fn add(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    /// Runs `work` and shows meanwhile how far it is.
    pub fn while_running<T>(&self, quiet: bool, work: impl FnOnce() -> T) -> T {
        if quiet {
            return work();
        }
        thread::scope(|scope| {
            let screen = thread::Builder::new().spawn_scoped(scope, || self.show());
            let result = work();
            self.over.store(true, Ordering::Relaxed);
            if let Ok(screen) = screen {
                screen.thread().unpark();
            }
            result
        })
    }

    fn show(&self) {
        let terminal = std::io::stderr().is_terminal();
        let often = if terminal { ON_TERMINAL } else { ELSEWHERE };
        let (mut then, mut before) = (Instant::now(), 0);
        while !self.over.load(Ordering::Relaxed) {
            thread::park_timeout(often);
            if then.elapsed() < often {
                continue;
            }
            let done = self.done.load(Ordering::Relaxed);
            let rate = done.saturating_sub(before) as f64 / then.elapsed().as_secs_f64();
            (then, before) = (Instant::now(), done);
            let what = self.what.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let line = format!("{what}: {done} done, {rate:.0} a second");
            let mut out = std::io::stderr().lock();
            // Nobody who can't be told needs to be.
            let _ = if terminal { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
            let _ = out.flush();
        }
        if terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

const ON_TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(10);
