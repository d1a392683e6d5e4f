local helper = require("spec.helper")
local neap = require("neap")

local raises, info = helper.raises, helper.info

describe("an allocator", function()
  local pool

  before_each(function() pool = assert(neap.pool()) end)

  after_each(function()
    local stats = pool:stats()
    pool:close()
    assert.equal(0, stats.slices_live)
  end)

  helper.watch(before_each, after_each)

  it("A1 takes no buf before the first request", function()
    local allocator = pool:allocator(10)
    assert.equal(0, pool:stats().bufs_allocated)
    allocator:alloc(1):release()
    assert.equal(1, pool:stats().bufs_allocated)
    allocator:release()
  end)

  it("A2 takes its reserve with every slice, and refuses a sum that overflows"
    .. " #neighbours #sizes", function()
    local allocator = pool:allocator(100)
    local a, b = allocator:alloc(50), allocator:alloc(50)
    assert.equal(150, info(b).free)
    for _, n in ipairs { 2 ^ 30 - 99, 2 ^ 30, 2 ^ 32 - 100, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 53 } do
      assert.equal("oversized", select(3, allocator:alloc(n)))
    end
    assert.equal(2, pool:stats().slices_live)
    assert.equal(1, pool:stats().bufs_allocated)
    local c = allocator:alloc(50)
    assert.equal(300, info(c).free)
    a:release()
    b:release()
    c:release()
    allocator:release()
    local huge = pool:allocator(2 ^ 30)
    assert.equal("oversized", select(3, huge:alloc(1)))
    huge:release()
  end)

  it("A3 goes on to the next buf when a slice does not fit, and counts the waste"
    .. " #neighbours #sizes", function()
    local allocator = pool:allocator()
    local a = allocator:alloc(10000)
    local b = allocator:alloc(6000)
    local c = allocator:alloc(1000)
    assert.equal(10000, info(b).free)
    assert.equal(0, info(c).free)
    assert.equal(384, pool:stats().bytes_wasted)
    assert.equal(2, pool:stats().bufs_live)
    for _, slice in ipairs { a, b, c } do slice:release() end
    allocator:release()
  end)

  it("A3 gives a slice above half a buf one of its own, and keeps the current one"
    .. " #neighbours #sizes", function()
    local allocator = pool:allocator()
    local a = allocator:alloc(10000)
    local b = allocator:alloc(9000)
    local c = allocator:alloc(100)
    assert.equal(0, info(b).free)
    assert.equal(10000, info(c).free)
    assert.equal(10240 - 9000, pool:stats().bytes_wasted) -- the tail of b's own buf
    for _, slice in ipairs { a, b, c } do slice:release() end
    allocator:release()
  end)

  it("A4 puts each slice where the one before it ends #neighbours #sizes", function()
    local allocator, free = pool:allocator(7), 0
    local slices = {}
    for n = 0, 100 do
      local slice = allocator:alloc(n)
      local shape = info(slice)
      assert.equal(free, shape.free)
      assert.equal(free + 7, shape.base)
      assert.equal(free + 7 + n, shape.bound)
      free = shape.bound
      slices[#slices + 1] = slice
    end
    for _, slice in ipairs(slices) do slice:release() end
    allocator:release()
  end)

  it("A5 gives just its reserve back to expand_front", function()
    for _, n in ipairs { 50, 1000 } do
      for _, reserve in ipairs { 0, 10, 100 } do
        local allocator = pool:allocator(reserve)
        for _ = 1, 1000 do
          local slice = allocator:alloc(n)
          assert(not slice:expand_front(reserve + 1))
          assert(slice:expand_front(reserve))
          assert(#slice == n + reserve)
          slice:release()
        end
        allocator:release()
      end
    end
    assert.equal(6000, pool:stats().slices_released)
  end)

  it("A6 makes empty slices, also at the very end of a buf #neighbours #sizes", function()
    local allocator = pool:allocator()
    local first = allocator:alloc(0)
    local all = allocator:alloc(16384)
    local last = allocator:alloc(0)
    assert.equal(0, #first)
    assert.equal(16384, info(last).base)
    assert.equal("", last:str())
    assert.equal(1, pool:stats().bufs_allocated)
    for _, slice in ipairs { first, all, last } do slice:release() end
    allocator:release()
  end)

  it("A7 copies bytes of every size, whatever is in them", function()
    local allocator = pool:allocator(3)
    for _, bytes in ipairs { "", "\0", "\255\0\1", ("x"):rep(16384), helper.pattern(100000) } do
      local slice = assert(allocator:copy(bytes))
      assert.is_true(slice:equals(bytes))
      assert.is_true(slice:expand_front(3))
      slice:release()
    end
    allocator:release()
  end)

  it("A8 is closed after release, which may come twice", function()
    local allocator = pool:allocator()
    local slice = allocator:copy("stays")
    allocator:release()
    allocator:release()
    for _, fn in ipairs {
      function() return allocator:alloc(0) end,
      function() return allocator:copy("x") end,
    } do
      local made, message, name = fn()
      assert.is_nil(made)
      assert.equal("closed", name)
      assert.matches("allocator:", message)
    end
    assert.equal("stays", slice:str())
    slice:release()
    assert.equal(0, pool:stats().bufs_live)
  end)

  it("A8 is closed when its pool is", function()
    local allocator = pool:allocator()
    local slice = allocator:copy("stays")
    pool:close()
    assert.equal("closed", select(3, allocator:alloc(0)))
    assert.equal("closed", select(3, allocator:copy("x")))
    assert.equal("stays", slice:str())
    slice:release()
    allocator:release()
  end)

  it("gives its buf up when it is forgotten #neighbours #pace", function()
    local function forget() pool:allocator():alloc(1):release() end
    forget()
    assert.equal(1, pool:stats().bufs_live)
    collectgarbage()
    collectgarbage()
    assert.equal(0, pool:stats().bufs_live)
  end)

  it("passes on misuse at the caller's line and changes nothing", function()
    local allocator = pool:allocator()
    local others = helper.not_objects()
    others.n = others.n + 1
    others[others.n] = pool
    for _, name in ipairs { "alloc", "copy", "release" } do
      helper.refuses_self(allocator[name], "allocator:" .. name, others)
    end
    for _, bad in ipairs(helper.not_sizes) do
      raises("allocator:alloc: n", function() allocator:alloc(bad) end)
    end
    for _, bad in ipairs { 2 ^ 53 + 2, 1 / 0 } do
      raises("allocator:alloc: n", function() allocator:alloc(bad) end)
    end
    raises("allocator:alloc: n", function() allocator:alloc() end)
    for _, bad in ipairs { 1, {}, true, 1LL, io.stdout } do
      raises("allocator:copy: bytes", function() allocator:copy(bad) end)
      raises("neap.copy: bytes", function() neap.copy(bad) end)
    end
    raises("allocator:copy: bytes", function() allocator:copy() end)
    raises("neap.copy: bytes", function() neap.copy() end)
    raises("", function() allocator.gen = 1 end)
    raises("", function() return allocator + 1 end)
    assert.equal(0, pool:stats().slices_made)
    allocator:release()
  end)
end)
