-- growth: how the cost of an operation grows with what is there already. Run by ./neap.
--
--     ./neap bench/growth.lua slices|bufs|timers COUNT
--
-- prints name, count, ns of an operation: the least of some rounds, CPU time of the thread. Each
-- count is a process of its own.
--   slices  a slice of 64 bytes allocated and released, while COUNT others live
--   bufs    a buf taken and given back, while COUNT are free
--   timers  neap.after and cancel, while COUNT others are pending; and (turns) one turn of the
--           loop, with a sleep(0) in it
local ffi = require("ffi")
local neap = require("neap")

ffi.cdef [[
struct growth_time { long seconds, nanoseconds; };
int clock_gettime(int clock, struct growth_time *time);
]]

local THREAD_CPUTIME = 3 -- CLOCK_THREAD_CPUTIME_ID
local ROUNDS = 20
local BUF_BYTES = 16384
local time = ffi.new("struct growth_time")

local function now_ns()
  ffi.C.clock_gettime(THREAD_CPUTIME, time)
  return tonumber(time.seconds) * 1e9 + tonumber(time.nanoseconds)
end

local function tell(name, count, operations, run)
  local least = math.huge
  run(operations) -- compiles it
  collectgarbage()
  for _ = 1, ROUNDS do
    local before = now_ns()
    run(operations)
    least = math.min(least, (now_ns() - before) / operations)
  end
  print(("%s\t%d\t%.2f"):format(name, count, least))
end

local function allocated(allocator, count, bytes)
  local list = {}
  for i = 1, count do list[i] = assert(allocator:alloc(bytes)) end
  return list
end

local measures = {}

function measures.slices(count)
  local allocator = neap.default_pool():allocator()
  local live = allocated(allocator, count, 64)
  tell("slices", count, 200000, function(n)
    for _ = 1, n do allocator:alloc(64):release() end
  end)
  return live
end

function measures.bufs(count)
  local pool = assert(neap.pool({ min_size = BUF_BYTES, retain = 2 ^ 30 }))
  local allocator = pool:allocator()
  for _, slice in ipairs(allocated(allocator, count + 1, BUF_BYTES)) do slice:release() end
  local free = pool:stats().bytes_free / BUF_BYTES -- the allocator keeps one
  tell("bufs", free, 200000, function(n)
    for _ = 1, n do allocator:alloc(BUF_BYTES):release() end
  end)
  return pool
end

local function nothing() end

function measures.timers(count)
  local pending = {}
  for i = 1, count do pending[i] = neap.after(3600 + i / 1000, nothing) end
  tell("timers", count, 20000, function(n)
    for _ = 1, n do neap.after(3600, nothing):cancel() end
  end)
  tell("turns", count, 20000, function(n)
    for _ = 1, n do neap.sleep(0) end
  end)
  return pending
end

local kept = measures[arg[1]](tonumber(arg[2]))
io.stdout:flush()
os.exit(kept ~= false) -- without waiting for the timers
