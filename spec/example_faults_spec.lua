--- The same abuse against every example that listens: each gets an error that names what, where and
--- whose, loses and leaks nothing, and goes on. A test ends when the server holds what it held
--- before, and a new client was served.

local bit = require("bit")
local ffi = require("ffi")
local helper = require("spec.helper")
local lfs = require("lfs")
local neap = require("neap")
local task = require("neap.task")
local watched = require("spec.watched")

local C = require("neap.abi").C
local MIB = watched.MIB
local IPPROTO_TCP, TCP_NODELAY = 6, 1
local own_address, push, hears = watched.own_address, watched.push, watched.hears
local dial, start, descriptors_of = watched.dial, watched.start, watched.descriptors_of

-- ---- the examples ----

-- Bytes that mean nothing to anybody, the same each time.
local function noise(n)
  local parts, state = {}, 2463534242
  for i = 1, n do
    state = bit.bxor(state, bit.lshift(state, 13))
    state = bit.bxor(state, bit.rshift(state, 17))
    state = bit.bxor(state, bit.lshift(state, 5))
    parts[i] = string.char(bit.band(state, 255))
  end
  return table.concat(parts)
end

local function get(path) return "GET " .. path .. " HTTP/1.1\r\nHost: x\r\n\r\n" end

-- { what a client sends, how the answer begins, "goes on": the connection stays }
local bad_http = {
  { "GET  / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 " },
  { noise(300), "HTTP/1.1 400 " },
  { "GET / HTTP/1.1\r\nHost: x\r\nA: " .. ("a"):rep(20000) .. "\r\n\r\n", "HTTP/1.1 431 " },
  { get("/" .. ("a"):rep(20000)), "HTTP/1.1 414 " },
}
local bad_upload = { "PUT /files/a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
  "HTTP/1.1 413 " }

local anything = { noise(1000), noise(1000), "goes on" }
local last_name = 0

local function http_kind(name, path, hears_what, more)
  local kind = { name = name, says = get(path), hears = hears_what, load = path,
    resets = "the peer reset the connection", bad = bad_http }
  for key, value in pairs(more or {}) do kind[key] = value end
  return kind
end

-- Those of spec/watched.lua, and: `prepare`, before the server starts, and `finish` · `bad`: bytes
-- that it refuses · `drops`: who does not read is closed, instead of waited for, and `floods` is
-- what it gets · `turns_away`: who finds no descriptor left is closed, instead of left waiting ·
-- `load`: the path that wrk asks for · `curl`: what curl may be in the middle of.
local kinds = {
  { name = "echo", says = "hello\n", hears = "hello\n", bad = { anything },
    resets = "read of a chunk: the peer reset" },
  { name = "frames", says = "\0\0\0\5\0\1\0\7hello", hears = "\0\0\0\5\0\1\0\7hello",
    resets = "the peer reset the connection", bad = {
      { "\0\0\0\0\9\9\0\7", "\0\0\0\21\0\0\0\7there is no such type", "goes on" },
      { "\0\0\0\3\0\2\0\7abc", "\0\0\0\34\0\0\0\7not a whole", "goes on" },
      { "\255\255\255\255\0\1\0\7", "\0\0\0\23\0\0\0\7the payload is too long" },
    } },
  { name = "chat", says = "hello\n", hears = ": hello\n", drops = true,
    floods = ("x"):rep(1000) .. "\n",
    enter = function(client)
      last_name = last_name + 1
      local name = "n" .. last_name
      client:send(name .. "\n")
      hears(client, "* " .. name .. " joined\n")
    end,
    bad = {
      { "!\n", "your name?\nletters and digits please", "goes on" },
      { ("x"):rep(2000), "your name?\n" },
    } },
  { name = "proxy", says = "hello\n", hears = "hello\n", bad = { anything }, turns_away = true,
    own = "proxy: [^\n]*tcp://127%.0%.0%.1:%d+: [^\n]*\n",
    prepare = function(kind)
      kind.target = helper.start(helper.neap .. " examples/echo.lua tcp://127.0.0.1:0", 60)
      kind.more = kind.target:line():match("tcp://%S+")
    end,
    finish = function(kind)
      kind.target:kill("TERM")
      kind.target:finish()
    end },
  http_kind("http_hello", "/", "\r\n\r\nhello\n"),
  http_kind("http_files", "/a.txt", "\r\n\r\nsome text", {
    curl = { "--limit-rate 1M -o /dev/null %s/large.bin" },
    prepare = function(kind)
      kind.more = helper.temporary_directory()
      helper.file("some text", kind.more .. "/a.txt")
      -- of holes; no curl is through with it, whatever it makes of --limit-rate
      assert.equal(0, helper.sh("truncate -s 20G " .. kind.more .. "/large.bin").status)
    end }),
  http_kind("http_api", "/notes", "\r\n\r\n{}", {
    bad = { bad_http[1], bad_http[2], bad_http[3], bad_http[4], bad_upload },
    curl = { "--limit-rate 20M -T /dev/zero %s/files/zeros" },
    prepare = function(kind) kind.more = helper.temporary_directory() end,
    finish = function(kind) -- nothing is kept by half
      assert.equal("", helper.sh("ls -A " .. kind.more).out)
    end }),
  http_kind("http_live", "/", "</script></html>", { curl = { "-N %s/events" } }),
}
-- ---- what clients do ----

