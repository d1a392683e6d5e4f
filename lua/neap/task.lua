--- Tasks: coroutines that wait, and the loop that wakes them.
---
--- A task that waits registers itself where it will be woken and gives control up; the loop
--- polls, resumes whoever is ready, and flushes what they wrote. Every wait has a token, so a
--- wake-up that comes too late finds out. All state is in this file.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local slice = require("neap.slice")

local C = abi.C
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local running, status = coroutine.running, coroutine.status
local traceback = debug.traceback
local type, pcall, tostring = type, pcall, tostring

local CANCELLED = C.NEAP_E_CANCELLED
local DRAIN_SECONDS = 2

local M = {}
local Task = {}
Task.__index = Task
Task.__metatable = "neap.task"
Task.__tostring = function(self)
  return "task" .. (self.origin and " spawned at " .. self.origin or "")
    .. (self.done and " (ended)" or "")
end

local loop = C.neap_loop_create()
if loop == nil then error("neap: the system has no memory, or no epoll, for the loop", 0) end
M.loop = loop

local entry = ffi.new("struct neap_ready")
local WAITING = {}       -- what a waiting task yields
local current            -- the task that runs; nil outside of all
local outside = { token = 0 } -- waits outside of a task: the loop runs inside the call
local queue, first, last = {}, 1, 0 -- tasks to start or to wake in this turn
local waiting_count = 0  -- tasks that gave control up and were not woken yet
local stopping = false
local failures = 0       -- tasks that ended in an error

-- ---- the end of a task ----

local LINES_PER_SECOND = 10
local outside_counts = {} -- tasks that ended in a failure of the outside world, by its name
local line_second, lines, unsaid = 0, 0, 0

function errors.noted(message, name)
  if current then current.failure, current.failure_name = message, name end
end

local function origin_line(task)
  return task.origin and "\nspawned at " .. task.origin or ""
end

-- A line for each, but not for a flood of them.
local function say_line(text)
  local second = os.time()
  if second ~= line_second then line_second, lines = second, 0 end
  if lines >= LINES_PER_SECOND then
    unsaid = unsaid + 1
    return
  end
  lines = lines + 1
  local more = unsaid > 0 and (" (and %d more that were not shown)"):format(unsaid) or ""
  unsaid = 0
  io.stderr:write("neap: ", text, more, "\n")
end

M.say = say_line

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

local function report(task, err)
  if is_outside(task, err) then
    local name = task.failure_name
    outside_counts[name] = (outside_counts[name] or 0) + 1
    return say_line(err)
  end
  failures = failures + 1
  io.stderr:write("neap: a task ended in an error: ", traceback(task.co, shown(err)),
    origin_line(task), "\n")
end

local function finish(task, ok, result, second, third, fourth)
  if ok and status(task.co) ~= "dead" then
    ok, result = false, "coroutine.yield gave control to nobody: a task waits by calling "
      .. "what waits (conn:read, …); a coroutine of your own is resumed by you"
  end
  if not ok then
    if task.on_error then task.on_error(result, traceback(task.co, shown(result)))
    else report(task, result) end
  end
  task.done, task.ok, task.results = true, ok, { result, second, third, fourth }
  if task.on_end then task.on_end(task) end
  local joiners = task.joiners
  if not joiners then return end
  for i = 1, #joiners do M.wake_later(joiners[i].task, joiners[i].token) end
end

-- No vararg function: LuaJIT compiles no return from one that was resumed.
local function go(task, argument)
  local previous = current
  if task.waiting then waiting_count = waiting_count - 1 end
  current, task.running, task.waiting = task, true, false
  local ok, result, second, third, fourth = resume(task.co, argument)
  current, task.running = previous, false
  if ok and result == WAITING then
    task.waiting = true
    waiting_count = waiting_count + 1
  else
    finish(task, ok, result, second, third, fourth)
  end
end

-- ---- waiting ----

--- The task that is about to wait; register it, with its token, where it shall be woken.
function M.prepare()
  local task = current or outside
  if running() ~= task.co then
    check.raise("neap: a coroutine that the script made itself cannot wait: make it with "
      .. "neap.wrap, or start a task with neap.spawn")
  end
  task.token = task.token + 1
  return task, task.token
end

local turn

local function suspend(task)
  if task ~= outside then
    yield(WAITING)
    return
  end
  outside.woken, outside.waiting, stopping = false, true, false
  while not outside.woken and not stopping do turn(true) end
  outside.waiting = false
  outside.cancelled, outside.woken = not outside.woken, false
end

local timers = {} -- who sleeps until it fires, and with which token, by slot
local timer_tokens = {}
local made_timer = ffi.new("struct neap_handle")

