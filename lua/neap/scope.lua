--- Scopes: tasks that cannot outlive the call that they were started in.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local task = require("neap.task")

local C = abi.C
local CANCELLED, TIMEOUT = C.NEAP_E_CANCELLED, C.NEAP_E_TIMEOUT
local CLEANUP_SECONDS = 2 -- for what scope:defer() was given; and between cancels of a task
local prepare, wait, enter, leave = task.prepare, task.wait, task.enter, task.leave
local note_error, shown = task.note_error, task.shown
local running, isyieldable = coroutine.running, coroutine.isyieldable
local type, getmetatable, xpcall, error = type, getmetatable, xpcall, error

local M = {}

--- What the function of `neap.scope` is given: it starts tasks, and knows what to clean up.
--- @class neap.Scope
local Scope = {}

local metatable = { __index = Scope, __metatable = "neap.scope", __tostring = function(self)
  return ("scope of %d tasks%s"):format(self.count, self.closing == "ended" and " (ended)" or "")
end }

-- ---- its tasks ----

local function cancel_all(scope)
  scope.cancelled = true
  for i = 1, scope.count do scope[i]:cancel() end
end

-- The first error is raised in the end, as if the owner had: with the place where it was raised,
-- and what the task that raised it was told last. It ends the waits of all the others.
local function note(scope, err, raiser, trace)
  local found = scope.errors
  if not found then
    scope.errors = { err, trace = trace, failure = task.failure_of(raiser, err) and raiser.failure,
      failure_name = raiser.failure_name }
  else
    found[#found + 1] = err
  end
  cancel_all(scope)
end

-- A task that was told to end, and ends by raising just that, is no error.
local function is_obedient(scope, child, err)
  return scope.cancelled and task.failure_of(child, err) == "cancelled"
end

local function child_failed(err, trace, child)
  local scope = child.kind
  if is_obedient(scope, child, err) then return end
  note(scope, err, child, trace:match("\n(stack traceback:.*)$") or trace)
  if not scope.closing then task.end_bound(scope.owner, scope, CANCELLED, true) end
end

local function child_done(child)
  local scope = child.kind
  local count, place = scope.count, child.place
  local last = scope[count]
  scope[place], last.place = last, place
  scope[count], scope.count = nil, count - 1
  if count == 1 and scope.closing then task.wake_later(scope.owner) end
end

local function check_scope(self, name)
  if getmetatable(self) ~= "neap.scope" then
    check.raise("scope:" .. name .. ": called on " .. type(self) .. ", not on a scope")
  end
  if self.closing == "ended" then check.raise("scope:" .. name .. ": the scope has ended") end
end

local function check_function(fn, what)
  if type(fn) ~= "function" then check.raise(what .. ": needs a function, got " .. type(fn)) end
end

--- Runs fn(...) in a task of its own, as `neap.spawn` does; the scope does not end before it. An
--- error of it is the scope's. In a scope that is cancelled its first wait is, too.
--- @param fn function what the task does
--- @param ... any its arguments
--- @return neap.Task task
function Scope:spawn(fn, ...)
  check_scope(self, "spawn")
  check_function(fn, "scope:spawn")
  if self.closing and self.count == 0 then check.raise("scope:spawn: the scope has ended") end
  local child = task.start_with(self, fn, ...)
  local place = self.count + 1
  self[place], self.count, child.place = child, place, place
  if self.cancelled then child:cancel() end
  return child
end

--- Runs fn when the scope's tasks have ended, whatever the outcome; the last one given is the first
--- to run. It may wait: no cancel and no deadline from outside ends that, but together these
--- functions have 2 s, after which their waits end with "timeout".
--- @param fn function what cleans up
function Scope:defer(fn)
  check_scope(self, "defer")
  check_function(fn, "scope:defer")
  local defers = self.defers
  if not defers then
    self.defers = { fn }
  else
    defers[#defers + 1] = fn
  end
end

--- Cancels the tasks of the scope, but not its function.
function Scope:cancel()
  check_scope(self, "cancel")
  cancel_all(self)
end

-- What all scopes have and scripts do not call: as the kind of tasks, and as a bound.
setmetatable(Scope, { __index = { on_error = child_failed, on_done = child_done,
  on_cancel = cancel_all, over = false } })

-- ---- its end ----

-- What the owner's wait ended with, if not with the end of all tasks.
local function wait_for_tasks(scope)
  local me, cut = scope.owner, nil
  while scope.count > 0 do
    local code = wait(me)
    if code < 0 and scope.count > 0 then
      cut = code
      break
    end
  end
  return cut
end

-- One that takes no notice is told again: a cancel ends one wait.
local function insist(scope)
  local me, shield = scope.owner, { shield = true }
  enter(me, shield)
  cancel_all(scope)
  while scope.count > 0 do
    if wait(me, CLEANUP_SECONDS) == TIMEOUT then cancel_all(scope) end
  end
  leave(me, shield)
end

local function run_defers(scope)
  local me, defers = scope.owner, scope.defers
  scope.defers = nil
  local shield = { shield = true }
  local limit = { on_timer = function(self) task.end_bound(me, self, TIMEOUT) end }
  enter(me, shield)
  enter(me, limit)
  if task.set_timer(limit, CLEANUP_SECONDS) < 0 then limit.over = TIMEOUT end
  for i = #defers, 1, -1 do
    local ok, err = xpcall(defers[i], note_error)
    if not ok then note(scope, err, me, me.raised_at) end
  end
  if limit.slot then task.clear_timer(limit) end
  leave(me, limit)
  leave(me, shield)
end

-- The first error as it was raised. Others are told behind it, if it is a text.
local function raise(found, me)
  local first = found[1]
  me.raised, me.raised_at = first, found.trace
  if found.failure then me.failure, me.failure_name = found.failure, found.failure_name end
  if #found == 1 or type(first) ~= "string" then error(first, 0) end
  local lines = { first }
  for i = 2, #found do lines[i] = "also: " .. shown(found[i]) end
  error(table.concat(lines, "\n"), 0)
end

local function close(scope)
  local cut
  if scope.count > 0 and not scope.errors then cut = wait_for_tasks(scope) end
  if scope.count > 0 then insist(scope) end
  if scope.defers then run_defers(scope) end
  return cut
end

--- Runs fn(scope), in this task, and returns when it and all tasks that it gave to `scope:spawn`
--- have ended. The first error, of fn or of a task, cancels all the others: their waits, and those
--- of fn, end with "cancelled"; then it is raised here. Errors that came after it are told behind
--- its text, each in a line that begins with `also: `, and are in `scope.errors`, in order. Whoever
--- cancels this task, or a deadline around the scope, cancels its tasks, which are told every 2 s
--- while they take no notice.
--- err: "cancelled", "timeout" (a deadline), while the scope waited for its tasks; or fn's
--- @param fn fun(scope: neap.Scope) starts the tasks
--- @return any ... up to four results of fn; or nil, message, name
function M.scope(fn)
  check_function(fn, "neap.scope")
  local me = prepare(running(), isyieldable())
  -- it is the kind of its tasks, and a bound of its owner; its tasks stand in it by number
  local scope = setmetatable({ owner = me, count = 0, closing = false, outer = false }, metatable)
  enter(me, scope)
  local ok, result, second, third, fourth = xpcall(fn, note_error, scope)
  scope.closing = true
  leave(me, scope)
  local cut
  if not ok and not is_obedient(scope, me, result) then
    note(scope, result, me, me.raised_at)
  end
  if scope.count > 0 or scope.defers then cut = close(scope) end
  scope.closing = "ended"
  if scope.errors then raise(scope.errors, me) end
  if not ok then error(result, 0) end
  if cut then return errors.failure("neap.scope", cut) end
  return result, second, third, fourth
end

return abi.keep("neap.scope", M)
