--- HTTP/1.1 (RFC 9110, RFC 9112): heads and bodies of requests and responses, both ways.
---
---     local http1 = require("neap.codec.http1")
---     local request, size = http1.decode_request(view)   -- the head; its body follows
---     request.method, request.path, request:header("host")
---
--- A head is scanned once, in C. A message makes a string of what it is asked for, out of the view
--- that it was decoded from: so it must be asked, or told to keep(), before that view is stale.
---
--- It is strict: what two recipients could read in two ways (two lengths, a length and chunks, a
--- bare LF, …) is "malformed".

local bit = require("bit")
local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local view_module = require("neap.view")

local C = abi.C
local band = bit.band
local type, tonumber, tostring, setmetatable, pairs = type, tonumber, tostring, setmetatable, pairs
local concat, min, max = table.concat, math.min, math.max
local view_t = ffi.typeof("const struct neap_view *")
local head_t, chunk_t = ffi.typeof("struct neap_http_head"), ffi.typeof("struct neap_http_chunk")
local cast, ffi_string = ffi.cast, ffi.string
local AGAIN, STALE = C.NEAP_E_AGAIN, C.NEAP_E_STALE
local REQUEST, RESPONSE, TRAILERS = tonumber(C.NEAP_HTTP_REQUEST), tonumber(C.NEAP_HTTP_RESPONSE),
  tonumber(C.NEAP_HTTP_TRAILERS)
local CHUNKED, CODED = tonumber(C.NEAP_HTTP_CHUNKED), tonumber(C.NEAP_HTTP_CODED)
local HAS_CODING = tonumber(C.NEAP_HTTP_HAS_CODING)
local ABSOLUTE = tonumber(C.NEAP_HTTP_ABSOLUTE)
local CLOSE, KEEP_ALIVE = tonumber(C.NEAP_HTTP_CLOSE), tonumber(C.NEAP_HTTP_KEEP_ALIVE)
local CONTINUE, EXPECT = tonumber(C.NEAP_HTTP_CONTINUE), tonumber(C.NEAP_HTTP_EXPECT)
local OLD = tonumber(C.NEAP_HTTP_OLD)
local UPGRADE = tonumber(C.NEAP_HTTP_UPGRADE_ASKED + C.NEAP_HTTP_UPGRADE_NAMED)
local UNUSUAL = OLD + CLOSE + CONTINUE + EXPECT -- no plain request has it
local MAX_HEAD = 16384  -- bytes of a head
local HEAD_LIMIT = 0x1000000 -- what that may be raised to
local OVERHEAD = 16384  -- bytes of extensions in all the lines between the chunks of a body
local PLAIN_LINE = 24   -- bytes of such a line that are no extension
local ENDLESS = 0x1p53

local M = {}

-- ---- what is wrong ----

local wrongs = {
  [C.NEAP_HTTP_METHOD] = { 400, "it does not begin with a method and one space" },
  [C.NEAP_HTTP_TARGET_FORM] = { 400, "its target is none that its method can have" },
  [C.NEAP_HTTP_VERSION_FORM] = { 400, "there is no HTTP version where one must be" },
  [C.NEAP_HTTP_VERSION] = { 505, "its version is neither 1.0 nor 1.1" },
  [C.NEAP_HTTP_STATUS] = { 502, "there is no status where one must be" },
  [C.NEAP_HTTP_LINE_END] = { 400, "a line does not end with CR and LF" },
  [C.NEAP_HTTP_FOLD] = { 400, "a line begins with white space" },
  [C.NEAP_HTTP_NAME] = { 400, "a field's name is no token with a colon behind it" },
  [C.NEAP_HTTP_TEXT_FORM] = { 400, "a control character is in a line" },
  [C.NEAP_HTTP_FIELDS] = { 431, ("it has more than %d fields"):format(C.NEAP_HTTP_FIELDS_MAX) },
  [C.NEAP_HTTP_LENGTH] = { 400, "its Content-Length is no number" },
  [C.NEAP_HTTP_LENGTH_TWICE] = { 400, "it has two Content-Lengths" },
  [C.NEAP_HTTP_LENGTH_LARGE] = { 413, "its Content-Length is above 2^53" },
  [C.NEAP_HTTP_CODING] = { 400, "its Transfer-Encoding is not just chunked" },
  [C.NEAP_HTTP_CODING_OLD] = { 400, "it has a Transfer-Encoding, and is of HTTP/1.0" },
  [C.NEAP_HTTP_CODING_AND_LENGTH] = { 400, "it has a Content-Length and a Transfer-Encoding" },
  [C.NEAP_HTTP_HOST_NONE] = { 400, "it has no Host" },
  [C.NEAP_HTTP_HOST_TWICE] = { 400, "it has two Hosts" },
  [C.NEAP_HTTP_HOST_FORM] = { 400, "its Host is none" },
  [C.NEAP_HTTP_CHUNK_SIZE] = { 400, "there is no size of a chunk where one must be" },
  [C.NEAP_HTTP_CHUNK_END] = { 400, "a chunk does not end where its size says" },
  [C.NEAP_HTTP_CHUNK_EXTENSION] = { 400, "a chunk's extension is malformed or too long" },
  [C.NEAP_HTTP_TRAILER] = { 400, "a field behind the body must stand before it" },
}

