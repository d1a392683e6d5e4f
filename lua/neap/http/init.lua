--- A server of HTTP/1.1, on `neap.serve` and `neap.codec.http1`.
---
---     local http = require("neap.http")
---     assert(http.serve("tcp://127.0.0.1:8080", function(request)
---       return "hello, " .. request.path
---     end))
---
--- A handler gets a request and returns its answer: a string, a slice, a list of them, a function
--- that writes it, or a table with status, headers and body. `nil` is a 404; an error, or `nil,
--- text`, a 500 with a number that the log has beside the traceback.

local abi = require("neap.abi")
local access = require("neap.http.access")
local check = require("neap.check")
local events = require("neap.http.events")
local files = require("neap.http.files")
local gzip = require("neap.http.gzip")
local http1 = require("neap.codec.http1")
local request_module = require("neap.http.request")
require("neap.http.multipart")
local response = require("neap.http.response")
local router = require("neap.http.router")
local serve_module = require("neap.serve")
local task = require("neap.task")
local text_module = require("neap.http.text")

local METHOD, CONN, SETTINGS, BODY = request_module.METHOD, request_module.CONN,
  request_module.SETTINGS, request_module.BODY
local is_plain, put_plain, put_list = http1.is_plain, response.put_plain, response.put_list
local type, pairs, tostring, pcall, xpcall = type, pairs, tostring, pcall, xpcall

local M = {
  router = router.new,
  response = response.response,
  json = response.json,
  html = response.html,
  redirect = response.redirect,
  problem = response.problem,
  upgrade = response.upgrade,
  files = files.files,
  events = events.events,
  gzip = gzip.gzip,
  escape = text_module.escape_html,
  escape_url = text_module.escape,
  unescape = text_module.unescape,
}

local function count(settings, name)
  local counts = settings.counts
  counts[name] = (counts[name] or 0) + 1
end

-- ---- errors ----

local GONE = {} -- an error that was the outside world's, and its name
local first_id = os.time() % 0x1000000
local last_id = 0

local function new_id()
  last_id = last_id + 1
  return ("%06x-%d"):format(first_id, last_id)
end

-- For xpcall: an error of the script's is written down here, where its frames still are.
local function on_error(err)
  local name = task.failure_of(task.running(), err)
  if name then return { gone = GONE, name = name } end
  local text = task.shown(err)
  return { text = text, traceback = check.traceback(text) }
end

local function server_error(request, wrong)
  local id = new_id()
  count(request[SETTINGS], "errors")
  require("neap.log").error(("request %s failed: %s"):format(id, wrong.text), {
    id = id, peer = request.peer, request = request.method .. " " .. request.path,
    traceback = wrong.traceback,
  })
  return response.problem(500, "the server's log tells more of " .. id)
end

-- What a handler has returned, or that it raised, as an answer; nil: nobody is there to get it.
local function answer_of(request, ok, answer, text, name)
  local state = request[BODY]
  if ok and answer ~= nil then
    local fine, made = xpcall(response.of, on_error, answer)
    return fine and made or server_error(request, made)
  end
  if state and state.failure then
    count(request[SETTINGS], state.name)
    return state.status and response.problem(state.status, state.told)
  end
  if not ok and answer.gone == GONE then
    count(request[SETTINGS], answer.name)
    answer = { text = "it needed something that failed: " .. answer.name }
  end
  if not ok then return server_error(request, answer) end
  if text == nil then return response.problem(404) end
  return server_error(request, { text = tostring(text) .. (name and " (" .. tostring(name) .. ")"
    or "") })
end

-- ---- sending ----

-- Is the connection good for another request after this one? Second: is something of the body
-- still to be dropped?
local function goes_on(request, answer)
  local state = request[BODY]
  local keep = request.keep_alive and not answer.close
  if request.framing == "none" or (state and state.body.done) then return keep, false end
  if not keep or (state and state.failure) then return false, false end
  if request.expects_continue and not (state and state.asked) then return false, false end
  local length = request.length
  if length and length - (state and state.received or 0) > request[SETTINGS].max_drain then
    return false, false
  end
  return true, true
