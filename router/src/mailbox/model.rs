//! The mailbox itself under loom, which tries every order in which threads can take its lock and meet at its
//! socket: no frame is lost or overtaken, nobody waits for a wake that does not come, and no bytes are left
//! for which nobody will come back.
//!
//! `cargo test -p switchboard-router --features model mailbox::model`
//!
//! A feature, and not `--cfg loom`: under that flag tokio leaves its sockets out. With the feature the lock
//! and the status of a mailbox are loom's, so that no other test of this crate runs then.
#![allow(clippy::unwrap_used, reason = "it is a test")]

use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::sync::{Mutex, Notify};
use loom::thread;
use switchboard_protocol::{Flags, Frame as WholeFrame, Header};

use super::badge::Badge;
use super::outgoing::Outgoing;
use super::runs::{Frames, Runs};
use super::{Admission, Mailbox, Offer, Waiter};
use crate::counters::Counters;
use crate::policy::ClassPolicy;
use crate::sessions::Sessions;
use crate::stream::{Peer, WriteHalf};

/// A socket that takes so many bytes until it is given room again.
#[derive(Debug)]
pub struct Wire(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    bytes: Vec<u8>,
    room: usize,
    writers: u32,
}

impl Wire {
    fn new(room: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Taken { room, ..Taken::default() })))
    }

    /// Writes what there is room for.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = self.0.lock().unwrap();
        assert_eq!(taken.writers, 0, "two write at a time");
        taken.writers = 1;
        drop(taken);
        // Whoever else would write now is found out.
        thread::yield_now();
        let mut taken = self.0.lock().unwrap();
        taken.writers = 0;
        let n = bytes.len().min(taken.room);
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        taken.room -= n;
        taken.bytes.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn make_room(&self) {
        self.0.lock().unwrap().room = usize::MAX;
    }

    /// The numbers of the frames that went out, all of them whole.
    fn numbers(&self) -> Vec<u64> {
        let taken = self.0.lock().unwrap();
        let numbers = numbers(&taken.bytes);
        let whole: usize = Frames::of(&taken.bytes).map(|frame| frame.bytes.len()).sum();
        assert_eq!(whole, taken.bytes.len(), "what went out is whole frames");
        numbers
    }
}

/// What a task waits for.
struct Bell(Notify);

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self(Notify::new()))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify();
    }
}

fn mailbox(wire: &Arc<Wire>) -> Arc<Mailbox> {
    let (slot, number) = Arc::new(Sessions::default()).open(1).unwrap();
    let badge = Badge::new(Peer::Unknown, 0);
    Arc::new(Mailbox::new(slot, number, WriteHalf::Model(wire.clone()), badge))
}

/// A frame of this length with a number, as it was read.
fn frame(number: u64, length: usize) -> Vec<u8> {
    let mut header = Header::direct("1.1".parse().unwrap(), "2.1".parse().unwrap());
    header.flags = Flags::CALL;
    header.call_id = number;
    WholeFrame::new(header, vec![7; length - 24]).to_bytes().to_vec()
}

fn numbers(frames: &[u8]) -> Vec<u64> {
    let call_id = |bytes: &[u8]| u64::from_le_bytes(*bytes[16..].first_chunk().unwrap());
    Frames::of(frames).map(|frame| call_id(frame.bytes)).collect()
}

/// Offers a frame as a sender does, and waits where it has to. Answers whether it was taken.
fn send(mailbox: &Arc<Mailbox>, frame: &[u8], high_water: usize, out: &mut Outgoing) -> bool {
    let policy = ClassPolicy { high_water_bytes: high_water, ..ClassPolicy::default() };
    let (bell, mut round) = (Bell::new(), 0);
    let waker = Waker::from(bell.clone());
    loop {
        let waiter = Waiter { waker: &waker, round: &mut round };
        let mut runs = Runs::of_frames(frame);
        let offer = mailbox.offer(frame, &mut runs, Admission::of(&policy), waiter, out);
        match offer {
            Offer::Taken => break,
            Offer::Refused(_) => return false,
            Offer::Wait => {
                out.flush();
                bell.0.wait();
            }
        }
    }
    // When the tasks that were ready have run.
    out.flush();
    true
}

