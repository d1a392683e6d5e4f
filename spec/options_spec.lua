-- What a listener and a connection can be told: that each option does what it says.
local ffi = require("ffi")
local lfs = require("lfs")
local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local raises = helper.raises
local ANY_PORT = "tcp://127.0.0.1:0"
local SOL_SOCKET, IPPROTO_TCP = 1, 6
local TCP_NODELAY, SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT = 1, 9, 4, 5, 6

ffi.cdef [[
int getsockopt(int fd, int level, int option, void *value, unsigned int *size);
int getpeername(int fd, void *address, unsigned int *size);
]]

local function echo(conn)
  for chunk in conn:chunks() do conn:write(chunk) end
end

local function exchange(conn, text)
  conn:write(text)
  local answer = assert(conn:read(#text))
  assert.equal(text, answer:str())
  answer:release()
end

-- The descriptor whose own (get = getsockname) or whose peer's (getpeername) address it is.
local function descriptor_of(get, address)
  local port = tonumber(address:match("%d+$"))
  local result
  for entry in lfs.dir("/proc/self/fd") do
    local found, size = ffi.new("struct spec_sockaddr_in"), ffi.new("unsigned int[1]", 16)
    local fd = tonumber(entry)
    if fd and get(fd, found, size) == 0 and found.family == 2
      and bit.bor(bit.lshift(bit.band(found.port, 255), 8), bit.rshift(found.port, 8)) == port then
      result = fd
    end
  end
  return result or error("no socket has the address " .. address)
end

local function option(fd, level, name)
  local value, size = ffi.new("int[1]"), ffi.new("unsigned int[1]", 4)
  assert(ffi.C.getsockopt(fd, level, name, value, size) == 0)
  return value[0]
end

describe("options", function()
  helper.watch(before_each, after_each)

  it("that are unknown, of another type or out of range are a mistake", function()
    for _, bad in ipairs { { nagle = true }, { no_delay = 1 }, { max_connections = 0 },
      { max_connections = -1 }, { max_connections = 1.5 }, { idle_timeout = -1 },
      { keepalive = 0 / 0 }, { backlog = "4" }, { timeout = -1 }, { max_read = 2 ^ 40 } } do
      raises("neap.listen: ", function() neap.listen(ANY_PORT, echo, bad) end)
    end
    for _, bad in ipairs { { backlog = 1 }, { reuse_port = true }, { dual_stack = true },
      { max_connections = 1 }, { mode = "600" }, { idle_timeout = 1.5 } } do
      raises("neap.connect: ", function() neap.connect(ANY_PORT, bad) end)
    end
  end)

  it("no_delay and keepalive are set on what connects and on what is accepted", function()
    local listener = assert(neap.listen(ANY_PORT, echo, { no_delay = false, keepalive = 90 }))
    local conn = assert(neap.connect(listener.address, { keepalive = 30 }))
    exchange(conn, "x")
    local own = conn:info().address
    local client = descriptor_of(ffi.C.getsockname, own)
    local server = descriptor_of(ffi.C.getpeername, own)
    assert.equal(1, option(client, IPPROTO_TCP, TCP_NODELAY))
    assert.equal(1, option(client, SOL_SOCKET, SO_KEEPALIVE))
    assert.equal(30, option(client, IPPROTO_TCP, TCP_KEEPIDLE))
    assert.equal(10, option(client, IPPROTO_TCP, TCP_KEEPINTVL))
    assert.equal(3, option(client, IPPROTO_TCP, TCP_KEEPCNT))
    assert.equal(0, option(server, IPPROTO_TCP, TCP_NODELAY))
    assert.equal(1, option(server, SOL_SOCKET, SO_KEEPALIVE))
    assert.equal(90, option(server, IPPROTO_TCP, TCP_KEEPIDLE))
    conn:close()
    listener:close()
  end)

  it("keepalive is off, and no_delay on, by themselves", function()
    local listener = assert(neap.listen(ANY_PORT, echo))
    local conn = assert(neap.connect(listener.address))
    local fd = descriptor_of(ffi.C.getsockname, conn:info().address)
    assert.equal(1, option(fd, IPPROTO_TCP, TCP_NODELAY))
    assert.equal(0, option(fd, SOL_SOCKET, SO_KEEPALIVE))
    conn:close()
    listener:close()
  end)

  it("reuse_port lets two listen at one address, and without it one", function()
    local one = assert(neap.listen(ANY_PORT, echo, { reuse_port = true }))
    local two = assert(neap.listen(one.address, echo, { reuse_port = true }))
    assert.equal("address_in_use", select(3, neap.listen(one.address, echo)))
    for _ = 1, 8 do -- whichever of the two the system picks
      local conn = assert(neap.connect(one.address))
      exchange(conn, "hello")
      conn:close()
    end
    one:close()
    two:close()
  end)

  it("dual_stack serves IPv4 on [::] and names such a peer by its IPv4 address", function()
    local peer
    local function handler(conn)
      peer = conn.peer
      echo(conn)
    end
    local listener, message, name = neap.listen("tcp://[::]:0", handler)
    if not listener and name == "address" then
      return pending("the system has no IPv6: " .. message)
    end
    local port = listener.address:match("%d+$")
    local conn = assert(neap.connect("tcp://127.0.0.1:" .. port))
    exchange(conn, "x")
    assert.equal("tcp://127.0.0.1", peer:match("^(.*):%d+$"))
    conn:close()
    listener:close()

    listener = assert(neap.listen("tcp://[::]:0", handler, { dual_stack = false }))
    port = listener.address:match("%d+$")
    assert.equal("refused", select(3, neap.connect("tcp://127.0.0.1:" .. port)))
    conn = assert(neap.connect("tcp://[::1]:" .. port))
    exchange(conn, "x")
    assert.equal("tcp://[::1]", peer:match("^(.*):%d+$"))
    conn:close()
    listener:close()
  end)

  it("backlog is how many may wait to be accepted", function()
    local listener = assert(neap.listen(ANY_PORT, echo, { backlog = 7 }))
    local port = listener.address:match("%d+$")
    local ss = helper.sh("ss -Hltn sport = :" .. port)
    if ss.status ~= 0 or ss.out == "" then
      listener:close()
      return pending("needs ss")
    end
    assert.equal("7", ss.out:match("LISTEN%s+%d+%s+(%d+)"))
    listener:close()
  end)
end)

describe("max_connections", function()
  helper.watch(before_each, after_each)

  it("lets others wait until one of those that are served has ended", function()
    local served = 0
    local listener = assert(neap.listen(ANY_PORT, function(conn)
      served = served + 1
      echo(conn)
    end, { max_connections = 2 }))
    local conns = {}
    for i = 1, 5 do
      conns[i] = assert(neap.connect(listener.address))
      conns[i]:write("hello")
    end
    for i = 1, 2 do assert(conns[i]:read(5)):release() end
    for _ = 1, 20 do helper.turn() end
    assert.equal(2, served)
    for i = 1, 5 do
      if i > 2 then
        local answer = assert(conns[i]:read(5)) -- its turn has come
        answer:release()
      end
      conns[i]:close()
    end
    assert.equal(5, served)
    listener:close()
  end)

  it("is told when it keeps somebody waiting, and not before", function()
    local script = [[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:read(1) end,
        { max_connections = 1 }))
      local one = assert(neap.connect(listener.address))
      neap.sleep(0.05)
      if arg[1] then
        local two = assert(neap.connect(listener.address))
        neap.sleep(0.05)
        one:close() two:close()
      end
      one:close()
      listener:close()
    ]]
    assert.equal("", helper.script(script).err)
    local run = helper.script(script, "two")
    assert.matches("max_connections", run.err)
    assert.equal(1, select(2, run.err:gsub("\n", "")))
  end)
end)