local oversized = { [413] = true, [414] = true, [431] = true }

local function malformed(what, wrong, at)
  local status, text = wrongs[wrong][1], wrongs[wrong][2]
  local where = at and (" (at byte %d)"):format(at) or ""
  return nil, ("%s: %s%s"):format(what, text, where),
    oversized[status] and "oversized" or "malformed", status
end

-- ---- messages ----

-- Where the parts of the head are that was scanned last, and how many were. A message that is asked
-- after another was scanned is scanned again. It is known by a number: where nothing outside of
-- compiled code holds a message, LuaJIT does not make its table.
local head = head_t()
local scans = 0

-- What a message has for itself, in its array part: its other fields are the script's. Of its view
-- it has what that was made of, since the object may be another view by the time.
-- LuaJIT allocates an array of 15 together with its table, and a larger one by itself. Where one of
-- the values is a constant it makes a template with a hash part, which is copied each time: hence
-- `unset`.
local unset = false
local KEPT, SIZE, KIND, FLAGS, FRAMING, SCAN = 1, 2, 3, 4, 5, 6 -- framing "length": the number
local METHOD, STATUS, PATH = 7, 7, 8
local READER_SLOT, READER_GEN, EPOCH, AT = 9, 10, 11, 12
-- 13 to 15 are free, for who serves requests.

--- The head of a request or a response. It reads from the view that it was decoded from, until it
--- is told to keep its bytes.
--- @class neap.HttpMessage
--- @field method string of a request, such as "GET"
--- @field target string of a request, as it came
--- @field path string of a request: the target without its query ("/" if there is none, "*" or
--- "host:port" where that is the target), as it came: nothing is decoded
--- @field query string|nil of a request: what follows the "?" of the target
--- @field host string|nil of a request: of the target if it is there, else of the field
--- @field status integer of a response
--- @field reason string of a response
--- @field version string "1.0" or "1.1"
--- @field framing string how the body is marked off: "none", "length", "chunked" or "close" (by
--- the end of the connection)
--- @field length integer|nil bytes of the body, if they are known
--- @field coded boolean of a response: has its body another transfer coding than chunked?
--- @field keep_alive boolean may the connection go on after this message?
--- @field expects_continue boolean does the client wait for a 100 before it sends the body?
--- @field expects_other boolean does it expect something else? (the answer is 417)
--- @field upgrade boolean does it ask for another protocol (Connection: upgrade, and Upgrade)?
local Message = {}

local function check_self(self, name)
  if type(self) ~= "table" or not self[SIZE] then
    check.raise("message:" .. name .. ": called on " .. type(self) .. ", not on a message")
  end
end

local function stale()
  check.raise("http1: the reader has read, peeked or skipped since the head was decoded "
    .. "(message:keep() keeps it)")
end

local place = ffi.new("struct neap_view")

-- Where the head of a message is, for C.
local function place_of(self)
  place.slot, place.gen, place.epoch = self[READER_SLOT], self[READER_GEN], self[EPOCH]
  place.at, place.size = self[AT], self[SIZE]
  return place
