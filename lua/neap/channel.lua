--- Channels: values handed from task to task, in order, and a choice among several waits.
---
--- A channel is a ring of values that were sent and not received yet, and two queues of tasks
--- that wait: senders only while the ring is full, receivers only while it is empty. Who frees
--- room or brings a value serves the one that has waited longest, at once: nobody who comes later
--- is faster. What waits is an *entry*: the task and the number of its wait, so that one whose
--- wait was thrown away is passed over. Entries are recycled; a channel that is used makes no
--- garbage.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local slice = require("neap.slice")
local task = require("neap.task")

local C = abi.C
local CLOSED, CANCELLED, TIMEOUT = C.NEAP_E_CLOSED, C.NEAP_E_CANCELLED, C.NEAP_E_TIMEOUT
local LIMIT, STALE = C.NEAP_E_LIMIT, C.NEAP_E_STALE
local SEND, RECEIVE = C.NEAP_DEED_SEND, C.NEAP_DEED_RECEIVE
local OK = 1 -- what an entry waited for has happened
local ROOM_MAX = 2 ^ 24
local is_slice, move = slice.is_slice, slice.move
local prepare, wait, wake_later = task.prepare, task.wait, task.wake_later
local running, isyieldable = coroutine.running, coroutine.isyieldable
local type, getmetatable = type, getmetatable

local M = {}

--- Hands values from task to task: strings, numbers, tables, slices, anything but nil. Any number
--- of tasks may send and receive; who has waited longest is served first.
--- @class neap.Channel
local Channel = {}

local metatable = { __index = Channel, __metatable = "neap.channel",
  __tostring = function(self)
    return ("channel with %d of %d values%s"):format(self.count, self.room,
      self.closed and " (closed)" or "")
  end }

-- ---- who waits ----

local function new_queue()
  local queue = {}
  queue.next, queue.prev = queue, queue
  return queue
end

local spare -- entries that nobody uses, chained by `next`

-- An entry at the end of a queue, for the wait that the task begins next.
local function enter(queue, me, item)
  local entry = spare
  if entry then spare = entry.next else entry = {} end
  local prev = queue.prev
  entry.task, entry.wait, entry.item, entry.code = me, me.wait + 1, item, false
  entry.prev, entry.next, entry.queued = prev, queue, true
  prev.next, queue.prev = entry, entry
  return entry
end

local function unlink(entry)
  if not entry.queued then return end
  local prev, next = entry.prev, entry.next
  prev.next, next.prev, entry.queued = next, prev, false
end

local function recycle(entry)
  unlink(entry)
  entry.task, entry.item, entry.choice, entry.prev = false, false, nil, false
  entry.next, spare = spare, entry
end

-- Its wait ends with a code. The others of a select are out of their queues at once.
local function serve(entry, code)
  local choice = entry.choice
  if choice then
    for i = 1, #choice do unlink(choice[i]) end
    choice.served = entry
  else
    unlink(entry)
  end
  entry.code = code
  wake_later(entry.task)
end

-- The entry that has waited longest, or nil.
local function first_of(queue)
  local entry = queue.next
  while entry ~= queue do
    if entry.task.wait == entry.wait then return entry end
    unlink(entry) -- outside of all tasks a stop throws waits away
    entry = queue.next
  end
end

-- What the sender that has waited longest sends; it goes on. A select gives its slice away only
-- now: it may be gone.
local function take_from_sender(queue)
  local entry = first_of(queue)
  while entry do
    local item = entry.item
    if entry.choice and is_slice(item) then item = move(item) end
    serve(entry, item == nil and STALE or OK)
    if item ~= nil then return item end
    entry = first_of(queue)
  end
end

-- ---- values ----

local function push(self, item)
  local at = self.head + self.count
  local room = self.room
  if at >= room then at = at - room end
  self[at + 1] = item
  self.count = self.count + 1
end

local function pop(self)
  local head = self.head
  local item = self[head + 1]
  self[head + 1] = false
  head = head + 1
  self.head = head == self.room and 0 or head
  self.count = self.count - 1
  return item
end

-- The next value, or nil if there is none now. A sender that waited for room goes on.
local function take(self)
  if self.count > 0 then
    local item = pop(self)
    local other = take_from_sender(self.senders)
    if other ~= nil then push(self, other) end
    return item
  end
  return take_from_sender(self.senders)
end

local function has_place(self)
  return self.count < self.room or self.count == 0 and first_of(self.receivers) ~= nil
end

