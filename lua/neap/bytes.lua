--- What slices and views have in common: numbers, strings and searching in their bytes.

local bit = require("bit")
local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local format = require("neap.format")

local C = abi.C
local BIG, SIGNED, FLOAT = C.NEAP_BIG, C.NEAP_SIGNED, C.NEAP_FLOAT
local U32 = 0xffffffff
local type, floor, min, max = type, math.floor, math.min, math.max

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

local U64 = uint64_t(1)

--- The bits of what a script gave as an integer, if it fits the number.
--- @return ffi.cdata*|nil
function M.bits_of(value, number)
  local signed = bit.band(number, SIGNED) ~= 0
  if type(value) == "number" then
    if value ~= floor(value) or value < -0x1p53 or value > 0x1p53 then return nil end
    value = int64_t(value)
  end
  local is_signed = ffi.istype(int64_t, value)
  if not is_signed and not ffi.istype(uint64_t, value) then return nil end
  local negative = is_signed and value < 0
  local bits = 8 * width_of(number)
  if signed then
    local magnitude = ffi.cast(uint64_t, negative and -(value + 1) or value)
    if magnitude >= bit.lshift(U64, bits - 1) then return nil end
  elseif negative or (bits < 64 and ffi.cast(uint64_t, value) >= bit.lshift(U64, bits)) then
    return nil
  end
  return ffi.cast(uint64_t, value)
end

local function hex_line(bytes, at)
  local hex, text = {}, {}
  local n = min(16, #bytes - at)
  for i = 0, 15 do
    local byte = bytes:byte(at + i + 1) or 32
    hex[#hex + 1] = i < n and ("%02x"):format(byte) or "  "
    if i == 7 then hex[#hex + 1] = "" end
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
---   unpack(self, offset, numbers) → code: negative when that fails
---   explain(self, name, offset, width): raises for what get() refused, if it did
---   size(self, name) → bytes; raises when stale
---   copy(self, offset, n) → string, of bytes that are there
---   find(self, bytes, from) → offset, nil; raises
function M.install(methods, kind)
  local check_self, get, bits, explain = kind.check, kind.get, kind.bits, kind.explain
  local prefix = kind.name .. ":"

  for name, number in pairs(M.numbers) do
    local width, what = width_of(number), prefix .. name .. ": offset"
    --- The number at an offset. The name tells what stands in the bytes: `u` unsigned, `i` signed,
    --- `f` IEEE 754; bits; `be` the highest byte first, `le` the lowest.
    --- @param offset integer bytes from the front
    --- @return number value
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
    --- The integer of 64 bits at an offset, with all its bits.
    --- @param offset integer bytes from the front
    --- @return ffi.cdata* value an int64_t for `i`, a uint64_t for `u`
    methods[name] = function(self, offset)
      check_self(self, name)
      check.whole(offset, U32, what)
      explain(self, name, offset, 8)
      return ctype(bits(self, offset, number))
    end
  end

  for name, number in pairs({ u53be = 8 + BIG, u53le = 8 }) do
    local what = prefix .. name .. ": offset"
    --- The unsigned integer of 64 bits at an offset, as a Lua number; one above 2^53 raises,
    --- since it would lose bits.
    --- @param offset integer bytes from the front
    --- @return number value
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

  --- The bytes as a Lua string (a copy, and interned).
  --- @param from? integer the first byte, counted as in string.sub (1)
  --- @param to? integer the last byte, counted as in string.sub (-1)
  --- @return string bytes
  function methods:str(from, to)
    check_self(self, "str")
    local size = kind.size(self, "str")
    from, to = from or 1, to or -1
    if type(from) ~= "number" or type(to) ~= "number" or from ~= from or to ~= to then
      check.raise(prefix .. "str: from and to must be numbers")
    end
    if from < 0 then from = size + from + 1 end
    if to < 0 then to = size + to + 1 end
    from, to = max(floor(from), 1), min(floor(to), size)
    if from > to then return "" end
    return (kind.copy(self, from - 1, to - from + 1))
  end

  local find_bytes, find_from = prefix .. "find: bytes", prefix .. "find: from"

  --- Where some bytes are. They are taken as they are: this knows no patterns.
  --- @param bytes string what to look for
  --- @param from? integer the offset where it begins to look (0)
  --- @return integer|nil offset of the first of them; nil: they are not there
  function methods:find(bytes, from)
    check_self(self, "find")
    check.string(bytes, find_bytes)
    from = check.whole(from or 0, U32, find_from)
    local at = kind.find(self, bytes, from)
    return at
  end

  --- The bytes as `hexdump -C` shows them.
  --- @return string text
  function methods:hexdump()
    check_self(self, "hexdump")
    local bytes = kind.copy(self, 0, kind.size(self, "hexdump"))
    local lines = {}
    for at = 0, #bytes - 1, 16 do lines[#lines + 1] = hex_line(bytes, at) end
    return table.concat(lines, "\n")
  end

  local function part(self, offset, n)
    local size = kind.size(self, "unpack")
    if n > size or offset > size - n then
      check.raise(("%sunpack: %.0f bytes at offset %.0f reach past the %d bytes"):format(prefix, n,
        offset, size))
    end
    return (kind.copy(self, offset, n))
  end

  local unpacker = format.unpackers({
    quick = kind.unpack,
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

  --- Values by a format as string.pack of newer Luas has it (`slice:pack` lists them).
  --- @param format_text string a list of formats, such as ">I2s4"
  --- @param offset? integer bytes from the front (0)
  --- @return any ... a value for each format that has one, then the offset behind them
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
--- @param first string the first of them, at most PREVIEW
function M.preview(first, size)
  local text = first:gsub("[^\32-\126]", ".")
  return ("%q%s"):format(text, size > #first and "…" or "")
end

M.PREVIEW = 16

return abi.keep("neap.bytes", M)
