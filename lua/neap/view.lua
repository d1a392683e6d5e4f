--- Views: bytes that a reader still holds, looked at where they lie.
---
--- A view is borrowed: it costs no memory and no counting, and it is stale after the next read,
--- peek or skip on its reader, which every use of it finds out. `retain` makes a slice of it.
---
--- Servers make them by the million, and look at each for a moment: so theirs, and parts of views,
--- come from a ring of objects, and are used again. A task that waits may still need those that it
--- has made, so the ring gives them up then (`keep`); who hands a view to a function that may use
--- it until it returns says afterwards that they are free (`done`). A script that keeps one for
--- longer finds it stale, until the ring has come round: a mistake of the script, and never one of
--- memory.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local common = require("neap.bytes")
local errors = require("neap.errors")
local slice = require("neap.slice")

local C = abi.C
local view_t = ffi.typeof("struct neap_lua_view")
local fields_t = ffi.typeof("struct neap_view *")
local chars_t = ffi.typeof("char[?]")
local RING = 4096 -- views, after which an object is used again
local SMALL = 512 -- bytes that need no room of their own on their way to a Lua string
local small_room = chars_t(SMALL)
local RANGE = C.NEAP_E_RANGE
local NAN = 0 / 0
local U32 = 0xffffffff
local istype, cast, band = ffi.istype, ffi.cast, require("bit").band
local type, min = type, math.min

local M = {}

--- Bytes that a connection or reader still holds, looked at where they lie: what `peek` gives. A
--- view costs nothing and needs no release. It is stale after the next read, peek or skip on its
--- reader, and each use of it then raises.
--- @class neap.View
--- @operator len: integer bytes; known of a stale view, too
local View = {}

local ring = {}
local last, base = 0, 0 -- the place of the latest view, and of the latest that is free
for i = 0, RING - 1 do ring[i] = view_t() end

--- Somebody still needs the views that were made since the last keep() or done().
function M.keep()
  while base ~= last do
    base = band(base + 1, RING - 1)
    ring[base] = view_t()
  end
end

local keep = M.keep

--- Nobody needs them.
function M.done() base = last end

--- An object for C to fill in: a struct neap_view.
local function fresh()
  last = band(last + 1, RING - 1)
  if last == base then -- all the way round
    last = band(last - 1, RING - 1)
    keep()
    last = band(last + 1, RING - 1)
  end
  return ring[last]
end

local function new(slot, gen, epoch, at, size)
  local made = fresh()
  local fields = cast(fields_t, made)
  fields.slot, fields.gen, fields.epoch, fields.at, fields.size = slot, gen, epoch, at, size
  return made
end

M.fresh = fresh

--- A view from the ring: reader_slot, reader_gen, epoch, at, size.
M.new = new

--- One that nobody else uses again.
M.own = view_t

local function check_self(self, name)
  if not istype(view_t, self) then
    check.raise("view:" .. name .. ": called on " .. type(self) .. ", not on a view")
  end
end

local stale_text = "the reader has read, peeked or skipped since (view:retain() keeps the bytes)"

local function is_stale(self)
  return C.neap_view_copy(self.slot, self.gen, self.epoch, self.at + self.size, self.at, 0, nil) < 0
end

local function explain(self, name, offset, width)
  if is_stale(self) then check.raise("view:" .. name .. ": " .. stale_text) end
  if offset + width > self.size then
    check.raise(("view:%s: %d byte%s at offset %d reach past the view's %d bytes"):format(name,
      width, width == 1 and "" or "s", offset, self.size))
  end
end

local function size_of(self, name)
  if is_stale(self) then check.raise("view:" .. name .. ": " .. stale_text) end
  return self.size
end

-- By way of C, which looks whether the reader is still there: nothing here keeps it.
local function copy_of(self, offset, n)
  local room = n <= SMALL and small_room or chars_t(n)
  local code = C.neap_view_copy(self.slot, self.gen, self.epoch, self.at + self.size,
    self.at + offset, n, room)
  if code < 0 then check.raise("view: " .. stale_text) end
  return ffi.string(room, n)
end

local function find(self, bytes, from)
  local code = C.neap_view_find(cast(fields_t, self), bytes, #bytes, from)
  if code >= 0 then return code end
  if code == C.NEAP_E_RANGE then
    check.raise(("view:find: from is %d, but the view has %d bytes"):format(from, self.size))
  end
  if code ~= C.NEAP_E_EOF then check.raise("view:find: " .. stale_text) end
  return nil
end

common.install(View, {
  name = "view",
  check = check_self,
  get = function(self, offset, number)
    if offset >= self.size then return NAN end -- the sum below would not fit 32 bits
    local at = self.at
    local value = C.neap_view_get(self.slot, self.gen, self.epoch, at + self.size, at + offset,
      number)
    return value
  end,
  bits = function(self, offset, number) -- looked at before, by explain()
    local at = self.at
    local value = C.neap_view_bits(self.slot, self.gen, self.epoch, at + self.size, at + offset,
      number)
    return value
  end,
  unpack = function(self, offset, numbers)
    if offset > self.size then return RANGE end
    local at = self.at
    local code = C.neap_view_unpack(self.slot, self.gen, self.epoch, at + self.size, at + offset,
      numbers)
    return code
  end,
  explain = explain,
  size = size_of,
  copy = copy_of,
  find = find,
})

--- Has its reader read, peeked or skipped since the view was made? Then each use of it raises.
--- @return boolean stale
function View:is_stale()
  check_self(self, "is_stale")
  return is_stale(self)
end

--- Does the view hold just these bytes?
--- @param bytes string what to compare with
--- @return boolean equal whether all bytes are the same, and as many
function View:equals(bytes)
  check_self(self, "equals")
  check.string(bytes, "view:equals: bytes")
  local code = C.neap_view_equals(cast(fields_t, self), bytes, #bytes)
  if code < 0 then check.raise("view:equals: " .. stale_text) end
  return code == 1
end

--- A view of n bytes of this one, from an offset on; it is stale when this one is.
--- own: returns borrowed
--- @param offset integer bytes from the front
--- @param n integer bytes
--- @return neap.View view
function View:sub(offset, n)
  check_self(self, "sub")
  check.whole(offset, U32, "view:sub: offset")
  check.whole(n, U32, "view:sub: n")
  local size = self.size
  if offset > size or n > size - offset then explain(self, "sub", offset, n) end
  return new(self.slot, self.gen, self.epoch, self.at + offset, n)
end

--- A slice of the bytes, which stay unread.
--- own: returns owned
--- err: "memory"
--- @return neap.Slice|nil slice, string? message, string? name
function View:retain()
  check_self(self, "retain")
  local handle = slice.fresh()
  local code = C.neap_view_retain(cast(fields_t, self), ffi.cast(abi.out_t, handle))
  if code == 0 then return handle end
  if code > 0 then return slice.made(handle, code) end
  slice.retire(handle)
  if code == C.NEAP_E_STALE then check.raise("view:retain: " .. stale_text) end
  return errors.failure("view:retain", code)
end

ffi.metatype(view_t, {
  __index = View,
  __len = function(self) return self.size end,
  __tostring = function(self)
    if is_stale(self) then return "view (stale)" end
    return ("view of %d bytes %s"):format(self.size, common.preview(
      copy_of(self, 0, min(self.size, common.PREVIEW)), self.size))
  end,
  __metatable = "neap.view",
})

--- Is x a view?
--- @return boolean
function M.is_view(x) return istype(view_t, x) end

return abi.keep("neap.view", M)
