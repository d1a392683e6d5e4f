--- Reading: the methods that connections and readers share.
---
--- Whoever reads from somewhere has a C reader, named by `reader_slot` and `reader_gen`, and a
--- way to fill it, which waits if it must. What comes out are owned slices, views of where the
--- bytes lie; bytes that came before an error stay and can still be read.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local slice = require("neap.slice")
local ffi = require("ffi")

local C = abi.C
local out_t, cast = abi.out_t, ffi.cast
local fresh, retire = slice.fresh, slice.retire
local AGAIN, OK = C.NEAP_E_AGAIN, C.NEAP_OK
local SHORT, OVERSIZED = C.NEAP_E_SHORT, C.NEAP_E_OVERSIZED
local U32 = 0xffffffff
local MAX = C.NEAP_MAX_READ_BYTES

local M = {}

--- @param methods table gets the methods
--- @param kind table
---   fill(self, want, name) → code: OK when the reader has more bytes, or its end, than before
---   check(self, name): raises when self is not such an object
---   tell(self) → string: what it is, with its peer, for messages
function M.install(methods, kind)
  local fill, check_self, tell = kind.fill, kind.check, kind.tell
  local prefix = kind.name

  local function failed(self, code, what)
    local where = tell(self) .. ": " .. what
    local buffered = C.neap_reader_buffered(self.reader_slot, self.reader_gen)
    if code == SHORT then
      return nil, ("%s: the peer closed its side after %d of these bytes"):format(where, buffered),
        "short"
    end
    if code == OVERSIZED then where = where .. " (see max_read)" end
    return errors.failure(where, code)
  end

  --- Exactly n bytes, side by side. @return neap.Slice|nil slice, string? message, string? name
  function methods:read(n)
    check_self(self, "read")
    check.whole(n, 0x1p53, prefix .. ":read: n")
    local wanted = n < U32 and n or U32
    local handle = fresh()
    local code = C.neap_reader_read(self.reader_slot, self.reader_gen, wanted, cast(out_t, handle))
    while code == AGAIN do
      code = fill(self, wanted)
      if code == OK then
        code = C.neap_reader_read(self.reader_slot, self.reader_gen, wanted, cast(out_t, handle))
      end
    end
    if code == OK then return handle end
    retire(handle)
    return failed(self, code, ("read of %d bytes"):format(n))
  end

  --- What is there, from 1 to max bytes; waits for the first.
  function methods:read_any(max)
    check_self(self, "read_any")
    max = check.whole(max or MAX, 0x1p53, prefix .. ":read_any: max")
    if max == 0 then check.raise(prefix .. ":read_any: max must be at least 1", 1) end
    local wanted = max < U32 and max or U32
    local handle = fresh()
    local code = C.neap_reader_read_any(self.reader_slot, self.reader_gen, wanted,
      cast(out_t, handle))
    while code == AGAIN do
      code = fill(self, 1)
      if code == OK then
        code = C.neap_reader_read_any(self.reader_slot, self.reader_gen, wanted,
          cast(out_t, handle))
      end
    end
    if code == OK then return handle end
    retire(handle)
    return failed(self, code, "read_any")
  end

  local function read_until(self, delimiter, max, inclusive, what)
    local handle = fresh()
    local size = #delimiter
    local code = C.neap_reader_read_until(self.reader_slot, self.reader_gen, delimiter, size, max,
      inclusive, cast(out_t, handle))
    while code == AGAIN do
      local buffered = C.neap_reader_buffered(self.reader_slot, self.reader_gen)
      code = fill(self, buffered + 1)
      if code == OK then
        code = C.neap_reader_read_until(self.reader_slot, self.reader_gen, delimiter, size, max,
          inclusive, cast(out_t, handle))
      end
    end
    if code == OK then return handle end
    retire(handle)
    return failed(self, code, what)
  end

  local until_defaults = { max = MAX, inclusive = false }

  --- Up to a delimiter, which is consumed and belongs to the slice only if inclusive.
  --- @param options? table max: bytes before the delimiter at most (1 MiB) · inclusive (false)
  function methods:read_until(delimiter, options)
    check_self(self, "read_until")
    check.string(delimiter, prefix .. ":read_until: delimiter")
    if delimiter == "" then
      check.raise(prefix .. ":read_until: the delimiter must not be empty", 1)
    end
    local given = check.options(options, until_defaults, prefix .. ":read_until")
    check.whole(given.max, C.NEAP_BUF_MAX_BYTES, prefix .. ":read_until: max")
    return read_until(self, delimiter, given.max, given.inclusive,
      ("read up to %q"):format(delimiter))
  end

  --- A line, without its end ("\n" or "\r\n").
  --- @param max? integer bytes at most (1 MiB)
  function methods:read_line(max)
    check_self(self, "read_line")
    max = check.whole(max or MAX, C.NEAP_BUF_MAX_BYTES, prefix .. ":read_line: max")
    local line, message, name = read_until(self, "\n", max, false, "read of a line")
    if not line then return nil, message, name end
    local size = #line
    if size > 0 and line:u8(size - 1) == 13 then line:truncate_back(1) end
    return line
  end

  --- Iterates over what comes, as owned slices; ends at the end of the stream, raises any
  --- other error.
  function methods:chunks()
    check_self(self, "chunks")
    return function()
      local chunk, message, name = self:read_any()
      if not chunk and name ~= "eof" then error(message, 2) end
      return chunk
    end
  end

  --- Iterates over lines, as strings; an unterminated last one is yielded too.
  function methods:lines(max)
    check_self(self, "lines")
    return function()
      local line, message, name = self:read_line(max)
      if name == "short" then line, message, name = self:read_any() end
      if not line and name ~= "eof" then error(message, 2) end
      if not line then return nil end
      local text = line:str()
      line:release()
      return text
    end
  end

  --- Unread bytes that are here.
  function methods:buffered()
    check_self(self, "buffered")
    local n = C.neap_reader_buffered(self.reader_slot, self.reader_gen)
    return n > 0 and n or 0
  end

end

return abi.keep("neap.reader", M)
