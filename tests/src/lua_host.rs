//! The Luas that a script runs in: lua-node, and Debian's Lua 5.4 and LuaJIT with the module, which are built and,
//! where that is possible, installed for it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::scratch::Scratch;
use crate::wait::{self, PATIENCE};
use crate::{binary, process};

/// What runs a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LuaHost {
    /// `lua-node`.
    Node,
    /// `lua5.4`, with the module.
    Lua54,
    /// `luajit`, with the module.
    LuaJit,
}

/// A script that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Where what it says is written to.
    scratch: Scratch,
}

impl LuaHost {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::Lua54, Self::LuaJit];

    /// A command that runs a script with these variables in its environment, `SWITCHBOARD_LOG` for the log.
    ///
    /// # Panics
    /// If the program is not there and can't be installed, or the module does not build.
    #[must_use]
    pub fn command(self, script: &Path, variables: &[(&str, &str)]) -> Command {
        let mut command = match self {
            Self::Node => Command::new(binary::lua_node()),
            Self::Lua54 => with_module("lua5.4", "lua54"),
            Self::LuaJit => with_module("luajit", "luajit"),
        };
        let mut files = script.with_file_name("?.lua").into_os_string();
        // Two separators stand for Lua's own places.
        files.push(";;");
        command.arg(script).env("LUA_PATH", files).envs(variables.iter().copied());
        let level = variables.iter().rfind(|(name, _)| *name == "SWITCHBOARD_LOG");
        if let (Self::Node, Some((_, level))) = (self, level) {
            command.args(["--log", level]);
        }
        command
    }

    /// Starts a script with these variables in its environment.
    ///
    /// # Panics
    /// Like [`LuaHost::command`].
    #[must_use]
    pub fn start(self, script: &Path, variables: &[(&str, &str)]) -> Running {
        let scratch = Scratch::new();
        let file = |name| File::create(scratch.file(name)).expect("a scratch file is writable");
        let mut command = self.command(script, variables);
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("log"));
        Running { child: command.spawn().expect("the program starts"), scratch }
    }
}

impl Running {
    /// What it has printed.
    #[must_use]
    pub fn out(&self) -> String {
        self.read("out")
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.read("log")
    }

    /// Waits until it has printed this text.
    #[track_caller]
    pub fn expect_out(&self, text: &str) {
        wait::eventually(&format!("`{text}` is printed"), || self.out().contains(text));
    }

    /// Sends it a signal by name, such as `INT`.
    ///
    /// # Panics
    /// If that fails.
    pub fn signal(&self, name: &str) {
        process::signal(self.child.id(), name);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not come in time.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        process::wait_exit(&mut self.child, PATIENCE * 3, "the script ends")
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.scratch.file(name)).expect("a scratch file is readable");
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // By its own pid; if it has ended there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- it printed ----\n{}---- its log ----\n{}", self.out(), self.log());
        }
    }
}

/// A command for a stock Lua that finds the module, built for it.
fn with_module(program: &'static str, feature: &'static str) -> Command {
    static LUA54: OnceLock<PathBuf> = OnceLock::new();
    static LUAJIT: OnceLock<PathBuf> = OnceLock::new();
    let built = if feature == "luajit" { &LUAJIT } else { &LUA54 };
    let dir = built.get_or_init(|| {
        install(program);
        build(feature)
    });
    let mut command = Command::new(program);
    command.env("LUA_CPATH", dir.join("?.so"));
    command
}

/// Builds the module as its users do, and answers where it is.
fn build(feature: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a package has a parent");
    let target = binary::target_dir().join("module");
    let dir = target.join(feature);
    let output = Command::new(root.join("sdk-lua/build-module.sh"))
        .arg(feature)
        .arg(&dir)
        .arg("dev")
        .env("SWITCHBOARD_MODULE_TARGET", &target)
        .output()
        .expect("build-module.sh runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the module for {feature} does not build:\n{log}");
    dir
}

/// Sees to it that a stock Lua is there: with apt-get, where that may be used.
fn install(program: &str) {
    let is_there = || Command::new(program).arg("-v").output().is_ok();
    // The package manager does one thing at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if is_there() {
        return;
    }
    let ask = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if ask("id", &["-u"]).as_deref() == Some("0") && ask("apt-get", &["--version"]).is_some() {
        eprintln!("{program} is not there: installing Debian's package of this name");
        let patience = "DPkg::Lock::Timeout=120";
        let options = ["install", "-y", "--no-install-recommends", "-o", patience, program];
        let installed = || ask("apt-get", &options);
        if installed().is_none() {
            ask("apt-get", &["update"]);
            installed();
        }
    }
    assert!(
        is_there(),
        "{program} is not there, and can't be installed from here: \
         the tests of the Lua module need Debian's packages lua5.4 and luajit"
    );
}
