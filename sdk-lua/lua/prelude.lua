-- The part of the module that is written in Lua: coroutines, handlers, and the words that scripts use.
-- `natives` are the functions of src/bind/. Works in Lua 5.4 and in LuaJIT.
local natives = ...

local create, resume, yield, running = coroutine.create, coroutine.resume, coroutine.yield, coroutine.running
local unpack, xpcall = table.unpack or unpack, xpcall

local module = { version = natives.version }

-- Coroutines ---------------------------------------------------------------------------------------------
--
-- Every handler, timer, hook and spawned function runs in a coroutine of a pool, so that it may wait. A
-- coroutine that is done yields DONE and what came of it; one that waits yields WAIT, and whoever has what it
-- waits for resumes it. One that yields of its own accord goes on in the next turn.

local DONE, WAIT = {}, {}
-- So long the main chunk waits at a time: Ctrl-C in a stock Lua is heard between the steps of a script only.
local BREATH = 250
local MAX_IDLE = 1024

local idle, idle_count = {}, 0
local current            -- the coroutine of the pool that runs now
local waiting = {}       -- by id: a coroutine, or a function, that waits for what comes under the id
local messages = {}      -- by coroutine: the message that it handles, once it has waited
local handling, kind, key -- the coroutine of the message that is handled now, how that came, its key

-- What `fail` raises: errors on purpose.
local Raised = { __tostring = function(raised) return raised.text end }

-- What a handler raised, for its caller and for the log.
local function failure(raised)
  local text = tostring(raised)
  if getmetatable(raised) == Raised then return { code = raised.code, text = text } end
  return { text = text:match("^[^\n]*"), traceback = natives.traceback(text) }
end

local work

-- In here a coroutine holds nothing of what it has done. A call of LuaJIT leaves one of its slots as it was, and
-- the collector looks there: so all that this frame has is emptied first.
local function rest()
  do local _, _, _, _ end
  return work(yield())
end

function work(fn, ...)
  yield(DONE, xpcall(fn, failure, ...))
  return rest()
end

local function take()
  if idle_count == 0 then return create(work) end
  local co = idle[idle_count]
  idle[idle_count] = nil
  idle_count = idle_count - 1
  return co
end

local function put(co)
  if idle_count < MAX_IDLE then
    resume(co)
    idle_count = idle_count + 1
    idle[idle_count] = co
  end
end

local resumed

-- Lets a coroutine go on.
local function go_on(co, ...)
  local before = current
  current = co
  return resumed(co, before, resume(co, ...))
end

local function report(place, failed)
  if type(failed) ~= "table" then failed = { text = tostring(failed) } end
  if failed.code then
    natives.log("error", failed.text .. " (" .. failed.code .. ")", place)
  else
    natives.log("error", failed.traceback or failed.text, place)
  end
end

-- What became of a coroutine that has waited, or was spawned.
function resumed(co, before, alive, tag, ok, ...)
  current = before
  if tag == DONE then
    local message = messages[co]
    if message then
      messages[co] = nil
      put(co)
      return natives.answer(message.token, ok, ...)
    end
    put(co)
    if not ok then report("spawned", (...)) end
  elseif not alive then
    -- Only what no function can catch comes here.
    local message, died = messages[co], { text = tostring(tag) }
    messages[co] = nil
    if message then return natives.answer(message.token, false, died) end
    report("spawned", died)
  elseif tag ~= WAIT then
    waiting[natives.timer(0)] = co
  end
end

local function spawn(fn, ...)
  return go_on(take(), fn, ...)
end

-- For when something raised on this side of the border, where nothing should: Lua has no room left, mostly. The
-- coroutine that was to run does not; whoever waits for it is told.
local function reset(text)
  local co = current
  current, handling = nil, nil
  local message = co and messages[co]
  if message then
    messages[co] = nil
    natives.answer(message.token, false, { text = text })
  end
end

local ENDING = "lua-node is ending"

-- Whether the program around the script has come to its end, if there is one.
local function is_over() return module.is_over ~= nil and module.is_over() end

