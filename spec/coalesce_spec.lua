local helper = require("spec.helper")
local neap = require("neap")

local raises, info = helper.raises, helper.info

describe("coalesce", function()
  helper.watch(before_each, after_each)

  local pool, allocator

  before_each(function()
    pool = assert(neap.pool())
    allocator = pool:allocator()
  end)

  after_each(function()
    allocator:release()
    assert.equal(0, pool:stats().slices_live)
    pool:close()
  end)

  local function copies(...)
    local list = {}
    for i = 1, select("#", ...) do list[i] = assert(allocator:copy((select(i, ...)))) end
    return list
  end

  -- What the slices of a list hold; they are released.
  local function texts(list)
    local result = {}
    for i, slice in ipairs(list) do
      result[i] = slice:str()
      slice:release()
    end
    return result
  end

  it("C1 gives a list of none or one back as it is", function()
    local empty, one = {}, copies("text")
    local slice = one[1]
    assert.is_true(rawequal(empty, neap.coalesce(empty, 100)))
    assert.same({}, empty)
    assert.is_true(rawequal(one, neap.coalesce(one, 100)))
    assert.is_true(rawequal(slice, one[1]))
    assert.same({ "text" }, texts(one))
  end)

  it("C2 merges neighbours from the left, up to max_size #neighbours #sizes", function()
    local list = copies("0123", "4567", "89ab", "cdef", "ghij")
    assert.is_true(rawequal(list, neap.coalesce(list, 8)))
    assert.equal(3, #list)
    assert.equal(2, pool:stats().slices_taken)
    assert.same({ "01234567", "89abcdef", "ghij" }, texts(list))
    for _, max_size in ipairs { 12, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
      assert.same({ "aaaabbbbcccc" },
        texts(neap.coalesce(copies("aaaa", "bbbb", "cccc"), max_size)))
    end
  end)

  it("C2 merges 1000 slices of 1024 bytes into 250, in place #neighbours #sizes", function()
    local list = {}
    for i = 1, 1000 do list[i] = allocator:copy(("%04d"):format(i):rep(256)) end
    local bytes = pool:stats().bytes_allocated
    neap.coalesce(list, 4096)
    assert.equal(250, #list)
    assert.equal(bytes, pool:stats().bytes_allocated)
    for i, text in ipairs(texts(list)) do
      for k = 0, 3 do
        local part = text:sub(1024 * k + 1, 1024 * k + 1024)
        assert.equal(("%04d"):format(4 * i - 3 + k):rep(256), part)
      end
    end
  end)

  it("C3 keeps slices apart until the second covers its reserve #neighbours", function()
    local roomy = pool:allocator(3)
    local list = { roomy:copy("aaaa"), roomy:copy("bbbb") }
    assert.equal(2, #neap.coalesce(list, 100))
    list[2]:expand_front(2)
    assert.equal(2, #neap.coalesce(list, 100))
    list[2]:expand_front(1)
    list[2]:copy_from("xyz")
    assert.same({ "aaaaxyzbbbb" }, texts(neap.coalesce(list, 100)))
    roomy:release()
  end)

  it("C4 merges nothing that does not touch in this order, and nothing up to 0", function()
    local other = pool:allocator()
    other:copy("____"):release()
    local a, b, c = unpack(copies("aaaa", "bbbb", "cccc"))
    local empty, nothing = unpack(copies("", ""))
    local elsewhere, outside = other:copy("dddd"), neap.slice("eeee")
    local back = neap.slice("ffff")
    local front = back:split(2)
    local apart = { { b, a }, { a, c }, { a, elsewhere }, { c, outside }, { front, back } }
    for _, list in ipairs(apart) do
      assert.equal(2, #neap.coalesce(list, 100))
    end
    for _, max_size in ipairs { 0, 3, 7 } do
      assert.equal(2, #neap.coalesce({ a, b }, max_size)) -- 3: each is above it, and stays
    end
    assert.equal(2, #neap.coalesce({ empty, nothing }, 0))
    assert.same({ "aaaa", "bbbb", "cccc", "", "", "dddd", "eeee", "ff", "ff" },
      texts { a, b, c, empty, nothing, elsewhere, outside, front, back })
    other:release()
  end)

  it("C5 takes list.n slices, and brings n up to date #neighbours", function()
    local list = copies("aa", "bb", "cc", "dd")
    list.n = 3
    neap.coalesce(list, 100)
    assert.equal(1, list.n)
    assert.is_nil(list[2])
    assert.is_nil(list[3])
    assert.same({ "aabbcc" }, texts(list))
    assert.equal("dd", list[4]:str())
    list[4]:release()
    raises("element 1", function() neap.coalesce({ n = 1 }, 100) end)
  end)

  it("C5 looks at every element before it takes any #neighbours", function()
    local a, b, stale = unpack(copies("aa", "bb", "stale"))
    stale:release()
    local before = pool:stats()
    for _, bad in ipairs { 1, "text", {}, pool, stale, a, false } do
      raises("element 3", function() neap.coalesce({ a, b, bad }, 100) end)
      raises("element 3", function() neap.coalesce({ b, a, bad or nil, n = 3 }, 100) end)
    end
    raises("element 1", function() neap.coalesce({ stale, a, b }, 100) end)
    raises("element 2", function() neap.coalesce({ a, nil, b, n = 3 }, 100) end)
    assert.same(before, pool:stats())
    assert.same({ "aabb" }, texts(neap.coalesce({ a, b }, 100)))
  end)

  it("C5 raises for what is no list, no length and no size", function()
    local list = copies("aa", "bb")
    for _, bad in ipairs { 1, "list", true, list[1] } do
      raises("neap.coalesce: list", function() neap.coalesce(bad, 100) end)
    end
    raises("neap.coalesce: list", function() neap.coalesce() end)
    for _, bad in ipairs(helper.not_sizes) do
      raises("neap.coalesce: max_size", function() neap.coalesce(list, bad) end)
      local wrong = { n = bad }
      raises("neap.coalesce: length", function() neap.coalesce(wrong, 100) end)
    end
    assert.equal(0, info(list[1]).free)
    assert.same({ "aa", "bb" }, texts(list))
  end)
end)

describe("a slice of a string", function()
  helper.watch(before_each, after_each)

  it("S7 shows its bytes, never merges and never expands", function()
    local back = neap.slice("a static text")
    assert.equal("a static text", back:str())
    back:truncate_front(2)
    assert.is_false(back:expand_front(1))
    raises("slice:free_entire_prefix: ", function() back:free_entire_prefix() end)
    local front = back:split(6)
    assert.is_false(back:release_previous(front))
    assert.is_false(back:expand_front(1))
    assert.equal(" text", back:str())
    back:release()
  end)

  -- Kilobytes that Lua holds, but for strings whose last slice is gone.
  local function held()
    neap.slice(""):release()
    collectgarbage()
    collectgarbage()
    return collectgarbage("count")
  end

  -- A slice of a string that nothing else refers to.
  local function slice_of(byte, n)
    local slice = neap.slice(byte:rep(n))
    return slice
  end

  it("S7 keeps the string alive until it is released", function()
    local before = held()
    local slice = slice_of("x", 2 ^ 23)
    assert.is_true(held() - before > 8000)
    assert.equal("xxxx", slice:str(-4))
    slice:release()
  end)

  it("S13 lets the string go with its last owner", function()
    local before = held()
    local slice = slice_of("y", 2 ^ 23)
    local front, clone = slice:split(5), slice:retain()
    slice:release()
    clone:release()
    assert.is_true(held() - before > 8000)
    assert.equal("yyyyy", front:str())
    front:release()
    assert.is_true(held() - before < 1000)
  end)

  it("S13 can be read and not written", function()
    local slice = neap.slice("0123456789")
    local clone = slice:retain()
    for _, s in ipairs { slice, clone } do
      raises("slice:set_u8: ", function() s:set_u8(0, 1) end)
      raises("slice:set_u64be: ", function() s:set_u64be(0, 1) end)
      raises("slice:copy_from: ", function() s:copy_from("x") end)
      assert.equal("0123456789", s:str())
      s:release()
    end
  end)
end)
