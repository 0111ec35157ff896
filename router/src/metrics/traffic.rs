//! Frames: what came in, where it ended, what waits for an instance, and how long it took.

use std::collections::BTreeMap;

use super::names::{
    DROPPED_FRAMES, ENDED_BYTES, FRAMES, FRAMES_RECEIVED, PARKED, PARKED_BYTES, PARKED_FRAMES,
    READ_TO_WRITE, READS, RECEIVED_BYTES, RELEASED, WRITES,
};
use super::series::{Page, Series};
use super::total;
use crate::counters::{Bucket, Counters, Latency, Outcome};
use crate::policy::Policies;
use crate::shared::Shared;

pub(super) fn add(page: &mut Page, shared: &Shared, policies: &Policies) {
    frames(page, shared, policies);
    parking(page, shared, policies);
    let latencies = shared.counters.iter().map(|counters| &counters.read_to_write);
    page.add_durations(&READ_TO_WRITE, &Latency::sum(latencies));
    page.add_one(&READS, total(shared, |counters| counters.reads.read()) as f64);
    page.add_one(&WRITES, total(shared, |counters| counters.writes.read()) as f64);
}

fn frames(page: &mut Page, shared: &Shared, policies: &Policies) {
    let (mut received, mut received_bytes) =
        (Series::of(&FRAMES_RECEIVED), Series::of(&RECEIVED_BYTES));
    let (mut ended, mut ended_bytes) = (Series::of(&FRAMES), Series::of(&ENDED_BYTES));
    let mut dropped = Series::of(&DROPPED_FRAMES);
    let came_in = came_in(shared);
    let buckets: Vec<_> = Bucket::all().collect();
    for of_class in buckets.chunk_by(|one, next| one.0 == next.0) {
        let name = policies.name(of_class[0].0);
        let mut by_outcome = [0; Outcome::ALL.len()];
        let mut any = false;
        for (_, mode, bucket) in of_class {
            // What never came in never ended.
            let Some((frames, bytes)) = came_in.get(bucket).copied() else { continue };
            any = true;
            received.count(&[&name, mode.name()], frames);
            received_bytes.count(&[&name, mode.name()], bytes);
            for outcome in Outcome::ALL {
                let (frames, bytes) =
                    pair(shared, |counters| counters.read_ended(*bucket, outcome));
                if frames > 0 {
                    ended.count(&[&name, mode.name(), outcome.name()], frames);
                    ended_bytes.count(&[&name, mode.name(), outcome.name()], bytes);
                    by_outcome[outcome as usize] += frames;
                }
            }
        }
        // Zeros too: a rate sees the first drop only if there was a series before it.
        for outcome in Outcome::losses().filter(|_| any) {
            dropped.count(&[&name, outcome.name()], by_outcome[outcome as usize]);
        }
    }
    for series in [received, received_bytes, ended, ended_bytes, dropped] {
        page.add(series);
    }
}

/// What nodes sent to whom, whoever they are.
fn came_in(shared: &Shared) -> BTreeMap<Bucket, (u64, u64)> {
    let mut buckets: BTreeMap<Bucket, (u64, u64)> = BTreeMap::new();
    let all = shared.counters.iter().flat_map(|counters| counters.flows.read());
    for (_, bucket, (frames, bytes)) in all {
        let sum = buckets.entry(bucket).or_default();
        sum.0 += frames;
        sum.1 += bytes;
    }
    buckets
}

fn parking(page: &mut Page, shared: &Shared, policies: &Policies) {
    let (mut frames, mut bytes) = (Series::of(&PARKED_FRAMES), Series::of(&PARKED_BYTES));
    let (mut parked, mut released) = (Series::of(&PARKED), Series::of(&RELEASED));
    for lot in shared.lots.occupancy() {
        let name = policies.name(lot.class);
        frames.count(&[&name], lot.frames as u64);
        bytes.count(&[&name], lot.bytes as u64);
        let (began, taken) = pair(shared, |counters| counters.read_parked(lot.class));
        parked.count(&[&name], began);
        released.count(&[&name], taken);
    }
    for series in [frames, bytes, parked, released] {
        page.add(series);
    }
}

/// Two counters of all threads.
fn pair(shared: &Shared, read: impl Fn(&Counters) -> (u64, u64)) -> (u64, u64) {
    let all = shared.counters.iter().map(|counters| read(counters));
    all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}
