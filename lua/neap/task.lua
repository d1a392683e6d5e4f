--- Tasks: coroutines that wait, and the loop that wakes them.
---
--- A task that waits registers itself where it will be woken and gives control up; the loop
--- polls, resumes whoever is ready, and flushes what they wrote. Who registers itself clears
--- that when it goes on, whatever woke it; a wake-up that waits in the queue knows the number of
--- the wait that it is for, so that it finds out when it comes too late. All state is in this
--- file.
---
--- What a task costs while it waits is this table of four fields and a coroutine, whose stack
--- LuaJIT doubles when a C function is called with less than 20 of its 40 slots left. So whoever
--- is about to wait asks `coroutine.running` and `coroutine.isyieldable` where the stack is still
--- short, and nothing behind that calls a C function but through the FFI, which compiled code
--- does without a stack.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local collector = require("neap.collector")
local errors = require("neap.errors")
local log = require("neap.log")
local slice = require("neap.slice")
local view = require("neap.view")

local C = abi.C
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local running, status = coroutine.running, coroutine.status
local isyieldable = coroutine.isyieldable
local band = require("bit").band
local traceback = debug.traceback
local type, pcall, tostring, error = type, pcall, tostring, error
local keep_views = view.keep
local before_wait = function() end

local CANCELLED, TIMEOUT = C.NEAP_E_CANCELLED, C.NEAP_E_TIMEOUT
local DRAIN_SECONDS = 2
local AT_ONCE = 1024 -- tasks that go on before the loop looks at the system again
local ENDINGS = { C.neap_signal_number("INT"), C.neap_signal_number("TERM") }

local M = {}

--- A function that runs beside others, from `neap.spawn` on, until it returns or raises. Each
--- connection of a listener has one, and the script itself runs in one.
--- @class neap.Task
local Task = {}
Task.__index = Task
Task.__metatable = "neap.task"
Task.__tostring = function(self)
  local origin = self.kind.origin
  return "task" .. (origin and " spawned at " .. origin or "") .. (self.done and " (ended)" or "")
end

local loop = C.neap_loop_create()
if loop == nil then error("neap: the system has no memory, or no epoll, for the loop", 0) end
M.loop = loop

local entry = ffi.new("struct neap_ready")
local WAITING = {}       -- what a waiting task yields
local current            -- the task that runs; nil outside of all
local outside = { wait = 0 } -- waits outside of a task: the loop runs inside the call
local queue, first, last = {}, 1, 0 -- tasks to start or to wake in this turn …
local queue_waits = {}   -- … and the number of the wait that each is in, to wake it
local held_count = 0     -- timers that go off without a task that waits for them
local waiting_count = 0  -- tasks that gave control up and were not woken yet
local stopping = false
local failures = 0       -- tasks that ended in an error
local started            -- told of each task, if somebody asked

-- ---- the end of a task ----

local outside_counts = {} -- tasks that ended in a failure of the outside world, by its name

function errors.noted(message, name)
  if current then current.failure, current.failure_name = message, name end
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
  return traceback(task.co)
end

--- For xpcall, where the error is raised again: keeps the traceback for the task's end.
function M.note_error(err)
  if current and not (current.raised_at and rawequal(err, current.raised)) then
    current.raised, current.raised_at = err, (traceback("", 2):gsub("^\n", ""))
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
    return M.say(err)
  end
  failures = failures + 1
  log.limited("error", "a task ended in an error: " .. shown(err), {
    traceback = trace_of(task, err), serving = served(task),
    spawned_at = task.kind.origin,
  })
end

collector.on_error(function(err)
  log.limited("error", "a finalizer ended in an error: " .. shown(err))
end)

local wake_all

-- The number of a task's wait is odd while it waits.
local function waits(task)
  return band(task.wait, 1) == 1
end

local function finish(task, ok, result, second, third, fourth)
  local kind = task.kind
  if ok and status(task.co) ~= "dead" then
    ok, result = false, "coroutine.yield gave control to nobody: a task waits by calling "
      .. "what waits (conn:read, …); a coroutine of your own is resumed by you"
  end
  if not ok then
    if kind.on_error then
      kind.on_error(result, shown(result) .. "\n" .. trace_of(task, result), task)
    else report(task, result) end
  end
  task.done, task.ok, task.results = true, ok, { result, second, third, fourth }
  if kind.on_end then kind.on_end(task) end
  if kind.on_done then kind.on_done(task) end
  if task.joiners then wake_all(task.joiners) end
