//! What every message holds, so that its receiver can tell whether it is whole.
//!
//! A payload begins with the sender and the message's number in eight bytes. Behind them comes filler that
//! follows from both; the receiver compares all of it, of every message. The number's lowest bits choose
//! length and filler, so a block that is encoded once is right again for the next numbers.

use std::fmt;

/// The contents of all messages of a round.
#[derive(Debug, Clone)]
pub struct Plan {
    senders: usize,
    /// By kind. Their number is a power of two.
    lengths: Vec<usize>,
    filler: Vec<u8>,
}

/// What is wrong with a payload.
#[derive(Debug, PartialEq, Eq)]
pub enum Damage {
    /// Too short for a number.
    NoNumber(usize),
    /// From a sender that there is not.
    Sender { sender: usize, senders: usize },
    /// Of another length than this message was sent with.
    Length { sender: usize, number: u64, expected: usize, got: usize },
    /// A byte behind the number is another one.
    Filler { sender: usize, number: u64, byte: usize, expected: u8, got: u8 },
}

impl Plan {
    /// Messages of one length, at least [`SHORTEST`].
    pub fn of(senders: usize, length: usize) -> Self {
        let kinds = if length > LONG { FEW_KINDS } else { KINDS };
        Self::of_kinds(senders, length, kinds)
    }

    /// The same with this many kinds, a power of two: few of them make short blocks.
    pub fn of_kinds(senders: usize, length: usize, kinds: usize) -> Self {
        Self::with_lengths(senders, vec![length; kinds])
    }

    /// Messages of lengths from `shortest` to `longest`, evenly by orders of magnitude, in no order.
    pub fn mixed(senders: usize, shortest: usize, longest: usize) -> Self {
        let ratio = longest as f64 / shortest as f64;
        let lengths = (0..KINDS).map(|kind| {
            // 37 and the number of kinds have no divisor in common, so each step comes once.
            let step = kind * 37 % KINDS;
            (shortest as f64 * ratio.powf(step as f64 / (KINDS - 1) as f64)).round() as usize
        });
        Self::with_lengths(senders, lengths.collect())
    }

    fn with_lengths(senders: usize, lengths: Vec<usize>) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // Any sequence that repeats late: a linear congruential generator.
        let mut state = 1_u64;
        let bytes = (0..FILLERS + longest).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        });
        Self { senders, lengths, filler: bytes.collect() }
    }

    /// How many senders there are.
    pub fn senders(&self) -> usize {
        self.senders
    }

    /// How long this message's payload is.
    #[inline]
    pub fn length(&self, number: u64) -> usize {
        self.lengths[self.kind(number)]
    }

    /// How many kinds of messages there are: a number's length and filler are those of the number modulo
    /// this.
    pub fn kinds(&self) -> usize {
        self.lengths.len()
    }

    #[inline]
    fn kind(&self, number: u64) -> usize {
        number as usize & (self.lengths.len() - 1)
    }

    /// Writes a whole payload.
    pub fn fill(&self, sender: usize, number: u64, payload: &mut [u8]) {
        payload[..SHORTEST].copy_from_slice(&stamp(sender, number));
        let length = payload.len() - SHORTEST;
        payload[SHORTEST..].copy_from_slice(self.filler(sender, number, length));
    }

    /// Whose message it is, and its number, if all of it is as it was sent.
    #[inline]
    pub fn read(&self, payload: &[u8]) -> Result<(usize, u64), Damage> {
        let Some((stamp, filler)) = payload.split_first_chunk::<SHORTEST>() else {
            return Err(Damage::NoNumber(payload.len()));
        };
        let stamp = u64::from_le_bytes(*stamp);
        let (sender, number) = ((stamp >> NUMBER_BITS) as usize, stamp & NUMBER);
        if sender >= self.senders {
            return Err(Damage::Sender { sender, senders: self.senders });
        }
        let expected = self.length(number);
        if payload.len() != expected {
            return Err(Damage::Length { sender, number, expected, got: payload.len() });
        }
        // Comparing nothing may cost more than comparing something.
        if !filler.is_empty() {
            let expected = self.filler(sender, number, filler.len());
            if filler != expected {
                return Err(first_difference(sender, number, expected, filler));
            }
        }
        Ok((sender, number))
    }

    #[inline]
    fn filler(&self, sender: usize, number: u64, length: usize) -> &[u8] {
        let at = (sender * 769 + self.kind(number) * 61) % FILLERS;
        &self.filler[at..at + length]
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNumber(length) => {
                write!(f, "got a message of {length} bytes, which has no number")
            }
            Self::Sender { sender, senders } => {
                write!(f, "got a message of sender {sender}, of which there are {senders}")
            }
            Self::Length { sender, number, expected, got } => write!(
                f,
                "message {number} of sender {sender} is damaged: expected {expected} bytes, got {got}"
            ),
            Self::Filler { sender, number, byte, expected, got } => write!(
                f,
                "message {number} of sender {sender} is damaged: expected {expected:#04x} as byte {byte} of \
                 the payload, got {got:#04x}"
            ),
        }
    }
}

