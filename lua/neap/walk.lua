--- What is live, looked at: the bufs of a pool, and who holds large ones with small slices.

local ffi = require("ffi")
local abi = require("neap.abi")
local site = require("neap.site")
local slice = require("neap.slice")

local C = abi.C
local extents_t = ffi.typeof("struct neap_extent[?]")
local bufs_t = ffi.typeof("struct neap_live_buf[?]")
local SPARE = 64 -- rows more than there are now: the room itself may run the collector
local sort, max = table.sort, math.max

local M = {}

-- All live slices: C fills the room in one call, so nothing moves meanwhile.
local function extents()
  local count = C.neap_slices_walk(nil, 0)
  while true do
    local most = count + SPARE
    local room = extents_t(most)
    count = C.neap_slices_walk(room, most)
    if count <= most then return room, count end
  end
end

local function place_of(place)
  if place.deed == C.NEAP_DEED_NONE then return nil end
  return ffi.string(C.neap_deed_text(place.deed)) .. " at " .. (site.text(place.site) or "?")
end

--- @return table[] slices all live ones: slot, gen, buf, free, base, bound, made_at, last …
function M.slices()
  local room, count = extents()
  local list = {}
  for i = 0, count - 1 do
    local e = room[i]
    list[i + 1] = { slot = e.slot, gen = e.gen, buf = e.buf, free = e.free, base = e.base,
      bound = e.bound, buf_bytes = e.buf_bytes, holders = e.holders, detached = e.detached,
      made_at = site.text(e.born), last = place_of(e.last), queued = e.owned,
      read_only = e.read_only }
  end
  return list
end

local function by_buf(slices)
  local groups = {}
  for _, s in ipairs(slices) do
    groups[s.buf] = groups[s.buf] or {}
    table.insert(groups[s.buf], s)
  end
  return groups
end

local function bufs_of(slot, gen)
  local count = C.neap_pool_walk(slot, gen, nil, 0)
  while true do
    local most = max(count, 0) + SPARE
    local room = bufs_t(most)
    count = C.neap_pool_walk(slot, gen, room, most)
    if count <= most then return room, count end
  end
end

--- The live bufs of a pool: see Pool:walk.
function M.pool(slot, gen)
  local room, count = bufs_of(slot, gen)
  local slices = by_buf(M.slices())
  local list = {}
  for i = 0, count - 1 do
    local b, inside = room[i], {}
    for _, s in ipairs(b.buf ~= 0 and slices[b.buf] or {}) do
      inside[#inside + 1] = { free = s.free, base = s.base, bound = s.bound, made_at = s.made_at,
        last = s.last, queued = s.queued }
    end
    sort(inside, function(x, y) return x.free < y.free end)
    list[i + 1] = { bytes = b.bytes, holders = b.holders, slices = inside,
      unread = b.unread_to - b.unread_from }
  end
  return list
end

local UNKNOWN = "(not watched: see --leaks)"

-- What detaching all slices of a buf would free; 0 if something else holds it, too.
local function freed_of(group)
  local after = 0
  for _, s in ipairs(group) do
    if s.queued or s.detached == 0 then return 0 end
    after = after + s.detached
  end
  return #group == group[1].holders and max(0, group[1].buf_bytes - after) or 0
end

--- Who holds memory: all live slices with their share of the bufs that they keep from the pool,
--- by the line that made them, the most memory first. A buf is shared out evenly among its slices.
--- @return table[] pins of each line: made_at · slices · bytes (of the slices, prefixes included) ·
--- pinned (their share of the bufs) · freed (what the pool would have back if all slices of these
--- bufs were detached)
function M.pins()
  slice.settle()
  local lines, list = {}, {}
  for _, group in pairs(by_buf(M.slices())) do
    local share = not group[1].read_only and group[1].buf_bytes / #group or 0
    local freed = freed_of(group) / #group
    for _, s in ipairs(group) do
      local made_at = s.made_at or UNKNOWN
      local line = lines[made_at]
      if not line then
        line = { made_at = made_at, slices = 0, bytes = 0, pinned = 0, freed = 0 }
        lines[made_at], list[#list + 1] = line, line
      end
      line.slices, line.bytes = line.slices + 1, line.bytes + s.bound - s.free
      line.pinned, line.freed = line.pinned + share, line.freed + freed
    end
  end
  sort(list, function(a, b)
    if a.pinned ~= b.pinned then return a.pinned > b.pinned end
    return a.made_at < b.made_at
  end)
  return list
end

return abi.keep("neap.walk", M)
