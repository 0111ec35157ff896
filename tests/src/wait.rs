//! Waiting for a condition, with a deadline. Tests never sleep: they say what they wait for.

use std::time::{Duration, Instant};

/// How long a test waits for what should come at once, on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; panics with `what` if it does not within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until `condition` holds; panics with `what` if it does not within `patience`.
#[track_caller]
pub fn within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

/// Holds on for as long as `condition` does, but at most for `period`; answers whether it still does.
pub fn holds_for(period: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + period;
    while Instant::now() < deadline {
        if !condition() {
            return false;
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
    condition()
}

const LOOK_AGAIN: Duration = Duration::from_millis(5);