-- Waits for what comes under an id: yields in a coroutine of the pool, and elsewhere lets others work until
-- it is there.
local function wait_for(id)
  local co = running()
  if co ~= nil and co == current then
    waiting[id] = co
    return yield(WAIT)
  end
  if current ~= nil then
    return nil, "only the coroutine that switchboard started can wait: use spawn instead of coroutine.create",
      "usage"
  end
  if module.is_loading then
    return nil, "a file that is being loaded again cannot wait", "usage"
  end
  local values
  waiting[id] = function(...) values = { n = select("#", ...), ... } end
  while not values do
    natives.turn(BREATH)
    if not values and is_over() then
      waiting[id] = nil
      return nil, ENDING, "closed"
    end
  end
  return unpack(values, 1, values.n)
end

-- What comes of something that a native begins.
local function asked(native, ...)
  local id, text, code, detail = native(...)
  if not id then return nil, text, code, detail end
  return wait_for(id)
end

-- Nodes --------------------------------------------------------------------------------------------------

local nodes = {}         -- by number, until they are closed
local Node = {}
local meta = { __index = Node, __name = "switchboard.node" }

-- Who sent a message: the same table for as long as somebody has it.
local From = { __tostring = function(from) return from.name end }
From.__index = From
From.__eq = function(a, b) return a.id == b.id end
local WEAK = { __mode = "v" }

local function sender(node, raw)
  local name, class, instance = natives.describe(node.number, raw)
  local from = setmetatable({ id = raw, name = name, class = class, instance = instance }, From)
  node.senders[raw] = from
  return from
end

-- What became of a handler in its first go: true or false with what came of it, or nil if it waits.
local function begun(co, before, message_token, message_kind, message_key, alive, tag, ...)
  current, handling = before, nil
  if tag == DONE then
    put(co)
    return ...
  elseif not alive then
    return false, { text = tostring(tag) }
  end
  messages[co] = { token = message_token, kind = message_kind, key = message_key }
  if tag ~= WAIT then waiting[natives.timer(0)] = co end
  return nil
end

local function deliver(number, message_token, method, raw, message_kind, message_key, ...)
  local node = nodes[number]
  local handler = node and node.on[method]
  if not handler then return 0 end
  local from = node.senders[raw] or sender(node, raw)
  local co, before = take(), current
  current, handling, kind, key = co, co, message_kind, message_key
  return begun(co, before, message_token, message_kind, message_key, resume(co, handler, from, ...))
end

local function complete(id, ...)
  local waiter = waiting[id]
  if waiter == nil then return end
  waiting[id] = nil
  if type(waiter) == "thread" then return go_on(waiter, ...) end
  return waiter(...)
end

local function hook(number, name, ...)
  local node = nodes[number]
  if not node then return end
  if name == "on_closed" then nodes[number] = nil end
  local fn = node[name]
  if type(fn) == "function" then spawn(fn, ...) end
end

-- The table by which scripts know a node.
local function adopt(number)
  local node = setmetatable({
    number = number, flags = 0, time = 0, on = {}, senders = setmetatable({}, WEAK),
  }, meta)
  nodes[number] = node
  return node
end

-- A node that offers a service. Waits until it is connected; returns nil, text, code if it can't be.
function module.connect(options)
  if type(options) ~= "table" then
    return nil, "connect takes a table of options, such as { service = \"matchsvr.1\" }", "usage"
  end
  local number, text, code, detail = natives.connect(options)
  if not number then return nil, text, code, detail end
  return adopt(number)
end

-- Modes: MASTER, RANDOM, BROADCAST and LEAST_LOADED are words; HASH and DIRECT carry something.
module.MASTER, module.RANDOM = "master", "random"
module.BROADCAST, module.LEAST_LOADED = "broadcast", "least_loaded"

function module.HASH(hash)
  if hash == nil then hash = natives.null end
  return { hash = hash }
end

function module.DIRECT(id) return { direct = id } end

function Node:forward(...)
  return natives.forward(self.number, self.flags, self.time, ...)
end

function Node:call(...) return asked(natives.call, self.number, self.flags, self.time, ...) end