local function suspend_for(task, seconds)
  local code = C.neap_timer_set(loop, seconds, made_timer)
  if code < 0 then return code end
  local slot, gen = made_timer.slot, made_timer.gen
  timers[slot], timer_tokens[slot] = task, task.token
  task.timed_out = false
  suspend(task)
  if task.timed_out then return C.NEAP_E_TIMEOUT end
  timers[slot] = false
  C.neap_timer_clear(slot, gen)
  return 0
end

--- Give control up until somebody wakes the task, for so many seconds at most.
--- @param seconds? number
--- @return integer code 0, or NEAP_E_TIMEOUT, NEAP_E_CANCELLED, NEAP_E_MEMORY
function M.wait(task, seconds)
  local code = 0
  if task.cancelled then code = CANCELLED
  elseif seconds then code = suspend_for(task, seconds)
  else suspend(task) end
  if task.cancelled then
    task.cancelled = false -- once: what cleans up may wait
    if task == outside then error("interrupted", 0) end -- by a stop or a signal
    return CANCELLED
  end
  return code
end

--- Wake a task, if it still waits with that token. (It may run meanwhile: a wait across a C
--- function, such as a comparator of table.sort, fails after it was registered.)
function M.wake(task, token)
  if task.token ~= token or task.done or task.running then return end
  if task == outside then
    outside.woken = true
  else
    go(task)
  end
end

--- The same, when the running task gives control up.
function M.wake_later(task, token)
  last = last + 1
  queue[last] = { task = task, token = token }
end

local function timer_fired(slot)
  local sleeper = timers[slot]
  if not sleeper then return end
  timers[slot] = false
  sleeper.timed_out = sleeper.token == timer_tokens[slot]
  M.wake(sleeper, timer_tokens[slot])
end

-- ---- the loop ----

local handlers = {} -- what to do with an entry, by enum neap_readiness
local before_poll

--- Register what a kind of readiness does. @param fn fun(slot: integer)
function M.on_ready(what, fn)
  handlers[what] = fn
end

--- Call something before each wait for the system. @param fn function|nil
function M.before_poll(fn)
  before_poll = fn
end

local READ, WRITE = C.NEAP_READY_READ, C.NEAP_READY_WRITE
local CONNECT, ACCEPT = C.NEAP_READY_CONNECT, C.NEAP_READY_ACCEPT
local SIGNAL, TIMER = C.NEAP_READY_SIGNAL, C.NEAP_READY_TIMER
local OF_PROCESS = SIGNAL + C.NEAP_READY_INPUT
local band = require("bit").band

handlers[SIGNAL] = function() stopping = true end

-- Tail calls and no loop: with one busy connection a loop would be left at once, which LuaJIT
-- does not compile, and gives up on for good.
local function dispatch(left)
  if left == 0 or not C.neap_loop_next(loop, entry) then return end
  local slot, what = entry.slot, entry.what
  if band(what, READ) ~= 0 then handlers[READ](slot) end
  if band(what, WRITE) ~= 0 then handlers[WRITE](slot) end
  if band(what, CONNECT) ~= 0 then handlers[CONNECT](slot) end
  if band(what, ACCEPT) ~= 0 then handlers[ACCEPT](slot) end
  if what == TIMER then timer_fired(slot) end
  if band(what, OF_PROCESS) ~= 0 then handlers[what](slot) end
  return dispatch(left - 1)
end

local function start_queued()
  while first <= last do
    local start = queue[first]
    queue[first] = nil
    first = first + 1
    if start.token then
      M.wake(start.task, start.token)
    else
      go(start.task, start.argument)
    end
  end
  first, last = 1, 0
end

local function busy()
  return first <= last or waiting_count > 0 or C.neap_loop_pending(loop) > 0
end

--- One turn: start what was spawned, wait, resume who is ready, write what they wrote.
function turn(block)
  start_queued()
  C.neap_loop_flush(loop)
  if before_poll then before_poll() end
  local idle = block and first > last and not stopping and not outside.woken
    and (outside.waiting or busy())
  local ready = C.neap_loop_poll(loop, idle and -1 or 0)
  dispatch(ready)
  start_queued()
  C.neap_loop_flush(loop)
  slice.reclaim()
end

-- After a stop no task goes on, but what they wrote is sent, if the peers take it soon.
local function drain()
  local over = C.neap_loop_now(loop) + DRAIN_SECONDS
  while C.neap_loop_unsent(loop) > 0 and C.neap_loop_now(loop) < over do
    C.neap_loop_flush(loop)
    for _ = 1, C.neap_loop_poll(loop, 0.01) do
      C.neap_loop_next(loop, entry)
      if entry.what == SIGNAL then return end -- a second one is in a hurry
    end
  end
  local unsent = C.neap_loop_unsent(loop)
  if unsent > 0 then
    say_line(("stopped with %d connections that had not taken all their bytes"):format(unsent))
  end
