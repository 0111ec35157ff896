//! What the harness does to any process that it started, by its own pid.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::wait;

/// Sends a process a signal by name, such as `TERM`.
///
/// # Panics
/// If that fails.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.expect("kill runs").success(), "signal {name}");
}

/// Waits for the end of a process.
///
/// # Panics
/// If it does not come in time.
#[track_caller]
pub fn wait_exit(child: &mut Child, patience: Duration, what: &str) -> ExitStatus {
    let mut status = None;
    wait::within(patience, what, || {
        status = child.try_wait().expect("its end can be waited for");
        status.is_some()
    });
    status.expect("it has ended")
}
