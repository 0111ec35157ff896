//! A connection to the server under test: its socket, the part of a message that has come, and the part
//! that could not be written yet.
//!
//! All connections of a thread read into one large buffer; a connection itself keeps next to nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::bench::dialect::{Dialect, Found, Message, Who};
use crate::failure::Failure;

/// A connection that has said hello and was answered.
pub struct Connection {
    stream: TcpStream,
    dialect: Arc<dyn Dialect>,
    who: Who,
    tail: Vec<u8>,
    out: Vec<u8>,
    answers: usize,
    /// It was answered before it was resumed.
    resumed: bool,
}

/// Where all connections of a thread read to.
pub struct Scratch {
    bytes: Vec<u8>,
    found: Found,
}

impl Scratch {
    pub fn new() -> Self {
        Self { bytes: vec![0; READ], found: Found::default() }
    }

    /// For connections on which little comes.
    pub fn small() -> Self {
        Self { bytes: vec![0; READ_LITTLE], found: Found::default() }
    }
}

impl Connection {
    /// Begins to connect, from an address of one's own if one is given; says hello as soon as there is room,
    /// and has joined when [`answers`](Self::answers) is not 0.
    pub fn begin(
        address: SocketAddr,
        from: Option<Ipv4Addr>,
        dialect: Arc<dyn Dialect>,
        who: Who,
    ) -> Result<Self> {
        let unreachable =
            |error| Failure::Unreachable(format!("{who} can't connect to {address}: {error}"));
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            // So that the kernel looks for a port that is free to that server, not to all: with thousands of
            // connections, that search takes longer than all the rest of connecting.
            setsockopt(&socket, IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::from((from, 0)).into()).map_err(unreachable)?;
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
            other => other.map_err(unreachable)?,
        }
        let mut connection = Self::new(socket.into(), dialect, who);
        connection.dialect.hello(who, &mut connection.out);
        Ok(connection)
    }

    /// A connection that has joined before, with nothing on its way.
    pub fn resume(stream: TcpStream, dialect: Arc<dyn Dialect>, who: Who) -> Self {
        Self { resumed: true, ..Self::new(stream, dialect, who) }
    }

    fn new(stream: TcpStream, dialect: Arc<dyn Dialect>, who: Who) -> Self {
        Self { stream, dialect, who, tail: Vec::new(), out: Vec::new(), answers: 0, resumed: false }
    }

    /// Its socket alone.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Connects, says hello, and waits for the answer.
    ///
    /// # Errors
    /// If nobody is there, or nobody answers.
    pub fn join(address: SocketAddr, dialect: Arc<dyn Dialect>, who: Who) -> Result<Self> {
        let stream = TcpStream::connect(address).map_err(|error| {
            Failure::Unreachable(format!("can't connect to {address}: {error}"))
        })?;
        stream.set_nodelay(true)?;
        let mut hello = Vec::new();
        dialect.hello(who, &mut hello);
        (&stream).write_all(&hello)?;
        let mut connection = Self::new(stream, dialect, who);
        connection.expect_welcome(address)?;
        connection.stream.set_nonblocking(true)?;
        Ok(connection)
    }

    fn expect_welcome(&mut self, address: SocketAddr) -> Result<()> {
        let unreachable =
            |why: String| Failure::Unreachable(format!("{address} does not answer a hello: {why}"));
        self.stream.set_read_timeout(Some(HELLO_PATIENCE))?;
        let who = self.who;
        let mut scratch = Scratch::small();
        while self.answers == 0 {
            let n = match (&self.stream).read(&mut scratch.bytes) {
                Ok(0) => return Err(unreachable("it closed the connection".to_owned()).into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreachable(error.to_string()).into()),
            };
            self.tail.extend_from_slice(&scratch.bytes[..n]);
            let bytes = std::mem::take(&mut self.tail);
            let used = self.scan(&bytes, &mut scratch.found, &mut |_, _| Err(early(who)))?;
            self.tail.extend_from_slice(&bytes[used..]);
        }
        Ok(())
    }

    /// Reads until nothing is left, and hands over each message, with room for what to say to it; then says it.
    #[inline]
    pub fn read(
        &mut self,
        scratch: &mut Scratch,
        each: impl FnMut(Message<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<()> {
        self.listen(scratch, each)?;
        if self.out.is_empty() { Ok(()) } else { self.flush() }
    }

    /// The same, but says nothing before the next [`flush`](Self::flush): for those who may have written half a
    /// message.
    #[inline]
    pub fn listen(
        &mut self,
        scratch: &mut Scratch,
        mut each: impl FnMut(Message<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<()> {
        loop {
            let kept = self.tail.len();
            if kept * 2 > scratch.bytes.len() {
                scratch.bytes.resize(kept * 4, 0);
            }
            scratch.bytes[..kept].copy_from_slice(&self.tail);
            let n = match (&self.stream).read(&mut scratch.bytes[kept..]) {
                Ok(0) => return Err(self.hung_up().into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(anyhow::Error::new(error).context(self.hung_up())),
            };
            let filled = kept + n;
            let bytes = &scratch.bytes[..filled];
            let used = self.scan(bytes, &mut scratch.found, &mut each)?;
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[used..]);
            if filled < scratch.bytes.len() {
                return Ok(());
            }
        }
    }

    /// Hands over every message in `bytes` that is whole; answers how many bytes those were.
    #[inline]
    fn scan(
        &mut self,
        bytes: &[u8],
        found: &mut Found,
        each: &mut impl FnMut(Message<'_>, &mut Vec<u8>) -> Result<(), Failure>,
    ) -> Result<usize> {
        let mut at = 0;
        loop {
            found.messages.clear();
            let used = self.dialect.scan(&bytes[at..], found)?;
            for span in &found.messages {
                each(span.of(&bytes[at..]), &mut found.say)?;
            }
            at += used;
            if used == 0 || at == bytes.len() {
                break;
            }
        }
        self.answers += std::mem::take(&mut found.answers);
        self.out.append(&mut found.say);
        Ok(at)
    }

    /// Writes as much of `bytes` as the socket takes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        loop {
            match (&self.stream).write(bytes) {
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(anyhow::Error::new(error).context(self.hung_up())),
            }
        }
    }

    /// Sends a question that the server answers at once; [`Connection::answers`] tells when it has.
    pub fn ping(&mut self) -> Result<()> {
        self.dialect.ping(&mut self.out);
        self.flush()
    }

    /// Makes sure that no message comes any more before the answer to a ping.
    pub fn expect_nothing(&mut self, patience: Duration) -> Result<()> {
        let (wanted, deadline) = (self.answers + 1, Instant::now() + patience);
        let mut scratch = Scratch::small();
        self.ping()?;
        while self.answers < wanted {
            let who = self.who;
            self.read(&mut scratch, |_, _| {
                Err(Failure::Check(format!("{who} got a message more than all of its own")))
            })?;
            self.flush()?;
            if Instant::now() > deadline {
                let what = format!("the server answered no ping of {who} within {patience:?}");
                return Err(Failure::Check(what).into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// How often the server has answered a hello or a ping.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Says this as well, when the next [`flush`](Self::flush) does.
    pub fn say(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes what was to be said; what the socket does not take yet is kept.
    pub fn flush(&mut self) -> Result<()> {
        let out = std::mem::take(&mut self.out);
        let mut written = 0;
        while written < out.len() {
            match self.write(&out[written..])? {
                0 => break,
                n => written += n,
            }
        }
        self.out.extend_from_slice(&out[written..]);
        Ok(())
    }

    fn hung_up(&self) -> Failure {
        match self.answers {
            0 if !self.resumed => {
                Failure::Unreachable(format!("the server does not let {} in", self.who))
            }
            _ => Failure::Check(format!("the server hung up on {}", self.who)),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Waits until `condition` holds, which something outside makes true before long.
pub fn eventually(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + HELLO_PATIENCE;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(Failure::Unreachable(what.to_owned())).context("gave up waiting");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn early(who: Who) -> Failure {
    Failure::Check(format!("{who} got a message before anything was sent"))
}

/// How much is read at a time. The more, the less often everybody is woken.
const READ: usize = 1 << 20;
const READ_LITTLE: usize = 64 << 10;
const IN_PROGRESS: i32 = Errno::INPROGRESS.raw_os_error();
/// How long a server may take to answer a hello.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::bench::dialect::Nats;

    #[test]
    fn who_listens_answers_a_ping_with_the_next_flush() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut connection = Connection::resume(stream, Arc::new(Nats), Who::Sender(0));
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(b"PING\r\nPONG\r\n").unwrap();
        let mut scratch = Scratch::small();
        while connection.answers() == 0 {
            connection.listen(&mut scratch, |_, _| Err(early(Who::Sender(0)))).unwrap();
        }
        // The rest of a message may be written now, and nothing lies before it.
        connection.write(b"rest").unwrap();
        connection.flush().unwrap();
        let mut written = [0; 10];
        server.read_exact(&mut written).unwrap();
        assert_eq!(&written, b"restPONG\r\n");
    }
}
