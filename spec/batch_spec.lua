--- What comes on many connections at once is read one behind the other. What they have to send
--- leaves in system calls that they share, where the system has an io_uring; what their peers and
--- tasks see of it is the same as where it has none.

local helper = require("spec.helper")
local neap = require("neap")
local http = require("neap.http")

local CROWD = 40
local SMALL, PATTERN = ("s"):rep(100), helper.pattern(65536)

-- Is there an io_uring, and may this process have one?
local ffi = require("ffi")
ffi.cdef "long syscall(long number, ...);"
local IO_URING_SETUP, PARAMETERS_BYTES = 425, 120
local fd = os.getenv("SHIM") and -1
  or ffi.C.syscall(IO_URING_SETUP, ffi.cast("long", 1), ffi.new("char[?]", PARAMETERS_BYTES))
if fd >= 0 then ffi.C.close(fd) end
local there = fd >= 0

local net = ffi.new("struct neap_net_stats")
local function batched()
  require("neap.abi").C.neap_net_stats(net)
  return tonumber(net.batched)
end

-- Connections that all write in the same turn. Returns them, and their peers.
local function crowd(receive_bytes)
  local conns, peers = {}, {}
  for i = 1, CROWD do conns[i], peers[i] = helper.pair(receive_bytes) end
  return conns, peers
end

