//! How other threads wake the Lua thread: it sleeps here, or a loop of the program's own waits on a
//! descriptor.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// Set by whoever has something for the Lua thread, and taken by that thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: AtomicU8,
    sleeper: Mutex<Option<Thread>>,
    pipe: OnceLock<Pipe>,
}

/// Has bytes in it while the signal is set. Reading does not wait.
#[derive(Debug)]
struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Signal {
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Takes the signal: what happens from now on sets it again.
    pub(crate) fn take(&self) {
        // In this order: a byte that comes after the reading finds the signal unset, and wakes once too
        // often, rather than once too little.
        if let Some(pipe) = self.pipe.get() {
            while matches!((&pipe.reader).read(&mut [0; 8]), Ok(8)) {}
        }
        self.state.store(UNSET, Ordering::Release);
    }

    /// Sleeps until the signal is set, or so much time is over.
    pub(crate) fn wait(&self, time: Option<Duration>) {
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        if self.state.compare_exchange(UNSET, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_err()
        {
            return;
        }
        match time {
            Some(time) => thread::park_timeout(time),
            None => thread::park(),
        }
        // Who set it meanwhile stays set.
        let _ = self.state.compare_exchange(ASLEEP, UNSET, Ordering::AcqRel, Ordering::Acquire);
    }

    /// A descriptor that can be read from while the signal is set. Not to be read by anybody.
    pub(crate) fn descriptor(&self) -> io::Result<RawFd> {
        if self.pipe.get().is_none() {
            let (reader, writer) = io::pipe()?;
            rustix::io::ioctl_fionbio(&reader, true)?;
            rustix::io::ioctl_fionbio(&writer, true)?;
            if self.pipe.set(Pipe { reader, writer }).is_ok() {
                // What was set before has no byte yet.
                self.state.store(UNSET, Ordering::Release);
                self.set();
            }
        }
        self.pipe
            .get()
            .map(|pipe| pipe.reader.as_raw_fd())
            .ok_or_else(|| io::Error::other("there is no pipe"))
    }

    /// Whether anybody asked for the descriptor.
    pub(crate) fn has_descriptor(&self) -> bool {
        self.pipe.get().is_some()
    }

    /// Wakes the Lua thread.
    pub(crate) fn set(&self) {
        let before = self.state.swap(SET, Ordering::AcqRel);
        if before == SET {
            return;
        }
        if let Some(pipe) = self.pipe.get() {
            // Never full: one byte at most is in it.
            let _ = (&pipe.writer).write(&[1]);
        }
        if before == ASLEEP
            && let Some(thread) = &*self.sleeper.lock().unwrap_or_else(PoisonError::into_inner)
        {
            thread.unpark();
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.set();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
    }
}

const UNSET: u8 = 0;
const ASLEEP: u8 = 1;
const SET: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_signal_set_before_is_not_slept_through() {
        let signal = Signal::default();
        signal.set();
        let begun = Instant::now();
        signal.wait(Some(LONG));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn a_sleeper_is_woken_by_another_thread_each_time() {
        let signal = Arc::new(Signal::default());
        let waker = signal.waker();
        let begun = Instant::now();
        for _ in 0..100 {
            let waker = waker.clone();
            let other = thread::spawn(move || waker.wake());
            while signal.state.load(Ordering::Acquire) != SET {
                signal.wait(Some(LONG));
            }
            signal.take();
            other.join().unwrap();
        }
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn the_pipe_holds_a_byte_while_the_signal_is_set_and_none_after_it_is_taken() {
        let signal = Signal::default();
        signal.descriptor().unwrap();
        for _ in 0..3 {
            signal.set();
        }
        let pipe = signal.pipe.get().unwrap();
        signal.take();
        let empty = (&pipe.reader).read(&mut [0; 8]).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
        signal.set();
        assert_eq!((&pipe.reader).read(&mut [0; 8]).unwrap(), 1);
    }
}
