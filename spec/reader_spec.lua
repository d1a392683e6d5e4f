local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises
local MIB = 1048576

describe("reading from a connection", function()
  helper.watch(before_each, after_each)

  local conn, peer

  before_each(function() conn, peer = helper.pair() end)

  local function finish(...)
    for i = 1, select("#", ...) do select(i, ...):release() end
    conn:close()
    peer:close()
  end

  -- What a read gave, as a string; the slice is released.
  local function text(slice, message, name)
    if not slice then return nil, message, name end
    local bytes = slice:str()
    slice:release()
    return bytes
  end

  it("R1 holds no buf while it waits for the first byte", function()
    helper.turn()
    local before = helper.default_stats().bufs_live
    local read = helper.task(function() return text(conn:read(1)) end)
    for _ = 1, 3 do helper.turn() end
    assert.equal(before, helper.default_stats().bufs_live)
    peer:send("x")
    assert.equal("x", read())
    finish()
  end)

  it("R2 gives exactly n bytes, views of one buf #neighbours", function()
    peer:send("headerpayload")
    local a, b, c = conn:read(6), conn:read(3), conn:read(4)
    assert.equal("header", a:str())
    assert.equal("pay", b:str())
    assert.equal("load", c:str())
    assert.equal(helper.info(a).bound, helper.info(b).base)
    assert.equal(helper.info(b).bound, helper.info(c).base)
    finish(a, b, c)
  end)

  it("R2 reads 0 bytes without waiting", function()
    assert.equal("", text(conn:read(0)))
    peer:send("x")
    assert.equal("x", text(conn:read(1)))
    assert.equal("", text(conn:read(0)))
    peer:shutdown()
    assert.equal("eof", select(3, conn:read(1)))
    assert.equal("", text(conn:read(0)))
    finish()
  end)

  it("R3 gathers what does not lie in one buf, and slices handed out stay valid", function()
    local bytes = helper.pattern(200000)
    peer:send(bytes)
    local first = conn:read(10)
    local second = conn:read(100000)
    local third = conn:read(99990)
    assert.equal(bytes:sub(1, 10), first:str())
    assert.is_true(second:equals(bytes:sub(11, 100010)))
    assert.is_true(third:equals(bytes:sub(100011)))
    finish(first, second, third)
  end)

  it("R3 returns to bufs of the normal size after a large message", function()
    peer:send(("x"):rep(100000))
    conn:read(100000):release()
    peer:send("first") -- after which it knows that less comes now
    conn:read(5):release()
    peer:send("small")
    local small = conn:read(5)
    local size = helper.info(small).buf_bytes -- a usual one, or one near it that the pool had free
    assert.is_true(size < 65536, size)
    finish(small)
  end)

  it("R5 keeps what was not asked for", function()
    peer:send("abcdef")
    assert.equal("ab", text(conn:read(2)))
    assert.equal(4, conn:buffered())
    assert.equal("cdef", text(conn:read_any()))
    assert.equal(0, conn:buffered())
    finish()
  end)

  it("R6 is eof with nothing left and short with too little, which stays", function()
    peer:send("abc")
    peer:shutdown()
    local slice, message, name = conn:read(4)
    assert.is_nil(slice)
    assert.equal("short", name)
    assert.matches("127.0.0.1", message, 1, true)
    assert.equal(3, conn:buffered())
    assert.equal("short", select(3, conn:read_line()))
    assert.equal("short", select(3, conn:read_until("x")))
    assert.equal("a", text(conn:read(1)))
    assert.equal("bc", text(conn:read_any()))
    for _ = 1, 2 do
      assert.equal("eof", select(3, conn:read(1)))
      assert.equal("eof", select(3, conn:read_any()))
      assert.equal("eof", select(3, conn:read_line()))
      assert.equal("eof", select(3, conn:read_until("x")))
    end
    finish()
  end)

  it("R6 does not swallow an error that came behind bytes", function()
    peer:send("abc")
    peer:reset()
    local slice, message, name = conn:read(10)
    assert.is_nil(slice)
    assert.equal("reset", name)
    assert.matches("reset", message)
    assert.equal(3, conn:buffered())
    assert.equal("abc", text(conn:read(3)))
    assert.equal("reset", select(3, conn:read(1)))
    finish()
  end)

  it("R7 waits for the rest and keeps what is there", function()
    local read = helper.task(function() return text(conn:read(6)) end)
    peer:send("abc")
    helper.turn_until(function() return conn:buffered() == 3 end)
    peer:send("def")
    assert.equal("abcdef", read())
    finish()
  end)

  it("R8 refuses sizes that are none before it reads", function()
    peer:send("abc")
    for _, name in ipairs { "read", "read_any", "read_line", "lines" } do
      local method = conn[name]
      for _, bad in ipairs(helper.not_sizes) do
        raises("conn:" .. name, function() method(conn, bad) end)
      end
      for _, bad in ipairs { 2 ^ 53 + 2, 1 / 0 } do
        raises("conn:" .. name, function() method(conn, bad) end)
      end
    end
    raises("conn:read", function() conn:read() end)
    raises("conn:read_any", function() conn:read_any(0) end)
    for _, bad in ipairs { "1", 0 / 0, -1, 1.5, 2 ^ 32 + 5, 1 / 0, {}, true } do
      raises("conn:read_until", function() conn:read_until("x", { max = bad }) end)
    end
    for _, bad in ipairs { 1, {}, true, 1LL } do
      raises("conn:read_until", function() conn:read_until(bad) end)
    end
    raises("conn:read_until", function() conn:read_until() end)
    raises("conn:read_until", function() conn:read_until("") end)
    raises("conn:read_until", function() conn:read_until("x", 5) end)
    raises("maximum", function() conn:read_until("x", { maximum = 5 }) end)
    raises("conn:read_until", function() conn:read_until("x", { inclusive = 1 }) end)
    assert.equal(0, conn:buffered())
    assert.equal("abc", text(conn:read(3)))
    finish()
  end)

  it("R10 refuses n above 1 MiB before it takes any memory", function()
    local before = helper.default_stats()
    for _, n in ipairs { MIB + 1, 2 ^ 31, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
      local slice, message, name = conn:read(n)
      assert.is_nil(slice)
      assert.equal("oversized", name)
      assert.matches(("%d bytes"):format(n), message, 1, true)
    end
    local after = helper.default_stats()
    assert.equal(before.bytes_allocated, after.bytes_allocated)
    assert.equal(before.bufs_live, after.bufs_live)
    peer:send("x")
    assert.equal("x", text(conn:read(1)))
    finish()
  end)

  it("R10 reserves memory for what came, not for what was asked", function()
    local before = helper.default_stats().bytes_live
    local read = helper.task(function() return select(3, conn:read(MIB)) end)
    peer:send(("x"):rep(1000))
    helper.turn_until(function() return conn:buffered() == 1000 end)
    assert.is_true(helper.default_stats().bytes_live - before <= 4 * 16384)
    peer:close()
    assert.equal("short", read())
    conn:close()
  end)

  it("R12 takes larger bufs for large messages, and usual ones for small messages"
    .. " #neighbours", function()
    local function size_for(bytes)
      peer:send(("x"):rep(bytes))
      local slice = conn:read(bytes)
      local size = helper.info(slice).buf_bytes
      slice:release()
      return size
    end
    size_for(40000) -- does not fit a usual buf, and shows that there is much
    local size = size_for(40000) -- 64 KiB, or what the pieces needed in which it came
    assert.is_true(size > 32768 and size <= 98304, size)
    size_for(100)
    assert.is_true(size_for(100) < 65536)
    finish()
  end)

  it("R11 gives the bytes as they came, however the stream was cut", function()
    local body = "the body, whatever it is"
    local bytes = "a header\nand a line\r\n\r\n" .. body
    for cut = 0, #bytes do
      local reading = helper.task(function()
        return {
          text(assert(conn:read(2))), text(assert(conn:read_line())),
          text(assert(conn:read_until("\r\n\r\n"))), text(assert(conn:read(8))),
          text(assert(conn:read(#body - 8))),
        }
      end)
      peer:send(bytes:sub(1, cut))
      for _ = 1, 2 do helper.turn() end
      peer:send(bytes:sub(cut + 1))
      assert.same({ "a ", "header", "and a line", body:sub(1, 8), body:sub(9) }, reading())
      assert.equal(0, conn:buffered())
    end
    finish()
  end)

  it("read_any gives what is there, up to max", function()
    peer:send("abcdef")
    assert.equal("ab", text(conn:read_any(2)))
    assert.equal("cdef", text(conn:read_any(2 ^ 32 + 5)))
    local read = helper.task(function() return text(conn:read_any()) end)
    helper.turn()
    peer:send("x")
    assert.equal("x", read())
    finish()
  end)

  it("read_line takes \\n and \\r\\n away, and nothing else", function()
    peer:send("one\r\ntwo\n\n\r\n\rthree\r\r\nfo\rur\nrest")
    for _, line in ipairs { "one", "two", "", "", "\rthree\r", "fo\rur" } do
      assert.equal(line, text(conn:read_line()))
    end
    peer:shutdown()
    assert.equal("short", select(3, conn:read_line()))
    assert.equal("rest", text(conn:read_any()))
    finish()
  end)

  it("read_line is oversized above its limit, and the bytes stay", function()
    peer:send("0123456789\nshort\n")
    local line, message, name = conn:read_line(9)
    assert.is_nil(line)
    assert.equal("oversized", name)
    assert.matches("line", message)
    assert.equal("0123456789", text(conn:read_line(10)))
    assert.equal("short", text(conn:read_line(5)))
    peer:send(("x"):rep(20))
    assert.equal("oversized", select(3, conn:read_line(19)))
    assert.equal(20, conn:buffered())
    finish()
  end)

  it("read_line waits for no more than its limit of 1 MiB", function()
    local writing = helper.task(function()
      local sent = 0
      while sent < MIB + 1 do
        peer:send(("x"):rep(math.min(16384, MIB + 1 - sent)))
        sent = sent + 16384
        helper.turn()
      end
    end)
    assert.equal("oversized", select(3, conn:read_line()))
    assert.equal(MIB + 1, conn:buffered())
    writing()
    finish()
  end)

  it("read_until finds its delimiter wherever it is cut", function()
    local delimiter = "\r\n\r\n"
    local bytes = "head\r\n\r" .. delimiter .. ";"
    for cut = 0, #bytes do
      local read = helper.task(function() return text(conn:read_until(delimiter)) end)
      peer:send(bytes:sub(1, cut))
      for _ = 1, 2 do helper.turn() end
      peer:send(bytes:sub(cut + 1))
      assert.equal("head\r\n\r", read())
      assert.equal(";", text(conn:read(1)))
    end
    finish()
  end)

  it("read_until leaves the delimiter out, or in when it is asked to", function()
    peer:send("a--b--c")
    assert.equal("a", text(conn:read_until("--")))
    assert.equal("b--", text(conn:read_until("--", { inclusive = true })))
    assert.equal(1, conn:buffered())
    finish()
  end)

  it("read_until is oversized when no delimiter ends the first max bytes", function()
    peer:send("abcdef--")
    assert.equal("oversized", select(3, conn:read_until("--", { max = 5 })))
    assert.equal(8, conn:buffered())
    assert.equal("abcdef", text(conn:read_until("--", { max = 6 })))
    finish()
  end)

  it("chunks yields owned slices and ends at the end", function()
    local bytes = helper.pattern(50000)
    peer:send(bytes)
    peer:shutdown()
    local kept = {}
    for chunk in conn:chunks() do kept[#kept + 1] = chunk end
    local all = {}
    for i, chunk in ipairs(kept) do all[i] = text(chunk) end
    assert.is_true(table.concat(all) == bytes)
    finish()
  end)

  it("lines yields strings, the unterminated last one too", function()
    peer:send("one\ntwo\r\n\nlast")
    peer:shutdown()
    local got = {}
    for line in conn:lines() do got[#got + 1] = line end
    assert.same({ "one", "two", "", "last" }, got)
    finish()
  end)

  -- the very message, with no place before it: so an uncaught one is known to be the world's
  local function raises_message(pattern, fn)
    local ok, message = pcall(fn)
    assert.is_false(ok)
    assert.matches("^tcp://127%.0%.0%.1:%d+: [^\n]*" .. pattern, message)
  end

  it("chunks and lines raise any other error, with its message", function()
    peer:send("one\ntwo")
    peer:reset()
    local got = {}
    raises_message("reset", function() for line in conn:lines() do got[#got + 1] = line end end)
    assert.same({ "one" }, got)
    assert.equal("two", text(conn:read(3)))
    raises_message("reset", function() for chunk in conn:chunks() do chunk:release() end end)
    finish()
  end)

  it("lines raises when a line is above its limit", function()
    peer:send("12345\n123456\n")
    local got = {}
    raises_message("larger", function() for line in conn:lines(5) do got[#got + 1] = line end end)
    assert.same({ "12345" }, got)
    finish()
  end)

  it("leaves the bytes to the kernel while nobody reads", function()
    peer:send(("x"):rep(100000))
    for _ = 1, 10 do helper.turn() end
    assert.equal(0, conn:buffered())
    conn:read(100000):release()
    finish()
  end)
end)

describe("a reader over a source", function()
  helper.watch(before_each, after_each)

  -- A reader on a pool of its own; each call of `more` is what the source gives next.
  local function reading()
    local pool, parts = assert(neap.pool()), {}
    local reader = assert(neap.reader(pool, function() return table.remove(parts, 1) end))
    return reader, function(bytes) parts[#parts + 1] = bytes end, pool
  end

  it("R4 begins again at the front of its buf, unless a slice holds it #neighbours", function()
    local reader, more, pool = reading()
    for _ = 1, 10 do
      more("0123456789")
      local slice = reader:read(10)
      assert.equal(0, helper.info(slice).base)
      slice:release()
    end
    assert.equal(1, pool:stats().bufs_allocated)
    assert.equal(0, pool:stats().bytes_moved)
    more("first")
    local first = reader:read(5)
    more("second")
    local second = reader:read(6)
    assert.equal("first", first:str())
    assert.equal(5, helper.info(second).base)
    first:release()
    second:release()
    reader:close()
    pool:close()
  end)

  it("R9 is closed after close, which may come twice, and its slices stay", function()
    local reader, more, pool = reading()
    more("bytes and more")
    local slice = reader:read(5)
    reader:close()
    reader:close()
    for _, name in ipairs { "read", "read_any", "read_line", "peek", "skip" } do
      assert.equal("closed", select(3, reader[name](reader, 1)))
    end
    assert.equal(0, reader:buffered())
    assert.equal("bytes", slice:str())
    slice:release()
    assert.equal(0, pool:stats().bufs_live)
    pool:close()
  end)
end)
