--- Tasks: functions that run beside others, each in a coroutine, from their start to their end.
---
--- How they wait is in wait.lua, what turns in loop.lua; the parts of neap find all of it here.

local abi = require("neap.abi")
local check = require("neap.check")
local collector = require("neap.collector")
local errors = require("neap.errors")
local log = require("neap.log")
local loop = require("neap.loop")
local wait = require("neap.wait")

local C = abi.C
local running, isyieldable = coroutine.running, coroutine.isyieldable
local traceback = debug.traceback
local type, pcall, tostring = type, pcall, tostring
local setmetatable, getmetatable, select = setmetatable, getmetatable, select
local current, prepare, outside, waits = wait.current, wait.prepare, wait.outside, wait.waits
local without_work, begin_next = wait.without_work, wait.begin_next
local CANCELLED, TIMEOUT = C.NEAP_E_CANCELLED, C.NEAP_E_TIMEOUT

local M = {}
for name, value in pairs(wait) do M[name] = value end
for name, value in pairs(loop) do M[name] = value end

--- A function that runs beside others, from `neap.spawn` on, until it returns or raises. Each
--- connection of a listener has one, and the script itself runs in one.
--- @class neap.Task
local Task = {}
Task.__index = Task
Task.__metatable = "neap.task"
Task.__tostring = function(self)
  local origin = self.origin or self.kind.origin
  return "task" .. (origin and " spawned at " .. origin or "") .. (self.done and " (ended)" or "")
end

local failures = 0       -- tasks that ended in an error
local started            -- told of each task, if somebody asked

-- ---- the end of a task ----

local outside_counts = {} -- tasks that ended in a failure of the outside world, by its name

function errors.noted(message, name)
  local task = current()
  if task then task.failure, task.failure_name = message, name end
end

--- A line about the outside world, but not for a flood of them.
function M.say(text)
  log.limited("warn", text)
end

