//! The frames of one read, gathered by the mailbox that they go to.

use std::sync::Arc;

use switchboard_protocol::limits::FIXED_HEADER;
use switchboard_protocol::{FixedHeader, Flags, Mode};

use crate::counters::{Bucket, Flow};
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
    broadcasts: u64,
    broadcast_runs: usize,
    copies: usize,
    copied_bytes: usize,
}

#[derive(Debug, Default)]
struct Entry {
    mailbox: Option<(Arc<Mailbox>, Admission)>,
    runs: Runs,
    /// The last broadcast that it was noted for.
    broadcast: u64,
}

/// The parts of a frame's header that decide where a Direct or Master frame goes and whether it may:
/// kind and flags, and source and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Likeness {
    shape: u16,
    route: u64,
}

/// Where frames like this went earlier in the batch of this number.
#[derive(Debug, Clone, Copy)]
struct Recent {
    batch: u64,
    likeness: Likeness,
    header_len: u32,
    bucket: Bucket,
    target: Target,
}

impl Likeness {
    /// That of a frame with this header.
    #[inline]
    pub fn of(fixed: &[u8; FIXED_HEADER]) -> Self {
        let [_, _, _, _, kind, flags, _, _, route @ ..] = *fixed;
        Self { shape: u16::from_le_bytes([kind, flags]), route: u64::from_le_bytes(route) }
    }

    fn flags(self) -> Flags {
        Flags::from_raw(self.shape.to_le_bytes()[1])
    }

    /// Where it is kept. Targets mostly differ in their lowest bits.
    #[inline]
    fn place(self) -> usize {
        (self.route >> 32) as usize % RECENT
    }
}

impl Target {
    /// No place.
    const NONE: Self = Self(u32::MAX);
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        let likeness = Likeness { shape: 0, route: 0 };
        let (bucket, target) = (Bucket::new(Mode::Direct, 0), Target::NONE);
        let nothing = Recent { batch: 0, likeness, header_len: 0, bucket, target };
        Self {
            entries: Vec::new(),
            used: 0,
            places: Vec::new(),
            recent: [nothing; RECENT],
            number: 1,
            broadcasts: 0,
            broadcast_runs: 0,
            copies: 0,
            copied_bytes: 0,
        }
    }

    /// Adds the frame at `start..end` if one like it was placed before in this batch: then its header
    /// has been checked and its target found. Answers whether it was.
    #[inline]
    pub fn add_alike(&mut self, likeness: Likeness, start: usize, end: usize) -> bool {
        let recent = &self.recent[likeness.place()];
        let long_enough = end - start >= recent.header_len as usize;
        if recent.likeness != likeness || recent.batch != self.number || !long_enough {
            return false;
        }
        let (bucket, target) = (recent.bucket, recent.target);
        self.add(target, Run { start, end, frames: 1, bucket, flags: likeness.flags() });
        true
    }

    /// Notes where frames like this one go, for the rest of the batch.
    pub fn remember(&mut self, likeness: Likeness, header_len: usize, bucket: Bucket, to: Target) {
        let header_len = header_len as u32;
        let batch = self.number;
        self.recent[likeness.place()] = Recent { batch, likeness, header_len, bucket, target: to };
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
        self.broadcast_runs += targets as usize;
        self.copies += targets as usize * run.frames as usize;
        self.copied_bytes += targets as usize * (run.end - run.start);
        targets
    }

    /// Whether it holds so much of broadcasts that it should be delivered before it grows.
    #[inline]
    pub fn is_large(&self) -> bool {
        self.broadcast_runs >= MAX_BROADCAST_RUNS
            || self.copies >= MAX_COPIES
            || self.copied_bytes >= MAX_COPIED_BYTES
    }

    /// How many broadcasts of this length to so many sessions there is room for until then; one at least.
    pub fn room(&self, length: usize, sessions: usize) -> usize {
        let copies = MAX_COPIES.saturating_sub(self.copies);
        let bytes = MAX_COPIED_BYTES.saturating_sub(self.copied_bytes) / length.max(1);
        (copies.min(bytes) / sessions.max(1)).max(1)
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Hands the runs of every mailbox out, in the order in which the mailboxes came up, and empties
    /// the batch. With a flow, what it holds is counted there as received, but for broadcasts, of which it
    /// holds copies; frames that are picked anew came in before. Answers how many frames it counted.
    pub fn deliver(
        &mut self,
        received: Option<&Flow>,
        mut offer: impl FnMut(&Arc<Mailbox>, Admission, &mut Runs),
    ) -> u64 {
        let mut frames = 0;
        for (place, entry) in self.entries[..self.used].iter_mut().enumerate() {
            if let Some(received) = received {
                for run in entry.runs.iter().filter(|run| !run.bucket.is_broadcast()) {
                    received.add(run.bucket, run.volume());
                    frames += u64::from(run.frames);
                }
            }
            if let Some((mailbox, admission)) = entry.mailbox.take() {
                offer(&mailbox, admission, &mut entry.runs);
                self.places[mailbox.index()] = Target::NONE.0;
            }
            // What one batch in many needs is not kept for each of them.
            entry.runs.clear(if place < RECENT { MAX_IDLE_RUNS } else { FEW_IDLE_RUNS });
        }
        self.used = 0;
        self.broadcast_runs = 0;
        self.copies = 0;
        self.copied_bytes = 0;
        self.number += 1;
        self.entries.truncate(MAX_IDLE_ENTRIES);
        frames
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

/// A broadcast and those right behind it that are like it, `most` at most: they go to the same sessions, so each of
/// these is looked up once for all of them, and written to once. One that is a call has a report of its own.
pub fn stretch(header: &FixedHeader, bytes: &[u8], first: Run, most: usize) -> Run {
    let mut run = first;
    if first.flags.contains(Flags::CALL) {
        return run;
    }
    // A header of the same kind and flags is as long. What is longer than the first may be over the limit.
    let lengths = header.header_len()..=first.end - first.start;
    let alike = bytes[first.start..].first_chunk().map(Likeness::of);
    while (run.frames as usize) < most
        && let Some(fixed) = bytes[run.end..].first_chunk::<FIXED_HEADER>()
        && Some(Likeness::of(fixed)) == alike
    {
        let length = u32::from_le_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]) as usize;
        if !lengths.contains(&length) || run.end + length > bytes.len() {
            break;
        }
        run.end += length;
        run.frames += 1;
    }
    run
}

/// How many targets of a batch are found without a search.
const RECENT: usize = 64;
/// How many runs of broadcasts a batch holds, one for each session that a stretch of them goes to: that is memory.
const MAX_BROADCAST_RUNS: usize = 1 << 16;
/// How many copies it holds, and of how many bytes: that is time, some 20 to 50 ms in which the thread does
/// nothing else.
const MAX_COPIES: usize = 1 << 20;
const MAX_COPIED_BYTES: usize = 64 << 20;
/// How many runs of an entry stay allocated between batches, and how many where there are many entries.
const MAX_IDLE_RUNS: usize = 16 << 10;
const FEW_IDLE_RUNS: usize = 32;
/// How many entries stay allocated between batches.
const MAX_IDLE_ENTRIES: usize = 1 << 16;
