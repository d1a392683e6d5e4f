--- Lua's collector, made to work for the bytes that it cannot see.
---
--- A forgotten slice is a few bytes to it, whatever hangs on them. C counts those bytes and tells
--- when a step is due (src/iobuf/collector.h); it is taken here, and ends after a millisecond. Who
--- has stopped the collector is left alone.

local ffi = require("ffi")
local abi = require("neap.abi")

local C = abi.C
local stats_t = ffi.typeof("struct neap_collector_stats")
local collectgarbage, pcall = collectgarbage, pcall

local M = {}

local failed = function() end
local finish = function() return true end
local finishing = false -- the collector's cycle has ended, and finish() has not done all
local trace -- --gc-trace: begin() before a step, finish() after it

--- What is done with the error of a finalizer, which would else come up in whoever is at work
--- when the collector runs.
function M.on_error(fn)
  failed = fn
end

--- What is to be done at the end of a cycle, before it counts as ended; it returns true when there
--- is no more to do.
function M.on_cycle(fn)
  finish = fn
end

--- Lets the collector work for a millisecond, or to the end of its cycle. In a finalizer it does
--- nothing: the collector is not running then.
function M.step()
  if not collectgarbage("isrunning") then return end
  if trace then trace.begin() end
  C.neap_collector_begin()
  repeat
    local ok, done = true, true
    if not finishing then ok, done = pcall(collectgarbage, "step", 0) end
    if not ok then failed(done) end
    local ended = ok and done and finish()
    finishing = ok and done and not ended
  until not C.neap_collector_goes_on(ended)
  if trace then trace.finish() end
end

local names = { "bytes_held", "bytes_base", "steps", "cycles", "spent_us", "longest_us",
  "finalizers" }

--- What hangs on handles of slices, buffers and allocators, and what Lua's collector has done
--- because of it: `bytes_held` now, and `bytes_base` when its last cycle ended; `steps`, the
--- `cycles` that they ended, `spent_us` (microseconds) in all, and `longest_us` in one; and the
--- `finalizers` of handles that it has run.
--- @return table<string, number> counters as of now
function M.stats()
  local stats, result = stats_t(), {}
  C.neap_collector_stats(stats)
  for i = 1, #names do result[names[i]] = tonumber(stats[names[i]]) end
  return result
end

-- ---- --gc-trace ----

local BY_ITSELF = "by Lua itself, not timed"
local LINE = "gc %d: lua %.0f -> %.0f, handles %.0f -> %.0f bytes, %.0f finalizers, %s\n"

-- Something that is garbage at once: its finalizer runs once in each cycle, after those of what is
-- younger. It puts the next one there.
local function each_cycle(fn)
  local function arm()
    ffi.gc(stats_t(), function()
      arm()
      fn()
    end)
  end
  arm()
end

local function lua_bytes() return collectgarbage("count") * 1024 end

--- Writes a line for each cycle of the collector to standard error: the bytes of Lua's own memory
--- before and after, those that hang on handles before and after, how many finalizers of handles
--- ran, and the milliseconds of the steps that neap took for it. `before` is what was there when
--- neap took the first of these; of a cycle without such steps, what was there after the last.
--- What Lua does by itself, as it allocates, cannot be timed: a cycle that it ended says so.
function M.trace()
  if trace then return end
  local now = M.stats()
  local count, stepping, ended = 0, false, false
  local lua, handles, finalizers = lua_bytes(), now.bytes_held, now.finalizers
  local steps, spent_us, cycles = now.steps, now.spent_us, now.cycles

  local function time_of(stats, by_itself)
    local taken = stats.steps - steps
    local text = ("%.3f ms in %d step%s"):format((stats.spent_us - spent_us) / 1000, taken,
      taken == 1 and "" or "s")
    if not by_itself then return text end
    return taken == 0 and BY_ITSELF or text .. ", ended " .. BY_ITSELF
  end

  local function tell(by_itself)
    local stats, bytes = M.stats(), lua_bytes()
    count = count + 1
    local text = LINE:format(count, lua, bytes, handles, stats.bytes_held,
      stats.finalizers - finalizers, time_of(stats, by_itself))
    C.neap_log_write(text, #text)
    lua, handles, finalizers = bytes, stats.bytes_held, stats.finalizers
    steps, spent_us, ended = stats.steps, stats.spent_us, false
  end

  trace = {
    begin = function()
      stepping = true
      local stats = M.stats()
      if stats.steps == steps then lua, handles = lua_bytes(), stats.bytes_held end
    end,
    finish = function()
      stepping = false
      local now_cycles = M.stats().cycles
      if ended and now_cycles > cycles then tell() end -- else finalizers are left to run
      cycles = now_cycles
    end,
  }
  each_cycle(function()
    if not trace then return end
    if ended or not stepping then tell(true) end -- who ran the finalizers of the one before?
    ended = stepping
  end)
end

--- What ends after this is no cycle, but Lua.
function M.end_trace() trace = nil end

C.neap_collector_start()

return abi.keep("neap.collector", M)
