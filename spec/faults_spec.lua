--- Bad input and faults: each gets an error that names what, where and whose, loses and leaks
--- nothing, and the server goes on. Servers run as child processes, with a witness inside that
--- counts what they hold; a test ends when that is as before and a new client was served.
---
---     what goes wrong                            where it is tested
---     half a message and gone, or half-closed    here, for every example; wait_spec (timeouts)
---     a reset before the first byte              here; net_spec ("before it is accepted")
---     … in the middle of a read                  here; net_spec ("while that reads")
---     … while what the server wrote is queued    here; net_spec ("waits for room to write")
---     … after the client's half-close            here; net_spec
---     … after the server's half-close            here
---     … while the server closes                  here; net_spec ("while it closes by itself")
---     a client that never reads                  here; net_spec ("high watermark")
---     one byte at a time                         here; net_spec
---     no line end, for ever                      here; reader_spec (the limit itself)
---     2,000 connections opened and dropped       here; net_spec (400 that stay)
---     no descriptors                             here
---     a handler that makes mistakes              here; net_spec ("whose handler raises")
---     a wait across table.sort                   here; task_spec
---     a script's syntax, a missing script        command_spec
---     an address in use, or none                 echo_spec; net_spec
---     a port below 1024                          here (as root); net_spec (as another user)

local ffi = require("ffi")
local lfs = require("lfs")
local helper = require("spec.helper")
local neap = require("neap")

-- What a client of each example says and then hears; `resets`: what the server tells of a client
-- that resets. `arguments` are those before the spec's own, `half` how much of it is a half.
local examples = {
  { name = "echo", says = "hello\n", hears = "hello\n",
    resets = "read of a chunk: the peer reset" },
  { name = "frames", says = "\0\0\0\5\0\1\0\7hello", hears = "\0\0\0\5\0\1\0\7hello",
    resets = "the peer reset the connection" },
  { name = "http_hello", says = "GET / HTTP/1.1\r\nHost: x\r\n\r\n", hears = "\r\n\r\nhello\n",
    resets = "the peer reset the connection" },
}

local SETTLE_S = 8
local MIB = 1048576
local PAGE = 4096
local TICKS = 100 -- of CPU time in a second, as /proc counts
local IPPROTO_TCP, TCP_NODELAY = 6, 1
local MSG_DONTWAIT, MSG_NOSIGNAL = 0x40, 0x4000

-- a sanitizer keeps what was freed, so that the resident memory says nothing
local sanitized = helper.stock_environment():find("LD_PRELOAD", 1, true)

-- ---- clients ----

local function own_address(socket)
  local address = ffi.new("struct spec_sockaddr_in")
  local size = ffi.new("unsigned int[1]", ffi.sizeof(address))
  assert(ffi.C.getsockname(socket.fd, address, size) == 0)
  local port = bit.bor(bit.lshift(bit.band(address.port, 255), 8), bit.rshift(address.port, 8))
  return "tcp://127.0.0.1:" .. port
end

-- Sends `bytes` again and again until the peer takes no more for a while, or is gone; returns how
-- many it took and whether it is gone.
local function push(socket, bytes, most)
  local sent, refused = 0, 0
  while sent < most and refused < 300 do
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
  local socket = helper.dial(self.address)
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
  self.child = helper.start(("sh -c \"%s exec %s %s %s %s tcp://127.0.0.1:0\""):format(
    before or "", helper.neap, helper.file(witness), script, kind.arguments or ""))
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

-- ---- what clients do ----

