-- The Lua side of `lua_speed`. Prints one line when it is ready and one when it is done.
local switchboard = require "switchboard"

local role, count = os.getenv("ROLE"), tonumber(os.getenv("COUNT"))
local node = assert(switchboard.connect {
  service = "gamesvr.1", routers = os.getenv("ROUTER"), outbox_bytes = 8 * 1024 * 1024,
})

-- With method and numbers about 64 bytes.
local TEXT = ("x"):rep(46)
local MASTER, DIRECT = switchboard.MASTER, switchboard.DIRECT

local function say(...)
  print(string.format(...))
  io.stdout:flush()
end

local function memory()
  collectgarbage()
  collectgarbage()
  return math.floor(collectgarbage("count"))
end

local roles = {}

-- Sends as fast as the outbox takes it.
function roles.forward()
  local clock, sent = os.clock(), 0
  local begun = switchboard.clock_ms()
  while sent < count do
    local ok, _, code = node:forward(MASTER, "matchsvr", "join_match", sent, 7, TEXT)
    if ok then
      sent = sent + 1
    else
      assert(code == "full", code)
      switchboard.wait(1)
    end
  end
  say("done %d %.3f %.3f", sent, (switchboard.clock_ms() - begun) / 1000, os.clock() - clock)
end

-- Handles messages in order, and says so every thousand.
function roles.handle()
  local next, clock, begun = 0, nil, nil
  function node.on.join_match(from, number, mode, text)
    if number ~= next then error("message " .. number .. " in place of " .. next) end
    if next == 0 then clock, begun = os.clock(), switchboard.clock_ms() end
    next = next + 1
    if next % 1000 == 0 then assert(node:forward(MASTER, "matchsvr", "ack", next)) end
  end
  say("ready")
  while next < count do switchboard.wait() end
  say("done %d %.3f %.3f", next, (switchboard.clock_ms() - begun) / 1000, os.clock() - clock)
end

-- Calls from so many coroutines at a time.
function roles.call()
  local done, width = 0, 64
  local clock, begun = os.clock(), switchboard.clock_ms()
  for worker = 1, width do
    node:spawn(function()
      for number = 1, count // width do
        local same, err = node:call(MASTER, "matchsvr", "echo", number, worker, TEXT)
        if same ~= number then error(tostring(err)) end
        done = done + 1
      end
    end)
  end
  while done < count // width * width do switchboard.wait() end
  say("done %d %.3f %.3f", done, (switchboard.clock_ms() - begun) / 1000, os.clock() - clock)
end

-- Answers calls.
function roles.serve()
  local done, clock, begun = 0, nil, nil
  function node.on.echo(from, number, worker, text)
    if done == 0 then clock, begun = os.clock(), switchboard.clock_ms() end
    done = done + 1
    return number
  end
  say("ready")
  while done < count do switchboard.wait() end
  say("done %d %.3f %.3f", done, (switchboard.clock_ms() - begun) / 1000, os.clock() - clock)
  switchboard.wait(100)
end

-- Everything at once: handlers that call and wait, and timers. Says what Lua uses, as it goes.
function roles.memory()
  local handled, fired = 0, 0
  function node.on.join_match(from, number, mode, text)
    handled = handled + 1
    if number % 4 == 0 then
      assert(node:call(MASTER, "matchsvr", "echo", number, mode, text) == number)
    elseif number % 4 == 1 then
      switchboard.after(1, function() fired = fired + 1 end)
    elseif number % 4 == 2 then
      switchboard.sleep(1)
    end
    if number % 1000 == 999 then assert(node:forward(MASTER, "matchsvr", "ack", number + 1)) end
  end
  say("ready")
  local mark = math.ceil(count / 10)
  while handled < count do
    switchboard.wait()
    if handled >= mark then
      say("at %d %d", handled, memory())
      mark = mark + math.ceil(count / 10)
    end
  end
  while fired < math.ceil(count / 4) do switchboard.wait() end
  say("at %d %d", handled, memory())
  say("done %d 1 1", handled)
end

roles[role]()
node:close()
