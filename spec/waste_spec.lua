--- What memory is wasted on: sizes that fit badly, bursts, large messages, slivers.

local helper = require("spec.helper")
local neap = require("neap")
local abi = require("neap.abi")

local KIB, MIB = 1024, 1048576

-- 1 - asked / held, of slices of these sizes in turns.
local function waste(sizes, count)
  local pool = assert(neap.pool())
  local allocator, slices, asked = pool:allocator(), {}, 0
  for i = 1, count do
    local size = sizes[(i - 1) % #sizes + 1]
    slices[i] = assert(allocator:alloc(size))
    asked = asked + size
  end
  local result = 1 - asked / pool:stats().bytes_held
  for i = 1, count do slices[i]:release() end
  allocator:release()
  pool:close()
  return result
end

describe("sizes that fit badly", function()
  helper.watch(before_each, after_each)

  it("W4 waste at most a tenth where 100, 100 and 4,000 bytes are asked for in turns", function()
    local wasted = waste({ 100, 100, 4000 }, 3000)
    assert.is_true(wasted <= 0.10, wasted)
  end)

  it("W4 waste at most a fifth, whatever the size is, from 256 bytes up #pace", function()
    assert.is_true(waste({ 2100 }, 3000) <= 0.20)
    for size = 256, 40000, 97 do
      local wasted = waste({ size }, size < 17000 and 1000 or 100)
      assert.is_true(wasted <= 0.20, size .. ": " .. wasted)
    end
    for _, size in ipairs { 8210, 16400, 32769, 65537, 262145, MIB + 1, 3 * MIB + 1 } do
      local wasted = waste({ size }, size < 70000 and 1000 or 30)
      assert.is_true(wasted <= 0.20, size .. ": " .. wasted)
    end
  end)
end)

local sanitized = helper.stock_environment():find("LD_PRELOAD", 1, true)

-- Resident memory of this process, in bytes.
local function resident()
  local file = assert(io.open("/proc/self/status"))
  local kib = file:read("*a"):match("VmRSS:%s*(%d+) kB")
  file:close()
  return tonumber(kib) * KIB
end

describe("a burst", function()
  helper.watch(before_each, after_each)

  -- Whether all was given back.
  local function burst()
    local pool = assert(neap.pool())
    local steady = pool:allocator():alloc(100)
    collectgarbage() -- the allocator
    local before, slices = pool:stats().bytes_held, {}
    local resident_before = resident()
    for i = 1, 10000 do
      local allocator = pool:allocator()
      slices[i] = allocator:alloc(64 * KIB)
      slices[i]:set_u8(0, 1)
      for at = 0, 64 * KIB - 4096, 4096 do slices[i]:set_u8(at, 1) end
      allocator:release()
    end
    assert.is_true(pool:stats().bytes_held >= 10000 * 64 * KIB)
    assert.is_true(resident() > resident_before + 600 * MIB)
    for i = 1, 10000 do slices[i]:release() end
    neap.sleep(4.9)
    local stats = pool:stats()
    collectgarbage()
    local more = resident() - resident_before
    steady:release()
    pool:close()
    assert.is_true(stats.dropped_decay > 0)
    assert.is_true(stats.dropped_cap > 0)
    return stats.bytes_held <= 2 * before + MIB
      -- 10,000 handles of Lua among them; a sanitizer's notes about this memory stay
      and (sanitized or more <= 2 * before + 16 * MIB), ("held %d, %d more"):format(
        stats.bytes_held, more)
  end

  it("W1 of 10,000 × 64 KiB is given back within 5 s, a millisecond at a time"
    .. " #neighbours #sizes", function()
    local given_back, what
    for _ = 1, 3 do -- in 5 s of a machine that does much else there may be too few milliseconds
      given_back, what = burst()
      if given_back then break end
    end
    assert.truthy(given_back, what)
  end)
end)

-- Moves the pool's own clock, which nothing else reads, by whole windows.
local function windows(pool, count, use)
  pool.windows = pool.windows or 0
  for _ = 1, count do
    if use then use() end
    pool.windows = pool.windows + 1
    abi.C.neap_pool_decay(pool.handle.slot, pool.handle.gen, pool.windows * 1000, 2 ^ 50)
  end
end

local function use(handle, size, times)
  for _ = 1, times or 1 do
    local allocator = handle:allocator()
    assert(allocator:alloc(size)):release()
    allocator:release()
  end
end

describe("calibration #pace", function()
  helper.watch(before_each, after_each)

  it("W2 W5 keeps large bufs where most bytes come in them, however rare they are"
    .. " #neighbours #sizes", function()
    local pool = { handle = assert(neap.pool()) }
    assert.equal(MIB, pool.handle:settings().keep_largest)
    local function traffic()
      use(pool.handle, 100, 96)
      use(pool.handle, 5 * MIB, 4) -- 4 % of the calls, 93 % of the bytes
    end
    windows(pool, 4, traffic)
    assert.equal(8 * MIB, pool.handle:settings().keep_largest)
    local before = pool.handle:stats()
    traffic()
    local after = pool.handle:stats()
    assert.equal(before.dropped_large, after.dropped_large)
    assert.is_true(after.bytes_allocated - before.bytes_allocated < MIB)
    pool.handle:close()
  end)

  it("W2 W5 drops them, and counts why, where they are few of the bytes, and once they are gone"
    .. " #neighbours #sizes",
    function()
      local pool = { handle = assert(neap.pool()) }
      windows(pool, 6, function()
        use(pool.handle, 16384, 2000)
        use(pool.handle, 1200000, 1) -- 3.5 % of the bytes
      end)
      assert.equal(MIB, pool.handle:settings().keep_largest)
      assert.equal(6, pool.handle:stats().dropped_large)
      windows(pool, 4, function() use(pool.handle, 2 * MIB, 10) end)
      assert.equal(2 * MIB, pool.handle:settings().keep_largest)
      windows(pool, 12, function() use(pool.handle, 16384, 2000) end)
      assert.equal(MIB, pool.handle:settings().keep_largest)
      pool.handle:close()
    end)

  it("W5 keeps no buf above a fourth of what it may keep", function()
    local pool = { handle = assert(neap.pool { retain = 20 * MIB }) }
    windows(pool, 4, function() use(pool.handle, 30 * MIB, 2) end)
    assert.equal(5 * MIB, pool.handle:settings().keep_largest)
    assert.equal(8, pool.handle:stats().dropped_large)
    pool.handle:close()
  end)

  local function swing(pool)
    for _ = 1, 3 do
      local slices = {}
      for i = 1, 20 do
        local allocator = pool.handle:allocator()
        slices[i] = assert(allocator:alloc(MIB))
        allocator:release()
      end
      for i = 1, 20 do slices[i]:release() end
    end
  end

  it("W5 raises the cap where what it drops is made again at once, and lowers it after"
    .. " #neighbours", function()
    local pool = { handle = assert(neap.pool { retain = 8 * MIB }) }
    windows(pool, 2, function() swing(pool) end)
    assert.equal(20 * MIB, pool.handle:settings().retain_now)
    local before = pool.handle:stats()
    swing(pool)
    assert.equal(before.bufs_allocated, pool.handle:stats().bufs_allocated)
    windows(pool, 6)
    assert.equal(8 * MIB, pool.handle:settings().retain_now)
    assert.equal(0, pool.handle:stats().bytes_held)
    pool.handle:close()
  end)

  it("W5 can be switched off: then nothing follows the traffic", function()
    local pool = { handle = assert(neap.pool { retain = 8 * MIB, calibrate = false }) }
    windows(pool, 4, function()
      swing(pool)
      use(pool.handle, 2 * MIB, 10)
    end)
    assert.equal(8 * MIB, pool.handle:settings().retain_now)
    assert.equal(MIB, pool.handle:settings().keep_largest)
    pool.handle:close()
  end)
end)

describe("slivers", function()
  helper.watch(before_each, after_each)

  -- Ten bytes of each of `count` bufs of 64 KiB; a turn of the loop for each hundred.
  local function keep_slivers(pool, count)
    local kept = {}
    for i = 1, count do
      local allocator = pool:allocator()
      local whole = assert(allocator:alloc(65000))
      allocator:release()
      whole:truncate_front(1000)
      whole:set_u32be(0, i)
      kept[i] = whole:split(10)
      whole:release()
      kept[i]:free_entire_prefix()
      if i % 100 == 0 then neap.sleep(0) end
    end
    return kept
  end

  it("W3 hold at most 8 times what they are, once they were left alone for some turns"
    .. " #sizes", function()
    local pool = assert(neap.pool { min_size = 64 * KIB })
    local allocator, kept = pool:allocator(), {}
    for i = 1, 2000 do
      local whole = assert(allocator:alloc(65000))
      whole:set_u32be(0, i)
      kept[i] = whole:split(10)
      whole:release()
      if i % 100 == 0 then neap.sleep(0) end
    end
    allocator:release()
    local stats = pool:stats()
    local turns = 0 -- a turn looks at 4,096 of all the slots that ever were in use
    while stats.bytes_live > 8 * stats.bytes_referenced and turns < 3000 do
      neap.sleep(0)
      stats, turns = pool:stats(), turns + 1
    end
    assert.equal(2000 * 10, stats.bytes_referenced)
    assert.is_true(stats.bytes_live <= 8 * stats.bytes_referenced, stats.bytes_live)
    -- some move twice on a slow machine; of those that did not, two bufs fit what may be held
    assert.is_true(stats.slices_detached >= 1998, stats.slices_detached)
    for i = 1, 2000 do
      assert.equal(i, kept[i]:u32be(0))
      assert.equal(10, #kept[i])
      kept[i]:release()
    end
    pool:close()
  end)

  -- A look at all of them takes 255 turns here, which is how far a slice once counted.
  it("W3 move however many slots there are #neighbours #sizes #pace", function()
    local run = helper.script([[
      local neap = require("neap")
      local allocator, all = assert(neap.pool()):allocator(), {}
      for i = 1, 255 * 4096 - 200 do all[i] = allocator:alloc(1) end
      for i = 1, #all do all[i]:release() end
      local pool = assert(neap.pool { min_size = 65536 })
      local other, kept = pool:allocator(), {}
      for i = 1, 200 do
        local whole = other:alloc(65000)
        kept[i] = whole:split(10)
        whole:release()
      end
      other:release()
      for _ = 1, 4000 do neap.sleep(0) end
      print(pool:stats().slices_detached)]], "--leaks=off")
    assert.is_true(tonumber(run.out) >= 200, run.out) -- on a slow machine some move twice
  end)

  it("S11 are moved with their prefixes, and with what they say #sizes", function()
    local pool = assert(neap.pool { min_size = 64 * KIB })
    local kept = keep_slivers(pool, 500)
    local stats = pool:stats()
    helper.turn_until(function()
      stats = pool:stats()
      return stats.bytes_live <= 4 * stats.bytes_referenced
    end)
    assert.is_true(stats.slices_detached >= 470, stats.slices_detached) -- the others' bufs are 2 MB
    for i = 1, 500 do
      assert.equal(i, kept[i]:u32be(0))
      assert.is_true(kept[i]:expand_front(1000))
      assert.is_false(kept[i]:expand_front(1))
      kept[i]:release()
    end
    pool:close()
  end)

  it("S11 stay where a script has them in hand, and where it was said so #sizes", function()
    local pool = assert(neap.pool { min_size = 64 * KIB, detach_after = 0 })
    local kept = keep_slivers(pool, 200)
    for _ = 1, 300 do neap.sleep(0) end
    assert.equal(0, pool:stats().slices_detached)
    assert.is_true(pool:configure { detach_after = 8 })
    for _ = 1, 100 do
      for i = 1, 200 do assert.equal(i, kept[i]:u32be(0)) end
      neap.sleep(0)
    end
    assert.equal(0, pool:stats().slices_detached)
    for _ = 1, 100 do neap.sleep(0) end
    assert.is_true(pool:stats().slices_detached >= 200)
    for i = 1, 200 do kept[i]:release() end
    pool:close()
  end)

  it("S4 C2 are neighbours for as long as the script does not wait", function()
    local pool = assert(neap.pool { min_size = 64 * KIB, detach_after = 1 })
    local kept = keep_slivers(pool, 300)
    for i = 1, 300 do
      local rest = kept[i]
      local front = rest:split(4)
      assert.same({ front }, neap.coalesce({ front, rest }, 10))
      assert.equal(i, front:u32be(0))
      front:release()
    end
    pool:close()
  end)
end)
