//! A router in a process of its own, as its users run it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::metrics::Metrics;
use crate::node::RawNode;
use crate::scratch::Scratch;
use crate::wait::{self, PATIENCE};
use crate::{binary, http, process};

/// How to start a router.
#[derive(Debug, Default)]
pub struct RouterBuilder {
    args: Vec<String>,
    config: Option<String>,
    listen: Vec<String>,
    shards: Option<String>,
    env: Vec<(String, String)>,
    admin: Option<String>,
}

/// A running router. It is killed when this is dropped.
#[derive(Debug)]
pub struct RouterProcess {
    child: Child,
    ready: String,
    listen: Vec<String>,
    admin: SocketAddr,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
    config: Option<PathBuf>,
    scratch: Scratch,
}

impl RouterBuilder {
    /// A router with this configuration file.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.config = Some(yaml.to_owned());
        self
    }

    /// A router with one more option.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A router with one more variable in its environment.
    #[must_use]
    pub fn env(mut self, variable: &str, value: &str) -> Self {
        self.env.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// A router that listens here, and not on any free port.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// A router with its admin server here, and not on any free port of the loopback interface.
    #[must_use]
    pub fn admin(mut self, address: impl Into<String>) -> Self {
        self.admin = Some(address.into());
        self
    }

    /// A router with this many threads that forward.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards.to_string());
        self
    }

    /// Starts it, and waits until it says that it is ready.
    ///
    /// # Panics
    /// If it ends before that.
    #[must_use]
    pub fn start(self) -> RouterProcess {
        let scratch = Scratch::new();
        let mut command = Command::new(binary::router());
        let listen = if self.listen.is_empty() { vec![ANY_PORT.to_owned()] } else { self.listen };
        for address in listen {
            command.args(["--listen", &address]);
        }
        command.args(["--admin", self.admin.as_deref().unwrap_or(ANY_PORT)]);
        command.args(["--shards", self.shards.as_deref().unwrap_or("2")]);
        let config = self.config.map(|yaml| scratch.write("router.yaml", &yaml));
        if let Some(path) = &config {
            command.arg("--config").arg(path);
        }
        command.args(&self.args).envs(self.env);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the router starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let pipe = child.stderr.take().expect("standard error is piped");
        let log = stderr.clone();
        let stderr_reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut ready = String::new();
        stdout.read_line(&mut ready).expect("the router's output is text");
        let mut router = RouterProcess {
            child,
            ready,
            listen: Vec::new(),
            admin: SocketAddr::from(([0; 4], 0)),
            stdout: Some(stdout),
            stderr,
            stderr_reader: Some(stderr_reader),
            config,
            scratch,
        };
        router.read_ready();
        router
    }
}

impl RouterProcess {
    /// A router with default settings on free ports, with two threads that forward.
    #[must_use]
    pub fn start() -> Self {
        RouterBuilder::default().start()
    }

    /// A router with this configuration.
    #[must_use]
    pub fn with(yaml: &str) -> Self {
        RouterBuilder::default().config(yaml).start()
    }

    fn read_ready(&mut self) {
        let mut words = self.ready.trim_end().split(' ');
        let mut value = |word: &str, key: &str| {
            let found = words.next().and_then(|text| text.strip_prefix(key));
            found.map(str::to_owned).ok_or_else(|| format!("no {word} in the ready line"))
        };
        let read = (|| {
            value("`ready`", "ready")?;
            let listen: String = value("listen", "listen=")?;
            let admin: String = value("admin", "admin=")?;
            let admin = admin.parse().map_err(|_| format!("`{admin}` is not an address"))?;
            Ok::<_, String>((listen.split(',').map(str::to_owned).collect(), admin))
        })();
        match read {
            Ok((listen, admin)) => (self.listen, self.admin) = (listen, admin),
            Err(error) => {
                let status = self.wait_exit();
                panic!("{error}: {:?}; {status}; log:\n{}", self.ready, self.log());
            }
        }
    }

