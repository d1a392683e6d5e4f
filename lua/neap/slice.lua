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
local collector = require("neap.collector")
local common = require("neap.bytes")
local errors = require("neap.errors")
local format = require("neap.format")
local site = require("neap.site")

local C = abi.C
local out_t = abi.out_t
local band = bit.band
local NOTE, PASS = C.NEAP_NOTE, C.NEAP_NOTE_PASS
local KEEP_HANDLE, HOLD = C.NEAP_KEEP, C.NEAP_HOLD
local slice_t = ffi.typeof("struct neap_lua_slice")
local istype, cast, attach = ffi.istype, ffi.cast, ffi.gc
local finalize = C.neap_slice_finalize

local chars_t = ffi.typeof("char[?]")
local SMALL = 512 -- bytes that need no room of their own on their way to a Lua string
local small_room = chars_t(SMALL)
local type, min, max, rawget, rawset = type, math.min, math.max, rawget, rawset

local U32 = 0xffffffff
local LIST_MAX = 2 ^ 24
local KEEP = 4096    -- released handles that rest at least
local RING = 16384   -- … and at most
local MASK = RING - 1
local REFILL = 1024  -- handles made at a time
local LOOKS = 4096   -- held handles that are looked at at a time

local M = {}

--- A counted view of bytes in a buf of a pool: what reads give and writes take. Whoever is handed
--- a slice releases it. It is no string: `..` and `==` with a string raise; `==` with another
--- slice asks whether it is the same one.
--- @class neap.Slice
--- @operator len: integer bytes
local Slice = {}

-- ---- handles ----

local ring = {}
local head, tail = 0, 0

for i = 0, MASK do ring[i] = false end

local keep, most = KEEP, RING -- of them; 0 at the levels touch and all: no handle is used again
local watches = false -- where slices pass: at these levels

-- At these levels a handle has no finalizer: to attach and to detach it would cost more than all
-- else that is done for a slice. What names a live slice is here by its slot, weakly: what the
-- collector has taken out was forgotten. At 0 is what it takes in each cycle.
local held = setmetatable({}, { __mode = "v" })
local holds = false -- it was at one of these levels
local look_at = 0   -- the slot that is looked at next; 0: no cycle has ended since the last look

local function put_last(handle)
  ring[band(tail, MASK)] = handle
  tail = tail + 1
end

local function rest(handle)
  if tail - head >= most then return end
  put_last(handle)
end

--- The handle's slice is gone.
local function retire(handle)
  if most == 0 or holds and rawequal(held[handle.slot], handle) then return end
  rest(handle)
end

--- Releases slices whose held handles the collector has taken, and looks at so many at most. Not
--- in a finalizer: that may run where one was made that is not held yet.
--- @return boolean all have been looked at
local function find_forgotten(count)
  if look_at == 0 then
    if not holds or held[0] or not collectgarbage("isrunning") then return true end
    held[0], look_at = {}, 1
  end
  for _ = 1, count do
    local slot = C.neap_slice_next_held(look_at)
    look_at = slot == 0 and 0 or slot + 1
    if slot == 0 then return true end
    if not held[slot] then C.neap_slice_forget(slot) end
  end
  return false
end

collector.on_cycle(function() return find_forgotten(LOOKS) end)

--- All that the collector has found is released and counted after this.
function M.settle() return find_forgotten(math.huge) end

-- Lua ends: so do all handles, and nobody looks any more.
M.at_the_end = attach(slice_t(), function()
  local slot = C.neap_slice_next_held(1)
  while slot ~= 0 do
    C.neap_slice_forget(slot)
    slot = C.neap_slice_next_held(slot + 1)
  end
end)

-- Many at a time: what is compiled while a program warms up is then the path of later, which
-- takes from the ring, and not the one that makes handles.
local function refill()
  find_forgotten(LOOKS)
  for _ = 1, keep + REFILL - (tail - head) do
    put_last(watches and slice_t() or attach(slice_t(), finalize))
  end
end

--- A handle object that names nothing yet; its finalizer is attached once in its life.
local function fresh()
  if tail - head <= keep then refill() end
  local at = band(head, MASK)
  local handle = ring[at]
  ring[at] = false
  head = head + 1
  return handle
end

