//! The frames of one read, gathered by the mailbox that they go to.

use std::sync::Arc;

use switchboard_protocol::Mode;

use crate::counters::{Bucket, Counters};
use crate::mailbox::runs::{Run, Runs};
use crate::mailbox::{Admission, Mailbox};
use crate::policy::ClassPolicy;
use crate::table::ClassTable;

/// A mailbox of this batch, by its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(u32);

/// Everything about one batch. It is emptied and used again, so a batch allocates nothing.
#[derive(Debug)]
pub struct Batch {
    entries: Vec<Entry>,
    used: usize,
    /// By mailbox index: its place in `entries`, or `u32::MAX`.
    places: Vec<u32>,
    recent: [Recent; RECENT],
    number: u64,
    /// The frames of the bucket that came last, not yet counted.
    counting: (Option<Bucket>, u32, usize),
    counted: Vec<(Bucket, u32, usize)>,
    broadcasts: u64,
}

#[derive(Debug, Default)]
struct Entry {
    mailbox: Option<(Arc<Mailbox>, Admission)>,
    runs: Runs,
    /// The last broadcast that it was noted for.
    broadcast: u64,
}

/// What a target field led to earlier in the batch of this number.
#[derive(Debug, Clone, Copy)]
struct Recent {
    batch: u64,
    wanted: (u8, u32),
    target: Target,
}

impl Target {
    /// No place.
    const NONE: Self = Self(u32::MAX);
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        let nothing = Recent { batch: 0, wanted: (0, 0), target: Target::NONE };
        Self {
            entries: Vec::new(),
            used: 0,
            places: Vec::new(),
            recent: [nothing; RECENT],
            number: 1,
            counting: (None, 0, 0),
            counted: Vec::new(),
            broadcasts: 0,
        }
    }

    /// Notes that a frame came in.
    #[inline]
    pub fn received(&mut self, bucket: Bucket, bytes: usize) {
        if self.counting.0 == Some(bucket) {
            self.counting.1 += 1;
            self.counting.2 += bytes;
        } else {
            self.count_on(Some(bucket));
            (self.counting.1, self.counting.2) = (1, bytes);
        }
    }

    /// Publishes what came in since the last call.
    pub fn count(&mut self, counters: &Counters) {
        self.count_on(None);
        for (bucket, frames, bytes) in self.counted.drain(..) {
            counters.received(bucket, frames, bytes);
        }
    }

    fn count_on(&mut self, next: Option<Bucket>) {
        if let (Some(bucket), frames, bytes) = self.counting {
            match self.counted.iter_mut().find(|counted| counted.0 == bucket) {
                Some(counted) => {
                    counted.1 += frames;
                    counted.2 += bytes;
                }
                None => self.counted.push((bucket, frames, bytes)),
            }
        }
        self.counting = (next, 0, 0);
    }

    /// Where an earlier frame of the batch with this mode and target field went.
    #[inline]
    pub fn recall(&self, mode: Mode, target: u32) -> Option<Target> {
        let recent = &self.recent[place_of(target)];
        (recent.wanted == (mode as u8, target) && recent.batch == self.number)
            .then_some(recent.target)
    }

    /// Notes where a frame with this mode and target field goes.
    #[inline]
    pub fn remember(&mut self, mode: Mode, target: u32, place: Target) {
        self.recent[place_of(target)] =
            Recent { batch: self.number, wanted: (mode as u8, target), target: place };
    }

    /// The place of a mailbox in this batch, for frames under this policy. A session with instances of
    /// several classes has a place for each of their policies; order is kept within a class.
    #[inline]
    pub fn target(&mut self, mailbox: &Arc<Mailbox>, policy: &ClassPolicy) -> Target {
        let admission = Admission::of(policy);
        let under = |entry: &Entry| entry.mailbox.as_ref().is_some_and(|one| one.1 == admission);
        match self.places.get(mailbox.index()) {
            Some(place) if *place == Target::NONE.0 => self.seat(mailbox, admission),
            Some(place) if under(&self.entries[*place as usize]) => Target(*place),
            Some(_) => self.find_or_seat(mailbox, admission),
            None => self.seat(mailbox, admission),
        }
    }

    /// The mailbox has a place, but under another policy.
    #[cold]
    fn find_or_seat(&mut self, mailbox: &Arc<Mailbox>, admission: Admission) -> Target {
        let is_it = |entry: &Entry| {
            let found = entry.mailbox.as_ref();
            found.is_some_and(|(known, under)| Arc::ptr_eq(known, mailbox) && *under == admission)
        };
        match self.entries[..self.used].iter().position(is_it) {
            Some(place) => Target(place as u32),
            None => self.seat(mailbox, admission),
        }
    }

    fn seat(&mut self, mailbox: &Arc<Mailbox>, admission: Admission) -> Target {
        let index = mailbox.index();
        if index >= self.places.len() {
            self.places.resize((index + 1).next_power_of_two(), Target::NONE.0);
        }
        if self.used == self.entries.len() {
            self.entries.push(Entry::default());
        }
        self.entries[self.used].mailbox = Some((mailbox.clone(), admission));
        let target = Target(self.used as u32);
        self.places[index] = target.0;
        self.used += 1;
        target
    }

    /// Adds a run for a mailbox.
    #[inline]
    pub fn add(&mut self, target: Target, run: Run) {
        self.entries[target.0 as usize].runs.push(run);
    }

    /// Adds a run for each session of a class that `wanted` approves. Answers how many those are.
    pub fn broadcast(
        &mut self,
        class: &ClassTable<Arc<Mailbox>>,
        run: Run,
        wanted: impl Fn(&Mailbox) -> bool,
    ) -> u32 {
        self.broadcasts += 1;
        let mut targets = 0;
        for member in class.members() {
            if !wanted(&member.handle) {
                continue;
            }
            let Target(place) = self.target(&member.handle, class.policy());
            let entry = &mut self.entries[place as usize];
            if entry.broadcast != self.broadcasts {
                entry.broadcast = self.broadcasts;
                entry.runs.push(run);
                targets += 1;
            }
        }
        targets
    }

    /// Hands the runs of every mailbox out, in the order in which the mailboxes came up, and empties
    /// the batch.
    pub fn deliver(&mut self, mut offer: impl FnMut(&Arc<Mailbox>, Admission, &mut Runs)) {
        for entry in &mut self.entries[..self.used] {
            if let Some((mailbox, admission)) = entry.mailbox.take() {
                offer(&mailbox, admission, &mut entry.runs);
                self.places[mailbox.index()] = Target::NONE.0;
            }
            entry.runs.clear();
        }
        self.used = 0;
        self.number += 1;
        self.entries.truncate(MAX_IDLE_ENTRIES);
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn place_of(target: u32) -> usize {
    (target ^ (target >> 24)) as usize % RECENT
}

/// How many targets of a batch are found without a search.
const RECENT: usize = 64;
/// How many entries stay allocated between batches.
const MAX_IDLE_ENTRIES: usize = 1 << 16;
