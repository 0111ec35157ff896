//! Runs the example `fence`, which ends with an error unless its store refused the paused master.

#[path = "../examples/fence.rs"]
mod fence;

#[test]
fn a_master_that_was_paused_writes_nothing_when_it_wakes() {
    fence::main().unwrap();
}
