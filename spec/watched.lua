--- A server in a process of its own, with a witness inside that counts what it holds, and clients
--- that go about their bytes as nobody should. For the specs of faults.
---
---     local server = watched.start(kind)
---     … watched.dial(server) …
---     server:is_as_before()
---     server:told()
---
--- What a kind has: `name` of an example, or `script`, its text · `arguments`, `more`: before and
--- behind its address · `enter(client)`: what a client says first · `says`, `hears`: a message and
--- what answers it, again and again · `half`: how much of it is a half · `resets`: what the server
--- tells of a client that resets · `own`: a pattern of the lines that it prints itself.

local assert = require("luassert")
local ffi = require("ffi")
local lfs = require("lfs")
local helper = require("spec.helper")
local neap = require("neap")

local SETTLE_S = 20
local PAGE = 4096
local TICKS = 100 -- of CPU time in a second, as /proc counts
local MSG_DONTWAIT, MSG_NOSIGNAL = 0x40, 0x4000

local M = { MIB = 1048576 }

-- a sanitizer keeps what was freed, so that the resident memory says nothing
M.sanitized = helper.stock_environment():find("LD_PRELOAD", 1, true)

-- ---- clients ----

local function own_address(socket)
  local address = ffi.new("struct spec_sockaddr_in")
  local size = ffi.new("unsigned int[1]", ffi.sizeof(address))
  assert(ffi.C.getsockname(socket.fd, address, size) == 0)
  local port = bit.bor(bit.lshift(bit.band(address.port, 255), 8), bit.rshift(address.port, 8))
  return "tcp://127.0.0.1:" .. port
end

