//! The members of one class in ascending order, shared between snapshots.
//!
//! A tree of three fixed levels: leaves of members, branches of leaves, and the root. A change copies
//! one leaf, one branch and the root's list of branches, whatever the size of the class, and leaves
//! every published snapshot as it was. Each level counts what lies below it, so that the k-th slot,
//! the k-th live member and a point on the scale of weights are found by descending.
//!
//! A slot is a member or the hole that one left behind. Nothing here knows of modes or policies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// One live instance of a class.
#[derive(Debug)]
pub struct Member<H> {
    /// Its instance number.
    pub instance: u32,
    /// Its share of Random frames.
    pub weight: u16,
    /// What it reported last. Only the registry stores; any shard reads.
    load: AtomicU32,
    /// What it tells of itself; none where that is nothing.
    pub metadata: Option<Arc<Metadata>>,
    /// How to reach it.
    pub handle: H,
}

/// What an instance tells of itself.
pub type Metadata = BTreeMap<String, String>;

/// The ordered members and holes of a class.
#[derive(Debug, Clone)]
pub struct Sequence<H> {
    branches: Vec<Arc<Branch<H>>>,
    index: Index,
}

/// What a part of the sequence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Members and holes.
    pub slots: u32,
    /// Members.
    pub live: u32,
    /// The sum of the members' weights.
    pub weight: u64,
}

/// A slot as a descent finds it.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a, H> {
    /// Its member, unless it is a hole.
    pub member: Option<&'a Member<H>>,
    /// How many live members stand before it.
    pub live_before: u32,
}

#[derive(Debug, Clone)]
struct Branch<H> {
    leaves: Vec<Arc<Leaf<H>>>,
    index: Index,
}

#[derive(Debug, Clone)]
struct Leaf<H> {
    instances: Vec<u32>,
    slots: Vec<Option<Member<H>>>,
    count: Count,
    /// What all of its members weigh, if that is the same and no slot is a hole; else 0.
    each: u16,
}

/// The first instance of each part, and what lies before it; `total` is all of them.
#[derive(Debug, Clone, Default)]
struct Index {
    firsts: Vec<u32>,
    before: Vec<Count>,
    total: Count,
}

impl<H> Member<H> {
    /// A member that has reported no load.
    pub fn new(instance: u32, weight: u16, handle: H) -> Self {
        Self { instance, weight, load: AtomicU32::new(0), metadata: None, handle }
    }

    /// The same with what it tells of itself.
    #[must_use]
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata: (!metadata.is_empty()).then(|| Arc::new(metadata)), ..self }
    }

    /// What it reported last.
    pub fn load(&self) -> u32 {
        self.load.load(Relaxed)
    }

    /// Notes a report, in place: readers of older snapshots see it too.
    pub fn set_load(&self, load: u32) {
        self.load.store(load, Relaxed);
    }
}

impl<H: Clone> Clone for Member<H> {
    fn clone(&self) -> Self {
        Self {
            instance: self.instance,
            weight: self.weight,
            load: AtomicU32::new(self.load()),
            metadata: self.metadata.clone(),
            handle: self.handle.clone(),
        }
    }
}

impl<H> Default for Sequence<H> {
    fn default() -> Self {
        Self { branches: Vec::new(), index: Index::default() }
    }
}

impl<H: Clone> Sequence<H> {
    /// What it holds.
    pub fn count(&self) -> Count {
        self.index.total
    }

    /// The member with this instance number.
    #[inline]
    pub fn find(&self, instance: u32) -> Option<&Member<H>> {
        let branch = self.branches.get(self.index.part_of(instance)?)?;
        let leaf = branch.leaves.get(branch.index.part_of(instance)?)?;
        leaf.slots[leaf.position(instance).ok()?].as_ref()
    }

