-- Not a test of its own: answers with what it is given, until it is told to leave.
local switchboard = require "switchboard"
local check = require "check"

local node = check.node("matchsvr.1")
node.on.echo = function(_, ...) return ... end
node.on.leave = function() switchboard.stop() end
print "ready"
io.stdout:flush()
node:run()
node:close()
check.done()
