//! A class of many instances on few connections: it grows, and what is for any of its ids can be received.
//!
//! Instance i lives on connection i modulo [`CONNECTIONS`], so that the number of connections stays the same while
//! the class grows.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use switchboard_protocol::Control;
use switchboard_protocol::control::{Register, Service};

use crate::bench::connection::{Connection, Scratch};
use crate::bench::dialect::{Switchboard, Who};
use crate::bench::poller::Poller;
use crate::bench::server::Server;
use crate::failure::Failure;

/// The instances 0 to [`size`](Self::size), as receivers of these numbers.
pub struct Population<'a> {
    server: &'a Server,
    streams: Vec<TcpStream>,
    size: usize,
    patience: Duration,
}

impl<'a> Population<'a> {
    /// One instance for each connection.
    pub fn found(server: &'a Server, patience: Duration) -> Result<Self> {
        let streams = (0..CONNECTIONS)
            .map(|number| Ok(server.join(Who::Receiver(number))?.into_stream()))
            .collect::<Result<_>>()?;
        Ok(Self { server, streams, size: CONNECTIONS, patience })
    }

    /// Registers more of them.
    pub fn grow_to(&mut self, size: usize, mut each: impl FnMut(u64)) -> Result<()> {
        let mut connections = self.receivers()?;
        let per_message = IDS_PER_MESSAGE * CONNECTIONS;
        while self.size < size {
            let to = size.min(self.size + per_message);
            for (number, connection) in connections.iter_mut().enumerate() {
                let mine = (self.size..to).filter(|i| i % CONNECTIONS == number);
                ask(connection, mine);
            }
            await_answers(&mut connections, 1, self.patience)?;
            each((to - self.size) as u64);
            self.size = to;
        }
        Ok(())
    }

    /// The connections, for one who reads what comes to them. They stay when these are dropped.
    pub fn receivers(&self) -> Result<Vec<Connection>> {
        let streams = self.streams.iter().enumerate();
        streams
            .map(|(number, stream)| {
                Ok(self.server.resume(stream.try_clone()?, Who::Receiver(number)))
            })
            .collect()
    }
}

/// Says that these receivers are here too; [`await_answers`] sends it.
pub fn ask(connection: &mut Connection, receivers: impl Iterator<Item = usize>) {
    let service = |number| Service::of(Switchboard::id(Who::Receiver(number)));
    let services: Vec<Service> = receivers.map(service).collect();
    let mut frame = Vec::new();
    Control::Register(Register { request: 1, services }).to_frame().encode(&mut frame);
    connection.say(&frame);
}

/// Sends what the connections have to say, and waits until each is answered so many times more than it was.
pub fn await_answers(
    connections: &mut [Connection],
    answers: usize,
    patience: Duration,
) -> Result<()> {
    let mut poller = Poller::new()?;
    let mut scratch = Scratch::small();
    for (number, connection) in connections.iter_mut().enumerate() {
        poller.add(&*connection, number)?;
        connection.flush()?;
    }
    let mut waiting: Vec<usize> = connections.iter().map(|one| one.answers() + answers).collect();
    let mut left = connections.len();
    let mut heard = Instant::now();
    while left > 0 {
        for ready in poller.wait(LOOK_AGAIN)? {
            let connection = &mut connections[ready.token];
            if ready.writable {
                connection.flush()?;
            }
            if ready.readable {
                connection.read(&mut scratch, |_, _| Err(early(ready.token)))?;
                heard = Instant::now();
            }
            if connection.answers() >= waiting[ready.token] {
                waiting[ready.token] = usize::MAX;
                left -= 1;
            }
        }
        if heard.elapsed() > patience {
            let what = format!("{left} connections register, and nothing came for {patience:?}");
            return Err(Failure::Check(what).into());
        }
    }
    Ok(())
}

fn early(number: usize) -> Failure {
    Failure::Check(format!("receiver {number} got a message while it registered"))
}

/// On how many connections a population lives.
pub const CONNECTIONS: usize = 10;
/// How many ids a session may register here.
pub const MOST_IDS: u32 = 8_000_000;
/// How many ids one message registers: some 18 KB of the 64 KiB that a control message may have.
pub const IDS_PER_MESSAGE: usize = 1000;
const LOOK_AGAIN: Duration = Duration::from_millis(100);