-- Sends `bytes` again and again until the peer takes no more for `patience` looks, each a ms after
-- the other (300), or is gone; returns how many it took and whether it is gone.
local function push(socket, bytes, most, patience)
  local sent, refused = 0, 0
  while sent < most and refused < (patience or 300) do
    local rest = bytes:sub(sent % #bytes + 1) -- messages stay whole
    local n = tonumber(ffi.C.send(socket.fd, rest, #rest, MSG_DONTWAIT + MSG_NOSIGNAL))
    if n > 0 then
      sent, refused = sent + n, 0
    elseif ffi.errno() ~= 11 then
      return sent, true
    else
      refused = refused + 1
      neap.sleep(0.001)
    end
  end
  return sent, false
end

local function hears(socket, text)
  local got = ""
  while not got:find(text, 1, true) do
    local part = socket:recv()
    if part == "" then error("the stream ended after " .. ("%q"):format(got), 2) end
    if part then got = got .. part else helper.turn() end
  end
end

-- ---- servers ----

-- Runs in the server's process, beside the server: a client of it says "count" or "collect".
local witness = [[
  local neap, task, abi, ffi = require("neap"), require("neap.task"), require("neap.abi"), nil
  ffi = require("ffi")
  local slices, net = ffi.new("struct neap_slice_stats"), ffi.new("struct neap_net_stats")
  local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
    local line = conn:read_line()
    if line:str() == "collect" then for _ = 1, 3 do collectgarbage() end end
    line:release()
    abi.C.neap_slice_stats(slices)
    abi.C.neap_net_stats(net)
    local pool = neap.default_pool():stats()
    conn:write(("%d %d %d %d %d %d %d\n"):format(slices.live, net.streams_live,
      net.listeners_live, net.accept_pauses, pool.bytes_held, pool.slices_collected,
      (task.failures())))
  end))
  print("witness " .. listener.address)
  io.stdout:flush()
  local path = table.remove(arg, 1)
  assert(loadfile(path))(unpack(arg))
]]

local Server = {}
Server.__index = Server
local running -- the server that the end of a test stops

local function text_of(name)
  local file = assert(io.open(name))
  local text = file:read("*a")
  file:close()
  return text
end

-- The fd directory may change under us: what counts is that it settles.
local function descriptors_of(pid)
  local count = 0
  for _ in lfs.dir("/proc/" .. pid .. "/fd") do count = count + 1 end
  return count
end

function Server:memory()
  return tonumber(text_of("/proc/" .. self.child.pid .. "/statm"):match("^%d+ (%d+)")) * PAGE
end

function Server:cpu_seconds()
  local user, system = text_of("/proc/" .. self.child.pid .. "/stat"):match(
    "^%d+ %(.*%)" .. (" %S+"):rep(11) .. " (%d+) (%d+)")
  return (user + system) / TICKS
end

local names = { "live slices", "connections", "listeners", "pauses", "held", "collected",
  "failures" }

--- What the server holds now. @param word? string "collect": after a full collection
function Server:count(word)
  local socket = helper.dial(self.witness)
  socket:send((word or "count") .. "\n")
  local line, counts, i = socket:recv_all(), {}, 0
  socket:close()
  for number in line:gmatch("%d+") do
    i = i + 1
    counts[names[i]] = tonumber(number)
  end
  assert(i == #names, line)
  return counts
end

local function holds(self, word)
  local counts = self:count(word)
  return { ["live slices"] = counts["live slices"], connections = counts.connections,
    listeners = counts.listeners, descriptors = descriptors_of(self.child.pid) }
end

-- Fewer are none: the descriptor of who asked may have been open still when it was counted before.
local function first_difference(was, is)
  for what, count in pairs(was) do
    if is[what] > count then
      return ("the server's %s: %d before, %d after"):format(what, count, is[what])
    end
  end
end

-- Until the server holds the same twice in a row; a connection to the witness takes a moment to
-- go, too.
local function settle(self, word, before)
  local give_up, last = os.time() + SETTLE_S, nil
  while true do
    local now = holds(self, word)
    local difference = first_difference(before or last or {}, now)
    if not difference and (before or last) then return now end
    if os.time() >= give_up then error(difference, 3) end
    last = now
    neap.sleep(0.02)
  end
end

--- A new client is served.
function Server:serves()
  local socket = M.dial(self)
  socket:send(self.kind.says)
  hears(socket, self.kind.hears)
  socket:close()
end

--- Nobody has lost or kept anything. @param word? string "collect": after a full collection
function Server:is_as_before(word)
  self:serves()
  settle(self, word, self.before)
end

--- Starts a server: an example (`name`), or the text of a script that prints its address.
--- @param before? string shell commands
local function start(kind, before)
  local script = kind.script and helper.file(kind.script) or ("examples/%s.lua"):format(kind.name)
  local self = setmetatable({ kind = kind }, Server)
  self.child = helper.start(("sh -c \"%s exec %s %s %s %s tcp://127.0.0.1:0 %s\""):format(
    before or "", helper.neap, helper.file(witness), script, kind.arguments or "",
    kind.more or ""))
  running = self
  self.witness = (self.child:line() or ""):match("^witness (.*)")
  self.address = (self.child:line() or ""):match("tcp://%S+")
  if not self.address then error("the server did not start: " .. self:stop().err, 2) end
  self:serves()
  self.before = settle(self)
  return self
end

--- Ends the server; what it said is in `err`.
function Server:stop()
  running = nil
  self.child:kill("TERM")
  return self.child:finish()
end

--- Stops it, and looks at what it said: nothing but lines about peers, with `text` about each in
--- `peers`, and about forgotten slices, if they come from a deed of that kind. Returns it all.
function Server:told(peers, text, forgets)
  local run = self:stop()
  assert.equal(0, run.status)
  local said = run.err
  if forgets then
    said = said:gsub("[^\n]+ forgotten, and[^\n]+\n", ""):gsub("neap: leaks.*", "")
  end
  if self.kind.own then said = said:gsub(self.kind.own, "") end
  for line in said:gmatch("[^\n]+") do
    assert.matches("^" .. helper.logged("warn") .. "[^\n]*tcp://127%.0%.0%.1:%d+: %w+", line)
  end
  for _, peer in ipairs(text and peers or {}) do
    assert.matches(peer .. ": " .. text, run.err, 1, true)
  end
  return run.err
end

local function stop_running()
  if not running then return end
  running:stop()
end

M.own_address, M.push, M.hears, M.text_of = own_address, push, hears, text_of
M.descriptors_of, M.start, M.stop_running = descriptors_of, start, stop_running

--- A client that has entered.
function M.dial(server)
  local client = helper.dial(server.address)
  if server.kind.enter then server.kind.enter(client) end
  return client
end

return M
