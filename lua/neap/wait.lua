--- How a task waits, who goes on next, and what ends a wait early.
---
--- A task that waits registers itself where it will be woken and gives control up. Who registers
--- itself clears that when it goes on, whatever woke it; a wake-up that waits in the queue knows
--- the number of the wait that it is for, so that it finds out when it comes too late.
---
--- What a task costs while it waits is a table of four fields and a coroutine, whose stack
--- LuaJIT doubles when a C function is called with less than 20 of its 40 slots left. So whoever
--- is about to wait asks `coroutine.running` and `coroutine.isyieldable` where the stack is still
--- short, and nothing behind that calls a C function but through the FFI, which compiled code
--- does without a stack.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local view = require("neap.view")

local C = abi.C
local create, resume, yield = coroutine.create, coroutine.resume, coroutine.yield
local running, status = coroutine.running, coroutine.status
local isyieldable = coroutine.isyieldable
local band = require("bit").band
local keep_views = view.keep
local before_wait = function() end
local pcall, xpcall, error = pcall, xpcall, error

local CANCELLED, TIMEOUT = C.NEAP_E_CANCELLED, C.NEAP_E_TIMEOUT
local AT_ONCE = 1024 -- tasks that go on before the loop looks at the system again
local SPARES_MAX = 256 -- coroutines kept for tasks to come
local DEPTH_MAX = 16 -- tasks that start inside a join of one another

local M = {}

local loop = C.neap_loop_create()
if loop == nil then error("neap: the system has no memory, or no epoll, for the loop", 0) end
M.loop = loop

local WAITING, ENDED = {}, {} -- what a coroutine yields whose task waits, or has ended
local BEGIN = {}         -- what tells a coroutine that it is neap that resumes it
local spares, spare_count = {}, 0 -- coroutines whose task has ended
local beat = C.neap_guard_beat()
local alive = {}         -- tasks that have waited; a handler, if for more than its connection
local depth = 0          -- how many tasks the running one was started inside of
local current            -- the task that runs; nil outside of all
local outside = { wait = 0, kind = {} } -- waits outside of a task: the loop runs inside the call
local queue, first, last = {}, 1, 0 -- tasks to start or to wake in this turn …
local queue_waits = {}   -- … and the number of the wait that each is in, to wake it; false: start
local waiting_count = 0  -- tasks that gave control up and were not woken yet
local held_count = 0     -- timers that go off without a task that waits for them

-- What the files above this one do.
local finish            -- the end of a task: fn(task, ok, its results)
local run_until_woken   -- turns the loop until what waits outside of all tasks was woken

--- @param ends function what a task ends with: fn(task, ok, result, second, third, fourth)
function M.on_end(ends) finish = ends end

--- @param runs fun(): integer turns the loop, and returns the code of the wait
function M.on_outside(runs) run_until_woken = runs end

--- The running task, or nil.
function M.current() return current end

--- What waits outside of all tasks.
M.outside = outside

-- The number of a task's wait is odd while it waits.
local function waits(task)
  return band(task.wait, 1) == 1
end

M.waits = waits

-- ---- coroutines ----

-- What the coroutine of a task runs: one function after the other. But the handler of a connection
-- has a coroutine of its own: it waits most of its life, and a frame below its own would be beyond
-- the stack that a coroutine has at first (see above).
local work
local result, second, third, fourth -- of the task that ended last

-- A frame with nothing in it, so that what the last task held can be collected.
local function park() return work(yield(ENDED)) end

-- A script that kept the coroutine of a task that has ended can resume it: nothing happens.
local function ignore() return work(yield()) end

-- (No more than four results: LuaJIT would compile no return from a function that was resumed.)
function work(begin, fn, argument)
  if begin ~= BEGIN then return ignore() end
  result, second, third, fourth = fn(argument)
  return park()
end

--- Cuts off a traceback what all tasks have at its end.
function M.without_work(trace)
  return (trace:gsub("\n\t[^\n]*/neap/wait%.lua:%d+: in function <[^\n]*$", ""))
end