function Node:call_then(fn, ...)
  if type(fn) ~= "function" then return nil, "call_then takes a function first", "usage" end
  local id, text, code, detail = natives.call(self.number, self.flags, self.time, ...)
  if not id then return nil, text, code, detail end
  waiting[id] = function(...) return spawn(fn, ...) end
  return true
end

function Node:collect(...) return asked(natives.collect, self.number, self.flags, self.time, ...) end

local MAX_TIME = 2 ^ 53

local FLAGS = { idempotent = 1, droppable = 2, report = 4, echo = 8 }

-- The same node, whose messages have options: timeout, ttl, idempotent, droppable, report, echo.
function Node:with(options)
  if type(options) ~= "table" then error("with takes a table of options, such as { timeout = 500 }", 2) end
  local flags, time = self.flags, self.time
  for name, value in pairs(options) do
    local flag = FLAGS[name]
    if flag then
      local is_set = flags % (flag * 2) >= flag
      if value and not is_set then flags = flags + flag elseif is_set and not value then flags = flags - flag end
    elseif (name == "timeout" or name == "ttl") and type(value) == "number" and value >= 1 and value < MAX_TIME then
      time = value - value % 1
    else
      error("`" .. tostring(name) .. "` is not an option of messages: there are timeout and ttl in " ..
        "milliseconds, idempotent, droppable, report and echo", 2)
    end
  end
  return setmetatable({ flags = flags, time = time }, { __index = self })
end

local function callable(fn, name)
  if type(fn) ~= "function" then error(name .. " takes a function, not a " .. type(fn), 3) end
  return fn
end

-- Starts a coroutine in which a function may wait.
function module.spawn(fn, ...) spawn(callable(fn, "spawn"), ...) end

function Node:spawn(fn, ...) spawn(callable(fn, "spawn"), ...) end

-- Has a function hear each change of a class: who is there already, then who comes and goes. Returns a
-- function that ends it.
function Node:watch(class, fn)
  callable(fn, "watch")
  local id, text, code, detail = natives.watch(self.number, tostring(class))
  if not id then return nil, text, code, detail end
  local function change(what)
    if what == nil then return end
    waiting[id] = change
    return spawn(fn, what)
  end
  waiting[id] = change
  return function()
    waiting[id] = nil
    natives.unwatch(id)
  end
end

function Node:register(service) return asked(natives.register, self.number, service) end

function Node:unregister(name) return asked(natives.unregister, self.number, tostring(name)) end

function Node:close() return asked(natives.leave, self.number, false) end

function Node:drain() return asked(natives.leave, self.number, true) end

function Node:set_load(load)
  if type(load) ~= "number" or load < 0 or load >= 2 ^ 32 or load % 1 ~= 0 then
    error("a load is a whole number from 0 to 4294967295, not " .. tostring(load), 2)
  end
  if not nodes[self.number] then return nil, "the node is closed", "closed" end
  natives.set_load(self.number, load)
  return true
end

function Node:ids() return natives.ids(self.number) or {} end

function Node:id() return self:ids()[1] end

-- The epoch in which this node is master of a class; nil if it is not.
function Node:epoch(class) return natives.epoch(self.number, tostring(class)) end

function Node:stats() return natives.stats(self.number) end

function Node:is_open() return nodes[self.number] ~= nil end

local MODES = { "direct", "master", "hash", "random", "broadcast", "least_loaded" }

-- How the message came that runs here: its mode, its key if it was hashed, whether an answer is waited for.
function module.received()
  if current == nil then return nil end
  local message, message_kind, message_key = messages[current], kind, key
  if message then
    message_kind, message_key = message.kind, message.key
  elseif current ~= handling then
    return nil
  end
  return { mode = MODES[message_kind % 16], key = message_key, wants_reply = message_kind >= 16 }
end

-- Raises an error with a code of its own, for the caller; nothing is logged.
function module.fail(code, text)
  error(setmetatable({ code = tostring(code), text = tostring(text or code) }, Raised), 0)
end

-- Time ---------------------------------------------------------------------------------------------------

