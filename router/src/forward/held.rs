//! Offering a batch to its mailboxes, and holding what a full one does not take yet.

use std::sync::Arc;
use std::task::Waker;

use switchboard_protocol::Reason;

use super::local::Local;
use super::{Source, again, send_reports};
use crate::counters::Outcome;
use crate::mailbox::runs::Runs;
use crate::mailbox::{Admission, Mailbox, Offer, Waiter};

/// Frames for one full mailbox. All that a session holds share the bytes of one batch.
#[derive(Debug)]
pub struct Held {
    mailbox: Arc<Mailbox>,
    admission: Admission,
    bytes: Arc<[u8]>,
    runs: Runs,
    round: u32,
    /// It was picked once more: there may be frames from before for the same mailbox.
    again: bool,
}

/// Offers what the batch holds to each mailbox; and once more to others what a mailbox refused because its
/// session is about to leave.
pub(super) fn offer_batch(
    bytes: &[u8],
    shared: &mut Option<Arc<[u8]>>,
    mut again: bool,
    source: &mut Source,
    waker: &Waker,
    local: &mut Local,
) {
    let class = source.class();
    loop {
        let Local { batch, out, .. } = local;
        let counters = (!again).then(|| out.counters.clone());
        let mut refused = Vec::new();
        let counted = counters.as_deref().map(|counters| (counters, class));
        batch.deliver(counted, |mailbox, admission, runs| {
            let mut round = 0;
            let waiter = Waiter { waker, round: &mut round };
            match mailbox.offer(bytes, runs, admission, waiter, out) {
                Offer::Taken => {}
                Offer::Refused(Reason::TargetLost) => {
                    refused.push((mailbox.clone(), admission, std::mem::take(runs)));
                }
                Offer::Refused(reason) => out.lose_runs(bytes, runs, reason),
                Offer::Wait => {
                    let bytes = shared.get_or_insert_with(|| bytes.into()).clone();
                    let (mailbox, runs) = (mailbox.clone(), std::mem::take(runs));
                    source.held.push(Held { mailbox, admission, bytes, runs, round, again });
                }
            }
        });
        if refused.is_empty() {
            return;
        }
        again = true;
        for (mailbox, admission, runs) in refused {
            let rest = again::place_again(bytes, &runs, &mailbox, waker, local);
            if !rest.is_empty() {
                let bytes = shared.get_or_insert_with(|| bytes.into()).clone();
                source.held.push(Held { mailbox, admission, bytes, runs: rest, round: 0, again });
            }
        }
    }
}

/// Offers held frames again. Answers whether the session may read on.
pub fn retry(source: &mut Source, waker: &Waker, local: &mut Local) -> bool {
    for mut held in std::mem::take(&mut source.held) {
        let waits = |before: &Held| Arc::ptr_eq(&before.mailbox, &held.mailbox);
        if held.again && source.held.iter().any(waits) {
            source.held.push(held);
            continue;
        }
        let Held { mailbox, bytes, runs, admission, round, .. } = &mut held;
        let waiter = Waiter { waker, round };
        match mailbox.offer(bytes, runs, *admission, waiter, &mut local.out) {
            Offer::Taken => {}
            Offer::Refused(Reason::TargetLost) => {
                let rest = again::place_again(bytes, runs, mailbox, waker, local);
                let mut shared = Some(bytes.clone());
                offer_batch(bytes, &mut shared, true, source, waker, local);
                if !rest.is_empty() {
                    source.held.push(Held { runs: rest, again: true, ..held });
                }
            }
            Offer::Refused(reason) => local.out.lose_runs(bytes, runs, reason),
            Offer::Wait => source.held.push(held),
        }
    }
    send_reports(local);
    source.held.is_empty()
}

/// The session ends: what it held for others will not be sent.
pub fn drop_all(source: &mut Source, local: &mut Local) {
    for held in source.held.drain(..) {
        for run in held.runs.iter() {
            local.out.counters.ended(run.bucket, Outcome::SourceLost, run.frames);
        }
    }
}
