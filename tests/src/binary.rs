//! Where the binaries are. Cargo tells a package's tests only of the package's own binaries, so it is
//! asked to build the others, once for each test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of `router`, up to date with the sources and of the profile that the test was built with.
///
/// # Panics
/// If it can't be built.
pub fn router() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("switchboard-router", "router"))
}

/// The path of `lua-node`, likewise.
///
/// # Panics
/// If it can't be built.
pub fn lua_node() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("switchboard-lua", "lua-node"))
}

/// The path of `cluster`, likewise.
///
/// # Panics
/// If it can't be built.
pub fn cluster() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("cluster", "cluster"))
}

/// The path of `routerctl`, likewise.
///
/// # Panics
/// If it can't be built.
pub fn routerctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("switchboard-routerctl", "routerctl"))
}

/// Cargo's target directory, in which the tests were built.
///
/// # Panics
/// If they were built elsewhere.
pub fn target_dir() -> &'static Path {
    profile_dir().parent().expect("a profile's directory lies in the target directory")
}

/// The directory of the profile that the test was built with.
fn profile_dir() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        // target/debug/deps/forwarding-0123456789abcdef
        let mut above = test.ancestors().skip(1);
        let profile_dir = above.find(|dir| dir.file_name().is_none_or(|name| name != "deps"));
        profile_dir.expect("a test lies in its profile's directory").to_owned()
    })
}

fn build(package: &str, binary: &str) -> PathBuf {
    let profile = match profile_dir().file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    // Cargo locks the target directory, so test processes that run side by side build in turn.
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--package", package, "--bin", binary])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{binary} does not build:\n{log}");
    profile_dir().join(binary)
}
