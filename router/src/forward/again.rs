//! Frames that are picked anew: those that an instance which left did not get, and those that waited for
//! one to come.
//!
//! What a session's end leaves behind is parked in front ([`hand_over`]); the control thread releases it
//! with all that waits when the table is published ([`release`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use switchboard_protocol::{Class, Kind, Mode, Reason, ServiceId};

use super::local::Local;
use super::{broadcast, pick, send_reports};
use crate::counters::Bucket;
use crate::mailbox::runs::{Frame, Frames, Run, Runs};
use crate::mailbox::{Mailbox, Offer, Waiter};
use crate::parking::{Fate, Parked, Refused};
use crate::table::Pick;

/// Notes frames in the batch once more that `gone` refused, because its session is about to leave or has
/// left: for others, where others may take them. Answers those that have to be tried later.
pub(super) fn place_again(
    bytes: &[u8],
    runs: &Runs,
    gone: &Arc<Mailbox>,
    waker: &Waker,
    local: &mut Local,
) -> Runs {
    let mut later = Runs::default();
    for run in runs.iter() {
        for frame in Frames::of(&bytes[run.start..run.end]) {
            let (start, flags) = (run.start + frame.at, frame.header.flags);
            let one = Run { start, end: start + frame.bytes.len(), frames: 1, flags, ..*run };
            // ORDER: what follows one that has to be tried later is tried later.
            if !later.is_empty() || !place_one(frame, one, gone, waker, local) {
                later.push(one);
            }
        }
    }
    later
}

/// The same for one frame. Answers `false` if it has to be tried later.
fn place_one(
    frame: Frame<'_>,
    run: Run,
    gone: &Arc<Mailbox>,
    waker: &Waker,
    local: &mut Local,
) -> bool {
    let (Kind::Data(mode), Some(class)) = (frame.header.kind, frame.header.target_class()) else {
        return true;
    };
    let waits = may_wait(mode, class, local);
    loop {
        let table = local.load_table();
        // ORDER: what is in the batch already does not wait, so what comes after it does not either.
        let gated = local.batch.is_empty() && local.lots.is_gated(class);
        let (parked, patient) = if waits && gated {
            (local.lots.park_behind(class, frame.bytes, waker), true)
        } else {
            match pick(&table, &frame.header, mode, frame.bytes, &mut local.rng) {
                Ok((class, Pick::One(member))) if !Arc::ptr_eq(&member.handle, gone) => {
                    let target = local.batch.target(&member.handle, class.policy());
                    local.batch.add(target, run);
                    return true;
                }
                // It waits. What the batch holds has to be offered first: it would join this one if it is refused.
                _ if waits && !local.batch.is_empty() => {
                    waker.wake_by_ref();
                    return false;
                }
                // It is about to leave the table; then its frames are released.
                Ok((_, Pick::One(_))) if waits => {
                    (local.lots.park_lost(class, frame.bytes, table.version(), waker), true)
                }
                Err(_) if waits && local.lots.parks(class) => {
                    (local.lots.park(frame.bytes, table.version()), false)
                }
                _ => (Err(Refused::Never), false),
            }
        };
        match parked {
            Ok(()) => local.out.counters.parked(class, 1),
            Err(Refused::Stale) => continue,
            Err(Refused::Full) if patient => return false,
            Err(Refused::Full | Refused::Never) => local.out.lose(frame, Reason::TargetLost),
        }
        return true;
    }
}

/// Whether others may take a frame of this mode, or the same instance if it comes back. A copy of a
/// broadcast was for the instance that left.
fn may_wait(mode: Mode, class: Class, local: &Local) -> bool {
    match mode {
        Mode::Broadcast => false,
        Mode::Direct => local.lots.parks(class),
        Mode::Master | Mode::Hash | Mode::Random | Mode::LeastLoaded => true,
    }
}

/// Parks the frames that were left in a mailbox, for others, or loses those that were for its session
/// alone. Answers whether any was parked.
pub fn hand_over(bytes: &[u8], gone: &Arc<Mailbox>, local: &mut Local) -> bool {
    if bytes.is_empty() {
        return false;
    }
    let table = local.load_table();
    let mut parked: BTreeMap<Class, Vec<Box<[u8]>>> = BTreeMap::new();
    for frame in Frames::of(bytes) {
        let (Kind::Data(mode), Some(class)) = (frame.header.kind, frame.header.target_class())
        else {
            continue;
        };
        // A newer session may hold the id that a Direct frame is for.
        let replaced = || {
            let id = ServiceId::from_raw(frame.header.target).ok();
            let holder = id.and_then(|id| table.find(id));
            holder.is_some_and(|holder| !Arc::ptr_eq(&holder.handle, gone))
        };
        if may_wait(mode, class, local) || mode == Mode::Direct && replaced() {
            parked.entry(class).or_default().push(frame.bytes.into());
        } else {
            local.out.lose(frame, Reason::TargetLost);
        }
    }
    let any = !parked.is_empty();
    for (class, frames) in parked {
        local.out.counters.parked(class, frames.len());
        local.lots.park_in_front(class, frames);
    }
    any
}

