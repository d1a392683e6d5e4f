-- The echo server, with a look at how long Lua's collector keeps everything waiting: it makes the
-- collector's steps itself, one in each turn of the loop, and notes the CPU time that each of them
-- took. A step is the least that LuaJIT's collector does at once; those that it makes within
-- allocations are the same. On SIGTERM it prints what it has seen. Run by bench/pause.
local ffi = require("ffi")
local neap = require("neap")

ffi.cdef [[
struct pause_time { long seconds, nanoseconds; };
int clock_gettime(int clock, struct pause_time *time);
]]

local THREAD_CPUTIME = 3 -- CLOCK_THREAD_CPUTIME_ID
local GOAL_US = 1000
local CYCLES_MIN = 3
local time = ffi.new("struct pause_time")

local function now_us()
  ffi.C.clock_gettime(THREAD_CPUTIME, time)
  return tonumber(time.seconds) * 1e6 + tonumber(time.nanoseconds) / 1e3
end

local steps, cycles = {}, {} -- µs of each; µs of the longest step of each cycle
local longest = 0            -- of this cycle
local connections, most = 0, 0

local function step()
  local before = now_us()
  local ended = collectgarbage("step", 0)
  local spent = now_us() - before
  collectgarbage("stop") -- a step starts it again
  steps[#steps + 1], longest = spent, math.max(longest, spent)
  if ended then cycles[#cycles + 1], longest = longest, 0 end
end

local function quantile(list, q) return list[math.max(1, math.ceil(#list * q))] end

local function tell()
  if #cycles < CYCLES_MIN then
    print(("No figures: %d cycles of the collector ended, and that takes %d."):format(#cycles,
      CYCLES_MIN))
    os.exit(1)
  end
  table.sort(steps)
  table.sort(cycles)
  local most_us = steps[#steps]
  print("| connections | steps | p99 µs | p99.9 µs | cycles | longest of a cycle: median µs | "
    .. "90 % µs | longest of all µs |")
  print("|---:|---:|---:|---:|---:|---:|---:|---:|")
  print(("| %d | %d | %.1f | %.1f | %d | %.0f | %.0f | %.0f |"):format(most, #steps,
    quantile(steps, 0.99), quantile(steps, 0.999), #cycles, quantile(cycles, 0.5),
    quantile(cycles, 0.9), most_us))
  print(("\n- No pause above %d µs: %s (%.0f)."):format(GOAL_US,
    most_us <= GOAL_US and "met" or "not met", most_us))
  os.exit(0)
end

collectgarbage("stop")
neap.on_signal("TERM", tell)

local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
  connections = connections + 1
  most = math.max(most, connections)
  for chunk in conn:chunks() do conn:write(chunk) end
  connections = connections - 1
end))
print("listening on " .. listener.address)
io.stdout:flush()

while true do
  neap.sleep(0)
  if connections > 0 then step() end
end