-- As recv_exactly, for many bytes.
local function receive(peer, n)
  local parts = {}
  while n > 0 do
    local part = peer:recv()
    parts[#parts + 1] = part
    n = n - #(part or "")
    if not part then helper.turn() end
  end
  return table.concat(parts)
end

local function text(slice)
  local bytes = slice:str()
  slice:release()
  return bytes
end

local function close(list)
  for _, one in ipairs(list) do one:close() end
end

describe("a crowd of connections", function()
  helper.watch(before_each, after_each)

  -- All are sent something at once. Returns how many had been read from when each of the tasks went
  -- on that wait for it.
  local function read_from()
    local conns, peers = crowd()
    local ready = {}
    for i, conn in ipairs(conns) do
      neap.spawn(function()
        assert.equal(SMALL .. i, text(conn:read(#SMALL + #tostring(i))))
        local count = 0
        for _, other in ipairs(conns) do
          if other:info().read_bytes > 0 then count = count + 1 end
        end
        ready[#ready + 1] = count
      end)
    end
    helper.turn()
    for i, peer in ipairs(peers) do peer:send(SMALL .. i) end
    helper.turn_until(function() return #ready == CROWD end)
    close(conns)
    close(peers)
    return ready
  end

  it("is read from together, before the first of the tasks that wait goes on", function()
    local ready = read_from()
    assert.is_true(ready[1] > 1, "the first found only its own")
    assert.is_true(ready[1] < CROWD, "memory is held for all of them at once")
    assert.equal(CROWD, ready[CROWD])
  end)

  it("is read from one by one where the pool has more in use than it would keep #sizes", function()
    local allocator, slices = neap.default_pool():allocator(), {}
    local retain = neap.default_pool():settings().retain
    for i = 1, retain / 0x100000 do slices[i] = allocator:alloc(0x100000) end
    local ready = read_from()
    for i = 1, CROWD do assert.equal(i, ready[i]) end
    for i = 1, #slices do slices[i]:release() end
    allocator:release()
  end)

  it("is not read from for a read, or a pipe, that was given up", function()
    local conns, peers = crowd()
    local gave_up = 0
    for i, conn in ipairs(conns) do
      conn:set_timeout(0.001)
      neap.spawn(function()
        local wait = i > CROWD / 2 and conn.pipe_to or conn.read
        local done, _, name = wait(conn, i > CROWD / 2 and conn or 1)
        assert.is_nil(done)
        assert.equal("timeout", name)
        gave_up = gave_up + 1
      end)
    end
    helper.turn_until(function() return gave_up == CROWD end)
    for _, peer in ipairs(peers) do peer:send(SMALL) end
    for _ = 1, 3 do helper.turn() end
    for _, conn in ipairs(conns) do
      assert.equal(0, conn:info().read_bytes)
      assert.equal(SMALL, text(conn:read(#SMALL)))
    end
    close(conns)
    close(peers)
  end)

  it("sends in calls that are shared, if the system has such #sizes", function()
    local conns, peers = crowd()
    local before = batched()
    for i, conn in ipairs(conns) do assert(conn:write(SMALL .. i)) end
    helper.turn()
    for i, peer in ipairs(peers) do
      assert.equal(SMALL .. i, peer:recv())
      assert.equal(#SMALL + #tostring(i), conns[i]:info().written_bytes)
      assert.equal(0, conns[i]:info().queued_bytes)
    end
    assert.equal(there and CROWD or 0, batched() - before)
    close(conns)
    close(peers)
  end)

  it("sends what lies in several pieces, too", function()
    local conns, peers = crowd()
    for i, conn in ipairs(conns) do
      assert(conn:write { SMALL, PATTERN:sub(1, 5000 + i), SMALL })
    end
    helper.turn()
    for i, peer in ipairs(peers) do
      assert.equal(SMALL .. PATTERN:sub(1, 5000 + i) .. SMALL, peer:recv_exactly(5200 + i))
    end
    close(conns)
    close(peers)
  end)

  it("sends the rest later where the system has no room for all", function()
    local conns, peers = crowd(4096)
    local slow, LARGE = 4, PATTERN:rep(100) -- more than a kernel takes
    for i, conn in ipairs(conns) do
      assert(conn:try_write(i <= slow and LARGE or SMALL))
    end
    helper.turn()
    for i, conn in ipairs(conns) do
      assert.equal(i <= slow, conn:info().queued_bytes > 0, i)
      if i > slow then assert(conn:try_write(SMALL)) end
    end
    helper.turn()
    for i, peer in ipairs(peers) do
      if i > slow then
        assert.equal(SMALL .. SMALL, peer:recv())
      else
        assert.is_true(LARGE == receive(peer, #LARGE), i)
      end
    end
    close(conns)
    close(peers)
  end)

  it("hears of a peer's reset, and of its end, as one connection does", function()
    local conns, peers = crowd()
    for i, peer in ipairs(peers) do
      if i % 4 == 1 then peer:reset() elseif i % 4 == 2 then peer:close() end
    end
    local names = {}
    for round = 1, 3 do
      for i, conn in ipairs(conns) do
        local done, _, name = conn:write(SMALL)
        names[i] = names[i] or not done and name
      end
      helper.turn()
      if round == 1 then helper.turn() end
    end
    for i, conn in ipairs(conns) do
      assert.equal(i % 4 == 1 and "reset" or i % 4 == 2 and "reset" or false, names[i], i)
      if not names[i] then assert.equal(SMALL:rep(3), peers[i]:recv_exactly(3 * #SMALL)) end
      conn:close()
    end
    close(peers)
  end)

  it("has its answers of HTTP in such calls, too #sizes", function()
    local server = assert(http.serve("tcp://127.0.0.1:0", function(request)
      return request.path
    end))
    local peers, before = {}, nil
    for i = 1, CROWD do peers[i] = helper.dial(server.address) end
    for round = 1, 2 do -- the first is answered when they are accepted, one by one
      before = batched()
      for i, peer in ipairs(peers) do
        peer:send(("GET /%d/%d HTTP/1.1\r\nHost: x\r\n\r\n"):format(round, i))
      end
      for i, peer in ipairs(peers) do
        local path, answer = ("/%d/%d"):format(round, i), ""
        repeat answer = answer .. peer:recv_exactly(1) until answer:find("\r\n\r\n", 1, true)
        assert.equal(path, peer:recv_exactly(#path))
      end
    end
    assert.equal(there, batched() - before > 0)
    close(peers)
    server:stop(0)
  end)

  it("sends what is written just before a connection is closed", function()
    local conns, peers = crowd()
    for i, conn in ipairs(conns) do
      assert(conn:write(SMALL .. i))
      conn:close()
    end
    for i, peer in ipairs(peers) do
      assert.equal(SMALL .. i, peer:recv_all())
      peer:close()
    end
  end)
end)

describe("where the system has no io_uring", function()
  helper.watch(before_each, after_each, 120)

  it("all of this is the same #sizes", function()
    if not there then pending("it has none here") end
    local shim = ("%s/%s/shim.so"):format(helper.top, os.getenv("BUILD") or "build")
    local file = io.open(shim, "rb")
    if file then file:close() end
    local sanitized = helper.stock_environment():find("LD_PRELOAD", 1, true)
    if not file or sanitized then pending("no shim") end
    for _, refusal in ipairs { 1, 38 } do -- EPERM, ENOSYS
      local result = helper.start(("env SHIM=io_uring_setup:0:%d LD_PRELOAD=%s %s test "
        .. "spec/batch_spec.lua"):format(refusal, shim, helper.neap), 100):finish()
      if result.status ~= 0 then error(result.out .. result.err) end
      assert.matches("9 successes / 0 failures / 0 errors", result.out, 1, true)
    end
  end)
end)