end

local function connection_line(request, keep)
  if not keep then return "Connection: close\r\n" end
  return request.version == "1.0" and "Connection: keep-alive\r\n" or ""
end

-- The client has the answer, or will.
local function done(request, conn, keep, drop)
  local closed = not keep or (drop and not request_module.drop_body(request))
  if closed then conn:close() end
end

-- A body that is here.
local function send_whole(request, conn, answer, head)
  local status, body = answer.status or 200, answer.body
  local keep, drop = goes_on(request, answer)
  head = head .. connection_line(request, keep)
  if not response.is_bodiless(status) then
    head = head .. "Content-Length: " .. response.size_of(body) .. "\r\n"
  end
  head = head .. "\r\n"
  local size = #head
  if request.method == "HEAD" or response.is_bodiless(status) then
    response.release(body)
    body = nil
  end
  local bytes = response.size_of(body)
  access.note(request, status, bytes)
  local list = response.together(head, body)
  if keep and not drop then return list, size end
  conn:write(list)
  done(request, conn, keep, drop)
end

-- Runs the function that writes a body. Returns whether all of it went out.
local function run_writer(request, out, body)
  local ok, wrong = xpcall(body, on_error, out)
  if ok and out.length and out.bytes < out.length then
    ok, wrong = false, { text = ("%d bytes of a body whose Content-Length is %d")
      :format(out.bytes, out.length) }
  end
  if ok and out.chunked then
    ok, wrong = pcall(http1.encode_last_chunk, out.trailers)
    if ok then return out.conn:write(wrong) end
    wrong = { text = wrong }
  end
  if ok then return true end
  if wrong.gone == GONE then
    count(request[SETTINGS], wrong.name)
  else
    server_error(request, wrong)
  end
  return false
end

local function send_stream(request, conn, answer, head, length)
  local keep, drop = goes_on(request, answer)
  local chunked = not length and request.version == "1.1"
  if not length and not chunked then keep = false end
  if length then
    head = head .. ("Content-Length: %.0f\r\n"):format(length)
  elseif chunked then
    head = head .. "Transfer-Encoding: chunked\r\n"
  end
  head = head .. connection_line(request, keep) .. "\r\n"
  request_module.begin_body(request) -- who writes may wait
  local out = response.out(conn, chunked, length)
  local sent = conn:write(head)
  if sent and request.method ~= "HEAD" then sent = run_writer(request, out, answer.body) end
  access.note(request, answer.status or 200, out.bytes)
  if not sent then return conn:close() end
  done(request, conn, keep, drop)
end

local function send_upgrade(request, conn, answer, head)
  if not request.upgrade then
    return send_whole(request, conn, response.problem(426),
      response.head(response.problem(426)) .. "Upgrade: " .. answer.protocol .. "\r\n")
  end
  if not request_module.drop_body(request) then -- its rest would be the other protocol's
    local refusal = response.problem(request[BODY].status or 400)
    return send_whole(request, conn, refusal, response.head(refusal))
  end
  conn:write(head .. "Connection: upgrade\r\nUpgrade: " .. answer.protocol .. "\r\n\r\n")
  access.note(request, 101, 0)
  count(request[SETTINGS], "upgrades")
  local ok, wrong = xpcall(answer.upgrade, on_error, conn)
  if not ok and wrong.gone ~= GONE then server_error(request, wrong) end
  conn:close()
end

local function length_of(length)
  if length == nil then return nil end
  local n = tonumber(length)
  if not n or n < 0 or n % 1 ~= 0 or n > 0x1p53 then
    check.raise("http: the answer's Content-Length must be a whole number, got " .. length)
  end
  return n
end

local function prepare(request, answer)
  local head, length = response.head(answer)
  local body = answer.body
  if type(body) ~= "function" then
    response.size_of(body)
    if length and request.method ~= "HEAD" then
      check.raise("http: the header Content-Length is for bodies that a function writes")
    end
  end
  return head, length_of(length)
end

