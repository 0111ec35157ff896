//! The books of a run: what each life sent, what came of it, and the first thing that can't be.

use std::fmt;

use ahash::AHashMap;
use bytes::Bytes;
use switchboard_protocol::{Flags, Frame, Header, Kind, Mode, Reason, Report, ServiceId};
use switchboard_router::policy::{HashPolicy, MasterPolicy};

use super::plan::{End, Plan, Weather};

/// The books of all lives.
#[derive(Debug)]
pub struct Ledger {
    plan: Plan,
    pub lives: Vec<Life>,
    /// The first thing that went wrong.
    pub violation: Option<String>,
}

/// The book of one connection.
#[derive(Debug)]
pub struct Life {
    pub id: ServiceId,
    pub end: End,
    /// The router ended it before its time.
    pub cut_off: bool,
    /// In the order in which they were sent.
    pub sent: Vec<Sent>,
    /// It is not the first of its id: what waits for the one before is picked anew, while what is sent now
    /// goes to others at once.
    follows: bool,
    /// How much each life had sent when this one was let in.
    welcome: Option<Vec<u32>>,
    /// The last that came, by the life that sent it and the lane.
    last: AHashMap<(usize, Lane), u32>,
}

/// A message.
#[derive(Debug)]
pub struct Sent {
    pub header: Header,
    pub length: u32,
    /// How often it came to anybody.
    pub came: u32,
    /// What its sender was told of its loss.
    pub lost: Vec<Reason>,
    /// To how many the router says that it went.
    pub targets: Option<u32>,
}

/// Frames of one sender that reach one receiver in the order in which they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    /// All of them, while nobody leaves.
    All,
    /// Those that nobody else takes when their receiver leaves.
    Fixed,
    /// Those for a master who keeps its office for as long as it lives: what one does not get comes to the
    /// next before what is sent then.
    Reign,
}

/// A message's number: the life that sent it, and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(pub u64);

impl Ledger {
    /// Empty books.
    pub fn new(plan: Plan) -> Self {
        Self { plan, lives: Vec::new(), violation: None }
    }

    /// Opens the book of a connection.
    pub fn begin(&mut self, id: ServiceId, end: End) -> usize {
        let follows = self.lives.iter().any(|before| before.id == id);
        let (sent, last) = (Vec::new(), AHashMap::new());
        self.lives.push(Life { id, end, cut_off: false, sent, follows, welcome: None, last });
        self.lives.len() - 1
    }

    /// A life was let in.
    pub fn welcome(&mut self, life: usize) {
        let sent = self.lives.iter().map(|life| life.sent.len() as u32).collect();
        self.lives[life].welcome = Some(sent);
    }

    /// Numbers a message, and notes that it is about to be sent. Its payload will be of `length` bytes,
    /// or of the few more that its number takes.
    pub fn send(&mut self, life: usize, mut header: Header, length: usize) -> Frame {
        let number = Number((life as u64) << 32 | self.lives[life].sent.len() as u64);
        let frame = number.stamp(&mut header, length);
        let length = frame.len() as u32;
        let (lost, targets) = (Vec::new(), None);
        self.lives[life].sent.push(Sent { header, length, came: 0, lost, targets });
        frame
    }

    /// A message came to a life.
    pub fn came(&mut self, to: usize, frame: &Frame) {
        let number = Number::of(&frame.header, &frame.payload);
        let Some(lane) = self.lane(frame) else { return self.wrong("a class that is not there") };
        let Some(sent) = self.find(number) else {
            return self.wrong(format!("{number} was never sent: {:?}", frame.header));
        };
        if sent.header != frame.header || !number.is_whole(frame, sent.length) {
            let sent = sent.header;
            return self.wrong(format!("{number} is not as it was sent, {sent:?}: {frame:?}"));
        }
        sent.came += 1;
        let (came, lost, one) = (sent.came, sent.lost.clone(), !is_broadcast(&sent.header));
        if one && came > 1 {
            return self.wrong(format!("{number} came twice, the second time to life {to}"));
        }
        if one && !lost.is_empty() {
            return self.wrong(format!("{number} came to life {to}, and was reported as {lost:?}"));
        }
        let (from, place) = number.parts();
        if let Some(lane) = lane.filter(|lane| !self.may_be_late(to, from, place, *lane))
            && let Some(before) = self.lives[to].last.insert((from, lane), place)
            && before >= place
        {
            let (header, before) = (frame.header, (from as u64) << 32 | u64::from(before));
            self.wrong(format!(
                "{number} came to life {to} behind {}, of the same sender and lane {lane:?}: {header:?}",
                Number(before)
            ));
        }
    }

