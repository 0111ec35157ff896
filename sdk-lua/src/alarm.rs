//! Sets the signal when the next timer is due, for a loop of another program that waits on the descriptor and
//! knows nothing of timers.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::signal::Signal;

/// One task on the other thread, for the one time that is next.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    set: RefCell<Option<(Instant, JoinHandle<()>)>>,
}

impl Alarm {
    /// Goes off at this time, and at no other.
    pub(crate) fn set(&self, next: Option<Instant>, signal: &Arc<Signal>, runtime: &Handle) {
        let mut set = self.set.borrow_mut();
        if set.as_ref().map(|(at, _)| *at) == next {
            return;
        }
        if let Some((_, task)) = set.take() {
            task.abort();
        }
        *set = next.map(|at| {
            let signal = Arc::clone(signal);
            let task = runtime.spawn(async move {
                tokio::time::sleep_until(at.into()).await;
                signal.set();
            });
            (at, task)
        });
    }
}
