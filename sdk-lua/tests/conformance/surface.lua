-- The annotations for the language server and the module name the same things.
local switchboard = require "switchboard"
local check = require "check"

local path = assert(os.getenv "ANNOTATIONS")
check.holds(loadfile(path), "it can be parsed")
local annotated = { switchboard = {}, log = {}, Node = {}, options = {}, message = {}, globals = {} }
local class
local is_lua_node = false
local descriptions = 0
for line in io.lines(path) do
  local function name(pattern, from)
    local found = line:match(pattern)
    if found then from[found] = true end
  end
  if line:find "^%-%- Only in lua%-node" then is_lua_node = true end
  class = line:match "^%-%-%-@class ([%w_.]+)" or (line:find "^%-%-%-" and class) or nil
  name("^function switchboard%.([%w_]+)%(", annotated.switchboard)
  name("^switchboard%.([%w_]+) =", annotated.switchboard)
  name("^function switchboard%.log%.([%w_]+)%(", annotated.log)
  name("^function Node:([%w_]+)%(", annotated.Node)
  name("^function ([%w_]+)%(", annotated.globals)
  if class == "switchboard.Options" then name("^%-%-%-@field ([%w_]+)", annotated.options) end
  if class == "switchboard.MessageOptions" then name("^%-%-%-@field ([%w_]+)", annotated.message) end
  if line:find "^function" then descriptions = descriptions + 1 end
end
check.holds(is_lua_node and descriptions > 40, "it was read")

local function equal(what, there, said)
  for name in pairs(there) do check.holds(said[name], what .. name .. " is not annotated") end
  for name in pairs(said) do check.holds(there[name] ~= nil, what .. name .. " is annotated, and not there") end
end

local module = {}
for name, value in pairs(switchboard) do
  -- What lua-node adds for itself.
  if annotated.globals[name] == nil and not name:find "^is_" then module[name] = value end
end
equal("switchboard.", module, annotated.switchboard)
equal("switchboard.log.", switchboard.log, annotated.log)

local node = check.node("gamesvr.1")
equal("node:", getmetatable(node).__index, annotated.Node)
node:close()

-- Mistakes name every option.
local function words(text)
  local found = {}
  for word in text:match("there are (.*)"):gmatch "[%a_]+" do found[word] = true end
  return found
end
equal("connect: ", words((select(2, switchboard.connect { service = "a.1", nothing = 1 }))), annotated.options)
local _, raised = pcall(node.with, node, { nothing = 1 })
local message = words(raised)
message["and"], message["in"], message.milliseconds = nil, nil, nil
equal("with: ", message, annotated.message)

for _, name in ipairs { "import", "try_reload", "quit" } do check.holds(annotated.globals[name], name) end
check.done()
