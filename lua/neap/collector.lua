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

--- What is done with the error of a finalizer, which would else come up in whoever is at work
--- when the collector runs.
function M.on_error(fn)
  failed = fn
end

--- Lets the collector work for a millisecond, or to the end of its cycle. In a finalizer it does
--- nothing: the collector is not running then.
function M.step()
  if not collectgarbage("isrunning") then return end
  C.neap_collector_begin()
  repeat
    local ok, ended = pcall(collectgarbage, "step", 0)
    if not ok then failed(ended) end
  until not C.neap_collector_goes_on(ok and ended)
end

local names = { "bytes_held", "bytes_base", "steps", "cycles", "spent_us", "longest_us" }

--- What hangs on handles of slices, buffers and allocators, and what Lua's collector has done
--- because of it: `bytes_held` now, and `bytes_base` when its last cycle ended; `steps`, the
--- `cycles` that they ended, `spent_us` (microseconds) in all, and `longest_us` in one.
--- @return table<string, number> counters as of now
function M.stats()
  local stats, result = stats_t(), {}
  C.neap_collector_stats(stats)
  for i = 1, #names do result[names[i]] = tonumber(stats[names[i]]) end
  return result
end

C.neap_collector_start()

return abi.keep("neap.collector", M)
