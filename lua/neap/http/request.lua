--- What a server's requests can do besides what `neap.codec.http1` says of messages: their bodies,
--- as they come or whole, and what is in them.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local http1 = require("neap.codec.http1")
local task = require("neap.task")
local text_module = require("neap.http.text")

local C = abi.C
local min, concat = math.min, table.concat
local type = type
local BODY_MAX = 0x1p53
local CONTINUE = "HTTP/1.1 100 Continue\r\n\r\n"
-- places of the array part: two of the codec's, and those that it leaves to us
local SIZE, METHOD, CONN, SETTINGS, BODY = 2, 7, 13, 14, 15

local M = { METHOD = METHOD, CONN = CONN, SETTINGS = SETTINGS, BODY = BODY }

--- A request: what a handler is given. It is good until its answer is sent.
--- @class neap.HttpRequest: neap.HttpMessage
--- @field params table<string, string> what the router found in the path, decoded
--- @field arguments table<string, string> the query, decoded; of a name that comes again, the first
--- @field peer string the address of the other side
--- @field max_body integer bytes of its body at most: set it before the body is read
local Request, getters = {}, {}
M.methods, M.getters = Request, getters

function getters.peer(self) return self[CONN].peer end
function getters.max_body(self) return self[SETTINGS].max_body end
function getters.params() return nil end

function getters.arguments(self)
  local query = self.query
  local found = query and text_module.parse_form(query) or {}
  rawset(self, "arguments", found)
  return found
end

local function check_self(self, name)
  if type(self) ~= "table" or not self[CONN] then
    check.raise("request:" .. name .. ": called on " .. type(self) .. ", not on a request")
  end
end

-- ---- bodies ----

-- The status that a body is answered with that could not be read; none: nobody is there to read it.
local statuses = { timeout = 408, oversized = 413, malformed = 400 }

local function fail(self, text, name, status)
  local state = self[BODY]
  if not state.failure then
    state.failure, state.name = text, name
    state.status = status or statuses[name]
  end
  return errors.fail(text, name)
end

-- The client hears what is wrong with it.
local function refuse(self, what, name, status)
  local result, text = fail(self, ("%s: the body of %s %s"):format(self.peer, self.path, what),
    name, status)
  self[BODY].told = self[BODY].told or "the body " .. what
  return result, text, name
end

local function too_large(self)
  return refuse(self, ("has more than %d bytes"):format(self.max_body), "oversized", 413)
end

--- From here on the head is taken, and what is unread is the body.
--- @return table state
function M.begin_body(self)
  local state = self[BODY]
  if state then return state end
  self:keep()
  local conn = self[CONN]
  state = { body = http1.body(self), received = 0, begun = C.neap_loop_now(task.loop) }
  self[BODY] = state
  conn:skip(self[SIZE])
  return state
end

local begin_body = M.begin_body

-- The client waits for a 100 before it sends the body: who reads that says so.
local function ask_for_it(self, state)
  if state.asked then return end
  state.asked = true
  local conn = self[CONN]
  if self.expects_continue and conn:buffered() == 0 then
    conn:put(CONTINUE)
    self[SETTINGS].counts.continues = (self[SETTINGS].counts.continues or 0) + 1
  end
end

-- Seconds until more of the body must have come.
local function patience(self, state)
  local settings = self[SETTINGS]
  local limit = settings.body_timeout
  if limit == 0 then return nil end
  local spent = C.neap_loop_now(task.loop) - state.begun
  if settings.body_rate == 0 then return limit end
  return math.max(0.001, min(limit, limit + state.received / settings.body_rate - spent))
end

-- A view of n bytes and of what else is here.
local function look(self, n)
  local conn = self[CONN]
  local here = conn:buffered()
  if here >= n then return conn:peek(here) end
  local view, text, name = conn:peek(n)
  if not view then return nil, text, name end
  return conn:peek(conn:buffered())
end

-- Skips what stands between the parts of a body. Returns how many bytes of a part follow, 0 at the
-- end.
local function next_part(self, state)
  local body, want = state.body, 1
  while not body.done and body.left == 0 do
    local view, text, name = look(self, want)
    if not view then return fail(self, text, name) end
    local here = #view
    local skip, bytes, wrong, status = body:next(view)
    if skip then
      self[CONN]:skip(skip)
      want = 1
    elseif bytes then
      return fail(self, self.peer .. ": " .. bytes, wrong, status)
    else
      want = here + 1
    end
  end
  return body.left
end

