--- Servers of messages: a codec finds them, a handler answers each, and while nothing comes a
--- connection has no task.
---
---     local frame = require("neap.codec.frame")
---     assert(neap.serve("tcp://127.0.0.1:7001", {
---       codec = frame.new { length = "u16be" },
---       handle = function(message, conn) return message end, -- the answer
---     }))
---
--- A connection that has bytes is given to a worker, a task that is kept when it has nothing to
--- do. The worker handles the messages that are there, in order, and what they answer leaves in
--- one write when the turn ends. A handler that waits keeps its worker; other connections get
--- another one.
---
--- A message stays unread while its handler runs, so the view of it holds all the while. Who reads
--- from the connection in a handler takes the message first.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local connection = require("neap.conn")
local net = require("neap.net")
local put = require("neap.put")
local slice = require("neap.slice")
local task = require("neap.task")
local timer = require("neap.timer")
local view = require("neap.view")

local C = abi.C
local AGAIN, EOF = C.NEAP_E_AGAIN, C.NEAP_E_EOF
local OVERSIZED, TIMEOUT = C.NEAP_E_OVERSIZED, C.NEAP_E_TIMEOUT
local IDLE_WORKERS = 64 -- kept by a server
local SEVERAL = 4       -- messages of the size of the last one
local SWEEPS = 8        -- looks at unfinished messages while one may be so for its time

local fresh_view, new_view, is_slice = view.fresh, view.new, slice.is_slice
local keep_views, views_done, is_view = view.keep, view.done, view.is_view
local hold, send_held = connection.hold, connection.send_held
local fields_t = ffi.typeof("struct neap_lua_stream_fields *") -- of a connection
local view_t, cast = ffi.typeof("struct neap_view *"), ffi.cast
local type, next, tostring, pcall, floor = type, next, tostring, pcall, math.floor
local LAST = connection.LAST
local WAITS = "waits" -- a connection for which no worker is free
local unseen = view.own() -- what nobody looks at: one from the ring would have to be made anew

local M = {}

--- What `neap.serve` gives.
--- @class neap.Server
--- @field address string|nil where it listens, with the port that it has; nil when it does not
local Server = {}

-- The fields of a server, which scripts see only through its methods.
local state_of = setmetatable({}, { __mode = "k" })
local states = setmetatable({}, { __mode = "k" }) -- all of these

local function check_server(self, name)
  local state = state_of[self]
  if state then return state end
  check.raise("server:" .. name .. ": called on " .. type(self) .. ", not on a server")
end

-- ---- the end of a connection ----

local function count(s, name)
  s.counts[name] = (s.counts[name] or 0) + 1
end

local function end_sweep(s)
  task.clear_timer(s.sweeper)
  s.sweeping = false
end

-- The connection is closed. Who waits for the last one goes on.
local function forget(s, slot, conn, why)
  s.conns[slot], s.working[slot], s.begun[slot] = false, false, nil
  cast(fields_t, conn).handled = -1
  s.open_count = s.open_count - 1
  local host = s.hosts[slot]
  if host then
    local left = s.per_host[host] - 1
    s.per_host[host], s.hosts[slot] = left > 0 and left or nil, nil
  end
  if s.close then task.start_with(s.close_kind, s.close, conn, why) end
  if s.open_count > 0 then return end
  if s.sweeping then end_sweep(s) end -- the loop would hold a server that nobody needs any more
  task.wake_joiners(s)
end

-- Ends a connection, if it is still the one that it was.
local function drop(s, slot, conn, why)
  if s.conns[slot] ~= conn then return end
  connection.unserve(slot)
  conn:close()
  forget(s, slot, conn, why)
end

-- What a handler returns is taken, and encode only borrows it.
local function release_list(list)
  for i = 1, #list do
    if is_slice(list[i]) then list[i]:release() end
  end
end

local function send(s, conn, reply)
  s.encode(conn, reply) -- if that fails, the next read tells why
  if is_slice(reply) then
    reply:release()
  elseif type(reply) == "table" then
    release_list(reply)
  end
end

