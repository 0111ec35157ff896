-- Calls and what becomes of them: in the main chunk, in coroutines, with a callback, to all of a class.
local switchboard = require "switchboard"
local check = require "check"
local MASTER, RANDOM, BROADCAST = switchboard.MASTER, switchboard.RANDOM, switchboard.BROADCAST
local LEAST_LOADED, HASH, DIRECT = switchboard.LEAST_LOADED, switchboard.HASH, switchboard.DIRECT

local caller = check.node("gamesvr.1", { call_timeout = 10000 })
local callee = check.node("matchsvr.1")
local other = check.node("matchsvr.2")
callee.on.echo = function(_, ...) return ... end
other.on.echo = function(_, ...) return ... end

-- In the main chunk a call waits, with all of Lua; results keep their number.
check.returns({ n = 0 }, caller:call(MASTER, "matchsvr", "echo"))
check.returns({ n = 1 }, caller:call(MASTER, "matchsvr", "echo", nil))
check.returns({ n = 5, nil, 1, nil, "x", nil }, caller:call(MASTER, "matchsvr", "echo", nil, 1, nil, "x", nil))
check.returns({ n = 1, { { a = { 1, 2 } } } }, caller:call(MASTER, "matchsvr", "echo", { { a = { 1, 2 } } }))
for _, mode in ipairs { MASTER, RANDOM, LEAST_LOADED, HASH(1), HASH "name" } do
  check.equal(caller:call(mode, "matchsvr", "echo", "by mode"), "by mode")
end
check.equal(caller:call(DIRECT "matchsvr.2", "echo", "direct"), "direct")
check.equal(caller:call(MASTER, 5, "echo", "by number"), "by number")

-- In coroutines calls overlap, and a handler may call as well.
other.on.relay = function(_, ...) return "relayed", other:call(DIRECT "matchsvr.1", "echo", ...) end
check.returns({ n = 3, "relayed", 1, 2 }, caller:call(DIRECT "matchsvr.2", "relay", 1, 2))
local release
callee.on.held = function(_, number)
  switchboard.sleep(1)
  while not release do switchboard.sleep(1) end
  return number
end
local answers, sum = 0, 0
for number = 1, 50 do
  caller:spawn(function(given)
    local result = caller:call(MASTER, "matchsvr", "held", given)
    answers, sum = answers + 1, sum + result
  end, number)
end
check.eventually("all are under way", function() return caller:stats().open_calls == 50 end)
check.equal(answers, 0)
release = true
check.eventually("all are answered", function() return answers == 50 end)
check.equal(sum, 1275)

-- With a callback.
local called
check.equal(caller:call_then(function(...) called = check.list(...) end, MASTER, "matchsvr", "echo", 1, nil), true)
check.equal(called, nil)
check.eventually("the callback", function() return called end)
check.holds(check.is_same(called, { n = 2, 1 }))
called = nil
caller:call_then(function(...) called = check.list(...) end, MASTER, "matchsvr", "nonsense")
check.eventually("the callback", function() return called end)
check.equal(called[3], "refused")
called = nil
caller:call_then(function() called = caller:call(MASTER, "matchsvr", "echo", "again") end, MASTER, "matchsvr", "echo")
check.eventually("a call in a callback", function() return called == "again" end)
check.fails("usage", "call_then takes a function first", caller:call_then("x", MASTER, "matchsvr", "echo"))

-- What a call can end with.
check.equal(check.fails("refused", "no handler for `nonsense`", caller:call(MASTER, "matchsvr", "nonsense")), "no_method")
check.fails("no_route", "no route", caller:call(MASTER, "mailsvr", "echo"))
check.fails("no_route", "no route", caller:call(DIRECT "matchsvr.99", "echo"))
check.fails("unknown_class", "bakery", caller:call(MASTER, "bakery", "echo"))
check.fails("usage", "use `collect`", caller:call(BROADCAST, "matchsvr", "echo"))
check.fails("usage", "is not a mode", caller:call("nobody", "matchsvr", "echo"))
check.fails("usage", "the method is a string", caller:call(MASTER, "matchsvr"))
check.fails("bad_value", "`echo`: argument 1.a[2]: a function cannot travel",
  caller:call(MASTER, "matchsvr", "echo", { a = { 1, print } }))
