--- The log: entries on standard error, as text or as JSON, which never keep the loop waiting.
---
--- Whatever a peer can put into an entry stays inside of it: control characters are escaped, so
--- that no line is forged and no terminal commanded. What cannot be written at once is dropped,
--- and counted; the next entry that goes out says so.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")

local C = abi.C
local floor, huge, date, sort, concat = math.floor, math.huge, os.date, table.sort, table.concat
local type, pairs, tostring, tonumber = type, pairs, tostring, tonumber

local RANKS = { error = 1, warn = 2, info = 3, debug = 4 }
local NAMES = { "error", "warn", "info", "debug" }
local LABELS = { "error ", "warn  ", "info  ", "debug " }
local VALUE_BYTES = 8192 -- a longer string is cut
local LIMITED_PER_SECOND = 10
-- What neap itself adds to an entry.
local RESERVED = { time = true, level = true, message = true, dropped = true, limited = true }

local M = {}
local enabled = RANKS.info
local level = "info"
local encode -- of the JSON library; nil: text
local format = "text"
local dropped, untold = 0, 0
local seconds, counts, limited = { 0, 0, 0, 0 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 } -- by level

-- ---- strings that are safe to show ----

-- RFC 3629, section 4
local UTF8 = {
  "^[\194-\223][\128-\191]",
  "^\224[\160-\191][\128-\191]", "^[\225-\236\238\239][\128-\191][\128-\191]",
  "^\237[\128-\159][\128-\191]",
  "^\240[\144-\191][\128-\191][\128-\191]", "^[\241-\243][\128-\191][\128-\191][\128-\191]",
  "^\244[\128-\143][\128-\191][\128-\191]",
}

local function sequence_at(text, at)
  for i = 1, #UTF8 do
    local found = text:match(UTF8[i], at)
    if found then return found end
  end
end

