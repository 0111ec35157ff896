//! Floods a router with raw frames and prints what a message costs it in CPU time, beside nats-server
//! under the same work in the same run.
//!
//! ```text
//! cargo build --release --bin router --bin flood
//! target/release/flood [--messages 10000000] [--rounds 5] [--payload 64]
//!     [--alone] [--w1 | --w2] [--beside path/to/another/router]
//! ```
//!
//! W1: one sender, one receiver. W2: four senders, four receivers, message i to receiver i mod 4. Every
//! message is numbered, and every receiver checks order and count. CPU time is that of all threads of the
//! server process, from /proc. nats-server is left out where it is not installed. Another router, such as
//! that of an earlier commit, takes part where it is named. The ratio is the median of the rounds' ratios.
#![allow(clippy::print_stdout)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use switchboard_protocol::control::{Hello, Service};
use switchboard_protocol::limits::VERSION;
use switchboard_protocol::{Class, Control, Frame, Header, Instance, ServiceId};

fn main() -> Result<()> {
    let options = Options::parse()?;
    let own = std::env::current_exe()?.with_file_name("router");
    let mut servers = vec![Server::router("switchboard", &own)?];
    if let Some(other) = &options.beside {
        servers.push(Server::router("the other router", other)?);
    }
    match Server::nats() {
        _ if options.alone => {}
        Ok(nats) => servers.push(nats),
        Err(error) => println!("nats-server is left out: {error:#}"),
    }
    let workloads = &options.workloads;
    let mut results: Vec<Vec<Vec<Cost>>> = vec![vec![Vec::new(); servers.len()]; workloads.len()];
    for round in 0..=options.rounds {
        for (w, (_, pairs)) in workloads.iter().enumerate() {
            for (s, server) in servers.iter().enumerate() {
                let cost = run(server, *pairs, &options)?;
                // The first round warms up.
                if round > 0 {
                    results[w][s].push(cost);
                }
            }
        }
    }
    println!(
        "{} messages of {} bytes, {} rounds; median (min-max)",
        options.messages, options.payload, options.rounds
    );
    println!("| | server | CPU ns per message | messages per second | ratio of CPU |");
    println!("|---|---|---|---|---|");
    for (w, (name, _)) in workloads.iter().enumerate() {
        for (s, server) in servers.iter().enumerate() {
            let cpu: Vec<f64> = results[w][s].iter().map(|cost| cost.cpu_ns).collect();
            let rate = median(results[w][s].iter().map(|cost| cost.rate));
            let (low, high) = (
                cpu.iter().copied().fold(f64::MAX, f64::min),
                cpu.iter().copied().fold(0.0, f64::max),
            );
            let cpu = median(cpu.into_iter());
            let rounds = results[w][s].iter().zip(&results[w][0]);
            let ratio = median(rounds.map(|(cost, base)| cost.cpu_ns / base.cpu_ns));
            println!(
                "| {name} | {} | {cpu:.1} ({low:.0}-{high:.0}) | {:.2} M | {ratio:.3} |",
                server.name,
                rate / 1e6,
            );
        }
    }
    Ok(())
}

struct Options {
    alone: bool,
    workloads: Vec<(&'static str, usize)>,
    messages: u64,
    rounds: usize,
    payload: usize,
    beside: Option<PathBuf>,
}

#[derive(Clone, Copy)]
struct Cost {
    cpu_ns: f64,
    rate: f64,
}

impl Options {
    fn parse() -> Result<Self> {
        let workloads = vec![("W1", 1), ("W2", 4)];
        let mut options = Self {
            alone: false,
            workloads,
            messages: 10_000_000,
            rounds: 5,
            payload: 64,
            beside: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--alone" => options.alone = true,
                "--w1" => options.workloads = vec![("W1", 1)],
                "--w2" => options.workloads = vec![("W2", 4)],
                "--beside" => {
                    options.beside = Some(args.next().context("--beside takes a path")?.into());
                }
                _ => options.set(&flag, args.next())?,
            }
        }
        ensure!(options.payload >= 8, "--payload is 8 or more: a message holds its number");
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: Option<String>) -> Result<()> {
        let value: u64 = value
            .and_then(|value| value.parse().ok())
            .with_context(|| format!("{flag} takes a number"))?;
        match flag {
            "--messages" => self.messages = value,
            "--rounds" => self.rounds = value as usize,
            "--payload" => self.payload = value as usize,
            _ => bail!("unknown option {flag}; see the head of this program's source"),
        }
        Ok(())
    }
}

