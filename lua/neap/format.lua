--- Formats of string.pack, compiled: a format becomes a Lua function once, and that function is
--- what LuaJIT compiles. A format is a list of
---   < > =        little-endian, big-endian, native order (which is also the start)
---   b B h H i I l L j J T, i[n] I[n] with n from 1 to 8   integers
---   f d n        floats    x  a byte of padding
---   cN sN z      strings: of N bytes, behind a length of N bytes (1 to 6), ended by a zero byte
--- Integers of 7 and 8 bytes are 64-bit cdata, smaller ones numbers. Alignment (`!`) is not
--- spoken: protocols spell their padding out.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")

local C = abi.C
local BIG, SIGNED, FLOAT = C.NEAP_BIG, C.NEAP_SIGNED, C.NEAP_FLOAT
local numbers_t = ffi.typeof("struct neap_numbers")
local NATIVE = ffi.abi("be") and BIG or 0
local CACHED = 1024 -- formats kept; a script that makes more of them starts anew
local type = type

local M = {}

local ORDERS = { ["<"] = 0, [">"] = BIG, ["="] = NATIVE }
local integers = { b = 1, h = 2, i = 4, l = 8, j = 8, T = 8 }
local floats = { f = 4, d = 8, n = 8 }

local function integer(letter, width, order)
  local signed = letter:lower() == letter
  return { what = "integer", width = width, wide = width > 6, signed = signed,
    number = width + order + (signed and SIGNED or 0) }
end

local function one_item(letter, count, order)
  if count and not letter:find("[iIsc]") then
    return nil, ("%q takes no number"):format(letter)
  end
  local width = integers[letter] or integers[letter:lower()]
  if letter == "T" then width = 8 end
  if width then
    if count and letter:lower() == "i" then width = count end
    if width < 1 or width > 8 then return nil, "integers have 1 to 8 bytes" end
    return integer(letter == "T" and "J" or letter, width, order)
  end
  if floats[letter] then
    return { what = "float", width = floats[letter], number = floats[letter] + order + FLOAT }
  end
  if letter == "x" then return { what = "padding", width = 1 } end
  if letter == "z" then return { what = "zero" } end
  if letter == "c" then
    if not count or count > C.NEAP_BUF_MAX_BYTES then return nil, "c needs a number up to 2^30" end
    return { what = "bytes", width = count }
  end
  if letter == "s" then
    if not count or count < 1 or count > 6 then return nil, "s needs a number from 1 to 6" end
    return { what = "string", prefix = integer("I", count, order) }
  end
  return nil, ("%q is no format here"):format(letter)
end