    /// The line that it printed when it was ready.
    #[must_use]
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// Where it listens first: `127.0.0.1:34567`, or `unix:/path`.
    #[must_use]
    pub fn listen(&self) -> &str {
        &self.listen[0]
    }

    /// Everywhere it listens.
    #[must_use]
    pub fn listens(&self) -> &[String] {
        &self.listen
    }

    /// Its admin server.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// A connection to it that has not said anything yet.
    #[must_use]
    pub fn connect(&self) -> RawNode {
        RawNode::connect(self.listen())
    }

    /// A node that registered these ids, written `5.1`; with instance 0 one is assigned.
    #[must_use]
    pub fn join(&self, ids: &[&str]) -> RawNode {
        RawNode::join(self.listen(), ids)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name, such as `TERM`.
    ///
    /// # Panics
    /// If that fails.
    pub fn signal(&self, name: &str) {
        process::signal(self.pid(), name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.wait_exit_within(PATIENCE)
    }

    /// Waits for its end, but not for long.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn wait_exit_within(&mut self, patience: Duration) -> ExitStatus {
        let status = process::wait_exit(&mut self.child, patience, "the router ends");
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().expect("the log is read to its end");
        }
        status
    }

    /// What else it wrote to standard output, to the end.
    ///
    /// # Panics
    /// If that is asked twice.
    pub fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        let mut stdout = self.stdout.take().expect("standard output is read to its end once");
        stdout.read_to_string(&mut rest).expect("the router's output is text");
        rest
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line of the log holds this text.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        wait::eventually(&format!("`{text}` in the log"), || self.log().contains(text));
    }

    /// Replaces its configuration file.
    ///
    /// # Panics
    /// If it was started without one.
    pub fn rewrite_config(&self, yaml: &str) {
        let path = self.config.as_ref().expect("it was started with a configuration file");
        std::fs::write(path, yaml).expect("the configuration file is writable");
    }

    /// The path of its configuration file.
    ///
    /// # Panics
    /// If it was started without one.
    #[must_use]
    pub fn config_path(&self) -> String {
        let path = self.config.as_ref().expect("it was started with a configuration file");
        path.display().to_string()
    }

    /// A directory that lives as long as it does.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Asks its admin server.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    pub fn http(&self, method: &str, path: &str) -> http::Response {
        http::request(self.admin, method, path).expect("the admin server answers")
    }

    /// Asks its admin server something that takes more words.
    ///
    /// # Panics
    /// If there is no answer.
    #[must_use]
    #[track_caller]
    pub fn ask(&self, request: &http::Request) -> http::Response {
        request.send(self.admin).expect("the admin server answers")
    }

    /// What its admin server answers in JSON.
    ///
    /// # Panics
    /// If that is not an answer.
    #[must_use]
    #[track_caller]
    pub fn get(&self, path: &str) -> serde_json::Value {
        let response = self.http("GET", path);
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.http("GET", "/metrics").body)
    }

    /// The sum of what it counts under a name and these labels.
    #[must_use]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.metrics().sum(name, labels)
    }

    /// How many frames of a class ended in an outcome.
    #[must_use]
    pub fn outcome(&self, class: &str, outcome: &str) -> u64 {
        self.metric("switchboard_frames_total", &[("class", class), ("outcome", outcome)])
    }

    /// Its resident memory in bytes.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the router runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.expect("VmRSS in kB") * 1024
    }
}

impl Drop for RouterProcess {
    fn drop(&mut self) {
        // By its own pid; if it has ended there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("---- the end of the router's log ----\n{}", last.join("\n"));
        }
    }
}

/// Runs the binary with these options to its end.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn run(args: &[&str]) -> Output {
    let output = Command::new(binary::router()).args(args).stdin(Stdio::null()).output();
    output.expect("the router starts")
}

/// How much of the log a failed test shows.
const LOG_LINES: usize = 40;
const ANY_PORT: &str = "127.0.0.1:0";
