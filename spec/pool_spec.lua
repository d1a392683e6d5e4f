local ffi = require("ffi")
local helper = require("spec.helper")
local neap = require("neap")
local C = require("neap.abi").C

ffi.cdef [[
int pthread_create(unsigned long *thread, const void *attributes, void *(*start)(void *), void *);
int pthread_join(unsigned long thread, void **result);
]]

local raises = helper.raises

describe("a pool", function()
  helper.watch(before_each, after_each)

  -- The capacity of the buf that a request of n bytes gets from a pool made with `options`.
  local function capacity(options, n)
    local pool = assert(neap.pool(options))
    local allocator = pool:allocator()
    local slice = assert(allocator:alloc(n))
    local bytes = helper.info(slice).buf_bytes
    slice:release()
    allocator:release()
    pool:close()
    return bytes
  end

  it("P1 has bufs of 16384 bytes unless told otherwise #neighbours #sizes", function()
    assert.equal(16384, capacity(nil, 0))
    assert.equal(16384, capacity({}, 1))
    assert.equal(16384, capacity({ min_size = 0 }, 16384))
    assert.equal(512, capacity({ min_size = 512 }, 1))
  end)

  it("P2 rounds a request up to the minimum's multiples #neighbours", function()
    local options = { min_size = 8, classes = false }
    for asked, given in pairs { [0] = 8, 8, 8, 8, 8, 8, 8, 8, 8, 16, [16] = 16, [17] = 24 } do
      assert.equal(given, capacity(options, asked))
    end
  end)

  it("P2 wastes at most a fifth of a buf with size classes #neighbours", function()
    for _, n in ipairs { 64, 65, 100, 1000, 4000, 4097, 30000, 100001, 1048576 } do
      local given = capacity({ min_size = 1 }, n)
      assert.is_true(given >= n)
      assert.is_true(n / given >= 0.8, n .. " bytes got " .. given)
    end
    assert.equal(80, capacity({ min_size = 1 }, 65))
    assert.equal(65, capacity({ min_size = 1, classes = false }, 65))
  end)

  it("P2 refuses more than 1 GiB before it takes any memory", function()
    local pool = assert(neap.pool())
    local allocator = pool:allocator()
    for _, n in ipairs { 2 ^ 30 + 1, 2 ^ 31, 2 ^ 32 - 1, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 } do
      local slice, message, name = allocator:alloc(n)
      assert.is_nil(slice)
      assert.equal("oversized", name)
      assert.matches("alloc", message)
    end
    assert.equal(0, pool:stats().bytes_allocated)
    allocator:release()
    pool:close()
  end)

  it("P3 gives the smallest free buf that is large enough #neighbours #sizes", function()
    local pool = assert(neap.pool { min_size = 64 })
    local allocator = pool:allocator()
    local large, small = allocator:alloc(32768), allocator:alloc(1024)
    allocator:release()
    large:release()
    small:release()
    assert.equal(2, pool:stats().bufs_free)
    allocator = pool:allocator()
    local again = allocator:alloc(1000)
    assert.equal(1024, helper.info(again).buf_bytes)
    assert.equal(1, pool:stats().bufs_reused)
    again:release()
    allocator:release()
    pool:close()
  end)

  it("P4 counts the bufs ever made, and a reuse is none #neighbours", function()
    local pool = assert(neap.pool())
    for i = 1, 10 do
      local allocator = pool:allocator()
      local slice = allocator:alloc(100)
      allocator:release()
      slice:release()
      local stats = pool:stats()
      assert.equal(1, stats.bufs_allocated)
      assert.equal(i - 1, stats.bufs_reused)
      assert.equal(1, stats.bufs_free)
      assert.equal(0, stats.bufs_live)
    end
    pool:close()
  end)

  it("P5 keeps no more free bytes than it may #neighbours", function()
    local pool = assert(neap.pool { retain = 65536 })
    local slices = {}
    for i = 1, 20 do
      local allocator = pool:allocator()
      slices[i] = allocator:alloc(16384)
      allocator:release()
    end
    for _, slice in ipairs(slices) do slice:release() end
    local stats = pool:stats()
    assert.equal(65536, stats.bytes_free)
    assert.equal(65536, stats.bytes_held)
    assert.equal(16, stats.dropped_cap)
    pool:close()
  end)

  it("P6 refuses requests once it is closed, and its slices stay", function()
    local pool = assert(neap.pool())
    local allocator = pool:allocator()
    local slice = allocator:copy("still here")
    pool:close()
    pool:close()
    for _, fn in ipairs {
      function() return allocator:alloc(1) end,
      function() return allocator:copy("x") end,
      function() return pool:allocator() end,
    } do
      local made, message, name = fn()
      assert.is_nil(made)
      assert.equal("closed", name)
      assert.is_string(message)
    end
    assert.equal("still here", slice:str())
    assert.equal(1, pool:stats().slices_live)
    slice:release()
    allocator:release()
    local stats = pool:stats()
    assert.equal(0, stats.slices_live)
    assert.equal(0, stats.bytes_held)
    assert.equal(0, stats.bufs_live)
  end)

  it("P6 stays open for its allocator when its handle is forgotten", function()
    local function allocator_of_a_forgotten_pool() return neap.pool():allocator() end
    local allocator = allocator_of_a_forgotten_pool()
    collectgarbage()
    collectgarbage()
    local slice = assert(allocator:copy("works"))
    assert.equal("works", slice:str())
    allocator:release()
    assert.equal("closed", select(3, allocator:alloc(1)))
    assert.equal("works", slice:str())
    slice:release()
  end)

  it("P7 never holds a byte more than its limit", function()
    local pool = assert(neap.pool { limit = 65536 })
    local slices = {}
    for i = 1, 4 do
      local allocator = pool:allocator()
      slices[i] = assert(allocator:alloc(16384))
      allocator:release()
    end
    local allocator = pool:allocator()
    local more, message, name = allocator:alloc(1)
    assert.is_nil(more)
    assert.equal("limit", name)
    assert.matches("limit", message)
    assert.equal(65536, pool:stats().bytes_held)
    assert.equal(1, pool:stats().limit_hits)
    table.remove(slices):release()
    slices[4] = assert(allocator:alloc(1))
    for _, slice in ipairs(slices) do slice:release() end
    allocator:release()
    pool:close()
  end)

  it("P7 gives free bufs of other sizes up when its limit is reached", function()
    local pool = assert(neap.pool { limit = 65536 })
    local allocator = pool:allocator()
    local small = allocator:alloc(16384)
    allocator:release()
    small:release()
    allocator = pool:allocator()
    local large = assert(allocator:alloc(65536))
    assert.equal(65536, pool:stats().bytes_held)
    large:release()
    allocator:release()
    pool:close()
  end)

  it("B4 overwrites recycled bufs when told to #neighbours", function()
    local pool = assert(neap.pool { poison = true })
    local allocator = pool:allocator()
    local slice = allocator:copy("a secret")
    allocator:release()
    slice:release()
    allocator = pool:allocator()
    local again = allocator:alloc(8)
    assert.equal(1, pool:stats().bufs_reused)
    assert.equal(("\xdb"):rep(8), again:str())
    again:release()
    allocator:release()
    pool:close()
  end)

  it("gives its free bytes back on request #neighbours #sizes", function()
    local pool = assert(neap.pool())
    local allocator = pool:allocator()
    allocator:alloc(5):release()
    assert.equal(0, pool:trim())
    allocator:release()
    assert.equal(16384, pool:trim())
    assert.equal(0, pool:stats().bytes_held)
    assert.equal(0, pool:trim())
    pool:close()
  end)

  it("describes itself", function()
    local pool = assert(neap.pool())
    assert.equal("pool (0 bufs and 0 slices live, 0 bytes held)", tostring(pool))
    pool:close()
  end)

  it("passes on misuse at the caller's line", function()
    local pool = assert(neap.pool())
    local slice = neap.copy("x")
    local others = helper.not_objects()
    others.n = others.n + 1
    others[others.n] = slice
    for _, name in ipairs { "close", "trim", "stats", "allocator" } do
      helper.refuses_self(pool[name], "pool:" .. name, others)
    end
    for _, bad in ipairs { 2 ^ 30 + 1, 2 ^ 32, 2 ^ 32 + 5, 2 ^ 53 + 2, 1 / 0, "1", -1, 1.5, 0 / 0,
      {}, true } do
      raises("pool:allocator: reserve", function() pool:allocator(bad) end)
    end
    raises("neap.pool: ", function() neap.pool(1) end)
    raises("neap.pool: ", function() neap.pool("x") end)
    raises("mni_size", function() neap.pool { mni_size = 1 } end)
    raises("", function() neap.pool { 1 } end)
    for _, name in ipairs { "min_size", "limit", "retain" } do
      for _, bad in ipairs { "1", -1, 1.5, 0 / 0, 1 / 0, -1 / 0, 2 ^ 54, {}, true, 1LL } do
        raises("neap.pool: ", function() neap.pool { [name] = bad } end)
      end
    end
    raises("neap.pool: ", function() neap.pool { min_size = 2 ^ 30 + 1 } end)
    raises("neap.pool: ", function() neap.pool { classes = 1 } end)
    raises("", function() pool.slot = 1 end)
    raises("", function() return pool + 1 end)
    raises("", function() return pool .. "" end)
    assert.is_false(pool == nil)
    assert.is_false(pool == slice)
    slice:release()
    pool:close()
  end)

  it("counts the strings that are made out of its bytes", function()
    local pool = assert(neap.pool())
    local allocator = pool:allocator()
    local slice = allocator:copy("0123456789")
    assert.equal("456", slice:str(5, 7))
    assert.equal("0123456789", slice:str())
    assert.equal(2, pool:stats().strings_made)
    assert.equal(10, #slice) -- these make none
    assert.is_true(slice:equals("0123456789"))
    assert.equal(48, slice:u8(0))
    assert.equal(2, pool:stats().strings_made)
    slice:release()
    allocator:release()
    pool:close()
  end)

  -- A script cannot do that: a library with threads can, to which it gave a slice.
  it("P8 counts what another thread released", function()
    local pool = assert(neap.pool())
    local allocator = pool:allocator()
    local slice = allocator:copy("given away")
    local thread = ffi.new("unsigned long[1]")
    local release = ffi.cast("void *(*)(void *)", C.neap_slice_finalize)
    local handle = ffi.new("struct neap_handle", slice.slot, slice.gen)
    assert.equal(0, ffi.C.pthread_create(thread, nil, release, handle))
    assert.equal(0, ffi.C.pthread_join(thread[0], nil))
    local stats = pool:stats()
    assert.equal(1, stats.slices_returned)
    assert.equal(1, stats.slices_released)
    assert.equal(0, stats.slices_live)
    raises("slice:str: ", function() slice:str() end)
    allocator:release()
    pool:close()
  end)
end)
