//! What is known of one watched class: a picture from each router, and the one that all of them make.
//!
//! An instance is there as long as one router shows it. The master is the one that the frames of
//! this node would reach.

use std::collections::BTreeMap;
use std::sync::Arc;

use switchboard_protocol::control::{self, LeftReason};
use switchboard_protocol::{Class, Control, ServiceId};

use crate::inbox::{Inbox, News};
use crate::links::Port;
use crate::watch::Metadata;

/// What is known of one class.
#[derive(Debug, Default)]
pub(crate) struct View {
    members: BTreeMap<ServiceId, Metadata>,
    master: Option<control::Master>,
    /// By the slot of the router.
    pictures: BTreeMap<usize, Picture>,
    inboxes: Vec<Arc<Inbox>>,
    /// Asked for in the builder: stays without watchers.
    pub(crate) kept: bool,
    /// Changes alone are of interest, watchers or none: repeated calls of this node go there.
    pub(crate) listened: bool,
}

/// What one router shows.
#[derive(Debug, Default)]
struct Picture {
    members: BTreeMap<ServiceId, Metadata>,
    master: Option<control::Master>,
    stage: Stage,
    asked: Asked,
}

/// How far a picture is.
#[derive(Debug, Default)]
enum Stage {
    /// The link is gone; this is how it was.
    #[default]
    Old,
    /// A new link: the picture is being painted anew beside the old one.
    Painting(BTreeMap<ServiceId, Metadata>),
    /// Members are who is there.
    Whole,
}

/// What a router knows that this node wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Asked {
    #[default]
    Nothing,
    Changes,
    All,
}

