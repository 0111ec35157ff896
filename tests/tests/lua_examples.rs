//! What `docs/lua.md` shows runs as it stands there: the five-minute start, and the cluster of examples.

use std::path::Path;

use switchboard::{Caller, Direct, Node};
use switchboard_tests::lua_node::Script;
use switchboard_tests::{LuaNode, RouterBuilder, RouterProcess, eventually};

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    std::fs::read_to_string(root.join(path)).expect("it is there")
}

/// The router that the page starts.
fn router() -> RouterProcess {
    RouterBuilder::default().config(&read("sdk-lua/examples/cluster/router.yaml")).start()
}

/// The script under a heading of the page, the `place`th from 0.
fn shown(heading: &str, place: usize) -> String {
    let page = read("docs/lua.md");
    let section = page.split(heading).nth(1).expect("the heading is there");
    let scripts = section.split("```lua\n").skip(1);
    let script = scripts.filter_map(|rest| rest.split("```").next()).nth(place);
    script.expect("the script is there").to_owned()
}

fn start(router: &RouterProcess, script: &str, service: &str) -> LuaNode {
    let args = ["--service", service, "--router", router.listen(), "--reload-every", "10ms"];
    let node = Script::new(script).args(&args).start();
    node.expect_log("connected");
    node
}

fn example(router: &RouterProcess, name: &str, service: &str) -> LuaNode {
    start(router, &read(&format!("sdk-lua/examples/{name}.lua")), service)
}

#[test]
fn the_five_minute_start_prints_what_it_says_and_goes_on_with_a_changed_file() {
    let router = router();
    let (matchsvr, gamesvr) = (shown("## In five minutes", 0), shown("## In five minutes", 1));
    let server = start(&router, &matchsvr, "matchsvr.1");
    let ask = || {
        let args = ["--service", "gamesvr.1", "--router", router.listen()];
        let output = Script::new(&gamesvr).args(&args).run();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert_eq!(ask(), "match 1\tranked\n");
    server.rewrite("script.lua", &matchsvr.replace("match 1", "match 2"));
    server.expect_log("reloaded");
    assert_eq!(ask(), "match 2\tranked\n");
}

#[test]
fn the_game_server_of_the_cluster_says_that_the_account_does_not_close() {
    let router = router();
    let _matches = example(&router, "cluster/matchsvr", "matchsvr.1");
    // There is no database, so that players can't be loaded.
    let script = Script::new(&read("sdk-lua/examples/cluster/gamesvr.lua"))
        .args(&["--service", "gamesvr.1", "--router", router.listen()])
        .more(&["--players", "2", "--rounds", "1"]);
    let output = script.run();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("the account does not close"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_in_lua_closes_its_account_with_a_node_in_rust() {
    let router = router();
    let (told, mut matches) = tokio::sync::mpsc::unbounded_channel();
    let scoreboard = Node::builder("scoreboard.1")
        .router(router.listen())
        .on("played", move |_: Caller, (name, players): (String, Vec<u64>)| {
            let _ = told.send((name, players));
            std::future::ready(Ok(()))
        })
        .on("count", async |_: Caller, ()| Ok(0))
        .connect()
        .await
        .expect("the router is there");
    let nodes = [
        example(&router, "cluster/dbagent", "dbagent.1"),
        example(&router, "cluster/dbagent", "dbagent.2"),
        example(&router, "cluster/mailsvr", "mailsvr.1"),
        example(&router, "cluster/matchsvr", "matchsvr.1"),
        example(&router, "cluster/matchsvr", "matchsvr.2"),
    ];
    let args = ["--service", "gamesvr.1", "--router", router.listen()];
    let game = Script::new(&read("sdk-lua/examples/cluster/gamesvr.lua")).args(&args);
    let output = game.more(&["--players", "20", "--rounds", "5"]).run();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        printed.starts_with("gamesvr.1: 100 matches, 100 of 100 saves, 100 of 100 mails,"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    // Each match was told once, with its two players.
    let mut names = std::collections::BTreeSet::new();
    while names.len() < 50 {
        let (name, players) = matches.recv().await.expect("the scoreboard is open");
        assert_eq!(players.len(), 2, "{name}");
        assert!(names.insert(name.clone()), "{name} was told twice");
    }

    // And a node in Rust asks one in Lua: player 1001 was charged 50 of 100, once each.
    let slot = 1001 % 2 + 1;
    let left: i64 = scoreboard
        .call(Direct, &format!("dbagent.{slot}"), "charge", (1001, 0))
        .await
        .expect("the agent answers");
    assert_eq!(left, 50);
    drop(nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greeter_keeps_its_count_over_a_reload() {
    let router = router();
    let greeter = example(&router, "reload/greeter", "gamesvr.1");
    let node = Node::builder("mailsvr.1").router(router.listen()).connect().await.expect("router");
    let greet = async || -> (String, u64) {
        node.call(Direct, "gamesvr.1", "greet", ("Ada",)).await.expect("it greets")
    };
    assert_eq!(greet().await, ("hello, Ada".to_owned(), 1));
    let text = read("sdk-lua/examples/reload/greeter.lua");
    greeter.rewrite("script.lua", &text.replace("hello, ", "good evening, "));
    greeter.expect_log("reloaded");
    assert_eq!(greet().await, ("good evening, Ada".to_owned(), 2));
    eventually("it is still there", || !greeter.log().contains("ERROR"));
}
