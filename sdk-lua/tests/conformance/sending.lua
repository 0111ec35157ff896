-- One-way messages in every mode, whom they reach, and what is told of mistakes.
local switchboard = require "switchboard"
local check = require "check"
local MASTER, RANDOM, BROADCAST = switchboard.MASTER, switchboard.RANDOM, switchboard.BROADCAST
local LEAST_LOADED, HASH, DIRECT = switchboard.LEAST_LOADED, switchboard.HASH, switchboard.DIRECT

local sender = check.node("gamesvr.1")
local got = {}
local agents = {}
for instance = 1, 4 do
  local name = "dbagent." .. instance
  local agent = check.node(name)
  agents[instance] = agent
  agent.on.note = function(from, ...)
    local how = switchboard.received()
    got[#got + 1] = { to = name, from = from, how = how, values = check.list(...) }
  end
end

local function arrive(count)
  check.eventually(count .. " messages", function() return #got >= count end)
  switchboard.sleep(5)
  check.equal(#got, count, "no more than these")
  local all = got
  got = {}
  return all
end

-- Each mode, by the class's name and by its number, and what the receiver is told of it.
for _, class in ipairs { "dbagent", 6 } do
  check.equal(sender:forward(MASTER, class, "note", 1, nil, "x", nil), true)
  local one = arrive(1)[1]
  check.equal(one.to, "dbagent.1")
  check.returns({ n = 4, 1, nil, "x", nil }, (table.unpack or unpack)(one.values, 1, one.values.n))
  check.holds(check.is_same(one.how, { mode = "master", wants_reply = false }))
  check.equal(one.from.name, "gamesvr.1")
  check.equal(one.from.class, "gamesvr")
  check.equal(one.from.instance, 1)
  check.equal(one.from.id, 16777217)
  check.equal(tostring(one.from), "gamesvr.1")

  check.equal(sender:forward(HASH(1), class, "note"), true)
  one = arrive(1)[1]
  check.equal(one.to, "dbagent.2", "the second of 4 slots")
  check.holds(check.is_same(one.how, { mode = "hash", key = 1, wants_reply = false }))

  check.equal(sender:forward(RANDOM, class, "note"), true)
  check.equal(arrive(1)[1].how.mode, "random")
  check.equal(sender:forward(LEAST_LOADED, class, "note"), true)
  check.equal(arrive(1)[1].how.mode, "least_loaded")

  check.equal(sender:forward(BROADCAST, class, "note"), true)
  local reached = {}
  for _, copy in ipairs(arrive(4)) do
    reached[copy.to] = true
    check.equal(copy.how.mode, "broadcast")
    check.equal(copy.from, one.from, "one sender")
  end
  check.holds(reached["dbagent.1"] and reached["dbagent.2"] and reached["dbagent.3"] and reached["dbagent.4"])
end

-- One instance: by its name, by class and instance in numbers, by its id, and as the sender of a message.
for _, id in ipairs { "dbagent.2", "6.2", 100663298 } do
  check.equal(sender:forward(DIRECT(id), "note"), true)
  local one = arrive(1)[1]
  check.equal(one.to, "dbagent.2")
  check.equal(one.how.mode, "direct")
end
local answered
sender.on.back = function(from) answered = from.name end
agents[3].on.there = function(from) agents[3]:forward(DIRECT(from), "back") end
sender:forward(DIRECT "dbagent.3", "there")
check.eventually("an answer to the sender", function() return answered == "dbagent.3" end)

-- The same key goes to the same instance: whole numbers and strings.
for _, hash in ipairs { 0, 4, -1, "name", "", "\255", 2147483648 } do
  for _ = 1, 3 do sender:forward(HASH(hash), "dbagent", "note") end
  local all = arrive(3)
  check.holds(all[1].to == all[2].to and all[2].to == all[3].to)
end

-- Messages from one to another come in the order sent, whatever their modes.
for number = 1, 300 do
  local mode = ({ MASTER, HASH(0), DIRECT "dbagent.1" })[number % 3 + 1]
  if number % 3 == 2 then check.holds(sender:forward(mode, "note", number))
  else check.holds(sender:forward(mode, "dbagent", "note", number)) end
end
for number, one in ipairs(arrive(300)) do check.equal(one.values[1], number) end

-- Options of messages.
local careful = sender:with { droppable = true, report = true, ttl = 2000 }
check.equal(careful:forward(MASTER, "dbagent", "note", "careful"), true)
check.equal(arrive(1)[1].values[1], "careful")
check.equal(careful:id(), "gamesvr.1", "it is the same node")
check.equal(agents[1]:forward(BROADCAST, "dbagent", "note"), true)
for _, one in ipairs(arrive(3)) do check.holds(one.to ~= "dbagent.1", "not to oneself") end
check.equal(agents[1]:with { echo = true }:forward(BROADCAST, "dbagent", "note"), true)
arrive(4)
check.fails("usage", "only a broadcast has an echo", agents[1]:with { echo = true }:forward(MASTER, "dbagent", "note"))
check.raises("`speed` is not an option of messages", sender.with, sender, { speed = 1 })
check.raises("`timeout` is not an option of messages", sender.with, sender, { timeout = "long" })
check.raises("`timeout` is not an option of messages", sender.with, sender, { timeout = 1 / 0 })
check.raises("with takes a table", sender.with, sender, 5)

-- What can't be delivered is told to who asked for it.
local undelivered
sender.on_undelivered = function(to, reason, key) undelivered = { to, reason, key } end
check.equal(sender:with { report = true }:forward(DIRECT "dbagent.9", "note"), true)
check.eventually("a report", function() return undelivered end)
check.equal(undelivered[1], "dbagent.9")
check.equal(type(undelivered[2]), "string")

-- Mistakes are told, not thrown.
check.fails("usage", "nil is not a mode: pass MASTER, HASH(key), RANDOM, BROADCAST, LEAST_LOADED or DIRECT(id)",
  sender:forward())
check.fails("usage", "\"mastre\" is not a mode", sender:forward("mastre", "dbagent", "note"))
check.fails("usage", "table is not a mode", sender:forward({}, "dbagent", "note"))
check.fails("usage", "HASH takes a whole number or a string as its key", sender:forward(HASH(1.5), "dbagent", "note"))
check.fails("usage", "HASH takes a whole number or a string as its key, not a nil", sender:forward(HASH(), "dbagent", "note"))
check.fails("usage", "not a boolean", sender:forward(HASH(true), "dbagent", "note"))
check.fails("usage", "the method is a string, not a nil", sender:forward(MASTER, "dbagent"))
check.fails("usage", "the method is a string, not a table", sender:forward(MASTER, "dbagent", {}))
check.fails("usage", "the name of a method is UTF-8", sender:forward(MASTER, "dbagent", "\255"))
check.fails("usage", "not a nil", sender:forward(MASTER))
check.fails("usage", "a table is not a class or an instance", sender:forward(MASTER, {}, "note"))
check.fails("usage", "4294967296 is not a class or an instance", sender:forward(MASTER, 4294967296, "note"))
check.fails("usage", "dbagent", sender:forward(DIRECT "dbagent", "note"))
check.fails("usage", "Direct", sender:forward(MASTER, "dbagent.1", "note"))
check.fails("unknown_class", "bakery", sender:forward(MASTER, "bakery", "note"))
check.fails("bad_value", "`note`: argument 2: a function cannot travel", sender:forward(MASTER, "dbagent", "note", 1, print))
check.fails("too_large", "over the router's limit", sender:forward(MASTER, "dbagent", "note", ("x"):rep(20000000)))
check.equal(#got, 0)

for _, node in ipairs(agents) do node:close() end
sender:close()
check.done()