callee.on.never = function() switchboard.sleep(600000) end
check.fails("timeout", "no answer in time", caller:with { timeout = 50 }:call(MASTER, "matchsvr", "never"))
callee.on.deliberate = function() switchboard.fail("room_full", "four is a crowd") end
check.equal(check.fails("remote", "four is a crowd", caller:call(MASTER, "matchsvr", "deliberate")), "room_full")
callee.on.curt = function() switchboard.fail("room_full") end
check.equal(check.fails("remote", "room_full", caller:call(MASTER, "matchsvr", "curt")), "room_full")
callee.on.reserved = function() switchboard.fail("busy", "a code of the node's own") end
check.equal(check.fails("remote", "a code of the node's own", caller:call(MASTER, "matchsvr", "reserved")), "error")
callee.on.unsayable = function() return 1, print end
check.equal(check.fails("remote", "result 2: a function cannot travel", caller:call(MASTER, "matchsvr", "unsayable")), "bad_value")

-- Calls that may be repeated.
local runs = 0
callee.on.once = function(_, n) runs = runs + 1 return n + 1 end
check.equal(caller:with { idempotent = true, timeout = 5000 }:call(MASTER, "matchsvr", "once", 1), 2)
check.equal(caller:with { idempotent = true }:with { timeout = 5000 }:call(MASTER, "matchsvr", "once", 2), 3)
check.equal(runs, 2)

-- All of a class are asked.
callee.on.who = function(_, word) return word, nil, callee:id(), nil end
other.on.who = function() switchboard.fail("asleep", "not now") end
local list, missing = caller:collect("matchsvr", "who", "hello")
check.equal(#list, 2)
check.equal(#missing, 0)
table.sort(list, function(a, b) return a.from < b.from end)
check.holds(check.is_same(list[1], { from = "matchsvr.1", n = 4, "hello", nil, "matchsvr.1", nil }))
check.equal(list[2].from, "matchsvr.2")
check.equal(list[2].code, "remote")
check.equal(list[2].detail, "asleep")
check.holds(list[2].err:find("not now", 1, true))
other.on.who = callee.on.never
list, missing = caller:with { timeout = 100 }:collect("matchsvr", "who", "hello")
check.equal(#list, 1)
check.holds(check.is_same(missing, { "matchsvr.2" }))
check.fails("unknown_class", "bakery", caller:collect("bakery", "who"))
check.fails("usage", "the method is a string", caller:collect("matchsvr"))
check.fails("bad_value", "argument 1", caller:collect("matchsvr", "who", print))

-- Who is not in a coroutine of the module can't wait while something else runs.
local failed
caller:spawn(function()
  local co = coroutine.create(function() return caller:call(MASTER, "matchsvr", "echo", 1) end)
  failed = check.list(select(2, coroutine.resume(co)))
end)
check.fails("usage", "use spawn instead of coroutine.create", failed[1], failed[2], failed[3])
local own = coroutine.wrap(function() return caller:call(MASTER, "matchsvr", "echo", "own") end)
check.equal(own(), "own", "in the main program's own coroutine a call waits, with all of Lua")

-- What was counted.
local stats = caller:stats()
check.equal(stats.open_calls, 0)
check.equal(stats.routers, 1)
local echoed
for _, method in ipairs(stats.methods) do
  if method.direction == "called" and method.class == "matchsvr" and method.method == "held" then echoed = method end
end
check.equal(echoed.calls, 50)
check.equal(echoed.in_flight, 0)
check.equal(type(echoed.p50_ms), "number")
check.equal(type(echoed.p99_ms), "number")
check.holds(echoed.max_ms >= echoed.p50_ms)
check.equal(type(echoed.outcomes), "table")

for _, node in ipairs { caller, callee, other } do node:close() end
check.done()
