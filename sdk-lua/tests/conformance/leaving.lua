-- How a node leaves: at once, or after it has finished what it has.
local switchboard = require "switchboard"
local check = require "check"
local MASTER, DIRECT = switchboard.MASTER, switchboard.DIRECT

local caller = check.node("gamesvr.1")
local first = check.node("matchsvr.1")
local second = check.node("matchsvr.2")
local finished, release
local why
first.on_closed = function(reason) why = reason end
for _, node in ipairs { first, second } do
  node.on.slow = function()
    while not release do switchboard.sleep(1) end
    finished = true
    return node == first and "first" or "second"
  end
  node.on.who = function() return node == first and "first" or "second" end
end

-- A node that drains answers what it has begun, and is not picked any more.
local answer
caller:call_then(function(...) answer = check.list(...) end, MASTER, "matchsvr", "slow")
check.eventually("it has begun", function()
  for _, method in ipairs(first:stats().methods) do
    if method.method == "slow" and method.in_flight == 1 then return true end
  end
end)
local drained
caller:spawn(function() drained = first:drain() end)
check.eventually("the other one is picked", function() return caller:call(MASTER, "matchsvr", "who") == "second" end)
check.equal(drained, nil)
release = true
check.eventually("it has drained", function() return drained end)
check.equal(drained, true)
check.equal(finished, true)
check.eventually("the answer", function() return answer end)
check.equal(answer[1], "first")
check.eventually("it is closed", function() return not first:is_open() end)
check.equal(why, "by this program")

-- What was sent before `close` arrives.
local count = 0
second.on.count = function() count = count + 1 end
for _ = 1, 1000 do check.holds(caller:forward(DIRECT "matchsvr.2", "count")) end
check.equal(caller:close(), true)
check.eventually("all of them", function() return count == 1000 end)

-- A call that waits when its node is closed ends.
local waiting = check.node("gamesvr.2")
local ended
second.on.never = function() switchboard.sleep(600000) end
waiting:call_then(function(...) ended = check.list(...) end, DIRECT "matchsvr.2", "never")
switchboard.sleep(5)
waiting:close()
check.eventually("the call", function() return ended end)
check.equal(ended[1], nil)
check.equal(type(ended[3]), "string")

second:close()
check.done()
