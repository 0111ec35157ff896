//! Whether what arrives is what was sent: content, order per sender, and the exact count.
//!
//! For each sender it is known which number comes next at which receiver. What comes instead is the end of
//! the run.

use std::sync::Arc;

use crate::bench::plan::Plan;
use crate::failure::Failure;

/// What the receivers of a round have seen.
#[derive(Debug)]
pub struct Check {
    plan: Arc<Plan>,
    order: Order,
}

/// Which number comes next.
#[derive(Debug)]
enum Order {
    Stepping(Stepping),
    Keyed(Keyed),
    Anywhere(Anywhere),
}

/// Where it is settled beforehand who gets what.
#[derive(Debug)]
struct Stepping {
    /// By receiver and sender; [`NONE`] where nothing may come.
    next: Vec<u64>,
    /// By sender.
    steps: Vec<u64>,
}

/// Where the server chooses a receiver for each key, and must stay with it.
#[derive(Debug)]
struct Keyed {
    keys: usize,
    /// By sender and key.
    next: Vec<u64>,
    /// By key: who got its messages so far.
    owners: Vec<Option<usize>>,
    /// Keys share a receiver.
    reached: Reached,
}

/// Where the server may choose a receiver for each message anew.
#[derive(Debug)]
struct Anywhere {
    /// By sender: a bit for each number that has come.
    come: Vec<Vec<u64>>,
    reached: Reached,
}

/// How far each sender's messages have got at each receiver, where any of them may come.
#[derive(Debug)]
struct Reached {
    senders: usize,
    /// By receiver and sender: the lowest number that may come next.
    next: Vec<u64>,
}

impl Check {
    /// A sender's message i is for the receiver i modulo their number.
    pub fn turns(plan: Arc<Plan>, receivers: usize) -> Self {
        let steps = vec![receivers as u64; plan.senders()];
        Self::uneven_turns(plan, receivers, steps)
    }

    /// The same, but each sender's messages take turns at as many of the first receivers as `steps` tells.
    pub fn uneven_turns(plan: Arc<Plan>, receivers: usize, steps: Vec<u64>) -> Self {
        let first = |receiver, sender: usize| {
            let turn = receiver as u64;
            (turn < steps[sender]).then_some(turn)
        };
        Self::stepping(plan, receivers, steps.clone(), first)
    }

    /// A sender's messages are all for one receiver, the sender's number modulo theirs.
    pub fn pairs(plan: Arc<Plan>, receivers: usize) -> Self {
        let steps = vec![1; plan.senders()];
        Self::stepping(plan, receivers, steps, |receiver, sender| {
            (sender % receivers == receiver).then_some(0)
        })
    }

    /// Every receiver gets every message.
    pub fn copies(plan: Arc<Plan>, receivers: usize) -> Self {
        let steps = vec![1; plan.senders()];
        Self::stepping(plan, receivers, steps, |_, _| Some(0))
    }

    /// `first` tells with which number a receiver's messages of a sender begin, if it gets any.
    fn stepping(
        plan: Arc<Plan>,
        receivers: usize,
        steps: Vec<u64>,
        first: impl Fn(usize, usize) -> Option<u64>,
    ) -> Self {
        let senders = plan.senders();
        let pairs = (0..receivers).flat_map(|r| (0..senders).map(move |s| (r, s)));
        let next = pairs.map(|(r, s)| first(r, s).unwrap_or(NONE)).collect();
        Self { plan, order: Order::Stepping(Stepping { next, steps }) }
    }

    /// A sender's message i has the key i modulo their number.
    pub fn keys(plan: Arc<Plan>, receivers: usize, keys: usize) -> Self {
        let senders = plan.senders();
        let next = (0..senders).flat_map(|_| 0..keys as u64).collect();
        let (owners, reached) = (vec![None; keys], Reached::new(receivers, senders));
        Self { plan, order: Order::Keyed(Keyed { keys, next, owners, reached }) }
    }

    /// Every message comes once, to any receiver, and in order there.
    pub fn anywhere(plan: Arc<Plan>, receivers: usize) -> Self {
        let senders = plan.senders();
        let (come, reached) = (vec![Vec::new(); senders], Reached::new(receivers, senders));
        Self { plan, order: Order::Anywhere(Anywhere { come, reached }) }
    }

    /// How many senders there are.
    pub fn senders(&self) -> usize {
        self.plan.senders()
    }

