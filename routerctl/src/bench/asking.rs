//! The thread that asks: every sender keeps a number of calls open, and notes how long each answer took.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use crate::bench::blocks::Block;
use crate::bench::calls;
use crate::bench::check::Check;
use crate::bench::connection::{Connection, Scratch};
use crate::bench::flow::Flow;
use crate::bench::poller::Poller;
use crate::bench::progress::Progress;
use crate::bench::sending::PING;
use crate::failure::Failure;

/// A sender that asks.
pub struct Asker {
    pub connection: Connection,
    pub questions: Questions,
}

/// What it asks.
pub struct Questions {
    block: Block,
    goal: u64,
    asked: u64,
    /// When what is open was asked.
    open: VecDeque<Instant>,
}

/// All senders that ask.
pub struct Asking<'a> {
    pub askers: Vec<Asker>,
    /// Answers hold what was asked, so an asker is the receiver of its own messages.
    pub check: Check,
    pub outstanding: u64,
    /// Ends the round, from either thread.
    pub flow: &'a Flow,
    pub progress: &'a Progress,
    pub patience: Duration,
}

impl Questions {
    /// `goal` calls, of which `block` holds some.
    pub fn new(block: Block, goal: u64) -> Self {
        Self { block, goal, asked: 0, open: VecDeque::new() }
    }

    fn ask(&mut self, count: u64, now: Instant, out: &mut Vec<u8>) {
        let mut left = count.min(self.goal - self.asked);
        while left > 0 {
            let piece = left.min(self.block.left(self.asked));
            let range = self.block.number(self.asked, piece);
            out.extend_from_slice(self.block.bytes(range));
            self.open.extend((0..piece).map(|_| now));
            self.asked += piece;
            left -= piece;
        }
    }
}

impl Asking<'_> {
    /// Asks until the goal is reached and all is answered; answers how long that
    /// took, in nanoseconds, and in how many calls.
    pub fn run(&mut self) -> Result<Histogram<u64>> {
        let mut took = calls::times()?;
        let mut poller = Poller::new()?;
        for (number, asker) in self.askers.iter().enumerate() {
            poller.add(&asker.connection, number)?;
        }
        let mut out = Vec::new();
        for asker in &mut self.askers {
            out.clear();
            asker.questions.ask(self.outstanding, Instant::now(), &mut out);
            asker.connection.say(&out);
            asker.connection.flush()?;
        }
        let mut scratch = Scratch::new();
        let (mut heard, mut pinged) = (Instant::now(), Instant::now());
        while self.askers.iter().any(|asker| !asker.questions.open.is_empty()) {
            if self.flow.is_over() {
                break;
            }
            let before = took.len();
            for ready in poller.wait(LOOK_AGAIN)? {
                let asker = &mut self.askers[ready.token];
                if ready.writable {
                    asker.connection.flush()?;
                }
                if ready.readable {
                    let (check, questions) = (&mut self.check, &mut asker.questions);
                    asker.connection.read(&mut scratch, |message, out| {
                        check.arrival(ready.token, message.payload)?;
                        let now = Instant::now();
                        // It was asked, or the check had not expected it.
                        if let Some(asked) = questions.open.pop_front() {
                            took.saturating_record((now - asked).as_nanos() as u64);
                        }
                        questions.ask(1, now, out);
                        Ok(())
                    })?;
                }
            }
            self.progress.add(took.len() - before);
            if took.len() > before {
                heard = Instant::now();
            } else if heard.elapsed() > self.patience {
                return Err(self.silence(took.len()).into());
            }
            if pinged.elapsed() > PING {
                pinged = Instant::now();
                self.askers.iter_mut().try_for_each(|asker| asker.connection.ping())?;
            }
        }
        Ok(took)
    }

    /// Makes sure that no more answers come: asks the server something behind the last call of each, and expects
    /// nothing but the answer to that.
    pub fn expect_nothing(&mut self) -> Result<()> {
        let patience = self.patience;
        self.askers.iter_mut().try_for_each(|asker| asker.connection.expect_nothing(patience))
    }

    fn silence(&self, answered: u64) -> Failure {
        let asked: Vec<u64> = self.askers.iter().map(|asker| asker.questions.asked).collect();
        let missing = self.check.missing(&asked).unwrap_or_default();
        let patience = self.patience;
        Failure::Check(format!("{answered} answers came, then nothing for {patience:?}: {missing}"))
    }

    /// How many calls there were.
    pub fn asked(&self) -> u64 {
        self.askers.iter().map(|asker| asker.questions.asked).sum()
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(100);