end

-- The scan of a message is there.
local function own(self)
  if self[SCAN] == scans then return end
  scans = scans + 1
  local kept = self[KEPT]
  if kept then
    if C.neap_http_scan(kept, #kept, self[KIND], head) < 0 then stale() end
  elseif C.neap_view_http_scan(place_of(self), self[KIND], head) < 0 then
    stale()
  end
  self[SCAN] = scans
end

local chars_t = ffi.typeof("char[?]")
local SMALL = 512 -- bytes that need no room of their own on their way to a Lua string
local small_room = chars_t(SMALL)

-- A part of the head.
local function part_of(self, at, size)
  if size == 0 then return "" end
  local kept = self[KEPT]
  if kept then return (kept:sub(at + 1, at + size)) end
  local room, from = size <= SMALL and small_room or chars_t(size), self[AT]
  if C.neap_view_copy(self[READER_SLOT], self[READER_GEN], self[EPOCH], from + self[SIZE],
    from + at, size, room) < 0 then
    stale()
  end
  return ffi_string(room, size)
end

local getters = {}

function getters.method(self)
  if self[KIND] ~= REQUEST then return nil end
  return self[METHOD]
end

function getters.status(self)
  if self[KIND] ~= RESPONSE then return nil end
  return self[STATUS]
end

function getters.target(self)
  if self[KIND] ~= REQUEST then return nil end
  own(self)
  return (part_of(self, head.target_at, head.target_size))
end

function getters.path(self)
  local path = self[PATH]
  if path or self[KIND] ~= REQUEST then return path or nil end
  own(self)
  if head.path_size > 0 then
    path = part_of(self, head.path_at, head.path_size)
  elseif head.target_form == ABSOLUTE then
    path = "/"
  else
    path = part_of(self, head.target_at, head.target_size)
  end
  self[PATH] = path
  return path
end

function getters.query(self)
  own(self)
  if head.query_at == 0 then return nil end
  return (part_of(self, head.query_at, head.query_size))
end

function getters.host(self)
  own(self)
  if head.host_at == 0 then return nil end
  return (part_of(self, head.host_at, head.host_size))
end

function getters.reason(self)
  if self[KIND] ~= RESPONSE then return nil end
  own(self)
  return (part_of(self, head.reason_at, head.reason_size))
end

function getters.version(self) return band(self[FLAGS], OLD) == 0 and "1.1" or "1.0" end
function getters.framing(self)
  local framing = self[FRAMING]
  return type(framing) == "number" and "length" or framing
end

function getters.coded(self) return band(self[FLAGS], CODED) ~= 0 end

function getters.length(self)
  local framing = self[FRAMING]
  if framing == "none" then return 0 end
  return type(framing) == "number" and framing or nil
end

function getters.keep_alive(self)
  if self[FRAMING] == "close" then return false end
  local flags = self[FLAGS]
  if band(flags, OLD) ~= 0 then return band(flags, CLOSE + KEEP_ALIVE) == KEEP_ALIVE end
  return band(flags, CLOSE) == 0
end

function getters.expects_continue(self)
  return band(self[FLAGS], CONTINUE + OLD) == CONTINUE
end

function getters.expects_other(self) return band(self[FLAGS], EXPECT) ~= 0 end
function getters.upgrade(self) return band(self[FLAGS], UPGRADE) == UPGRADE end

local function find(self, name, from)
  local kept = self[KEPT]
  if kept then
    local i = C.neap_http_find(kept, #kept, head, name, #name, from)
    return i
  end
  local i = C.neap_view_http_find(place_of(self), head, name, #name, from)
  if i == STALE then stale() end
  return i
end

local function value_of(self, i)
  return (part_of(self, head.value_at[i], head.value_size[i]))
end

-- The field stands there more than once: a list. Cookies are joined as RFC 6265 has them.
local function joined(self, name, at)
  local values = {}
  while at >= 0 do
    values[#values + 1] = value_of(self, at)
    at = find(self, name, at + 1)
  end
  return concat(values, name:lower() == "cookie" and "; " or ", ")
end

--- The value of a header, without white space around it. Where it stands more than once its values
--- are joined, with ", " between them; Set-Cookie alone cannot be joined (`headers` tells of each).
--- @param name string in large or small letters
--- @return string|nil value nil: there is none
function Message:header(name)
  check_self(self, "header")
  check.string(name, "message:header: name")
  own(self)
  local at = find(self, name, 0)
  if at < 0 then return nil end
  if find(self, name, at + 1) >= 0 then return (joined(self, name, at)) end
  return value_of(self, at)
end

--- Iterates over the headers in their order, each with its name as it came.
--- @return fun(): string|nil, string|nil next name, value
function Message:headers()
  check_self(self, "headers")
  local i = -1
  return function()
    own(self)
    i = i + 1
    if i >= head.count then return nil end
    return part_of(self, head.name_at[i], head.name_size[i]), value_of(self, i)
  end
end

--- Keeps the bytes of the head, as one string: the message is good for as long as anybody has it.
--- @return neap.HttpMessage self
function Message:keep()
  check_self(self, "keep")
  if not self[KEPT] then self[KEPT] = part_of(self, 0, self[SIZE]) end
  return self
end

local function index(self, key)
  local method = Message[key]
  if method then return method end
  local getter = getters[key]
  return getter and getter(self)
end

local metatable = {
  __index = index,
  __tostring = function(self)
    if self[KIND] == REQUEST then return ("request %s %s"):format(self.method, self.path) end
    if self[KIND] == RESPONSE then return ("response %d"):format(self.status) end
    return "trailers"
  end,
  __metatable = "neap.httpMessage",
}

-- ---- decoding heads ----

local function check_view(view, what)
  if not view_module.is_view(view) then
    check.raise(what .. ": view must be a view, got " .. type(view))
  end
end

-- Not all of a head is in these bytes.
local function needs_more(view, what, most)
  if view.size < most then return nil end
  local in_first_line = not view:find("\n", 4) -- empty lines may stand before it
  return nil, ("%s: its head is above %d bytes%s"):format(what, most,
    in_first_line and ", all of them its first line" or ""), "oversized",
    in_first_line and 414 or 431
end

-- Returns the bytes of the head, or what decode_…() does.
local function scan(view, kind, most, what)
  scans = scans + 1
  local code = C.neap_view_http_scan(cast(view_t, view), kind, head)
  if code > 0 then return code end
  if code == AGAIN then return needs_more(view, what, most) end
  if code == STALE then stale() end
  return malformed(what, head.wrong, head.wrong_at)
end

-- By enum neap_http_method, in its order: a list is looked up with fewer instructions.
local methods = { "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE" }
assert(methods[tonumber(C.NEAP_HTTP_TRACE)] == "TRACE")

local function request_framing(flags, length)
  if band(flags, CHUNKED) ~= 0 then return "chunked" end
  return length >= 0 and length or "none"
end

local function decode_request(view, most, kind)
  if view.size > most then view = view:sub(0, most) end
  local size, text, name, status = scan(view, REQUEST, most, "request")
  if not size then return nil, text, name, status end
  local flags = head.flags
  local message = setmetatable({ unset, size, REQUEST, flags, request_framing(flags, head.length),
    scans, methods[head.method] or unset, unset, view.slot, view.gen, view.epoch, view.at,
    unset, unset, unset }, kind)
  if not message[METHOD] then
    message[METHOD] = part_of(message, head.method_at, head.method_size)
  end
  return message, size
end

--- Is this a request of HTTP/1.1 without a body, to be answered with a body, after which the
--- connection goes on? Most are.
--- @param request neap.HttpMessage a head that was decoded
--- @return boolean
function M.is_plain(request)
  return request[FRAMING] == "none" and band(request[FLAGS], UNUSUAL) == 0
    and request[METHOD] ~= "HEAD"
end

--- The request that the bytes begin with: its head. The body follows it (`http1.body`).
--- own: borrows the view: it is the message's until that is told to keep
--- err: "malformed", "oversized"; with the status to answer as a fourth value
--- @param view neap.View the bytes that are there
--- @param most? integer bytes of a head at most (16 KiB)
--- @return neap.HttpMessage|nil request nil alone: not all of it is there
--- @return integer|string|nil size bytes of the head; or what is wrong
--- @return string|nil name, integer|nil status
function M.decode_request(view, most)
  check_view(view, "http1.decode_request")
  most = most and check.whole(most, HEAD_LIMIT, "http1.decode_request: most") or MAX_HEAD
  return decode_request(view, most, metatable)
end

--- A `decode_request` for who serves requests: what it makes has methods of his own, too, and
--- fields that it works out when it is asked.
--- own: borrows the view, as decode_request does
--- @param own_methods table<string, function> by name
--- @param own_getters table<string, fun(request: neap.HttpMessage): any> by field
--- @param most integer bytes of a head
--- @return function decode as decode_request, with the view alone
function M.request_decoder(own_methods, own_getters, most)
  check.whole(most, HEAD_LIMIT, "max_head")
  local kind = {
    __index = function(self, key)
      local method = own_methods[key]
      if method then return method end
      local getter = own_getters[key]
      if getter then return (getter(self)) end
      return index(self, key)
    end,
    __tostring = metatable.__tostring,
    __metatable = "neap.httpRequest",
  }
  return function(view) return decode_request(view, most, kind) end
end

-- RFC 9112, 6.3
local function response_framing(status, flags, length, method)
  if method == "HEAD" or status < 200 or status == 204 or status == 304
    or (method == "CONNECT" and status < 300) then
    return "none"
  end
  if band(flags, CHUNKED) ~= 0 then return "chunked" end
  if band(flags, HAS_CODING) ~= 0 then return "close" end
  return length >= 0 and length or "close"
end

--- The response that the bytes begin with: its head. The body follows it (`http1.body`); behind
--- one of a status below 200 another response follows, except for 101.
--- own: borrows the view: it is the message's until that is told to keep
--- err: "malformed", "oversized"
--- @param view neap.View the bytes that are there
--- @param method? string of the request that it answers: those to HEAD have no body ("GET")
--- @param most? integer bytes of a head at most (16 KiB)
--- @return neap.HttpMessage|nil response nil alone: not all of it is there
--- @return integer|string|nil size bytes of the head; or what is wrong
--- @return string|nil name
function M.decode_response(view, method, most)
  check_view(view, "http1.decode_response")
  most = most and check.whole(most, HEAD_LIMIT, "http1.decode_response: most") or MAX_HEAD
  if view.size > most then view = view:sub(0, most) end
  local size, text, name = scan(view, RESPONSE, most, "response")
  if not size then return nil, text, name end
  local flags, status = head.flags, head.status
  local message = setmetatable({ unset, size, RESPONSE, flags,
    response_framing(status, flags, head.length, method), scans, status, unset,
    view.slot, view.gen, view.epoch, view.at }, metatable)
  return message, size
end

-- ---- decoding bodies ----

--- What is known of a body while it comes: how far it reaches.
--- @class neap.HttpBody
--- @field done boolean has all of it been taken?
--- @field trailers neap.HttpMessage|nil the fields behind a chunked body, if there were any
local Body = {}
local body_metatable = { __index = Body, __metatable = "neap.httpBody" }

local chunk = chunk_t()

--- The body that follows a head.
--- @param message neap.HttpMessage whose body it is
--- @param most? integer bytes of trailers at most (16 KiB)
--- @return neap.HttpBody body
function M.body(message, most)
  check_self(message, "body")
  local framing, left = message.framing, 0
  if framing == "length" then left = message[FRAMING] end
  if framing == "close" then left = ENDLESS end
  return setmetatable({
    framing = framing, left = left, done = framing ~= "chunked" and left == 0,
    first = true, last = false, overhead = 0,
    most = most and check.whole(most, HEAD_LIMIT, "http1.body: most") or MAX_HEAD,
  }, body_metatable)
end

-- The trailers, behind `skip` bytes that need not come again.
local function decode_trailers(self, view, skip)
  local rest = view:sub(skip, min(view.size - skip, self.most))
  local size, text, name, status = scan(rest, TRAILERS, self.most, "trailers")
  if not size and text then return nil, text, name, status end
  if not size then
    if skip == 0 then return nil end
    return skip, 0
  end
  if head.count > 0 then
    self.trailers = setmetatable({ rest:str(1, size), size, TRAILERS, 0, "none", 0, false, false,
      0, 0, 0, 0 }, metatable)
  end
  self.done = true
  return skip + size, 0
end

local function next_chunk(self, view)
  if self.last then return decode_trailers(self, view, 0) end
  local code = C.neap_view_http_chunk(cast(view_t, view), self.first, chunk)
  if code == AGAIN then return nil end
  if code == STALE then stale() end
  if code < 0 then return malformed("body", chunk.wrong) end
  self.first, self.left = false, chunk.size
  self.overhead = self.overhead + max(0, code - PLAIN_LINE)
  if self.overhead > OVERHEAD then
    return nil, "body: its chunks have too many extensions", "oversized", 413
  end
  if chunk.size > 0 then return code, chunk.size end
  self.last = true
  return decode_trailers(self, view, code)
end

--- What comes next: some bytes to drop, which are between the parts of the body, and then so many
--- of the body itself, of which only some may be there yet. Tell with `took` how many were taken.
--- Both are 0, and `done` is true, at the end.
--- own: borrows the view
--- err: "malformed", "oversized"; with the status to answer as a fourth value
--- @param view neap.View the bytes that are there
--- @return integer|nil skip nil alone: more bytes are needed
--- @return integer|string|nil bytes or what is wrong
--- @return string|nil name, integer|nil status
function Body:next(view)
  check_view(view, "body:next")
  if self.done or self.left > 0 then return 0, self.left end
  return next_chunk(self, view)
end

--- So many bytes of the body were taken.
--- @param n integer at most what `next` said
function Body:took(n)
  check.whole(n, self.left, "body:took: n")
  if self.framing ~= "close" then self.left = self.left - n end
  if self.left == 0 and self.framing == "length" then self.done = true end
end

--- The connection has ended. Was that the end of the body, too?
--- @return boolean complete
function Body:ended()
  if self.framing == "close" then self.done, self.left = true, 0 end
  return self.done
end

-- ---- encoding ----

--- Raises unless a field may have this name and this value: no control character, and so no line's
--- end, is in either.
--- @param name string of a header
--- @param value string|number what it says
--- @param what string for the error, such as "http.response"
--- @return string value
local function check_field(name, value, what)
  if type(name) ~= "string" or not C.neap_http_is_token(name, #name) then
    check.raise(("%s: %q is no name of a header"):format(what, tostring(name)))
  end
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then
    check.raise(("%s: the header %s must be a string or a number, got %s"):format(what, name,
      type(value)))
  end
  if not C.neap_http_is_text(value, #value) then
    check.raise(("%s: the header %s has a control character in its value, %q"):format(what, name,
      value))
  end
  return value
end

M.check_field = check_field

local function add_headers(parts, headers, what)
  local n = #parts
  for name, value in pairs(headers or {}) do
    local values = type(value) == "table" and value or { value }
    for i = 1, #values do
      local text = check_field(name, values[i], what)
      parts[n + 1], parts[n + 2], parts[n + 3], parts[n + 4] = name, ": ", text, "\r\n"
      n = n + 4
    end
  end
  parts[n + 1] = "\r\n"
  return concat(parts)
end

local function check_part(text, is_good, what)
  if type(text) ~= "string" or not is_good(text, #text) then
    check.raise(("%s: %q cannot stand there"):format(what, tostring(text)))
  end
end

local function is_token(text, n) return C.neap_http_is_token(text, n) end
local function is_text(text, n) return C.neap_http_is_text(text, n) end
local function is_target(text, n)
  return n > 0 and is_text(text, n) and not text:find("[%s\128-\255]")
end

--- The head of a request. What marks its body off is among the headers: Content-Length, or
--- Transfer-Encoding: chunked.
--- @param method string such as "GET"
--- @param target string such as "/path?query"
--- @param headers table<string, string|number|string[]> a list is one header each
--- @return string head
function M.encode_request(method, target, headers)
  check_part(method, is_token, "http1.encode_request: method")
  check_part(target, is_target, "http1.encode_request: target")
  return add_headers({ method, " ", target, " HTTP/1.1\r\n" }, headers, "http1.encode_request")
end

local reasons = {
  [100] = "Continue", [101] = "Switching Protocols", [103] = "Early Hints",
  [200] = "OK", [201] = "Created", [202] = "Accepted", [203] = "Non-Authoritative Information",
  [204] = "No Content", [205] = "Reset Content", [206] = "Partial Content",
  [300] = "Multiple Choices", [301] = "Moved Permanently", [302] = "Found", [303] = "See Other",
  [304] = "Not Modified", [307] = "Temporary Redirect", [308] = "Permanent Redirect",
  [400] = "Bad Request", [401] = "Unauthorized", [402] = "Payment Required", [403] = "Forbidden",
  [404] = "Not Found", [405] = "Method Not Allowed", [406] = "Not Acceptable",
  [407] = "Proxy Authentication Required", [408] = "Request Timeout", [409] = "Conflict",
  [410] = "Gone", [411] = "Length Required", [412] = "Precondition Failed",
  [413] = "Content Too Large", [414] = "URI Too Long", [415] = "Unsupported Media Type",
  [416] = "Range Not Satisfiable", [417] = "Expectation Failed", [421] = "Misdirected Request",
  [422] = "Unprocessable Content", [426] = "Upgrade Required", [428] = "Precondition Required",
  [429] = "Too Many Requests", [431] = "Request Header Fields Too Large",
  [500] = "Internal Server Error", [501] = "Not Implemented", [502] = "Bad Gateway",
  [503] = "Service Unavailable", [504] = "Gateway Timeout", [505] = "HTTP Version Not Supported",
  [507] = "Insufficient Storage",
}

local status_lines = {}
for status, reason in pairs(reasons) do
  status_lines[status] = ("HTTP/1.1 %d %s\r\n"):format(status, reason)
end

--- What a status is called.
--- @param status integer of a response
--- @return string reason as RFC 9110 and those that it names have it; "" if they do not
function M.reason(status)
  return reasons[status] or ""
end

--- The line that a response begins with.
--- @param status integer from 100 to 999
--- @param reason? string that of RFC 9110 if nil
--- @return string line
function M.status_line(status, reason)
  local line = not reason and status_lines[status]
  if line then return line end
  check.whole(status, 999, "http1: status")
  if status < 100 then check.raise("http1: status must be from 100 to 999, got " .. status) end
  reason = reason or ""
  check_part(reason, is_text, "http1: reason")
  return ("HTTP/1.1 %d %s\r\n"):format(status, reason)
end

--- The head of a response. What marks its body off is among the headers.
--- @param status integer from 100 to 999
--- @param headers table<string, string|number|string[]> a list is one header each
--- @param reason? string that of RFC 9110 if nil
--- @return string head
function M.encode_response(status, headers, reason)
  return add_headers({ M.status_line(status, reason) }, headers, "http1.encode_response")
end

--- A chunk of a body. An empty one would end it, and is nothing.
--- own: takes the slice, which is in the list
--- @param x string|neap.Slice the bytes
--- @return (string|neap.Slice)[] list for `conn:write`
function M.encode_chunk(x)
  local n = #x
  if n == 0 then return { x } end
  return { ("%x\r\n"):format(n), x, "\r\n" }
end

local before_bodies = { ["content-length"] = true, ["transfer-encoding"] = true, host = true }

--- The end of a chunked body.
--- @param trailers? table<string, string|number|string[]> a list is one field each; not those that
--- must stand before a body: Content-Length, Transfer-Encoding, Host
--- @return string bytes
function M.encode_last_chunk(trailers)
  for name in pairs(trailers or {}) do
    if before_bodies[tostring(name):lower()] then
      check.raise("http1.encode_last_chunk: " .. name .. " cannot stand behind a body")
    end
  end
  return add_headers({ "0\r\n" }, trailers, "http1.encode_last_chunk")
end

return abi.keep("neap.codec.http1", M)
