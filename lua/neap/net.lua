--- Opening connections: listeners, and connecting.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local connection = require("neap.conn")
local errors = require("neap.errors")
local pool = require("neap.pool")
local task = require("neap.task")

local C = abi.C
local loop = task.loop
local AGAIN, STALE, LIMIT = C.NEAP_E_AGAIN, C.NEAP_E_STALE, C.NEAP_E_LIMIT
local IDLE_SECONDS = 0.25 -- without traffic, after which a stop does not wait for a handler
local ACCEPT_AT_ONCE = 64 -- connections accepted in one turn: others want to run too

local listener_t = ffi.typeof("struct neap_lua_listener")
local connection_t = ffi.typeof("struct neap_connection")
local handle_t = ffi.typeof("struct neap_handle")
local istype = ffi.istype
local type, pcall, error = type, pcall, error
local readers, writers, kept = connection.readers, connection.writers, connection.kept
local set_timeout, wait_writable = connection.set_timeout, connection.wait_writable
local take_connection = connection.take

local M = {}

--- What `neap.listen` gives: it accepts connections and runs the handler for each.
--- @class neap.Listener
--- @field address string|nil where it listens, with the port that it has; nil when it is closed
local Listener = {}

local acceptors = {}

-- ---- addresses ----

local room = ffi.new("char[?]", C.NEAP_ADDRESS_BYTES)

-- For messages: one of which nothing, or not all, would be seen stands in quotes.
local function shown(address)
  return address:find("^[^%c%s]+$") and address or (("%q"):format(address):gsub("\\\n", "\\n"))
end

local function check_address(address, what, verb)
  check.string(address, what .. ": address")
  verb = verb .. shown(address)
  -- C would take the part before a zero byte for the whole
  if address:find("\0", 1, true) then return errors.failure(verb, C.NEAP_E_ADDRESS) end
  return verb
end

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

local arrival = connection_t() -- whoever takes it copies it

local function accept_some(slot)
  local acceptor = acceptors[slot]
  if not acceptor then return end
  for _ = 1, ACCEPT_AT_ONCE do
    local code = C.neap_listener_accept(slot, acceptor.gen, arrival)
    if code < 0 then return accept_failed(acceptor, code) end
    acceptor:take(arrival)
  end
end

local function start_handler(acceptor, made)
  set_timeout(made.stream.slot, acceptor.timeout)
  task.start(acceptor.handler, acceptor, take_connection(made))
end

task.on_ready(C.NEAP_READY_ACCEPT, accept_some)

-- ---- at a stop ----

local info = ffi.new("struct neap_stream_info")

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
  local verb, message, name = check_address(address, what, "listen on ")
  local given, timeout, home = check_options(options, listen_defaults, what)
  if not verb then return nil, message, name end
  local made = handle_t()
  local code = C.neap_listener_open(loop, home.slot, home.gen, address, given, made)
  if code < 0 then return open_failed(verb, code, home, given) end
  local listener = listener_t(made.slot, made.gen)
  acceptor.gen, acceptor.options, acceptor.timeout = made.gen, given, timeout
  acceptor.address = listener_address(listener)
  acceptors[made.slot] = acceptor
  return listener
end

--- Options that M.accept() knows, with their defaults.
M.listen_defaults = listen_defaults

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
  local verb, message, name = check_address(address, "neap.connect", "connect to ")
  local given, timeout, home = check_options(options, connect_defaults, "neap.connect")
  if not verb then return nil, message, name end
  local made = connection_t()
  local code = C.neap_stream_connect(loop, home.slot, home.gen, address, given, made)
  if code < 0 then return open_failed(verb, code, home, given) end
  local conn = take_connection(made)
  set_timeout(conn.slot, timeout)
  local went, result = pcall(connected, conn)
  if went and result == 0 then return conn end
  conn:close()
  if not went then error(result, 0) end
  return errors.failure(verb, result)
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
