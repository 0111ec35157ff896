//! A set of message numbers, one bit each: which ones were handled.

use serde::{Deserialize, Serialize};

/// Numbers from 1 up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    words: Vec<u64>,
    /// How often a number was put in that was there already.
    doubles: u64,
}

impl Numbers {
    /// Puts a number in.
    pub fn insert(&mut self, number: u64) {
        let (word, bit) = place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            self.doubles += u64::from(*word & bit != 0);
            *word |= bit;
        }
    }

    /// Whether a number is in.
    pub fn contains(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How often a number was put in that was there already.
    pub fn doubles(&self) -> u64 {
        self.doubles
    }

    /// The largest number, 0 if there is none.
    pub fn max(&self) -> u64 {
        let last = self.words.iter().rposition(|word| *word != 0);
        last.map_or(0, |at| {
            let word = self.words.get(at).copied().unwrap_or_default();
            at as u64 * 64 + 64 - u64::from(word.leading_zeros())
        })
    }
}

impl FromIterator<u64> for Numbers {
    fn from_iter<T: IntoIterator<Item = u64>>(numbers: T) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

/// The word and the bit of a number. Numbers begin with 1, and 0 is taken for 1.
fn place(number: u64) -> (usize, u64) {
    let at = number.saturating_sub(1);
    (usize::try_from(at / 64).unwrap_or(usize::MAX), 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_in_and_nothing_else() {
        let set: Numbers = [1, 64, 65, 200].into_iter().collect();
        let found: Vec<u64> = (1..=300).filter(|number| set.contains(*number)).collect();
        assert_eq!(found, [1, 64, 65, 200]);
        assert_eq!((set.len(), set.max(), set.doubles()), (4, 200, 0));
        assert_eq!((Numbers::default().len(), Numbers::default().max()), (0, 0));
    }

    #[test]
    fn a_number_that_comes_twice_is_a_double() {
        let set: Numbers = [7, 7, 8, 7].into_iter().collect();
        assert_eq!((set.len(), set.doubles()), (2, 2));
    }
}
