//! Many sockets, one thread: epoll, edge-triggered.
//!
//! Whoever is told that a socket is readable reads until a read brings less than there was room for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Sockets, and what they are ready for.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// A socket that is ready.
#[derive(Debug, Clone, Copy)]
pub struct Ready {
    /// The number that it was added with.
    pub token: usize,
    /// There is something to read, or the other end is gone.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    /// Watches a socket from now on.
    pub fn add(&self, socket: impl AsFd, token: usize) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token as u64), flags)?;
        Ok(())
    }

    /// Watches it no more.
    pub fn remove(&self, socket: impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, socket)?;
        Ok(())
    }

    /// Waits until something is ready, but not for longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<impl Iterator<Item = Ready>> {
        self.events.clear();
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.iter().map(ready))
    }
}

fn ready(event: &epoll::Event) -> Ready {
    let (flags, data) = (event.flags, event.data);
    let gone = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
    Ready {
        token: data.u64() as usize,
        readable: flags.intersects(epoll::EventFlags::IN | gone),
        writable: flags.intersects(epoll::EventFlags::OUT | gone),
    }
}

/// How many sockets one look finds ready at most.
const EVENTS: usize = 1024;
