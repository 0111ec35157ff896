//! Adds up what the lives of nodes have written down.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::worker::{NOTE, RUN};

/// What was done, by number.
#[derive(Debug, Default)]
pub struct Account {
    /// How often each call was run.
    pub runs: BTreeMap<u64, u32>,
    /// How often each one-way message was handled.
    pub notes: BTreeMap<u64, u32>,
    /// Calls that one life of one node ran more than once.
    pub twice_at_one: u64,
}

impl Account {
    /// Adds the record of one life.
    pub fn add(&mut self, record: &PathBuf) -> std::io::Result<()> {
        let mut here: BTreeMap<u64, u32> = BTreeMap::new();
        for line in std::fs::read(record)?.chunks_exact(9) {
            let number = u64::from_le_bytes(line[1..].try_into().unwrap_or_default());
            match line[0] {
                RUN => *here.entry(number).or_default() += 1,
                NOTE => *self.notes.entry(number).or_default() += 1,
                _ => {}
            }
        }
        for (number, times) in here {
            self.twice_at_one += u64::from(times > 1);
            *self.runs.entry(number).or_default() += times;
        }
        Ok(())
    }

    /// Calls that were run at more than one instance: the first died, or left, with the answer.
    pub fn at_several(&self) -> usize {
        self.runs.values().filter(|times| **times > 1).count()
    }
}

/// The value below which a part of the sorted values lies.
pub fn percentile(sorted: &[std::time::Duration], part: f64) -> std::time::Duration {
    let at = ((sorted.len() as f64 * part).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(at - 1).copied().unwrap_or_default()
}
