//! Where nodes connect. Connections are dealt to the shards in turn.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tracing::warn;

use crate::config::Address;
use crate::forward::local::Local;
use crate::session::Serving;
use crate::shared::Shared;
use crate::stream::Accepted;

/// A bound address.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// The file of a Unix socket; it goes with the listener.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

/// Deals connections to shards.
#[derive(Debug, Clone)]
pub(crate) struct Dealer {
    shards: Arc<[Handle]>,
    next: Arc<AtomicUsize>,
    shared: Arc<Shared>,
}

impl Listener {
    /// Binds an address. Port 0 takes any free port.
    pub(crate) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => bind_tcp(*address).map(Self::Tcp),
            Address::Unix(path) => bind_unix(path),
        }
    }

    /// Where it listens in fact.
    pub(crate) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, file) => Ok(Address::Unix(file.0.clone())),
        }
    }

    /// Accepts for as long as the task lives.
    pub(crate) async fn run(self, dealer: Dealer) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                loop {
                    let accepted = listener.accept().await;
                    dealer
                        .deal(accepted.and_then(|(stream, _)| stream.into_std()).map(Accepted::Tcp))
                        .await;
                }
            }
            Self::Unix(listener, _file) => {
                let listener = UnixListener::from_std(listener)?;
                loop {
                    let accepted = listener.accept().await;
                    dealer
                        .deal(
                            accepted.and_then(|(stream, _)| stream.into_std()).map(Accepted::Unix),
                        )
                        .await;
                }
            }
        }
    }
}

impl Dealer {
    /// A dealer for these shards.
    pub(crate) fn new(shards: Vec<Handle>, shared: Arc<Shared>) -> Self {
        Self { shards: shards.into(), next: Arc::default(), shared }
    }

    /// Gives a connection to the shard whose turn it is.
    pub(crate) fn give(&self, accepted: Accepted) {
        let turn = self.next.fetch_add(1, Relaxed) % self.shards.len();
        self.shards[turn].spawn(Serving::new(accepted, self.shared.clone()));
    }

    async fn deal(&self, accepted: io::Result<Accepted>) {
        match accepted {
            Ok(accepted) => self.give(accepted),
            Err(error) => {
                Local::with(|local| local.out.counters.accept_failures.increment());
                // Out of descriptors, mostly: those who wait are let in when others have left.
                warn!(%error, "accept failed");
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
}

/// Binds a TCP address; also for the admin server.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    // A socket file outlives a router that was killed. If nobody answers there, it is free. Connecting
    // to a file of another kind is refused just so, and that one is not ours to remove.
    if let Ok(file) = std::fs::symlink_metadata(path) {
        if !file.file_type().is_socket() {
            return Err(io::Error::other("there is a file that is not a socket"));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            _ => return Err(io::ErrorKind::AddrInUse.into()),
        }
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, SocketFile(path.to_owned())))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Someone may have removed it before; then there is nothing to do.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// How many connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4_096;
const AFTER_FAILURE: Duration = Duration::from_millis(100);
