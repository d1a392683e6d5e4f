--- neap: network protocols in Lua, at the speed of C.
---
---     local neap = require("neap")
---     assert(neap.listen("tcp://127.0.0.1:7000", function(conn)
---       for chunk in conn:chunks() do conn:write(chunk) end
---     end))
---     neap.run() -- in a stock luajit; the neap command runs the loop by itself

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local buffer = require("neap.buffer")
local channel = require("neap.channel")
local collector = require("neap.collector")
local guard = require("neap.guard")
local leaks = require("neap.leaks")
local log = require("neap.log")
local net = require("neap.net")
local pool = require("neap.pool")
local process = require("neap.process")
local profile = require("neap.profile")
local reader = require("neap.reader")
local scope = require("neap.scope")
local serve = require("neap.serve")
local slice = require("neap.slice")
local stats = require("neap.stats")
local task = require("neap.task")
local timer = require("neap.timer")
local walk = require("neap.walk")

--- What `require "neap"` gives.
--- @class neap
--- @field version string such as "0.1.0"
local M = {
  version = ffi.string(abi.C.neap_version()),
  listen = net.listen,
  serve = serve.serve,
  connect = net.connect,
  pool = pool.new,
  default_pool = pool.default,
  buffer = buffer.new,
  reader = reader.new,
  slice = slice.of_string,
  coalesce = slice.coalesce,
  collector_stats = collector.stats,
  stats = stats.stats,
  leaks = leaks.leaks,
  leaks_level = leaks.level,
  pins = walk.pins,
  profile = profile.write,
  run = task.run,
  stop = task.stop,
  spawn = task.spawn,
  wrap = task.wrap,
  sleep = task.sleep,
  scope = scope.scope,
  deadline = timer.deadline,
  after = timer.after,
  every = timer.every,
  channel = channel.new,
  select = channel.select,
  on_signal = task.on_signal,
  guard = guard.guard,
  log = log,
  drop_privileges = process.drop_privileges,
}

local copier

--- A slice on the default pool that holds the bytes of a string.
--- own: returns owned
--- err: "limit", "memory", "oversized" (above 1 GiB)
--- @param bytes string what the slice shall hold
--- @return neap.Slice|nil slice, string? message, string? name
function M.copy(bytes)
  check.string(bytes, "neap.copy: bytes")
  if not copier then
    local made, message, name = pool.default():allocator()
    if not made then return nil, message, name end
    copier = made
  end
  return copier:copy(bytes)
end

return abi.keep("neap", M)
