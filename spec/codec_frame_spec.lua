local frame = require("neap.codec.frame")
local coded = require("spec.coded")
local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises

local function hex(text)
  return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

local decode, encode = coded.decode, coded.encode

describe("the codec of frames", function()
  helper.watch(before_each, after_each)

  -- Each kind of length with a frame as its bytes stand on the wire.
  local kinds = {
    { { length = "u8" }, hex "05" .. "hello" },
    { { length = "u16be" }, hex "0005" .. "hello" },
    { { length = "u16le" }, hex "0500" .. "hello" },
    { {}, hex "00000005" .. "hello" },
    { { length = "u32le" }, hex "05000000" .. "hello" },
    { { length = "u64be" }, hex "0000000000000005" .. "hello" },
    { { length = "u64le" }, hex "0500000000000000" .. "hello" },
    { { length = "varint" }, hex "05" .. "hello" },
    { { length = "netstring" }, "5:hello," },
    { { length = "u32be", adjust = -4 }, hex "00000009" .. "hello" },
    { { length = "u16be", adjust = 2 }, hex "0003" .. "hello" },
  }

  for _, kind in ipairs(kinds) do
    local options, bytes = kind[1], kind[2]
    local named = (options.length or "u32be") .. (options.adjust and " adjusted" or "")

    it("reads and writes frames with a length of " .. named, function()
      local codec = frame.new(options)
      assert.same({ "hello", #bytes }, { decode(codec, bytes) })
      assert.same({ "hello", #bytes }, { decode(codec, bytes .. bytes) })
      assert.equal(bytes, encode(codec, "hello"))
      assert.equal(bytes, encode(codec, { "he", "", "llo" }))
      local slice = neap.copy("hello")
      assert.equal(bytes, encode(codec, slice))
      slice:release()
    end)

    it("needs more at each cut of a frame with a length of " .. named, function()
      local codec = frame.new(options)
      for cut = 0, #bytes - 1 do
        local message, need, name = decode(codec, bytes:sub(1, cut))
        assert.is_nil(message)
        assert.is_nil(name)
        assert.is_true(need > cut and need <= #bytes)
      end
    end)

    it("gives whole frames with a length of " .. named, function()
      local whole = { whole = true }
      for name, value in pairs(options) do whole[name] = value end
      local codec = frame.new(whole)
      assert.same({ bytes, #bytes }, { decode(codec, bytes) })
      assert.equal(bytes, encode(codec, bytes))
    end)
  end

  it("reads empty frames", function()
    assert.same({ "", 2 }, { decode(frame.new { length = "u16be" }, "\0\0") })
    assert.same({ "", 3 }, { decode(frame.new { length = "netstring" }, "0:,") })
    assert.same({ "", 1 }, { decode(frame.new { length = "varint" }, "\0") })
    assert.equal("0:,", encode(frame.new { length = "netstring" }, ""))
  end)

  it("reads a varint of several bytes", function()
    local codec = frame.new { length = "varint", max = 1000 }
    local bytes = hex "ac02" .. ("x"):rep(300)
    assert.same({ ("x"):rep(300), 302 }, { decode(codec, bytes) })
    assert.equal(bytes, encode(codec, ("x"):rep(300)))
    assert.same({ nil, 2 }, { decode(codec, hex "ac") })
  end)

  it("refuses a frame that is too long as soon as its length is here", function()
    local function oversized(options, bytes, n)
      options.max = 4
      local message, text, name = decode(frame.new(options), bytes)
      assert.is_nil(message)
      assert.equal("oversized", name)
      assert.equal(("a frame of %s bytes, where 4 are allowed"):format(n), text)
    end
    oversized({ length = "u8" }, "\5", 5)
    oversized({}, hex "ffffffff", 4294967295)
    oversized({ length = "u64be" }, hex "ffffffffffffffff", "18446744073709551616")
    oversized({ length = "varint" }, "\5", 5)
    oversized({ length = "netstring" }, "999999999:", 999999999)
  end)

  it("tells what is no frame", function()
    local function malformed(options, bytes, expected)
      local message, text, name = decode(frame.new(options), bytes)
      assert.same({ nil, expected, "malformed" }, { message, text, name })
    end
    malformed({ adjust = -4 }, hex "00000003", "a length that does not cover its own field")
    malformed({ length = "varint" }, ("\255"):rep(10), "a length of more than ten bytes")
    local begins = "a netstring begins with digits and a colon"
    malformed({ length = "netstring" }, ":", begins)
    malformed({ length = "netstring" }, "5x", begins)
    malformed({ length = "netstring" }, " 5:", begins)
    malformed({ length = "netstring" }, "-5:", begins)
    malformed({ length = "netstring" }, "05:", "a netstring's length has no leading zero")
    malformed({ length = "netstring" }, "1234567890", "a netstring's length has too many digits")
    malformed({ length = "netstring" }, "1:x;", "a netstring ends with a comma")
  end)

  it("raises for what cannot be a frame of this kind", function()
    local out = neap.buffer()
    raises("frame: encode: 5 bytes, where 4 are allowed",
      function() frame.new { max = 4 }.encode(out, "hello") end)
    raises("no u8 says that 256 bytes follow",
      function() frame.new { length = "u8" }.encode(out, ("x"):rep(256)) end)
    raises("no u16be says that 1 bytes follow",
      function() frame.new { length = "u16be", adjust = 2 }.encode(out, "x") end)
    raises("must be a string, a slice, a view or a list of them, got number",
      function() frame.new().encode(out, 5) end)
    assert.equal(0, #out)
    out:release()
  end)

  it("raises for options that it does not know", function()
    raises("there is no length u128", function() frame.new { length = "u128" } end)
    raises("no option", function() frame.new { size = 1 } end)
    raises("max must be", function() frame.new { max = -1 } end)
    raises("adjust must be a whole number", function() frame.new { adjust = 0.5 } end)
    raises("adjust goes with a length of fixed width",
      function() frame.new { length = "varint", adjust = 1 } end)
  end)

  it("says of any bytes what they are, and reads no further than they go", function()
    local random = math.random
    math.randomseed(tonumber(os.getenv("FUZZ_SEED")) or 7)
    local codecs = {}
    for i, kind in ipairs(kinds) do codecs[i] = frame.new(kind[1]) end
    for _ = 1, tonumber(os.getenv("FUZZ_RUNS")) or 3000 do
      local bytes = {}
      for i = 1, random(0, 24) do
        local pick = random(1, 4)
        bytes[i] = pick == 1 and "\0" or pick == 2 and tostring(random(0, 9))
          or pick == 3 and ":" or string.char(random(0, 255))
      end
      bytes = table.concat(bytes)
      local codec = codecs[random(1, #codecs)]
      local message, consumed, name = decode(codec, bytes)
      if message then
        assert.is_true(consumed >= 1 and consumed <= #bytes and #message <= consumed)
      elseif name then
        assert.is_true(name == "malformed" or name == "oversized")
      else
        assert.is_true(consumed > #bytes)
      end
    end
  end)
end)
