--- The examples that speak HTTP, in processes of their own.

local asking = require("spec.asking")
local cjson = require("cjson")
local example = require("spec.example")
local helper = require("spec.helper")
local lfs = require("lfs")

local ask, get, post = asking.ask, asking.get, asking.post

describe("the example", function()
  helper.watch(before_each, after_each)

  local function put(path, body)
    return (post(path, body):gsub("^POST", "PUT"))
  end

  it("is no longer than 80 lines of Lua, its page aside", function()
    for name in lfs.dir("examples") do
      if name:find("^http_.*%.lua$") then
        local file = assert(io.open("examples/" .. name))
        local text = file:read("*a"):gsub("%[%[.-%]%]", '""'):gsub("%-%-[^\n]*", "")
        file:close()
        local count = select(2, text:gsub("[^\n]*%S[^\n]*\n", ""))
        assert.is_true(count > 5 and count <= 80, name .. " has " .. count)
      end
    end
  end)

  it("http_hello says hello", function()
    local server = example.start("http_hello", { "tcp://127.0.0.1:0" })
    local conn = asking.dial(server.address, get("/"):rep(1000))
    for _ = 1, 1000 do assert.equal("hello\n", (select(3, asking.answer_of(conn)))) end
    conn:close()
    server:finish()
  end)

  it("http_files lists a directory, and gives its files", function()
    local directory = helper.temporary_directory()
    assert.equal(0, helper.sh(("cd %s && mkdir 'a&b' && echo one > '<1>.txt' && mkdir 'a&b/c'")
      :format(directory)).status)
    local server = example.start("http_files", { "tcp://127.0.0.1:0", directory })
    local status, headers, page = ask(server.address, get("/"))
    assert.equal(200, status)
    assert.equal("text/html; charset=utf-8", headers["content-type"])
    assert.matches('href="./a%26b/"', page, 1, true)
    assert.matches("a&amp;b</a>", page, 1, true)
    assert.matches('href="./%3C1%3E.txt"', page, 1, true)
    assert.matches("&lt;1&gt;.txt</a>", page, 1, true)
    assert.matches("1 folder, 1 file, 4 B", page, 1, true)
    page = select(3, ask(server.address, get("/a%26b/")))
    assert.matches('<a href="/a%26b/">a&amp;b</a>', page, 1, true)
    assert.matches('href="../"', page, 1, true)
    assert.equal("one\n", (select(3, ask(server.address, get("/%3C1%3E.txt")))))
    assert.equal(404, (ask(server.address, get("/none"))))
    assert.equal("gzip", (select(2, ask(server.address, get("/", "Accept-Encoding: gzip\r\n"))))
      ["content-encoding"])
    server:finish()
  end)

  describe("http_api", function()
    local server, directory

    before_each(function() directory = helper.temporary_directory() end)

    local function start()
      server = example.start("http_api", { "tcp://127.0.0.1:0", directory })
    end

    local function json_of(status, ...)
      local got, _, body = ask(server.address, ...)
      assert.equal(status, got, body)
      return body ~= "" and cjson.decode(body)
    end

    it("keeps notes, also for the next one that is started", function()
      start()
      assert.same({}, json_of(200, get("/notes")))
      assert.same({ id = "1", text = "one" }, json_of(201, post("/notes", '{"text":"one"}')))
      assert.same({ id = "2", text = "two" }, json_of(201, post("/notes", '{"text":"two"}')))
      assert.same({ id = "1", text = "uno" }, json_of(200, put("/notes/1", '{"text":"uno"}')))
      json_of(204, (get("/notes/2"):gsub("^GET", "DELETE")))
      assert.equal(404, (ask(server.address, get("/notes/2"))))
      assert.equal(404, (ask(server.address, put("/notes/9", '{"text":"x"}'))))
      assert.equal(400, (ask(server.address, post("/notes", "{"))))
      assert.equal(422, (ask(server.address, post("/notes", '{"text":5}'))))
      assert.equal(422, (ask(server.address, post("/notes", "[]"))))
      assert.equal(413, (ask(server.address, post("/notes", ("x"):rep(10001)))))
      assert.equal(405, (ask(server.address, put("/notes", "{}"))))
      server:finish()
      start()
      assert.same({ ["1"] = "uno" }, json_of(200, get("/notes")))
      assert.same({ id = "3", text = "new" }, json_of(201, post("/notes", '{"text":"new"}')))
      server:finish()
    end)

    it("takes files as they come, and nothing by half", function()
      start()
      local bytes = helper.pattern(3000000)
      assert.equal(201, (ask(server.address, put("/files/a.bin", bytes))))
      assert.is_true(bytes == (select(3, ask(server.address, get("/files/a.bin")))))
      assert.equal(422, (ask(server.address, put("/files/.hidden", "x"))))
      assert.equal(422, (ask(server.address, put("/files/..%2fx", "x"))))
      local peer = helper.dial(server.address)
      peer:send(put("/files/a.bin", bytes):sub(1, 100000))
      peer:close()
      assert.is_nil(server:left_behind())
      assert.is_true(bytes == (select(3, ask(server.address, get("/files/a.bin")))))
      assert.equal("a.bin\n", helper.sh("ls -A " .. directory).out)
      server:finish()
    end)

    -- Uploads for which there is no room, whole and in chunks, do not change what was there.
    local function finds_no_room()
      json_of(201, post("/notes", '{"text":"kept"}'))
      local bytes = ("x"):rep(1000000)
      assert.equal(507, (ask(server.address, put("/files/big", bytes))))
      local chunks = ("10000\r\n" .. ("x"):rep(65536) .. "\r\n"):rep(16) .. "0\r\n\r\n"
      assert.equal(507, (ask(server.address, "PUT /files/big" .. asking.HOST
        .. "Transfer-Encoding: chunked\r\n\r\n" .. chunks)))
      assert.equal("notes.json\n", helper.sh("ls -A " .. directory).out)
      assert.same({ ["1"] = "kept" }, json_of(200, get("/notes")))
      json_of(201, post("/notes", '{"text":"more"}'))
      server:finish()
    end

    local full = "says when the disk is full, and keeps what was there"
    local small = helper.temporary_directory()
    local mounts = helper.root
      and helper.sh(("mount -t tmpfs -o size=256k none %s && umount %s"):format(small, small))
    helper.remove_files()
    if mounts and mounts.status == 0 then
      it(full, function()
        local mounted = helper.sh("mount -t tmpfs -o size=256k none " .. directory)
        assert.equal(0, mounted.status, mounted.err)
        finally(function() helper.sh("umount -l " .. directory) end)
        start()
        finds_no_room()
      end)
    else
      pending(full .. " (only who may mount can make a small disk)")
    end

    it("says when a file may not become so large, and keeps what was there", function()
      server = example.start("http_api", { "tcp://127.0.0.1:0", directory }, nil,
        "trap '' XFSZ; ulimit -f 512;")
      finds_no_room()
    end)
  end)

  it("http_live sends the runtime's counters as events", function()
    local server = example.start("http_live", { "tcp://127.0.0.1:0" })
    assert.matches("new EventSource", (select(3, ask(server.address, get("/")))), 1, true)
    local conn = asking.dial(server.address, get("/events"))
    local status, headers = asking.head_of(conn)
    assert.equal(200, status)
    assert.equal("text/event-stream", headers["content-type"])
    local values = {}
    for _ = 1, 20 do -- the connection that had the page takes a moment to go
      local seen = asking.line_of(conn):match("^data: (.*)$")
      for _, counter in ipairs(seen and cjson.decode(seen) or {}) do
        values[counter[1]] = counter[2]
      end
      if values.connections == 1 then break end
    end
    assert.equal(1, values.connections)
    assert.equal(2, values["requests so far"])
    for name, value in pairs(values) do assert.is_number(value, name) end
    conn:close()
    server:finish()
  end)
end)
