--- Answers of HTTP: what a handler returns, as bytes.

local abi = require("neap.abi")
local check = require("neap.check")
local connection = require("neap.conn")
local http1 = require("neap.codec.http1")
local put = require("neap.put")
local slice = require("neap.slice")
local task = require("neap.task")
local text_module = require("neap.http.text")
local view = require("neap.view")

local C = abi.C
local LAST = connection.LAST
local is_slice, is_view = slice.is_slice, view.is_view
local type, pairs, tostring, concat = type, pairs, tostring, table.concat
local getmetatable, rawget = getmetatable, rawget
local TEXT = "text/plain; charset=utf-8"
local DATE_S = 0.2 -- seconds that a line with the date is good for
local TOGETHER = 16384 -- bytes of a string that is copied to stand behind its head

local M = {}

--- An answer with a status and headers. A table with these fields is one, too.
--- @class neap.HttpAnswer
--- @field status integer|nil 200 if nil
--- @field type string|nil the Content-Type; nil: that of the headers, else plain text in UTF-8
--- @field headers table<string, string|number|string[]>|nil a list is one header each
--- @field body string|neap.Slice|(string|neap.Slice)[]|fun(out: neap.HttpOut)|nil a function
--- writes it, in chunks unless the headers have a Content-Length
--- @field close boolean|nil does the connection end after it?

-- ---- heads ----

-- What the server knows better than a script.
local reserved = { connection = true, ["transfer-encoding"] = true, ["keep-alive"] = true,
  date = true, upgrade = true, trailer = true }

local lower_names = {} -- of the headers that answers have, which are few
local lower_count = 0

local function lower_of(name)
  local lower = lower_names[name]
  if lower or type(name) ~= "string" then return lower end
  if lower_count >= 1000 then lower_names, lower_count = {}, 0 end
  lower = name:lower()
  lower_names[name], lower_count = lower, lower_count + 1
  return lower
end

local function check_headers(headers, what)
  if headers ~= nil and type(headers) ~= "table" then
    check.raise(what .. ": headers must be a table, got " .. type(headers))
  end
  for name, value in pairs(headers or {}) do
    local values = type(value) == "table" and value or { value }
    for i = 1, #values do http1.check_field(name, values[i], what) end
    if reserved[lower_of(name)] then
      check.raise(("%s: the header %s is for the server to set"):format(what, name))
    end
  end
end

local date_text, date_until = "", -1

local loop = task.loop

--- "Date: …", made anew a few times a second.
local function date_line()
  local now = C.neap_loop_polled(loop)
  if now >= date_until then
    date_text = "Date: " .. text_module.date(os.time()) .. "\r\n"
    date_until = now + DATE_S
  end
  return date_text
end

M.date_line = date_line

local plain_head, plain_date = "", nil

-- The head of a plain text, up to its length.
local function head_of_plain()
  local date = date_line()
  if date ~= plain_date then
    plain_date = date
    plain_head = http1.status_line(200) .. date .. "Content-Type: " .. TEXT
      .. "\r\nContent-Length: "
  end
  return plain_head
end

