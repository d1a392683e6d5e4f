--- Slices as scripts hold them: handles of counted views of pooled bytes.
---
--- Whoever is handed a slice releases it; `write`, `coalesce` and the like take it. Handle
--- objects are recycled, so that a slice costs the collector nothing; a released one rests
--- for KEEP further slices before it is used again, and until then every use of it is an
--- error. Misuse raises at the caller's line.

local bit = require("bit")
local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")

local C = abi.C
local out_t = abi.out_t
local band = bit.band
local slice_t = ffi.typeof("struct neap_lua_slice")
local istype, cast = ffi.istype, ffi.cast

local U32 = 0xffffffff
local KEEP = 4096    -- released handles that rest at least
local RING = 16384   -- … and at most
local MASK = RING - 1

local M = {}
local Slice = {}

-- ---- handles ----

local ring = {}
local head, tail = 0, 0

for i = 0, MASK do ring[i] = false end

--- A handle object that names nothing yet; its finalizer is attached once in its life.
local function fresh()
  if tail - head > KEEP then
    local at = band(head, MASK)
    local handle = ring[at]
    ring[at] = false
    head = head + 1
    return handle
  end
  return ffi.gc(slice_t(), C.neap_slice_finalize)
end

--- The handle's slice is gone.
local function retire(handle)
  if tail - head >= RING then return end
  ring[band(tail, MASK)] = handle
  tail = tail + 1
end

--- Is it a slice (live or not)?
local function is_slice(x)
  return istype(slice_t, x)
end

M.fresh, M.retire, M.is_slice = fresh, retire, is_slice

-- ---- failures ----

local function text_of(code)
  if code == C.NEAP_E_STALE then return "the slice was released or taken before" end
  return errors.text(code)
end

--- Raise for a negative result; the public function called this.
local function misuse(name, code)
  check.raise("slice:" .. name .. ": " .. text_of(code), 2)
end

local function check_self(self, name)
  if not istype(slice_t, self) then
    check.raise("slice:" .. name .. ": called on " .. type(self)
      .. ", not on a slice (write slice:" .. name .. "(…) with a colon)", 2)
  end
end

local function check_slice(x, what)
  if not istype(slice_t, x) then
    check.raise(what .. " must be a slice, got " .. type(x), 2)
  end
end

-- Memory or a limit is the outside world's failure. Always tail-called, which drops the frame
-- of the public function: hence one level less.
local function outcome(code, name)
  if code == C.NEAP_E_STALE or code == C.NEAP_E_RANGE or code == C.NEAP_E_READ_ONLY
    or code == C.NEAP_E_OVERLAP then
    check.raise("slice:" .. name .. ": " .. text_of(code), 1)
  end
  return errors.failure("slice:" .. name, code)
end

-- ---- lifetime ----

--- Ends the slice; its buf is recycled with the last one.
function Slice:release()
  check_self(self, "release")
  local code = C.neap_slice_release(self.slot, self.gen)
  if code < 0 then misuse("release", code) end
  retire(self)
end

--- A second owner of the same bytes, without a free prefix.
function Slice:retain()
  check_self(self, "retain")
  local clone = fresh()
  local code = C.neap_slice_retain(self.slot, self.gen, cast(out_t, clone))
  if code == 0 then return clone end
  retire(clone)
  return outcome(code, "retain")
end

