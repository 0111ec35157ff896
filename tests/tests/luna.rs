//! luna's spelling: its own snippets, each as it stands in luna's README, completed by the lines around it, run in
//! lua-node, Lua 5.4 and LuaJIT against real sockets, and do what luna's README says. Then what the snippets leave
//! open. `sdk-lua/tests/luna/` has the snippets and, in `around.lua`, what the lines around them have in common.

use std::net::TcpListener;

use switchboard::{Caller, Direct, Membership, Node};
use switchboard_router::{Config, Router};
use switchboard_tests::lua_host::Running;
use switchboard_tests::lua_node::Script;
use switchboard_tests::wait::PATIENCE;
use switchboard_tests::{LuaHost, Scratch};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;

const ENTRY: &str = include_str!("../../sdk-lua/tests/luna/entry.lua");
const CREATE: &str = include_str!("../../sdk-lua/tests/luna/create.lua");
const LISTEN: &str = include_str!("../../sdk-lua/tests/luna/listen.lua");
const CONNECT: &str = include_str!("../../sdk-lua/tests/luna/connect.lua");
const CALL: &str = include_str!("../../sdk-lua/tests/luna/call.lua");
const RECEIVE: &str = include_str!("../../sdk-lua/tests/luna/receive.lua");
const CLOSE: &str = include_str!("../../sdk-lua/tests/luna/close.lua");
const ROUTE: &str = include_str!("../../sdk-lua/tests/luna/route.lua");
const FORWARD: &str = include_str!("../../sdk-lua/tests/luna/forward.lua");

const AROUND: &str = include_str!("../../sdk-lua/tests/luna/around.lua");

/// What ends a script in lua-node as well, which would go on while it has a node.
const END: &str = "\nif quit then quit() end\n";

/// A script that runs.
struct Lines {
    running: Running,
    _scratch: Scratch,
}

/// Starts lines, one part after the other in one chunk.
fn start(host: LuaHost, variables: &[(&str, &str)], parts: &[&str]) -> Lines {
    let scratch = Scratch::new();
    let script = scratch.write("lines.lua", &format!("{AROUND}\n{}{END}", parts.concat()));
    Lines { running: host.start(&script, variables), _scratch: scratch }
}

impl Lines {
    /// Waits for the end, and answers what was printed.
    #[track_caller]
    fn end(&mut self) -> String {
        let status = self.running.wait_exit();
        assert!(status.success(), "{status}");
        self.running.out()
    }
}

/// Runs lines in each Lua: they end well, and print this.
#[track_caller]
fn print(parts: &[&str], expected: &str) {
    for host in LuaHost::ALL {
        assert_eq!(start(host, &[], parts).end(), expected, "{host:?}");
    }
}

/// A router by itself, which knows its classes by name, and its port.
fn router() -> (Router, String) {
    let config = Config::local().with_class("gamesvr", 1).with_class("matchsvr", 5);
    let router = Router::start(config).expect("a port is free");
    let address = router.listen()[0].to_string();
    let (_, port) = address.rsplit_once(':').expect("an address has a port");
    (router, port.to_owned())
}