/// One run: `pairs` senders and as many receivers.
fn run(server: &Server, pairs: usize, options: &Options) -> Result<Cost> {
    let each = options.messages / pairs as u64 / pairs as u64 * pairs as u64;
    let barrier = Barrier::new(2 * pairs + 1);
    let (cpu, took) = thread::scope(|scope| -> Result<(u64, Duration)> {
        let mut receivers = Vec::new();
        let mut senders = Vec::new();
        for r in 0..pairs {
            let receiver = server.receiver(r)?;
            let barrier = &barrier;
            receivers.push(scope.spawn(move || {
                barrier.wait();
                server.receive(receiver, each, pairs as u64, options.payload)
            }));
        }
        for s in 0..pairs {
            let mut sender = server.sender(s)?;
            let blocks = server.blocks(s as u64, pairs, options.payload);
            let barrier = &barrier;
            senders.push(scope.spawn(move || -> Result<TcpStream> {
                barrier.wait();
                blocks.send(&mut sender, each)?;
                Ok(sender)
            }));
        }
        barrier.wait();
        let (cpu, start) = (server.cpu_ns()?, Instant::now());
        for receiver in receivers {
            receiver.join().map_err(|_| anyhow::anyhow!("a receiver panicked"))??;
        }
        let took = start.elapsed();
        let cpu = server.cpu_ns()? - cpu;
        for sender in senders {
            sender.join().map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        Ok((cpu, took))
    })?;
    let delivered = (each * pairs as u64) as f64;
    Ok(Cost { cpu_ns: cpu as f64 / delivered, rate: delivered / took.as_secs_f64() })
}

/// A block of encoded messages for the receivers in turn, of which only the numbers change.
struct Blocks {
    bytes: Vec<u8>,
    /// Where each message's number stands, and where the message ends.
    numbers: Vec<usize>,
    ends: Vec<usize>,
    sender: u64,
}

impl Blocks {
    fn send(mut self, stream: &mut TcpStream, messages: u64) -> Result<()> {
        let mut sent = 0;
        while sent < messages {
            let n = (messages - sent).min(self.numbers.len() as u64) as usize;
            for (i, at) in self.numbers[..n].iter().enumerate() {
                let number = self.sender << 56 | (sent + i as u64);
                self.bytes[*at..*at + 8].copy_from_slice(&number.to_le_bytes());
            }
            let end = self.ends[n - 1];
            stream.write_all(&self.bytes[..end])?;
            sent += n as u64;
        }
        Ok(())
    }
}

struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    wire: Wire,
}

#[derive(Clone, Copy, PartialEq)]
enum Wire {
    Switchboard,
    Nats,
}

impl Server {
    fn router(name: &'static str, router: &Path) -> Result<Self> {
        let mut child = Command::new(router)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: build it first", router.display()))?;
        let mut line = String::new();
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.split(['=', ' ']).nth(2).context("no ready line")?.parse()?;
        Ok(Self { name, child, address, wire: Wire::Switchboard })
    }

