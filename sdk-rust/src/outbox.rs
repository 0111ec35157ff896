//! Frames that wait for the socket: one contiguous buffer, bounded in bytes.
//!
//! Senders append under a short lock and wake the writer only when the buffer was empty; the
//! writer swaps the whole buffer out and writes it at once. No frame has an allocation of its own.

use std::sync::{Mutex, MutexGuard, PoisonError};

use switchboard_protocol::{Control, Header, ServiceId};
use tokio::sync::Notify;

/// The bounded queue between senders and the socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    /// The buffer is no longer empty.
    filled: Notify,
    limit: usize,
}

#[derive(Debug)]
struct Queue {
    gate: Gate,
    buffer: Vec<u8>,
    /// Bytes that the writer has taken and not yet written.
    writing: usize,
    max_frame: usize,
    /// The id that goes into frames which name no source.
    source: u32,
}

/// Whether frames are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// No link.
    Down,
    /// A link is up.
    Open,
    /// What is inside leaves; nothing new comes in.
    Sealed,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    Down,
    Full { queued: usize, limit: usize },
    TooLarge { length: usize, max: usize },
}

/// What a link left behind.
#[derive(Debug)]
pub(crate) struct Unsent {
    /// Bytes of which nobody knows whether they arrived.
    pub(crate) writing: usize,
    frames: Vec<u8>,
}

impl Unsent {
    /// The frames that never left.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.frames.as_slice();
        std::iter::from_fn(move || {
            let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
            let (frame, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(frame)
        })
    }
}

impl Outbox {
    pub(crate) fn new(limit: usize) -> Self {
        let queue =
            Queue { gate: Gate::Down, buffer: Vec::new(), writing: 0, max_frame: 0, source: 0 };
        Self { queue: Mutex::new(queue), filled: Notify::new(), limit }
    }

