--- What a function takes of memory, and whether LuaJIT compiles it: for specs.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local leaks = require("neap.leaks")

local C = abi.C
local M = {}

local WARM_UP, CALLS, TRIES = 300, 200, 5
local ABORTS_AT_MOST = 5 -- of one place: LuaJIT gives up on it after about ten
local pool_stats = ffi.new("struct neap_pool_stats")

local function check_function(fn, what)
  if type(fn) ~= "function" then check.raise(what .. ": needs a function, got " .. type(fn)) end
end

local function bytes_of_bufs()
  C.neap_pools_stats(pool_stats)
  return tonumber(pool_stats.bytes_allocated)
end

-- Bytes of so many calls.
local function bytes_of(fn, count)
  collectgarbage()
  collectgarbage("stop")
  local bufs, before = bytes_of_bufs(), collectgarbage("count")
  for _ = 1, count do fn() end
  local lua_bytes = (collectgarbage("count") - before) * 1024
  collectgarbage("restart")
  return lua_bytes + bytes_of_bufs() - bufs
end

-- Bytes for each call: twice as many calls less once as many, since the first one may be made in
-- the interpreter. What LuaJIT takes for a trace is not the function's: the least of a few tries.
local function allocated_by(fn)
  for _ = 1, WARM_UP do fn() end
  local least = math.huge
  for _ = 1, TRIES do
    local once = bytes_of(fn, CALLS)
    least = math.min(least, (bytes_of(fn, 2 * CALLS) - once) / CALLS)
  end
  return math.max(0, least)
end

local function unwatched(measure, ...)
  local level = leaks.level("off")
  local ok, result = pcall(measure, ...)
  leaks.level(level)
  if not ok then error(result, 0) end
  return result
end

--- Raises if a function takes more memory than it may: bytes of Lua, and of bufs that no pool had
--- free, in each call once it is compiled. It is called some 3,300 times, and with busted it is
--- `assert.allocates(0, fn)`, too. A table that nobody sees takes none: LuaJIT does without it.
--- @param bytes number that one call may take; 0: none
--- @param fn function what is measured; it may wait
--- @return number bytes that one call took
function M.allocates(bytes, fn)
  check.whole(bytes, 0x1p53, "testing.allocates: bytes")
  check_function(fn, "testing.allocates")
  local taken = unwatched(allocated_by, fn)
  if taken > bytes then
    check.raise(("testing.allocates: a call takes %.1f bytes, and may take %g"):format(taken,
      bytes))
  end
  return taken
end

-- Why a trace was given up, and where.
local function reason_of(func, pc, code, detail)
  local util, vmdef = require("jit.util"), require("jit.vmdef")
  local text = type(code) == "number" and vmdef.traceerr[code] or tostring(code)
  if type(detail) == "number" and text:find("bytecode") then
    detail = vmdef.bcnames:sub(detail * 6 + 1, detail * 6 + 6):gsub(" ", "")
  end
  text = text:gsub("%%[ds]", (tostring(detail):gsub("%%", "%%%%")))
  return (util.funcinfo(func, pc).loc or "?") .. ": " .. text
end

-- Calls it and tells from where LuaJIT tried in vain to compile, how often in a row, and why the
-- last time; false if it compiled nothing. A trace that is given up is no fault if the next one
-- from the same place is compiled: what it ran into may have been rare.
local function compile(fn, calls)
  local compiled, tried, from = false, {}, "" -- where the trace began
  local function watch(what, _, func, pc, code, detail)
    if what == "start" then
      from = tostring(func) .. pc
    elseif what == "stop" then
      compiled = true
      tried[from] = nil
    elseif what == "abort" then
      local times = tried[from] and tried[from].times or 0
      tried[from] = { times = times + 1, reason = reason_of(func, pc, code, detail) }
    end
  end
  jit.flush()
  jit.attach(watch, "trace")
  local ok, err = pcall(function() for _ = 1, calls do fn() end end)
  jit.attach(watch)
  if not ok then error(err, 0) end
  return compiled and tried
end

--- Raises if LuaJIT does not compile a function that is called often: nothing of it, or not some
--- place that it tries again and again. With busted it is `assert.compiles(fn)`, too. What LuaJIT
--- goes around, as it does around string.gsub, is no fault: `neap -jv` tells of that as a stitch.
--- @param fn function what is measured; it may wait
--- @param calls? integer of it (300)
function M.compiles(fn, calls)
  check_function(fn, "testing.compiles")
  calls = check.whole(calls or WARM_UP, 0x1p53, "testing.compiles: calls")
  if not jit.status() then check.raise("testing.compiles: the JIT compiler is off") end
  local tried = unwatched(compile, fn, calls)
  if not tried then check.raise("testing.compiles: nothing was compiled") end
  local places = {}
  for _, place in pairs(tried) do
    if place.times > ABORTS_AT_MOST then places[#places + 1] = "\n  " .. place.reason end
  end
  table.sort(places)
  if #places > 0 then
    check.raise("testing.compiles: LuaJIT gives up at" .. table.concat(places))
  end
end

return abi.keep("neap.cost", M)
