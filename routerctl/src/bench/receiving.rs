//! The thread that receives: all receivers of a round, one buffer, every message checked.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::check::Check;
use crate::bench::connection::{Connection, Scratch};
use crate::bench::flow::Flow;
use crate::bench::poller::Poller;
use crate::bench::progress::Progress;
use crate::bench::sending::PING;
use crate::failure::Failure;

/// All receivers of a round.
pub struct Receiving<'a> {
    pub receivers: Vec<Connection>,
    pub check: Check,
    pub flow: &'a Flow,
    pub progress: &'a Progress,
    /// How long nothing may come before what is missing counts as lost.
    pub patience: Duration,
    poller: Poller,
    scratch: Scratch,
    total: u64,
}

impl<'a> Receiving<'a> {
    pub fn new(
        receivers: Vec<Connection>,
        check: Check,
        flow: &'a Flow,
        progress: &'a Progress,
        patience: Duration,
    ) -> Result<Self> {
        let poller = Poller::new()?;
        for (number, receiver) in receivers.iter().enumerate() {
            poller.add(receiver, number)?;
        }
        let scratch = Scratch::new();
        Ok(Self { receivers, check, flow, progress, patience, poller, scratch, total: 0 })
    }

    /// Receives until everything has come that was sent; answers how many messages that were. `copies` is
    /// how often each arrives.
    pub fn run(&mut self, copies: u64) -> Result<u64> {
        let mut expected = None;
        let mut heard = Instant::now();
        let mut pinged = heard;
        loop {
            if expected.is_none() {
                expected = self.flow.sent().map(|sent| sent.iter().sum::<u64>() * copies);
            }
            if expected.is_some_and(|expected| self.total >= expected) {
                return Ok(self.total);
            }
            if self.flow.is_over() {
                // The sending thread says why.
                return Ok(self.total);
            }
            if self.take()? > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > self.patience {
                return Err(self.silence().into());
            }
            if pinged.elapsed() > PING {
                pinged = Instant::now();
                self.receivers.iter_mut().try_for_each(Connection::ping)?;
            }
        }
    }

    /// Makes sure that no more comes: asks the server something on every connection, and expects nothing but
    /// the answers.
    pub fn expect_nothing(&mut self) -> Result<()> {
        let before = self.total;
        let wanted: Vec<usize> =
            self.receivers.iter().map(|receiver| receiver.answers() + 1).collect();
        self.receivers.iter_mut().try_for_each(Connection::ping)?;
        let deadline = Instant::now() + self.patience;
        while self.receivers.iter().zip(&wanted).any(|(one, wanted)| one.answers() < *wanted) {
            self.take()?;
            if self.total > before {
                let what = format!("{} messages came instead of {before}", self.total);
                return Err(Failure::Check(what).into());
            }
            if Instant::now() > deadline {
                let what = format!("the server answered no ping within {:?}", self.patience);
                return Err(Failure::Check(what).into());
            }
        }
        Ok(())
    }

    /// Waits a little and reads what there is; answers how many messages that were.
    fn take(&mut self) -> Result<u64> {
        let before = self.total;
        let mut since = vec![0; self.check.senders()];
        for ready in self.poller.wait(LOOK_AGAIN)? {
            let receiver = &mut self.receivers[ready.token];
            if ready.writable {
                receiver.flush()?;
            }
            if ready.readable {
                let (check, total) = (&mut self.check, &mut self.total);
                receiver.read(&mut self.scratch, |message, _| {
                    since[check.arrival(ready.token, message.payload)?] += 1;
                    *total += 1;
                    Ok(())
                })?;
                self.flow.arrived(&mut since);
            }
        }
        let came = self.total - before;
        self.progress.add(came);
        Ok(came)
    }

    fn silence(&self) -> Failure {
        let sent = self.flow.sent();
        let missing = sent.and_then(|sent| self.check.missing(&sent));
        let missing = missing.unwrap_or_else(|| "the senders wait for room to send".to_owned());
        let (patience, total) = (self.patience, self.total);
        Failure::Check(format!("{total} messages came, then nothing for {patience:?}: {missing}"))
    }
}

/// How long nobody looks whether something is missing.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
