//! Whole frames, side by side, on their way out; and the ones that leave without being written.

use std::io;

use switchboard_protocol::{Flags, Kind};

use super::marks::Marks;
use super::outgoing::Outgoing;
use super::runs::{Frame, Frames, Runs};
use crate::counters::{Bucket, Tally, Volume};

/// A buffer of frames, of which the first bytes may be written already.
#[derive(Debug, Default)]
pub struct Queue {
    frames: Vec<u8>,
    /// Bytes at the front that the socket has taken.
    written: usize,
    /// The data frames in it, by what they count as.
    tally: Tally,
    /// Bytes of DROPPABLE frames in it, written or not.
    droppable: usize,
    /// Bytes of the router's own messages that are in `frames`.
    control: usize,
    /// Where batches end that are timed.
    marks: Marks,
}

impl Queue {
    /// Bytes still to be written.
    #[inline]
    pub fn len(&self) -> usize {
        self.frames.len() - self.written
    }

    /// Whether all is written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the frames of `bytes` that `runs` name.
    pub fn append(&mut self, bytes: &[u8], runs: &Runs, out: &mut Outgoing) {
        self.reserve(out);
        self.frames.reserve(runs.bytes());
        for run in runs.iter() {
            self.frames.extend_from_slice(&bytes[run.start..run.end]);
            if run.flags.contains(Flags::DROPPABLE) {
                self.droppable += run.end - run.start;
            }
        }
        runs.tally(|bucket, volume| self.tally.add(bucket, volume));
        self.marks.add(self.frames.len(), out.read_at);
    }

    /// Adds a message of the router's own, which no counter of frames knows.
    pub fn append_control(&mut self, frame: &[u8], out: &mut Outgoing) {
        self.reserve(out);
        self.frames.extend_from_slice(frame);
        self.control += frame.len();
    }

    /// How many bytes of the router's own messages wait, and a little more.
    pub fn control(&self) -> usize {
        self.control
    }

    fn reserve(&mut self, out: &mut Outgoing) {
        if self.frames.capacity() == 0 {
            self.frames = out.take_buffer();
        }
    }

    /// What is left of runs of which the socket took `written` bytes, from the start of the frame that
    /// the cut went through.
    pub fn rest_of(bytes: &[u8], runs: &Runs, mut written: usize, out: &mut Outgoing) -> Self {
        let mut rest = Self { frames: out.take_buffer(), ..Self::default() };
        for frame in runs.frames(bytes) {
            let Some(bucket) = Bucket::of(frame.header.kind, frame.header.target) else { continue };
            let volume = Volume::one(frame.bytes.len());
            if written >= frame.bytes.len() {
                written -= frame.bytes.len();
                out.delivered(bucket, volume);
                continue;
            }
            rest.written += std::mem::take(&mut written);
            rest.frames.extend_from_slice(frame.bytes);
            rest.tally.add(bucket, volume);
            if frame.header.flags.contains(Flags::DROPPABLE) {
                rest.droppable += frame.bytes.len();
            }
        }
        rest.marks.add(rest.frames.len(), out.read_at);
        rest
    }

    /// Writes until the socket takes no more.
    pub fn write_to(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
        out: &Outgoing,
    ) -> io::Result<()> {
        let mut result = Ok(());
        while self.written < self.frames.len() && result.is_ok() {
            match write(&self.frames[self.written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.written += n;
                    out.counters.writes.increment();
                }
                Err(error) => result = Err(error),
            }
        }
        self.marks.pass(self.written, |took| out.counters.read_to_write.record(took));
        result
    }

    /// Puts back what a writer took out, in front of what was appended meanwhile.
    pub fn put_in_front(&mut self, mut taken: Self, out: &mut Outgoing) {
        if taken.is_empty() {
            for (bucket, volume) in std::mem::take(&mut taken.tally).into_iter() {
                out.delivered(bucket, volume);
            }
            return out.give_buffer(taken.frames);
        }
        taken.forget_written(out);
        let appended = std::mem::replace(self, taken);
        self.marks.append(self.frames.len(), appended.marks);
        self.frames.extend_from_slice(&appended.frames);
        self.tally.merge(appended.tally);
        self.droppable += appended.droppable;
        self.control += appended.control;
        out.give_buffer(appended.frames);
    }