    /// A message has come; answers whose it was.
    #[inline]
    pub fn arrival(&mut self, receiver: usize, payload: &[u8]) -> Result<usize, Failure> {
        let wrong = |what| Failure::Check(format!("receiver {receiver}: {what}"));
        let (sender, number) = match self.plan.read(payload) {
            Ok(message) => message,
            Err(damage) => return Err(wrong(damage.to_string())),
        };
        let right = match &mut self.order {
            Order::Stepping(order) => order.arrival(receiver, sender, number),
            Order::Keyed(order) => order.arrival(receiver, sender, number),
            Order::Anywhere(order) => order.arrival(receiver, sender, number),
        };
        match right {
            Ok(()) => Ok(sender),
            Err(expected) => Err(wrong(format!(
                "expected {expected} of sender {sender}, got its message {number}"
            ))),
        }
    }

    /// What is missing if every sender has sent so many messages; nothing if all have come.
    pub fn missing(&self, sent: &[u64]) -> Option<String> {
        let senders = self.plan.senders();
        match &self.order {
            Order::Stepping(order) => {
                let mut next = order.next.iter().enumerate();
                let (place, next) = next.find(|(place, next)| **next < sent[place % senders])?;
                let (receiver, sender) = (place / senders, place % senders);
                Some(format!("receiver {receiver} still expects message {next} of sender {sender}"))
            }
            Order::Keyed(order) => {
                let mut next = order.next.iter().enumerate();
                let (place, next) = next.find(|(place, next)| **next < sent[place / order.keys])?;
                let sender = place / order.keys;
                Some(format!("message {next} of sender {sender} came nowhere"))
            }
            Order::Anywhere(order) => {
                let mut senders = sent.iter().enumerate();
                senders.find_map(|(sender, sent)| {
                    let number = (0..*sent).find(|number| !order.has_come(sender, *number))?;
                    Some(format!("message {number} of sender {sender} came nowhere"))
                })
            }
        }
    }
}

impl Stepping {
    #[inline]
    fn arrival(&mut self, receiver: usize, sender: usize, number: u64) -> Result<(), String> {
        let next = &mut self.next[receiver * self.steps.len() + sender];
        if number == *next {
            *next += self.steps[sender];
            return Ok(());
        }
        Err(match *next {
            NONE => "no message".to_owned(),
            next => format!("message {next}"),
        })
    }
}

impl Keyed {
    #[inline]
    fn arrival(&mut self, receiver: usize, sender: usize, number: u64) -> Result<(), String> {
        let key = (number % self.keys as u64) as usize;
        let next = &mut self.next[sender * self.keys + key];
        if number != *next {
            return Err(format!("message {next}"));
        }
        *next += self.keys as u64;
        let owner = *self.owners[key].get_or_insert(receiver);
        if owner != receiver {
            return Err(format!("messages of key {key} at receiver {owner}, not here,"));
        }
        self.reached.arrival(receiver, sender, number)
    }
}

impl Reached {
    fn new(receivers: usize, senders: usize) -> Self {
        Self { senders, next: vec![0; receivers * senders] }
    }

    #[inline]
    fn arrival(&mut self, receiver: usize, sender: usize, number: u64) -> Result<(), String> {
        let next = &mut self.next[receiver * self.senders + sender];
        if number < *next {
            return Err(format!("messages from {next} on"));
        }
        *next = number + 1;
        Ok(())
    }
}

impl Anywhere {
    #[inline]
    fn arrival(&mut self, receiver: usize, sender: usize, number: u64) -> Result<(), String> {
        let come = &mut self.come[sender];
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= come.len() {
            come.resize((word + 1).next_power_of_two(), 0);
        }
        if come[word] & bit != 0 {
            return Err("each message once".to_owned());
        }
        come[word] |= bit;
        self.reached.arrival(receiver, sender, number)
    }

    fn has_come(&self, sender: usize, number: u64) -> bool {
        let word = self.come[sender].get((number / 64) as usize);
        word.is_some_and(|word| word & 1 << (number % 64) != 0)
    }
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

    /// What these arrivals, each a receiver, a sender and a number, come to.
    fn arrivals(check: &mut Check, arrivals: &[(usize, usize, u64)]) -> Result<(), String> {
        arrivals.iter().try_for_each(|(receiver, sender, number)| {
            let payload = payload(&check.plan.clone(), *sender, *number);
            let arrived = check.arrival(*receiver, &payload).map_err(|error| error.to_string())?;
            assert_eq!(arrived, *sender);
            Ok(())
        })
    }

    fn plan() -> Arc<Plan> {
        Arc::new(Plan::of(2, 16))
    }

