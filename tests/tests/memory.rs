//! Memory that returns: what a router needed at its worst it gives back to the system.

use switchboard_protocol::Mode;
use switchboard_tests::frames::{direct, id, to_class};
use switchboard_tests::{RawNode, RouterBuilder, Scratch, eventually};

#[test]
fn after_a_flood_of_a_thousand_connections_memory_returns() {
    let scratch = Scratch::new();
    let address = format!("unix:{}", scratch.file("router.sock").display());
    let router = RouterBuilder::default()
        .listen(&address)
        .config("log: warn\ndefault_class: {high_water_bytes: 262144, overflow: drop-new}\n")
        .start();
    let mut nodes: Vec<RawNode> =
        (0..CONNECTIONS).map(|_| RawNode::join(&address, &["5.0"])).collect();
    let mut sender = RawNode::join(&address, &["6.1"]);
    sender.sync();
    let idle = router.resident_bytes();

    // Every mailbox is full, and of every node the first half of a large frame is there.
    let frame = to_class(sender.id(), Mode::Broadcast, 5, vec![1; 8 << 10]);
    while router.outcome("5", "full") < 2 * CONNECTIONS {
        sender.send(&frame);
        sender.sync();
    }
    for node in &mut nodes {
        let large = direct(node.id(), id("6.1"), vec![2; 128 << 10]).to_bytes();
        node.send_bytes(&large[..64 << 10]);
    }
    let flooded = router.resident_bytes();
    assert!(flooded > 10 * idle, "it was no flood: {flooded} bytes, and {idle} before");

    for node in &mut nodes {
        let large = direct(node.id(), id("6.1"), vec![2; 128 << 10]).to_bytes();
        node.send_bytes(&large[64 << 10..]);
        node.sync();
        node.take_data();
        sender.take_data();
        sender.sync();
    }
    eventually("the memory of the flood is given back", || router.resident_bytes() <= 2 * idle);
    drop(nodes);
    eventually("nobody is left", || router.metric("switchboard_sessions", &[]) == 1);
    eventually("it stays given back", || router.resident_bytes() <= 2 * idle);
}

const CONNECTIONS: u64 = 1_000;
