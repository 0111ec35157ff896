-- Not a test of its own: its router is killed, and comes back.
local switchboard = require "switchboard"
local check = require "check"

local node = check.node("matchsvr.1")
local lost, connected
node.on_lost = function(router, why, unsent) lost = { router, why, unsent } end
node.on_connected = function() connected = true end
node.on.here = function() return "here" end
check.eventually("the first hook", function() return connected end)
connected = nil
print "connected"
io.stdout:flush()
check.eventually("the link is lost", function() return lost end)
check.equal(lost[1], check.router)
check.equal(type(lost[2]), "string")
check.equal(lost[3], 0)
check.equal(node:is_open(), true)
check.fails("not_connected", "not connected", node:forward(switchboard.MASTER, "matchsvr", "here"))
check.fails("not_connected", "not connected", node:call(switchboard.MASTER, "matchsvr", "here"))
check.fails("not_connected", "not connected", node:register "matchsvr.2")
print "lost"
io.stdout:flush()
check.eventually("it is connected again", function() return connected end)
check.equal(node:call(switchboard.MASTER, "matchsvr", "here"), "here")
node:close()
check.done()