/// Picks the frames anew of all classes that are due. Only the control thread does.
pub fn release(local: &mut Local) {
    let lots = local.lots.clone();
    while let Some(class) = lots.next_due() {
        for round in 1.. {
            // Who is as fast as this thread could go on for ever: at last they are kept out.
            let frames = lots.begin(class, round >= OPEN_ROUNDS);
            let left = release_round(class, frames, local);
            let (bounced, again) = lots.finish(class, left);
            for (parked, reason) in bounced {
                lose(&parked, reason, local);
            }
            if !again {
                break;
            }
        }
    }
    send_reports(local);
}

/// Offers frames to whom the table leads them now. Answers those that nobody took.
fn release_round(class: Class, frames: VecDeque<Parked>, local: &mut Local) -> Vec<(Parked, Fate)> {
    let table = local.load_table();
    let (mut stuck, mut nobody) = (Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    for parked in frames {
        let Some(header) = parked.header() else { continue };
        let Kind::Data(mode) = header.kind else { continue };
        let picked = match pick(&table, &header, mode, parked.bytes(), &mut local.rng) {
            Ok((_, picked)) => picked,
            Err(reason) => {
                nobody.push((parked, Fate::Nobody(reason)));
                continue;
            }
        };
        let start = bytes.len();
        bytes.extend_from_slice(parked.bytes());
        let bucket = Bucket::new(mode, header.target);
        let run = Run { start, end: bytes.len(), frames: 1, bucket, flags: header.flags };
        match (picked, table.class(class)) {
            (Pick::One(member), Some(class)) => {
                let target = local.batch.target(&member.handle, class.policy());
                local.batch.add(target, run);
            }
            (_, Some(of)) => {
                let sender = ServiceId::from_raw(header.source).ok().and_then(|id| table.find(id));
                let sender = sender.map(|member| member.handle.session());
                let frame = Frame { header, bytes: &bytes[start..], at: start };
                local.out.counters.released(class, 1);
                broadcast(frame.bytes, run, sender, of, local);
            }
            (_, None) => {}
        }
        if bytes.len() >= CHUNK || local.batch.is_large() {
            offer_released(class, &bytes, &mut stuck, local);
            bytes.clear();
        }
    }
    offer_released(class, &bytes, &mut stuck, local);
    // ORDER: who is stuck was picked, so it comes before those that wait for others.
    stuck.append(&mut nobody);
    stuck
}

fn offer_released(class: Class, bytes: &[u8], stuck: &mut Vec<(Parked, Fate)>, local: &mut Local) {
    let now = Instant::now();
    let Local { batch, out, .. } = local;
    batch.deliver(None, |mailbox, admission, runs| {
        let own = runs.iter().filter(|run| !run.bucket.is_broadcast());
        let frames = own.map(|run| run.frames as usize).sum();
        let waiter = Waiter { waker: Waker::noop(), round: &mut 0 };
        match mailbox.offer(bytes, runs, admission.whatever(), waiter, out) {
            Offer::Taken => out.counters.released(class, frames),
            // It takes whatever it is offered, unless its session is about to leave.
            Offer::Refused(_) | Offer::Wait => {
                for frame in runs.frames(bytes) {
                    if frame.header.kind == Kind::Data(Mode::Broadcast) {
                        out.lose(frame, Reason::TargetLost);
                    } else {
                        stuck.push((Parked::returned(frame.bytes, now), Fate::Stuck));
                    }
                }
            }
        }
    });
}

/// Ends what has waited for as long as it may, and sees to what waits for something else.
pub fn expire(local: &mut Local) {
    for parked in local.lots.expire() {
        lose(&parked, Reason::Expired, local);
    }
    release(local);
}

fn lose(parked: &Parked, reason: Reason, local: &mut Local) {
    if let Some(header) = parked.header() {
        local.out.lose(Frame { header, bytes: parked.bytes(), at: 0 }, reason);
    }
}

/// How often frames may go in while a class is released.
const OPEN_ROUNDS: u32 = 4;
/// How much is gathered before it is offered.
const CHUNK: usize = 1 << 20;
