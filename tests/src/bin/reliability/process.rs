//! Routers and nodes as processes.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use switchboard_tests::{RouterBuilder, RouterProcess, Scratch};

/// A node in a process of its own. It is killed when this is dropped.
#[derive(Debug)]
pub struct NodeProcess {
    role: &'static str,
    name: String,
    args: Vec<String>,
    records: PathBuf,
    starts: u32,
    child: Child,
    /// What it has said and nobody has read yet.
    lines: mpsc::Receiver<String>,
}

/// A router with a name, on the port that it had before if it had one.
pub fn router(name: &str, config: &str, listen: Option<&str>) -> RouterProcess {
    let builder = RouterBuilder::default().config(&format!("name: {name}\n{config}"));
    match listen {
        Some(address) => builder.listen(address).start(),
        None => builder.start(),
    }
}

/// Waits until a router has all its nodes, as the next step of a roll-out does.
pub async fn all_back(router: &RouterProcess, nodes: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while router.metric("switchboard_sessions", &[]) < nodes as u64 {
        ensure!(Instant::now() < deadline, "the nodes do not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

impl NodeProcess {
    /// Starts a node and waits until it is connected. Each of its lives has its own record.
    pub fn start(
        role: &'static str,
        name: &str,
        routers: &[String],
        more: &[(&str, String)],
        scratch: &Scratch,
    ) -> anyhow::Result<Self> {
        let mut args = vec!["--routers".to_owned(), routers.join(",")];
        for (option, value) in more {
            args.extend([format!("--{option}"), value.clone()]);
        }
        let records = scratch.path().join(name);
        std::fs::create_dir_all(&records)?;
        let (child, lines) = spawn(role, name, &args, &records, 1)?;
        let mut node = Self { role, name: name.to_owned(), args, records, starts: 1, child, lines };
        node.expect("ready")?;
        Ok(node)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status()?;
        ensure!(status.success(), "kill -{name} {}", self.name);
        Ok(())
    }

    /// Lets it end in peace; answers its last line.
    pub fn stop(&mut self) -> anyhow::Result<String> {
        self.signal("TERM")?;
        let line = self.expect("done")?;
        ensure!(self.child.wait()?.success(), "{} failed", self.name);
        Ok(line)
    }

    /// Starts it again.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        self.starts += 1;
        (self.child, self.lines) =
            spawn(self.role, &self.name, &self.args, &self.records, self.starts)?;
        self.expect("ready")?;
        Ok(())
    }

    /// Waits for a line that begins so; answers the rest of it.
    pub fn expect(&mut self, word: &str) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(word) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("{} did not say `{word}`", self.name);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    bail!("{} ended before it said `{word}`", self.name);
                }
            }
        }
    }

    /// The records of its lives.
    pub fn records(&self) -> anyhow::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.records)?;
        Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // By its own pid; if it has ended there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    role: &str,
    name: &str,
    args: &[String],
    records: &std::path::Path,
    life: u32,
) -> anyhow::Result<(Child, mpsc::Receiver<String>)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([role, "--service", name]).args(args);
    command.arg("--records").arg(records.join(life.to_string()));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("{role} {name}"))?;
    let stdout = child.stdout.take().context("standard output is piped")?;
    let (sender, lines) = mpsc::channel();
    // Read at once: who lives through a thousand elections says more than a pipe holds, and would
    // stand still.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok((child, lines))
}

const PATIENCE: Duration = Duration::from_secs(30);
