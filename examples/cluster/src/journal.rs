//! What a match server handled, in a file that outlives it.
//!
//! The master is killed with SIGKILL, and what it counted in memory is gone with it. So a match
//! server handles a message by writing a record; what is written is in the kernel's hands and
//! survives the process. A message whose record is not there was not handled.
//!
//! ```text
//! 0        4        5     8        16       24       32
//! | source | stream | 0 0 0 | number | epoch  |  at    |     little-endian
//! ```
//!
//! A record does not cross a page of the file, so a kill does not cut one in two.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::stream::Stream;

/// The writing end.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

/// One handled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub source: u32,
    pub stream: Stream,
    pub number: u64,
    /// The epoch under which it was handled; 0 if this process was not the master any more.
    pub epoch: u64,
    /// When, in microseconds since 1970.
    pub at: u64,
}

impl Journal {
    /// A new file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create_new(true).append(true).open(path)? })
    }

    /// Writes a record. When this returns, it survives.
    pub fn write(&mut self, record: Record) -> io::Result<()> {
        let stream = Stream::ALL.iter().position(|stream| *stream == record.stream);
        let mut bytes = [0; LENGTH];
        let (head, tail) = bytes.split_at_mut(8);
        head[..4].copy_from_slice(&record.source.to_le_bytes());
        head[4] = stream.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
        for (place, value) in tail.chunks_mut(8).zip([record.number, record.epoch, record.at]) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        self.file.write_all(&bytes)
    }
}

/// Where the journal of a match server lies. Each life has one of its own.
pub fn path(dir: &Path, instance: u32, life: u32) -> PathBuf {
    dir.join(format!("matchsvr.{instance}-{life}.journal"))
}

/// Reads a journal.
pub fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
    ensure!(
        bytes.len() % LENGTH == 0,
        "{}: {} bytes are not whole records",
        path.display(),
        bytes.len()
    );
    let word = |record: &[u8], at: usize| {
        let bytes = record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    let records = bytes.chunks_exact(LENGTH).map(|record| {
        let head = word(record, 0);
        let stream = Stream::ALL.get(usize::from((head >> 32) as u8)).copied();
        Ok(Record {
            source: head as u32,
            stream: stream.with_context(|| format!("{}: not a stream", path.display()))?,
            number: word(record, 8),
            epoch: word(record, 16),
            at: word(record, 24),
        })
    });
    records.collect()
}

/// The length of a record, of which a page holds a whole number.
const LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), 1, 2);
        let mut journal = Journal::create(&path).unwrap();
        let record = |number| Record {
            source: 0x0300_0002,
            stream: Stream::FindMatch,
            number,
            epoch: u64::MAX - 1,
            at: 1_700_000_000_000_000,
        };
        let records: Vec<Record> = (1..=3).map(record).collect();
        records.iter().for_each(|record| journal.write(*record).unwrap());
        assert_eq!(read(&path).unwrap(), records);
        assert!(Journal::create(&path).is_err(), "a journal is not written over");
    }

    #[test]
    fn half_a_record_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), 1, 1);
        std::fs::write(&path, [0; LENGTH + 5]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("37 bytes are not whole records"));
    }
}