/// The session's task: it writes on where the socket was full, until all senders are done.
struct Owner {
    bell: Arc<Bell>,
    senders: Vec<thread::JoinHandle<()>>,
    done: Arc<AtomicUsize>,
}

impl Owner {
    fn of(mailbox: &Arc<Mailbox>) -> Self {
        let (bell, done) = (Bell::new(), Arc::new(AtomicUsize::new(0)));
        mailbox.set_owner(&Waker::from(bell.clone()));
        Self { bell, senders: Vec::new(), done }
    }

    /// Has a thread send these frames, one by one.
    fn sender(
        &mut self,
        mailbox: &Arc<Mailbox>,
        counters: &Arc<Counters>,
        high_water: usize,
        frames: impl IntoIterator<Item = Vec<u8>>,
    ) {
        let (mailbox, mut out) = (mailbox.clone(), Outgoing::new(counters.clone()));
        let (bell, done) = (self.bell.clone(), self.done.clone());
        let frames: Vec<_> = frames.into_iter().collect();
        self.senders.push(thread::spawn(move || {
            for frame in frames {
                assert!(send(&mailbox, &frame, high_water, &mut out));
            }
            done.fetch_add(1, SeqCst);
            // Whoever waits for the last of them looks again.
            bell.wake();
        }));
    }

    /// Then all bytes have to be out: nobody will come back for what is left.
    fn run(self, mailbox: &Arc<Mailbox>, wire: &Wire, out: &mut Outgoing) {
        loop {
            while mailbox.wants_write() {
                wire.make_room();
                mailbox.flush_unblocked(out);
            }
            if self.done.load(SeqCst) == self.senders.len() && !mailbox.wants_write() {
                break;
            }
            self.bell.0.wait();
        }
        self.senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(mailbox.pending(), 0, "bytes are left");
    }
}

/// Tries all orders in which threads are taken off at most `switches` times where they could have gone on. All
/// there are would take hours.
fn model(switches: usize, body: impl Fn(&Arc<Counters>) + Sync + Send + 'static) {
    let counters = Arc::<Counters>::default();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(move || body(&counters));
}

/// Of two senders, each with its numbers in order.
fn assert_in_order(numbers: &[u64], of_each: u64) {
    for first in [10, 20] {
        let own: Vec<_> = numbers.iter().filter(|n| (first..first + 10).contains(*n)).collect();
        let sent: Vec<_> = (first..first + of_each).collect();
        assert!(own.into_iter().eq(&sent), "{numbers:?}");
    }
    assert_eq!(numbers.len() as u64, 2 * of_each);
}

#[test]
fn what_is_appended_while_another_writes_is_written() {
    model(3, |counters| {
        let wire = Wire::new(usize::MAX);
        let mailbox = mailbox(&wire);
        let mut owner = Owner::of(&mailbox);
        owner.sender(&mailbox, counters, 1 << 20, [frame(10, 24), frame(11, 24)]);
        owner.sender(&mailbox, counters, 1 << 20, [frame(20, 24), frame(21, 24)]);
        owner.run(&mailbox, &wire, &mut Outgoing::new(counters.clone()));
        assert_in_order(&wire.numbers(), 2);
    });
}

#[test]
fn who_owns_a_full_socket_is_woken_and_writes_the_rest() {
    model(3, |counters| {
        let wire = Wire::new(30);
        let mailbox = mailbox(&wire);
        let mut owner = Owner::of(&mailbox);
        owner.sender(&mailbox, counters, 1 << 20, [frame(10, 24), frame(11, 24)]);
        owner.sender(&mailbox, counters, 1 << 20, [frame(20, 24), frame(21, 24)]);
        owner.run(&mailbox, &wire, &mut Outgoing::new(counters.clone()));
        assert_in_order(&wire.numbers(), 2);
    });
}

