//! From the bytes of one read to the mailboxes of their targets.
//!
//! A batch is one read. Its frames are checked and picked one by one, but what is done to a mailbox is
//! done once per batch: [`batch`] gathers the runs by mailbox, and [`finish`] offers them.

pub mod batch;
pub mod local;

use std::sync::Arc;
use std::task::Waker;

use switchboard_protocol::header::HeaderError;
use switchboard_protocol::limits::{FIXED_HEADER, MAX_CONTROL_FRAME};
use switchboard_protocol::{FixedHeader, Flags, Kind, Mode, Reason, RefusalCode, ServiceId};

use self::batch::Likeness;
use self::local::Local;
use crate::counters::{Bucket, Outcome};
use crate::mailbox::runs::{Frame, Run, Runs};
use crate::mailbox::{Admission, Mailbox, Offer, Waiter};
use crate::registry::Refusal;
use crate::table::{ClassTable, Pick, Table};

/// The sender of a batch: what its session lends to the forwarding of its frames.
#[derive(Debug)]
pub struct Source {
    /// Its own mailbox.
    pub mailbox: Arc<Mailbox>,
    /// The ids that it may send from.
    pub ids: Vec<ServiceId>,
    /// Frames that wait for room in a full mailbox. While there are any, the session reads nothing.
    pub held: Vec<Held>,
    /// Frames of the last batch that were dropped because their source is not one of `ids`.
    pub spoofed: Option<Spoofed>,
}

/// Frames with a source that is not their session's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoofed {
    /// The source of the first.
    pub source: u32,
    /// Where it started in the batch.
    pub at: usize,
    /// How many there were.
    pub frames: u32,
}

/// Frames for one full mailbox. All that a session holds share the bytes of one batch.
#[derive(Debug)]
pub struct Held {
    mailbox: Arc<Mailbox>,
    admission: Admission,
    bytes: Arc<[u8]>,
    runs: Runs,
    round: u32,
}

/// Why forwarding stopped before the end of the bytes.
#[derive(Debug)]
pub enum Stop {
    /// The rest is not a whole frame yet.
    Incomplete,
    /// The batch holds as much as it should; go on in the next turn.
    Turn,
    /// A control frame of this length comes next.
    Control(usize),
    /// A frame over the limit comes next; skip it whole.
    TooLarge(FixedHeader),
    /// What comes next is not a frame, or not one that a node may send.
    Malformed(String),
}

/// Forwards frames from the start of `bytes`. Answers how many bytes it used, and why it stopped.
pub fn forward(
    bytes: &[u8],
    source: &mut Source,
    max_frame: u32,
    waker: &Waker,
    local: &mut Local,
) -> (usize, Stop) {
    let table = local.load_table();
    let mut at = 0;
    let stop = loop {
        if let Some(end) = place_alike(bytes, at, max_frame, local) {
            at = end;
            continue;
        }
        let header = match FixedHeader::parse(&bytes[at..], max_frame) {
            // It is not waited for, as it will not be taken.
            Ok(Some(header)) if is_too_long_for_control(&header) => break Stop::TooLarge(header),
            Ok(Some(header)) if at + header.length as usize <= bytes.len() => header,
            Ok(_) => break Stop::Incomplete,
            Err(HeaderError::TooLarge { header, .. }) => break Stop::TooLarge(header),
            Err(error) => break Stop::Malformed(error.to_string()),
        };
        let end = at + header.length as usize;
        match header.kind {
            Kind::Data(mode) => {
                if source.owns(header.source) {
                    place(&header, mode, bytes, at..end, source, &table, local);
                } else {
                    refuse_source(&header, mode, at, source, local);
                }
            }
            Kind::Control => break Stop::Control(header.length as usize),
            Kind::Report | Kind::Relay => {
                let kind = header.kind.raw();
                break Stop::Malformed(format!("a node does not send frames of kind {kind}"));
            }
        }
        at = end;
        if local.batch.is_large() {
            break Stop::Turn;
        }
    };
    finish(bytes, source, waker, local);
    (at, stop)
}

fn is_too_long_for_control(header: &FixedHeader) -> bool {
    header.kind == Kind::Control && header.length > MAX_CONTROL_FRAME
}

/// The short way for a frame like one before in this batch. Answers where the next frame starts.
#[inline]
fn place_alike(bytes: &[u8], at: usize, max_frame: u32, local: &mut Local) -> Option<usize> {
    let fixed = bytes[at..].first_chunk::<FIXED_HEADER>()?;
    let length = u32::from_le_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]);
    let end = at + length as usize;
    if length > max_frame || end > bytes.len() {
        return None;
    }
    local.batch.add_alike(Likeness::of(fixed), at, end).then_some(end)
}

