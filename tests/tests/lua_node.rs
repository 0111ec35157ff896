//! Scripts that run as nodes: options, exit codes, `import`, limits, and their end. Reloading is in
//! `lua_reload.rs`.

use std::process::Output;

use switchboard::{CallError, Direct, Node};
use switchboard_tests::lua_node::Script;
use switchboard_tests::{LuaNode, RouterBuilder, RouterProcess};

const CLASSES: &str = "classes: {matchsvr: {id: 5}, gamesvr: {id: 6}}\n";

fn run(text: &str) -> Output {
    Script::new(text).run()
}

#[track_caller]
fn assert_ends(output: &Output, code: i32, first_line: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    let first = error.lines().find(|line| line.starts_with("lua-node: ")).unwrap_or_default();
    assert_eq!((output.status.code(), first), (Some(code), first_line), "{output:?}");
}

#[track_caller]
fn assert_prints(output: &Output, text: &str) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
}

async fn caller(router: &RouterProcess) -> Node {
    Node::builder("gamesvr.1").router(router.listen()).connect().await.expect("the router is there")
}

/// Starts a script, and waits until it has printed `ready`.
fn ready(script: Script) -> LuaNode {
    let node = script.start();
    node.expect_out("ready");
    node
}

async fn call(node: &Node, method: &str) -> Result<i64, CallError> {
    node.call(Direct, "matchsvr.1", method, ()).await
}

// ---- options and exit codes ----------------------------------------------------------------------

#[test]
fn an_error_of_the_script_is_told_with_its_place_and_ends_with_1() {
    let at_load = run("local x = 1\n\nerror('boom')\n");
    assert_ends(&at_load, 1, "lua-node: script.lua:3: boom");
    let text = String::from_utf8_lossy(&at_load.stderr);
    assert!(
        text.contains("stack traceback:\n\t[C]: in function 'error'\n\tscript.lua:3:"),
        "{text}"
    );
    assert!(!text.contains("\tlua-node:"), "only what is the script's: {text}");

    let in_main =
        "local s = require 'switchboard'\nfunction main() s.sleep(1)\nlocal t = nil; t.x = 1 end";
    let line = "lua-node: script.lua:3: attempt to index a nil value (local 't')";
    assert_ends(&run(in_main), 1, line);

    assert_ends(&run("x =\n= 2"), 1, "lua-node: script.lua:2: unexpected symbol near '='");
    assert_ends(&run("assert(nil, 'no place')"), 1, "lua-node: script.lua:1: no place");
}

#[test]
fn a_mistake_in_the_options_ends_with_2() {
    let cases: [(&[&str], &str); 6] = [
        (&["--nosuch"], "error: unexpected argument '--nosuch' found"),
        (
            &["--reload-every", "3"],
            "error: invalid value '3' for '--reload-every <TIME>': `3` is not a time: write 3s, 500ms or 1m, \
             or 0 for never",
        ),
        (
            &["--memory-limit", "64K"],
            "error: invalid value '64K' for '--memory-limit <SIZE>': `64K` is not a size: write 256MiB, 1GiB \
             or a number of bytes",
        ),
        (
            &["--token-env", "NO_SUCH_VARIABLE"],
            "lua-node: --token-env: NO_SUCH_VARIABLE: environment variable not found",
        ),
        (
            &["--token-file", "none"],
            "lua-node: --token-file: cannot read none: No such file or directory (os error 2)",
        ),
        (
            &["--router", "nowhere"],
            "lua-node: script.lua:1: router: `nowhere` is not an address: write host:port or unix:/path",
        ),
    ];
    for (args, expected) in cases {
        let script = Script::new("assert(require('switchboard').connect{})");
        let output = script.args(&["--service", "matchsvr.1"]).args(args).run();
        let error = String::from_utf8_lossy(&output.stderr);
        let first = error.lines().next().unwrap_or_default();
        assert_eq!((output.status.code(), first), (Some(2), expected));
    }
}

#[test]
fn a_script_that_is_not_there_is_named_and_ends_with_2() {
    let node = Script::new("");
    std::fs::remove_file(node.path("script.lua")).expect("it was there");
    let line = "lua-node: cannot read script.lua: No such file or directory (os error 2)";
    assert_ends(&node.run(), 2, line);
}