local function read(self, state, max)
  local left, text, name = next_part(self, state)
  if not left then return nil, text, name end
  if state.body.done then return errors.fail("the body has ended", "eof") end
  local room = self.max_body - state.received
  if room <= 0 or (state.body.framing == "length" and left > room) then return too_large(self) end
  local slice
  slice, text, name = self[CONN]:read_any(min(left, max or BODY_MAX, room))
  if not slice then return fail(self, text, name == "eof" and "short" or name) end
  state.received = state.received + #slice
  state.body:took(#slice)
  return slice
end

--- Some of the body, as it comes; waits for the first byte. A client that waits for a 100
--- (Continue) gets it now.
--- own: returns owned
--- err: "eof" (it is read), "oversized" (max_body; the answer is 413), "malformed" (400), "timeout"
--- (408), "short" and "reset" (the client has gone), "cancelled", "limit", "memory", "system"
--- @param max? integer bytes at most
--- @return neap.Slice|nil slice, string? message, string? name
function Request:read(max)
  check_self(self, "read")
  if max ~= nil then
    check.whole(max, BODY_MAX, "request:read: max")
    if max == 0 then check.raise("request:read: max must be at least 1") end
  end
  local state = begin_body(self)
  if state.failure then return fail(self, state.failure, state.name) end
  ask_for_it(self, state)
  local conn = self[CONN]
  conn:set_timeout(patience(self, state))
  local slice, text, name = read(self, state, max)
  conn:set_timeout(self[SETTINGS].timeout)
  return slice, text, name
end

local function next_chunk(self)
  local slice, text, name = self:read()
  if slice then return slice end
  if name == "eof" then return nil end
  error(text, 0)
end

--- Iterates over the body as it comes; raises what `read` fails with, which is answered as it
--- should be, without a line in the log.
--- own: returns owned, each slice
--- @return fun(request: neap.HttpRequest): neap.Slice|nil next, neap.HttpRequest request for a
--- `for` loop
function Request:chunks()
  check_self(self, "chunks")
  return next_chunk, self
end

--- The whole body, as a string.
--- err: as `read`, without "eof"
--- @param max? integer bytes at most (max_body)
--- @return string|nil text, string? message, string? name
function Request:text(max)
  check_self(self, "text")
  if max ~= nil then self.max_body = check.whole(max, BODY_MAX, "request:text: max") end
  local parts, n = {}, 0
  while true do
    local slice, message, name = self:read()
    if not slice then
      if name == "eof" then return concat(parts) end
      return nil, message, name
    end
    n = n + 1
    parts[n] = slice:str()
    slice:release()
  end
end

--- What stands behind a chunked body, once that is read.
--- @return neap.HttpMessage|nil trailers with `header` and `headers`; nil: nothing
function Request:trailers()
  check_self(self, "trailers")
  local state = self[BODY]
  return state and state.body.trailers
end

local function wrong_body(self, what, status)
  begin_body(self)
  return refuse(self, what, "malformed", status or 400)
end

M.wrong_body = wrong_body

--- Is the body of this media type?
--- @param wanted string such as "application/json"
--- @return boolean
function Request:is_type(wanted)
  check_self(self, "is_type")
  local given = self:header("content-type")
  return given ~= nil and given:match("^[^;%s]*"):lower() == check.string(wanted,
    "request:is_type: wanted")
end

local decode_json

local function json_decoder()
  local ok, cjson = pcall(require, "cjson.safe")
  if not ok then check.raise("request:json: lua-cjson is not installed") end
  local own = cjson.new() -- of our own, with limits that nobody else changes
  own.decode_max_depth(100)
  own.decode_invalid_numbers(false)
  return own.decode
end

--- The body as JSON, by lua-cjson; null is cjson.null.
--- err: as `text`, and "malformed" (it is none: 400; its Content-Type is another: 415)
--- @param max? integer bytes at most (max_body)
--- @return any value, string? message, string? name
function Request:json(max)
  check_self(self, "json")
  local given = self:header("content-type")
  if given and not given:lower():find("json", 1, true) then
    return wrong_body(self, "is not JSON by its Content-Type", 415)
  end
  local text, message, name = self:text(max)
  if not text then return nil, message, name end
  decode_json = decode_json or json_decoder()
  local value, problem = decode_json(text)
  if value == nil then return wrong_body(self, "is not JSON: " .. tostring(problem)) end
  return value
end

--- The fields of a form (application/x-www-form-urlencoded), decoded; of a name that comes again,
--- the first.
--- err: as `text`, and "malformed" (its Content-Type is another: 415)
--- @param max? integer bytes at most (max_body)
--- @return table<string, string>|nil fields, string? message, string? name
function Request:form(max)
  check_self(self, "form")
  if not self:is_type("application/x-www-form-urlencoded") then
    return wrong_body(self, "is not a form by its Content-Type", 415)
  end
  local text, message, name = self:text(max)
  if not text then return nil, message, name end
  return text_module.parse_form(text)
end

--- Drops what is unread of the body, if that is not much. Returns whether it is all gone.
function M.drop_body(self)
  local state = begin_body(self)
  if state.failure then return false end
  local most = state.received + self[SETTINGS].max_drain
  self.max_body = most
  for _ = 1, 1e6 do -- each takes a byte or more
    local slice, _, name = self:read()
    if not slice then return name == "eof" end
    slice:release()
  end
end

return abi.keep("neap.http.request", M)
