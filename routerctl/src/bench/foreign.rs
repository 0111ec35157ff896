//! Servers of others that do the same work: where their programs are, and how each is started on a free
//! port, with the settings that suit it best. `server` has what is true of all servers.

use std::env;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::Result;

use crate::bench::dialect::{Dialect, Nats, Redis};
use crate::bench::server::{Server, cannot_start};
use crate::failure::Failure;

/// Where a program is that a Debian package of the same name brings.
///
/// # Errors
/// If it is not installed.
pub fn installed(program: &str) -> Result<PathBuf, Failure> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian puts daemons where not everybody looks.
    let places = env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    let mut found = places.map(|place| place.join(program)).filter(|path| path.is_file());
    found.next().ok_or_else(|| {
        Failure::Unreachable(format!("the Debian package {program} is not installed"))
    })
}

/// Starts nats-server.
pub fn nats(program: &Path) -> Result<Server> {
    start("nats-server", Arc::new(Nats), program, |port| {
        [&["-a", HERE, "-p", port], NATS_SETTINGS].concat()
    })
}

/// Starts redis-server.
pub fn redis(program: &Path) -> Result<Server> {
    start("redis-server", Arc::new(Redis), program, |port| {
        [&["--bind", HERE, "--port", port], REDIS_SETTINGS].concat()
    })
}

fn start(
    name: &str,
    dialect: Arc<dyn Dialect>,
    program: &Path,
    options: impl for<'a> FnOnce(&'a str) -> Vec<&'a str>,
) -> Result<Server> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let child = Command::new(program)
        .args(options(&port.to_string()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| cannot_start(program, error.to_string()))?;
    Server::started(name.to_owned(), dialect, child).at_port(port)
}

/// Its defaults are what its authors advise.
pub const NATS_SETTINGS: &[&str] = &[];
/// Nothing goes to disk, and nobody is closed for being behind, since the senders have a window. Threads for
/// I/O wait by spinning: with two on two cores W2 cost four times as much CPU at half the rate.
pub const REDIS_SETTINGS: &[&str] = &[
    "--save",
    "",
    "--appendonly",
    "no",
    "--client-output-buffer-limit",
    "pubsub 0 0 0",
    "--protected-mode",
    "no",
    "--io-threads",
    "1",
    "--maxclients",
    "100000",
];
const HERE: &str = "127.0.0.1";
