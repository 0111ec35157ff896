-- A match maker, of which one is the master at a time: it pairs the players who wait.
--
--   lua-node matchsvr.lua --service matchsvr.1
local switchboard = require "switchboard"
local log, DIRECT, RANDOM = switchboard.log, switchboard.DIRECT, switchboard.RANDOM

node = node or assert(switchboard.connect {})
waiting = waiting or {}
matches = matches or 0

function node.on_promoted(epoch, class)
  log.info("master of", class, "in epoch", epoch)
end

function node.on_demoted(class)
  -- Somebody else has the office. Who waited here asks again.
  log.info("no longer master of", class)
  waiting = {}
end

-- Answered when the match is there: the handler waits, and others are handled meanwhile.
function node.on.join_match(from, player, mode)
  local other = waiting[mode]
  if other == nil then
    local ticket = { player = player }
    waiting[mode] = ticket
    for _ = 1, 200 do
      switchboard.sleep(10)
      if ticket.match then return ticket.match, ticket.opponent end
    end
    if waiting[mode] == ticket then waiting[mode] = nil end
    switchboard.fail("nobody", "nobody else wants to play " .. mode)
  end
  waiting[mode] = nil
  matches = matches + 1
  -- The epoch in front: a master after this one never gives the same number.
  local match = string.format("%d-%d", node:epoch("matchsvr") or 0, matches)
  other.match, other.opponent = match, player
  -- A node in Rust keeps the score.
  node:forward(RANDOM, "scoreboard", "played", match, { other.player, player })
  return match, other.player
end