local function checked(millis)
  if type(millis) ~= "number" or not (millis >= 0) then
    error("a time is a number of milliseconds, not " .. tostring(millis), 3)
  end
  return millis
end

-- Runs a function once, after so many milliseconds. Returns what `cancel` takes.
function module.after(millis, fn, ...)
  callable(fn, "after")
  local id = natives.timer(checked(millis))
  local args = { n = select("#", ...), ... }
  waiting[id] = function() spawn(fn, unpack(args, 1, args.n)) end
  return id
end

-- Runs a function again and again.
function module.every(millis, fn, ...)
  if checked(millis) <= 0 then error("a period is above 0 milliseconds", 2) end
  callable(fn, "every")
  local id = natives.timer(millis, millis)
  local args = { n = select("#", ...), ... }
  local function fire()
    waiting[id] = fire
    spawn(fn, unpack(args, 1, args.n))
  end
  waiting[id] = fire
  return id
end

-- Whether there was such a timer.
function module.cancel(id)
  local found = type(id) == "number" and id >= 1 and natives.cancel(id)
  -- Of what a reload undoes, nothing that comes is waited for: no timer, change or answer.
  if found or module.is_undoing then waiting[id] = nil end
  return found
end

-- Waits so many milliseconds: in a coroutine others go on meanwhile.
function module.sleep(millis)
  return (wait_for(natives.timer(checked(millis))))
end

-- Hands over what has come, waiting for it up to so many milliseconds (without a number, for any time).
-- Returns how much it was. For scripts with a loop of their own; not in handlers.
function module.wait(millis)
  if current ~= nil then error("wait is for the main loop: in a coroutine, use sleep", 2) end
  if module.is_loading then error("a file that is being loaded again cannot wait", 2) end
  return natives.turn(millis and checked(millis))
end

local stopped

-- Works until `stop` is called, or there is nothing left that could happen.
function module.run()
  if current ~= nil then error("run is for the main chunk", 2) end
  if module.is_loading then error("a file that is being loaded again cannot run the node", 2) end
  stopped = false
  while not stopped and not is_over() and not natives.idle() do natives.turn(BREATH) end
end

function module.stop() stopped = true; waiting[natives.timer(0)] = function() end end

-- A descriptor that can be read from when `wait(0)` has something to do, for the loop of another program.
module.descriptor = natives.descriptor

-- Milliseconds: of the clock since 1970, and since the module was opened, which never jumps.
module.time_ms, module.clock_ms = natives.now, natives.clock

function Node:wait(millis) return module.wait(millis) end
function Node:run() return module.run() end
function Node:after(...) return module.after(...) end
function Node:every(...) return module.every(...) end
function Node:cancel(id) return module.cancel(id) end
function Node:sleep(millis) return module.sleep(millis) end

-- Values that Lua can't tell apart -----------------------------------------------------------------------

local array, map, binary = { __name = "array" }, { __name = "map" }, { __name = "binary" }
binary.__tostring = function(value) return value[1] end

-- Has a table travel as an array although it is empty, or as a map; and a string as binary.
function module.array(value) return setmetatable(value or {}, array) end
function module.map(value) return setmetatable(value or {}, map) end
function module.binary(value)
  if type(value) ~= "string" then error("binary takes a string, not a " .. type(value), 2) end
  return setmetatable({ value }, binary)
end

-- Nil where Lua would lose it: as a value of a map, and at the end of an array. Arrives as nil.
module.null = natives.null

-- The log ------------------------------------------------------------------------------------------------

local function logger(level)
  return function(...)
    local parts = { ... }
    for place = 1, select("#", ...) do parts[place] = tostring(parts[place]) end
    natives.log(level, table.concat(parts, " "), natives.place())
  end
end

module.log = {}
for _, level in ipairs({ "error", "warn", "info", "debug", "trace" }) do module.log[level] = logger(level) end

return module, {
  deliver = deliver, complete = complete, hook = hook, reset = reset,
  array = array, map = map, binary = binary,
  adopt = adopt, asked = asked, ENDING = ENDING,
}