--- @return table|nil items, string? message
local function parse(format)
  local items, order, at = {}, NATIVE, 1
  while at <= #format do
    local letter, digits = format:match("^(.)(%d*)", at)
    at = at + #letter + #digits
    local orders = digits == "" and ORDERS[letter]
    if orders then order = orders
    elseif letter ~= " " or digits ~= "" then
      local item, message = one_item(letter, tonumber(digits), order)
      if not item then return nil, message end
      items[#items + 1] = item
    end
  end
  if #items > 100 then return nil, "more than 100 items" end
  return items
end

local unpack_code = {
  integer = function(item, i)
    if item.wide then
      return ("local v%d = bits(self, at, %d, %s) at = at + %d"):format(i, item.number,
        tostring(item.signed), item.width)
    end
    return ("local v%d = get(self, at, %d) at = at + %d"):format(i, item.number, item.width)
  end,
  float = function(item, i)
    return ("local v%d = get(self, at, %d) at = at + %d"):format(i, item.number, item.width)
  end,
  padding = function() return "skip(self, at, 1) at = at + 1" end,
  bytes = function(item, i)
    return ("local v%d = bytes(self, at, %d) at = at + %d"):format(i, item.width, item.width)
  end,
  string = function(item, i)
    return ("n = get(self, at, %d) at = at + %d local v%d = bytes(self, at, n) at = at + n")
      :format(item.prefix.number, item.prefix.width, i)
  end,
  zero = function(_, i)
    return ("n = zero(self, at) local v%d = bytes(self, at, n) at = at + n + 1"):format(i)
  end,
}

local pack_code = {
  integer = function(item, i)
    local put = item.wide and "put_bits" or "put"
    return ("%s(self, at, %d, v%d) at = at + %d"):format(put, item.number, i, item.width)
  end,
  float = function(item, i)
    return ("put(self, at, %d, v%d) at = at + %d"):format(item.number, i, item.width)
  end,
  padding = function() return "put(self, at, 1, 0) at = at + 1" end,
  bytes = function(item, i)
    return ("put_bytes(self, at, fill(v%d, %d)) at = at + %d"):format(i, item.width, item.width)
  end,
  string = function(item, i)
    return ("put(self, at, %d, size(v%d)) at = at + %d put_bytes(self, at, v%d) at = at + #v%d")
      :format(item.prefix.number, i, item.prefix.width, i, i)
  end,
  zero = function(_, i)
    return ("put_bytes(self, at, ended(v%d)) at = at + #v%d + 1"):format(i, i)
  end,
}

local function names_of(items)
  local names = {}
  for i, item in ipairs(items) do
    if item.what ~= "padding" then names[#names + 1] = "v" .. i end
  end
  return names
end

local function statements(items, code)
  local lines = {}
  for i, item in ipairs(items) do lines[i] = code[item.what](item, i) end
  return table.concat(lines, "\n")
end

local function cached(build)
  local known, count = {}, 0
  return function(format)
    local fn = known[format]
    if fn then return fn end
    local message
    fn, message = build(format)
    if not fn then return nil, message end
    if count == CACHED then known, count = {}, 0 end
    known[format], count = fn, count + 1
    return fn
  end
end

-- Nothing but numbers that a Lua number holds, and not too many: C can do them in one call.
-- Returns them, with room for their values, and the bytes that they take.
local function only_numbers(items)
  if #items == 0 or #items > C.NEAP_NUMBERS_MAX then return nil end
  local numbers, width = numbers_t({ count = #items }), 0
  for i, item in ipairs(items) do
    if not item.number or item.wide then return nil end
    numbers.number[i - 1] = item.number
    width = width + item.width
  end
  return numbers, width
end

-- "v1 = …" for each of n values.
local function for_each(n, text, separator)
  local parts = {}
  for i = 1, n do parts[i] = text:gsub("#", i - 1):gsub("%%", i) end
  return table.concat(parts, separator)
end

-- A function (self, at) → values…, offset behind them: in one call where that is possible; where
-- not, `slow` does it, or raises.
local function with_quick_unpack(quick, slow, numbers, width)
  local n = numbers.count
  local source = ([[
local quick, slow, numbers = ...
return function(self, at)
  if quick(self, at, numbers) < 0 then return slow(self, at) end
  return %s, at + %d
end]]):format(for_each(n, "numbers.value[#]", ", "), width)
  return assert(loadstring(source, check.chunk_name("unpack")))(quick, slow, numbers)
end

--- A maker of functions (self, at, values…) → offset behind them, or nil: nothing was written, and
--- there is either more to it than numbers or something wrong, which M.packers()'s will tell.
--- @param pack fun(self, at, numbers): integer negative when nothing was written
function M.quick_packers(pack)
  return cached(function(format)
    local items, message = parse(format)
    if not items then return nil, message end
    local numbers, width = only_numbers(items)
    if not numbers then return function() return nil end end
    local n = numbers.count
    local source = ([[
local pack, numbers, type = ...
return function(self, at, %s)
  if not (%s) then return nil end
  local value = numbers.value
  %s
  if pack(self, at, numbers) < 0 then return nil end
  return at + %d
end]]):format(for_each(n, "v%", ", "), for_each(n, 'type(v%) == "number"', " and "),
      for_each(n, "value[#] = v%", "\n"), width)
    return assert(loadstring(source, check.chunk_name("pack " .. format)))(pack, numbers, type)
  end)
end

--- A maker of functions (self, at) → values…, offset behind them, for a kind of bytes.
--- @param kind table get(self, at, number) · bits(self, at, number, signed) ·
--- bytes(self, at, n) · zero(self, at) → n · skip(self, at, n); each raises at a misuse ·
--- quick(self, at, numbers) → code: fills the values in, or is negative
function M.unpackers(kind)
  return cached(function(format)
    local items, message = parse(format)
    if not items then return nil, message end
    local names = names_of(items)
    names[#names + 1] = "at"
    local source = "local get, bits, bytes, zero, skip = ...\nreturn function(self, at)\nlocal n\n"
      .. statements(items, unpack_code) .. "\nreturn " .. table.concat(names, ", ") .. "\nend"
    local make = assert(loadstring(source, check.chunk_name("unpack " .. format)))
    local unpack_each = make(kind.get, kind.bits, kind.bytes, kind.zero, kind.skip)
    local numbers, width = only_numbers(items)
    if not numbers then return unpack_each end
    return with_quick_unpack(kind.quick, unpack_each, numbers, width)
  end)
end

local function fill(value, width)
  if type(value) ~= "string" then check.raise("pack: a string is needed, got " .. type(value)) end
  if #value > width then check.raise(("pack: %d bytes do not fit c%d"):format(#value, width)) end
  return value .. ("\0"):rep(width - #value)
end

local function ended(value)
  if type(value) ~= "string" then check.raise("pack: a string is needed, got " .. type(value)) end
  if value:find("\0", 1, true) then check.raise("pack: a zero byte inside a string of format z") end
  return value .. "\0"
end

local function size(value)
  if type(value) ~= "string" then check.raise("pack: a string is needed, got " .. type(value)) end
  return #value
end

--- A maker of functions (self, at, values…) → offset behind them.
--- @param kind table put(self, at, number, value) · put_bits(self, at, number, value) ·
--- put_bytes(self, at, string); each raises at a misuse
function M.packers(kind)
  return cached(function(format)
    local items, message = parse(format)
    if not items then return nil, message end
    local names = names_of(items)
    local source = "local put, put_bits, put_bytes, fill, ended, size = ...\n"
      .. "return function(" .. table.concat({ "self", "at", unpack(names) }, ", ") .. ")\n"
      .. statements(items, pack_code) .. "\nreturn at\nend"
    local make = assert(loadstring(source, check.chunk_name("pack " .. format)))
    return make(kind.put, kind.put_bits, kind.put_bytes, fill, ended, size)
  end)
end

return abi.keep("neap.format", M)
