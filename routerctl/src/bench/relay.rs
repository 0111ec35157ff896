//! The relay: a server that copies bytes and looks at none of them, as the ceiling of what any router could
//! reach on this machine. `dialect/relay` speaks to it; `server` starts it, as a process of its own.
//!
//! It has the router's threads (one runtime for each core, sockets dealt in turn), its read size and its
//! socket options, and nothing else. Receiver r is a partner of sender r modulo the number of senders: what
//! either writes is copied to all of its partners. That number is the same in all rounds of a run. Who only
//! stays is answered itself.

use std::collections::HashMap;
use std::future::pending;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, PoisonError};
use std::thread;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Mutex;

use crate::bench::dialect::relay_hello;

/// One end of the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    Sender(u32),
    Receiver(u32),
    /// Has no partner: it joins, stays, and is answered.
    Member(u32),
}

type Socket = Arc<Mutex<OwnedWriteHalf>>;

/// Who is there. An end that comes anew takes the place of the one before.
#[derive(Debug, Default)]
struct Ends(std::sync::Mutex<HashMap<End, Socket>>);

/// Relays until it is killed.
pub fn run() -> Result<()> {
    let cores = thread::available_parallelism()?.get();
    let shards = (0..cores).map(|_| shard()).collect::<io::Result<Vec<Handle>>>()?;
    let ends = Arc::new(Ends::default());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(io::stdout(), "ready listen={}", listener.local_addr()?)?;
    for (number, stream) in listener.incoming().enumerate() {
        shards[number % cores].spawn(serve(stream?, ends.clone()));
    }
    Ok(())
}

fn shard() -> io::Result<Handle> {
    let runtime =
        Builder::new_current_thread().enable_io().event_interval(EVENT_INTERVAL).build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().spawn(move || runtime.block_on(pending::<()>()))?;
    Ok(handle)
}

/// Ends when either side hangs up, which is how rounds end.
async fn serve(stream: TcpStream, ends: Arc<Ends>) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let (mut from, to) = tokio::net::TcpStream::from_std(stream)?.into_split();
    let mut hello = [0; relay_hello::LENGTH];
    from.read_exact(&mut hello).await?;
    let end = relay_hello::read(hello).ok_or(io::ErrorKind::InvalidData)?;
    if matches!(end, End::Member(_)) {
        return answer(from, to).await;
    }
    let to = Arc::new(Mutex::new(to));
    {
        // ORDER: who has been welcomed is known, and nothing comes before the welcome.
        let mut welcome = to.lock().await;
        ends.insert(end, to.clone());
        welcome.write_all(&relay_hello::welcome()).await?;
    }
    let mut partners = Vec::new();
    let mut buffer = vec![0; READ];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        if partners.is_empty() {
            partners = ends.partners(end);
        }
        for to in &partners {
            to.lock().await.write_all(&buffer[..n]).await?;
        }
    }
}

/// Answers the hello, and from then on all that comes at a time.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut ping = [0; READ_LITTLE];
    loop {
        to.write_all(&relay_hello::welcome()).await?;
        if from.read(&mut ping).await? == 0 {
            return Ok(());
        }
    }
}

impl Ends {
    fn insert(&self, end: End, socket: Socket) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(end, socket);
    }

    fn partners(&self, end: End) -> Vec<Socket> {
        let sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Everybody has joined before anybody sends.
        let senders = sockets.keys().filter_map(|end| match end {
            End::Sender(sender) => Some(sender + 1),
            End::Receiver(_) | End::Member(_) => None,
        });
        let senders = senders.max().unwrap_or(1);
        let partners = sockets.iter().filter(|(other, _)| end.is_partner(**other, senders));
        partners.map(|(_, socket)| socket.clone()).collect()
    }
}

impl End {
    fn is_partner(self, other: Self, senders: u32) -> bool {
        match (self, other) {
            (Self::Sender(sender), Self::Receiver(receiver))
            | (Self::Receiver(receiver), Self::Sender(sender)) => receiver % senders == sender,
            _ => false,
        }
    }
}

/// As the router's.
const READ: usize = 256 << 10;
/// More than a ping takes.
const READ_LITTLE: usize = 64;
const EVENT_INTERVAL: u32 = 8;