/// The first bytes of a payload.
#[inline]
pub fn stamp(sender: usize, number: u64) -> [u8; SHORTEST] {
    ((sender as u64) << NUMBER_BITS | number).to_le_bytes()
}

#[cold]
fn first_difference(sender: usize, number: u64, expected: &[u8], got: &[u8]) -> Damage {
    let at = expected.iter().zip(got).position(|(expected, got)| expected != got).unwrap_or(0);
    let (byte, expected, got) = (at + SHORTEST, expected[at], got[at]);
    Damage::Filler { sender, number, byte, expected, got }
}

/// The shortest payload: sender and number.
pub const SHORTEST: usize = 8;
/// How many kinds of messages there are,
const KINDS: usize = 64;
/// and how many of messages so long that a block of all of them would be a burden.
const FEW_KINDS: usize = 4;
const LONG: usize = 64 << 10;
/// The bits above are the sender's, of whom there are 65536 at most.
const NUMBER_BITS: u32 = 48;
const NUMBER: u64 = (1 << NUMBER_BITS) - 1;
/// How many beginnings of filler there are.
const FILLERS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(plan: &Plan, sender: usize, number: u64) -> Vec<u8> {
        let mut payload = vec![0; plan.length(number)];
        plan.fill(sender, number, &mut payload);
        payload
    }

    #[test]
    fn what_is_filled_is_read() {
        let plan = Plan::of(3, 64);
        for (sender, number) in [(0, 0), (2, 1), (1, 1 << 40)] {
            assert_eq!(plan.read(&payload(&plan, sender, number)), Ok((sender, number)));
        }
    }

    #[test]
    fn mixed_lengths_reach_from_the_shortest_to_the_longest() {
        let plan = Plan::mixed(1, 16, 65_536);
        let mut lengths: Vec<usize> = (0..plan.kinds()).map(|i| plan.length(i as u64)).collect();
        assert!(!lengths.is_sorted());
        lengths.sort_unstable();
        assert_eq!((lengths[0], lengths[KINDS - 1]), (16, 65_536));
        assert_eq!(lengths.iter().filter(|length| **length < 1024).count(), KINDS / 2);
        for number in 0..KINDS as u64 {
            assert_eq!(plan.read(&payload(&plan, 0, number)), Ok((0, number)));
        }
    }

    #[test]
    fn every_changed_byte_is_damage() {
        let plan = Plan::of(3, 40);
        let whole = payload(&plan, 1, 70);
        for byte in SHORTEST..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1;
            let (expected, got) = (whole[byte], damaged[byte]);
            let damage = Damage::Filler { sender: 1, number: 70, byte, expected, got };
            assert_eq!(plan.read(&damaged), Err(damage));
        }
        let short = Damage::Length { sender: 1, number: 70, expected: 40, got: 39 };
        assert_eq!(plan.read(&whole[..39]), Err(short));
        assert_eq!(plan.read(&whole[..7]), Err(Damage::NoNumber(7)));
        let of_nobody = payload(&plan, 3, 0);
        assert_eq!(plan.read(&of_nobody), Err(Damage::Sender { sender: 3, senders: 3 }));
    }

    #[test]
    fn a_number_that_changes_is_damage_unless_it_is_of_the_same_kind() {
        let plan = Plan::of(1, 64);
        let mut other = payload(&plan, 0, 5);
        other[..SHORTEST].copy_from_slice(&stamp(0, 6));
        assert!(matches!(plan.read(&other), Err(Damage::Filler { number: 6, .. })));
        other[..SHORTEST].copy_from_slice(&stamp(0, 5 + KINDS as u64));
        assert_eq!(plan.read(&other), Ok((0, 5 + KINDS as u64)), "so a block is used again");
    }
}
