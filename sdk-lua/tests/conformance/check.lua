-- What the scripts beside this one assert with. Each runs in lua-node, Lua 5.4 and LuaJIT, and says `ok` with how
-- much it asserted when it is through.
local switchboard = require "switchboard"

local check = { asserted = 0, router = os.getenv "ROUTER" }
local PATIENCE = 20000

local function shown(value)
  return type(value) == "string" and string.format("%q", value) or tostring(value)
end

local function fail(text) error(text, 3) end

-- Whether two values are the same all the way down; not-a-number is, and the two zeros are not.
local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) == "table" then
    for key, value in pairs(a) do
      if not same(value, b[key]) then return false end
    end
    for key in pairs(b) do
      if a[key] == nil then return false end
    end
    return true
  end
  if a ~= a then return b ~= b end
  if type(a) == "number" and a == 0 and b == 0 then return 1 / a == 1 / b end
  return a == b and (not math.type or math.type(a) == math.type(b))
end
check.is_same = same

function check.holds(condition, what)
  check.asserted = check.asserted + 1
  if not condition then fail(what or "it does not hold") end
end

function check.equal(got, wanted, what)
  check.asserted = check.asserted + 1
  if got ~= wanted then
    fail((what and what .. ": " or "") .. shown(got) .. " instead of " .. shown(wanted))
  end
end

-- All that comes after `wanted`, which is a list with its length in `n`, is the same.
function check.returns(wanted, ...)
  check.asserted = check.asserted + 1
  local count = select("#", ...)
  if count ~= wanted.n then fail(count .. " values instead of " .. wanted.n .. ": " .. shown((...))) end
  for place = 1, count do
    local got = (select(place, ...))
    if not same(got, wanted[place]) then
      fail("value " .. place .. " is " .. shown(got) .. " instead of " .. shown(wanted[place]))
    end
  end
end

function check.list(...) return { n = select("#", ...), ... } end

-- What comes after the texts is a failure with this code, and this in its text.
function check.fails(code, text, nothing, got, got_code, detail)
  check.asserted = check.asserted + 1
  if nothing ~= nil then fail("no failure but " .. shown(nothing)) end
  if got_code ~= code then fail("the code is " .. shown(got_code) .. ", with the text " .. shown(got)) end
  if not tostring(got):find(text, 1, true) then fail("the text is " .. shown(got)) end
  return detail
end

-- The function raises an error with this in its text.
function check.raises(text, fn, ...)
  check.asserted = check.asserted + 1
  local fine, raised = pcall(fn, ...)
  if fine then fail("it raises nothing") end
  if not tostring(raised):find(text, 1, true) then fail("it raises " .. shown(raised)) end
end

-- Lets others work until the condition holds.
function check.eventually(what, condition)
  check.asserted = check.asserted + 1
  local deadline = switchboard.clock_ms() + PATIENCE
  while not condition() do
    if switchboard.clock_ms() > deadline then fail("not in time: " .. what) end
    switchboard.sleep(1)
  end
end

-- A node that offers a service.
function check.node(service, options)
  options = options or {}
  options.service, options.routers = service, options.routers or check.router
  local node, text = switchboard.connect(options)
  if not node then fail(service .. ": " .. tostring(text)) end
  return node
end

-- The script is through. lua-node would wait for timers that are left.
function check.done()
  print("ok " .. check.asserted)
  if quit then quit() end
end

return check