    #[test]
    fn each_receiver_expects_its_turns_of_each_sender() {
        let mut check = Check::turns(plan(), 2);
        let right = [(0, 0, 0), (1, 0, 1), (1, 1, 1), (0, 0, 2), (1, 0, 3)];
        assert_eq!(arrivals(&mut check, &right), Ok(()));
        let missing = "receiver 0 still expects message 0 of sender 1";
        assert_eq!(check.missing(&[4, 4]).as_deref(), Some(missing));
        assert_eq!(check.missing(&[4, 0]), None);
    }

    #[test]
    fn senders_may_take_turns_at_fewer_receivers_than_others() {
        let mut check = Check::uneven_turns(plan(), 3, vec![3, 2]);
        let right = [(0, 0, 0), (1, 0, 1), (2, 0, 2), (0, 1, 0), (1, 1, 1), (0, 1, 2), (0, 0, 3)];
        assert_eq!(arrivals(&mut check, &right), Ok(()));
        let said = "receiver 2: expected no message of sender 1, got its message 3".to_owned();
        assert_eq!(arrivals(&mut check, &[(2, 1, 3)]), Err(said));
    }

    #[test]
    fn a_wrong_number_names_sender_expected_and_got() {
        for number in [0, 3] {
            let said =
                format!("receiver 1: expected message 1 of sender 1, got its message {number}");
            assert_eq!(arrivals(&mut Check::turns(plan(), 2), &[(1, 1, number)]), Err(said));
        }
    }

    #[test]
    fn a_pair_keeps_to_itself() {
        let mut check = Check::pairs(plan(), 2);
        assert_eq!(arrivals(&mut check, &[(0, 0, 0), (1, 1, 0), (0, 0, 1)]), Ok(()));
        assert_eq!(check.missing(&[2, 1]), None);
        let said = "receiver 1: expected no message of sender 0, got its message 2".to_owned();
        assert_eq!(arrivals(&mut check, &[(1, 0, 2)]), Err(said));
    }

    #[test]
    fn every_receiver_expects_every_copy() {
        let mut check = Check::copies(plan(), 3);
        assert_eq!(arrivals(&mut check, &[(0, 0, 0), (1, 0, 0), (0, 0, 1)]), Ok(()));
        let missing = "receiver 2 still expects message 0 of sender 0";
        assert_eq!(check.missing(&[1, 0]).as_deref(), Some(missing));
        let said = "receiver 1: expected message 1 of sender 0, got its message 0".to_owned();
        assert_eq!(arrivals(&mut check, &[(1, 0, 0)]), Err(said));
    }

    #[test]
    fn a_key_stays_with_its_first_receiver_and_comes_in_order_there() {
        let mut check = Check::keys(plan(), 2, 3);
        let right = [(1, 0, 0), (0, 0, 1), (1, 0, 2), (1, 1, 0), (1, 0, 3)];
        assert_eq!(arrivals(&mut check, &right), Ok(()));
        let missing = "message 4 of sender 0 came nowhere";
        assert_eq!(check.missing(&[5, 1]).as_deref(), Some(missing));
        for (arrival, said) in [
            (
                (1, 1, 1),
                "messages of key 1 at receiver 0, not here, of sender 1, got its message 1",
            ),
            ((1, 0, 2), "message 5 of sender 0, got its message 2"),
        ] {
            let mut check = Check::keys(plan(), 2, 3);
            assert_eq!(arrivals(&mut check, &right), Ok(()));
            let said = format!("receiver 1: expected {said}");
            assert_eq!(arrivals(&mut check, &[arrival]), Err(said));
        }
        let overtaken = [(0, 0, 1), (0, 0, 0)];
        let said =
            "receiver 0: expected messages from 2 on of sender 0, got its message 0".to_owned();
        assert_eq!(arrivals(&mut Check::keys(plan(), 2, 3), &overtaken), Err(said));
    }

    #[test]
    fn a_message_for_anybody_comes_once_and_in_order_at_each_receiver() {
        let mut check = Check::anywhere(plan(), 2);
        let right = [(1, 0, 0), (0, 0, 2), (0, 1, 0), (1, 0, 1), (1, 0, 70)];
        assert_eq!(arrivals(&mut check, &right), Ok(()));
        let missing = "message 3 of sender 0 came nowhere";
        assert_eq!(check.missing(&[4, 1]).as_deref(), Some(missing));
        assert_eq!(check.missing(&[3, 1]), None);
        for (arrival, said) in [
            ((0, 0, 1), "each message once of sender 0, got its message 1"),
            ((1, 0, 3), "messages from 71 on of sender 0, got its message 3"),
        ] {
            let said = format!("receiver {}: expected {said}", arrival.0);
            assert_eq!(arrivals(&mut check, &[arrival]), Err(said));
        }
    }
}
