//! A node in plain blocking code. It says what it is told to say, proper or not, and does nothing by
//! itself: it neither pings nor reconnects, and it reads only while something is expected.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use switchboard_protocol::control::{Event, GoAway, Hello, Ping, Refused, Welcome};
use switchboard_protocol::{Control, Frame, Kind, Report, ServiceId};

use crate::frames;
use crate::wait::PATIENCE;

/// A connection to a router.
#[derive(Debug)]
pub struct RawNode {
    stream: Stream,
    buffer: BytesMut,
    inbox: VecDeque<Incoming>,
    /// The ids that it registered with its Hello.
    pub ids: Vec<ServiceId>,
}

/// What a router sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// A frame from another node.
    Data(Frame),
    /// A control message.
    Control(Control),
    /// What became of a frame.
    Report(Report),
    /// The router closed the connection, orderly or not.
    Closed,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl RawNode {
    /// Connects to `127.0.0.1:34567` or `unix:/path`, and says nothing.
    ///
    /// # Panics
    /// If nobody listens there.
    #[must_use]
    #[track_caller]
    pub fn connect(address: &str) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Connects, and says nothing.
    pub fn try_connect(address: &str) -> io::Result<Self> {
        let stream = match address.strip_prefix("unix:") {
            Some(path) => Stream::Unix(UnixStream::connect(path)?),
            None => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
        };
        stream.set_write_timeout(PATIENCE)?;
        Ok(Self { stream, buffer: BytesMut::new(), inbox: VecDeque::new(), ids: Vec::new() })
    }

    /// Connects and registers these ids.
    ///
    /// # Panics
    /// If they are refused.
    #[must_use]
    #[track_caller]
    pub fn join(address: &str, ids: &[&str]) -> Self {
        let mut node = Self::connect(address);
        node.hello(frames::hello(ids));
        node
    }

    /// Says Hello, and waits for Welcome.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn hello(&mut self, hello: Hello) -> Welcome {
        self.say(Control::Hello(hello));
        let welcome = self.expect("Welcome", |incoming| match incoming {
            Incoming::Control(Control::Welcome(welcome)) => Some(welcome.clone()),
            _ => None,
        });
        self.ids.clone_from(&welcome.ids);
        welcome
    }

    /// The first id that it registered.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        self.ids[0]
    }

    // ---- sending -------------------------------------------------------------------------------

    /// Sends a control message.
    #[track_caller]
    pub fn say(&mut self, message: Control) {
        self.send(&message.to_frame());
    }

    /// Sends a frame.
    #[track_caller]
    pub fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.to_bytes());
    }

    /// Sends frames in one write.
    #[track_caller]
    pub fn send_all<'a>(&mut self, frames: impl IntoIterator<Item = &'a Frame>) {
        let mut bytes = BytesMut::new();
        frames.into_iter().for_each(|frame| frame.encode(&mut bytes));
        self.send_bytes(&bytes);
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the router does not take them.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).unwrap_or_else(|error| panic!("can't send: {error}"));
    }

    /// Sends bytes, which a router that closes the connection does not take.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends as many of these bytes as go out before the router has not taken any for `patience`.
    /// Answers how many those were.
    ///
    /// # Panics
    /// If the connection fails.
    #[track_caller]
    pub fn send_until_stuck(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(patience).expect("a timeout can be set");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    break;
                }
                Err(error) => panic!("can't send: {error}"),
            }
        }
        self.stream.set_write_timeout(PATIENCE).expect("a timeout can be set");
        sent
    }

    /// Says that it sends no more; it can still read.
    ///
    /// # Panics
    /// If the connection is gone.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is there");
    }

    /// A second handle to the same connection, with an inbox of its own, so that one thread sends while
    /// another reads.
    ///
    /// # Panics
    /// If the system has no descriptor left.
    #[must_use]
    pub fn other_half(&self) -> Self {
        let stream = self.stream.try_clone().expect("a descriptor is free");
        let (buffer, inbox) = (BytesMut::new(), VecDeque::new());
        Self { stream, buffer, inbox, ids: self.ids.clone() }
    }

    // ---- reading -------------------------------------------------------------------------------

    /// Waits for something that `pick` takes; what comes before it is kept for later.
    ///
    /// # Panics
    /// If it does not come in time, or the connection ends before.
    #[track_caller]
    pub fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(&Incoming) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            while let Some(incoming) = self.inbox.get(at) {
                if let Some(found) = pick(incoming) {
                    if *incoming != Incoming::Closed {
                        self.inbox.remove(at);
                    }
                    return found;
                }
                at += 1;
            }
            let open = self.inbox.back() != Some(&Incoming::Closed);
            if !open || !self.read_some(deadline) {
                let why = if open { "nothing came in time" } else { "the connection ended" };
                panic!("expected {what}, but {why}; came: {:?}", self.summary());
            }
        }
    }

    /// The next data frame.
    #[track_caller]
    pub fn expect_data(&mut self) -> Frame {
        self.expect("a data frame", |incoming| match incoming {
            Incoming::Data(frame) => Some(frame.clone()),
            _ => None,
        })
    }

    /// The next report.
    #[track_caller]
    pub fn expect_report(&mut self) -> Report {
        self.expect("a report", |incoming| match incoming {
            Incoming::Report(report) => Some(*report),
            _ => None,
        })
    }

    /// The next Refused.
    #[track_caller]
    pub fn expect_refused(&mut self) -> Refused {
        self.expect("Refused", |incoming| match incoming {
            Incoming::Control(Control::Refused(refused)) => Some(refused.clone()),
            _ => None,
        })
    }

    /// The next event.
    #[track_caller]
    pub fn expect_event(&mut self) -> Event {
        self.expect("an event", |incoming| match incoming {
            Incoming::Control(Control::Event(event)) => Some(event.clone()),
            _ => None,
        })
    }

    /// The next GoAway.
    #[track_caller]
    pub fn expect_go_away(&mut self) -> GoAway {
        self.expect("GoAway", |incoming| match incoming {
            Incoming::Control(Control::GoAway(go_away)) => Some(*go_away),
            _ => None,
        })
    }

    /// The end of the connection.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        self.expect("the end", |incoming| (*incoming == Incoming::Closed).then_some(()));
    }

    /// Pings, and waits for the answer. Whatever this node sent before is dealt with then, and whatever
    /// was put into its mailbox before is in its inbox.
    #[track_caller]
    pub fn sync(&mut self) {
        let nonce = 0x5357_0000 + u64::from(self.next_nonce());
        self.say(Control::Ping(Ping { nonce }));
        self.expect("Pong", |incoming| {
            (*incoming == Incoming::Control(Control::Pong(Ping { nonce }))).then_some(())
        });
    }

    /// What has come and was not expected.
    #[must_use]
    pub fn inbox(&self) -> impl Iterator<Item = &Incoming> {
        self.inbox.iter()
    }

    /// The data frames that have come and were not expected; they are taken out.
    pub fn take_data(&mut self) -> Vec<Frame> {
        let (data, rest): (Vec<_>, Vec<_>) =
            self.inbox.drain(..).partition(|incoming| matches!(incoming, Incoming::Data(_)));
        self.inbox.extend(rest);
        data.into_iter()
            .filter_map(|incoming| match incoming {
                Incoming::Data(frame) => Some(frame),
                _ => None,
            })
            .collect()
    }

    /// The reports that have come and were not expected; they are taken out.
    pub fn take_reports(&mut self) -> Vec<Report> {
        let (reports, rest): (Vec<_>, Vec<_>) =
            self.inbox.drain(..).partition(|incoming| matches!(incoming, Incoming::Report(_)));
        self.inbox.extend(rest);
        reports
            .into_iter()
            .filter_map(|incoming| match incoming {
                Incoming::Report(report) => Some(report),
                _ => None,
            })
            .collect()
    }

    /// Reads until the connection ends or nothing has come for `patience`. Answers whether it ended.
    pub fn read_for(&mut self, patience: Duration) -> bool {
        loop {
            if self.inbox.back() == Some(&Incoming::Closed) {
                return true;
            }
            if !self.read_some(Instant::now() + patience) {
                return false;
            }
        }
    }

    /// Reads once, and adds what came to the inbox. Answers whether anything did before the deadline.
    fn read_some(&mut self, deadline: Instant) -> bool {
        let mut chunk = [0; 64 << 10];
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || self.stream.set_read_timeout(left).is_err() {
            return false;
        }
        match self.stream.read(&mut chunk) {
            Ok(0) => self.inbox.push_back(Incoming::Closed),
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                self.take_frames();
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return false,
                ErrorKind::Interrupted => {}
                _ => self.inbox.push_back(Incoming::Closed),
            },
        }
        true
    }

    fn take_frames(&mut self) {
        loop {
            match Frame::decode(&mut self.buffer, u32::MAX) {
                Ok(Some(frame)) => self.inbox.push_back(incoming(frame)),
                Ok(None) => return,
                Err(error) => panic!("the router sent what is not a frame: {error}"),
            }
        }
    }

    fn next_nonce(&self) -> u32 {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, Relaxed)
    }

    fn summary(&self) -> Vec<String> {
        let short = |incoming: &Incoming| match incoming {
            Incoming::Data(frame) => format!("{:?}, {} bytes", frame.header, frame.payload.len()),
            other => format!("{other:?}"),
        };
        self.inbox.iter().take(20).map(short).collect()
    }
}

#[track_caller]
fn incoming(frame: Frame) -> Incoming {
    match frame.header.kind {
        Kind::Data(_) => Incoming::Data(frame),
        Kind::Report => Incoming::Report(
            Report::decode(&frame.payload).expect("the router sends whole reports"),
        ),
        _ => match Control::decode(&frame.payload) {
            Ok(message) => Incoming::Control(message),
            Err(error) => panic!("the router sent what is not a message: {error}"),
        },
    }
}

impl Stream {
    fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(Some(timeout)),
            Self::Unix(stream) => stream.set_write_timeout(Some(timeout)),
        }
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
    }
}
