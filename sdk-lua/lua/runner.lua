-- What lua-node does around a script: the command line fills what `connect` was not told, the script is
-- loaded, its `main` and `on_loop` run, and it ends. `natives` are the functions of src/runner/.
local natives, module, defaults = ...

local connect, run, stop = module.connect, module.run, module.stop
local xpcall, spawn, next = xpcall, module.spawn, next

local PAUSE_MS = 100     -- after an `on_loop` that failed, so that one which always does won't run hot

-- Connecting ---------------------------------------------------------------------------------------------

local nodes = {}         -- the options of each that may be open
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

-- A node: what the options don't say is as the command line has it. Where they say nothing new, and in a
-- file that is loaded again, it is the node that there is.
function module.connect(options)
  if options == nil then options = {} end
  if type(options) ~= "table" then return connect(options) end
  local new = false
  local merged = {}
  for name, value in next, defaults do merged[name] = value end
  for name, value in next, options do
    new = new or not same(value, defaults[name])
    merged[name] = value
  end
  if not new and first and first:is_open() then return first end
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
  nodes[node] = merged
  if not new then first = node end
  return node
end

-- Ending -------------------------------------------------------------------------------------------------

local files = natives.files(natives, module, nodes)
local entry = setmetatable({}, { __index = _G })     -- the script's environment
local is_running         -- lua-node's own loop
local has_run            -- the script has had a loop of its own
local ended              -- why it ends: true, or the failure of `main`

local function is_over()
  return ended ~= nil or entry.luna_quit_flag
end

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
  return table.unpack(mine.answer, 1, mine.answer.n)
end
module.try_reload = try_reload

-- Between messages: what a signal, a handler or the clock asks for.
local function upkeep(is_asked)
  if is_asked and natives.signalled() then signalled() end
  if is_asked and not asked then return end
  local waiting = asked or {}
  asked = nil
  local found = table.pack(files.look())
  for _, one in ipairs(waiting) do one.answer = found end
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
        xpcall(module.wait, report, PAUSE_MS)
      end
    elseif natives.idle() then
      break
    else
      xpcall(module.wait, report)
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
  while left > 0 do xpcall(module.wait, report) end
end

-- Runs a script to its end. Returns nothing if that is as it should be; else what it failed with, and
-- whether that is its failure ("script"), the command line's ("usage") or that of a connect ("connect").
local function run_script(path, shown, ...)
  local ok, failed = xpcall(function(...)
    files.load_first(path, shown, entry)
    main_of(entry, ...)
  end, files.failure, ...)
  if ok then
    if not has_run or rawget(entry, "main") or rawget(entry, "on_loop") then loop() end
    failed = type(ended) == "table" and ended or nil
  end
  if not failed then return leave() end
  if type(failed) ~= "table" then failed = { text = tostring(failed) } end
  local kind = "script"
  if refused and failed.text:find(refused.text, 1, true) then
    kind = refused.code ~= "usage" and "connect" or refused.plain and "usage" or "script"
  end
  return failed.text, failed.traceback, kind, refused and refused.text
end

return run_script