    /// Appends a data frame. A source of 0 stands for the node's first id.
    pub(crate) fn push(&self, mut header: Header, payload: &[u8]) -> Result<(), PushError> {
        let length = header.len() + payload.len();
        let mut queue = self.lock();
        if queue.gate != Gate::Open {
            return Err(PushError::Down);
        }
        if length > queue.max_frame {
            return Err(PushError::TooLarge { length, max: queue.max_frame });
        }
        let queued = queue.buffer.len() + queue.writing;
        // An empty outbox takes any frame that the router takes, however small the bound.
        if queued != 0 && queued + length > self.limit {
            return Err(PushError::Full { queued, limit: self.limit });
        }
        if header.source == 0 {
            header.source = queue.source;
        }
        let was_empty = queue.buffer.is_empty();
        header.write(payload.len(), &mut queue.buffer);
        queue.buffer.extend_from_slice(payload);
        drop(queue);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Appends a control frame, bound or no bound: there are few, and heartbeats must pass.
    pub(crate) fn push_control(&self, message: &Control) -> Result<(), PushError> {
        self.push_last(message, Gate::Open)
    }

    /// Appends a control frame as the last thing that this link carries.
    pub(crate) fn seal(&self, message: &Control) -> Result<(), PushError> {
        self.push_last(message, Gate::Sealed)
    }

    fn push_last(&self, message: &Control, next: Gate) -> Result<(), PushError> {
        let frame = message.to_frame();
        let mut queue = self.lock();
        if queue.gate != Gate::Open {
            return Err(PushError::Down);
        }
        queue.gate = next;
        frame.encode(&mut queue.buffer);
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// How many bytes wait, those that are being written among them.
    pub(crate) fn queued(&self) -> usize {
        let queue = self.lock();
        queue.buffer.len() + queue.writing
    }

    /// Opens for a new link.
    pub(crate) fn open(&self, max_frame: usize, source: Option<ServiceId>) {
        let mut queue = self.lock();
        queue.gate = Gate::Open;
        queue.max_frame = max_frame;
        queue.source = source.map_or(0, ServiceId::raw);
    }

    /// Changes the id that goes into frames which name no source.
    pub(crate) fn set_source(&self, source: Option<ServiceId>) {
        self.lock().source = source.map_or(0, ServiceId::raw);
    }

    /// Appends a frame that was on its way over another link.
    pub(crate) fn push_frame(&self, frame: &[u8]) -> Result<(), PushError> {
        let mut queue = self.lock();
        if queue.gate != Gate::Open {
            return Err(PushError::Down);
        }
        if frame.len() > queue.max_frame {
            return Err(PushError::TooLarge { length: frame.len(), max: queue.max_frame });
        }
        let queued = queue.buffer.len() + queue.writing;
        if queued != 0 && queued + frame.len() > self.limit {
            return Err(PushError::Full { queued, limit: self.limit });
        }
        queue.buffer.extend_from_slice(frame);
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// Gives up what was not written, since the link is gone.
    pub(crate) fn close(&self) -> Unsent {
        let mut queue = self.lock();
        queue.gate = Gate::Down;
        let writing = std::mem::take(&mut queue.writing);
        Unsent { writing, frames: std::mem::take(&mut queue.buffer) }
    }

    /// Waits for frames and swaps them into `batch`, whose content must have been written before.
    pub(crate) async fn take(&self, batch: &mut Vec<u8>) {
        batch.clear();
        if batch.capacity() > KEEP_CAPACITY {
            *batch = Vec::new();
        }
        loop {
            {
                let mut queue = self.lock();
                queue.writing = 0;
                if !queue.buffer.is_empty() {
                    std::mem::swap(&mut queue.buffer, batch);
                    queue.writing = batch.len();
                    return;
                }
            }
            self.filled.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock panics half way through a frame.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that grew beyond this is given back after use: 1 MiB.
const KEEP_CAPACITY: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_protocol::{Class, Mode};

    fn header() -> Header {
        let source = ServiceId::from_raw(0x0500_0001).unwrap();
        Header::to_class(source, Mode::Random, Class::of(3))
    }

    #[test]
    fn frames_are_taken_while_a_link_is_up_and_only_then() {
        let outbox = Outbox::new(1000);
        assert_eq!(outbox.push(header(), b"x"), Err(PushError::Down));
        outbox.open(100, None);
        assert_eq!(outbox.push(header(), b"x"), Ok(()));
        let unsent = outbox.close();
        assert_eq!(unsent.frames().map(<[u8]>::len).collect::<Vec<_>>(), [17]);
        assert_eq!(outbox.push(header(), b"x"), Err(PushError::Down));
    }

    #[tokio::test]
    async fn what_is_being_written_still_counts_against_the_bound() {
        let outbox = Outbox::new(40);
        outbox.open(100, None);
        outbox.push(header(), &[0; 4]).unwrap();
        let mut batch = Vec::new();
        outbox.take(&mut batch).await;
        assert_eq!(batch.len(), 20);
        outbox.push(header(), &[0; 4]).unwrap();
        assert_eq!(outbox.push(header(), b""), Err(PushError::Full { queued: 40, limit: 40 }));
        outbox.take(&mut batch).await;
        assert_eq!(outbox.push(header(), b""), Ok(()));
    }

    #[tokio::test]
    async fn what_was_not_begun_moves_to_another_link() {
        let (lost, other) = (Outbox::new(100), Outbox::new(100));
        lost.open(100, None);
        lost.push(header(), b"begun").unwrap();
        let mut batch = Vec::new();
        lost.take(&mut batch).await;
        lost.push(header(), b"one").unwrap();
        lost.push(header(), b"two").unwrap();
        let unsent = lost.close();
        assert_eq!(unsent.writing, batch.len());
        other.open(100, None);
        unsent.frames().for_each(|frame| other.push_frame(frame).unwrap());
        other.take(&mut batch).await;
        assert_eq!(batch.len(), 2 * 19);
        assert!(batch.ends_with(b"two"));
    }

    #[test]
    fn a_frame_over_the_routers_limit_is_not_taken() {
        let outbox = Outbox::new(1000);
        outbox.open(20, None);
        assert_eq!(
            outbox.push(header(), &[0; 5]),
            Err(PushError::TooLarge { length: 21, max: 20 })
        );
    }

    #[test]
    fn control_frames_pass_a_full_outbox_and_nothing_passes_a_sealed_one() {
        let outbox = Outbox::new(16);
        outbox.open(100, None);
        let ping = Control::Ping(Default::default());
        outbox.push(header(), b"").unwrap();
        assert_eq!(outbox.push(header(), b""), Err(PushError::Full { queued: 16, limit: 16 }));
        outbox.push_control(&ping).unwrap();
        outbox.seal(&ping).unwrap();
        assert_eq!(outbox.push_control(&ping), Err(PushError::Down));
    }
}
