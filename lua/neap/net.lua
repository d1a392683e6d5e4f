--- Connections and listeners.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local pool = require("neap.pool")
local put = require("neap.put")
local reader = require("neap.reader")
local slice = require("neap.slice")
local task = require("neap.task")
local view = require("neap.view")

local C = abi.C
local loop = task.loop
local AGAIN, STALE, BUSY = C.NEAP_E_AGAIN, C.NEAP_E_STALE, C.NEAP_E_BUSY
local TIMEOUT, LIMIT = C.NEAP_E_TIMEOUT, C.NEAP_E_LIMIT
local HIGH = C.NEAP_WRITE_HIGH_BYTES
local IDLE_SECONDS = 0.25 -- without traffic, after which a stop does not wait for a handler
local ACCEPT_AT_ONCE = 64 -- connections accepted in one turn: others want to run too

local stream_t = ffi.typeof("struct neap_lua_stream")
local listener_t = ffi.typeof("struct neap_lua_listener")
local connection_t = ffi.typeof("struct neap_connection")
local handle_t = ffi.typeof("struct neap_handle")
local istype = ffi.istype
local type, pcall, error = type, pcall, error
local running, isyieldable = coroutine.running, coroutine.isyieldable
local prepare, wait = task.prepare, task.wait

local M = {}

--- What `neap.listen` gives: it accepts connections and runs the handler for each.
--- @class neap.Listener
--- @field address string|nil where it listens, with the port that it has; nil when it is closed

--- A connection: a handler's argument, or what `neap.connect` gives. It belongs to who opened it:
--- one that a handler was given is closed when the handler returns, others by `close` (a forgotten
--- one by the collector). One task may read and another write; two that read raise.
--- @class neap.Connection
--- @field peer string the address of the other side
local Stream, Listener = {}, {}

-- Who waits, by slot; no entry keeps a connection from being collected.
local readers, writers = {}, {}
local acceptors = {}
local timeouts = {} -- seconds that a wait may take, by slot of the connection
local kept = {}     -- connections that outlive their handler: slot → gen
local served = {}   -- by slot of a connection: the server that has its messages handled

-- No entry where there was none: LuaJIT makes one for a nil, too.
local function set_timeout(slot, seconds)
  if timeouts[slot] ~= seconds then timeouts[slot] = seconds end
end

local function wake_reader(slot)
  local waiting = readers[slot]
  if waiting then return task.wake(waiting, 0) end
  local server = served[slot]
  if server then return server:ready(slot) end
end

local function wake_writer(slot)
  local waiting = writers[slot]
  if waiting then task.wake(waiting, 0) end
end

-- For whoever runs in a task: who waits goes on when this one gives control up. The slot may have
-- another connection by then.
local function wake_later(slot)
  if readers[slot] then task.wake_later(readers[slot]) end
  if writers[slot] then task.wake_later(writers[slot]) end
  readers[slot], writers[slot] = false, false
end

task.on_ready(C.NEAP_READY_READ, wake_reader)
task.on_ready(C.NEAP_READY_WRITE, wake_writer)
task.on_ready(C.NEAP_READY_CONNECT, wake_writer)

-- ---- addresses ----

local room = ffi.new("char[?]", C.NEAP_ADDRESS_BYTES)

local function check_address(address, what)
  check.string(address, what .. ": address")
  -- C would take the part before a zero byte for the whole
  if address:find("\0", 1, true) then return errors.failure(what, C.NEAP_E_ADDRESS) end
  return true
end

local function peer_of(stream)
  if C.neap_stream_peer(stream.slot, stream.gen, room) < 0 then return "a closed connection" end
  return ffi.string(room)
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

local function take_connection(made)
  return ffi.gc(new_stream(made), C.neap_stream_finalize)
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
  local code = wait(me, timeouts[slot], readers, slot)
  if readers[slot] == me then readers[slot] = false end
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
  local code = wait(me, seconds or timeouts[slot], writers, slot)
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

--- Waits until the system has taken everything that is queued.
--- err: "closed", "reset", "timeout", "cancelled", "memory", "system"
--- @return true|nil ok, string? message, string? name
function Stream:flush()
  check_stream(self, "flush")
  local code = M.drain(self, 0)
  if code >= 0 then return true end
  return failed(self, "flush", code)