/// Finds the target of one frame and notes the frame for it.
fn place(
    header: &FixedHeader,
    mode: Mode,
    bytes: &[u8],
    range: std::ops::Range<usize>,
    source: &Source,
    table: &Table<Arc<Mailbox>>,
    local: &mut Local,
) {
    let bucket = Bucket::new(mode, header.target);
    let (start, end) = (range.start, range.end);
    let run = Run { start, end, frames: 1, bucket, flags: header.flags };
    let class = header.target_class().and_then(|class| table.class(class));
    let key = header.key(&bytes[start..end]).unwrap_or(0);
    let picked = match class {
        Some(class) => class.pick(mode, header.target, key, &mut local.rng),
        None if mode == Mode::Direct => Pick::Nobody(Reason::NotFound),
        None => Pick::Nobody(Reason::NoInstance),
    };
    match (picked, class) {
        (Pick::One(member), Some(class)) => {
            let target = local.batch.target(&member.handle, class.policy());
            // Direct and Master depend on the header alone, so the next one like it needs no search.
            if matches!(mode, Mode::Direct | Mode::Master)
                && let Some(fixed) = bytes[start..].first_chunk()
            {
                let likeness = Likeness::of(fixed);
                local.batch.remember(likeness, header.header_len(), bucket, target);
            }
            local.batch.add(target, run);
        }
        (Pick::Everyone, Some(class)) => {
            local.out.counters.received(bucket, 1, end - start);
            let frame = Frame { header: *header, bytes: &bytes[start..end], at: start };
            broadcast(&frame, run, source, class, local);
        }
        (Pick::Nobody(reason), _) => {
            local.out.counters.received(bucket, 1, end - start);
            let frame = Frame { header: *header, bytes: &bytes[start..end], at: start };
            local.out.lose(frame, reason);
        }
        (_, None) => {}
    }
}

/// Notes a frame for every session of a class, but for its own unless it asks for an echo. A session
/// with several instances of the class gets it once.
fn broadcast(
    frame: &Frame<'_>,
    run: Run,
    source: &Source,
    class: &ClassTable<Arc<Mailbox>>,
    local: &mut Local,
) {
    let echo = frame.header.flags.contains(Flags::ECHO);
    let targets = local
        .batch
        .broadcast(class, run, |mailbox| echo || mailbox.session() != source.mailbox.session());
    if targets == 0 {
        local.out.lose(Frame { header: frame.header, ..*frame }, Reason::NoInstance);
    } else if frame.header.flags.contains(Flags::CALL) {
        local.out.report(frame, Reason::Delivered, targets);
    }
}

/// Offers what was gathered to each mailbox, and sends the reports that are owed.
fn finish(bytes: &[u8], source: &mut Source, waker: &Waker, local: &mut Local) {
    let Local { batch, out, .. } = local;
    let counters = out.counters.clone();
    let mut shared: Option<Arc<[u8]>> = None;
    batch.deliver(&counters, |mailbox, admission, runs| {
        let mut round = 0;
        let waiter = Waiter { waker, round: &mut round };
        match mailbox.offer(bytes, runs, admission, waiter, out) {
            Offer::Taken => {}
            Offer::Refused(reason) => out.lose_runs(bytes, runs, reason),
            Offer::Wait => {
                let bytes = shared.get_or_insert_with(|| bytes.into()).clone();
                let (mailbox, runs) = (mailbox.clone(), std::mem::take(runs));
                source.held.push(Held { mailbox, admission, bytes, runs, round });
            }
        }
    });
    send_reports(local);
}

/// Offers held frames again. Answers whether the session may read on.
pub fn retry_held(source: &mut Source, waker: &Waker, local: &mut Local) -> bool {
    let out = &mut local.out;
    source.held.retain_mut(|held| {
        let waiter = Waiter { waker, round: &mut held.round };
        match held.mailbox.offer(&held.bytes, &mut held.runs, held.admission, waiter, out) {
            Offer::Taken => false,
            Offer::Refused(reason) => {
                out.lose_runs(&held.bytes, &held.runs, reason);
                false
            }
            Offer::Wait => true,
        }
    });
    send_reports(local);
    source.held.is_empty()
}

/// The session ends: what it held for others will not be sent.
pub fn drop_held(source: &mut Source, local: &mut Local) {
    for held in source.held.drain(..) {
        for run in held.runs.iter() {
            local.out.counters.ended(run.bucket, Outcome::SourceLost, run.frames);
        }
    }
}

/// Sends the reports that are owed to the senders that are still there.
pub fn send_reports(local: &mut Local) {
    if !local.out.owes_reports() {
        return;
    }
    let table = local.load_table();
    for (source, report) in local.out.take_reports() {
        let sender = ServiceId::from_raw(source).ok().and_then(|id| table.find(id));
        if let Some(sender) = sender {
            sender.handle.push(&report, &mut local.out);
        }
    }
}

fn refuse_source(
    header: &FixedHeader,
    mode: Mode,
    at: usize,
    source: &mut Source,
    local: &mut Local,
) {
    let bucket = Bucket::new(mode, header.target);
    local.out.counters.received(bucket, 1, header.length as usize);
    local.out.counters.ended(bucket, Outcome::Refused, 1);
    let first = Spoofed { source: header.source, at, frames: 0 };
    source.spoofed.get_or_insert(first).frames += 1;
}

impl Spoofed {
    /// What the session is told.
    pub fn refusal(&self) -> Refusal {
        let source = ServiceId::from_raw(self.source)
            .map_or_else(|_| format!("{:#010x}", self.source), |id| id.to_string());
        let others = match self.frames - 1 {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        Refusal::new(
            RefusalCode::NotRegistered,
            format!(
                "the frame's source {source} is not registered by this session; the frame was \
                 dropped{others}"
            ),
        )
    }
}

impl Source {
    /// Whether it may send from this id.
    #[inline]
    pub fn owns(&self, source: u32) -> bool {
        self.ids.iter().any(|id| id.raw() == source)
    }
}
