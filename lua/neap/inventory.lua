--- What is open and live in this process, and what of it is new: for specs.

local ffi = require("ffi")
local abi = require("neap.abi")
local slice = require("neap.slice")
local task = require("neap.task")
local walk = require("neap.walk")

local C = abi.C
local loop = task.loop
local M = {}

local slice_stats = ffi.new("struct neap_slice_stats")
local handle = ffi.new("struct neap_handle")
local room = ffi.new("char[?]", C.NEAP_ADDRESS_BYTES)

local started = 0 -- tasks so far
local tasks = setmetatable({}, { __mode = "k" })

task.on_start(function(made)
  started = started + 1
  tasks[made] = started
end)

--- How many tasks there have been.
function M.tasks_started()
  return started
end

local function streams(list)
  local found = C.neap_stream_next(0, handle)
  while found > 0 do
    local slot, gen = handle.slot, handle.gen
    C.neap_stream_peer(slot, gen, room)
    list[("stream %d:%d"):format(slot, gen)] = "a connection with " .. ffi.string(room)
      .. (found == 2 and ", which is closing" or "")
    found = C.neap_stream_next(slot + 1, handle)
  end
end

local function listeners(list)
  local slot = 0
  while C.neap_listener_next(slot, handle) > 0 do
    slot = handle.slot
    C.neap_listener_address(slot, handle.gen, room)
    list[("listener %d:%d"):format(slot, handle.gen)] = "a listener on " .. ffi.string(room)
    slot = slot + 1
  end
end

local function descriptors(list)
  local lfs, numbers = require("lfs"), {}
  for number in lfs.dir("/proc/self/fd") do numbers[#numbers + 1] = number end
  for _, number in ipairs(numbers) do
    local target = lfs.symlinkattributes("/proc/self/fd/" .. number, "target")
    if target then
      list["descriptor " .. number .. " " .. target] = ("descriptor %s, which is %s"):format(number,
        target)
    end
  end
end

local function waiting_tasks(list)
  for waiting, number in pairs(tasks) do
    local where = waiting ~= task.running() and task.whereabouts(waiting)
    if where then list["task " .. number] = where end
  end
end

--- What there is besides slices, by a name that nothing else will have.
--- @return table<string, string> things what each is, for people
function M.things()
  local list = {}
  streams(list)
  listeners(list)
  descriptors(list)
  waiting_tasks(list)
  return list
end

local function slices()
  slice.reclaim()
  C.neap_slice_stats(slice_stats)
  local live = tonumber(slice_stats.live)
  return live, live > 0 and C.neap_slices_bytes() or 0
end

--- What there is now.
--- @return table taken for `left_since`
function M.take()
  local live, bytes = slices()
  local known = {}
  for _, s in ipairs(live > 0 and walk.slices() or {}) do known[s.slot] = s.gen end
  return { things = M.things(), slices = live, bytes = bytes, known = known }
end

-- The lines that made the slices that were not there before, and how many each, in order.
local function makers(before)
  local counts, lines = {}, {}
  for _, s in ipairs(walk.slices()) do
    if before.known[s.slot] ~= s.gen and s.made_at then
      counts[s.made_at] = (counts[s.made_at] or 0) + 1
    end
  end
  for made_at, count in pairs(counts) do
    lines[#lines + 1] = ("\n  %d made at %s"):format(count, made_at)
  end
  table.sort(lines)
  return table.concat(lines)
end

local function slices_left(before)
  local live, bytes = slices()
  if live > before.slices then
    local count = live - before.slices
    return ("%d slice%s with %d bytes"):format(count, count == 1 and "" or "s",
      math.max(0, bytes - before.bytes)) .. makers(before)
  elseif live < before.slices then
    return ("%d slices fewer than before"):format(before.slices - live)
  end
end

-- Lines that tell what is there and was not before, or nil.
local function new_since(before)
  local left = { slices_left(before) }
  for name, what in pairs(M.things()) do
    if not before.things[name] then left[#left + 1] = what end
  end
  if #left == 0 then return nil end
  table.sort(left)
  return table.concat(left, "\n")
end

--- What is still there and was not before. Connections may still be closing, and the tasks that
--- served them ending: they have some time. What was forgotten is not to be collected meanwhile.
--- @param before table what `take` gave
--- @param seconds number how long they have
--- @return string|nil left a line for each thing
function M.left_since(before, seconds)
  collectgarbage("stop")
  local left = new_since(before)
  local pause, give_up = 0.001, C.neap_loop_now(loop) + seconds
  while left and C.neap_loop_now(loop) < give_up do
    task.sleep(pause)
    pause = math.min(0.05, pause * 1.2)
    left = new_since(before)
  end
  collectgarbage("restart")
  return left
end

return abi.keep("neap.inventory", M)
