-- The listening half of luna's surface: a router inside this process, the node 255.1 by which the process
-- itself is in it, and a stream for each guest. Called by lua/luna.lua, once for each socket_mgr that listens.
local module, natives, luna, state = ...

local unpack = table.unpack or unpack
local HOST, FIRST_ID = luna.HOST, luna.FIRST_ID

-- This process to itself: what a guest sent before it left has all been handed over.
local LEFT = "luna.left"
-- What comes from somebody who is not known yet waits so long, and so much of it.
local PATIENCE, MOST_HELD = 5000, 10000
local CLOSING = 2000
-- How often it is looked for an answer.
local ANSWER_MS = 1

local Host = {}
Host.__index = Host

local Listener = {}
Listener.__index = Listener

local Guest = {}
Guest.__index = Guest

-- Listening ----------------------------------------------------------------------------------------------

function Host:start(where, file)
  local house, text, code = natives.host(where, state.most, file)
  if not house then return nil, text, code end
  local number, why, how, detail = natives.connect({
    service = luna.GUEST .. ".1", routers = house:loopback(), name = "luna",
  })
  if not number then
    house:stop()
    return nil, why, how, detail
  end
  local node = luna.adopt(number)
  self.house, self.node, self.reporting = house, node, node:with({ report = true })
  self.name = node:id()
  node.on = setmetatable({}, {
    __index = function(_, msg)
      return function(from, ...) return self:take(msg, from, ...) end
    end,
  })
  node.on_closed = function() self.node = nil end
  node:watch(luna.GUEST, function(change)
    if change.id == self.name then return end
    if change.kind == "joined" then return self:joined(change.id, change.metadata) end
    if change.kind == "left" then return self:left(change.id, change.reason) end
  end)
  return house:address()
end

