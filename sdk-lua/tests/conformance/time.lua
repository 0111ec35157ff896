-- Timers, and the turns in which a script works: wait, run, stop, and the descriptor for a loop of one's own.
local switchboard = require "switchboard"
local check = require "check"

check.holds(switchboard.time_ms() > 1.6e12)
local begun = switchboard.clock_ms()
check.equal(switchboard.sleep(20), true)
check.holds(switchboard.clock_ms() - begun >= 19.9, "it slept")

-- They go off by time, of one time in the order set, with what they were given.
local order = {}
switchboard.after(20, function(...) order[#order + 1] = select("#", ...) end, nil, nil)
switchboard.after(0, function(word) order[#order + 1] = word end, "first")
local id = switchboard.after(10, function() order[#order + 1] = "never" end)
check.equal(type(id), "number")
check.equal(switchboard.cancel(id), true)
check.equal(switchboard.cancel(id), false)
check.equal(switchboard.cancel(12345678), false)
check.equal(switchboard.cancel("x"), false)
check.equal(#order, 0, "not before a turn")
check.eventually("both", function() return #order == 2 end)
check.holds(check.is_same(order, { "first", 2 }))

-- Again and again, until cancelled, also from within.
local beats = 0
local beat
beat = switchboard.every(1, function(step)
  beats = beats + step
  if beats == 10 then check.equal(switchboard.cancel(beat), true) end
end, 2)
check.eventually("five beats", function() return beats == 10 end)
switchboard.sleep(10)
check.equal(beats, 10)

check.raises("a time is a number of milliseconds, not soon", switchboard.after, "soon", print)
check.raises("a time is a number of milliseconds, not -1", switchboard.after, -1, print)
check.raises("a time is a number of milliseconds, not nil", switchboard.sleep)
check.raises("a period is above 0 milliseconds", switchboard.every, 0, print)
check.raises("after takes a function, not a nil", switchboard.after, 1)
check.raises("every takes a function, not a string", switchboard.every, 1, "x")
check.raises("spawn takes a function, not a nil", switchboard.spawn)
check.raises("a time is a number of milliseconds, not long", switchboard.wait, "long")
local far = switchboard.after(1e300, print)
check.equal(switchboard.cancel(far), true)

-- Others go on while a coroutine sleeps; what was spawned runs at once, up to where it waits.
local steps = {}
switchboard.spawn(function(word)
  steps[#steps + 1] = word
  switchboard.sleep(5)
  steps[#steps + 1] = "slept"
end, "spawned")
steps[#steps + 1] = "main"
check.eventually("it slept", function() return #steps == 3 end)
check.holds(check.is_same(steps, { "spawned", "main", "slept" }))

-- `wait` hands over what there is, and says how much.
check.equal(switchboard.wait(0), 0)
begun = switchboard.clock_ms()
check.equal(switchboard.wait(15), 0)
check.holds(switchboard.clock_ms() - begun >= 14.9, "it waited")
local fired = 0
switchboard.after(0, function() fired = fired + 1 end)
switchboard.after(0, function() fired = fired + 1 end)
check.equal(switchboard.wait(1000), 2)
check.equal(fired, 2)
local complaint
switchboard.spawn(function() complaint = select(2, pcall(switchboard.wait, 0)) end)
check.holds(tostring(complaint):find("in a coroutine, use sleep", 1, true), tostring(complaint))
switchboard.spawn(function() complaint = select(2, pcall(switchboard.run)) end)
check.holds(tostring(complaint):find("run is for the main chunk", 1, true), tostring(complaint))

-- `run` ends when nothing can happen any more, or somebody says stop.
switchboard.run()
local last
switchboard.after(5, function() switchboard.after(5, function() last = true end) end)
switchboard.run()
check.equal(last, true)
local beating = switchboard.every(1, function() end)
switchboard.after(3, switchboard.stop)
switchboard.run()
check.equal(switchboard.cancel(beating), true)
local sleeper
switchboard.spawn(function() switchboard.sleep(5) sleeper = "slept" end)
switchboard.run()
check.equal(sleeper, "slept")

-- The same by way of a node.
local node = check.node("matchsvr.1")
local by_node = 0
check.equal(type(node:after(0, function() by_node = by_node + 1 end)), "number")
local ticking = node:every(1, function() by_node = by_node + 1 end)
check.equal(node:sleep(5), true)
check.holds(by_node >= 2)
check.equal(node:cancel(ticking), true)
check.equal(node:wait(0), 0)
node:after(1, switchboard.stop)
node:run()
check.equal(node:is_open(), true)

-- The descriptor can be read from while there is something to do.
local descriptor = switchboard.descriptor()
check.holds(descriptor > 2)
check.equal(switchboard.descriptor(), descriptor)
if jit then
  local ffi = require "ffi"
  ffi.cdef "struct pollfd { int fd; short events; short revents; }; int poll(struct pollfd *, unsigned long, int);"
  local function readable(millis)
    local fds = ffi.new("struct pollfd[1]", { { descriptor, 1, 0 } })
    return ffi.C.poll(fds, 1, millis) == 1
  end
  while switchboard.wait(0) > 0 do end
  check.holds(not readable(0), "nothing to do")
  node.on.echo = function(_, ...) return ... end
  local answer
  node:call_then(function(...) answer = ... end, switchboard.MASTER, "matchsvr", "echo", "polled")
  for _ = 1, 100 do
    if answer then break end
    check.holds(readable(10000), "something to do")
    switchboard.wait(0)
  end
  check.equal(answer, "polled")
  -- A timer that is due makes it readable as well.
  local rang
  switchboard.after(30, function() rang = true end)
  for _ = 1, 100 do
    if rang then break end
    check.holds(readable(10000), "a timer is due")
    switchboard.wait(0)
  end
  check.equal(rang, true)
end
node:close()
check.done()
