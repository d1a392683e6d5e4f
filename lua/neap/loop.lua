--- The loop: one turn after the other, until nothing is left to wait for, or until a stop.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local collector = require("neap.collector")
local errors = require("neap.errors")
local log = require("neap.log")
local slice = require("neap.slice")
local wait = require("neap.wait")

local C = abi.C
local band = require("bit").band
local loop, outside = wait.loop, wait.outside
local waits, run_queue, queue_after_turn = wait.waits, wait.run_queue, wait.queue_after_turn
local CUT_SECONDS = 0.1   -- for tasks that were cancelled by a stop, and …
local CLEANUP_SECONDS = 2 -- … for those that clean up
local LOOK_SECONDS = 0.01 -- between looks at what a stop waits for
local ENDINGS = { C.neap_signal_number("INT"), C.neap_signal_number("TERM") }

local M = {}

local entry = ffi.new("struct neap_ready")
local stopping = false
local default_seconds = 2  -- how long a stop lets run what runs
local stop_seconds = default_seconds
local winding = false      -- the end has begun, and the loop turns on
local hurry = false        -- a second stop came
local in_turns = false -- the loop runs inside a wait that is outside of all tasks

-- ---- a turn ----

local handlers = {} -- what to do with an entry, by enum neap_readiness
local before_poll
local on_forgotten = function() end

--- Calls fn() at the end of each turn in which the collector has found a slice that was forgotten.
function M.on_forgotten(fn) on_forgotten = fn end

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

local left = 0      -- entries of this turn that nobody has taken
local back = false  -- the last one was given back

-- Tail calls and no loop: with one busy connection a loop would be left at once, which LuaJIT
-- does not compile, and gives up on for good.
local function dispatch()
  if not back then
    if left == 0 or not C.neap_loop_next(loop, entry) then return end
    left = left - 1
  end
  back = false
  local slot, what = entry.slot, entry.what
  if what == READ then -- what nearly all are
    handlers[READ](slot)
    return dispatch()
  end
  if band(what, READ) ~= 0 then handlers[READ](slot) end
  if band(what, WRITE) ~= 0 then handlers[WRITE](slot) end
  if band(what, CONNECT) ~= 0 then handlers[CONNECT](slot) end
  if band(what, ACCEPT) ~= 0 then handlers[ACCEPT](slot) end
  if what == TIMER then wait.timer_fired(slot) end
  if band(what, OF_PROCESS) ~= 0 then handlers[what](slot) end
  return dispatch()
end

--- For whoever was woken for a connection that can be read: takes the next one of this turn, so
--- that many cost one switch between tasks.
--- @return integer|nil slot what is not for the caller it gives back
function M.next_readable()
  if left == 0 or back or not C.neap_loop_next(loop, entry) then return nil end
  left = left - 1
  if entry.what == READ then return entry.slot end
  back = true
  return nil
end

--- The entry that was taken last is somebody else's.
function M.give_back() back = true end

local function busy()
  return wait.queued() or wait.pending() > 0 or C.neap_loop_pending(loop) > 0
end

local POLLS_THAT_MAY_FAIL = 100 -- in a row: a second
local failed_polls = 0

local function poll_ended(ready)
  failed_polls = ready < 0 and failed_polls + 1 or 0
  if ready >= 0 then return end
  local message = "the system does not say who is ready: " .. errors.text(ready)
  if failed_polls > POLLS_THAT_MAY_FAIL then error("neap: " .. message, 0) end
  log.limited("warn", message)
end

-- (A function of its own, which is compiled from here on: nothing behind a resume is.)
local function end_turn()
  left = 0
  queue_after_turn()
  run_queue()
  C.neap_loop_flush(loop)
  if C.neap_collector_due(true) then collector.step() end
  if C.neap_ledger_news() then on_forgotten() end
  slice.reclaim()
end