end

-- No vararg function: LuaJIT compiles no return from one that was resumed.
local function go(task, argument)
  local previous = current
  current = task
  local ok, result, second, third, fourth = resume(task.co, argument)
  if ok and result == WAITING then
    task.wait = task.wait + 1
    waiting_count = waiting_count + 1
  else
    finish(task, ok, result, second, third, fourth) -- a __tostring may run in it
  end
  current = previous
end

-- ---- waiting ----

-- C functions that call back, under the names that scripts know, and the way round each.
local SORT = "get what the comparison needs before you sort"
local LOOP = "use a for loop with pairs or ipairs"
local in_c = {
  [table.sort] = { "table.sort", SORT },
  [string.gsub] = { "string.gsub", "walk with string.gmatch or string.find, and put the result "
    .. "together yourself" },
  [require] = { "require", "let a function of the module do it, and call that afterwards" },
  [dofile] = { "dofile", "use assert(loadfile(path))() instead" },
  [load] = { "load", "read all of the text first" },
  [table.foreach] = { "table.foreach", LOOP }, [table.foreachi] = { "table.foreachi", LOOP },
}
local yields = { [pcall] = true, [xpcall] = true, [yield] = true }

-- The name of the innermost C function that a yield would have to leave, and the way round.
local function in_the_way()
  local level = 2
  local info = debug.getinfo(level, "Snf")
  while info do
    local known_one = in_c[info.func]
    if known_one then return known_one[1], known_one[2] end
    if info.what == "C" and not yields[info.func] then break end
    level = level + 1
    info = debug.getinfo(level, "Snf")
  end
  return info and info.name or "a C function", "call what waits before or after it"
end

local function cannot_wait()
  local name, way_round = in_the_way()
  check.raise(("neap: nothing can wait inside %s, which is C code that LuaJIT cannot leave and "
    .. "enter again: %s"):format(name, way_round))
end

--- The task that is about to wait; raises, with nothing done, where none can. Register it where
--- it shall be woken, let it wait, and clear that, whatever the outcome.
--- @param co thread? coroutine.running()
--- @param yieldable boolean coroutine.isyieldable()
function M.prepare(co, yieldable)
  local task = current or outside
  if co ~= task.co then
    if current and status(current.co) == "dead" then
      check.raise("neap: nothing can wait in the __tostring of an error")
    end
    check.raise("neap: a coroutine that the script made itself cannot wait: make it with "
      .. "neap.wrap, or start a task with neap.spawn")
  end
  if not yieldable and current then cannot_wait() end
  return task
end

local prepare = M.prepare

local turn

local in_turns = false -- the loop runs inside a wait that is outside of all tasks

-- ---- what ends waits early ----

-- A task's bounds are a chain, the innermost first: what lasts only so long (a deadline, a scope)
-- puts one around what runs in it. All waits inside end with the code of one that is over. A
-- shield lets nothing that is outside of it through, so that what cleans up can wait. What all
-- that comes to is in task.cut, the only field that a wait looks at: nil, the code, or true for a
-- cancel, which ends one wait only.
local function look_at_bounds(task)
  local bound, cut = task.bound, nil
  while bound do
    if bound.shield then
      task.cut = cut
      return
    end
    cut, bound = bound.over or cut, bound.outer
  end
  task.cut = task.cancelled or cut
end

--- From now on the running task is inside a bound: a table of the caller's, with `over` (a code)
--- or `shield` set, or neither. Leave it, whatever the outcome.
function M.enter(task, bound)
  bound.outer, task.bound = task.bound, bound
  if bound.shield or bound.over then look_at_bounds(task) end
end

function M.leave(task, bound)
  task.bound = bound.outer
  if task.cut or bound.shield then look_at_bounds(task) end
end

-- Who goes on once the loop has looked at what is ready, if it is in the same wait then.
local after_turn, after_turn_waits = {}, {}

local function go_on_after_turn(task)
  local count = #after_turn + 1
  after_turn[count], after_turn_waits[count] = task, task.wait + 1
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

local timers = {} -- by slot: a task that waits no longer, or what has an on_timer(itself)
local made_timer = ffi.new("struct neap_handle")

