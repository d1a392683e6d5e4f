--- Time limits around anything, and functions that run later or again and again.
---
--- All of it follows the loop's clock, which never goes back, and which neap.testing can stop.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local task = require("neap.task")

local C = abi.C
local loop = task.loop
local TIMEOUT = C.NEAP_E_TIMEOUT
local LEAST_PERIOD = 0.001
local prepare, enter, leave = task.prepare, task.enter, task.leave
local set_timer, clear_timer, note_error = task.set_timer, task.clear_timer, task.note_error
local running = coroutine.running
local type, getmetatable, xpcall, error, ceil = type, getmetatable, xpcall, error, math.ceil

local M = {}

local function check_function(fn, what)
  if type(fn) ~= "function" then check.raise(what .. ": needs a function, got " .. type(fn)) end
end

-- ---- deadlines ----

local spare -- deadlines that nobody is in, chained by `outer`

local function deadline_over(deadline)
  task.end_bound(deadline.task, deadline, TIMEOUT)
end

local function take_deadline(me)
  local deadline = spare
  if deadline then
    spare = deadline.outer
  else
    deadline = { on_timer = deadline_over, slot = 0 }
  end
  deadline.task, deadline.over = me, false
  return deadline
end

local function give_deadline(deadline)
  deadline.task = false
  deadline.outer, spare = spare, deadline
end

-- What fn raised because its time was over is what the deadline is there for.
local function failed(me, err, over)
  if over and task.failure_of(me, err) == "timeout" then
    return errors.failure("neap.deadline", TIMEOUT)
  end
  return error(err, 0)
end

--- Runs fn, in this task. Once the time is over every call inside that would wait ends with
--- "timeout" (after one turn of the loop), until fn has returned; no bytes are lost by that. A
--- deadline inside another ends with it at the latest. It stops no function that does not wait,
--- and no task that fn started; the tasks of a scope inside it are cancelled.
--- err: "timeout" (fn raised it: `assert(conn:read(4))` when the time was over), "memory", or fn's
--- @param seconds number from now on; 0: nothing inside waits
--- @param fn function what shall not take longer
--- @return any ... up to four results of fn, whether or not the time is over; or nil, message, name
function M.deadline(seconds, fn)
  check.seconds(seconds, "neap.deadline: seconds")
  check_function(fn, "neap.deadline")
  local me = prepare(running(), true)
  local deadline = take_deadline(me)
  if seconds == 0 then
    deadline.over = TIMEOUT
  else
    local code = set_timer(deadline, seconds)
    if code < 0 then
      give_deadline(deadline)
      return errors.failure("neap.deadline", code)
    end
  end
  enter(me, deadline)
  local ok, result, second, third, fourth = xpcall(fn, note_error)
  if seconds > 0 then clear_timer(deadline) end
  leave(me, deadline)
  local over = deadline.over
  give_deadline(deadline)
  if ok then return result, second, third, fourth end
  return failed(me, result, over or me.cut == TIMEOUT)
end

-- ---- later ----

--- What `neap.after` and `neap.every` give.
--- @class neap.Timer
local Timer = {}

local function describe(self)
  return ("timer of %g s%s, made at %s"):format(self.period or self.seconds,
    self.ended and " (ended)" or "", self.origin)
end

local metatable = { __index = Timer, __metatable = "neap.timer", __tostring = describe }

local function finish(timer)
  if timer.ended then return end
  timer.ended = true
  if timer.armed then
    timer.armed = false
    clear_timer(timer)
    task.hold(-1)
  end
  timer.fn = nil
end

local function arm(timer, seconds)
  local code = set_timer(timer, seconds)
  if code < 0 then return code end
  timer.armed = true
  task.hold(1)
  return code
end

-- False: it was ended, but a script had written into it, so that the loop still had it.
local function went_off(timer)
  local armed = timer.armed
  if armed then
    timer.armed = false
    task.hold(-1)
  end
  return armed and not timer.ended
end

local function run_once(timer)
  if not went_off(timer) then return end
  local fn = timer.fn
  finish(timer)
  task.start(fn, timer)
  timer.fired = true
  task.wake_joiners(timer) -- who selects it
end

-- The beat after now: those that passed while the function ran are left out.
local function arm_next(timer)
  local now, period = C.neap_loop_now(loop), timer.period
  local due = timer.due + period
  if due <= now then due = due + period * ceil((now - due) / period) end
  timer.due = due
  local code = arm(timer, due > now and due - now or 0)
  if code < 0 then
    task.say(tostring(timer) .. " stops: " .. errors.text(code))
    finish(timer)
  end
end

local function ran(ended)
  local timer = ended.kind
  if not timer.ended then arm_next(timer) end
end

local function run_again(timer)
  if not went_off(timer) then return end
  task.start(timer.fn, timer)
end

local function new_timer(seconds, period, fn, on_timer)
  -- what runs is a task of this kind, so that its origin is told when it ends in an error
  return setmetatable({ seconds = seconds, period = period, fn = fn, on_timer = on_timer,
    slot = 0, armed = false, ended = false, origin = task.origin_of(3),
    on_done = period and ran or nil }, metatable)
end

--- Runs fn once, later, in a task of its own. The loop goes on until then.
--- err: "memory"
--- @param seconds number how much later
--- @param fn function what to run
--- @return neap.Timer|nil timer, string? message, string? name
function M.after(seconds, fn)
  check.seconds(seconds, "neap.after: seconds")
  check_function(fn, "neap.after")
  local timer = new_timer(seconds, nil, fn, run_once)
  local code = arm(timer, seconds)
  if code < 0 then return errors.failure("neap.after", code) end
  return timer
end

--- Runs fn again and again, in a task of its own each time, first after one period. It never runs
--- twice at once: a beat at which it still runs is left out, and the next one is a whole number of
--- periods after the start, so that the rhythm stays. An error ends that run only. The loop goes
--- on until the timer is cancelled.
--- err: "memory"
--- @param seconds number the period, at least 0.001
--- @param fn function what to run
--- @return neap.Timer|nil timer, string? message, string? name
function M.every(seconds, fn)
  check.seconds(seconds, "neap.every: seconds")
  if seconds < LEAST_PERIOD then
    check.raise(("neap.every: seconds must be at least %g, got %g"):format(LEAST_PERIOD, seconds))
  end
  check_function(fn, "neap.every")
  local timer = new_timer(nil, seconds, fn, run_again)
  timer.due = C.neap_loop_now(loop) + seconds
  local code = arm(timer, seconds)
  if code < 0 then return errors.failure("neap.every", code) end
  return timer
end

--- Runs its function no more; a run that has begun goes on. Twice is harmless.
function Timer:cancel()
  if getmetatable(self) ~= "neap.timer" then
    check.raise("timer:cancel: called on " .. type(self) .. ", not on a timer")
  end
  finish(self)
end

return abi.keep("neap.timer", M)
