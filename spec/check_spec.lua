local check = require("neap.check")
local helper = require("spec.helper")

local raises = helper.raises

-- as a public function would call them
local function whole(n, most) return (check.whole(n, most or 2 ^ 32 - 1, "thing:verb: n")) end
local function string_of(x) return (check.string(x, "thing:verb: text")) end
local function options_of(given)
  return (check.options(given, { size = 1, loud = false, name = "x" }, "thing"))
end

describe("check", function()
  helper.watch(before_each, after_each)

  it("whole passes whole numbers in range on", function()
    for _, n in ipairs { 0, 1, 2 ^ 31, 2 ^ 32 - 1 } do assert.equal(n, whole(n)) end
    assert.equal(2 ^ 53, whole(2 ^ 53, 2 ^ 53))
    assert.equal(math.huge, whole(math.huge, math.huge))
  end)

  it("whole raises for everything else, at the line of who called the public function", function()
    for _, bad in ipairs(helper.not_sizes) do
      local message = raises("thing:verb: n must be a whole number", function() whole(bad); end)
      assert.matches("from 0 to 4294967295, got ", message, 1, true)
    end
    for _, bad in ipairs { 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 + 2, 1 / 0 } do
      raises("thing:verb: n", function() whole(bad); end)
    end
    raises("got nil", function() whole(); end)
    raises('got "7"', function() whole("7"); end)
    raises("got nan", function() whole(0 / 0 > 0 or math.abs(0 / 0)); end)
  end)

  it("string takes strings alone", function()
    assert.equal("", string_of(""))
    assert.equal("a\0b", string_of("a\0b"))
    for _, bad in ipairs { 1, {}, true, print, 1LL } do
      raises("thing:verb: text must be a string", function() string_of(bad); end)
    end
    raises("got nil", function() string_of(); end)
  end)

  it("options fills in what was not given, and leaves the table alone", function()
    local given = { size = 5 }
    assert.same({ size = 5, loud = false, name = "x" }, options_of(given))
    assert.same({ size = 5 }, given)
    assert.same({ size = 1, loud = false, name = "x" }, options_of())
    assert.is_true(options_of({ loud = true }).loud)
  end)

  it("options raises for unknown keys, wrong types and what is no table", function()
    raises('no option "sise"', function() options_of({ sise = 1 }); end)
    raises("no option 1", function() options_of({ "size" }); end)
    raises('"size" must be a number, got "5"', function() options_of({ size = "5" }); end)
    raises('"loud" must be a boolean', function() options_of({ loud = 1 }); end)
    raises("options must be a table", function() options_of(5); end)
    raises("options must be a table", function() options_of(false); end)
  end)

  it("raise is at the line of who called the public function", function()
    local function public() check.raise("wrong", 1) end
    local function deeper() check.raise("wrong", 2) end
    local function public_too() deeper() end
    raises("wrong", function() public(); end)
    raises("wrong", function() public_too(); end)
  end)
end)