#[test]
fn help_says_what_the_exit_codes_are() {
    let output = Script::new("").args(&["--help"]).run();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout);
    for line in
        ["  0    the script has come to its end", "  3    it ended because it could not connect"]
    {
        assert!(help.contains(line), "{help}");
    }
}

const CONNECT: &str = "local s = require 'switchboard'\nnode = assert(s.connect{})\n";

#[test]
fn a_dead_router_ends_it_with_3_and_is_named() {
    let at = |text: &str| Script::new(text).at("127.0.0.1:1").run();
    let why = "no router can be reached: 127.0.0.1:1: Connection refused (os error 111)";
    assert_ends(&at(CONNECT), 3, &format!("lua-node: script.lua:2: {why}"));

    let unchecked = at("local node = require('switchboard').connect{}\nnode.on.x = print\n");
    let line = "lua-node: script.lua:2: attempt to index a nil value (local 'node')";
    assert_ends(&unchecked, 1, line);
    let hint = format!("lua-node: before that it could not connect: {why}\n");
    assert!(String::from_utf8_lossy(&unchecked.stderr).ends_with(&hint), "{unchecked:?}");

    let handled =
        "local node, why, code = require('switchboard').connect{}\nprint(node, code, why)\n";
    assert_prints(&at(handled), &format!("nil\tunreachable\t{why}\n"));
}

#[test]
fn a_connect_that_failed_is_not_told_once_another_did_not() {
    let router = RouterProcess::with(CLASSES);
    let text = "local s = require 'switchboard'
        print(s.connect{ routers = '127.0.0.1:1' })
        assert(s.connect{})
        error('boom')";
    let output = Script::new(text).at(router.listen()).run();
    assert_ends(&output, 1, "lua-node: script.lua:4: boom");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("could not connect"), "{log}");
}

#[test]
fn a_mark_of_the_encoding_in_front_of_a_file_is_no_part_of_it() {
    let script = Script::new("\u{feff}print(import('a.lua').x)")
        .file("a.lua", "\u{feff}#!/usr/bin/env lua-node\nx = 1");
    assert_prints(&script.run(), "1\n");
    let check = Script::new("\u{feff}x = 1").args(&["--check"]).run();
    assert_prints(&check, "script.lua: ok\n");
}

#[test]
fn an_unknown_class_ends_it_with_3_and_is_named() {
    let router = RouterProcess::with(CLASSES);
    let output =
        Script::new(CONNECT).args(&["--service", "nosuch.1", "--router", router.listen()]).run();
    let line = format!(
        "lua-node: script.lua:2: {} refuses this node (unknown_class): no class is named `nosuch`; \
         known are matchsvr, gamesvr",
        router.listen()
    );
    assert_ends(&output, 3, &line);
}

#[test]
fn a_token_comes_from_the_environment_or_a_file_and_a_wrong_one_ends_it_with_3() {
    const TOKEN: &str = "the-secret-of-matches";
    let yaml = format!("{CLASSES}tokens: [{{name: matches, value: {TOKEN}}}]\n");
    let router = RouterBuilder::default().config(&yaml).start();
    let connect = format!("{CONNECT}print(node:id()) quit()");
    let script = || Script::new(&connect).at(router.listen()).file("token", &format!("{TOKEN}\n"));
    let right = script().env("TOKEN", TOKEN).args(&["--token-env", "TOKEN"]);
    assert_prints(&right.run(), "matchsvr.1\n");
    assert_prints(&script().args(&["--token-file", "token"]).run(), "matchsvr.1\n");

    let refused =
        format!("lua-node: script.lua:2: {} refuses this node (unauthorized): ", router.listen());
    let wrong = script().env("TOKEN", "guessed").args(&["--token-env", "TOKEN"]).run();
    assert_ends(&wrong, 3, &format!("{refused}the token is not one that this router knows"));
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("guessed"), "{wrong:?}");
    assert_ends(
        &script().run(),
        3,
        &format!("{refused}a token is required: give the node one with `token`"),
    );
    let both = script().args(&["--token-file", "token", "--token-env", "TOKEN"]).run();
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}

