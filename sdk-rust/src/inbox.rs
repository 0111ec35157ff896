//! What one watcher has yet to be told: the difference between what it knows and what is so.
//!
//! It coalesces: an instance that joins and leaves before the watcher looks is never mentioned, and
//! only the latest master is. So it is no longer than the class is large, however slow its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use switchboard_protocol::ServiceId;
use switchboard_protocol::control::{self, LeftReason};
use tokio::sync::Notify;

use crate::watch::{Membership, Metadata};

/// What a watcher has yet to be told.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    news: Mutex<News>,
    ready: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct News {
    /// Who the watcher believes to be there.
    told: BTreeSet<ServiceId>,
    pub(crate) left: BTreeMap<ServiceId, LeftReason>,
    pub(crate) joined: BTreeMap<ServiceId, Metadata>,
    pub(crate) master: Option<control::Master>,
    pub(crate) synced: bool,
    pub(crate) ended: bool,
}

impl News {
    pub(crate) fn join(&mut self, id: ServiceId, metadata: Metadata) {
        self.joined.insert(id, metadata);
    }

    pub(crate) fn leave(&mut self, id: ServiceId, reason: LeftReason) {
        self.joined.remove(&id);
        // Whom the watcher never saw has not left.
        if self.told.contains(&id) {
            self.left.insert(id, reason);
        }
    }

    /// ORDER: left before joined before master, as on the wire, and synced when all is told.
    pub(crate) fn next(&mut self) -> Option<Membership> {
        if let Some((id, reason)) = self.left.pop_first() {
            self.told.remove(&id);
            return Some(Membership::Left { id, reason });
        }
        if let Some((id, metadata)) = self.joined.pop_first() {
            self.told.insert(id);
            return Some(Membership::Joined { id, metadata });
        }
        if let Some(master) = self.master.take() {
            return Some(Membership::Master { id: master.id, epoch: master.epoch });
        }
        std::mem::take(&mut self.synced).then_some(Membership::Synced)
    }
}

impl Inbox {
    /// Changes what is to be told, and wakes the watcher.
    pub(crate) fn tell(&self, change: impl Fn(&mut News)) {
        change(&mut self.lock());
        self.ready.notify_one();
    }

    /// The next change; `None` when the node is closed and everything before was told.
    pub(crate) async fn next(&self) -> Option<Membership> {
        loop {
            {
                let mut news = self.lock();
                if let Some(change) = news.next() {
                    return Some(change);
                }
                if news.ended {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