end

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
    if key == "peer" then return peer_of(self) end
    return Stream[key]
  end,
  __tostring = function(self) return "connection with " .. peer_of(self) end,
  __metatable = "neap.connection",
})

-- ---- options ----

local IDLE_TIMEOUT, MAX_CONNECTIONS, BACKLOG = 600, 10000, 4096

local connect_defaults = {
  max_read = tonumber(C.NEAP_MAX_READ_BYTES), max_held = 0, timeout = 0, idle_timeout = 0,
  no_delay = true, keepalive = 0, pool = false,
}
local listen_defaults = {
  max_read = connect_defaults.max_read, max_held = 0, timeout = 0, idle_timeout = IDLE_TIMEOUT,
  pool = false,
  no_delay = true, keepalive = 0, max_connections = MAX_CONNECTIONS, backlog = BACKLOG,
  reuse_port = false, dual_stack = true, mode = "",
}

local options_t = ffi.typeof("struct neap_socket_options")
local SECONDS = 315360000
local whole_options = { max_read = C.NEAP_BUF_MAX_BYTES, max_held = 0x1p53,
  idle_timeout = SECONDS,
  keepalive = 32767, max_connections = 0x7fffffff, backlog = 0x7fffffff }

local function mode_of(text, what)
  if text == "" then return 0 end
  if not text:find("^[0-7][0-7][0-7]$") then
    check.raise(what .. ': mode must be three octal digits, as in "660"')
  end
  return tonumber(text, 8)
end

-- `pool` is no plain value: it is taken out before the others are looked at.
local function take_pool(options, what)
  if type(options) ~= "table" or options.pool == nil then return options, pool.default() end
  if not pool.is_pool(options.pool) then
    check.raise(what .. ": option pool must be a pool, got " .. type(options.pool))
  end
  local others = {}
  for name, value in pairs(options) do others[name] = value end
  others.pool = nil
  return others, options.pool
end

-- A connection can always finish a message when all of its slices are released.
local function check_held(given, what)
  local least = 4 * given.max_read + 131072
  if given.max_held > 0 and given.max_held < least then
    check.raise(("%s: max_held must be at least 4 max_read and 128 KiB (%.0f), got %.0f")
      :format(what, least, given.max_held))
  end
end

-- Returns what C is told, the seconds that a wait may take, and the pool.
local function check_options(options, defaults, what)
  local home
  options, home = take_pool(options, what)
  local given = check.options(options, defaults, what)
  check.seconds(given.timeout, what .. ": timeout")
  for name, most in pairs(whole_options) do
    if given[name] then check.whole(given[name], most, what .. ": " .. name) end
  end
  if given.max_connections == 0 then check.raise(what .. ": max_connections must be at least 1") end
  check_held(given, what)
  local told = options_t()
  for name, value in pairs(given) do
    if name == "mode" then value = mode_of(value, what) end
    if name ~= "timeout" and name ~= "pool" then told[name] = value end
  end
  return told, given.timeout > 0 and given.timeout or nil, home
end

local function open_failed(what, code, home, given)
  if code ~= LIMIT then return errors.failure(what, code) end
  return errors.fail(("%s: max_read is %d bytes, which needs a pool with a limit of four times as "
    .. "much and 64 KiB at least, and this one's is %.0f"):format(what, given.max_read,
    home:settings().limit), "limit")
end

-- ---- listeners ----

local function check_listener(self, name)
  if not istype(listener_t, self) then
    check.raise("listener:" .. name .. ": called on " .. type(self) .. ", not on a listener")
  end
end

local function close_connection(ended)
  local conn = ended.argument
  if kept[conn.slot] == conn.gen then
    kept[conn.slot] = nil
  else
    conn:close()
  end
end

local function accept_failed(acceptor, code)
  if code == AGAIN or code == STALE then return end
  local now = os.time()
  if acceptor.told == now then return end
  acceptor.told = now -- it may go on so for long
  local where, what, why = "accepting on " .. acceptor.address, "failed", errors.text(code)
  if code == C.NEAP_E_DESCRIPTORS or code == C.NEAP_E_MEMORY then
    what = "rests" -- and tries again several times a second
  elseif code == C.NEAP_E_LIMIT then
    what, why = "waits", ("%d connections are open, as many as max_connections allows; others wait")
      :format(acceptor.options.max_connections)
  elseif code == C.NEAP_E_CLOSED then
    what, why = "drops connections", "the pool that they read into is closed"
  end
  task.say(where .. " " .. what .. ": " .. why)
