//! Offering a batch to its mailboxes, and holding what a full one does not take yet.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

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
    /// When it was read, if it is timed.
    read_at: Option<Instant>,
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
    let read_at = local.out.read_at;
    loop {
        let Local { batch, out, .. } = local;
        let counters = (!again && !batch.is_empty()).then(|| out.counters.clone());
        let flow = counters.as_ref().map(|counters| counters.flows.from(source.class()));
        let mut refused = Vec::new();
        let received = batch.deliver(flow, |mailbox, admission, runs| {
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
                    let held = Held { mailbox, admission, bytes, runs, round, again, read_at };
                    source.held.push(held);
                }
            }
        });
        source.mailbox.badge().took_in(received);
        if refused.is_empty() {
            return;
        }
        again = true;
        for (mailbox, admission, runs) in refused {
            let rest = again::place_again(bytes, &runs, &mailbox, waker, local);
            if !rest.is_empty() {
                let bytes = shared.get_or_insert_with(|| bytes.into()).clone();
                let (runs, round) = (rest, 0);
                let held = Held { mailbox, admission, bytes, runs, round, again, read_at };
                source.held.push(held);
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
        let Held { mailbox, bytes, runs, admission, round, read_at, .. } = &mut held;
        let waiter = Waiter { waker, round };
        local.out.read_at = *read_at;
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
    local.out.read_at = None;
    send_reports(local);
    source.held.is_empty()
}

/// The session ends: what it held for others will not be sent.
pub fn drop_all(source: &mut Source, local: &mut Local) {
    for held in source.held.drain(..) {
        for run in held.runs.iter() {
            local.out.counters.ended(run.bucket, Outcome::SourceLost, run.volume());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use switchboard_protocol::{Frame, Header};

    use super::*;
    use crate::counters::{Durations, Latency};
    use crate::forward::local::Published;
    use crate::mailbox::badge::Badge;
    use crate::parking::lots::Lots;
    use crate::policy::{ClassPolicy, Policies};
    use crate::sessions::Sessions;
    use crate::stream::{Accepted, ReadHalf};

    /// A mailbox, and both ends of its socket.
    fn mailbox() -> (Arc<Mailbox>, ReadHalf, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let (reader, writer, peer) = Accepted::Unix(here).into_halves().unwrap();
        let (slot, number) = Arc::new(Sessions::default()).open(1).unwrap();
        let badge = Badge::new(peer, 0);
        (Arc::new(Mailbox::new(slot, number, writer, badge)), reader, there)
    }

    fn times(local: &Local) -> Durations {
        Latency::sum([&local.out.counters.read_to_write].into_iter())
    }

    #[tokio::test]
    async fn the_time_that_frames_are_held_for_a_full_mailbox_is_measured() {
        let (lots, rng) =
            (Arc::new(Lots::new(Arc::<Policies>::default())), SmallRng::seed_from_u64(1));
        let mut local = Local::new(Arc::<Published>::default(), lots, Arc::default(), rng);
        let (target, reader, mut peer) = mailbox();
        let (own, _own_reader, _own_peer) = mailbox();
        let mut source = Source { mailbox: own, ids: Vec::new(), held: Vec::new(), spoofed: None };
        let policy = ClassPolicy { high_water_bytes: 100_000, ..ClassPolicy::default() };
        let header = Header::direct("1.1".parse().unwrap(), "2.1".parse().unwrap());
        let bytes = Frame::new(header, vec![0; 50_000]).to_bytes();
        poll_fn(|cx| reader.poll_write_ready(cx)).await.unwrap();

        let read_at = Instant::now();
        let mut batches = 0;
        while source.held.is_empty() {
            batches += 1;
            let run = Runs::of_frames(&bytes).iter().next().copied().unwrap();
            let place = local.batch.target(&target, &policy);
            local.batch.add(place, run);
            local.out.read_at = Some(read_at);
            offer_batch(&bytes, &mut None, false, &mut source, Waker::noop(), &mut local);
        }
        local.out.read_at = None;
        let at_once = times(&local).count;
        assert!(at_once < batches, "the socket took {at_once} of {batches}, and one is held");
        let waited = Duration::from_millis(20);
        while read_at.elapsed() < waited {
            std::thread::yield_now();
        }
        let mut all = vec![0; batches as usize * bytes.len()];
        let reading = std::thread::spawn(move || peer.read_exact(&mut all));
        while !source.held.is_empty() || target.pending() > 0 {
            poll_fn(|cx| reader.poll_write_ready(cx)).await.unwrap();
            target.flush_unblocked(&mut local.out);
            retry(&mut source, Waker::noop(), &mut local);
            target.flush(&mut local.out);
        }
        reading.join().unwrap().unwrap();
        assert_eq!(times(&local).count, batches);
        let late = batches - at_once;
        assert!(times(&local).sum >= waited.as_secs_f64() * late as f64, "{:?}", times(&local));
        assert_eq!(local.out.read_at, None);
    }
}