    /// Drops written frames off the front once they are as long as the rest, so that the cost of moving
    /// the rest stays in proportion to what was written.
    fn forget_written(&mut self, out: &Outgoing) {
        if self.written < self.len().max(WORTH_MOVING) {
            return;
        }
        let mut keep = 0;
        for frame in Frames::of(&self.frames) {
            if frame.at + frame.bytes.len() > self.written {
                break;
            }
            keep = frame.at + frame.bytes.len();
            if let Some(bucket) = Bucket::of(frame.header.kind, frame.header.target) {
                self.tally.subtract(bucket, frame.bytes.len());
                out.delivered(bucket, Volume::one(frame.bytes.len()));
            } else {
                self.control = self.control.saturating_sub(frame.bytes.len());
            }
        }
        self.frames.drain(..keep);
        self.written -= keep;
        self.marks.move_up(keep);
    }

    /// Takes the DROPPABLE frames out that nothing of is written yet, if they are `worth` that many
    /// bytes: it takes a walk over the whole queue.
    pub fn shed_droppable(&mut self, worth: usize, lost: impl FnMut(Frame<'_>)) {
        if self.droppable >= worth.max(1) {
            self.droppable = 0;
            self.retain(|frame, _| !frame.header.flags.contains(Flags::DROPPABLE), lost);
        }
    }

    /// Takes the oldest data frames out until at most `room` bytes are left to write. Messages of the
    /// router stay, and so does a frame that is half written.
    pub fn evict_to(&mut self, room: usize, lost: impl FnMut(Frame<'_>)) {
        let excess = self.len().saturating_sub(room);
        self.retain(|_, evicted| evicted >= excess, lost);
    }

    /// Keeps the frames that `keep` says, which is told of each frame and of the bytes taken out so far.
    fn retain(
        &mut self,
        keep: impl Fn(&Frame<'_>, usize) -> bool,
        mut lost: impl FnMut(Frame<'_>),
    ) {
        let frames = std::mem::take(&mut self.frames);
        let mut marks = std::mem::take(&mut self.marks);
        let mut evicted = 0;
        for frame in Frames::of(&frames) {
            let end = frame.at + frame.bytes.len();
            match Bucket::of(frame.header.kind, frame.header.target) {
                Some(bucket) if frame.at >= self.written && !keep(&frame, evicted) => {
                    self.tally.subtract(bucket, frame.bytes.len());
                    evicted += frame.bytes.len();
                    lost(frame);
                    marks.follow(end, None, &mut self.marks);
                }
                _ => {
                    self.frames.extend_from_slice(frame.bytes);
                    marks.follow(end, Some(self.frames.len()), &mut self.marks);
                }
            }
        }
    }

    /// Takes the data frames out that nothing of is written yet, and with `begun` the one that is written
    /// in part. Answers whether it took that one: then the rest must not be written.
    pub fn reclaim(&mut self, begun: bool, to: &mut Vec<u8>, out: &Outgoing) -> bool {
        let front =
            Frames::of(&self.frames).find(|frame| frame.at + frame.bytes.len() > self.written);
        let is_data = |frame: &Frame<'_>| matches!(frame.header.kind, Kind::Data(_));
        if begun && front.is_some_and(|front| front.at < self.written && is_data(&front)) {
            std::mem::take(self).abandon(out, |frame| to.extend_from_slice(frame.bytes));
            return true;
        }
        self.droppable = 0;
        self.retain(|_, _| false, |frame| to.extend_from_slice(frame.bytes));
        false
    }

    /// Ends the queue: written frames are delivered, the others are lost.
    pub fn abandon(self, out: &Outgoing, mut lost: impl FnMut(Frame<'_>)) {
        for frame in Frames::of(&self.frames) {
            let Kind::Data(mode) = frame.header.kind else { continue };
            if frame.at + frame.bytes.len() <= self.written {
                let bucket = Bucket::new(mode, frame.header.target);
                out.delivered(bucket, Volume::one(frame.bytes.len()));
            } else {
                lost(frame);
            }
        }
    }
}

/// Written frames shorter than this are not worth moving the rest for.
const WORTH_MOVING: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Instant;

    use proptest::prelude::*;
    use switchboard_protocol::control::{Control, Ping};
    use switchboard_protocol::{Frame as WholeFrame, Header, Mode};

    use super::*;
    use crate::counters::{Counters, Latency, Outcome};

    #[derive(Debug, Clone)]
    enum Step {
        /// Frames with this many bytes of payload, each DROPPABLE or not.
        Append(Vec<(usize, bool)>),
        Control,
        /// A writer takes the queue, the socket takes so many bytes, others append meanwhile.
        Write(usize, Vec<(usize, bool)>),
        /// Runs are written straight from where they were read, and the socket takes so many bytes.
        WriteDirect(usize, Vec<(usize, bool)>),
        Evict(usize),
        Shed,
    }

    fn frames() -> impl Strategy<Value = Vec<(usize, bool)>> {
        prop::collection::vec((prop_oneof![0..200_usize, 0..40_000_usize], any::<bool>()), 0..12)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => frames().prop_map(Step::Append),
            1 => Just(Step::Control),
            4 => (0..150_000_usize, frames()).prop_map(|(n, frames)| Step::Write(n, frames)),
            2 => (0..150_000_usize, frames()).prop_map(|(n, frames)| Step::WriteDirect(n, frames)),
            1 => (0..100_000_usize).prop_map(Step::Evict),
            1 => Just(Step::Shed),
        ]
    }

    /// Everything that happened to numbered frames. The number is the call id of a reply.
    struct World {
        out: Outgoing,
        sent: u64,
        wire: Vec<u8>,
        lost: BTreeMap<u64, u32>,
        controls: usize,
        /// The last frames of the batches that were queued, all of which are timed.
        timed: Vec<u64>,
    }

    impl World {
        fn read(&mut self, frames: &[(usize, bool)]) -> (Vec<u8>, Runs) {
            let mut bytes = Vec::new();
            for (payload, droppable) in frames {
                let mut header = Header::direct("1.1".parse().unwrap(), "2.1".parse().unwrap());
                header.flags = Flags::REPLY;
                if *droppable {
                    header.flags |= Flags::DROPPABLE;
                }
                header.call_id = self.sent;
                self.sent += 1;
                WholeFrame::new(header, vec![7; *payload]).encode(&mut bytes);
            }
            let runs = Runs::of_frames(&bytes);
            (bytes, runs)
        }

        /// A batch that goes to the queue.
        fn read_timed(&mut self, frames: &[(usize, bool)]) -> (Vec<u8>, Runs) {
            let read = self.read(frames);
            self.time(!frames.is_empty());
            read
        }

        fn time(&mut self, any: bool) {
            self.out.read_at = any.then(Instant::now);
            if any {
                self.timed.push(self.sent - 1);
            }
        }

        /// The numbers of the data frames that were written.
        fn numbers(&self) -> BTreeSet<u64> {
            let data = Frames::of(&self.wire).filter(|frame| frame.header.kind != Kind::Control);
            data.map(|frame| u64::from_le_bytes(*frame.bytes[16..].first_chunk().unwrap()))
                .collect()
        }

        fn lose(lost: &mut BTreeMap<u64, u32>, frame: &Frame<'_>) {
            let number = u64::from_le_bytes(*frame.bytes[16..].first_chunk().unwrap());
            *lost.entry(number).or_default() += 1;
        }

        /// A socket that takes `room` bytes.
        fn socket<'a>(
            wire: &'a mut Vec<u8>,
            mut room: usize,
        ) -> impl FnMut(&[u8]) -> io::Result<usize> + 'a {
            move |bytes| {
                let n = bytes.len().min(room).min(5_000);
                if n == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                room -= n;
                wire.extend_from_slice(&bytes[..n]);
                Ok(n)
            }
        }

        fn take(&mut self, queue: &mut Queue, step: Step) {
            match step {
                Step::Append(frames) => {
                    let (bytes, runs) = self.read_timed(&frames);
                    queue.append(&bytes, &runs, &mut self.out);
                }
                Step::Control => {
                    let ping = Control::Ping(Ping::default()).to_frame().to_bytes();
                    queue.append_control(&ping, &mut self.out);
                    self.controls += 1;
                }
                Step::Write(room, meanwhile) => {
                    let mut taken = std::mem::take(queue);
                    // The end is the error of a full socket, or everything is written.
                    let _ = taken.write_to(Self::socket(&mut self.wire, room), &self.out);
                    let (bytes, runs) = self.read_timed(&meanwhile);
                    queue.append(&bytes, &runs, &mut self.out);
                    queue.put_in_front(taken, &mut self.out);
                }
                Step::WriteDirect(room, frames) if queue.is_empty() => {
                    let (bytes, runs) = self.read(&frames);
                    let written = room.min(bytes.len());
                    self.wire.extend_from_slice(&bytes[..written]);
                    if written == bytes.len() {
                        return runs.delivered(&self.out);
                    }
                    self.time(true);
                    let rest = Queue::rest_of(&bytes, &runs, written, &mut self.out);
                    queue.put_in_front(rest, &mut self.out);
                }
                Step::WriteDirect(..) => {}
                Step::Evict(room) => {
                    let before = queue.len();
                    queue.evict_to(room, |frame| Self::lose(&mut self.lost, &frame));
                    assert!(queue.len() <= before);
                }
                Step::Shed => {
                    queue.shed_droppable(0, |frame| Self::lose(&mut self.lost, &frame));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn every_frame_is_written_whole_and_in_order_or_lost_once_and_counted(
            steps in prop::collection::vec(step(), 0..30),
        ) {
            let counters = Arc::new(Counters::new());
            let mut world = World {
                out: Outgoing::new(counters.clone()),
                sent: 0,
                wire: Vec::new(),
                lost: BTreeMap::new(),
                controls: 0,
                timed: Vec::new(),
            };
            let mut queue = Queue::default();
            for step in steps {
                world.take(&mut queue, step);
                // A batch is timed when its last frame is written, once, and never if that is lost.
                let written = world.numbers();
                let timed = world.timed.iter().filter(|last| written.contains(last)).count();
                let times = Latency::sum([&counters.read_to_write].into_iter());
                prop_assert_eq!(times.count, timed as u64);
            }
            let mut lost = std::mem::take(&mut world.lost);
            queue.abandon(&world.out, |frame| World::lose(&mut lost, &frame));

            let mut numbers = Vec::new();
            let (mut controls, mut written) = (0, 0);
            for frame in Frames::of(&world.wire) {
                if frame.header.kind == Kind::Control {
                    controls += 1;
                    continue;
                }
                written += frame.bytes.len() as u64;
                prop_assert!(frame.bytes[24..].iter().all(|byte| *byte == 7), "content");
                numbers.push(u64::from_le_bytes(*frame.bytes[16..].first_chunk().unwrap()));
            }
            prop_assert!(numbers.is_sorted(), "order: {:?}", numbers);
            prop_assert!(controls <= world.controls);
            prop_assert!(lost.values().all(|times| *times == 1), "lost twice");
            for number in 0..world.sent {
                let came = numbers.binary_search(&number).is_ok();
                prop_assert_ne!(came, lost.contains_key(&number), "frame {}", number);
            }
            let bucket = Bucket::new(Mode::Direct, 2 << 24);
            let (delivered, bytes) = counters.read_ended(bucket, Outcome::Delivered);
            prop_assert_eq!(delivered, numbers.len() as u64);
            prop_assert_eq!(bytes, written);
        }
    }
}
