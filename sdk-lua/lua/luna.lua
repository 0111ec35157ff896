-- luna's surface over the module: `require "switchboard.luna"`. Works in Lua 5.4 and in LuaJIT.
-- A socket_mgr's streams are nodes of the router at the other end; lua/hosting.lua is what a socket_mgr that
-- listens has besides. `inner` is what the prelude keeps for itself, `natives` are the functions of src/bind/.
local module, inner, natives, open_host = ...

local find_global = function(name) return rawget(_G, name) end
local tointeger = math.tointeger or function(number) return number % 1 == 0 and number or nil end

local luna = { version = module.version }

-- Whoever listens is the instance 255.1 of its router, and each stream that connects is another of that class.
local CLASS = 255
local GUEST = tostring(CLASS)
local FIRST_ID = CLASS * 16777216
local HOST = FIRST_ID + 1

-- What the two ends of a stream say to each other besides what scripts do.
local ROUTE, UNROUTE, CLOSE = "luna.route", "luna.unroute", "luna.close"

-- The table of a node, which lua-node has leave with the others when the script ends.
local function adopt(number)
  local node = inner.adopt(number)
  if inner.adopted then inner.adopted(node) end
  return node
end

-- Streams ------------------------------------------------------------------------------------------------
--
-- The script holds the stream, and nobody else does: what keeps the connection is its link, which knows the
-- stream only weakly, and which the stream's guard ends when the stream is collected.

local WEAK = { __mode = "v" }

local function guard(finish)
  if newproxy then
    local proxy = newproxy(true)
    getmetatable(proxy).__gc = finish
    return proxy
  end
  return setmetatable({}, { __gc = finish })
end

-- The script's end of a link: a stream, or a listener. `collected` runs in the collector, maybe that of a
-- state which closes, so there is little that it may do.
local function facade(link, name, collected)
  local object = setmetatable({}, { __name = name, guard = guard(function() collected(link) end) })
  link.seat = setmetatable({ object = object }, WEAK)
  return object
end

-- In the next turn, outside of the collector.
local function drop_soon(link) module.after(0, function() link:drop() end) end

-- Calls what the script has set on a stream, if it has. It may wait, and an error in it is its own.
local function fire(link, name, ...)
  local object = link.seat.object
  local fn = object and object[name]
  if fn then module.spawn(fn, ...) end
end

-- Hands a message to the script. What it returns answers the message, if it was a call.
local function receive(link, msg, ...)
  if link.closed then return module.fail("closed", "the stream is closed") end
  local stream = link.seat.object
  local named = stream and type(stream.on) == "table" and stream.on[msg]
  if named then return named(...) end
  local fn = stream and (stream.on_recv or stream.on_call)
  if fn then return fn(msg, ...) end
  return module.fail("no_method", "nothing is set to take `" .. tostring(msg) .. "`: set on_recv on the stream")
end

local function not_connected(link)
  if link.closed then return nil, "the stream is closed", "closed" end
  return nil, "the stream is not connected", "not_connected"
end

-- An id as natives take it: LuaJIT's bit operations give negative numbers, and sums of floats are floats.
local function whole(number)
  if type(number) ~= "number" then return number end
  if number < 0 then number = number + 4294967296 end
  return tointeger(number) or number
end

-- The other end of a connection: what is sent there goes to one instance, and is reported if nobody is there.
local function say(link, id, msg, ...)
  if link.closed or not link.node then return not_connected(link) end
  return link.reporting:forward({ direct = id }, msg, ...)
end

local forwards = {}

function forwards.master(link, class, ...) return link.node:forward("master", whole(class), ...) end

function forwards.random(link, class, ...) return link.node:forward("random", whole(class), ...) end

function forwards.broadcast(link, class, ...) return link.node:forward("broadcast", whole(class), ...) end

function forwards.hash(link, class, key, ...)
  return link.node:forward({ hash = whole(key) }, whole(class), ...)
end

function forwards.target(link, id, ...) return link.node:forward({ direct = whole(id) }, ...) end

-- Connecting ---------------------------------------------------------------------------------------------

local Link = {}
Link.__index = Link

-- What is not worth another try: the router will say the same again.
local FINAL = {
  usage = true, version = true, unknown_class = true, invalid_id = true, outdated_incarnation = true,
  unauthorized = true, not_allowed = true, replaced = true,
}

local FIRST_PAUSE, LONGEST_PAUSE = 100, 5000

-- Once in each outage.
function Link:fail(why)
  if self.told or self.closed then return end
  self.told = true
  return fire(self, "on_error", why)
