//! One class: its members, its policy, its master, and how a mode picks among them.

use std::sync::Arc;

use rand::{Rng, RngExt};
use switchboard_protocol::{Class, Instance, Mode, Reason};

use super::rendezvous::Owners;
use super::sequence::{Count, Keep, Member, Sequence};
use crate::policy::{ClassPolicy, HashPolicy};

/// A class in a snapshot.
#[derive(Debug, Clone)]
pub struct ClassTable<H> {
    class: Class,
    policy: Arc<ClassPolicy>,
    members: Sequence<H>,
    /// Who has left the class but for what is sent to it by its id. No instance is here and a member.
    draining: Sequence<H>,
    owners: Owners,
    master: Option<u32>,
    epoch: u64,
    master_changes: u64,
}

/// What a mode picked.
#[derive(Debug)]
pub enum Pick<'a, H> {
    /// One member.
    One(&'a Member<H>),
    /// All members of the class.
    Everyone,
    /// None, and why.
    Nobody(Reason),
}

impl<H: Clone> ClassTable<H> {
    /// A class without members.
    pub fn new(class: Class, policy: Arc<ClassPolicy>) -> Self {
        Self {
            class,
            policy,
            members: Sequence::default(),
            draining: Sequence::default(),
            owners: Owners::default(),
            master: None,
            epoch: 0,
            master_changes: 0,
        }
    }

    /// Which class it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Its policy.
    pub fn policy(&self) -> &Arc<ClassPolicy> {
        &self.policy
    }

    /// How many members, slots and weights it holds.
    pub fn count(&self) -> Count {
        self.members.count()
    }

    /// The master, and the epoch that its mastership began.
    pub fn master(&self) -> (Option<&Member<H>>, u64) {
        (self.master.and_then(|instance| self.members.find(instance)), self.epoch)
    }

    /// How often the master changed since the router started.
    pub fn master_changes(&self) -> u64 {
        self.master_changes
    }

    /// Whom frames for an instance by its number reach: the member, or who drains under it.
    #[inline]
    pub fn find(&self, instance: u32) -> Option<&Member<H>> {
        self.members.find(instance).or_else(|| self.draining.find(instance))
    }

    /// The member with an instance number.
    pub fn member(&self, instance: u32) -> Option<&Member<H>> {
        self.members.find(instance)
    }

    /// Who drains under an instance number.
    pub fn draining(&self, instance: u32) -> Option<&Member<H>> {
        self.draining.find(instance)
    }

    /// How many drain.
    pub fn count_draining(&self) -> u32 {
        self.draining.count().live
    }

    /// All members, ascending.
    pub fn members(&self) -> impl Iterator<Item = &Member<H>> {
        self.members.iter()
    }

    /// The live member with the lowest instance, found without a look at the holes that others left before it.
    pub fn lowest(&self) -> Option<&Member<H>> {
        self.members.live(0)
    }

