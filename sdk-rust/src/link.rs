//! One connection to one router, up to its Welcome: where to dial, how to dial, how to greet.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use switchboard_protocol::control::{Hello, Welcome};
use switchboard_protocol::limits::DEFAULT_MAX_FRAME;
use switchboard_protocol::{Control, Frame, Kind, RefusalCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where a router listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`.
    Tcp(String),
    /// `unix:/path`.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

/// An open connection. The halves are apart, so that a router which doesn't read does not keep
/// this node from reading.
pub(crate) struct Link {
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What has been read and not yet taken apart.
    pub(crate) buffer: BytesMut,
    /// Frames that overtook Welcome: a node is reachable before it knows.
    pub(crate) early: Vec<Frame>,
    /// When Hello was sent: the router had heard this node no earlier.
    pub(crate) greeted: Instant,
}

/// Why there is no Welcome.
#[derive(Debug)]
pub(crate) enum GreetError {
    Io(io::Error),
    Refused { code: RefusalCode, text: String },
}

impl Address {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            #[cfg(unix)]
            return Ok(Self::Unix(path.into()));
            #[cfg(not(unix))]
            return Err(format!("`{path}`: this platform has no unix sockets"));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(text.to_owned()))
            }
            _ => Err(format!("`{text}` is not an address: write host:port or unix:/path")),
        }
    }

    async fn dial(&self) -> io::Result<Link> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Frames are batched here; the kernel need not wait for more.
                stream.set_nodelay(true)?;
                let (reader, writer) = stream.into_split();
                Ok(Link::new(reader, writer))
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let (reader, writer) = tokio::net::UnixStream::connect(path).await?.into_split();
                Ok(Link::new(reader, writer))
            }
        }
    }

    /// Dials and greets.
    pub(crate) async fn connect(
        &self,
        hello: Hello,
        timeout: Duration,
    ) -> Result<(Link, Welcome), GreetError> {
        let attempt = async {
            let mut link = self.dial().await?;
            let welcome = link.greet(hello).await?;
            Ok((link, welcome))
        };
        tokio::time::timeout(timeout, attempt).await.unwrap_or_else(|_| {
            let text = format!("no answer within {timeout:?}");
            Err(GreetError::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Link {
    fn new(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            buffer: BytesMut::with_capacity(READ_BUFFER),
            early: Vec::new(),
            greeted: Instant::now(),
        }
    }

    async fn greet(&mut self, hello: Hello) -> Result<Welcome, GreetError> {
        self.greeted = Instant::now();
        self.writer.write_all(&Control::Hello(hello).to_frame().to_bytes()).await?;
        loop {
            let frame = self.next_frame().await?;
            if frame.header.kind != Kind::Control {
                self.early.push(frame);
                continue;
            }
            match Control::decode(&frame.payload).map_err(not_a_router)? {
                Control::Welcome(welcome) => return Ok(welcome),
                Control::Refused(refused) => {
                    let code = RefusalCode::from_raw(refused.code);
                    return Err(GreetError::Refused { code, text: refused.text });
                }
                _ => self.early.push(frame),
            }
        }
    }

    async fn next_frame(&mut self) -> Result<Frame, GreetError> {
        loop {
            if self.early.len() > EARLY_FRAMES {
                return Err(not_a_router("no Welcome came, and much else").into());
            }
            let frame = Frame::decode(&mut self.buffer, DEFAULT_MAX_FRAME);
            if let Some(frame) = frame.map_err(not_a_router)? {
                return Ok(frame);
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                let text = "closed without an answer";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into());
            }
        }
    }
}

fn not_a_router(why: impl std::fmt::Display) -> io::Error {
    let text = format!("what answers is not a router: {why}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl From<io::Error> for GreetError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How much is read at a time: 128 KiB.
pub(crate) const READ_BUFFER: usize = 128 << 10;

/// How many frames may come before Welcome.
const EARLY_FRAMES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_or_a_unix_socket() {
        for text in ["127.0.0.1:2000", "[::1]:2000", "router.example:2000", "unix:/run/sb.sock"] {
            assert_eq!(Address::read(text).unwrap().to_string(), text);
        }
        for text in ["", "localhost", ":2000", "localhost:http"] {
            let why = Address::read(text).unwrap_err();
            assert_eq!(why, format!("`{text}` is not an address: write host:port or unix:/path"));
        }
    }
}
