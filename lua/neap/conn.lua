--- Connections: writing, closing, and who waits for what on one. Opening them is net.lua's.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local pipe = require("neap.pipe")
local put = require("neap.put")
local reader = require("neap.reader")
local slice = require("neap.slice")
local task = require("neap.task")
local view = require("neap.view")

local C = abi.C
local AGAIN, STALE, BUSY = C.NEAP_E_AGAIN, C.NEAP_E_STALE, C.NEAP_E_BUSY
local TIMEOUT, LIMIT = C.NEAP_E_TIMEOUT, C.NEAP_E_LIMIT
local HIGH = C.NEAP_WRITE_HIGH_BYTES

local stream_t = ffi.typeof("struct neap_lua_stream")
local istype = ffi.istype
local type = type
local running, isyieldable = coroutine.running, coroutine.isyieldable
local prepare, wait = task.prepare, task.wait

local M = {}

--- What conn.handled says while the last message is handled of those that are here: its answer need
--- not wait for others, so that all leave in one write.
M.LAST = -2

--- A connection: a handler's argument, or what `neap.connect` gives. It belongs to who opened it:
--- one that a handler was given is closed when the handler returns, others by `close` (a forgotten
--- one by the collector). One task may read and another write; two that read raise.
--- @class neap.Connection
--- @field peer string the address of the other side, also of the last 1,024 that were closed
local Stream = {}

-- Who waits, by slot; no entry keeps a connection from being collected.
local readers, writers = {}, {}
local sources, sinks = {}, {} -- the pipes that take what comes there, and wait for room there
-- Seconds that a wait may take, by slot of the connection; false: any; nil: any, or its server's.
local timeouts = {}
local kept = {}     -- connections that outlive their handler: slot → gen
local served = {}   -- by slot of a connection: the server that has its messages handled

-- No entry where there was none: LuaJIT makes one for a nil, too.
local function set_timeout(slot, seconds)
  if timeouts[slot] ~= seconds then timeouts[slot] = seconds end
end

local function timeout_of(slot)
  local seconds = timeouts[slot]
  if seconds == nil and served[slot] then return served[slot].timeout end
  return seconds or nil
end

local function wake_reader(slot)
  local pipe_of = sources[slot]
  if pipe_of then return pipe.run(pipe_of) end
  local waiting = readers[slot]
  if waiting then return task.wake(waiting, 0) end
  local server = served[slot]
  if server then return server:ready(slot) end
end

local function wake_writer(slot)
  local pipe_of = sinks[slot]
  if pipe_of then return pipe.run(pipe_of) end
  local waiting = writers[slot]
  if waiting then task.wake(waiting, 0) end
end

-- For whoever runs in a task: who waits goes on when this one gives control up. The slot may have
-- another connection by then.
local function wake_later(slot)
  if readers[slot] then task.wake_later(readers[slot]) end
  if writers[slot] then task.wake_later(writers[slot]) end
  readers[slot], writers[slot] = false, false
  if sources[slot] then sources[slot] = false end
  if sinks[slot] then sinks[slot] = false end
end

task.on_ready(C.NEAP_READY_READ, wake_reader)
task.on_ready(C.NEAP_READY_WRITE, wake_writer)
task.on_ready(C.NEAP_READY_CONNECT, wake_writer)

-- ---- who it is ----

local room = ffi.new("char[?]", C.NEAP_ADDRESS_BYTES)

-- Also whom it was with; but of one that was closed long ago nobody knows.
local function peer_of(stream)
  local code = C.neap_stream_peer(stream.slot, stream.gen, room)
  if code == STALE then return "a closed connection", code end
  return ffi.string(room), code
end

local function described(stream)
  local peer, code = peer_of(stream)
  if code == STALE then return peer end
  return (code < 0 and "closed connection with " or "connection with ") .. peer
end

-- ---- connections ----

-- An answer that serve holds back, since the next one may stand right behind it in the same buf: a
-- view of the connection's own unread bytes. It goes out before anything else is done with the
-- connection, and before any task waits.
local held_slot, held_gen = -1, 0 -- of the connection; -1: there is none
local held_reader, held_reader_gen, held_epoch, held_at, held_size = 0, 0, 0, 0, 0

--- Sends what is held back.
function M.send_held()
  if held_slot < 0 then return end
  local slot = held_slot
  held_slot = -1
  C.neap_stream_put_view(slot, held_gen, held_reader, held_reader_gen, held_epoch, held_at,
    held_size)
end

local send_held = M.send_held
task.before_wait(send_held)

