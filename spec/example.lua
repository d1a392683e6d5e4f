--- Examples, run in a process of their own that tells its counters.
---
---     local server = example.start("echo", { "tcp://127.0.0.1:0" })
---     … neap.connect(server.address) …
---     server:finish()    -- has left nothing behind, and ended in order

local helper = require("spec.helper")
local lfs = require("lfs")
local neap = require("neap")

local SETTLE_S = tonumber(os.getenv("SETTLE_S")) or 20 -- closing connections are gone after it

-- Beside the example, in the same process, somebody answers each line with the counters.
local script = [[
local neap = require("neap")
local C, ffi = require("neap.abi").C, require("ffi")
local net = ffi.new("struct neap_net_stats")
local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
  for _ in conn:lines() do
    collectgarbage()
    collectgarbage()
    local pool = neap.default_pool():stats()
    C.neap_net_stats(net)
    conn:write(("slices=%d bufs=%d forgotten=%d connections=%d\n"):format(pool.slices_live,
      pool.bufs_live, pool.slices_collected + tonumber(net.closed_forgotten),
      tonumber(net.streams_live)))
  end
end))
print(listener.address)
assert(loadfile(table.remove(arg, 1)))(unpack(arg))
]]

local Example = {}
Example.__index = Example

local function descriptors(pid)
  local count = 0
  for _ in lfs.dir("/proc/" .. pid .. "/fd") do count = count + 1 end
  return count
end

--- What lives in the process: slices, bufs, connections, descriptors; and forgotten slices
--- and connections so far.
function Example:counters()
  assert(self.control:write("?\n"))
  local line = assert(self.control:read_line())
  local counters = { descriptors = descriptors(self.child.pid) }
  for name, value in line:str():gmatch("(%a+)=(%d+)") do counters[name] = tonumber(value) end
  line:release()
  return counters
end

--- Resident memory of the process, in bytes.
function Example:resident()
  local file = assert(io.open("/proc/" .. self.child.pid .. "/status"))
  local kib = file:read("*a"):match("VmRSS:%s*(%d+) kB")
  file:close()
  return tonumber(kib) * 1024
end

local function difference(now, before)
  for name, count in pairs(before) do
    if now[name] ~= count then
      return ("%s: %d at the start, %d now"):format(name, count, now[name])
    end
  end
end

--- Waits until the process holds no more than at its start; its connections may still be
--- closing. Returns what is still different when that takes too long.
function Example:left_behind()
  local give_up = os.time() + SETTLE_S
  local left
  repeat
    left = difference(self:counters(), self.before)
  until not left or os.time() > give_up
  return left
end

--- Starts examples/<name>.lua. @param seconds? number that it may run, 100
--- @param before? string commands of the shell
function Example.start(name, arguments, seconds, before)
  local self = setmetatable({}, Example)
  self.child = helper.start(("sh -c \"%s exec %s %s examples/%s.lua %s\""):format(before or "",
    helper.neap, helper.file(script), name, table.concat(arguments, " ")), seconds)
  local control = self.child:line()
  local line = self.child:line() or self.child:finish().err
  self.address = assert(line:match("^listening on (tcp://%S+)$"), line)
  self.line = self.child:line() -- the second one
  self.control = assert(neap.connect(control))
  self.before = self:counters()
  return self
end

--- Ends it; raises if it has left something behind or does not end in order. Returns what it
--- said on stderr.
function Example:finish()
  local left = self:left_behind()
  self.control:close()
  self.child:kill("TERM")
  local run = self.child:finish()
  if left then error(left, 2) end
  if run.status ~= 0 then error(("it ended with status %d: %s"):format(run.status, run.err), 2) end
  return run.err
end

return Example