end

local function accept_some(slot)
  local acceptor = acceptors[slot]
  if not acceptor then return end
  local made = connection_t()
  for _ = 1, ACCEPT_AT_ONCE do
    local code = C.neap_listener_accept(slot, acceptor.gen, made)
    if code < 0 then return accept_failed(acceptor, code) end
    set_timeout(made.stream.slot, acceptor.timeout)
    acceptor:take(made)
  end
end

local function start_handler(acceptor, made)
  task.start(acceptor.handler, acceptor, take_connection(made))
end

task.on_ready(C.NEAP_READY_ACCEPT, accept_some)

-- ---- at a stop ----

-- The handler waits in a read of this connection. Is that its own, with nothing that came or went
-- for a while, and nothing unread or unsent? (One that reads another waits for an answer there.)
local function is_idle(slot, handler)
  local conn = handler.argument
  if slot ~= conn.slot or conn:buffered() > 0 then return false end
  if C.neap_stream_info(conn.slot, conn.gen, info) < 0 then return true end
  return info.queued_bytes == 0 and info.idle >= IDLE_SECONDS
end

local function add_waiting(found, list)
  for slot, waiting in pairs(list) do
    if waiting and waiting.kind and waiting.kind.on_end == close_connection then
      found[waiting] = slot
    end
  end
end

-- All handlers that wait, and where: true, or the slot of the connection that they read.
local function find_handlers()
  local found = {}
  add_waiting(found, writers)
  for handler in pairs(task.alive) do
    if handler.kind.on_end == close_connection then found[handler] = true end
  end
  for handler in pairs(found) do found[handler] = true end
  add_waiting(found, readers)
  return found
end

task.on_stop({
  running = function(names)
    local count = 0
    for handler, where in pairs(find_handlers()) do
      if where == true or not is_idle(where, handler) then
        count = count + 1
        if names and #names < 3 then names[#names + 1] = handler.argument.peer end
      end
    end
    return count
  end,
  track = function()
    for handler in pairs(find_handlers()) do task.track(handler) end
  end,
})

-- When the interpreter ends: the path of a unix socket goes with its listener.
local close_listener = C.neap_listener_close
M.at_end = ffi.gc(handle_t(), function()
  for slot, acceptor in pairs(acceptors) do close_listener(slot, acceptor.gen) end
end)

local function listener_address(self)
  if C.neap_listener_address(self.slot, self.gen, room) < 0 then return nil end
  return ffi.string(room)
end

