-- What lua-node does around a script: the command line fills what `connect` was not told, the script is
-- loaded, its `main` and `on_loop` run, and it ends. `natives` are the functions of src/runner/, `inner` is what the
-- prelude keeps for files like this one.
local natives, module, defaults, inner = ...

local connect, run, stop = module.connect, module.run, module.stop
local xpcall, spawn, next, pack, unpack = xpcall, module.spawn, next, table.pack, table.unpack

local PAUSE_MS = 100     -- after what failed, so that what always does won't run hot
local ENDING = inner.ENDING -- what a wait is told
local MOST_FAILURES = 100 -- waits that may fail in a row while nodes leave

-- Connecting ---------------------------------------------------------------------------------------------

local nodes = setmetatable({}, { __mode = "k" })     -- the options of each that may be open
local first              -- the node that the command line describes
local refused            -- why the last connect failed: text and code, and whether by the command line alone

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for name, value in next, a do
    if not same(value, b[name]) then return false end
  end
  for name in next, b do
    if a[name] == nil then return false end
  end
  return true
end

-- What the command line says of the service that it names, and of no other.
local OF_SERVICE = { also = true, name = true, weight = true, metadata = true }

-- A node: what the options don't say is as the command line has it. Where they say nothing new, and in a
-- file that is loaded again, it is the node that there is.
function module.connect(options)
  if options == nil then options = {} end
  if type(options) ~= "table" then return connect(options) end
  local new = false
  local merged = {}
  local is_other = options.service and defaults.service and options.service ~= defaults.service
  for name, value in next, defaults do
    if not (is_other and OF_SERVICE[name]) then merged[name] = value end
  end
  for name, value in next, options do
    new = new or not same(value, defaults[name])
    merged[name] = value
  end
  -- One that a reload has undone is not among the nodes, though it may be open still.
  if not new and first and nodes[first] and first:is_open() then return first end
  for node, known in next, nodes do
    if not node:is_open() then
      nodes[node] = nil
    elseif module.is_loading and same(known, merged) then
      return node
    end
  end
  local node, text, code, detail = connect(merged)
  if not node then
    refused = { text = text, code = code, plain = not new }
    return nil, text, code, detail
  end
  nodes[node], refused = merged, nil
  if not new then first = node end
  return node
end

-- For what connects in a way of its own: what the command line says, and a node that leaves with the others.
inner.defaults = defaults
function inner.adopted(node) nodes[node] = {} end

-- Ending -------------------------------------------------------------------------------------------------

local files = natives.files(natives, module, nodes)
local entry = setmetatable({}, { __index = _G })     -- the script's environment
local is_running         -- lua-node's own loop
local has_run            -- the script has had a loop of its own
local ended              -- why it ends: true, or the failure of `main`

local function is_over()
  return ended ~= nil or entry.luna_quit_flag
end
module.is_over = is_over -- what the main chunk waits for ends as well

-- Has the script end: its loop, and then its nodes, which finish what they have begun.
function quit()
  luna_quit_flag = true
  ended = ended or true
  stop()
end

function module.stop()
  if is_running then ended = ended or true end
  stop()
end

function module.run()
  has_run = true
  if not is_over() then return run() end
end

local function report(failed)
  files.told()
  natives.log("error", type(failed) == "table" and failed.traceback or tostring(failed))
end

-- SIGTERM or SIGINT, between messages.
local function signalled()
  local handler = entry.on_quit_signal
  if type(handler) ~= "function" then
    natives.log("info", "a signal: leaving")
    return quit()
  end
  natives.log("info", "a signal: on_quit_signal decides")
  spawn(function()
    local ok, failed = xpcall(handler, files.failure)
    if not ok then
      report(failed)
      quit()
    end
  end)
end

-- Reloading ----------------------------------------------------------------------------------------------

local asked, answer      -- by a coroutine: it is answered between messages