--- Holds back a view, or sends it with what is held back. It must be one of conn's own reader.
function M.hold(conn, x)
  local at, size, epoch = x.at, x.size, x.epoch
  if conn.slot == held_slot and epoch == held_epoch and at == held_at + held_size then
    held_size = held_size + size
    return
  end
  send_held()
  held_slot, held_gen, held_reader, held_reader_gen = conn.slot, conn.gen, x.slot, x.gen
  held_epoch, held_at, held_size = epoch, at, size
end

local function check_stream(self, name)
  if not istype(stream_t, self) then
    check.raise("conn:" .. name .. ": called on " .. type(self) .. ", not on a connection")
  end
  if self.slot == held_slot then send_held() end
end

-- Who reads from a connection reads what serve has not handled.
local function check_reading(self, name)
  check_stream(self, name)
  if self.handled >= 0 and name ~= "buffered" then M.drop_handled(self) end
end

local function new_stream(made)
  return stream_t(made.stream.slot, made.stream.gen, made.reader.slot, made.reader.gen, 0, -1)
end

-- Nobody else may wait for the same.
local function check_free(waiting, what)
  if waiting then check.raise("conn: another task is already " .. what .. " this connection") end
end

--- The reader has no bytes and the system none either: wait until it has.
local function fill(self, _, co, yieldable)
  local slot, me = self.slot, prepare(co, yieldable)
  check_free(readers[slot], "reading")
  readers[slot] = me
  local code = wait(me, timeout_of(slot), readers, slot)
  if readers[slot] == me then readers[slot] = false end
  if code < 0 then C.neap_stream_forgo(slot, self.gen) end
  if code == TIMEOUT and not me.cut and C.neap_reader_waits(self.reader_slot, self.reader_gen) == 1
  then
    return LIMIT -- it was the pool that kept it waiting, and not the peer
  end
  return code < 0 and code or AGAIN
end

local function wait_writable(slot, what, seconds)
  local me = prepare(running(), isyieldable())
  check_free(writers[slot], what)
  writers[slot] = me
  local code = wait(me, seconds or timeout_of(slot), writers, slot)
  if writers[slot] == me then writers[slot] = false end
  return code
end

reader.install(Stream, { name = "conn", fill = fill, check = check_reading, tell = peer_of,
  handled = function(self) return self.handled > 0 and self.handled or 0 end })

local function failed(self, what, code)
  return errors.failure(peer_of(self) .. ": " .. what, code)
end

-- own: borrows the view
local function queue_view(self, x, above_high, what)
  local queued = C.neap_stream_queued(self.slot, self.gen)
  if not above_high and queued + x.size > HIGH then return BUSY end
  local code = C.neap_stream_put_view(self.slot, self.gen, x.slot, x.gen, x.epoch, x.at, x.size)
  if code == STALE then check.raise(what .. " is a stale view (view:retain() keeps the bytes)") end
  return code
end

