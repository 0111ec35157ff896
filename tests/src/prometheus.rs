//! A real Prometheus, from the system's packages, in a directory of its own; and promtool, which checks what
//! Prometheus reads. Tests tell it whom to scrape by files of targets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Request;
use crate::scratch::Scratch;
use crate::wait;

/// A running Prometheus. It is killed when this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl Prometheus {
    /// Starts one with these rules, which scrapes all targets in the files that [`Self::targets`] names, twice a
    /// second.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(rules: Option<&str>) -> Self {
        let scratch = Scratch::new();
        let rules = rules.map(|rules| scratch.write("rules.yml", rules).display().to_string());
        let config = json!({
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": rules.into_iter().collect::<Vec<_>>(),
            "scrape_configs": [{
                "job_name": "switchboard",
                "file_sd_configs": [{"files": [scratch.file("targets-*.json")]}],
            }],
        });
        // JSON is YAML.
        let config = scratch.write("prometheus.yml", &config.to_string());
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", scratch.file("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap_or_else(|error| panic!("prometheus: {error}; {MISSING}"));
        let log = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let (sender, addresses) = mpsc::channel();
        std::thread::spawn(move || {
            // To its end, or it would wait for somebody to read it.
            let mut told = String::new();
            for line in log.lines().map_while(Result::ok) {
                let address = line.split_once("\"Listening on\" address=").map(|(_, rest)| rest);
                if let Some(address) = address.and_then(|address| address.parse().ok()) {
                    let _ = sender.send(Ok(address));
                }
                told += &format!("{line}\n");
            }
            let _ = sender.send(Err(told));
        });
        let started: Result<SocketAddr, String> =
            addresses.recv_timeout(wait::PATIENCE).expect("prometheus says where it listens");
        let address = started.unwrap_or_else(|log| panic!("prometheus does not start: {log}"));
        let prometheus = Self { child, address, scratch };
        wait::eventually("prometheus is ready", || {
            let ready = Request::get("/-/ready").send_plainly(prometheus.address);
            ready.is_ok_and(|answer| answer.status == 200)
        });
        prometheus
    }

    /// A file of targets that it looks at.
    #[must_use]
    pub fn targets(&self, name: &str) -> PathBuf {
        self.scratch.file(&format!("targets-{name}.json"))
    }

    /// Has it scrape these: job, instance and address of each.
    pub fn scrape(&self, targets: &[(&str, &str, SocketAddr)]) {
        let groups = targets.iter().map(|(job, instance, address)| {
            json!({"targets": [address], "labels": {"job": job, "instance": instance}})
        });
        let groups = Value::Array(groups.collect()).to_string();
        let written = self.scratch.write("fresh", &groups);
        std::fs::rename(written, self.targets("these")).expect("a file can be renamed");
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The series that an expression leads to now, each with its labels under `metric` and its `value`.
    ///
    /// # Panics
    /// If it is not an expression.
    #[must_use]
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.ask(&format!("query?query={}", escape(expression)), expression);
        answer["result"].as_array().cloned().unwrap_or_default()
    }

    /// The alerts that fire, each with its labels and annotations.
    ///
    /// # Panics
    /// If they can't be asked for.
    #[must_use]
    #[track_caller]
    pub fn firing(&self) -> Vec<Value> {
        let all = self.ask("alerts", "alerts");
        let all = all["alerts"].as_array().into_iter().flatten();
        all.filter(|alert| alert["state"] == "firing").cloned().collect()
    }

    /// The values of a label among the series of a selector.
    ///
    /// # Panics
    /// If it is not a selector.
    #[must_use]
    #[track_caller]
    pub fn label_values(&self, selector: &str, label: &str) -> Vec<String> {
        let path = format!("label/{label}/values?match[]={}", escape(selector));
        let values = self.ask(&path, selector);
        let values = values.as_array().into_iter().flatten();
        values.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    #[track_caller]
    fn ask(&self, path: &str, what: &str) -> Value {
        let answer = Request::get(&format!("/api/v1/{path}")).send_plainly(self.address);
        let mut answer = answer.expect("prometheus answers").json();
        assert_eq!(answer["status"], "success", "{what}: {answer}");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // By its own pid.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs promtool in a directory, with this on its standard input. Answers what it said.
///
/// # Panics
/// If it is not content.
#[track_caller]
pub fn promtool(dir: &Path, arguments: &[&str], input: &str) -> String {
    let child = Command::new("promtool")
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|error| panic!("promtool: {error}; {MISSING}"));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // Who does not read it says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// Serves a page, made anew for each scrape, until the test ends.
///
/// # Panics
/// If no port is free.
pub fn serve(page: impl Fn() -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            // The head of a scrape fits in one read.
            let _ = stream.read(&mut [0; 4096]);
            let page = page();
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{page}", page.len());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// An expression as a part of an address.
fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

const MISSING: &str = "what Prometheus reads is tested by Prometheus; on Debian: apt-get install prometheus, or run \
                       .ci/packages as root";
