--- HTTP/1.1: heads and bodies, from the text of RFC 9110 and RFC 9112. Each input comes whole, cut
--- at every byte, and a byte at a time.

local helper = require("spec.helper")
local http1 = require("neap.codec.http1")
local neap = require("neap")
local refused = require("spec.http_refused")

-- A reader, and a function that gives it more bytes.
local function pipe()
  local waiting = {}
  local reader = assert(neap.reader(nil, function()
    return table.remove(waiting, 1)
  end))
  return reader, function(bytes)
    if bytes ~= "" then waiting[#waiting + 1] = bytes end
    reader:peek(reader:buffered() + #bytes)
  end
end

-- What `decode` says of an input that comes in pieces. Bytes that have come are looked at after
-- each piece, as a server does it.
local function decoded(pieces, decode)
  local reader, more = pipe()
  local results
  for i = 1, #pieces do
    more(pieces[i])
    local view = reader:peek(reader:buffered())
    results = { decode(view) }
    if results[1] or results[2] then break end
  end
  return results, reader
end

-- One result for all ways of cutting; `shown` makes values of it that can be compared.
local function every_cut(input, decode, shown)
  local whole = shown(decoded({ input }, decode))
  local single = {}
  for at = 1, #input do
    single[at] = input:sub(at, at)
    local cut = { input:sub(1, at), input:sub(at + 1) }
    assert.same(whole, shown(decoded(cut, decode)), "cut at " .. at)
  end
  assert.same(whole, shown(decoded(single, decode)), "a byte at a time")
  return whole
end

local function shown_request(results)
  local m = results[1]
  if not m then return { text = results[2], name = results[3], status = results[4] } end
  local headers = {}
  for name, value in m:headers() do headers[#headers + 1] = name .. "=" .. value end
  return {
    size = results[2], method = m.method, target = m.target, path = m.path, query = m.query,
    host = m.host, version = m.version, framing = m.framing, length = m.length,
    keep_alive = m.keep_alive, continue = m.expects_continue, other = m.expects_other,
    upgrade = m.upgrade, headers = headers,
  }
end

local function shown_response(results)
  local m = results[1]
  if not m then return { text = results[2], name = results[3] } end
  return { size = results[2], status = m.status, reason = m.reason, version = m.version,
    framing = m.framing, length = m.length, keep_alive = m.keep_alive, coded = m.coded }
end

local function request(input)
  return every_cut(input, http1.decode_request, shown_request)
end

local LINE = "GET / HTTP/1.1\r\n"
local HEAD = LINE .. "Host: a\r\n"
local POST = "POST / HTTP/1.1\r\nHost: a\r\n"

-- ---- what is accepted ----

-- input, and what its request has beyond these:
local usual = { version = "1.1", framing = "none", length = 0, keep_alive = true,
  continue = false, other = false, upgrade = false }

local accepted = {
  { "a request of one field", HEAD .. "\r\n",
    { method = "GET", target = "/", path = "/", host = "a", headers = { "Host=a" } } },
  { "two empty lines before it", "\r\n\r\n" .. HEAD .. "\r\n",
    { method = "GET", target = "/", path = "/", host = "a", headers = { "Host=a" } } },
  { "a query", "GET /a/b?c=d?e HTTP/1.1\r\nHost: a:80\r\n\r\n",
    { method = "GET", target = "/a/b?c=d?e", path = "/a/b", query = "c=d?e", host = "a:80",
      headers = { "Host=a:80" } } },
  { "an empty query", "GET /? HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    { method = "GET", target = "/?", path = "/", query = "", host = "[::1]:80",
      headers = { "Host=[::1]:80" } } },
  { "an absolute target, whose host counts", "GET http://b:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n",
    { method = "GET", target = "http://b:8/x?y", path = "/x", query = "y", host = "b:8",
      headers = { "Host=a" } } },
  { "an absolute target without a path", "GET HTTPS://b?y HTTP/1.1\r\nHost: a\r\n\r\n",
    { method = "GET", target = "HTTPS://b?y", path = "/", query = "y", host = "b",
      headers = { "Host=a" } } },
  { "the authority of CONNECT", "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n",
    { method = "CONNECT", target = "b:443", path = "b:443", host = "b:443",
      headers = { "Host=b:443" } } },
  { "the asterisk of OPTIONS", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    { method = "OPTIONS", target = "*", path = "*", host = "a", headers = { "Host=a" } } },
  { "a method of nobody", "BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    { method = "BREW", target = "/", path = "/", host = "a", headers = { "Host=a" } } },
  { "an empty Host", LINE .. "Host:\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "", headers = { "Host=" } } },
  { "HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n",
    { method = "GET", target = "/", path = "/", version = "1.0", keep_alive = false,
      headers = {} } },
  { "HTTP/1.0 that stays", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    { method = "GET", target = "/", path = "/", version = "1.0",
      headers = { "Connection=Keep-Alive" } } },
  { "HTTP/1.0 has no 100", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    { method = "POST", target = "/", path = "/", version = "1.0", keep_alive = false, length = 1,
      framing = "length", headers = { "Expect=100-continue", "Content-Length=1" } } },
  { "white space around a value", LINE .. "Host: \t a \t \r\nX:\r\nY: \t\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a", headers = { "Host=a", "X=", "Y=" } } },
  { "any bytes above 127 in a value", HEAD .. "X: \xc3\xbc\xff\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a",
      headers = { "Host=a", "X=\xc3\xbc\xff" } } },
  { "all characters of a token", HEAD .. "!#$%&'*+-.^_`|~09AZaz: x\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a",
      headers = { "Host=a", "!#$%&'*+-.^_`|~09AZaz=x" } } },
  { "a length", POST .. "content-length: 0010\r\n\r\n0123456789",
    { method = "POST", target = "/", path = "/", host = "a", framing = "length", length = 10,
      headers = { "Host=a", "content-length=0010" } } },
  { "the largest length", POST .. "Content-Length: 9007199254740992\r\n\r\n",
    { method = "POST", target = "/", path = "/", host = "a", framing = "length",
      length = 0x1p53, headers = { "Host=a", "Content-Length=9007199254740992" } } },
  { "chunks, and 100", POST .. "Transfer-Encoding: CHUNKED\r\nExpect: 100-continue\r\n\r\n",
    { method = "POST", target = "/", path = "/", host = "a", framing = "chunked",
      continue = true,
      headers = { "Host=a", "Transfer-Encoding=CHUNKED", "Expect=100-continue" } } },
  { "another expectation", HEAD .. "Expect: tea\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a", other = true,
      headers = { "Host=a", "Expect=tea" } } },
  { "a list of options of the connection", HEAD .. "Connection: x ,, Close\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a", keep_alive = false,
      headers = { "Host=a", "Connection=x ,, Close" } } },
  { "close beside keep-alive", HEAD .. "Connection: keep-alive\r\nConnection: close\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a", keep_alive = false,
      headers = { "Host=a", "Connection=keep-alive", "Connection=close" } } },
  { "an upgrade", HEAD .. "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a", upgrade = true,
      headers = { "Host=a", "Connection=keep-alive, Upgrade", "Upgrade=websocket" } } },
  { "an Upgrade that the connection does not name", HEAD .. "Upgrade: websocket\r\n\r\n",
    { method = "GET", target = "/", path = "/", host = "a",
      headers = { "Host=a", "Upgrade=websocket" } } },
}

