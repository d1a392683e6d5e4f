--- What the specs share: peers made of plain sockets, child processes, and the rule that a
--- test leaves nothing behind and hangs nobody.
---
---     local helper = require("spec.helper")
---     describe("a thing", function()
---       helper.watch(before_each, after_each)
---       it("…", function() local conn, peer = helper.pair() … end)
---     end)

local ffi = require("ffi")
local lfs = require("lfs")
local abi = require("neap.abi")
local neap = require("neap")
local pool = require("neap.pool")
local testing = require("neap.testing")

local C = abi.C
local helper = {}

-- Else the size of its bufs would follow what came in each second, and so the time that specs take.
pool.default():configure { calibrate = false }

-- How long what hangs may take, on a machine that does much else: nothing else waits for these.
local DEADLINE_S = tonumber(os.getenv("DEADLINE_S")) or 120
local CHILD_S = 100
-- connections that were closed are gone after this
local SETTLE_S = tonumber(os.getenv("SETTLE_S")) or 20

ffi.cdef [[
int socket(int domain, int type, int protocol);
int bind(int fd, const void *address, unsigned int size);
int listen(int fd, int backlog);
int accept4(int fd, void *address, unsigned int *size, int flags);
int connect(int fd, const void *address, unsigned int size);
int getsockname(int fd, void *address, unsigned int *size);
int setsockopt(int fd, int level, int option, const void *value, unsigned int size);
int shutdown(int fd, int how);
int close(int fd);
ssize_t send(int fd, const void *bytes, size_t size, int flags);
ssize_t recv(int fd, void *bytes, size_t size, int flags);
unsigned int geteuid(void);
struct spec_sockaddr_in { uint16_t family, port; uint8_t ip[4]; uint8_t zero[8]; };
struct spec_linger { int on, seconds; };
]]

local AF_INET, SOCK_STREAM, SOCK_CLOEXEC = 2, 1, 0x80000
local SOL_SOCKET, SO_LINGER, SO_RCVBUF = 1, 13, 8
local SHUT_WR, MSG_DONTWAIT, MSG_NOSIGNAL = 1, 0x40, 0x4000

-- ---- sockets that neap does not know of ----

local Socket = {}
Socket.__index = Socket
local sockets = {} -- open ones: the end of a test closes them

local function checked(result, what)
  if result < 0 then error(what .. ": errno " .. ffi.errno(), 3) end
  return result
end

local function adopt(fd)
  local self = setmetatable({ fd = fd }, Socket)
  sockets[self] = true
  return self
end

local function new_socket()
  local fd = checked(ffi.C.socket(AF_INET, SOCK_STREAM + SOCK_CLOEXEC, 0), "socket")
  return adopt(fd)
end

local function loopback(port)
  local address = ffi.new("struct spec_sockaddr_in")
  address.family = AF_INET
  address.port = bit.bor(bit.lshift(bit.band(port, 255), 8), bit.rshift(port, 8))
  address.ip[0], address.ip[3] = 127, 1
  return address
end

