---@meta switchboard
-- The module for the Lua language server: add the directory of this file to `workspace.library`. Nothing runs it.
-- What can fail in the ordinary course of things returns nil, a text for people, a code for programs, and where there is
-- one a detail: the code of the remote handler, the reason of the router.

---A node for Lua 5.4 and LuaJIT. Waiting functions wait in a coroutine; in the main chunk they have others work meanwhile.
---@class switchboard
local switchboard = {}

---A failure's code.
---@alias switchboard.Code
---| "usage" # the arguments can't be meant as they are
---| "bad_value" # an argument cannot travel
---| "unknown_class" # no router knows the class
---| "too_large" # over the router's limit
---| "not_connected" # not sent: the node is reconnecting
---| "full" # not sent: too much waits for the router
---| "closed" # not sent: the node is closed
---| "unreachable" # no router can be reached
---| "no_route" # nobody is there; the detail is the router's reason
---| "refused" # the handler was not begun; the detail is no_method, bad_args, busy, or the router's reason
---| "remote" # the handler's error; the detail is its code
---| "timeout" # no answer in time
---| "outcome_unknown" # no answer will come
---| "decode" # the answer has no Lua value
---| "error" # something else

---How a message picks whom it goes to.
---@alias switchboard.Mode "master" | "random" | "broadcast" | "least_loaded" | switchboard.Hash | switchboard.Direct

---Made by `HASH`.
---@class switchboard.Hash
---@field hash integer | string

---Made by `DIRECT`.
---@class switchboard.Direct
---@field direct string | integer | switchboard.From

---What `connect` takes. Times are in milliseconds.
---@class switchboard.Options
---@field service? string | integer | switchboard.Service What the node offers: `"matchsvr.1"`, or `"matchsvr"` to have an instance assigned. In lua-node the command line says it as well.
---@field also? string | switchboard.Service | (string | switchboard.Service)[] More services.
---@field routers? string | string[] `host:port` or `unix:/path`; 127.0.0.1:2000 unless given.
---@field name? string For the router's log.
---@field token? string What proves who this is.
---@field weight? integer The share of RANDOM messages, 1 unless given.
---@field metadata? table<string, string> What watchers are told.
---@field watch? string | string[] Classes to watch from the start.
---@field heartbeat? number Between pings; the router's own unless given.
---@field call_timeout? number Until a call fails; 5000 unless given.
---@field connect_timeout? number For one router; 5000 unless given.
---@field drain_timeout? number How long `drain` waits; 10000 unless given.
---@field outbox_bytes? integer How much may wait for the router; 8 MiB unless given.
---@field handler_queue? integer How many messages may wait for handlers; 8192 unless given.
---@field handlers_waiting? integer How many handlers may wait for something at a time; 1024 unless given.

---A service with more to say of it.
---@class switchboard.Service
---@field service string
---@field weight? integer
---@field metadata? table<string, string>

---Connects a node, and waits for that with all of Lua. From then on it reconnects by itself.
---@param options switchboard.Options
---@return switchboard.Node? node
---@return string? text
---@return switchboard.Code? code
---@return string? detail
function switchboard.connect(options) end

---The version of the module.
---@type string
switchboard.version = nil

---To the master of a class.
---@type "master"
switchboard.MASTER = nil

---To any instance, by weight.
---@type "random"
switchboard.RANDOM = nil

---To all of a class but oneself; for `forward`.
---@type "broadcast"
switchboard.BROADCAST = nil

---To the instance that reports the least load.
---@type "least_loaded"
switchboard.LEAST_LOADED = nil

---To the instance that a key leads to: a whole number or a string. In LuaJIT an int64_t as well.
---@param key integer | string
---@return switchboard.Hash
function switchboard.HASH(key) end

---To one instance: by its name, its id, or as who sent a message. No class follows.
---@param id string | integer | switchboard.From
---@return switchboard.Direct
function switchboard.DIRECT(id) end

---Starts a coroutine, in which a function may wait; it runs at once, up to its first wait.
---@param fn fun(...)
---@param ... any what the function is called with
function switchboard.spawn(fn, ...) end

---How a message came.
---@class switchboard.Received
---@field mode "direct" | "master" | "hash" | "random" | "broadcast" | "least_loaded"
---@field key? integer where the mode is hash
---@field wants_reply boolean

---How the message came whose handler runs here; nil outside of handlers.
---@return switchboard.Received?
function switchboard.received() end

---Raises an error with a code for the caller, which is told it as the detail of `remote`. Nothing is logged. The codes
---busy, no_method, bad_args and outside_window say that no handler ran: they become `error`.
---@param code string
---@param text? string
function switchboard.fail(code, text) end

