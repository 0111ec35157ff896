-- What is bounded, and that what is over a bound is told and disturbs nothing else.
local switchboard = require "switchboard"
local check = require "check"
local MASTER = switchboard.MASTER
local unpack = table.unpack or unpack

local options = { service = "matchsvr.1", routers = check.router, handlers_waiting = 2 }
local callee = assert(switchboard.connect(options))
local caller = check.node("gamesvr.1")

-- While so many handlers wait, no message is begun; then the others are.
local running, most, done = 0, 0, 0
function callee.on.slow()
  running = running + 1
  most = math.max(most, running)
  switchboard.sleep(5)
  running = running - 1
end
for _ = 1, 10 do
  caller:call_then(function() done = done + 1 end, MASTER, "matchsvr", "slow")
end
check.eventually("all of them", function() return done == 10 end)
check.equal(most, 2)

-- Values side by side are bounded each way, and what is over it is refused.
function callee.on.count(_, ...) return select("#", ...) end
function callee.on.many(_, count)
  local many = {}
  for place = 1, count do many[place] = 1 end
  return unpack(many)
end
local many = {}
for place = 1, 5001 do many[place] = place end
check.fails("bad_value", "`count`: more than 5000 arguments: pass a table", caller:call(MASTER, "matchsvr", "count", unpack(many)))
check.equal(select("#", caller:call(MASTER, "matchsvr", "many", 5000)), 5000)
check.fails("remote", "more than 5000 results: pass a table", caller:call(MASTER, "matchsvr", "many", 5001))
check.equal(caller:call(MASTER, "matchsvr", "count", 1, 2), 2)

-- A coroutine that has done its work holds nothing of it; LuaJIT's may, until it has other work.
local function used()
  collectgarbage()
  collectgarbage()
  return collectgarbage("count")
end
local before = used()
for place = 1, 50 do
  switchboard.spawn(function(text)
    switchboard.sleep(1)
    return text .. "."
  end, ("x"):rep(100000) .. place)
end
switchboard.sleep(20)
check.holds(jit or used() - before < 2000, "the pool keeps what it was given")

-- Who stops watching is told nothing more, and waits for nothing.
local changes = 0
local stop = caller:watch("matchsvr", function() changes = changes + 1 end)
check.eventually("a picture", function() return changes >= 2 end)
stop()
stop()
local seen = changes
check.holds(caller:register("matchsvr.9"))
check.equal(caller:unregister("matchsvr.9"), true)
check.equal(changes, seen)

caller:close()
callee:close()
check.done()
