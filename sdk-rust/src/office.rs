//! Which classes this node is master of, over all its routers.
//!
//! An office is held while at least one router is there with a lease that has not run out, and every
//! such router says that an id of this node is the master. So a router that a node has lost does not
//! take the office along, and one that knows another master stands in its way. A lease ends before
//! the router could elect another, so an office ends in time even if nothing is heard any more.
//!
//! The epoch is the highest that those routers said, and does not shrink while the office is held
//! without a break. Two routers do not share an order: the epochs of an office that moved from one
//! router's word to another's can't be compared.
//!
//! Where one router says so and another one does not, there is a dispute; see `dispute`. Who had the
//! office may not hear that it was claimed, so it is held only when that one's lease must be over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use switchboard_protocol::control::Claim;
use switchboard_protocol::{Class, ServiceId};

use crate::dispute::{Disputes, disputed};

/// What a node learns of its offices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A router is there, and says how its elections stand.
    Up {
        /// Which router.
        slot: usize,
        /// The classes that it names a master of: the id if it is one of this node, and the epoch.
        masters: Vec<(Class, Option<ServiceId>, u64)>,
        /// When the lease runs out.
        until: Instant,
    },
    /// A router is gone.
    Down {
        /// Which router.
        slot: usize,
    },
    /// A router has elected.
    Master {
        /// Which router.
        slot: usize,
        /// The class.
        class: Class,
        /// The master if it is an id of this node.
        mine: Option<ServiceId>,
        /// The epoch.
        epoch: u64,
    },
    /// A router has answered a ping. A lease never gets shorter.
    Lease {
        /// Which router.
        slot: usize,
        /// When the lease runs out now.
        until: Instant,
    },
    /// A router asks this node to go: whom it elects meanwhile shall not count elsewhere.
    Leaving {
        /// Which router.
        slot: usize,
    },
    /// This node does not hold these ids any more, at any router.
    Gone {
        /// The ids.
        ids: Vec<ServiceId>,
    },
}

/// What that means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// This node is master of the class, or goes on under a higher epoch.
    Promoted {
        /// The class.
        class: Class,
        /// The epoch.
        epoch: u64,
    },
    /// It is not, any more.
    Demoted {
        /// The class.
        class: Class,
    },
}

/// The offices of a node.
#[derive(Debug, Default)]
pub struct Offices {
    links: BTreeMap<usize, Link>,
    /// What was announced last, with its epoch.
    held: BTreeMap<Class, u64>,
    disputes: Disputes,
}

#[derive(Debug)]
struct Link {
    until: Instant,
    /// Whether what follows from the end of the lease has been announced.
    lapsed: bool,
    /// It is about to end.
    leaving: bool,
    /// The longest lease that there was.
    term: Duration,
    /// When a class was claimed there.
    claimed: BTreeMap<Class, Instant>,
    /// From when on its word counts, where a claim brought it about.
    from: BTreeMap<Class, Instant>,
    /// Where it says that an id of this node is master: which, and the epoch.
    mine: BTreeMap<Class, (ServiceId, u64)>,
}

impl Offices {
    /// None, and no router.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what happened. What leases that ran out before led to is part of the answer.
    pub fn apply(&mut self, input: Input, now: Instant) -> Vec<Change> {
        // A lease that ran out and is renewed only now was a break; others may have held the office.
        let mut changes = self.expire(now);
        match input {
            Input::Up { slot, masters, until } => {
                let mine = masters.into_iter().filter_map(|(class, id, epoch)| {
                    let id = id?;
                    Some((class, (id, epoch)))
                });
                let link = Link { mine: mine.collect(), ..Link::new(until, now) };
                self.links.insert(slot, link);
                self.disputes.begin(slot);
            }
            Input::Down { slot } => {
                self.links.remove(&slot);
            }
            Input::Master { slot, class, mine, epoch } => {
                if let Some(link) = self.links.get_mut(&slot)
                    && link.elected(class, mine, epoch)
                {
                    link.answer(class, now);
                    self.disputes.wait_anew(class);
                }
            }
            Input::Lease { slot, until } => {
                if let Some(link) = self.links.get_mut(&slot)
                    && until > link.until
                {
                    link.until = until;
                    link.term = link.term.max(until.saturating_duration_since(now));
                    link.lapsed = false;
                }
            }
            Input::Leaving { slot } => {
                self.links.entry(slot).and_modify(|link| link.leaving = true);
            }
            Input::Gone { ids } => {
                for link in self.links.values_mut() {
                    link.mine.retain(|_, (id, _)| !ids.contains(id));
                }
            }
        }
        self.settle(now, &mut changes);
        changes
    }

