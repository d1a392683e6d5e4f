--- Looking inside: who holds which memory, and all counters.

local helper = require("spec.helper")
local neap = require("neap")

-- The line behind the one that calls it, as a report shows it.
local function next_line()
  return "walk_spec%.lua:" .. debug.getinfo(2, "l").currentline + 1 .. " "
end

local function line_of(list, pattern)
  for _, entry in ipairs(list) do
    if entry.made_at:find(pattern) then return entry end
  end
end

describe("neap.pins", function()
  helper.watch(before_each, after_each)

  it("names who holds large bufs with small slices, and what detaching would free"
    .. " #neighbours", function()
    local pool, kept = neap.pool { min_size = 65536 }, {}
    local allocator = pool:allocator()
    local place
    for i = 1, 10 do
      local large = allocator:alloc(65536)
      place = next_line()
      kept[i] = large:split(10)
      large:release()
    end
    allocator:release()
    local fair = neap.copy("fair")
    local pins = neap.pins()
    local slivers = line_of(pins, place)
    assert.equal(pins[1], slivers)
    assert.equal(10, slivers.slices)
    assert.equal(100, slivers.bytes)
    assert.equal(655360, slivers.pinned)
    assert.equal(10 * (65536 - 64), slivers.freed)
    local held = pool:stats().bytes_live
    for i = 1, 10 do kept[i]:detach() end
    assert.equal(held - slivers.freed, pool:stats().bytes_live)
    slivers = line_of(neap.pins(), place)
    assert.equal(640, slivers.pinned)
    assert.equal(0, slivers.freed)
    for i = 1, 10 do kept[i]:release() end
    fair:release()
  end)

  it("shares a buf out among its slices, and frees nothing that another one holds"
    .. " #neighbours #sizes", function()
    local allocator = neap.pool():allocator()
    local place = next_line()
    local first, second = allocator:alloc(1000), allocator:alloc(1000)
    local pins = neap.pins()
    local entry = line_of(pins, place)
    assert.equal(2, entry.slices)
    assert.equal(2000, entry.bytes)
    assert.equal(16384, entry.pinned)
    assert.equal(0, entry.freed) -- the allocator has it, too
    allocator:release()
    entry = line_of(neap.pins(), place)
    assert.equal(16384 - 2 * 1024, entry.freed)
    first:release()
    second:release()
  end)

  it("counts what is not watched together, and a string of Lua as no memory of a pool", function()
    local level = neap.leaks_level("off")
    local s, foreign = neap.copy("x"), neap.slice(("x"):rep(100000))
    local entry = line_of(neap.pins(), "^%(not watched")
    neap.leaks_level(level)
    assert.is_true(entry.slices >= 2)
    assert.is_true(entry.pinned < 100000)
    s:release()
    foreign:release()
  end)
end)

