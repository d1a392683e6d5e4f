--- Sites: the lines of a script that make, pass on and end slices, as numbers.
---
--- Only slices that are watched (src/iobuf/ledger.h) get one, since looking at the stack takes a
--- microsecond. A site is the innermost line outside of neap that LuaJIT still has: a tail call
--- drops its frame.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")

local C = abi.C
local getinfo = debug.getinfo

local M = {}

local lines_of = setmetatable({}, { __mode = "k" }) -- by function: false (neap's own, or C's), or
                                                    -- the sites of its lines
local numbers = {}                                  -- by text
local places = {}                                   -- by number: source, line, name

local function name_of(info)
  if info.what == "main" then return "main chunk" end
  return info.name or "function at line " .. info.linedefined
end

-- What is in the source itself: a chunk that was no file shows its beginning.
local function new_site(level)
  local info = getinfo(level + 1, "nSl")
  local name = name_of(info)
  local text = ("%s:%d (%s)"):format(info.short_src, info.currentline, name)
  local number = numbers[text]
  if not number then
    number = C.neap_site_add(text, #text)
    numbers[text] = number
    places[number] = places[number]
      or { source = info.short_src, line = info.currentline, name = name,
        first_line = info.linedefined }
  end
  return number
end

-- The site of the innermost function that is not known as neap's own, from a level on; or nil and
-- the level where a function, or a line of it, is not known yet; or nothing. The command has a
-- function of its own for that, since looking makes tables, and leaves compiled code each time.
local known = (package.loaded["neap.host"] or {}).known_site or function(of_functions, level)
  local info = getinfo(level + 1, "fl")
  while info do
    local lines = of_functions[info.func]
    if lines then
      local number = lines[info.currentline]
      if number then return number end
    end
    if lines ~= false then return nil, level end
    level = level + 1
    info = getinfo(level + 1, "fl")
  end
end

-- What is at a level is known from now on.
local function learn(level)
  local info = getinfo(level + 1, "fSl")
  local lines = lines_of[info.func]
  if lines == nil then
    lines = not check.is_own(info) and {}
    lines_of[info.func] = lines
  end
  if lines then lines[info.currentline] = new_site(level + 1) end
end

local NOWHERE = "(no line of a script: a tail call has dropped it)"

local function nowhere()
  numbers[NOWHERE] = numbers[NOWHERE] or C.neap_site_add(NOWHERE, #NOWHERE)
  return numbers[NOWHERE]
end

--- The site of whoever called into neap.
--- @return integer number
function M.here()
  local number, level = known(lines_of, 4) -- at 1 is this function, at 2 one of this file, and at 3
  while level do                           -- whoever of neap called that
    learn(level)
    number, level = known(lines_of, level)
  end
  return number or nowhere()
end

--- @return string text such as "server.lua:12 (handler)"; nil for 0, which is no site
function M.text(number)
  if number == 0 then return nil end
  return ffi.string(C.neap_site_text(number))
end

--- What a site is: source, line, name, first_line (of the function); nil when it is none of a
--- script.
function M.place(number) return places[number] end

--- Where a slice of that handle was made: the caller of neap.
function M.born(handle) C.neap_ledger_born(handle.slot, handle.gen, M.here()) end

--- A slice that is watched passes the caller of neap.
function M.pass(handle, deed) C.neap_ledger_pass(handle.slot, handle.gen, M.here(), deed) end

local ended = ffi.new("struct neap_end")

--- The caller of neap ends the slice that the handle named, which was watched.
function M.ended(handle, deed) C.neap_ledger_end_at(handle.slot, handle.gen, M.here(), deed) end

--- … if that was watched.
function M.maybe_ended(handle, deed)
  if C.neap_ledger_ended(handle.slot, handle.gen, ended) ~= 0 then M.ended(handle, deed) end
end

--- What is known of the end of a stale handle's slice: a text to stand behind a message, or "".
function M.end_of(handle)
  if C.neap_ledger_ended(handle.slot, handle.gen, ended) == 0 then return "" end
  local deed, at = ffi.string(C.neap_deed_text(ended.how.deed)), M.text(ended.how.site)
  local born = M.text(ended.born)
  return (" (%s%s%s)"):format(deed, at and " at " .. at or "",
    born and ", made at " .. born or "")
end

return abi.keep("neap.site", M)