    /// Whether a message may have been picked anew, because an id was taken over while it waited.
    fn may_be_late(&self, to: usize, from: usize, place: u32, lane: Lane) -> bool {
        let before_welcome = |life: &Life| match &life.welcome {
            Some(sent) => sent.get(from).is_some_and(|sent| place < *sent),
            None => true,
        };
        let of_class = |life: &&Life| life.id.class() == self.lives[to].id.class();
        match lane {
            Lane::All => false,
            Lane::Fixed => self.lives[to].follows && before_welcome(&self.lives[to]),
            // It may be another than the one that took over who is elected.
            Lane::Reign => {
                let mut followers = self.lives.iter().filter(of_class).filter(|life| life.follows);
                followers.any(before_welcome)
            }
        }
    }

    /// A life was told what became of a message.
    pub fn reported(&mut self, to: usize, report: &Report) {
        let number = Number::of(&report.header, &Bytes::new());
        let Some(sent) = self.find(number) else {
            return self.wrong(format!("a report of {number}, which was never sent: {report:?}"));
        };
        if sent.header != report.header || sent.length != report.length {
            return self.wrong(format!("the report of {number} is about another: {report:?}"));
        }
        let (came, one) = (sent.came, !is_broadcast(&sent.header));
        let again = match report.reason {
            Reason::Delivered => sent.targets.replace(report.targets).is_some(),
            reason => {
                sent.lost.push(reason);
                one && sent.lost.len() > 1
            }
        };
        if again {
            return self.wrong(format!("{number} was reported twice, now {:?}", report.reason));
        }
        if one && came > 0 {
            return self.wrong(format!("{number} came, and was reported {:?}", report.reason));
        }
        let (from, _) = number.parts();
        if self.lives[from].id != self.lives[to].id {
            self.wrong(format!("life {to} was told about {number} of another node"));
        }
    }

    /// Notes what went wrong, if it is the first thing.
    pub fn wrong(&mut self, what: impl fmt::Display) {
        self.violation.get_or_insert_with(|| what.to_string());
    }

    fn find(&mut self, number: Number) -> Option<&mut Sent> {
        let (life, place) = number.parts();
        self.lives.get_mut(life)?.sent.get_mut(place as usize)
    }

    /// The lanes of a frame; `None` if no class has it.
    fn lane(&self, frame: &Frame) -> Option<Option<Lane>> {
        let class = switchboard_protocol::Class::of_target(frame.header.target)?;
        let policy = self.plan.policy(class)?;
        let Kind::Data(mode) = frame.header.kind else { return None };
        Some(match mode {
            _ if self.plan.weather == Weather::Calm => Some(Lane::All),
            Mode::Direct | Mode::Broadcast => Some(Lane::Fixed),
            Mode::Hash if policy.hash == HashPolicy::Fixed && policy.slots > 0 && !policy.walk => {
                Some(Lane::Fixed)
            }
            Mode::Master if policy.master == MasterPolicy::Sticky => Some(Lane::Reign),
            // What one did not get that left may come to another behind what was sent later.
            _ => None,
        })
    }
}

/// Whether a frame goes to several.
pub fn is_broadcast(header: &Header) -> bool {
    header.kind == Kind::Data(Mode::Broadcast)
}

impl Number {
    fn parts(self) -> (usize, u32) {
        ((self.0 >> 32) as usize, self.0 as u32)
    }

    /// Writes the number where it will be found: in a call's id, in a trace, or else in the payload.
    fn stamp(self, header: &mut Header, length: usize) -> Frame {
        let mut payload = vec![self.0 as u8; length];
        if header.flags.contains(Flags::CALL) {
            header.call_id = self.0;
        } else if header.flags.contains(Flags::REPORT) {
            header.flags |= Flags::TRACE;
            header.trace.trace_id[..8].copy_from_slice(&self.0.to_le_bytes());
        } else {
            payload.resize(length.max(8), self.0 as u8);
            payload[..8].copy_from_slice(&self.0.to_le_bytes());
        }
        Frame::new(*header, payload)
    }

    /// The number of a message, or of one that is reported.
    fn of(header: &Header, payload: &Bytes) -> Self {
        Self(if header.flags.contains(Flags::CALL) {
            header.call_id
        } else if header.flags.contains(Flags::TRACE) {
            header.trace.trace_id.first_chunk().map_or(0, |number| u64::from_le_bytes(*number))
        } else {
            payload.first_chunk().map_or(u64::MAX, |number| u64::from_le_bytes(*number))
        })
    }

    /// Whether every byte is that of this message.
    fn is_whole(self, frame: &Frame, length: u32) -> bool {
        let numbered = !frame.header.flags.intersects(Flags::CALL | Flags::TRACE);
        let filled = &frame.payload[if numbered { 8 } else { 0 }..];
        frame.len() == length as usize && filled.iter().all(|byte| *byte == self.0 as u8)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (life, place) = self.parts();
        write!(f, "message {place} of life {life}")
    }
}