--- One turn: start what was spawned, wait, resume who is ready, write what they wrote.
local function turn(block)
  run_queue()
  C.neap_loop_flush(loop)
  if before_poll then before_poll() end
  local idle = block and not wait.queued() and (winding or not stopping)
  if in_turns then
    idle = idle and waits(outside)
  else
    idle = idle and busy()
  end
  local ready = C.neap_loop_poll(loop, idle and -1 or 0)
  if ready < 0 or failed_polls > 0 then poll_ended(ready) end
  left = ready
  dispatch()
  return end_turn()
end

local function run_until_woken()
  in_turns, stopping = true, false
  outside.wait = outside.wait + 1
  while waits(outside) and not stopping do turn(true) end
  in_turns = false
  C.neap_guard_rest()
  if waits(outside) then wait.interrupt() end
  return outside.code
end

wait.on_outside(run_until_woken)

-- ---- signals ----

local signal_handlers = {} -- by number
local ending = function() M.stop() end

--- What a signal that ends the program does: fn(number), or neap.stop().
function M.on_ending(fn)
  ending = fn
end

handlers[SIGNAL] = function(number)
  local handler = signal_handlers[number] or ending
  handler(number)
end

local catching = false -- the signals that end a program, since the loop runs

local function without_handler(number)
  local ends = number == ENDINGS[1] or number == ENDINGS[2]
  return catching and ends and C.NEAP_SIGNAL_ONCE or C.NEAP_SIGNAL_DEFAULT
end

--- Catches the signals that end a program, or no longer; a handler of the script's own stays.
function M.catch_endings(on)
  catching = on
  local how = on and C.NEAP_SIGNAL_ONCE or C.NEAP_SIGNAL_DEFAULT
  for i = 1, #ENDINGS do
    if not signal_handlers[ENDINGS[i]] then C.neap_loop_signal(loop, ENDINGS[i], how) end
  end
end

--- Calls fn(number) when a signal comes, instead of what the system, or run(), does on it; nil: no
--- longer. Returns a negative code if it is none that can be caught.
function M.handle_signal(number, fn)
  local how = fn and C.NEAP_SIGNAL_CATCH or without_handler(number)
  local code = C.neap_loop_signal(loop, number, how)
  if code >= 0 then signal_handlers[number] = fn end
  return code
end

-- ---- the end ----
--
-- A stop has four parts: what serves finishes what runs, until the deadline; then all tasks are
-- cancelled, so that what cleans up can run; then what was written is sent; what was cut is told.

local parts = {} -- of neap that serve