describe("pool:walk", function()
  helper.watch(before_each, after_each)

  it("lists every live buf with its slices, in order, and who else holds it"
    .. " #neighbours #sizes", function()
    local pool = neap.pool()
    assert.same({}, pool:walk())
    local allocator = pool:allocator(8)
    local place = next_line()
    local first, second = allocator:alloc(10), allocator:alloc(20)
    local large = allocator:alloc(100000)
    local bufs = pool:walk()
    assert.equal(2, #bufs)
    table.sort(bufs, function(a, b) return a.bytes < b.bytes end)
    local buf = bufs[1]
    assert.equal(16384, buf.bytes)
    assert.equal(3, buf.holders)
    assert.equal(0, buf.unread)
    assert.equal(2, #buf.slices)
    local slice = buf.slices[1]
    assert.same({ 0, 8, 18 }, { slice.free, slice.base, slice.bound })
    assert.matches(place, slice.made_at)
    assert.is_false(slice.queued)
    assert.equal(18, buf.slices[2].free)
    assert.is_true(bufs[2].bytes >= 100008)
    assert.equal(1, bufs[2].holders)
    first:release()
    second:release()
    large:release()
    assert.equal(1, #pool:walk())
    assert.same({}, pool:walk()[1].slices)
    allocator:release()
    assert.same({}, pool:walk())
  end)

  it("shows the unread bytes of a reader, and what waits to be sent #sizes", function()
    local pool = neap.pool()
    local reader = neap.reader(pool, function() return ("x"):rep(1000) end)
    reader:read(10):release()
    local bufs = pool:walk()
    assert.equal(1, #bufs)
    assert.is_true(bufs[1].unread >= 990)
    assert.equal(1, bufs[1].holders)
    reader:close()
    local buffer = neap.buffer(pool):put("bytes")
    assert.is_false(pool:walk()[1].slices[1].queued)
    buffer:release()
    local conn, other = require("neap.testing").pair()
    local s = pool:allocator():copy(("y"):rep(10000))
    conn:write(s)
    assert.is_true(pool:walk()[1].slices[1].queued)
    conn:close()
    other:close()
  end)

  it("tells of thousands of bufs, and of as many slices #neighbours #sizes", function()
    local pool, kept = neap.pool(), {}
    local allocator = pool:allocator()
    for i = 1, 3000 do kept[i] = allocator:alloc(16384) end
    local bufs, count = pool:walk(), 0
    for _, buf in ipairs(bufs) do count = count + #buf.slices end
    assert.equal(3000, #bufs)
    assert.equal(3000, count)
    for i = 1, 3000, 2 do kept[i]:release() end
    assert.equal(1500 + 1, #pool:walk()) -- and the allocator's last one
    for i = 2, 3000, 2 do kept[i]:release() end
    allocator:release()
    assert.same({}, pool:walk())
    pool:trim()
    assert.same({}, pool:walk())
  end)

  it("agrees with the counters of payload and of what is pinned #neighbours #sizes", function()
    local pool = neap.pool()
    local allocator = pool:allocator(10)
    local s = allocator:alloc(100)
    local stats = pool:stats()
    assert.equal(100, stats.bytes_payload)
    assert.equal(16384 - 110, stats.bytes_pinned)
    local clone = s:retain()
    stats = pool:stats()
    assert.equal(200, stats.bytes_payload)
    assert.equal(16384 - 210, stats.bytes_pinned)
    s:truncate_front(60)
    assert.equal(140, pool:stats().bytes_payload)
    local whole = pool:allocator():alloc(16384)
    assert.equal(16384 - 210, pool:stats().bytes_pinned)
    whole:release()
    s:release()
    clone:release()
    stats = pool:stats()
    assert.equal(0, stats.bytes_payload)
    assert.equal(0, stats.bytes_pinned)
    allocator:release()
  end)

  it("refuses what is no pool", function()
    helper.refuses_self(neap.default_pool().walk, "pool:walk", helper.not_objects())
  end)
end)

describe("neap.stats", function()
  helper.watch(before_each, after_each)

  it("has the counters of pools, slices, tasks, connections, the collector and leaks"
    .. " #sizes", function()
    local before = neap.stats()
    local conn, other = require("neap.testing").pair()
    local waiting = neap.spawn(function() other:read(1):release() end)
    local kept = neap.copy("kept")
    helper.turn()
    local stats = neap.stats()
    assert.equal(before.slices.live + 1, stats.slices.live)
    assert.equal(before.connections.streams_live + 2, stats.connections.streams_live)
    assert.equal(before.tasks.waiting + 1, stats.tasks.waiting)
    assert.is_true(stats.pools.slices_made > before.pools.slices_made)
    assert.equal(stats.pools.bytes_held, stats.pools.bytes_free + stats.pools.bytes_live)
    assert.equal("number", type(stats.collector.steps))
    assert.equal("all", stats.leaks.level)
    assert.equal("number", type(stats.leaks.slices))
    assert.equal("table", type(stats.tasks.failed_outside))
    kept:release()
    conn:write("x")
    waiting:join()
    conn:close()
    other:close()
  end)
end)
