//! What those who listen are told once a second: classes, rates, who talks to whom, slow consumers, events.
//! It has at most one row for each class and a few for all else, however many instances and sessions there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde::Serialize;
use switchboard_protocol::Class;

use super::Admin;
use super::classes;
use super::history::{self, Told};
use super::sessions::{self, Look};
use crate::counters::{Bucket, Outcome};
use crate::mailbox::Mailbox;
use crate::policy::Policies;

/// The state of the router, and what happened in the last second.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    at_ms: u64,
    uptime_ms: u64,
    draining: bool,
    sessions: usize,
    /// Sessions that are not read because somebody's mailbox is full.
    paused: usize,
    queue_bytes: usize,
    classes: Vec<Row>,
    flows: Vec<Flow>,
    slow: Vec<sessions::Row>,
    events: Vec<Told>,
}

/// A class, with what came in for it and what became of that, by the second; absent in the first summary.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    row: classes::Row,
    frames_per_second: Option<f64>,
    bytes_per_second: Option<f64>,
    delivered_per_second: Option<f64>,
    lost_per_second: Option<f64>,
}

/// What sessions of one class send to another.
#[derive(Debug, Serialize)]
struct Flow {
    from: String,
    to: String,
    frames_per_second: f64,
    bytes_per_second: f64,
}

/// What was counted up to a moment.
#[derive(Debug)]
pub(super) struct Totals {
    at: Instant,
    classes: BTreeMap<Class, Count>,
    flows: BTreeMap<(Class, Class), (u64, u64)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    frames: u64,
    bytes: u64,
    delivered: u64,
    lost: u64,
}

impl Totals {
    /// What all threads have counted.
    pub(super) fn read(admin: &Admin) -> Self {
        let mut classes: BTreeMap<Class, Count> = BTreeMap::new();
        let mut flows: BTreeMap<(Class, Class), (u64, u64)> = BTreeMap::new();
        for (from, bucket, (frames, bytes)) in
            admin.shared.counters.iter().flat_map(|counters| counters.flows.read())
        {
            let Some(to) = bucket.class() else { continue };
            let count = classes.entry(to).or_default();
            count.frames += frames;
            count.bytes += bytes;
            if let Some(from) = from {
                let flow = flows.entry((from, to)).or_default();
                flow.0 += frames;
                flow.1 += bytes;
            }
        }
        // What a thread took in may have been written, or lost, by any other.
        for (class, _, bucket) in Bucket::all() {
            let Some(count) = classes.get_mut(&class) else { continue };
            for counters in &admin.shared.counters {
                for outcome in Outcome::ALL {
                    let (frames, _) = counters.read_ended(bucket, outcome);
                    match outcome {
                        Outcome::Delivered => count.delivered += frames,
                        _ => count.lost += frames,
                    }
                }
            }
        }
        Self { at: Instant::now(), classes, flows }
    }
}

impl Summary {
    /// What there is to tell now, compared with `before`, and the events behind `told`.
    pub(super) fn make(admin: &Admin, before: Option<&Totals>, now: &Totals, told: u64) -> Self {
        let shared = &admin.shared;
        let policies = shared.settings.load().policies.clone();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let queues = Queues::look(admin);
        Self {
            at_ms: since.map_or(0, |since| since.as_millis() as u64),
            uptime_ms: shared.clock.uptime_ms(),
            draining: shared.is_draining(),
            sessions: queues.sessions,
            paused: queues.paused,
            queue_bytes: queues.bytes,
            classes: rows(admin, before, now),
            flows: flows(before, now, &policies),
            slow: sessions::rows(&queues.slow(), &Look::nothing(), admin),
            events: history::since_number(told, admin),
        }
    }

    /// The number of the last event in it.
    pub(super) fn last_event(&self) -> Option<u64> {
        self.events.last().map(|event| event.number)
    }
}

/// What all mailboxes hold.
#[derive(Debug, Default)]
struct Queues {
    sessions: usize,
    paused: usize,
    bytes: usize,
    /// The fullest, by what is in them, in any order.
    fullest: Vec<(usize, Arc<Mailbox>)>,
}

impl Queues {
    fn look(admin: &Admin) -> Self {
        let mut queues = Self::default();
        admin.shared.sessions.each(|mailbox| {
            let pending = mailbox.pending();
            queues.sessions += 1;
            queues.paused += usize::from(mailbox.is_paused());
            queues.bytes += pending;
            if pending > 0 {
                queues.add(pending, mailbox);
            }
        });
        queues
    }

    fn add(&mut self, pending: usize, mailbox: Arc<Mailbox>) {
        if self.fullest.len() < SLOWEST {
            return self.fullest.push((pending, mailbox));
        }
        if let Some(least) = self.fullest.iter_mut().min_by_key(|(bytes, _)| *bytes)
            && least.0 < pending
        {
            *least = (pending, mailbox);
        }
    }

    /// The fullest, the fullest of all first.
    fn slow(mut self) -> Vec<Arc<Mailbox>> {
        self.fullest.sort_unstable_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        self.fullest.into_iter().map(|(_, mailbox)| mailbox).collect()
    }
}

fn rows(admin: &Admin, before: Option<&Totals>, now: &Totals) -> Vec<Row> {
    let row = |(class, row): (Class, classes::Row)| {
        let count = |totals: &Totals| totals.classes.get(&class).copied().unwrap_or_default();
        let new = count(now);
        let rate = |of: fn(&Count) -> u64| {
            let before = before?;
            Some(per_second(of(&new) - of(&count(before)), before, now))
        };
        Row {
            row,
            frames_per_second: rate(|count| count.frames),
            bytes_per_second: rate(|count| count.bytes),
            delivered_per_second: rate(|count| count.delivered),
            lost_per_second: rate(|count| count.lost),
        }
    };
    classes::rows(admin).into_iter().map(row).collect()
}

/// The flows with the most frames in the last second.
fn flows(before: Option<&Totals>, now: &Totals, policies: &Policies) -> Vec<Flow> {
    let Some(before) = before else { return Vec::new() };
    let new = now.flows.iter().map(|(way, (frames, bytes))| {
        let (old_frames, old_bytes) = before.flows.get(way).copied().unwrap_or_default();
        (*way, frames - old_frames, bytes - old_bytes)
    });
    let mut new: Vec<_> = new.filter(|(_, frames, _)| *frames > 0).collect();
    new.sort_unstable_by_key(|(way, frames, _)| (std::cmp::Reverse(*frames), *way));
    new.truncate(MOST_FLOWS);
    let flow = |((from, to), frames, bytes)| Flow {
        from: policies.name(from),
        to: policies.name(to),
        frames_per_second: per_second(frames, before, now),
        bytes_per_second: per_second(bytes, before, now),
    };
    new.into_iter().map(flow).collect()
}

/// To a tenth.
fn per_second(n: u64, before: &Totals, now: &Totals) -> f64 {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    (n as f64 * 10.0 / seconds.max(0.001)).round() / 10.0
}

/// How many slow consumers are told.
const SLOWEST: usize = 10;
const MOST_FLOWS: usize = 64;
