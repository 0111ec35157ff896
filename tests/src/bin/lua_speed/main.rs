//! What a Lua node does in a second, and in how much memory: `lua-node` with a script of its own, between a
//! real router and a peer in Rust that checks every message.
//!
//! ```text
//! cargo build --release -p switchboard-router -p switchboard-lua -p switchboard-tests
//! target/release/lua_speed [forward] [handle] [call] [serve] [memory] [--rounds 3] [--scale 1.0]
//! ```
//!
//! Where `taskset` is there, lua-node has core 0 to itself, and the router and the peer have the others.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

mod peer;

use std::io::{BufRead, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use switchboard_tests::{RouterBuilder, Scratch};

/// What a run is, and how many messages it takes.
const RUNS: [(&str, u64, &str); 5] = [
    ("forward", 2_000_000, "messages sent"),
    ("handle", 1_500_000, "messages handled"),
    ("call", 400_000, "calls made by 64 coroutines"),
    ("serve", 400_000, "calls answered, 64 at a time"),
    ("memory", 10_000_000, "messages through handlers, calls and timers"),
];

fn main() -> anyhow::Result<()> {
    let mut wanted = Vec::new();
    let (mut rounds, mut scale) = (3, 1.0);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} takes a number"));
        match arg.as_str() {
            "--rounds" => rounds = value()?.parse()?,
            "--scale" => scale = value()?.parse()?,
            name if RUNS.iter().any(|(known, ..)| *known == name) => wanted.push(name.to_owned()),
            other => bail!("`{other}` is not a run or an option; see the head of this program"),
        }
    }
    if wanted.is_empty() {
        wanted = RUNS[..4].iter().map(|(name, ..)| (*name).to_owned()).collect();
    }
    let pinned = pin_the_others();
    println!("lua-node {}", if pinned { "on core 0, the others elsewhere" } else { "on any core" });
    let chosen = RUNS.iter().filter(|(name, ..)| wanted.iter().any(|wanted| wanted == name));
    for (name, count, what) in chosen {
        let count = (*count as f64 * scale) as u64 / 64_000 * 64_000;
        let times = if *name == "memory" { 1 } else { rounds };
        let mut rates = Vec::new();
        for _ in 0..times {
            rates.push(run(name, count.max(64_000), pinned)?);
        }
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (rate, cpu) = rates[rates.len() / 2];
        let (low, high) = (rates[0].0, rates[rates.len() - 1].0);
        if *name != "memory" {
            println!(
                "{name}: {:.0} k {what} per second ({:.0}-{:.0} k), {cpu:.2} us of CPU each",
                rate / 1e3,
                low / 1e3,
                high / 1e3
            );
        }
    }
    Ok(())
}

/// One run: its rate, and the CPU time of lua-node for each message in microseconds.
fn run(name: &str, count: u64, pinned: bool) -> anyhow::Result<(f64, f64)> {
    let router = RouterBuilder::default()
        .config("classes: {gamesvr: {id: 1}, matchsvr: {id: 5, park_ms: 5000}}")
        .shards(1)
        .start();
    let peer = peer::Peer::start(name, router.listen().to_owned(), count)?;
    let scratch = Scratch::new();
    let mut lua = LuaNode::start(name, router.listen(), count, pinned, &scratch)?;
    if name != "forward" && name != "call" {
        lua.expect("ready")?;
        peer.begin();
    }
    let (mut first, mut last) = (None, None);
    let words = loop {
        let line = lua.line()?;
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        match words.first().map(String::as_str) {
            Some("done") => break words,
            Some("at") => {
                let resident = lua.resident_kib()?;
                println!(
                    "  after {:>9}: Lua {:>6} KiB, process {:>6} KiB",
                    words[1], words[2], resident
                );
                first.get_or_insert(resident);
                last = Some(resident);
            }
            _ => bail!("lua-node says `{line}`"),
        }
    };
    peer.finish()?;
    lua.child.wait()?;
    if let (Some(first), Some(last)) = (first, last) {
        println!("memory: {:.2} times what it was at first", last as f64 / first as f64);
    }
    let done: f64 = words.get(1).context("a count")?.parse()?;
    let (seconds, cpu): (f64, f64) =
        (words.get(2).context("seconds")?.parse()?, words.get(3).context("CPU")?.parse()?);
    Ok((done / seconds, cpu / done * 1e6))
}

struct LuaNode {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl LuaNode {
    fn start(
        role: &str,
        router: &str,
        count: u64,
        pinned: bool,
        scratch: &Scratch,
    ) -> anyhow::Result<Self> {
        let script = scratch.path().join("speed.lua");
        std::fs::write(&script, include_str!("speed.lua"))?;
        let binary = beside_this("lua-node")?;
        let mut command = match pinned {
            true => {
                let mut command = Command::new("taskset");
                command.args(["-c", "0"]).arg(binary);
                command
            }
            false => Command::new(binary),
        };
        command.arg(script).env("ROLE", role).env("ROUTER", router).env("COUNT", count.to_string());
        let mut child = command.stdout(Stdio::piped()).spawn().context("lua-node")?;
        let lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        Ok(Self { child, lines })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        Ok(self.lines.next().context("lua-node ended too early")??)
    }

    fn expect(&mut self, word: &str) -> anyhow::Result<()> {
        let line = self.line()?;
        ensure!(line == word, "lua-node says `{line}` in place of `{word}`");
        Ok(())
    }

    fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for LuaNode {
    fn drop(&mut self) {
        // What has ended can't be killed, and need not be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside_this(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is not there: build switchboard-lua first", path.display());
    Ok(path)
}

/// Leaves core 0 to lua-node: this process, and the router that it starts, take the others.
fn pin_the_others() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return false;
    }
    let others = format!("1-{}", cores - 1);
    let pid = std::process::id().to_string();
    let mut taskset = Command::new("taskset");
    taskset.args(["-a", "-c", "-p", &others, &pid]).stdout(Stdio::null());
    taskset.status().is_ok_and(|status| status.success())
}