--- Serves connections: each runs handler(conn) in a task of its own and is closed when the
--- handler returns.
--- own: returns owned; each conn is closed by neap
--- err: "address", "address_in_use", "permission", "descriptors", "descriptor", "unreachable",
--- "limit" (max_read is too much for the pool's), "memory", "system"
--- @param address string tcp://IP:PORT (port 0 picks one), unix:///PATH, unix://@NAME (abstract),
--- or fd://N, a listening socket that the process was started with
--- @param handler fun(conn: neap.Connection) serves one connection
--- @param options? table max_read: bytes of one read at most (1 MiB) · max_held: bytes of bufs that
--- what was read from one connection may hold, before its reading pauses (0: no limit) · pool:
--- where they read into (neap.default_pool()) · timeout: seconds that a wait on a connection may
--- take (0: for ever) · idle_timeout: seconds without traffic, after which
--- a connection fails with "timeout" (600; 0: never) · max_connections: open at once; others wait
--- to be accepted (10,000) · backlog: how many may wait (4096, cut to net.core.somaxconn) ·
--- no_delay: small writes are sent at once (true) · keepalive: seconds without traffic, after
--- which the system probes the peer (0: never) · reuse_port: other processes may listen there too
--- (false) · dual_stack: [::] serves IPv4 as well (true) · mode: permissions of a unix socket's
--- path, as in "660"
--- @return neap.Listener|nil listener, string? message, string? name
function M.listen(address, handler, options)
  check.string(address, "neap.listen: address")
  if type(handler) ~= "function" then
    check.raise("neap.listen: handler must be a function, got " .. type(handler))
  end
  return M.accept({ handler = handler, take = start_handler, on_end = close_connection,
    origin = task.origin_of(2) }, address, options, "neap.listen")
end

--- Listens, and has what comes taken by an acceptor: take(self, made), made being a struct
--- neap_connection. It is the kind of the tasks that it starts, too.
function M.accept(acceptor, address, options, what)
  local ok, message, name = check_address(address, what)
  local given, timeout, home = check_options(options, listen_defaults, what)
  if not ok then return nil, message, name end
  local made = handle_t()
  local code = C.neap_listener_open(loop, home.slot, home.gen, address, given, made)
  if code < 0 then return open_failed("listen on " .. address, code, home, given) end
  local listener = listener_t(made.slot, made.gen)
  acceptor.gen, acceptor.options, acceptor.timeout = made.gen, given, timeout
  acceptor.address = listener_address(listener)
  acceptors[made.slot] = acceptor
  return listener
end

--- Options that M.accept() knows, with their defaults.
M.listen_defaults = listen_defaults

--- A connection whose events go to a server, which closes it: without a finalizer, and with no
--- task while nothing comes.
function M.serve(server, made)
  served[made.stream.slot] = server
  return new_stream(made)
end

--- The server ends it: it is not told when the connection closes.
function M.unserve(slot) served[slot] = false end


--- Stops listening; connections that are open stay. Twice is harmless.
function Listener:close()
  check_listener(self, "close")
  if C.neap_listener_close(self.slot, self.gen) < 0 then return end
  acceptors[self.slot] = nil
end

ffi.metatype(listener_t, {
  __index = function(self, key)
    if key == "address" then return listener_address(self) end
    return Listener[key]
  end,
  __tostring = function(self)
    return "listener on " .. (listener_address(self) or "nothing: it is closed")
  end,
  __metatable = "neap.listener",
})

-- ---- connecting ----

-- Waits until it stands, or fails.
local function connected(conn)
  local code = C.neap_stream_connected(conn.slot, conn.gen)
  while code == AGAIN do
    code = wait_writable(conn.slot, "connecting")
    if code == 0 then code = C.neap_stream_connected(conn.slot, conn.gen) end
  end
  return code
end

--- A connection to a server; waits until it stands.
--- own: returns owned
--- err: "refused", "unreachable", "timeout", "cancelled", "address", "permission", "descriptors",
--- "descriptor", "busy" (a unix socket's backlog is full), "limit" (max_read is too much for the
--- pool's), "memory", "system"
--- @param address string tcp://IP:PORT, unix:///PATH, unix://@NAME, or fd://N: a socket, pipe,
--- terminal or file that the process was started with (0 is standard input, 1 standard output)
--- @param options? table max_read, max_held, pool, timeout,
--- idle_timeout (0), no_delay, keepalive: as for listen; connecting is a wait, too
--- @return neap.Connection|nil conn, string? message, string? name
function M.connect(address, options)
  local ok, message, name = check_address(address, "neap.connect")
  local given, timeout, home = check_options(options, connect_defaults, "neap.connect")
  if not ok then return nil, message, name end
  local made = connection_t()
  local code = C.neap_stream_connect(loop, home.slot, home.gen, address, given, made)
  if code < 0 then return open_failed("connect to " .. address, code, home, given) end
  local conn = take_connection(made)
  set_timeout(conn.slot, timeout)
  local went, result = pcall(connected, conn)
  if went and result == 0 then return conn end
  conn:close()
  if not went then error(result, 0) end
  return errors.failure("connect to " .. address, result)
end

local pair_t = ffi.typeof("struct neap_connection[2]")

--- Two connections, each the other's peer, without a port: what one writes the other reads.
--- own: returns owned, both
--- err: "descriptors", "memory", "system"
--- @param options? table as for connect
--- @return neap.Connection|nil conn, neap.Connection|string other, string? name
function M.pair(options)
  local given, timeout, home = check_options(options, connect_defaults, "neap.testing.pair")
  local made = pair_t()
  local code = C.neap_stream_pair(loop, home.slot, home.gen, given, made)
  if code < 0 then return open_failed("neap.testing.pair", code, home, given) end
  local one, other = take_connection(made[0]), take_connection(made[1])
  set_timeout(one.slot, timeout)
  set_timeout(other.slot, timeout)
  return one, other
end

return abi.keep("neap.net", M)