describe("idle_timeout", function()
  local clock

  after_each(function() if clock then clock:release() end clock = nil end)
  helper.watch(before_each, after_each)

  -- A server that tells how its reads end, and a client.
  local function served(options)
    local ends = {}
    local listener = assert(neap.listen(ANY_PORT, function(conn)
      while true do
        local chunk, message, name = conn:read_any()
        if not chunk then
          ends[#ends + 1] = { name = name, message = message }
          return
        end
        conn:write(chunk)
      end
    end, options))
    local conn = assert(neap.connect(listener.address))
    exchange(conn, "hello")
    return conn, listener, ends
  end

  it("ends a connection without traffic with timeout, and says why", function()
    local conn, listener, ends = served { idle_timeout = 30 }
    clock = testing.clock()
    clock:advance(29)
    assert.equal(0, #ends)
    clock:advance(2)
    assert.equal(1, #ends)
    assert.equal("timeout", ends[1].name)
    assert.matches("idle_timeout", ends[1].message)
    clock:release()
    clock = nil
    assert.equal("eof", select(3, conn:read(1)))
    conn:close()
    listener:close()
  end)

  it("is 600 seconds for a listener that is not told", function()
    local conn, listener, ends = served()
    clock = testing.clock()
    clock:advance(598)
    assert.equal(0, #ends)
    clock:advance(3)
    assert.equal(1, #ends)
    conn:close()
    listener:close()
  end)

  it("of 0 ends nothing, and a connection that is opened has none", function()
    local conn, listener, ends = served { idle_timeout = 0 }
    clock = testing.clock()
    clock:advance(1000000)
    clock:release()
    clock = nil
    assert.equal(0, #ends)
    exchange(conn, "still here")
    conn:close()
    listener:close()
  end)

  it("begins anew with every byte, in either direction", function()
    local pushed
    local listener = assert(neap.listen(ANY_PORT, function(conn)
      pushed = conn
      echo(conn)
    end, { idle_timeout = 10 }))
    local conn = assert(neap.connect(listener.address))
    exchange(conn, "x")
    clock = testing.clock()
    for _ = 1, 3 do
      clock:advance(7)
      pushed:write("y") -- from the server only
      assert(conn:read(1)):release()
    end
    for _ = 1, 3 do
      clock:advance(7)
      exchange(conn, "z")
    end
    clock:release()
    clock = nil
    conn:close()
    listener:close()
  end)

  it("ends a connection whose peer takes nothing, and counts what was not sent", function()
    local before = helper.net_stats().unsent
    local result
    local listener = assert(neap.listen(ANY_PORT, function(conn)
      local block = ("x"):rep(65536)
      repeat
        local ok, message, name = conn:write(block)
        result = name and { name = name, message = message }
      until not ok
    end, { idle_timeout = 5 }))
    local peer = helper.dial(listener.address)
    for _ = 1, 200 do helper.turn() end
    assert.is_nil(result)
    clock = testing.clock()
    clock:advance(6)
    assert.equal("timeout", result.name)
    assert.is_true(helper.net_stats().unsent > before)
    clock:release()
    clock = nil
    peer:close()
    listener:close()
  end)

  it("of a connection that is opened works the same", function()
    local listening = helper.listening()
    local conn = assert(neap.connect(listening.address, { idle_timeout = 3 }))
    local peer = listening:accept()
    local result
    neap.spawn(function() result = { conn:read(1) } end)
    helper.turn()
    clock = testing.clock()
    clock:advance(4)
    assert.is_nil(result[1])
    assert.equal("timeout", result[3] or result[2])
    conn:close()
    peer:close()
    listening:close()
  end)
end)
