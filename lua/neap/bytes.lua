--- What slices and views have in common: numbers, strings and searching in their bytes.

local bit = require("bit")
local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local format = require("neap.format")

local C = abi.C
local BIG, SIGNED, FLOAT = C.NEAP_BIG, C.NEAP_SIGNED, C.NEAP_FLOAT
local U32 = 0xffffffff

local M = {}

--- Names of numbers that a Lua number holds → enum neap_number.
M.numbers = { u8 = 1, i8 = 1 + SIGNED }

--- Names of 64-bit integers → enum neap_number.
M.wide = {
  u64be = 8 + BIG, u64le = 8, i64be = 8 + BIG + SIGNED, i64le = 8 + SIGNED,
}

for name, width in pairs({ ["16"] = 2, ["24"] = 3, ["32"] = 4, ["48"] = 6 }) do
  M.numbers["u" .. name .. "be"], M.numbers["u" .. name .. "le"] = width + BIG, width
  M.numbers["i" .. name .. "be"] = width + BIG + SIGNED
  M.numbers["i" .. name .. "le"] = width + SIGNED
end

for name, width in pairs({ f32 = 4, f64 = 8 }) do
  M.numbers[name .. "be"], M.numbers[name .. "le"] = width + BIG + FLOAT, width + FLOAT
end

local function width_of(number)
  return bit.band(number, C.NEAP_WIDTH)
end

M.width_of = width_of

local int64_t, uint64_t = ffi.typeof("int64_t"), ffi.typeof("uint64_t")

--- The 64 bits of what a script gave as an integer, if it fits the number.
--- @return ffi.cdata*|nil
function M.bits_of(value, number)
  local signed = bit.band(number, SIGNED) ~= 0
  if type(value) == "number" then
    if value ~= math.floor(value) or value < (signed and -0x1p53 or 0) or value > 0x1p53 then
      return nil
    end
    return ffi.cast(uint64_t, int64_t(value))
  end
  if ffi.istype(int64_t, value) then
    if not signed and value < 0 then return nil end
  elseif not ffi.istype(uint64_t, value) or (signed and value > 0x7fffffffffffffffULL) then
    return nil
  end
  return ffi.cast(uint64_t, value)
end

local function hex_line(data, at, n)
  local hex, text = {}, {}
  for i = 0, 15 do
    hex[#hex + 1] = i < n and ("%02x"):format(data[at + i]) or "  "
    if i == 7 then hex[#hex + 1] = "" end
    local byte = i < n and data[at + i] or 32
    text[#text + 1] = (byte >= 32 and byte < 127) and string.char(byte) or "."
  end
  return ("%08x  %s  |%s|"):format(at, table.concat(hex, " "), table.concat(text):sub(1, n))
end

--- @param methods table gets the methods
--- @param kind table
---   name: for messages
---   check(self, name): raises when self is not such an object
---   get(self, offset, number) → number, NaN when that fails
---   bits(self, offset, number) → uint64_t
---   explain(self, name, offset, width): raises for what get() refused, if it did
---   data(self) → uint8_t *, size; nil when stale
---   find(self, bytes, from) → offset, nil; raises
function M.install(methods, kind)
  local check_self, get, bits, explain = kind.check, kind.get, kind.bits, kind.explain
  local prefix = kind.name .. ":"

  for name, number in pairs(M.numbers) do
    local width, what = width_of(number), prefix .. name .. ": offset"
    methods[name] = function(self, offset)
      check_self(self, name)
      check.whole(offset, U32, what)
      local value = get(self, offset, number)
      if value == value then return value end
      explain(self, name, offset, width)
      return value
    end
  end

  for name, number in pairs(M.wide) do
    local what = prefix .. name .. ": offset"
    local ctype = bit.band(number, SIGNED) ~= 0 and int64_t or uint64_t
    methods[name] = function(self, offset)
      check_self(self, name)
      check.whole(offset, U32, what)
      explain(self, name, offset, 8)
      return ctype(bits(self, offset, number))
    end
  end

  -- 64 bits as a Lua number; one above 2^53 raises, since it would lose bits
  for name, number in pairs({ u53be = 8 + BIG, u53le = 8 }) do
    local what = prefix .. name .. ": offset"
    methods[name] = function(self, offset)
      check_self(self, name)
      check.whole(offset, U32, what)
      local value = get(self, offset, number)
      if value < 0x1p53 or (value == 0x1p53 and bits(self, offset, number) == 0x20000000000000ULL)
      then
        return value
      end
      explain(self, name, offset, 8)
      check.raise(("%s%s: the number at offset %d is above 2^53 (%s reads all its bits)"):format(
        prefix, name, offset, (name:gsub("53", "64"))))
    end
  end

  --- The bytes as a Lua string (a copy, and interned); from and to as in string.sub.
  function methods:str(from, to)
    check_self(self, "str")
    local data, size = kind.data(self, "str")
    from, to = from or 1, to or -1
    if type(from) ~= "number" or type(to) ~= "number" or from ~= from or to ~= to then
      check.raise(prefix .. "str: from and to must be numbers")
    end
    if from < 0 then from = size + from + 1 end
    if to < 0 then to = size + to + 1 end
    from, to = math.max(math.floor(from), 1), math.min(math.floor(to), size)
    if from > to then return "" end
    return ffi.string(data + (from - 1), to - from + 1)
  end

  --- The bytes as `hexdump -C` shows them.
  function methods:hexdump()
    check_self(self, "hexdump")
    local data, size = kind.data(self, "hexdump")
    local lines = {}
    for at = 0, size - 1, 16 do
      lines[#lines + 1] = hex_line(data, at, math.min(16, size - at))
    end
    return table.concat(lines, "\n")
  end

  local function part(self, offset, n)
    local data, size = kind.data(self, "unpack")
    if n > size or offset > size - n then explain(self, "unpack", offset, n) end
    return ffi.string(data + offset, n)
  end

  local unpacker = format.unpackers({
    get = function(self, offset, number)
      local value = get(self, offset, number)
      if value ~= value then explain(self, "unpack", offset, width_of(number)) end
      return value
    end,
    bits = function(self, offset, number, signed)
      explain(self, "unpack", offset, width_of(number))
      local value = bits(self, offset, number)
      return signed and int64_t(value) or value
    end,
    bytes = part,
    skip = function(self, offset, n) explain(self, "unpack", offset, n) end,
    zero = function(self, offset)
      explain(self, "unpack", offset, 0)
      local at = kind.find(self, "\0", offset)
      if not at then check.raise(prefix .. "unpack: no zero byte ends the string") end
      return at - offset
    end,
  })

  --- Values by a format of string.pack (see neap.format), and the offset behind them.
  function methods:unpack(format_text, offset)
    check_self(self, "unpack")
    check.string(format_text, prefix .. "unpack: format")
    offset = check.whole(offset or 0, U32, prefix .. "unpack: offset")
    local fn, message = unpacker(format_text)
    if not fn then check.raise(prefix .. "unpack: " .. message) end
    return fn(self, offset)
  end
end

--- What tostring shows of some bytes.
function M.preview(data, size)
  local shown = math.min(size, 16)
  local text = ffi.string(data, shown):gsub("[^\32-\126]", ".")
  return ("%q%s"):format(text, size > shown and "…" or "")
end

return abi.keep("neap.bytes", M)