local function half_of(kind)
  return kind.says:sub(1, kind.half or math.floor(#kind.says / 2))
end

-- Until the server cannot write to the client any more; returns the client.
local function never_reads(server, patience)
  local client = dial(server)
  local block = server.kind.floods or server.kind.says
  block = block:rep(math.ceil(65536 / #block))
  local sent, gone = push(client, block, 64 * MIB, patience or 60)
  local _
  if server.kind.drops then -- it is closed, after what it sends was read for a while
    while not gone do _, gone = push(client, block, #block) end
  end
  assert.equal(server.kind.drops or false, gone)
  assert.is_true(sent > 100000 and sent < 64 * MIB, "took " .. sent)
  return client
end

-- Is there a half second in which nothing is done, as nothing is to be done? A slow one may still
-- work at first.
local function comes_to_rest(server)
  for _ = 1, 20 do
    local used = server:cpu_seconds()
    neap.sleep(0.5)
    if server:cpu_seconds() - used < 0.1 then return true end
  end
  return false
end

-- { name, what it does; it returns the peers that the server tells of having been reset }
local abuses = {
  { "sends half a message and is gone", function(server)
    local client = dial(server)
    client:send(half_of(server.kind))
    client:close()
  end },
  { "sends half a message, half-closes and waits", function(server)
    local client = dial(server)
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
    local client = dial(server)
    local peer = own_address(client)
    client:send(server.kind.says)
    hears(client, server.kind.hears)
    client:send(half_of(server.kind))
    client:reset()
    return { peer }
  end },
  { "resets when it has the answer", function(server)
    local client = dial(server)
    local peer = own_address(client)
    client:send(server.kind.says)
    hears(client, server.kind.hears)
    client:reset()
    return { peer }
  end },
  { "resets after its half-close, with the answer unread", function(server)
    local client = dial(server)
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
    if not server.kind.drops then client:shutdown() end
    client:reset()
  end },
  { "sends one byte at a time", function(server)
    local client = dial(server)
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
  { "sends what is malformed, or larger than it may be", function(server)
    for _, case in ipairs(server.kind.bad) do
      local client = helper.dial(server.address)
      client:send(case[1])
      if case[3] then hears(client, case[2]) else
        local answer = client:recv_all() -- until the server closes
        assert.equal(case[2], answer:sub(1, #case[2]))
        assert.is_nil(answer:find("HTTP/1.1", 2, true))
      end
      client:close()
    end
  end },
  { "sends noise, and reads nothing", function(server)
    local bytes = noise(100000)
    for _ = 1, 20 do
      local client = helper.dial(server.address)
      push(client, bytes, #bytes)
      client:close()
    end
  end },
}

-- ---- clients that are killed ----

-- A process with many connections that ask all the time. It says when they are at it.
local loader = [[
  local neap = require("neap")
  local file = assert(io.open(arg[2], "rb"))
  local says, enters, answers = file:read("*a"), arg[3], 0
  for i = 1, 30 do
    neap.spawn(function()
      local conn = assert(neap.connect(arg[1]))
      if enters then conn:write(("load%d\n"):format(i)) end
      while conn:write(says) do
        local slice = conn:read_any()
        if not slice then return end
        slice:release()
        answers = answers + 1
        if answers == 1000 then
          print("busy")
          io.stdout:flush()
        end
      end
    end)
  end
]]

local function installed(program)
  return os.execute("command -v " .. program .. " >/dev/null 2>&1") == 0
end

-- Commands that load the server, and a function that says when they do.
local function loads_of(server)
  local kind, url = server.kind, server.address:gsub("^tcp", "http")
  local function connections(n)
    local before = server.before.connections
    return function() return server:count().connections - before >= n end
  end
  local loads = { { ("%s %s %s %s %s"):format(helper.neap, helper.file(loader), server.address,
    helper.file(kind.says), kind.enter and "enters" or ""), function(child)
      return child:line() == "busy"
    end } }
  if kind.load and installed("wrk") then
    loads[#loads + 1] = { "wrk -t1 -c64 -d100 " .. url .. kind.load, connections(64) }
  end
  for _, arguments in ipairs(installed("curl") and kind.curl or {}) do
    loads[#loads + 1] = { "curl -s " .. arguments:format(url), connections(1) }
  end
  return loads
end

local function kill_clients(server)
  for _, load in ipairs(loads_of(server)) do
    local command, is_busy = load[1], load[2]
    local child = helper.start(command)
    helper.turn_until(function() return is_busy(child) end)
    child:kill("KILL")
    assert.equal(137, child:finish().status, command)
    server:is_as_before()
  end
end

-- ---- descriptors ----

local function now() return C.neap_loop_now(task.loop) end

-- How many lines there are so far about no descriptor being left.
local function told_of_rests(server)
  return select(2, watched.text_of(server.child.err_name):gsub(helper.logged("warn")
    .. "accepting on " .. server.address:gsub("%p", "%%%0")
    .. " rests: no file descriptor is left[^\n]*\n", ""))
end

-- ---- the tests ----

it("every example that listens is in the table", function()
  local listed = {}
  for _, kind in ipairs(kinds) do listed["examples/" .. kind.name .. ".lua"] = true end
  for name in lfs.dir("examples") do
    name = "examples/" .. name
    if name:find("%.lua$") and watched.text_of(name):find("listening on", 1, true) then
      assert.is_true(listed[name], name)
      listed[name] = nil
    end
  end
  assert.same({}, listed)
end)

for _, kind in ipairs(kinds) do
  describe("the " .. kind.name .. " example, when a client #programs", function()
    before_each(function() if kind.prepare then kind:prepare() end end)
    after_each(function()
      watched.stop_running()
      if kind.finish then kind:finish() end
    end)
    helper.watch(before_each, after_each)

    -- Whoever leaves much unread is dropped, if that much may be queued.
    local drops = kind.drops and " #sizes" or ""

    for _, abuse in ipairs(abuses) do
      local queued = abuse[1]:find(" is queued$") and drops or ""
      it(abuse[1] .. ", loses nothing and goes on" .. queued, function()
        local server = start(kind)
        local peers = abuse[2](server)
        server:is_as_before()
        assert.equal(0, server:count().failures)
        server:told(peers, kind.resets)
      end)
    end

    -- So many answers fit what the system keeps for the client that a slow server is not done soon.
    local name = "never reads, makes its writer wait: the memory is bounded, and freed after it"
    if kind.name:find("^http_[fa]") then name = name .. " #speed" end
    it(name .. drops, function()
      local server = start(kind)
      local memory, held = server:memory(), server:count().held
      local clients = {}
      for i = 1, 2 do clients[i] = never_reads(server, 300) end
      assert.is_true(server:count().held - held < 4 * MIB)
      if not watched.sanitized then
        local grown = server:memory() - memory
        assert.is_true(grown < 16 * MIB, "grew by " .. grown)
      end
      assert.is_true(comes_to_rest(server))
      server:serves() -- while they are there
      for _, client in ipairs(clients) do client:reset() end
      server:is_as_before()
      server:told()
    end)

    it("is killed while it loads it, loses nothing and goes on", function()
      local server = start(kind)
      kill_clients(server)
      assert.equal(0, server:count().failures)
      server:told()
    end)

    it("takes the last descriptor, rests, says so once a second, and goes on", function()
      local server = start(kind, "ulimit -n 64;")
      local used, clients, began = server:cpu_seconds(), {}, now()
      for i = 1, 100 do clients[i] = helper.dial(server.address) end
      if kind.turns_away then
        neap.sleep(1.3)
      else
        helper.turn_until(function()
          return now() - began > 1.3 and told_of_rests(server) >= 2
        end)
      end
      used = server:cpu_seconds() - used
      assert.is_true(used < (now() - began) / 4, "CPU seconds: " .. used)
      assert.is_true(descriptors_of(server.child.pid) > 60)
      for _, client in ipairs(clients) do client:close() end
      if kind.turns_away then
        helper.turn_until(function() return (pcall(server.serves, server)) end)
      end
      server:is_as_before()
      if kind.turns_away then return end
      local pauses, took = server:count().pauses, now() - began
      assert.is_true(pauses >= 2 and pauses <= 10 * took + 1, pauses .. " pauses in " .. took)
      local lines = told_of_rests(server)
      assert.is_true(lines <= took + 2, lines .. " lines in " .. took)
      assert.equal(0, server:stop().status)
    end)
  end)
end