end

-- Ends the link without a word to the script.
function Link:drop()
  if self.closed then return end
  self.closed = true
  self.state.count = self.state.count - 1
  if self.node then natives.leave(self.node.number, false) end
end

function Link:connect()
  local pause = FIRST_PAUSE
  while not self.closed do
    local number, text, code, detail = inner.asked(natives.open, self.options)
    if number then
      if self.closed then return natives.leave(number, false) end
      return self:attach(adopt(number))
    end
    self:fail(text)
    if FINAL[detail] or FINAL[code] then return self:drop() end
    module.sleep(pause * (0.5 + math.random() / 2))
    pause = math.min(pause * 2, LONGEST_PAUSE)
  end
end

function Link:attach(node)
  self.node, self.reporting, self.routers = node, node:with({ report = true }), {}
  node.on = setmetatable({}, {
    __index = function(_, msg)
      return function(from, ...) return self:take(msg, from, ...) end
    end,
  })
  node.on_connected = function(router) return self:connected(router) end
  node.on_lost = function(router, why)
    self.routers[router] = nil
    if next(self.routers) == nil then return self:fail(why) end
  end
  node.on_refused = function(text)
    if next(self.routers) == nil then return self:fail(text) end
  end
  node.on_closed = function(reason)
    self.node = nil
    -- By stream.close, or with the script.
    if reason ~= "by this program" then self:fail(reason) end
    return self:drop()
  end
  node.on_undelivered = function(to, reason)
    if to == self.peer and not self.warned then
      self.warned = true
      module.log.warn("stream.call: nobody listens at the other end (" .. reason ..
        "): it is a router by itself, or its process is gone. To services, use forward")
    end
    return fire(self, "on_undelivered", to, reason)
  end
end

-- A link is up: the first one, or the one that ends an outage, is what the script waits for.
function Link:connected(router)
  local node, first = self.node, next(self.routers) == nil
  self.routers[router] = true
  if not first then return end
  if self.service and not self.guest then
    -- The first id is the one that messages come from. Where the router does not let guests in, there is
    -- nobody to call, and all else works.
    self.guest = node:register({ service = GUEST, metadata = self:metadata(node:id()) })
  end
  local guest = self.guest
  if not self.service then guest = node:id() end
  local class, instance = (guest or ""):match("^(.*)%.(%d+)$")
  self.peer = class and class .. ".1"
  local stream = self.seat.object
  if stream then stream.token = instance and FIRST_ID + tointeger(tonumber(instance)) end
  self.told = false
  if next(self.routers) then return fire(self, "on_connected") end
end

-- What whoever listens is told of a guest.
function Link:metadata(service)
  return { port = tostring(self.port), service = service }
end

local internal = {}

function internal.route(link, id)
  local name, text, _, detail = link.node:register(whole(id))
  if name or detail == "already_registered" then return true end
  return module.fail(detail or "refused", text)
end

function internal.unroute(link, id)
  link.node:unregister(string.format("%d.%d", math.floor(id / 16777216), id % 16777216))
  return true
end

function internal.close(link)
  link:fail("closed by the other end")
  return link:drop()
end

function Link:take(msg, from, ...)
  if from.id == HOST then
    if msg == ROUTE then return internal.route(self, ...) end
    if msg == UNROUTE then return internal.unroute(self, ...) end
    if msg == CLOSE then return internal.close(self) end
  end
  return receive(self, msg, ...)
end

local function address(ip, port)
  if type(ip) ~= "string" or ip == "" then error("an address is a text such as \"127.0.0.1\"", 3) end
  if ip:find("^unix:") then return ip end
  port = type(port) == "number" and tointeger(port)
  if not port or port < 0 or port > 65535 then error("a port is a whole number from 0 to 65535", 3) end
  if ip:find(":", 1, true) then ip = "[" .. ip .. "]" end
  return ip .. ":" .. string.format("%d", port)
end

-- What lua-node's command line says of nodes, but for where the router is: that the script says.
local function defaults()
  local options = {}
  for name, value in pairs(inner.defaults or {}) do options[name] = value end
  return options
end

