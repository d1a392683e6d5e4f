--- Pools at their limit: reading pauses, goes on, and nothing is lost.

local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local raises = helper.raises
local KIB, MIB = 1024, 1048576

-- Listens with a pool of its own, and notes the most bytes that it held.
local function serve(limit, handler, options)
  options = options or {}
  options.pool = assert(neap.pool { limit = limit })
  options.max_read = options.max_read or 64 * KIB
  local seen = { pool = options.pool, peak = 0 }
  function seen.look()
    seen.peak = math.max(seen.peak, seen.pool:stats().bytes_held)
    return seen.pool:stats()
  end
  local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
    handler(conn, seen)
  end, options))
  seen.address = listener.address
  function seen.close()
    listener:close()
    helper.turn_until(function() return seen.pool:stats().bytes_live == 0 end)
    assert.equal(0, seen.pool:stats().slices_live)
    seen.pool:close()
  end
  return seen
end

local function connect(address) return assert(neap.connect(address)) end

describe("a pool at its limit", function()
  helper.watch(before_each, after_each)

  it("P7 never holds a byte more, whatever 5,000 senders send to a slow receiver", function()
    local hard = tonumber(helper.sh("ulimit -Hn").out) or 65536
    local senders = math.min(5000, math.floor((hard - 100) / 2))
    local child = helper.start(("%s %s %d"):format(helper.neap, helper.file [[
      if os.getenv("NOJIT") then jit.off() end
      local neap = require("neap")
      local SENDERS, MESSAGES, BYTES, LIMIT = tonumber(arg[1]), 3, 10000, 64 * 1048576
      local limited, peak = assert(neap.pool { limit = LIMIT }), 0
      local function look() peak = math.max(peak, limited:stats().bytes_held) end
      local body = ("0123456789"):rep(BYTES / 10)
      local queue, of, served = neap.channel(16), {}, 0
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        while true do
          local message, _, name = conn:read(BYTES)
          look()
          if name == "eof" then break end
          assert(queue:send(assert(message, name)))
        end
        served = served + 1
      end, { pool = limited }))
      local bytes, right, ended = 0, 0, false
      local sink = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        while true do
          local message, _, name = conn:read(BYTES)
          if name == "eof" then break end
          local sender = tonumber(message:str(1, 10))
          of[sender] = (of[sender] or 0) + 1
          if message:str(11) == body:sub(11) then right = right + 1 end
          bytes = bytes + #message
          message:release()
          if right % 1000 == 0 then neap.sleep(0.005) end
        end
        ended = true
      end))
      local receiver = neap.spawn(function()
        local conn = assert(neap.connect(sink.address, { pool = limited }))
        while true do
          local message = queue:receive()
          if not message then break end
          assert(conn:write(message))
          look()
        end
        conn:close()
      end)
      local senders = {}
      for i = 1, SENDERS do
        senders[i] = neap.spawn(function()
          local conn = assert(neap.connect(listener.address))
          for _ = 1, MESSAGES do assert(conn:write(("%010d"):format(i) .. body:sub(11))) end
          conn:close()
        end)
      end
      for i = 1, SENDERS do senders[i]:join() end
      while served < SENDERS do neap.sleep(0.01) end
      queue:close()
      receiver:join()
      while not ended do neap.sleep(0.01) end
      local complete = 0
      for i = 1, SENDERS do if of[i] == MESSAGES then complete = complete + 1 end end
      local stats = limited:stats()
      print(complete == SENDERS, right == SENDERS * MESSAGES, peak <= LIMIT, peak > LIMIT / 2)
      print(stats.reads_paused > 0, stats.bytes_live, stats.slices_live, stats.slices_collected)
      listener:close()
      sink:close()
    ]], senders), 100)
    assert.equal("true\ttrue\ttrue\ttrue", child:line())
    assert.equal("true\t0\t0\t0", child:line())
    local result = child:finish()
    assert.equal("", result.err)
    assert.equal(0, result.status)
  end, { "slow" })

  it("P7 that is full of half-read messages ends them, one after the other", function()
    local done, waiting = 0, 0
    local served = serve(512 * KIB, function(conn, seen)
      local size = assert(conn:read(4))
      waiting = waiting + 1
      local message = assert(conn:read(60000))
      seen.look()
      assert(message:equals(size:str() .. ("m"):rep(59996)))
      done = done + 1
      neap.sleep(0.001) -- it is not gone at once
      message:release()
      size:release()
    end)
    local conns = {}
    for i = 1, 40 do
      conns[i] = connect(served.address)
      conns[i]:write(("%04d%04d"):format(i, i) .. ("m"):rep(30000))
    end
    helper.turn_until(function() return served.look().reads_paused >= 5 end)
    for i = 1, 40 do conns[i]:write(("m"):rep(29996)) end
    helper.turn_until(function() return done == 40 end)
    assert.is_true(served.peak <= 512 * KIB and served.peak > 384 * KIB)
    assert.is_true(served.look().reserve_used > 0)
    for i = 1, 40 do conns[i]:close() end
    served.close()
  end)

  it("P7 lets long lines end, whose length nobody knows before", function()
    local done, line = 0, ("l"):rep(50000)
    local served = serve(512 * KIB, function(conn, seen)
      for _ = 1, 4 do
        local got = assert(conn:read_line())
        seen.look()
        assert(got:equals(line))
        neap.sleep(0)
        got:release()
      end
      done = done + 1
    end)
    local conns = {}
    for i = 1, 40 do
      conns[i] = connect(served.address)
      neap.spawn(function() conns[i]:write { line, "\n", line, "\n", line, "\n", line, "\n" } end)
    end
    helper.turn_until(function() return done == 40 end)
    assert.is_true(served.peak <= 512 * KIB)
    for i = 1, 40 do conns[i]:close() end
    served.close()
  end)

  it("P7 lets go on who waited, in their order, when memory is released"
    .. " #neighbours #sizes", function()
    local held, order = {}, {}
    local served = serve(512 * KIB, function(conn)
      local slice = assert(conn:read(10000))
      order[#order + 1] = slice:u8(0)
      held[#held + 1] = slice
    end)
    local conns = {}
    for i = 1, 30 do
      conns[i] = connect(served.address)
      conns[i]:write(string.char(i) .. ("x"):rep(9999))
      helper.turn_until(function() return #order + served.look().reads_paused == i end)
    end
    assert.equal(24, #order) -- three quarters of the limit, 16 KiB each
    for i = 25, 30 do
      table.remove(held, 1):release()
      helper.turn_until(function() return #order == i end)
    end
    for i = 1, 30 do assert.equal(i, order[i]) end
    for _, slice in ipairs(held) do slice:release() end
    for i = 1, 30 do conns[i]:close() end
    served.close()
  end)

  it("P7 is told to who waited for longer than the connection's timeout #sizes", function()
    local keep, results = {}, {}
    local clock = testing.clock()
    local served = serve(512 * KIB, function(conn)
      while true do
        local slice, message, name = conn:read(16384)
        if not slice then
          results[#results + 1] = { message, name }
          return
        end
        keep[#keep + 1] = slice
      end
    end, { timeout = 0.2 })
    local conn = connect(served.address)
    neap.spawn(function() conn:write(("x"):rep(MIB)) end)
    helper.turn_until(function() return served.look().reads_paused == 1 end)
    clock:advance(0.3)
    helper.turn_until(function() return #results == 1 end)
    clock:release()
    assert.equal("limit", results[1][2])
    assert.matches("limit", results[1][1])
    assert.equal(24, #keep)
    for _, slice in ipairs(keep) do slice:release() end
    conn:close()
    served.close()
  end)

  it("P7 is told to who waited for longer than the idle timeout", function()
    local keep, results = {}, {}
    local clock = testing.clock()
    local served = serve(512 * KIB, function(conn)
      while true do
        local slice, _, name = conn:read(16384)
        if not slice then
          results[#results + 1] = name
          return
        end
        keep[#keep + 1] = slice
      end
    end, { idle_timeout = 30 })
    local conn = connect(served.address)
    neap.spawn(function() conn:write(("x"):rep(MIB)) end)
    helper.turn_until(function() return served.look().reads_paused == 1 end)
    clock:advance(31)
    helper.turn_until(function() return #results == 1 end)
    assert.equal("limit", results[1])
    for _, slice in ipairs(keep) do slice:release() end
    conn:close()
    clock:release()
    served.close()
  end)

  it("P7 has the reserve taken from a peer that stops in the middle, once others wait"
    .. " #sizes", function()
    local results, keep = {}, {}
    local clock = testing.clock()
    local served = serve(512 * KIB, function(conn)
      local first = assert(conn:read(1))
      local kind = first:str()
      first:release()
      local slice, _, name = conn:read(kind == "k" and 16383 or 60000)
      if kind == "k" then keep[#keep + 1] = slice return end
      results[#results + 1] = name or "done"
      if slice then slice:release() end
    end)
    local conns = {}
    for i = 1, 23 do
      conns[i] = connect(served.address)
      conns[i]:write("k" .. ("x"):rep(16383))
    end
    helper.turn_until(function() return #keep == 23 end)
    local stops, waits = connect(served.address), connect(served.address)
    stops:write("s" .. ("x"):rep(30000))
    helper.turn_until(function() return served.look().reserve_used == 1 end)
    waits:write("w" .. ("x"):rep(60000))
    helper.turn_until(function() return served.look().reads_paused > 0 end)
    assert.equal(0, #results)
    clock:advance(11)
    helper.turn_until(function() return #results == 2 end)
    assert.equal("limit", results[1])
    assert.equal("done", results[2])
    for _, slice in ipairs(keep) do slice:release() end
    for i = 1, 23 do conns[i]:close() end
    stops:close()
    waits:close()
    clock:release()
    served.close()
  end)

  it("P7 loses no slice that is written while nothing is left", function()
    local served = serve(512 * KIB, function(conn)
      for chunk in conn:chunks() do assert(conn:write(chunk)) end
    end)
    local allocator, kept = served.pool:allocator(), {}
    local conns, got = {}, {}
    for i = 1, 8 do conns[i] = connect(served.address) end
    for i = 1, 8 do
      neap.spawn(function()
        for n = 1, 200 do conns[i]:write(("%07d\n"):format(n) .. ("y"):rep(n % 90)) end
        conns[i]:shutdown()
      end)
      neap.spawn(function()
        local bytes = {}
        for chunk in conns[i]:chunks() do
          bytes[#bytes + 1] = chunk:str()
          chunk:release()
        end
        got[i] = table.concat(bytes)
      end)
    end
    while true do
      local slice = allocator:alloc(16384)
      if not slice then break end
      kept[#kept + 1] = slice
    end
    for _ = 1, 20 do helper.turn() end
    for _, slice in ipairs(kept) do slice:release() end
    allocator:release()
    local want = {}
    for n = 1, 200 do want[n] = ("%07d\n"):format(n) .. ("y"):rep(n % 90) end
    want = table.concat(want)
    for i = 1, 8 do
      helper.turn_until(function() return got[i] end)
      assert.is_true(got[i] == want)
      conns[i]:close()
    end
    served.close()
  end)

  it("P7 gets forgotten slices back from the collector, though little hangs on them", function()
    local count = 0
    local served = serve(512 * KIB, function(conn)
      while true do
        local slice = conn:read(16000)
        if not slice then return end
        count = count + 1 -- and forgotten
      end
    end)
    local conn = connect(served.address)
    for _ = 1, 100 do assert(conn:write(("x"):rep(16000))) end
    helper.turn_until(function() return count == 100 end)
    conn:close()
    helper.turn_until(function()
      collectgarbage() -- the handler has ended, and with it what it forgot
      return served.pool:stats().slices_live == 0
    end)
    served.close()
  end)

  it("P7 is set, told, and refused where connections may read more at once #sizes", function()
    local pool = assert(neap.pool())
    local settings = pool:settings()
    assert.equal(0, settings.limit)
    assert.equal(0, settings.soft_limit)
    assert.equal(64 * MIB, settings.retain)
    assert.equal(16, settings.detach_after)
    assert.is_true(settings.calibrate)
    assert.is_true(pool:configure { limit = 8 * MIB })
    assert.equal(8 * MIB, pool:settings().limit)
    assert.equal(6 * MIB, pool:settings().soft_limit)
    assert.is_true(pool:configure { soft_limit = MIB, calibrate = false })
    assert.equal(8 * MIB, pool:settings().limit)
    assert.equal(MIB, pool:settings().soft_limit)
    assert.is_false(pool:settings().calibrate)
    local one, other = testing.pair { pool = pool }
    assert.equal(MIB + 16 * KIB, pool:settings().reserve)
    local ok, message, name = pool:configure { limit = 4 * MIB }
    assert.is_nil(ok)
    assert.equal("limit", name)
    assert.matches("max_read", message)
    assert.equal(8 * MIB, pool:settings().limit)
    ok, message, name = neap.listen("tcp://127.0.0.1:0", print, { pool = pool, max_read = 4 * MIB })
    assert.is_nil(ok)
    assert.equal("limit", name)
    assert.matches("max_read is 4194304 bytes", message)
    assert.equal("limit", select(3, neap.connect("tcp://127.0.0.1:1",
      { pool = pool, max_read = 4 * MIB })))
    assert.is_true(pool:configure { limit = 0 })
    one:close()
    other:close()
    pool:close()
  end)

  it("P7 refuses what is no limit, no pool, and no number, at the caller's line", function()
    local pool = assert(neap.pool())
    for _, name in ipairs { "limit", "soft_limit", "retain", "detach_after" } do
      for _, bad in ipairs { "1", -1, 1.5, 0 / 0, 2 ^ 54, {}, true } do
        raises("pool:configure: ", function() pool:configure { [name] = bad } end)
      end
    end
    raises("pool:configure: ", function() pool:configure { detach_after = 256 } end)
    raises("min_size", function() pool:configure { min_size = 1 } end)
    raises("option pool must be a pool", function() neap.connect("tcp://[::1]:1", { pool = 1 }) end)
    raises("option pool must be a pool", function() testing.pair { pool = neap } end)
    raises("max_held must be at least", function() testing.pair { max_held = MIB } end)
    pool:close()
  end)
end)

describe("a connection with a limit of its own", function()
  helper.watch(before_each, after_each)

  it("P7 pauses alone, until slices of it are released #neighbours", function()
    local keep = { a = {}, b = {} }
    local least = 4 * 64 * KIB + 128 * KIB
    local served = serve(0, function(conn)
      local kind = conn:read(1)
      local list = keep[kind:str()]
      kind:release()
      for chunk in conn:chunks() do list[#list + 1] = chunk end
    end, { max_held = least })
    local a, b = connect(served.address), connect(served.address)
    neap.spawn(function() a:write("a" .. ("x"):rep(MIB)) end)
    helper.turn_until(function() return served.look().reads_paused == 1 end)
    assert.is_true(served.look().bytes_live <= least)
    b:write("b" .. ("x"):rep(100000))
    local function sum(list)
      local bytes = 0
      for i = 1, #list do bytes = bytes + #list[i] end
      return bytes
    end
    helper.turn_until(function() return sum(keep.b) == 100000 end)
    local bytes = 0
    while bytes < MIB do
      while #keep.a > 0 do
        local slice = table.remove(keep.a)
        bytes = bytes + #slice
        slice:release()
      end
      helper.turn()
    end
    for _, slice in ipairs(keep.b) do slice:release() end
    a:close()
    b:close()
    served.close()
  end)
end)