    /// The k-th slot in ascending order, from 0.
    pub fn slot(&self, k: u32) -> Option<Found<'_, H>> {
        let (leaf, rest, before) = self.descend(k.into(), |count| count.slots.into())?;
        let k = rest as usize;
        Some(Found {
            member: leaf.slots.get(k)?.as_ref(),
            live_before: before.live + leaf.live_before(k),
        })
    }

    /// The k-th live member in ascending order, from 0.
    pub fn live(&self, k: u32) -> Option<&Member<H>> {
        let (leaf, rest, _) = self.descend(k.into(), |count| count.live.into())?;
        if leaf.count.live == leaf.count.slots {
            return leaf.slots.get(rest as usize)?.as_ref();
        }
        leaf.members().nth(rest as usize)
    }

    /// The member in whose share the point `at` of `0..weight` falls.
    pub fn weighted(&self, at: u64) -> Option<&Member<H>> {
        let (leaf, mut rest, _) = self.descend(at, |count| count.weight)?;
        if leaf.each > 0 {
            return leaf.slots.get((rest / u64::from(leaf.each)) as usize)?.as_ref();
        }
        leaf.members().find(|member| {
            let inside = rest < u64::from(member.weight);
            rest = rest.saturating_sub(member.weight.into());
            inside
        })
    }

    /// How many live members have an instance below this one.
    pub fn live_below(&self, instance: u32) -> u32 {
        let Some(b) = self.index.part_of(instance) else { return 0 };
        let branch = &self.branches[b];
        let before = self.index.before[b].live;
        let Some(l) = branch.index.part_of(instance) else { return before };
        let leaf = &branch.leaves[l];
        let (Ok(at) | Err(at)) = leaf.position(instance);
        before + branch.index.before[l].live + leaf.live_before(at)
    }

    /// All live members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Member<H>> {
        self.branches.iter().flat_map(|branch| &branch.leaves).flat_map(|leaf| leaf.members())
    }

    /// All slots, ascending: the instance that each is for, and its member unless it is a hole.
    pub fn slots(&self) -> impl Iterator<Item = (u32, Option<&Member<H>>)> {
        let leaves = self.branches.iter().flat_map(|branch| &branch.leaves);
        leaves.flat_map(|leaf| {
            leaf.instances.iter().copied().zip(leaf.slots.iter().map(Option::as_ref))
        })
    }

    /// All slots' instances, ascending, holes among them.
    pub fn instances(&self) -> impl Iterator<Item = u32> {
        self.branches
            .iter()
            .flat_map(|branch| &branch.leaves)
            .flat_map(|leaf| leaf.instances.iter().copied())
    }

    /// Puts a member in its place, and answers with the member that it displaces.
    pub fn insert(&mut self, member: Member<H>) -> Option<Member<H>> {
        self.put(member.instance, Some(member))
    }

    /// Makes a hole for an instance that has no slot.
    pub fn open_hole(&mut self, instance: u32) {
        if !self.has_slot(instance) {
            self.put(instance, None);
        }
    }

    fn put(&mut self, instance: u32, slot: Option<Member<H>>) -> Option<Member<H>> {
        if self.branches.is_empty() {
            self.branches.push(Arc::new(Branch::of(vec![Arc::new(Leaf::default())])));
        }
        let b = self.index.part_of(instance).unwrap_or(0);
        let (displaced, split) = Arc::make_mut(&mut self.branches[b]).insert(instance, slot);
        if let Some(right) = split {
            self.branches.insert(b + 1, Arc::new(right));
        }
        self.recount_from(b);
        displaced
    }

    /// Takes a member out, and keeps its slot as a hole if asked.
    pub fn remove(&mut self, instance: u32, keep: Keep) -> Option<Member<H>> {
        self.find(instance)?;
        self.take(instance, keep)
    }

    /// Forgets the hole that a member left behind; whether there was one.
    pub fn close_hole(&mut self, instance: u32) -> bool {
        let is_hole = self.find(instance).is_none() && self.has_slot(instance);
        if is_hole {
            self.take(instance, Keep::Nothing);
        }
        is_hole
    }

    fn has_slot(&self, instance: u32) -> bool {
        let branch = self.index.part_of(instance).map(|b| &self.branches[b]);
        let leaf = branch.and_then(|branch| Some(&branch.leaves[branch.index.part_of(instance)?]));
        leaf.is_some_and(|leaf| leaf.position(instance).is_ok())
    }

    /// Empties a slot that is there.
    fn take(&mut self, instance: u32, keep: Keep) -> Option<Member<H>> {
        let b = self.index.part_of(instance)?;
        let removed = Arc::make_mut(&mut self.branches[b]).remove(instance, keep);
        if self.branches[b].leaves.is_empty() {
            self.branches.remove(b);
        } else if b + 1 < self.branches.len() && self.branches[b].joins(&self.branches[b + 1]) {
            let right = Arc::unwrap_or_clone(self.branches.remove(b + 1));
            let left = Arc::make_mut(&mut self.branches[b]);
            left.leaves.extend(right.leaves);
            left.recount_from(0);
        }
        self.recount_from(b);
        removed
    }

    /// Forgets every hole.
    pub fn close_holes(&mut self) {
        let members: Vec<_> = self.iter().cloned().collect();
        *self = Self::default();
        for member in members {
            self.insert(member);
        }
    }

    /// Counts anew from a branch on: those before it are as they were.
    fn recount_from(&mut self, b: usize) {
        let branches = self.branches[b..].iter();
        self.index.rebuild_from(b, branches.map(|branch| (branch.first(), branch.index.total)));
    }

    /// The leaf in which the point `at` falls on the scale that `measure` reads, what is left of
    /// `at` there, and what lies before the leaf.
    fn descend(
        &self,
        at: u64,
        measure: impl Fn(&Count) -> u64 + Copy,
    ) -> Option<(&Leaf<H>, u64, Count)> {
        if at >= measure(&self.index.total) {
            return None;
        }
        let b = self.index.part_at(at, measure);
        let (branch, before_branch) = (&self.branches[b], self.index.before[b]);
        let at = at - measure(&before_branch);
        let l = branch.index.part_at(at, measure);
        let (leaf, before_leaf) = (&branch.leaves[l], branch.index.before[l]);
        Some((leaf, at - measure(&before_leaf), before_branch.plus(before_leaf)))
    }
}

