//! Where the `router` binary is. Cargo tells a package's tests only of the package's own binaries, so
//! it is asked to build this one, once for each test process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary, up to date with the sources and of the profile that the test was built with.
///
/// # Panics
/// If it can't be built.
pub fn router() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(build)
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/forwarding-0123456789abcdef
    let profile_dir = test
        .ancestors()
        .skip(1)
        .find(|dir| dir.file_name().is_none_or(|name| name != "deps"))
        .expect("a test lies in its profile's directory");
    let target_dir =
        profile_dir.parent().expect("a profile's directory lies in the target directory");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    // Cargo locks the target directory, so test processes that run side by side build in turn.
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "switchboard-router",
            "--bin",
            "router",
        ])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the router does not build:\n{log}");
    profile_dir.join("router")
}