--- Sends a plain text, with nothing said of it but its length. It makes no string.
function M.put_plain(conn, body)
  local head = head_of_plain()
  C.neap_stream_put_sized(conn.slot, conn.gen, head, #head, body, #body, conn.handled == LAST)
end

--- Sends an answer that is whole: a list.
function M.put_list(conn, list)
  local bytes = list[1]
  if #list > 1 or type(bytes) ~= "string" then return conn:put(list) end
  C.neap_stream_put_bytes(conn.slot, conn.gen, bytes, #bytes, conn.handled == LAST)
end

--- The head of an answer, without what marks its body off.
--- @return string head, string|nil length that its headers give
function M.head(answer)
  local parts, n, length = { http1.status_line(answer.status or 200), date_line() }, 2, nil
  local has_type = false
  check_headers(answer.headers, "http: the answer")
  for name, value in pairs(answer.headers or {}) do
    local lower = lower_of(name)
    if lower == "content-length" then
      length = tostring(value)
    elseif not (lower == "content-type" and answer.type) then
      has_type = has_type or lower == "content-type"
      local values = type(value) == "table" and value or { value }
      for i = 1, #values do
        parts[n + 1], parts[n + 2], parts[n + 3], parts[n + 4] = name, ": ", values[i], "\r\n"
        n = n + 4
      end
    end
  end
  if answer.type or (not has_type and answer.body ~= nil) then
    local media = http1.check_field("Content-Type", answer.type or TEXT, "http: the answer")
    parts[n + 1], parts[n + 2], parts[n + 3] = "Content-Type: ", media, "\r\n"
  end
  return concat(parts), length
end

-- ---- what handlers return ----

local function is_answer(t)
  return t.body ~= nil or t.status ~= nil or t.headers ~= nil or t.type ~= nil or t.upgrade ~= nil
end

--- What a handler has returned, as a neap.HttpAnswer.
function M.of(x)
  local kind = type(x)
  if kind == "table" and is_answer(x) then return x end
  if kind == "string" or kind == "table" or kind == "function" or is_slice(x) or is_view(x) then
    return { body = x }
  end
  check.raise("http: a handler must return a string, a slice, a list of them, a function, an "
    .. "answer or nil, got " .. kind)
end

--- Has such a status no body? (RFC 9110, 6.4.1)
function M.is_bodiless(status)
  return status < 200 or status == 204 or status == 304
end

--- The slices of a body that is not sent go, too.
function M.release(body)
  if is_slice(body) then
    body:release()
  elseif type(body) == "table" then
    for i = 1, #body do M.release(body[i]) end
  end
end

--- The bytes of a body that is no function.
function M.size_of(body)
  if body == nil then return 0 end
  return put.size_of(body, "http: the answer's body")
end

--- Head and body as one list.
function M.together(head, body)
  if body == nil then return { head } end
  if type(body) == "string" and #body <= TOGETHER then return { head .. body } end
  if type(body) ~= "table" then return { head, body } end
  local list = { head }
  for i = 1, #body do list[i + 1] = body[i] end
  return list
end

-- ---- bodies that functions write ----

--- What a body's function writes to.
--- @class neap.HttpOut
--- @field trailers table<string, string>|nil fields that go behind a body in chunks
local Out = {}
local out_metatable = { __index = Out, __metatable = "neap.httpOut" }

--- @param length integer|nil bytes that it must be; chunked says whether they go in chunks
function M.out(conn, chunked, length)
  return setmetatable({ conn = conn, chunked = chunked, length = length, bytes = 0 },
    out_metatable)
end

local function framed(self, x, n)
  if not self.chunked then return x end
  local list = { ("%x\r\n"):format(n) }
  if type(x) == "table" then
    for i = 1, #x do list[i + 1] = x[i] end
  else
    list[2] = x
  end
  list[#list + 1] = "\r\n"
  return list
end

--- Sends more of the body. Waits while the client does not read. Raises when the client has gone,
--- which ends the function without a line in the log.
--- own: takes slices
--- @param x string|neap.Slice|(string|neap.Slice)[] the bytes
--- @return neap.HttpOut out
function Out:write(x)
  if type(self) ~= "table" or not self.conn then
    check.raise("out:write: called on " .. type(self) .. ", not on what writes a body")
  end
  local n = put.size_of(x, "out:write: argument")
  if self.length and self.bytes + n > self.length then
    check.raise(("out:write: %d bytes of a body whose Content-Length is %d"):format(self.bytes + n,
      self.length))
  end
  if n == 0 then
    M.release(x)
    return self
  end
  self.bytes = self.bytes + n
  local ok, text = self.conn:write(framed(self, x, n))
  if not ok then error(text, 0) end
  return self
end

--- Can a part of a file be sent as it is: by the kernel, into no buf?
function M.takes_files(out)
  return getmetatable(out) == "neap.httpOut" and rawget(out, "conn") ~= nil and not out.chunked
end

--- Sends some of n bytes of a file. @return integer code bytes, or why not
function M.send_file(out, file, from, n, may_wait)
  local code = connection.send_file(out.conn, file, from, n, may_wait)
  if code > 0 then out.bytes = out.bytes + code end
  return code
end

--- For who must not wait: false, and nothing is sent, while the client does not read.
function M.try_write(out, x)
  return out.conn:try_write(framed(out, x, #x)) ~= nil
end

-- ---- answers by name ----

local function check_status(status, what)
  if check.whole(status, 599, what .. ": status") >= 200 then return end
  check.raise(("%s: status must be from 200 to 599, got %d"):format(what, status))
end

--- An answer with a status.
--- own: takes slices, as soon as it is returned from a handler
--- @param status integer from 200 to 599
--- @param body? string|neap.Slice|(string|neap.Slice)[]|fun(out: neap.HttpOut) as a handler
--- returns it
--- @param headers? table<string, string|number|string[]> a list is one header each
--- @return neap.HttpAnswer answer
function M.response(status, body, headers)
  check_status(status, "http.response")
  check_headers(headers, "http.response")
  return { status = status, body = body, headers = headers }
end

local encode_json

--- An answer in JSON, by lua-cjson.
--- @param value any what cjson can encode
--- @param status? integer 200
--- @return neap.HttpAnswer answer
function M.json(value, status)
  if not encode_json then
    local ok, cjson = pcall(require, "cjson")
    if not ok then check.raise("http.json: lua-cjson is not installed") end
    encode_json = cjson.new().encode
  end
  if status then check_status(status, "http.json") end
  local ok, text = pcall(encode_json, value)
  if not ok then check.raise("http.json: " .. text) end
  return { status = status, type = "application/json", body = text }
end

--- A page.
--- @param text string HTML in UTF-8 (`http.escape` makes plain text of what is not to be)
--- @param status? integer 200
--- @return neap.HttpAnswer answer
function M.html(text, status)
  check.string(text, "http.html: text")
  if status then check_status(status, "http.html") end
  return { status = status, type = "text/html; charset=utf-8", body = text }
end

--- Sends the client elsewhere.
--- @param location string a path or URL, as it goes into the header
--- @param status? integer 302, or 301, 303, 307, 308
--- @return neap.HttpAnswer answer
function M.redirect(location, status)
  http1.check_field("Location", location, "http.redirect")
  if status then check_status(status, "http.redirect") end
  return { status = status or 302, headers = { Location = location }, body = "" }
end

--- An answer that says what its status means.
--- @param status integer from 400 to 599
--- @param text? string what was wrong, for people
--- @param headers? table<string, string|number|string[]> a list is one header each
--- @return neap.HttpAnswer answer
function M.problem(status, text, headers)
  check_status(status, "http.problem")
  if text then check.string(text, "http.problem: text") end
  check_headers(headers, "http.problem")
  return { status = status, headers = headers,
    body = ("%d %s%s\n"):format(status, http1.reason(status), text and ": " .. text or "") }
end

--- Hands the connection over: after the 101 it is the function's, in the handler's task, and
--- closes when that returns. A request that asks for no upgrade gets a 426.
--- @param protocol string for the header Upgrade
--- @param fn fun(conn: neap.Connection) what goes on
--- @param headers? table<string, string|number|string[]> a list is one header each
--- @return neap.HttpAnswer answer
function M.upgrade(protocol, fn, headers)
  http1.check_field("Upgrade", protocol, "http.upgrade")
  check_headers(headers, "http.upgrade")
  check.fn(fn, "http.upgrade: fn")
  return { status = 101, headers = headers, upgrade = fn, protocol = protocol }
end

return abi.keep("neap.http.response", M)