--- A fresh handle that was not needed goes back to where it came from.
local function unused(handle)
  if tail - head >= RING then return end
  head = head - 1
  ring[band(head, MASK)] = handle
end

--- Is it a slice (live or not)?
local function is_slice(x)
  return istype(slice_t, x)
end

M.fresh, M.retire, M.unused, M.is_slice = fresh, retire, unused, is_slice

-- ---- who made it, where it passes ----

--- Which slices are watched from now on (enum neap_leaks).
function M.set_level(level)
  C.neap_ledger_set_level(level)
  local before = watches
  watches = level > C.NEAP_LEAKS_SAMPLE
  if watches == before then return end
  holds = true
  keep, most, head, tail = watches and 0 or KEEP, watches and 0 or RING, 0, 0
  for i = 0, MASK do ring[i] = false end
end

--- C has wishes for a slice that was made (enum neap_wish).
--- @param handle neap.Slice
--- @param wishes integer
--- @return neap.Slice handle
local function made(handle, wishes)
  if band(wishes, HOLD) ~= 0 then held[handle.slot] = handle end
  if band(wishes, NOTE) ~= 0 then site.born(handle) end
  return handle
end

M.made = made

--- A slice passes the caller of neap, at the levels that look.
function M.passes(handle, deed)
  if watches and C.neap_ledger_wants(handle.slot, handle.gen) == 1 then site.pass(handle, deed) end
end

--- C has taken a slice: its handle is stale.
function M.given(handle, deed)
  if watches and deed then site.maybe_ended(handle, deed) end
  retire(handle)
end

-- A slice that was made of another one.
local function made_of(other, handle, wishes, deed)
  made(handle, wishes)
  if band(wishes, PASS) ~= 0 then site.pass(other, deed) end
  return handle
end

-- ---- failures ----

--- What is wrong with a stale handle, as the end of a sentence.
function M.stale_text(handle)
  return "was released or taken before" .. site.end_of(handle)
end

local function text_of(code, self)
  if code == C.NEAP_E_STALE then return "the slice " .. M.stale_text(self) end
  return errors.text(code)
end

-- Of two handles one is stale.
local function stale_of(a, b)
  return C.neap_slice_size(a.slot, a.gen) < 0 and a or b
end

--- Raise for a negative result; the public function called this.
local function misuse(name, code, self)
  check.raise("slice:" .. name .. ": " .. text_of(code, self))
end

local function check_self(self, name)
  if not istype(slice_t, self) then
    check.raise("slice:" .. name .. ": called on " .. type(self)
      .. ", not on a slice (write slice:" .. name .. "(…) with a colon)")
  end
end

local function check_slice(x, what)
  if not istype(slice_t, x) then
    check.raise(what .. " must be a slice, got " .. type(x))
  end
end

-- Memory or a limit is the outside world's failure.
local function outcome(code, name, self)
  if code == C.NEAP_E_STALE or code == C.NEAP_E_RANGE or code == C.NEAP_E_READ_ONLY
    or code == C.NEAP_E_OVERLAP then
    misuse(name, code, self)
  end
  return errors.failure("slice:" .. name, code)
end

-- ---- lifetime ----

--- Ends the slice; its buf is recycled with the last one. Twice raises.
--- own: takes the slice
function Slice:release()
  check_self(self, "release")
  local code = C.neap_slice_release(self.slot, self.gen)
  if code == 0 then return rest(self) end
  if code < 0 then misuse("release", code, self) end
  if band(code, NOTE) ~= 0 then site.ended(self, C.NEAP_DEED_RELEASE) end
  if band(code, KEEP_HANDLE) == 0 then rest(self) end
end

--- A second owner of the same bytes, without a free prefix.
--- own: returns owned
--- err: "memory"
--- @return neap.Slice|nil clone, string? message, string? name
function Slice:retain()
  check_self(self, "retain")
  local clone = fresh()
  local code = C.neap_slice_retain(self.slot, self.gen, cast(out_t, clone))
  if code == 0 then return clone end
  if code > 0 then return made_of(self, clone, code, C.NEAP_DEED_RETAIN) end
  retire(clone)
  return outcome(code, "retain", self)
end

