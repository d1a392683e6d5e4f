--- A memory profile, as `go tool pprof` and what else reads its format show it.
---
--- The format is profile.proto of github.com/google/pprof: here a message is a list of fields, each
--- a key and a varint, or a key, a length and bytes. It need not be compressed.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local site = require("neap.site")
local slice = require("neap.slice")

local C = abi.C
local char, concat, floor = string.char, table.concat, math.floor

local M = {}

-- ---- protocol buffers ----

local function varint(n)
  local bytes = {}
  while n >= 128 do
    bytes[#bytes + 1] = char(n % 128 + 128)
    n = floor(n / 128)
  end
  bytes[#bytes + 1] = char(n)
  return concat(bytes)
end

local function number(field, n) return varint(field * 8) .. varint(n) end

local function bytes(field, text) return varint(field * 8 + 2) .. varint(#text) .. text end

-- Repeated numbers, packed.
local function numbers(field, list)
  local parts = {}
  for i, n in ipairs(list) do parts[i] = varint(n) end
  return bytes(field, concat(parts))
end

-- ---- the profile ----

-- Strings are named by their number; the first is empty.
local function new_strings()
  local list, index = { "" }, { [""] = 0 }
  return list, function(text)
    if not index[text] then
      list[#list + 1] = text
      index[text] = #list - 1
    end
    return index[text]
  end
end

local stats = ffi.new("struct neap_site_stats")

local function whole(n) return floor(n + 0.5) end

-- What was made and is live at a site, or nil.
local function values_of(id)
  if C.neap_site_stats(id, stats) < 0 then return nil, true end
  if stats.slices_made < 0.5 then return nil end
  return { whole(stats.slices_made), whole(stats.bytes_made), whole(stats.slices_live),
    whole(stats.bytes_live) }
end

local TYPES = { { "alloc_objects", "count" }, { "alloc_space", "bytes" },
  { "inuse_objects", "count" }, { "inuse_space", "bytes" } }

local function value_type(name, unit, index)
  return number(1, index(name)) .. number(2, index(unit))
end

-- A site is a sample with one location, in a function of its own; the three have its number.
local function encode()
  local strings, index = new_strings()
  local out = {}
  local function add(text) out[#out + 1] = text end
  for _, kind in ipairs(TYPES) do add(bytes(1, value_type(kind[1], kind[2], index))) end
  local id, values, over = 1, values_of(1)
  while not over do
    if values then
      local place = site.place(id)
        or { source = "?", line = 0, name = site.text(id), first_line = 0 }
      add(bytes(2, numbers(1, { id }) .. numbers(2, values)))
      add(bytes(4, number(1, id) .. bytes(4, number(1, id) .. number(2, place.line))))
      add(bytes(5, number(1, id) .. number(2, index(place.name)) .. number(3, index(place.name))
        .. number(4, index(place.source)) .. number(5, math.max(0, place.first_line))))
    end
    id = id + 1
    values, over = values_of(id)
  end
  add(number(9, C.neap_log_time() * 1000 * 1000000))
  add(bytes(11, value_type("space", "bytes", index)))
  local exact = C.neap_ledger_level() == C.NEAP_LEAKS_ALL
  add(number(12, exact and 1 or C.NEAP_LEAKS_BYTES))
  add(number(14, index("inuse_space")))
  for _, text in ipairs(strings) do add(bytes(6, text)) end
  return concat(out)
end

--- Writes a profile of slices by the line that made them: how many and how many bytes were made
--- since the start, and are live now. `go tool pprof` reads it, and whatever else knows its format.
--- At the levels `sample` and `touch` the numbers are estimates; at `off` nothing new is counted.
--- err: "system" (the file cannot be written)
--- @param path string of the file, which is replaced
--- @return true|nil ok, string? message, string? name
function M.write(path)
  check.string(path, "neap.profile: path")
  slice.settle()
  local file, message = io.open(path, "wb")
  if not file then return errors.fail("neap.profile: " .. message, "system") end
  local written, why = file:write(encode())
  local closed, why_not = file:close()
  if written and closed then return true end
  return errors.fail("neap.profile: " .. (why or why_not), "system")
end

return abi.keep("neap.profile", M)
