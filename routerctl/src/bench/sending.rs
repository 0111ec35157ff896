//! The thread that sends: all senders of a flood, each its blocks, none further ahead of the receivers than
//! its window.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::blocks::Block;
use crate::bench::connection::{Connection, Scratch};
use crate::bench::flow::Flow;
use crate::bench::poller::Poller;
use crate::failure::Failure;

/// One sender of a flood.
pub struct Sender {
    pub connection: Connection,
    pub block: Block,
    /// How many messages it sends.
    pub goal: u64,
    /// How many of them may be on their way.
    pub window: u64,
    /// How often each message arrives.
    pub copies: u64,
    /// How many it sends at a time, at most.
    pub at_a_time: u64,
    /// The last of every so many messages goes to a receiver that may stop, and counts aside.
    pub aside: Option<u64>,
    sent: u64,
    /// What is numbered and not written.
    pending: Range<usize>,
    blocked: bool,
    done: bool,
}

/// What came of a sender's turn.
#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Wrote,
    /// The socket takes no more.
    Full,
    /// Too much is on its way.
    Window,
    Done,
}

impl Sender {
    pub fn new(connection: Connection, block: Block, goal: u64, window: u64, copies: u64) -> Self {
        let (sent, pending, blocked, done) = (0, 0..0, false, false);
        let (at_a_time, aside) = (u64::MAX, None);
        Self {
            connection,
            block,
            goal,
            window,
            copies,
            at_a_time,
            aside,
            sent,
            pending,
            blocked,
            done,
        }
    }

    /// How many of the messages that were sent count aside.
    fn sent_aside(&self) -> u64 {
        self.aside.map_or(0, |every| self.sent / every)
    }

    fn turn(&mut self, number: usize, flow: &Flow) -> Result<Turn> {
        if self.blocked {
            return Ok(Turn::Full);
        }
        if self.pending.is_empty() {
            // Only between two messages may the connection say something else.
            self.connection.flush()?;
            if self.sent == self.goal || flow.is_stopped() {
                if !self.done {
                    self.done = true;
                    flow.done(number, self.sent - self.sent_aside());
                }
                return Ok(Turn::Done);
            }
            let left = self.block.left(self.sent).min(self.goal - self.sent);
            let count = left.min(self.at_a_time);
            let aside = self.sent_aside();
            let on_their_way = self.sent - aside - flow.arrived_of(number) / self.copies
                + flow.aside_on_their_way(number, aside);
            if on_their_way + count.min(self.window) > self.window {
                return Ok(Turn::Window);
            }
            let count = count.min(self.window);
            self.pending = self.block.number(self.sent, count);
            self.sent += count;
        }
        let written = self.connection.write(self.block.bytes(self.pending.clone()))?;
        self.pending.start += written;
        self.blocked = !self.pending.is_empty();
        Ok(Turn::Wrote)
    }
}

/// Sends everything, then stays until the round is over.
pub fn run(senders: &mut [Sender], flow: &Flow) -> Result<()> {
    let mut poller = Poller::new()?;
    for (number, sender) in senders.iter().enumerate() {
        poller.add(&sender.connection, number)?;
    }
    poller.add(flow, senders.len())?;
    let mut scratch = Scratch::new();
    let mut asked = false;
    let mut pinged = Instant::now();
    while !flow.is_over() {
        let mut turns = (false, false);
        for (number, sender) in senders.iter_mut().enumerate() {
            let turn = sender.turn(number, flow)?;
            turns = (turns.0 || turn == Turn::Wrote, turns.1 || turn == Turn::Window);
        }
        let (wrote, window) = turns;
        if window && !wrote && !asked {
            // ORDER: ask first, then look once more, or the last arrival might go unseen.
            flow.wait_for_arrivals();
            asked = true;
            continue;
        }
        asked = false;
        for ready in poller.wait(if wrote { Duration::ZERO } else { LOOK_AGAIN })? {
            let Some(sender) = senders.get_mut(ready.token) else {
                flow.woken();
                continue;
            };
            sender.blocked &= !ready.writable;
            if ready.readable {
                let number = ready.token;
                // A message may be half written: what is to be said waits for the sender's next turn.
                sender.connection.listen(&mut scratch, |_, _| Err(not_for_senders(number)))?;
            }
        }
        if pinged.elapsed() > PING {
            pinged = Instant::now();
            for sender in senders.iter_mut().filter(|sender| sender.done) {
                sender.connection.ping()?;
            }
        }
    }
    Ok(())
}

#[cold]
fn not_for_senders(number: usize) -> Failure {
    Failure::Check(format!("sender {number} got a message, and none is for it"))
}

/// How long nobody looks whether the round is over.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often a connection that may have nothing else to say does so. A third of what nodes promise.
pub const PING: Duration = Duration::from_secs(20);
