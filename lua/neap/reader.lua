--- Reading: the methods that connections and readers share.
---
--- Whoever reads from somewhere has a C reader, named by `reader_slot` and `reader_gen`, and a
--- way to fill it, which waits if it must. What comes out are owned slices, views of where the
--- bytes lie; bytes that came before an error stay and can still be read.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local collector = require("neap.collector")
local errors = require("neap.errors")
local pool = require("neap.pool")
local slice = require("neap.slice")
local view = require("neap.view")

local C = abi.C
local out_t, cast = abi.out_t, ffi.cast
local fresh, unused, noted = slice.fresh, slice.unused, slice.made
local whole = check.whole
local AGAIN, OK = C.NEAP_E_AGAIN, C.NEAP_OK
local EOF = C.NEAP_E_EOF
local SHORT, OVERSIZED = C.NEAP_E_SHORT, C.NEAP_E_OVERSIZED
local U32 = 0xffffffff
local running, isyieldable = coroutine.running, coroutine.isyieldable
local type, larger, pcall, error = type, math.max, pcall, error
local newproxy, getmetatable = newproxy, getmetatable
local I32 = 0x7fffffff
local MAX = C.NEAP_MAX_READ_BYTES
local own_view = view.own

local M = {}

--- @param methods table gets the methods
--- @param kind table
---   fill(self, want, co, yieldable) → code: OK when the reader has more bytes, or its end, than
---     before; the last two are coroutine.running() and coroutine.isyieldable() (see task.lua);
---     AGAIN when it is worth another try
---   check(self, name): raises when self is not such an object
---   handled(self)? → how many of the unread bytes count as read
---   tell(self) → string: what it is, with its peer, for messages
function M.install(methods, kind)
  local fill, check_self, tell, handled = kind.fill, kind.check, kind.tell, kind.handled
  local prefix = kind.name
  local read_n, read_any_max = prefix .. ":read: n", prefix .. ":read_any: max"
  local read_line_max, peek_n = prefix .. ":read_line: max", prefix .. ":peek: n"
  local lines_max = prefix .. ":lines: max"

  local function failed(self, code, what)
    local where = tell(self) .. ": " .. what
    local buffered = C.neap_reader_buffered(self.reader_slot, self.reader_gen)
    if code == SHORT then
      return errors.fail(("%s: the peer closed its side after %d of these bytes"):format(where,
        buffered), "short")
    end
    local own, own_name = nil, nil
    if kind.failure and code == C.NEAP_E_SYSTEM then own, own_name = kind.failure(self) end
    if own then return errors.fail(where .. ": " .. tostring(own), own_name or "system") end
    if code == OVERSIZED then where = where .. " (see max_read)" end
    return errors.failure(where, code)
  end

  -- Each read is tried on the bytes that are here; if they do not suffice the reader is filled
  -- and it is tried again. The repetition is a tail call and not a loop: it is nearly always
  -- made once, and LuaJIT compiles no trace that leaves a loop at once. While it waits it holds
  -- no handle, and few frames: that is what an idle connection costs.

  --- Exactly n bytes, side by side; waits until they came.
  --- own: returns owned
  --- err: "eof" (nothing came before the end), "short" (fewer came; they stay readable),
  --- "oversized" (n is above max_read: found out before any memory is taken), "timeout",
  --- "cancelled", "closed", "reset", "limit" (the pool's), "memory", "system"
  --- @param n integer bytes
  --- @return neap.Slice|nil slice, string? message, string? name
  function methods:read(n)
    check_self(self, "read")
    whole(n, 0x1p53, read_n)
    local handle = fresh()
    local code = C.neap_reader_read(self.reader_slot, self.reader_gen, n < U32 and n or U32,
      cast(out_t, handle))
    if code == OK then return handle end
    if code > OK then return noted(handle, code) end
    unused(handle)
    if code == AGAIN then
      local co, yieldable = running(), isyieldable()
      code = fill(self, n, co, yieldable)
      if code >= 0 or code == AGAIN then return methods.read(self, n) end
    end
    return failed(self, code, ("read of %d bytes"):format(n))
  end

  --- What is there, from 1 to max bytes; waits for the first.
  --- own: returns owned
  --- err: "eof", "timeout", "cancelled", "closed", "reset", "limit" (the pool's), "memory",
  --- "system"
  --- @param max? integer bytes at most (1 MiB)
  --- @return neap.Slice|nil slice, string? message, string? name
  function methods:read_any(max)
    check_self(self, "read_any")
    max = whole(max or MAX, 0x1p53, read_any_max)
    if max == 0 then check.raise(prefix .. ":read_any: max must be at least 1") end
    local handle = fresh()
    local code = C.neap_reader_read_any(self.reader_slot, self.reader_gen, max < U32 and max or U32,
      cast(out_t, handle))
    if code == OK then return handle end
    if code > OK then return noted(handle, code) end
    unused(handle)
    if code == AGAIN then
      local co, yieldable = running(), isyieldable()
      code = fill(self, 1, co, yieldable)
      if code >= 0 or code == AGAIN then return methods.read_any(self, max) end
    end
    return failed(self, code, "read_any")
  end

  local function read_until(self, delimiter, max, inclusive, what)
    local handle = fresh()
    local code = C.neap_reader_read_until(self.reader_slot, self.reader_gen, delimiter,
      #delimiter, max, inclusive, cast(out_t, handle))
    if code == OK then return handle end
    if code > OK then return noted(handle, code) end
    unused(handle)
    if code == AGAIN then
      local co, yieldable = running(), isyieldable()
      code = fill(self, C.neap_reader_buffered(self.reader_slot, self.reader_gen) + 1, co,
        yieldable)
      if code >= 0 or code == AGAIN then
        return read_until(self, delimiter, max, inclusive, what)
      end
    end
    return failed(self, code, what)
  end

  local until_defaults = { max = MAX, inclusive = false }

  --- Up to a delimiter, which is consumed and belongs to the slice only if inclusive.
  --- own: returns owned
  --- err: "eof" (nothing came before the end), "short" (no delimiter did; what came stays
  --- readable), "oversized" (no delimiter within max bytes; they stay), "timeout", "cancelled",
  --- "closed", "reset", "limit" (the pool's), "memory", "system"
  --- @param delimiter string one byte or more
  --- @param options? table max: bytes before the delimiter at most (1 MiB) · inclusive (false)
  --- @return neap.Slice|nil slice, string? message, string? name
  function methods:read_until(delimiter, options)
    check_self(self, "read_until")
    check.string(delimiter, prefix .. ":read_until: delimiter")
    if delimiter == "" then
      check.raise(prefix .. ":read_until: the delimiter must not be empty")
    end
    local given = check.options(options, until_defaults, prefix .. ":read_until")
    whole(given.max, C.NEAP_BUF_MAX_BYTES, prefix .. ":read_until: max")
    return read_until(self, delimiter, given.max, given.inclusive,
      ("read up to %q"):format(delimiter))
  end

  --- A line, without its end ("\n" or "\r\n").
  --- own: returns owned
  --- err: "eof" (nothing came before the end), "short" (the last line has no end; it stays
  --- readable), "oversized" (no line within max bytes; they stay), "timeout", "cancelled",
  --- "closed", "reset", "limit" (the pool's), "memory", "system"
  --- @param max? integer bytes at most (1 MiB)
  --- @return neap.Slice|nil line, string? message, string? name
  function methods:read_line(max)
    check_self(self, "read_line")
    max = whole(max or MAX, C.NEAP_BUF_MAX_BYTES, read_line_max)
    local line, message, name = read_until(self, "\n", max, false, "read of a line")
    if not line then return nil, message, name end
    local size = #line
    if size > 0 and line:u8(size - 1) == 13 then line:truncate_back(1) end
    return line
  end

  local function peek(self, n)
    local code = C.neap_reader_peek(self.reader_slot, self.reader_gen, n)
    if code ~= AGAIN then return code end
    local co, yieldable = running(), isyieldable()
    code = fill(self, n, co, yieldable)
    if code < 0 and code ~= AGAIN then return code end
    return peek(self, n)
  end

  --- A view of the next n bytes, which stay unread; waits until they are here.
  --- own: returns borrowed, until the next read, peek or skip
  --- err: "eof" (nothing came before the end), "short" (fewer came), "oversized" (n is above
  --- max_read), "timeout", "cancelled", "closed", "reset", "limit" (the pool's), "memory", "system"
  --- @param n integer bytes
  --- @return neap.View|nil view, string? message, string? name
  function methods:peek(n)
    check_self(self, "peek")
    whole(n, 0x1p53, peek_n)
    local code = peek(self, n < U32 and n or U32)
    if code >= 0 then return own_view(self.reader_slot, self.reader_gen, code, 0, n) end
    return failed(self, code, ("peek at %d bytes"):format(n))
  end

  --- Drops the next n bytes; waits until they came. Any n: nothing is gathered.
  --- err: "eof" (fewer came; those are dropped), "timeout", "cancelled", "closed", "reset", "limit"
  --- (the pool's), "memory", "system"
  --- @param n integer bytes
  --- @return true|nil ok, string? message, string? name
  function methods:skip(n)
    check_self(self, "skip")
    whole(n, 0x1p53, prefix .. ":skip: n")
    local left = n
    while left > 0 do
      local code = C.neap_reader_skip(self.reader_slot, self.reader_gen,
        left < I32 and left or I32)
      if code == AGAIN then code = fill(self, 1, running(), isyieldable()) end
      if code < 0 and code ~= AGAIN then
        return failed(self, code, ("skip of %d bytes"):format(n))
      end
      if code > 0 then left = left - code end
    end
    return true
  end

  -- As read_any, but with no frame in between. And no closure: there is one such loop for each
  -- connection that is served.
  local function next_chunk(self)
    local handle = fresh()
    local code = C.neap_reader_read_any(self.reader_slot, self.reader_gen, U32,
      cast(out_t, handle))
    if code == OK then return handle end
    if code > OK then return noted(handle, code) end
    unused(handle)
    if code == AGAIN then
      local co, yieldable = running(), isyieldable()
      code = fill(self, 1, co, yieldable)
      if code >= 0 or code == AGAIN then return next_chunk(self) end
    end
    if code == EOF then return nil end
    local _, message = failed(self, code, "read of a chunk")
    error(message, 0)
  end

  --- Iterates over what comes; ends at the end of the stream, raises any other error.
  --- own: returns owned, each slice
  --- @return fun(conn: any): neap.Slice|nil next, any conn for a `for` loop
  function methods:chunks()
    check_self(self, "chunks")
    return next_chunk, self
  end

  --- Iterates over lines, as strings without their ends; an unterminated last one is yielded
  --- too. Ends at the end of the stream, raises any other error.
  --- @param max? integer bytes of a line at most (1 MiB)
  --- @return fun(): string|nil next for a `for` loop
  function methods:lines(max)
    check_self(self, "lines")
    max = whole(max or MAX, C.NEAP_BUF_MAX_BYTES, lines_max)
    return function()
      local line, message, name = self:read_line(max)
      if name == "short" then line, message, name = self:read_any() end
      if not line and name ~= "eof" then error(message, 0) end
      if not line then return nil end
      local text = line:str()
      line:release()
      return text
    end
  end

  --- How many unread bytes are here.
  --- @return integer bytes
  function methods:buffered()
    check_self(self, "buffered")
    local n = C.neap_reader_buffered(self.reader_slot, self.reader_gen)
    if handled then n = n - handled(self) end
    return n > 0 and n or 0
  end

end

-- ---- readers over anything ----

local handle_t = ffi.typeof("struct neap_handle")
local ASKED = 16384       -- bytes asked of a source at a time
local EMPTY_IN_A_ROW = 100 -- empty strings, after which a source is taken to be stuck

--- The read methods of a connection over a function that yields strings or slices: for what is
--- in a file or a string, and for tests of protocols. When the source fails, reads fail with the
--- name that it gave. Its pool stays open as long.
--- @class neap.Reader
local Reader = {}

-- A reader is a userdata, and no cdata as other handles are: its source may refer to it, and
-- LuaJIT collects such a cycle through a metatable of its own. What is in it can be had only with
-- a key that no script has, and only from what `known` knows to be a reader.
local STATE = {}
local known = setmetatable({}, { __mode = "k" })

local function no_fields()
  check.raise("reader: it has no fields to set")
end

local function describe(self)
  local n = C.neap_reader_buffered(self.reader_slot, self.reader_gen)
  return ("reader with %d unread bytes"):format(n > 0 and n or 0)
end

local function new_object(state)
  local object = newproxy(true)
  local metatable = getmetatable(object)
  metatable.__index = function(_, key)
    if key == "reader_slot" then return state.slot end
    if key == "reader_gen" then return state.gen end
    if key == STATE then return state end
    return Reader[key]
  end
  metatable.__newindex, metatable.__tostring = no_fields, describe
  metatable.__metatable = "neap.reader"
  known[object] = true
  return object
end

local function check_reader(self, name)
  if type(self) ~= "userdata" or not known[self] then
    check.raise("reader:" .. name .. ": called on " .. type(self) .. ", not on a reader")
  end
end

-- Bytes for which there is no room at the moment are kept for the next time.
local function feed(state, bytes)
  local code = C.neap_reader_feed(state.slot, state.gen, bytes, #bytes)
  local fed = code > 0 and code or 0
  state.left = fed < #bytes and bytes:sub(fed + 1) or nil
  if code < 0 then return code end
  return OK
end

local function ask(state, most)
  C.neap_reader_idle(state.slot, state.gen) -- the source may wait
  local x, message, name = state.source(most)
  if slice.is_slice(x) then
    local bytes = x:str()
    x:release()
    x = bytes
  elseif x ~= nil and type(x) ~= "string" then
    check.raise("neap.reader: the source must return a string, a slice or nil, got " .. type(x))
  end
  if x and #x > most then
    check.raise(("neap.reader: the source returned %d bytes when asked for at most %d"):format(#x,
      most))
  end
  return x, message, name
end

-- What the source gives first that is not empty: bytes, the end, or an error, which reads then
-- report.
local function pull(state, most)
  for _ = 1, EMPTY_IN_A_ROW do
    local x, message, name = ask(state, most)
    if not x then
      state.failure, state.failure_name = message, name
      C.neap_reader_end(state.slot, state.gen,
        (message and name ~= "eof") and C.NEAP_E_SYSTEM or C.NEAP_E_EOF)
      return OK
    end
    if x ~= "" then return (feed(state, x)) end
  end
  check.raise("neap.reader: the source returned nothing but empty strings; nil is the end")
end

local function fill_from_source(self, want)
  if C.neap_collector_due(false) then collector.step() end -- no turn of the loop need come
  local state = self[STATE]
  if state.left then return (feed(state, state.left)) end
  if not state.source then return C.NEAP_E_CLOSED end
  if state.asking then
    check.raise("reader: another task is already reading from it, or its source is")
  end
  state.asking = true
  local ok, code = pcall(pull, state, larger(want, ASKED))
  state.asking = false
  if not ok then error(code, 0) end
  return code
end

M.install(Reader, {
  name = "reader",
  fill = fill_from_source,
  check = check_reader,
  tell = function() return "reader" end,
  failure = function(self) return self[STATE].failure, self[STATE].failure_name end,
})

--- Later reads fail with "closed"; slices that were handed out stay. Twice is harmless.
function Reader:close()
  check_reader(self, "close")
  C.neap_reader_close(self.reader_slot, self.reader_gen)
  self[STATE].source, self[STATE].left = nil, nil
end

local reader_options = { max_read = MAX }

--- A reader over anything that yields bytes, with the read methods of a connection.
--- own: returns owned
--- err: "closed" (the pool), "memory"
--- @param home? neap.Pool where the bytes lie; the default pool if nil
--- @param source fun(max: integer): string|neap.Slice|nil, string?, string? at most max bytes;
--- nil at the end; nil, message, name on a failure
--- @param options? table max_read: bytes of one read at most (1 MiB)
--- @return neap.Reader|nil reader, string? message, string? name
function M.new(home, source, options)
  home = home or pool.default()
  if not pool.is_pool(home) then
    check.raise("neap.reader: pool must be a pool, got " .. type(home))
  end
  check.fn(source, "neap.reader: source")
  local given = check.options(options, reader_options, "neap.reader")
  whole(given.max_read, C.NEAP_BUF_MAX_BYTES, "neap.reader: max_read")
  local made = handle_t()
  local code = C.neap_reader_create(home.slot, home.gen, given.max_read, made)
  if code < 0 then return errors.failure("neap.reader", code) end
  return new_object({
    slot = made.slot, gen = made.gen, source = source,
    handle = ffi.gc(made, C.neap_reader_finalize),
  })
end

return abi.keep("neap.reader", M)
