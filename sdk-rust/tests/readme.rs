//! The README's examples, run against two routers; and that they are the README's.

use switchboard::{Caller, Hash, Master, Node};
use switchboard_router::{Config, Router};

#[tokio::test]
async fn the_examples_of_the_readme_run() -> Result<(), Box<dyn std::error::Error>> {
    let config =
        Config::local().with_class("gamesvr", 1).with_class("matchsvr", 5).with_class("dbagent", 6);
    let routers = [Router::start(config.clone())?, Router::start(config)?];
    let [address, another] = routers.each_ref().map(|router| router.listen()[0].to_string());
    let (address, another) = (&address, &another);
    let agent = Node::builder("dbagent.1").router(address).connect().await?;
    let (saved, mut saves) = tokio::sync::mpsc::unbounded_channel();
    agent.on("save", move |_: Caller, arguments: (u64, u32)| {
        let saved = saved.clone();
        async move {
            saved.send(arguments)?;
            Ok(())
        }
    });
    let (player, level) = (7_u64, 3_u32);

    // The lines of the README, but for the address.
    let node = Node::builder("matchsvr.1").router(address).connect().await?;
    node.on("join_match", async |from: Caller, (player, mode): (u64, String)| {
        Ok(format!("{player} plays {mode}, says {}", from.node().id()))
    });

    let game = Node::builder("gamesvr").router(address).connect().await?;
    game.forward(Hash(player), "dbagent", "save", (player, level))?;
    let room: String = game.call(Master, "matchsvr", "join_match", (player, "duel")).await?;

    assert_eq!(room, "7 plays duel, says 5.1");
    assert_eq!(saves.recv().await, Some((7, 3)));

    // The second example. It ends with the node, since nobody sends this process a signal.
    let game = Node::builder("gamesvr").router(address).router(another).connect().await?;
    let room: String =
        game.call(Master, "matchsvr", "join_match", (player, "duel")).idempotent().await?;
    assert_eq!(room, "7 plays duel, says 5.1");
    let clone = game.clone();
    tokio::spawn(async move { clone.close().await });
    game.serve().await;
    Ok(())
}

#[test]
fn the_examples_of_the_readme_are_those_that_run() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let here = words(include_str!("readme.rs"));
    for readme in [include_str!("../../README.md"), include_str!("../../README.zh-CN.md")] {
        let examples: Vec<&str> = readme.split("```rust\n").skip(1).collect();
        assert_eq!(examples.len(), 2);
        for example in examples {
            let (example, _) = example.split_once("```").unwrap();
            for line in example.lines().map(|line| line.split("//").next().unwrap_or_default()) {
                let line = line.replace("\"127.0.0.1:2000\"", "address");
                let line = line.replace("\"10.0.0.1:2000\"", "address");
                let line = words(&line.replace("\"10.0.0.2:2000\"", "another"));
                assert!(here.contains(&line), "the README has `{line}`, and this test has not");
            }
        }
    }
}
