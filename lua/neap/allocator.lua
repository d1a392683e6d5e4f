--- Allocators: slices cut out of bufs one behind the other, so that neighbours can be joined.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local collector = require("neap.collector")
local errors = require("neap.errors")
local slice = require("neap.slice")

local C = abi.C
local out_t = abi.out_t
local allocator_t = ffi.typeof("struct neap_lua_allocator")
local handle_t = ffi.typeof("struct neap_handle")
local cast = ffi.cast
local band = require("bit").band
local STEP = C.NEAP_STEP

local U32 = 0xffffffff
local type = type

local M = {}

--- Cuts slices out of bufs of one pool, one behind the other: neighbours can be joined again
--- (`neap.coalesce`). `pool:allocator` makes one, and it keeps its pool open.
--- @class neap.Allocator
local Allocator = {}

local function check_self(self, name)
  if not ffi.istype(allocator_t, self) then
    check.raise("allocator:" .. name .. ": called on " .. type(self) .. ", not on an allocator")
  end
end

--- @param pool neap.Pool
--- @param reserve integer bytes of free prefix that each slice gets
function M.new(pool, reserve)
  local made = handle_t()
  local code = C.neap_allocator_create(pool.slot, pool.gen, reserve, made)
  if code < 0 then return errors.failure("pool:allocator", code) end
  return ffi.gc(allocator_t(made.slot, made.gen), C.neap_allocator_finalize)
end

-- A step of the collector may be due: no turn of the loop need come before the memory of others is
-- needed.
local function made(handle, wishes)
  if band(wishes, STEP) == 0 then return slice.made(handle, wishes) end
  slice.made(handle, wishes)
  collector.step()
  return handle
end

--- A slice of n bytes; what is in them is undefined.
--- own: returns owned
--- err: "limit", "memory", "oversized" (above 1 GiB), "closed"
--- @param n integer bytes
--- @return neap.Slice|nil slice, string? message, string? name
function Allocator:alloc(n)
  check_self(self, "alloc")
  check.whole(n, 0x1p53, "allocator:alloc: n")
  local handle = slice.fresh()
  local code = C.neap_allocator_alloc(self.slot, self.gen, n < U32 and n or U32,
    cast(out_t, handle))
  if code == 0 then return handle end
  if code > 0 then return made(handle, code) end
  slice.retire(handle)
  return errors.failure(("allocator:alloc of %d bytes"):format(n), code)
end

--- A slice that holds the bytes of a string.
--- own: returns owned
--- err: "limit", "memory", "oversized" (above 1 GiB), "closed"
--- @param bytes string what the slice shall hold
--- @return neap.Slice|nil slice, string? message, string? name
function Allocator:copy(bytes)
  check_self(self, "copy")
  check.string(bytes, "allocator:copy: bytes")
  local handle = slice.fresh()
  local code = C.neap_allocator_copy(self.slot, self.gen, bytes, #bytes, cast(out_t, handle))
  if code == 0 then return handle end
  if code > 0 then return made(handle, code) end
  slice.retire(handle)
  return errors.failure(("allocator:copy of %d bytes"):format(#bytes), code)
end

--- Gives the current buf up; later calls fail with "closed". Twice is harmless; slices that
--- were handed out stay.
function Allocator:release()
  check_self(self, "release")
  C.neap_allocator_close(self.slot, self.gen)
end

ffi.metatype(allocator_t, { __index = Allocator, __metatable = "neap.allocator" })

return abi.keep("neap.allocator", M)
