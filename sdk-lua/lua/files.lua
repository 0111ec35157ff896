-- The files of a script: `import`, which gives each a sandbox, and their reload. `natives` are the functions
-- of src/runner/files.rs and src/runner/state.rs.
--
-- A file is loaded again in the environment that it has. All of it happens or nothing: what a version that
-- fails has done to environments, nodes, timers and the list of files is undone.
local natives, module, nodes = ...

local running, rawset, next, xpcall, load = coroutine.running, rawset, next, xpcall, load
local spawn = module.spawn

local files = {}         -- that are loaded, in the order in which they were: who is imported comes first
local by_path = {}       -- also those that are being loaded
local by_name = {}       -- the same, by the name that Lua has for a file
local chains = setmetatable({}, { __mode = "k" })    -- by coroutine: the files that it is loading
local entry

-- What was raised ----------------------------------------------------------------------------------------

local last = {}          -- the failure that was raised on, and what was raised: until it is told

-- What a file or a function of the script raised: a text that begins with its place, and a traceback.
local function failure(raised)
  if last.failure and rawequal(last.raised, raised) then return last.failure end
  local text = raised
  if type(raised) == "table" and raised.text ~= nil then text = raised.text end
  text = natives.placed(tostring(text))
  local failed = { text = text, traceback = natives.traceback(text) }
  last = { failure = failed, raised = raised }
  return failed
end

-- Raises on what a file raised, so that it is still known where that was.
local function raise_on(failed)
  if type(failed) ~= "table" then error(failed, 0) end
  local raised = last.failure == failed and last.raised or failed.text
  if type(raised) == "string" then raised = failed.text end
  last = { failure = failed, raised = raised }
  error(raised, 0)
end

-- What is raised next is another failure, though its text may be the same.
local function told() last = {} end

-- Loading ------------------------------------------------------------------------------------------------

