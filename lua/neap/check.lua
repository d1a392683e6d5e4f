--- Arguments: what a script passes is looked at before C sees it.

local floor = math.floor
local type, tostring = type, tostring

local M = {}

local function shown(value)
  return type(value) == "string" and string.format("%q", value) or tostring(value)
end

local here = debug.getinfo(1, "S").source:match("^(.*/)[^/]*$")

--- The chunk name of code that neap makes at run time, so that raise() knows it as its own.
function M.chunk_name(what)
  return here .. what
end

--- Is a function, of which getinfo tells `what` and `source`, one of C or of neap?
function M.is_own(info)
  return info.what == "C" or info.source:sub(1, #here) == here
end

--- Raise a mistake of the script, at its own line: the innermost one outside of neap.
function M.raise(message)
  local level = 2
  local info = debug.getinfo(level, "S")
  while info and M.is_own(info) do
    level = level + 1
    info = debug.getinfo(level, "S")
  end
  error(message, info and level or 0)
end

local getinfo, traceback = debug.getinfo, debug.traceback
local file = getinfo(1, "S").source

local function info_at(co, level)
  local info
  if co then info = getinfo(co, level, "S") else info = getinfo(level + 1, "S") end
  return info
end

--- The traceback of an error; of one that raise() raised, it begins at the line that is to blame.
--- @param message string|nil stands before it
--- @param co? thread the coroutine that the error has ended; nil: called by a message handler
function M.traceback(message, co)
  local level = co and 0 or 3 -- of error(), if that was called: of this function's callers, else
  local innermost, caller = info_at(co, level), info_at(co, level + 1)
  if innermost and innermost.what == "C" and caller and caller.source == file then
    local first, info = level, caller
    while info and M.is_own(info) do
      first = first + 1
      info = info_at(co, first)
    end
    if info then level = first end
  end
  local text -- of "", since there is no traceback of nil
  if co then text = traceback(co, message or "", level)
  else text = traceback(message or "", level) end
  return message and text or text:sub(2)
end

--- A whole number from 0 to `most`. Strings, NaN, fractions and the rest raise: a C integer
--- would take 2^32 + 5 for 5, and NaN for 0.
--- @param what string as in "slice:split: n"
function M.whole(value, most, what)
  if type(value) == "number" and value >= 0 and value <= most and floor(value) == value then
    return value
  end
  M.raise(("%s must be a whole number from 0 to %.0f, got %s"):format(what, most,
    shown(value)))
end

function M.number(value, what)
  if type(value) == "number" then return value end
  M.raise(("%s: value must be a number, got %s"):format(what, shown(value)))
end

--- A time from 0 to ten years, in seconds.
function M.seconds(value, what)
  if type(value) == "number" and value >= 0 and value <= 315360000 then return value end
  M.raise(("%s must be a number from 0 to 315360000, got %s"):format(what, shown(value)))
end

--- The same, or nil; which a NULL pointer is not, although it equals nil.
function M.seconds_or_nil(value, what)
  if type(value) ~= "nil" then M.seconds(value, what) end
  return value
end

function M.string(value, what)
  if type(value) == "string" then return value end
  M.raise(("%s must be a string, got %s"):format(what, shown(value)))
end

function M.fn(value, what)
  if type(value) == "function" then return value end
  M.raise(("%s must be a function, got %s"):format(what, type(value)))
end

-- How many letters are to be changed, left out or put in to make one name of the other.
local function distance(a, b)
  local before = {}
  for j = 0, #b do before[j] = j end
  for i = 1, #a do
    local now = { [0] = i }
    for j = 1, #b do
      local changed = a:byte(i) == b:byte(j) and 0 or 1
      now[j] = math.min(before[j] + 1, now[j - 1] + 1, before[j - 1] + changed)
    end
    before = now
  end
  return before[#b]
end

local FEW, TYPOS = 9, 2

-- What may have been meant: a name that is nearly the same, or else all, if they are few.
local function hint(wrong, known)
  local names, nearest, least = {}, nil, TYPOS + 1
  for name in pairs(known) do
    names[#names + 1] = name
    local d = distance(tostring(wrong), name)
    if d < least or (d == least and nearest and name < nearest) then nearest, least = name, d end
  end
  if nearest then return (" (is it %s?)"):format(nearest) end
  if #names > FEW then return "" end
  table.sort(names)
  return (" (there are: %s)"):format(table.concat(names, ", "))
end

--- Unknown keys raise, so a misspelt option is not silently without effect.
--- @param known table<string, any> its names are those that there are
--- @param renamed? table<string, string> what an option of others is called here
function M.names(given, known, what, renamed)
  if type(given) ~= "table" then
    M.raise(what .. ": options must be a table, got " .. shown(given))
  end
  for name in pairs(given) do
    if renamed and renamed[name] then
      M.raise(("%s: %s is called %s here"):format(what, name, renamed[name]))
    end
    if known[name] == nil then
      M.raise(("%s: no option %s%s"):format(what, shown(name), hint(name, known)))
    end
  end
end

--- What is given, and the defaults of the rest. Unknown keys raise, and other types.
--- @param known table<string, any> default by name
function M.options(given, known, what)
  local result = {}
  for name, default in pairs(known) do result[name] = default end
  if given == nil then return result end
  M.names(given, known, what)
  for name, value in pairs(given) do
    if type(value) ~= type(known[name]) then
      M.raise(("%s: option %s must be a %s, got %s"):format(what, shown(name),
        type(known[name]), shown(value)))
    end
    result[name] = value
  end
  return result
end

return M
