//! The README's example, run against a router; and that it is the README's.

use switchboard::{Caller, Hash, Master, Node};
use switchboard_router::{Config, Router};

#[tokio::test]
async fn the_example_of_the_readme_runs() -> Result<(), Box<dyn std::error::Error>> {
    let config =
        Config::local().with_class("gamesvr", 1).with_class("matchsvr", 5).with_class("dbagent", 6);
    let router = Router::start(config)?;
    let address = &router.listen()[0].to_string();
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
    Ok(())
}

#[test]
fn the_example_of_the_readme_is_the_one_that_runs() {
    let here = include_str!("readme.rs");
    for readme in [include_str!("../../README.md"), include_str!("../../README.zh-CN.md")] {
        let (_, from_example) = readme.split_once("```rust\n").unwrap();
        let (example, _) = from_example.split_once("```").unwrap();
        let lines = example.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
        for line in lines.filter(|line| !line.is_empty()) {
            let line = line.replace("\"127.0.0.1:2000\"", "address");
            assert!(here.contains(&line), "the README has `{line}`, and this test has not");
        }
    }
}
