local ffi = require("ffi")
local helper = require("spec.helper")
local neap = require("neap")

local raises, info = helper.raises, helper.info

describe("a slice", function()
  helper.watch(before_each, after_each)

  local pool, allocator

  -- a pool of its own for each test: its counters start at 0
  before_each(function()
    pool = assert(neap.pool())
    allocator = assert(pool:allocator())
  end)

  after_each(function()
    allocator:release()
    assert.equal(0, pool:stats().slices_live)
    pool:close()
  end)

  local function copy(bytes) return assert(allocator:copy(bytes)) end

  local function release(...)
    for i = 1, select("#", ...) do select(i, ...):release() end
  end

  local operations = {
    release = function(s) s:release() end,
    retain = function(s) s:retain() end,
    split = function(s) s:split(0) end,
    detach = function(s) s:detach() end,
    truncate_front = function(s) s:truncate_front(0) end,
    truncate_back = function(s) s:truncate_back(0) end,
    expand_front = function(s) s:expand_front(0) end,
    free_entire_prefix = function(s) s:free_entire_prefix() end,
    size = function(s) s:size() end,
    str = function(s) s:str() end,
    find = function(s) s:find("x") end,
    equals = function(s) s:equals("x") end,
    copy_from = function(s) s:copy_from("", 0) end,
    hexdump = function(s) s:hexdump() end,
    unpack = function(s) s:unpack("B") end,
    pack = function(s) s:pack("B", 0, 1) end,
  }
  for _, kind in ipairs { "u8", "i8", "u16be", "u16le", "i16be", "i16le", "u32be", "u32le",
    "i32be", "i32le", "u53be", "u53le", "u64be", "u64le", "i64be", "i64le", "f32be", "f32le",
    "f64be", "f64le" } do
    operations[kind] = function(s) s[kind](s, 0) end
    if not kind:find("53") then
      operations["set_" .. kind] = function(s) s["set_" .. kind](s, 0, 0) end
    end
  end

  describe("that was released", function()
    it("S3 refuses every operation and names it", function()
      local s = copy("12345678")
      s:release()
      for name, operation in pairs(operations) do
        raises("slice:" .. name .. ": ", operation, s)
      end
    end)

    it("S3 is refused as an argument too", function()
      local s, stale = copy("bytes"), copy("other")
      stale:release()
      raises("slice:release_previous: ", function() s:release_previous(stale) end)
      raises("slice:release_previous: ", function() stale:release_previous(s) end)
      raises("slice:equals: ", function() s:equals(stale) end)
      raises("slice:copy_from: ", function() s:copy_from(stale, 0) end)
      assert.equal("bytes", s:str())
      s:release()
    end)

    it("S3 counts its later uses", function()
      local s = copy("x")
      s:release()
      local before = helper.slice_stats().stale_uses
      pcall(s.str, s)
      pcall(s.retain, s)
      pcall(s.truncate_front, s, 1)
      assert.equal(before + 3, helper.slice_stats().stale_uses)
    end)

    it("S3 stays refused while 4096 further slices are made and released", function()
      neap.leaks_level("sample") -- where handles are used again
      local s = copy("old")
      s:release()
      for i = 1, 4096 do
        local other = copy("new")
        if pcall(s.size, s) then error("alive again after " .. i .. " slices") end
        other:release()
      end
      assert.is_false(pcall(s.str, s))
    end)

    it("S3 stays refused while 4096 further slices are made and kept", function()
      neap.leaks_level("sample")
      local s, kept = copy("old"), {}
      s:release()
      for i = 1, 4096 do kept[i] = copy("new") end
      raises("slice:str: ", function() s:str() end)
      release(unpack(kept))
    end)

    it("S3 comes back, as a handle object, as a new slice with nothing of the old one", function()
      neap.leaks_level("sample")
      local s, again = copy("the old bytes")
      s:release()
      for _ = 1, 3 * 16384 do
        local other = copy("new")
        again = rawequal(other, s) and other
        if again then break end
        other:release()
      end
      assert(again, "the handle was never used again")
      assert.equal("new", again:str())
      assert.equal(3, #again)
      again:release()
      raises("slice:release: ", function() s:release() end)
    end)

    it("B3 raises at a second release, counts it, and harms nobody", function()
      local s = copy("first")
      local other = s:retain()
      s:release()
      local before = helper.slice_stats()
      raises("slice:release: ", function() s:release() end)
      raises("slice:release: ", function() s:release() end)
      local after = helper.slice_stats()
      assert.equal(before.double_releases + 2, after.double_releases)
      assert.equal(before.live, after.live)
      assert.equal("first", other:str())
      -- the buf is still taken: nobody else gets these bytes
      local third = copy("third")
      assert.equal("first", other:str())
      release(other, third)
    end)
  end)

  describe("lifetime", function()
    it("B1 keeps its buf until the last one ends, whatever the order #neighbours", function()
      for _, order in ipairs { { 1, 2, 3 }, { 2, 3, 1 }, { 3, 1, 2 } } do
        local own = pool:allocator()
        local a, b = own:copy("aa"), own:copy("bb")
        local holders = { a, b, own }
        for _, which in ipairs(order) do
          assert.equal(1, pool:stats().bufs_live)
          holders[which]:release()
        end
        assert.equal(0, pool:stats().bufs_live)
      end
      assert.equal(1, pool:stats().bufs_allocated)
    end)

    it("B2 leaves everything as it was when a split is refused #neighbours", function()
      local s = copy("12345")
      local before = pool:stats()
      for _, n in ipairs { 6, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 32 + 1, -1, 0.5 } do
        raises("slice:split: ", function() s:split(n) end)
      end
      assert.same(before, pool:stats())
      assert.equal("12345", s:str())
      s:release()
      assert.equal(1, pool:stats().bufs_live) -- the allocator's
    end)

    it("S9 outlives the slice that it was split or retained from, and its allocator", function()
      local s = copy("front and rest")
      local front, clone = s:split(5), s:retain()
      s:release()
      allocator:release()
      pool:close()
      assert.equal("front", front:str())
      assert.equal(" and rest", clone:str())
      release(front, clone)
    end)

    it("is released by the collector when it was forgotten, and counted", function()
      local function forget() assert(copy("forgotten")) end
      forget()
      forget()
      collectgarbage()
      collectgarbage()
      local stats = pool:stats()
      assert.equal(2, stats.slices_collected)
      assert.equal(0, stats.slices_live)
    end)

    it("counters add up, whatever the end of a slice", function()
      local s = copy("12345678")
      local front, clone = s:split(3), s:retain()
      assert.equal(3, pool:stats().slices_live)
      s:release_previous(front)
      release(s, clone)
      local stats = pool:stats()
      assert.equal(3, stats.slices_made)
      assert.equal(3, stats.slices_released)
      assert.equal(stats.bytes_held, stats.bytes_free + stats.bytes_live)
      assert.equal(0, stats.bytes_referenced)
    end)
  end)

  describe("retain", function()
    it("S10 makes a second owner of the same bytes without a free prefix", function()
      local roomy = pool:allocator(4)
      local s = assert(roomy:copy("shared"))
      local clone = s:retain()
      assert.equal("shared", clone:str())
      assert.is_false(clone:expand_front(1))
      assert.is_false(clone == s)
      s:release()
      assert.equal("shared", clone:str())
      clone:release()
      roomy:release()
    end)

    it("S10 lets nobody write where two slices overlap", function()
      local s = copy("shared bytes")
      local clone = s:retain()
      raises("slice:set_u8: ", function() s:set_u8(0, 1) end)
      raises("slice:copy_from: ", function() clone:copy_from("x", 3) end)
      raises("slice:set_u64be: ", function() s:set_u64be(0, 1) end)
      assert.equal("shared bytes", s:str())
      clone:release()
      s:set_u8(0, 0x53)
      assert.equal("Shared bytes", s:str())
      s:release()
    end)

    it("S10 lets nobody claim a prefix that a clone of it still shows", function()
      local s = copy("headbody")
      local clone = s:retain()
      s:truncate_front(4)
      assert.is_false(s:expand_front(4))
      assert.equal("body", s:str())
      clone:release()
      assert.is_true(s:expand_front(4))
      assert.equal("headbody", s:str())
      s:release()
    end)

    it("S10 keeps an overlapped prefix out of free_entire_prefix and release_previous", function()
      local s = copy("headbody")
      local front = s:split(4)
      local clone = front:retain()
      raises("slice:free_entire_prefix: ", function() s:free_entire_prefix() end)
      assert.is_false(s:release_previous(front))
      assert.is_false(s:expand_front(1))
      assert.equal("body", s:str())
      release(s, clone)
    end)
  end)

  describe("split", function()
    it("S8 gives the front and leaves the rest, at every cut", function()
      local bytes = helper.pattern(40)
      for cut = 0, #bytes do
        local rest = copy(bytes)
        local front = rest:split(cut)
        assert.equal(bytes:sub(1, cut), front:str())
        assert.equal(bytes:sub(cut + 1), rest:str())
        assert.equal(cut, #front)
        assert.equal(#bytes - cut, #rest)
        assert.equal(info(front).bound, info(rest).free)
        rest:release_previous(front)
        assert.is_true(rest:expand_front(cut))
        assert.equal(bytes, rest:str())
        rest:release()
      end
    end)

    it("S8 raises past the end and changes nothing", function()
      local s = copy("12345")
      local shape = info(s)
      for _, n in ipairs { 6, 7, 2 ^ 31, 2 ^ 32 - 1 } do
        raises("slice:split: ", function() s:split(n) end)
      end
      assert.same(shape, info(s))
      assert.equal(1, pool:stats().slices_live)
      s:release()
    end)

    it("gives the headroom to the front", function()
      local roomy = pool:allocator(8)
      local rest = assert(roomy:copy("headbody"))
      local front = rest:split(4)
      assert.is_false(rest:expand_front(1))
      assert.is_true(front:expand_front(8))
      assert.equal(12, #front)
      release(front, rest)
      roomy:release()
    end)
  end)

  describe("shape", function()
    it("S5 truncate_front leaves the prefix, and expand_front has the bytes back", function()
      local roomy = pool:allocator(8)
      local s = assert(roomy:copy("0123456789"))
      assert.is_true(s:expand_front(8))
      assert.equal(18, #s)
      s:truncate_front(11)
      assert.equal(7, #s)
      assert.equal("3456789", s:str())
      assert.is_true(s:expand_front(3))
      assert.equal(10, #s)
      assert.equal("0123456789", s:str())
      s:release()
      roomy:release()
    end)

    it("S5 truncate_front beyond the size drops all", function()
      for _, n in ipairs { 5, 6, 2 ^ 31, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
        local s = copy("12345")
        s:truncate_front(n)
        assert.equal(0, #s)
        assert.is_true(s:expand_front(5))
        assert.equal("12345", s:str())
        s:release()
      end
    end)

    it("S6 expand_front past the headroom changes nothing", function()
      local roomy = pool:allocator(8)
      local s = assert(roomy:copy("bytes"))
      local shape = info(s)
      for _, n in ipairs { 9, 10, 2 ^ 31, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
        assert.is_false(s:expand_front(n))
        assert.same(shape, info(s))
      end
      assert.equal("bytes", s:str())
      assert.is_true(s:expand_front(8))
      s:release()
      roomy:release()
    end)

    it("S6 expand_front(0) is true on any live slice", function()
      local s, empty = copy("bytes"), copy("")
      local clone = s:retain()
      assert.is_true(s:expand_front(0))
      assert.is_true(empty:expand_front(0))
      assert.is_true(clone:expand_front(0))
      release(s, empty, clone)
    end)

    it("S12 truncate_back drops bytes for good", function()
      local s = copy("headbody")
      s:truncate_back(4)
      assert.equal("head", s:str())
      assert.is_false(s:expand_front(1))
      s:truncate_back(9)
      assert.equal(0, #s)
      s:release()
    end)

    it("S12 truncate_back beyond the size drops all", function()
      for _, n in ipairs { 5, 6, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
        local s = copy("12345")
        s:truncate_back(n)
        assert.equal("", s:str())
        s:release()
      end
    end)

    it("S12 keeps neighbours apart where a back was dropped", function()
      local a, b = copy("aaaa"), copy("bbbb")
      a:truncate_back(1)
      assert.is_false(b:release_previous(a))
      assert.is_false(b:expand_front(1))
      b:release()
    end)

    it("S1 never reaches outside its bytes", function()
      local a, s, b = copy("aaaaaaaa"), copy("ssssssss"), copy("bbbbbbbb")
      for name, operation in pairs {
        set_u8 = function() s:set_u8(8, 1) end,
        set_u16be = function() s:set_u16be(7, 1) end,
        set_u32le = function() s:set_u32le(5, 1) end,
        set_f64le = function() s:set_f64le(1, 1) end,
        set_u64be = function() s:set_u64be(1, 1) end,
        set_i64le = function() s:set_i64le(2 ^ 32 - 1, 1) end,
        u8 = function() s:u8(8) end,
        u16le = function() s:u16le(2 ^ 32 - 1) end,
        u32be = function() s:u32be(5) end,
        u53be = function() s:u53be(1) end,
        u64le = function() s:u64le(1) end,
        f64be = function() s:f64be(1) end,
        copy_from = function() s:copy_from("123456789", 0) end,
      } do
        raises("slice:" .. name .. ": ", operation)
      end
      raises("slice:copy_from: ", function() s:copy_from("x", 8) end)
      raises("slice:copy_from: ", function() s:copy_from(a, 1) end)
      raises("slice:find: ", function() s:find("x", 9) end)
      assert.equal("aaaaaaaa", a:str())
      assert.equal("ssssssss", s:str())
      assert.equal("bbbbbbbb", b:str())
      release(a, s, b)
    end)

    it("S2 free_entire_prefix claims all before the slice #neighbours", function()
      local a, s = copy("before"), copy("slice")
      a:release()
      s:free_entire_prefix()
      assert.is_true(s:expand_front(6))
      assert.equal("beforeslice", s:str())
      s:release()
    end)

    it("S2 free_entire_prefix is refused where a live slice is, and changes nothing"
      .. " #neighbours", function()
      local a, b, s = copy("aaaa"), copy("bbbb"), copy("ssss")
      b:release()
      local shape = info(s)
      raises("slice:free_entire_prefix: ", function() s:free_entire_prefix() end)
      assert.same(shape, info(s))
      assert.equal("aaaa", a:str())
      a:release()
      s:free_entire_prefix()
      assert.equal(0, info(s).free)
      s:release()
    end)

    it("S4 release_previous takes the neighbour's place and its prefix #neighbours", function()
      local roomy = pool:allocator(2)
      local a = assert(roomy:copy("aaaa"))
      local s = assert(roomy:copy("ssss"))
      assert.is_true(s:release_previous(a))
      raises("slice:str: ", function() a:str() end)
      assert.is_true(s:expand_front(8))
      assert.is_false(s:expand_front(1))
      assert.equal(12, #s)
      assert.equal("aaaa", s:str(3, 6))
      assert.equal("ssss", s:str(9, 12))
      s:release()
      roomy:release()
    end)

    it("S4 release_previous releases a slice that is no neighbour, and takes nothing", function()
      local a, b, s = copy("aaaa"), copy("bbbb"), copy("ssss")
      local other = assert(neap.copy("elsewhere"))
      assert.is_false(s:release_previous(a))
      assert.is_false(s:release_previous(other))
      assert.is_false(s:expand_front(1))
      raises("slice:str: ", function() a:str() end)
      raises("slice:str: ", function() other:str() end)
      assert.equal("bbbb", b:str())
      assert.equal("ssss", s:str())
      release(b, s)
    end)

    it("S4 release_previous of the slice itself raises and changes nothing", function()
      local s = copy("bytes")
      raises("slice:release_previous: ", function() s:release_previous(s) end)
      assert.equal("bytes", s:str())
      s:release()
    end)

    it("S4 a neighbour that was truncated to nothing from the front still counts"
      .. " #neighbours", function()
      local a, s = copy("aaaa"), copy("ssss")
      a:truncate_front(4)
      assert.equal(0, #a)
      assert.is_true(s:release_previous(a))
      assert.is_true(s:expand_front(4))
      assert.equal("aaaassss", s:str())
      s:release()
    end)
  end)

  describe("detach", function()
    it("S11 moves the bytes and the prefix to a small buf, under the same handle"
      .. " #neighbours #sizes", function()
      local roomy = pool:allocator(4)
      local s = assert(roomy:copy("bytes"))
      assert.equal(16384, info(s).buf_bytes)
      assert.equal(16384 - 64, s:detach())
      assert.equal(64, info(s).buf_bytes)
      assert.equal("bytes", s:str())
      assert.is_true(s:expand_front(4))
      assert.is_false(s:expand_front(1))
      assert.equal("bytes", s:str(5))
      assert.equal(0, s:detach())
      s:release()
      roomy:release()
    end)

    it("S11 makes a clone writable again, as nobody overlaps it any more"
      .. " #neighbours #sizes", function()
      local s = copy("bytes")
      local clone = s:retain()
      clone:detach()
      clone:set_u8(0, 0x42)
      assert.equal("Bytes", clone:str())
      assert.equal("bytes", s:str())
      release(s, clone)
    end)

    it("S11 fails with closed when the pool is closed, and changes nothing", function()
      local s = copy("bytes")
      pool:close()
      local freed, message, name = s:detach()
      assert.is_nil(freed)
      assert.equal("closed", name)
      assert.matches("detach", message)
      assert.equal("bytes", s:str())
      s:release()
    end)
  end)

  describe("numbers", function()
    local s

    before_each(function() s = copy(("\0"):rep(32)) end)
    after_each(function() s:release() end)

    it("are read in both byte orders, at any offset", function()
      s:copy_from("\1\2\3\4\5\6\7\8", 3)
      assert.equal(0x01, s:u8(3))
      assert.equal(0x0102, s:u16be(3))
      assert.equal(0x0201, s:u16le(3))
      assert.equal(0x01020304, s:u32be(3))
      assert.equal(0x04030201, s:u32le(3))
      assert.is_true(s:u64be(3) == 0x0102030405060708ULL)
      assert.is_true(s:u64le(3) == 0x0807060504030201ULL)
    end)

    it("are signed where their name says so", function()
      s:copy_from("\255\254\255\255\255\255\255\255", 1)
      assert.equal(-1, s:i8(1))
      assert.equal(255, s:u8(1))
      assert.equal(-2, s:i16be(1))
      assert.equal(-257, s:i16le(1))
      assert.equal(-65537, s:i32be(1))
      assert.equal(-257, s:i32le(1))
      assert.is_true(s:i64le(1) == -257LL)
      assert.is_true(s:u64le(1) == 0xfffffffffffffeffULL)
    end)

    local edges = {
      u8 = { 0, 1, 2 ^ 8 - 1 }, i8 = { -2 ^ 7, -1, 2 ^ 7 - 1 },
      u16be = { 0, 258, 2 ^ 16 - 1 }, u16le = { 0, 258, 2 ^ 16 - 1 },
      i16be = { -2 ^ 15, -1, 2 ^ 15 - 1 }, i16le = { -2 ^ 15, -1, 2 ^ 15 - 1 },
      u32be = { 0, 0x01020304, 2 ^ 32 - 1 }, u32le = { 0, 0x01020304, 2 ^ 32 - 1 },
      i32be = { -2 ^ 31, -1, 2 ^ 31 - 1 }, i32le = { -2 ^ 31, -1, 2 ^ 31 - 1 },
    }

    it("that were written are read again, up to the edges of their kind", function()
      for kind, values in pairs(edges) do
        for _, value in ipairs(values) do
          for offset = 0, 4 do
            s["set_" .. kind](s, offset, value)
            assert.equal(value, s[kind](s, offset))
          end
        end
      end
      for _, kind in ipairs { "f64be", "f64le" } do
        for _, value in ipairs { 0.1, -1 / 0, 1 / 0, 5e-324, -2 ^ 1023 } do
          s["set_" .. kind](s, 5, value)
          assert.equal(value, s[kind](s, 5))
        end
      end
      for _, kind in ipairs { "f32be", "f32le" } do
        s["set_" .. kind](s, 5, -0.375)
        assert.equal(-0.375, s[kind](s, 5))
      end
    end)

    it("are written in the byte order of their name, and nowhere else", function()
      s:set_u16be(1, 0x4142)
      s:set_u16le(5, 0x4142)
      s:set_u32be(9, 0x41424344)
      s:set_u64be(16, 0x4142434445464748ULL)
      assert.equal("\0AB\0\0BA\0\0ABCD\0\0\0ABCDEFGH\0", s:str(1, 25))
    end)

    it("that do not fit raise and write nothing", function()
      for kind, values in pairs(edges) do
        local misfits = { values[1] - 1, values[3] + 1, 0.5, 0 / 0, 1 / 0, -1 / 0, 2 ^ 64 }
        for _, value in ipairs(misfits) do
          raises("slice:set_" .. kind, function() s["set_" .. kind](s, 0, value) end)
        end
      end
      for _, kind in ipairs { "u64be", "u64le", "i64be", "i64le" } do
        for _, value in ipairs { 0.5, 0 / 0, 1 / 0, 2 ^ 53 + 2, 2 ^ 64 } do
          raises("slice:set_" .. kind, function() s["set_" .. kind](s, 0, value) end)
        end
      end
      assert.equal(("\0"):rep(32), s:str())
    end)

    it("that are negative do not fit an unsigned 64-bit place", function()
      raises("slice:set_u64be", function() s:set_u64be(0, -1) end)
      raises("slice:set_u64le", function() s:set_u64le(0, -2 ^ 53) end)
      assert.equal(("\0"):rep(32), s:str())
    end)

    it("that are no numbers raise and write nothing", function()
      for kind in pairs(edges) do
        for _, value in ipairs { "1", {}, true, print, 1LL, s } do
          raises("slice:set_" .. kind, function() s["set_" .. kind](s, 0, value) end)
        end
        raises("slice:set_" .. kind, function() s["set_" .. kind](s, 0) end)
      end
      for _, value in ipairs { "1", {}, true, print, s } do
        raises("slice:set_u64be", function() s:set_u64be(0, value) end)
      end
      assert.equal(("\0"):rep(32), s:str())
    end)

    it("of 64 bits keep all of them as cdata", function()
      for _, value in ipairs { 0ULL, 1ULL, 2 ^ 53 + 1ULL, 0xffffffffffffffffULL } do
        s:set_u64be(3, value)
        assert.is_true(s:u64be(3) == value)
        s:set_u64le(3, value)
        assert.is_true(s:u64le(3) == value)
      end
      s:set_i64be(3, -0x7fffffffffffffffLL)
      assert.is_true(s:i64be(3) == -0x7fffffffffffffffLL)
      s:set_i64le(3, -2 ^ 53)
      assert.is_true(s:i64le(3) == -0x20000000000000LL)
    end)

    it("of 53 bits are Lua numbers, and more than 2^53 raises", function()
      s:set_u64be(0, 2 ^ 53)
      assert.equal(2 ^ 53, s:u53be(0))
      s:set_u64le(8, 2 ^ 53 - 1)
      assert.equal(2 ^ 53 - 1, s:u53le(8))
      for _, value in ipairs { 0x20000000000001ULL, 0x20000000000002ULL, 0xffffffffffffffffULL } do
        s:set_u64be(0, value)
        raises("slice:u53be: ", function() s:u53be(0) end)
        s:set_u64le(0, value)
        raises("slice:u53le: ", function() s:u53le(0) end)
      end
    end)

    it("that are NaN in the bytes are read as NaN", function()
      s:set_f64be(0, 0 / 0)
      s:set_f32le(8, 0 / 0)
      local a, b = s:f64be(0), s:f32le(8)
      assert.is_true(a ~= a and b ~= b)
    end)

    it("refuse offsets that are none", function()
      for kind in pairs(edges) do
        local get, set = s[kind], s["set_" .. kind]
        for _, offset in ipairs(helper.not_sizes) do
          raises("slice:" .. kind .. ": ", function() get(s, offset) end)
          raises("slice:set_" .. kind .. ": ", function() set(s, offset, 1) end)
        end
        for _, offset in ipairs { 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 + 2, 1 / 0 } do
          raises("slice:" .. kind .. ": ", function() get(s, offset) end)
          raises("slice:set_" .. kind .. ": ", function() set(s, offset, 1) end)
        end
        raises("slice:" .. kind .. ": ", function() get(s) end)
        raises("slice:set_" .. kind .. ": ", function() set(s) end)
      end
      assert.equal(("\0"):rep(32), s:str())
    end)

    it("give the same answers when they are compiled", function()
      s:set_u32be(4, 0xfffefdfc)
      local sum, stale, failed = 0, copy("x"), 0
      stale:release()
      for i = 1, 2000 do
        sum = sum + s:u32be(4)
        if not pcall(s.u32be, s, i % 2 == 0 and 29 or 2 ^ 32 + 5) then failed = failed + 1 end
        if not pcall(stale.u8, stale, 0) then failed = failed + 1 end
      end
      assert.equal(2000 * 0xfffefdfc, sum)
      assert.equal(4000, failed)
    end)
  end)

  describe("bytes", function()
    it("str is string.sub of them", function()
      local bytes = "0123456789"
      local s = copy(bytes)
      for from = -12, 12 do
        for to = -12, 12 do assert.equal(bytes:sub(from, to), s:str(from, to)) end
        assert.equal(bytes:sub(from), s:str(from))
      end
      assert.equal(bytes, s:str())
      assert.equal(bytes, s:str(-1 / 0, 1 / 0))
      s:release()
    end)

    it("str takes numbers only", function()
      local s = copy("bytes")
      for _, bad in ipairs { "1", 0 / 0, {}, print, 1LL } do
        raises("slice:str: ", function() s:str(bad) end)
        raises("slice:str: ", function() s:str(1, bad) end)
      end
      s:release()
    end)

    it("find gives offsets, from the front or from an offset, or nil", function()
      local s = copy("abcabc\0abc")
      assert.equal(0, s:find("abc"))
      assert.equal(0, s:find("abc", 0))
      assert.equal(3, s:find("abc", 1))
      assert.equal(7, s:find("abc", 4))
      assert.equal(6, s:find("\0"))
      assert.is_nil(s:find("abc", 8))
      assert.is_nil(s:find("x"))
      assert.is_nil(s:find("abcabcabcabc"))
      assert.is_nil(s:find("a", 10))
      s:release()
    end)

    it("find sees only its own bytes", function()
      local a, b = copy("ab"), copy("cd")
      assert.is_nil(a:find("bc"))
      assert.is_nil(b:find("b"))
      release(a, b)
    end)

    it("find takes a string and an offset", function()
      local s = copy("bytes")
      for _, bad in ipairs { 1, {}, true, s, 1LL } do
        raises("slice:find: ", function() s:find(bad) end)
      end
      raises("slice:find: ", function() s:find() end)
      for _, bad in ipairs(helper.not_sizes) do
        raises("slice:find: ", function() s:find("b", bad) end)
      end
      for _, bad in ipairs { 6, 2 ^ 32, 2 ^ 32 + 1, 1 / 0 } do
        raises("slice:find: ", function() s:find("b", bad) end)
      end
      s:release()
    end)

    it("equals compares with a string or a slice", function()
      local s, same, other, empty = copy("GET"), copy("GET"), copy("PUT"), copy("")
      assert.is_true(s:equals("GET"))
      assert.is_true(s:equals(same))
      assert.is_true(s:equals(s))
      assert.is_false(s:equals(other))
      assert.is_false(s:equals("GE"))
      assert.is_false(s:equals("GET "))
      assert.is_false(s:equals(empty))
      assert.is_true(empty:equals(""))
      for _, bad in ipairs { 1, {}, true, 1LL, io.stdout, pool } do
        raises("slice:equals: ", function() s:equals(bad) end)
      end
      raises("slice:equals: ", function() s:equals() end)
      release(s, same, other, empty)
    end)

    it("copy_from copies strings and slices to an offset, overlap included", function()
      local s, source = copy("0123456789"), copy("abc")
      s:copy_from("xy", 8)
      s:copy_from(source, 1)
      s:copy_from("A")
      s:copy_from("", 10)
      assert.equal("Aabc4567xy", s:str())
      local front = s:split(5)
      s:copy_from(front, 0)
      assert.equal("Aabc4", s:str())
      s:copy_from(s, 0)
      assert.equal("Aabc4", s:str())
      for _, bad in ipairs { 1, {}, true, 1LL, io.stdout, pool } do
        raises("slice:copy_from: ", function() s:copy_from(bad, 0) end)
      end
      for _, bad in ipairs(helper.not_sizes) do
        raises("slice:copy_from: ", function() s:copy_from("x", bad) end)
      end
      assert.equal("Aabc4", s:str())
      release(s, front, source)
    end)
  end)

  describe("as a value", function()
    it("S0 its fields cannot be assigned", function()
      local s = copy("bytes")
      raises("", function() s.slot = 1 end)
      raises("", function() s.gen = 1 end)
      raises("", function() s.other = 1 end)
      raises("", function() s[0] = 1 end)
      assert.equal("bytes", s:str())
      s:release()
    end)

    it("S0 is no number, no pointer, no function and no array", function()
      local s, other = copy("bytes"), copy("other")
      raises("", function() return s + 1 end)
      raises("", function() return 1 - s end)
      raises("", function() return s - other end)
      raises("", function() return s * 2 end)
      raises("", function() return -s end)
      raises("", function() return s < other end)
      raises("", function() return s <= 5 end)
      assert.is_false(pcall(s))
      assert.is_nil(getmetatable(s).__index)
      release(s, other)
    end)

    -- in a process of its own: a handle that means nothing must not end this one
    it("S0 a zeroed or made-up handle names nothing", function()
      local run = helper.script([[
        local ffi = require("ffi")
        local neap = require("neap")
        local s, gone = neap.copy("bytes"), neap.copy("gone")
        local slice_t, refused = ffi.typeof(s), 0
        local gone_slot, gone_gen = gone.slot, gone.gen
        gone:release()
        local function refuse(slot, gen)
          local made_up = slice_t(slot, gen)
          assert(not pcall(made_up.str, made_up))
          assert(not pcall(made_up.u8, made_up, 0))
          assert(not pcall(made_up.truncate_front, made_up, 1))
          assert(not pcall(made_up.release, made_up))
          refused = refused + 1
        end
        refuse(0, 0)
        for gen = 0, 4 do
          refuse(gone_slot, gone_gen + gen)
          refuse(s.slot + 1, gen)
          refuse(2 ^ 24, gen)
          refuse(2 ^ 32 - 1, gen)
          refuse(0, 2 ^ 32 - 1 - gen)
        end
        assert(s:str() == "bytes")
        s:release()
        print(refused)
      ]])
      assert.equal("", run.err)
      assert.equal("26\n", run.out)
      assert.equal(0, run.status)
    end)

    it("raises when concatenated, and names :str()", function()
      local s = copy("bytes")
      raises(":str()", function() return s .. "x" end)
      raises(":str()", function() return "x" .. s end)
      raises(":str()", function() return s .. 1 end)
      raises(":str()", function() return s .. s end)
      s:release()
      raises(":str()", function() return s .. "x" end)
    end)

    it("raises when compared with a string, and names :equals()", function()
      local s = copy("GET")
      raises("equals", function() return s == "GET" end)
      raises("equals", function() return "GET" == s end)
      raises("equals", function() return s ~= "GET" end)
      s:release()
      raises("equals", function() return s == "GET" end)
    end)

    it("is compared by identity with everything else, stale or not", function()
      local s, same = copy("GET"), copy("GET")
      local stale = copy("GET")
      stale:release()
      local others = { same, stale, 1, 0 / 0, true, {}, print, io.stdout, 1LL, pool,
        ffi.cast("void *", 0) }
      for _, x in ipairs { s, stale } do
        assert.is_true(x == x)
        assert.is_false(x == nil)
        assert.is_true(x ~= nil)
        for _, other in ipairs(others) do
          if not rawequal(x, other) then
            assert.is_false(x == other)
            assert.is_false(other == x)
          end
        end
      end
      release(s, same)
    end)

    it("is compared the same way by compiled code", function()
      local s, other = copy("GET"), copy("GET")
      local equal = 0
      for _ = 1, 500 do
        if s == other then equal = equal + 1 end
        if s == nil then equal = equal + 1 end
        if s == s then equal = equal + 1 end
        if pcall(function() return s == "GET" end) then equal = equal + 1000 end
      end
      assert.equal(500, equal)
      release(s, other)
    end)

    it("describes itself, also when it is stale", function()
      local s = copy("GET / HTTP/1.1\r\nHost: example\r\n")
      local text = tostring(s)
      assert.matches("slice of 31 bytes", text)
      assert.matches("GET /", text, 1, true)
      assert.is_nil(text:find("%c"))
      s:release()
      assert.matches("released", tostring(s))
    end)

    it("has a length operator that is its size", function()
      local s = copy("12345")
      assert.equal(5, #s)
      assert.equal(5, s:size())
      s:release()
      raises("slice:size: ", function() return #s end)
    end)

    it("raises for a method that it has not", function()
      local s = copy("x")
      raises("no_such_method", function() s:no_such_method() end)
      s:release()
    end)
  end)

  describe("misuse", function()
    it("every method raises at the caller's line when called on something else", function()
      local s = copy("12345678")
      local others = helper.not_objects()
      others.n = others.n + 2
      others[others.n - 1], others[others.n] = pool, allocator
      for name in pairs(operations) do
        helper.refuses_self(s[name], "slice:" .. name, others)
      end
      helper.refuses_self(s.release_previous, "slice:release_previous", others)
      assert.equal("12345678", s:str())
      s:release()
    end)

    it("sizes that are none raise at the caller's line and change nothing", function()
      local s = copy("12345678")
      local shape = info(s)
      for _, name in ipairs { "split", "truncate_front", "truncate_back", "expand_front" } do
        local method = s[name]
        for _, bad in ipairs(helper.not_sizes) do
          raises("slice:" .. name .. ": ", function() method(s, bad) end)
        end
        raises("slice:" .. name .. ": ", function() method(s) end)
        raises("slice:" .. name .. ": ", function() method(s, nil) end)
        raises("slice:" .. name .. ": ", function() method(s, s) end)
      end
      for _, bad in ipairs { 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 + 2, 1 / 0 } do
        raises("slice:split: ", function() s:split(bad) end)
      end
      assert.same(shape, info(s))
      assert.equal("12345678", s:str())
      s:release()
    end)

    it("release_previous takes a slice", function()
      local s = copy("bytes")
      for i = 0, 12 do
        local bad = helper.not_objects()[i]
        raises("slice:release_previous: ", function() s:release_previous(bad) end)
      end
      raises("slice:release_previous: ", function() s:release_previous(pool) end)
      assert.equal("bytes", s:str())
      s:release()
    end)
  end)
end)