-- Gives a value to a receiver or the ring, which has_place().
local function give(self, item)
  local entry = self.count == 0 and first_of(self.receivers)
  if entry then
    entry.item = item
    serve(entry, OK)
  else
    push(self, item)
  end
  return true
end

local function drop(item)
  if is_slice(item) then item:release() end
end

-- ---- sending and receiving ----

local function check_channel(self, name)
  if getmetatable(self) ~= "neap.channel" then
    check.raise("channel:" .. name .. ": called on " .. type(self) .. ", not on a channel")
  end
end

-- Waits in a queue. Returns a code: OK, or why not; and what a receiver got.
local function wait_in(queue, item, seconds, co, yieldable)
  if seconds == 0 then return TIMEOUT end
  local me = prepare(co, yieldable)
  local entry = enter(queue, me, item)
  local code = wait(me, seconds)
  local served, got = entry.code, entry.item
  recycle(entry)
  if not served then return code end
  -- a value that came first is not lost
  if code == CANCELLED then task.cancel_again(me) end
  return served, got
end

local function received(item)
  if is_slice(item) then slice.passes(item, RECEIVE) end
  return item
end

-- The value as the channel holds it.
local function own(x, what)
  if not is_slice(x) then return x end
  local moved = move(x, SEND)
  if not moved then check.raise(what .. ": x is a slice that " .. slice.stale_text(x)) end
  return moved
end

--- Hands a value to a task that receives, or leaves it in the channel; waits while that is full.
--- own: takes a slice, except at "limit"; on any other error it is released
--- err: "closed", "timeout", "cancelled", "memory", "limit" (there is no room, and seconds is 0)
--- @param x any what to send; not nil
--- @param seconds? number waits no longer than this; 0: not at all; nil: for ever
--- @return true|nil ok, string? message, string? name
function Channel:send(x, seconds)
  check_channel(self, "send")
  check.seconds_or_nil(seconds, "channel:send: seconds")
  if x == nil then check.raise("channel:send: nil cannot be sent") end
  local code = CLOSED
  if not self.closed then
    if has_place(self) then return give(self, own(x, "channel:send")) end
    if seconds == 0 then return errors.failure("channel:send", LIMIT) end
    local co, yieldable = running(), isyieldable()
    prepare(co, yieldable) -- raises before anything is taken
    x = own(x, "channel:send")
    code = wait_in(self.senders, x, seconds, co, yieldable)
    if code == OK then return true end
  else
    x = own(x, "channel:send")
  end
  drop(x)
  return errors.failure("channel:send", code)
end

--- The next value, in the order in which they were sent; waits while there is none.
--- own: returns owned, if it is a slice
--- err: "closed" (and nothing is left in it), "timeout", "cancelled", "memory"
--- @param seconds? number waits no longer than this; 0: not at all; nil: for ever
--- @return any x or nil, message, name
function Channel:receive(seconds)
  check_channel(self, "receive")
  check.seconds_or_nil(seconds, "channel:receive: seconds")
  local item = take(self)
  if item ~= nil then return received(item) end
  local code = CLOSED
  if not self.closed then
    code, item = wait_in(self.receivers, false, seconds, running(), isyieldable())
    if code == OK then return received(item) end
  end
  return errors.failure("channel:receive", code)
end

-- All who wait there get "closed".
local function turn_away(queue)
  local entry = first_of(queue)
  while entry do
    serve(entry, CLOSED)
    entry = first_of(queue)
  end
end

--- Ends sending: whoever sends, or waits to, gets "closed". What the channel holds can still be
--- received, and then receivers get "closed", too. What nobody receives is released with the
--- channel by the collector, and counted (pool:stats().slices_collected). Twice is harmless.
--- @param now? boolean true: and what it holds is released at once
--- @return integer count how many values were released
function Channel:close(now)
  check_channel(self, "close")
  self.closed = true
  local count = 0
  if now then
    while self.count > 0 do
      drop(pop(self))
      count = count + 1
    end
  end
  turn_away(self.senders)
  turn_away(self.receivers)
  return count
end

--- How many values it holds: were sent, and not received yet.
--- @return integer count from 0 to the channel's room
function Channel:len()
  check_channel(self, "len")
  return self.count
end

--- A channel. With room for n values a sender waits only while so many are in it; with 0, until
--- somebody receives.
--- @param n? integer values that it holds at most (0)
--- @return neap.Channel channel for any number of tasks
function M.new(n)
  n = check.whole(n or 0, ROOM_MAX, "neap.channel: n")
  return setmetatable({ room = n, count = 0, head = 0, closed = false, senders = new_queue(),
    receivers = new_queue() }, metatable)
end