#[test]
fn what_follows_the_two_dashes_is_the_scripts() {
    let text = "function main(...) print(#arg, arg[0], ...) end\nprint(arg[1], arg[2])";
    let output = Script::new(text).more(&["--players", "2000", ""]).run();
    assert_prints(&output, "--players\t2000\n3\tscript.lua\t--players\t2000\t\n");
}

#[test]
fn connect_takes_from_the_command_line_what_it_was_not_told() {
    let router = RouterProcess::with(CLASSES);
    let text = "local s = require 'switchboard'
        local node = assert(s.connect{})
        assert(s.connect{} == node and s.connect() == node and s.connect{ service = 'matchsvr.1' } == node)
        local other = assert(s.connect{ service = 'gamesvr.7', also = {} })
        assert(other ~= node and s.connect{} == node)
        print(table.concat(node:ids(), ' '), table.concat(other:ids(), ' '))
        node:close()
        local again = assert(s.connect{})
        print(again ~= node, again:id())
        quit()";
    let output = Script::new(text).at(router.listen()).args(&["--also", "gamesvr.2"]).run();
    assert_prints(&output, "matchsvr.1 gamesvr.2\tgamesvr.7\ntrue\tmatchsvr.1\n");
}

#[test]
fn another_service_takes_over_nothing_that_is_of_the_one_on_the_command_line() {
    let router = RouterProcess::with(CLASSES);
    let text = "local s = require 'switchboard'
        local node = assert(s.connect{})
        local other = assert(s.connect{ service = 'gamesvr.7' })
        s.sleep(50)
        print(node:is_open(), table.concat(node:ids(), ' '), table.concat(other:ids(), ' '))
        quit()";
    let output = Script::new(text)
        .at(router.listen())
        .args(&["--also", "gamesvr.2", "--weight", "3", "--name", "matches"])
        .run();
    assert_prints(&output, "true\tmatchsvr.1 gamesvr.2\tgamesvr.7\n");
}

#[test]
fn text_is_loaded_and_bytecode_is_not() {
    let text = "local code = string.dump(function() return 'bytecode' end)
        local file = io.open('code.lua', 'wb')
        file:write(code)
        file:close()
        local function tell(chunk, why) print(chunk, (why:gsub('\\n.*', ''))) end
        tell(load(code))
        tell(load(code, 'code', 'b', {}))
        tell(load(function() local part = code code = nil return part end, '=parts', 'bt'))
        tell(loadfile('code.lua'))
        tell(loadfile('code.lua', 'b'))
        tell(pcall(dofile, 'code.lua'))
        tell(pcall(require, 'code'))
        print(load('return x, ...', '=text', 't', { x = 7 })(8), load('return x')(), loadfile('plain.lua')())
        print(dofile('plain.lua'), require('plain'), (select(2, pcall(require, 'nosuch')):gsub('\\n.*', '')))
        print(select(2, load('x = = 1')), select(2, pcall(dofile, 'nosuch.lua')))";
    let refused = "attempt to load a binary chunk (mode is 't')";
    let expected = format!(
        "{nil}{nil}{nil}{nil}{nil}false\t{refused}\n\
         false\terror loading module 'code' from file './code.lua':\n\
         7\tnil\tplain\nplain\tplain\tmodule 'nosuch' not found:\n\
         [string \"x = = 1\"]:1: unexpected symbol near '='\tcannot open nosuch.lua: No such file or directory\n",
        nil = format!("nil\t{refused}\n"),
    );
    assert_prints(&Script::new(text).file("plain.lua", "return 'plain'").run(), &expected);
}

#[test]
fn it_is_the_safe_lua_without_c_modules_and_without_debug() {
    let text = "for name in pairs(debug) do print(name) end
        print(debug.traceback('here'):match('^here\\nstack traceback:') ~= nil, debug.traceback(nil))
        print(debug.traceback(coroutine.create(print), 'there'), debug.traceback(print) == print)
        print(package.loadlib, pcall(require, 'nosuch'))";
    let output = Script::new(text).run();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.starts_with("traceback\ntrue\tstack traceback:"), "{out}");
    assert!(out.contains("\nthere\ttrue\n"), "{out}");
    assert!(!out.contains(".so'"), "no library is looked for: {out}");
}

