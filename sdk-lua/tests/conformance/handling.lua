-- Handlers: what they are told, how they wait, and that their errors end nothing but their message.
--! log: handling.lua: ... no such room
--! log: traceback ... open_door
--! log: handling.lua: ... a hook goes wrong
--! log: handling.lua: ... a timer goes wrong
--! log: a table
local switchboard = require "switchboard"
local check = require "check"
local MASTER, DIRECT = switchboard.MASTER, switchboard.DIRECT

local caller = check.node("gamesvr.1")
local callee = check.node("matchsvr.1")

-- An error goes to the caller with its place, to the log with a traceback, and the node lives.
function open_door() error("no such room") end
callee.on.fails = function() open_door() return 1 end
for _ = 1, 3 do
  check.equal(check.fails("remote", "no such room", caller:call(MASTER, "matchsvr", "fails")), "error")
end
local _, text = caller:call(MASTER, "matchsvr", "fails")
check.holds(text:find "handling.lua:%d+: no such room", text)
check.holds(not text:find "traceback", "the traceback stays here")
callee.on.fails_late = function() switchboard.sleep(1) open_door() end
check.equal(check.fails("remote", "no such room", caller:call(MASTER, "matchsvr", "fails_late")), "error")
callee.on.throws = function() error(setmetatable({}, { __tostring = function() return "a table" end })) end
check.fails("remote", "a table", caller:call(MASTER, "matchsvr", "throws"))
callee.on.throws_nothing = function() error() end
check.fails("remote", "nil", caller:call(MASTER, "matchsvr", "throws_nothing"))
callee.on.overflows = function() local function down() return 1 + down() end return down() end
check.fails("remote", "stack overflow", caller:call(MASTER, "matchsvr", "overflows"))
callee.on.fine = function() return "fine" end
check.equal(caller:call(MASTER, "matchsvr", "fine"), "fine")

-- So do errors in timers, hooks, and what was spawned.
switchboard.after(0, function() error "a timer goes wrong" end)
caller:spawn(function() error "spawned" end)
local lively
switchboard.after(5, function() lively = true end)
check.eventually("the next timer", function() return lively end)

-- Handlers are looked up when a message comes: they can be replaced, and taken away.
callee.on.fine = function() return "better" end
check.equal(caller:call(MASTER, "matchsvr", "fine"), "better")
callee.on.fine = nil
check.fails("refused", "no handler for `fine`", caller:call(MASTER, "matchsvr", "fine"))

-- How a message came is told to its handler, also after it has waited.
local ways = {}
callee.on.way = function()
  ways[#ways + 1] = switchboard.received()
  switchboard.sleep(2)
  ways[#ways + 1] = switchboard.received()
end
local done = 0
caller:spawn(function() caller:call(switchboard.HASH(77), "matchsvr", "way") done = done + 1 end)
caller:spawn(function() caller:call(DIRECT "matchsvr.1", "way") done = done + 1 end)
check.eventually("both", function() return done == 2 end)
check.equal(#ways, 4)
check.holds(check.is_same(ways[1], { mode = "hash", key = 77, wants_reply = true }))
check.holds(check.is_same(ways[2], { mode = "direct", wants_reply = true }))
check.holds(check.is_same(ways[1], ways[3]) and check.is_same(ways[2], ways[4]))
check.equal(switchboard.received(), nil, "outside there is none")
local inside = 1
caller:spawn(function() inside = switchboard.received() end)
check.equal(inside, nil, "nor in what was spawned")

-- A coroutine that yields of its own accord goes on in the next turn.
callee.on.patient = function(_, count)
  for _ = 1, count do coroutine.yield() end
  return count
end
check.equal(caller:call(MASTER, "matchsvr", "patient", 20), 20)

-- The sender is the same table each time, as long as somebody has it.
local first, second
callee.on.meet = function(from) first, second = second, from end
caller:call(MASTER, "matchsvr", "meet")
caller:call(MASTER, "matchsvr", "meet")
check.holds(rawequal(first, second))
check.equal(first.name, "gamesvr.1")

-- A handler that answers a one-way message answers nobody.
local told
callee.on.tell = function(_, what) told = what return "unheard" end
check.equal(caller:forward(MASTER, "matchsvr", "tell", "news"), true)
check.eventually("the message", function() return told == "news" end)

-- Many arguments, and more than Lua has room for.
callee.on.count = function(_, ...) return select("#", ...) end
local many = {}
for place = 1, 5000 do many[place] = place end
check.equal(caller:call(MASTER, "matchsvr", "count", (table.unpack or unpack)(many)), 5000)

-- A node that handles itself, in handlers that wait for others.
callee.on.down = function(_, depth)
  if depth == 0 then return "bottom" end
  return callee:call(DIRECT "matchsvr.1", "down", depth - 1)
end
check.equal(caller:call(MASTER, "matchsvr", "down", 30), "bottom")

-- A hook that fails.
local lost
caller.on_closed = function() lost = true error "a hook goes wrong" end
caller:close()
check.eventually("the hook", function() return lost end)
callee:close()
check.done()
