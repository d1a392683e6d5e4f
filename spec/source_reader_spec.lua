local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises

describe("a reader over a source", function()
  helper.watch(before_each, after_each)

  local pool

  before_each(function() pool = assert(neap.pool { poison = true }) end)

  after_each(function()
    assert.equal(0, pool:stats().slices_live)
    pool:close()
  end)

  local function text(slice, message, name)
    if not slice then return nil, message, name end
    local bytes = slice:str()
    slice:release()
    return bytes
  end

  -- Sources of the same bytes: strings or slices, a few bytes or all that is asked for.
  local function source_of(bytes, step, as_slice)
    local at = 1
    return function(max)
      local part = bytes:sub(at, at + math.min(step or max, max) - 1)
      at = at + #part
      if part == "" then return nil end
      return as_slice and assert(neap.copy(part)) or part
    end
  end

  local kinds = {
    ["whole strings"] = { nil, false }, ["one byte at a time #pace"] = { 1, false },
    ["a few bytes"] = { 7, false }, ["slices"] = { nil, true },
    ["slices of one byte #pace"] = { 1, true }, ["slices of 1000 bytes"] = { 1000, true },
  }

  for label, kind in pairs(kinds) do
    local function over(bytes, options)
      return assert(neap.reader(pool, source_of(bytes, kind[1], kind[2]), options))
    end

    describe("of " .. label, function()
      it("R11 reads, peeks and skips what the source gave, in order", function()
        local bytes = helper.pattern(40000)
        local r = over(bytes)
        assert.equal(bytes:sub(1, 5), text(r:read(5)))
        assert.equal(bytes:sub(6, 105), r:peek(100):str())
        assert.equal(bytes:sub(6, 20005), text(r:read(20000)))
        assert.is_true(r:skip(10000))
        assert.equal(bytes:sub(30006, 30010), text(r:read(5)))
        local parts = {}
        for chunk in r:chunks() do parts[#parts + 1] = text(chunk) end
        assert.equal(bytes:sub(30011), table.concat(parts))
        assert.equal("eof", select(3, r:read(1)))
        assert.equal("", text(r:read(0)))
        assert.equal(0, r:buffered())
        r:close()
      end)

      it("reads lines and up to delimiters", function()
        local r = over("one\r\ntwo\n\nthree--four--\nlast")
        assert.equal("one", text(r:read_line()))
        assert.equal("two", text(r:read_line()))
        assert.equal("", text(r:read_line()))
        assert.equal("three", text(r:read_until("--")))
        assert.equal("four--", text(r:read_until("--", { inclusive = true })))
        local lines = {}
        for line in r:lines() do lines[#lines + 1] = line end
        assert.same({ "", "last" }, lines)
        r:close()
      end)

      it("R6 is short with too little, which stays, and then eof", function()
        local r = over("abc")
        assert.equal("short", select(3, r:read(4)))
        assert.equal("short", select(3, r:peek(4)))
        assert.equal("short", select(3, r:read_line()))
        assert.equal(3, r:buffered())
        assert.equal("abc", text(r:read_any()))
        for _, name in ipairs { "read", "read_any", "peek", "skip" } do
          assert.equal("eof", select(3, r[name](r, 1)))
        end
        assert.equal("eof", select(3, r:read_line()))
        r:close()
      end)

      it("R10 is oversized above max_read, and keeps the bytes", function()
        local r = over(helper.pattern(300), { max_read = 100 })
        assert.equal("oversized", select(3, r:read(101)))
        assert.equal("oversized", select(3, r:read_line(50)))
        assert.equal(helper.pattern(100), text(r:read(100)))
        assert.is_true(r:skip(150)) -- nothing is gathered, so nothing is too much
        assert.equal(helper.pattern(300):sub(251), text(r:read(50)))
        r:close()
      end)
    end)
  end

  it("R11 gives the bytes back however it is read (random)", function()
    local seed = os.time()
    print("seed " .. seed)
    math.randomseed(seed)
    for round = 1, 30 do
      local bytes, at = helper.pattern(math.random(0, 100000)), 0
      local source_at = 0
      local r = assert(neap.reader(pool, function(max)
        if source_at == #bytes then return nil end
        local n = math.min(math.random(0, math.random(1, 3) == 1 and max or 300), max)
        local part = bytes:sub(source_at + 1, source_at + n)
        source_at = source_at + #part
        return math.random(2) == 1 and part or assert(neap.copy(part))
      end))
      while at < #bytes do
        local n = math.min(math.random(0, math.random(1, 4) == 1 and 50000 or 500), #bytes - at)
        local what = math.random(4)
        local expected = bytes:sub(at + 1, at + n)
        local ok
        if what == 1 then ok = text(r:read(n)) == expected
        elseif what == 2 then
          ok, n = r:peek(n):str() == expected, 0
        elseif what == 3 then ok = r:skip(n)
        else
          local got = text(r:read_any(n + 1))
          n = #got
          ok = got == bytes:sub(at + 1, at + n) and n > 0
        end
        if not ok then error(("seed %d, round %d, at %d of %d, operation %d"):format(seed, round,
          at, #bytes, what)) end
        at = at + n
      end
      assert.equal("eof", select(3, r:read(1)), "seed " .. seed)
      r:close()
    end
  end)

  it("asks for no more than it can hold, and not before it must", function()
    local asked = {}
    local r = assert(neap.reader(pool, function(max)
      asked[#asked + 1] = max
      return ("x"):rep(max)
    end))
    assert.same({}, asked)
    r:read(10):release()
    assert.same({ 16384 }, asked)
    r:read(16374):release()
    assert.same({ 16384 }, asked)
    r:read(100000):release()
    for _, max in ipairs(asked) do assert.is_true(max <= 100000) end
    r:close()
  end)

  it("takes an empty string for: not yet, and asks again", function()
    local answers, asked = { "", "", "a", "", "b", "" }, 0
    local r = assert(neap.reader(pool, function()
      asked = asked + 1
      return answers[asked]
    end))
    assert.equal("ab", text(r:read(2)))
    assert.equal(5, asked)
    assert.equal("eof", select(3, r:read(1)))
    r:close()
  end)

  it("takes an empty slice in the same way, and releases it", function()
    local asked = 0
    local r = assert(neap.reader(pool, function()
      asked = asked + 1
      if asked < 5 then return assert(neap.copy("")) end
      return "x"
    end))
    assert.equal("x", text(r:read(1)))
    assert.equal(5, asked)
    r:close()
  end)

  it("takes the slices of the source", function()
    local given = assert(neap.copy("bytes"))
    local once = given
    local r = assert(neap.reader(pool, function()
      local x = once
      once = nil
      return x
    end))
    assert.equal("by", text(r:read(2)))
    raises("slice:str: ", function() given:str() end)
    assert.equal("tes", text(r:read(3)))
    r:close()
  end)

  it("raises when the source returned too many bytes, a wrong type or a stale slice", function()
    local stale = assert(neap.copy("x"))
    stale:release()
    for _, case in ipairs {
      { ("x"):rep(16385), "16385 bytes when asked for at most 16384" },
      { 7, "got number" }, { true, "got boolean" }, { false, "got boolean" }, { {}, "got table" },
      { print, "got function" }, { 1LL, "got cdata" }, { io.stdout, "got userdata" },
      { pool, "got cdata" }, { stale, "released" },
    } do
      local answer = "ok"
      local r = assert(neap.reader(pool, function() return answer end))
      assert.equal("o", text(r:read(1)))
      answer = case[1]
      local ok, message = pcall(r.read, r, 2)
      assert.is_false(ok)
      assert.matches(case[2], message, 1, true)
      assert.equal(1, r:buffered()) -- what came before is still there
      answer = "!!"
      assert.equal("k!", text(r:read(2)))
      r:close()
    end
  end)

  it("lets an error of the source through, and goes on afterwards", function()
    local fail = true
    local thrown = {}
    local r = assert(neap.reader(pool, function()
      if fail then error(thrown) end
      return "bytes"
    end))
    for _, name in ipairs { "read", "read_any", "read_line", "peek", "skip" } do
      local ok, err = pcall(r[name], r, 3)
      assert.is_false(ok)
      assert.is_true(rawequal(thrown, err))
    end
    local ok, err = pcall(r.read_until, r, "x")
    assert.is_false(ok)
    assert.is_true(rawequal(thrown, err))
    fail = false
    assert.equal("bytes", text(r:read(5)))
    r:close()
  end)

  it("comes to the source's failure behind the bytes before it", function()
    for _, name in ipairs { "reset", "timeout", "limit", "closed", "eof", "memory" } do
      local asked = 0
      local r = assert(neap.reader(pool, function()
        asked = asked + 1
        if asked == 1 then return "abc" end
        return nil, "why", name
      end))
      local at_end = name == "eof" and "short" or name
      assert.equal(at_end, select(3, r:read(4)))
      assert.equal(3, r:buffered())
      assert.equal("ab", r:peek(2):str())
      assert.equal("abc", text(r:read(3)))
      assert.equal(name, select(3, r:read(1)))
      assert.equal(name, select(3, r:read_any()))
      assert.equal(2, asked) -- it is not asked again
      if name ~= "eof" then
        local next_chunk = r:chunks()
        assert.is_false(pcall(next_chunk))
      end
      r:close()
    end
  end)

  it("a failure of a name nobody knows is one", function()
    local r = assert(neap.reader(pool, function() return nil, "why", "bogus" end))
    local slice, message, name = r:read(1)
    assert.is_nil(slice)
    assert.equal("string", type(message))
    assert.equal("string", type(name))
    assert.is_true(name ~= "eof")
    r:close()
  end)

  it("tells the source's own message", function()
    local r = assert(neap.reader(pool, function() return nil, "disk on fire", "reset" end))
    assert.matches("disk on fire", (select(2, r:read(1))), 1, true)
    r:close()
  end)

  it("R9 is closed after close; slices stay; twice is harmless", function()
    local r = assert(neap.reader(pool, source_of("headbody")))
    local head = assert(r:read(4))
    r:close()
    r:close()
    for _, name in ipairs { "read", "read_any", "peek", "skip" } do
      assert.equal("closed", select(3, r[name](r, 1)))
    end
    assert.equal("closed", select(3, r:read(0)))
    assert.equal("closed", select(3, r:read_line()))
    assert.equal("closed", select(3, r:read_until("x")))
    assert.equal(0, r:buffered())
    assert.equal("head", text(head))
    assert.equal(0, pool:stats().bufs_live)
  end)

  it("R9 may be closed by its own source", function()
    for _, answer in ipairs { "bytes", false } do
      local r
      r = assert(neap.reader(pool, function()
        r:close()
        return answer or assert(neap.copy("bytes"))
      end))
      assert.equal("closed", select(3, r:read(1)))
      assert.equal("closed", select(3, r:read(1)))
    end
  end)

  it("keeps its pool open, and a closed pool is closed", function()
    local r = assert(neap.reader(pool, source_of("bytes")))
    pool:close()
    assert.equal("closed", select(3, r:read(1)))
    assert.equal("closed", select(3, neap.reader(pool, print)))
    r:close()
  end)

  it("R1 holds no buf before its first byte and after close", function()
    local r = assert(neap.reader(pool, source_of("bytes")))
    assert.equal(0, pool:stats().bufs_live)
    assert(r:peek(1))
    assert.equal(1, pool:stats().bufs_live)
    r:close()
    assert.equal(0, pool:stats().bufs_live)
  end)

  it("R1 holds no buf while its source is asked", function()
    local live
    local r = assert(neap.reader(pool, function()
      live = pool:stats().bufs_live
      return "abcd"
    end))
    assert.equal("abcd", text(r:read(4)))
    assert.equal("abcd", text(r:read(4)))
    assert.equal(0, live)
    r:close()
  end)

  it("R11 loses nothing at the pool's limit: what the source gave is read when there is "
    .. "room", function()
    local small = assert(neap.pool { limit = 65536, classes = false })
    local allocator = assert(small:allocator())
    local held = {}
    for i = 1, 4 do held[i] = assert(allocator:alloc(16384)) end
    local r = assert(neap.reader(small, source_of(helper.pattern(40000))))
    assert.equal("limit", select(3, r:read(8)))
    for i = 1, 4 do held[i]:release() end
    allocator:release()
    assert.equal(helper.pattern(8), text(r:read(8)))
    r:close()
    small:close()
  end)

  it("reads from a source that waits", function()
    local conn, peer = helper.pair()
    local r = assert(neap.reader(pool, function(max) return conn:read_any(max) end))
    local read = helper.task(function() return text(r:read(8)) end)
    peer:send("head")
    helper.turn_until(function() return r:buffered() == 4 end)
    peer:send("body!")
    assert.equal("headbody", read())
    peer:shutdown()
    assert.equal("short", select(3, r:read(2)))
    assert.equal("!", text(r:read(1)))
    assert.equal("eof", select(3, r:read(1)))
    r:close()
    conn:close()
    peer:close()
  end)

  it("a reset of what the source reads from comes through by name", function()
    local conn, peer = helper.pair()
    local r = assert(neap.reader(pool, function(max) return conn:read_any(max) end))
    peer:send("abc")
    assert.equal("a", text(r:read(1)))
    peer:reset()
    assert.equal("reset", select(3, r:read(3)))
    assert.equal("bc", text(r:read(2)))
    assert.equal("reset", select(3, r:read(1)))
    r:close()
    conn:close()
  end)

  it("is released by the collector when it was forgotten", function()
    local function forget() assert(neap.reader(pool, source_of("bytes")):peek(5)) end
    forget()
    assert.equal(1, pool:stats().bufs_live)
    collectgarbage()
    collectgarbage()
    assert.equal(0, pool:stats().bufs_live)
  end)

  it("is collected also when its source refers to it", function()
    local function forget()
      local r
      r = assert(neap.reader(pool, function() return r and "bytes" end))
      assert(r:peek(5))
    end
    forget()
    collectgarbage()
    collectgarbage()
    assert.equal(0, pool:stats().bufs_live)
  end)

  describe("misuse", function()
    it("neap.reader takes a pool, a function and options it knows", function()
      for _, bad in ipairs { 1, "pool", {}, true, print, 1LL, io.stdout } do
        raises("neap.reader: pool", function() neap.reader(bad, print) end)
      end
      for _, bad in ipairs { 1, "source", {}, true, 1LL, io.stdout, pool } do
        raises("neap.reader: source", function() neap.reader(pool, bad) end)
      end
      raises("neap.reader: source", function() neap.reader(pool) end)
      for _, bad in ipairs { 1, "x", true, print, 1LL } do
        raises("neap.reader: options", function() neap.reader(pool, print, bad) end)
      end
      raises("neap.reader: no option", function() neap.reader(pool, print, { max = 1 }) end)
      for _, bad in ipairs { "1", 0 / 0, -1, 1.5, 2 ^ 30 + 1, 2 ^ 53 + 2, 1 / 0, {}, 1LL } do
        raises("neap.reader: ", function() neap.reader(pool, print, { max_read = bad }) end)
      end
    end)

    it("every method raises at the caller's line when called on something else", function()
      local r = assert(neap.reader(pool, source_of("bytes")))
      local others = helper.not_objects()
      others[others.n + 1], others.n = pool, others.n + 1
      for _, name in ipairs { "read", "read_any", "read_line", "read_until", "peek", "skip",
        "chunks", "lines", "buffered", "close" } do
        helper.refuses_self(r[name], "reader:" .. name, others)
      end
      assert.equal("bytes", text(r:read(5)))
      r:close()
    end)

    it("R8 sizes that are none raise before the source is asked", function()
      local asked = 0
      local r = assert(neap.reader(pool, function() asked = asked + 1 end))
      local bad_sizes = { "1", 0 / 0, -1, 1.5, 1 / 0, -1 / 0, 2 ^ 53 + 2, {}, true, print, 1LL,
        io.stdout, pool }
      for _, name in ipairs { "read", "read_any", "read_line", "peek", "skip", "lines" } do
        local method = r[name]
        for _, bad in ipairs(bad_sizes) do
          raises("reader:" .. name .. ": ", function() method(r, bad) end)
        end
      end
      for _, name in ipairs { "read", "peek", "skip" } do
        local method = r[name]
        raises("reader:" .. name .. ": n", function() method(r) end)
      end
      raises("reader:read_any: ", function() r:read_any(0) end)
      for _, bad in ipairs { 1, {}, true, 1LL, "" } do
        raises("reader:read_until: ", function() r:read_until(bad) end)
      end
      raises("reader:read_until: ", function() r:read_until("x", { maximum = 1 }) end)
      assert.equal(0, asked)
      r:close()
    end)
  end)
end)
