//! A connection's two halves, over TCP or a Unix socket. The session's task holds the read half; the
//! write half belongs to whoever writes, see [`crate::mailbox`].

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// A connection as the listener accepts it, not yet bound to a runtime.
#[derive(Debug)]
pub enum Accepted {
    /// Over TCP.
    Tcp(std::net::TcpStream),
    /// Over a Unix socket.
    Unix(std::os::unix::net::UnixStream),
    /// The router's own end of a session with itself.
    Own(std::os::unix::net::UnixStream),
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A process of this machine, where the system tells which.
    Unix(Option<i32>),
    /// The router itself.
    Own,
    /// Nobody could tell any more.
    Unknown,
}

/// The half that the session's task reads.
#[derive(Debug)]
pub enum ReadHalf {
    /// Over TCP.
    Tcp(tcp::OwnedReadHalf),
    /// Over a Unix socket.
    Unix(unix::OwnedReadHalf),
}

/// The half that sends. Dropping it tells the peer that nothing more comes.
#[derive(Debug)]
pub enum WriteHalf {
    /// Over TCP.
    Tcp(tcp::OwnedWriteHalf),
    /// Over a Unix socket.
    Unix(unix::OwnedWriteHalf),
    /// In a model.
    #[cfg(all(test, feature = "model"))]
    Model(std::sync::Arc<crate::mailbox::model::Wire>),
}

impl Accepted {
    /// Binds the connection to the runtime of this thread.
    pub fn into_halves(self) -> io::Result<(ReadHalf, WriteHalf, Peer)> {
        Ok(match self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                // A peer that is gone already is found so when it is read.
                let peer = stream.peer_addr().map_or(Peer::Unknown, Peer::Tcp);
                let (read, write) = TcpStream::from_std(stream)?.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write), peer)
            }
            Self::Unix(stream) => {
                let stream = UnixStream::from_std(stream)?;
                let peer = Peer::Unix(stream.peer_cred().ok().and_then(|cred| cred.pid()));
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write), peer)
            }
            Self::Own(stream) => {
                let (read, write) = UnixStream::from_std(stream)?.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write), Peer::Own)
            }
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(Some(pid)) => write!(f, "unix:pid={pid}"),
            Self::Unix(None) => f.write_str("unix"),
            Self::Own => f.write_str("router"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

impl ReadHalf {
    /// Reads what is there, up to the length of `buffer`; 0 is the end of the stream.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, &mut buffer),
            Self::Unix(half) => Pin::new(half).poll_read(cx, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Waits until the socket takes bytes again.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => half.as_ref().poll_write_ready(cx),
            Self::Unix(half) => half.as_ref().poll_write_ready(cx),
        }
    }
}

impl WriteHalf {
    /// Writes what the socket takes at once. Any thread may call it.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Unix(half) => half.try_write(bytes),
            #[cfg(all(test, feature = "model"))]
            Self::Model(wire) => wire.write(bytes),
        }
    }

    /// The same, from several places.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write_vectored(slices),
            Self::Unix(half) => half.try_write_vectored(slices),
            #[cfg(all(test, feature = "model"))]
            Self::Model(wire) => slices.first().map_or(Ok(0), |slice| wire.write(slice)),
        }
    }
}