// ---- import --------------------------------------------------------------------------------------

#[test]
fn each_imported_file_has_an_environment_of_its_own_and_one_only() {
    let script = "x = 'script'
        local a, b = import 'a.lua', import 'sub/b.lua'
        print(x, a.x, b.x, _G.x)
        print(a == import './a.lua', a == import 'link.lua', b.a == a, b.beside)
        print(a.print == print, rawget(a, 'print'))";
    let script = Script::new(script)
        .file("a.lua", "print 'once' x = 'a'")
        .file("sub/b.lua", "x = 'b' a = import 'a.lua' beside = import('c.lua').x")
        .file("sub/c.lua", "x = 'c'");
    std::os::unix::fs::symlink("a.lua", script.path("link.lua")).expect("a link can be made");
    assert_prints(&script.run(), "once\nscript\ta\tb\tnil\ntrue\ttrue\ttrue\tc\ntrue\tnil\n");
}

#[test]
fn a_function_imports_from_beside_its_own_file_whoever_calls_it() {
    let script = Script::new("print(import('sub/b.lua').later().x, import('sub/b.lua').at_the_end)")
        .file("x.lua", "x = 'beside the script'")
        .file("sub/b.lua", "function later() local x = import 'x.lua' return x end at_the_end = 1 return import 'd.lua'")
        .file("sub/d.lua", "")
        .file("sub/x.lua", "x = 'beside b'");
    assert_prints(&script.run(), "beside b\t1\n");
}

#[test]
fn require_still_works_and_looks_beside_the_script_first() {
    let script = Script::new("print(require('plain').x, require('dir').x, x)")
        .file("plain.lua", "x = 'global' return { x = 'plain' }")
        .file("dir/init.lua", "return { x = 'dir' }");
    assert_prints(&script.run(), "plain\tdir\tglobal\n");
}

#[test]
fn imports_that_go_in_a_circle_name_the_chain() {
    let script = Script::new("import 'a.lua'")
        .file("a.lua", "import 'b.lua'")
        .file("b.lua", "\nimport 'a.lua'");
    let line = "lua-node: b.lua:2: import goes in a circle: a.lua -> b.lua -> a.lua";
    assert_ends(&script.run(), 1, line);
    let line = "lua-node: script.lua:1: import goes in a circle: script.lua -> script.lua";
    assert_ends(&run("import 'script.lua'"), 1, line);
}

#[test]
fn a_file_that_is_not_found_is_told_with_where_it_was_looked_for() {
    let script = Script::new("import 'sub/b.lua'").file("sub/b.lua", "import 'nosuch.lua'");
    let line = "lua-node: sub/b.lua:1: cannot find nosuch.lua: there is no sub/nosuch.lua and no nosuch.lua";
    assert_ends(&script.run(), 1, line);
    let line = "lua-node: script.lua:1: import takes the name of a file, not a nil";
    assert_ends(&run("import()"), 1, line);
}

#[test]
fn a_file_that_fails_fails_its_import_and_can_be_imported_again() {
    let text = "print(pcall(import, 'b.lua'))\n_G.fine = true\nprint(import('b.lua').x)\nfine = nil\n_G.fine = nil\nimport 'c.lua'";
    let script = Script::new(text)
        .file("b.lua", "if not fine then error('not yet') end x = 1")
        .file("c.lua", "import 'd.lua'")
        .file("d.lua", "local t = nil\nt()");
    let output = script.run();
    assert_ends(&output, 1, "lua-node: d.lua:2: attempt to call a nil value (local 't')");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "false\tb.lua:1: not yet\n1\n");
}

// ---- its end -------------------------------------------------------------------------------------

#[test]
fn a_script_ends_when_nothing_is_left_that_could_happen() {
    let text = "local s = require 'switchboard'
        s.after(20, print, 'later')
        function main() s.sleep(40) print('main') end
        print('loaded')";
    assert_prints(&run(text), "loaded\nlater\nmain\n");
}

