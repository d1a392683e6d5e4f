-- Lists of what to write, flush, and what is known of a connection.

local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local BIG = 4 * 1048576 -- more than the system holds for a peer that does not read

for _, write in ipairs { "write", "try_write" } do
  describe("conn:" .. write .. " of a list", function()
    helper.watch(before_each, after_each)

    it("sends strings and slices in order, and takes the slices", function()
      local conn, peer = helper.pair()
      local two, four = neap.copy("two"), neap.slice("four")
      assert.is_true(conn[write](conn, { "one", two, "", "three", four }))
      assert.equal("onetwothreefour", peer:recv_exactly(15))
      helper.raises("was released", function() local _ = #two end)
      helper.raises("was released", function() local _ = #four end)
      conn:close()
      peer:close()
    end)

    it("does nothing for an empty one", function()
      local conn, peer = helper.pair()
      assert.is_true(conn[write](conn, {}))
      assert.equal(0, conn:queued())
      conn:close()
      peer:close()
    end)

    it("changes nothing when something in it is wrong", function()
      local conn, peer = helper.pair()
      local good, stale = neap.copy("good"), neap.copy("stale")
      stale:release()
      for _, wrong in ipairs {
        { { good, stale }, "[2] is a slice that was released or taken before" },
        { { good, "x", good }, "[3] is a slice that was released or taken before" },
        { { good, 1, "x" }, "[2] must be a string or a slice, got number" },
        { { good, { "x" } }, "[2] must be a string or a slice, got table" },
        { { "x", good, true }, "[3] must be a string or a slice, got boolean" },
      } do
        helper.raises(wrong[2], function() local _ = conn[write](conn, wrong[1]) end)
        assert.equal(0, conn:queued())
        assert.equal("good", good:str())
      end
      assert.is_true(conn[write](conn, { good, "!" })) -- no name is remembered
      assert.equal("good!", peer:recv_exactly(5))
      conn:close()
      peer:close()
    end)

    it("takes the slices when the connection is closed", function()
      local conn, peer = helper.pair()
      conn:close()
      local one, two = neap.copy("one"), neap.copy("two")
      local ok, _, name = conn[write](conn, { one, "x", two })
      assert.is_nil(ok)
      assert.equal("closed", name)
      helper.raises("was released", function() local _ = #one end)
      helper.raises("was released", function() local _ = #two end)
      peer:close()
    end)
  end)
end

describe("conn:write of a list", function()
  helper.watch(before_each, after_each)

  it("above 64 KiB waits, once, until 16 KiB are left", function()
    local one, other = testing.pair()
    local parts = {}
    for i = 1, 64 do parts[i] = helper.pattern(BIG / 64) end
    local written = false
    local write = helper.task(function()
      assert(one:write(parts))
      written = true
      return one:queued()
    end)
    helper.turn()
    helper.turn()
    assert.is_false(written)
    for i = 1, 64 do
      local got = assert(other:read(BIG / 64))
      assert.is_true(got:equals(parts[i]))
      got:release()
    end
    assert.is_true(write() <= 16384)
    one:close()
    other:close()
  end)

  it("raises before it takes anything where it cannot wait", function()
    local one, other = testing.pair()
    local slice = neap.copy(("x"):rep(40000))
    local ok, message
    coroutine.wrap(function() ok, message = pcall(one.write, one, { slice, ("x"):rep(40000) }) end)()
    assert.is_false(ok)
    assert.matches("cannot wait", message, 1, true)
    assert.equal(0, one:queued())
    slice:release()
    one:close()
    other:close()
  end)
end)

describe("conn:try_write of a list", function()
  helper.watch(before_each, after_each)

  it("leaves it alone at the limit", function()
    local one, other = testing.pair()
    assert(one:try_write(("x"):rep(BIG)))
    local slice = neap.copy("more")
    assert.equal("limit", select(3, one:try_write({ slice, "x" })))
    assert.equal("more", slice:str())
    slice:release()
    other:close()
    one:close()
  end)
end)

describe("conn:flush", function()
  helper.watch(before_each, after_each)

  it("returns at once when nothing is queued", function()
    local conn, peer = helper.pair()
    assert.is_true(conn:flush())
    conn:close()
    peer:close()
  end)

  it("waits until the system has taken everything", function()
    local one, other = testing.pair()
    assert(one:try_write(("x"):rep(BIG)))
    local done = false
    local flush = helper.task(function()
      local ok = one:flush()
      done = true
      return ok, one:queued()
    end)
    helper.turn()
    assert.is_false(done)
    assert(other:skip(BIG / 2))
    assert.is_true(one:queued() > 0)
    assert.is_false(done)
    assert(other:skip(BIG / 4))
    assert(other:skip(BIG / 4))
    local ok, queued = flush()
    assert.is_true(ok)
    assert.equal(0, queued)
    one:close()
    other:close()
  end)

  it("fails with timeout, and what is queued stays so", function()
    local one, other = testing.pair({ timeout = 5 })
    local clock = testing.clock()
    assert(one:try_write(("x"):rep(BIG)))
    local flush = helper.task(function() return one:flush() end)
    helper.turn()
    clock:advance(5)
    local _, message, name = flush()
    assert.equal("timeout", name)
    assert.matches("flush", message, 1, true)
    assert.is_true(one:queued() > 0)
    clock:release()
    other:close()
    one:close()
  end)

  it("fails when the connection is closed, by us or by the peer", function()
    local one, other = testing.pair()
    assert(one:try_write(("x"):rep(BIG)))
    local flush = helper.task(function() return select(3, one:flush()) end)
    helper.turn()
    other:close()
    assert.equal("reset", (flush()))
    one:close()
    assert.equal("closed", select(3, one:flush()))
  end)
end)

describe("conn:info", function()
  helper.watch(before_each, after_each)

  it("counts bytes of both directions, and what waits here", function()
    local conn, peer = helper.pair()
    assert(conn:write("hello"))
    assert.equal(5, conn:info().queued_bytes)
    assert.equal(0, conn:info().written_bytes)
    assert(conn:flush())
    peer:send("0123456789")
    assert(conn:read(4)):release()
    local info = conn:info()
    assert.equal(conn.peer, info.peer)
    assert.matches("^tcp://127%.0%.0%.1:%d+$", info.address)
    assert.not_equal(info.peer, info.address)
    assert.equal(0, info.queued_bytes)
    assert.equal(5, info.written_bytes)
    assert.equal(10, info.read_bytes)
    assert.equal(6, info.buffered_bytes)
    conn:close()
    assert.is_nil(conn:info())
    peer:close()
  end)

  it("tells the age, and the time without traffic", function()
    local one, other = testing.pair()
    local clock = testing.clock()
    clock:advance(10)
    assert(one:write("x"))
    assert(other:read(1)):release()
    clock:advance(3)
    local writer, reader = one:info(), other:info()
    for _, info in ipairs { writer, reader } do
      assert.is_true(math.abs(info.age - 13) <= 0.25, info.age)
      assert.is_true(math.abs(info.idle - 3) <= 0.25, info.idle)
    end
    clock:release()
    one:close()
    other:close()
  end)
end)
