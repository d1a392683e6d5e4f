local ffi = require("ffi")
local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises
local MIB = 1048576

describe("a growing buffer", function()
  helper.watch(before_each, after_each)

  local pool

  before_each(function() pool = assert(neap.pool { poison = true }) end)

  after_each(function()
    local stats = pool:stats()
    assert.equal(0, stats.slices_live)
    assert.equal(0, stats.bufs_live)
    assert.equal(stats.bytes_held, stats.bytes_free)
    pool:close()
  end)

  local function make(home) return assert(neap.buffer(home or pool)) end

  -- What it holds, as a string; it is empty then.
  local function taken(b)
    local parts = {}
    for i, piece in ipairs(b:take()) do
      assert(#piece > 0, "a piece of nothing")
      parts[i] = piece:str()
      piece:release()
    end
    assert.equal(0, #b)
    return table.concat(parts)
  end

  it("holds strings and slices one behind the other, and borrows them", function()
    local b = make()
    local slice = assert(neap.copy("slice"))
    assert.equal(b, b:put("string "):put(slice):put(""):put("\0\255"))
    assert.equal(14, #b)
    assert.equal("buffer of 14 bytes", tostring(b))
    assert.equal("slice", slice:str())
    slice:release()
    assert.equal("string slice\0\255", taken(b))
    assert.same({}, b:take())
    b:release()
  end)

  it("holds slices of strings and of what was taken from it", function()
    local b = make()
    local foreign = assert(neap.slice("foreign"))
    b:put(foreign)
    foreign:release()
    local piece = b:take()[1]
    b:put(piece):put(piece)
    piece:release()
    assert.equal("foreignforeign", taken(b))
    b:release()
  end)

  it("holds numbers of every kind", function()
    local b = make()
    b:put_u8(255):put_i8(-1):put_u16be(0x0102):put_u16le(0x0102):put_i16be(-2):put_i16le(-2)
    b:put_u24be(0x010203):put_u24le(0x010203):put_i24be(-2):put_i24le(-2)
    b:put_u32be(0x01020304):put_u32le(0x01020304):put_i32be(-2):put_i32le(-2)
    b:put_u48be(0x010203040506):put_u48le(0x010203040506):put_i48be(-2):put_i48le(-2)
    assert.equal("\255\255\1\2\2\1\255\254\254\255" .. "\1\2\3\3\2\1\255\255\254\254\255\255"
      .. "\1\2\3\4\4\3\2\1\255\255\255\254\254\255\255\255" .. "\1\2\3\4\5\6\6\5\4\3\2\1"
      .. "\255\255\255\255\255\254\254\255\255\255\255\255", taken(b))
    b:put_u64be(0x0102030405060708ULL):put_u64le(0x0102030405060708LL):put_i64be(-2LL)
    b:put_i64le(-2):put_u64be(2 ^ 53):put_u64be(0xffffffffffffffffULL)
    assert.equal("\1\2\3\4\5\6\7\8\8\7\6\5\4\3\2\1" .. ("\255"):rep(7) .. "\254\254"
      .. ("\255"):rep(7) .. "\0\32\0\0\0\0\0\0" .. ("\255"):rep(8), taken(b))
    b:put_f32be(1):put_f32le(1):put_f64be(-2.5):put_f64le(-2.5):put_f64be(1 / 0):put_f32be(-0.0)
    assert.equal("\63\128\0\0\0\0\128\63\192\4\0\0\0\0\0\0\0\0\0\0\0\0\4\192"
      .. "\127\240\0\0\0\0\0\0\128\0\0\0", taken(b))
    b:release()
  end)

  it("numbers that do not fit raise, and put nothing", function()
    local b = make()
    b:put("x")
    for name, values in pairs {
      u8 = { -1, 256, 1.5 }, i8 = { -129, 128 }, u16be = { -1, 65536 }, i16le = { -32769, 32768 },
      u24le = { -1, 2 ^ 24 }, u32be = { -1, 2 ^ 32 }, i32le = { 2 ^ 31, -2 ^ 31 - 1 },
      u48be = { -1, 2 ^ 48 }, i48be = { 2 ^ 47, -2 ^ 47 - 1 },
      u64be = { -1, -1LL, 2 ^ 53 + 2, 1.5 }, i64le = { 0x8000000000000000ULL, 2 ^ 53 + 2 },
      varint = { -1, -1LL, 1.5, 2 ^ 53 + 2 },
    } do
      local put = b["put_" .. name]
      for _, value in ipairs(values) do
        raises("buffer:put_" .. name, function() put(b, value) end)
      end
      for _, value in ipairs { 0 / 0, 1 / 0, -1 / 0, "1", {}, true, print, io.stdout, pool } do
        raises("buffer:put_" .. name, function() put(b, value) end)
      end
      raises("buffer:put_" .. name, function() put(b) end)
    end
    assert.equal("x", taken(b))
    b:release()
  end)

  it("holds LEB128 integers", function()
    local b = make()
    for _, vector in ipairs {
      { 0, "\0" }, { 1, "\1" }, { 127, "\127" }, { 128, "\128\1" }, { 255, "\255\1" },
      { 300, "\172\2" }, { 16383, "\255\127" }, { 16384, "\128\128\1" },
      { 624485, "\229\142\38" }, { 2 ^ 32 - 1, "\255\255\255\255\15" },
      { 2 ^ 53, "\128\128\128\128\128\128\128\16" },
      { 0x7fffffffffffffffLL, ("\255"):rep(8) .. "\127" },
      { 0xffffffffffffffffULL, ("\255"):rep(9) .. "\1" },
    } do
      b:put_varint(vector[1])
      assert.equal(vector[2], taken(b))
    end
    b:release()
  end)

  it("reserves bytes of 0, to be set later, across pieces too", function()
    local b = make(assert(neap.pool { min_size = 64, classes = false, poison = true }))
    for length = 60, 64 do
      b:put(("x"):rep(length))
      local at = b:reserve(8)
      assert.equal(length, at)
      assert.equal(0, b:reserve(0) - at - 8)
      b:put("end")
      b:set_u32be(at, 0x01020304)
      b:set_u16le(at + 4, 0x0506)
      b:set_u8(at + 6, 7)
      assert.equal(("x"):rep(length) .. "\1\2\3\4\6\5\7\0end", taken(b))
      b:reserve(length)
      b:put("12345678")
      b:set_u64le(length - 4, 0x0807060504030201ULL)
      b:set_f32be(length, 1)
      assert.equal(("\0"):rep(length - 4) .. "\1\2\3\4\63\128\0\0" .. "5678", taken(b))
    end
    b:release()
  end)

  it("sets nothing outside its bytes", function()
    local b = make()
    b:put("12345678")
    for _, at in ipairs { 5, 8, 9, 2 ^ 31, 2 ^ 32 - 4, 2 ^ 32 - 1 } do
      raises("buffer:set_u32be: ", function() b:set_u32be(at, 0) end)
      raises("buffer:set_i64le: ", function() b:set_i64le(at, 0) end)
      raises("buffer:set_f64be: ", function() b:set_f64be(at, 0) end)
    end
    for _, bad in ipairs { "1", 0 / 0, -1, 1.5, 1 / 0, {}, true, print, 1LL, 2 ^ 53 + 2 } do
      raises("buffer:set_u8: offset", function() b:set_u8(bad, 0) end)
      raises("buffer:set_u64be: offset", function() b:set_u64be(bad, 0) end)
    end
    raises("buffer:set_u8: ", function() b:set_u8(0, 256) end)
    raises("buffer:set_u8: ", function() b:set_u8(0, "1") end)
    raises("buffer:set_u8: ", function() b:set_u8(0) end)
    raises("buffer:set_u64le: ", function() b:set_u64le(0, -1) end)
    raises("buffer:set_u64le: ", function() b:set_u64le(0, 0 / 0) end)
    assert.equal("12345678", taken(b))
    raises("buffer:set_u8: ", function() b:set_u8(0, 0) end)
    b:release()
  end)

  -- A plain string that has the same operations done to it.
  it("holds what a string would (random operations)", function()
    local seed = os.time()
    print("seed " .. seed)
    math.randomseed(seed)
    local b = make(assert(neap.pool { min_size = 64, poison = true }))
    for round = 1, 40 do
      local model = ""
      for step = 1, math.random(1, 60) do
        local what, n = math.random(8), math.random(0, math.random(1, 3) == 1 and 3000 or 90)
        if what <= 2 then
          local bytes = helper.pattern(n)
          b:put(bytes)
          model = model .. bytes
        elseif what == 3 then
          local slice = assert(neap.copy(helper.pattern(n)))
          b:put(slice)
          slice:release()
          model = model .. helper.pattern(n)
        elseif what == 4 then
          b:put_u32be(n)
          model = model .. "\0\0" .. string.char(math.floor(n / 256), n % 256)
        elseif what == 5 then
          assert.equal(#model, b:reserve(n))
          model = model .. ("\0"):rep(n)
        elseif what == 6 and #model >= 4 then
          local at = math.random(0, #model - 4)
          b:set_u32le(at, 0x64636261)
          model = model:sub(1, at) .. "abcd" .. model:sub(at + 5)
        elseif what == 7 and math.random(6) == 1 then
          b:reset()
          model = ""
        elseif what == 8 and math.random(3) == 1 then
          if taken(b) ~= model then error(("seed %d, round %d, step %d"):format(seed, round,
            step)) end
          model = ""
        end
        assert.equal(#model, #b, "seed " .. seed)
      end
      if taken(b) ~= model then error(("seed %d, round %d"):format(seed, round)) end
    end
    b:release()
  end)

  it("reset drops the bytes and keeps one usual buf #sizes", function()
    local b = make()
    b:put(("x"):rep(300000))
    assert.is_true(pool:stats().bufs_live > 3)
    assert.equal(b, b:reset())
    assert.equal(0, #b)
    local stats = pool:stats()
    assert.equal(1, stats.bufs_live)
    assert.equal(16384, stats.bytes_live)
    assert.equal(0, stats.bytes_referenced)
    local allocated = stats.bufs_allocated
    for _ = 1, 100 do b:put("small"):reset() end
    assert.equal(allocated, pool:stats().bufs_allocated)
    assert.same({}, b:take())
    assert.equal(0, pool:stats().bufs_live)
    b:reset()
    b:release()
  end)

  it("is empty after take, and used again", function()
    local b = make()
    for i = 1, 3 do
      b:put(helper.pattern(50000 * i))
      assert.equal(helper.pattern(50000 * i), taken(b))
      assert.equal(0, pool:stats().bufs_live)
    end
    b:release()
  end)

  it("release lets its bufs go, and raises the second time", function()
    local b = make()
    b:put(("x"):rep(100000))
    b:release()
    assert.equal(0, pool:stats().bufs_live)
    raises("buffer:release: ", function() b:release() end)
  end)

  it("what was taken outlives it", function()
    local b = make()
    b:put("bytes")
    local piece = b:take()[1]
    b:put("more")
    b:release()
    assert.equal("bytes", piece:str())
    piece:set_u8(0, 0x42)
    assert.equal("Bytes", piece:str())
    piece:release()
  end)

  it("refuses every use after release", function()
    local b = make()
    b:put("x")
    b:release()
    raises("buffer:put: ", function() b:put("x") end)
    raises("buffer:put_u8: ", function() b:put_u8(1) end)
    raises("buffer:put_u64be: ", function() b:put_u64be(1) end)
    raises("buffer:put_f32be: ", function() b:put_f32be(1) end)
    raises("buffer:put_varint: ", function() b:put_varint(1) end)
    raises("buffer:set_u8: ", function() b:set_u8(0, 1) end)
    raises("buffer:set_i64le: ", function() b:set_i64le(0, 1) end)
    raises("buffer:reserve: ", function() b:reserve(1) end)
    raises("buffer:take: ", function() b:take() end)
    raises("buffer:reset: ", function() b:reset() end)
    raises("released", function() return #b + 0 end)
    assert.equal("buffer (released)", tostring(b))
  end)

  it("refuses put(slice) and pack after release at the caller's line "
    .. "(put returns nil, …, closed; pack raises without a line)", function()
    local slice = assert(neap.copy("slice"))
    local b = make()
    b:release()
    raises("buffer:put: ", function() b:put(slice) end)
    raises("buffer:pack: ", function() b:pack("B", 1) end)
    slice:release()
  end)

  it("refuses a slice that was released, and puts nothing", function()
    local b = make()
    local stale = assert(neap.copy("x"))
    stale:release()
    b:put("ab")
    raises("buffer:put: ", function() b:put(stale) end)
    assert.equal("ab", taken(b))
    b:release()
  end)

  it("is released by the collector when it was forgotten", function()
    local function forget() make():put("bytes") end
    forget()
    assert.equal(1, pool:stats().bufs_live)
    collectgarbage()
    collectgarbage()
    assert.equal(0, pool:stats().bufs_live)
  end)

  it("W2 holds no more than before after a message of 100 MB #neighbours", function()
    local b = make()
    local part = ("0123456789abcdef"):rep(65536) -- 1 MiB
    for _ = 1, 100 do assert(b:put(part)) end
    assert.equal(100 * MIB, #b)
    local pieces, size = b:take(), 0
    for _, piece in ipairs(pieces) do
      size = size + #piece
      piece:release()
    end
    assert.equal(100 * MIB, size)
    for _ = 1, 100 do
      b:put("small")
      assert.equal("small", taken(b))
    end
    local stats = pool:stats()
    assert.equal(0, stats.bufs_live)
    assert.equal(0, stats.bytes_live)
    assert.is_true(stats.bytes_held <= 64 * MIB)
    assert.is_true(stats.dropped_cap > 0)
    b:release()
    pool:trim()
    assert.equal(0, pool:stats().bytes_held)
  end)

  it("P7 is unchanged when the pool's limit is reached", function()
    local small = assert(neap.pool { min_size = 1024, limit = 8192, classes = false })
    local b = make(small)
    b:put("12345678")
    local slice = assert(neap.copy(("s"):rep(9000)))
    local big = ("x"):rep(9000)
    for _, try in ipairs {
      function() return b:put(big) end, function() return b:put(slice) end,
      function() return b:reserve(9000) end,
    } do
      local result, message, name = try()
      assert.is_nil(result)
      assert.equal("limit", name)
      assert.matches("buffer:", message, 1, true)
      assert.equal(8, #b)
      assert.equal(1024, small:stats().bytes_live)
      assert.is_true(small:stats().bytes_held <= 8192)
    end
    slice:release()
    assert.equal(b, b:put("9"))
    assert.equal("123456789", taken(b))
    b:release()
    small:close()
  end)

  it("P6 takes nothing more in a closed pool than its buf has room for", function()
    local b = make()
    b:put("12345678")
    pool:close()
    local result, _, name = b:put(("x"):rep(100000))
    assert.is_nil(result)
    assert.equal("closed", name)
    assert.equal("12345678", taken(b))
    assert.equal("closed", select(3, b:put("x")))
    assert.equal("closed", select(3, b:put_u8(1)))
    assert.equal("closed", select(3, b:reserve(1)))
    assert.equal("closed", select(3, neap.buffer(pool)))
    b:release()
  end)

  it("P2 is oversized above 1 GiB, before any memory is taken", function()
    local b = make()
    for _, n in ipairs { 2 ^ 30 + 1, 2 ^ 31, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
      local at, _, name = b:reserve(n)
      assert.is_nil(at)
      assert.equal("oversized", name)
    end
    assert.equal(0, pool:stats().bufs_allocated)
    b:put("x")
    assert.equal("oversized", select(3, b:reserve(2 ^ 30)))
    assert.equal("x", taken(b))
    b:release()
  end)

  it("hands its pieces to a connection", function()
    local conn, peer = helper.pair()
    local b = make()
    local bytes = helper.pattern(500000)
    local at = b:reserve(4)
    b:put(bytes)
    b:set_u32be(at, #b - 4)
    local sent = helper.task(function()
      for _, piece in ipairs(b:take()) do assert(conn:write(piece)) end
    end)
    local header = peer:recv_exactly(4)
    assert.equal("\0\7\161\32", header)
    assert.is_true(bytes == peer:recv_exactly(#bytes))
    sent()
    b:release()
    conn:close()
    peer:recv_all()
    peer:close()
    helper.turn_until(function() return pool:stats().slices_live == 0 end)
    assert.is_true(pool:stats().slices_taken > 1)
  end)

  describe("misuse", function()
    it("neap.buffer takes a pool", function()
      for _, bad in ipairs { 1, "pool", {}, true, print, 1LL, io.stdout,
        ffi.new("struct neap_handle") } do
        raises("neap.buffer: pool", function() neap.buffer(bad) end)
      end
    end)

    it("every method raises at the caller's line when called on something else", function()
      local b = make()
      local others = helper.not_objects()
      others[others.n + 1], others.n = pool, others.n + 1
      for _, name in ipairs { "put", "put_u8", "put_i64be", "put_f64le", "put_varint", "pack",
        "reserve", "set_u8", "set_u64le", "take", "reset", "release" } do
        helper.refuses_self(b[name], "buffer:" .. name, others)
      end
      b:release()
    end)

    it("arguments of the wrong kind raise, and put nothing", function()
      local b = make()
      b:put("x")
      for _, bad in ipairs { 1, { 1 }, true, print, 1LL, io.stdout, pool, b, ffi.new("char[4]") } do
        raises("buffer:put: ", function() b:put(bad) end)
        raises("buffer:pack: ", function() b:pack(bad) end)
      end
      raises("buffer:put: ", function() b:put() end)
      for _, bad in ipairs { "1", 0 / 0, -1, 1.5, 1 / 0, -1 / 0, {}, true, print, 1LL,
        2 ^ 53 + 2, io.stdout } do
        raises("buffer:reserve: n", function() b:reserve(bad) end)
      end
      raises("buffer:reserve: n", function() b:reserve() end)
      assert.equal("x", taken(b))
      b:release()
    end)
  end)
end)