local function suspend_for(task, seconds)
  local code = C.neap_timer_set(loop, seconds, made_timer)
  if code < 0 then return code end
  local slot, gen = made_timer.slot, made_timer.gen
  timers[slot] = task
  code = task == outside and run_until_woken() or yield(WAITING)
  if timers[slot] == task then timers[slot] = false end -- the slot may be another's by now
  C.neap_timer_clear(slot, gen)
  return code
end

--- Calls timer.on_timer(timer) in so many seconds, outside of all tasks: it must not wait.
--- @return integer code 0, or NEAP_E_MEMORY
function M.set_timer(timer, seconds)
  local code = C.neap_timer_set(loop, seconds, made_timer)
  if code < 0 then return code end
  timer.slot, timer.gen = made_timer.slot, made_timer.gen
  timers[timer.slot] = timer
  return code
end

--- It shall not be called any more. Twice is harmless.
function M.clear_timer(timer)
  local slot = timer.slot
  if timers[slot] == timer then timers[slot] = false end
  C.neap_timer_clear(slot, timer.gen)
end

-- A wait of a task that was cut. A cancel is told once: what cleans up may wait. A bound that is
-- over stays so, and each wait gives way first: a loop that takes no notice shall stop no other.
local function cut_short(task, waited, registry, key)
  if task.cut == true then
    task.cancelled = nil
    look_at_bounds(task)
    if task == outside then -- by a stop or a signal
      outside.bound = nil -- who catches that on its way leaves what it has entered
      if registry then registry[key] = false end
      error("interrupted", 0)
    end
    local bound = task.bound
    while bound and not bound.shield do
      if bound.on_cancel then bound:on_cancel() end
      bound = bound.outer
    end
    return CANCELLED
  end
  local code = task.cut
  if not waited then
    go_on_after_turn(task)
    if task == outside then run_until_woken() else yield(WAITING) end
  end
  return code
end

--- Call something before a task waits. @param fn function
function M.before_wait(fn) before_wait = fn end

--- Give control up until somebody wakes the task, for so many seconds at most.
--- @param seconds? number
--- @param registry? table where the task is registered, under key: cleared if this raises
--- @return integer code 0, or NEAP_E_TIMEOUT, NEAP_E_CANCELLED, NEAP_E_MEMORY
function M.wait(task, seconds, registry, key)
  keep_views()
  before_wait()
  local code, waited = CANCELLED, false
  if not task.cut then
    waited = true
    if seconds then code = suspend_for(task, seconds)
    elseif task == outside then code = run_until_woken()
    else code = yield(WAITING) end
  end
  if task.cut then return (cut_short(task, waited, registry, key)) end
  return code
end

--- Wake a task, if it waits, with the code that its wait returns.
local function wake(task, code)
  if not waits(task) then return end
  task.wait = task.wait + 1
  if task == outside then
    outside.code = code
  else
    waiting_count = waiting_count - 1
    go(task, code)
  end
end

M.wake = wake

--- The same when the running task gives control up, if it still waits as it does now.
--- @param number? integer of another wait that it is for
function M.wake_later(task, number)
  if task == outside then -- which goes on when the turn ends
    if not number or number == task.wait then wake(task, 0) end
    return
  end
  last = last + 1
  queue[last], queue_waits[last] = task, number or task.wait
end

-- Who waits with others for something. A wait outside of all tasks may end with nobody to clear
-- its place: so the number of the wait stands beside it.
function wake_all(list)
  for i = 1, #list do
    M.wake_later(list[i].task, list[i].number)
    list[i] = nil
  end
end

M.wake_all = wake_all

