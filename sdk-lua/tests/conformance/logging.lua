-- The log of scripts: each level, with its place; values of any kind are joined by spaces.
--! log: ERROR ... an error 1 nil true
--! log: WARN ... a warning
--! log: INFO ... some information
--! log: logging.lua:12
--! log: DEBUG ... for who looks closer
--! log: TRACE ... for who looks closest
local switchboard = require "switchboard"
local check = require "check"

switchboard.log.error("an error", 1, nil, true)
switchboard.log.warn("a warning")
switchboard.log.info("some information")
switchboard.log.debug("for who looks closer")
switchboard.log.trace("for who looks closest")
switchboard.log.info()
switchboard.log.info("not UTF-8: \255")
check.equal(switchboard.log.loud, nil)
check.holds(true)
check.done()
