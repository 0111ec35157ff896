//! The one-way street that every node goes down: open, draining, closing, closed.

use std::sync::OnceLock;

use tokio::sync::watch;

use crate::error::CloseReason;

/// Where a node is on its way, and why it ended.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: watch::Sender<Phase>,
    reason: OnceLock<CloseReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// Finishes what it has, and makes no new links.
    Draining,
    /// The program wants it closed.
    Closing,
    Closed,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self { phase: watch::Sender::new(Phase::Open), reason: OnceLock::new() }
    }

    /// No link is made any more, and those that are there finish what they have.
    pub(crate) fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Waits until the node is not to make links any more.
    pub(crate) async fn drain_requested(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Asks the driver to close.
    pub(crate) fn request_close(&self) {
        self.advance(Phase::Closing);
    }

    /// Waits until the program wants the node closed.
    pub(crate) async fn close_requested(&self) {
        self.reached(Phase::Closing).await;
    }

    /// Says why the node is closed, from now on. The first reason stands.
    pub(crate) fn condemn(&self, reason: CloseReason) -> CloseReason {
        self.reason.get_or_init(|| reason).clone()
    }

    /// Why the node is closed, if it is.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason.get().cloned()
    }

    /// The driver is done.
    pub(crate) fn close(&self) {
        self.advance(Phase::Closed);
    }

    /// Waits until the driver is done.
    pub(crate) async fn closed(&self) {
        self.reached(Phase::Closed).await;
    }

    fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            *phase = (*phase).max(to);
            forward
        });
    }

    async fn reached(&self, wanted: Phase) {
        // The sender is part of `self`, so the channel does not close while this waits.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= wanted).await;
    }
}
