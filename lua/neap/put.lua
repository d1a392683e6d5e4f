--- What buffers and connections have in common: bytes put behind those that are there.
---
--- A codec's `encode(out, …)` puts a message into either.

local abi = require("neap.abi")
local check = require("neap.check")
local common = require("neap.bytes")
local slice = require("neap.slice")
local view = require("neap.view")

local is_slice, is_view = slice.is_slice, view.is_view
local type = type

local M = {}

--- Encodes what is whole already. Servers know it: neighbours need not be put one by one.
function M.plain(out, x) return out:put(x) end

--- The bytes of what put() takes.
--- @param what string for the error when it is no such thing
function M.size_of(x, what)
  if type(x) == "string" or is_view(x) or is_slice(x) then return #x end
  if type(x) ~= "table" then
    check.raise(what .. " must be a string, a slice, a view or a list of them, got " .. type(x))
  end
  local bytes = 0
  for i = 1, #x do bytes = bytes + M.size_of(x[i], what) end
  return bytes
end

--- @param methods table gets the methods
--- @param kind table
---   name: for messages
---   check(self, name): raises when self is not such an object
---   bytes(self, string), slice(self, slice), view(self, view) → code
---   number(self, number, value), bits(self, number, bits), varint(self, bits) → code
---   outcome(self, code, name) → self; or nil, message, name; raises for misuse
function M.install(methods, kind)
  local check_self, outcome = kind.check, kind.outcome
  local prefix = kind.name .. ":"

  local function put_one(self, x)
    if type(x) == "string" then return (kind.bytes(self, x)) end
    if is_view(x) then return (kind.view(self, x)) end
    if is_slice(x) then return (kind.slice(self, x)) end
    check.raise(prefix .. "put: argument must be a string, a slice, a view or a list of them, got "
      .. type(x))
  end

  local function put_list(self, list)
    local code = 0
    for i = 1, #list do
      code = put_one(self, list[i])
      if code < 0 then return code end
    end
    return code
  end

  --- Appends a string, the bytes of a slice or a view, or a list of them (in part, where memory or
  --- a limit is in the way). A connection queues them, however much is queued, and never waits
  --- (`write` does).
  --- own: borrows x
  --- err: "limit", "memory", "oversized" (a buffer above 1 GiB), "closed" (the pool, or the
  --- connection), "reset"
  --- @param x string|neap.Slice|neap.View|(string|neap.Slice|neap.View)[] the bytes
  --- @return any self the buffer or connection, or nil, string? message, string? name
  function methods:put(x)
    check_self(self, "put")
    local code = type(x) == "table" and put_list(self, x) or put_one(self, x)
    return outcome(self, code, "put")
  end

  for plain, number in pairs(common.numbers) do
    local name = "put_" .. plain
    local what = prefix .. name
    --- Appends a number. The name tells what stands in the bytes: `u` unsigned, `i` signed, `f`
    --- IEEE 754; bits; `be` the highest byte first, `le` the lowest.
    --- err: "limit", "memory", "oversized" (a buffer above 1 GiB), "closed" (the pool, or the
    --- connection), "reset"
    --- @param value number an integer that fits, or any number for `f`
    --- @return any self the buffer or connection, or nil, string? message, string? name
    methods[name] = function(self, value)
      check_self(self, name)
      check.number(value, what)
      return outcome(self, kind.number(self, number, value), name)
    end
  end

  for plain, number in pairs(common.wide) do
    local name = "put_" .. plain
    local what = prefix .. name
    --- Appends an integer of 64 bits.
    --- err: "limit", "memory", "oversized" (a buffer above 1 GiB), "closed" (the pool, or the
    --- connection), "reset"
    --- @param value integer|ffi.cdata* an integer up to 2^53, or an int64_t or uint64_t that fits
    --- @return any self the buffer or connection, or nil, string? message, string? name
    methods[name] = function(self, value)
      check_self(self, name)
      local bits = common.bits_of(value, number)
      if not bits then check.raise(what .. ": value must be an integer that fits") end
      return outcome(self, kind.bits(self, number, bits), name)
    end
  end

  --- Appends an unsigned integer, seven bits a byte, the lowest first (LEB128, as Protocol
  --- Buffers and others write it).
  --- err: "limit", "memory", "oversized" (a buffer above 1 GiB), "closed" (the pool, or the
  --- connection), "reset"
  --- @param value integer|ffi.cdata* from 0 to 2^53, or 64 bits
  --- @return any self the buffer or connection, or nil, string? message, string? name
  function methods:put_varint(value)
    check_self(self, "put_varint")
    local bits = common.bits_of(value, 8)
    if not bits then
      check.raise(prefix .. "put_varint: value must be an integer of at least 0")
    end
    return outcome(self, kind.varint(self, bits), "put_varint")
  end
end

return abi.keep("neap.put", M)
