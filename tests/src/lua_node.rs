//! A script that `lua-node` runs as a node, in a process and a directory of its own.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::scratch::Scratch;
use crate::wait::{self, PATIENCE};
use crate::{binary, process};

/// A script to be run; `script.lua` in a directory of its own, which is where it runs.
#[derive(Debug)]
pub struct Script {
    command: Command,
    scratch: Scratch,
    more: Vec<String>,
}

/// A running script. It is killed when this is dropped.
#[derive(Debug)]
pub struct LuaNode {
    child: Child,
    readers: Vec<JoinHandle<()>>,
    stdout: Text,
    stderr: Text,
    scratch: Scratch,
}

type Text = Arc<Mutex<String>>;

impl Script {
    /// A script with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let scratch = Scratch::new();
        scratch.write("script.lua", text);
        let mut command = Command::new(binary::lua_node());
        command.arg("script.lua").current_dir(scratch.path()).stdin(Stdio::null());
        Self { command, scratch, more: Vec::new() }
    }

    /// With one more file beside it.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.scratch.file(name);
        std::fs::create_dir_all(path.parent().expect("it is in the directory"))
            .expect("the directory is writable");
        self.scratch.write(name, text);
        self
    }

    /// The path of one of its files.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.file(name)
    }

    /// With options of lua-node.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    /// With arguments of its own.
    #[must_use]
    pub fn more(mut self, args: &[&str]) -> Self {
        self.more.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// With one more variable in its environment.
    #[must_use]
    pub fn env(mut self, variable: &str, value: &str) -> Self {
        self.command.env(variable, value);
        self
    }

    /// As `matchsvr.1` at this router, and looking for changed files all the time.
    #[must_use]
    pub fn at(self, router: &str) -> Self {
        self.args(&["--service", "matchsvr.1", "--router", router, "--reload-every", "10ms"])
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it can't be started, or does not end in time.
    #[must_use]
    #[track_caller]
    pub fn run(self) -> Output {
        let mut node = self.start();
        let status = node.wait_exit();
        Output { status, stdout: node.out().into_bytes(), stderr: node.log().into_bytes() }
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(mut self) -> LuaNode {
        if !self.more.is_empty() {
            self.command.arg("--").args(&self.more);
        }
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("lua-node starts");
        let (stdout, stderr) = (Text::default(), Text::default());
        let out = child.stdout.take().expect("standard output is piped");
        let err = child.stderr.take().expect("standard error is piped");
        let readers = vec![gather(out, stdout.clone()), gather(err, stderr.clone())];
        LuaNode { child, readers, stdout, stderr, scratch: self.scratch }
    }
}

fn gather(pipe: impl Read + Send + 'static, text: Text) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
        }
    })
}

impl LuaNode {
    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has printed.
    #[must_use]
    pub fn out(&self) -> String {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line of the log holds this text.
    #[track_caller]
    pub fn expect_log(&self, text: &str) {
        wait::eventually(&format!("`{text}` in the log"), || self.log().contains(text));
    }

    /// Waits until it has printed this text.
    #[track_caller]
    pub fn expect_out(&self, text: &str) {
        wait::eventually(&format!("`{text}` is printed"), || self.out().contains(text));
    }

    /// Replaces one of its files, by a rename as editors do.
    ///
    /// # Panics
    /// If that fails.
    pub fn rewrite(&self, name: &str, text: &str) {
        let new = self.scratch.write(&format!("{name}.new"), text);
        std::fs::rename(new, self.scratch.file(name)).expect("a file can be replaced");
    }

    /// Where its files are.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
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

    /// Whether it still runs.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its end can be waited for").is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let status = process::wait_exit(&mut self.child, PATIENCE, "lua-node ends");
        for reader in self.readers.drain(..) {
            reader.join().expect("its output is read to the end");
        }
        status
    }
}

impl Drop for LuaNode {
    fn drop(&mut self) {
        // By its own pid; if it has ended there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "---- the script printed ----\n{}---- its log ----\n{}",
                self.out(),
                self.log()
            );
        }
    }
}
