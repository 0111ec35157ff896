//! The table against a plain sorted list: whatever joins and leaves, both pick the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use switchboard_protocol::{Class, Mode, Reason};

use super::class::{ClassTable, Pick};
use super::sequence::{Keep, Member, Sequence};
use crate::policy::{ClassPolicy, HashPolicy};

/// What a class should be: every instance that was seen, with its weight and load while it is there.
#[derive(Debug, Clone, Default)]
struct Model {
    slots: BTreeMap<u32, Option<(u16, u32)>>,
}

#[derive(Debug, Clone)]
enum Step {
    Join(u32, u16, u32),
    Leave(u32),
    /// With or without a slot when nobody is there.
    Slot(u32, Keep),
}

impl Model {
    fn live(&self) -> Vec<u32> {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.is_some())
            .map(|(instance, _)| *instance)
            .collect()
    }

    fn walk(&self, from: u32, below: u32) -> Option<u32> {
        let live: Vec<u32> = self.live().into_iter().filter(|instance| *instance < below).collect();
        live.iter().find(|instance| **instance > from).or(live.first()).copied()
    }

    fn by_key(&self, key: u64, policy: &ClassPolicy) -> Option<u32> {
        let live = self.live();
        match (policy.hash, u64::from(policy.slots)) {
            (HashPolicy::Modulo, _) => Some(live[(key % live.len() as u64) as usize]),
            (HashPolicy::Fixed, slots) => {
                let (instance, below) = match slots {
                    0 => {
                        let at = (key % self.slots.len() as u64) as usize;
                        (*self.slots.keys().nth(at)?, u32::MAX)
                    }
                    _ => ((key % slots) as u32 + 1, policy.slots + 1),
                };
                match self.slots.get(&instance) {
                    Some(Some(_)) => Some(instance),
                    _ if policy.walk => self.walk(instance, below),
                    _ => None,
                }
            }
            (HashPolicy::Rendezvous, _) => unreachable!("it has a test of its own"),
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few instances, so that joins and leaves meet; and some far away, so that the tree has gaps.
    let instance = prop_oneof![8 => 1..400_u32, 1 => 1..1_000_000_u32];
    let step = prop_oneof![
        3 => (instance.clone(), 0..4_u16, 0..5_u32).prop_map(|(i, w, l)| Step::Join(i, w, l)),
        2 => instance.clone().prop_map(Step::Leave),
        1 => (instance, prop_oneof![Just(Keep::Hole), Just(Keep::Nothing)])
            .prop_map(|(i, keep)| Step::Slot(i, keep)),
    ];
    prop::collection::vec(step, 0..1_200)
}

fn policy() -> impl Strategy<Value = ClassPolicy> {
    let hash = prop_oneof![Just(HashPolicy::Fixed), Just(HashPolicy::Modulo)];
    let slots = prop_oneof![Just(0), 1..500_u32];
    (hash, slots, any::<bool>()).prop_map(|(hash, slots, walk)| ClassPolicy {
        hash,
        slots,
        walk,
        ..ClassPolicy::default()
    })
}

fn build(steps: &[Step], policy: &ClassPolicy) -> (ClassTable<u32>, Model) {
    let mut table = ClassTable::new(Class::of(7), Arc::new(policy.clone()));
    let mut model = Model::default();
    let keeps_holes = policy.hash == HashPolicy::Fixed && policy.slots == 0;
    for step in steps {
        // A snapshot in between, so that changes copy what is shared.
        let snapshot = table.clone();
        let before: Vec<u32> = snapshot.members().map(|member| member.instance).collect();
        match *step {
            Step::Join(instance, weight, load) => {
                let member = Member::new(instance, weight, instance);
                member.set_load(load);
                let displaced = table.insert(member).is_some();
                let was = model.slots.insert(instance, Some((weight, load)));
                assert_eq!(displaced, was.flatten().is_some());
            }
            Step::Leave(instance) => {
                let removed = table.remove(instance).is_some();
                let was = model.slots.get(&instance).copied().flatten();
                assert_eq!(removed, was.is_some());
                if removed && keeps_holes {
                    model.slots.insert(instance, None);
                } else if removed {
                    model.slots.remove(&instance);
                }
            }
            Step::Slot(instance, keep) => {
                table.set_slot(instance, keep);
                if keep == Keep::Hole && keeps_holes {
                    model.slots.entry(instance).or_insert(None);
                } else if keep == Keep::Nothing && model.slots.get(&instance) == Some(&None) {
                    model.slots.remove(&instance);
                }
            }
        }
        let after: Vec<u32> = snapshot.members().map(|member| member.instance).collect();
        assert_eq!(before, after, "a snapshot changed");
    }
    (table, model)
}

fn picked<'a>(pick: &Pick<'a, u32>) -> Result<&'a Member<u32>, Option<Reason>> {
    match pick {
        Pick::One(member) => Ok(member),
        Pick::Everyone => Err(None),
        Pick::Nobody(reason) => Err(Some(*reason)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_mode_picks_as_a_sorted_list_would(
        steps in steps(),
        policy in policy(),
        keys in prop::collection::vec(any::<u64>(), 50),
        seed in any::<u64>(),
    ) {
        let (mut table, model) = build(&steps, &policy);
        let live = model.live();
        table.set_master(live.first().copied(), 1);
        let mut rng = SmallRng::seed_from_u64(seed);
        let members: Vec<u32> = table.members().map(|member| member.instance).collect();
        prop_assert_eq!(&members, &live, "members ascend");
        let count = table.count();
        prop_assert_eq!(count.slots as usize, model.slots.len());
        let weights = model.slots.values().flatten().map(|(weight, _)| u64::from(*weight));
        prop_assert_eq!(count.weight, weights.sum::<u64>());
        for key in keys {
            let target = (key % 500) as u32 + 1;
            let direct = table.pick(Mode::Direct, 7 << 24 | target, 0, &mut rng);
            match model.slots.get(&target) {
                Some(Some(_)) => prop_assert_eq!(picked(&direct).map(|m| m.instance), Ok(target)),
                _ => prop_assert_eq!(picked(&direct).err(), Some(Some(Reason::NotFound))),
            }
            if live.is_empty() {
                for mode in [Mode::Master, Mode::Hash, Mode::Random, Mode::Broadcast, Mode::LeastLoaded] {
                    let pick = table.pick(mode, 7 << 24, key, &mut rng);
                    prop_assert_eq!(picked(&pick).err(), Some(Some(Reason::NoInstance)));
                }
                continue;
            }
            let master = table.pick(Mode::Master, 7 << 24, 0, &mut rng);
            prop_assert_eq!(picked(&master).map(|m| m.instance), Ok(live[0]));
            let hash = table.pick(Mode::Hash, 7 << 24, key, &mut rng);
            match model.by_key(key, &policy) {
                Some(instance) => prop_assert_eq!(picked(&hash).map(|m| m.instance), Ok(instance)),
                None => prop_assert_eq!(picked(&hash).err(), Some(Some(Reason::EmptySlot))),
            }
            let random = table.pick(Mode::Random, 7 << 24, 0, &mut rng);
            match picked(&random) {
                Ok(member) => prop_assert!(model.slots[&member.instance].unwrap().0 > 0),
                Err(reason) => {
                    prop_assert_eq!(reason, Some(Reason::NoInstance));
                    prop_assert_eq!(count.weight, 0);
                }
            }
            let least = table.pick(Mode::LeastLoaded, 7 << 24, 0, &mut rng);
            let load = model.slots[&picked(&least).unwrap().instance].unwrap().1;
            let heaviest = live.iter().map(|i| model.slots[i].unwrap().1).max().unwrap();
            let loads: Vec<u32> = live.iter().map(|i| model.slots[i].unwrap().1).collect();
            let lighter_exists = loads.iter().any(|other| *other < heaviest);
            let only_one_heaviest = loads.iter().filter(|other| **other == heaviest).count() == 1;
            prop_assert!(!(lighter_exists && only_one_heaviest && load == heaviest),
                "two choices never end at the one heaviest");
            prop_assert!(matches!(
                table.pick(Mode::Broadcast, 7 << 24, 0, &mut rng),
                Pick::Everyone
            ));
        }
    }

    #[test]
    fn a_sequence_finds_by_rank_and_by_weight_as_a_list_would(steps in steps()) {
        let mut sequence = Sequence::default();
        let mut list: BTreeMap<u32, Option<u16>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Join(instance, weight, _) => {
                    sequence.insert(Member::new(instance, weight, instance));
                    list.insert(instance, Some(weight));
                }
                Step::Leave(instance) if list.get(&instance).is_some_and(Option::is_some) => {
                    let keep = if instance % 2 == 0 { Keep::Hole } else { Keep::Nothing };
                    sequence.remove(instance, keep).unwrap();
                    match keep {
                        Keep::Hole => list.insert(instance, None),
                        Keep::Nothing => list.remove(&instance),
                    };
                }
                Step::Leave(_) => {}
                Step::Slot(instance, Keep::Hole) => {
                    sequence.open_hole(instance);
                    list.entry(instance).or_insert(None);
                }
                Step::Slot(instance, Keep::Nothing) => {
                    let is_hole = list.get(&instance) == Some(&None);
                    prop_assert_eq!(sequence.close_hole(instance), is_hole);
                    if is_hole {
                        list.remove(&instance);
                    }
                }
            }
        }
        let mut live = 0;
        for (k, (instance, slot)) in list.iter().enumerate() {
            let found = sequence.slot(k as u32).unwrap();
            prop_assert_eq!(found.live_before, live);
            prop_assert_eq!(sequence.live_below(*instance), live);
            prop_assert_eq!(found.member.map(|member| member.instance), slot.map(|_| *instance));
            prop_assert_eq!(sequence.find(*instance).is_some(), slot.is_some());
            if slot.is_some() {
                prop_assert_eq!(sequence.live(live).unwrap().instance, *instance);
                live += 1;
            }
        }
        prop_assert!(sequence.slot(list.len() as u32).is_none());
        prop_assert!(sequence.live(live).is_none());
        let mut at = 0_u64;
        for (instance, weight) in list.iter().filter_map(|(i, w)| w.map(|w| (*i, u64::from(w)))) {
            for point in at..at + weight {
                prop_assert_eq!(sequence.weighted(point).unwrap().instance, instance);
            }
            at += weight;
        }
        prop_assert!(sequence.weighted(at).is_none());
        prop_assert!(sequence.instances().eq(list.keys().copied()));
    }

    #[test]
    fn rendezvous_moves_only_the_keys_of_who_joins_or_leaves(
        instances in prop::collection::btree_set(1..10_000_u32, 2..60),
        leaver in any::<prop::sample::Index>(),
        keys in prop::collection::vec(any::<u64>(), 300),
    ) {
        let policy = ClassPolicy { hash: HashPolicy::Rendezvous, ..ClassPolicy::default() };
        let mut table = ClassTable::new(Class::of(7), Arc::new(policy.clone()));
        for instance in &instances {
            table.insert(Member::new(*instance, 1, *instance));
        }
        let mut rng = SmallRng::seed_from_u64(1);
        let mut owners = |table: &ClassTable<u32>| -> Vec<u32> {
            let pick = |key: &u64| picked(&table.pick(Mode::Hash, 7 << 24, *key, &mut rng)).unwrap().instance;
            keys.iter().map(pick).collect()
        };
        let before = owners(&table);
        let leaver = *leaver.get(&instances.iter().copied().collect::<Vec<_>>());
        table.remove(leaver);
        let without = owners(&table);
        for (old, new) in before.iter().zip(&without) {
            prop_assert!(old == new || *old == leaver);
            prop_assert_ne!(*new, leaver);
        }
        table.insert(Member::new(leaver, 1, leaver));
        prop_assert_eq!(&owners(&table), &before, "who comes back gets its keys back");
        // A router that heard of the instances in another order agrees.
        let mut other = ClassTable::new(Class::of(7), Arc::new(policy));
        for instance in instances.iter().rev() {
            other.insert(Member::new(*instance, 1, *instance));
        }
        prop_assert_eq!(owners(&other), before);
    }
}