local function half_of(kind)
  return kind.says:sub(1, kind.half or math.floor(#kind.says / 2))
end

-- Until the server cannot write to the client any more; returns the client.
local function never_reads(server)
  local client = helper.dial(server.address)
  local block = server.kind.says:rep(math.ceil(65536 / #server.kind.says))
  local sent, gone = push(client, block, 64 * MIB)
  assert.is_false(gone)
  assert.is_true(sent > 100000 and sent < 64 * MIB, "took " .. sent)
  return client
end

-- { name, what it does; it returns the peers that the server tells of having been reset }
local abuses = {
  { "sends half a message and is gone", function(server)
    local client = helper.dial(server.address)
    client:send(half_of(server.kind))
    client:close()
  end },
  { "sends half a message, half-closes and waits", function(server)
    local client = helper.dial(server.address)
    client:send(half_of(server.kind))
    client:shutdown()
    client:recv_all()
    client:close()
  end },
  { "half-closes at once", function(server)
    local client = helper.dial(server.address)
    client:shutdown()
    client:recv_all()
    client:close()
  end },
  { "resets before the first byte", function(server)
    local client = helper.dial(server.address)
    local peer = own_address(client)
    client:reset()
    return { peer }
  end },
  { "resets in the middle of a message", function(server)
    local client = helper.dial(server.address)
    local peer = own_address(client)
    client:send(server.kind.says)
    hears(client, server.kind.hears)
    client:send(half_of(server.kind))
    client:reset()
    return { peer }
  end },
  { "resets when it has the answer", function(server)
    local client = helper.dial(server.address)
    local peer = own_address(client)
    client:send(server.kind.says)
    hears(client, server.kind.hears)
    client:reset()
    return { peer }
  end },
  { "resets after its half-close, with the answer unread", function(server)
    local client = helper.dial(server.address)
    client:send(server.kind.says:rep(100))
    client:shutdown()
    client:reset()
  end },
  { "resets while what the server wrote is queued", function(server)
    never_reads(server):reset()
  end },
  { "leaves while what the server wrote is queued", function(server)
    never_reads(server):close()
  end },
  { "half-closes and resets while what the server wrote is queued", function(server)
    local client = never_reads(server)
    client:shutdown()
    client:reset()
  end },
  { "sends one byte at a time", function(server)
    local client = helper.dial(server.address)
    ffi.C.setsockopt(client.fd, IPPROTO_TCP, TCP_NODELAY, ffi.new("int[1]", 1), 4)
    for _ = 1, 10 do
      for byte in server.kind.says:gmatch(".") do
        client:send(byte)
        helper.turn()
      end
      hears(client, server.kind.hears)
    end
    client:close()
  end },
  { "opens 2,000 connections and drops them", function(server)
    for i = 1, 2000 do
      local client = helper.dial(server.address)
      if i % 3 == 0 then client:send(half_of(server.kind)) end
      if i % 2 == 0 then client:reset() else client:close() end
    end
  end },
}

for _, kind in ipairs(examples) do
  describe("the " .. kind.name .. " example, when a client", function()
    after_each(stop_running)
    helper.watch(before_each, after_each)

    for _, abuse in ipairs(abuses) do
      it(abuse[1] .. ", loses nothing and goes on", function()
        local server = start(kind)
        local peers = abuse[2](server)
        server:is_as_before()
        assert.equal(0, server:count().failures)
        server:told(peers, kind.resets)
      end)
    end

    it("never reads, makes its writer wait: the memory is bounded, and freed after it", function()
      local server = start(kind)
      local memory, held = server:memory(), server:count().held
      local clients = {}
      for i = 1, 4 do clients[i] = never_reads(server) end
      assert.is_true(server:count().held - held < 4 * MIB)
      if not sanitized then
        local grown = server:memory() - memory
        assert.is_true(grown < 16 * MIB, "grew by " .. grown)
      end
      local used = server:cpu_seconds()
      neap.sleep(0.5) -- nothing is to be done, so nothing is done
      assert.is_true(server:cpu_seconds() - used < 0.1)
      server:serves() -- while they are there
      for _, client in ipairs(clients) do client:reset() end
      server:is_as_before()
      server:told()
    end)

    it("takes the last descriptor, rests, says so once a second, and goes on", function()
      local server = start(kind, "ulimit -n 64;")
      local used, clients = server:cpu_seconds(), {}
      for i = 1, 100 do clients[i] = helper.dial(server.address) end
      local seconds = 2.2
      neap.sleep(seconds)
      used = server:cpu_seconds() - used
      assert.is_true(used < 0.3, "CPU seconds: " .. used)
      assert.is_true(descriptors_of(server.child.pid) > 60)
      for _, client in ipairs(clients) do client:close() end
      server:is_as_before()
      local pauses = server:count().pauses
      assert.is_true(pauses >= 5 and pauses < 100, "pauses: " .. pauses)
      local address, run = server.address, server:stop()
      local lines = select(2, run.err:gsub(helper.logged("warn") .. "accepting on " .. address
        :gsub("%p", "%%%0") .. " rests: no file descriptor is left[^\n]*\n", ""))
      assert.is_true(lines >= 2 and lines <= 10, run.err)
      assert.equal(0, run.status)
    end)
  end)
end

-- ---- what handlers do ----

-- A client's first line says what the handler does.
local deeds = { name = "deeds", says = "hello\n", hears = "hello\n", script = [[
  local neap = require("neap")
  local kept
  local deeds = {
    hello = function(conn) conn:write("hello\n") end,
    raises = function() error("the handler's mistake") end,
    ["raises with slices"] = function(conn)
      local copy, read = neap.copy("copy"), conn:read(4)
      conn:write("queued")
      error("a mistake with " .. #copy + #read .. " bytes")
    end,
    ["raises a table"] = function() error({}) end,
    forgets = function(conn) for _ in conn:chunks() do end end,
    ["releases twice"] = function(conn)
      local slice = conn:read(4)
      slice:release()
      slice:release()
    end,
    ["uses what it released"] = function(conn)
      local slice = conn:read(4)
      slice:release()
      local text = slice:str()
      return text
    end,
    ["writes a slice twice"] = function(conn)
      local slice = conn:read(4)
      conn:write(slice)
      conn:write(slice)
    end,
    keeps = function(conn) kept = conn:read(4) end,
    uses = function(conn)
      conn:write(kept:str() .. "\n")
      conn:write(kept)
    end,
    ["keeps a view"] = function(conn)
      local view = conn:peek(4)
      conn:close()
      local text = view:str()
      return text
    end,
    ["sorts, waiting"] = function(conn)
      table.sort({ 3, 1, 2 }, function() conn:read(100) end)
    end,
    ["leaves a task"] = function(conn) neap.spawn(function() assert(conn:read(100)) end) end,
    ["leaves a writer"] = function(conn)
      neap.spawn(function() conn:write(("x"):rep(16 * 1048576)) end)
      conn:read(4):release()
    end,
    ends = function() end,
    ["half-closes"] = function(conn)
      conn:shutdown()
      assert(conn:read(100))
    end,
    ["reads a short line"] = function(conn) assert(conn:read_line(64)) end,
    ["reads a line"] = function(conn) assert(conn:read_line()) end,
    ["reads lines"] = function(conn) for _ in conn:lines() do end end,
    ["reads what it is told"] = function(conn)
      local length = conn:read(4)
      assert(conn:read(length:u32be(0)))
    end,
  }
  local listener = assert(neap.listen(arg[1], function(conn)
    local line = assert(conn:read_line())
    local deed = line:str()
    line:release()
    deeds[deed](conn)
  end))
  print(listener.address)
  io.stdout:flush()
]] }

local function ask(server, deed)
  local client = helper.dial(server.address)
  client:send(deed .. "\n")
  return client, own_address(client)
end

describe("a server whose handler", function()
  after_each(stop_running)
  helper.watch(before_each, after_each)

  -- deed, what is told, "collect": slices that it held are left to the collector
  for _, mistake in ipairs {
    { "raises", "the handler's mistake" },
    { "raises with slices", "a mistake with 8 bytes", "collect" },
    { "raises a table", "table: 0x" },
    { "releases twice", "slice:release: the slice was released" },
    { "uses what it released", "slice:str: the slice was released" },
    { "writes a slice twice", "conn:write: argument is a slice that was released or taken" },
    { "keeps a view", "view:str: the reader has read, peeked or skipped since" },
    { "sorts, waiting", "nothing can wait inside table.sort" },
  } do
    local deed, text, word = unpack(mistake)
    it(deed .. " says what, where and for whom, and goes on", function()
      local server = start(deeds)
      local client, peer = ask(server, deed)
      client:send("data")
      client:recv_all()
      client:close()
      server:is_as_before(word)
      assert.equal(1, server:count().failures)
      local run = server:stop()
      assert.equal(0, run.status)
      assert.matches("^" .. helper.logged("error") .. "a task ended in an error: [^\n]*"
        .. text:gsub("%p", "%%%0"), run.err)
      assert.matches("stack traceback:", run.err, 1, true)
      assert.matches(" serving=" .. (deed == "keeps a view" and '"a closed connection"' or peer),
        run.err, 1, true)
      assert.matches(" spawned_at=%S+:%d+\n", run.err)
    end)
  end

  it("forgets what it reads is cleared up after by the collector #sizes", function()
    local server = start(deeds)
    local client = ask(server, "forgets")
    local sent, most_held = 0, 0
    while sent < 256 * MIB do
      local n = push(client, ("x"):rep(65536), 16 * MIB)
      assert.is_true(n >= 16 * MIB)
      sent, most_held = sent + n, math.max(most_held, server:count().held)
    end
    assert.is_true(most_held < 40 * MIB, "held: " .. most_held)
    local counts = server:count()
    assert.is_true(counts.collected > 1000, "collected: " .. counts.collected)
    client:close()
    server:is_as_before("collect")
    local said = server:told(nil, nil, true)
    assert.matches("forgotten, and left to the collector[^\n]* made_at=", said)
    assert.matches("neap: leaks (sample): ", said, 1, true)
    assert.matches(": made at /", said, 1, true)
  end)

  it("keeps a slice can use it when the connection is closed", function()
    local server = start(deeds)
    local client = ask(server, "keeps")
    client:send("data")
    assert.equal("", client:recv_all())
    client:close()
    client = ask(server, "uses")
    assert.equal("data\ndata", client:recv_all())
    client:close()
    server:is_as_before()
    server:told()
  end)

  for deed, text in pairs {
    ["leaves a task"] = "a closed connection: read of 100 bytes: it is closed",
    ["leaves a writer"] = "",
  } do
    it(deed .. " closes under it", function()
      local server = start(deeds)
      local client = ask(server, deed)
      client:send("data")
      client:recv(1)
      client:reset()
      server:is_as_before()
      assert.equal(0, server:count().failures)
      assert.matches(text, server:stop().err, 1, true)
    end)
  end

  it("has ended, so that the server has half-closed, takes a reset", function()
    local server = start(deeds)
    local client = ask(server, "ends")
    assert.equal("", client:recv_all())
    client:send("more")
    client:reset()
    server:is_as_before()
    server:told()
  end)

  it("reads on after its own half-close is told of a reset", function()
    local server = start(deeds)
    local client, peer = ask(server, "half-closes")
    assert.equal("", client:recv_all())
    client:send("more")
    client:reset()
    server:is_as_before()
    server:told({ peer }, "read of 100 bytes: the peer reset the connection")
  end)

  for deed, most in pairs {
    ["reads a short line"] = 64 * 1024, ["reads a line"] = MIB, ["reads lines"] = MIB,
  } do
    it(deed .. " closes when no line end comes, and no memory grows", function()
      local server = start(deeds)
      local held = server:count().held
      local client, peer = ask(server, deed)
      local sent, gone = push(client, ("x"):rep(65536), 1024 * MIB)
      assert.is_true(gone)
      assert.is_true(sent < 32 * MIB, "took " .. sent)
      client:close()
      held = server:count().held - held
      assert.is_true(held <= 4 * most, "held " .. held .. " more")
      server:is_as_before()
      server:told({ peer }, "read of a line (see max_read): larger than the limit")
    end)
  end

  it("reads as much as a peer tells it refuses 4 GiB before any memory is taken"
    .. " #neighbours", function()
    local server = start(deeds)
    local held = server:count().held
    local client, peer = ask(server, "reads what it is told")
    client:send("\255\255\255\255data")
    client:recv_all()
    client:close()
    assert.equal(held, server:count().held)
    server:is_as_before("collect")
    server:told({ peer }, "read of 4294967295 bytes (see max_read): larger than the limit",
      true)
  end)
end)

describe("an ordinary user's server", function()
  after_each(stop_running)
  helper.watch(before_each, after_each)

  local nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups "
  local name = "says that port 80 is not permitted, with status 1"
  local first_port = tonumber(text_of("/proc/sys/net/ipv4/ip_unprivileged_port_start"))
  local run = helper.root and helper.sh(nobody .. helper.neap .. " -v")
  helper.remove_files()
  if not run or run.status ~= 0 or first_port <= 80 then
    pending(name)
  else
    it(name, function()
      run = helper.sh(nobody .. helper.neap .. " examples/echo.lua tcp://127.0.0.1:80")
      assert.matches("listen on tcp://127.0.0.1:80: not permitted (a port below 1024 needs root)",
        run.err, 1, true)
      assert.equal("", run.out)
      assert.equal(1, run.status)
    end)
  end
end)

describe("a server that was started with its standard streams closed", function()
  helper.watch(before_each, after_each)

  it("sends what it prints to nobody", function()
    local result = helper.temporary_name()
    local script = helper.file([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        conn:write("answer")
        for _ = 1, 10 do
          print("printed")
          io.stdout:flush()
          io.stderr:write("said")
          neap.sleep(0)
        end
        error("reported")
      end))
      local conn = assert(neap.connect(listener.address))
      local file, answer = assert(io.open(arg[1], "w")), conn:read(6)
      file:write(answer:str(), " and ", select(3, conn:read(1)))
      file:close()
      conn:close()
      listener:close()
    ]])
    for _, closed in ipairs { "<&- >&- 2>&-", ">&- 2>&-", "2>&-", "<&- 2>&-" } do
      local run = helper.sh(("%s %s %s %s"):format(helper.neap, script, result, closed))
      assert.equal(0, run.status)
      assert.equal("answer and eof", text_of(result))
    end
  end)
end)

describe("a connection that the peer resets", function()
  helper.watch(before_each, after_each)

  it("ends in reset for its reader too when a write has met the reset first", function()
    local conn, peer = helper.pair()
    peer:send("abc")
    assert(conn:read(3)):release()
    peer:reset()
    assert.is_true(conn:write("x"))
    helper.turn_until(function() return select(3, conn:write("y")) == "reset" end)
    local bytes, message, name = conn:read(1)
    assert.is_nil(bytes)
    assert.equal("reset", name)
    assert.matches(conn.peer .. ": read of 1 bytes: the peer reset", message, 1, true)
    conn:close()
  end)

  it("after its own end ends in eof for the reader, and in reset for the writer", function()
    local conn, peer = helper.pair()
    peer:send("abc")
    peer:shutdown()
    assert.is_true(conn:write("unread"))
    helper.turn()
    peer:close() -- with bytes unread: a reset, behind the end
    helper.turn_until(function() return select(3, conn:write("y")) == "reset" end)
    local bytes = assert(conn:read(3))
    assert.equal("abc", bytes:str())
    bytes:release()
    assert.equal("eof", select(3, conn:read(1)))
    conn:close()
  end)
end)