#[test]
fn a_script_with_a_loop_of_its_own_ends_when_that_does() {
    let router = RouterProcess::with(CLASSES);
    let text = format!("{CONNECT}s.after(10, s.stop) node:run() print('after the loop')");
    assert_prints(&Script::new(&text).at(router.listen()).run(), "after the loop\n");
}

#[test]
fn on_loop_is_called_again_and_again_until_the_script_quits() {
    let text = |quit: &str| {
        format!(
            "local s = require 'switchboard'
            n = 0
            function on_loop()
                n = n + 1
                s.wait(1)
                if n == 2 then error('only once') end
                if n == 5 then print(n) {quit} end
            end"
        )
    };
    for way in ["quit()", "luna_quit_flag = true", "_G.luna_quit_flag = true", "s.stop()"] {
        let output = run(&text(way));
        assert_prints(&output, "5\n");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains("script.lua:6: only once"), "{way}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_sigint_finish_the_call_in_flight_and_end_with_0() {
    let router = RouterProcess::with(CLASSES);
    let caller = caller(&router).await;
    let text = format!(
        "{CONNECT}
        function node.on.slow() print('begun') s.sleep(300) return 7 end
        print('ready')"
    );
    for signal in ["TERM", "INT"] {
        let mut node = ready(Script::new(&text).at(router.listen()));
        let other = caller.clone();
        let answer = tokio::spawn(async move { call(&other, "slow").await });
        node.expect_out("begun");
        node.signal(signal);
        assert_eq!(answer.await.expect("no panic"), Ok(7));
        assert_eq!(node.wait_exit().code(), Some(0), "{signal}");
        let gone = call(&caller, "slow").await;
        assert!(matches!(gone, Err(CallError::NoRoute(_))), "it has left: {gone:?}");
    }
}

#[test]
fn a_signal_ends_a_script_that_waits_in_a_loop_of_its_own() {
    let router = RouterProcess::with(CLASSES);
    for end in
        ["node:run()", "function main() s.sleep(1e9) end", "function on_loop() s.wait(1e9) end"]
    {
        let mut node =
            ready(Script::new(&format!("{CONNECT}print('ready') {end}")).at(router.listen()));
        node.signal("TERM");
        assert_eq!(node.wait_exit().code(), Some(0), "{end}");
    }
}

#[test]
fn a_signal_ends_what_the_main_chunk_waits_for() {
    let router = RouterProcess::with(CLASSES);
    let cases = [
        ("function on_loop() s.sleep(1e9) end", ""),
        (
            "function on_loop() print(node:call(s.DIRECT('matchsvr.1'), 'never')) end",
            "nil\tlua-node is ending\tclosed\n",
        ),
        ("print(node:call(s.DIRECT('matchsvr.1'), 'never'))", "nil\tlua-node is ending\tclosed\n"),
        ("assert(node:call(s.DIRECT('matchsvr.1'), 'never'))", ""),
    ];
    for (wait, printed) in cases {
        let text = format!(
            "local s = require 'switchboard'
            node = assert(s.connect{{ call_timeout = 1e9, drain_timeout = 100 }})
            function node.on.never() print('ready') s.sleep(1e9) end
            s.after(1, print, 'ready')
            {wait}"
        );
        let mut node = ready(Script::new(&text).at(router.listen()));
        node.signal("TERM");
        assert_eq!(node.wait_exit().code(), Some(0), "{wait}: {}", node.log());
        assert_eq!(node.out().replace("ready\n", ""), printed, "{wait}");
    }
}

#[test]
fn the_quit_flag_ends_a_loop_of_the_scripts_own() {
    for flag in ["luna_quit_flag", "_G.luna_quit_flag"] {
        let text = format!(
            "local s = require 'switchboard'
            s.every(1e6, print)
            s.after(5, function() {flag} = true end)
            s.run()
            print('after the loop')"
        );
        assert_prints(&run(&text), "after the loop\n");
    }
}

#[test]
fn a_script_that_quits_while_it_is_loaded_has_no_main() {
    assert_prints(&run("function main() print('main') end quit() print('loaded')"), "loaded\n");
}

#[test]
fn a_wait_that_always_fails_is_told_once_and_a_signal_still_ends_it() {
    for more in ["", "function on_loop() error('as ever') end"] {
        let text = format!(
            "local s = require 'switchboard'
            local waits = 0
            s.every(1e6, print)
            s.wait = function()
                waits = waits + 1
                if waits == 5 then print('ready') end
                error('no wait')
            end
            {more}"
        );
        let mut node = ready(Script::new(&text));
        node.signal("TERM");
        assert_eq!(node.wait_exit().code(), Some(0), "{more}");
        assert_eq!(node.log().matches("ERROR lua_node: script.lua:7: no wait").count(), 1);
    }
}

#[test]
fn a_failure_is_told_with_its_own_place_though_another_had_the_same_text() {
    let text = "local s = require 'switchboard'
        n = 0
        function on_loop()
            n = n + 1
            if n == 1 then error('the same', 0) end
            error(quit() or 'the same', 0)
        end";
    let output = run(text);
    assert_prints(&output, "");
    let log = String::from_utf8_lossy(&output.stderr);
    for place in ["script.lua:5: the same", "script.lua:6: the same"] {
        assert!(log.contains(place), "{place}: {log}");
    }
}

#[test]
fn on_quit_signal_decides_when_the_script_ends() {
    let router = RouterProcess::with(CLASSES);
    for place in ["", "_G."] {
        let text = format!(
            "{CONNECT}
            function {place}on_quit_signal()
                s.sleep(20)
                print('saved, and still ' .. node:id())
                quit()
            end
            print('ready')"
        )
        .replace("function _G.on_quit_signal", "_G.on_quit_signal = function");
        let mut node = ready(Script::new(&text).at(router.listen()));
        node.signal("TERM");
        assert_eq!(node.wait_exit().code(), Some(0));
        assert_eq!(node.out(), "ready\nsaved, and still matchsvr.1\n");
    }
    let fails = format!("{CONNECT}function on_quit_signal() error('no') end print('ready')");
    let mut node = ready(Script::new(&fails).at(router.listen()));
    node.signal("TERM");
    assert_eq!(node.wait_exit().code(), Some(0), "it quits all the same");
    assert!(node.log().contains("script.lua:3: no"), "{}", node.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let text = "function on_quit_signal() print('asked') end
            require('switchboard').every(1e6, print) print('ready')";
        let mut node = ready(Script::new(text));
        node.signal(signal);
        node.expect_out("asked");
        assert!(node.is_running(), "the script did not quit");
        node.signal(signal);
        assert_eq!(node.wait_exit().code(), Some(code));
        assert!(node.log().contains("second signal: leaving at once"));
    }
    let mut hot = ready(Script::new("print('ready') while true do end"));
    hot.signal("TERM");
    // Signals that come before they are looked at are one.
    while hot.is_running() {
        hot.signal("TERM");
    }
    assert_eq!(hot.wait_exit().code(), Some(143));
}

// ---- limits --------------------------------------------------------------------------------------

#[track_caller]
fn assert_remote(result: Result<i64, CallError>, expected: &str) {
    match result {
        Err(CallError::Remote { code, text }) => {
            assert_eq!(code, "error");
            assert!(text.contains(expected), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_over_the_memory_limit_fails_and_the_node_lives() {
    let router = RouterProcess::with(CLASSES);
    let caller = caller(&router).await;
    let text = format!(
        "{CONNECT}
        hoard = {{}}
        function node.on.huge() return #string.rep('x', 1 << 30) end
        function node.on.grow() local t = {{}} while true do t[#t + 1] = {{ #t }} end end
        function node.on.later() s.sleep(1) return #string.rep('x', 1 << 30) end
        function node.on.hoard() while true do hoard[#hoard + 1] = string.rep('x', 50000) end end
        function node.on.drop() hoard = {{}} return 1 end
        function node.on.fine() return 1 end
        print('ready')"
    );
    let node = ready(Script::new(&text).at(router.listen()).args(&["--memory-limit", "8MiB"]));
    for method in ["huge", "grow", "later", "hoard", "hoard"] {
        assert_remote(call(&caller, method).await, "not enough memory");
    }
    assert_eq!(call(&caller, "drop").await, Ok(1));
    for _ in 0..100 {
        assert_eq!(call(&caller, "fine").await, Ok(1));
    }
    node.expect_log("not enough memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_over_the_instruction_limit_fails_and_the_node_lives() {
    let router = RouterProcess::with(CLASSES);
    let caller = caller(&router).await;
    let text = format!(
        "{CONNECT}
        local function count(n) for i = 1, n do end return n end
        function node.on.endless()
            while true do end end
        function node.on.stubborn() while true do pcall(node.on.endless) end end
        function node.on.later() s.sleep(1) while true do end end
        function node.on.spawning() s.spawn(node.on.endless) while true do end end
        function node.on.long() for i = 1, 20 do count(30000) s.sleep(0) end return 1 end
        function node.on.fine() return count(50000) end
        s.after(1, function() while true do end end)
        print('ready')"
    );
    let script = Script::new(&text).at(router.listen()).args(&["--instruction-limit", "100000"]);
    let node = ready(script);
    assert_remote(
        call(&caller, "endless").await,
        "script.lua:6: over the instruction limit: 100000 instructions without a wait",
    );
    for method in ["stubborn", "later", "spawning"] {
        assert_remote(call(&caller, method).await, "over the instruction limit");
    }
    assert_eq!(call(&caller, "long").await, Ok(1), "more in all, but it waits in between");
    for _ in 0..100 {
        assert_eq!(call(&caller, "fine").await, Ok(50000), "each has the limit to itself");
    }
    node.expect_log("script.lua:12: over the instruction limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_handlers_over_the_instruction_limit_leave_the_node_whole() {
    let router = RouterProcess::with(CLASSES);
    let caller = caller(&router).await;
    let text = format!(
        "{CONNECT}
        function node.on.endless() while true do end end
        function node.on.later() s.sleep(0) while true do end end
        function node.on.fine() s.sleep(0) return 1 end
        print('ready')"
    );
    let script = Script::new(&text).at(router.listen());
    let _node = ready(script.args(&["--instruction-limit", "10000", "--log", "off"]));
    // Some of the looks fall into what runs around the handlers: those must not be cut short.
    for _ in 0..60 {
        let begun: Vec<_> = (0..50)
            .map(|n| {
                let (caller, method) = (caller.clone(), ["endless", "later"][n % 2]);
                tokio::spawn(async move { call(&caller, method).await })
            })
            .collect();
        for result in begun {
            let result = result.await.expect("no panic");
            assert_remote(result, "over the instruction limit: 10000 instructions without a wait");
        }
        assert_eq!(call(&caller, "fine").await, Ok(1));
    }
}

#[test]
fn an_endless_loop_at_load_is_an_error_where_instructions_are_limited() {
    let script = Script::new("\nwhile true do end").args(&["--instruction-limit", "10000"]);
    let line =
        "lua-node: script.lua:2: over the instruction limit: 10000 instructions without a wait";
    assert_ends(&script.run(), 1, line);
}

// ---- --check -------------------------------------------------------------------------------------

#[test]
fn check_parses_the_script_and_what_it_imports_and_runs_nothing() {
    let script = Script::new("print('it runs') import 'a.lua' import(name) import 'nosuch.lua'")
        .file("a.lua", "local b = import('sub/b.lua')")
        .file("sub/b.lua", "-- import 'broken.lua'")
        .file("broken.lua", "x = = 1");
    let output = script.args(&["--check"]).run();
    assert_prints(&output, "script.lua: ok\na.lua: ok\nsub/b.lua: ok\n");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn check_says_where_a_file_does_not_parse_and_ends_with_1() {
    let script = Script::new("import 'a.lua'").file("a.lua", "x = 1\nx = = 2\n");
    let output = script.args(&["--check"]).run();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "script.lua: ok\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "a.lua:2: unexpected symbol near '='\n");
}