/// What becomes of the slot of a member that leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It stays, empty.
    Hole,
    /// It goes.
    Nothing,
}

impl<H: Clone> Branch<H> {
    fn of(leaves: Vec<Arc<Leaf<H>>>) -> Self {
        let mut branch = Self { leaves, index: Index::default() };
        branch.recount_from(0);
        branch
    }

    fn first(&self) -> u32 {
        self.leaves[0].first()
    }

    /// Counts anew from a leaf on: those before it are as they were.
    fn recount_from(&mut self, l: usize) {
        // What is cut off may begin before it.
        let l = l.min(self.leaves.len());
        self.index.rebuild_from(l, self.leaves[l..].iter().map(|leaf| (leaf.first(), leaf.count)));
    }

    fn joins(&self, right: &Self) -> bool {
        self.leaves.len() + right.leaves.len() <= FANOUT / 2
    }

    fn insert(
        &mut self,
        instance: u32,
        slot: Option<Member<H>>,
    ) -> (Option<Member<H>>, Option<Self>) {
        let l = self.index.part_of(instance).unwrap_or(0);
        let (displaced, split) = Arc::make_mut(&mut self.leaves[l]).insert(instance, slot);
        if let Some(right) = split {
            self.leaves.insert(l + 1, Arc::new(right));
        }
        let right = (self.leaves.len() > FANOUT).then(|| {
            let at = split_point(l + 1, self.leaves.len());
            Self::of(self.leaves.split_off(at))
        });
        self.recount_from(l);
        (displaced, right)
    }

    fn remove(&mut self, instance: u32, keep: Keep) -> Option<Member<H>> {
        let l = self.index.part_of(instance)?;
        let removed = Arc::make_mut(&mut self.leaves[l]).remove(instance, keep);
        if self.leaves[l].slots.is_empty() {
            self.leaves.remove(l);
        } else if l + 1 < self.leaves.len() && self.leaves[l].joins(&self.leaves[l + 1]) {
            let right = Arc::unwrap_or_clone(self.leaves.remove(l + 1));
            let left = Arc::make_mut(&mut self.leaves[l]);
            left.instances.extend(right.instances);
            left.slots.extend(right.slots);
            left.recount();
        }
        self.recount_from(l);
        removed
    }
}

impl<H: Clone> Leaf<H> {
    fn first(&self) -> u32 {
        self.instances.first().copied().unwrap_or(0)
    }

    fn members(&self) -> impl Iterator<Item = &Member<H>> {
        self.slots.iter().flatten()
    }

    /// How many members stand before a slot.
    fn live_before(&self, slot: usize) -> u32 {
        if self.count.live == self.count.slots {
            return slot as u32;
        }
        self.slots[..slot].iter().filter(|slot| slot.is_some()).count() as u32
    }

