//! Offices that one router gives to this node and another one does not, for so long that it won't end by
//! itself: when to claim them, and in which epoch. Who holds an office is not decided here.
//!
//! A claim waits for a while, because a master whose session broke comes back and says so in its Hello;
//! and it waits for a random while, because the claim of one node makes that of another needless. It
//! waits anew when a router elects or dismisses this node: claims that cross each other would take
//! routers from each other without end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use switchboard_protocol::control::Claim;
use switchboard_protocol::{Class, ServiceId};

/// The disputes of a node.
#[derive(Debug, Default)]
pub(crate) struct Disputes {
    /// When to claim a class at a router that does not name this node.
    due: BTreeMap<(usize, Class), Instant>,
    /// The epoch of the last claim, by router and class.
    said: BTreeMap<(usize, Class), u64>,
}

impl Disputes {
    /// Takes in what the routers say about the classes in dispute: for each router that does not name
    /// this node, what the others say at the most. What is due is said, once for each epoch.
    pub(crate) fn look(
        &mut self,
        disputed: &[(usize, Claim)],
        now: Instant,
        jitter: Duration,
    ) -> Vec<(usize, Claim)> {
        let before = std::mem::take(&mut self.due);
        let mut claims = Vec::new();
        for (slot, claim) in disputed {
            let key = (*slot, claim.id.class());
            if self.said.get(&key).is_some_and(|said| *said >= claim.epoch) {
                continue;
            }
            let due = before.get(&key).copied().unwrap_or(now + GRACE + jitter);
            if due <= now {
                self.said.insert(key, claim.epoch);
                claims.push((*slot, *claim));
            } else {
                self.due.insert(key, due);
            }
        }
        claims
    }

    /// A router has elected this node or dismissed it.
    pub(crate) fn wait_anew(&mut self, class: Class) {
        self.due.retain(|(_, disputed), _| *disputed != class);
    }

    /// A session with a router has begun, and nothing has been said in it.
    pub(crate) fn begin(&mut self, slot: usize) {
        self.said.retain(|(at, _), _| *at != slot);
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }
}

/// What routers say of a class, each of them: the highest claim for each of those that do not name this
/// node.
pub(crate) fn disputed(
    words: &[(usize, Option<(ServiceId, u64)>)],
) -> impl Iterator<Item = (usize, Claim)> {
    let highest = words.iter().filter_map(|(_, mine)| *mine).max_by_key(|(_, epoch)| *epoch);
    highest.into_iter().flat_map(|(id, epoch)| {
        let others = words.iter().filter(|(_, mine)| mine.is_none());
        others.map(move |(slot, _)| (*slot, Claim { id, epoch }))
    })
}

/// How long a dispute may last before anything is claimed: one second.
const GRACE: Duration = Duration::from_secs(1);
