local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises

-- What slices and views have in common, on both.
describe("bytes", function()
  helper.watch(before_each, after_each)

  local pool

  before_each(function() pool = assert(neap.pool()) end)

  after_each(function()
    assert.equal(0, pool:stats().slices_live)
    pool:close()
  end)

  -- fn(x, name) with a slice, a slice of a string and a view of the same bytes.
  local function each(bytes, fn)
    local allocator = assert(pool:allocator())
    local s, foreign = assert(allocator:copy(bytes)), assert(neap.slice(bytes))
    local r = assert(neap.reader(pool, function() return bytes end))
    fn(s, "slice")
    fn(foreign, "slice")
    fn(assert(r:peek(#bytes)), "view")
    s:release()
    foreign:release()
    r:close()
    allocator:release()
  end

  local widths = { u8 = 1, u16 = 2, u24 = 3, u32 = 4, u48 = 6 }

  it("show integers of every width, order and sign at every offset", function()
    local bytes = "\0\1\127\128\254\255\10\200\100\0\255\129\3"
    each(bytes, function(x)
      for name, width in pairs(widths) do
        for offset = 0, #bytes - width do
          local big, little = 0, 0
          for i = 0, width - 1 do
            big = big * 256 + bytes:byte(offset + 1 + i)
            little = little * 256 + bytes:byte(offset + width - i)
          end
          local half, span = 2 ^ (8 * width - 1), 2 ^ (8 * width)
          local function signed(n) return n >= half and n - span or n end
          local be, le = width == 1 and "" or "be", width == 1 and "" or "le"
          local i_name = "i" .. name:sub(2)
          assert.equal(big, x[name .. be](x, offset))
          assert.equal(little, x[name .. le](x, offset))
          assert.equal(signed(big), x[i_name .. be](x, offset))
          assert.equal(signed(little), x[i_name .. le](x, offset))
        end
      end
    end)
  end)

  it("show 64 bits as cdata, and 53 as a number", function()
    each("\128\0\0\0\0\0\0\1\0\31" .. ("\255"):rep(6), function(x)
      assert.equal(0x8000000000000001ULL, x:u64be(0))
      assert.equal(-0x7fffffffffffffffLL, x:i64be(0))
      assert.equal(0x0100000000000080ULL, x:u64le(0))
      assert.equal(2 ^ 53 - 1, x:u53be(8))
      raises("is above 2^53", function() x:u53be(0) end)
      raises("is above 2^53", function() x:u53le(8) end)
    end)
  end)

  it("show floats, NaN and infinities included", function()
    each("\127\128\0\0\255\240\0\0\0\0\0\0\127\192\0\0\128\0\0\0", function(x)
      assert.equal(1 / 0, x:f32be(0))
      assert.equal(-1 / 0, x:f64be(4))
      local nan = x:f32be(12)
      assert.is_true(nan ~= nan)
      assert.equal(-1 / 0, 1 / x:f32be(16))
    end)
  end)

  it("are numbers and no objects of Lua, whatever NaN a peer sends", function()
    local function is_nan(value)
      assert.equal("number", type(value))
      assert.is_true(value ~= value)
    end
    for top = 0xf0, 0xff do
      for _, low in ipairs { "\0\0\0\0\1", "\128\0\18\52\86", "\255\255\255\255\255" } do
        for _, sign in ipairs { "\127", "\255" } do
          local bytes = sign .. string.char(top) .. "\1" .. low -- not infinity
          each(bytes .. bytes:reverse(), function(x)
            for _ = 1, 70 do is_nan(x:f64be(0)) end -- compiled, too
            is_nan(x:f64le(8))
            is_nan((x:unpack(">d")))
            is_nan((x:unpack("<d", 8)))
            if top >= 0x80 then is_nan((x:unpack(">f"))) end
            if top >= 0x80 then is_nan(x:f32le(12)) end
          end)
        end
      end
    end
  end)

  it("are no number past their end", function()
    each("\0\0\0\0\0\0\0\0", function(x, kind)
      for name, width in pairs { u8 = 1, i16be = 2, u24le = 3, f32be = 4, u48be = 6, u64le = 8,
        i64be = 8, f64le = 8, u53be = 8 } do
        local method = x[name]
        assert(method(x, 8 - width))
        for _, offset in ipairs { 9 - width, 8, 9, 2 ^ 31, 2 ^ 32 - 1 } do
          raises(kind .. ":" .. name .. ": ", function() method(x, offset) end)
        end
      end
    end)
  end)

  it("str is string.sub of them, for every from and to", function()
    local bytes = "a\0cde"
    each(bytes, function(x)
      for from = -7, 7 do
        for to = -7, 7 do assert.equal(bytes:sub(from, to), x:str(from, to)) end
      end
      assert.equal(bytes, x:str())
      assert.equal("cde", x:str(3))
      assert.equal(bytes, x:str(-1 / 0, 1 / 0))
    end)
  end)

  it("find is string.find of them, for every offset", function()
    local bytes = "abcabcab\0c"
    each(bytes, function(x)
      for _, needle in ipairs { "", "a", "abc", "cab", "\0", "b\0c", "abcabcab\0c", "x", "ac" } do
        for from = 0, #bytes do
          local at = bytes:find(needle, from + 1, true)
          assert.equal(at and at - 1, x:find(needle, from))
        end
      end
      raises(":find: ", function() x:find("a", #bytes + 1) end)
    end)
  end)

  it("hexdump shows 16 a line, as hexdump -C does", function()
    each("0123456789abcdef\0\31\127\255", function(x)
      assert.equal("00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  "
        .. "|0123456789abcdef|\n"
        .. "00000010  00 1f 7f ff" .. (" "):rep(39) .. "|....|", x:hexdump())
    end)
    each("", function(x) assert.equal("", x:hexdump()) end)
  end)

  it("S8 split at every cut and coalesced give the original back", function()
    local bytes = helper.pattern(60)
    local allocator = assert(pool:allocator(4))
    for cut = 0, #bytes do
      local s = assert(allocator:copy(bytes))
      local shape = helper.info(s)
      local list = neap.coalesce({ s:split(cut), s }, #bytes)
      assert.equal(1, #list)
      assert.equal(bytes, list[1]:str())
      assert.same(shape, helper.info(list[1]))
      list[1]:release()
    end
    allocator:release()
  end)

  it("S8 split to single bytes and coalesced give the original back", function()
    local bytes = helper.pattern(60)
    local allocator = assert(pool:allocator())
    local s, list = assert(allocator:copy(bytes)), {}
    for i = 1, #bytes do list[i] = s:split(1) end
    list[#bytes + 1] = s
    assert.equal(list, neap.coalesce(list, #bytes))
    assert.equal(1, #list)
    assert.equal(bytes, list[1]:str())
    list[1]:release()
    allocator:release()
  end)
end)
