-- A database agent: one of two shards. A player's row is with the agent that the player's id leads to.
--
--   lua-node dbagent.lua --service dbagent.1
local switchboard = require "switchboard"

-- `x = x or ...` keeps what is there when this file is loaded again.
node = node or assert(switchboard.connect {})
rows = rows or {}

function node.on.load(from, player)
  local row = rows[player] or { level = 1, saves = 0 }
  return row.level, row.saves
end

function node.on.save(from, player, level)
  local row = rows[player]
  if not row then
    row = { saves = 0 }
    rows[player] = row
  end
  row.level, row.saves = level, row.saves + 1
end

-- Gold must not be taken twice. The caller says `idempotent`, so of a call that is sent again only the first
-- copy comes here.
function node.on.charge(from, player, gold)
  local row = rows[player] or { level = 1, saves = 0, gold = 100 }
  rows[player] = row
  row.gold = row.gold or 100
  if row.gold < gold then switchboard.fail("poor", "player " .. player .. " has " .. row.gold .. " gold") end
  row.gold = row.gold - gold
  return row.gold
end

function node.on.totals(from)
  local players, saves = 0, 0
  for _, row in pairs(rows) do
    players, saves = players + 1, saves + row.saves
  end
  return players, saves
end