---Runs a function once, after so many milliseconds. Returns what `cancel` takes.
---@param millis number
---@param fn fun(...)
---@param ... any what the function is called with
---@return integer id
function switchboard.after(millis, fn, ...) end

---Runs a function each time so many milliseconds are over. What was missed is not caught up on.
---@param millis number
---@param fn fun(...)
---@param ... any what the function is called with
---@return integer id
function switchboard.every(millis, fn, ...) end

---Ends a timer; whether there was one.
---@param id integer
---@return boolean
function switchboard.cancel(id) end

---Waits so many milliseconds, while others work.
---@param millis number
---@return true
function switchboard.sleep(millis) end

---Hands over what has come, and waits for it up to so many milliseconds; without a number, for any time. For a loop of
---one's own, not for handlers.
---@param millis? number
---@return integer count how much it was; 0 when the time is over
function switchboard.wait(millis) end

---Works until `stop` is called, or nothing is left that could happen.
function switchboard.run() end

---Ends `run`.
function switchboard.stop() end

---A descriptor that can be read from while `wait(0)` has something to do. Not to be read by anybody.
---@return integer
function switchboard.descriptor() end

---Milliseconds since 1970.
---@return number
function switchboard.time_ms() end

---Milliseconds since the module was loaded; never jumps.
---@return number
function switchboard.clock_ms() end

---Has a table travel as an array although it is empty.
---@generic T: table
---@param value? T
---@return T
function switchboard.array(value) end

---Has a table travel as a map although it is empty, or its keys are 1..n.
---@generic T: table
---@param value? T
---@return T
function switchboard.map(value) end

---Has a string travel as binary although it is UTF-8.
---@param value string
---@return table
function switchboard.binary(value) end

---Nil where Lua would lose it: as a value of a map, at the end of an array. It arrives as nil.
---@type lightuserdata
switchboard.null = nil

---The node's own log. Values of any kind are joined by spaces.
switchboard.log = {}

---@param ... any
function switchboard.log.error(...) end

---@param ... any
function switchboard.log.warn(...) end

---@param ... any
function switchboard.log.info(...) end

---@param ... any
function switchboard.log.debug(...) end

---@param ... any
function switchboard.log.trace(...) end

---Who sent a message. The same sender is the same table, as long as somebody has it.
---@class switchboard.From
---@field name string such as `"gamesvr.2"`
---@field class string
---@field instance integer
---@field id integer

---What happened to a class that is watched. After `synced` all that was there has been told.
---@class switchboard.Change
---@field kind "joined" | "left" | "master" | "synced"
---@field id? string who joined or left, or is master now; nil where nobody is
---@field metadata? table<string, string> of who joined
---@field reason? string why it left
---@field epoch? integer of the master

---One node's answer to `collect`: its results at 1..n, or its failure.
---@class switchboard.Answer
---@field from string
---@field n? integer
---@field err? string
---@field code? switchboard.Code
---@field detail? string
---@field [integer] any

---What was counted of a method.
---@class switchboard.MethodStats
---@field direction "called" | "served"
---@field class string
---@field method string
---@field calls integer
---@field in_flight integer
---@field retries integer
---@field outcomes table<string, integer>
---@field messages table<string, integer>
---@field p50_ms number
---@field p99_ms number
---@field max_ms number

---What a node has counted, and what waits in it.
---@class switchboard.Stats
---@field methods switchboard.MethodStats[]
---@field open_calls integer
---@field handler_queue integer
---@field outbox_bytes integer
---@field window_calls integer
---@field routers integer

---What messages are sent with.
---@class switchboard.MessageOptions
---@field timeout? number of calls: milliseconds until they fail
---@field idempotent? boolean of calls: sent again until the timeout, and run once at each instance
---@field ttl? number of one-way messages: milliseconds that they may wait in the router
---@field droppable? boolean of one-way messages: first to go under pressure
---@field report? boolean of one-way messages: what can't be delivered is told in `on_undelivered`
---@field echo? boolean of broadcasts: to this node too

