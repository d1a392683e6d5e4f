local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises

describe("a format", function()
  helper.watch(before_each, after_each)

  local pool, allocator, buffer

  before_each(function()
    pool = assert(neap.pool())
    allocator = assert(pool:allocator())
    buffer = assert(neap.buffer(pool))
  end)

  after_each(function()
    buffer:release()
    allocator:release()
    assert.equal(0, pool:stats().slices_live)
    pool:close()
  end)

  local function taken()
    local parts = {}
    for i, piece in ipairs(buffer:take()) do
      parts[i] = piece:str()
      piece:release()
    end
    return table.concat(parts)
  end

  -- The bytes that slice:pack writes between guards, which must stay.
  local function packed(size, format, ...)
    local s = assert(allocator:copy(("#"):rep(size + 8)))
    local at = s:pack(format, 4, ...)
    local bytes = s:str()
    s:release()
    assert.equal(4 + size, at)
    assert.equal("####", bytes:sub(1, 4))
    assert.equal("####", bytes:sub(-4))
    return bytes:sub(5, -5)
  end

  local function same(expected, value)
    if expected ~= expected then return value ~= value end
    if expected == 0 and type(value) == "number" then return 1 / expected == 1 / value end
    return expected == value
  end

  -- One format, its bytes, its values: by all four ways.
  local function check(format, bytes, ...)
    local n = select("#", ...)
    assert.equal(bytes, packed(#bytes, format, ...), format)
    assert.equal(buffer, buffer:pack(format, ...))
    assert.equal(bytes, taken(), format)
    local s = assert(allocator:copy("##" .. bytes .. "##"))
    local r = assert(neap.reader(pool, function() return "##" .. bytes .. "##" end))
    local v = assert(r:peek(#bytes + 4))
    for _, x in ipairs { s, v } do
      local got = { n = select("#", x:unpack(format, 2)), x:unpack(format, 2) }
      assert.equal(n + 1, got.n, format)
      for i = 1, n do
        if not same((select(i, ...)), got[i]) then
          error(("%s: value %d is %s"):format(format, i, tostring(got[i])))
        end
      end
      assert.equal(2 + #bytes, got[n + 1], format)
    end
    s:release()
    r:close()
  end

  it("has integers of the usual sizes in both orders", function()
    check("bB", "\255\255", -1, 255)
    check("<hH", "\254\255\2\1", -2, 0x0102)
    check(">hH", "\255\254\1\2", -2, 0x0102)
    check("<iI", "\254\255\255\255\4\3\2\1", -2, 0x01020304)
    check(">iI", "\255\255\255\254\1\2\3\4", -2, 0x01020304)
    check("<lL", "\254" .. ("\255"):rep(7) .. "\8\7\6\5\4\3\2\1", -2LL, 0x0102030405060708ULL)
    check(">jJ", ("\255"):rep(7) .. "\254\1\2\3\4\5\6\7\8", -2LL, 0x0102030405060708ULL)
    check(">T", "\255\254\253\252\251\250\249\248", 0xfffefdfcfbfaf9f8ULL)
    check("=H", "\2\1", 0x0102) -- the machines this runs on
    check("H", "\2\1", 0x0102)
    check(">H<H=H H", "\1\2\2\1\2\1\2\1", 0x0102, 0x0102, 0x0102, 0x0102)
  end)

  it("has integers of 1 to 8 bytes, up to the edges of their range", function()
    for width = 1, 8 do
      local wide = width > 6
      local function number(x) return wide and (x >= 0 and 1ULL * x or 1LL * x) or x end
      local function signed(x) return wide and 1LL * x or x end
      check(">I" .. width, ("\0"):rep(width - 1) .. "\7", number(7))
      check("<i" .. width, "\249" .. ("\255"):rep(width - 1), signed(-7))
      check("<I" .. width, ("\0"):rep(width), number(0))
      check(">i" .. width, ("\255"):rep(width), signed(-1))
      local low = "\128" .. ("\0"):rep(width - 1)
      local high = "\127" .. ("\255"):rep(width - 1)
      if wide then
        local half = width == 8 and -0x7fffffffffffffffLL - 1 or -0x80000000000000LL
        check(">i" .. width, low, half)
        check("<i" .. width, high:reverse(), -(half + 1))
        check(">I" .. width, ("\255"):rep(width), width == 8 and 0xffffffffffffffffULL
          or 0xffffffffffffffULL)
      else
        check(">i" .. width, low, -2 ^ (8 * width - 1))
        check("<i" .. width, high:reverse(), 2 ^ (8 * width - 1) - 1)
        check(">I" .. width, ("\255"):rep(width), 2 ^ (8 * width) - 1)
      end
    end
  end)

  it("has floats", function()
    check(">f", "\63\128\0\0", 1)
    check("<f", "\0\0\128\191", -1)
    check(">d", "\63\248\0\0\0\0\0\0", 1.5)
    check("<n", "\0\0\0\0\0\0\4\192", -2.5)
    check(">d", "\127\240\0\0\0\0\0\0", 1 / 0)
    check(">f", "\255\128\0\0", -1 / 0)
    check(">d", "\128\0\0\0\0\0\0\0", -0.0)
    check("<f", "\0\0\0\128", -0.0)
    check("<d", "\0\0\0\0\0\0\0\0", 0)
    local s = assert(allocator:copy(("#"):rep(12)))
    s:pack(">fd", 0, 0 / 0, 0 / 0)
    local f, d = s:unpack(">fd")
    assert.is_true(f ~= f and d ~= d)
    s:release()
  end)

  it("has padding and strings", function()
    check("Bx<H", "\1\0\2\0", 1, 2)
    check("xxx", "\0\0\0")
    check("", "")
    check("  ", "")
    check("c3", "abc", "abc")
    check("c0", "", "")
    check("z", "abc\0", "abc")
    check("zz", "\0x\0", "", "x")
    for width = 1, 6 do
      check("<s" .. width, "\3" .. ("\0"):rep(width - 1) .. "a\0c", "a\0c")
      check(">s" .. width, ("\0"):rep(width - 1) .. "\3abc", "abc")
      check(">s" .. width, ("\0"):rep(width), "")
    end
    check("s1", "\255" .. ("x"):rep(255), ("x"):rep(255))
    check(">Bs2zc2I3", "\7\0\2hiyo\0ab\0\1\0", 7, "hi", "yo", "ab", 256)
  end)

  it("fills short strings of fixed size with zeros", function()
    assert.equal("ab\0\0", packed(4, "c4", "ab"))
    assert.equal("\0\0", packed(2, "c2", ""))
  end)

  it("of the wrong spelling raises at the caller's line, and writes nothing", function()
    local s = assert(allocator:copy("12345678"))
    local r = assert(neap.reader(pool, function() return "12345678" end))
    local v = assert(r:peek(8))
    for _, bad in ipairs { "i0", "I9", "i16", "i99999999999999999999", "c", "s0", "s7", "s9", "!",
      "!4", "Xh", "q", "N", "k", "t", "%d", "\0", "\n", "\195\164", ",", "-1", "4", "Bq",
      ("B"):rep(101) } do
      raises("slice:unpack: ", function() s:unpack(bad) end)
      raises("view:unpack: ", function() v:unpack(bad) end)
      raises("slice:pack: ", function() s:pack(bad, 0, 1, 1) end)
      raises("buffer:pack: ", function() buffer:pack(bad, 1, 1) end)
    end
    for _, bad in ipairs { 1, {}, true, print, 1LL, io.stdout, s } do
      raises("slice:unpack: format", function() s:unpack(bad) end)
      raises("view:unpack: format", function() v:unpack(bad) end)
      raises("slice:pack: format", function() s:pack(bad, 0) end)
      raises("buffer:pack: format", function() buffer:pack(bad) end)
    end
    assert.equal("12345678", s:str())
    assert.equal(0, #buffer)
    s:release()
    r:close()
  end)

  it("reads nothing outside its bytes", function()
    local s = assert(allocator:copy("\3\0\0\0ab\0\255"))
    local front = s:split(6) -- what is behind it is readable memory, but not its own
    local r = assert(neap.reader(pool, function() return "\3\0\0\0ab\0\255" end))
    local v = assert(r:peek(6))
    for _, format in ipairs { "I7", "i8", "d", "ffH", "c7", "s4", "<s5", "s1s1s1s1s1", "c4z",
      "xxxxz", "xxxxxxx", "c3c4", "I4I4", "c4294967295" } do
      raises("slice:unpack: ", function() front:unpack(format) end)
      raises("view:unpack: ", function() v:unpack(format) end)
    end
    for _, offset in ipairs { 6, 7, 2 ^ 31, 2 ^ 32 - 1 } do
      for _, format in ipairs { "B", "x", "z", "c1", "s1", "j", "f" } do
        raises("slice:unpack: ", function() front:unpack(format, offset) end)
        raises("view:unpack: ", function() v:unpack(format, offset) end)
        raises("slice:pack: ", function() front:pack(format, offset, format:match("[zcs]")
          and "x" or 1) end)
      end
    end
    raises("slice:unpack: ", function() front:unpack("c0", 7) end)
    for _, bad in ipairs { "1", 0 / 0, -1, 1.5, 1 / 0, {}, true, 1LL, 2 ^ 32, 2 ^ 53 + 2 } do
      raises("slice:unpack: offset", function() front:unpack("B", bad) end)
      raises("slice:pack: offset", function() front:pack("B", bad, 1) end)
    end
    raises("slice:pack: offset", function() front:pack("B") end)
    assert.equal("\3\0\0\0ab", front:str())
    assert.equal("\0\255", s:str())
    front:release()
    s:release()
    r:close()
  end)

  it("writes nothing outside its bytes", function()
    local s = assert(allocator:copy("12345678"))
    local front = s:split(4)
    raises("slice:pack: ", function() front:pack("J", 0, 1) end)
    raises("slice:pack: ", function() front:pack("d", 0, 1) end)
    raises("slice:pack: ", function() front:pack("I5", 0, 1) end)
    raises("slice:pack: ", function() front:pack("z", 0, "long") end)
    raises("slice:pack: ", function() front:pack("c5", 0, "x") end)
    assert.equal("1234", front:str())
    assert.equal("5678", s:str())
    front:release()
    s:release()
  end)

  it("values that do not fit, of the wrong type, or missing raise, and write nothing", function()
    local s = assert(allocator:copy(("#"):rep(300)))
    for format, values in pairs {
      b = { -129, 128, 1.5 }, B = { -1, 256 }, h = { 32768 }, H = { 65536, -1 },
      I3 = { 2 ^ 24, -1 }, i3 = { 2 ^ 23, -2 ^ 23 - 1 }, I4 = { 2 ^ 32 }, I6 = { 2 ^ 48 },
      i6 = { 2 ^ 47 }, J = { -1, -1LL, 2 ^ 53 + 2 }, j = { 2 ^ 63, 0x8000000000000000ULL },
      I7 = { -1, -1LL }, f = { "1", 1LL }, c2 = { "abc", 12 }, z = { "a\0b", 1 },
      s1 = { ("x"):rep(256), 7 },
    } do
      for _, value in ipairs(values) do
        raises("pack: ", function() s:pack(format, 0, value) end)
      end
      for _, value in ipairs { {}, true, print, io.stdout, pool } do
        raises("pack: ", function() s:pack(format, 0, value) end)
        raises("pack: ", function() buffer:pack(format, value) end)
      end
      if format:match("^[^cszfd]") then
        for _, value in ipairs { 0 / 0, 1 / 0, -1 / 0, "1" } do
          raises("pack: ", function() s:pack(format, 0, value) end)
        end
      end
      raises("pack: ", function() s:pack(format, 0) end)
      raises("pack: ", function() buffer:pack(format) end)
    end
    assert.is_true(s:equals(("#"):rep(300)))
    assert.equal(0, #buffer)
    s:release()
  end)

  it("on a slice that was released, overlapped or read-only raises", function()
    local s = assert(allocator:copy("12345678"))
    local clone = s:retain()
    raises("slice:pack: ", function() s:pack("B", 0, 1) end)
    raises("slice:pack: ", function() s:pack("j", 0, 1) end)
    raises("slice:pack: ", function() s:pack("c2", 0, "x") end)
    assert.equal("12345678", s:str())
    clone:release()
    s:release()
    raises("slice:pack: ", function() s:pack("B", 0, 1) end)
    raises("slice:unpack: ", function() s:unpack("B") end)
    raises("slice:unpack: ", function() s:unpack("c0") end)
    local foreign = assert(neap.slice("12345678"))
    raises("slice:pack: ", function() foreign:pack("B", 0, 1) end)
    raises("slice:pack: ", function() foreign:pack("z", 0, "x") end)
    assert.same({ 0x31, 1 }, { foreign:unpack("B") })
    foreign:release()
  end)

  it("gives back what was packed (random)", function()
    local seed = os.time()
    print("seed " .. seed)
    math.randomseed(seed)
    local function text(n) return helper.pattern(math.random(0, n)) end
    local kinds = {
      function() local w = math.random(1, 6) return "I" .. w, math.random(0, 2 ^ (8 * w) - 1) end,
      function()
        local w = math.random(1, 6)
        return "i" .. w, math.random(0, 2 ^ (8 * w) - 1) - 2 ^ (8 * w - 1)
      end,
      function() return "I7", 1ULL * math.random(0, 2 ^ 53 - 1) end,
      function() return "j", -1LL * math.random(0, 2 ^ 53 - 1) end,
      function() return "d", math.random() * 2 ^ math.random(-100, 100) end,
      function() return "f", math.random(-1000, 1000) / 4 end,
      function() return "z", text(50) end,
      function() return "s" .. math.random(1, 6), text(200) end,
      function() local t = text(40) return "c" .. #t, t end,
    }
    for round = 1, 300 do
      local formats, values = {}, {}
      for i = 1, math.random(0, 30) do
        local format, value = kinds[math.random(#kinds)]()
        formats[i] = ({ "<", ">", "=", " ", "" })[math.random(5)] .. format
        values[i] = value
      end
      local format = table.concat(formats)
      buffer:pack(format, unpack(values))
      local bytes = taken()
      local s = assert(allocator:copy(bytes))
      local got = { s:unpack(format) }
      for i = 1, #values do
        if got[i] ~= values[i] then
          error(("seed %d, round %d, value %d of %q"):format(seed, round, i, format))
        end
      end
      assert.equal(#bytes, got[#values + 1], "seed " .. seed)
      if #bytes > 0 then
        s:copy_from(("#"):rep(#bytes))
        assert.equal(#bytes, s:pack(format, 0, unpack(values)))
        assert.equal(bytes, s:str(), "seed " .. seed)
        s:truncate_back(1)
        raises("slice:unpack: ", function() s:unpack(format) end)
      end
      s:release()
    end
  end)

  -- lua5.4 and lua5.3 have string.pack themselves
  local reference
  for _, name in ipairs { "lua5.4", "lua5.3" } do
    if not reference and os.execute("command -v " .. name .. " >/dev/null 2>&1") == 0 then
      reference = name
    end
  end

  local title = "agrees with string.pack of another Lua"
  if not reference then
    pending(title .. " (neither lua5.4 nor lua5.3 is installed)")
  else
    it(title, function()
      local cases = { "<b -5", ">B 200", "<h -300", ">H 40000", "<i3 -70000", ">I3 70000",
        "<i5 -5000000000", ">I6 5000000000", "<i7 -3", ">I7 9", "<j -9", ">J 11", "<f 1.25",
        ">d -0.5", ">n 3", "<z 'abc'", ">s1 'abc'", "<s4 'abc'", ">c5 'abc'", "<Bxh 7,-7" }
      for _, case in ipairs(cases) do
        local format, values = case:match("^(%S+) (.*)$")
        local child = helper.sh(("%s -e \"io.write((string.pack('%s', %s):gsub('.', "
          .. "function(c) return ('%%02x'):format(c:byte()) end)))\""):format(reference, format,
          values))
        buffer:pack(format, assert(loadstring("return " .. values))())
        local hex = taken():gsub(".", function(c) return ("%02x"):format(c:byte()) end)
        assert.equal(child.out, hex, case)
      end
    end)
  end

  it("integers of 7 bytes that do not fit raise", function()
    local s = assert(allocator:copy("########"))
    raises("slice:pack: ", function() s:pack("I7", 0, 0x0100000000000000ULL) end)
    raises("slice:pack: ", function() s:pack("i7", 0, 0x0080000000000000LL) end)
    raises("slice:pack: ", function() s:pack("i7", 0, -0x0080000000000001LL) end)
    assert.equal("########", s:str())
    s:release()
  end)

  it("s has a length of 1 to 6 bytes, and says so", function()
    local s = assert(allocator:copy("########"))
    for _, format in ipairs { "s", "s0", "s7", "s8" } do
      raises("slice:unpack: s needs a number", function() s:unpack(format) end)
    end
    s:release()
  end)

  it("digits behind a letter that takes none raise, as in string.pack", function()
    local s = assert(allocator:copy("########"))
    for _, format in ipairs { "b3", "h2", "x9", "<4", "f2", "z3", "j4", " 3" } do
      raises("slice:unpack: ", function() s:unpack(format) end)
    end
    s:release()
  end)

  it("100 strings are unpacked", function()
    local s = assert(allocator:copy(("\0"):rep(100)))
    assert.equal(100, (select(101, s:unpack(("s1"):rep(100)))))
    assert.equal(100, (select(101, s:unpack(("z"):rep(100)))))
    s:release()
  end)

  it("sizes above 2^32 raise for unpack, and c of them for pack, at the caller's line",
    function()
    local s = assert(allocator:copy("\0\0\0\0\1\0abcdef"))
    raises("slice:unpack: ", function() s:unpack("<s6") end)
    raises("slice:unpack: ", function() s:unpack("<s5") end)
    raises("slice:unpack: ", function() s:unpack("c4294967296") end)
    raises("slice:unpack: ", function() s:unpack("c99999999999999999999") end)
    raises("slice:pack: ", function() s:pack("c9999999999", 0, "x") end)
    s:release()
  end)

  it("a pack that raises has written nothing, earlier values included", function()
    local s = assert(allocator:copy("########"))
    raises("slice:pack: ", function() s:pack("BB", 0, 7, 300) end)
    raises("pack: ", function() buffer:pack("BJ", 7, -1) end)
    assert.equal("########", s:str())
    assert.equal(0, #buffer)
    s:release()
  end)

  it("a value that does not fit buffer:pack raises at the caller's line", function()
    raises("buffer:pack: ", function() buffer:pack("B", 300) end)
    raises("buffer:pack: ", function() buffer:pack("s1", ("x"):rep(256)) end)
  end)

  it("buffer:pack at the pool's limit is nil, message, limit, with nothing put", function()
    local small = assert(neap.pool { min_size = 1024, limit = 2048, classes = false })
    local b = assert(neap.buffer(small))
    local result, _, name = b:pack("Bz", 1, ("x"):rep(4000))
    assert.is_nil(result)
    assert.equal("limit", name)
    assert.equal(0, #b)
    b:release()
    small:close()
  end)
end)