function Host:listen(where, file)
  local address, text, code, detail
  if not self.node then
    address, text, code, detail = self:start(where, file)
  elseif file then
    return nil, "this socket_mgr has a router already: its first listen takes the file", "usage"
  else
    address, text, code = self.house:open(where)
  end
  if not address then return nil, text, code, detail end
  local link = setmetatable({ host = self, address = address }, Listener)
  local listener = luna.facade(link, "listener", function() module.after(0, function() link:drop() end) end)
  listener.address = address
  listener.port = luna.tointeger(tonumber(address:match(":(%d+)$")))
  function listener.close() return link:drop() end
  self.listeners[#self.listeners + 1] = link
  return listener
end

-- The port closes; the streams that came through it stay.
function Listener:drop()
  if self.closed then return end
  self.closed = true
  local listeners = self.host.listeners
  for at = #listeners, 1, -1 do
    if listeners[at] == self then table.remove(listeners, at) end
  end
  self.host.house:close(self.address)
  module.after(0, function() self.host:rest() end)
end

-- Without a port and without streams there is nothing left to be here for. Streams that were closed have a
-- moment to hear of it.
function Host:rest(is_late)
  if #self.listeners > 0 or not self.node then return end
  for _, guest in pairs(self.guests) do
    if not guest.closed then return end
  end
  if next(self.guests) and not is_late then
    module.after(CLOSING, function() return self:rest(true) end)
    return
  end
  local node, house = self.node, self.house
  self.node = nil
  -- The router is there until the last word is out.
  module.spawn(function()
    node:close()
    house:stop()
  end)
end

-- Guests -------------------------------------------------------------------------------------------------

function Host:joined(name, metadata)
  local before = self.guests[name]
  if before then self:gone(before, "connected anew") end
  local guest = setmetatable({
    host = self, node = self.node, reporting = self.reporting, name = name, service = metadata.service,
    token = FIRST_ID + luna.tointeger(tonumber(name:match("%.(%d+)$"))),
  }, Guest)
  self.guests[name], self.tokens[guest.token] = guest, guest
  self.senders[name] = guest
  if guest.service then self.senders[guest.service] = guest end
  state.count = state.count + 1
  local stream = luna.facade(guest, "stream", luna.drop_soon)
  stream.token, stream.on = guest.token, {}
  function stream.call(msg, ...) return luna.say(guest, guest.token, msg, ...) end
  function stream.close() return guest:drop() end
  local listener = self:door(metadata.port)
  if listener then luna.fire(listener, "on_accept", stream) end
  return self:release(guest)
end

-- The listener that a guest came by, as far as it can be known.
function Host:door(port)
  for _, listener in ipairs(self.listeners) do
    if port and listener.address:match(":(%d+)$") == port then return listener end
  end
  return self.listeners[1]
end

-- The guest is gone, but some of what it sent may still be on its way to the script: this comes behind it.
function Host:left(name, reason)
  local guest = self.guests[name]
  if not guest then return end
  reason = reason == "unregistered" and "closed by the other end" or reason
  guest.reason = reason
  if not luna.say(self, HOST, LEFT, name) then return self:gone(guest, reason) end
end

function Host:gone(guest, reason)
  self.guests[guest.name], self.tokens[guest.token], self.senders[guest.name] = nil, nil, nil
  if guest.service and self.senders[guest.service] == guest then self.senders[guest.service] = nil end
  guest.node = nil
  if not guest.closed then luna.fire(guest, "on_error", reason) end
  guest:drop()
  return self:rest()
end

-- The guest is told, and goes.
function Guest:drop()
  if self.closed then return end
  if self.node then luna.say(self, self.token, luna.CLOSE) end
  self.closed = true
  state.count = state.count - 1
  return self.host:rest()
end

-- Messages -----------------------------------------------------------------------------------------------

function Host:take(msg, from, ...)
  if from.id == HOST then
    local guest = msg == LEFT and self.guests[(...)]
    if guest and guest.reason then self:gone(guest, guest.reason) end
    return
  end
  local guest = self.senders[from.name]
  if guest and not self.held[from.name] then return luna.receive(guest, msg, ...) end
  -- That it joined is told on another way than what it sends.
  local held = self.held[from.name]
  if self.count_held >= MOST_HELD then return module.fail("busy", "too much waits here") end
  if not held then
    held = {}
    self.held[from.name] = held
    module.after(PATIENCE, function() return self:refuse(from.name, held) end)
  end
  self.count_held = self.count_held + 1
  held[#held + 1] = { n = select("#", ...), msg = msg, ... }
end

-- Hands over what a guest sent before it was known.
function Host:release(guest)
  for _, name in ipairs({ guest.name, guest.service }) do
    local held = self.held[name]
    self.held[name] = nil
    for _, message in ipairs(held or {}) do
      self.count_held = self.count_held - 1
      module.spawn(luna.receive, guest, message.msg, unpack(message, 1, message.n))
    end
  end
end

function Host:refuse(name, held)
  if self.held[name] ~= held then return end
  self.held[name] = nil
  self.count_held = self.count_held - #held
  module.log.warn(#held .. " messages from " .. name .. " were dropped: it is not a stream of this process")
end

-- Routes -------------------------------------------------------------------------------------------------
--
-- A guest registers by itself what it is given, so that the router needs to know nothing of this. What is said
-- of one id is done in the order said.

function Host:route(id, token)
  local guest = token and token ~= 0 and self.tokens[token] or nil
  if token and token ~= 0 and not guest then
    return nil, "no stream of this socket_mgr has the token " .. tostring(token) .. ": it may be gone", "no_stream"
  end
  local line = self.lines[id]
  local job = { guest = guest, keep = token == 0 }
  if line then
    line[#line + 1] = job
    return true
  end
  self.lines[id] = { job }
  module.spawn(self.settle, self, id)
  return true
end

function Host:settle(id)
  local line = self.lines[id]
  while line[1] and self.node do
    local job = table.remove(line, 1)
    local holder = self.guests[self.holders[id]]
    if holder and holder ~= job.guest then self:ask(holder, luna.UNROUTE, id) end
    self.holders[id] = nil
    if job.guest then
      if self:ask(job.guest, luna.ROUTE, id) then self.holders[id] = job.guest.name end
    elseif job.keep then
      self.house:keep(id)
    else
      self.house:forget(id)
    end
  end
  self.lines[id] = nil
end

-- Waits for what a guest answers, but no longer than it is there.
function Host:ask(guest, what, id)
  if not self.node then return false end
  local done, text, code, is_answered
  local function answered(...)
    done, text, code = ...
    is_answered = true
  end
  local begun, why, why_code = self.node:call_then(answered, { direct = guest.token }, what, id)
  if not begun then answered(nil, why, why_code) end
  while not is_answered and guest.node do module.sleep(ANSWER_MS) end
  -- That it is gone is told to on_error.
  if guest.node and not done and code ~= "no_route" then
    module.log.error(string.format("mgr.route: %s of %d.%d with %s failed: %s", what, math.floor(id / 16777216),
      id % 16777216, guest.name, tostring(text)))
  end
  return done
end

return setmetatable({
  guests = {},       -- by the name of their ids
  tokens = {},       -- by token
  senders = {},      -- by the name that their messages come from
  holders = {},      -- the name of the guest that has an id
  lines = {},        -- by id: what is still to be done
  held = {},         -- by sender: messages of somebody who is not known yet
  count_held = 0,
  listeners = {},
}, Host)