/// Lines in which there is a listener at 8080, and a stream to it, with both ends of it connected.
const CONNECTED: &str = r#"
    accepted = {}
    listener = mgr.listen("127.0.0.1", 8080)
    listener.on_accept = function(guest) accepted[#accepted + 1] = guest end
    stream = mgr.connect("127.0.0.1", 8080)
    local is_connected
    stream.on_connected = function() is_connected = true end
    eventually(function() return is_connected and accepted[1] end)
    stream.on_connected = nil
"#;

// ---- luna's snippets -----------------------------------------------------------------------------

#[test]
fn luna_entry_is_defined_as_written_and_called_with_the_entry_file() {
    let before = "local before = luna_entry\n";
    let after = "assert(luna_entry ~= before)\nprint(select('#', luna_entry('main.lua')))";
    print(&[before, ENTRY, after], "0\n");
}

#[test]
fn a_socket_mgr_waits_no_longer_than_it_is_told() {
    let before = "local begun = clock()\n";
    let after = "local waited = clock() - begun\nassert(waited >= 49 and waited < 5000, waited)\nprint('waited')";
    // LuaJIT takes the name as it stands there.
    let given = "最大句柄数 = 100\n";
    let mut as_written = start(LuaHost::LuaJit, &[], &[given, before, CREATE, after]);
    assert_eq!(as_written.end(), "waited\n");
    // Names are ASCII in Lua 5.4, which says so; all else is the same.
    let refused = format!("print(load([==[{CREATE}]==], '=create'))");
    let ascii = CREATE.replace("最大句柄数", "max_handles");
    for host in [LuaHost::Node, LuaHost::Lua54] {
        let given = "max_handles = 100\n";
        let said = start(host, &[], &[&refused, "\n", given, before, &ascii, after]).end();
        assert_eq!(said, "nil\tcreate:1: unexpected symbol near '<\\230>'\nwaited\n", "{host:?}");
    }
}

#[test]
fn a_listener_listens_until_it_is_collected() {
    let after = r#"
        local function try()
            local said
            local stream = mgr.connect("127.0.0.1", 8080)
            stream.on_connected = function() said = "connected" end
            stream.on_error = function(err) said = plain(err):match("^no router can be reached") end
            return eventually(function() return said end)
        end
        print(try())
        listener = nil
        collect()
        print(try())
    "#;
    print(&[LISTEN, after], "connected\nno router can be reached\n");
}

#[test]
fn a_stream_connects_in_a_later_wait_and_closes_when_it_is_collected() {
    let before = r#"
        listener = mgr.listen("127.0.0.1", 8080)
        local guest, left
        listener.on_accept = function(stream)
            guest = stream
            stream.on_error = function(err) left = err end
        end
    "#;
    let after = r#"
        local is_connected
        assert(stream.token == nil)
        stream.on_connected = function() is_connected = true end
        eventually(function() return is_connected and guest end)
        assert(stream.token == guest.token and stream.token > 255 * 16777216)
        stream = nil
        collect()
        print(eventually(function() return left end))
    "#;
    print(&[before, CONNECT, after], "closed by the other end\n");
}

#[test]
fn what_is_called_arrives_at_the_other_end_with_its_values() {
    let before = r#"
        local got, count
        accepted[1].on_recv = function(...) got, count = { ... }, select('#', ...) end
        acc, password = "alice", { hint = "none", 1, 2.5, true }
    "#;
    let after = r#"
        eventually(function() return got end)
        assert(got[3].hint == "none" and got[3][1] == 1 and got[3][2] == 2.5 and got[3][3] == true)
        print(count, got[1], got[2])
    "#;
    print(&[CONNECTED, before, CALL, after], "3\ton_login\talice\n");
}

#[test]
fn on_recv_hears_the_other_end_and_on_error_that_it_is_gone() {
    let after = r#"
        local said, gone = {}, {}
        local on_recv, on_error = stream.on_recv, stream.on_error
        stream.on_recv = function(...)
            on_recv(...)
            said[#said + 1] = { ... }
        end
        stream.on_error = function(...)
            on_error(...)
            gone[#gone + 1] = { ... }
        end
        accepted[1].call("on_welcome", 7, nil, "bye")
        accepted[1].call("on_more")
        eventually(function() return #said == 2 end)
        print(said[1][1], said[1][2], said[1][3], said[1][4], said[2][1])
        accepted[1].close()
        eventually(function() return gone[1] end)
        print(gone[1][1], #gone)
        print(stream.call("late"))
    "#;
    let expected = "on_welcome\t7\tnil\tbye\ton_more\n\
                    closed by the other end\t1\n\
                    nil\tthe stream is closed\tclosed\n";
    print(&[CONNECTED, RECEIVE, after], expected);
}

#[test]
fn what_was_said_before_a_close_arrives_before_the_error() {
    let before = r#"
        local heard, wrong = {}, false
        accepted[1].on_recv = function(msg, number) heard[#heard + 1] = number end
        accepted[1].on_error = function(err) heard[#heard + 1] = err end
        stream.on_error = function() wrong = true end
        for number = 1, 2000 do assert(stream.call("count", number)) end
    "#;
    let after = r#"
        eventually(function() return type(heard[#heard]) == "string" end)
        for number = 1, 2000 do assert(heard[number] == number) end
        assert(not wrong, "who closes a stream hears no error")
        print(heard[2001], #heard)
    "#;
    print(&[CONNECTED, before, CLOSE, after], "closed by the other end\t2001\n");
}

#[test]
fn a_route_leads_forwards_to_the_stream_with_the_token() {
    let before = r#"
        local service_id = 5 * 16777216 + 1
        local other, got = mgr.connect("127.0.0.1", 8080), nil
        stream.on_recv = function(msg, ...) got = { msg, ... } end
        eventually(function() return other.token end)
        local guest = stream
        local stream = accepted[1]
        assert(other.forward(master, 5, "ping", 1))
    "#;
    let after = r#"
        eventually(function()
            assert(other.forward(master, 5, "ping", 2))
            return got
        end)
        -- Before, nobody had the id.
        print(got[1], got[2])
    "#;
    print(&[CONNECTED, before, ROUTE, after], "ping\t2\n");
}

#[test]
fn a_forward_reaches_the_master_of_matchsvr_through_a_router() {
    let runtime = Runtime::new().expect("a runtime");
    for host in LuaHost::ALL {
        let (router, port) = router();
        let address = router.listen()[0].to_string();
        let (heard, mut hear) = mpsc::unbounded_channel();
        let matchsvr = |id: &'static str| {
            let heard = heard.clone();
            let join = move |_: Caller, (player, mode): (u64, String)| {
                // The test may be over.
                let _ = heard.send((id, player, mode));
                std::future::ready(Ok(()))
            };
            let builder = Node::builder(id).router(&address).on("join_match", join);
            runtime.block_on(builder.connect()).expect("the router is there")
        };
        let _backup = matchsvr("matchsvr.2");
        let master = matchsvr("matchsvr.1");
        let before = r#"
            matchsvr = 5
            player_id, match_mode = 4711, "duel"
            -- What is sent before on_connected is not sent, here as in luna: so this waits for it.
            local connect = socket_mgr.connect
            function socket_mgr.connect(...)
                local stream, is_connected = connect(...), false
                stream.on_connected = function() is_connected = true end
                eventually(function() return is_connected end)
                return stream
            end
        "#;
        let after = r#"
            while true do
                mgr.wait(20)
                call_matchsvr("join_match", player_id, "more")
            end
        "#;
        let _lines = start(host, &[("ROUTER_PORT", &port)], &[before, FORWARD, after]);
        let mut next = || {
            let heard = runtime.block_on(async { timeout(PATIENCE, hear.recv()).await });
            heard.expect("it comes in time").expect("the sender lives")
        };
        assert_eq!(next(), ("matchsvr.1", 4711, "duel".to_owned()), "{host:?}");
        // The master is gone, and the caller need not know.
        runtime.block_on(master.close());
        let by_backup =
            std::iter::from_fn(|| hear.blocking_recv()).find(|heard| heard.0 != "matchsvr.1");
        assert_eq!(by_backup, Some(("matchsvr.2", 4711, "more".to_owned())), "{host:?}");
    }
}

// ---- what the snippets leave open ----------------------------------------------------------------

#[test]
fn on_error_comes_once_in_an_outage_and_on_connected_when_it_is_over() {
    let lines = r#"
        local stream = mgr.connect("127.0.0.1", 2000, "gamesvr.1")
        stream.on_connected = function() say("connected") end
        stream.on_error = function(err) say("error") end
        while true do mgr.wait(20) end
    "#;
    for host in LuaHost::ALL {
        let (router, port) = router();
        let address = router.listen()[0].clone();
        let lines = start(host, &[("ROUTER_PORT", &port)], &[lines]);
        lines.running.expect_out("connected\n");
        drop(router);
        lines.running.expect_out("connected\nerror\n");
        let config = Config { listen: vec![address], ..Config::local().with_class("gamesvr", 1) };
        let _router = Router::start(config).expect("the port is free again");
        lines.running.expect_out("connected\nerror\nconnected\n");
        assert_eq!(lines.running.out(), "connected\nerror\nconnected\n", "{host:?}");
    }
}

#[test]
fn an_outage_is_told_once_however_often_it_is_tried_to_connect() {
    let lines = r#"
        local stream = mgr.connect("127.0.0.1", 2000)
        stream.on_error = function(err) say("error") end
        while true do mgr.wait(20) end
    "#;
    for host in LuaHost::ALL {
        let nobody = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let port = nobody.local_addr().expect("it is bound").port().to_string();
        let lines = start(host, &[("ROUTER_PORT", &port)], &[lines]);
        for _ in 0..4 {
            // It is closed at once, without a word.
            drop(nobody.accept().expect("it tries again"));
        }
        assert_eq!(lines.running.out(), "error\n", "{host:?}");
    }
}

#[test]
fn what_comes_before_its_sender_is_known_waits_for_on_accept() {
    let lines = r#"
        local switchboard = require "switchboard"
        local heard
        listener = mgr.listen("127.0.0.1", 8080)
        listener.on_accept = function(stream)
            stream.on_recv = function(...) heard = { ... } end
            streams = { stream }
        end
        -- A guest does both at once, but they take different ways.
        local node = assert(switchboard.connect {
            service = "6.1", routers = "127.0.0.1:" .. listener.port,
        })
        assert(node:forward(switchboard.DIRECT("255.1"), "early", 1))
        assert(node:forward(switchboard.DIRECT("6.1"), "behind"))
        local is_behind
        function node.on.behind() is_behind = true end
        eventually(function() return is_behind end)
        mgr.wait(0)
        assert(not heard)
        assert(node:register { service = "255", metadata = { service = "6.1" } })
        eventually(function() return heard end)
        print(heard[1], heard[2])
    "#;
    print(&[lines], "early\t1\n");
}

#[test]
fn a_stream_to_nobody_says_why_once_and_connects_when_somebody_listens() {
    let lines = r#"
        listener = mgr.listen("127.0.0.1", 8080)
        local port = listener.port
        listener.close()
        local errors, is_connected = {}, false
        stream = mgr.connect("127.0.0.1", 8080)
        stream.on_error = function(err) errors[#errors + 1] = plain(err) end
        stream.on_connected = function() is_connected = true end
        print(stream.call("early"))
        eventually(function() return errors[1] end)
        listener = mgr.listen("127.0.0.1", 8080)
        assert(listener.port == port)
        eventually(function() return is_connected end)
        print(errors[1]:match("^no router can be reached: 127.0.0.1:PORT: "), #errors)
    "#;
    let expected = "nil\tthe stream is not connected\tnot_connected\n\
                    no router can be reached: 127.0.0.1:PORT: \t1\n";
    print(&[lines], expected);
}

#[test]
fn a_service_of_ones_own_is_registered_and_hears_forwards_by_every_mode() {
    let lines = r#"
        local heard = {}
        local function server(id)
            local stream = mgr.connect("127.0.0.1", 2000, id)
            stream.on_recv = function(msg, value) heard[#heard + 1] = id .. " " .. msg .. " " .. value end
            stream.on.named = function(value) heard[#heard + 1] = id .. " by name " .. value end
            eventually(function() return stream.token end)
            return stream
        end
        local function next_said()
            eventually(function() return heard[1] end)
            return table.remove(heard, 1)
        end
        local one, two = server("matchsvr.1"), server(5 * 16777216 + 2)
        local game = server("gamesvr.1")
        assert(game.forward(master, 5, "m", 1))
        print(next_said())
        assert(game.forward(hash, "matchsvr", 11, "h", 2))
        print(next_said())
        assert(game.forward_hash(5, 10, "h", 3))
        print(next_said())
        assert(game.forward(target, 5 * 16777216 + 2, "t", 4))
        print(next_said())
        assert(game.forward_target("matchsvr.1", "named", 5))
        print(next_said())
        assert(game.forward(random, 5.0, "r", 6) and next_said():match(" r 6$"))
        assert(game.forward_broadcast(5, "b", 7))
        local first, second = next_said(), next_said()
        assert(first ~= second and first:match(" b 7$") and second:match(" b 7$"))
        assert(game.forward_master(1, "back", 8))
        print(next_said())
        print(select(2, pcall(game.forward, "slave", 5, "m")))
        print((select(3, game.forward(master, nil, "m"))))
        -- Nobody is at the other end but the router.
        local undelivered
        game.on_undelivered = function(to, reason) undelivered = to .. ": " .. reason end
        assert(game.call("hello"))
        print(eventually(function() return undelivered end))
    "#;
    let expected = "matchsvr.1 m 1\n83886082 h 2\nmatchsvr.1 h 3\n83886082 t 4\nmatchsvr.1 by name 5\n\
                    gamesvr.1 back 8\n\
                    slave is not a mode: there are master, random, hash, broadcast and target\n\
                    usage\n255.1: not_found\n";
    for host in LuaHost::ALL {
        let (_router, port) = router();
        let said = start(host, &[("ROUTER_PORT", &port)], &[lines]).end();
        assert_eq!(said, expected, "{host:?}");
    }
}

#[test]
fn a_token_of_0_keeps_the_slot_and_none_forgets_it() {
    let lines = r#"
        local A, B, C = 5 * 16777216 + 1, 5 * 16777216 + 2, 5 * 16777216 + 3
        local client = mgr.connect("127.0.0.1", 8080)
        local heard, marked = 0, false
        stream.on_recv = function() heard = heard + 1 end
        stream.on.mark = function() marked = true end
        eventually(function() return client.token end)
        -- Of six keys in a row: how many reached the stream. The rest are lost in empty slots.
        local function reached()
            heard, marked = 0, false
            for key = 0, 5 do client.forward(hash, 5, key, "m") end
            client.forward(target, accepted[1].token, "mark")
            eventually(function() return marked end)
            return heard
        end
        assert(mgr.route(B, stream.token) == true)
        eventually(function() return reached() == 6 end)
        mgr.route(A, 0)
        assert(reached() == 3, "a slot for who was never there")
        mgr.route(C, 0)
        assert(reached() == 2)
        mgr.route(C, nil)
        assert(reached() == 3)
        mgr.route(A, nil)
        assert(reached() == 6)
        mgr.route("5.1", 0)
        mgr.route(B, 0)
        eventually(function() return reached() == 0 end)
        mgr.route(B, stream.token)
        eventually(function() return reached() == 3 end)
        mgr.route(B, stream.token)
        mgr.wait(50)
        assert(reached() == 3, "said twice")
        mgr.route(B, nil)
        eventually(function() return reached() == 0 end)
        print(mgr.route(B, 4278190082))
    "#;
    let expected =
        "nil\tno stream of this socket_mgr has the token 4278190082: it may be gone\tno_stream\n";
    print(&[CONNECTED, lines], expected);
}

#[test]
fn an_id_moves_from_one_stream_to_another_in_the_order_said() {
    let lines = r#"
        local A, heard = 5 * 16777216 + 1, {}
        local young = mgr.connect("127.0.0.1", 8080)
        eventually(function() return young.token and accepted[2] end)
        stream.on_recv = function(value) heard[#heard + 1] = "old" end
        young.on_recv = function(value) heard[#heard + 1] = "young" end
        -- By and by, and then for good.
        local function settles_on(who)
            local row = 0
            eventually(function()
                heard = {}
                stream.forward(master, 5, "who")
                mgr.wait(20)
                row = heard[#heard] == who and row + 1 or 0
                return row == 3
            end)
            print(who)
        end
        mgr.route(A, young.token)
        settles_on("young")
        -- Older than the one that has it, which the router alone would not allow.
        mgr.route(A, stream.token)
        settles_on("old")
        for _ = 1, 10 do
            mgr.route(A, young.token)
            mgr.route(A, stream.token)
        end
        mgr.route(A, young.token)
        settles_on("young")
        -- It is asked for the id, and is gone: the id is free for another, and that at once.
        local died
        accepted[2].on_error = function() died = true end
        local begun = clock()
        mgr.route(A, stream.token)
        mgr.route(A, young.token)
        young.close()
        mgr.route(A, stream.token)
        eventually(function() return died end)
        settles_on("old")
        assert(clock() - begun < 4000)
    "#;
    print(&[CONNECTED, lines], "young\nold\nyoung\nold\n");
}

#[test]
fn the_streams_of_a_listener_outlive_it_and_the_last_one_ends_the_router() {
    let lines = r#"
        local heard, gone
        accepted[1].on_recv = function(msg) heard = msg end
        local port = listener.port
        listener = nil
        collect()
        stream.call("still here")
        print(eventually(function() return heard end))
        stream.on_error = function(err) gone = err end
        accepted[1] = nil
        collect()
        print(eventually(function() return gone end))
        -- All of it can be had anew, at the same port.
        listener = mgr.listen("127.0.0.1", 8080)
        assert(listener.port == port)
    "#;
    print(&[CONNECTED, lines], "still here\nclosed by the other end\n");
}

#[test]
fn a_file_names_the_classes_of_a_listener() {
    let lines = r#"
        local path = os.tmpname()
        local file = io.open(path, "w")
        file:write("classes: { matchsvr: { id: 5, hash: modulo } }\n")
        file:close()
        listener = mgr.listen("127.0.0.1", 8080, path)
        local second = mgr.listen("127.0.0.1", 8081)
        print(select(2, pcall(mgr.listen, "127.0.0.1", 0, path)))
        os.remove(path)
        local heard
        local server, client = mgr.connect("127.0.0.1", 8081), mgr.connect("127.0.0.1", 8080)
        server.on_recv = function(...) heard = table.concat({ ... }, " ") end
        eventually(function() return server.token and client.token end)
        mgr.wait(0)
        eventually(function() return mgr.route("matchsvr.3", server.token) end)
        print(eventually(function()
            client.forward(hash, "matchsvr", "a name", "by", "name")
            return heard
        end))
    "#;
    let refused = "this socket_mgr has a router already: its first listen takes the file";
    for host in LuaHost::ALL {
        let said = start(host, &[], &[lines]).end();
        let mut said = said.lines();
        assert!(said.next().is_some_and(|line| line.ends_with(refused)), "{host:?}");
        assert_eq!(said.next(), Some("by name"), "{host:?}");
    }
}

#[test]
fn mistakes_are_named_with_what_would_be_right() {
    let lines = r#"
        local function raised(fn, ...)
            local ok, why = pcall(fn, ...)
            assert(not ok)
            print((why:gsub("^[^ ]+:%d+: ", "")))
        end
        local real = create_socket_mgr(2)
        local a, b = real.connect("127.0.0.1", 1), real.connect("127.0.0.1", 1)
        print(real.connect("127.0.0.1", 1))
        b.close()
        assert(real.connect("127.0.0.1", 1))
        listener = mgr.listen("127.0.0.1", 8080)
        local none, taken, code = real.listen("127.0.0.1", listener.port)
        print(none, plain(taken), code)
        local wrong, errors = mgr.connect("127.0.0.1", 8080, "bakery"), {}
        wrong.on_error = function(err) errors[#errors + 1] = err end
        eventually(function() return errors[1] end)
        print(plain(errors[1]))
        print(wrong.call("dead"))
        raised(create_socket_mgr, 0)
        raised(real.connect, "127.0.0.1", "80")
        raised(real.connect, 5, 80)
        raised(real.route, 83886081, 1)
        raised(mgr.route, 5, 0)
        raised(mgr.route, "baker.1", 0)
    "#;
    let expected = "\
nil\tthis socket_mgr has its 2 sockets\tfull
nil\tlisten: can't listen on 127.0.0.1:PORT: the address is in use\tbind
127.0.0.1:PORT refuses this node (unknown_class): no class is named `bakery`: this router's configuration names \
none; use a number
nil\tthe stream is closed\tclosed
create_socket_mgr takes the most sockets that it may have, 1 or more, not 0
a port is a whole number from 0 to 65535
an address is a text such as \"127.0.0.1\"
mgr.route is for the process that listens, since its router has the table: call mgr.listen first
mgr.route: 5 is not a service id: it is class << 24 | instance, neither of them 0, or a text such as \"5.1\"
mgr.route: baker.1 is not a service id: it is class << 24 | instance, neither of them 0, or a text such as \"5.1\"
";
    print(&[lines], expected);
}

#[test]
fn luna_has_its_clocks_and_leaves_the_globals_of_others_alone() {
    let lines = r#"
        hash = "mine"
        package.loaded["switchboard.luna"] = nil
        luna = nil
        local luna = require "switchboard.luna"
        assert(hash == "mine" and luna.hash == "hash" and target == "target")
        local began, real = luna.get_time_ns(), luna.get_time_ms()
        luna.sleep_ms(20)
        assert(real > 1700000000000 and real % 1 == 0)
        assert(luna.get_time_ns() - began >= 20000000)
        print(luna.get_guit_signal(), luna.get_quit_signal())
    "#;
    print(&[lines], "0\t0\n");
}

#[test]
fn the_default_luna_entry_imports_a_file_and_runs_its_loop_until_the_flag_is_set() {
    let lines = r#"
        local turns = 0
        function import(file)
            return { on_loop = function()
                turns = turns + 1
                if turns == 3 then luna_quit_flag = true end
            end }
        end
        luna_entry("main.lua")
        print(turns, luna.get_guit_signal())
    "#;
    for host in [LuaHost::Lua54, LuaHost::LuaJit] {
        assert_eq!(start(host, &[], &[lines]).end(), "3\t15\n", "{host:?}");
    }
}

#[test]
fn what_the_page_shows_runs() {
    let page = include_str!("../../docs/luna.md");
    let snippets: Vec<&str> = page.split("```lua\n").skip(1).collect();
    let snippets: Vec<&str> = snippets.iter().filter_map(|rest| rest.split("```").next()).collect();
    let [connecting, listening] = snippets[..] else { panic!("{} snippets", snippets.len()) };
    let before = r#"
        streams = {}
        local server, heard = mgr.connect("127.0.0.1", 2000, "matchsvr.1"), nil
        server.on_recv = function(...) heard = { ... } end
        eventually(function() return server.token end)
    "#;
    let between = r#"
        eventually(function()
            on_loop()
            return heard
        end)
        print(heard[1], heard[2], heard[3])
    "#;
    let after = r#"
        local guest = mgr.connect("127.0.0.1", 8080)
        local _, stream = next(eventually(function() return next(streams) and streams end))
        local called
        guest.on_recv = function(msg) called = msg end
        stream.call("welcome")
        print(eventually(function() return called end))
        guest.close()
        eventually(function() return next(streams) == nil end)
    "#;
    for host in LuaHost::ALL {
        let (_router, port) = router();
        let parts = [before, connecting, between, listening, after];
        let said = start(host, &[("ROUTER_PORT", &port)], &parts).end();
        assert_eq!(said, "connected\njoin_match\t4711\tduel\nwelcome\n", "{host:?}");
    }
}

// ---- in lua-node ---------------------------------------------------------------------------------

#[test]
fn in_lua_node_streams_register_what_the_command_line_says_and_leave_with_the_script() {
    let (router, port) = router();
    let runtime = Runtime::new().expect("a runtime");
    let script = r#"
        require "switchboard.luna"
        mgr = mgr or create_socket_mgr(10)
        stream = stream or mgr.connect("127.0.0.1", tonumber(arg[1]))
        stream.on_connected = function() print("connected") end
        stream.on_recv = function(msg, value)
            print("begun")
            -- When it goes on, the script has been told to end.
            while luna.get_guit_signal() == 0 do require("switchboard").sleep(5) end
            return msg .. " " .. value
        end
        function on_loop() mgr.wait(50) end
    "#;
    let script = Script::new(script).args(&["--service", "gamesvr.7"]).more(&[&port]);
    let mut node = script.start();
    node.expect_out("connected");
    let connect = Node::builder("matchsvr").router(&router.listen()[0]).connect();
    let caller = runtime.block_on(connect).expect("the router is there");
    let call = caller.call::<String>(Direct, "gamesvr.7", "answer", (42,));
    let answer = runtime.spawn(call.into_future());
    let mut watcher = caller.watch("gamesvr").expect("the class is known");
    let mut next = || {
        let change = runtime.block_on(async { timeout(PATIENCE, watcher.next()).await });
        change.expect("it comes in time").expect("the caller is open")
    };
    while !matches!(next(), Membership::Synced) {}
    node.expect_out("begun");
    node.signal("TERM");
    let answer = runtime.block_on(answer).expect("it does not panic");
    assert_eq!(answer.expect("it answers before it leaves"), "answer 42");
    assert_eq!(node.wait_exit().code(), Some(0));
    let left = std::iter::repeat_with(next).find_map(|change| match change {
        Membership::Left { id, reason } => Some(format!("{id} {reason}")),
        _ => None,
    });
    assert_eq!(left.as_deref(), Some("1.7 unregistered"));
}