-- Has a chunk of a file run, as the innermost of what this coroutine loads. Returns true, or nil and why.
local function run(file, chunk)
  local me = running()
  local chain = chains[me] or {}
  local imports = file.imports
  chains[me], chain[#chain + 1], file.loader, file.imports = chain, file, me, {}
  local ok, failed = xpcall(chunk, failure)
  chain[#chain], file.loader = nil, nil
  if ok then return true end
  file.imports = imports
  -- Where there is no memory left, it is the bare text.
  if type(failed) ~= "table" then failed = { text = tostring(failed), traceback = tostring(failed) } end
  return nil, failed
end

local function forget(file)
  by_path[file.path], by_name[file.shown] = nil, nil
end

-- Who is loaded again and fails is tried once more when this is true, though it has not changed itself.
local function await(condition)
  local chain = chains[running()]
  local outer = chain and chain[1]
  if outer then outer.awaits[#outer.awaits + 1] = condition end
end

-- Loads a file for the first time, in this environment.
local function load_first(path, shown, env)
  local text, stamp = natives.read(shown)
  if not text then error("cannot read " .. shown .. ": " .. stamp, 0) end
  local file = {
    path = path, shown = shown, dir = natives.dir(shown), stamp = stamp, env = env,
    imports = {}, awaits = {},
  }
  entry = entry or file
  by_path[path], by_name[shown] = file, file
  local chunk, why = load(text, "@" .. shown, "t", env)
  local ok, failed = nil, { text = why, traceback = why }
  if chunk then ok, failed = run(file, chunk) end
  if not ok then
    forget(file)
    await(function() return natives.stamp(shown) ~= stamp end)
    raise_on(failed)
  end
  files[#files + 1] = file
end

-- The names on the way from one file to another, over what they import; nil if there is none.
local function way(from, to, seen)
  if from == to then return from.shown end
  seen[from] = true
  for imported in next, from.imports do
    local rest = not seen[imported] and way(imported, to, seen)
    if rest then return from.shown .. " -> " .. rest end
  end
end

-- Loads a file once, in an environment of its own over the globals, and returns that environment.
function import(name)
  if type(name) ~= "string" then error("import takes the name of a file, not a " .. type(name), 2) end
  local me = running()
  local chain = chains[me] or {}
  local inner = chain[#chain]
  local importer = by_name[natives.source(2)] or inner or entry
  local path, shown = natives.find(name, importer.dir, entry.dir)
  if not path then
    await(function() return natives.find(name, importer.dir, entry.dir) end)
    error("cannot find " .. name .. ": " .. shown, 2)
  end
  local file = by_path[path]
  if not file then
    local env = setmetatable({}, { __index = _G })
    load_first(path, shown, env)
    if inner then inner.imports[by_path[path]] = true end
    return env
  end
  if inner then
    -- Who is being loaded imports, in the end, itself: by what is being loaded now, or by what was before.
    local circle
    for place = 1, #chain do
      if chain[place] == file or circle then
        circle = (circle and circle .. " -> " or "") .. chain[place].shown
      end
    end
    circle = circle and circle .. " -> " .. file.shown
    if not circle then
      local rest = way(file, inner, {})
      circle = rest and inner.shown .. " -> " .. rest
    end
    if circle then error("import goes in a circle: " .. circle, 2) end
    inner.imports[file] = true
  end
  if file.loader then
    error(file.shown .. " is still being loaded", 2)
  end
  return file.env
end

-- Loading again ------------------------------------------------------------------------------------------

local cancel = module.cancel
local first_id           -- of what the version that is loaded begins
local cancelled          -- timers of the version before, which end when the new one runs

function module.cancel(id)
  if not module.is_loading or type(id) ~= "number" or id >= first_id then return cancel(id) end
  local found = not cancelled[id] and natives.is_set(id)
  if found then cancelled[id] = true end
  return found
end

-- What a version that fails must not change.
local function snapshot()
  local tables = {}
  local function add(fields)
    if type(fields) ~= "table" or tables[fields] then return end
    local copy = {}
    for name, value in next, fields do copy[name] = value end
    tables[fields] = copy
  end
  local known, order, open = {}, {}, {}
  add(_G)
  for path, file in next, by_path do
    known[path] = true
    add(file.env)
  end
  for node in next, nodes do
    open[node] = true
    add(node)
    add(node.on)
  end
  for place, file in ipairs(files) do order[place] = file end
  return { tables = tables, known = known, order = order, open = open, id = natives.last_id() }
end

local function undo(before)
  for fields, copy in next, before.tables do
    for name in next, fields do
      if copy[name] == nil then rawset(fields, name, nil) end
    end
    for name, value in next, copy do rawset(fields, name, value) end
  end
  for path, file in next, by_path do
    if not before.known[path] then forget(file) end
  end
  files = before.order
  module.is_undoing = true
  for id = before.id + 1, natives.last_id() do cancel(id) end
  module.is_undoing = nil
  for node in next, nodes do
    if not before.open[node] then
      nodes[node] = nil
      spawn(node.close, node)
    end
  end
end

local function refuse(file, failed)
  told()
  file.broken = failed.text
  natives.log("error", "not reloaded, the version before goes on: " .. (failed.traceback or failed.text))
end

-- Loads one file again. Returns true; nil where the version before goes on.
local function load_again(file)
  local text, stamp = natives.read(file.shown)
  -- It is being written, or replaced: the next look finds it at rest.
  if not text then return nil end
  file.stamp, file.awaits = stamp, {}
  if file.loader then
    local why = file.shown .. " has changed, but its first run has not come to its end, so it can't run again"
    refuse(file, { text = why })
    return nil
  end
  local chunk, why = load(text, "@" .. file.shown, "t", file.env)
  if not chunk then return refuse(file, { text = why }) end
  local before = snapshot()
  module.is_loading, first_id, cancelled = true, before.id + 1, {}
  local ok, failed = run(file, chunk)
  module.is_loading = nil
  if not ok then
    undo(before)
    return refuse(file, failed)
  end
  for id in next, cancelled do cancel(id) end
  file.broken = nil
  natives.log("info", "reloaded " .. file.shown)
  return true
end

local function is_to_be_loaded(file)
  local stamp = natives.stamp(file.shown)
  if stamp and stamp ~= file.stamp then return true end
  for _, condition in ipairs(file.broken and file.awaits or {}) do
    if condition() then return true end
  end
end

-- Looks at all files, and loads those again that have changed. Returns their names; nil, why and the names
-- where some file is not the version that runs.
local function look()
  if module.is_loading then return nil, "a file is being loaded" end
  local reloaded, broken = {}, {}
  local all = {}
  for place, file in ipairs(files) do all[place] = file end
  for _, file in next, by_path do
    if file.loader then all[#all + 1] = file end
  end
  for _, file in ipairs(all) do
    if is_to_be_loaded(file) then
      natives.fresh()
      if load_again(file) then reloaded[#reloaded + 1] = file.shown end
    end
    if file.broken then broken[#broken + 1] = file.broken end
  end
  if #broken > 0 then return nil, table.concat(broken, "; "), reloaded end
  return reloaded
end

return { load_first = load_first, look = look, failure = failure, told = told }
