--- The server of HTTP, asked over real sockets.

local asking = require("spec.asking")
local helper = require("spec.helper")
local http = require("neap.http")
local neap = require("neap")

local raises = helper.raises
local answer_of, get, head_of = asking.answer_of, asking.get, asking.head_of
local line_of, post, rest_of, HOST = asking.line_of, asking.post, asking.rest_of, asking.HOST

describe("http.serve", function()
  helper.watch(before_each, after_each) -- around the hooks of the block within

describe("and", function()
  local server, said, log_error

  before_each(function()
    said = {}
    local function note(_, message, fields)
      said[#said + 1] = { message = message, fields = fields or {} }
    end
    log_error = neap.log.error
    rawset(neap.log, "limited", note)
    rawset(neap.log, "error", function(message, fields) note(nil, message, fields) end)
  end)

  after_each(function()
    if server then server:stop(0) end
    server = nil
    rawset(neap.log, "limited", nil)
    rawset(neap.log, "error", log_error)
  end)

  local function start(handler, options)
    server = assert(http.serve("tcp://127.0.0.1:0", handler, options))
    return server
  end

  local dial, ask = function(bytes) return asking.dial(server.address, bytes) end,
    function(bytes) return asking.ask(server.address, bytes) end

  describe("answers", function()
    it("with a string", function()
      start(function(request) return "you asked for " .. request.path end)
      local status, headers, body = ask(get("/there?a=1"))
      assert.equal(200, status)
      assert.equal("you asked for /there", body)
      assert.equal("text/plain; charset=utf-8", headers["content-type"])
      assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", headers.date)
      assert.is_nil(headers.connection)
    end)

    it("one by one to a client that does not read them yet, and loses no byte", function()
      local count = 3000 -- of up to 4 KB: more than the system takes
      local function body_of(i) return ("%d,"):format(i):rep(600 + i % 200) end
      start(function(request)
        local i = tonumber(request.query)
        local body = body_of(i)
        return i % 2 == 0 and body or http.response(200, body)
      end)
      local conn = asking.dial(server.address, "")
      for i = 1, count do
        conn:write(get("/?" .. i))
        helper.turn_until(function() return server:stats().messages == i end)
        if server:stats().paused_full then break end
      end
      local asked = server:stats().messages
      assert.is_true(server:stats().paused_full == 1, "all were taken by the system")
      for i = 1, asked do
        local _, headers = head_of(conn)
        local n = tonumber(headers["content-length"])
        assert.equal(#body_of(i), n)
        local body = assert(conn:read(n))
        assert.is_true(body:equals(body_of(i)), "the body of " .. i)
        body:release()
      end
      conn:close()
    end)

    it("with strings of any length, one behind the other", function()
      local sizes = { 0, 1, 9, 10, 99, 850, 999, 1000, 1024, 16384, 100000 }
      start(function(request) return ("x"):rep(tonumber(request.query)) end)
      local conn = asking.dial(server.address, "")
      for _ = 1, 2 do
        for _, size in ipairs(sizes) do conn:write(get("/?" .. size)) end
        for _, size in ipairs(sizes) do
          local status, headers, body = answer_of(conn)
          assert.equal(200, status)
          assert.equal(tostring(size), headers["content-length"])
          assert.equal(("x"):rep(size), body)
        end
      end
      conn:close()
    end)

    it("with a slice, a list, a function and a table", function()
      start(function(request)
        if request.path == "/slice" then return neap.copy("a slice") end
        if request.path == "/list" then return { "a ", neap.copy("list") } end
        if request.path == "/function" then
          return function(out)
            assert.equal(out, out:write("a "))
            out:write(neap.copy("func")):write({ "t", neap.copy("io") }):write(""):write("n")
            out.trailers = { ["X-Sum"] = "7" }
          end
        end
        return { status = 201, headers = { ["X-A"] = { "1", "2" }, ["X-B"] = 3 }, body = "made" }
      end)
      assert.equal("a slice", select(3, ask(get("/slice"))))
      assert.equal("a list", select(3, ask(get("/list"))))
      local _, headers, body = ask(get("/function"))
      assert.equal("a function", body)
      assert.same({ "X-Sum: 7" }, headers.trailers)
      local status
      status, headers, body = ask(get("/"))
      assert.equal(201, status)
      assert.equal("made", body)
      assert.equal("3", headers["x-b"])
    end)

    it("on the same connection, in order, what came at once", function()
      start(function(request)
        if request.path == "/2" then neap.sleep(0.01) end
        return request.path
      end)
      local conn, many = dial(), {}
      for i = 1, 100 do many[i] = get("/" .. i) end
      conn:write(table.concat(many))
      for i = 1, 100 do assert.equal("/" .. i, (select(3, answer_of(conn)))) end
      conn:close()
    end)

    it("HEAD as GET, without the body, and releases that", function()
      start(function(request)
        if request.path == "/function" then return function(out) out:write("never") end end
        return { body = { "a ", neap.copy("list") } }
      end)
      local conn = dial("HEAD /" .. HOST .. "\r\n" .. "HEAD /function" .. HOST .. "\r\n"
        .. get("/"))
      local status, headers = head_of(conn)
      assert.equal(200, status)
      assert.equal("6", headers["content-length"])
      status, headers = head_of(conn)
      assert.equal(200, status)
      assert.equal("chunked", headers["transfer-encoding"])
      assert.equal("a list", (select(3, answer_of(conn))))
      conn:close()
    end)

    it("HTTP/1.0 with the end, or keeps the connection when asked", function()
      start(function(request)
        if request.path == "/function" then return function(out) out:write("written") end end
        return "hello"
      end)
      local text = rest_of(dial("GET / HTTP/1.0\r\n\r\n"))
      assert.matches("\r\nConnection: close\r\n.*\r\n\r\nhello$", text)
      text = rest_of(dial("GET /function HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
      assert.matches("\r\nConnection: close\r\n\r\nwritten$", text)
      local conn = dial("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
      local _, headers = answer_of(conn)
      assert.equal("keep-alive", headers.connection)
      conn:write("GET / HTTP/1.0\r\n\r\n")
      assert.matches("hello$", rest_of(conn))
    end)

    it("and closes when the client or the handler says so", function()
      start(function(request)
        return { body = "hello", close = request.path == "/last" }
      end)
      for _, request in ipairs { get("/", "Connection: close\r\n"), get("/last") } do
        assert.matches("Connection: close\r\n.*hello$", rest_of(dial(request)))
      end
    end)

    it("nothing with 404, and bodiless statuses without a body", function()
      start(function(request)
        if request.path == "/204" then return { status = 204 } end
        if request.path == "/304" then return { status = 304, body = neap.copy("dropped") } end
      end)
      assert.equal(404, (ask(get("/"))))
      local conn = dial(get("/204") .. get("/304") .. get("/"))
      local status, headers = head_of(conn)
      assert.equal(204, status)
      assert.is_nil(headers["content-length"])
      assert.equal(304, (head_of(conn)))
      assert.equal(404, (answer_of(conn)))
      conn:close()
    end)

    it("large bodies, as fast as the client reads", function()
      local part, most = ("x"):rep(100000), 0
      start(function()
        return function(out)
          for _ = 1, 50 do
            out:write(part)
            most = math.max(most, out.conn:queued())
          end
        end
      end)
      local conn = dial(get("/"))
      local status, _, body = answer_of(conn)
      assert.equal(200, status)
      assert.equal(5000000, #body)
      assert.is_true(most < 400000, most)
      conn:close()
    end)

    it("with a length that the headers give", function()
      start(function(request)
        return { headers = { ["Content-Length"] = 10 }, body = function(out)
          out:write(request.path == "/short" and "12345" or "1234567890")
          if request.path == "/long" then out:write("1") end
        end }
      end)
      local _, headers, body = ask(get("/"))
      assert.equal("1234567890", body)
      assert.is_nil(headers["transfer-encoding"])
      assert.matches("\r\n\r\n12345$", rest_of(dial(get("/short"))))
      assert.matches("5 bytes of a body whose Content%-Length is 10", said[1].message)
      assert.matches("\r\n\r\n1234567890$", rest_of(dial(get("/long"))))
      assert.matches("11 bytes of a body whose Content%-Length is 10", said[2].message)
    end)
  end)

  describe("reads", function()
    it("what a body has, whole", function()
      start(function(request) return request:text() end)
      assert.equal("hello", (select(3, ask(post("/", "hello")))))
      assert.equal("", (select(3, ask(get("/")))))
      local conn = dial("POST /" .. HOST .. "Transfer-Encoding: chunked\r\n\r\n")
      for part in ("5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n"):gmatch(".") do
        conn:write(part)
        helper.turn()
      end
      assert.equal("hello world", (select(3, answer_of(conn))))
      conn:write(post("/", "again"))
      assert.equal("again", (select(3, answer_of(conn))))
      conn:close()
    end)

    it("it in parts, and its trailers", function()
      local trailer
      start(function(request)
        local n = 0
        for chunk in request:chunks() do
          n = n + #chunk
          chunk:release()
        end
        trailer = request:trailers():header("x-sum")
        local slice, message, name = request:read()
        assert(slice == nil and name == "eof", message)
        return "bytes " .. n .. " of " .. request:header("host")
      end, { max_body = 1e7 })
      local conn = dial("POST /" .. HOST .. "Transfer-Encoding: chunked\r\n\r\n")
      for _ = 1, 30 do conn:write("10000\r\n" .. ("y"):rep(65536) .. "\r\n") end
      conn:write("0\r\nX-Sum: 9\r\n\r\n")
      assert.equal("bytes 1966080 of x", (select(3, answer_of(conn))))
      assert.equal("9", trailer)
      conn:close()
    end)

    it("JSON, forms and the query", function()
      start(function(request)
        if request.path == "/json" then return http.json({ got = request:json().a }) end
        if request.path == "/form" then return request:form()["a b"] end
        return request.arguments.q
      end)
      local status, headers, body = ask(post("/json", '{"a":[1,2]}',
        "Content-Type: application/json\r\n"))
      assert.equal(200, status)
      assert.equal("application/json", headers["content-type"])
      assert.equal('{"got":[1,2]}', body)
      local form = "Content-Type: application/x-www-form-urlencoded\r\n"
      assert.equal("c&d", (select(3, ask(post("/form", "x=1&a+b=c%26d&a+b=2", form)))))
      assert.equal("a b/", (select(3, ask(get("/?q=a+b%2f&x")))))
    end)

    it("nothing that it should not, and says what with its status", function()
      start(function(request)
        if request.path == "/json" then return http.json(assert(request:json())) end
        if request.path == "/form" then return request:form() end
        return request:text()
      end, { max_body = 10 })
      assert.equal(413, (ask("POST /" .. HOST .. "Content-Length: 99999999999\r\n\r\n")))
      assert.equal(413, (ask("POST /" .. HOST
        .. "Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n3\r\n123\r\n0\r\n\r\n")))
      assert.equal(400, (ask("POST /" .. HOST .. "Transfer-Encoding: chunked\r\n\r\nx\r\n")))
      for request, says in pairs {
        [post("/json", "{")] = "400 Bad Request: the body is not JSON: Expected",
        [post("/json", "{}", "Content-Type: text/plain\r\n")] =
          "415 Unsupported Media Type: the body is not JSON by its Content-Type\n",
        [post("/form", "a=b")] =
          "415 Unsupported Media Type: the body is not a form by its Content-Type\n",
        [post("/", "12345678901")] = "413 Content Too Large: the body has more than 10 bytes\n",
      } do
        local status, _, body = ask(request)
        assert.equal(says:sub(1, 3), tostring(status))
        assert.equal(says, body:sub(1, #says))
      end
      assert.equal(3, server:stats().oversized)
      assert.equal(4, server:stats().malformed)
      assert.equal(0, #said) -- no news for the log
    end)

    it("after a 100, which only who reads sends", function()
      start(function(request)
        if request.path == "/no" then return http.problem(403) end
        return request:text()
      end)
      local expect = "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
      local conn = dial("POST /" .. HOST .. expect)
      assert.equal("HTTP/1.1 100 Continue", line_of(conn))
      assert.equal("", line_of(conn))
      conn:write("hello")
      assert.equal("hello", (select(3, answer_of(conn))))
      conn:close()
      local text = rest_of(dial("POST /no" .. HOST .. expect))
      assert.matches("^HTTP/1.1 403 ", text)
      assert.matches("Connection: close", text, 1, true)
      assert.equal(417, (ask(get("/", "Expect: more\r\n"))))
      assert.equal(1, server:stats().continues)
    end)

    it("past a body that nobody wanted, if it is small", function()
      start(function(request) return request.path end, { max_drain = 1000 })
      local conn = dial(post("/1", ("x"):rep(1000)) .. get("/2"))
      assert.equal("/1", (select(3, answer_of(conn))))
      assert.equal("/2", (select(3, answer_of(conn))))
      conn:write("POST /3" .. HOST .. "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
        .. get("/4"))
      assert.equal("/3", (select(3, answer_of(conn))))
      assert.equal("/4", (select(3, answer_of(conn))))
      conn:write(post("/5", ("x"):rep(1001)) .. get("/6"))
      local _, headers = answer_of(conn)
      assert.equal("close", headers.connection)
      assert.equal("", rest_of(conn))
    end)

    it("only as long as it may take", function()
      start(function(request) return request:text() end, { body_timeout = 0.1 })
      local conn = dial("POST /" .. HOST .. "Content-Length: 5\r\n\r\nab")
      assert.equal(408, (answer_of(conn)))
      conn:close()
      conn = dial("POST /" .. HOST .. "Content-Length: 5000\r\n\r\n")
      local sent = 0
      while conn:buffered() == 0 and sent < 1000 do -- a byte now and then is not enough
        if not conn:try_write("x") then break end
        sent = sent + 1
        neap.sleep(0.005)
        neap.deadline(0.001, function() return conn:peek(1) end)
      end
      assert.equal(408, (answer_of(conn)))
      assert.equal(2, server:stats().timeout)
      conn:close()
    end)
  end)

  describe("refuses", function()
    it("what is malformed, too large, late or unknown, with its status", function()
      start(function() return "hello" end, { max_head = 1000, head_timeout = 2 })
      local cases = {
        { 400, "GET / HTTP/1.1\r\n\r\n" }, { 400, "GET  / HTTP/1.1\r\nHost: x\r\n\r\n" },
        { 505, "GET / HTTP/2.0\r\nHost: x\r\n\r\n" },
        { 400, "POST /" .. HOST .. "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n" },
        { 431, "GET /" .. HOST .. "A: " .. ("x"):rep(1000) .. "\r\n\r\n" },
        { 414, "GET /" .. ("x"):rep(1000) .. HOST .. "\r\n" },
        { 408, "GET /" .. HOST },
      }
      for _, case in ipairs(cases) do
        local text = rest_of(dial(case[2] .. (case[1] ~= 408 and get("/") or "")))
        assert.matches("^HTTP/1.1 " .. case[1] .. " ", text)
        assert.matches("\r\nConnection: close\r\n", text)
        assert.is_nil(text:find("hello", 1, true)) -- no second answer
      end
      assert.equal(501, (ask("BREW /" .. HOST .. "\r\n")))
      local text = rest_of(dial("CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n" .. get("/")))
      assert.matches("^HTTP/1.1 501 .*\r\nConnection: close\r\n", text)
      assert.is_nil(text:find("hello", 1, true)) -- what followed was for x
      local stats = server:stats()
      assert.equal(3, stats["400"])
      for _, status in ipairs { "505", "431", "414", "408" } do assert.equal(1, stats[status]) end
      assert.equal(2, stats["501"])
    end)

    it("no method that it was told of", function()
      start(function(request) return request.method end, { methods = { "BREW" } })
      assert.equal("BREW", (select(3, ask("BREW /" .. HOST .. "\r\n"))))
    end)
  end)

  describe("turns", function()
    it("an error into a 500 with a number that the log has, and goes on", function()
      start(function(request)
        if request.path == "/error" then error("a mistake") end
        if request.path == "/table" then error({}) end
        if request.path == "/worse" then
          error(setmetatable({}, { __tostring = function() error("again") end }))
        end
        if request.path == "/nil" then return nil, "the disk is full", "system" end
        if request.path == "/number" then return 42 end
        return "fine"
      end)
      local conn = dial()
      for i, case in ipairs { { "/error", "a mistake" }, { "/table", "table: " },
        { "/nil", "the disk is full (system)" }, { "/number", "got number" },
        { "/worse", "an error that cannot be shown" } } do
        conn:write(get(case[1]))
        local status, _, body = answer_of(conn)
        assert.equal(500, status)
        local id = body:match("more of (%x+%-%d+)\n$")
        assert.is_string(id)
        assert.equal(id, said[i].fields.id)
        assert.matches(case[2], said[i].message, 1, true)
        assert.equal("GET " .. case[1], said[i].fields.request)
        assert.is_nil(body:find(case[2], 1, true))
      end
      assert.matches("http_server_spec.lua:%d+: in function", said[1].fields.traceback)
      conn:write(get("/"))
      assert.equal("fine", (select(3, answer_of(conn))))
      assert.equal(5, server:stats().errors)
      conn:close()
    end)

    it("headers that no server may send into a 500, and injects nothing", function()
      local headers, raised
      start(function(request)
        if request.path == "/here" then
          raised = select(2, pcall(http.response, 200, "", headers))
          return ""
        end
        return { headers = headers, body = "x" }
      end)
      for _, bad in ipairs { { ["X-A"] = "1\r\nSet-Cookie: a=b" }, { ["X\r\nA"] = "1" },
        { ["X-A"] = "1\nB: 2" }, { ["X-A"] = "\0" }, { [""] = "1" }, { ["X A"] = "1" },
        { Connection = "close" }, { ["transfer-encoding"] = "chunked" }, { ["X-A"] = {{}} },
        { ["Content-Length"] = "1" } } do
        headers = bad
        local conn = dial(get("/"))
        local status, got = answer_of(conn)
        assert.equal(500, status)
        assert.is_nil(got["set-cookie"])
        conn:close()
        if not bad["Content-Length"] then
          ask(get("/here"))
          assert.matches("http_server_spec.lua:%d+: http.response: ", raised)
        end
      end
    end)

    it("an error half way into the end of the connection", function()
      start(function()
        return function(out)
          out:write("half")
          error("in the middle")
        end
      end)
      local text = rest_of(dial(get("/") .. get("/")))
      assert.matches("\r\n\r\n4\r\nhalf\r\n$", text)
      assert.matches("in the middle", said[1].message)
    end)

    it("an error half way through a body that comes into a 500, and closes", function()
      local held
      start(function(request)
        held = request:read()
        error("at " .. #held .. " bytes")
      end)
      for _, framing in ipairs { "Content-Length: 1000000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfffff\r\n" } do
        local conn = dial("POST /" .. HOST .. framing .. ("x"):rep(100000))
        assert.matches("^HTTP/1.1 500 ", rest_of(conn)) -- until the server closes
        assert.matches("at %d+ bytes", said[#said].message)
        held:release()
      end
      helper.turn_until(function() return server:stats().open == 0 end)
    end)

    it("clients that go into the end of what writes for them", function()
      local ended
      start(function()
        return function(out)
          local ok, why = pcall(function() while true do out:write(("x"):rep(10000)) end end)
          ended = why
          if not ok then error(why, 0) end
        end
      end)
      local peer = helper.dial(server.address)
      peer:send(get("/"))
      helper.turn_until(function() return peer:recv(10) end)
      peer:reset()
      helper.turn_until(function() return ended end)
      helper.turn_until(function() return server:stats().open == 0 end)
      assert.equal(0, server:stats().errors or 0)
      assert.is_nil(tostring(said[1] and said[1].message):find("traceback"))
    end)
  end)

  it("hands connections over to other protocols", function()
    start(function(request)
      return http.upgrade("shout", function(conn)
        for line in conn:lines() do conn:write(line:upper() .. "\n") end
      end, { ["X-Path"] = request.path })
    end)
    local conn = dial("GET /up" .. HOST .. "Connection: Upgrade\r\nUpgrade: shout\r\n\r\nhello\n")
    local status, headers = head_of(conn)
    assert.equal(101, status)
    assert.equal("shout", headers.upgrade)
    assert.equal("upgrade", headers.connection)
    assert.equal("/up", headers["x-path"])
    assert.equal("HELLO", line_of(conn))
    conn:write("more\n")
    assert.equal("MORE", line_of(conn))
    conn:shutdown()
    assert.equal("", rest_of(conn))
    assert.equal(426, (ask(get("/"))))
    assert.equal(426, (ask("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n")))
  end)

  it("hands over nothing of the body of who asked for it", function()
    start(function()
      return http.upgrade("shout", function(conn)
        for line in conn:lines() do conn:write(line:upper() .. "\n") end
      end)
    end, { max_drain = 10 })
    local upgrade = "Connection: upgrade\r\nUpgrade: shout\r\n"
    local conn = dial(post("/", "body\n", upgrade) .. "hello\n")
    assert.equal(101, (head_of(conn)))
    assert.equal("HELLO", line_of(conn))
    conn:close()
    assert.matches("^HTTP/1.1 413 .*\r\n\r\n[^\n]*\n$",
      rest_of(dial(post("/", "too large a body\n", upgrade) .. "hello\n")))
    assert.matches("^HTTP/1.1 400 .*\r\n\r\n[^\n]*\n$", rest_of(dial("POST /" .. HOST .. upgrade
      .. "Transfer-Encoding: chunked\r\n\r\nx\r\nhello\n")))
  end)

  it("keeps access logs", function()
    local path = helper.temporary_name()
    start(function() return "hello" end, { log = "common", log_path = path })
    ask(get("/a?b", 'User-Agent: a "b" \200\r\nReferer: http://x/\r\n'))
    server:stop()
    local second = helper.temporary_name()
    start(function(request) return request:text() end, { log = "json", log_path = second })
    ask(post("/", "123"))
    local function is_written(name)
      return function()
        local file = io.open(name)
        local size = file and file:seek("end") or 0
        if file then file:close() end
        return size > 0
      end
    end
    helper.turn_until(is_written(path))
    helper.turn_until(is_written(second))
    local file = assert(io.open(path))
    assert.matches('^127%.0%.0%.1 %- %- %[%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d %+0000%] '
      .. '"GET /a%?b HTTP/1%.1" 200 5 "http://x/" "a \\x22b\\x22 \\xc8"\n$', (file:read("*a")))
    file:close()
    file = assert(io.open(second))
    local entry = require("cjson").decode(file:read("*a"))
    file:close()
    assert.equal("POST", entry.method)
    assert.equal(200, entry.status)
    assert.equal(3, entry.bytes)
    os.remove(path)
    os.remove(second)
  end)

  it("stops when its requests are answered", function()
    start(function()
      neap.sleep(0.05)
      return "hello"
    end)
    local conn, idle = dial(get("/")), dial()
    helper.turn_until(function() return server:stats().in_flight == 1 end)
    assert.is_true(server:stop())
    assert.matches("hello$", rest_of(conn))
    assert.equal("", rest_of(idle))
  end)

  -- A path that is looked at is no reason to make it. With a table, it were above 300 bytes.
  local it_compiled = jit.status() and it or pending
  it_compiled("makes no table of a request that nobody keeps", function()
    local run = helper.script([[
      local neap, http = require("neap"), require("neap.http")
      local server = assert(http.serve("tcp://127.0.0.1:0", function(request)
        return request.path == "/a" and request.keep_alive and "hello" or nil
      end))
      local conn = assert(neap.connect(server.address))
      local function ask(n)
        for _ = 1, n do
          conn:write("GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
          assert(conn:read_until("hello")):release()
        end
      end
      ask(5000)
      collectgarbage()
      collectgarbage("stop")
      local before = collectgarbage("count")
      ask(2000)
      print((collectgarbage("count") - before) * 1024 / 2000)
      conn:close()
      server:close()
    ]])
    assert.equal("", run.err)
    local bytes = tonumber(run.out)
    assert.is_true(bytes < 200, ("%.0f bytes for each request"):format(bytes))
  end)

  it("is where the script called it, for the tasks that serve", function()
    local task = require("neap.task")
    local made = assert(http.serve("tcp://127.0.0.1:0", function()
      return (task.origin(task.running()))
    end))
    local conn = assert(neap.connect(made.address))
    conn:write(get("/"))
    local status, _, body = answer_of(conn)
    assert.equal(200, status)
    assert.matches("http_server_spec%.lua:%d+$", body)
    conn:close()
    assert(made:stop())
  end)

  it("raises what is a mistake of the script", function()
    local function hello() return "hello" end
    local function serve(options, handler)
      local made = http.serve("tcp://127.0.0.1:0", handler or hello, options)
      return made
    end
    raises("http.serve: handler must be a function or a router, got string", serve, {}, "hello")
    raises("http.serve: message_timeout is called head_timeout here", serve,
      { message_timeout = 1 })
    raises("http.serve: options must be a table, got 5", serve, 5)
    raises("http.serve: no option \"speed\"", serve, { speed = 1 })
    raises("http.serve: timeout must be a number from 0", serve, { timeout = "1" })
    for wrong, meant in pairs { max_boby = "max_body", max_mesage = "max_message",
      backlogs = "backlog" } do
      raises(("http.serve: no option %q (is it %s?)"):format(wrong, meant), serve, { [wrong] = 1 })
    end
    raises("http.serve: max_read is called max_message here", serve, { max_read = 5 })
    raises("http.serve: max_in_flight must be", serve, { max_in_flight = -1 })
    raises("http.serve: backlog must be", serve, { backlog = -1 })
    raises("http.serve: max_body must be a whole number", serve, { max_body = -1 })
    raises('http.serve: log must be "common" or "json", got "tidy"', serve, { log = "tidy" })
    raises("CONNECT is no method", serve, { methods = { "CONNECT" } })
  end)

  it("raises what is a mistake in an answer, a route or a text, at its line", function()
    for _, name in ipairs { "response", "json", "html", "redirect", "problem" } do
      local function answer(status)
        local made = name == "response" and http.response(status) or name == "problem"
          and http.problem(status) or http[name]("x", status)
        return made
      end
      raises("http." .. name .. ": status must be from 200 to 599, got 100", answer, 100)
      raises("http." .. name .. ": status must be a whole number", answer, 600)
      raises("http." .. name .. ": status must be a whole number", answer, "200")
      assert.equal(404, answer(404).status)
    end
    raises("http.json: Cannot serialise function", function() http.json({ print }) end)
    raises("http.problem: text must be a string", function() http.problem(404, {}) end)
    raises("http.files: options must be a table", function() http.files(".", "listing") end)
    raises("http.files: option listing must be a function", function()
      http.files(".", { listing = true })
    end)
    for _, name in ipairs { "escape", "escape_url", "unescape" } do
      raises(("http.%s: text must be a string, got 5"):format(name), function() http[name](5) end)
    end
    local app = http.router()
    raises("router:on: methods must be a string", function() app:on(nil, "/", print) end)
    raises("router:on: methods must be at least one", function() app:on({}, "/", print) end)
  end)
end)
end)