--- A part of neap that serves says what runs. It has
---  - running(list): how many connections or messages have to be finished, idle ones left out; with
---    a list, also puts the names of some into it, three at most in all;
---  - track(), if it has tasks of a kind with on_end: calls task.track() for each that goes on;
---  - stop(): if it wants to be told that a stop begins, when nothing new is accepted any more.
function M.on_stop(part)
  parts[#parts + 1] = part
end

local function running_count(list)
  local count = 0
  for i = 1, #parts do count = count + parts[i].running(list) end
  return count
end

-- A timer that does nothing but end a poll.
local tick = { on_timer = function() end }

-- Turns the loop until some_left(), which is asked every LOOK_SECONDS, says that nothing is; or
-- until a time, or a second stop.
local function turn_until(over_at, some_left)
  while not hurry and some_left() do
    local now = C.neap_loop_now(loop)
    if now >= over_at then return end
    local look_at = math.min(over_at, now + LOOK_SECONDS)
    if wait.set_timer(tick, look_at - now) < 0 then return end
    repeat turn(true) until hurry or C.neap_loop_now(loop) >= look_at or not busy()
    wait.clear_timer(tick)
  end
end

local function plural(count, what)
  return ("%d %s%s"):format(count, what, count == 1 and "" or "s")
end

-- What does not end by itself is told to, and has a moment for it. What cleans up has longer.
local function cut()
  for i = 1, #parts do
    if parts[i].track then parts[i].track() end
  end
  wait.cancel_all()
  local moment = C.neap_loop_now(loop) + CUT_SECONDS
  turn_until(moment + CLEANUP_SECONDS, function()
    local count, cleaning = wait.left()
    return cleaning > 0 or count > 0 and C.neap_loop_now(loop) < moment
  end)
  local _, cleaning = wait.left()
  if cleaning > 0 then
    log.limited("warn", "stopped before " .. plural(cleaning, "task") .. " had cleaned up")
  end
end

-- What was written is sent, if the peers take it soon; no task goes on.
local function drain(over_at)
  C.neap_loop_flush(loop)
  while not hurry and C.neap_loop_unsent(loop) > 0 and C.neap_loop_now(loop) < over_at do
    for _ = 1, C.neap_loop_poll(loop, LOOK_SECONDS) do
      C.neap_loop_next(loop, entry)
      hurry = hurry or entry.what == SIGNAL
    end
    C.neap_loop_flush(loop)
  end
  local unsent = C.neap_loop_unsent(loop)
  if unsent > 0 then
    log.limited("warn", ("stopped before %s had taken all bytes"):format(
      plural(unsent, "connection")))
  end
end

local function tell_cut(seconds)
  local names = {}
  local count = running_count(names)
  if count == 0 then return end
  C.neap_net_count_cut(count)
  local more = count > #names and ", and others" or ""
  log.limited("warn", ("stopped in the middle of %s, after %g s: %s%s"):format(
    plural(count, "connection"), seconds, table.concat(names, ", "), more))
end

local function wind_up()
  C.neap_clock_thaw(loop)
  C.neap_loop_accept(loop, false)
  local seconds = stop_seconds
  local over_at = C.neap_loop_now(loop) + seconds
  winding, hurry = true, false
  for i = 1, #parts do
    if parts[i].stop then parts[i].stop() end
  end
  turn_until(over_at, function() return running_count() > 0 end)
  tell_cut(seconds)
  cut()
  drain(math.max(over_at, C.neap_loop_now(loop) + CUT_SECONDS))
  winding = false
  C.neap_loop_accept(loop, true)
end

-- ---- from run() to stop() ----

local function over(task)
  run_queue() -- the task may end in it, and then no turn shall wait
  return stopping or not busy() or task and task.done
end

--- Run the loop until a task has ended, until nothing is left to wait for, or until stop().
--- @param task? neap.Task
--- @return boolean stopped
function M.run_until(task)
  stopping = false
  M.catch_endings(true)
  while not over(task) do turn(true) end
  local stopped = stopping
  if stopped then wind_up() end
  M.catch_endings(false)
  C.neap_guard_rest()
  stopping = false
  return stopped
end

--- Runs the loop until nothing is left to wait for, or until stop(). Inside a task, such as a
--- script of the neap command, it does nothing: the loop runs anyway.
function M.run()
  if not wait.current() then M.run_until() end
end

--- How long a stop lets run what runs, if neap.stop() is not told.
function M.set_stop_seconds(seconds) default_seconds = seconds end

--- Ends the loop, as SIGINT and SIGTERM do: nothing is accepted any more, and the handlers of
--- connections have so many seconds to end. One that waits in a read of its connection is not
--- waited for, when nothing has come or gone for a quarter of a second and nothing is unread or
--- unsent; nor are tasks of the script's own, and timers. Then all tasks are cancelled: they have
--- a tenth of a second for what they do about it, and 2 s for what cleans up (`scope:defer`).
--- What was cut is told in the log. A second stop, or signal, waits for nothing. A wait outside
--- of all tasks ends at once, with the error "interrupted", and nothing else does.
--- @param seconds? number (2, or what --stop-timeout says)
function M.stop(seconds)
  check.seconds_or_nil(seconds, "neap.stop: seconds")
  if stopping then hurry = true end
  stopping, stop_seconds = true, seconds or default_seconds
end

--- Is a stop under way?
function M.is_ending() return winding end

return abi.keep("neap.loop", M)
