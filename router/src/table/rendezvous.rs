//! Rendezvous hashing (highest random weight; Thaler and Ravishankar, 1998) in constant time.
//!
//! A key falls into one of 16,384 slots, and a slot belongs to the instance with the highest score for
//! it. The owner of a slot is worked out when a key first asks for it and kept until the class changes:
//! an instance that joins takes the slots where its score is highest, one that leaves frees only its
//! own. The owners depend on nothing but the set of instances, so all routers agree on them.
//!
//! With many more than a thousand instances the slots are too few for an even spread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The owners of the slots, as far as they are known. 0 is no instance.
#[derive(Debug, Default)]
pub struct Owners(OnceLock<Box<[AtomicU32]>>);

impl Owners {
    /// The instance that owns a key, among `instances`.
    pub fn owner(&self, key: u64, instances: impl Iterator<Item = u32>) -> Option<u32> {
        let slots = self.0.get_or_init(|| (0..SLOTS).map(|_| AtomicU32::new(0)).collect());
        let slot = mix(key) % SLOTS;
        let known = &slots[slot as usize];
        match known.load(Relaxed) {
            0 => {
                let owner = instances.max_by_key(|instance| (score(slot, *instance), *instance))?;
                known.store(owner, Relaxed);
                Some(owner)
            }
            owner => Some(owner),
        }
    }

    /// An instance joined: it takes the slots where it scores highest.
    pub fn joined(&mut self, instance: u32) {
        for (slot, owner) in self.known() {
            let holder = *owner;
            if holder != 0 && (score(slot, instance), instance) > (score(slot, holder), holder) {
                *owner = instance;
            }
        }
    }

    /// An instance left: its slots have no known owner.
    pub fn left(&mut self, instance: u32) {
        for (_, owner) in self.known() {
            if *owner == instance {
                *owner = 0;
            }
        }
    }

    fn known(&mut self) -> impl Iterator<Item = (u64, &mut u32)> {
        let slots = self.0.get_mut().map(|slots| &mut slots[..]).unwrap_or_default();
        (0..).zip(slots.iter_mut().map(AtomicU32::get_mut))
    }
}

impl Clone for Owners {
    fn clone(&self) -> Self {
        let copy = OnceLock::new();
        if let Some(slots) = self.0.get() {
            let slots = slots.iter().map(|owner| AtomicU32::new(owner.load(Relaxed)));
            copy.get_or_init(|| slots.collect());
        }
        Self(copy)
    }
}

fn score(slot: u64, instance: u32) -> u64 {
    mix(slot << 32 | u64::from(instance))
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every bit of the input moves every bit
/// of the output.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const SLOTS: u64 = 1 << 14;
