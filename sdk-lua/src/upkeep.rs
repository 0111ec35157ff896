//! What the program around the scripts has to do on the Lua thread: between messages, never in the middle of
//! one. It runs at its time, and when another thread asks. A host with scripts alone has none.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mlua::Function;

/// The work, and when it is next due.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// (whether another thread has asked)
    work: OnceCell<Function>,
    period: Cell<Option<Duration>>,
    next: Cell<Option<Instant>>,
    asked: Arc<AtomicBool>,
}

impl Upkeep {
    /// Does what is due. Returns how much a script may notice of it.
    pub(crate) fn run(&self) -> mlua::Result<usize> {
        let Some(work) = self.work.get() else { return Ok(0) };
        let asked = self.asked.swap(false, Ordering::AcqRel);
        let now = || Instant::now();
        let due = self.next.get().is_some_and(|next| next <= now());
        if !asked && !due {
            return Ok(0);
        }
        self.next.set(self.period.get().and_then(|period| now().checked_add(period)));
        work.call::<()>(asked)?;
        Ok(asked.into())
    }

    /// When it is due although nobody asks.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.get()
    }
}

/// For the program around the scripts.
#[cfg(feature = "runner")]
impl Upkeep {
    /// Has this done, once in a period if there is one. Set once.
    pub(crate) fn set(&self, work: Function, period: Option<Duration>) {
        let _ = self.work.set(work);
        self.period.set(period);
        self.next.set(period.and_then(|period| Instant::now().checked_add(period)));
    }

    /// What another thread sets to ask, before it wakes the Lua thread.
    pub(crate) fn asked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }
}
