-- For the walk-through in docs/lua.md: change this file while it runs.
--
--   lua-node greeter.lua --service gamesvr.1 --reload-every 1s
local switchboard = require "switchboard"

node = node or assert(switchboard.connect {})
greeted = greeted or 0

-- The handler is new after each load; the count is not.
function node.on.greet(from, name)
  greeted = greeted + 1
  return "hello, " .. name, greeted
end

function tick()
  switchboard.log.info("greeted", greeted)
end

-- One timer for all versions: it looks `tick` up anew each time.
timer = timer or switchboard.every(5000, function() tick() end)