    /// All slots, ascending: the instance that each is for, and its member unless it is a hole.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Option<&Member<H>>)> {
        self.members.slots()
    }

    /// How many members have a lower instance number.
    pub fn live_below(&self, instance: u32) -> u32 {
        self.members.live_below(instance)
    }

    /// All who drain, ascending.
    pub fn all_draining(&self) -> impl Iterator<Item = &Member<H>> {
        self.draining.iter()
    }

    /// All members, and then all who drain.
    pub fn everyone(&self) -> impl Iterator<Item = &Member<H>> {
        self.members.iter().chain(self.draining.iter())
    }

    /// The whole decision of where a frame goes. `target` is read by Direct, `key` by Hash, `rng` by
    /// Random and LeastLoaded. Nothing changes but the generator.
    #[inline]
    pub fn pick(&self, mode: Mode, target: u32, key: u64, rng: &mut impl Rng) -> Pick<'_, H> {
        let live = self.members.count().live;
        if live == 0 && mode != Mode::Direct {
            return Pick::Nobody(Reason::NoInstance);
        }
        let (picked, otherwise) = match mode {
            Mode::Direct => (self.find(target & Instance::MAX.raw()), Reason::NotFound),
            Mode::Master => (self.master().0, Reason::NoInstance),
            Mode::Hash => (self.pick_by_key(key, live), Reason::EmptySlot),
            Mode::Random => (self.pick_weighted(rng), Reason::NoInstance),
            Mode::LeastLoaded => (self.pick_least_loaded(live, rng), Reason::NoInstance),
            Mode::Broadcast => return Pick::Everyone,
        };
        picked.map_or(Pick::Nobody(otherwise), Pick::One)
    }

    fn pick_by_key(&self, key: u64, live: u32) -> Option<&Member<H>> {
        match (self.policy.hash, self.policy.slots) {
            (HashPolicy::Rendezvous, _) => {
                let instances = self.members.iter().map(|member| member.instance);
                self.members.find(self.owners.owner(key, instances)?)
            }
            (HashPolicy::Modulo, _) => self.members.live((key % u64::from(live)) as u32),
            (HashPolicy::Fixed, 0) => {
                let slots = self.members.count().slots;
                let slot = self.members.slot((key % u64::from(slots)) as u32)?;
                slot.member.or_else(|| self.walk(slot.live_before, live))
            }
            (HashPolicy::Fixed, slots) => {
                let instance = (key % u64::from(slots)) as u32 + 1;
                self.members.find(instance).or_else(|| {
                    // Instances above the slots hold none, so the walk turns back before them.
                    let live = self.members.live_below(slots.saturating_add(1));
                    self.walk(self.members.live_below(instance), live)
                })
            }
        }
    }

    /// The next live member behind an empty slot that has `live_before` members before it.
    fn walk(&self, live_before: u32, live: u32) -> Option<&Member<H>> {
        if !self.policy.walk || live == 0 {
            return None;
        }
        self.members.live(live_before % live)
    }

    fn pick_weighted(&self, rng: &mut impl Rng) -> Option<&Member<H>> {
        match self.members.count().weight {
            0 => None,
            weight => self.members.weighted(rng.random_range(0..weight)),
        }
    }

    /// The less loaded of two members chosen at random: close to the best choice, and the senders do
    /// not all rush to the same one between two reports (Mitzenmacher, 2001).
    fn pick_least_loaded(&self, live: u32, rng: &mut impl Rng) -> Option<&Member<H>> {
        let first = rng.random_range(0..live);
        let one = self.members.live(first)?;
        if live == 1 {
            return Some(one);
        }
        let second = (first + rng.random_range(1..live)) % live;
        let other = self.members.live(second)?;
        Some(if other.load() < one.load() { other } else { one })
    }

    /// Puts a member in its place, and answers with the one that it displaces. Who drains under the same
    /// number is reached no more.
    pub(crate) fn insert(&mut self, member: Member<H>) -> Option<Member<H>> {
        let instance = member.instance;
        self.draining.remove(instance, Keep::Nothing);
        let displaced = self.members.insert(member);
        if displaced.is_none() {
            self.owners.joined(instance);
        }
        displaced
    }

    /// Takes a member out. Its slot stays where the policy counts slots by who has been seen.
    pub(crate) fn remove(&mut self, instance: u32) -> Option<Member<H>> {
        let removed = self.members.remove(instance, self.keep(instance))?;
        self.owners.left(instance);
        Some(removed)
    }

    /// Keeps a slot, or forgets one, where the policy counts slots by who has been seen. One that has a
    /// member stays as it is.
    pub(crate) fn set_slot(&mut self, instance: u32, keep: Keep) {
        if keep == Keep::Nothing {
            self.members.close_hole(instance);
        } else if self.keep(instance) == Keep::Hole {
            self.members.open_hole(instance);
        }
    }

    /// Takes a member out of what modes pick from; what is sent to it by its id still reaches it.
    pub(crate) fn drain(&mut self, instance: u32) -> Option<Member<H>> {
        let removed = self.remove(instance)?;
        self.draining.insert(removed.clone());
        Some(removed)
    }

    /// Takes out who drains.
    pub(crate) fn forget(&mut self, instance: u32) -> Option<Member<H>> {
        self.draining.remove(instance, Keep::Nothing)
    }

    /// Names the master anew.
    pub(crate) fn set_master(&mut self, master: Option<u32>, epoch: u64) {
        self.master = master;
        self.epoch = epoch;
        self.master_changes += 1;
    }

    /// Takes a policy from a reload.
    pub(crate) fn set_policy(&mut self, policy: Arc<ClassPolicy>) {
        self.policy = policy;
        if !self.counts_seen() {
            self.members.close_holes();
        }
    }

    fn counts_seen(&self) -> bool {
        self.policy.hash == HashPolicy::Fixed && self.policy.slots == 0
    }

    fn keep(&self, instance: u32) -> Keep {
        let count = self.members.count();
        let assigned = instance >= Instance::FIRST_ASSIGNED.raw();
        if self.counts_seen() && !assigned && count.slots - count.live < MAX_HOLES {
            Keep::Hole
        } else {
            Keep::Nothing
        }
    }
}

/// The most holes that a class keeps: a peer that registers one id after another can't make it grow
/// without end.
const MAX_HOLES: u32 = 1 << 14;
