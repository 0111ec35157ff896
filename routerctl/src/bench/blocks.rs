//! Messages that are encoded once and sent again and again: only their numbers change.

use std::ops::Range;

use anyhow::Result;

use crate::bench::dialect::{Dialect, To, Who};
use crate::bench::plan::{Plan, stamp};

/// A sender's messages of one turn, encoded one behind the other.
#[derive(Debug)]
pub struct Block {
    sender: usize,
    bytes: Vec<u8>,
    /// Where sender and number stand in each.
    payloads: Vec<usize>,
    call_ids: Vec<usize>,
    ends: Vec<usize>,
}

impl Block {
    /// A block of about `size` bytes, of one that is so many among the senders of the plan. `to` tells whom message i is for, and tells the same of message
    /// i + `period`.
    pub fn new(
        dialect: &dyn Dialect,
        (who, sender): (Who, usize),
        plan: &Plan,
        size: usize,
        period: usize,
        to: impl Fn(u64) -> To,
    ) -> Result<Self> {
        let mut block = Self {
            sender,
            bytes: Vec::new(),
            payloads: Vec::new(),
            call_ids: Vec::new(),
            ends: Vec::new(),
        };
        // As often as it takes for both the contents and the targets to begin anew.
        let whole = period * plan.kinds() / common_divisor(period, plan.kinds());
        while block.bytes.len() < size {
            for _ in 0..whole {
                let number = block.ends.len() as u64;
                let (to, length) = (to(number), plan.length(number));
                let place = dialect.encode(who, to, length, &mut block.bytes)?;
                let payload = &mut block.bytes[place.payload..place.payload + length];
                plan.fill(sender, number, payload);
                block.payloads.push(place.payload);
                block.call_ids.extend(place.call_id);
                block.ends.push(place.end);
            }
        }
        Ok(block)
    }

    /// How many messages it holds.
    pub fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// How many bytes a message has on the wire, on average.
    pub fn message_bytes(&self) -> u64 {
        (self.bytes.len() / self.ends.len()) as u64
    }

    /// How many messages are left from message `first` to the end of the block.
    pub fn left(&self, first: u64) -> u64 {
        self.len() - first % self.len()
    }

    /// Writes the numbers from `first` on into `count` messages, which are [`left`](Self::left), and
    /// answers where their bytes are.
    pub fn number(&mut self, first: u64, count: u64) -> Range<usize> {
        let slot = (first % self.len()) as usize;
        let slots = slot..slot + count as usize;
        // Either all of them are calls or none is.
        let call_ids = self.call_ids.get(slots.clone()).unwrap_or_default();
        for places in [&self.payloads[slots.clone()], call_ids] {
            for (number, at) in (first..).zip(places) {
                let stamp = stamp(self.sender, number);
                self.bytes[*at..*at + stamp.len()].copy_from_slice(&stamp);
            }
        }
        let start = slot.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[slots.end - 1]
    }

    /// The bytes there.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bench::check::Check;
    use crate::bench::dialect::{Found, Switchboard};

    /// Whatever pieces a block is sent in, its messages are those that the receivers expect.
    fn pieces(dialect: &dyn Dialect) {
        let plan = Arc::new(Plan::of(2, 30));
        let mut block =
            Block::new(dialect, (Who::Sender(1), 1), &plan, 5_000, 3, |i| To::One(i as usize % 3))
                .expect("everybody can be addressed");
        assert_eq!(block.len() % 3, 0);
        let mut check = Check::turns(plan, 3);
        let (mut sent, mut arrived) = (0, 0);
        for piece in [1, 2, 100, block.len(), 7].into_iter().cycle().take(50) {
            let count = piece.min(block.left(sent));
            let range = block.number(sent, count);
            sent += count;
            let mut found = Found::default();
            let bytes = block.bytes(range);
            let mut at = 0;
            while at < bytes.len() {
                found.messages.clear();
                let used = dialect.scan(&bytes[at..], &mut found).expect("they can be read");
                for span in &found.messages {
                    let payload = &bytes[at + span.payload..at + span.end];
                    check.arrival(arrived % 3, payload).expect("the next one");
                    arrived += 1;
                }
                at += used;
            }
        }
        assert_eq!(arrived as u64, sent);
    }

    #[test]
    fn blocks_are_sent_in_any_pieces() {
        pieces(&Switchboard::new());
    }
}