local function end_task(task, ok, what)
  local co = task.co
  if ok and what == ENDED then
    if spare_count < SPARES_MAX then
      spare_count = spare_count + 1
      spares[spare_count] = co
    end
    task.co = false
    local a, b, c, d = result, second, third, fourth
    result, second, third, fourth = nil, nil, nil, nil
    return finish(task, true, a, b, c, d)
  elseif ok and task.kind.on_end and status(co) == "dead" then
    task.co = false
    return finish(task, true)
  end
  -- a __tostring may run in it; that coroutine is not used again
  finish(task, ok and "yielded" or false, what)
  task.co = false
end

-- Not compiled, so that nothing behind a resume is. LuaJIT tells its recorder that a task has
-- raised at the next instruction that is interpreted; a trace that goes on behind the resume may
-- begin to record before that, and then the number of the one that ended names freed memory.
local function back() end
jit.off(back)

local function came_back(task, previous, ok, what)
  if ok and what == WAITING then
    task.wait = task.wait + 1
    waiting_count = waiting_count + 1
  else
    if alive[task] then alive[task] = nil end
    end_task(task, ok, what)
  end
  current = previous
end

local function go(task, code)
  local previous = current
  current, beat.count = task, beat.count + 1
  local ok, what = resume(task.co, code)
  back()
  return came_back(task, previous, ok, what)
end

--- Starts a task, at once and in here: until it waits or ends.
local function begin(task)
  local previous, fn, argument = current, task.co, task.argument
  if task.kind.on_end then
    task.co = create(fn)
    return go(task, argument)
  end
  task.argument = nil
  local co = spares[spare_count]
  if co then
    spares[spare_count], spare_count = false, spare_count - 1
  else
    co = create(work)
  end
  task.co, current, beat.count = co, task, beat.count + 1
  local ok, what = resume(co, BEGIN, fn, argument)
  back()
  if ok and what == WAITING then
    task.wait = task.wait + 1
    waiting_count = waiting_count + 1
    alive[task] = true
  else
    end_task(task, ok, what)
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

-- ---- what ends waits early ----

-- A task's bounds are a chain, the innermost first: what lasts only so long (a deadline, a scope)
-- puts one around what runs in it. All waits inside end with the code of one that is over. A
-- shield lets nothing that is outside of it through, so that what cleans up can wait. What all
-- that comes to is in task.cut, the only field that a wait looks at: nil, the code, or true for a
-- cancel, which ends one wait only. And it looks only if there ever was one: most programs wait
-- very often before that, and what is not in a table takes longest to look for.
local any_cut = false

local function look_at_bounds(task)
  local bound, cut = task.bound, nil
  while bound and not bound.shield do
    cut, bound = bound.over or cut, bound.outer
  end
  if not bound then cut = task.cancelled or cut end
  task.cut, any_cut = cut, any_cut or cut ~= nil
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

local timers = {} -- by slot: a task that waits no longer, or what has an on_timer(itself)
local timer_gens = {} -- by slot, of those that have
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
  local slot = made_timer.slot
  timer.slot, timers[slot], timer_gens[slot] = slot, timer, made_timer.gen
  return code
end

--- It shall not be called any more. Twice is harmless, and so is a slot that a script wrote.
function M.clear_timer(timer)
  local slot = timer.slot
  if timers[slot] ~= timer then return end
  timers[slot] = false
  C.neap_timer_clear(slot, timer_gens[slot])
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
  if not registry and task.kind.on_end then alive[task] = true end
  if not (any_cut and task.cut) then
    waited = true
    if seconds then code = suspend_for(task, seconds)
    elseif current then code = yield(WAITING)
    else code = run_until_woken() end
  end
  if any_cut and task.cut then return (cut_short(task, waited, registry, key)) end
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

--- Wakes all who wait for the end of something. A wait outside of all tasks may end with nobody to
--- clear its place: so the number of the wait stands beside it.
function M.wake_joiners(ended)
  local me, list = ended.joiner, ended.joiners
  if me then
    ended.joiner = false
    M.wake_later(me)
  end
  if not list then return end
  for i = 1, #list do
    M.wake_later(list[i].task, list[i].number)
    list[i] = nil
  end