#[test]
fn rendezvous_spreads_keys_evenly() {
    let policy = ClassPolicy { hash: HashPolicy::Rendezvous, ..ClassPolicy::default() };
    let mut table = ClassTable::new(Class::of(7), Arc::new(policy));
    for instance in 1..=10 {
        table.insert(Member::new(instance, 1, instance));
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let mut hits = [0_u32; 11];
    for key in 0..100_000 {
        let pick = table.pick(Mode::Hash, 7 << 24, key, &mut rng);
        hits[picked(&pick).unwrap().instance as usize] += 1;
    }
    for hits in &hits[1..] {
        assert!((9_000..11_000).contains(hits), "{hits:?}");
    }
}

#[test]
fn random_goes_by_weight() {
    let mut table = ClassTable::new(Class::of(7), Arc::new(ClassPolicy::default()));
    for (instance, weight) in [(1, 1), (2, 3), (3, 0)] {
        table.insert(Member::new(instance, weight, instance));
    }
    let mut rng = SmallRng::seed_from_u64(1);
    let mut hits = [0_u32; 4];
    for _ in 0..40_000 {
        let pick = table.pick(Mode::Random, 7 << 24, 0, &mut rng);
        hits[picked(&pick).unwrap().instance as usize] += 1;
    }
    assert!((9_500..10_500).contains(&hits[1]), "{hits:?}");
    assert_eq!(hits[3], 0, "weight 0 takes none");
}

#[test]
fn a_class_keeps_a_bounded_number_of_holes() {
    let mut table = ClassTable::new(Class::of(7), Arc::new(ClassPolicy::default()));
    for instance in 1..=40_000 {
        table.insert(Member::new(instance, 1, instance));
        table.remove(instance);
    }
    assert_eq!(table.count().slots, 16_384);
    // Instances that the router assigned leave none at all.
    for instance in 0x80_0000..0x80_1000 {
        table.insert(Member::new(instance, 1, instance));
        table.remove(instance);
    }
    assert_eq!(table.count().slots, 16_384);
}

#[test]
fn branches_that_split_and_join_count_as_a_list_would() {
    let mut rng = SmallRng::seed_from_u64(1);
    for order in ["ascending", "descending", "any"] {
        let mut instances: Vec<u32> = (1..=50_000).collect();
        match order {
            "descending" => instances.reverse(),
            "any" => instances.shuffle(&mut rng),
            _ => {}
        }
        let mut sequence = Sequence::default();
        let weight = |instance: u32| (instance % 5) as u16;
        for instance in &instances {
            sequence.insert(Member::new(*instance, weight(*instance), *instance));
        }
        instances.shuffle(&mut rng);
        for stay in [50_000, 20_000, 3_000, 10] {
            for instance in instances.drain(stay..) {
                sequence.remove(instance, Keep::Nothing).unwrap();
            }
            let mut sorted = instances.clone();
            sorted.sort_unstable();
            let mut before = 0;
            for (k, instance) in sorted.iter().enumerate() {
                let found = sequence.slot(k as u32).unwrap();
                assert_eq!(found.live_before, k as u32, "{order}, {stay}");
                assert_eq!(found.member.unwrap().instance, *instance, "{order}, {stay}");
                assert_eq!(sequence.live_below(*instance), k as u32, "{order}, {stay}");
                let weight = u64::from(weight(*instance));
                if weight > 0 {
                    assert_eq!(sequence.weighted(before).unwrap().instance, *instance);
                }
                before += weight;
            }
            assert_eq!(sequence.count().live as usize, stay);
            assert_eq!(sequence.count().weight, before);
        }
    }
}
