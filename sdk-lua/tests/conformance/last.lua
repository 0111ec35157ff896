-- Not a test of its own: sends, has things under way, and ends in the way that `HOW` says.
local switchboard = require "switchboard"
local check = require "check"
local how = os.getenv "HOW"

local node = check.node("gamesvr")
node.on.echo = function(_, ...) return ... end
node.on.exit = function() os.exit(true, true) end
node.on.exit_late = function()
  switchboard.sleep(1)
  os.exit(true, true)
end
switchboard.every(1, function() end)
node:watch("echosvr", function() end)
node:spawn(function()
  node:call(switchboard.DIRECT(node:id()), "echo", 1)
  switchboard.sleep(600000)
end)
for number = 1, 100 do assert(node:forward(switchboard.DIRECT "echosvr.1", "note", number)) end
if how == "error" then error "on purpose" end
if how == "closing" then os.exit(true, true) end
if how == "not closing" then os.exit(true) end
if how == "in a handler" then node:call(switchboard.DIRECT(node:id()), "exit") end
if how == "in a handler that waited" then node:call(switchboard.DIRECT(node:id()), "exit_late") end
if how == "in a coroutine" then coroutine.wrap(function() os.exit(true, true) end)() end
