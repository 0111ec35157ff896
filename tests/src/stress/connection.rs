//! A connection with small buffers, read in small bites with rests in between, and written in cuts.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rand::RngExt;
use rand::rngs::SmallRng;
use switchboard_protocol::control::GoAwayReason;
use switchboard_protocol::{Control, Frame, Kind, RefusalCode, Report};
use switchboard_router::Address;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;

use super::ledger::Ledger;
use super::plan::{End, LifePlan};

/// Both ends of a node's bytes.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a reader has seen so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    pub welcome: bool,
    /// The number of the last pong.
    pub pong: u64,
    /// The router says that this life is over, or has ended it.
    pub over: bool,
}

/// The reading side of a life.
#[derive(Debug)]
pub struct Reader {
    pub socket: Arc<Socket>,
    pub life: usize,
    pub plan: LifePlan,
    pub ledger: Arc<Mutex<Ledger>>,
    pub seen: watch::Sender<Seen>,
    /// Turns true when everybody has written all: from then on nobody rests.
    pub hurry: watch::Receiver<bool>,
    pub rng: SmallRng,
}

impl Socket {
    /// Connects with buffers of these sizes.
    pub async fn connect(address: &Address, plan: &LifePlan) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = TcpSocket::new_v4()?;
                socket.set_recv_buffer_size(plan.receive_buffer)?;
                socket.set_send_buffer_size(plan.send_buffer)?;
                socket.set_nodelay(true)?;
                if plan.end == End::Reset {
                    socket.set_zero_linger()?;
                }
                Ok(Self::Tcp(socket.connect(*address).await?))
            }
            Address::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Writes bytes in cuts of any size. An error is the end of the connection.
    pub async fn write(&self, mut bytes: &[u8], rng: &mut SmallRng) -> io::Result<()> {
        while !bytes.is_empty() {
            let cut = match rng.random_range(0..8) {
                0 => rng.random_range(1..60),
                1..4 => rng.random_range(1..5_000),
                _ => rng.random_range(1..400_000),
            };
            let cut = &bytes[..bytes.len().min(cut)];
            let written = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(cut)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(cut)
                }
            };
            match written {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if rng.random_ratio(1, 4) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Says that it sends no more.
    pub fn half_close(&self) -> io::Result<()> {
        use std::net::Shutdown::Write;
        match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).shutdown(Write),
            Self::Unix(stream) => socket2::SockRef::from(stream).shutdown(Write),
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

impl Reader {
    /// Reads to the end of the connection.
    pub async fn run(mut self) {
        let (mut buffer, mut chunk) = (BytesMut::new(), vec![0; 64 << 10]);
        let mut reads = 0;
        loop {
            let bite = match self.rng.random_range(0..20) {
                _ if *self.hurry.borrow() => chunk.len(),
                0 => self.rng.random_range(1..20),
                1..8 => self.rng.random_range(1..2_000),
                _ => self.rng.random_range(1..chunk.len()),
            };
            match self.socket.read(&mut chunk[..bite]).await {
                Ok(0) | Err(_) => break,
                Ok(n) => buffer.extend_from_slice(&chunk[..n]),
            }
            if !self.take(&mut buffer) {
                break;
            }
            reads += 1;
            if self.plan.end == End::Deaf && reads > DEAF_AFTER {
                return std::future::pending().await;
            }
            if self.plan.rests > 0 && self.rng.random_range(0..self.plan.rests) == 0 {
                self.rest().await;
            }
        }
        self.seen.send_modify(|seen| seen.over = true);
    }

    /// Reads nothing for a while, unless everybody waits for it.
    async fn rest(&mut self) {
        let rest = self.plan.rest.mul_f64(self.rng.random());
        let hurry = self.hurry.wait_for(|hurry| *hurry);
        let _: Result<_, _> = tokio::time::timeout(rest.max(SHORTEST_REST), hurry).await;
    }

    /// Takes whole frames. Answers whether the stream can still be trusted.
    fn take(&mut self, buffer: &mut BytesMut) -> bool {
        loop {
            match Frame::decode(buffer, u32::MAX) {
                Ok(Some(frame)) => self.take_one(&frame),
                Ok(None) => return true,
                Err(error) => {
                    self.ledger().wrong(format!("life {} got no frame: {error}", self.life));
                    return false;
                }
            }
        }
    }

    fn take_one(&mut self, frame: &Frame) {
        match frame.header.kind {
            Kind::Data(_) => self.ledger().came(self.life, frame),
            Kind::Report => match Report::decode(&frame.payload) {
                Some(report) => self.ledger().reported(self.life, &report),
                None => self.ledger().wrong("what is not a report"),
            },
            _ => match Control::decode(&frame.payload) {
                Ok(Control::Welcome(_)) => {
                    self.ledger().welcome(self.life);
                    self.seen.send_modify(|seen| seen.welcome = true);
                }
                Ok(Control::Pong(pong)) => self.seen.send_modify(|seen| seen.pong = pong.nonce),
                Ok(Control::Replaced(_)) => self.seen.send_modify(|seen| seen.over = true),
                Ok(Control::GoAway(away)) => {
                    let known = [GoAwayReason::Replaced, GoAwayReason::SlowConsumer];
                    if !known.contains(&away.reason) {
                        self.ledger().wrong(format!("life {} was told {away:?}", self.life));
                    }
                    self.seen.send_modify(|seen| seen.over = true);
                }
                Ok(Control::Refused(refused))
                    if refused.code == RefusalCode::FrameTooLarge.raw() => {}
                // Who is master is told to all of a class.
                Ok(Control::Event(_)) => {}
                Ok(other) => self.ledger().wrong(format!("life {} was told {other:?}", self.life)),
                Err(error) => self.ledger().wrong(format!("not a message: {error}")),
            },
        }
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After so many reads who goes deaf does.
const DEAF_AFTER: u32 = 20;
/// Timers are no finer.
const SHORTEST_REST: Duration = Duration::from_millis(1);
