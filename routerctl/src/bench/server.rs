//! The servers under test: started here on a free port and killed at the end, or somebody else's that is
//! only talked to. What one costs is read from /proc, for which its process id must be known.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

use crate::bench::connection::{Connection, eventually};
use crate::bench::dialect::{Dialect, Relay, Switchboard, Who};
use crate::failure::Failure;

/// A server that takes part.
pub struct Server {
    name: String,
    address: SocketAddr,
    dialect: Arc<dyn Dialect>,
    is_router: bool,
    pid: Option<u32>,
    child: Option<Child>,
}

/// What a server spends, from [`Meter::start`] on.
#[derive(Debug)]
pub struct Meter {
    pid: Option<u32>,
    cpu_ns: Option<u64>,
    own_ns: u64,
    start: Instant,
}

/// What it spent.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    /// CPU time of all its threads, user and system; unknown without a process id.
    pub cpu_ns: Option<u64>,
    /// CPU time of the generator.
    pub own_ns: u64,
    pub took: Duration,
}

impl Server {
    /// Starts a router on a free port.
    pub fn router(name: impl Into<String>, program: &Path, config: Option<&Path>) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--listen", ANY_PORT, "--admin", ANY_PORT, "--log", "error"]);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| {
                cannot_start(
                    program,
                    format!("{error}; build it (cargo build --release --bin router) or name one with --router"),
                )
            })?;
        // From here on it is killed whatever happens.
        let mut server = Self::started(name.into(), Arc::new(Switchboard::new()), child);
        server.is_router = true;
        server.at_announced_address(program)
    }

    /// Starts a relay on a free port: this program again, as a process of its own.
    pub fn relay() -> Result<Self> {
        let program = std::env::current_exe().context("this program has no path")?;
        let mut command = Command::new(&program);
        command.args(["bench", "relay"]);
        let dialect = Arc::new(Relay::new());
        let start = |error: io::Error| cannot_start(&program, error.to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(start)?;
        let server = Self::started("relay".to_owned(), dialect, child);
        server.at_announced_address(&program)
    }

    /// A process of another program, whose address is to be told.
    pub fn started(name: String, dialect: Arc<dyn Dialect>, child: Child) -> Self {
        let (pid, address) = (Some(child.id()), SocketAddr::from(([0; 4], 0)));
        Self { name, address, dialect, is_router: false, pid, child: Some(child) }
    }

    /// The same once it listens on this port of this machine.
    pub fn at_port(mut self, port: u16) -> Result<Self> {
        self.address = SocketAddr::from(([127, 0, 0, 1], port));
        let (name, address) = (&self.name, self.address);
        eventually(&format!("{name} does not answer"), || {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                let what = format!("{name} has ended instead of listening: {status}");
                return Err(Failure::Unreachable(what).into());
            }
            Ok(TcpStream::connect(address).is_ok())
        })?;
        Ok(self)
    }

    /// The same at the address that its first line tells.
    fn at_announced_address(mut self, program: &Path) -> Result<Self> {
        let stdout = self.child.as_mut().and_then(|child| child.stdout.take());
        let mut line = String::new();
        BufReader::new(stdout.context("a pipe was asked for")?).read_line(&mut line)?;
        // ready listen=127.0.0.1:34567 admin=127.0.0.1:34568
        let address = line.split_whitespace().find_map(|word| word.strip_prefix("listen="));
        let address = address.and_then(|address| address.parse().ok());
        self.address = address.ok_or_else(|| {
            cannot_start(program, format!("it printed {line:?} and not where it listens"))
        })?;
        Ok(self)
    }

    /// A router that runs already.
    pub fn attach(address: &str, pid: Option<u32>) -> Result<Self> {
        let found = address.to_socket_addrs().map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => Failure::Usage(format!(
                "--connect: `{address}` is not an address: write host:port, such as 127.0.0.1:2000"
            )),
            _ => Failure::Unreachable(format!("`{address}`: {error}")),
        })?;
        let unknown = || Failure::Unreachable(format!("`{address}` has no address"));
        let found = found.into_iter().next().ok_or_else(unknown)?;
        let (name, dialect) = (format!("router at {address}"), Arc::new(Switchboard::new()));
        let is_router = true;
        let server = Self { name, address: found, dialect, is_router, pid, child: None };
        if server.cpu_ns().is_err() {
            let what = format!("--pid: there is no process {}", pid.unwrap_or_default());
            return Err(Failure::Usage(what).into());
        }
        Ok(server)
    }

    /// What it is called in tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is spoken to.
    pub fn dialect(&self) -> &dyn Dialect {
        &*self.dialect
    }

    /// Where it listens, for nodes of the SDK.
    ///
    /// # Errors
    /// If it is no router.
    pub fn router_address(&self) -> Result<String> {
        if !self.is_router {
            let what = format!("--sdk: {} is no router", self.name);
            return Err(Failure::Usage(what).into());
        }
        Ok(self.address.to_string())
    }

    /// A connection that may send or receive.
    pub fn join(&self, who: Who) -> Result<Connection> {
        Connection::join(self.address, self.dialect.clone(), who)
    }

    /// The same, but joining goes on while others do. Each so many come from another address, as long as it is
    /// this machine that they talk to.
    pub fn begin(&self, who: Who, number: usize) -> Result<Connection> {
        let block = (number / PORTS) as u32;
        let from = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && block > 0 => {
                Some(Ipv4Addr::from_bits(OTHER_ADDRESSES.to_bits() + block))
            }
            _ => None,
        };
        Connection::begin(self.address, from, self.dialect.clone(), who)
    }

    /// A connection of which only the socket was kept.
    pub fn resume(&self, stream: TcpStream, who: Who) -> Connection {
        Connection::resume(stream, self.dialect.clone(), who)
    }

    /// Its resident memory in bytes, if its process id is known.
    pub fn memory(&self) -> Result<Option<u64>> {
        self.pid.map(memory).transpose()
    }

    fn cpu_ns(&self) -> Result<Option<u64>> {
        self.pid.map(cpu_ns).transpose()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Meter {
    pub fn start(server: &Server) -> Result<Self> {
        let (pid, cpu_ns) = (server.pid, server.cpu_ns()?);
        Ok(Self { pid, cpu_ns, own_ns: own_cpu_ns(), start: Instant::now() })
    }

    pub fn stop(self) -> Result<Spent> {
        let took = self.start.elapsed();
        let now = self.pid.map(cpu_ns).transpose()?;
        let cpu_ns = now.zip(self.cpu_ns).map(|(now, then)| now - then);
        Ok(Spent { cpu_ns, own_ns: own_cpu_ns() - self.own_ns, took })
    }
}

/// The CPU time of this process, of threads that have ended as well.
fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The CPU time of all threads of a process, user and system.
fn cpu_ns(pid: u32) -> Result<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|_| Failure::Check(format!("there is no process {pid} any more")))?;
    let mut sum = 0;
    for task in tasks {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += stat.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// The resident memory of a process, in bytes.
fn memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|_| Failure::Check(format!("there is no process {pid} any more")))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("VmRSS is not in kB")? * 1024)
}

/// What to say of a program that does not run.
pub fn cannot_start(program: &Path, why: String) -> Failure {
    Failure::Unreachable(format!("can't start {}: {why}", program.display()))
}

/// How many connections come from one address: so few that the kernel finds a free port at once.
const PORTS: usize = 1_000;
/// The one before the first of the addresses that further connections come from.
const OTHER_ADDRESSES: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 0);
const ANY_PORT: &str = "127.0.0.1:0";
