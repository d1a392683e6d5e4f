--- Connections and listeners.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local pool = require("neap.pool")
local reader = require("neap.reader")
local slice = require("neap.slice")
local task = require("neap.task")

local C = abi.C
local loop = task.loop
local AGAIN, STALE = C.NEAP_E_AGAIN, C.NEAP_E_STALE
local HIGH = C.NEAP_WRITE_HIGH_BYTES
local ACCEPT_AT_ONCE = 64 -- connections accepted in one turn: others want to run too

local stream_t = ffi.typeof("struct neap_lua_stream")
local listener_t = ffi.typeof("struct neap_lua_listener")
local connection_t = ffi.typeof("struct neap_connection")
local handle_t = ffi.typeof("struct neap_handle")
local istype = ffi.istype
local type = type
local prepare, wait = task.prepare, task.wait

local M = {}
local Stream, Listener = {}, {}

-- Who waits, by slot; no entry keeps a connection from being collected.
local readers, reader_tokens = {}, {}
local writers, writer_tokens = {}, {}
local acceptors = {}
local timeouts = {} -- seconds that a wait may take, by slot of the connection
local kept = {}     -- connections that outlive their handler: slot → gen

local function wake(tasks, tokens, slot)
  local waiting = tasks[slot]
  if not waiting then return end
  tasks[slot] = false
  task.wake(waiting, tokens[slot])
end

-- For whoever runs in a task: the one that waits goes on when this one gives control up.
local function wake_later(tasks, tokens, slot)
  local waiting = tasks[slot]
  if not waiting then return end
  tasks[slot] = false
  task.wake_later(waiting, tokens[slot])
end

local function wake_reader(slot) wake(readers, reader_tokens, slot) end
local function wake_writer(slot) wake(writers, writer_tokens, slot) end

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

local function check_stream(self, name)
  if not istype(stream_t, self) then
    check.raise("conn:" .. name .. ": called on " .. type(self) .. ", not on a connection")
  end
end

local function take_connection(made)
  return ffi.gc(stream_t(made.stream.slot, made.stream.gen, made.reader.slot, made.reader.gen),
    C.neap_stream_finalize)
end

local function still_waiting(tasks, tokens, slot)
  local other = tasks[slot]
  return other and other.token == tokens[slot] and not other.done
end

-- Raises, with nothing done, where a wait would.
local function check_can_wait(tasks, tokens, slot, what)
  local me, token = prepare()
  if still_waiting(tasks, tokens, slot) then
    check.raise("conn: another task is already " .. what .. " this connection")
  end
  return me, token
end

local function wait_for(tasks, tokens, slot, what)
  local me, token = check_can_wait(tasks, tokens, slot, what)
  tasks[slot], tokens[slot] = me, token
  local code = wait(me, timeouts[slot])
  if code < 0 then tasks[slot] = false end
  return code
end

--- The reader has no bytes and the system none either: wait until it has.
local function fill(self)
  local code = wait_for(readers, reader_tokens, self.slot, "reading")
  return code < 0 and code or AGAIN
end

reader.install(Stream, { name = "conn", fill = fill, check = check_stream, tell = peer_of })

local function failed(self, what, code)
  return errors.failure(peer_of(self) .. ": " .. what, code)
end

