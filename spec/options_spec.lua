-- Options of neap.listen and neap.connect, seen on the sockets themselves.

local ffi = require("ffi")
local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

ffi.cdef [[ int getsockopt(int fd, int level, int option, void *value, unsigned int *size); ]]

local SOL_SOCKET, SO_KEEPALIVE, SO_REUSEPORT, SO_ACCEPTCONN = 1, 9, 15, 30
local IPPROTO_TCP, NODELAY, KEEPIDLE, KEEPINTVL, KEEPCNT = 6, 1, 4, 5, 6
local TCP_INFO = 11
local IPPROTO_IPV6, V6ONLY = 41, 26

local value, size = ffi.new("int[1]"), ffi.new("unsigned int[1]")

local function option_of(fd, level, option)
  size[0] = 4
  if ffi.C.getsockopt(fd, level, option, value, size) < 0 then return nil end
  return value[0]
end

-- The descriptors of this process that are sockets: { [number] = inode }.
local function sockets()
  local lfs, found = require("lfs"), {}
  for number = 3, 200 do
    local target = lfs.symlinkattributes("/proc/self/fd/" .. number, "target")
    if target and target:find("^socket:") then found[number] = target end
  end
  return found
end

-- The socket that fn makes, and what fn returns.
local function made_by(fn)
  local before = sockets()
  local made = fn()
  for number, inode in pairs(sockets()) do
    if before[number] ~= inode then return number, made end
  end
  error("no socket was made", 2)
end

local function nothing() end

local function options_of(fd)
  local keeps = option_of(fd, SOL_SOCKET, SO_KEEPALIVE)
  return { no_delay = option_of(fd, IPPROTO_TCP, NODELAY) ~= 0, keepalive = keeps,
    idle = keeps == 1 and option_of(fd, IPPROTO_TCP, KEEPIDLE) or nil,
    interval = keeps == 1 and option_of(fd, IPPROTO_TCP, KEEPINTVL) or nil,
    probes = keeps == 1 and option_of(fd, IPPROTO_TCP, KEEPCNT) or nil }
end

-- What the socket of a connection has, on the side that `options` are given to.
local function connected(options)
  local listening = helper.listening()
  local fd, conn = made_by(function() return assert(neap.connect(listening.address, options)) end)
  local found = options_of(fd)
  conn:close()
  listening:close()
  return found
end

local function accepted(options)
  local served
  local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
    served = true
    conn:read(1)
  end, options))
  local client = helper.dial(listener.address)
  local fd = made_by(function() helper.turn_until(function() return served end) end)
  local found = options_of(fd)
  client:close()
  listener:close()
  return found
end

for side, of in pairs { connect = connected, listen = accepted } do
  describe("neap." .. side .. "'s", function()
    helper.watch(before_each, after_each)

    it("no_delay and keepalive have their defaults", function()
      assert.same({ no_delay = true, keepalive = 0 }, of())
    end)

    it("no_delay = false leaves Nagle's waiting on", function()
      assert.same({ no_delay = false, keepalive = 0 }, of({ no_delay = false }))
    end)

    it("keepalive probes three times, within as long again", function()
      assert.same({ no_delay = true, keepalive = 1, idle = 60, interval = 20, probes = 3 },
        of({ keepalive = 60 }))
      assert.same({ no_delay = true, keepalive = 1, idle = 1, interval = 1, probes = 3 },
        of({ keepalive = 1 }))
    end)
  end)
end