local function connect(state, ip, port, service)
  local router = address(ip, port)
  if state.count >= state.most then
    return nil, "this socket_mgr has its " .. state.most .. " sockets", "full"
  end
  local options = defaults()
  if service == nil then service = options.service end
  service = whole(service or nil)
  state.count = state.count + 1
  local link = setmetatable({ state = state, port = port or 0, service = service, options = options }, Link)
  options.routers, options.service = router, service
  if not service then
    options.service, options.also, options.weight, options.metadata = GUEST, nil, nil, link:metadata(nil)
  end
  local stream = facade(link, "stream", drop_soon)
  stream.on = {}
  function stream.call(msg, ...) return say(link, HOST, msg, ...) end
  function stream.close() return link:drop() end
  for mode, send in pairs(forwards) do
    stream["forward_" .. mode] = function(...)
      if link.closed or not link.node then return not_connected(link) end
      return send(link, ...)
    end
  end
  function stream.forward(mode, ...)
    local send = forwards[mode]
    if not send then
      error(tostring(mode) .. " is not a mode: there are master, random, hash, broadcast and target", 2)
    end
    if link.closed or not link.node then return not_connected(link) end
    return send(link, ...)
  end
  -- In a coroutine, and after the script has had a chance to set what it wants to hear.
  module.after(0, function() return link:connect() end)
  return stream
end

-- The socket_mgr -----------------------------------------------------------------------------------------

local NO_HOST = "mgr.route is for the process that listens, since its router has the table: call mgr.listen first"

local hosting = {
  adopt = adopt, facade = facade, drop_soon = drop_soon, fire = fire, receive = receive, say = say, whole = whole, address = address,
  tointeger = tointeger, HOST = HOST, FIRST_ID = FIRST_ID, GUEST = GUEST, ROUTE = ROUTE, UNROUTE = UNROUTE, CLOSE = CLOSE,
}

-- `most` is how many sockets it may have.
function luna.create_socket_mgr(most)
  if most ~= nil and (type(most) ~= "number" or most < 1) then
    error("create_socket_mgr takes the most sockets that it may have, 1 or more, not " .. tostring(most), 2)
  end
  local state = { count = 0, most = most and tointeger(most) or 1000000 }
  local mgr = {}

  -- Hands over what has come, waiting for it up to so many milliseconds.
  function mgr.wait(millis) return module.wait(millis) end

  function mgr.connect(ip, port, service) return connect(state, ip, port, service) end

  -- `file` is a router's configuration, for the policies and the names of classes.
  function mgr.listen(ip, port, file)
    local where = address(ip, port)
    if not natives.host then return nil, "this library was built without the router", "unsupported" end
    if not (state.host and state.host.node) then
      state.host = open_host(module, natives, hosting, state)
    end
    return state.host:listen(where, file)
  end

  -- The stream with this token has the service id from now on; 0: nobody has, and its slot stays; nil: the
  -- slot goes as well.
  function mgr.route(service_id, token)
    local host = state.host
    if not (host and host.node) then error(NO_HOST, 2) end
    local id, text = host.house:id(whole(service_id))
    if not id then error("mgr.route: " .. text, 2) end
    return host:route(id, whole(token))
  end

  return mgr
end

-- What luna has besides ----------------------------------------------------------------------------------

function luna.get_time_ms() return tointeger(math.floor(module.time_ms())) end

function luna.get_time_ns() return tointeger(math.floor(module.clock_ms() * 1000000)) end

-- The whole thread sleeps, as luna's does; `switchboard.sleep` lets others work.
function luna.sleep_ms(millis) return natives.pause(millis) end

function luna.try_reload()
  local reload = find_global("try_reload")
  if reload then return reload() end
  return nil, "files are loaded again by lua-node, which does not run this program", "unsupported"
end

-- 0 until the program is told to stop.
function luna.get_quit_signal()
  local flag = find_global("luna_quit_flag")
  if type(flag) == "number" then return flag end
  return flag and 15 or 0
end

luna.get_guit_signal = luna.get_quit_signal

-- Has the script's file run, and then its on_loop again and again until the program is told to stop.
function luna.luna_entry(entry_file)
  local import = find_global("import")
  if not import then error("luna_entry needs `import`, which lua-node has", 2) end
  local entry, looked = import(entry_file), module.clock_ms()
  while not find_global("luna_quit_flag") do
    if entry.on_loop then entry.on_loop() else module.wait(50) end
    if module.clock_ms() - looked >= 3000 then
      looked = module.clock_ms()
      luna.try_reload()
    end
  end
end

-- luna's globals, where the program has no others of these names.
luna.master, luna.random, luna.hash, luna.broadcast, luna.target =
  "master", "random", "hash", "broadcast", "target"
for _, name in ipairs({
  "create_socket_mgr", "luna_entry", "master", "random", "hash", "broadcast", "target",
}) do
  if find_global(name) == nil then rawset(_G, name, luna[name]) end
end
if find_global("luna") == nil then rawset(_G, "luna", luna) end

return luna
