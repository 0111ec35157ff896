//! A Python environment with pinned packages, for tools that exist nowhere else. It is made once in the
//! target directory, which takes `python3` with its module `venv`, and the package index.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes the environment with these packages, such as `schemathesis==4.32.5`, below `dir`, unless it is
/// there. Answers with its interpreter.
///
/// # Panics
/// If it can't be made; it says what is missing.
#[must_use]
pub fn with(packages: &[&str], dir: &Path) -> PathBuf {
    let name = format!("python-{}", packages.join("-").replace("==", "-"));
    let made = dir.join(&name);
    let python = made.join("bin/python");
    if python.exists() {
        return python;
    }
    // It gets its name when it is whole, so half of one is never used, and two that are made at the same
    // time are not in each other's way.
    let fresh = dir.join(format!("{name}.{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&fresh);
    run(
        Command::new("python3").args(["-m", "venv"]).arg(&fresh),
        "python3 with its module venv is needed here; on Debian: apt-get install python3-venv",
    );
    run(
        Command::new(fresh.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(packages),
        "the packages can't be installed; pip has to reach a package index",
    );
    if std::fs::rename(&fresh, &made).is_err() {
        // Somebody else was first.
        let _ = std::fs::remove_dir_all(&fresh);
    }
    assert!(python.exists(), "there is no {}", python.display());
    python
}

fn run(command: &mut Command, need: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{need}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{need}:\n{said}");
}
