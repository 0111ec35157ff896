//! From the bytes of one read to the mailboxes of their targets.
//!
//! A batch is one read. Its frames are checked and picked one by one, but what is done to a mailbox is
//! done once per batch: [`batch`] gathers the runs by mailbox, and [`finish`] offers them. What has lost
//! its target, or waited for one, is picked once more by [`again`].

pub mod again;
pub mod batch;
pub mod held;
pub mod local;

use std::sync::Arc;
use std::task::Waker;

use rand::rngs::SmallRng;
use switchboard_protocol::header::HeaderError;
use switchboard_protocol::limits::{FIXED_HEADER, MAX_CONTROL_FRAME};
use switchboard_protocol::{Class, FixedHeader, Flags, Kind, Mode, Reason, RefusalCode, ServiceId};

use self::batch::{Likeness, stretch};
use self::held::{Held, offer_batch};
use self::local::Local;
use crate::counters::{Bucket, Outcome, Volume};
use crate::mailbox::Mailbox;
use crate::mailbox::runs::{Frame, Frames, Run};
use crate::parking::Refused;
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
    pub spoofed: Option<Box<Spoofed>>,
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

/// Why forwarding stopped before the end of the bytes.
#[derive(Debug)]
pub enum Stop {
    /// The rest is not a whole frame yet.
    Incomplete,
    /// The batch holds as much as it should; go on in the next turn.
    Turn,
    /// What comes next goes in behind frames that wait, and there is no room; the waker is woken when it
    /// is worth another try.
    Barred,
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
    let mut table = local.load_table();
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
                    match place(&header, mode, bytes, at..end, source, &table, waker, local) {
                        Placed::Done => at = end,
                        Placed::Upto(end) => at = end,
                        Placed::Barred => break Stop::Barred,
                        Placed::Again => {
                            finish(bytes, source, waker, local);
                            if !source.held.is_empty() {
                                break Stop::Turn;
                            }
                            table = local.load_table();
                            continue;
                        }
                    }
                } else {
                    refuse_source(&header, mode, at, source, local);
                    at = end;
                }
            }
            Kind::Control => break Stop::Control(header.length as usize),
            Kind::Report | Kind::Relay => {
                let kind = header.kind.raw();
                break Stop::Malformed(format!("a node does not send frames of kind {kind}"));
            }
        }
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

/// What became of a frame that was to be placed.
enum Placed {
    /// It is noted for its target, waits for one, or is lost and counted.
    Done,
    /// So are others behind it that are like it, to here.
    Upto(usize),
    /// Nothing, for now. ORDER: a frame that waits goes in when all before it have been offered, and by
    /// the latest table.
    Again,
    /// Nothing: there is no room where it would wait.
    Barred,
}

/// A class, and whom a mode picked of it.
type Found<'t> = (&'t ClassTable<Arc<Mailbox>>, Pick<'t, Arc<Mailbox>>);

/// Where the table leads a frame, or why nowhere.
fn pick<'t>(
    table: &'t Table<Arc<Mailbox>>,
    header: &FixedHeader,
    mode: Mode,
    frame: &[u8],
    rng: &mut SmallRng,
) -> Result<Found<'t>, Reason> {
    let Some(class) = header.target_class().and_then(|class| table.class(class)) else {
        return Err(if mode == Mode::Direct { Reason::NotFound } else { Reason::NoInstance });
    };
    match class.pick(mode, header.target, header.key(frame).unwrap_or(0), rng) {
        Pick::Nobody(reason) => Err(reason),
        picked => Ok((class, picked)),
    }
}

