-- How a node connects, what it is told of mistakes, and how it offers more and less.
local switchboard = require "switchboard"
local check = require "check"
local router = check.router

check.holds(switchboard.version:find "^%d+%.%d+%.%d+$", "a version")
check.equal(require "switchboard", switchboard, "the same module each time")

local function refused(options, text, code) check.fails(code or "usage", text, switchboard.connect(options)) end
refused("matchsvr.1", "connect takes a table of options")
refused({}, "`service` is missing")
refused({ service = "matchsvr.1", rooters = router }, "`rooters` is not an option: there are service, also, routers")
refused({ service = "matchsvr.1", [1] = router }, "`1` is not an option")
refused({ service = true }, "`service` is a service such as \"matchsvr.1\"")
refused({ service = 7 }, "`service` is a service id: class << 24 | instance, neither of them 0")
refused({ service = {} }, "`service` is a service such as \"matchsvr.1\"")
refused({ service = "matchsvr.one", routers = router }, "matchsvr.one")
refused({ service = "matchsvr.1", weight = "much" }, "`weight` is a whole number from 0 to 65535, not a string")
refused({ service = "matchsvr.1", weight = 65536 }, "`weight` is a whole number from 0 to 65535")
refused({ service = "matchsvr.1", metadata = "eu" }, "`metadata` is a table, not a string")
refused({ service = "matchsvr.1", metadata = { zone = {} } }, "`metadata` is a table of texts by name")
refused({ service = "matchsvr.1", heartbeat = "often" }, "`heartbeat` is a number of milliseconds above 0")
refused({ service = "matchsvr.1", call_timeout = 0 }, "`call_timeout` is a number of milliseconds above 0")
refused({ service = "matchsvr.1", connect_timeout = -1 }, "`connect_timeout` is a number of milliseconds above 0")
refused({ service = "matchsvr.1", routers = "nowhere" }, "nowhere")
refused({ service = "matchsvr.1", routers = "unix:/nowhere/at.all" }, "no router can be reached", "unreachable")
local detail = check.fails("refused", "bakery", switchboard.connect { service = "bakery.1", routers = router })
check.equal(detail, "unknown_class")

local node = check.node("matchsvr.1", {
  also = { "dbagent.2", { service = "mailsvr.3", weight = 2, metadata = { zone = "eu" } } },
  routers = { router }, name = "first", weight = 5, metadata = { zone = "us" }, watch = "gamesvr",
  heartbeat = 1000, call_timeout = 2500, connect_timeout = 1000, drain_timeout = 1000, outbox_bytes = 1048576,
  handler_queue = 100,
})
check.holds(node:is_open())
check.equal(node:id(), "matchsvr.1")
check.returns({ n = 1, { "matchsvr.1", "dbagent.2", "mailsvr.3" } }, node:ids())

-- An id is a number as well, and without an instance one is assigned.
local second = check.node(83886082)
check.equal(second:id(), "matchsvr.2")
local assigned = check.node("gamesvr")
check.holds(assigned:id():find "^gamesvr%.%d+$", assigned:id())
assigned:close()

check.equal(node:register("matchsvr.7"), "matchsvr.7")
check.equal(node:register { service = "gamesvr.4", weight = 3 }, "gamesvr.4")
check.returns({ n = 1, { "matchsvr.1", "dbagent.2", "mailsvr.3", "matchsvr.7", "gamesvr.4" } }, node:ids())
check.fails("refused", "bakery", node:register "bakery.1")
check.fails("usage", "`service` is a service such as", node:register(true))
node.on.which = function() return "node" end
check.equal(second:call(switchboard.DIRECT "matchsvr.7", "which"), "node")
check.equal(node:unregister("matchsvr.7"), true)
check.fails("usage", "this node does not hold matchsvr.7", node:unregister("matchsvr.7"))
check.fails("no_route", "no route", second:call(switchboard.DIRECT "matchsvr.7", "which"))

-- A newer incarnation takes an id over.
local replaced, closed
second.on_replaced = function(ids) replaced = ids end
second.on_closed = function(reason) closed = reason end
local newer = check.node("matchsvr.2")
check.eventually("the older one closes", function() return closed and not second:is_open() end)
check.returns({ n = 1, { "matchsvr.2" } }, replaced)
check.holds(closed:find("newer incarnation", 1, true), closed)

check.equal(node:close(), true)
check.holds(not node:is_open())
check.returns({ n = 1, {} }, node:ids())
check.equal(node:id(), nil)
check.equal(node:stats(), nil)
check.fails("closed", "the node is closed", node:close())
check.fails("closed", "the node is closed", node:drain())
check.fails("closed", "the node is closed", node:forward(switchboard.MASTER, "matchsvr", "hello"))
check.fails("closed", "the node is closed", node:call(switchboard.MASTER, "matchsvr", "hello"))
check.fails("closed", "the node is closed", node:call_then(print, switchboard.MASTER, "matchsvr", "hello"))
check.fails("closed", "the node is closed", node:collect("matchsvr", "hello"))
check.fails("closed", "the node is closed", node:watch("matchsvr", print))
check.fails("closed", "the node is closed", node:register "matchsvr.8")
check.fails("closed", "the node is closed", node:unregister "matchsvr.1")
check.fails("closed", "the node is closed", node:set_load(1))
check.equal(node:epoch "matchsvr", nil)

newer:close()
check.done()
