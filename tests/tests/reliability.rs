//! The figures of `docs/reliability.md` in small: the same program, for a few seconds each.

use std::process::{Command, Stdio};

fn run(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_reliability"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{args:?}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}

#[test]
fn no_idempotent_call_fails_or_runs_twice_when_masters_are_killed() {
    run(&["kill", "--kills", "50", "--rate", "2000"]);
}

#[test]
fn no_idempotent_call_fails_or_runs_twice_when_routers_are_killed() {
    run(&["routers", "--kills", "5", "--rate", "2000"]);
}

#[test]
fn nothing_fails_and_nothing_is_lost_in_a_planned_restart_of_everything() {
    run(&["rolling", "--rate", "300"]);
}

#[test]
fn a_silent_partition_costs_three_heartbeats_and_never_has_two_masters() {
    run(&["partition", "--rounds", "1", "--heartbeat-ms", "1000", "--slack-ms", "2000"]);
}
