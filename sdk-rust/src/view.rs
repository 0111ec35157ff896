//! What is known of one watched class, and one inbox per watcher.
//!
//! An inbox holds the difference between what its watcher has been told and what is so. It
//! coalesces: an instance that joins and leaves before the watcher looks is never mentioned, and
//! only the latest master is. So it is no longer than the class is large, however slow its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use switchboard_protocol::control::{self, LeftReason};
use switchboard_protocol::{Class, Control, ServiceId};
use tokio::sync::Notify;

use crate::outbox::Outbox;
use crate::watch::{Membership, Metadata};

/// What is known of one class.
#[derive(Debug, Default)]
pub(crate) struct View {
    members: BTreeMap<ServiceId, Metadata>,
    master: Option<control::Master>,
    stage: Stage,
    inboxes: Vec<Arc<Inbox>>,
    /// Asked for in the builder: stays without watchers.
    pub(crate) kept: bool,
    /// Whether the router knows that this node watches.
    asked: bool,
}

/// How far the picture is.
#[derive(Debug)]
enum Stage {
    /// A new link: the picture is being painted anew beside the old one.
    Painting(BTreeMap<ServiceId, Metadata>),
    /// Members are who is there.
    Whole,
}

/// What a watcher has yet to be told.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    news: Mutex<News>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct News {
    /// Who the watcher believes to be there.
    told: BTreeSet<ServiceId>,
    left: BTreeMap<ServiceId, LeftReason>,
    joined: BTreeMap<ServiceId, Metadata>,
    master: Option<control::Master>,
    synced: bool,
    ended: bool,
}

impl View {
    /// Adds a watcher's inbox, with what is known already.
    pub(crate) fn open(&mut self) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        {
            let mut news = inbox.lock();
            news.joined = self.members.clone();
            news.master = self.master;
            news.synced = matches!(self.stage, Stage::Whole);
        }
        self.inboxes.push(Arc::clone(&inbox));
        inbox
    }

    /// Takes a watcher's inbox away.
    pub(crate) fn close(&mut self, inbox: &Arc<Inbox>) {
        self.inboxes.retain(|known| !Arc::ptr_eq(known, inbox));
    }

    /// Whether anybody wants to know.
    pub(crate) fn is_wanted(&self) -> bool {
        self.kept || !self.inboxes.is_empty()
    }

    /// Begins a new picture, which Hello has asked for.
    pub(crate) fn repaint(&mut self) {
        self.stage = Stage::default();
        self.asked = true;
    }

    /// Asks the router for the picture, unless it has been asked.
    pub(crate) fn ask(&mut self, class: Class, outbox: &Outbox) {
        if !self.asked {
            let watch = Control::Watch(control::Watch::of(class));
            self.asked = outbox.push_control(&watch).is_ok();
        }
    }

    /// Takes in what a router says.
    pub(crate) fn apply(&mut self, event: control::Event) {
        for left in event.left {
            self.leave(left);
        }
        for joined in event.joined {
            self.join(joined);
        }
        if let Some(master) = event.master
            && self.master != Some(master)
        {
            self.master = Some(master);
            self.tell(|news| news.master = Some(master));
        }
        if event.complete {
            self.complete();
        }
    }

    fn join(&mut self, joined: control::Joined) {
        if let Stage::Painting(members) = &mut self.stage {
            members.insert(joined.id, joined.metadata);
            return;
        }
        if self.members.get(&joined.id) != Some(&joined.metadata) {
            self.tell(|news| news.join(joined.id, joined.metadata.clone()));
            self.members.insert(joined.id, joined.metadata);
        }
    }

    fn leave(&mut self, left: control::Left) {
        if let Stage::Painting(members) = &mut self.stage {
            members.remove(&left.id);
            // It is known why this one left, and that is better than to guess at the end.
        }
        if self.members.remove(&left.id).is_some() {
            self.tell(|news| news.leave(left.id, left.reason));
        }
    }

    /// The new picture is whole: what it does not show has left, what is new in it has joined.
    fn complete(&mut self) {
        if let Stage::Painting(painted) = std::mem::replace(&mut self.stage, Stage::Whole) {
            let gone: Vec<ServiceId> =
                self.members.keys().filter(|id| !painted.contains_key(id)).copied().collect();
            for id in gone {
                self.leave(control::Left { id, reason: LeftReason::Other });
            }
            for (id, metadata) in painted {
                self.join(control::Joined { id, metadata });
            }
        }
        self.tell(|news| news.synced = true);
    }

    /// The node is closed.
    pub(crate) fn end(&self) {
        self.tell(|news| news.ended = true);
    }

    fn tell(&self, change: impl Fn(&mut News)) {
        for inbox in &self.inboxes {
            change(&mut inbox.lock());
            inbox.ready.notify_one();
        }
    }
}

