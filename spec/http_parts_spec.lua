--- Routers, forms with files, events, gzip.

local asking = require("spec.asking")
local helper = require("spec.helper")
local http = require("neap.http")
local neap = require("neap")

local raises = helper.raises
local answer_of, get, head_of, post = asking.answer_of, asking.get, asking.head_of, asking.post
local line_of, rest_of = asking.line_of, asking.rest_of
local HOST = asking.HOST

describe("neap.http:", function()
  helper.watch(before_each, after_each) -- around the hooks of the block within

describe("and", function()
  local server

  after_each(function()
    if server then server:stop(0) end
    server = nil
  end)

  local function start(handler, options)
    server = assert(http.serve("tcp://127.0.0.1:0", handler, options))
  end

  local function ask(bytes) return asking.ask(server.address, bytes) end
  local function dial(bytes) return asking.dial(server.address, bytes) end

  describe("a router", function()
    before_each(function()
      local app = http.router()
      app:get("/", function() return "root" end)
      app:get("/notes/new", function() return "new" end)
      app:get("/notes/:id", function(request) return "note " .. request.params.id end)
      app:put("/notes/:id", function(request) return "put " .. request.params.id end)
      app:delete("/notes/:id", function() return { status = 204 } end)
      app:post("/notes", function(request) return "posted " .. request:text() end)
      app:get("/a/:x/b/:y", function(request) return request.params.x .. request.params.y end)
      app:get("/a/:x/c", function(request) return "c" .. request.params.x end)
      app:get("/static/*file", function(request) return "file " .. request.params.file end)
      app:put("/static/:name", function(request) return "put " .. request.params.name end)
      app:on({ "GET", "POST" }, "/both", function(request) return request.method end)
      start(app)
    end)

    local function said(path) return (select(3, ask(get(path)))) end

    it("finds names before parameters, and decodes those", function()
      assert.equal("root", said("/"))
      assert.equal("new", said("/notes/new"))
      assert.equal("note 17", said("/notes/17"))
      assert.equal("note a/b c", said("/notes/a%2Fb%20c"))
      assert.equal("new", said("/notes/ne%77"))
      assert.equal("12", said("/a/1/b/2"))
      assert.equal("c1", said("/a/1/c?x=y"))
      assert.equal("file x/y/z.css", said("/static/x/y/z.css"))
      assert.equal("file z.css", said("/static/z.css"))
      assert.equal("put z.css", (select(3, ask((post("/static/z.css", ""):gsub("^POST", "PUT"))))))
      assert.equal("posted hello", (select(3, ask(post("/notes", "hello")))))
      assert.equal("POST", (select(3, ask(post("/both", "")))))
    end)

    it("says 404, 400, and 405 with what is allowed; answers HEAD and OPTIONS", function()
      for _, path in ipairs { "/nothing", "/notes/", "/notes/1/2", "/a/1", "//", "/static" } do
        assert.equal(404, (ask(get(path))))
      end
      assert.equal(400, (ask(get("/notes/%zz"))))
      local status, headers = ask(post("/notes/1", ""))
      assert.equal(405, status)
      assert.equal("DELETE, GET, HEAD, OPTIONS, PUT", headers.allow)
      status, headers = ask(post("/static/x", ""))
      assert.same({ 405, "GET, HEAD, OPTIONS, PUT" }, { status, headers.allow })
      status, headers = ask("OPTIONS /notes" .. HOST .. "\r\n")
      assert.equal(204, status)
      assert.equal("OPTIONS, POST", headers.allow)
      assert.equal(204, (ask("OPTIONS *" .. HOST .. "\r\n")))
      local conn = dial("HEAD /notes/1" .. HOST .. "\r\n" .. get("/"))
      status, headers = head_of(conn)
      assert.equal(200, status)
      assert.equal("6", headers["content-length"])
      assert.equal("root", (select(3, answer_of(conn))))
      conn:close()
    end)
  end)

  it("a router's middleware goes around its handlers, the first outermost", function()
    local app = http.router()
    local order = {}
    for i = 1, 2 do
      app:use(function(request, next)
        order[#order + 1] = i
        if request.path == "/stop" .. i then return http.problem(403) end
        local answer = next(request)
        order[#order + 1] = -i
        return answer
      end)
    end
    app:get("/", function() return "within" end)
    start(app)
    assert.equal("within", (select(3, ask(get("/")))))
    assert.same({ 1, 2, -2, -1 }, order)
    assert.equal(403, (ask(get("/stop2"))))
    assert.equal(404, (ask(get("/none"))))
  end)

  it("a router raises what is a mistake", function()
    local app = http.router()
    local function none() end
    local function on(...)
      local made = app:on(...)
      return made
    end
    on("GET", "/a", none)
    raises("GET /a has a handler already", on, "GET", "/a", none)
    raises('path must begin with "/"', on, "GET", "a", none)
    raises("nothing comes behind a *", on, "GET", "/*a/b", none)
    raises('"" is no name of a parameter', on, "GET", "/:", none)
    raises("handler must be a function, got nil", on, "GET", "/b")
  end)

  describe("a form with files", function()
    local body = table.concat({ "preamble", "--B", 'Content-Disposition: form-data; name="a"', "",
      "1", "--B", 'Content-Disposition: form-data; name="f"; filename="x \\"y\\".txt"',
      "Content-Type: text/plain", "", "line\r\n--\r\n--b", "--B",
      'content-disposition: form-data; name=""', "", "", "--B--", "epilogue" }, "\r\n")
    local kind = 'Content-Type: multipart/form-data; boundary="B"\r\n'

    local function list(request)
      local found = {}
      for part in request:parts() do
        found[#found + 1] = ("%s,%s,%s=%q"):format(part.name, tostring(part.filename),
          tostring(part.type), part.name ~= "skip" and part:text() or "")
      end
      return table.concat(found, ";")
    end

    it("comes in parts, however it is cut", function()
      start(list)
      local wanted = ("a,nil,nil=%q;f,x \"y\".txt,text/plain=%q;,nil,nil=\"\""):format("1",
        "line\r\n--\r\n--b")
      assert.equal(wanted, (select(3, ask(post("/", body, kind)))))
      local conn = dial("POST /" .. HOST .. kind .. "Transfer-Encoding: chunked\r\n\r\n")
      for byte in body:gmatch(".") do
        conn:write("1\r\n" .. byte .. "\r\n")
        helper.turn()
      end
      conn:write("0\r\n\r\n")
      assert.equal(wanted, (select(3, answer_of(conn))))
      conn:close()
    end)

    it("is not held in memory", function()
      start(function(request)
        local n, most = 0, 0
        for part in request:parts() do
          for bytes in part:chunks() do
            n = n + #bytes
            most = math.max(most, #bytes)
          end
        end
        assert(most <= 1048576)
        return tostring(n)
      end, { max_body = 1e9 })
      local head = '--B\r\nContent-Disposition: form-data; name="f"\r\n\r\n'
      local conn = dial("POST /" .. HOST .. kind .. "Content-Length: "
        .. #head + 20 * 100000 + #"\r\n--B--" .. "\r\n\r\n" .. head)
      for _ = 1, 20 do conn:write(("-"):rep(100000)) end
      conn:write("\r\n--B--")
      assert.equal("2000000", (select(3, answer_of(conn))))
      conn:close()
    end)

    it("is refused when it is malformed", function()
      start(list)
      assert.equal(415, (ask(post("/", body, "Content-Type: text/plain\r\n"))))
      assert.equal(415, (ask(post("/", body))))
      for _, wrong in ipairs { "", "nothing", "--B", "--B\r\n\r\nx\r\n--B--", "--Bx\r\n",
        '--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nno end',
        '--B\r\nContent-Disposition: form-data\r\n\r\nx\r\n--B--', "--B\r\nx\r\n\r\nx\r\n--B--",
        "--B\r\nA: " .. ("x"):rep(9000) .. "\r\n\r\n" } do
        assert.equal(400, (ask(post("/", wrong, kind))), wrong)
      end
      assert.equal(0, server:stats().errors or 0)
    end)
  end)

  describe("events", function()
    it("are sent as EventSource reads them", function()
      start(function()
        return http.events(function(events)
          events:retry(1.5):send("one"):send("two\nlines\r\nand\rmore", "named", "7")
          assert(not pcall(events.send, events, "x", "a\nb"))
        end)
      end)
      local status, headers, body = ask(get("/"))
      assert.equal(200, status)
      assert.equal("text/event-stream", headers["content-type"])
      assert.equal(":\n\nretry: 1500\n\ndata: one\n\nevent: named\nid: 7\ndata: two\n"
        .. "data: lines\ndata: and\ndata: more\n\n", body)
    end)

    it("end when the client goes, while they wait, without a line", function()
      local why
      start(function()
        return http.events(function(events)
          events:send("hello")
          local _, _, name = neap.sleep(1000)
          why = name
          events:send("too late")
        end)
      end)
      local conn = dial(get("/"))
      assert.equal(200, (head_of(conn)))
      conn:close()
      helper.turn_until(function() return server:stats().open == 0 end)
      assert.equal("cancelled", why)
      assert.equal(0, server:stats().errors or 0)
    end)

    it("are kept alive by comments", function()
      local enough = neap.channel()
      start(function()
        return http.events(function() enough:receive() end, { heartbeat = 0.01 })
      end)
      local conn, comments = dial(get("/", "Connection: close\r\n")), 0
      assert.equal(200, (head_of(conn)))
      while comments < 3 do
        if line_of(conn) == ":" then comments = comments + 1 end
      end
      enough:send("end")
      assert.matches("0\r\n\r\n$", rest_of(conn))
    end)
  end)

  describe("gzip", function()
    local text = ("a line of text\n"):rep(1000)

    local function unpacked(bytes)
      local path = helper.file(bytes)
      local run = helper.sh("gzip -dc " .. path)
      assert.equal(0, run.status, run.err)
      return run.out
    end

    before_each(function()
      local app = http.router():use(assert(http.gzip { level = 9 }))
      app:get("/text", function() return text end)
      app:get("/list", function() return { text, neap.copy(text) } end)
      app:get("/large", function() return text:rep(50) end)
      app:get("/stream", function()
        return function(out)
          out:write("first\n")
          neap.sleep(0.01)
          out:write({ neap.copy(text), "" })
        end
      end)
      app:get("/small", function() return "small" end)
      app:get("/image", function() return { type = "image/png", body = text } end)
      app:get("/tagged", function() return { headers = { ETag = '"1"' }, body = text } end)
      start(app)
    end)

    it("is used where it is asked for and worth it", function()
      local wanted = "Accept-Encoding: br, gzip;q=0.5\r\n"
      for path, plain in pairs { ["/text"] = text, ["/list"] = text .. text,
        ["/large"] = text:rep(50), ["/stream"] = "first\n" .. text } do
        local status, headers, body = ask(get(path, wanted))
        assert.equal(200, status)
        assert.equal("gzip", headers["content-encoding"])
        assert.equal("Accept-Encoding", headers.vary)
        assert.equal(plain, unpacked(body))
        assert.is_true(#body < #plain / 10)
        status, headers, body = ask(get(path))
        assert.equal(200, status)
        assert.is_nil(headers["content-encoding"])
        assert.equal("Accept-Encoding", headers.vary)
        assert.equal(plain, body)
      end
      for _, path in ipairs { "/small", "/image" } do
        assert.is_nil((select(2, ask(get(path, wanted))))["content-encoding"])
      end
      assert.is_nil((select(2, ask(get("/text", "Accept-Encoding: gzip;q=0\r\n"))))
        ["content-encoding"])
      assert.equal('W/"1"', (select(2, ask(get("/tagged", wanted)))).etag)
      assert.equal(404, (ask(get("/none", wanted))))
    end)
  end)
end)
end)
