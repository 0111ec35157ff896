//! A real browser in front of a router's page: Chromium, driven by the Python scripts in `tests/browser`.
//!
//! A script checks what it sees. When something shall happen at the router it says so in one word, waits until
//! that has been done here, and goes on. Chromium and Python come from the system's packages; Playwright, which
//! drives one by the other, comes by [`python`].

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use crate::{binary, python};

/// Runs a script against an address, and does what it asks for. Answers what it printed besides.
///
/// # Panics
/// If the script finds something that is not as it should be.
#[track_caller]
pub fn run(script: &str, address: &str, mut act: impl FnMut(&str)) -> Vec<String> {
    // A browser takes a whole machine; what is measured in one would be measured of two.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut script = Script::start(script, address);
    let mut said = Vec::new();
    while let Some(line) = script.next_line() {
        match line.strip_prefix("> ") {
            Some(word) => {
                act(word);
                script.go_on();
            }
            None => said.push(line),
        }
    }
    script.finish(&said);
    said
}

/// A script that runs. It ends with this.
struct Script {
    child: Child,
    lines: mpsc::Receiver<String>,
    name: String,
}

impl Script {
    fn start(script: &str, address: &str) -> Self {
        let child = Command::new(python())
            .arg(directory().join(script))
            .args([chromium().as_os_str(), address.as_ref()])
            .arg(target().join("page"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("Python starts");
        let stdout = child.stdout.take().expect("standard output is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, name: script.to_owned() }
    }

    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("{}: nothing for {PATIENCE:?}", self.name)
            }
        }
    }

    fn go_on(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("standard input is piped");
        // If it has ended, its end says why.
        let _ = stdin.write_all(b"done\n");
    }

    #[track_caller]
    fn finish(mut self, said: &[String]) {
        let mut stderr = String::new();
        let pipe = self.child.stderr.take().expect("standard error is piped");
        BufReader::new(pipe).read_to_string(&mut stderr).expect("it writes text");
        let status = self.child.wait().expect("its end can be waited for");
        assert!(status.success(), "{}: {status}\n{}\n{stderr}", self.name, said.join("\n"));
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // By its own pid; the browser ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The browser.
fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("chromium"));
    found
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("no chromium: {MISSING}"))
}

/// A Python that knows Playwright.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| python::with(&["playwright==1.65.2"], &target().join("tmp")))
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser")
}

/// The directory that everything built goes to.
fn target() -> PathBuf {
    let profile = binary::router().parent().expect("a binary lies in its profile's directory");
    profile.parent().expect("which lies in the target directory").to_path_buf()
}

/// A page that nothing happens on.
const PATIENCE: Duration = Duration::from_secs(90);
const MISSING: &str = "the page is tested in a browser; on Debian: apt-get install chromium fonts-wqy-microhei, \
                       or run .ci/packages as root";