impl View {
    /// Adds a watcher's inbox, with what is known already.
    pub(crate) fn open(&mut self) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        {
            let mut news = inbox.lock();
            news.joined = self.members.clone();
            news.master = self.master;
            news.synced = self.is_whole();
        }
        self.inboxes.push(Arc::clone(&inbox));
        inbox
    }

    /// Takes a watcher's inbox away.
    pub(crate) fn close(&mut self, inbox: &Arc<Inbox>) {
        self.inboxes.retain(|known| !Arc::ptr_eq(known, inbox));
    }

    /// Whether anybody wants to know who is there.
    pub(crate) fn is_wanted(&self) -> bool {
        self.kept || !self.inboxes.is_empty()
    }

    /// Begins a new picture, which Hello asks this router for.
    pub(crate) fn repaint(&mut self, slot: usize) {
        let picture = self.pictures.entry(slot).or_default();
        picture.stage = Stage::Painting(BTreeMap::new());
        picture.asked = Asked::All;
    }

    /// Asks a router for what is wanted, unless it has been asked.
    pub(crate) fn ask(&mut self, class: Class, port: &Port) {
        let wants = match (self.is_wanted(), self.listened) {
            (true, _) => Asked::All,
            (false, true) => Asked::Changes,
            (false, false) => Asked::Nothing,
        };
        let picture = self.pictures.entry(port.slot).or_default();
        if picture.asked < wants {
            let changes_only = wants == Asked::Changes;
            let watch = Control::Watch(control::Watch { class, changes_only });
            if port.outbox.push_control(&watch).is_ok() {
                picture.asked = wants;
                if wants == Asked::All {
                    picture.stage = Stage::Painting(BTreeMap::new());
                }
            }
        }
    }

    /// Tells a router that nobody wants to know any more.
    pub(crate) fn take_back(&mut self, class: Class, port: &Port) {
        let asked = self.pictures.remove(&port.slot).map(|picture| picture.asked);
        if asked.is_some_and(|asked| asked > Asked::Nothing) {
            // Without a link there is nothing to take back.
            let _ = port.outbox.push_control(&Control::Unwatch(control::Watch::of(class)));
        }
    }

    /// Takes in what a router says. `chosen` is the router that frames to the class take.
    pub(crate) fn apply(&mut self, slot: usize, event: control::Event, chosen: Option<usize>) {
        let Some(picture) = self.pictures.get_mut(&slot) else { return };
        if picture.asked != Asked::All {
            return;
        }
        // Until the picture comes, what is told is of the watch before.
        let early = matches!(picture.stage, Stage::Painting(_)) && !event.snapshot;
        for left in event.left {
            self.leave(slot, left);
        }
        for joined in event.joined.into_iter().filter(|_| !early) {
            self.join(slot, joined);
        }
        if let (Some(master), Some(picture)) = (event.master, self.pictures.get_mut(&slot)) {
            picture.master = Some(master);
            self.follow_master(chosen);
        }
        if event.complete {
            self.complete(slot);
            self.follow_master(chosen);
        }
    }

    fn join(&mut self, slot: usize, joined: control::Joined) {
        let Some(picture) = self.pictures.get_mut(&slot) else { return };
        if let Stage::Painting(members) = &mut picture.stage {
            members.insert(joined.id, joined.metadata);
            return;
        }
        picture.members.insert(joined.id, joined.metadata.clone());
        if self.members.get(&joined.id) != Some(&joined.metadata) {
            self.tell(|news| news.join(joined.id, joined.metadata.clone()));
            self.members.insert(joined.id, joined.metadata);
        }
    }

    fn leave(&mut self, slot: usize, left: control::Left) {
        let Some(picture) = self.pictures.get_mut(&slot) else { return };
        if let Stage::Painting(members) = &mut picture.stage {
            members.remove(&left.id);
            // It is known why this one left, and that is better than to guess at the end.
        }
        picture.members.remove(&left.id);
        self.gone(left);
    }

    /// An instance has left one router. It is gone if no other shows it.
    fn gone(&mut self, left: control::Left) {
        let shows = |picture: &Picture| picture.members.contains_key(&left.id);
        if !self.pictures.values().any(shows) && self.members.remove(&left.id).is_some() {
            self.tell(|news| news.leave(left.id, left.reason));
        }
    }

    /// The new picture is whole: what it does not show has left, what is new in it has joined.
    /// Pictures of routers that are gone have had their use.
    fn complete(&mut self, slot: usize) {
        let Some(picture) = self.pictures.get_mut(&slot) else { return };
        if let Stage::Painting(painted) = std::mem::replace(&mut picture.stage, Stage::Whole) {
            let mut maybe_gone: Vec<ServiceId> =
                picture.members.keys().filter(|id| !painted.contains_key(id)).copied().collect();
            maybe_gone.iter().for_each(|id| drop(picture.members.remove(id)));
            maybe_gone.extend(self.forget_old());
            for (id, metadata) in painted {
                self.join(slot, control::Joined { id, metadata });
            }
            for id in maybe_gone {
                self.gone(control::Left { id, reason: LeftReason::Other });
            }
        }
        self.tell(|news| news.synced = true);
    }

    /// A link is gone. What its router showed is believed until another router shows better.
    pub(crate) fn lost(&mut self, slot: usize, chosen: Option<usize>) {
        let Some(picture) = self.pictures.get_mut(&slot) else { return };
        picture.stage = Stage::Old;
        picture.asked = Asked::Nothing;
        if self.is_whole() {
            for id in self.forget_old() {
                self.gone(control::Left { id, reason: LeftReason::Other });
            }
            self.follow_master(chosen);
        }
    }

    /// Drops what routers showed to which there is no link; says whom.
    fn forget_old(&mut self) -> Vec<ServiceId> {
        let mut members = Vec::new();
        self.pictures.retain(|_, picture| {
            let keep = !matches!(picture.stage, Stage::Old);
            if !keep {
                members.extend(std::mem::take(&mut picture.members).into_keys());
            }
            keep
        });
        members
    }

    /// The master that frames of this node reach; where that is not known, the latest.
    fn follow_master(&mut self, chosen: Option<usize>) {
        let chosen = chosen.and_then(|slot| self.pictures.get(&slot)?.master);
        let all = self.pictures.values().filter_map(|picture| picture.master);
        let master = chosen.or_else(|| all.max_by_key(|master| master.epoch));
        if master.is_some() && self.master != master {
            self.master = master;
            self.tell(|news| news.master = master);
        }
    }

    fn is_whole(&self) -> bool {
        self.pictures.values().any(|picture| matches!(picture.stage, Stage::Whole))
    }

    /// The node is closed.
    pub(crate) fn end(&self) {
        self.tell(|news| news.ended = true);
    }

    fn tell(&self, change: impl Fn(&mut News)) {
        self.inboxes.iter().for_each(|inbox| inbox.tell(&change));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Membership;

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
        let mut view = View { inboxes: vec![Arc::clone(&inbox)], ..View::default() };
        view.repaint(0);
        (view, inbox)
    }

    fn see(view: &mut View, slot: usize, event: control::Event) {
        view.apply(slot, event, Some(0));
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
        see(&mut view, 0, snapshot(&[1, 2]));
        assert_eq!(read(&inbox), "+1 +2 .");
        see(&mut view, 0, left(1));
        see(&mut view, 0, joined(&[3]));
        assert_eq!(read(&inbox), "-1 +3");
    }

    #[test]
    fn who_comes_and_goes_unseen_is_not_mentioned() {
        let (mut view, inbox) = view();
        see(&mut view, 0, snapshot(&[1]));
        assert_eq!(read(&inbox), "+1 .");
        for instance in 2..1000 {
            see(&mut view, 0, joined(&[instance]));
            see(&mut view, 0, left(instance));
        }
        let news = inbox.lock();
        assert_eq!((news.left.len(), news.joined.len()), (0, 0));
    }

    #[test]
    fn who_leaves_and_returns_unseen_is_told_as_both() {
        let (mut view, inbox) = view();
        see(&mut view, 0, snapshot(&[1]));
        assert_eq!(read(&inbox), "+1 .");
        see(&mut view, 0, left(1));
        see(&mut view, 0, joined(&[1]));
        assert_eq!(read(&inbox), "-1 +1");
    }

    #[test]
    fn only_the_latest_master_is_told() {
        let (mut view, inbox) = view();
        see(&mut view, 0, snapshot(&[1, 2]));
        for (instance, epoch) in [(1, 1), (2, 2)] {
            let master = control::Master { id: Some(id(instance)), epoch };
            see(&mut view, 0, control::Event { master: Some(master), ..event() });
        }
        assert_eq!(read(&inbox), "+1 +2 m2 .");
    }

    #[test]
    fn a_new_link_brings_the_difference_alone() {
        let (mut view, inbox) = view();
        see(&mut view, 0, snapshot(&[1, 2]));
        assert_eq!(read(&inbox), "+1 +2 .");
        view.lost(0, None);
        view.repaint(0);
        see(&mut view, 0, control::Event { complete: false, ..snapshot(&[2]) });
        assert_eq!(read(&inbox), "", "half a picture says nothing about who left");
        see(&mut view, 0, snapshot(&[3]));
        assert_eq!(read(&inbox), "-1 +3 .");
    }

    #[test]
    fn several_routers_make_one_picture() {
        let (mut view, inbox) = view();
        see(&mut view, 0, snapshot(&[1, 2]));
        view.repaint(1);
        see(&mut view, 1, snapshot(&[1, 2, 3]));
        assert_eq!(read(&inbox), "+1 +2 +3 .");
        see(&mut view, 0, left(1));
        assert_eq!(read(&inbox), "", "the other router still shows it");
        see(&mut view, 1, left(1));
        assert_eq!(read(&inbox), "-1");
        view.lost(1, Some(0));
        assert_eq!(read(&inbox), "-3", "only the lost router showed it");
        view.lost(0, None);
        assert_eq!(read(&inbox), "", "nobody shows better");
    }

    #[test]
    fn the_master_is_the_one_at_the_router_that_frames_take() {
        let (mut view, inbox) = view();
        view.repaint(1);
        let elected = |instance, epoch| {
            let master = Some(control::Master { id: Some(id(instance)), epoch });
            control::Event { master, ..snapshot(&[1, 2]) }
        };
        see(&mut view, 0, elected(1, 10));
        assert_eq!(read(&inbox), "+1 +2 m1 .");
        see(&mut view, 1, elected(2, 20));
        assert_eq!(read(&inbox), ".");
        view.lost(0, Some(1));
        assert_eq!(read(&inbox), "m2");
    }
}