-- own: takes a slice, except at BUSY: more than HIGH would be queued, and may not be. Returns the
-- bytes queued, or a negative code.
local function queue_one(self, x, above_high, what)
  if type(x) == "string" then
    local code = C.neap_stream_write_bytes(self.slot, self.gen, x, #x, above_high)
    return code
  end
  if view.is_view(x) then return (queue_view(self, x, above_high, what)) end
  if not slice.is_slice(x) then
    check.raise(what .. " must be a string, a slice, a view or a list of them, got " .. type(x))
  end
  local code = C.neap_stream_write(self.slot, self.gen, x.slot, x.gen, above_high)
  if code == STALE then check.raise(what .. " is a slice that " .. slice.stale_text(x)) end
  if code ~= BUSY then slice.given(x, C.NEAP_DEED_WRITE) end
  return code
end

local named = {} -- slots that a list has named so far

-- Raises, with nothing done, where queueing would. Returns the bytes of a list.
local function check_list(list, what)
  local bytes, wrong = 0, nil
  for i = 1, #list do
    local x = list[i]
    if type(x) == "string" or view.is_view(x) then
      if type(x) ~= "string" and x:is_stale() then
        wrong = wrong or ("[%d] is a stale view"):format(i)
      end
      bytes = bytes + #x
    elseif not slice.is_slice(x) then
      wrong = wrong or ("[%d] must be a string, a slice or a view, got %s"):format(i, type(x))
    else
      local size = C.neap_slice_size(x.slot, x.gen)
      if size < 0 or named[x.slot] then
        wrong = wrong or ("[%d] is a slice that %s"):format(i, slice.stale_text(x))
      end
      named[x.slot] = true
      bytes = bytes + size
    end
  end
  for i = 1, #list do
    if slice.is_slice(list[i]) then named[list[i].slot] = nil end
  end
  if wrong then check.raise(what .. wrong) end
  return bytes
end

-- own: takes the slices, also those behind one that could not be queued.
local function queue_list(self, list, what)
  local result = 0
  for i = 1, #list do
    local code = queue_one(self, list[i], true, what)
    if result >= 0 then result = code end
  end
  return result
end

local function wait_low(self)
  local code = wait_writable(self.slot, "writing")
  if code < 0 then return code end
  code = C.neap_stream_queued(self.slot, self.gen)
  if code > HIGH then return wait_low(self) end
  return code
end

-- Where a write will wait it raises before it has taken anything.
local function check_can_wait(self)
  prepare(running(), isyieldable())
  check_free(writers[self.slot], "writing")
end

local function write_list(self, list)
  local bytes = check_list(list, "conn:write: argument")
  if C.neap_stream_queued(self.slot, self.gen) + bytes > HIGH then check_can_wait(self) end
  local code = queue_list(self, list, "conn:write: argument")
  return code
end

local function write_one(self, x)
  local code = queue_one(self, x, false, "conn:write: argument")
  if code == BUSY then
    check_can_wait(self)
    code = queue_one(self, x, true, "conn:write: argument")
  end
  return code
end

--- Queues a string, a slice or a list of them; they leave at the end of this turn. Waits while
--- more than 64 KiB are queued, until no more than 16 KiB are. After a "timeout" or "cancelled"
--- the bytes are queued all the same.
--- own: takes slices, borrows strings and views
--- err: "closed" (also after a shutdown), "reset", "timeout", "cancelled", "limit" (there is no
--- memory for a string; a slice has its own), "memory", "system"
--- @param x string|neap.Slice|neap.View|(string|neap.Slice|neap.View)[] the bytes
--- @return true|nil ok, string? message, string? name
function Stream:write(x)
  check_stream(self, "write")
  local code = type(x) == "table" and write_list(self, x) or write_one(self, x)
  if code > HIGH then code = wait_low(self) end
  if code >= 0 then return true end
  return failed(self, "write", code)
end

--- As write, for who must not wait: takes x only when no more than 64 KiB are queued.
--- own: takes slices, except at "limit"
--- err: "limit" (x is untouched), "closed", "reset", "memory", "system"
--- @param x string|neap.Slice|neap.View|(string|neap.Slice|neap.View)[] the bytes
--- @return true|nil ok, string? message, string? name
function Stream:try_write(x)
  check_stream(self, "try_write")
  local what = "conn:try_write: argument"
  if type(x) == "table" then check_list(x, what) end
  if C.neap_stream_queued(self.slot, self.gen) > HIGH then
    return failed(self, "try_write", C.NEAP_E_LIMIT)
  end
  local code = type(x) == "table" and queue_list(self, x, what) or queue_one(self, x, true, what)
  if code >= 0 then return true end
  return failed(self, "try_write", code)
end

--- Waits until no more than so many bytes are queued. @return integer code the bytes
function M.drain(conn, low, seconds)
  local slot, gen = conn.slot, conn.gen
  check_free(writers[slot], "writing")
  local code = C.neap_stream_flush(slot, gen, low)
  while code > low do
    code = wait_writable(slot, "writing", seconds)
    if code == 0 then code = C.neap_stream_flush(slot, gen, low) end
  end
  return code
end

--- Sends a part of a file behind what is queued; waits until the system takes some of it.
--- @param file ffi.cdata* a handle, of neap_disk_open
--- @return integer code bytes that were sent, or BUSY and others, as neap_stream_send_file
function M.send_file(conn, file, from, n, may_wait)
  local slot, gen = conn.slot, conn.gen
  local code = C.neap_stream_send_file(slot, gen, file.slot, file.gen, from, n, may_wait)
  while code == AGAIN do
    code = wait_writable(slot, "writing")
    if code == 0 then
      code = C.neap_stream_send_file(slot, gen, file.slot, file.gen, from, n, may_wait)
    end
  end
  return code
end

--- Waits until the system has taken everything that is queued.
--- err: "closed", "reset", "timeout", "cancelled", "memory", "system"
--- @return true|nil ok, string? message, string? name
function Stream:flush()
  check_stream(self, "flush")
  local code = M.drain(self, 0)
  if code >= 0 then return true end
  return failed(self, "flush", code)
end

pipe.install(Stream, {
  check = check_reading,
  check_other = function(to)
    if not istype(stream_t, to) then
      check.raise("conn:pipe_to: to must be a connection, got " .. type(to))
    end
    check_stream(to, "pipe_to")
  end,
  readers = readers, writers = writers, sources = sources, sinks = sinks, timeout_of = timeout_of,
  check_free = check_free, peer_of = peer_of,
})

put.install(Stream, {
  name = "conn",
  check = check_stream,
  outcome = function(self, code, name)
    if code >= 0 then return self end
    if code == STALE or code == C.NEAP_E_RANGE then
      check.raise("conn:" .. name .. ": " .. (code == STALE
        and "the slice was released before, or the view is stale" or "the value does not fit"))
    end
    return failed(self, name, code)
  end,
  bytes = function(self, bytes)
    local code = C.neap_stream_write_bytes(self.slot, self.gen, bytes, #bytes, true)
    return code
  end,
  slice = function(self, x)
    local code = C.neap_stream_put_slice(self.slot, self.gen, x.slot, x.gen)
    return code
  end,
  view = function(self, x)
    local code = C.neap_stream_put_view(self.slot, self.gen, x.slot, x.gen, x.epoch, x.at, x.size)
    return code
  end,
  number = function(self, number, value)
    local code = C.neap_stream_put_number(self.slot, self.gen, number, value)
    return code
  end,
  bits = function(self, number, bits)
    local code = C.neap_stream_put_bits(self.slot, self.gen, number, bits)
    return code
  end,
  varint = function(self, bits)
    local code = C.neap_stream_put_varint(self.slot, self.gen, bits)
    return code
  end,
})

local info = ffi.new("struct neap_stream_info")

--- What is known of the connection; nil when it is closed.
--- @return table|nil info peer, address (this side's) · read_bytes, written_bytes (taken by the
--- system), queued_bytes (not yet) · buffered_bytes (here and unread) · age, idle (seconds)
function Stream:info()
  check_stream(self, "info")
  if C.neap_stream_info(self.slot, self.gen, info) < 0 then return nil end
  C.neap_stream_local(self.slot, self.gen, room)
  return {
    address = ffi.string(room), peer = peer_of(self),
    read_bytes = tonumber(info.read_bytes), written_bytes = tonumber(info.written_bytes),
    queued_bytes = tonumber(info.queued_bytes), buffered_bytes = self:buffered(),
    age = info.age, idle = info.idle,
  }
end

--- Every call that waits on this connection fails with "timeout" after so many seconds; no
--- bytes are lost by that.
--- @param seconds? number of each wait; nil: never
function Stream:set_timeout(seconds)
  check_stream(self, "set_timeout")
  check.seconds_or_nil(seconds, "conn:set_timeout: seconds")
  if C.neap_stream_queued(self.slot, self.gen) == STALE then return end
  if seconds == nil and served[self.slot] then seconds = false end
  set_timeout(self.slot, seconds)
end

--- Lets the connection outlive its handler; somebody else closes it.
function Stream:keep()
  check_stream(self, "keep")
  if C.neap_stream_queued(self.slot, self.gen) ~= STALE then kept[self.slot] = self.gen end
end

--- How many bytes are queued and not yet taken by the system.
--- @return integer bytes
function Stream:queued()
  check_stream(self, "queued")
  local code = C.neap_stream_queued(self.slot, self.gen)
  return code > 0 and code or 0
end

--- Sends what is queued and then the end of the stream; reading goes on.
--- err: "closed", "reset", "system"
--- @return true|nil ok, string? message, string? name
function Stream:shutdown()
  check_stream(self, "shutdown")
  local code = C.neap_stream_shutdown(self.slot, self.gen)
  if code >= 0 then return true end
  return failed(self, "shutdown", code)
end

--- Closes in order: what is queued is still sent. Twice is harmless; whoever waits on the
--- connection gets "closed".
function Stream:close()
  check_stream(self, "close")
  local slot = self.slot
  if C.neap_stream_close(slot, self.gen) < 0 then return end
  ffi.gc(self, nil)
  wake_later(slot)
  local server = served[slot]
  if server then
    served[slot] = false
    server:left(slot, self)
  end
end

ffi.metatype(stream_t, {
  __index = function(self, key)
    if key == "peer" then return (peer_of(self)) end
    return Stream[key]
  end,
  __tostring = described,
  __metatable = "neap.connection",
})

--- Who waits for what, by slot; which connections outlive their handlers.
M.readers, M.writers, M.kept = readers, writers, kept
M.set_timeout, M.wait_writable = set_timeout, wait_writable

--- A connection that the collector closes if it is forgotten.
--- @param made ffi.cdata* struct neap_connection
function M.take(made) return ffi.gc(new_stream(made), C.neap_stream_finalize) end

--- One whose events go to a server, which closes it: without a finalizer, and with no task while
--- nothing comes.
function M.serve(server, made)
  local slot = made.stream.slot
  served[slot] = server
  set_timeout(slot, nil)
  return new_stream(made)
end

--- The server ends it: it is not told when the connection closes.
function M.unserve(slot) served[slot] = false end

return abi.keep("neap.conn", M)
