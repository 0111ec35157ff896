//! Whether what arrives is what was sent: content, order per sender, and the exact count.
//!
//! Each receiver knows for each sender which number comes next. What comes instead is the end of the run.

use std::sync::Arc;

use crate::bench::plan::Plan;
use crate::failure::Failure;

/// What the receivers of a round have seen.
#[derive(Debug)]
pub struct Check {
    plan: Arc<Plan>,
    receivers: usize,
    /// By receiver and sender; [`NONE`] where nothing may come.
    next: Vec<u64>,
    step: u64,
}

impl Check {
    /// A sender's message i is for the receiver i modulo their number.
    pub fn turns(plan: Arc<Plan>, receivers: usize) -> Self {
        Self::new(plan, receivers, receivers as u64, |receiver, _| Some(receiver as u64))
    }

    /// A sender's messages are all for one receiver, the sender's number modulo theirs.
    pub fn pairs(plan: Arc<Plan>, receivers: usize) -> Self {
        Self::new(plan, receivers, 1, |receiver, sender| {
            (sender % receivers == receiver).then_some(0)
        })
    }

    /// `first` tells with which number a receiver's messages of a sender begin, if it gets any.
    fn new(
        plan: Arc<Plan>,
        receivers: usize,
        step: u64,
        first: impl Fn(usize, usize) -> Option<u64>,
    ) -> Self {
        let senders = plan.senders();
        let pairs = (0..receivers).flat_map(|r| (0..senders).map(move |s| (r, s)));
        let next = pairs.map(|(r, s)| first(r, s).unwrap_or(NONE)).collect();
        Self { plan, receivers, next, step }
    }

    /// How many senders there are.
    pub fn senders(&self) -> usize {
        self.plan.senders()
    }

    /// A message has come; answers whose it was.
    #[inline]
    pub fn arrival(&mut self, receiver: usize, payload: &[u8]) -> Result<usize, Failure> {
        let (sender, number) = match self.plan.read(payload) {
            Ok(message) => message,
            Err(damage) => return Err(Failure::Check(format!("receiver {receiver}: {damage}"))),
        };
        let next = &mut self.next[receiver * self.plan.senders() + sender];
        if number != *next {
            return Err(wrong_number(receiver, sender, *next, number));
        }
        *next += self.step;
        Ok(sender)
    }

    /// What is missing if every sender has sent so many messages; nothing if all have come.
    pub fn missing(&self, sent: &[u64]) -> Option<String> {
        let senders = self.plan.senders();
        let wanted = (0..self.receivers).flat_map(|r| (0..senders).map(move |s| (r, s)));
        wanted
            .filter(|(r, s)| self.next[r * senders + s] < sent[*s])
            .map(|(r, s)| {
                let next = self.next[r * senders + s];
                format!("receiver {r} still expects message {next} of sender {s}")
            })
            .next()
    }
}

#[cold]
fn wrong_number(receiver: usize, sender: usize, expected: u64, got: u64) -> Failure {
    let expected = match expected {
        NONE => "no message".to_owned(),
        expected => format!("message {expected}"),
    };
    Failure::Check(format!(
        "receiver {receiver}: expected {expected} of sender {sender}, got its message {got}"
    ))
}

const NONE: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(plan: &Plan, sender: usize, number: u64) -> Vec<u8> {
        let mut payload = vec![0; plan.length(number)];
        plan.fill(sender, number, &mut payload);
        payload
    }

    #[test]
    fn each_receiver_expects_its_turns_of_each_sender() {
        let plan = Arc::new(Plan::of(2, 16));
        let mut check = Check::turns(plan.clone(), 2);
        for (receiver, sender, number) in [(0, 0, 0), (1, 0, 1), (1, 1, 1), (0, 0, 2), (1, 0, 3)] {
            let arrived = check.arrival(receiver, &payload(&plan, sender, number));
            assert!(matches!(arrived, Ok(s) if s == sender), "{arrived:?}");
        }
        assert_eq!(
            check.missing(&[4, 4]).as_deref(),
            Some("receiver 0 still expects message 0 of sender 1")
        );
        assert_eq!(check.missing(&[4, 0]), None);
    }

    #[test]
    fn a_wrong_number_names_sender_expected_and_got() {
        let plan = Arc::new(Plan::of(2, 16));
        for (number, said) in [
            (0, "receiver 1: expected message 1 of sender 1, got its message 0"),
            (3, "receiver 1: expected message 1 of sender 1, got its message 3"),
        ] {
            let mut check = Check::turns(plan.clone(), 2);
            let error = check.arrival(1, &payload(&plan, 1, number)).expect_err("is not next");
            assert_eq!(error.to_string(), said);
        }
    }
}
