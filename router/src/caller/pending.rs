//! The calls that wait for an answer, by their numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use switchboard_protocol::Reason;
use tokio::sync::{Notify, oneshot};

use super::Answer;

/// All calls of one link.
#[derive(Debug)]
pub(super) struct Pending {
    state: Mutex<State>,
    /// The link shall end: it was told to go, and nobody waits any more.
    pub done: Notify,
}

#[derive(Debug)]
struct State {
    calls: HashMap<u64, oneshot::Sender<Outcome>>,
    next: u64,
    /// No new calls.
    leaving: bool,
    /// No answers any more.
    lost: bool,
}

/// What becomes of a call.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Somebody answered.
    Answered(Answer),
    /// It came back.
    Bounced(Reason),
}

/// A call that waits. It is forgotten when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its number.
    pub id: u64,
    pending: Arc<Pending>,
    outcome: oneshot::Receiver<Outcome>,
}

impl Pending {
    /// None. Two routers rarely give two calls the same number, nor one router before and after a restart.
    pub(super) fn new() -> Arc<Self> {
        let state =
            State { calls: HashMap::new(), next: rand::random(), leaving: false, lost: false };
        Arc::new(Self { state: Mutex::new(state), done: Notify::new() })
    }

    /// A new call, unless the link takes none.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Waiting> {
        let mut state = self.lock();
        if state.leaving || state.lost {
            return None;
        }
        state.next = state.next.wrapping_add(1);
        let (id, (sender, outcome)) = (state.next, oneshot::channel());
        state.calls.insert(id, sender);
        Some(Waiting { id, pending: self.clone(), outcome })
    }

    /// Tells the one that waits for it what became of a call. Who waits no more is not there.
    pub(super) fn end(&self, id: u64, outcome: Outcome) {
        let waits = self.lock().calls.remove(&id);
        if let Some(waits) = waits {
            // It may have given up just now.
            let _ = waits.send(outcome);
        }
    }

    /// Takes no new calls, and ends when all are over.
    pub(super) fn leave(&self) {
        self.lock().leaving = true;
        self.look();
    }

    /// There will be no answers: whoever waits is told so.
    pub(super) fn lose(&self) {
        let mut state = self.lock();
        state.lost = true;
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        drop(calls);
        self.done.notify_one();
    }

    /// Whether there will be no answers.
    pub(super) fn is_lost(&self) -> bool {
        self.lock().lost
    }

    fn look(&self) {
        let state = self.lock();
        if state.leaving && state.calls.is_empty() {
            self.done.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// What becomes of it; `None` if nobody will tell.
    pub(super) async fn outcome(&mut self) -> Option<Outcome> {
        (&mut self.outcome).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pending.lock().calls.remove(&self.id);
        self.pending.look();
    }
}