--- Sends all of it; waits for the peer if it must, so send little to a neap connection.
function Socket:send(bytes)
  local sent = 0
  while sent < #bytes do
    local rest = bytes:sub(sent + 1)
    sent = sent + tonumber(checked(ffi.C.send(self.fd, rest, #rest, MSG_NOSIGNAL), "send"))
  end
end

--- What is here, at most `max` bytes; "" at the end of the stream, nil when nothing is here.
function Socket:recv(max)
  local room = ffi.new("uint8_t[?]", max or 65536)
  local n = ffi.C.recv(self.fd, room, max or 65536, MSG_DONTWAIT)
  if n < 0 then return nil end
  return ffi.string(room, n)
end

--- Turns the loop until the peer's end (or a reset) is here; returns what came before.
function Socket:recv_all()
  local parts = {}
  while true do
    local part = self:recv()
    if part == "" then return table.concat(parts) end
    if part then
      parts[#parts + 1] = part
    else
      if ffi.errno() == 104 then return table.concat(parts), "reset" end
      helper.turn()
    end
  end
end

--- Turns the loop until n bytes are here.
function Socket:recv_exactly(n)
  local got = ""
  while #got < n do
    local part = self:recv(n - #got)
    if part == "" then error("the stream ended after " .. #got .. " bytes", 2) end
    if part then got = got .. part else helper.turn() end
  end
  return got
end

function Socket:shutdown() checked(ffi.C.shutdown(self.fd, SHUT_WR), "shutdown") end

function Socket:close()
  if self.fd then ffi.C.close(self.fd) end
  self.fd, sockets[self] = nil, nil
end

--- Closes with a reset instead of an orderly end.
function Socket:reset()
  local linger = ffi.new("struct spec_linger", 1, 0)
  checked(ffi.C.setsockopt(self.fd, SOL_SOCKET, SO_LINGER, linger, ffi.sizeof(linger)), "linger")
  self:close()
end

--- A socket that listens; `address` is what neap.connect takes.
function helper.listening(receive_bytes)
  local self = new_socket()
  if receive_bytes then
    local value = ffi.new("int[1]", receive_bytes)
    checked(ffi.C.setsockopt(self.fd, SOL_SOCKET, SO_RCVBUF, value, 4), "SO_RCVBUF")
  end
  local address = loopback(0)
  checked(ffi.C.bind(self.fd, address, ffi.sizeof(address)), "bind")
  checked(ffi.C.listen(self.fd, 16), "listen")
  local size = ffi.new("unsigned int[1]", ffi.sizeof(address))
  checked(ffi.C.getsockname(self.fd, address, size), "getsockname")
  local port = bit.bor(bit.lshift(bit.band(address.port, 255), 8), bit.rshift(address.port, 8))
  self.address = "tcp://127.0.0.1:" .. port
  return self
end

function Socket:accept()
  local fd = checked(ffi.C.accept4(self.fd, nil, nil, SOCK_CLOEXEC), "accept")
  return adopt(fd)
end

--- A socket connected to a listener of neap; its kernel does that, so nobody need accept.
function helper.dial(address)
  local self = new_socket()
  local sa = loopback(tonumber(address:match("%d+$")))
  checked(ffi.C.connect(self.fd, sa, ffi.sizeof(sa)), "connect to " .. address)
  return self
end

--- A neap connection and, at its other end, a plain socket.
function helper.pair(receive_bytes)
  local listening = helper.listening(receive_bytes)
  local conn = assert(neap.connect(listening.address))
  local peer = listening:accept()
  listening:close()
  return conn, peer
end

-- ---- the loop ----

local TICKERS = 4 -- tasks that may be in turn() at once
local tickers

local function make_tickers()
  tickers = {}
  for i = 1, TICKERS do
    local conn, peer = helper.pair()
    sockets[peer] = nil -- stays
    tickers[i] = { conn = conn, peer = peer }
  end
end

--- Lets the loop turn at least once.
function helper.turn()
  local ticker = table.remove(tickers)
  ticker.peer:send(".")
  assert(ticker.conn:read(1)):release()
  tickers[#tickers + 1] = ticker
end

--- Turns the loop until done() is true. The test's deadline ends it otherwise.
function helper.turn_until(done)
  while not done() do helper.turn() end
end

--- Runs fn in a task; returns a function that turns the loop until it has ended, and then
--- returns what fn returned, or raises what it raised.
function helper.task(fn, ...)
  local results
  neap.spawn(function(...) results = { n = 3, pcall(fn, ...) } end, ...)
  return function()
    helper.turn_until(function() return results end)
    if not results[1] then error(results[2], 0) end
    return unpack(results, 2, 4)
  end
end

-- ---- what a test leaves behind ----

function helper.slice_stats()
  local stats = ffi.new("struct neap_slice_stats")
  C.neap_slice_stats(stats)
  return { live = tonumber(stats.live), double_releases = tonumber(stats.double_releases),
    stale_uses = tonumber(stats.stale_uses) }
end

function helper.net_stats()
  local stats = ffi.new("struct neap_net_stats")
  C.neap_net_stats(stats)
  return { streams = tonumber(stats.streams_live), listeners = tonumber(stats.listeners_live),
    forgotten = tonumber(stats.closed_forgotten), unsent = tonumber(stats.unsent_bytes),
    cut = tonumber(stats.closed_cut), accepted = tonumber(stats.accepted) }
end

--- Every test of the block has a deadline, and leaves nothing behind.
--- @param deadline? number seconds, 120
function helper.watch(before_each, after_each, deadline)
  before_each(function()
    if not tickers then make_tickers() end
  end)
  after_each(function()
    helper.remove_files()
    for socket in pairs(sockets) do socket:close() end
  end)
  testing.watch(before_each, after_each, { deadline = deadline or DEADLINE_S, settle = SETTLE_S })
end

-- ---- errors ----

--- Asserts that fn(...) raises at one of its own lines (write it on one line) with a message
--- that contains `text`. Returns the message. fn must not tail-call: that loses the line.
function helper.raises(text, fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then error("nothing was raised; expected: " .. text, 2) end
  if type(err) ~= "string" then error("raised " .. tostring(err), 2) end
  local source = debug.getinfo(fn, "S")
  local file, line, message = err:match("^(.-):(%d+): (.*)$")
  line = tonumber(line)
  if file ~= source.short_src or line < source.linedefined or line > source.lastlinedefined then
    error(("raised, but not at the caller's line (%s:%d): %s"):format(source.short_src,
      source.linedefined, err), 2)
  end
  if not message:find(text, 1, true) then
    error(("raised %q, which does not contain %q"):format(message, text), 2)
  end
  return message
end

--- Things that are no object of neap.
function helper.not_objects()
  local userdata = io.stdout
  return { "string", 1, 0 / 0, true, {}, print, userdata, coroutine.create(print), 1LL,
    ffi.new("uint8_t[4]"), ffi.new("struct neap_handle"), ffi.cast("void *", 0), n = 12 }
end

--- Asserts that a method raises at the caller's line when called on anything in a list (with
--- holes; `n` long), and on nil.
function helper.refuses_self(method, name, others)
  for i = 0, others.n or #others do
    local other = others[i]
    helper.raises(name .. ": called on ", function() method(other, 0, 0) end)
  end
end

--- Things that are neither size nor offset.
helper.not_sizes = { "1", 0 / 0, -1, 1.5, -1 / 0, {}, true, print, 1LL,
  ffi.cast("void *", 0) } -- which equals nil

-- ---- memory ----

--- free, base, bound, buf_bytes of a slice.
function helper.info(slice)
  local info = ffi.new("struct neap_slice_info")
  assert(C.neap_slice_info(slice.slot, slice.gen, info) == 0)
  return { free = info.free, base = info.base, bound = info.bound, buf_bytes = info.buf_bytes }
end

function helper.default_stats() return pool.default():stats() end

--- n bytes of which no two places look alike.
function helper.pattern(n)
  local parts, length, i = {}, 0, 0
  while length < n do
    i = i + 1
    parts[i] = ("%07x."):format(i)
    length = length + 8
  end
  return table.concat(parts):sub(1, n)
end

-- ---- other processes ----

local files = {}

local function shell(text)
  local pipe = assert(io.popen(text))
  local out = pipe:read("*a")
  pipe:close()
  return out
end

local here = shell("pwd"):match("[^\n]+")

--- The program that runs this spec, for child processes.
helper.neap = lfs.symlinkattributes("/proc/self/exe", "target")
helper.top = here
helper.root = ffi.C.geteuid() == 0

local function absolute(paths)
  return (paths:gsub("[^;]+", function(path)
    if path:sub(1, 1) == "/" then return path end
    if path:sub(1, 2) == "./" then path = path:sub(3) end
    return here .. "/" .. path
  end))
end

--- What makes a stock luajit find this neap. A sanitizer's runtime must come first.
function helper.stock_environment()
  local maps = assert(io.open("/proc/self/maps"))
  local sanitizer = maps:read("*a"):match("(/%S*libasan%.so%S*)")
  maps:close()
  local environment = ("LUA_PATH='%s' LUA_CPATH='%s'"):format(absolute(package.path),
    absolute(package.cpath))
  if not sanitizer then return environment end
  return ("LD_PRELOAD='%s' ASAN_OPTIONS=detect_leaks=0 %s"):format(sanitizer, environment)
end

function helper.temporary_name()
  local name = os.tmpname()
  files[#files + 1] = name
  return name
end

function helper.temporary_directory()
  local name = helper.temporary_name()
  os.remove(name)
  assert(lfs.mkdir(name))
  return name
end

--- The pattern of the beginning of a line in the log.
function helper.logged(level)
  return "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ " .. ("%-5s"):format(level) .. " "
end

--- Writes a file that the end of the test removes.
function helper.file(text, name)
  name = name or helper.temporary_name()
  local file = assert(io.open(name, "wb"))
  file:write(text)
  file:close()
  return name
end

local function remove_tree(name)
  if lfs.symlinkattributes(name, "mode") == "directory" then
    for entry in lfs.dir(name) do
      if entry ~= "." and entry ~= ".." then remove_tree(name .. "/" .. entry) end
    end
    lfs.rmdir(name)
  else
    os.remove(name)
  end
end

function helper.remove_files()
  for _, name in ipairs(files) do remove_tree(name) end
  files = {}
end

local function contents(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

--- Runs a shell command to its end (the loop stands still meanwhile).
--- @return table status (124: it took too long), out, err
function helper.sh(command)
  local err = helper.temporary_name()
  local out = shell(("timeout -k 1 %d sh -c '%s' 2>%s </dev/null; s=$?; echo; echo $s")
    :format(CHILD_S, command:gsub("'", "'\\''"), err))
  local text, status = out:match("^(.*)\n(%d+)\n$")
  return { status = tonumber(status), out = text, err = contents(err) }
end

--- Runs a script (its text) with the neap command.
function helper.script(text, arguments)
  if not jit.status() then text = "jit.off() " .. text end -- as the specs run
  return helper.sh(("%s %s %s"):format(helper.neap, helper.file(text), arguments or ""))
end

--- Runs a script (its text) with a luajit that knows nothing of neap.
function helper.stock(text, arguments)
  return helper.sh(("exec env %s luajit %s %s"):format(helper.stock_environment(),
    helper.file(text), arguments or ""))
end

local Child = {}
Child.__index = Child

--- Starts a command that goes on. `line()` waits for a line of its output, `kill(signal)`
--- sends it a signal, `finish()` waits for its end. @param seconds? number it may run, 100
function helper.start(command, seconds)
  local err = helper.temporary_name()
  local pipe = assert(io.popen(
    ("timeout -k 1 %d sh -c 'echo $$; exec %s' 2>%s </dev/null; echo exit status $?")
      :format(seconds or CHILD_S, command:gsub("'", "'\\''"), err)))
  return setmetatable({ pipe = pipe, err_name = err, pid = pipe:read("*l") }, Child)
end

function Child:line() return self.pipe:read("*l") end

function Child:kill(signal)
  assert(self.pid:match("^%d+$"), "the child told its process id")
  os.execute(("kill -%s %s"):format(signal, self.pid))
end

--- @return table status, out (what no line() took), err
function Child:finish()
  local out, status = self.pipe:read("*a"):match("^(.-)exit status (%d+)\n$")
  self.pipe:close()
  return { status = tonumber(status), out = out, err = contents(self.err_name) }
end

return abi.keep("spec.helper", helper)