    /// Where an instance stands, or would stand. Instances are mostly dense, so the first guess is
    /// mostly right.
    #[inline]
    fn position(&self, instance: u32) -> Result<usize, usize> {
        let guess = instance.wrapping_sub(self.first()) as usize;
        match self.instances.get(guess) {
            Some(there) if *there == instance => Ok(guess),
            _ => self.instances.binary_search(&instance),
        }
    }

    fn insert(
        &mut self,
        instance: u32,
        slot: Option<Member<H>>,
    ) -> (Option<Member<H>>, Option<Self>) {
        let at = match self.position(instance) {
            Ok(at) => {
                let displaced = std::mem::replace(&mut self.slots[at], slot);
                self.recount();
                return (displaced, None);
            }
            Err(at) => at,
        };
        self.count_in(slot.as_ref());
        self.instances.insert(at, instance);
        self.slots.insert(at, slot);
        if self.slots.len() <= FANOUT {
            return (None, None);
        }
        let cut = split_point(at, self.slots.len());
        let mut right = Self {
            instances: self.instances.split_off(cut),
            slots: self.slots.split_off(cut),
            ..Self::default()
        };
        right.recount();
        self.recount();
        // What grew by one has room for twice as many.
        self.instances.shrink_to_fit();
        self.slots.shrink_to_fit();
        (None, Some(right))
    }

    /// Counts a slot that is about to be added, without looking at the others.
    fn count_in(&mut self, slot: Option<&Member<H>>) {
        let weight = slot.map_or(0, |member| member.weight);
        let even = self.count.slots == 0 || self.each == weight;
        self.each = if even { weight } else { 0 };
        self.count =
            self.count.plus(Count { slots: 1, live: slot.is_some().into(), weight: weight.into() });
    }

    fn remove(&mut self, instance: u32, keep: Keep) -> Option<Member<H>> {
        let at = self.position(instance).ok()?;
        let removed = self.slots[at].take();
        if keep == Keep::Nothing {
            self.instances.remove(at);
            self.slots.remove(at);
        }
        self.recount();
        removed
    }

    fn joins(&self, right: &Self) -> bool {
        self.slots.len() + right.slots.len() <= FANOUT / 2
    }

    fn recount(&mut self) {
        self.count = Count {
            slots: self.slots.len() as u32,
            live: self.members().count() as u32,
            weight: self.members().map(|member| u64::from(member.weight)).sum(),
        };
        let first = self.members().next().map_or(0, |member| member.weight);
        let even = self.count.live == self.count.slots
            && self.members().all(|member| member.weight == first);
        self.each = if even { first } else { 0 };
    }
}

impl<H> Default for Leaf<H> {
    fn default() -> Self {
        Self { instances: Vec::new(), slots: Vec::new(), count: Count::default(), each: 0 }
    }
}

impl Index {
    /// The part that holds an instance, if it is there at all; `None` if it is below all of them.
    #[inline]
    fn part_of(&self, instance: u32) -> Option<usize> {
        self.firsts.partition_point(|first| *first <= instance).checked_sub(1)
    }

    /// The part in which a point of a scale falls. The point lies below the total.
    fn part_at(&self, at: u64, measure: impl Fn(&Count) -> u64) -> usize {
        self.before.partition_point(|before| measure(before) <= at) - 1
    }

    /// Counts the parts from this one on anew.
    fn rebuild_from(&mut self, part: usize, parts: impl Iterator<Item = (u32, Count)>) {
        self.total = self.before.get(part).copied().unwrap_or(self.total);
        self.firsts.truncate(part);
        self.before.truncate(part);
        for (first, count) in parts {
            self.firsts.push(first);
            self.before.push(self.total);
            self.total = self.total.plus(count);
        }
    }
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self {
            slots: self.slots + other.slots,
            live: self.live + other.live,
            weight: self.weight + other.weight,
        }
    }
}

/// Where to cut a part that is too long: in the middle, but at the end where it grew at the end, so
/// that instances registered in ascending order leave full parts behind.
fn split_point(grew_at: usize, len: usize) -> usize {
    if grew_at + 1 >= len { len - 1 } else { len / 2 }
}

/// The most members of a leaf, and leaves of a branch.
const FANOUT: usize = 128;