describe("a listener's", function()
  helper.watch(before_each, after_each)

  it("backlog is how many may wait", function()
    local fd, listener = made_by(function()
      return assert(neap.listen("tcp://127.0.0.1:0", nothing, { backlog = 17 }))
    end)
    local info, info_size = ffi.new("uint8_t[256]"), ffi.new("unsigned int[1]", 256)
    assert(ffi.C.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, info_size) == 0)
    assert.equal(17, ffi.cast("uint32_t *", info + 28)[0]) -- tcpi_sacked, of a listener
    listener:close()
  end)

  it("reuse_port lets two listen at one address, and only when both have it", function()
    local one = assert(neap.listen("tcp://127.0.0.1:0", nothing, { reuse_port = true }))
    local fd, two = made_by(function()
      return assert(neap.listen(one.address, nothing, { reuse_port = true }))
    end)
    assert.equal(1, option_of(fd, SOL_SOCKET, SO_ACCEPTCONN))
    assert.equal(1, option_of(fd, SOL_SOCKET, SO_REUSEPORT))
    assert.equal("address_in_use", select(3, neap.listen(one.address, nothing)))
    one:close()
    two:close()
  end)

  it("dual_stack serves IPv4 at [::], whose peers look like IPv4", function()
    local peer, address
    local fd, listener = made_by(function()
      return assert(neap.listen("tcp://[::]:0", function(conn)
        peer, address = conn.peer, conn:info().address
      end))
    end)
    assert.equal(0, option_of(fd, IPPROTO_IPV6, V6ONLY))
    assert.matches("^tcp://%[::%]:%d+$", listener.address)
    local client = helper.dial(listener.address)
    helper.turn_until(function() return peer end)
    assert.matches("^tcp://127%.0%.0%.1:%d+$", peer)
    assert.matches("^tcp://127%.0%.0%.1:%d+$", address)
    client:close()
    listener:close()
  end)

  it("dual_stack = false leaves IPv4 to others", function()
    -- A port that is free for IPv6 may be another program's for IPv4.
    local fd, listener, port, other
    for _ = 1, 100 do
      fd, listener = made_by(function()
        return assert(neap.listen("tcp://[::]:0", nothing, { dual_stack = false }))
      end)
      assert.equal(1, option_of(fd, IPPROTO_IPV6, V6ONLY))
      port = listener.address:match("%d+$")
      other = neap.listen("tcp://0.0.0.0:" .. port, nothing)
      if other then break end
      listener:close()
    end
    assert(other):close()
    assert.equal("refused", select(3, neap.connect("tcp://127.0.0.1:" .. port)))
    listener:close()
  end)

  it("max_connections lets others wait, who are served when one has ended", function()
    local open, most, served = 0, 0, 0
    local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
      open, served = open + 1, served + 1
      most = math.max(most, open)
      conn:read(1)
      open = open - 1
    end, { max_connections = 2 }))
    local clients = {}
    for i = 1, 5 do clients[i] = helper.dial(listener.address) end
    helper.turn_until(function() return served == 2 end)
    for _ = 1, 5 do helper.turn() end
    assert.equal(2, served)
    for i = 1, 5 do
      clients[i]:close()
      helper.turn_until(function() return served >= math.min(5, 2 + i) end)
    end
    assert.equal(2, most)
    listener:close()
  end)

  it("max_connections is told of when it keeps somebody waiting, and not before", function()
    local script = [[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:read(1) end,
        { max_connections = 1 }))
      local one = assert(neap.connect(listener.address))
      neap.sleep(0.05)
      local two = arg[1] and assert(neap.connect(listener.address))
      neap.sleep(0.05)
      one:close()
      if two then two:close() end
      listener:close()
    ]]
    assert.equal("", helper.script(script).err)
    local run = helper.script(script, "two")
    assert.matches("max_connections", run.err)
    assert.equal(1, select(2, run.err:gsub("\n", "")))
  end)

  it("idle_timeout is 600 s unless given, and 0 is none", function()
    for options, lives in pairs { [{}] = false, [{ idle_timeout = 0 }] = true } do
      local name
      local listener = assert(neap.listen("unix://@" .. helper.temporary_name(), function(conn)
        name = select(3, conn:read(1))
      end, options))
      local client = assert(neap.connect(listener.address))
      local clock = testing.clock()
      clock:advance(598)
      assert.is_nil(name)
      clock:advance(3)
      assert.equal(not lives and "timeout" or nil, name)
      clock:release()
      client:close()
      helper.turn_until(function() return name end)
      listener:close()
    end
  end)
end)

describe("idle_timeout", function()
  helper.watch(before_each, after_each)

  it("ends a read and a write that wait, and what comes after them", function()
    local one, other = testing.pair({ idle_timeout = 10 })
    local clock = testing.clock()
    local read = helper.task(function() return select(3, one:read(1)) end)
    local much = ("x"):rep(4194304)
    local write = helper.task(function() return select(3, one:write(much)) end)
    clock:advance(11)
    assert.equal("timeout", (read()))
    assert.equal("timeout", (write()))
    assert.equal("timeout", select(3, one:read(1)))
    assert.equal("timeout", select(3, one:write("x")))
    clock:release()
    one:close()
    other:close()
  end)

  it("begins anew with bytes of either direction", function()
    local one, other = testing.pair({ idle_timeout = 10 })
    local clock = testing.clock()
    for _ = 1, 3 do
      clock:advance(8)
      assert(one:write("x"))
      assert(other:read(1)):release()
    end
    for _ = 1, 3 do
      clock:advance(8)
      assert(other:write("x"))
      assert(one:read(1)):release()
    end
    clock:release()
    one:close()
    other:close()
  end)
end)

describe("options", function()
  helper.watch(before_each, after_each)

  it("that are wrong raise, and those that do not belong there", function()
    local at = "tcp://127.0.0.1:0"
    for name, wrongs in pairs { backlog = { -1, 1.5, "1", 2 ^ 31 }, keepalive = { -1, 32768, 0.5 },
      idle_timeout = { -1, 0.5, 1e12, "1" }, max_connections = { 0, -1, 1.5 }, timeout = { -1 },
      no_delay = { 1 }, reuse_port = { 1 }, dual_stack = { "yes" }, mode = { 660 } } do
      for _, wrong in ipairs(wrongs) do
        helper.raises(name, function() local _ = neap.listen(at, nothing, { [name] = wrong }) end)
      end
    end
    for _, name in ipairs { "backlog", "max_connections", "reuse_port", "dual_stack", "mode" } do
      helper.raises('no option "' .. name .. '"', function()
        local _ = neap.connect(at, { [name] = 1 })
      end)
    end
  end)
end)
