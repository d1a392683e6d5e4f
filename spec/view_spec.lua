local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises

describe("a view", function()
  helper.watch(before_each, after_each)

  local pool

  before_each(function() pool = assert(neap.pool { poison = true }) end)

  after_each(function()
    assert.equal(0, pool:stats().slices_live)
    pool:close()
  end)

  -- A reader over the bytes, given whole or `step` at a time.
  local function over(bytes, step, options)
    local at = 1
    return assert(neap.reader(pool, function(max)
      local part = bytes:sub(at, at + math.min(step or max, max) - 1)
      at = at + #part
      if part ~= "" then return part end
    end, options))
  end

  local function text(slice)
    local bytes = slice:str()
    slice:release()
    return bytes
  end

  local uses = {
    str = function(v) v:str() end,
    hexdump = function(v) v:hexdump() end,
    find = function(v) v:find("x") end,
    equals = function(v) v:equals("x") end,
    retain = function(v) v:retain() end,
    unpack = function(v) v:unpack("B", 0) end,
    sub = function(v) v:sub(0, 0):str() end,
  }
  for _, kind in ipairs { "u8", "i8", "u16be", "u16le", "u24be", "i24le", "u32be", "i32le",
    "u48be", "i48le", "u53be", "u53le", "u64be", "i64le", "f32be", "f64le" } do
    uses[kind] = function(v) v[kind](v, 0) end
  end

  local function is_stale(v)
    for name, use in pairs(uses) do
      raises("view:" .. (name == "sub" and "str" or name) .. ": ", use, v)
    end
    assert.equal("view (stale)", tostring(v))
  end

  it("has parts, which are views of the same life", function()
    local r = over("\1\2text\0\0\0\9")
    local v = assert(r:peek(10))
    local part = v:sub(2, 4)
    assert.equal(4, #part)
    assert.equal("text", part:str())
    assert.equal("ext", part:sub(1, 3):str())
    assert.equal(0x7874, part:u16be(2))
    assert.equal(2, part:find("xt"))
    assert.is_nil(part:find("\0"))
    assert.is_true(part:equals("text"))
    assert.equal("", v:sub(10, 0):str())
    assert.same({ 9, 4 }, { v:sub(6, 4):unpack(">I4") })
    local kept = part:retain()
    assert(r:skip(1))
    is_stale(part)
    assert.equal("text", text(kept))
    r:close()
  end)

  it("has no parts that reach past it", function()
    local r = over("\1\2text")
    local v = assert(r:peek(6))
    local part = v:sub(2, 3)
    raises("view:sub: 2 bytes at offset 5 reach past the view's 6 bytes",
      function() v:sub(5, 2) end)
    raises("view:sub: 0 bytes at offset 7", function() v:sub(7, 0) end)
    raises("view:sub: offset must be", function() v:sub(-1, 0) end)
    raises("view:sub: n must be", function() v:sub(0, 0 / 0) end)
    raises("view:u8: 1 byte at offset 3 reach past", function() part:u8(3) end)
    raises("view:u8: 1 byte at offset 4294967294", function() part:u8(4294967294) end)
    raises("view:u16be: 2 bytes at offset 2", function() part:u16be(2) end)
    raises("view:find: from is 4", function() part:find("x", 4) end)
    r:close()
  end)

  it("is what it was when its task has waited, however many others were made", function()
    local r, other = over("mine"), over(("x"):rep(9000))
    local v = assert(r:peek(4))
    local part = v:sub(1, 2)
    neap.sleep(0)
    for _ = 1, 4500 do
      assert(other:peek(1))
      assert(other:skip(1))
    end
    assert.equal("mine", v:str())
    assert.equal("in", part:str())
    for _ = 1, 4500 do -- and without a wait
      assert(other:peek(1))
      assert(other:skip(1))
    end
    assert.equal("mine", v:str())
    r:close()
    other:close()
  end)

  it("shows the numbers that stand in the bytes", function()
    local r = over("\1\2\3\4\5\6\7\248\255")
    local v = assert(r:peek(9))
    assert.equal(1, v:u8(0))
    assert.equal(-1, v:i8(8))
    assert.equal(0x0102, v:u16be(0))
    assert.equal(0x0201, v:u16le(0))
    assert.equal(0x020304, v:u24be(1))
    assert.equal(-8, v:i16le(7))
    assert.equal(0x04030201, v:u32le(0))
    assert.equal(0x010203040506, v:u48be(0))
    assert.equal(0x01020304050607f8ULL, v:u64be(0))
    assert.equal(-0x07f8f9fafbfcfdffLL, v:i64le(0))
    raises("is above 2^53", function() v:u53be(0) end)
    r:close()
  end)

  it("shows 53 bits and floats", function()
    local r = over("\0\32\0\0\0\0\0\0" .. "\63\128\0\0" .. "\0\0\0\0\0\0\4\192" .. "\127\192\0\0")
    local v = assert(r:peek(24))
    assert.equal(2 ^ 53, v:u53be(0))
    assert.equal(1, v:f32be(8))
    assert.equal(-2.5, v:f64le(12))
    local nan = v:f32be(20)
    assert.is_true(nan ~= nan)
    r:close()
  end)

  it("shows its bytes, finds, compares, unpacks and dumps", function()
    local r = over("GET /index\r\n\0rest")
    local v = assert(r:peek(13))
    assert.equal("GET /index\r\n\0", v:str())
    assert.equal("/in", v:str(5, 7))
    assert.equal("\n", v:str(-2, -2))
    assert.equal(4, v:find("/"))
    assert.equal(4, v:find("/", 4))
    assert.is_nil(v:find("/", 5))
    assert.is_nil(v:find("rest")) -- there, but behind the view
    assert.is_nil(v:find("\0rest"))
    assert.equal(13, v:find("", 13))
    assert.is_true(v:equals("GET /index\r\n\0"))
    assert.is_false(v:equals("GET /index\r\n"))
    assert.is_false(v:equals("GET /index\r\n\0r"))
    assert.same({ "GET", " /index\r\n", 13 }, { v:unpack("c3z") })
    assert.equal("00000000  47 45 54 20 2f 69 6e 64  65 78 0d 0a 00           "
      .. "|GET /index...|", v:hexdump())
    assert.equal(13, #v)
    assert.equal('view of 13 bytes "GET /index..."', tostring(v))
    r:close()
  end)

  it("of no bytes is one too", function()
    local r = over("")
    local v = assert(r:peek(0))
    assert.equal(0, #v)
    assert.equal("", v:str())
    assert.equal("", v:hexdump())
    assert.is_true(v:equals(""))
    assert.equal(0, v:find(""))
    raises("reach past the view's 0 bytes", function() v:u8(0) end)
    local slice = assert(v:retain())
    assert.equal("", text(slice))
    r:close()
  end)

  it("never shows what is behind it", function()
    local r = over("12345678rest")
    local v = assert(r:peek(8))
    for _, offset in ipairs { 1, 8, 2 ^ 31, 2 ^ 32 - 8, 2 ^ 32 - 1 } do
      for _, name in ipairs { "u64be", "i64le", "f64be", "u53le" } do
        local method = v[name]
        raises("reach past the view's 8 bytes", function() method(v, offset) end)
      end
      raises("view:unpack: ", function() v:unpack("i8", offset) end)
    end
    raises("view:u8: ", function() v:u8(8) end)
    raises("view:find: ", function() v:find("r", 9) end)
    raises("view:unpack: ", function() v:unpack("c9") end)
    assert.equal("12345678", v:str(1, 100))
    assert.equal("12345678rest", text(r:read(12)))
    r:close()
  end)

  it("leaves its bytes unread", function()
    local r = over("abcdef")
    assert.equal("abc", r:peek(3):str())
    assert.equal("abcdef", r:peek(6):str())
    assert.equal(6, r:buffered())
    assert.equal("abcdef", text(r:read(6)))
    r:close()
  end)

  it("is stale after the next read, peek, skip, line or close", function()
    local nexts = {
      function(r) r:read(1):release() end,
      function(r) r:read(0):release() end,
      function(r) r:read_any(1):release() end,
      function(r) r:read_line():release() end,
      function(r) r:read_until("b"):release() end,
      function(r) assert(r:peek(1)) end,
      function(r) assert(r:skip(1)) end,
      function(r) r:close() end,
    }
    for _, following in ipairs(nexts) do
      local r = over("ab\ncd")
      local v = assert(r:peek(2))
      assert.equal("ab", v:str())
      following(r)
      is_stale(v)
      r:close()
    end
  end)

  it("is stale when its reader was collected", function()
    local function make() return (assert(over("bytes"):peek(5))) end
    local v = make()
    collectgarbage()
    collectgarbage()
    is_stale(v)
  end)

  it("stays stale when another reader has its place", function()
    local r = over("old")
    local v = assert(r:peek(3))
    r:close()
    r = nil -- luacheck: ignore
    collectgarbage()
    collectgarbage()
    local readers = {}
    for i = 1, 20 do
      readers[i] = over("new")
      assert(readers[i]:peek(3))
    end
    is_stale(v)
    for i = 1, 20 do readers[i]:close() end
  end)

  it("stays after a read that could not be made", function()
    local r = over("abc")
    local v = assert(r:peek(3))
    assert.equal("short", select(3, r:read(4)))
    raises("reader:read: ", function() r:read(-1) end)
    assert.equal("abc", v:str())
    r:close()
  end)

  it("waits for bytes that are not here, and moves them together #pace", function()
    for _, step in ipairs { 1, 7, 1000, 16384 } do
      local bytes = helper.pattern(100000)
      local r = over(bytes, step)
      local front = assert(r:read(10))
      local small = assert(r:peek(4))
      assert.equal(bytes:sub(11, 14), small:str())
      local large = assert(r:peek(90000))
      is_stale(small)
      assert.is_true(large:equals(bytes:sub(11, 90010)))
      assert.equal(bytes:sub(1, 10), text(front))
      assert.equal(bytes:sub(11), text(r:read(99990)))
      r:close()
    end
  end)

  it("of more than max_read is oversized, before the source is asked", function()
    local r = assert(neap.reader(pool, function() error("asked") end, { max_read = 100 }))
    for _, n in ipairs { 101, 2 ^ 31, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
      local v, message, name = r:peek(n)
      assert.is_nil(v)
      assert.equal("oversized", name)
      assert.matches("max_read", message, 1, true)
    end
    r:close()
  end)

  it("is eof with nothing here, and short with too little, which stays", function()
    local r = over("abc")
    assert.equal("short", select(3, r:peek(4)))
    assert.equal(3, r:buffered())
    assert.equal("abc", r:peek(3):str())
    assert.equal("abc", text(r:read(3)))
    assert.equal("eof", select(3, r:peek(1)))
    assert.equal("", r:peek(0):str())
    r:close()
    assert.equal("closed", select(3, r:peek(1)))
  end)

  describe("retained", function()
    it("is a slice that stays, while the bytes stay unread", function()
      local r = over("headbody")
      local v = assert(r:peek(8))
      local slice = assert(v:retain())
      assert.equal("headbody", v:str())
      assert.equal("headbody", text(r:read(8)))
      assert.equal("eof", select(3, r:read(1)))
      r:close()
      assert.equal("headbody", slice:str())
      slice:release()
    end)

    it("S10 is written by nobody while it overlaps unread bytes or a slice #neighbours", function()
      local r = over("headbody")
      local kept = assert(r:peek(8):retain())
      raises("slice:set_u8: ", function() kept:set_u8(0, 1) end)
      raises("slice:copy_from: ", function() kept:copy_from("x", 7) end)
      local read = assert(r:read(8))
      raises("slice:set_u8: ", function() kept:set_u8(7, 1) end)
      raises("slice:set_u8: ", function() read:set_u8(7, 1) end)
      raises("slice:pack: ", function() read:pack("z", 0, "x") end)
      assert.equal("headbody", kept:str())
      kept:release()
      read:set_u8(0, 0x48)
      assert.equal("Headbody", text(read))
      r:close()
    end)

    it("S10 can be written when the read one is gone, and not before #neighbours", function()
      local r = over("headbody")
      local kept = assert(r:peek(4):retain())
      local read = assert(r:read(4))
      raises("slice:set_u8: ", function() kept:set_u8(0, 1) end)
      read:release()
      kept:set_u8(0, 0x48)
      assert.equal("Head", text(kept))
      assert.equal("body", text(r:read(4)))
      r:close()
    end)

    it("S10 keeps its bytes out of every prefix #neighbours", function()
      local r = over("headbodytail")
      assert(r:skip(4))
      local kept = assert(r:peek(4):retain())
      local read = assert(r:read(8))
      read:truncate_front(4)
      assert.is_false(read:expand_front(4))
      assert.is_false(read:expand_front(1))
      raises("slice:free_entire_prefix: ", function() read:free_entire_prefix() end)
      assert.equal("tail", read:str())
      assert.is_false(kept:expand_front(1))
      kept:release()
      assert.is_true(read:expand_front(4))
      assert.equal("bodytail", text(read))
      r:close()
    end)

    it("S10 lets nobody claim unread bytes as a prefix", function()
      local r = over("headbody")
      local kept = assert(r:peek(8):retain())
      kept:truncate_front(8)
      raises("slice:free_entire_prefix: ", function() kept:free_entire_prefix() end)
      assert.is_false(kept:expand_front(8))
      kept:release()
      assert.equal("headbody", text(r:read(8)))
      r:close()
    end)

    it("S9 keeps its bytes when the reader moves on to other bufs", function()
      local bytes = helper.pattern(200000)
      local r = over(bytes, 5000)
      local kept, at = {}, 0
      while at < 180000 do
        local n = 1 + at % 9001
        kept[#kept + 1] = { assert(r:peek(n):retain()), bytes:sub(at + 1, at + n) }
        assert(r:skip(n))
        at = at + n
      end
      r:close()
      for _, pair in ipairs(kept) do assert.equal(pair[2], text(pair[1])) end
    end)
  end)

  it("works on a connection, and waits there", function()
    local conn, peer = helper.pair()
    local peek = helper.task(function() return assert(conn:peek(8)):str() end)
    peer:send("head")
    helper.turn_until(function() return conn:buffered() == 4 end)
    local kept = assert(conn:peek(4):retain())
    peer:send("body")
    assert.equal("headbody", peek())
    assert.equal(8, conn:buffered())
    assert.equal("head", kept:str())
    kept:release()
    local v = assert(conn:peek(1))
    peer:shutdown()
    assert.equal("short", select(3, conn:peek(9)))
    assert.equal("oversized", select(3, conn:peek(2 ^ 20 + 1)))
    assert.equal("h", v:str())
    assert.equal("headbody", text(conn:read(8)))
    is_stale(v)
    assert.equal("eof", select(3, conn:peek(1)))
    v = assert(conn:peek(0))
    conn:close()
    is_stale(v)
    peer:close()
  end)

  describe("misuse", function()
    it("every method raises at the caller's line when called on something else", function()
      local r = over("bytes")
      local slice = assert(neap.copy("bytes"))
      local v = assert(r:peek(5))
      local others = helper.not_objects()
      others[others.n + 1], others[others.n + 2], others.n = slice, r, others.n + 2
      for name in pairs(uses) do helper.refuses_self(v[name], "view:" .. name, others) end
      assert.equal("bytes", v:str())
      slice:release()
      r:close()
    end)

    it("arguments of the wrong kind raise at the caller's line", function()
      local r = over("12345678")
      local v = assert(r:peek(8))
      local bad = { "1", 0 / 0, -1, 1.5, 1 / 0, -1 / 0, {}, true, print, 1LL, 2 ^ 32,
        2 ^ 53 + 2, io.stdout }
      for _, x in ipairs(bad) do
        for name in pairs(uses) do
          local method = v[name]
          if name:match("%d") then raises("view:" .. name, function() method(v, x) end) end
        end
        raises("view:find: from", function() v:find("x", x) end)
        raises("view:unpack: offset", function() v:unpack("B", x) end)
      end
      raises("view:u8: offset", function() v:u8() end)
      for _, x in ipairs { 1, {}, true, 1LL, print, v } do
        raises("view:find: bytes", function() v:find(x) end)
        raises("view:equals: bytes", function() v:equals(x) end)
        raises("view:unpack: format", function() v:unpack(x) end)
      end
      raises("view:find: bytes", function() v:find() end)
      raises("view:equals: bytes", function() v:equals() end)
      raises("view:unpack: format", function() v:unpack() end)
      for _, x in ipairs { "1", {}, true, 0 / 0, 1LL } do
        raises("view:str: ", function() v:str(x) end)
      end
      assert.equal("12345678", v:str())
      r:close()
    end)

    it("peek refuses sizes that are none and asks nobody", function()
      local asked = 0
      local r = assert(neap.reader(pool, function() asked = asked + 1 end))
      for _, bad in ipairs(helper.not_sizes) do
        raises("reader:peek: n", function() r:peek(bad) end)
      end
      for _, bad in ipairs { 1 / 0, 2 ^ 53 + 2, io.stdout } do
        raises("reader:peek: n", function() r:peek(bad) end)
      end
      raises("reader:peek: n", function() r:peek() end)
      assert.equal(0, asked)
      r:close()
    end)

    it("S0 its fields cannot be assigned", function()
      local r = over("bytes")
      local v = assert(r:peek(5))
      for _, field in ipairs { "slot", "gen", "epoch", "size", "other" } do
        assert.is_false(pcall(function() v[field] = 1 end))
      end
      assert.equal("bytes", v:str())
      r:close()
    end)
  end)

  it("shows no byte that is not its own when its reader is collected meanwhile",
    function()
    local bytes = ("0123456789abcdef"):rep(100)
    local slice = assert(neap.copy(bytes))
    local expected = slice:hexdump()
    slice:release()
    local pause, step = collectgarbage("setpause", 10), collectgarbage("setstepmul", 10000)
    local wrong = 0
    for _ = 1, 2 do
      local v = assert(over(bytes):peek(#bytes)) -- nobody else holds the reader
      local ok, dump = pcall(v.hexdump, v)
      if ok and dump ~= expected then wrong = wrong + 1 end
    end
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", step)
    assert.equal(0, wrong)
  end)

  it("of a made-up size shows nothing", function()
    local ffi = require("ffi")
    local r = over("bytes")
    local v = assert(r:peek(5))
    local forged = ffi.typeof("struct neap_lua_view")(v.slot, v.gen, v.epoch, 40000)
    raises("view:str: ", function() forged:str() end)
    raises("view:hexdump: ", function() forged:hexdump() end)
    raises("view:unpack: ", function() forged:unpack("c100") end)
    r:close()
  end)
end)
