-- A game server: its players log in, play, pay, send mail, and at the end all is added up.
--
--   lua-node gamesvr.lua --service gamesvr.1 -- --players 20 --rounds 5
local switchboard = require "switchboard"
local MASTER, HASH, RANDOM = switchboard.MASTER, switchboard.HASH, switchboard.RANDOM

node = node or assert(switchboard.connect {})

local options = { players = 20, rounds = 5 }
for place = 1, #arg, 2 do
  options[arg[place]:gsub("^%-%-", "")] = tonumber(arg[place + 1])
end

local saves, mails, matches, failed = 0, 0, 0, 0

-- A failure is `nil, text, code`.
local function check(what, ...)
  local value, err, code = ...
  if value == nil and code then
    failed = failed + 1
    switchboard.log.error(what, err, code)
  end
  return ...
end

local function play(player)
  local name = "user-" .. player
  local dbagent = HASH(player)
  local level = check("load", node:call(dbagent, "dbagent", "load", player))
  if not level then return end
  for _ = 1, options.rounds do
    -- Who calls with `idempotent` may be asked to try again, and is charged once.
    local careful = node:with { idempotent = true, timeout = 5000 }
    check("charge", careful:call(dbagent, "dbagent", "charge", player, 10))
    local match, opponent = check("match", careful:call(MASTER, "matchsvr", "join_match", player, "ranked"))
    if match then
      matches = matches + 1
      level = level + 1
      assert(node:forward(dbagent, "dbagent", "save", player, level))
      saves = saves + 1
      assert(node:forward(HASH(name), "mailsvr", "send_mail", name, "you played " .. opponent))
      mails = mails + 1
    end
  end
end

function main()
  local players, first = 0, node:id():match("%d+$") * 1000
  for player = first + 1, first + options.players do
    players = players + 1
    node:spawn(function()
      local ok, why = pcall(play, player)
      if not ok then check("play", nil, why, "raised") end
      players = players - 1
    end)
  end
  while players > 0 do switchboard.sleep(10) end

  -- One-way messages are on their way still: asked until all are counted, or the time is over.
  local stored, delivered
  for _ = 1, 100 do
    stored, delivered = 0, 0
    for _, answer in ipairs(check("totals", node:collect("dbagent", "totals")) or {}) do
      stored = stored + answer[2]
    end
    for _, answer in ipairs(check("mails", node:collect("mailsvr", "mails")) or {}) do
      delivered = delivered + answer[1]
    end
    if stored >= saves and delivered >= mails then break end
    switchboard.sleep(20)
  end
  local played = check("scoreboard", node:call(RANDOM, "scoreboard", "count"))
  print(string.format("%s: %d matches, %d of %d saves, %d of %d mails, %s on the scoreboard, %d failed",
    node:id(), matches, stored, saves, delivered, mails, tostring(played), failed))
  if failed > 0 or stored < saves or delivered < mails then error("the account does not close") end
  quit()
end