describe("http1.decode_request", function()
  helper.watch(before_each, after_each)

  for _, case in ipairs(refused.heads) do
    it(("refuses %s (RFC %s)"):format(case[2], case[1]), function()
      local result = request(case[3])
      assert.is_string(result.text)
      assert.equal(case[4] or 400, result.status, result.text)
      assert.equal(case[4] == 413 and "oversized" or "malformed", result.name)
    end)
  end

  for _, case in ipairs(accepted) do
    it("takes " .. case[1], function()
      local expected = { size = case[2]:find("\r\n\r\n", 5, true) + 3 }
      for name, value in pairs(usual) do expected[name] = value end
      for name, value in pairs(case[3]) do expected[name] = value end
      if expected.framing == "chunked" then expected.length = nil end
      assert.same(expected, request(case[2]))
    end)
  end

  it("leaves what follows the head", function()
    local results, reader = decoded({ HEAD .. "\r\nGET /b" }, http1.decode_request)
    reader:skip(results[2])
    assert.equal("GET /b", reader:peek(6):str())
  end)

  it("takes 100 fields and no more", function()
    local fields = ("X: y\r\n"):rep(99)
    assert.equal(100, #request(HEAD .. fields .. "\r\n").headers)
    local result = request(HEAD .. fields .. "X: y\r\n\r\n")
    assert.equal(431, result.status)
    assert.equal("oversized", result.name)
  end)

  it("refuses a head above its limit, and tells whether its first line is the cause", function()
    local function of(text)
      return every_cut(text, function(view) return http1.decode_request(view, 64) end,
        shown_request)
    end
    local result = of(HEAD .. "X: " .. ("x"):rep(100))
    assert.equal(431, result.status)
    assert.equal("oversized", result.name)
    assert.equal(414, of("GET /" .. ("x"):rep(100)).status)
    assert.equal(414, of("\r\n\r\nGET /" .. ("x"):rep(100)).status)
    assert.equal("GET", of(HEAD .. ("X: %s\r\n\r\n"):format(("x"):rep(64 - 7 - #HEAD))).method)
    assert.equal(431, of(HEAD .. ("X: %s\r\n\r\n"):format(("x"):rep(65 - 7 - #HEAD))).status)
  end)

  it("needs a view", function()
    assert.has_error(function() http1.decode_request("GET / HTTP/1.1\r\n\r\n") end,
      "http1.decode_request: view must be a view, got string")
    assert.has_error(function() http1.decode_request(nil) end)
  end)
end)

describe("a request", function()
  helper.watch(before_each, after_each)

  it("finds headers by any spelling of their name, and joins lists", function()
    local m = decoded({ HEAD .. "Accept: a\r\nCOOKIE: x=1\r\naccept:b\r\ncookie: y=2\r\n\r\n" },
      http1.decode_request)[1]
    assert.equal("a, b", m:header("ACCEPT"))
    assert.equal("x=1; y=2", m:header("Cookie"))
    assert.equal("a", m:header("host"))
    assert.is_nil(m:header("x"))
    assert.is_nil(m:header(""))
    assert.has_error(function() m:header(1) end, "message:header: name must be a string, got 1")
  end)

  it("tells of its own head after others were decoded", function()
    local reader, more = pipe()
    more(HEAD .. "X: 1\r\n\r\n" .. HEAD .. "Y: 2\r\n\r\n")
    local view = reader:peek(reader:buffered())
    local first, size = http1.decode_request(view)
    local second = http1.decode_request(view:sub(size, #view - size))
    assert.equal("1", first:header("x"))
    assert.equal("2", second:header("y"))
    assert.is_nil(first:header("y"))
    assert.is_nil(http1.decode_request(view:sub(0, 3)))
    assert.equal("1", first:header("x"))
  end)

  it("is stale after the next read, and says so, unless it was kept", function()
    local reader, more = pipe()
    more(HEAD .. "X: 1\r\n\r\nbody")
    local lost = http1.decode_request(reader:peek(reader:buffered()))
    local kept, size = http1.decode_request(reader:peek(reader:buffered()))
    assert.equal(kept, kept:keep())
    reader:skip(size)
    assert.equal("1", kept:header("x"))
    assert.equal("a", kept.host)
    assert.equal(kept, kept:keep())
    assert.has_error(function() lost:header("x") end, "http1: the reader has read, peeked or "
      .. "skipped since the head was decoded (message:keep() keeps it)")
    assert.has_error(function() lost:keep() end)
    assert.equal("GET", lost.method)
  end)

  it("has the script's own fields, and shows itself", function()
    local m = decoded({ HEAD .. "\r\n" }, http1.decode_request)[1]
    m.user = "me"
    assert.equal("me", m.user)
    assert.is_nil(m.nothing)
    assert.is_nil(m.status)
    assert.equal("request GET /", tostring(m))
  end)

  it("survives whatever a script puts where it has its own", function()
    for slot = 1, 13 do
      for _, wrong in ipairs({ 1, -1, 0x1p40, 0 / 0, 1e300, "x", {}, true, false, print }) do
        local m = decoded({ HEAD .. "X: 1\r\n\r\n" }, http1.decode_request)[1]
        m[slot] = wrong
        for _, key in ipairs({ "target", "host", "path", "query", "length", "keep_alive" }) do
          pcall(function() return m[key] end)
        end
        pcall(m.header, m, "x")
        decoded({ HEAD .. "\r\n" }, http1.decode_request)
        pcall(m.header, m, "x")
        pcall(m.keep, m)
        pcall(m.header, m, "x")
      end
    end
  end)

  it("is not another one's after many views were made", function()
    local reader, more = pipe()
    more(HEAD .. "X: 1\r\n\r\n")
    local m = http1.decode_request(reader:peek(reader:buffered()))
    local other, more_of_other = pipe()
    more_of_other("GET / HTTP/1.1\r\nHost: b\r\nX: 2\r\n\r\n")
    for _ = 1, 10000 do other:peek(5) end
    http1.decode_request(other:peek(other:buffered()))
    assert.equal("1", m:header("x"))
    assert.equal("a", m.host)
  end)
end)

-- ---- responses ----

describe("http1.decode_response", function()
  helper.watch(before_each, after_each)

  local function response(input, method)
    return every_cut(input, function(view) return http1.decode_response(view, method) end,
      shown_response)
  end

  it("takes the status line with and without a reason", function()
    local function of(line)
      local r = response(line .. "\r\nContent-Length: 0\r\n\r\n")
      return { r.status, r.reason, r.version }
    end
    assert.same({ 200, "OK", "1.1" }, of("HTTP/1.1 200 OK"))
    assert.same({ 404, "Not Found", "1.0" }, of("HTTP/1.0 404 Not Found"))
    assert.same({ 200, "", "1.1" }, of("HTTP/1.1 200 "))
    assert.same({ 200, "", "1.1" }, of("HTTP/1.1 200"))
    assert.same({ 500, "Ori\xebnt", "1.1" }, of("HTTP/1.1 500 Ori\xebnt"))
  end)

  for what, line in pairs({
    ["two digits"] = "HTTP/1.1 20 OK", ["four digits"] = "HTTP/1.1 2000 OK",
    ["no status"] = "HTTP/1.1 OK", ["a status below 100"] = "HTTP/1.1 099 x",
    ["two spaces"] = "HTTP/1.1  200 OK", ["a tab"] = "HTTP/1.1\t200 OK",
    ["another protocol"] = "ICY 200 OK", ["a bad version"] = "HTTP/1.1.1 200 OK",
    ["version 2"] = "HTTP/2.0 200 OK", ["a bare CR"] = "HTTP/1.1 200 O\rK",
    ["a control character"] = "HTTP/1.1 200 \1", ["a letter behind it"] = "HTTP/1.1 200x OK",
  }) do
    it("refuses a status line with " .. what, function()
      assert.equal("malformed", response(line .. "\r\nContent-Length: 0\r\n\r\n").name)
    end)
  end

  -- RFC 9112, 6.3
  local function framing(status, headers, method)
    local r = response(("HTTP/1.1 %d x\r\n%s\r\n"):format(status, headers), method)
    return { r.framing or r.name, r.length, r.keep_alive }
  end

  it("knows how far a body reaches", function()
    assert.same({ "length", 5, true }, framing(200, "Content-Length: 5\r\n"))
    assert.same({ "chunked", nil, true }, framing(200, "Transfer-Encoding: chunked\r\n"))
    assert.same({ "close", nil, false }, framing(200, ""))
    assert.same({ "none", 0, true }, framing(200, "Content-Length: 5\r\n", "HEAD"))
    assert.same({ "none", 0, true }, framing(200, "Transfer-Encoding: chunked\r\n", "HEAD"))
    assert.same({ "none", 0, true }, framing(204, "Content-Length: 5\r\n"))
    assert.same({ "none", 0, true }, framing(304, "Content-Length: 5\r\n"))
    assert.same({ "none", 0, true }, framing(100, ""))
    assert.same({ "none", 0, true }, framing(101, "Upgrade: x\r\n"))
    assert.same({ "none", 0, true }, framing(200, "Content-Length: 5\r\n", "CONNECT"))
    assert.same({ "length", 5, true }, framing(404, "Content-Length: 5\r\n", "CONNECT"))
    assert.same({ "close", nil, false }, framing(200, "Transfer-Encoding: gzip\r\n"))
    assert.same({ "close", nil, false }, framing(200, "Transfer-Encoding: chunked, gzip\r\n"))
    assert.same({ "chunked", nil, true }, framing(200, "Transfer-Encoding: gzip, chunked\r\n"))
    assert.same({ "length", 5, false }, framing(200, "Content-Length: 5\r\nConnection: close\r\n"))
  end)

  it("refuses what can be read in two ways", function()
    assert.same({ "malformed" }, framing(200, "Content-Length: 5\r\nContent-Length: 5\r\n"))
    assert.same({ "malformed" },
      framing(200, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"))
    assert.same({ "malformed" }, framing(200, "Content-Length: 5, 5\r\n"))
    assert.same({ "malformed" }, framing(200, "Transfer-Encoding: chunked, chunked\r\n"))
  end)

  it("tells of other codings", function()
    local m = decoded({ "HTTP/1.1 200 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" },
      http1.decode_response)[1]
    assert.is_true(m.coded)
    assert.equal("gzip, chunked", m:header("transfer-encoding"))
    assert.is_nil(m.method)
    assert.is_nil(m.path)
    assert.equal("response 200", tostring(m))
  end)
end)

-- ---- bodies ----

-- All of a body that comes in pieces, taken at most `most` bytes at a time. Returns a table of what
-- came of it.
local function body_of(message_head, pieces, most)
  local reader, more = pipe()
  more(message_head)
  local decode = message_head:find("^HTTP") and http1.decode_response or http1.decode_request
  local message, size = assert(decode(reader:peek(reader:buffered())))
  message:keep()
  reader:skip(size)
  local body, parts, i = http1.body(message), {}, 0
  while not body.done do
    local skip, n, name, status = body:next(reader:peek(reader:buffered()))
    if not skip and n then return { wrong = n, name = name, status = status } end
    reader:skip(skip or 0)
    local take = math.min(n or 0, most, reader:buffered())
    if take > 0 then
      local slice = reader:read(take)
      parts[#parts + 1] = slice:str()
      slice:release()
      body:took(take)
    elseif not body.done and (skip or 0) == 0 then
      i = i + 1
      if not pieces[i] then return { open = table.concat(parts), ended = body:ended() } end
      more(pieces[i])
    end
  end
  local trailers = {}
  for name, value in (body.trailers and body.trailers:headers() or function() end) do
    trailers[#trailers + 1] = name .. "=" .. value
  end
  local rest = reader:buffered()
  for at = i + 1, #pieces do rest = rest + #pieces[at] end
  return { bytes = table.concat(parts), trailers = trailers, rest = rest }
end

local function every_body(message_head, input)
  local whole, single = body_of(message_head, { input }, 1e9), {}
  for at = 1, #input do
    single[at] = input:sub(at, at)
    assert.same(whole, body_of(message_head, { input:sub(1, at), input:sub(at + 1) }, 3),
      "cut at " .. at)
  end
  assert.same(whole, body_of(message_head, single, 1e9), "a byte at a time")
  return whole
end

local CHUNKED = POST .. "Transfer-Encoding: chunked\r\n\r\n"

describe("http1.body", function()
  helper.watch(before_each, after_each)

  it("ends after its length", function()
    local function of(n, input)
      return every_body(POST .. "Content-Length: " .. n .. "\r\n\r\n", input)
    end
    assert.same({ bytes = "hello", trailers = {}, rest = 4 }, of(5, "helloGET "))
    assert.same({ bytes = "", trailers = {}, rest = 4 }, of(0, "GET "))
    assert.same({ open = "hell", ended = false }, of(5, "hell"))
  end)

  it("ends at once where there is none", function()
    assert.same({ bytes = "", trailers = {}, rest = 3 }, body_of(HEAD .. "\r\n", { "GET" }, 9))
    assert.same({ bytes = "", trailers = {}, rest = 3 },
      body_of("HTTP/1.1 204 x\r\n\r\n", { "abc" }, 9))
  end)

  it("ends with the connection", function()
    assert.same({ open = "hello", ended = true }, every_body("HTTP/1.1 200 x\r\n\r\n", "hello"))
  end)

  it("ends with the last chunk", function()
    assert.same({ bytes = "Wikipedia in chunks", trailers = {}, rest = 4 },
      every_body(CHUNKED, "4\r\nWiki\r\n5\r\npedia\r\n00A\r\n in chunks\r\n000\r\n\r\nGET "))
    assert.same({ bytes = "", trailers = {}, rest = 0 }, every_body(CHUNKED, "0\r\n\r\n"))
    assert.same({ open = "abc", ended = false }, every_body(CHUNKED, "3\r\nabc\r\n0\r\n"))
  end)

  it("has trailers, and drops extensions", function()
    assert.same({ bytes = "abc", trailers = { "Digest=x", "Content-Type=7" }, rest = 1 },
      every_body(CHUNKED, '3;a;b=c;d="\\"e;"\r\nabc\r\n0;x\r\nDigest: x\r\nContent-Type: 7\r\n'
        .. "\r\nG"))
  end)

  for what, input in pairs(refused.bodies) do
    it("refuses " .. what, function()
      local result = every_body(CHUNKED, input)
      assert.equal("malformed", result.name)
      assert.equal(400, result.status)
    end)
  end

  it("refuses extensions and trailers without end", function()
    local line = "1;" .. ("x"):rep(1000) .. "\r\na\r\n"
    local result = body_of(CHUNKED, { line:rep(20) }, 9)
    assert.same({ "oversized", 413 }, { result.name, result.status })
    result = body_of(CHUNKED, { "1;" .. ("x"):rep(2000) }, 9)
    assert.same({ "malformed", 400 }, { result.name, result.status })
    local trailers = ("A: bcdefgh\r\n"):rep(99) .. "X: " .. ("x"):rep(20000)
    result = body_of(CHUNKED, { "0\r\n" .. trailers }, 9)
    assert.same({ "oversized", 431 }, { result.name, result.status })
  end)

  it("is taken no further than it reaches", function()
    local message = decoded({ POST .. "Content-Length: 3\r\n\r\n" }, http1.decode_request)[1]
    local body = http1.body(message)
    assert.has_error(function() body:took(4) end)
    body:took(3)
    assert.is_true(body.done)
    assert.has_error(function() http1.body({}) end)
  end)
end)

-- ---- encoding ----

describe("http1.encode", function()
  helper.watch(before_each, after_each)

  local function sorted_lines(text)
    local lines = {}
    for line in text:gmatch("(.-)\r\n") do lines[#lines + 1] = line end
    table.sort(lines)
    return lines
  end

  it("makes heads that are decoded again", function()
    local text = http1.encode_request("POST", "/a?b", { Host = "x", ["Content-Length"] = 5,
      Accept = { "a", "b" } })
    assert.same({ "", "Accept: a", "Accept: b", "Content-Length: 5", "Host: x",
      "POST /a?b HTTP/1.1" }, sorted_lines(text))
    local m = decoded({ text }, http1.decode_request)[1]
    assert.equal("a, b", m:header("accept"))
    assert.equal(5, m.length)
    text = http1.encode_response(200, { ["Content-Length"] = 0 })
    assert.equal("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", text)
    assert.equal("HTTP/1.1 299 \r\n\r\n", http1.encode_response(299, {}))
    assert.equal("HTTP/1.1 200 Fine\r\n\r\n", http1.encode_response(200, {}, "Fine"))
  end)

  it("makes chunks that are decoded again", function()
    local parts = {}
    for _, text in ipairs({ "hello", "", ("x"):rep(300) }) do
      for _, part in ipairs(http1.encode_chunk(text)) do parts[#parts + 1] = part end
    end
    parts[#parts + 1] = http1.encode_last_chunk({ Digest = "y" })
    assert.same({ bytes = "hello" .. ("x"):rep(300), trailers = { "Digest=y" }, rest = 0 },
      body_of(CHUNKED, { table.concat(parts) }, 1e9))
    assert.equal("0\r\n\r\n", http1.encode_last_chunk())
  end)

  it("lets nothing through that would end a line", function()
    local bad = {
      function() http1.encode_response(200, { X = "a\r\nY: b" }) end,
      function() http1.encode_response(200, { X = "a\nb" }) end,
      function() http1.encode_response(200, { X = "a\0b" }) end,
      function() http1.encode_response(200, { ["X: y\r\nZ"] = "a" }) end,
      function() http1.encode_response(200, { ["X "] = "a" }) end,
      function() http1.encode_response(200, { [""] = "a" }) end,
      function() http1.encode_response(200, { X = {{}} }) end,
      function() http1.encode_response(200, { [1] = "X: y" }) end,
      function() http1.encode_response(200, {}, "a\r\nX: y") end,
      function() http1.encode_last_chunk({ ["content-Length"] = 5 }) end,
      function() http1.encode_response(99, {}) end,
      function() http1.encode_response(1000, {}) end,
      function() http1.encode_response("200\r\n", {}) end,
      function() http1.encode_request("GE T", "/", {}) end,
      function() http1.encode_request("GET", "/a b", {}) end,
      function() http1.encode_request("GET", "/\r\nX: y", {}) end,
      function() http1.encode_request("GET", "", {}) end,
      function() http1.encode_last_chunk({ X = "a\r\n\r\nGET" }) end,
    }
    for i, try in ipairs(bad) do assert.has_error(try, nil, "case " .. i) end
  end)
end)