--- Let a task, whose next wait that is, wait for the end of what has `joiners`: a task, a timer.
function M.join_in(ended, me)
  local list = ended.joiners
  if not list then
    list = {}
    ended.joiners = list
  end
  list[#list + 1] = { task = me, number = me.wait + 1 }
end

--- It no longer waits for that.
function M.part_from(ended, me)
  local list = ended.joiners
  for i = list and #list or 0, 1, -1 do
    if list[i].task == me then table.remove(list, i) end
  end
end

local function timer_fired(slot)
  local sleeper = timers[slot]
  if not sleeper then return end
  timers[slot] = false
  if sleeper.on_timer then sleeper:on_timer() else wake(sleeper, TIMEOUT) end
end

--- A bound of a task is over: whatever waits inside it ends with the code, now and from now on.
--- @param later? boolean the task goes on when the running one gives control up
function M.end_bound(task, bound, code, later)
  bound.over = code
  look_at_bounds(task)
  if not task.cut or not waits(task) then return end
  if later then M.wake_later(task) else wake(task, code) end
end

--- A cancel that came too late for the wait that told it is for the next one.
function M.cancel_again(task)
  task.cancelled = true
  look_at_bounds(task)
end

--- How many things other than tasks the loop shall go on for: timers of the script.
function M.hold(count) held_count = held_count + count end

--- Waits until the others have had a turn.
function M.next_turn()
  local me = prepare(running(), isyieldable())
  go_on_after_turn(me)
  return M.wait(me)
end

-- ---- the loop ----

local function origin_of(level)
  local info = debug.getinfo(level + 1, "Sl")
  return info and info.short_src .. ":" .. info.currentline or "?"
end

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
local signal_handlers = {} -- by number
local ending = function() stopping = true end

--- What a signal that ends the program does: fn(number), or neap.stop().
function M.on_ending(fn)
  ending = fn
end

handlers[SIGNAL] = function(number)
  local handler = signal_handlers[number]
  if handler then
    M.start(handler.fn, handler)
  else
    ending(number)
  end
end

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
  if what == TIMER then timer_fired(slot) end
  if band(what, OF_PROCESS) ~= 0 then handlers[what](slot) end
  return dispatch(left - 1)
end

-- What was not done this time moves to the front.
local function keep_rest()
  if first <= last / 2 then return end
  local count = last - first + 1
  for i = 1, count do
    queue[i], queue_waits[i] = queue[first + i - 1], queue_waits[first + i - 1]
  end
  for i = count + 1, last do queue[i] = false end
  first, last = 1, count
end

-- No more than AT_ONCE: tasks that wake each other for ever shall not keep the loop from turning.
local function start_queued()
  local enough = first + AT_ONCE
  while first <= last and first < enough do
    local task, wait = queue[first], queue_waits[first]
    queue[first] = false
    first = first + 1
    if wait then
      if task.wait == wait then wake(task, 0) end
    else
      local argument = task.argument
      if not task.kind.on_end then task.argument = nil end
      go(task, argument)
    end
  end
  if first <= last then return keep_rest() end
  first, last = 1, 0
end

local function queue_after_turn()
  for i = 1, #after_turn do
    local task = after_turn[i]
    if task.wait == after_turn_waits[i] then M.wake_later(task) end
    after_turn[i] = nil
  end
end

local function busy()
  return first <= last or #after_turn > 0 or waiting_count + held_count > 0
    or C.neap_loop_pending(loop) > 0
end

--- One turn: start what was spawned, wait, resume who is ready, write what they wrote.
function turn(block)
  start_queued()
  C.neap_loop_flush(loop)
  if before_poll then before_poll() end
  local idle = block and first > last and #after_turn == 0 and not stopping
  if in_turns then
    idle = idle and waits(outside)
  else
    idle = idle and busy()
  end
  local ready = C.neap_loop_poll(loop, idle and -1 or 0)
  dispatch(ready)
  if #after_turn > 0 then queue_after_turn() end
  start_queued()
  C.neap_loop_flush(loop)
  if C.neap_collector_due(true) then collector.step() end
  if C.neap_ledger_news() then on_forgotten() end
  slice.reclaim()
end

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
    M.say(("stopped with %d connections that had not taken all their bytes"):format(unsent))
  end
end

local catching = false -- the signals that end a program, since the loop runs

local function without_handler(number)
  local ends = number == ENDINGS[1] or number == ENDINGS[2]
  return catching and ends and C.NEAP_SIGNAL_ONCE or C.NEAP_SIGNAL_DEFAULT
end

-- The signals that end a program; a handler of the script's own stays.
function M.catch_endings(on)
  catching = on
  local how = on and C.NEAP_SIGNAL_ONCE or C.NEAP_SIGNAL_DEFAULT
  for i = 1, #ENDINGS do
    if not signal_handlers[ENDINGS[i]] then C.neap_loop_signal(loop, ENDINGS[i], how) end
  end
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
  local how = fn and C.NEAP_SIGNAL_CATCH or without_handler(number)
  if not number or C.neap_loop_signal(loop, number, how) < 0 then
    check.raise(("neap.on_signal: %s is no signal that a program can catch (write \"HUP\")")
      :format(tostring(signal_name)))
  end
  signal_handlers[number] = fn and { fn = fn, origin = origin_of(2) }
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
  if not current then M.run_until() end
end

--- Ends the loop after this turn: tasks that wait do not go on. What they wrote is still sent, if
--- the peers take it within 2 s.
function M.stop()
  stopping = true
end

-- ---- starting ----

--- A task that starts in this turn, with one argument. For the parts of neap.
--- @param kind table what such tasks share: on_end(task), which finds it in task.argument ·
--- on_error(err, traceback) · origin
function M.start(fn, kind, argument)
  local task = setmetatable({ co = create(fn), kind = kind, argument = argument, wait = 0 }, Task)
  if started then started(task) end
  last = last + 1
  queue[last], queue_waits[last] = task, false
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

--- Runs fn(...) in a task of its own, from this turn on. An error ends that task alone, and is
--- told in the log (neap.log).
--- @param fn function what the task does
--- @param ... any its arguments
--- @return neap.Task task
function M.spawn(fn, ...)
  if type(fn) ~= "function" then
    check.raise("neap.spawn: needs a function, got " .. type(fn))
  end
  return (M.start_with({ origin = origin_of(2) }, fn, ...))
end

local function check_task(self, name)
  if getmetatable(self) ~= "neap.task" then
    check.raise("task:" .. name .. ": called on " .. type(self) .. ", not on a task")
  end
end

-- Tasks that wait for each other would do so for ever.
local function check_no_circle(self)
  local other = self
  while other do
    if other == current then
      check.raise("task:join: a task cannot wait for itself" .. (other ~= self
        and ", nor for one that waits for it" or ""))
    end
    other = other.joining
  end
end

-- Only the end wakes with 0. (No loop around the wait: LuaJIT would give up on it for good.)
local function wait_for_end(self, me, seconds)
  M.join_in(self, me)
  me.joining = self
  local code = M.wait(me, seconds)
  me.joining = nil
  M.part_from(self, me)
  return code
end

--- Waits until the task has ended.
--- err: "error" (the task ended in one), "timeout", "cancelled" (the waiting task was), "memory"
--- @param seconds? number waits no longer than this; nil: for ever
--- @return any ... up to four results of its function; or nil, message, name
function Task:join(seconds)
  check_task(self, "join")
  if seconds ~= nil then check.seconds(seconds, "task:join: seconds") end
  if not self.done then
    check_no_circle(self)
    local code = wait_for_end(self, prepare(running(), isyieldable()), seconds)
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
  look_at_bounds(self)
  if self.cut and waits(self) then M.wake_later(self) end
end

--- Waits; other tasks run meanwhile.
--- err: "cancelled", "timeout" (of a deadline around it), "memory"
--- @param seconds number how long, from 0 to ten years
--- @return true|nil ok, string? message, string? name
function M.sleep(seconds)
  check.seconds(seconds, "neap.sleep: seconds")
  local me = prepare(running(), isyieldable())
  local code = M.wait(me, seconds)
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

--- How many tasks wait, and how many will go on in this turn or the next.
--- @return integer waiting, integer ready
function M.counts() return waiting_count, last - first + 1 + #after_turn end

--- How many tasks ended in an error of their own, and, by name, in one of the outside world.
--- @return integer own, table<string, integer> outside
function M.failures() return failures, outside_counts end
M.origin_of = origin_of
M.shown = shown

-- ---- for neap.testing ----

--- From now on fn(task) is called with every task that is made.
function M.on_start(fn) started = fn end

--- The running task, or what waits outside of all.
function M.running() return current or outside end

--- Let its wait, or the next one, end with "cancelled".
function M.interrupt(task)
  if task ~= outside then
    task:cancel()
  elseif waits(outside) then
    wake(outside, CANCELLED)
  end
end

--- Where a task waits, and where it comes from; nil when it has ended.
function M.whereabouts(task)
  if task.done then return nil end
  if task == outside then return "outside of all tasks" end
  local peer, origin = served(task), task.kind.origin
  return traceback(task.co, "a task that waits") .. (peer and "\nserving " .. peer or "")
    .. (origin and "\nspawned at " .. origin or "")
end

return abi.keep("neap.task", M)