end

--- Let a task, whose next wait that is, wait for the end of a task, or of a timer. Most have one
--- that does: only others need a list.
function M.join_in(ended, me)
  if not ended.joiner and me ~= outside then
    ended.joiner = me
    return
  end
  local list = ended.joiners
  if not list then
    list = {}
    ended.joiners = list
  end
  list[#list + 1] = { task = me, number = me.wait + 1 }
end

--- It no longer waits for that.
function M.part_from(ended, me)
  if ended.joiner == me then ended.joiner = false end
  local list = ended.joiners
  for i = list and #list or 0, 1, -1 do
    if list[i].task == me then table.remove(list, i) end
  end
end

--- A timer of a slot went off.
function M.timer_fired(slot)
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

--- A task's wait, or the next one, ends with "cancelled".
function M.cancel(task)
  task.cancelled = true
  look_at_bounds(task)
  if task.cut and waits(task) then M.wake_later(task) end
end

--- From now on cancel_all() knows that task, until it ends.
function M.track(task) alive[task] = true end

M.alive = alive

--- Cancels all tasks, but for handlers that wait for their connections.
function M.cancel_all()
  for task in pairs(alive) do M.cancel(task) end
end

local function is_cleaning_up(task)
  local bound = task.bound
  while bound and not bound.shield do bound = bound.outer end
  return bound ~= nil
end

--- How many tasks have waited and not ended, but for those handlers, and how many clean up.
function M.left()
  local count, cleaning = 0, 0
  for task in pairs(alive) do
    count = count + 1
    if is_cleaning_up(task) then cleaning = cleaning + 1 end
  end
  return count, cleaning
end

--- The wait outside of all tasks ends, as by a cancel.
function M.interrupt()
  outside.wait, outside.code = outside.wait + 1, CANCELLED
  M.cancel_again(outside)
end

--- A cancel that came too late for the wait that told it is for the next one.
function M.cancel_again(task)
  task.cancelled = true
  look_at_bounds(task)
end

--- Waits until the others have had a turn.
function M.next_turn()
  local me = prepare(running(), isyieldable())
  go_on_after_turn(me)
  return M.wait(me)
end

-- ---- who goes on ----

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

--- Starts and wakes who is in the queue. No more than AT_ONCE: tasks that wake each other for ever
--- shall not keep the loop from turning.
function M.run_queue()
  local enough = first + AT_ONCE
  while first <= last and first < enough do
    local task, number = queue[first], queue_waits[first]
    queue[first] = false
    first = first + 1
    if number then
      if task.wait == number then wake(task, 0) end
    else
      begin(task)
    end
  end
  if first <= last then return keep_rest() end
  first, last = 1, 0
end

--- Starts a task, inside the running one, if it is the next to start. Returns whether it did.
function M.begin_next(task)
  if queue[first] ~= task or queue_waits[first] or depth == DEPTH_MAX then return false end
  queue[first] = false
  first = first + 1
  if first > last then first, last = 1, 0 end
  depth = depth + 1
  begin(task)
  depth = depth - 1
  return true
end

--- Who let the others have a turn goes on now.
function M.queue_after_turn()
  for i = 1, #after_turn do
    local task = after_turn[i]
    if task.wait == after_turn_waits[i] then M.wake_later(task) end
    after_turn[i] = nil
  end
end

--- How many tasks wait, and how many will go on in this turn or the next.
--- @return integer waiting, integer ready
function M.counts() return waiting_count, last - first + 1 + #after_turn end

--- Is there somebody to start or to wake before the loop may wait?
function M.queued() return first <= last or #after_turn > 0 end

--- How many tasks and timers the loop goes on for.
function M.pending() return waiting_count + held_count end

--- A task starts in this turn.
function M.enqueue(task)
  last = last + 1
  queue[last], queue_waits[last] = task, false
end

--- How many things other than tasks the loop shall go on for: timers of the script.
function M.hold(count) held_count = held_count + count end

return abi.keep("neap.wait", M)
