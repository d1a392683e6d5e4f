--- Small texts of HTTP: percent-encoding, forms, dates.

local abi = require("neap.abi")
local check = require("neap.check")

local char, byte, format = string.char, string.byte, string.format
local M = {}

local function unhex(digits) return char(tonumber(digits, 16)) end

--- Decodes what is percent-encoded in a path or a query.
--- @param text string with %XX in it
--- @return string|nil decoded nil: a "%" has no two hexadecimal digits behind it
function M.unescape(text)
  check.string(text, "http.unescape: text")
  if not text:find("%", 1, true) then return text end
  if text:gsub("%%%x%x", ""):find("%", 1, true) then return nil end
  return (text:gsub("%%(%x%x)", unhex))
end

local function hex(c) return format("%%%02X", byte(c)) end

--- Percent-encodes all but letters, digits and -._~ : for a part of a path, or of a query.
--- @param text string such as the name of a file
--- @param more? string of Lua's patterns: other characters that stay, such as "/"
--- @return string encoded
function M.escape(text, more)
  check.string(text, "http.escape_url: text")
  return (text:gsub("[^%w%-%._~" .. (more or "") .. "]", hex))
end

local function form_part(text)
  text = text:gsub("+", " ")
  return M.unescape(text) or text
end

--- "a=1&b=2", decoded; of a name that comes again, the first.
function M.parse_form(text)
  local found = {}
  for pair in text:gmatch("[^&]+") do
    local name, value = pair:match("^([^=]*)=?(.*)$")
    name = form_part(name)
    if found[name] == nil then found[name] = form_part(value) end
  end
  return found
end

local entities = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;",
  ["'"] = "&#39;" }

--- Makes plain text fit for a page of HTML, or for the value of an attribute there.
--- @param text string whatever is to be seen
--- @return string html
function M.escape_html(text)
  check.string(text, "http.escape: text")
  return (text:gsub("[&<>\"']", entities))
end

local days = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" }
local months = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
  "Dec" }
local month_of = {}
for i, name in ipairs(months) do month_of[name] = i end

--- A time as RFC 9110, 5.6.7 has it, whatever the locale.
function M.date(seconds)
  local t = os.date("!*t", seconds)
  return format("%s, %02d %s %d %02d:%02d:%02d GMT", days[t.wday], t.day, months[t.month], t.year,
    t.hour, t.min, t.sec)
end

-- Days from 1970-01-01 on (Howard Hinnant's days_from_civil).
local function days_from_civil(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * (month + (month > 2 and -3 or 9)) + 2) / 5) + day - 1
  local day_of_era = of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year
  return era * 146097 + day_of_era - 719468
end

--- The seconds of a date in a request's header, or nil. Of the three forms of RFC 9110 only the
--- one that is still sent.
function M.parse_date(text)
  local day, month, year, hour, minute, second =
    text:match("^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$")
  if not day or not month_of[month] then return nil end
  return ((days_from_civil(tonumber(year), month_of[month], tonumber(day)) * 24 + tonumber(hour))
    * 60 + tonumber(minute)) * 60 + tonumber(second)
end

--- The time as access logs of the common format have it.
function M.log_date(seconds)
  local t = os.date("!*t", seconds)
  return format("%02d/%s/%d:%02d:%02d:%02d +0000", t.day, months[t.month], t.year, t.hour, t.min,
    t.sec)
end

return abi.keep("neap.http.text", M)
