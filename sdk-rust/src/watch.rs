//! Who is in a class: one view per watched class, kept by the driver, and one inbox per watcher.
//!
//! An inbox holds the difference between what its watcher has been told and what is so. It
//! coalesces: an instance that joins and leaves before the watcher looks is never mentioned, and
//! only the latest master is. So it is no longer than the class is large, however slow its reader.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use switchboard_protocol::control::{self, LeftReason};
use switchboard_protocol::{Class, Control, ServiceId};
use tokio::sync::Notify;

use crate::outbox::Outbox;
use crate::shared::Shared;

/// What an instance told of itself when it registered.
pub type Metadata = BTreeMap<String, String>;

/// A change in a class.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Membership {
    /// An instance is there. Comes again if it returns with other metadata.
    Joined {
        /// Who.
        id: ServiceId,
        /// What it told of itself.
        metadata: Metadata,
    },
    /// An instance is gone.
    Left {
        /// Who.
        id: ServiceId,
        /// Why; `Other` if it left while this node's link was away.
        reason: LeftReason,
    },
    /// The class has another master.
    Master {
        /// The master; none while the class has no live instance.
        id: Option<ServiceId>,
        /// Grows with every change.
        epoch: u64,
    },
    /// What came before is the whole picture, as of now. Comes again after each reconnect.
    Synced,
}

/// The changes of one class, from [`Node::watch`](crate::Node::watch).
///
/// It starts with who is there already, goes on across reconnects with the difference, and
/// coalesces: a reader that is slow sees fewer steps, and never a wrong end.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Membership, Node};
///
/// let mut matchers = node.watch("matchsvr")?;
/// let mut there = Vec::new();
/// loop {
///     match matchers.next().await {
///         Some(Membership::Joined { id, .. }) => there.push(id),
///         Some(Membership::Left { id, .. }) => there.retain(|other| *other != id),
///         Some(Membership::Synced) => break,
///         Some(_) => {}
///         None => return Ok(()), // the node was closed
///     }
/// }
/// assert_eq!(there, [node.id()]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    class: Class,
    inbox: Arc<Inbox>,
}

/// Every watched class.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    views: Mutex<AHashMap<Class, View>>,
}

/// What is known of one class.
#[derive(Debug, Default)]
struct View {
    members: BTreeMap<ServiceId, Metadata>,
    master: Option<control::Master>,
    stage: Stage,
    inboxes: Vec<Arc<Inbox>>,
    /// Asked for in the builder: stays without watchers.
    kept: bool,
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
struct Inbox {
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

impl Watcher {
    /// The class that is watched.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The next change; `None` when the node is closed. Safe to give up and ask again.
    pub async fn next(&mut self) -> Option<Membership> {
        loop {
            {
                let mut news = self.inbox.lock();
                if let Some(change) = news.next() {
                    return Some(change);
                }
                if news.ended {
                    return None;
                }
            }
            self.inbox.ready.notified().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.watches.forget(self.class, &self.inbox, &self.shared.outbox);
    }
}

// A lock on the views is held while the outbox is locked, and never the other way round: whether
// the router has been asked for a class, and the asking, are one step.
impl Watches {
    /// A watcher, told of what is known already.
    pub(crate) fn watch(&self, class: Class, shared: &Arc<Shared>) -> Watcher {
        let inbox = Arc::new(Inbox::default());
        let mut views = self.lock();
        let view = views.entry(class).or_default();
        {
            let mut news = inbox.lock();
            news.joined = view.members.clone();
            news.master = view.master;
            news.synced = matches!(view.stage, Stage::Whole);
        }
        view.inboxes.push(Arc::clone(&inbox));
        view.ask(class, &shared.outbox);
        drop(views);
        Watcher { shared: Arc::clone(shared), class, inbox }
    }

    /// Keeps an eye on a class, watchers or none.
    pub(crate) fn keep(&self, class: Class) {
        self.lock().entry(class).or_default().kept = true;
    }

    fn forget(&self, class: Class, inbox: &Arc<Inbox>, outbox: &Outbox) {
        let mut views = self.lock();
        let Some(view) = views.get_mut(&class) else { return };
        view.inboxes.retain(|known| !Arc::ptr_eq(known, inbox));
        if !view.kept && view.inboxes.is_empty() {
            views.remove(&class);
            // Without a link there is nothing to take back.
            let _ = outbox.push_control(&Control::Unwatch(control::Watch { class }));
        }
    }

    /// The classes to ask a new link for in Hello. From here on every view is painted anew.
    pub(crate) fn repaint(&self) -> Vec<Class> {
        let mut views = self.lock();
        for view in views.values_mut() {
            view.stage = Stage::default();
            view.asked = true;
        }
        views.keys().copied().collect()
    }

    /// Asks for what came too late for Hello.
    pub(crate) fn ask(&self, outbox: &Outbox) {
        for (class, view) in self.lock().iter_mut() {
            view.ask(*class, outbox);
        }
    }

    /// Takes in what a router says of a class.
    pub(crate) fn apply(&self, event: control::Event) {
        if let Some(view) = self.lock().get_mut(&event.class) {
            view.apply(event);
        }
    }

    /// The node is closed: watchers come to their end.
    pub(crate) fn end(&self) {
        for view in self.lock().values() {
            view.tell(|news| news.ended = true);
        }
    }

    fn lock(&self) -> MutexGuard<'_, AHashMap<Class, View>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn ask(&mut self, class: Class, outbox: &Outbox) {
        if !self.asked {
            let watch = Control::Watch(control::Watch { class });
            self.asked = outbox.push_control(&watch).is_ok();
        }
    }

    fn apply(&mut self, event: control::Event) {
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
        control::Event {
            class: Class::of(5),
            snapshot: false,
            complete: false,
            left: Vec::new(),
            joined: Vec::new(),
            master: None,
        }
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