local function send(request, conn, answer)
  if answer.status == 101 and not answer.upgrade then answer.status = 500 end
  local ok, head, length = xpcall(prepare, on_error, request, answer)
  if not ok then
    response.release(answer.body)
    answer = server_error(request, head)
    head, length = response.head(answer), nil
  end
  if answer.upgrade then return send_upgrade(request, conn, answer, head) end
  if type(answer.body) == "function" and not response.is_bodiless(answer.status or 200) then
    return send_stream(request, conn, answer, head, length)
  end
  return (send_whole(request, conn, answer, head))
end

-- ---- requests ----

local function finish(request, conn, ok, answer, text, name)
  answer = answer_of(request, ok, answer, text, name)
  if not answer then return conn:close() end
  return send(request, conn, answer)
end

local function handler_of(settings, handler)
  local methods, logs = settings.methods, settings.log ~= nil
  return function(request, conn)
    request[CONN], request[SETTINGS] = conn, settings
    local plain = is_plain(request)
    if not methods[request[METHOD]] or (not plain and request.expects_other) then
      local status = request.expects_other and 417 or 501
      count(settings, tostring(status))
      local refusal = response.problem(status)
      refusal.close = request.method == "CONNECT" -- what follows may be for the other side of it
      return send(request, conn, refusal)
    end
    if logs then access.begin(request) end
    local ok, answer, text, name = xpcall(handler, on_error, request)
    if ok and type(answer) == "string" and plain and not logs and not request[BODY] then
      return answer
    end
    return finish(request, conn, ok, answer, text, name)
  end
end

-- A string is the body of a plain text; all else has its head already.
local function encode(conn, x)
  if type(x) == "string" then return put_plain(conn, x) end
  return put_list(conn, x)
end

local statuses = { timeout = 408, oversized = 431, malformed = 400, error = 500 }

-- A head that is none, or does not come.
local function fail_of(settings)
  return function(conn, _, name, status)
    status = status or statuses[name]
    if not status then return nil end
    count(settings, tostring(status))
    local answer = response.problem(status)
    conn:put(response.head(answer) .. "Connection: close\r\nContent-Length: " .. #answer.body
      .. "\r\n\r\n" .. answer.body)
  end
end

-- ---- servers ----

local defaults = {
  max_head = 16384, max_body = 1048576, max_drain = 65536, head_timeout = 20, body_timeout = 30,
  body_rate = 500, methods = {}, log = "", log_path = "",
}
local changed = { timeout = 60, idle_timeout = 75, max_in_flight = 10000 } -- from neap.serve's
local known = {}
for _, names in ipairs { serve_module.defaults, defaults } do
  for name, default in pairs(names) do known[name] = default end
end
known.message_timeout = nil
local renamed = { message_timeout = "head_timeout", max_read = serve_module.renamed.max_read }
local known_methods = { "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS" }

local function split_options(options)
  check.names(options, known, "http.serve", renamed)
  local own, others = {}, {}
  for name, value in pairs(changed) do others[name] = value end
  for name, value in pairs(options) do
    if defaults[name] ~= nil then own[name] = value else others[name] = value end
  end
  own = check.options(own, defaults, "http.serve")
  for _, name in ipairs { "max_body", "max_drain", "body_rate" } do
    check.whole(own[name], 0x1p53, "http.serve: " .. name)
  end
  check.seconds(own.head_timeout, "http.serve: head_timeout")
  check.seconds(own.body_timeout, "http.serve: body_timeout")
  check.whole(own.max_head, 0x1000000, "http.serve: max_head")
  others.message_timeout = own.head_timeout
  local room = math.max(1048576, 2 * own.max_head)
  if others.max_message == nil then others.max_message = room end
  check.seconds(others.timeout, "http.serve: timeout")
  return own, others
end

local function new_settings(own, others)
  local settings = own
  local set = {}
  for _, name in ipairs(known_methods) do set[name] = true end
  for _, name in ipairs(own.methods) do set[check.string(name, "http.serve: methods")] = true end
  if set.CONNECT then check.raise("http.serve: CONNECT is no method of a server") end
  settings.methods, settings.counts = set, {}
  settings.timeout = others.timeout > 0 and others.timeout or nil
  settings.log, settings.close_log = access.writer(own.log, own.log_path)
  return settings
