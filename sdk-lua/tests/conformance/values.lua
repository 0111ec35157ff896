-- Values to a node in Rust, which says what it got, and back: every kind by hand, then many at random.
local switchboard = require "switchboard"
local check = require "check"
local DIRECT, null = switchboard.DIRECT, switchboard.null
local unpack = table.unpack or unpack

local node = check.node("gamesvr.1")
local rust = DIRECT "echosvr.1"

local function echoes(...) check.returns(check.list(...), node:call(rust, "echo", ...)) end

-- What Rust sees.
local function are(kinds, ...) check.equal(node:call(rust, "kinds", ...), kinds) end
are "nothing"
are("nil bool bool nil", nil, true, false, nil)
are("int:1 int:-1 f64:1.5 f64:-0", 1, -1, 1.5, -0.0)
are("f64:inf f64:-inf f64:NaN", 1 / 0, -1 / 0, 0 / 0)
are("str:1 str:0 str:2 bin:1", "x", "", "\195\169", "\255")
are("bin:1 bin:0", switchboard.binary "x", switchboard.binary "")
are("array:0 array:0 map:0", {}, switchboard.array {}, switchboard.map {})
are("array:3 array:3 map:1 map:1", { 1, 2, 3 }, { 1, nil, 3 }, { [3] = 3 }, { a = 1 })
are("map:2 array:4 map:2", switchboard.map { 1, 2 }, switchboard.array { [4] = 1 }, { 1, y = 1 })
are("nil array:2 map:1", null, { 1, null }, { a = null })
if math.type then
  are("f64:1 int:9223372036854775807 int:-9223372036854775808", 1.0, math.maxinteger, math.mininteger)
  echoes(math.maxinteger, math.mininteger, 1.0, 2 ^ 53, 9007199254740993)
else
  -- A chunk of its own: other Luas don't read such numbers.
  local integers = assert(loadstring [[return 9223372036854775807LL, -9223372036854775807LL - 1, 9007199254740993LL,
    -9007199254740993LL, 4611686018427387905ULL, 18446744073709551615ULL, 5LL]])
  local max, min, odd, negative, unsigned, largest, small = integers()
  are("int:1 int:9223372036854775807 int:-9223372036854775808", 1.0, max, min)
  are("int:4611686018427387905 int:18446744073709551615", unsigned, largest)
  echoes(max, min, odd, negative, { a = max, [1] = { min } })
  check.equal(node:call(rust, "echo", small), 5)
  check.equal(tostring(node:call(rust, "echo", max)), "9223372036854775807LL")
  check.equal(type(node:call(rust, "echo", 2 ^ 53)), "number")
  are("int:9007199254740992 f64:9007199254740994 int:-9007199254740992", 2 ^ 53, 2 ^ 53 + 2, -2 ^ 53)
  check.fails("decode", "18446744073709551615 is over the largest integer of Lua", node:call(rust, "echo", largest))
  check.fails("bad_value", "argument 1: a cdata cannot travel", node:call(rust, "echo", require "ffi".new "int[2]"))

  -- Such an integer is a key as well.
  local key
  node.on.keyed = function() key = switchboard.received().key end
  node:call(switchboard.HASH(odd), "gamesvr", "keyed")
  check.equal(key, odd)
  check.fails("usage", "not a cdata", node:call(switchboard.HASH(require "ffi".new "int[2]"), "gamesvr", "keyed"))
end
check.raises("binary takes a string, not a nil", switchboard.binary)

-- Nil keeps its place, and marks do not come back.
echoes()
echoes(nil)
echoes(nil, nil, 1, nil)
echoes({ 1, nil, 3, nil, nil, 6 }, { a = { b = {} } })
check.equal(getmetatable((node:call(rust, "echo", switchboard.map { a = 1 }))), nil)
check.equal(node:call(rust, "echo", switchboard.binary "bytes"), "bytes")
check.returns({ n = 2, nil, {} }, node:call(rust, "echo", null, { a = null }))

-- What is refused, and where.
local function refuses(text, ...) check.fails("bad_value", "`echo`: " .. text, node:call(rust, "echo", ...)) end
local cycle = { 1 }
cycle.next = { back = cycle }
local deep = {}
for _ = 1, 64 do deep = { deep } end
refuses("argument 1: a function cannot travel", print)
refuses("argument 2.items[3]: a function cannot travel", 1, { items = { 1, 2, print } })
refuses("argument 1: a thread cannot travel", coroutine.create(print))
refuses("argument 1: a userdata cannot travel", io.stdout)
refuses("argument 1.next.back: a table that contains itself cannot travel", cycle)
refuses("argument 1" .. ("[1]"):rep(64) .. ": nested deeper than 64 tables", deep)
refuses("argument 1 (a key): a function cannot travel", { [print] = 1 })
refuses("argument 1: what is marked as an array has a key", switchboard.array { a = 1 })
echoes(deep[1])

-- At random. The seed is said, so that a failure can be had again.
local seed = tonumber(os.getenv "SEED") or os.time()
print("seed " .. seed)
math.randomseed(seed)
local random = math.random
local EDGES = { 0, 1, -1, 127, 128, -32, -33, 255, 256, 65535, 65536, 2147483647, -2147483648, 4294967295, 4294967296 }

local function bytes(count)
  local all = {}
  for place = 1, count do all[place] = string.char(random(0, 255)) end
  return table.concat(all)
end

local function integer()
  local edge = EDGES[random(#EDGES)]
  if math.type then return random(2) == 1 and edge or random(math.mininteger, math.maxinteger) end
  return random(2) == 1 and edge or random(-2 ^ 31, 2 ^ 31) * 2 ^ random(0, 22)
end

local value
local kinds = {
  function() return random(2) == 1 end,
  integer,
  function() return (random() - 0.5) * 2 ^ random(-300, 300) end,
  function() return ({ 1 / 0, -1 / 0, 0 / 0, -0.0, 0.5 })[random(5)] end,
  function() return bytes(random(0, 40)) end,
  function() return ("text \195\169 "):rep(random(0, 60)) end,
  function(depth)
    local array = {}
    for place = 1, random(0, 5) do
      if random(4) > 1 then array[place] = value(depth + 1) end
    end
    return array
  end,
  function(depth)
    local map = {}
    for _ = 1, random(0, 5) do
      local key = random(2) == 1 and integer() or bytes(random(8))
      map[key] = value(depth + 1)
    end
    if random(3) == 1 then map[random(2) == 1] = value(depth + 1) end
    if random(3) == 1 then map[random() + 0.5] = value(depth + 1) end
    return map
  end,
}
function value(depth) return kinds[random(depth < 6 and #kinds or 6)](depth) end

for _ = 1, 300 do
  local all = { n = random(0, 8) }
  for place = 1, all.n do
    if random(5) > 1 then all[place] = value(0) end
  end
  echoes(unpack(all, 1, all.n))
end

node:close()
check.done()
