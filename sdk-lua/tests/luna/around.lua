-- What the lines around luna's snippets have in common. A port that a snippet names stands for a free one.
require "switchboard.luna"

local PATIENCE = 10000

ports = { [2000] = tonumber(os.getenv("ROUTER_PORT")) }

clock = require("switchboard").clock_ms

-- A socket_mgr for lines in which the ports are written out.
local function mapped(most)
  local real = create_socket_mgr(most)
  local mgr = setmetatable({}, { __index = real })
  function mgr.listen(ip, port, ...)
    local listener = assert(real.listen(ip, ports[port] or 0, ...))
    ports[port] = listener.port
    return listener
  end
  function mgr.connect(ip, port, ...) return real.connect(ip, ports[port] or port, ...) end
  return mgr
end

mgr = mapped(100)
socket_mgr = mgr

-- Waits until it is so.
function eventually(condition)
  local deadline = clock() + PATIENCE
  while true do
    local value = condition()
    if value then return value end
    if clock() > deadline then error("it did not come to that in time", 2) end
    mgr.wait(20)
  end
end

function collect()
  collectgarbage()
  collectgarbage()
end

-- Prints a line that somebody waits for.
function say(...)
  print(...)
  io.stdout:flush()
end

-- A word in place of the ports, which are others each time.
function plain(text) return (text:gsub("%d%d%d%d+", "PORT")) end