-- An error whose message is the very one that the task was told last is the outside world's
-- (`assert(conn:read(4))` when the peer has gone; LuaJIT's assert puts the place before it):
-- counted, a line, and no traceback.
local function is_outside(task, err)
  local failure = task.failure
  if not failure or type(err) ~= "string" or err:sub(-#failure) ~= failure then return false end
  local place = err:sub(1, -#failure - 1)
  return place == "" or place:find("^[^\n]*:%d+: $") ~= nil
end

-- An error may be any value, and one whose __tostring raises shall end no more than its task.
local function shown(err)
  local ok, text = pcall(tostring, err)
  return ok and type(text) == "string" and text or "an error that cannot be shown"
end

local function served(task)
  local conn = task.kind.on_end and task.argument
  return conn and conn.peer or nil
end

-- Where an error comes from. One that neap caught on its way and raised again was noted there.
local function trace_of(task, err)
  if task.raised_at and rawequal(err, task.raised) then return task.raised_at end
  return without_work(check.traceback(nil, task.co))
end

--- For xpcall, where the error is raised again: keeps the traceback for the task's end.
function M.note_error(err)
  local task = current()
  if task and not (task.raised_at and rawequal(err, task.raised)) then
    task.raised, task.raised_at = err, without_work(check.traceback())
  end
  return err
end

--- The name of the outside world's failure that an error of a task is, or nil.
function M.failure_of(task, err)
  return is_outside(task, err) and task.failure_name or nil
end

local function report(task, err)
  if is_outside(task, err) then
    local name = task.failure_name
    outside_counts[name] = (outside_counts[name] or 0) + 1
    if name ~= "cancelled" or not loop.is_ending() then M.say(err) end
    return
  end
  failures = failures + 1
  log.limited("error", "a task ended in an error: " .. shown(err), {
    traceback = trace_of(task, err), serving = served(task),
    spawned_at = task.origin or task.kind.origin,
  })
end

collector.on_error(function(err)
  log.limited("error", "a finalizer ended in an error: " .. shown(err))
end)

local function finish(task, ok, result, second, third, fourth)
  local kind = task.kind
  if ok == "yielded" then
    ok, result = false, "coroutine.yield gave control to nobody: a task waits by calling "
      .. "what waits (conn:read, …); a coroutine of your own is resumed by you"
  end
  if not ok then
    if kind.on_error then
      kind.on_error(result, shown(result) .. "\n" .. trace_of(task, result), task)
    else report(task, result) end
  end
  task.done = ok and true or "failed"
  if result ~= nil then task.result = result end
  if second ~= nil or third ~= nil or fourth ~= nil then task.more = { second, third, fourth } end
  if kind.on_end then kind.on_end(task) end
  if kind.on_done then kind.on_done(task) end
  if task.joiner or task.joiners then wait.wake_joiners(task) end
end

wait.on_end(finish)

-- ---- starting ----

-- The place of a call, above so many functions. The command has a function of its own for that,
-- which takes a sixth of the time.
local where = (package.loaded["neap.host"] or {}).where or function(level)
  local info = debug.getinfo(level + 1, "Sl")
  return info and info.short_src .. ":" .. info.currentline or "?"
end

--- A task that starts in this turn, with one argument. For the parts of neap.
--- @param kind table what such tasks share: on_end(task), which finds it in task.argument ·
--- on_error(err, traceback) · origin
function M.start(fn, kind, argument)
  local task = setmetatable({ co = fn, kind = kind, argument = argument, wait = 0 }, Task)
  if started then started(task) end
  wait.enqueue(task)
  return task
end

local function bind(fn, ...)
  local count, arguments = select("#", ...), { ... }
  return function() return fn(unpack(arguments, 1, count)) end
end

--- As M.start(), with any number of arguments.
function M.start_with(kind, fn, ...)
  if select("#", ...) > 1 then return M.start(bind(fn, ...), kind) end
  return M.start(fn, kind, (...))
end

local spawned = {} -- the kind of tasks that scripts start

-- All the fields that most will have, so that its table need not grow. (Called last by a function
-- with any number of arguments, whose frame is gone then: LuaJIT compiles no return from it.)
local function spawn(fn, argument)
  local task = setmetatable({ co = fn, kind = spawned, argument = argument, wait = 0,
    origin = where(2), done = false, joiner = false, result = nil }, Task)
  if started then started(task) end
  wait.enqueue(task)
  return task
end

--- Runs fn(...) in a task of its own, from this turn on. An error ends that task alone, and is
--- told in the log (neap.log).
--- @param fn function what the task does
--- @param ... any its arguments
--- @return neap.Task task
function M.spawn(fn, ...)
  if type(fn) ~= "function" then
    check.raise("neap.spawn: needs a function, got " .. type(fn))
  end
  if select("#", ...) > 1 then return spawn(bind(fn, ...)) end
  return spawn(fn, (...))
end

local function check_task(self, name)
  if getmetatable(self) ~= "neap.task" then
    check.raise("task:" .. name .. ": called on " .. type(self) .. ", not on a task")
  end
end

-- Tasks that wait for each other would do so for ever.
local function check_no_circle(self, me)
  local other = self
  while other do
    if other == me then
      check.raise("task:join: a task cannot wait for itself" .. (other ~= self
        and ", nor for one that waits for it" or ""))
    end
    other = other.joining
  end
end

-- Only the end wakes with 0. (No loop around the wait: LuaJIT would give up on it for good.)
local function wait_for_end(self, me, seconds)
  wait.join_in(self, me)
  local code = wait.wait(me, seconds)
  wait.part_from(self, me)
  return code
end

-- Returns 0 when it has ended, or why the wait for it did.
local function await(self, seconds)
  local me, code = current() or outside, 0
  if self == me or self.joining then check_no_circle(self, me) end
  me.joining = self
  if me.cut or me == outside or not begin_next(self) or not self.done then
    me.joining = false
    local co, yieldable = running(), isyieldable()
    prepare(co, yieldable)
    me.joining = self
    code = wait_for_end(self, me, seconds)
  end
  me.joining = false
  return code
end

--- Waits until the task has ended. One that would start next starts in here, at once.
--- err: "error" (the task ended in one), "timeout", "cancelled" (the waiting task was), "memory"
--- @param seconds? number waits no longer than this; nil: for ever
--- @return any ... up to four results of its function; or nil, message, name
function Task:join(seconds)
  check_task(self, "join")
  check.seconds_or_nil(seconds, "task:join: seconds")
  if not self.done then
    local code = await(self, seconds)
    if code < 0 then return errors.failure("task:join", code) end
  end
  if self.done == "failed" then
    return errors.fail("task:join: " .. shown(self.result), "error")
  end
  local more = self.more
  if not more then return self.result end
  return self.result, more[1], more[2], more[3]
end

--- Wakes the task's wait, or the next one, with "cancelled". A task that has ended stays so.
function Task:cancel()
  check_task(self, "cancel")
  if self.done then return end
  wait.cancel(self)
end

--- Waits; other tasks run meanwhile.
--- err: "cancelled", "timeout" (of a deadline around it), "memory"
--- @param seconds number how long, from 0 to ten years
--- @return true|nil ok, string? message, string? name
function M.sleep(seconds)
  check.seconds(seconds, "neap.sleep: seconds")
  local me = prepare(running(), isyieldable())
  local code = wait.wait(me, seconds)
  if code == TIMEOUT and not me.cut then return true end -- its own time, not a deadline's
  return errors.failure("sleep", code)
end

--- A function that runs fn in a task of its own each time it is called.
--- @param fn function what the tasks do, with the arguments of the call
--- @return fun(...): neap.Task wrapped
function M.wrap(fn)
  if type(fn) ~= "function" then
    check.raise("neap.wrap: needs a function, got " .. type(fn))
  end
  return function(...) return M.spawn(fn, ...) end
end

--- Runs fn in a task of its own each time that a signal comes, instead of what the system, or
--- run(), does on it; nil: no longer.
--- @param signal_name string|integer "HUP", "USR1", … or its number
--- @param fn? fun() runs in a task
function M.on_signal(signal_name, fn)
  local number = type(signal_name) == "number" and signal_name % 1 == 0 and signal_name
    or type(signal_name) == "string" and not signal_name:find("\0", 1, true)
    and C.neap_signal_number(signal_name)
  if fn ~= nil and type(fn) ~= "function" then
    check.raise("neap.on_signal: needs a function, or nil, got " .. type(fn))
  end
  local kind = fn and { origin = where(2) }
  local handler = fn and function() M.start(fn, kind) end or nil
  if not number or loop.handle_signal(number, handler) < 0 then
    check.raise(("neap.on_signal: %s is no signal that a program can catch (write \"HUP\")")
      :format(tostring(signal_name)))
  end
end

--- How many tasks ended in an error of their own, and, by name, in one of the outside world.
--- @return integer own, table<string, integer> outside
function M.failures() return failures, outside_counts end

M.origin_of = where
M.served = served

--- Where a task was started, if that is known.
function M.origin(task) return task.origin or task.kind.origin end

M.shown = shown

-- ---- for neap.testing ----

--- From now on fn(task) is called with every task that is made.
function M.on_start(fn) started = fn end

--- The running task, or what waits outside of all.
function M.running() return current() or outside end

--- Let its wait, or the next one, end with "cancelled".
function M.interrupt(task)
  if task ~= outside then
    task:cancel()
  elseif waits(outside) then
    wait.wake(outside, CANCELLED)
  end
end

--- Where a task waits, and where it comes from; nil when it has ended.
function M.whereabouts(task)
  if task.done then return nil end
  if task == outside then return "outside of all tasks" end
  local peer, origin = served(task), task.origin or task.kind.origin
  local trace = type(task.co) == "function" and "a task that has not begun"
    or without_work(traceback(task.co, "a task that waits"))
  return trace .. (peer and "\nserving " .. peer or "")
    .. (origin and "\nspawned at " .. origin or "")
end

return abi.keep("neap.task", M)