-- The peer is told as the protocol says, and the connection ends. It must not wait: there may be
-- no task that could.
local function refuse(s, slot, conn, text, name, detail)
  count(s, name)
  if name ~= "error" then task.say(("serving %s: %s"):format(conn.peer, text)) end
  if s.fail and s.conns[slot] == conn then
    local ok, answer = pcall(s.fail, conn, text, name, detail)
    if ok and answer ~= nil then ok, answer = pcall(send, s, conn, answer) end
    if not ok then
      task.say(("serving %s: fail(): %s"):format(conn.peer, task.shown(answer)))
    end
  end
  drop(s, slot, conn, name)
end

-- ---- messages that come in parts ----

local function late_ones(s)
  local now, late = C.neap_loop_now(task.loop), {}
  for slot, since in next, s.begun do
    if now - since >= s.message_timeout and not s.working[slot] then late[#late + 1] = slot end
  end
  return late
end

local start_sweep

local function sweep(sweeper)
  local s = sweeper.server
  s.sweeping = false
  for _, slot in ipairs(late_ones(s)) do
    refuse(s, slot, s.conns[slot], ("a message took more than %g s to come")
      :format(s.message_timeout), "timeout")
  end
  if next(s.begun) then start_sweep(s) end
end

function start_sweep(s)
  if s.sweeping or s.message_timeout == 0 then return end
  s.sweeping = task.set_timer(s.sweeper, s.message_timeout / SWEEPS) >= 0
end

-- The first part of a message is here, or the next one of the message that began before.
local function note_part(s, slot, so_far)
  if s.begun[slot] and so_far == 0 then return end
  s.begun[slot] = C.neap_loop_now(task.loop)
  start_sweep(s)
end

-- Does a message begin though one that began after the stop has been handled? A peer that sends
-- without a pause is always in the middle of one.
local function begins_again(s, slot, so_far)
  return s.ended and so_far > 0 and (s.begun[slot] or 0) >= s.ended
end

-- ---- handling ----

-- Nothing more can be handled now: more bytes are needed, or none will come.
local function pause(s, slot, conn, code, unread, so_far)
  if code == AGAIN then
    if unread > 0 and not begins_again(s, slot, so_far) then return note_part(s, slot, so_far) end
    if s.begun[slot] then s.begun[slot] = nil end
    if s.ended then drop(s, slot, conn, "stopped") end
    return
  end
  if s.conns[slot] ~= conn then return end -- closed by the script
  if code == EOF then return drop(s, slot, conn) end
  if code == OVERSIZED then
    return refuse(s, slot, conn, ("a message of more than %d bytes"):format(s.max_message),
      "oversized")
  end
  local name = errors.name(code)
  count(s, name)
  if code ~= C.NEAP_E_IDLE or unread > 0 then -- one that is done, and stays, is no news
    task.say(("serving %s: %s%s"):format(conn.peer, errors.text(code),
      unread > 0 and (", %d bytes into a message"):format(unread) or ""))
  end
  drop(s, slot, conn, name)
end

local function check_consumed(consumed, here)
  if type(consumed) == "number" and consumed >= 1 and consumed <= here
    and floor(consumed) == consumed then
    return
  end
  check.raise(("neap.serve: decode took %s of %d bytes: it must return a message and a whole "
    .. "number from 1 to %d"):format(tostring(consumed), here, here))
end

local function is_high(s, conn)
  local queued = C.neap_stream_queued(conn.slot, conn.gen)
  return queued > s.max_queued
end

-- A peer that does not read its answers gets no more of them. Returns whether it has read them.
local function wait_low(s, slot, conn)
  count(s, "paused_full")
  local limit = s.send_timeout > 0 and s.send_timeout or nil
  local code = connection.drain(conn, floor(s.max_queued / 4), limit)
  if code >= 0 then return true end
  if s.conns[slot] == conn then
    local name = code == TIMEOUT and "unread" or errors.name(code)
    count(s, name)
    drop(s, slot, conn, name)
  end
  return false
end

-- How a server handles what is there: functions of its own, so that LuaJIT knows the codec and the
-- handler of the traces that it makes. Most often there is one message, and LuaJIT gives up on a
-- loop that is left at once: so only where several seem to be there they are handled in one.
local function stepper(s)
  local decode, handle, plain = s.decode, s.handle, s.encode == put.plain
  local max_message = s.max_message
  local counts, conns = s.counts, s.conns
  local expect_several = false -- as they were there the last time
  local step

  local function incomplete(slot, conn, here, need, name, detail, so_far)
    if name then return refuse(s, slot, conn, tostring(need), name, detail) end
    if need == nil or need <= here then need = here + 1 end
    if need > max_message then return pause(s, slot, conn, OVERSIZED, here, so_far) end
    return step(slot, conn, 0, 0, need, so_far)
  end

  -- What a handler returned. Returns whether more can be handled.
  local function answer(slot, conn, reply, text, error_name, detail)
    if reply == nil then
      if text == nil then return true end
      return refuse(s, slot, conn, tostring(text), error_name or "error", detail)
    end
    local high = C.neap_streams_high
    send(s, conn, reply)
    return C.neap_streams_high == high or not is_high(s, conn) or wait_low(s, slot, conn)
  end

  -- Handles the first of the bytes that are here. Returns how many those were; nil: no more now.
  local function one(slot, conn, bytes, here, so_far)
    local epoch = bytes.epoch
    local message, consumed, name, detail = decode(bytes)
    if not message then return incomplete(slot, conn, here, consumed, name, detail, so_far) end
    check_consumed(consumed, here)
    counts.messages = counts.messages + 1
    local fields = cast(fields_t, conn)
    fields.epoch, fields.handled = epoch, consumed == here and LAST or -1
    if not answer(slot, conn, handle(message, conn)) then return nil end
    views_done()
    return consumed
  end

  -- Handles all that are here, without a look at the reader in between: conn.handled says how far
  -- it is, and is negative once a handler has read from the connection. Answers that are views of
  -- the very bytes are sent together, as far as they are neighbours.
  local function several(slot, conn, bytes, here, so_far)
    local reader_slot, epoch = conn.reader_slot, bytes.epoch
    local high, before = C.neap_streams_high, so_far
    local fields, rest_of_bytes, done = cast(fields_t, conn), cast(view_t, bytes), 0
    fields.epoch = epoch
    while done < here do
      fields.handled, rest_of_bytes.at, rest_of_bytes.size = done, done, here - done
      local message, consumed = decode(bytes)
      if not message then break end
      check_consumed(consumed, here - done)
      counts.messages = counts.messages + 1
      local reply, text, error_name, detail = handle(message, conn)
      if conns[slot] ~= conn then return end
      if plain and is_view(reply) and reply.epoch == epoch
        and reply.slot == reader_slot then
        hold(conn, reply)
      elseif not (reply == nil and text == nil)
        and not answer(slot, conn, reply, text, error_name, detail) then
        return
      end
      so_far = so_far + 1
      if conn.handled ~= done then return step(slot, conn, conn.epoch, consumed, 1, so_far) end
      done = done + consumed
      views_done()
    end
    send_held()
    fields.handled, expect_several = -1, so_far - before >= SEVERAL
    if C.neap_streams_high ~= high and is_high(s, conn) and not wait_low(s, slot, conn) then
      return
    end
    return step(slot, conn, epoch, done, 1, so_far)
  end

  -- Drops `done` bytes that were handled, and handles those behind them, once `want` are here.
  function step(slot, conn, epoch, done, want, so_far)
    local bytes = fresh_view()
    local here = C.neap_reader_next(conn.reader_slot, conn.reader_gen, epoch, done, want,
      cast(view_t, bytes))
    if here < 0 then return pause(s, slot, conn, here, bytes.size, so_far) end
    if expect_several or (done > 0 and here >= SEVERAL * done) then
      return several(slot, conn, bytes, here, so_far)
    end
    epoch = bytes.epoch
    local consumed = one(slot, conn, bytes, here, so_far)
    if consumed then return step(slot, conn, epoch, consumed, 1, so_far + 1) end
  end

  return step
end

-- ---- workers ----

local Worker = {}

-- What it works on, for the report of an error: the connection, and the message if that is
-- still there.
Worker.__index = function(worker, key)
  if key ~= "peer" or not worker.conn then return nil end
  local s, conn = worker.server, worker.conn
  local before = conn.handled > 0 and conn.handled or 0
  local size = C.neap_reader_buffered(conn.reader_slot, conn.reader_gen) - before
  if size < 1 then return conn.peer end
  local bytes = new_view(conn.reader_slot, conn.reader_gen, conn.epoch, before, size)
  local ok, message = pcall(s.decode, bytes)
  return conn.peer .. (ok and message ~= nil and ", its message " .. task.shown(message) or "")
end

local function start_worker(s, slot)
  local worker = setmetatable({ server = s, slot = slot, conn = s.conns[slot] }, Worker)
  s.working[slot] = worker
  worker.task = task.start(s.work, s.kind, worker)
end

-- The connection that has waited longest for a worker, or nil.
local function next_waiting(s)
  while s.first <= s.last do
    local slot = s.waiting[s.first]
    s.waiting[s.first] = nil
    s.first = s.first + 1
    if s.working[slot] == WAITS then return slot end
  end
  s.first, s.last = 1, 0
end

-- Another connection of the server that can be read now, or nil.
local function next_readable(s)
  local slot = task.next_readable()
  if not slot then return nil end
  if s.conns[slot] and not s.working[slot] then return slot end
  task.give_back()
  return nil
end

-- The worker gets another connection; false: it shall end.
local function rest(s, worker)
  local slot = next_waiting(s) or next_readable(s)
  if not slot then
    if s.idle_count >= IDLE_WORKERS or s.ended then return false end
    worker.conn = false
    s.busy_count = s.busy_count - 1
    s.idle_count = s.idle_count + 1
    s.idle[s.idle_count] = worker
    task.hold(-1) -- who rests keeps no loop going
    while task.wait(worker.task) < 0 do end -- a cancel that came too late
    task.hold(1)
    s.busy_count = s.busy_count + 1
    return worker.conn
  end
  s.working[slot], worker.slot, worker.conn = worker, slot, s.conns[slot]
  return true
end

local function greet(s, slot, conn)
  s.fresh[slot] = nil
  local reply, text, name = s.open(conn)
  if reply ~= nil then
    send(s, conn, reply)
  elseif text ~= nil then
    refuse(s, slot, conn, tostring(text), name or "error")
  end
end

local function worker_of(s)
  local step, working, conns, fresh = s.step, s.working, s.conns, s.fresh
  local function work(worker)
    local slot, conn = worker.slot, worker.conn
    if fresh[slot] then greet(s, slot, conn) end
    step(slot, conn, 0, 0, 1, 0)
    views_done()
    if conns[slot] == conn then working[slot] = false end
    if rest(s, worker) then return work(worker) end
  end
  return work
end

-- A worker ended: it was one too many, or what it ran has raised, which is reported already.
local function worker_ended(ended)
  local worker = ended.argument
  local s, slot, conn = worker.server, worker.slot, worker.conn
  if conn then s.busy_count = s.busy_count - 1 end
  if ended.done == true then return end
  send_held()
  if s.conns[slot] == conn then refuse(s, slot, conn, task.shown(ended.result), "error") end
  local other = next_waiting(s)
  if other then
    s.busy_count = s.busy_count + 1
    start_worker(s, other)
  end
end

local function give_to_worker(s, slot)
  if s.busy_count >= s.max_in_flight then
    count(s, "paused_in_flight")
    s.working[slot] = WAITS
    s.last = s.last + 1
    s.waiting[s.last] = slot
    return
  end
  local worker = s.idle_count > 0 and s.idle[s.idle_count]
  if not worker then
    s.busy_count = s.busy_count + 1
    return start_worker(s, slot)
  end
  s.idle[s.idle_count] = false
  s.idle_count = s.idle_count - 1
  s.working[slot], worker.slot, worker.conn = worker, slot, s.conns[slot]
  task.wake(worker.task, 0)
end

-- ---- what conn.lua asks ----

local State = {}
State.__index = State

--- Bytes came, or the end.
function State:ready(slot)
  keep_views() -- of who runs
  if not self.working[slot] then give_to_worker(self, slot) end
end

--- A script has closed the connection.
function State:left(slot, conn)
  forget(self, slot, conn, "closed")
end

-- A handler reads from its connection: from the message on that it was given.
function connection.drop_handled(conn)
  local fields, bytes = cast(fields_t, conn), fresh_view()
  C.neap_reader_next(conn.reader_slot, conn.reader_gen, conn.epoch, conn.handled, 0,
    cast(view_t, bytes))
  fields.epoch, fields.handled = bytes.epoch, -1
end

local function over_per_address(s, slot, conn)
  if s.max_per_address == 0 then return false end
  local peer = conn.peer
  local host = peer:match("^(.*):%d+$") or peer
  local here = (s.per_host[host] or 0) + 1
  if here > s.max_per_address then
    count(s, "refused_per_address")
    task.say(("refused %s: %d connections are open from there, as many as max_per_address allows")
      :format(peer, s.max_per_address))
    return true
  end
  s.per_host[host], s.hosts[slot] = here, host
  return false
end

--- A connection was accepted.
function State:take(made)
  local slot = made.stream.slot
  local conn = connection.serve(self, made)
  if over_per_address(self, slot, conn) then
    connection.unserve(slot)
    return conn:close()
  end
  self.conns[slot], self.working[slot] = conn, false
  self.open_count = self.open_count + 1
  self.counts.connections = self.counts.connections + 1
  if not self.open then -- look for bytes from now on
    C.neap_reader_next(conn.reader_slot, conn.reader_gen, 0, 0, 1, cast(view_t, unseen))
  else
    self.fresh[slot] = true
    give_to_worker(self, slot)
  end
end

-- ---- servers ----

local protocol_fields = { codec = "table", handle = "function", open = "function",
  close = "function", fail = "function" }

local function check_protocol(protocol)
  if type(protocol) ~= "table" then
    check.raise("neap.serve: protocol must be a table, got " .. type(protocol))
  end
  for name, value in pairs(protocol) do
    local wanted = protocol_fields[name]
    if not wanted then check.raise("neap.serve: a protocol has no " .. tostring(name)) end
    if type(value) ~= wanted then
      check.raise(("neap.serve: %s must be a %s, got %s"):format(name, wanted, type(value)))
    end
  end
  local codec = protocol.codec
  if not codec or type(codec.decode) ~= "function" then
    check.raise("neap.serve: the protocol needs a codec with a function decode")
  end
  if not protocol.handle then check.raise("neap.serve: the protocol needs a function handle") end
end

local function no_encode()
  check.raise("neap.serve: the handler returned an answer, but the codec has no function encode")
end

local own_defaults = {
  max_message = tonumber(C.NEAP_MAX_READ_BYTES), max_per_address = 0, max_in_flight = 1024,
  max_queued = tonumber(C.NEAP_WRITE_HIGH_BYTES), message_timeout = 60, handle_timeout = 0,
  send_timeout = 60,
}
local whole = { max_message = tonumber(C.NEAP_BUF_MAX_BYTES), max_per_address = 0x7fffffff,
  max_in_flight = 0x7fffffff, max_queued = tonumber(C.NEAP_BUF_MAX_BYTES) }
local at_least = { max_message = 1, max_in_flight = 1, max_queued = own_defaults.max_queued }
local seconds = { "message_timeout", "handle_timeout", "send_timeout" }

--- The options that there are, with their defaults, and what those of others are called here.
M.defaults, M.renamed = {}, { max_read = "max_message" }
for _, defaults in ipairs { net.listen_defaults, own_defaults } do
  for name, default in pairs(defaults) do M.defaults[name] = default end
end
M.defaults.max_read = nil

local function check_own(own, what)
  own = check.options(own, own_defaults, what)
  for name, most in pairs(whole) do check.whole(own[name], most, what .. ": " .. name) end
  for _, name in ipairs(seconds) do check.seconds(own[name], what .. ": " .. name) end
  for name, least in pairs(at_least) do
    if own[name] < least then
      check.raise(("%s: %s must be at least %d"):format(what, name, least))
    end
  end
  return own
end

-- The values of what is for the listener are left to it to look at.
local function split_options(options, what)
  check.names(options, M.defaults, what, M.renamed)
  local own, rest_of_them = {}, {}
  for name, value in pairs(options) do
    if own_defaults[name] ~= nil then own[name] = value else rest_of_them[name] = value end
  end
  own = check_own(own, what)
  rest_of_them.max_read = own.max_message
  return own, rest_of_them
end

local function limited(handle, limit)
  if limit == 0 then return handle end
  return function(message, conn)
    return timer.deadline(limit, function() return handle(message, conn) end)
  end
end

local function new_state(protocol, own, origin)
  local s = setmetatable({
    decode = protocol.codec.decode, encode = protocol.codec.encode or no_encode,
    handle = limited(protocol.handle, own.handle_timeout),
    open = protocol.open, close = protocol.close, fail = protocol.fail,
    conns = {}, working = {}, -- by slot of the connection
    begun = {}, fresh = {}, hosts = {}, per_host = {}, open_count = 0,
    idle = {}, idle_count = 0, busy_count = 0,
    waiting = {}, first = 1, last = 0, -- slots that wait for a worker
    counts = { messages = 0, connections = 0 }, ended = false, sweeping = false,
    kind = { on_end = worker_ended, origin = origin }, close_kind = { origin = origin },
  }, State)
  for name, value in pairs(own) do s[name] = value end
  s.sweeper = { on_timer = sweep, server = s }
  s.step = stepper(s)
  s.work = worker_of(s)
  return s
end

local metatable = {
  __index = function(self, key)
    if key == "address" then
      local state = state_of[self]
      return state and state.listener.address
    end
    return Server[key]
  end,
  __newindex = function() check.raise("server: it has no fields to set") end,
  __tostring = function(self)
    return "server on " .. (self.address or "nothing: it has stopped listening")
  end,
  __metatable = "neap.server",
}

--- Serves a protocol: a codec finds the messages in what comes, a handler answers each.
---
---     local frame = require("neap.codec.frame")
---     assert(neap.serve("tcp://127.0.0.1:7001", {
---       codec = frame.new { length = "u16be" },
---       handle = function(message, conn) return message end, -- the answer
---     }))
---
--- While nothing comes, a connection has no task. Messages are handled in order, one at a time for
--- each connection, and what those that came together answer leaves in one write. A handler may
--- wait; other connections are served meanwhile. A message that is a view can be used until its
--- handler returns. What a handler returns is encoded and sent: nil sends nothing; nil, text,
--- name, detail fails the message, as an error does, and ends the connection. Who reads from conn
--- in a handler takes the message first (conn:skip(n), or conn:read(n) for a slice of it), then
--- what follows it.
--- own: returns owned; each conn is closed by neap; a slice that is returned is taken
--- err: "address", "address_in_use", "permission", "descriptors", "descriptor", "unreachable",
--- "limit" (max_message is too much for the pool's), "memory", "system"
--- @param address string where to listen, as for neap.listen
--- @param protocol table codec: { decode(view) → message, bytes of it; nil, bytes needed; or nil,
--- text, name, detail · encode(out, answer) } · handle(message, conn) → answer · open(conn) → what
--- is sent first · close(conn, why): it has ended, why being nil (the peer was done), "reset",
--- "timeout", "unread", "malformed", "oversized", "error", "stopped", "closed" (by the script), … ·
--- fail(conn, text, name, detail) → a last answer, when a message cannot be handled: it must not
--- wait
--- @param options? table timeout, idle_timeout, max_connections, backlog, no_delay, keepalive,
--- reuse_port, dual_stack, mode, pool, max_held: as for neap.listen · max_message, not max_read:
--- bytes of one
--- (1 MiB) · max_per_address: connections from one address (0: any number) · max_in_flight:
--- messages whose handlers wait; others wait to be handled (1024) · max_queued: bytes of answers
--- that a peer has not read, above which its messages wait (64 KiB, or more) · message_timeout:
--- seconds from a message's first byte to its last (60; 0: any) · handle_timeout: seconds that a
--- handler may wait, after which its waits fail with "timeout" (0: any) · send_timeout: seconds
--- that a peer may leave max_queued bytes unread (60; 0: any)
--- @return neap.Server|nil server, string? message, string? name
function M.serve(address, protocol, options)
  check_protocol(protocol)
  return M.open(address, protocol, options, "neap.serve", task.origin_of(2))
end

--- The same, for who speaks the protocol to scripts.
--- @param what string as in "http.serve", for messages
--- @param origin string the place of the script's call
function M.open(address, protocol, options, what, origin)
  local own, others = split_options(options == nil and {} or options, what)
  local s = new_state(protocol, own, origin)
  local listener, message, name = net.accept(s, address, others, what)
  if not listener then return nil, message, name end
  s.listener, states[s] = listener, true
  local server = setmetatable({}, metatable)
  state_of[server] = s
  return server
end

--- Stops listening; connections that are open stay. Twice is harmless.
function Server:close()
  check_server(self, "close").listener:close()
end

-- Workers that rest have nothing to wait for any more.
local function end_idle_workers(s)
  while s.idle_count > 0 do
    local worker = s.idle[s.idle_count]
    s.idle[s.idle_count] = false
    s.idle_count = s.idle_count - 1
    task.wake_later(worker.task)
  end
end

-- Connections with nothing to do close now, others when they have nothing to do.
local function begin_stop(s)
  s.listener:close()
  s.ended = s.ended or C.neap_loop_now(task.loop)
  end_idle_workers(s)
  for slot, conn in pairs(s.conns) do
    if conn and not s.working[slot] and not s.begun[slot] then drop(s, slot, conn, "stopped") end
  end
end

-- ---- a stop of the program ----

local function is_busy(s, slot)
  return s.conns[slot] and (s.working[slot] or s.begun[slot]) and true or false
end

task.on_stop({
  stop = function()
    for s in pairs(states) do begin_stop(s) end
  end,
  running = function(names)
    local running = 0
    for s in pairs(states) do
      for slot, conn in pairs(s.conns) do
        if is_busy(s, slot) then
          running = running + 1
          if names and #names < 3 then names[#names + 1] = conn.peer end
        end
      end
    end
    return running
  end,
  track = function()
    for s in pairs(states) do
      for _, worker in pairs(s.working) do
        if type(worker) == "table" then task.track(worker.task) end
      end
    end
  end,
})

-- Ends what is still there. Returns how many connections that were.
local function cut(s)
  local cut_count = 0
  for slot, conn in pairs(s.conns) do
    if conn then
      cut_count = cut_count + 1
      local worker = s.working[slot]
      if type(worker) == "table" then worker.task:cancel() end
      count(s, "cut")
      drop(s, slot, conn, "stopped")
    end
  end
  return cut_count
end

--- Stops: no longer listens, closes connections that have no message, lets the messages that are
--- here be handled and answered, and waits until that is done. What then is left is cancelled and
--- closed. Twice is harmless.
--- err: "timeout" (some were cut), "cancelled", "memory"
--- @param limit? number seconds to wait (10)
--- @return true|nil ok, string? message, string? name
function Server:stop(limit)
  local s = check_server(self, "stop")
  limit = check.seconds(limit == nil and 10 or limit, "server:stop: seconds")
  begin_stop(s)
  if s.open_count == 0 then return true end
  local me = task.prepare(coroutine.running(), coroutine.isyieldable())
  task.join_in(s, me)
  local code = task.wait(me, limit)
  task.part_from(s, me)
  if s.open_count == 0 then return true end
  if code == TIMEOUT or code == 0 then
    return errors.fail(("server:stop: %d connections were cut"):format(cut(s)), "timeout")
  end
  return errors.failure("server:stop", code)
end

--- What it has done so far.
--- @return table<string, integer> stats open: connections now · in_flight: handlers that run or
--- wait now · connections, messages: ever · paused_full, paused_in_flight: how often messages
--- waited because of max_queued and max_in_flight · refused_per_address · cut: connections that a
--- stop cut · and messages or connections that failed, by the name of the error: malformed,
--- oversized, timeout (a message did not come in time, or nothing did), unread (send_timeout),
--- error (a handler's), short, reset, …
function Server:stats()
  local s = check_server(self, "stats")
  local stats = { open = s.open_count, in_flight = s.busy_count }
  for name, value in pairs(s.counts) do stats[name] = value end
  return stats
end

return abi.keep("neap.serve", M)
