//! The thread that answers: every receiver sends back what it is asked, once it is checked.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::check::Check;
use crate::bench::connection::{Connection, Scratch};
use crate::bench::dialect::{Dialect, Who};
use crate::bench::flow::Flow;
use crate::bench::poller::Poller;
use crate::bench::sending::PING;

/// A receiver that answers.
pub struct Answerer {
    pub connection: Connection,
    pub who: Who,
}

/// Answers until the round is over; answers how many calls that were.
pub fn run(
    answerers: &mut [Answerer],
    check: &mut Check,
    dialect: &dyn Dialect,
    flow: &Flow,
) -> Result<u64> {
    let mut poller = Poller::new()?;
    for (number, answerer) in answerers.iter().enumerate() {
        poller.add(&answerer.connection, number)?;
    }
    poller.add(flow, answerers.len())?;
    let mut scratch = Scratch::new();
    let (mut answered, mut pinged) = (0, Instant::now());
    while !flow.is_over() {
        for ready in poller.wait(LOOK_AGAIN)? {
            let Some(Answerer { connection, who }) = answerers.get_mut(ready.token) else {
                flow.woken();
                continue;
            };
            if ready.writable {
                connection.flush()?;
            }
            if ready.readable {
                connection.read(&mut scratch, |message, out| {
                    check.arrival(ready.token, message.payload)?;
                    answered += 1;
                    dialect.answer(*who, message, out)
                })?;
            }
        }
        if pinged.elapsed() > PING {
            pinged = Instant::now();
            answerers.iter_mut().try_for_each(|answerer| answerer.connection.ping())?;
        }
    }
    Ok(answered)
}

const LOOK_AGAIN: Duration = Duration::from_millis(100);
