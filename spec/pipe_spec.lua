--- From one connection to another without a look at what passes.

local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local KIB = 1024

describe("a pipe", function()
  helper.watch(before_each, after_each) -- around the hooks of the block within

  describe("conn:pipe_to", function()
    local from, to, source, sink -- source sends to `from`, and sink has what goes to `to`

    before_each(function()
      from, source = helper.pair()
      to, sink = helper.pair()
    end)

    after_each(function()
      from:close()
      to:close()
      source:close()
      sink:close()
    end)

    it("moves what comes until the end, which is not passed on", function()
      local bytes = helper.pattern(100 * KIB)
      local ended = helper.task(function() return from:pipe_to(to) end)
      source:send("first")
      assert.equal("first", sink:recv_exactly(5))
      source:send(bytes)
      assert.equal(bytes, sink:recv_exactly(#bytes))
      source:shutdown()
      assert.equal(5 + #bytes, ended())
      assert.is_nil(sink:recv(1)) -- still open
      to:write("last")
      assert.equal("last", sink:recv_exactly(4))
    end)

    it("moves n bytes, and leaves what comes behind them", function()
      source:send("0123456789")
      assert.equal(4, from:pipe_to(to, 4))
      assert.equal(0, from:pipe_to(to, 0))
      assert.equal("0123", sink:recv_exactly(4))
      local rest = assert(from:read(6))
      assert.equal("456789", rest:str())
      rest:release()
      local ended = helper.task(function() return from:pipe_to(to, 3) end)
      source:send("a")
      assert.equal("a", sink:recv_exactly(1))
      source:send("bcd")
      assert.equal(3, ended())
      assert.equal("bc", sink:recv_exactly(2))
      rest = assert(from:read(1))
      assert.equal("d", rest:str())
      rest:release()
    end)

    it("begins with what is here and unread, and makes views of it stale", function()
      source:send("header\nbody")
      local view = assert(from:peek(11))
      assert(from:read_line()):release()
      source:shutdown()
      assert.equal(4, from:pipe_to(to))
      assert.equal("body", sink:recv_exactly(4))
      assert.is_true(view:is_stale())
    end)

    it("has nothing to move at the end", function()
      source:shutdown()
      assert.equal(0, from:pipe_to(to))
      assert.equal(0, from:pipe_to(to))
      local bytes, message, name, moved = from:pipe_to(to, 1)
      assert.same({ nil, "short", 0 }, { bytes, name, moved })
      assert.matches("closed its side after 0 of 1 bytes", message)
    end)

    it("tells of an end before n bytes, and how many went", function()
      source:send("abc")
      source:shutdown()
      local _, message, name, moved = from:pipe_to(to, 5)
      assert.same({ "short", 3 }, { name, moved })
      assert.equal(from.peer .. ": the peer closed its side after 3 of 5 bytes for " .. to.peer,
        message)
      assert.equal("abc", sink:recv_exactly(3))
    end)

    it("copies nothing", function()
      local before = neap.default_pool():stats().bytes_copied
      source:send(helper.pattern(8 * KIB))
      assert.equal(8 * KIB, from:pipe_to(to, 8 * KIB))
      assert.equal(before, neap.default_pool():stats().bytes_copied)
      assert.equal(helper.pattern(8 * KIB), sink:recv_exactly(8 * KIB))
    end)

    it("reads no further while the receiver does not read, and loses nothing #sizes", function()
      local bytes, rounds, sent = helper.pattern(64 * KIB), 256, 0
      local sender, middle = assert(testing.pair())
      local ended = helper.task(function() return middle:pipe_to(to) end)
      local wrote = helper.task(function()
        for _ = 1, rounds do
          assert(sender:write(bytes))
          sent = sent + #bytes
        end
        sender:shutdown()
      end)
      local still = 0 -- turns in which nothing more was taken
      while still < 50 do
        local before = sent
        helper.turn()
        still = sent == before and still + 1 or 0
        assert.is_true(to:queued() <= 64 * KIB + 256 * KIB, to:queued()) -- and one read
      end
      assert.is_true(sent < rounds * #bytes)
      for _ = 1, rounds do assert.equal(bytes, sink:recv_exactly(#bytes)) end
      wrote()
      assert.equal(rounds * #bytes, ended())
      sender:close()
      middle:close()
    end)

    it("moves both ways at once, each in a task", function()
      local one = helper.task(function() return from:pipe_to(to) end)
      local other = helper.task(function() return to:pipe_to(from) end)
      for i = 1, 50 do
        local there, back = ("there%02d"):format(i), ("back%02d"):format(i)
        source:send(there)
        sink:send(back)
        assert.equal(there, sink:recv_exactly(7))
        assert.equal(back, source:recv_exactly(6))
      end
      source:shutdown()
      sink:shutdown()
      assert.equal(50 * 7, one())
      assert.equal(50 * 6, other())
    end)

    it("echoes, from a connection to itself", function()
      local ended = helper.task(function() return from:pipe_to(from) end)
      source:send("hello")
      assert.equal("hello", source:recv_exactly(5))
      source:shutdown()
      assert.equal(5, ended())
    end)

    it("ends with a timeout after a time in which nothing moved, and can go on", function()
      local clock = testing.clock()
      from:set_timeout(1)
      local ended = helper.task(function() return { from:pipe_to(to) } end)
      for _ = 1, 5 do
        source:send("x")
        assert.equal("x", sink:recv_exactly(1))
        clock:advance(0.9)
      end
      clock:advance(2)
      local result = ended()
      clock:release()
      assert.same({ "timeout", 5 }, { result[3], result[4] })
      assert.matches("read of what goes to", result[2])
      from:set_timeout(nil)
      source:send("more")
      source:shutdown()
      assert.equal(4, from:pipe_to(to))
      assert.equal("more", sink:recv_exactly(4))
    end)

    it("ends with a deadline and with a cancel", function()
      local _, _, name = neap.deadline(0.01, function() return from:pipe_to(to) end)
      assert.equal("timeout", name)
      local got
      local task = neap.spawn(function() got = { from:pipe_to(to) } end)
      helper.turn()
      source:send("abc")
      assert.equal("abc", sink:recv_exactly(3))
      task:cancel()
      task:join()
      assert.same({ "cancelled", 3 }, { got[3], got[4] })
      source:send("d")
      assert.equal(1, from:pipe_to(to, 1))
    end)

    it("fails when either connection is closed by another task", function()
      local ended = helper.task(function() return { from:pipe_to(to) } end)
      helper.turn()
      to:close()
      assert.equal("closed", ended()[3])
      local other, peer = helper.pair()
      ended = helper.task(function() return { from:pipe_to(other) } end)
      helper.turn()
      from:close()
      assert.equal("closed", ended()[3])
      assert.equal("closed", select(3, from:pipe_to(other)))
      other:close()
      peer:close()
    end)

    it("fails when a peer resets, and says which", function()
      local ended = helper.task(function() return { from:pipe_to(to) } end)
      source:send("x")
      sink:recv_exactly(1)
      local source_name = from.peer
      source:reset()
      local result = ended()
      assert.equal("reset", result[3])
      assert.matches(source_name .. ": read of what goes to " .. to.peer, result[2], 1, true)

      local other, peer = helper.pair()
      ended = helper.task(function() return { other:pipe_to(to) } end)
      sink:reset()
      helper.turn()
      peer:send("x")
      helper.turn() -- the system says at the next send that nobody is there
      peer:send("x")
      result = ended()
      assert.is_nil(result[1])
      assert.matches("write of what came from", result[2])
      other:close()
      peer:close()
    end)

    it("does not write after a shutdown", function()
      to:shutdown()
      source:send("x")
      local _, message, name = from:pipe_to(to)
      assert.equal("closed", name)
      assert.matches(to.peer .. ": write of what came from", message, 1, true)
      assert(from:read(1)):release() -- it was left where it was
    end)

    it("waits while the pool is full, fails with limit, and loses nothing by that", function()
      local pool, clock = assert(neap.pool { limit = 512 * KIB }), testing.clock()
      local bytes, result, moved = helper.pattern(32 * KIB), nil, nil
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        result = { conn:pipe_to(to) }
        conn:set_timeout(nil)
        moved = conn:pipe_to(to)
      end, { pool = pool, max_read = 16 * KIB, timeout = 0.5 }))
      local conn = assert(neap.connect(listener.address))
      local hoard, full = pool:allocator(), {}
      repeat
        local slice = hoard:alloc(16 * KIB)
        full[#full + 1] = slice
      until not slice
      hoard:release()
      local wrote = helper.task(function()
        for _ = 1, 32 do assert(conn:write(bytes)) end
        conn:shutdown()
      end)
      helper.turn_until(function() return pool:stats().reads_paused == 1 end)
      clock:advance(0.1)
      clock:release()
      helper.turn_until(function() return result end)
      assert.same({ "limit", 0 }, { result[3], result[4] })
      helper.turn_until(function() return pool:stats().reads_paused == 1 end)
      for _, slice in ipairs(full) do slice:release() end
      for _ = 1, 32 do assert.equal(bytes, sink:recv_exactly(#bytes)) end
      wrote()
      helper.turn_until(function() return moved end)
      assert.equal(32 * #bytes, moved)
      conn:close()
      listener:close()
      pool:close()
    end)

    it("lets nobody else read the one or wait for room on the other", function()
      local ended = helper.task(function() return from:pipe_to(to) end)
      helper.turn()
      helper.raises("another task is already reading", function() local _ = from:read(1) end)
      helper.raises("another task is already reading", function() local _ = from:pipe_to(to) end)
      local other, peer = helper.pair()
      helper.raises("another task is already writing", function() local _ = other:pipe_to(to) end)
      assert.is_true(to:write("x")) -- which need not wait
      assert.equal("x", sink:recv_exactly(1))
      source:shutdown()
      assert.equal(0, ended())
      other:close()
      peer:close()
    end)

    it("refuses what is no connection, and no number of bytes", function()
      for _, x in ipairs { "x", 1, {}, neap } do
        helper.raises("to must be a connection", function() local _ = from:pipe_to(x) end)
      end
      helper.raises("to must be a connection", function() local _ = from:pipe_to(nil) end)
      for _, n in ipairs(helper.not_sizes) do
        helper.raises("conn:pipe_to: n", function() local _ = from:pipe_to(to, n) end)
      end
      for _, self in ipairs(helper.not_objects()) do
        assert.is_false((pcall(from.pipe_to, self, to)))
      end
    end)

    it("leaves a slot that another connection has got by then to that", function()
      local ended = helper.task(function() return { from:pipe_to(to) } end)
      helper.turn()
      from:close()
      source:close()
      local got = {}
      for i = 1, 20 do
        local conn, peer = helper.pair()
        peer:send("x" .. i)
        local slice = assert(conn:read(#("x" .. i)))
        got[i] = slice:str()
        slice:release()
        conn:close()
        peer:close()
      end
      for i = 1, 20 do assert.equal("x" .. i, got[i]) end
      assert.equal("closed", ended()[3])
    end)

    it("takes part in serve: the rest of a message need not be looked at", function()
      local server = assert(neap.serve("tcp://127.0.0.1:0", {
        codec = require("neap.codec.line").new { max = 100 },
        handle = function(line, conn)
          local n = tonumber(line:str())
          assert(conn:skip(#line + 1)) -- a handler reads from its message on
          return conn:pipe_to(to, n) and "done"
        end,
      }))
      local client = helper.dial(server.address)
      client:send("3\nabc5\nd")
      assert.equal("abcd", sink:recv_exactly(4))
      client:send("efgh1\nx")
      assert.equal("efghx", sink:recv_exactly(5))
      assert.equal("done\ndone\ndone\n", client:recv_exactly(15))
      client:close()
      server:stop(0)
    end)
  end)
end)