-- own: takes a slice. Returns the bytes queued, or a negative code.
local function queue_one(self, x, what)
  if type(x) == "string" then
    local code = C.neap_stream_write_bytes(self.slot, self.gen, x, #x)
    return code
  end
  if not slice.is_slice(x) then
    check.raise(what .. " must be a string or a slice, got " .. type(x))
  end
  local code = C.neap_stream_write(self.slot, self.gen, x.slot, x.gen)
  if code == STALE then check.raise(what .. " is a slice that was released or taken before") end
  slice.retire(x)
  return code
end

local function size_of(x)
  if type(x) == "string" then return #x end
  if not slice.is_slice(x) then return 0 end
  local size = C.neap_slice_size(x.slot, x.gen)
  return size
end

local function wait_low(self)
  local code = wait_for(writers, writer_tokens, self.slot, "writing")
  if code < 0 then return code end
  code = C.neap_stream_queued(self.slot, self.gen)
  if code > HIGH then return wait_low(self) end
  return code
end

--- Queues a string or a slice (which it takes); it leaves at the end of this turn. Waits
--- while more than 64 KiB are queued, until no more than 16 KiB are.
--- @return true|nil ok, string? message, string? name
function Stream:write(x)
  check_stream(self, "write")
  local queued = C.neap_stream_queued(self.slot, self.gen)
  if queued + size_of(x) > HIGH then
    check_can_wait(writers, writer_tokens, self.slot, "writing")
  end
  local code = queue_one(self, x, "conn:write: argument")
  if code > HIGH then code = wait_low(self) end
  if code >= 0 then return true end
  return failed(self, "write", code)
end

--- The same for who must not wait: takes only when no more than 64 KiB are queued.
--- @return true|nil ok, string? message, string? name "limit": x is untouched
function Stream:try_write(x)
  check_stream(self, "try_write")
  if C.neap_stream_queued(self.slot, self.gen) > HIGH then
    return failed(self, "try_write", C.NEAP_E_LIMIT)
  end
  local code = queue_one(self, x, "conn:try_write: argument")
  if code >= 0 then return true end
  return failed(self, "try_write", code)
end

--- Every call that waits on this connection fails with "timeout" after so many seconds; no
--- bytes are lost by that. @param seconds? number nil: never
function Stream:set_timeout(seconds)
  check_stream(self, "set_timeout")
  if seconds ~= nil then check.seconds(seconds, "conn:set_timeout: seconds") end
  if C.neap_stream_queued(self.slot, self.gen) == STALE then return end
  timeouts[self.slot] = seconds
end

--- Lets the connection outlive its handler; somebody else closes it.
function Stream:keep()
  check_stream(self, "keep")
  if C.neap_stream_queued(self.slot, self.gen) ~= STALE then kept[self.slot] = self.gen end
end

--- Bytes queued and not yet taken by the system.
function Stream:queued()
  check_stream(self, "queued")
  local code = C.neap_stream_queued(self.slot, self.gen)
  return code > 0 and code or 0
end

--- Sends what is queued and then the end of the stream; reading goes on.
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
  if C.neap_stream_close(self.slot, self.gen) < 0 then return end
  ffi.gc(self, nil)
  wake_later(readers, reader_tokens, self.slot)
  wake_later(writers, writer_tokens, self.slot)
end

ffi.metatype(stream_t, {
  __index = function(self, key)
    if key == "peer" then return peer_of(self) end
    return Stream[key]
  end,
  __tostring = function(self) return "connection with " .. peer_of(self) end,
  __metatable = "neap.connection",
})

local connection_options = { max_read = tonumber(C.NEAP_MAX_READ_BYTES), timeout = 0 }

local function check_options(options, what)
  local given = check.options(options, connection_options, what)
  check.whole(given.max_read, C.NEAP_BUF_MAX_BYTES, what .. ": max_read")
  check.seconds(given.timeout, what .. ": timeout")
  return given
end

local function limit(conn, options)
  C.neap_reader_limit(conn.reader_slot, conn.reader_gen, options.max_read)
  timeouts[conn.slot] = options.timeout > 0 and options.timeout or nil
end

-- ---- listeners ----

local function check_listener(self, name)
  if not istype(listener_t, self) then
    check.raise("listener:" .. name .. ": called on " .. type(self) .. ", not on a listener")
  end
end

local function close_connection(ended)
  local conn = ended.conn
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
  acceptor.told = now -- it rests and tries again several times a second
  task.say("accepting on " .. acceptor.address .. " rests: " .. errors.text(code))
end

local function accept_some(slot)
  local acceptor = acceptors[slot]
  if not acceptor then return end
  local made = connection_t()
  for _ = 1, ACCEPT_AT_ONCE do
    local code = C.neap_listener_accept(slot, acceptor.gen, made)
    if code < 0 then return accept_failed(acceptor, code) end
    local conn = take_connection(made)
    limit(conn, acceptor.options)
    task.start(acceptor.handler,
      { on_end = close_connection, conn = conn, origin = acceptor.origin }, conn)
  end
end

task.on_ready(C.NEAP_READY_ACCEPT, accept_some)

--- Serves connections: each runs handler(conn) in a task of its own and is closed when the
--- handler returns.
--- @param address string tcp://IP:PORT; port 0 picks one
--- @param handler fun(conn: neap.Connection)
--- @param options? table max_read: bytes of one read at most (1 MiB) · timeout: seconds that a
--- wait on a connection may take (0: for ever)
--- @return neap.Listener|nil listener, string? message, string? name
function M.listen(address, handler, options)
  local ok, message, name = check_address(address, "neap.listen")
  if type(handler) ~= "function" then
    check.raise("neap.listen: handler must be a function, got " .. type(handler))
  end
  local given = check_options(options, "neap.listen")
  if not ok then return nil, message, name end
  local home, made = pool.default(), handle_t()
  local code = C.neap_listener_open(loop, home.slot, home.gen, address, made)
  if code < 0 then return errors.failure("listen on " .. address, code) end
  local listener = listener_t(made.slot, made.gen)
  acceptors[made.slot] = { gen = made.gen, handler = handler, options = given,
    address = listener.address, origin = task.origin_of(2) }
  return listener
end

--- Stops listening; connections that are open stay. Twice is harmless.
function Listener:close()
  check_listener(self, "close")
  if C.neap_listener_close(self.slot, self.gen) < 0 then return end
  acceptors[self.slot] = nil
end

local function listener_address(self)
  if C.neap_listener_address(self.slot, self.gen, room) < 0 then return nil end
  return ffi.string(room)
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

--- A connection to tcp://IP:PORT; waits until it stands.
--- @param options? table as for listen
--- @return neap.Connection|nil conn, string? message, string? name
function M.connect(address, options)
  local ok, message, name = check_address(address, "neap.connect")
  local given = check_options(options, "neap.connect")
  if not ok then return nil, message, name end
  local home, made = pool.default(), connection_t()
  local code = C.neap_stream_connect(loop, home.slot, home.gen, address, made)
  if code < 0 then return errors.failure("connect to " .. address, code) end
  local conn = take_connection(made)
  limit(conn, given)
  code = C.neap_stream_connected(conn.slot, conn.gen)
  while code == AGAIN do
    code = wait_for(writers, writer_tokens, conn.slot, "connecting")
    if code == 0 then code = C.neap_stream_connected(conn.slot, conn.gen) end
  end
  if code == 0 then return conn end
  conn:close()
  return errors.failure("connect to " .. address, code)
end

return abi.keep("neap.net", M)
