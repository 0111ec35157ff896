//! Scripts whose files change while they run: the new version takes over between messages, all of it or
//! nothing, and what the old one kept is still there.

use switchboard::{CallError, Direct, Node};
use switchboard_tests::lua_node::Script;
use switchboard_tests::{LuaNode, RouterProcess, eventually, wait};

const CLASSES: &str = "classes: {matchsvr: {id: 5}, gamesvr: {id: 6}}\n";
const CONNECT: &str = "local s = require 'switchboard'\nnode = node or assert(s.connect{})\n";

/// A router, a script that runs at it, and a node that calls it.
struct Stage {
    node: LuaNode,
    caller: Node,
    router: RouterProcess,
}

impl Stage {
    async fn new(script: Script) -> Self {
        let router = RouterProcess::with(CLASSES);
        let node = script.at(router.listen()).start();
        node.expect_out("ready");
        let caller = Node::builder("gamesvr.1").router(router.listen()).connect().await;
        Self { node, caller: caller.expect("the router is there"), router }
    }

    async fn call(&self, method: &str) -> Result<String, CallError> {
        self.caller.call(Direct, "matchsvr.1", method, ()).await
    }

    async fn says(&self, method: &str) -> String {
        self.call(method).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Replaces a file, and waits until that version runs.
    fn reload(&self, name: &str, text: &str) {
        let line = format!("reloaded {name}");
        let before = self.node.log().matches(&line).count();
        self.node.rewrite(name, text);
        eventually(&line, || self.node.log().matches(&line).count() > before);
    }

    /// Replaces a file with a version that does not run, for this reason.
    fn breaks(&self, name: &str, text: &str, why: &str) {
        let line = format!("not reloaded, the version before goes on: {why}");
        let before = self.node.log().matches(&line).count();
        self.node.rewrite(name, text);
        eventually(&line, || self.node.log().matches(&line).count() > before);
    }
}

fn script(text: &str) -> Script {
    Script::new(&format!("{CONNECT}{text}\nprint('ready')"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_keeps_the_state_and_replaces_the_handlers() {
    let text = |version: &str| {
        format!(
            "local rooms = import 'rooms.lua'
            calls = calls or 0
            function node.on.script() calls = calls + 1 return '{version}' .. calls .. rooms.name() end"
        )
    };
    let stage =
        Stage::new(script(&text("a")).file("rooms.lua", "function name() return 'x' end")).await;
    assert_eq!(stage.says("script").await, "a1x");
    stage.reload("script.lua", &format!("{CONNECT}{}", text("b")));
    assert_eq!(stage.says("script").await, "b2x");
    stage.reload("rooms.lua", "function name() return 'y' end");
    assert_eq!(stage.says("script").await, "b3y", "who has imported it sees its new functions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_parse_leaves_the_one_before_and_is_told_once() {
    let text = "local l = import 'logic.lua' function node.on.version() return l.version() end";
    let stage =
        Stage::new(script(text).file("logic.lua", "function version() return 'one' end")).await;
    stage.breaks(
        "logic.lua",
        "function version() return 'two' end\nend",
        "logic.lua:2: <eof> expected near 'end'",
    );
    assert_eq!(stage.says("version").await, "one");
    // Several looks later.
    for _ in 0..3 {
        stage.reload("script.lua", &format!("{CONNECT}{text}"));
    }
    assert_eq!(stage.node.log().matches("not reloaded").count(), 1, "once for each version");
    stage.reload("logic.lua", "function version() return 'two' end");
    assert_eq!(stage.says("version").await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_throws_changes_nothing_at_all() {
    let rooms = "name = 'old'";
    let text = "
        local rooms = import 'rooms.lua'
        kept, limit = kept or 'kept', 1
        _G.shared = 'old'
        function tell() return limit .. kept .. rooms.name .. shared .. tostring(extra) .. tostring(fresh) end
        function node.on.tell() return tell() end
        function node.on.first() return 'old' end
        function node.on.last() return 'old' end
        function node.on_closed() print('the old hook') end";
    let broken = format!(
        "{CONNECT}
        local rooms = import 'rooms.lua'
        rooms.name = 'new'
        kept, limit, extra = nil, 2, 'new'
        _G.shared, _G.fresh = 'new', 'new'
        function tell() return 'new' end
        function node.on.first() return 'new' end
        function node.on.only_new() return 'new' end
        function node.on_closed() print('the new hook') end
        s.after(1, print, 'a timer of the broken version')
        s.every(1, print, 'a timer of the broken version')
        other = assert(s.connect{{ service = 'gamesvr.9', name = 'of the broken version' }})
        import 'late.lua'
        local t = nil
        t.x = 1
        node.on = {{}}
        function node.on.last() return 'new' end"
    );
    let stage =
        Stage::new(script(text).file("rooms.lua", rooms).file("late.lua", "print 'late'")).await;
    assert_eq!(stage.says("tell").await, "1keptoldoldnilnil");
    let why = "script.lua:17: attempt to index a nil value (local 't')\nstack traceback:";
    stage.breaks("script.lua", &broken, why);
    for method in ["first", "last"] {
        assert_eq!(stage.says(method).await, "old", "{method}");
    }
    assert_eq!(stage.says("tell").await, "1keptoldoldnilnil");
    let unknown = stage.call("only_new").await;
    assert!(
        matches!(&unknown, Err(CallError::Refused { code, .. }) if code == "no_method"),
        "{unknown:?}"
    );
    let gone = || stage.node.log().contains("closed node=\"gamesvr.9\"");
    eventually("its node is closed", gone);

    // It is imported as if it never was.
    stage.reload(
        "script.lua",
        &format!("{CONNECT}import 'late.lua' s.after(5, function() node:close() end)"),
    );
    stage.node.expect_out("the old hook");
    let out = stage.node.out();
    assert_eq!(out.matches("late").count(), 2, "{out}");
    assert!(!out.contains("a timer of the broken version"), "{out}");
    assert!(!out.contains("the new hook"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_waits_finishes_in_the_version_it_began_in() {
    let text = |version: &str| {
        format!(
            "local function name() return '{version}' end
            function node.on.slow()
                print('begun')
                while not go do s.sleep(1) end
                return name()
            end
            function node.on.go() go = true return name() end"
        )
    };
    let stage = Stage::new(script(&text("old"))).await;
    let slow = stage.caller.call::<String>(Direct, "matchsvr.1", "slow", ());
    let slow = tokio::spawn(slow.into_future());
    stage.node.expect_out("begun");
    stage.reload("script.lua", &format!("{CONNECT}{}", text("new")));
    assert_eq!(stage.says("go").await, "new");
    assert_eq!(slow.await.expect("no panic"), Ok("old".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn try_reload_looks_at_once_and_says_what_came_of_it() {
    let text = "
        local a, b = import 'a.lua', import 'b.lua'
        local function told(list, why, others)
            if list then return 'all: ' .. table.concat(list, ' ') end
            return why .. '; others: ' .. table.concat(others, ' ')
        end
        function node.on.reload() return told(try_reload()) .. '; now ' .. a.x .. b.x end
        function node.on.module() return told(s.try_reload()) end
        function node.on.alien()
            return coroutine.wrap(function() local _, why = try_reload() return why end)()
        end
        print('from the main chunk', told(try_reload()))";
    let router = RouterProcess::with(CLASSES);
    let script = script(text).file("a.lua", "x = 1").file("b.lua", "x = 1");
    let node = script
        .args(&["--service", "matchsvr.1", "--router", router.listen(), "--reload-every", "0"])
        .start();
    node.expect_out("ready");
    node.expect_out("from the main chunk\tall: \n");
    let caller = Node::builder("gamesvr.1").router(router.listen()).connect().await;
    let stage = Stage { node, caller: caller.expect("the router is there"), router };
    assert_eq!(stage.says("reload").await, "all: ; now 11");
    stage.node.rewrite("a.lua", "x = 2");
    stage.node.rewrite("b.lua", "x = 2");
    assert_eq!(stage.says("reload").await, "all: a.lua b.lua; now 22");
    stage.node.rewrite("a.lua", "x = = 3");
    stage.node.rewrite("b.lua", "x = 3");
    let why = "a.lua:1: unexpected symbol near '='; others:";
    assert_eq!(stage.says("reload").await, format!("{why} b.lua; now 23"));
    assert_eq!(stage.says("module").await, format!("{why} "), "it is still broken");
    let alien = "only the coroutine that switchboard started can wait for a reload";
    assert_eq!(stage.says("alien").await, alien);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_loaded_again_can_not_wait() {
    let text =
        "function node.on.fine() return 'fine' end function node.on.other() return 'other' end";
    let stage = Stage::new(script(text)).await;
    let cases = [
        (
            "assert(node:call(s.DIRECT('matchsvr.1'), 'fine'))",
            "script.lua:3: a file that is being loaded again cannot wait",
        ),
        ("s.wait(1)", "script.lua:3: a file that is being loaded again cannot wait"),
        ("node:run()", "script.lua:3: a file that is being loaded again cannot run the node"),
        ("assert(try_reload())", "script.lua:3: a file is being loaded"),
        ("coroutine.yield()", "script.lua:3: attempt to yield"),
    ];
    for (waits, why) in cases {
        stage.breaks("script.lua", &format!("{CONNECT}{waits}"), why);
        assert_eq!(stage.says("fine").await, "fine", "{waits}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_is_kept_is_one_and_calls_the_new_version() {
    let text = |version: &str| {
        format!(
            "ticks, beats = ticks or {{}}, beats or 0
            function tick() ticks['{version}'] = true end
            timer = timer or s.every(1, function() beats = beats + 1 tick() end)
            function node.on.timer() return tostring(timer) end
            function node.on.ticked() return ticks['new'] and 'new' or 'old' end"
        )
    };
    let stage = Stage::new(script(&text("old"))).await;
    let timer = stage.says("timer").await;
    stage.reload("script.lua", &format!("{CONNECT}{}", text("new")));
    assert_eq!(stage.says("timer").await, timer);
    while stage.says("ticked").await != "new" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_throws_costs_the_one_before_no_timer() {
    let text = |version: &str, more: &str| {
        format!(
            "count = count or 0
            if timer then was_set = s.cancel(timer) and not s.cancel(timer) end
            timer = s.every(1, function() count = count + 1 seen = '{version}' end)
            function node.on.count() return seen and tostring(count) or '0' end
            function node.on.seen() return tostring(seen) .. tostring(was_set) end
            {more}"
        )
    };
    let stage = Stage::new(script(&text("old", ""))).await;
    let broken = format!("{CONNECT}{}", text("broken", "\nerror('no')"));
    stage.breaks("script.lua", &broken, "script.lua:9: no");
    let before = stage.says("count").await;
    let goes_on = async { while stage.says("count").await == before {} };
    tokio::time::timeout(wait::PATIENCE, goes_on).await.expect("the timer goes on");
    assert_eq!(stage.says("seen").await, "oldnil");

    stage.reload("script.lua", &format!("{CONNECT}{}", text("new", "seen = nil")));
    let fires = async { while stage.says("seen").await.starts_with("nil") {} };
    tokio::time::timeout(wait::PATIENCE, fires).await.expect("the new timer fires");
    for _ in 0..20 {
        assert_eq!(stage.says("seen").await, "newtrue", "the old timer is cancelled");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_version_that_throws_hears_nothing() {
    let watch =
        "node:watch('gamesvr', function(change) print('heard by VERSION', change.kind) end)";
    let stage = Stage::new(script("")).await;
    let broken = format!("{CONNECT}{}\nerror('no')", watch.replace("VERSION", "the broken one"));
    stage.breaks("script.lua", &broken, "script.lua:4: no");
    stage.reload("script.lua", &format!("{CONNECT}{}", watch.replace("VERSION", "the next")));
    stage.node.expect_out("heard by the next\tsynced");
    assert!(!stage.node.out().contains("broken"), "{}", stage.node.out());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_version_that_throws_connected_is_nobodys() {
    let text = "local s = require 'switchboard'
        a, b = import 'a.lua', import 'b.lua'
        _G.kept = {}
        function on_quit_signal() print('looked', try_reload()) end
        s.every(1e6, print)
        print('ready')";
    let router = RouterProcess::with(CLASSES);
    let mut node = Script::new(text)
        .file("a.lua", "")
        .file("b.lua", "")
        .args(&["--service", "matchsvr.1", "--router", router.listen(), "--reload-every", "0"])
        .start();
    node.expect_out("ready");
    // Both are loaded again in one look, so that the node is still closing.
    node.rewrite("a.lua", "kept.node = assert(require('switchboard').connect{}) error('no')");
    node.rewrite(
        "b.lua",
        "print('another', kept.node ~= assert(require('switchboard').connect{})) quit()",
    );
    node.signal("TERM");
    node.expect_out("another\ttrue");
    assert_eq!(node.wait_exit().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_reload_is_answered_though_the_look_fails() {
    let text = "function node.on.ask()
            local ipairs = ipairs
            _G.ipairs = nil
            local list, why = try_reload()
            _G.ipairs = ipairs
            return tostring(list) .. ', ' .. why:match(\"global 'ipairs'\")
        end";
    let stage = Stage::new(script(text)).await;
    assert_eq!(stage.says("ask").await, "nil, global 'ipairs'");
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_in_a_file_that_is_loaded_again_gives_the_node_that_there_is() {
    let text = "local s = require 'switchboard'
        node = assert(s.connect{})
        other = assert(s.connect{ service = 'gamesvr', name = 'other', metadata = { zone = 'eu' } })
        function node.on.ids() return node:id() .. ' ' .. other:id() end
        function node.on.version() return VERSION end";
    let first = format!("{}\nprint 'ready'", text.replace("VERSION", "'a'"));
    let stage = Stage::new(Script::new(&first)).await;
    let ids = stage.says("ids").await;
    stage.reload("script.lua", &text.replace("VERSION", "'b'"));
    assert_eq!((stage.says("version").await.as_str(), stage.says("ids").await), ("b", ids));
    let sessions = stage.router.metric("switchboard_sessions", &[]);
    assert_eq!(sessions, 3, "two of the script, and the caller");
    let third = text.replace("'eu'", "'us'").replace("VERSION", "'c'");
    stage.reload("script.lua", &third);
    assert_eq!(stage.says("version").await, "c");
    let sessions = stage.router.metric("switchboard_sessions", &[]);
    assert_eq!(sessions, 4, "that was another node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_that_a_new_version_makes_is_refused() {
    let text = "a = import 'a.lua' function node.on.x() return a.x end";
    let script = script(text).file("a.lua", "import 'b.lua' x = 'one'").file("b.lua", "");
    let stage = Stage::new(script).await;
    let why = "b.lua:1: import goes in a circle: b.lua -> a.lua -> b.lua";
    stage.breaks("b.lua", "import 'a.lua'", why);
    // Nothing is left of that: the other way round is fine.
    stage.reload("a.lua", "x = 'two'");
    stage.reload("b.lua", "import 'a.lua' y = 1");
    assert_eq!(stage.says("x").await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_has_not_come_to_its_end_says_why_it_is_not_reloaded() {
    let text = format!(
        "{CONNECT}local a = import 'a.lua'
        function node.on.x() return a.x end
        print('ready')
        node:run()"
    );
    let stage = Stage::new(Script::new(&text).file("a.lua", "x = 'one'")).await;
    let why =
        "script.lua has changed, but its first run has not come to its end, so it can't run again";
    stage.breaks("script.lua", "", why);
    stage.reload("a.lua", "x = 'two'");
    assert_eq!(stage.says("x").await, "two", "its imports have, and are");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_the_new_version_takes_over() {
    let text = |version: &str| {
        format!(
            "function node.on.x() return seen or '' end function on_loop() seen = '{version}' s.wait(1) end"
        )
    };
    let stage = Stage::new(script("function node.on.x() return seen or '' end")).await;
    stage.reload("script.lua", &format!("{CONNECT}{}", text("one")));
    while stage.says("x").await != "one" {}
    stage.reload("script.lua", &format!("{CONNECT}{}", text("two")));
    while stage.says("x").await != "two" {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_away_or_empty_for_a_moment_costs_nothing() {
    let text = "local a, b = import 'a.lua', import 'b.lua' function node.on.x() return a.x() end";
    let one = script(text).file("a.lua", "function x() return 'one' end").file("b.lua", "");
    let stage = Stage::new(one).await;
    std::fs::remove_file(stage.node.scratch().file("a.lua")).expect("it was there");
    stage.reload("b.lua", "y = 1");
    assert_eq!(stage.says("x").await, "one");
    // As who writes over a file leaves it, before he writes.
    stage.reload("a.lua", "");
    assert_eq!(stage.says("x").await, "one");
    stage.reload("a.lua", "function x() return 'two' end");
    assert_eq!(stage.says("x").await, "two");
    assert!(!stage.node.log().contains("not reloaded"), "{}", stage.node.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_imports_what_is_not_there_yet_runs_when_it_is() {
    let stage = Stage::new(script("function node.on.x() return 'old' end")).await;
    let new = format!("{CONNECT}local a = import 'a.lua' function node.on.x() return a.x end");
    stage.breaks("script.lua", &new, "script.lua:3: cannot find a.lua: there is no a.lua");
    stage.breaks("a.lua", "x = = 1", "a.lua:1: unexpected symbol near '='");
    assert_eq!(stage.says("x").await, "old");
    stage.node.rewrite("a.lua", "x = 'new'");
    stage.node.expect_log("reloaded script.lua");
    assert_eq!(stage.says("x").await, "new");
}

/// The program with which a minute of this was measured, for two seconds.
#[test]
fn a_hundred_reloads_a_second_under_load_lose_no_message_and_mix_no_versions() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lua_reload"))
        .args(["--seconds", "2", "--rate", "20000"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
}
