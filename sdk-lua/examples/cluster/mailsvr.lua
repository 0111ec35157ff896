-- A mail server, picked by the name of the user.
--
--   lua-node mailsvr.lua --service mailsvr.1
local switchboard = require "switchboard"

node = node or assert(switchboard.connect {})
inboxes = inboxes or {}

function node.on.send_mail(from, user, text)
  local inbox = inboxes[user]
  if not inbox then
    inbox = switchboard.array {}
    inboxes[user] = inbox
  end
  inbox[#inbox + 1] = { from = from.name, text = text }
end

function node.on.inbox(from, user)
  return inboxes[user] or switchboard.array {}
end

function node.on.mails(from)
  local count = 0
  for _, inbox in pairs(inboxes) do count = count + #inbox end
  return count
end