---A service that is connected.
---@class switchboard.Node
---@field on table<string, fun(from: switchboard.From, ...): ...> Handlers by method; what one returns is the answer.
---@field on_connected? fun(router: string, name: string, ids: string[]) A link is there.
---@field on_lost? fun(router: string, why: string, unsent: integer) A link is gone, with so many bytes that were not sent.
---@field on_promoted? fun(epoch: integer, class: string) This node is master of the class.
---@field on_demoted? fun(class: string) It is not any more.
---@field on_undelivered? fun(to: string, reason: string, key: integer?) A message with `report` did not arrive.
---@field on_overloaded? fun(messages: integer, replies: integer, expired: integer) So many were dropped.
---@field on_refused? fun(text: string, code: string) The router refuses something.
---@field on_replaced? fun(ids: string[]) A newer incarnation has these ids.
---@field on_missed? fun(count: integer) So many events came faster than they could be told.
---@field on_closed? fun(why: string) The node is closed.
local Node = {}

---Sends a message one way: mode, class (but for DIRECT), method, arguments.
---@param mode switchboard.Mode
---@param ... any
---@return true?
---@return string? text
---@return switchboard.Code? code
---@return string? detail
function Node:forward(mode, ...) end

---Calls, and waits for what the handler returns: mode, class (but for DIRECT), method, arguments.
---@param mode switchboard.Mode
---@param ... any
---@return any ... the results, or nil, text, code, detail
function Node:call(mode, ...) end

---Calls, and has a function called with what `call` would return.
---@param fn fun(...)
---@param mode switchboard.Mode
---@param ... any
---@return true?
---@return string? text
---@return switchboard.Code? code
---@return string? detail
function Node:call_then(fn, mode, ...) end

---Calls all of a class, and waits for their answers.
---@param class string | integer
---@param method string
---@param ... any
---@return switchboard.Answer[]? answers
---@return string[] | string | nil missing who has not answered; or the text of the failure
---@return switchboard.Code? code
---@return string? detail
function Node:collect(class, method, ...) end

---The same node, whose messages have these options besides those it has. Worth keeping if it is used often.
---@param options switchboard.MessageOptions
---@return switchboard.Node
function Node:with(options) end

---Has a function hear of each change of a class, those who are there first. Returns what ends that.
---@param class string | integer
---@param fn fun(change: switchboard.Change)
---@return fun()? stop
---@return string? text
---@return switchboard.Code? code
function Node:watch(class, fn) end

---Offers one more service, and waits for its name.
---@param service string | integer | switchboard.Service
---@return string? name
---@return string? text
---@return switchboard.Code? code
---@return string? detail
function Node:register(service) end

---Gives a service up.
---@param name string
---@return true?
---@return string? text
---@return switchboard.Code? code
---@return string? detail
function Node:unregister(name) end

---Closes the node at once; what was sent is written first.
---@return true?
---@return string? text
---@return switchboard.Code? code
function Node:close() end

---Has the node picked no more, finishes what it has begun, and closes it.
---@return true?
---@return string? text
---@return switchboard.Code? code
function Node:drain() end

---Says how busy this node is, for LEAST_LOADED: any number that means the same on all nodes of the class.
---@param load integer
---@return true?
---@return string? text
---@return switchboard.Code? code
function Node:set_load(load) end

---The name of the first service, such as `"matchsvr.1"`; nil when the node is closed.
---@return string?
function Node:id() end

---The names of all services.
---@return string[]
function Node:ids() end

---The epoch in which this node is master of a class; nil if it is not. To be asked anew each time.
---@param class string
---@return integer?
function Node:epoch(class) end

---What was counted; nil when the node is closed.
---@return switchboard.Stats?
function Node:stats() end

---Whether the node is not closed.
---@return boolean
function Node:is_open() end

---`switchboard.spawn`
---@param fn fun(...)
---@param ... any
function Node:spawn(fn, ...) end

---`switchboard.wait`
---@param millis? number
---@return integer count
function Node:wait(millis) end

---`switchboard.run`
function Node:run() end

---`switchboard.after`
---@param millis number
---@param fn fun(...)
---@param ... any
---@return integer id
function Node:after(millis, fn, ...) end

---`switchboard.every`
---@param millis number
---@param fn fun(...)
---@param ... any
---@return integer id
function Node:every(millis, fn, ...) end

---`switchboard.cancel`
---@param id integer
---@return boolean
function Node:cancel(id) end

---`switchboard.sleep`
---@param millis number
---@return true
function Node:sleep(millis) end

-- Only in lua-node ---------------------------------------------------------------------------------------

---Loads a file in an environment of its own over the globals, and returns that table; the second time, the same one.
---@param name string beside the file that imports, or beside the script
---@return table
function import(name) end

---Looks for imported files that have changed, and runs them again. Returns the names of those that were; nil and why, if one
---could not be.
---@return string[]? names
---@return string? text
function try_reload() end

---Has lua-node end: its nodes finish what they have begun.
function quit() end

return switchboard