-- Looks for files that have changed, and loads them again. Returns the names of those that were; or nil, why
-- some was not, and the names of the others.
function try_reload()
  local _, is_main = coroutine.running()
  if is_main then return files.look() end
  local mine = {}
  asked = asked or {}
  asked[#asked + 1] = mine
  natives.ask()
  while not mine.answer do
    if not module.sleep(0) then
      return nil, "only the coroutine that switchboard started can wait for a reload", "usage"
    end
  end
  return unpack(mine.answer, 2, mine.answer.n)
end
module.try_reload = try_reload

-- Between messages: what a signal, a handler or the clock asks for.
local function upkeep(is_asked)
  if is_asked and natives.signalled() then signalled() end
  if is_asked and not asked then return end
  local waiting = asked or {}
  asked = nil
  local found = pack(xpcall(files.look, files.failure))
  if not found[1] then
    local failed = found[2]
    report(failed)
    module.is_loading = nil
    found = pack(false, nil, type(failed) == "table" and failed.text or tostring(failed), {})
  end
  for place = 1, #waiting do waiting[place].answer = found end
end
natives.set_upkeep(upkeep)

-- Running ------------------------------------------------------------------------------------------------

local function main_of(env, ...)
  local main = rawget(env, "main")
  if main == nil then return end
  if type(main) ~= "function" then error("`main` is a function, not a " .. type(main), 0) end
  spawn(function(...)
    local ok, failed = xpcall(main, files.failure, ...)
    if not ok then
      ended = type(failed) == "table" and failed or { text = tostring(failed) }
      stop()
    end
  end, ...)
end

local failing            -- what the last wait failed with, which is told once
local failures = 0       -- waits in a row that failed

-- After a wait that failed, it is paused, and signals are still heard.
local function pause(failed)
  natives.pause(PAUSE_MS)
  local text = type(failed) == "table" and failed.text or tostring(failed)
  if text ~= failing then report(failed) end
  failing = text
  if natives.signalled() then signalled() end
end

-- Hands over what comes.
local function wait(millis)
  local ok, failed = xpcall(module.wait, files.failure, millis)
  if ok then
    failing, failures = nil, 0
    return
  end
  failures = failures + 1
  -- Protected, as there may be no memory left.
  xpcall(pause, tostring, failed)
end

-- Until something ends it, or nothing is left that could happen.
local function loop()
  is_running = true
  while not is_over() do
    local on_loop = rawget(entry, "on_loop")
    natives.fresh()
    if on_loop then
      local ok, failed = xpcall(on_loop, files.failure)
      if not ok then
        report(failed)
        wait(PAUSE_MS)
      end
    elseif natives.idle() then
      break
    else
      wait()
    end
  end
  is_running = false
end

-- All nodes finish what they have begun, and leave.
local function leave()
  local left = 0
  for node in next, nodes do
    if node:is_open() then
      left = left + 1
      spawn(function()
        xpcall(node.drain, report, node)
        left = left - 1
      end)
    end
  end
  failures = 0
  while left > 0 and failures < MOST_FAILURES do wait() end
end

-- Runs a script to its end. Returns nothing if that is as it should be; else what it failed with, and
-- whether that is its failure ("script"), the command line's ("usage") or that of a connect ("connect").
local function run_script(path, shown, ...)
  local ok, failed = xpcall(function(...)
    files.load_first(path, shown, entry)
    if not is_over() then main_of(entry, ...) end
  end, files.failure, ...)
  if ok then
    if not has_run or rawget(entry, "main") or rawget(entry, "on_loop") then loop() end
    failed = type(ended) == "table" and ended or nil
  end
  -- A script that gave up because it was told to is not one that failed.
  local is_cut = is_over() and type(failed) == "table" and failed.text:find(ENDING, 1, true)
  if not failed or is_cut then return leave() end
  if type(failed) ~= "table" then failed = { text = tostring(failed) } end
  local kind = "script"
  if refused and failed.text:find(refused.text, 1, true) then
    kind = refused.code ~= "usage" and "connect" or refused.plain and "usage" or "script"
  end
  return failed.text, failed.traceback, kind, refused and refused.text
end

return run_script