    fn nats() -> Result<Self> {
        let program =
            ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"]
                .into_iter()
                .find(|path| Path::new(path).exists())
                .context("the Debian package nats-server is not installed")?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let child = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .stderr(Stdio::null())
            .spawn()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            ensure!(Instant::now() < deadline, "nats-server does not answer");
            thread::yield_now();
        }
        Ok(Self { name: "nats-server", child, address, wire: Wire::Nats })
    }

    fn cpu_ns(&self) -> Result<u64> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
            sum += stat.split(' ').next().context("schedstat")?.parse::<u64>()?;
        }
        Ok(sum)
    }

    fn receiver(&self, number: usize) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        match self.wire {
            Wire::Switchboard => hello(&mut stream, id(RECEIVER, number))?,
            Wire::Nats => {
                nats_hello(&mut stream)?;
                stream.write_all(format!("SUB to.{number} 1\r\nPING\r\n").as_bytes())?;
                read_past(&mut stream, b"PONG\r\n")?;
            }
        }
        Ok(stream)
    }

    fn sender(&self, number: usize) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        match self.wire {
            Wire::Switchboard => hello(&mut stream, id(SENDER, number))?,
            Wire::Nats => nats_hello(&mut stream)?,
        }
        Ok(stream)
    }

    fn blocks(&self, sender: u64, receivers: usize, payload: usize) -> Blocks {
        let mut blocks =
            Blocks { bytes: Vec::new(), numbers: Vec::new(), ends: Vec::new(), sender };
        for i in 0.. {
            let to = i % receivers;
            if to == 0 && blocks.bytes.len() >= BLOCK {
                break;
            }
            match self.wire {
                Wire::Switchboard => {
                    let header = Header::direct(id(SENDER, sender as usize), id(RECEIVER, to));
                    header.write(payload, &mut blocks.bytes);
                }
                Wire::Nats => {
                    blocks.bytes.extend_from_slice(format!("PUB to.{to} {payload}\r\n").as_bytes());
                }
            }
            blocks.numbers.push(blocks.bytes.len());
            blocks.bytes.resize(blocks.bytes.len() + payload, b'x');
            if self.wire == Wire::Nats {
                blocks.bytes.extend_from_slice(b"\r\n");
            }
            blocks.ends.push(blocks.bytes.len());
        }
        blocks
    }

    /// Reads `messages`, and checks that each sender's numbers come in steps of `stride`.
    fn receive(
        &self,
        mut stream: TcpStream,
        messages: u64,
        stride: u64,
        payload: usize,
    ) -> Result<()> {
        let mut last = [None::<u64>; 256];
        let mut buffer = vec![0; 1 << 20];
        let (mut filled, mut got) = (0, 0);
        while got < messages {
            let n = stream.read(&mut buffer[filled..])?;
            ensure!(n > 0, "the server hung up after {got} messages");
            filled += n;
            let mut at = 0;
            while let Some((start, end)) = self.message(&buffer[at..filled], payload)? {
                // What the server itself has to say is no message.
                if start < end {
                    let number = buffer[at + start..].first_chunk::<8>().context("a number")?;
                    let number = u64::from_le_bytes(*number);
                    let (sender, number) = ((number >> 56) as usize, number & ((1 << 56) - 1));
                    if let Some(last) = last[sender] {
                        ensure!(number == last + stride, "{number} came after {last}");
                    }
                    last[sender] = Some(number);
                    got += 1;
                }
                at += end;
            }
            buffer.copy_within(at..filled, 0);
            filled -= at;
        }
        ensure!(got == messages, "{got} messages came instead of {messages}");
        Ok(())
    }

    /// Where the payload of the message at the start of `bytes` begins, and where the next one does.
    fn message(&self, bytes: &[u8], payload: usize) -> Result<Option<(usize, usize)>> {
        let (start, end) = match self.wire {
            Wire::Switchboard => match bytes.first_chunk::<4>() {
                Some(length) => {
                    let length = u32::from_le_bytes(*length) as usize;
                    (if bytes.get(4) == Some(&1) { 16 } else { length }, length)
                }
                None => return Ok(None),
            },
            Wire::Nats => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(line) => {
                    if bytes.starts_with(b"PING") {
                        return Ok(Some((line + 1, line + 1)));
                    }
                    let shown = String::from_utf8_lossy(&bytes[..line]);
                    ensure!(bytes.starts_with(b"MSG"), "{shown:?}");
                    (line + 1, line + 1 + payload + 2)
                }
                None => return Ok(None),
            },
        };
        Ok((bytes.len() >= end).then_some((start, end)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hello(stream: &mut TcpStream, id: ServiceId) -> Result<()> {
    stream.set_nodelay(true)?;
    let heartbeat_ms = 60_000;
    let services = vec![Service::of(id)];
    let hello = Hello { version: VERSION, heartbeat_ms, services, ..Hello::default() };
    stream.write_all(&Control::Hello(hello).to_frame().to_bytes())?;
    let mut bytes = read_frame(stream)?;
    let answer = Frame::decode(&mut bytes, u32::MAX)?.context("no answer")?;
    match Control::decode(&answer.payload)? {
        Control::Welcome(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}
/// Reads one whole frame.
fn read_frame(stream: &mut TcpStream) -> Result<BytesMut> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut frame = BytesMut::from(&length[..]);
    frame.resize(u32::from_le_bytes(length) as usize, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn nats_hello(stream: &mut TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")?;
    read_past(stream, b"PONG\r\n")
}

fn read_past(stream: &mut TcpStream, end: &[u8]) -> Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        seen.push(byte[0]);
    }
    Ok(())
}

fn id(class: Class, number: usize) -> ServiceId {
    let instance = Instance::new(number as u32 + 1).unwrap_or(Instance::MAX);
    ServiceId::new(class, instance)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

const SENDER: Class = Class::of(1);
const RECEIVER: Class = Class::of(2);
/// How much a sender writes at a time.
const BLOCK: usize = 64 << 10;
