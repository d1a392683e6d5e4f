--- Buffers that grow: bytes to send, put behind one another in bufs of a pool.
---
---     local b = neap.buffer()
---     local at = b:reserve(4)                -- the length, known at the end
---     b:put("hello "):put(slice)
---     b:set_u32be(at, #b - 4)
---     for _, piece in ipairs(b:take()) do conn:write(piece) end
---
--- No Lua string is made, and nothing is copied to grow: a full piece is followed by one of
--- twice its size. `put` borrows what it is given. A buffer is used again after take or reset.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local collector = require("neap.collector")
local common = require("neap.bytes")
local errors = require("neap.errors")
local format = require("neap.format")
local pool = require("neap.pool")
local put = require("neap.put")
local slice = require("neap.slice")

local C = abi.C
local buffer_t = ffi.typeof("struct neap_lua_buffer")
local handle_t = ffi.typeof("struct neap_handle")
local istype, cast = ffi.istype, ffi.cast
local U32 = 0xffffffff
local type, pcall = type, pcall

local M = {}

--- Bytes to send, put behind one another in bufs of a pool; `take` gives them as slices. A
--- buffer keeps its pool open. Its methods that append return the buffer, so that calls can be
--- put in a row; where memory or a limit is in the way nothing was appended.
--- @class neap.Buffer
--- @operator len: integer bytes in it
local Buffer = {}

local function check_self(self, name)
  if not istype(buffer_t, self) then
    check.raise("buffer:" .. name .. ": called on " .. type(self) .. ", not on a buffer")
  end
end

--- Misuse raises; memory and limits come back as `nil, message, name`, with nothing appended.
local function outcome(self, code, name)
  if code >= 0 then return self end
  if code == C.NEAP_E_STALE or code == C.NEAP_E_RANGE then
    check.raise("buffer:" .. name .. ": " .. (code == C.NEAP_E_STALE
      and "the buffer or the slice was released before" or "the value does not fit"))
  end
  return errors.failure("buffer:" .. name, code)
end

-- The same for a number at an offset.
local function set_outcome(self, code, name, offset, width)
  local size = C.neap_buffer_size(self.slot, self.gen)
  if code == C.NEAP_E_RANGE and offset + width > size then
    check.raise(("buffer:%s: %d byte%s at offset %d reach past the buffer's %d bytes"):format(name,
      width, width == 1 and "" or "s", offset, size))
  end
  return outcome(self, code, name)
end

--- Makes a buffer that grows.
---
---     local b = neap.buffer()
---     local at = b:reserve(4)                -- the length, known at the end
---     b:put("hello "):put(slice)
---     b:set_u32be(at, #b - 4)
---     for _, piece in ipairs(b:take()) do conn:write(piece) end
---
--- own: returns owned
--- err: "closed" (the pool), "memory"
--- @param home? neap.Pool where its bytes lie; the default pool if none is given
--- @return neap.Buffer|nil buffer, string? message, string? name
function M.new(home)
  home = home or pool.default()
  if not pool.is_pool(home) then
    check.raise("neap.buffer: pool must be a pool, got " .. type(home))
  end
  local made = handle_t()
  local code = C.neap_buffer_create(home.slot, home.gen, made)
  if code < 0 then return errors.failure("neap.buffer", code) end
  if C.neap_collector_due(false) then collector.step() end
  return ffi.gc(buffer_t(made.slot, made.gen), C.neap_buffer_finalize)
end

put.install(Buffer, {
  name = "buffer",
  check = check_self,
  outcome = outcome,
  bytes = function(self, bytes)
    local code = C.neap_buffer_put(self.slot, self.gen, bytes, #bytes)
    return code
  end,
  slice = function(self, x)
    local code = C.neap_buffer_put_slice(self.slot, self.gen, x.slot, x.gen)
    return code
  end,
  view = function(self, x)
    local code = C.neap_buffer_put_view(self.slot, self.gen, x.slot, x.gen, x.epoch, x.at, x.size)
    return code
  end,
  number = function(self, number, value)
    local code = C.neap_buffer_put_number(self.slot, self.gen, number, value)
    return code
  end,
  bits = function(self, number, bits)
    local code = C.neap_buffer_put_bits(self.slot, self.gen, number, bits)
    return code
  end,
  varint = function(self, bits)
    local code = C.neap_buffer_put_varint(self.slot, self.gen, bits)
    return code
  end,
})

for plain, number in pairs(common.numbers) do
  local set_name = "set_" .. plain
  local set_what = "buffer:" .. set_name
  local what = set_what .. ": offset"
  --- Writes a number over bytes that were put before, or reserved.
  --- @param offset integer bytes from the buffer's front
  --- @param value number an integer that fits, or any number for `f`
  --- @return neap.Buffer self
  Buffer[set_name] = function(self, offset, value)
    check_self(self, set_name)
    check.whole(offset, U32, what)
    check.number(value, set_what)
    local code = C.neap_buffer_set(self.slot, self.gen, offset, number, value)
    return set_outcome(self, code, set_name, offset, common.width_of(number))
  end
end

for plain, number in pairs(common.wide) do
  local set_name = "set_" .. plain
  local set_what = "buffer:" .. set_name
  local what = set_what .. ": offset"
  --- Writes an integer of 64 bits over bytes that were put before, or reserved.
  --- @param offset integer bytes from the buffer's front
  --- @param value integer|ffi.cdata* an integer up to 2^53, or an int64_t or uint64_t that fits
  --- @return neap.Buffer self
  Buffer[set_name] = function(self, offset, value)
    check_self(self, set_name)
    check.whole(offset, U32, what)
    local bits = common.bits_of(value, number)
    if not bits then check.raise(set_what .. ": value must be an integer that fits") end
    local code = C.neap_buffer_set_bits(self.slot, self.gen, offset, number, bits)
    return set_outcome(self, code, set_name, offset, 8)
  end
end

-- What stops a pack in the middle; what it appended so far is cut off again.
local function stop(code, value)
  if code == C.NEAP_E_RANGE then
    check.raise(("buffer:pack: %s does not fit"):format(tostring(value)))
  end
  error({ code = code }, 0)
end

local packer = format.packers({
  put = function(self, _, number, value)
    check.number(value, "buffer:pack")
    local code = C.neap_buffer_put_number(self.slot, self.gen, number, value)
    if code < 0 then stop(code, value) end
  end,
  put_bits = function(self, _, number, value)
    local bits = common.bits_of(value, number)
    if not bits then check.raise("buffer:pack: an integer that fits is needed") end
    local code = C.neap_buffer_put_bits(self.slot, self.gen, number, bits)
    if code < 0 then stop(code, value) end
  end,
  put_bytes = function(self, _, bytes)
    local code = C.neap_buffer_put(self.slot, self.gen, bytes, #bytes)
    if code < 0 then stop(code, bytes) end
  end,
})

--- Appends values by a format as `slice:pack` has it: all of them, or none.
--- err: "limit", "memory", "oversized" (above 1 GiB in all), "closed" (the pool)
--- @param format_text string a list of formats, such as ">I2s4"
--- @param ... any a value for each format that has one
--- @return neap.Buffer|nil self, string? message, string? name
function Buffer:pack(format_text, ...)
  check_self(self, "pack")
  check.string(format_text, "buffer:pack: format")
  local fn, message = packer(format_text)
  if not fn then check.raise("buffer:pack: " .. message) end
  local size = C.neap_buffer_size(self.slot, self.gen)
  if size < 0 then check.raise("buffer:pack: the buffer was released before") end
  local ok, err = pcall(fn, self, 0, ...)
  if ok then return self end
  C.neap_buffer_truncate(self.slot, self.gen, size)
  if type(err) == "table" then return errors.failure("buffer:pack", err.code) end
  error(err, 0)
end

--- Appends n zero bytes, to be written later with `set_…`.
--- err: "limit", "memory", "oversized" (above 1 GiB in all), "closed" (the pool)
--- @param n integer bytes
--- @return integer|nil offset, string? message, string? name
function Buffer:reserve(n)
  check_self(self, "reserve")
  check.whole(n, 0x1p53, "buffer:reserve: n")
  local code = C.neap_buffer_reserve(self.slot, self.gen, n < U32 and n or U32)
  if code >= 0 then return code end
  return outcome(self, code, "reserve")
end

--- The bytes, as slices; the buffer is empty then.
--- own: returns owned, each of them
--- @return neap.Slice[] pieces
function Buffer:take()
  check_self(self, "take")
  if C.neap_collector_due(false) then collector.step() end
  local pieces = {}
  while true do
    local handle = slice.fresh()
    local code = C.neap_buffer_take(self.slot, self.gen, cast(abi.out_t, handle))
    if code > 0 then
      if code > 1 then slice.made(handle, code - 1) end
      pieces[#pieces + 1] = handle
    else
      slice.retire(handle)
      if code < 0 then check.raise("buffer:take: the buffer was released before") end
      return pieces
    end
  end
end

--- Drops the bytes; one usual buf is kept for the next ones.
--- @return neap.Buffer self
function Buffer:reset()
  check_self(self, "reset")
  return outcome(self, C.neap_buffer_reset(self.slot, self.gen), "reset")
end

--- Ends the buffer. Twice is an error, as for slices.
function Buffer:release()
  check_self(self, "release")
  if C.neap_buffer_release(self.slot, self.gen) < 0 then
    check.raise("buffer:release: the buffer was released before")
  end
  ffi.gc(self, nil)
end

local function size(self)
  local code = C.neap_buffer_size(self.slot, self.gen)
  if code < 0 then check.raise("buffer: the buffer was released before") end
  return code
end

ffi.metatype(buffer_t, {
  __index = Buffer,
  __len = size,
  __tostring = function(self)
    local code = C.neap_buffer_size(self.slot, self.gen)
    return code < 0 and "buffer (released)" or ("buffer of %d bytes"):format(code)
  end,
  __metatable = "neap.buffer",
})

return abi.keep("neap.buffer", M)
