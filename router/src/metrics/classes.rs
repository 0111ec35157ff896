//! Classes: their instances, their masters, and what waits in their mailboxes.
//!
//! The mailboxes are looked at one by one, each under its own lock for a few nanoseconds, by way of a
//! snapshot of the table: nobody who forwards or registers waits for the scrape.

use std::sync::Arc;

use super::names::{
    HIGH_WATER, INSTANCES, LARGEST_MAILBOX, MAILBOX_BYTES, MASTER_CHANGES, MASTER_EPOCH, MASTERS,
};
use super::series::{Page, Series};
use crate::mailbox::Mailbox;
use crate::policy::Policies;
use crate::shared::Shared;
use crate::table::ClassTable;

pub(super) fn add(page: &mut Page, shared: &Shared, policies: &Policies) {
    let mut instances = Series::of(&INSTANCES);
    let (mut masters, mut epochs) = (Series::of(&MASTERS), Series::of(&MASTER_EPOCH));
    let mut changes = Series::of(&MASTER_CHANGES);
    let (mut sum, mut largest) = (Series::of(&MAILBOX_BYTES), Series::of(&LARGEST_MAILBOX));
    let mut high_water = Series::of(&HIGH_WATER);
    let table = shared.published.load_full();
    let mut seen = Vec::new();
    for class in table.classes() {
        let name = policies.name(class.class());
        instances.count(&[&name, "live"], class.count().live.into());
        instances.count(&[&name, "draining"], class.count_draining().into());
        let (master, epoch) = class.master();
        masters.count(&[&name], master.is_some().into());
        epochs.count(&[&name], epoch);
        changes.count(&[&name], class.master_changes());
        let waiting = waiting(class, &mut seen);
        sum.count(&[&name], waiting.sum as u64);
        largest.count(&[&name], waiting.largest as u64);
        high_water.count(&[&name], class.policy().high_water_bytes as u64);
    }
    for series in [instances, masters, epochs, changes, sum, largest, high_water] {
        page.add(series);
    }
}

/// Bytes in the mailboxes of a class.
#[derive(Debug, Default)]
struct Waiting {
    sum: usize,
    largest: usize,
}

/// What waits for the sessions of a class. One with several instances of it counts once; `seen` holds the
/// last class that each mailbox counted for.
fn waiting(class: &ClassTable<Arc<Mailbox>>, seen: &mut Vec<u8>) -> Waiting {
    let mut waiting = Waiting::default();
    for member in class.everyone() {
        let (mailbox, number) = (&member.handle, class.class().raw());
        if seen.len() <= mailbox.index() {
            seen.resize(mailbox.index() + 1, 0);
        }
        if seen[mailbox.index()] == number {
            continue;
        }
        seen[mailbox.index()] = number;
        let bytes = mailbox.pending();
        waiting.sum += bytes;
        waiting.largest = waiting.largest.max(bytes);
    }
    waiting
}
