local check = require("neap.check")
local helper = require("spec.helper")

local raises = helper.raises

-- the innermost lines outside of neap: what raises must name them
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

  it("whole raises for everything else, at the line that asked", function()
    for _, bad in ipairs(helper.not_sizes) do
      local message = raises("thing:verb: n must be a whole number", whole, bad)
      assert.matches("from 0 to 4294967295, got ", message, 1, true)
    end
    for _, bad in ipairs { 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 + 2, 1 / 0 } do
      raises("thing:verb: n", whole, bad)
    end
    raises("got nil", whole)
    raises('got "7"', whole, "7")
    raises("got nan", whole, 0 / 0 > 0 or math.abs(0 / 0))
  end)

  it("string takes strings alone", function()
    assert.equal("", string_of(""))
    assert.equal("a\0b", string_of("a\0b"))
    for _, bad in ipairs { 1, {}, true, print, 1LL } do
      raises("thing:verb: text must be a string", string_of, bad)
    end
    raises("got nil", string_of)
  end)

  it("fn takes functions alone", function()
    assert.equal(print, (check.fn(print, "thing:verb: handler")))
    for _, bad in ipairs { 1, {}, true, "print" } do
      raises("thing:verb: handler must be a function, got " .. type(bad), function()
        check.fn(bad, "thing:verb: handler")
      end)
    end
    raises("got nil", function() check.fn(nil, "thing:verb: handler") end)
  end)

  it("options fills in what was not given, and leaves the table alone", function()
    local given = { size = 5 }
    assert.same({ size = 5, loud = false, name = "x" }, options_of(given))
    assert.same({ size = 5 }, given)
    assert.same({ size = 1, loud = false, name = "x" }, options_of())
    assert.is_true(options_of({ loud = true }).loud)
  end)

  it("options raises for unknown keys, wrong types and what is no table", function()
    raises('no option "sise" (is it size?)', options_of, { sise = 1 })
    raises('no option "nmae" (is it name?)', options_of, { nmae = 1 })
    raises('no option "speed" (there are: loud, name, size)', options_of, { speed = 1 })
    raises("no option 1 (there are: loud, name, size)", options_of, { "size" })
    local many = {}
    for letter in ("abcdefghij"):gmatch(".") do many[letter:rep(9)] = 1 end
    local message = raises('no option "speed"', function()
      check.options({ speed = 1 }, many, "thing")
    end)
    assert.no.matches("there are", message, 1, true)
    raises('"size" must be a number, got "5"', options_of, { size = "5" })
    raises('"loud" must be a boolean', options_of, { loud = 1 })
    raises("options must be a table", options_of, 5)
    raises("options must be a table", options_of, false)
  end)

  it("raise names the innermost line that is not neap's", function()
    local function mine() check.raise("wrong", 1) end
    local function around() mine() end
    raises("wrong", mine)
    local ok, err = pcall(around)
    assert.is_false(ok)
    assert.matches(":" .. debug.getinfo(mine, "S").linedefined .. ": wrong", err, 1, true)
  end)
end)
