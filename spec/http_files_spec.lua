--- Static files over HTTP.

local asking = require("spec.asking")
local helper = require("spec.helper")
local http = require("neap.http")
local lfs = require("lfs")
local neap = require("neap")

local get, rest_of = asking.get, asking.rest_of

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

describe("http.files", function()
  helper.watch(before_each, after_each) -- around the hooks of the block within

describe("and", function()
  local server, root, big

  before_each(function()
    local outside = helper.temporary_directory()
    root = outside .. "/root"
    assert(lfs.mkdir(root))
    for _, name in ipairs { "/sub", "/sub/deep", "/list" } do assert(lfs.mkdir(root .. name)) end
    big = helper.pattern(300000)
    write(outside .. "/secret", "secret")
    write(root .. "/index.html", "<h1>index</h1>")
    write(root .. "/big.bin", big)
    write(root .. "/empty.txt", "")
    write(root .. "/a b&c.css", "css")
    write(root .. "/.hidden", "hidden")
    write(root .. "/sub/index.html", "sub")
    write(root .. "/list/x.js", "js")
    for link, to in pairs { up = "../secret", absolute = outside .. "/secret", within = "big.bin",
      out = "..", loop = "loop" } do
      assert(lfs.link(to, root .. "/" .. link, true))
    end
    assert.equal(0, helper.sh("mkfifo " .. root .. "/fifo").status)
  end)

  after_each(function()
    if server then server:stop(0) end
    server = nil
    helper.turn() -- in which its workers end
    jit.flush() -- a trace has the handler, and that has the directory open
    for _ = 1, 4 do collectgarbage() end -- one weak table leads to another
    helper.sh("rm -rf " .. root .. "/..")
  end)

  local function start(options)
    server = assert(http.serve("tcp://127.0.0.1:0", assert(http.files(root, options))))
  end

  local function ask(bytes) return asking.ask(server.address, bytes) end

  it("sends files with their type and what tells of their age", function()
    start()
    local status, headers, body = ask(get("/"))
    assert.equal(200, status)
    assert.equal("<h1>index</h1>", body)
    assert.equal("text/html; charset=utf-8", headers["content-type"])
    assert.matches('^"e%-%x+%.%x+"$', headers.etag)
    assert.matches("GMT$", headers["last-modified"])
    status, headers, body = ask(get("/big.bin"))
    assert.equal(200, status)
    assert.equal(#big, #body)
    assert.is_true(big == body)
    assert.equal("application/octet-stream", headers["content-type"])
    assert.equal("", (select(3, ask(get("/empty.txt")))))
    assert.equal("text/css; charset=utf-8", (select(2, ask(get("/a%20b%26c.css"))))["content-type"])
    assert.equal("sub", (select(3, ask(get("/sub/")))))
    assert.is_true(big == (select(3, ask(get("/within")))))
  end)

  it("sends HEAD the same without the bytes, and no other method", function()
    start()
    local conn = asking.dial(server.address, "HEAD /big.bin" .. asking.HOST .. "\r\n" .. get("/"))
    local status, headers = asking.head_of(conn)
    assert.equal(200, status)
    assert.equal("300000", headers["content-length"])
    assert.equal("<h1>index</h1>", (select(3, asking.answer_of(conn))))
    conn:close()
    status, headers = ask(asking.post("/", "x"))
    assert.equal(405, status)
    assert.equal("GET, HEAD", headers.allow)
  end)

  it("gives nothing that is not beneath the directory, hidden or no file", function()
    start()
    for _, path in ipairs { "/../secret", "/%2e%2e/secret", "/sub/../../secret", "/up", "/absolute",
      "/out/secret", "/..%2fsecret", "/sub/..%2f..%2fsecret", "/loop", "/fifo", "/.hidden", "/none",
      "/index.html/", "/index.html/x", "/list/", "/%00", "/index.html%00.txt", "/\\..\\secret",
      "/%zz", "/" .. ("x"):rep(5000), "/%c0%ae%c0%ae/secret" } do
      local status, _, body = ask(get(path))
      assert.equal(404, status, path)
      assert.is_nil(body:find("secret", 1, true))
    end
  end)

  it("sends who forgets the slash of a directory there, and never elsewhere", function()
    start()
    local status, headers = ask(get("/sub?a=b"))
    assert.equal(301, status)
    assert.equal("/sub/?a=b", headers.location)
    assert.equal("/sub/", (select(2, ask(get("//sub")))).location)
  end)

  it("answers conditional requests", function()
    start()
    local _, headers = ask(get("/"))
    local etag, modified = headers.etag, headers["last-modified"]
    local function status(...)
      local code, _, body = ask(get("/", table.concat({ ... }, "\r\n") .. "\r\n"))
      if code == 304 then assert.equal("", body) end
      return code
    end
    assert.equal(304, status("If-None-Match: " .. etag))
    assert.equal(304, status('If-None-Match: "x", W/' .. etag))
    assert.equal(304, status("If-None-Match: *"))
    assert.equal(200, status('If-None-Match: "x"', "If-Modified-Since: " .. modified))
    assert.equal(304, status("If-Modified-Since: " .. modified))
    assert.equal(200, status("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"))
    assert.equal(200, status("If-Modified-Since: yesterday"))
    assert.equal(200, status("If-Match: " .. etag))
    assert.equal(200, status("If-Match: *"))
    assert.equal(412, status('If-Match: "x"'))
    assert.equal(412, status("If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"))
    assert.equal(200, status("If-Unmodified-Since: " .. modified))
  end)

  it("sends ranges", function()
    start()
    local function range(text, more)
      local status, headers, body = ask(get("/big.bin", "Range: " .. text .. "\r\n"
        .. (more or "")))
      return status, headers["content-range"], body, headers
    end
    local status, what, body = range("bytes=0-0")
    assert.same({ 206, "bytes 0-0/300000", big:sub(1, 1) }, { status, what, body })
    status, what, body = range("bytes=100-199999")
    assert.same({ 206, "bytes 100-199999/300000" }, { status, what })
    assert.is_true(body == big:sub(101, 200000))
    status, what, body = range("bytes=-5")
    assert.same({ 206, "bytes 299995-299999/300000", big:sub(-5) }, { status, what, body })
    status, what, body = range("bytes=299990-999999")
    assert.same({ 206, "bytes 299990-299999/300000", big:sub(-10) }, { status, what, body })
    status, what = range("bytes=300000-")
    assert.same({ 416, "bytes */300000" }, { status, what })
    assert.equal(416, (range("bytes=-0")))
    for _, text in ipairs { "bytes=5-4", "bytes=x", "lines=1-2", "bytes=", "bytes=0-1,x",
      "bytes=" .. ("0-1,"):rep(20) .. "0-1", "bytes=0-,0-" } do
      status, what, body = range(text)
      assert.same({ 200, #big }, { status, #body }, text)
      assert.is_nil(what)
    end
    local _, headers
    status, _, body, headers = range("bytes=1-2, -1")
    assert.equal(206, status)
    local boundary = headers["content-type"]:match("^multipart/byteranges; boundary=(.+)$")
    local function part(where, bytes)
      return ("\r\n--%s\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes %s/300000"
        .. "\r\n\r\n%s"):format(boundary, where, bytes)
    end
    assert.equal(part("1-2", big:sub(2, 3)) .. part("299999-299999", big:sub(-1)) .. "\r\n--"
      .. boundary .. "--\r\n", body)
    local etag = headers.etag
    assert.equal(206, (range("bytes=0-0", "If-Range: " .. etag .. "\r\n")))
    assert.equal(200, (range("bytes=0-0", 'If-Range: "x"\r\n')))
    assert.equal(206, (range("bytes=0-0", "If-Range: " .. headers["last-modified"] .. "\r\n")))
  end)

  it("lists directories when it is told how, and hides what is hidden", function()
    local listed
    start { listing = function(entries)
      listed = entries
      return "a listing"
    end, index = "none.html", max_age = 60 }
    assert.equal("a listing", (select(3, ask(get("/")))))
    local names = {}
    for i, entry in ipairs(listed) do names[i] = entry.name .. (entry.directory and "/" or "") end
    assert.same({ "list/", "out/", "sub/" }, { names[1], names[2], names[3] })
    assert.equal("a b&c.css", names[4])
    assert.is_nil(table.concat(names, " "):find("hidden", 1, true))
    assert.equal("max-age=60", (select(2, ask(get("/big.bin"))))["cache-control"])
  end)

  it("closes a file whose reader goes half way", function()
    write(root .. "/huge.bin", ("x"):rep(8000000))
    start()
    local before = #helper.sh("ls /proc/self/fd").out
    for _ = 1, 20 do
      local peer = helper.dial(server.address)
      peer:send(get("/huge.bin"))
      helper.turn_until(function() return peer:recv(10) end)
      peer:reset()
    end
    helper.turn_until(function() return server:stats().open == 0 end)
    assert.equal(0, server:stats().errors or 0)
    assert.equal(before, #helper.sh("ls /proc/self/fd").out)
  end)

  it("sends a file that nobody reads out of no buf, and others go on", function()
    local text = {}
    for i = 1, 1000 do text[i] = ("%07d\n"):format(i):rep(2048) end
    text = table.concat(text)
    write(root .. "/huge.txt", text)
    start()
    local conn = asking.dial(server.address, get("/huge.txt"))
    local _, headers = asking.head_of(conn)
    assert.equal(tostring(#text), headers["content-length"])
    assert.equal("<h1>index</h1>", (select(3, ask(get("/")))))
    assert.equal(1, server:stats().in_flight)
    assert.is_true(neap.default_pool():stats().bytes_live < 300000)
    assert.is_true(asking.bytes_of(conn, #text) == text)
    conn:close()
  end)

  it("sends a large file through what compresses it", function()
    write(root .. "/huge.txt", ("a line of text\n"):rep(20000))
    local app = http.router():use(assert(http.gzip()))
    app:get("/*file", assert(http.files(root)))
    server = assert(http.serve("tcp://127.0.0.1:0", app))
    local _, headers, body = ask(get("/huge.txt", "Accept-Encoding: gzip\r\n"))
    assert.equal("gzip", headers["content-encoding"])
    write(root .. "/huge.gz", body)
    local unpacked = helper.sh("gzip -dc " .. root .. "/huge.gz | md5sum; md5sum < " .. root
      .. "/huge.txt").out
    assert.equal(unpacked:match("%x+"), unpacked:match("%x+ .-\n(%x+)"))
  end)

  it("notices that a file has become shorter", function()
    start()
    write(root .. "/huge.bin", ("x"):rep(30000000))
    local peer = helper.dial(server.address)
    peer:send(get("/huge.bin"))
    helper.turn_until(function() return peer:recv(10) end)
    write(root .. "/huge.bin", "short")
    local got = 0
    repeat
      local part = peer:recv(65536)
      got = got + (part and #part or 0)
      helper.turn()
    until part == ""
    assert.is_true(got < 30000000)
    peer:close()
  end)

  it("says when there is no such directory", function()
    local made, message, name = http.files(root .. "/none")
    assert.is_nil(made)
    assert.matches("http.files: .*/none: No such file or directory", message)
    assert.equal("system", name)
    made, message = http.files(root .. "/big.bin")
    assert.is_nil(made)
    assert.matches("is no directory", message)
  end)

  it("takes a route's parameter for the path", function()
    local app = http.router()
    app:get("/static/*file", assert(http.files(root)))
    server = assert(http.serve("tcp://127.0.0.1:0", app))
    assert.equal("css", (select(3, ask(get("/static/a%20b%26c.css")))))
    assert.equal("<h1>index</h1>", (select(3, ask(get("/static/")))))
    assert.equal(404, (ask(get("/static/../secret"))))
    assert.matches("^HTTP/1.1 200 ", rest_of(asking.dial(server.address, get("/static/within",
      "Connection: close\r\n"))))
  end)
end)
end)