--- Cuts the first n bytes off as a slice of their own (the free prefix goes with them).
--- @param n integer bytes
function Slice:split(n)
  check_self(self, "split")
  check.whole(n, U32, "slice:split: n")
  local front = fresh()
  local code = C.neap_slice_split(self.slot, self.gen, n, cast(out_t, front))
  if code == 0 then return front end
  retire(front)
  if code == C.NEAP_E_RANGE then
    check.raise(("slice:split: n is %d, but the slice has %d bytes"):format(n, #self), 1)
  end
  return outcome(code, "split")
end

--- Copies the bytes (and the free prefix) into a small buf of their own, so that the large
--- one can go. @return integer|nil bytes no longer pinned
function Slice:detach()
  check_self(self, "detach")
  local code = C.neap_slice_detach(self.slot, self.gen)
  if code >= 0 then return code end
  return outcome(code, "detach")
end

-- ---- shape ----

--- Drops n bytes at the front; expand_front can have them back. n beyond the size drops all.
function Slice:truncate_front(n)
  check_self(self, "truncate_front")
  check.whole(n, math.huge, "slice:truncate_front: n")
  local code = C.neap_slice_truncate_front(self.slot, self.gen, n < U32 and n or U32)
  if code < 0 then misuse("truncate_front", code) end
end

--- Drops n bytes at the back, for good. n beyond the size drops all.
function Slice:truncate_back(n)
  check_self(self, "truncate_back")
  check.whole(n, math.huge, "slice:truncate_back: n")
  local code = C.neap_slice_truncate_back(self.slot, self.gen, n < U32 and n or U32)
  if code < 0 then misuse("truncate_back", code) end
end

--- Grows the slice downward by n bytes of its free prefix.
--- @return boolean false: the prefix has fewer, or they are in use; nothing changed
function Slice:expand_front(n)
  check_self(self, "expand_front")
  check.whole(n, math.huge, "slice:expand_front: n")
  local code = C.neap_slice_expand_front(self.slot, self.gen, n < U32 and n or U32)
  if code < 0 then misuse("expand_front", code) end
  return code == 1
end

--- Claims everything before the slice in its buf as its free prefix.
function Slice:free_entire_prefix()
  check_self(self, "free_entire_prefix")
  local code = C.neap_slice_free_entire_prefix(self.slot, self.gen)
  if code < 0 then misuse("free_entire_prefix", code) end
end

--- Releases prev; if it ends where this slice's free prefix starts, the prefix takes its
--- place. @return boolean whether it did
function Slice:release_previous(prev)
  check_self(self, "release_previous")
  check_slice(prev, "slice:release_previous: prev")
  local code = C.neap_slice_release_previous(self.slot, self.gen, prev.slot, prev.gen)
  if code == C.NEAP_E_RANGE then
    check.raise("slice:release_previous: prev is the slice itself", 1)
  end
  if code < 0 then misuse("release_previous", code) end
  retire(prev)
  return code == 1
end

--- Bytes. (`#slice` is the same.)
function Slice:size()
  check_self(self, "size")
  local code = C.neap_slice_size(self.slot, self.gen)
  if code < 0 then misuse("size", code) end
  return code
end

-- ---- numbers ----

local numbers = {
  u8 = { C.NEAP_U8, 1 }, i8 = { C.NEAP_I8, 1 },
  u16be = { C.NEAP_U16BE, 2 }, u16le = { C.NEAP_U16LE, 2 },
  i16be = { C.NEAP_I16BE, 2 }, i16le = { C.NEAP_I16LE, 2 },
  u32be = { C.NEAP_U32BE, 4 }, u32le = { C.NEAP_U32LE, 4 },
  i32be = { C.NEAP_I32BE, 4 }, i32le = { C.NEAP_I32LE, 4 },
  f32be = { C.NEAP_F32BE, 4 }, f32le = { C.NEAP_F32LE, 4 },
  f64be = { C.NEAP_F64BE, 8 }, f64le = { C.NEAP_F64LE, 8 },
}

-- What neap_slice_get() answered with NaN: a number that is one, or a misuse.
local function explain(self, name, offset, width)
  local code = C.neap_slice_check(self.slot, self.gen, offset, width)
  if code == 0 then return 0 / 0 end
  if code == C.NEAP_E_RANGE then
    check.raise(("slice:%s: %d byte%s at offset %d reach past the slice's %d bytes"):format(name,
      width, width == 1 and "" or "s", offset, C.neap_slice_size(self.slot, self.gen)), 2)
  end
  check.raise("slice:" .. name .. ": " .. text_of(code), 2)
end

local function define_number(name, number, width)
  local what, set_name = "slice:" .. name .. ": offset", "set_" .. name
  local set_what = "slice:" .. set_name .. ": offset"

  Slice[name] = function(self, offset)
    check_self(self, name)
    check.whole(offset, U32, what)
    local value = C.neap_slice_get(self.slot, self.gen, offset, number)
    if value == value then return value end
    return (explain(self, name, offset, width))
  end

  Slice[set_name] = function(self, offset, value)
    check_self(self, set_name)
    check.whole(offset, U32, set_what)
    if type(value) ~= "number" then
      check.raise("slice:" .. set_name .. ": value must be a number, got " .. type(value), 1)
    end
    local code = C.neap_slice_set(self.slot, self.gen, offset, number, value)
    if code == 0 then return end
    if code == C.NEAP_E_RANGE then explain(self, set_name, offset, width) end
    if code == C.NEAP_E_RANGE then
      check.raise(("slice:%s: %s does not fit %s"):format(set_name, tostring(value), name), 1)
    end
    misuse(set_name, code)
  end
end

for name, number in pairs(numbers) do define_number(name, number[1], number[2]) end

local uint64_t, int64_t = ffi.typeof("uint64_t"), ffi.typeof("int64_t")

local function define_number64(name, ctype, big)
  local set_name = "set_" .. name
  local what, set_what = "slice:" .. name .. ": offset", "slice:" .. set_name .. ": offset"

  Slice[name] = function(self, offset)
    check_self(self, name)
    check.whole(offset, U32, what)
    if C.neap_slice_check(self.slot, self.gen, offset, 8) < 0 then
      explain(self, name, offset, 8)
    end
    return ctype(C.neap_slice_get64(self.slot, self.gen, offset, big))
  end

  Slice[set_name] = function(self, offset, value)
    check_self(self, set_name)
    check.whole(offset, U32, set_what)
    if type(value) ~= "number" and not istype(uint64_t, value) and not istype(int64_t, value) then
      check.raise("slice:" .. set_name .. ": value must be a number or a 64-bit integer, got "
        .. type(value), 1)
    end
    if type(value) == "number" then
      if value ~= math.floor(value) or value < -0x1p53 or value > 0x1p53 then
        check.raise(("slice:%s: %s does not fit %s"):format(set_name, tostring(value), name), 1)
      end
      value = int64_t(value)
    end
    local code = C.neap_slice_set64(self.slot, self.gen, offset, big, cast(uint64_t, value))
    if code == 0 then return end
    if code == C.NEAP_E_RANGE then explain(self, set_name, offset, 8) end
    misuse(set_name, code)
  end
end

define_number64("u64be", uint64_t, true)
define_number64("u64le", uint64_t, false)
define_number64("i64be", int64_t, true)
define_number64("i64le", int64_t, false)

local function define_u53(name, number)
  local what = "slice:" .. name .. ": offset"

  --- 64 bits as a Lua number; a number above 2^53 raises, since it would lose bits.
  Slice[name] = function(self, offset)
    check_self(self, name)
    check.whole(offset, U32, what)
    local value = C.neap_slice_get(self.slot, self.gen, offset, number)
    if value <= 0x1p53 then return value end
    if value ~= value then return (explain(self, name, offset, 8)) end
    check.raise(("slice:%s: the number at offset %d is above 2^53 (%s reads all bits)")
      :format(name, offset, name:gsub("53", "64")), 1)
  end
end

define_u53("u53be", C.NEAP_U64BE)
define_u53("u53le", C.NEAP_U64LE)

-- ---- bytes ----

--- The bytes as a Lua string (a copy, and interned); from and to as in string.sub.
function Slice:str(from, to)
  check_self(self, "str")
  local size = C.neap_slice_size(self.slot, self.gen)
  if size < 0 then misuse("str", size) end
  from, to = from or 1, to or -1
  if type(from) ~= "number" or type(to) ~= "number" or from ~= from or to ~= to then
    check.raise("slice:str: from and to must be numbers", 1)
  end
  if from < 0 then from = size + from + 1 end
  if to < 0 then to = size + to + 1 end
  from, to = math.max(math.floor(from), 1), math.min(math.floor(to), size)
  if from > to then return "" end
  return ffi.string(C.neap_slice_bytes(self.slot, self.gen) + (from - 1), to - from + 1)
end

--- The offset of the bytes at or behind `from`, or nil.
function Slice:find(bytes, from)
  check_self(self, "find")
  check.string(bytes, "slice:find: bytes")
  from = check.whole(from or 0, U32, "slice:find: from")
  local code = C.neap_slice_find(self.slot, self.gen, bytes, #bytes, from)
  if code >= 0 then return code end
  if code == C.NEAP_E_EOF then return nil end
  misuse("find", code)
end

--- Does the slice hold just the bytes of a string or of another slice?
function Slice:equals(x)
  check_self(self, "equals")
  local code
  if type(x) == "string" then
    code = C.neap_slice_equals(self.slot, self.gen, x, #x)
  else
    check_slice(x, "slice:equals: argument")
    code = C.neap_slice_equals_slice(self.slot, self.gen, x.slot, x.gen)
  end
  if code < 0 then misuse("equals", code) end
  return code == 1
end

--- Copies a string or another slice over the bytes at an offset.
function Slice:copy_from(x, offset)
  check_self(self, "copy_from")
  offset = check.whole(offset or 0, U32, "slice:copy_from: offset")
  local code
  if type(x) == "string" then
    code = C.neap_slice_write(self.slot, self.gen, offset, x, #x)
  else
    check_slice(x, "slice:copy_from: source")
    local size = C.neap_slice_size(x.slot, x.gen)
    if size < 0 then misuse("copy_from", size) end
    code = C.neap_slice_copy(self.slot, self.gen, offset, x.slot, x.gen, 0, size)
  end
  if code < 0 then misuse("copy_from", code) end
end

-- ---- as a value ----

local info_t = ffi.typeof("struct neap_slice_info")

local function describe(self)
  local info = info_t()
  if C.neap_slice_info(self.slot, self.gen, info) < 0 then return "slice (released)" end
  local size, shown = info.bound - info.base, 16
  local bytes = ffi.string(C.neap_slice_bytes(self.slot, self.gen), math.min(size, shown))
  return ("slice of %d bytes %q%s (free prefix %d, in a buf of %d)"):format(size,
    (bytes:gsub("[^\32-\126]", ".")), size > shown and "…" or "", info.base - info.free,
    info.buf_bytes)
end

local function no_concat()
  check.raise("a slice is not a string: write slice:str() to make one of it", 1)
end

local function equal(a, b)
  if type(a) == "string" or type(b) == "string" then
    check.raise("a slice is not a string: write slice:equals(bytes) to compare its bytes", 1)
  end
  return rawequal(a, b)
end

ffi.metatype(slice_t, {
  __index = Slice,
  __len = Slice.size,
  __concat = no_concat,
  __eq = equal,
  __tostring = describe,
  __metatable = "neap.slice",
})

return abi.keep("neap.slice", M)
