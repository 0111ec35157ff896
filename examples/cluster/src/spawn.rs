//! Child processes: this program once more, in another role. The parent holds each child's standard
//! input; when it goes, so do they.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::news::{News, Order};

/// A child process.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: Process,
    stdin: ChildStdin,
}

/// What came from a child.
#[derive(Debug)]
pub struct Letter {
    pub from: String,
    pub content: Content,
}

/// News, or no more.
#[derive(Debug)]
pub enum Content {
    News(Box<News>),
    /// A line that is no news.
    Garbled(String),
    /// Its standard output ended: it is gone, or will be.
    End,
}

impl Child {
    /// Starts a node. What it says goes to `letters`.
    pub fn node(
        name: &str,
        arguments: &[String],
        letters: mpsc::UnboundedSender<Letter>,
    ) -> anyhow::Result<Self> {
        let (child, stdout) = Self::start(name, arguments, Stdio::inherit())?;
        let from = name.to_owned();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let content = match serde_json::from_str(&line) {
                    Ok(news) => Content::News(Box::new(news)),
                    Err(_) => Content::Garbled(line),
                };
                // A parent that does not listen any more has failed, and says so.
                let _ = letters.send(Letter { from: from.clone(), content });
            }
            let _ = letters.send(Letter { from, content: Content::End });
        });
        Ok(child)
    }

    /// Starts a router; answers its ready line too. Its log goes to a file.
    pub async fn router(
        name: &str,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<(Self, String, Lines<BufReader<ChildStdout>>)> {
        let log = std::fs::File::create(log).with_context(|| format!("{}", log.display()))?;
        let (child, stdout) = Self::start(name, arguments, Stdio::from(log))?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(START, lines.next_line()).await.context("the router is not ready")??;
        Ok((child, line.context("the router ended at its start")?, lines))
    }

    fn start(
        name: &str,
        arguments: &[String],
        stderr: Stdio,
    ) -> anyhow::Result<(Self, ChildStdout)> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut process = Command::new(program)
            .arg("role")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        let stdin = process.stdin.take().context("a child has an input")?;
        let stdout = process.stdout.take().context("a child has an output")?;
        Ok((Self { name: name.to_owned(), process, stdin }, stdout))
    }

    /// Its name, such as `gamesvr.1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id; none after its end.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Gives an order.
    pub async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let written = self.stdin.write_all(&line).await;
        written.with_context(|| format!("{} takes no order", self.name))
    }

    /// Kills it: no destructor runs, nothing is written, its socket is closed by the kernel.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.start_kill().with_context(|| format!("can't kill {}", self.name))?;
        self.process.wait().await.with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Asks it to leave.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.with_context(|| format!("{} is gone already", self.name))?;
        kill_process(pid, Signal::TERM).with_context(|| format!("SIGTERM to {}", self.name))
    }

    /// Waits until it has ended by itself, and well.
    pub async fn left(mut self) -> anyhow::Result<()> {
        match timeout(LEAVE, self.process.wait()).await {
            Ok(status) => {
                let status: ExitStatus = status?;
                ensure!(status.success(), "{} ended with {status}", self.name);
                Ok(())
            }
            Err(_) => bail!("{} does not leave", self.name),
        }
    }
}

/// How long the router may take to start.
const START: Duration = Duration::from_secs(20);
/// How long a child may take to leave.
const LEAVE: Duration = Duration::from_secs(20);