    /// Takes in that time has passed.
    pub fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        self.settle(now, &mut changes);
        changes
    }

    /// What to tell routers that do not name this node as master while another one does. Asked after
    /// everything that was taken in, and when [`next_expiry`](Self::next_expiry) has come; disputes that
    /// are seen for the first time wait for `jitter` longer than they must.
    pub fn disputes(&mut self, now: Instant, jitter: Duration) -> Vec<(usize, Claim)> {
        let counts = |link: &Link| link.until > now && !link.leaving;
        let mut found = Vec::new();
        for class in self.classes() {
            let links = self.links.iter().filter(|(_, link)| counts(link));
            let words: Vec<_> =
                links.map(|(slot, link)| (*slot, link.mine.get(&class).copied())).collect();
            found.extend(disputed(&words));
        }
        let claims = self.disputes.look(&found, now, jitter);
        for (slot, claim) in &claims {
            if let Some(link) = self.links.get_mut(slot) {
                link.claimed.insert(claim.id.class(), now);
            }
        }
        claims
    }

    /// When [`expire`](Self::expire) or [`disputes`](Self::disputes) has something to say next, at the
    /// earliest.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        let lapses = self.links.values().filter(|link| !link.lapsed).map(|link| link.until).min();
        let begins = self.links.values().flat_map(|link| link.from.values().copied());
        lapses.into_iter().chain(self.disputes.next()).chain(begins).min()
    }

    /// The epoch under which this node holds an office, if it does at this very moment.
    #[must_use]
    pub fn epoch(&self, class: Class, now: Instant) -> Option<u64> {
        // Since the last announcement leases can only have run out. If what is left says mine, then
        // it did all the time, so an office that was held has had no break.
        self.said(class, now).map(|said| self.held.get(&class).map_or(said, |held| said.max(*held)))
    }

    /// All offices and their epochs, for another router's Hello.
    #[must_use]
    pub fn claims(&self, now: Instant) -> Vec<(Class, u64)> {
        let classes = self.classes().into_iter();
        classes.filter_map(|class| Some((class, self.epoch(class, now)?))).collect()
    }

    /// The highest epoch that the routers say, if there are any and all of them say that it is this
    /// node.
    fn said(&self, class: Class, now: Instant) -> Option<u64> {
        let mut highest = None;
        for link in self.links.values().filter(|link| link.until > now) {
            let (_, epoch) = link.mine.get(&class).filter(|_| !link.from.contains_key(&class))?;
            highest = highest.max(Some(*epoch));
        }
        highest
    }

    /// Brings `held` up to date, and tells how it changed.
    fn settle(&mut self, now: Instant, changes: &mut Vec<Change>) {
        for link in self.links.values_mut() {
            link.from.retain(|_, from| *from > now);
        }
        for class in self.classes() {
            let before = self.held.get(&class).copied();
            let after = self.epoch(class, now);
            match after {
                Some(epoch) if before != after => {
                    self.held.insert(class, epoch);
                    changes.push(Change::Promoted { class, epoch });
                }
                None if before.is_some() => {
                    self.held.remove(&class);
                    changes.push(Change::Demoted { class });
                }
                _ => {}
            }
        }
        for link in self.links.values_mut().filter(|link| link.until <= now) {
            link.lapsed = true;
        }
    }

    /// Every class that may be held, or was.
    fn classes(&self) -> Vec<Class> {
        let said = self.links.values().flat_map(|link| link.mine.keys());
        let mut classes: Vec<Class> = said.chain(self.held.keys()).copied().collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

impl Link {
    fn new(until: Instant, now: Instant) -> Self {
        Self {
            until,
            lapsed: false,
            leaving: false,
            term: until.saturating_duration_since(now),
            claimed: BTreeMap::new(),
            from: BTreeMap::new(),
            mine: BTreeMap::new(),
        }
    }

    /// After an election that changed something: it may be what a claim led to.
    fn answer(&mut self, class: Class, now: Instant) {
        let claimed = self.claimed.remove(&class);
        let by_claim = claimed.is_some_and(|at| now < at + self.term);
        if by_claim && self.mine.contains_key(&class) {
            self.from.insert(class, now + self.term);
        } else {
            self.from.remove(&class);
        }
    }

    /// Takes in an election; says whether it changes anything for this node.
    fn elected(&mut self, class: Class, mine: Option<ServiceId>, epoch: u64) -> bool {
        let now = match (mine, self.mine.get(&class)) {
            // A router tells a master when it no longer is one. So a second promotion of the same
            // id means that a newer incarnation holds the id and the office, and the router's word
            // about the id is still on its way. The epoch is the newcomer's.
            (Some(id), Some((held, before))) if id == *held && epoch != *before => None,
            (mine, _) => mine.map(|id| (id, epoch)),
        };
        let before = match now {
            Some(now) => self.mine.insert(class, now),
            None => self.mine.remove(&class),
        };
        before != now
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CLASS: u8 = 5;

    fn class() -> Class {
        Class::new(CLASS).unwrap()
    }

    fn id(instance: u32) -> ServiceId {
        ServiceId::from_raw(u32::from(CLASS) << 24 | instance).unwrap()
    }

    /// A node's offices, driven by milliseconds.
    struct Node {
        offices: Offices,
        start: Instant,
    }

    impl Node {
        fn new() -> Self {
            Self { offices: Offices::new(), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn up(&mut self, slot: usize, mine: Option<(u32, u64)>, until: u64) -> Vec<Change> {
            let masters = match mine {
                Some((instance, epoch)) => vec![(class(), Some(id(instance)), epoch)],
                None => vec![(class(), None, 99)],
            };
            let until = self.at(until);
            self.offices.apply(Input::Up { slot, masters, until }, self.at(0))
        }

        fn master(&mut self, slot: usize, mine: Option<u32>, epoch: u64, now: u64) -> Vec<Change> {
            let mine = mine.map(id);
            self.offices.apply(Input::Master { slot, class: class(), mine, epoch }, self.at(now))
        }

        fn lease(&mut self, slot: usize, until: u64, now: u64) -> Vec<Change> {
            let until = self.at(until);
            self.offices.apply(Input::Lease { slot, until }, self.at(now))
        }

        fn down(&mut self, slot: usize, now: u64) -> Vec<Change> {
            self.offices.apply(Input::Down { slot }, self.at(now))
        }

        fn expire(&mut self, now: u64) -> Vec<Change> {
            self.offices.expire(self.at(now))
        }

        /// What it claims, with a jitter of 100 ms: the router, the instance, the epoch.
        fn disputes(&mut self, now: u64) -> Vec<(usize, u32, u64)> {
            let claims = self.offices.disputes(self.at(now), Duration::from_millis(100));
            let short =
                |(slot, claim): (usize, Claim)| (slot, claim.id.instance().raw(), claim.epoch);
            claims.into_iter().map(short).collect()
        }

        fn epoch(&self, now: u64) -> Option<u64> {
            self.offices.epoch(class(), self.at(now))
        }
    }

    fn promoted(epoch: u64) -> Change {
        Change::Promoted { class: class(), epoch }
    }

    fn demoted() -> Change {
        Change::Demoted { class: class() }
    }

    #[test]
    fn one_router_is_enough_and_its_end_ends_the_office() {
        let mut node = Node::new();
        assert_eq!(node.up(0, None, 100), []);
        assert_eq!(node.master(0, Some(1), 7, 1), [promoted(7)]);
        assert_eq!(node.master(0, Some(1), 7, 2), []);
        assert_eq!(node.epoch(2), Some(7));
        assert_eq!(node.down(0, 3), [demoted()]);
        assert_eq!(node.epoch(3), None);
    }

    #[test]
    fn every_router_has_to_say_so() {
        let mut node = Node::new();
        node.up(0, None, 100);
        node.up(1, None, 100);
        assert_eq!(node.master(0, Some(1), 7, 1), []);
        assert_eq!(node.epoch(1), None);
        assert_eq!(node.master(1, Some(1), 5, 2), [promoted(7)]);
        assert_eq!(node.master(0, None, 8, 3), [demoted()]);
        // The other one still says so, and is the only one once this one is gone.
        assert_eq!(node.down(0, 4), [promoted(5)]);
    }

    #[test]
    fn a_router_that_says_nothing_of_the_class_stands_in_the_way() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        let input = Input::Up { slot: 1, masters: Vec::new(), until: node.at(100) };
        assert_eq!(node.offices.apply(input, node.at(1)), [demoted()]);
    }

    #[test]
    fn the_epoch_grows_and_does_not_shrink_while_the_office_is_held() {
        let mut node = Node::new();
        assert_eq!(node.up(0, Some((1, 7)), 100), [promoted(7)]);
        assert_eq!(node.up(1, Some((1, 9)), 100), [promoted(9)]);
        assert_eq!(node.down(1, 1), []);
        assert_eq!(node.epoch(1), Some(9));
        assert_eq!(node.up(1, Some((1, 8)), 100), []);
        assert_eq!(node.offices.claims(node.at(2)), [(class(), 9)]);
    }

    #[test]
    fn an_office_ends_with_the_lease_even_if_nobody_looks() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        assert_eq!(node.epoch(99), Some(7));
        assert_eq!(node.epoch(100), None);
        assert_eq!(node.offices.claims(node.at(100)), []);
        assert_eq!(node.offices.next_expiry(), Some(node.at(100)));
        assert_eq!(node.expire(99), []);
        assert_eq!(node.expire(100), [demoted()]);
        assert_eq!(node.offices.next_expiry(), None);
    }

    #[test]
    fn a_lease_brings_the_office_back() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        assert_eq!(node.expire(100), [demoted()]);
        assert_eq!(node.lease(0, 200, 150), [promoted(7)]);
        assert_eq!(node.offices.next_expiry(), Some(node.at(200)));
    }

    #[test]
    fn a_lease_that_comes_late_does_not_hide_the_break() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        assert_eq!(node.lease(0, 200, 150), [demoted(), promoted(7)]);
        assert_eq!(node.lease(0, 300, 199), []);
        assert_eq!(node.epoch(299), Some(7));
    }

    #[test]
    fn an_older_answer_does_not_shorten_a_lease() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        assert_eq!(node.lease(0, 50, 10), []);
        assert_eq!(node.epoch(99), Some(7));
    }

    #[test]
    fn a_router_without_a_lease_has_no_say() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 200);
        node.up(1, None, 100);
        assert_eq!(node.epoch(99), None);
        assert_eq!(node.epoch(100), Some(7));
        assert_eq!(node.expire(100), [promoted(7)]);
        assert_eq!(node.lease(1, 300, 150), [demoted()]);
    }

    #[test]
    fn a_second_promotion_of_the_same_id_is_that_of_a_newer_incarnation() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        assert_eq!(node.master(0, Some(1), 8, 1), [demoted()]);
        assert_eq!(node.lease(0, 200, 2), []);
        assert_eq!(node.master(0, None, 9, 3), []);
        assert_eq!(node.master(0, Some(1), 10, 4), [promoted(10)]);
    }

    #[test]
    fn another_id_of_this_node_takes_over_under_its_own_epoch() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        assert_eq!(node.master(0, Some(2), 8, 1), [promoted(8)]);
    }

    #[test]
    fn an_id_that_is_gone_is_master_nowhere() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 100);
        node.up(1, Some((2, 8)), 100);
        assert_eq!(node.offices.apply(Input::Gone { ids: vec![id(3)] }, node.at(1)), []);
        assert_eq!(node.offices.apply(Input::Gone { ids: vec![id(2)] }, node.at(2)), [demoted()]);
        assert_eq!(node.down(1, 3), [promoted(7)]);
    }

    #[test]
    fn what_a_lost_router_says_late_changes_nothing() {
        let mut node = Node::new();
        node.up(0, None, 100);
        node.down(0, 1);
        assert_eq!(node.master(0, Some(1), 7, 2), []);
        assert_eq!(node.lease(0, 500, 3), []);
        assert_eq!((node.epoch(3), node.offices.next_expiry()), (None, None));
    }

    #[test]
    fn a_dispute_that_lasts_is_said_once_to_the_router_that_names_another() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 9_000);
        assert_eq!(node.disputes(0), []);
        node.up(1, None, 9_000);
        assert_eq!(node.disputes(0), []);
        assert_eq!(node.offices.next_expiry(), Some(node.at(1_100)));
        assert_eq!(node.disputes(1_099), []);
        assert_eq!(node.disputes(1_100), [(1, 1, 7)]);
        assert_eq!(node.offices.next_expiry(), Some(node.at(9_000)));
        assert_eq!(node.disputes(5_000), []);
        // A session that is made anew has not heard it.
        node.down(1, 5_000);
        node.up(1, None, 9_000);
        assert_eq!(node.disputes(5_000), []);
        assert_eq!(node.disputes(6_100), [(1, 1, 7)]);
        // Nor has this one, of a later epoch.
        node.master(0, None, 8, 6_200);
        assert_eq!(node.disputes(6_200), []);
        node.master(0, Some(1), 9, 6_300);
        assert_eq!(node.disputes(6_300), []);
        assert_eq!(node.disputes(7_400), [(1, 1, 9)]);
    }

    #[test]
    fn a_dispute_that_ends_in_time_is_nothing() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 9_000);
        node.up(1, None, 9_000);
        node.disputes(0);
        node.master(1, Some(1), 8, 1_000);
        assert_eq!(node.disputes(1_000), []);
        assert_eq!(node.offices.next_expiry(), Some(node.at(9_000)));
        // The next one begins when it begins.
        node.master(1, None, 9, 3_000);
        assert_eq!(node.disputes(3_000), []);
        assert_eq!(node.disputes(4_099), []);
        assert_eq!(node.disputes(4_100), [(1, 1, 7)]);
    }

    #[test]
    fn the_highest_epoch_is_claimed_at_every_router_that_names_another() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 9_000);
        node.up(1, None, 9_000);
        node.up(2, Some((2, 9)), 9_000);
        node.up(3, None, 9_000);
        node.disputes(0);
        assert_eq!(node.disputes(1_100), [(1, 2, 9), (3, 2, 9)]);
    }

    #[test]
    fn whoever_is_elected_or_dismissed_meanwhile_waits_anew() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 9_000);
        node.up(1, Some((1, 9)), 9_000);
        node.up(2, None, 9_000);
        node.disputes(0);
        node.master(0, None, 10, 1_000);
        assert_eq!(node.disputes(1_000), []);
        assert_eq!(node.disputes(2_099), []);
        assert_eq!(node.disputes(2_100), [(0, 1, 9), (2, 1, 9)]);
        // What does not concern it is no reason to wait.
        node.down(2, 2_200);
        node.up(2, None, 9_000);
        node.disputes(2_200);
        node.master(2, None, 11, 3_000);
        assert_eq!(node.disputes(3_300), [(2, 1, 9)]);
    }

    #[test]
    fn an_office_that_was_claimed_is_held_when_the_lease_of_the_one_before_is_over() {
        // The longest lease was one of 2,400 ms: it runs from the election.
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 9_000);
        node.up(1, None, 2_000);
        node.disputes(0);
        node.lease(1, 3_000, 600);
        node.disputes(1_100);
        node.master(1, Some(1), 8, 1_200);
        node.lease(1, 3_600, 1_200);
        assert_eq!((node.epoch(3_500), node.expire(3_500)), (None, vec![]));
        assert_eq!(node.offices.next_expiry(), Some(node.at(3_600)));
        node.lease(1, 5_900, 3_550);
        assert_eq!(node.offices.next_expiry(), Some(node.at(3_600)));
        assert_eq!(node.expire(3_600), [promoted(8)]);
        assert_eq!(node.offices.next_expiry(), Some(node.at(5_900)));
        // Elected without a claim, it is master at once.
        assert_eq!(node.master(1, None, 9, 4_000), [demoted()]);
        assert_eq!(node.master(1, Some(1), 10, 4_010), [promoted(10)]);
    }

    #[test]
    fn routers_without_a_lease_and_those_that_leave_have_no_part_in_a_dispute() {
        let mut node = Node::new();
        node.up(0, Some((1, 7)), 9_000);
        node.up(1, None, 500);
        node.disputes(0);
        node.expire(1_000);
        assert_eq!(node.disputes(1_100), []);
        // A lease begins it anew.
        node.lease(1, 9_000, 1_200);
        node.disputes(1_200);
        assert_eq!(node.disputes(2_299), []);
        let leaving =
            |node: &mut Node, slot| node.offices.apply(Input::Leaving { slot }, node.at(2_299));
        assert_eq!(leaving(&mut node, 1), []);
        assert_eq!(node.disputes(2_300), []);

        let mut node = Node::new();
        node.up(0, Some((1, 7)), 9_000);
        node.up(1, None, 9_000);
        leaving(&mut node, 0);
        assert_eq!(node.disputes(2_300), []);
        assert_eq!(node.disputes(4_000), [], "whom a router elects that leaves is not for long");
        node.offices.apply(Input::Gone { ids: vec![id(1)] }, node.at(4_000));
        assert_eq!(node.disputes(4_000), []);
    }
}