--- Cuts the first n bytes off as a slice of their own (the free prefix goes with them); the
--- slice keeps the rest. Nothing is copied.
--- own: returns owned
--- err: "memory"
--- @param n integer bytes
--- @return neap.Slice|nil front, string? message, string? name
function Slice:split(n)
  check_self(self, "split")
  check.whole(n, U32, "slice:split: n")
  local front = fresh()
  local code = C.neap_slice_split(self.slot, self.gen, n, cast(out_t, front))
  if code == 0 then return front end
  if code > 0 then return made_of(self, front, code, C.NEAP_DEED_SPLIT) end
  retire(front)
  if code == C.NEAP_E_RANGE then
    check.raise(("slice:split: n is %d, but the slice has %d bytes"):format(n, #self))
  end
  return outcome(code, "split", self)
end

--- Copies the bytes (and the free prefix) into a small buf of their own, so that the large
--- one can go. For what is kept long. Tells how many bytes the slice holds no longer.
--- err: "limit", "memory", "closed" (the pool)
--- @return integer|nil bytes, string? message, string? name
function Slice:detach()
  check_self(self, "detach")
  local code = C.neap_slice_detach(self.slot, self.gen)
  if code >= 0 then return code end
  return outcome(code, "detach", self)
end

-- ---- shape ----

--- Drops n bytes at the front; expand_front can have them back. n beyond the size drops all.
--- @param n integer bytes
function Slice:truncate_front(n)
  check_self(self, "truncate_front")
  check.whole(n, 0x1p53, "slice:truncate_front: n")
  local code = C.neap_slice_truncate_front(self.slot, self.gen, n < U32 and n or U32)
  if code < 0 then misuse("truncate_front", code, self) end
end

--- Drops n bytes at the back, for good. n beyond the size drops all.
--- @param n integer bytes
function Slice:truncate_back(n)
  check_self(self, "truncate_back")
  check.whole(n, 0x1p53, "slice:truncate_back: n")
  local code = C.neap_slice_truncate_back(self.slot, self.gen, n < U32 and n or U32)
  if code < 0 then misuse("truncate_back", code, self) end
end

--- Grows the slice downward by n bytes of its free prefix.
--- @param n integer bytes
--- @return boolean grown false: the prefix has fewer, or they are in use; nothing changed
function Slice:expand_front(n)
  check_self(self, "expand_front")
  check.whole(n, 0x1p53, "slice:expand_front: n")
  local code = C.neap_slice_expand_front(self.slot, self.gen, n < U32 and n or U32)
  if code < 0 then misuse("expand_front", code, self) end
  return code == 1
end

--- Claims everything before the slice in its buf as its free prefix. Raises where a live slice is.
function Slice:free_entire_prefix()
  check_self(self, "free_entire_prefix")
  local code = C.neap_slice_free_entire_prefix(self.slot, self.gen)
  if code < 0 then misuse("free_entire_prefix", code, self) end
end

--- Releases prev; if it ends where this slice's free prefix starts, the prefix takes its
--- place.
--- own: takes prev
--- @param prev neap.Slice another slice
--- @return boolean grown whether the prefix took its place
function Slice:release_previous(prev)
  check_self(self, "release_previous")
  check_slice(prev, "slice:release_previous: prev")
  local code = C.neap_slice_release_previous(self.slot, self.gen, prev.slot, prev.gen)
  if code == C.NEAP_E_RANGE then
    check.raise("slice:release_previous: prev is the slice itself")
  end
  if code < 0 then misuse("release_previous", code, stale_of(self, prev)) end
  M.given(prev, C.NEAP_DEED_RELEASE)
  return code == 1
end

--- Another handle of the same slice; the one that the script has is stale. nil: it was before.
--- @param deed? integer what the caller of neap does with it; nil: another one does
function M.move(handle, deed)
  local moved = fresh()
  local code = C.neap_slice_move(handle.slot, handle.gen, cast(out_t, moved))
  if code < 0 then
    unused(moved)
    return nil
  end
  made(moved, code)
  if deed and band(code, PASS) ~= 0 then site.pass(moved, deed) end
  M.given(handle, deed)
  return moved
end

--- How many bytes it is. (`#slice` is the same.)
--- @return integer bytes
function Slice:size()
  check_self(self, "size")
  local code = C.neap_slice_size(self.slot, self.gen)
  if code < 0 then misuse("size", code, self) end
  return code
end

-- ---- numbers ----

-- Raise for what neap_slice_get() refused; a NaN that stands in the bytes is none.
local function explain(self, name, offset, width)
  local code = C.neap_slice_check(self.slot, self.gen, offset, width)
  if code == 0 then return end
  if code == C.NEAP_E_RANGE then
    check.raise(("slice:%s: %d byte%s at offset %d reach past the slice's %d bytes"):format(name,
      width, width == 1 and "" or "s", offset, C.neap_slice_size(self.slot, self.gen)))
  end
  misuse(name, code, self)
end

local function size_of(self, name)
  local size = C.neap_slice_size(self.slot, self.gen)
  if size < 0 then misuse(name, size, self) end
  return size
end

-- No pointer into the bytes is ever in a Lua variable: making one can run the collector, and
-- that a finalizer of the script, which may release the slice.
local function copy_of(self, offset, n)
  local room = n <= SMALL and small_room or chars_t(n)
  local code = C.neap_slice_copy_out(self.slot, self.gen, offset, n, room)
  if code < 0 then check.raise("slice: " .. text_of(code, self)) end
  return ffi.string(room, n)
end

local function find(self, bytes, from)
  local code = C.neap_slice_find(self.slot, self.gen, bytes, #bytes, from)
  if code >= 0 then return code end
  if code ~= C.NEAP_E_EOF then misuse("find", code, self) end
  return nil
end

common.install(Slice, {
  name = "slice",
  check = check_self,
  get = function(self, offset, number)
    local value = C.neap_slice_get(self.slot, self.gen, offset, number)
    return value
  end,
  bits = function(self, offset, number)
    local value = C.neap_slice_get_bits(self.slot, self.gen, offset, number)
    return value
  end,
  unpack = function(self, offset, numbers)
    local code = C.neap_slice_unpack(self.slot, self.gen, offset, numbers)
    return code
  end,
  explain = explain,
  size = size_of,
  copy = copy_of,
  find = find,
})

local function set_failed(self, name, offset, width, value, code)
  if code == C.NEAP_E_RANGE then
    explain(self, name, offset, width)
    check.raise(("slice:%s: %s does not fit"):format(name, tostring(value)))
  end
  misuse(name, code, self)
end

for plain, number in pairs(common.numbers) do
  local name, width = "set_" .. plain, common.width_of(number)
  local full_name = "slice:" .. name
  local what = full_name .. ": offset"
  --- Writes a number at an offset. The name tells what shall stand in the bytes: `u` unsigned, `i`
  --- signed, `f` IEEE 754; bits; `be` the highest byte first, `le` the lowest.
  --- @param offset integer bytes from the front
  --- @param value number an integer that fits, or any number for `f`
  Slice[name] = function(self, offset, value)
    check_self(self, name)
    check.whole(offset, U32, what)
    check.number(value, full_name)
    local code = C.neap_slice_set(self.slot, self.gen, offset, number, value)
    if code < 0 then set_failed(self, name, offset, width, value, code) end
  end
end

for plain, number in pairs(common.wide) do
  local name = "set_" .. plain
  local what = "slice:" .. name .. ": offset"
  --- Writes an integer of 64 bits at an offset.
  --- @param offset integer bytes from the front
  --- @param value integer|ffi.cdata* an integer up to 2^53, or an int64_t or uint64_t that fits
  Slice[name] = function(self, offset, value)
    check_self(self, name)
    check.whole(offset, U32, what)
    local bits = common.bits_of(value, number)
    if not bits then check.raise("slice:" .. name .. ": value must be an integer that fits") end
    local code = C.neap_slice_set_bits(self.slot, self.gen, offset, number, bits)
    if code < 0 then set_failed(self, name, offset, 8, value, code) end
  end
end

local function pack_failed(self, offset, width, value, code)
  if code < 0 then set_failed(self, "pack", offset, width, value, code) end
end

-- A pack that raises has written nothing: all is tried before any is written.
local try = format.packers({
  put = function(self, offset, number, value)
    check.number(value, "slice:pack")
    pack_failed(self, offset, common.width_of(number), value,
      C.neap_slice_try_set(self.slot, self.gen, offset, number, value))
  end,
  put_bits = function(self, offset, number, value)
    if not common.bits_of(value, number) then
      check.raise("slice:pack: an integer that fits is needed")
    end
    local width = common.width_of(number)
    pack_failed(self, offset, width, value,
      C.neap_slice_try_write(self.slot, self.gen, offset, width))
  end,
  put_bytes = function(self, offset, bytes)
    pack_failed(self, offset, #bytes, "a string",
      C.neap_slice_try_write(self.slot, self.gen, offset, #bytes))
  end,
})

local write = format.packers({
  put = function(self, offset, number, value)
    C.neap_slice_set(self.slot, self.gen, offset, number, value)
  end,
  put_bits = function(self, offset, number, value)
    C.neap_slice_set_bits(self.slot, self.gen, offset, number, common.bits_of(value, number))
  end,
  put_bytes = function(self, offset, bytes)
    C.neap_slice_write(self.slot, self.gen, offset, bytes, #bytes)
  end,
})

local quick = format.quick_packers(function(self, offset, numbers)
  local code = C.neap_slice_pack(self.slot, self.gen, offset, numbers)
  return code
end)

--- Writes values at an offset, by a format as string.pack of newer Luas has it: all, or none.
--- `< > =` order: little-endian, big-endian, native (the start) · `b B h H i I l L j J T`, `i[n]`
--- `I[n]` integers of 1 to 8 bytes · `f d n` floats · `x` a byte of padding · `cN` a string of N
--- bytes · `sN` one behind its length of N bytes (1 to 6) · `z` one that a zero byte ends. Integers
--- of 7 and 8 bytes are 64-bit cdata, or numbers up to 2^53; unpack gives cdata. `!` is not spoken.
--- @param format_text string a list of formats, such as ">I2s4"
--- @param offset integer bytes from the front
--- @param ... any a value for each format that has one
--- @return integer offset behind them
function Slice:pack(format_text, offset, ...)
  check_self(self, "pack")
  check.string(format_text, "slice:pack: format")
  check.whole(offset, U32, "slice:pack: offset")
  local pack_numbers = quick(format_text)
  local behind = pack_numbers and pack_numbers(self, offset, ...)
  if behind then return behind end
  local fn, message = try(format_text)
  if not fn then check.raise("slice:pack: " .. message) end
  fn(self, offset, ...)
  return write(format_text)(self, offset, ...)
end

-- ---- bytes ----

--- Does the slice hold just the bytes of a string or of another slice?
--- own: borrows x
--- @param x string|neap.Slice what to compare with
--- @return boolean equal whether all bytes are the same, and as many
function Slice:equals(x)
  check_self(self, "equals")
  local code
  if type(x) == "string" then
    code = C.neap_slice_equals(self.slot, self.gen, x, #x)
  else
    check_slice(x, "slice:equals: argument")
    code = C.neap_slice_equals_slice(self.slot, self.gen, x.slot, x.gen)
    if code < 0 then misuse("equals", code, stale_of(self, x)) end
  end
  if code < 0 then misuse("equals", code, self) end
  return code == 1
end

--- Copies a string or another slice over the bytes at an offset.
--- own: borrows x
--- @param x string|neap.Slice what to copy; all of it has to fit
--- @param offset? integer bytes from the front (0)
function Slice:copy_from(x, offset)
  check_self(self, "copy_from")
  offset = check.whole(offset or 0, U32, "slice:copy_from: offset")
  local code
  if type(x) == "string" then
    code = C.neap_slice_write(self.slot, self.gen, offset, x, #x)
  else
    check_slice(x, "slice:copy_from: source")
    local size = C.neap_slice_size(x.slot, x.gen)
    if size < 0 then misuse("copy_from", size, x) end
    code = C.neap_slice_copy(self.slot, self.gen, offset, x.slot, x.gen, 0, size)
  end
  if code < 0 then misuse("copy_from", code, self) end
end

-- ---- as a value ----

local info_t = ffi.typeof("struct neap_slice_info")

local function describe(self)
  local info = info_t()
  if C.neap_slice_info(self.slot, self.gen, info) < 0 then return "slice (released)" end
  local size = info.bound - info.base
  return ("slice of %d bytes %s (free prefix %d, in a buf of %d)"):format(size,
    common.preview(copy_of(self, 0, min(size, common.PREVIEW)), size), info.base - info.free,
    info.buf_bytes)
end

local function no_concat()
  check.raise("a slice is not a string: write slice:str() to make one of it")
end

local function equal(a, b)
  if type(a) == "string" or type(b) == "string" then
    check.raise("a slice is not a string: write slice:equals(bytes) to compare its bytes")
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

-- ---- several ----

local handles_t = ffi.typeof("struct neap_handle[?]")
local where = ffi.new("uint32_t[1]")
local SPARE = 1024 -- elements that the spare room holds

-- Room for the handles of a list, and the list itself as it was looked at. Whoever uses them
-- takes them away first: a finalizer that the collector runs meanwhile may be here too.
local spare_handles, spare_objects = handles_t(SPARE), {}

local function take_room(count)
  local handles, objects = spare_handles, spare_objects
  spare_handles, spare_objects = nil, nil
  -- never a smaller one: it may become the spare one
  if not handles or count > SPARE then handles = handles_t(max(count, SPARE)) end
  return handles, objects or {}
end

local function give_room(handles, objects, count)
  if count > SPARE then return end
  for i = 1, count do objects[i] = nil end
  spare_handles, spare_objects = handles, objects
end

-- The handles of a list, for C. Every element is looked at, once, before any is taken.
local function gather(list, count, handles, objects)
  for i = 1, count do
    local s = rawget(list, i)
    if not istype(slice_t, s) then
      check.raise(("neap.coalesce: element %d must be a slice, got %s"):format(i, type(s)))
    end
    objects[i] = s
    handles[i - 1].slot, handles[i - 1].gen = s.slot, s.gen
  end
end

--- Merges neighbours, from the left, up to max_size bytes each, without a copy.
--- own: takes all slices, returns owned those of the list that comes back, which is the same one
--- @param list neap.Slice[] its length is list.n or #list
--- @param max_size integer bytes
--- @return neap.Slice[] list
function M.coalesce(list, max_size)
  if type(list) ~= "table" then
    check.raise("neap.coalesce: list must be a table, got " .. type(list))
  end
  check.whole(max_size, 0x1p53, "neap.coalesce: max_size")
  local count = check.whole(list.n or #list, LIST_MAX, "neap.coalesce: length of the list")
  local handles, objects = take_room(count)
  gather(list, count, handles, objects)
  local left = C.neap_slice_coalesce(handles, count, max_size < U32 and max_size or U32, where)
  if left < 0 then
    check.raise(("neap.coalesce: element %d %s"):format(where[0] + 1,
      left == C.NEAP_E_STALE and M.stale_text(objects[where[0] + 1])
        or "stands in the list twice"))
  end
  local kept = 0
  for i = 1, count do
    local s = objects[i]
    if kept < left and s.slot == handles[kept].slot and s.gen == handles[kept].gen then
      kept = kept + 1
      rawset(list, kept, s)
    else
      M.given(s, C.NEAP_DEED_MERGE)
    end
  end
  for i = kept + 1, count do rawset(list, i, nil) end
  if rawget(list, "n") then rawset(list, "n", kept) end
  give_room(handles, objects, count)
  return list
end

-- ---- memory of Lua ----

local anchors, next_anchor = {}, 0

--- Strings whose last slice is gone may be collected; what was forgotten is looked for.
function M.reclaim()
  find_forgotten(LOOKS)
  local anchor = C.neap_foreign_next()
  while anchor ~= 0 do
    anchors[anchor] = nil
    anchor = C.neap_foreign_next()
  end
end

--- A slice of a Lua string, without a copy: read-only, never merged, never expanded.
--- own: retains the string, returns owned
--- err: "oversized" (above 1 GiB), "memory"
--- @param bytes string what the slice shows
--- @return neap.Slice|nil slice, string? message, string? name
function M.of_string(bytes)
  check.string(bytes, "neap.slice: bytes")
  M.reclaim()
  repeat next_anchor = next_anchor % U32 + 1 until not anchors[next_anchor]
  local anchor = next_anchor
  anchors[anchor] = bytes
  local handle = fresh()
  local code = C.neap_foreign_slice(bytes, #bytes, anchor, cast(out_t, handle))
  if code == 0 then return handle end
  if code > 0 then return made(handle, code) end
  anchors[anchor] = nil
  retire(handle)
  return errors.failure(("neap.slice of %d bytes"):format(#bytes), code)
end

return abi.keep("neap.slice", M)