end

--- What `http.serve` gives.
--- @class neap.HttpServer
--- @field address string|nil where it listens; nil when it does not any more
local Server = {}
local inner = setmetatable({}, { __mode = "k" })

local function check_server(self, name)
  local state = inner[self]
  if state then return state end
  check.raise("server:" .. name .. ": called on " .. type(self) .. ", not on a server of HTTP")
end

local server_metatable = {
  __index = function(self, key)
    if key == "address" then return inner[self] and inner[self].server.address end
    return Server[key]
  end,
  __newindex = function() check.raise("server: it has no fields to set") end,
  __tostring = function(self) return "HTTP " .. tostring(inner[self].server) end,
  __metatable = "neap.httpServer",
}

--- Serves HTTP/1.1 (and 1.0).
--- own: returns owned
--- err: as neap.serve, and "system" (log_path)
--- @param address string where to listen, as for neap.listen
--- @param handler neap.HttpRouter|fun(request: neap.HttpRequest): any returns the answer
--- @param options? table max_head: bytes of a head (16 KiB; 431, 414 above) · max_body: bytes of a
--- body that is read (1 MiB; 413 above) · max_drain: bytes of an unread body that are dropped to
--- keep a connection (64 KiB) · head_timeout: seconds for a head from its first byte on (20; 408) ·
--- body_timeout: seconds that more of a body may take to come (30; 408), and body_rate: bytes a
--- second that it must come with after that (500) · methods: names besides GET, HEAD, POST, PUT,
--- DELETE, PATCH, OPTIONS (others: 501) · log: "common" or "json", an access log, on log_path or
--- standard output · timeout: seconds that sending may wait for a client (60) · idle_timeout:
--- seconds without traffic (75) · max_in_flight: requests whose handlers wait (10,000) · and the
--- other options of neap.serve
--- @return neap.HttpServer|nil server, string? message, string? name
function M.serve(address, handler, options)
  if getmetatable(handler) == "neap.httpRouter" then handler = router.handler_of(handler) end
  if type(handler) ~= "function" then
    check.raise("http.serve: handler must be a function or a router, got " .. type(handler))
  end
  local own, others = split_options(options == nil and {} or options)
  local settings = new_settings(own, others)
  local decode = http1.request_decoder(request_module.methods, request_module.getters,
    own.max_head)
  local server, message, name = serve_module.open(address, {
    codec = { decode = decode, encode = encode },
    handle = handler_of(settings, handler),
    fail = fail_of(settings),
  }, others, "http.serve", task.origin_of(2))
  if not server then
    if settings.close_log then settings.close_log() end
    return nil, message, name
  end
  local made = setmetatable({}, server_metatable)
  inner[made] = { server = server, settings = settings }
  return made
end

--- Stops listening; connections that are open stay.
function Server:close() check_server(self, "close").server:close() end

--- As `stop` of neap.serve's server: requests that are here are still answered.
--- err: "timeout" (some were cut), "cancelled", "memory"
--- @param limit? number seconds to wait (10)
--- @return true|nil ok, string? message, string? name
function Server:stop(limit)
  local state = check_server(self, "stop")
  local ok, message, name = state.server:stop(limit)
  if state.settings.close_log then state.settings.close_log() end
  return ok, message, name
end

--- What it has done so far.
--- @return table<string, integer> stats those of neap.serve's server, of which messages are the
--- requests · errors: answers with 500 · upgrades · continues: answers with 100 · by status, as a
--- string: requests that no handler saw ("400", "408", "414", "417", "431", "501", "505") · by
--- name: bodies that could not be read, and clients that went before they had their answer
function Server:stats()
  local state = check_server(self, "stats")
  local stats = state.server:stats()
  for name, value in pairs(state.settings.counts) do stats[name] = (stats[name] or 0) + value end
  return stats
end

return abi.keep("neap.http", M)