/// Finds the target of one frame and notes the frame for it.
#[allow(clippy::too_many_arguments)]
fn place(
    header: &FixedHeader,
    mode: Mode,
    bytes: &[u8],
    range: std::ops::Range<usize>,
    source: &Source,
    table: &Table<Arc<Mailbox>>,
    waker: &Waker,
    local: &mut Local,
) -> Placed {
    let bucket = Bucket::new(mode, header.target);
    let (start, end) = (range.start, range.end);
    let run = Run { start, end, frames: 1, bucket, flags: header.flags };
    let frame = Frame { header: *header, bytes: &bytes[start..end], at: start };
    if header.target_class().is_some_and(|class| local.lots.is_gated(class)) {
        return place_behind(&frame, bucket, source, waker, local);
    }
    match pick(table, header, mode, frame.bytes, &mut local.rng) {
        Ok((class, Pick::One(member))) => {
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
        Ok((class, _)) => {
            let most = local.batch.room(end - start, class.count().live as usize);
            let run = stretch(header, bytes, run, most);
            source.note(bucket, run.volume(), local);
            broadcast(
                &bytes[run.start..run.end],
                run,
                Some(source.mailbox.session()),
                class,
                local,
            );
            return Placed::Upto(run.end);
        }
        Err(reason) => {
            return place_nowhere(frame, bucket, reason, source, table.version(), local);
        }
    }
    Placed::Done
}

/// Frames of this class wait, and this one goes in behind them.
#[cold]
fn place_behind(
    frame: &Frame<'_>,
    bucket: Bucket,
    source: &Source,
    waker: &Waker,
    local: &mut Local,
) -> Placed {
    let Some(class) = frame.header.target_class() else { return Placed::Done };
    if !local.batch.is_empty() {
        return Placed::Again;
    }
    match local.lots.park_behind(class, frame.bytes, waker) {
        Ok(()) => {
            source.note(bucket, Volume::one(frame.bytes.len()), local);
            local.out.counters.parked(class, 1);
            Placed::Done
        }
        Err(Refused::Full) => Placed::Barred,
        Err(Refused::Stale | Refused::Never) => Placed::Again,
    }
}

/// Nobody is there for this frame: it waits where it may, or is lost.
#[cold]
fn place_nowhere(
    frame: Frame<'_>,
    bucket: Bucket,
    reason: Reason,
    source: &Source,
    version: u64,
    local: &mut Local,
) -> Placed {
    let class = frame.header.target_class().filter(|class| local.lots.parks(*class));
    let mut waits = false;
    if let Some(class) = class {
        if !local.batch.is_empty() {
            return Placed::Again;
        }
        match local.lots.park(frame.bytes, version) {
            Ok(()) => {
                local.out.counters.parked(class, 1);
                waits = true;
            }
            Err(Refused::Stale) => return Placed::Again,
            Err(Refused::Never | Refused::Full) => {}
        }
    }
    source.note(bucket, Volume::one(frame.bytes.len()), local);
    if !waits {
        local.out.lose(frame, reason);
    }
    Placed::Done
}

/// Notes frames for every session of a class, but for their sender's unless they ask for an echo. A session
/// with several instances of the class gets each once.
fn broadcast(
    frames: &[u8],
    run: Run,
    sender: Option<u64>,
    class: &ClassTable<Arc<Mailbox>>,
    local: &mut Local,
) {
    let echo = run.flags.contains(Flags::ECHO);
    let targets =
        local.batch.broadcast(class, run, |mailbox| echo || Some(mailbox.session()) != sender);
    if targets == 0 {
        Frames::of(frames).for_each(|frame| local.out.lose(frame, Reason::NoInstance));
    } else if run.flags.contains(Flags::CALL) {
        Frames::of(frames).for_each(|frame| local.out.report(&frame, Reason::Delivered, targets));
    }
}

/// Offers what was gathered to each mailbox, and sends the reports that are owed.
fn finish(bytes: &[u8], source: &mut Source, waker: &Waker, local: &mut Local) {
    let mut shared = None;
    local.out.read_at = local.time_batch();
    offer_batch(bytes, &mut shared, false, source, waker, local);
    local.out.read_at = None;
    send_reports(local);
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
    let volume = Volume::one(header.length as usize);
    source.note(bucket, volume, local);
    local.out.counters.ended(bucket, Outcome::Refused, volume);
    let first = || Box::new(Spoofed { source: header.source, at, frames: 0 });
    source.spoofed.get_or_insert_with(first).frames += 1;
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
    /// The class that its frames count under: that of its first id.
    pub fn class(&self) -> Option<Class> {
        self.ids.first().map(|id| id.class())
    }

    /// Counts a frame that came in and does not go into the batch.
    pub fn note(&self, bucket: Bucket, volume: Volume, local: &Local) {
        local.out.counters.flows.from(self.class()).add(bucket, volume);
        self.mailbox.badge().took_in(volume.frames.into());
    }

    /// Whether it may send from this id.
    #[inline]
    pub fn owns(&self, source: u32) -> bool {
        self.ids.iter().any(|id| id.raw() == source)
    }
}
