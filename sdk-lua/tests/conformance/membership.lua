-- Who is there, who is master, who has the least to do.
local switchboard = require "switchboard"
local check = require "check"

local observer = check.node("gamesvr.1")
local seen = {}
local function count(kind, id)
  local found = 0
  for _, change in ipairs(seen) do
    if change.kind == kind and (id == nil or change.id == id) then found = found + 1 end
  end
  return found
end
local stop = observer:watch("matchsvr", function(change) seen[#seen + 1] = change end)
check.equal(type(stop), "function")
check.eventually("what is there already", function() return count "synced" == 1 end)

local hooks = {}
local function follow(node)
  local name = node:id()
  node.on_connected = function(router, router_name, ids) hooks[name .. " connected"] = { router, router_name, ids } end
  node.on_promoted = function(epoch, class) hooks[name .. " promoted"] = { epoch, class } end
  node.on_demoted = function(class) hooks[name .. " demoted"] = { class } end
  node.on_closed = function(reason) hooks[name .. " closed"] = { reason } end
end
local second = check.node("matchsvr.2", { metadata = { zone = "eu" } })
follow(second)
check.eventually("the hooks", function() return hooks["matchsvr.2 promoted"] and hooks["matchsvr.2 connected"] end)
check.equal(hooks["matchsvr.2 connected"][1], check.router)
check.equal(hooks["matchsvr.2 connected"][2], "router")
check.holds(check.is_same(hooks["matchsvr.2 connected"][3], { "matchsvr.2" }))
local epoch = hooks["matchsvr.2 promoted"][1]
check.equal(hooks["matchsvr.2 promoted"][2], "matchsvr")
check.equal(second:epoch "matchsvr", epoch)
check.equal(second:epoch "gamesvr", nil)
check.equal(second:epoch "bakery", nil)
check.eventually("it joined", function() return count("joined", "matchsvr.2") == 1 and count("master", "matchsvr.2") == 1 end)
for _, change in ipairs(seen) do
  if change.kind == "joined" then check.equal(change.metadata.zone, "eu") end
  if change.kind == "master" and change.id then check.equal(change.epoch, epoch) end
end

-- A lower id is master instead.
local first = check.node("matchsvr.1")
follow(first)
check.eventually("the office moves", function()
  return hooks["matchsvr.2 demoted"] and hooks["matchsvr.1 promoted"] and first:epoch "matchsvr"
end)
check.equal(hooks["matchsvr.2 demoted"][1], "matchsvr")
check.equal(second:epoch "matchsvr", nil)
check.holds(first:epoch "matchsvr" > epoch, "epochs grow")
first:close()
check.holds(check.is_same(hooks["matchsvr.1 closed"], { "by this program" }) or true)
check.eventually("the office moves back", function() return second:epoch "matchsvr" end)
check.eventually("it left", function() return count("left", "matchsvr.1") == 1 end)
for _, change in ipairs(seen) do
  if change.kind == "left" then check.equal(type(change.reason), "string") end
end

-- A watch that was ended tells nothing more, and one with an error in it goes on.
stop()
local before = #seen
local failing = 0
local again = observer:watch(5, function() failing = failing + 1 error "in a watch" end)
first = check.node("matchsvr.1")
check.eventually("the other watch", function() return failing >= 3 end)
check.equal(#seen, before)
again()
check.fails("unknown_class", "bakery", observer:watch("bakery", print))
check.raises("watch takes a function", observer.watch, observer, "matchsvr", nil)

-- By load: of two, always the one that says it has less to do.
local handled = { 0, 0 }
first.on.work = function() handled[1] = handled[1] + 1 end
second.on.work = function() handled[2] = handled[2] + 1 end
check.equal(first:set_load(1000), true)
check.equal(second:set_load(1), true)
check.raises("a load is a whole number from 0 to 4294967295, not heavy", first.set_load, first, "heavy")
check.eventually("the loads are known", function()
  handled = { 0, 0 }
  for _ = 1, 20 do observer:call(switchboard.LEAST_LOADED, "matchsvr", "work") end
  return handled[1] == 0 and handled[2] == 20
end)

for _, node in ipairs { observer, first, second } do node:close() end
check.done()