--- Well-formed UTF-8: what is none goes through replace(byte), what is more than ASCII through
--- keep(sequence).
local function cleaned(text, replace, keep)
  local at = text:find("[\128-\255]")
  if not at then return text end
  local parts, from = {}, 1
  while at do
    parts[#parts + 1] = text:sub(from, at - 1)
    local found = sequence_at(text, at)
    parts[#parts + 1] = found and keep(found) or replace(text:sub(at, at))
    from = at + (found and #found or 1)
    at = text:find("[\128-\255]", from)
  end
  parts[#parts + 1] = text:sub(from)
  return concat(parts)
end

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

local function escaped(char)
  return ESCAPES[char] or ("\\x%02x"):format(char:byte())
end

-- The other control characters: U+0080 to U+009F, ends of lines, and changes of direction.
local function wide_control(found)
  local first, second, third = found:byte(1, 3)
  if first == 194 and second < 160 then return second end
  if first == 226 and (second == 128 and third >= 168 and third <= 174
    or second == 129 and third >= 166 and third <= 169) then
    return 0x2000 + (second - 128) * 64 + third - 128
  end
end

local function escaped_wide(found)
  local point = wide_control(found)
  return point and ("\\u{%x}"):format(point) or found
end

local function visible(text)
  return cleaned(text:gsub("[%z\1-\31\127]", escaped), escaped, escaped_wide)
end

local function cut(text)
  if #text <= VALUE_BYTES then return text end
  local at = VALUE_BYTES
  while at > VALUE_BYTES - 4 and text:find("^[\128-\191]", at + 1) do at = at - 1 end
  return ("%s… (%d bytes)"):format(text:sub(1, at), #text)
end

-- ---- text ----

local function text_value(value)
  if type(value) ~= "string" then return tostring(value) end
  if value:find("^[%w_./:@%%,+%[%]-]+$") then return value end
  return '"' .. cleaned(value:gsub('[%z\1-\31\127\\"]', escaped), escaped, escaped_wide) .. '"'
end

-- A line of its own for each line of a traceback, indented, so that it is no entry.
local function text_traceback(value, parts)
  for line in (value .. "\n"):gmatch("(.-)\n") do
    parts[#parts + 1] = "\n  " .. visible((line:gsub("\t", "  ")))
  end
end

local function as_text(rank, time, message, keys, fields)
  local parts = { time, " ", LABELS[rank], visible(message) }
  for i = 1, #keys do
    local key = keys[i]
    if key ~= "traceback" then
      parts[#parts + 1] = " " .. key .. "=" .. text_value(fields[key])
    end
  end
  if fields.traceback ~= nil then text_traceback(tostring(fields.traceback), parts) end
  parts[#parts + 1] = "\n"
  return concat(parts)
end

-- ---- JSON ----

local function replaced() return "\239\191\189" end -- U+FFFD

local function json_wide(found)
  local point = wide_control(found)
  return point and ("\\u%04x"):format(point) or found
end

local function json_number(value)
  if value ~= value then return '"nan"' end
  if value == huge then return '"inf"' end
  if value == -huge then return '"-inf"' end
  local short = tostring(value)
  return tonumber(short) == value and short or ("%.17g"):format(value)
end

local function json_value(value)
  if type(value) == "number" then return json_number(value) end
  if type(value) == "boolean" then return tostring(value) end
  return cleaned(encode(value):gsub("\\/", "/"), replaced, json_wide)
end

local function as_json(rank, time, message, keys, fields)
  local parts = { '{"time":"', time, '","level":"', NAMES[rank], '","message":',
    json_value(message) }
  for i = 1, #keys do
    parts[#parts + 1] = "," .. json_value(keys[i]) .. ":" .. json_value(fields[keys[i]])
  end
  parts[#parts + 1] = "}\n"
  return concat(parts)
end

-- ---- entries ----

local function timestamp()
  local now = C.neap_log_time()
  local second = floor(now)
  return date("!%Y-%m-%dT%H:%M:%S", second) .. (".%03dZ"):format((now - second) * 1000 + 0.5)
end

local function check_field(key, value, what)
  if type(key) ~= "string" or not key:find("^[%a_][%w_.-]*$") then
    check.raise(what .. ": the name of a field is a word such as user_id, got " .. tostring(key))
  elseif RESERVED[key] then
    check.raise(what .. ": the field " .. key .. " is neap's own")
  end
  local kind = type(value)
  if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
    check.raise(("%s: field %s must be a string, a number or a boolean, got %s"):format(what, key,
      kind))
  end
end

-- Short copies of the fields, and their names in order.
local function checked_fields(given, what)
  local keys, fields = {}, {}
  if given == nil then return keys, fields end
  if type(given) ~= "table" then
    check.raise(what .. ": fields must be a table, got " .. type(given))
  end
  for key, value in pairs(given) do
    check_field(key, value, what)
    keys[#keys + 1] = key
    fields[key] = type(value) == "string" and cut(value) or value
  end
  sort(keys)
  return keys, fields
end

local function write(rank, message, keys, fields)
  local more = limited[rank]
  if more > 0 then keys[#keys + 1], fields.limited = "limited", more end
  if untold > 0 then keys[#keys + 1], fields.dropped = "dropped", untold end
  local entry = (encode and as_json or as_text)(rank, timestamp(), cut(message), keys, fields)
  local written = C.neap_log_write(entry, #entry)
  if written == 1 then
    limited[rank], untold = 0, 0
  else
    dropped, untold = dropped + 1, untold + 1
  end
end

local function entry(rank, message, given, what)
  if type(message) ~= "string" then check.string(message, what .. ": message") end
  if rank > enabled then return end
  local keys, fields = checked_fields(given, what)
  write(rank, message, keys, fields)
end

--- For what is broken: somebody has to look at it. Like all of neap.log it writes one entry to
--- standard error, and drops it rather than wait, or when that was closed. An entry of more than
--- 64 KiB is dropped as well.
--- @param message string what happened; control characters are escaped
--- @param fields? table<string, string|number|boolean> by name (letters, digits, _ . -), such as
--- { peer = conn.peer }; a string above 8 KiB is cut; `traceback` gets lines of its own in text
function M.error(message, fields) entry(1, message, fields, "neap.log.error") end

--- For what is not as it should be, and goes on.
--- @param message string as in neap.log.error
--- @param fields? table<string, string|number|boolean> as in neap.log.error
function M.warn(message, fields) entry(2, message, fields, "neap.log.warn") end

--- For what is worth knowing of a program that does well.
--- @param message string as in neap.log.error
--- @param fields? table<string, string|number|boolean> as in neap.log.error
function M.info(message, fields) entry(3, message, fields, "neap.log.info") end

--- For whoever looks for a mistake; not written unless asked for.
--- @param message string as in neap.log.error
--- @param fields? table<string, string|number|boolean> as in neap.log.error; not looked at
--- while this level is off
function M.debug(message, fields) entry(4, message, fields, "neap.log.debug") end

--- How many entries could not be written. The next one that goes out says how many went before.
--- @return integer dropped
function M.dropped() return dropped end

-- What neap itself says of things that peers can cause as often as they like: ten entries a
-- second of each level, and how many more there were with the next.
local function say_limited(name, message, fields)
  local rank = RANKS[name]
  if rank > enabled then return end
  local second = floor(C.neap_log_time())
  if second ~= seconds[rank] then seconds[rank], counts[rank] = second, 0 end
  if counts[rank] >= LIMITED_PER_SECOND then
    limited[rank] = limited[rank] + 1
    return
  end
  counts[rank] = counts[rank] + 1
  local keys, checked = checked_fields(fields, "neap.log")
  write(rank, message, keys, checked)
end

-- ---- settings ----

local function json_encoder()
  local ok, cjson = pcall(require, "cjson")
  return ok and type(cjson) == "table" and cjson.new and cjson.new().encode
end

local function set_format(wanted)
  local encoder = wanted == "json" and json_encoder() or nil
  if wanted == "json" and not encoder then return false end
  format, encode = wanted, encoder
  return true
end

local function set_level(wanted)
  level, enabled = wanted, RANKS[wanted]
end

local FORMATS = { text = true, json = true }

--- Sets what is written and how; what is not named stays. The variable NEAP_LOG, as in
--- NEAP_LOG=debug,json, does so at the start. `neap.log.level` and `neap.log.format` tell.
--- err: "missing" (JSON needs lua-cjson, which is not there; then nothing changed)
--- @param options { level?: string, format?: string } level: "error", "warn", "info" (the default)
--- or "debug": this and what is worse is written · format: "text" (the default) or "json", an
--- object in each line
--- @return true|nil ok, string? message, string? name
function M.configure(options)
  local what = "neap.log.configure"
  if options == nil then check.raise(what .. ": needs a table such as { level = \"debug\" }") end
  local given = check.options(options, { level = level, format = format }, what)
  if not RANKS[given.level] then
    check.raise(what .. ": no level " .. ("%q"):format(given.level))
  elseif not FORMATS[given.format] then
    check.raise(what .. ": no format " .. ("%q"):format(given.format))
  end
  if not set_format(given.format) then
    return errors.fail(what .. ": JSON needs lua-cjson, which is not there", "missing")
  end
  set_level(given.level)
  return true
end

local function read_environment(text)
  for word in text:gmatch("[^,%s]+") do
    if RANKS[word] then set_level(word)
    elseif not FORMATS[word] then
      M.warn("NEAP_LOG knows levels (error, warn, info, debug) and formats (text, json)",
        { unknown = word })
    elseif not set_format(word) then
      M.warn("NEAP_LOG: JSON needs lua-cjson, which is not there; the log is text")
    end
  end
end

-- `neap.log.level` and `.format` are read; configure() sets them.
setmetatable(M, {
  __index = function(_, key)
    if key == "level" then return level end
    if key == "format" then return format end
    if key == "limited" then return say_limited end -- not for scripts
  end,
  __newindex = function(_, key)
    check.raise("neap.log: " .. tostring(key) .. " cannot be set so: use neap.log.configure")
  end,
})

read_environment(os.getenv("NEAP_LOG") or "")

return abi.keep("neap.log", M)
