--- All counters of the process, as tables by name.

local ffi = require("ffi")
local abi = require("neap.abi")
local collector = require("neap.collector")
local leaks = require("neap.leaks")
local task = require("neap.task")

local C = abi.C
local M = {}

--- Reads a struct of counters, whose fields the header names.
local function reader_of(struct_name, fill)
  local names = {}
  for name in ffi.string(C.neap_header()):match("struct " .. struct_name .. " (%b{})")
    :gmatch("uint64_t ([%w_]+);") do
    names[#names + 1] = name
  end
  local stats = ffi.new("struct " .. struct_name)
  return function()
    fill(stats)
    local result = {}
    for _, name in ipairs(names) do result[name] = tonumber(stats[name]) end
    return result
  end
end

local pools = reader_of("neap_pool_stats", C.neap_pools_stats)
local slices = reader_of("neap_slice_stats", C.neap_slice_stats)
local connections = reader_of("neap_net_stats", C.neap_net_stats)

local function tasks()
  local waiting, ready = task.counts()
  local failed, outside = task.failures()
  local copy = {}
  for name, count in pairs(outside) do copy[name] = count end
  return { waiting = waiting, ready = ready, failed = failed, failed_outside = copy }
end

--- All counters of the process.
--- @return table stats pools: the sums of what `pool:stats()` has, over all of them, those that
--- have ended included · slices: live, double_releases, stale_uses · tasks: waiting, ready, failed
--- (in an error of their own), failed_outside (by name, in one of the outside world) · connections:
--- accepted, connected, streams_live, read_bytes … (`struct neap_net_stats` in src/neap.h) ·
--- collector: as `neap.collector_stats()` · leaks: level, and slices, bytes, pinned, watched of
--- what was forgotten, live and missed of what is watched. `--stats` prints those of pools, slices,
--- connections, collector and leaks by the same names
function M.stats()
  local forgotten = leaks.totals() -- the first: it may end slices
  return { pools = pools(), slices = slices(), tasks = tasks(), connections = connections(),
    collector = collector.stats(), leaks = forgotten }
end

return abi.keep("neap.stats", M)