impl News {
    fn join(&mut self, id: ServiceId, metadata: Metadata) {
        self.joined.insert(id, metadata);
    }

    fn leave(&mut self, id: ServiceId, reason: LeftReason) {
        self.joined.remove(&id);
        // Whom the watcher never saw has not left.
        if self.told.contains(&id) {
            self.left.insert(id, reason);
        }
    }

    /// ORDER: left before joined before master, as on the wire, and synced when all is told.
    fn next(&mut self) -> Option<Membership> {
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

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::Painting(BTreeMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(instance: u32) -> ServiceId {
        ServiceId::from_raw(5 << 24 | instance).unwrap()
    }

    fn event() -> control::Event {
        control::Event::of(Class::of(5))
    }

    fn joined(instances: &[u32]) -> control::Event {
        let joined = |instance: &u32| control::Joined { id: id(*instance), metadata: [].into() };
        control::Event { joined: instances.iter().map(joined).collect(), ..event() }
    }

    fn left(instance: u32) -> control::Event {
        let left = control::Left { id: id(instance), reason: LeftReason::Disconnected };
        control::Event { left: vec![left], ..event() }
    }

    fn snapshot(instances: &[u32]) -> control::Event {
        control::Event { snapshot: true, complete: true, ..joined(instances) }
    }

    /// A view and the inbox of its one watcher.
    fn view() -> (View, Arc<Inbox>) {
        let inbox = Arc::new(Inbox::default());
        (View { inboxes: vec![Arc::clone(&inbox)], ..View::default() }, inbox)
    }

    /// What the watcher reads: `+1` joined, `-1` left, `m1` master, `.` synced.
    fn read(inbox: &Inbox) -> String {
        let mut news = inbox.lock();
        let words: Vec<String> = std::iter::from_fn(|| news.next())
            .map(|change| match change {
                Membership::Joined { id, .. } => format!("+{}", id.instance()),
                Membership::Left { id, .. } => format!("-{}", id.instance()),
                Membership::Master { id: Some(id), .. } => format!("m{}", id.instance()),
                Membership::Master { id: None, .. } => "m-".to_owned(),
                Membership::Synced => ".".to_owned(),
            })
            .collect();
        words.join(" ")
    }

    #[test]
    fn a_watch_starts_with_who_is_there_and_goes_on_with_changes() {
        let (mut view, inbox) = view();
        view.apply(snapshot(&[1, 2]));
        assert_eq!(read(&inbox), "+1 +2 .");
        view.apply(left(1));
        view.apply(joined(&[3]));
        assert_eq!(read(&inbox), "-1 +3");
    }

    #[test]
    fn who_comes_and_goes_unseen_is_not_mentioned() {
        let (mut view, inbox) = view();
        view.apply(snapshot(&[1]));
        assert_eq!(read(&inbox), "+1 .");
        for instance in 2..1000 {
            view.apply(joined(&[instance]));
            view.apply(left(instance));
        }
        let news = inbox.lock();
        assert_eq!((news.left.len(), news.joined.len()), (0, 0));
    }

    #[test]
    fn who_leaves_and_returns_unseen_is_told_as_both() {
        let (mut view, inbox) = view();
        view.apply(snapshot(&[1]));
        assert_eq!(read(&inbox), "+1 .");
        view.apply(left(1));
        view.apply(joined(&[1]));
        assert_eq!(read(&inbox), "-1 +1");
    }

    #[test]
    fn only_the_latest_master_is_told() {
        let (mut view, inbox) = view();
        view.apply(snapshot(&[1, 2]));
        for (instance, epoch) in [(1, 1), (2, 2)] {
            let master = control::Master { id: Some(id(instance)), epoch };
            view.apply(control::Event { master: Some(master), ..event() });
        }
        assert_eq!(read(&inbox), "+1 +2 m2 .");
    }

    #[test]
    fn a_new_link_brings_the_difference_alone() {
        let (mut view, inbox) = view();
        view.apply(snapshot(&[1, 2]));
        assert_eq!(read(&inbox), "+1 +2 .");
        view.stage = Stage::default();
        view.apply(control::Event { complete: false, ..snapshot(&[2]) });
        assert_eq!(read(&inbox), "", "half a picture says nothing about who left");
        view.apply(snapshot(&[3]));
        assert_eq!(read(&inbox), "-1 +3 .");
    }
}