end

local function over(task)
  start_queued() -- the task may end in it, and then no turn shall wait
  return stopping or not busy() or task and task.done
end

--- Run the loop until a task has ended, until nothing is left to wait for, or until stop().
--- @param task? neap.Task
--- @return boolean stopped
function M.run_until(task)
  stopping = false
  C.neap_loop_catch_signals(loop, true)
  while not over(task) do turn(true) end
  local stopped = stopping
  if stopped then drain() end
  C.neap_loop_catch_signals(loop, false)
  stopping = false
  return stopped
end

--- Run the loop until nothing is left to wait for, or until stop(). Inside a task it does
--- nothing: the loop runs anyway.
function M.run()
  if not current then M.run_until() end
end

--- Make run() return after this turn.
function M.stop()
  stopping = true
end

-- ---- starting ----

local function origin_of(level)
  local info = debug.getinfo(level + 1, "Sl")
  return info and info.short_src .. ":" .. info.currentline or "?"
end

--- A task that starts in this turn, with one argument. For the parts of neap.
--- @param hooks table on_end(task), on_error(err, traceback), origin, conn
function M.start(fn, hooks, argument)
  local task = setmetatable({
    co = create(fn), token = 0, running = false, waiting = false,
    on_end = hooks.on_end, on_error = hooks.on_error, origin = hooks.origin, conn = hooks.conn,
  }, Task)
  last = last + 1
  queue[last] = { task = task, argument = argument }
  return task
end

local function bind(fn, ...)
  local count, arguments = select("#", ...), { ... }
  return function() return fn(unpack(arguments, 1, count)) end
end

--- Run fn(...) in a task of its own, from this turn on.
--- @return neap.Task task
function M.spawn(fn, ...)
  if type(fn) ~= "function" then
    check.raise("neap.spawn: needs a function, got " .. type(fn))
  end
  if select("#", ...) > 1 then return M.start(bind(fn, ...), { origin = origin_of(2) }) end
  return M.start(fn, { origin = origin_of(2) }, (...))
end

local function check_task(self, name)
  if getmetatable(self) ~= "neap.task" then
    check.raise("task:" .. name .. ": called on " .. type(self) .. ", not on a task")
  end
end

--- Waits until the task has ended, for so many seconds at most.
--- @param seconds? number
--- @return any results up to four that its function returned; or nil, message, name: "error"
--- when it ended in one, "timeout", "cancelled" (the waiting task was)
function Task:join(seconds)
  check_task(self, "join")
  if seconds ~= nil then check.seconds(seconds, "task:join: seconds") end
  if self == current then check.raise("task:join: a task cannot wait for itself") end
  while not self.done do
    local me, token = M.prepare()
    self.joiners = self.joiners or {}
    local joiners, joiner = self.joiners, { task = me, token = token }
    joiners[#joiners + 1] = joiner
    local code = M.wait(me, seconds)
    for i = #joiners, 1, -1 do
      if joiners[i] == joiner then table.remove(joiners, i) end
    end
    if code < 0 then return errors.failure("task:join", code) end
  end
  local results = self.results
  if not self.ok then return errors.fail("task:join: " .. shown(results[1]), "error") end
  return results[1], results[2], results[3], results[4]
end

--- Wakes the task's wait, or the next one, with "cancelled". A task that has ended stays so.
function Task:cancel()
  check_task(self, "cancel")
  if self.done then return end
  self.cancelled = true
  if self.waiting then M.wake_later(self, self.token) end
end

--- Waits so many seconds. @return true|nil ok, string? message, string? name
function M.sleep(seconds)
  check.seconds(seconds, "neap.sleep: seconds")
  local code = M.wait(M.prepare(), seconds)
  if code == C.NEAP_E_TIMEOUT then return true end
  return errors.failure("sleep", code)
end

--- A function that runs fn in a task of its own each time it is called.
function M.wrap(fn)
  if type(fn) ~= "function" then
    check.raise("neap.wrap: needs a function, got " .. type(fn))
  end
  return function(...) return M.spawn(fn, ...) end
end

--- How many tasks ended in an error of their own, and, by name, in one of the outside world.
--- @return integer own, table<string, integer> outside
function M.failures() return failures, outside_counts end
M.origin_of = origin_of
M.shown = shown

return abi.keep("neap.task", M)
