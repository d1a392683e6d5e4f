-- experiment_arms: what the experiment runs, one arm in a process of its own. Run by ./neap.
--
--   ./neap bench/experiment_arms.lua NAME PART
--
-- PART is how much of the work is done, from 0 to 1. Prints a line for each moment that was looked
-- at, "at SECONDS RESIDENT IN_USE ALLOCATED" (bytes), and then "result NAME VALUE" for each figure.
-- No arm calls the collector itself.

local ffi = require("ffi")
local abi = require("neap.abi")
local neap = require("neap")

ffi.cdef [[
struct experiment_time { long seconds, nanoseconds; };
int clock_gettime(int clock, struct experiment_time *time);
void *malloc(size_t size);
void *realloc(void *p, size_t size);
void free(void *p);
int getpagesize(void);
]]

local MONOTONIC, THREAD_CPU = 1, 3
local KIB = 1024
local BODY_BYTES, BODIES = 30000, 400000
local LOOKS, UNEVEN = 100, 1597
local COMPARED = 50 -- bodies between two looks at the clock

local name, part = arg[1], tonumber(arg[2])

-- ---- looking ----

local time = ffi.new("struct experiment_time")

local function clock(which)
  ffi.C.clock_gettime(which, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local page = ffi.C.getpagesize()

local function resident()
  local file = assert(io.open("/proc/self/statm"))
  local pages = file:read("*a"):match("^%d+ (%d+)")
  file:close()
  return tonumber(pages) * page
end

local began = clock(MONOTONIC)
local peak, sum, looks, in_use_peak = 0, 0, 0, 0

local function look(in_use, allocated)
  local now = resident()
  peak, sum, looks = math.max(peak, now), sum + now, looks + 1
  in_use_peak = math.max(in_use_peak, in_use)
  print(("at %.4f %.0f %.0f %.0f"):format(clock(MONOTONIC) - began, now, in_use, allocated))
  return now
end

local function result(key, value) print(("result %s %.9g"):format(key, value)) end

local function results(of)
  result("resident_peak", peak)
  result("resident_mean", sum / looks)
  result("in_use_peak", in_use_peak)
  for key, value in pairs(of) do result(key, value) end
end

-- Figures of a pool and of the collector.
local function pool_results(pool, seconds)
  local stats, collector = pool:stats(), neap.collector_stats()
  return {
    allocated = stats.bytes_allocated, bufs_made = stats.bufs_allocated, in_use = stats.bytes_live,
    by_hand = stats.slices_released, by_collector = stats.slices_collected,
    collector_share = collector.spent_us / 1e6 / seconds,
  }
end

-- ---- bodies of 30,000 bytes, each put into a pooled buffer ----

local body = ("0123456789"):rep(BODY_BYTES / 10)

-- Runs `some(n)` until all bodies are done, and looks now and then.
local function bodies(some, state)
  local count = math.ceil(BODIES * part / LOOKS) * LOOKS
  local cpu, spent = clock(THREAD_CPU), 0
  look(state())
  local done = 0
  for i = 1, LOOKS do
    -- Not at even distances: that might always be at the same height of a saw.
    local early = i < LOOKS and i * UNEVEN % (count / LOOKS / 2) or 0
    local some_more = math.floor(i * count / LOOKS - early) - done
    local before = clock(MONOTONIC)
    some(some_more)
    spent = spent + clock(MONOTONIC) - before
    done = done + some_more
    look(state())
  end
  result("requests", count)
  result("time_us", spent / count * 1e6)
  result("cpu_us", (clock(THREAD_CPU) - cpu) / count * 1e6)
  return spent
end

-- neap's arms differ in what becomes of the slice.
local function neap_bodies(min_size, finish)
  return function()
    local pool = assert(neap.pool { min_size = min_size })
    local allocator = pool:allocator()
    local function state()
      local stats = pool:stats()
      return stats.bytes_live, stats.bytes_allocated
    end
    local spent = bodies(function(n)
      for _ = 1, n do finish(allocator:copy(body)) end
    end, state)
    results(pool_results(pool, spent))
  end
end

local function naive_bodies(get, put)
  return function()
    local made = 0
    local function fresh()
      made = made + BODY_BYTES
      return get()
    end
    local spent = bodies(function(n)
      for _ = 1, n do put(fresh) end
    end, function() return BODY_BYTES, made end)
    results { allocated = made, spent = spent }
  end
end

local arms = {}

arms.released = neap_bodies(BODY_BYTES, function(slice) slice:release() end)
arms.forgotten = neap_bodies(BODY_BYTES, function() end)
arms.detached = neap_bodies(64 * KIB, function(slice)
  slice:detach()
  slice:release()
end)

-- A pool as one writes it in a few lines: a list of buffers that grows.
do
  local free, count = {}, 0
  local function new() return ffi.new("uint8_t[?]", BODY_BYTES) end
  arms.naive_released = naive_bodies(new, function(fresh)
    local buffer = free[count]
    if buffer then count = count - 1 else buffer = fresh() end
    ffi.copy(buffer, body, BODY_BYTES)
    count = count + 1
    free[count] = buffer
  end)
  arms.naive_forgotten = naive_bodies(new, function(fresh)
    ffi.copy(fresh(), body, BODY_BYTES)
  end)
end

-- ---- released against memcpy, in turns in one process ----

function arms.compare()
  local pool = assert(neap.pool { min_size = BODY_BYTES })
  local allocator = pool:allocator()
  -- The same memory for both: how far two places are apart decides how fast a copy is.
  local first = allocator:copy(body)
  local room = ffi.cast("uint8_t *", abi.C.neap_slice_bytes(first.slot, first.gen))
  first:release()
  local function copies(n)
    for _ = 1, n do ffi.copy(room, body, BODY_BYTES) end
  end
  local function released(n)
    for _ = 1, n do allocator:copy(body):release() end
  end
  local buffer = neap.buffer(pool)
  local function buffered(n)
    for _ = 1, n do
      buffer:put(body)
      buffer:reset()
    end
  end
  local function spent(run)
    local before = clock(THREAD_CPU)
    run(COMPARED)
    return (clock(THREAD_CPU) - before) / COMPARED * 1e9
  end
  -- In each round all of them, beside one another: the machine is as fast for one as for the other.
  -- Each comes behind each other one as often, and the copy is held against itself, too.
  local ways = { copies, copies, released, buffered }
  local took = { {}, {}, {}, {} }
  local rounds = math.ceil(20000 * part)
  for i = 1, rounds do
    local step = i % 2 == 0 and 1 or 3 -- forwards, or backwards
    for k = 0, 3 do
      local way = (i + k * step) % 4 + 1
      took[way][i] = spent(ways[way])
    end
  end
  local function over_memcpy(way)
    local list = {}
    for i = 1, rounds do list[i] = took[way][i] / took[1][i] end
    return list
  end
  local function median(list)
    table.sort(list)
    return list[math.ceil(#list / 2)]
  end
  look(0, 0)
  assert(pool:stats().bufs_allocated == 2, "each has the same buf all the time")
  results { again = median(over_memcpy(2)), released = median(over_memcpy(3)),
    buffer = median(over_memcpy(4)), memcpy_ns = median(took[1]) }
end

-- ---- the other traps: a minute of a server's life, made short ----

local AFTER_S = 7 -- how long is looked at what comes afterwards

-- Small work goes on, and is looked at, for a while.
local function afterwards(seconds, small, state)
  local over = clock(MONOTONIC) + seconds
  while clock(MONOTONIC) < over do
    small()
    neap.sleep(0.05)
    look(state())
  end
end

local function neap_state(pool)
  return function()
    local stats = pool:stats()
    return stats.bytes_live, stats.bytes_allocated
  end
end

-- A naive pool's buffers, in memory that no collector moves.
local naive = { held = 0, made = 0, all = {} }
function naive.get(size)
  naive.held, naive.made = naive.held + size, naive.made + size
  local p = ffi.C.malloc(size)
  naive.all[#naive.all + 1] = p
  return p
end
function naive.state() return naive.held, naive.made end

local function touch(p, size)
  for at = 0, size - 1, 4096 do ffi.cast("uint8_t *", p)[at] = 1 end
end

local LARGE = 100e6
local small = ("s"):rep(1000)

function arms.grown()
  local pool = assert(neap.pool())
  local buffer, state = neap.buffer(pool), neap_state(pool)
  local piece = ("x"):rep(1e6)
  look(state())
  for i = 1, math.ceil(LARGE * part / #piece) do
    buffer:put(piece)
    if i % 10 == 0 then look(state()) end
  end
  buffer:reset()
  afterwards(AFTER_S * part + 0.2, function()
    for _ = 1, 100 do
      buffer:put(small)
      buffer:reset()
    end
  end, state)
  result("resident_end", look(state()))
  results { in_use = pool:stats().bytes_live }
end

function arms.naive_grown()
  local size, p = 4096, ffi.C.malloc(4096)
  local function state() return size, size end
  look(state())
  local used, want = 0, LARGE * part
  while used < want do
    used = used + 1e6
    while size < used do size = size * 2 end
    p = ffi.C.realloc(p, size)
    touch(ffi.cast("uint8_t *", p) + used - 1e6, 1e6)
    if used % 1e7 == 0 then look(state()) end
  end
  afterwards(AFTER_S * part + 0.2, function()
    for _ = 1, 100 do ffi.copy(p, small) end
  end, state)
  result("resident_end", look(state()))
  results { in_use = size }
  ffi.C.free(p)
end

local MESSAGES, MESSAGE_BYTES = 20000, 512

function arms.missized()
  local pool = assert(neap.pool())
  local allocator, kept = pool:allocator(), {}
  look(0, 0)
  for i = 1, MESSAGES * part do
    kept[i] = allocator:copy(small:sub(1, MESSAGE_BYTES))
    if i % 500 == 0 then look(neap_state(pool)()) end
  end
  result("resident_end", look(neap_state(pool)()))
  results { in_use = pool:stats().bytes_live, asked = #kept * MESSAGE_BYTES }
end

function arms.naive_missized()
  local count = MESSAGES * part
  look(0, 0)
  for i = 1, count do
    touch(naive.get(4096), 4096)
    if i % 500 == 0 then look(naive.state()) end
  end
  result("resident_end", look(naive.state()))
  results { in_use = naive.held, asked = count * MESSAGE_BYTES }
end

-- What a server does all the time.
local function turns()
  for _ = 1, 20 do neap.sleep(0) end
end

local SLIVERS, SLIVER_BYTES, READ_BYTES = 3000, 10, 64 * KIB

function arms.slivers()
  local pool = assert(neap.pool { min_size = READ_BYTES })
  local kept, state = {}, neap_state(pool)
  local text = ("r"):rep(READ_BYTES)
  look(state())
  for i = 1, SLIVERS * part do
    local allocator = pool:allocator()
    local read = allocator:copy(text)
    allocator:release()
    kept[i] = read:split(SLIVER_BYTES)
    read:release()
    if i % 10 == 0 then neap.sleep(0) end
    if i % 50 == 0 then look(state()) end
  end
  afterwards(2 * part + 0.2, turns, state)
  local stats = pool:stats()
  result("resident_end", look(state()))
  results { in_use = stats.bytes_live, asked = #kept * SLIVER_BYTES, moved = stats.slices_detached }
end

function arms.naive_slivers()
  look(0, 0)
  for i = 1, SLIVERS * part do
    touch(naive.get(READ_BYTES), READ_BYTES)
    if i % 10 == 0 then neap.sleep(0) end
    if i % 50 == 0 then look(naive.state()) end
  end
  afterwards(2 * part + 0.2, turns, naive.state)
  result("resident_end", look(naive.state()))
  results { in_use = naive.held, asked = math.floor(SLIVERS * part) * SLIVER_BYTES }
end

local BURST, BURST_BYTES = 10000, 64 * KIB

function arms.burst()
  local pool = assert(neap.pool())
  local state, slices = neap_state(pool), {}
  look(state())
  for i = 1, BURST * part do
    local allocator = pool:allocator()
    slices[i] = allocator:alloc(BURST_BYTES)
    for at = 0, BURST_BYTES - 1, 4096 do slices[i]:set_u8(at, 1) end
    allocator:release()
    if i % 500 == 0 then look(state()) end
  end
  for i = 1, #slices do slices[i]:release() end
  slices = {}
  afterwards(AFTER_S * part + 0.2, function() assert(#slices == 0) end, state)
  result("resident_end", look(state()))
  results { in_use = pool:stats().bytes_held }
end

function arms.naive_burst()
  local free = {}
  look(naive.state())
  for i = 1, BURST * part do
    free[i] = naive.get(BURST_BYTES)
    touch(free[i], BURST_BYTES)
    if i % 500 == 0 then look(naive.state()) end
  end
  naive.held = 0 -- all are put back, and kept
  afterwards(AFTER_S * part + 0.2, function() assert(#free > 0) end, naive.state)
  result("resident_end", look(naive.state()))
  results { in_use = #free * BURST_BYTES }
end

assert(arms[name], "no such arm: " .. tostring(name))()
for _, p in ipairs(naive.all) do ffi.C.free(p) end