#[test]
fn what_is_written_straight_from_a_read_is_not_overtaken() {
    let long = 33 << 10;
    model(3, move |counters| {
        let wire = Wire::new(20 << 10);
        let mailbox = mailbox(&wire);
        let mut owner = Owner::of(&mailbox);
        owner.sender(&mailbox, counters, 1 << 20, [frame(10, long), frame(11, 24)]);
        owner.sender(&mailbox, counters, 1 << 20, [frame(20, 24), frame(21, 24)]);
        owner.run(&mailbox, &wire, &mut Outgoing::new(counters.clone()));
        assert_in_order(&wire.numbers(), 2);
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken() {
    model(2, |counters| {
        let wire = Wire::new(0);
        let mailbox = mailbox(&wire);
        let mut owner = Owner::of(&mailbox);
        // With one in it, the mailbox is full.
        owner.sender(&mailbox, counters, 24, [frame(10, 24), frame(11, 24)]);
        owner.sender(&mailbox, counters, 24, [frame(20, 24)]);
        owner.run(&mailbox, &wire, &mut Outgoing::new(counters.clone()));
        let first: Vec<_> = wire.numbers().into_iter().filter(|number| *number < 20).collect();
        assert_eq!(first, [10, 11]);
    });
}

/// Ends the session as its task does: takes back what the socket has not taken. Answers the numbers of these frames.
fn end(mailbox: &Arc<Mailbox>, bell: &Bell, out: &Outgoing) -> Vec<u64> {
    mailbox.retire();
    let reclaimed = loop {
        match mailbox.reclaim(true, out) {
            Some(reclaimed) => break reclaimed,
            None => bell.0.wait(),
        }
    };
    mailbox.close();
    let left = loop {
        match mailbox.abandon(out) {
            Some(left) => break left,
            None => bell.0.wait(),
        }
    };
    [numbers(&reclaimed.frames), numbers(&left)].concat()
}

#[test]
fn at_the_end_each_frame_is_out_or_reclaimed_or_refused() {
    model(3, |counters| {
        let wire = Wire::new(30);
        let mailbox = mailbox(&wire);
        let (theirs, mut out) = (mailbox.clone(), Outgoing::new(counters.clone()));
        let one = thread::spawn(move || {
            [10, 11].map(|number| send(&theirs, &frame(number, 24), 1 << 20, &mut out))
        });
        let bell = Bell::new();
        mailbox.set_owner(&Waker::from(bell.clone()));
        let taken_back = end(&mailbox, &bell, &Outgoing::new(counters.clone()));
        let taken = one.join().unwrap();
        let mut accounted = numbers(&wire.0.lock().unwrap().bytes);
        accounted.extend(taken_back);
        let taken = [10, 11].into_iter().zip(taken).filter(|(_, taken)| *taken);
        assert_eq!(accounted, taken.map(|(number, _)| number).collect::<Vec<_>>());
    });
}

#[test]
fn what_another_thread_is_writing_is_reclaimed_before_what_came_later() {
    // With so much in it, whoever appends writes at once, what others have appended too.
    let long = super::EARLY_FLUSH;
    model(3, move |counters| {
        let wire = Wire::new(0);
        let mailbox = mailbox(&wire);
        let (theirs, mut their_out) = (mailbox.clone(), Outgoing::new(counters.clone()));
        let other = thread::spawn(move || send(&theirs, &frame(20, long), 1 << 20, &mut their_out));
        let mut out = Outgoing::new(counters.clone());
        for number in [10, 11] {
            assert!(send(&mailbox, &frame(number, 24), 1 << 20, &mut out));
        }
        let bell = Bell::new();
        mailbox.set_owner(&Waker::from(bell.clone()));
        let mut taken_back = end(&mailbox, &bell, &out);
        assert_eq!(taken_back.len(), 2 + usize::from(other.join().unwrap()));
        taken_back.retain(|number| *number < 20);
        assert_eq!(taken_back, [10, 11]);
    });
}
