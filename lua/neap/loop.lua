--- The loop: one turn after the other, until nothing is left to wait for, or until a stop.

local ffi = require("ffi")
local abi = require("neap.abi")
local collector = require("neap.collector")
local log = require("neap.log")
local slice = require("neap.slice")
local wait = require("neap.wait")

local C = abi.C
local band = require("bit").band
local loop, outside = wait.loop, wait.outside
local waits, run_queue, queue_after_turn = wait.waits, wait.run_queue, wait.queue_after_turn
local CANCELLED = C.NEAP_E_CANCELLED
local DRAIN_SECONDS = 2
local ENDINGS = { C.neap_signal_number("INT"), C.neap_signal_number("TERM") }

local M = {}

local entry = ffi.new("struct neap_ready")
local stopping = false
local in_turns = false -- the loop runs inside a wait that is outside of all tasks

-- ---- a turn ----

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
-- Tail calls and no loop: with one busy connection a loop would be left at once, which LuaJIT
-- does not compile, and gives up on for good.
local function dispatch(left)
  if left == 0 or not C.neap_loop_next(loop, entry) then return end
  local slot, what = entry.slot, entry.what
  if what == READ then -- what nearly all are
    handlers[READ](slot)
    return dispatch(left - 1)
  end
  if band(what, READ) ~= 0 then handlers[READ](slot) end
  if band(what, WRITE) ~= 0 then handlers[WRITE](slot) end
  if band(what, CONNECT) ~= 0 then handlers[CONNECT](slot) end
  if band(what, ACCEPT) ~= 0 then handlers[ACCEPT](slot) end
  if what == TIMER then wait.timer_fired(slot) end
  if band(what, OF_PROCESS) ~= 0 then handlers[what](slot) end
  return dispatch(left - 1)
end

local function busy()
  return wait.queued() or wait.pending() > 0 or C.neap_loop_pending(loop) > 0
end

--- One turn: start what was spawned, wait, resume who is ready, write what they wrote.
local function turn(block)
  run_queue()
  C.neap_loop_flush(loop)
  if before_poll then before_poll() end
  local idle = block and not wait.queued() and not stopping
  if in_turns then
    idle = idle and waits(outside)
  else
    idle = idle and busy()
  end
  local ready = C.neap_loop_poll(loop, idle and -1 or 0)
  dispatch(ready)
  queue_after_turn()
  run_queue()
  C.neap_loop_flush(loop)
  if C.neap_collector_due(true) then collector.step() end
  slice.reclaim()
end

local function run_until_woken()
  in_turns, stopping = true, false
  outside.wait = outside.wait + 1
  while waits(outside) and not stopping do turn(true) end
  in_turns = false
  if waits(outside) then
    outside.wait, outside.cancelled, outside.cut = outside.wait + 1, true, true
    outside.code = CANCELLED
  end
  return outside.code
end

wait.on_outside(run_until_woken)

-- ---- signals ----

local signal_handlers = {} -- by number
local ending = function() stopping = true end

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

-- ---- from run() to stop() ----

-- After a stop no task goes on, but what they wrote is sent, if the peers take it soon.
local function drain()
  C.neap_clock_thaw(loop)
  C.neap_loop_flush(loop)
  local over = C.neap_loop_now(loop) + DRAIN_SECONDS
  while C.neap_loop_unsent(loop) > 0 and C.neap_loop_now(loop) < over do
    for _ = 1, C.neap_loop_poll(loop, 0.01) do
      C.neap_loop_next(loop, entry)
      if entry.what == SIGNAL then return end -- a second one is in a hurry
    end
    C.neap_loop_flush(loop)
  end
  local unsent = C.neap_loop_unsent(loop)
  if unsent > 0 then
    log.limited("warn",
      ("stopped with %d connections that had not taken all their bytes"):format(unsent))
  end
end

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
  if stopped then
    C.neap_loop_accept(loop, false) -- or who waits there would be reported at every turn
    drain()
    C.neap_loop_accept(loop, true)
  end
  M.catch_endings(false)
  stopping = false
  return stopped
end

--- Runs the loop until nothing is left to wait for, or until stop(). Inside a task, such as a
--- script of the neap command, it does nothing: the loop runs anyway.
function M.run()
  if not wait.current() then M.run_until() end
end

--- Ends the loop after this turn: tasks that wait do not go on. What they wrote is still sent, if
--- the peers take it within 2 s.
function M.stop()
  stopping = true
end

return abi.keep("neap.loop", M)
