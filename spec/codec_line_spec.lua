local coded = require("spec.coded")
local helper = require("spec.helper")
local line = require("neap.codec.line")

local decode, encode = coded.decode, coded.encode

describe("the codec of lines", function()
  helper.watch(before_each, after_each)

  it("reads a line with either end, without it", function()
    local codec = line.new()
    assert.same({ "hello", 6 }, { decode(codec, "hello\n") })
    assert.same({ "hello", 7 }, { decode(codec, "hello\r\n") })
    assert.same({ "hello", 6 }, { decode(codec, "hello\nworld\n") })
    assert.same({ "", 1 }, { decode(codec, "\n") })
    assert.same({ "", 2 }, { decode(codec, "\r\n") })
    assert.same({ "a\rb\0c", 6 }, { decode(codec, "a\rb\0c\n") })
  end)

  it("needs more at each cut of a line", function()
    local codec = line.new()
    local bytes = "hello world\r\n"
    for cut = 0, #bytes - 1 do
      assert.same({ nil, nil, nil }, { decode(codec, bytes:sub(1, cut)) })
    end
  end)

  it("takes a line of just max bytes, with either end, and no more", function()
    local codec = line.new { max = 4 }
    assert.same({ "abcd", 5 }, { decode(codec, "abcd\n") })
    assert.same({ "abcd", 6 }, { decode(codec, "abcd\r\n") })
    assert.is_nil(decode(codec, "abcd\r"))
    local said = { nil, "a line of more than 4 bytes", "oversized" }
    assert.same(said, { decode(codec, "abcde\n") })
    assert.same(said, { decode(codec, "abcdef") })
    assert.same(said, { decode(codec, "abcdef\n") })
  end)

  it("writes a line with the end that was chosen", function()
    assert.equal("hello\n", encode(line.new(), "hello"))
    assert.equal("hello\r\n", encode(line.new { ending = "\r\n" }, { "he", "llo" }))
    assert.equal("\n", encode(line.new(), ""))
  end)

  it("raises for options that it does not know", function()
    helper.raises("no option", function() line.new { limit = 1 } end)
    helper.raises("max must be", function() line.new { max = 1.5 } end)
  end)
end)
