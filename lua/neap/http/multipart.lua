--- Forms with files in them (multipart/form-data, RFC 7578), as they come.

local abi = require("neap.abi")
local check = require("neap.check")
local request_module = require("neap.http.request")

local concat, max = table.concat, math.max
local type, error = type, error
local HEAD_MAX = 8192 -- bytes of a part's head
local PARTS_MAX = 1000

local M = {}

--- A field or a file of a form. Its bytes are read before the next part is asked for, or skipped.
--- @class neap.HttpPart
--- @field name string of the field
--- @field filename string|nil of a file, as the client calls it: never a path to trust
--- @field type string|nil its Content-Type
--- @field headers table<string, string> by name in small letters
local Part = {}
local part_metatable = { __index = Part, __metatable = "neap.httpPart" }

local function fail(form, what)
  local _, text = request_module.wrong_body(form.request, what)
  error(text, 0)
end

-- More of the body behind `rest`.
local function more(form)
  local slice, text, name = form.request:read()
  if not slice then
    if name == "eof" then fail(form, "ends in the middle of a part") end
    error(text, 0)
  end
  form.rest = form.rest .. slice:str()
  slice:release()
end

-- What comes before the end of the part; nil: that is reached.
local function next_bytes(form)
  while true do
    local at = form.rest:find(form.delimiter, 1, true)
    local safe = at and at - 1 or max(0, #form.rest - #form.delimiter + 1)
    if safe > 0 then
      local bytes = form.rest:sub(1, safe)
      form.rest = form.rest:sub(safe + 1)
      return bytes
    end
    if at then return nil end
    more(form)
  end
end

--- Some of its bytes, as a string; nil at its end. Raises what a body fails with.
--- @return string|nil bytes
function Part:read()
  if type(self) ~= "table" or not self.form then
    check.raise("part:read: called on " .. type(self) .. ", not on a part of a form")
  end
  if self.ended then return nil end
  local bytes = next_bytes(self.form)
  if not bytes then self.ended = true end
  return bytes
end

--- Iterates over its bytes, as strings.
--- @return fun(part: neap.HttpPart): string|nil next, neap.HttpPart part for a `for` loop
function Part:chunks() return Part.read, self end

--- All of its bytes.
--- @return string text
function Part:text()
  local parts = {}
  for bytes in Part.chunks(self) do parts[#parts + 1] = bytes end
  return concat(parts)
end

-- "\r\n" or "--" behind a delimiter: is another part there?
local function begin_part(form)
  form.rest = form.rest:sub(#form.delimiter + 1)
  while #form.rest < 2 do more(form) end
  local mark = form.rest:sub(1, 2)
  form.rest = form.rest:sub(3)
  if mark == "--" then return false end
  if mark ~= "\r\n" then fail(form, "has something behind a boundary") end
  form.count = form.count + 1
  if form.count > PARTS_MAX then fail(form, "has too many parts") end
  return true
end

local function parse_head(form, head)
  local headers = {}
  for line in head:gmatch("(.-)\r\n") do
    local name, value = line:match("^([%w%-]+):[ \t]*(.-)[ \t]*$")
    if not name then fail(form, "has a part with a malformed head") end
    headers[name:lower()] = value
  end
  local about = (headers["content-disposition"] or ""):match("^form%-data%s*(;.*)$")
  return headers, about or ""
end

local function parameter(about, name)
  local value = about:match(";%s*" .. name .. '="(.-[^\\])"') or about:match(";%s*" .. name
    .. '=""') and ""
  return value and (value:gsub('\\(["\\])', "%1"):gsub("%%22", '"')) or nil
end

local function read_head(form)
  local till
  while true do
    till = form.rest:find("\r\n\r\n", 1, true)
    if till or #form.rest > HEAD_MAX then break end
    more(form)
  end
  if not till or till > HEAD_MAX then fail(form, "has a part with a head that is too long") end
  local headers, about = parse_head(form, form.rest:sub(1, till + 1))
  form.rest = form.rest:sub(till + 4)
  local name = parameter(about, "name")
  if not name then fail(form, "has a part without a name") end
  return setmetatable({ form = form, ended = false, headers = headers, name = name,
    filename = parameter(about, "filename"), type = headers["content-type"] }, part_metatable)
end

local function next_part(form)
  if form.part then
    for _ in form.part:chunks() do end -- luacheck: ignore 542
  end
  if not form.begun then
    form.begun = true
    while next_bytes(form) do end -- luacheck: ignore 542
  elseif not form.part then
    return nil
  end
  form.part = begin_part(form) and read_head(form) or nil
  if form.part then return form.part end
  for chunk in form.request:chunks() do chunk:release() end -- what stands behind the last
end

--- Iterates over the parts of a form that may have files in it (multipart/form-data), as they come;
--- a part's bytes are read before the next is asked for, or skipped. Raises what `read` fails with,
--- which is answered as it should be; no such form: 415.
---
---     for part in request:parts() do
---       if part.filename then for bytes in part:chunks() do file:write(bytes) end
---       else fields[part.name] = part:text() end
---     end
--- @return function next for a `for` loop, which gives a neap.HttpPart each
function request_module.methods:parts()
  local given = self:header("content-type") or ""
  local boundary = given:lower():find("^multipart/form%-data%s*;")
    and (given:match('[bB][oO][uU][nN][dD][aA][rR][yY]="([^"]+)"')
      or given:match("[bB][oO][uU][nN][dD][aA][rR][yY]=([^;%s\"]+)"))
  local form = { request = self, rest = "\r\n", count = 0, begun = false }
  if not boundary or #boundary > 70 then
    local _, text = request_module.wrong_body(self, "is no multipart/form-data", 415)
    error(text, 0)
  end
  form.delimiter = "\r\n--" .. boundary
  return function() return next_part(form) end
end

return abi.keep("neap.http.multipart", M)
