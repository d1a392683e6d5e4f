--- Frames: a length, then so many bytes.
---
---     local frame = require("neap.codec.frame")
---     local codec = frame.new { length = "u16be", max = 4096 }
---     neap.serve(address, { codec = codec, handle = function(message) return message end })
---
--- The message is a view of the bytes behind the length; an answer may be a string, a slice, a
--- view or a list of them.

local abi = require("neap.abi")
local check = require("neap.check")
local put = require("neap.put")

local size_of = put.size_of

local M = {}

local WIDTHS = { u8 = 1, u16be = 2, u16le = 2, u32be = 4, u32le = 4, u64be = 8, u64le = 8 }
local NETSTRING_DIGITS = 9 -- of a length; more is above every max

local function oversized(n, max)
  return nil, ("a frame of %.0f bytes, where %d are allowed"):format(n, max), "oversized"
end

local function malformed(text)
  return nil, text, "malformed"
end

-- ---- decoding ----

-- The value of a length field of fixed width. 64 bits in two halves: what a peer sends never
-- raises, and anything above 2^53 is too long anyway.
local readers = {
  u64be = function(view) return view:u32be(0) * 0x1p32 + view:u32be(4) end,
  u64le = function(view) return view:u32le(4) * 0x1p32 + view:u32le(0) end,
}
for kind, width in pairs(WIDTHS) do
  if width < 8 then
    readers[kind] = function(view) return view[kind](view, 0) end
  end
end

-- The message of a frame, once all of it is there: n bytes behind a length of `width`.
local function message_of(view, width, n, all, max, whole)
  if n > max then return oversized(n, max) end
  if #view < all then return nil, all end
  if whole then return view:sub(0, all), all end
  return view:sub(width, n), all
end

local function fixed_decoder(kind, max, adjust, whole)
  local width, length_of = WIDTHS[kind], readers[kind]
  return function(view)
    if #view < width then return nil, width end
    local n = length_of(view) + adjust
    if n < 0 then return malformed("a length that does not cover its own field") end
    return message_of(view, width, n, width + n, max, whole)
  end
end

local VARINT_BYTES = 10

-- The value and how many bytes it has, or nil: more are needed; or nil, text: it is none.
local function varint(view, here)
  local value, scale = 0, 1
  for i = 0, VARINT_BYTES - 1 do
    if i == here then return nil end
    local byte = view:u8(i)
    value = value + byte % 128 * scale
    if byte < 128 then return value, i + 1 end
    scale = scale * 128
  end
  return nil, "a length of more than ten bytes"
end

local function varint_decoder(max, whole)
  return function(view)
    local here = #view
    local n, width = varint(view, here)
    if not n then
      if width then return malformed(width) end
      return nil, here + 1
    end
    return message_of(view, width, n, width + n, max, whole)
  end
end

-- The length and where its colon stands; or nil (more is needed); or nil, text.
local function decimal(view, here)
  local value = 0
  for i = 0, NETSTRING_DIGITS do
    if i == here then return nil end
    local byte = view:u8(i)
    if byte == 58 and i > 0 then return value, i end
    if byte < 48 or byte > 57 then return nil, "a netstring begins with digits and a colon" end
    if i == 1 and value == 0 then return nil, "a netstring's length has no leading zero" end
    value = value * 10 + byte - 48
  end
  return nil, "a netstring's length has too many digits"
end

-- https://cr.yp.to/proto/netstrings.txt
local function netstring_decoder(max, whole)
  return function(view)
    local here = #view
    local n, colon = decimal(view, here)
    if not n then
      if colon then return malformed(colon) end
      return nil, here + 1
    end
    local all = colon + n + 2
    if n <= max and here >= all and view:u8(all - 1) ~= 44 then
      return malformed("a netstring ends with a comma")
    end
    return message_of(view, colon + 1, n, all, max, whole)
  end
end

-- ---- encoding ----

local function check_size(x, max)
  local n = size_of(x, "frame: encode: the message")
  if n > max then
    check.raise(("frame: encode: %.0f bytes, where %d are allowed"):format(n, max))
  end
  return n
end

local function fixed_encoder(kind, max, adjust)
  local name = "put_" .. kind
  local most = 256 ^ WIDTHS[kind] - 1
  return function(out, x)
    local n = check_size(x, max) - adjust
    if n < 0 or n > most then
      check.raise(("frame: encode: no %s says that %.0f bytes follow"):format(kind, n + adjust))
    end
    local ok, message, error_name = out[name](out, n)
    if not ok then return nil, message, error_name end
    return out:put(x)
  end
end

local function varint_encoder(max)
  return function(out, x)
    local ok, message, name = out:put_varint(check_size(x, max))
    if not ok then return nil, message, name end
    return out:put(x)
  end
end

local function netstring_encoder(max)
  return function(out, x)
    local ok, message, name = out:put(check_size(x, max) .. ":")
    if ok then ok, message, name = out:put(x) end
    if not ok then return nil, message, name end
    return out:put(",")
  end
end

local defaults = { length = "u32be", max = 1048576, adjust = 0, whole = false }

--- A codec for frames.
---
--- decode(view) gives the message, a view, and how many bytes the frame has; nil, n when n bytes
--- are needed; or nil, text, name: "oversized" (found out from the length alone), "malformed".
--- encode(out, x) puts a frame into a buffer or a connection.
--- @param options? table length: what says how long a frame is, "u8", "u16be", "u16le", "u32be",
--- "u32le", "u64be", "u64le", "varint" (LEB128) or "netstring" ("u32be") · max: bytes behind the
--- length at most (1 MiB) · adjust: bytes behind the length that it does not count, less those
--- before them that it does, as -4 for a u32be that counts itself (0) · whole: the message is all
--- of the frame, its length included, and so is what is encoded (false)
--- @return table codec decode and encode
function M.new(options)
  local given = check.options(options, defaults, "neap.codec.frame")
  local kind, max, adjust = given.length, given.max, given.adjust
  check.whole(max, 0x3fffffff, "neap.codec.frame: max")
  if adjust % 1 ~= 0 then check.raise("neap.codec.frame: adjust must be a whole number") end
  local decode, encode
  if WIDTHS[kind] then
    decode = fixed_decoder(kind, max, adjust, given.whole)
    encode = fixed_encoder(kind, max, adjust)
  elseif adjust ~= 0 then
    check.raise("neap.codec.frame: adjust goes with a length of fixed width")
  elseif kind == "varint" then
    decode, encode = varint_decoder(max, given.whole), varint_encoder(max)
  elseif kind == "netstring" then
    decode, encode = netstring_decoder(max, given.whole), netstring_encoder(max)
  else
    check.raise(("neap.codec.frame: there is no length %s (there are u8, u16be, u16le, u32be, "
      .. "u32le, u64be, u64le, varint and netstring)"):format(kind))
  end
  if given.whole then encode = put.plain end
  return { decode = decode, encode = encode }
end

return abi.keep("neap.codec.frame", M)