-- ---- the first of several ----

local turn_of = 0 -- where the next select begins to look, so that none of its cases starves

local function failed(i, code)
  return i, errors.failure("neap.select", code)
end

local function kind_of(case, what)
  local kind = getmetatable(case)
  if kind == nil and type(case) == "table" then
    if getmetatable(case[1]) ~= "neap.channel" then
      check.raise(what .. " must be a channel, a task, a timer, or {channel, value} to send")
    end
    if case[2] == nil then check.raise(what .. ": nil cannot be sent") end
    return "send"
  end
  if kind == "neap.channel" or kind == "neap.task" then return kind end
  if kind == "neap.timer" and not case.period then return kind end
  check.raise(what .. (kind == "neap.timer" and " must be a timer of neap.after"
    or " must be a channel, a task, a timer, or {channel, value} to send"))
end

-- Nil unless it is ready now; or its number and what it gives.
local function ready(i, case, kind)
  if kind == "neap.channel" then
    local item = take(case)
    if item ~= nil then return i, received(item) end
    if case.closed then return failed(i, CLOSED) end
  elseif kind == "send" then
    local channel = case[1]
    if channel.closed then return failed(i, CLOSED) end
    if has_place(channel) then return i, give(channel, own(case[2], "neap.select: x")) end
  elseif kind == "neap.task" then
    if case.done then return i, case:join() end
  elseif case.fired then
    return i, true
  end
end

local function register(choice, me)
  local cases, of = choice.cases, choice.kinds
  for i = 1, #cases do
    local case, kind = cases[i], of[i]
    if kind == "neap.task" or kind == "neap.timer" then
      task.join_in(case, me)
    else
      local entry = kind == "send" and enter(case[1].senders, me, case[2])
        or enter(case.receivers, me, false)
      entry.choice, entry.index = choice, i
      choice[#choice + 1] = entry
    end
  end
end

local function unregister(choice, me)
  for i = 1, #choice do recycle(choice[i]) end
  for i = 1, #choice.cases do
    local kind = choice.kinds[i]
    if kind == "neap.task" or kind == "neap.timer" then task.part_from(choice.cases[i], me) end
  end
end

-- What the entry that was served has got.
local function result_of(index, code, kind, item)
  if code == STALE then
    check.raise(("neap.select: [%d]: x is a slice that was released or taken before"):format(index))
  end
  if code ~= OK then return failed(index, code) end
  if kind == "send" then return index, true end
  return index, received(item)
end

local function first_ready(cases, of)
  local count = #cases
  turn_of = turn_of + 1
  for offset = 0, count - 1 do
    local i = (turn_of + offset) % count + 1
    local index, a, b, c, d = ready(i, cases[i], of[i])
    if index then return index, a, b, c, d end
  end
end

--- Waits until one of several things can happen, and does that one. A case is a channel, from which
--- it receives; {channel, x}, to send x there; a task, until it has ended; or a timer of
--- `neap.after`, until it has gone off. Of several that are ready each has its turn to be first.
--- own: takes a slice only when it was sent; returns owned one that was received
--- err: "closed" (of the channel of the case), "error" (of the task), "timeout", "cancelled",
--- "memory"
--- @param cases table the list of cases, at least one
--- @param seconds? number waits no longer than this; 0: not at all; nil: for ever
--- @return integer|nil index which one it was; or nil, message, name
--- @return any ... the value received, true, the task's results; or nil, message, name
function M.select(cases, seconds)
  if type(cases) ~= "table" or getmetatable(cases) ~= nil or #cases == 0 then
    check.raise("neap.select: cases must be a list of at least one")
  end
  check.seconds_or_nil(seconds, "neap.select: seconds")
  local of = {}
  for i = 1, #cases do of[i] = kind_of(cases[i], ("neap.select: [%d]"):format(i)) end
  local index, a, b, c, d = first_ready(cases, of)
  if index then return index, a, b, c, d end
  if seconds == 0 then return errors.failure("neap.select", TIMEOUT) end
  local me = prepare(running(), isyieldable())
  local choice = { cases = cases, kinds = of, served = false }
  register(choice, me)
  local code = wait(me, seconds)
  local entry = choice.served
  local item, outcome = entry and entry.item, entry and entry.code
  index = entry and entry.index
  unregister(choice, me)
  if entry then
    if code == CANCELLED then task.cancel_again(me) end
    return result_of(index, outcome, of[index], item)
  end
  if code < 0 then return errors.failure("neap.select", code) end
  return first_ready(cases, of) -- a task or a timer
end

return abi.keep("neap.channel", M)
