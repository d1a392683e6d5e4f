--- The hot paths compile: LuaJIT gives up on no place in them.

local helper = require("spec.helper")

local it = jit.status() and it or pending

-- Each in a process of its own: where LuaJIT gave up for another spec it would not even try.
local function assert_compiles(code, calls)
  local run = helper.script([[
    local neap = require("neap")
    local testing = require("neap.testing")
    local calls = ]] .. calls .. "\n" .. code)
  assert.equal("", run.err)
  assert.equal(0, run.status)
end

local frames = [[
  local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
    while true do
      local header, message, name = conn:read(4)
      if name == "eof" then return end
      local payload = assert(conn:read(assert(header, message):u32be(0)))
      conn:write(header)
      conn:write(payload)
    end
  end))
  local conn = assert(neap.connect(listener.address))
]]

describe("LuaJIT compiles", function()
  it("reading and writing frames", function()
    assert_compiles(frames .. [[
      testing.compiles(function()
        conn:write("\0\0\0\5hello")
        assert(conn:read(9)):release()
      end, calls)
      conn:close()
      listener:close()
    ]], 5000)
  end)

  it("views of what came", function()
    assert_compiles(frames .. [[
      testing.compiles(function()
        conn:write("\0\0\0\5hello")
        local n = assert(conn:peek(4)):u32be(0)
        assert(conn:skip(4))
        assert(conn:read(n)):release()
      end, calls)
      conn:close()
      listener:close()
    ]], 5000)
  end)

  it("a pipe from one connection to another", function()
    assert_compiles([[
      local sink = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        conn:pipe_to(conn)
      end))
      local proxy = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        local to = assert(neap.connect(sink.address))
        neap.spawn(function() to:pipe_to(conn) end)
        conn:pipe_to(to)
        to:close()
      end))
      local conn = assert(neap.connect(proxy.address))
      testing.compiles(function()
        conn:write("hello")
        assert(conn:read(5)):release()
      end, calls)
      conn:close()
      proxy:close()
      sink:close()
    ]], 5000)
  end)

  it("an echo of whatever comes", function()
    assert_compiles([[
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        for chunk in conn:chunks() do conn:write(chunk) end
      end))
      local conn = assert(neap.connect(listener.address))
      testing.compiles(function()
        conn:write("hello")
        assert(conn:read(5)):release()
      end, calls)
      conn:close()
      listener:close()
    ]], 5000)
  end)

  it("making, splitting, merging and releasing slices", function()
    assert_compiles([[
      local allocator = neap.pool():allocator()
      testing.compiles(function()
        local s = allocator:alloc(72)
        local header = s:split(8)
        header:set_u32be(0, 7)
        assert(header:u32be(0) == 7)
        local list = neap.coalesce({ header, s }, 1024)
        assert(#list == 1)
        list[1]:release()
      end, calls)
    ]], 50000)
  end)

  it("decoding heads of HTTP #pace", function()
    assert_compiles([[
      local http1 = require("neap.codec.http1")
      local text = "GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
      local source = function() return text end
      local reader = neap.reader(nil, source)
      testing.compiles(function()
        local request, size = http1.decode_request(reader:peek(#text))
        assert(request.path == "/a" and request.query == "b" and request.keep_alive)
        assert(request:header("accept") == "*/*" and request.method == "GET")
        reader:skip(size)
      end, calls)
    ]], 20000)
  end)

  it("a server of HTTP", function()
    assert_compiles([[
      local http = require("neap.http")
      local server = assert(http.serve("tcp://127.0.0.1:0", function() return "hello\n" end))
      local conn = assert(neap.connect(server.address))
      local question = "GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
      conn:write(question)
      local size = conn:read_until("hello\n", { inclusive = true })
      local n = #size
      size:release()
      local question16, i = question:rep(16), 0
      testing.compiles(function()
        i = i + 1
        if i % 10 > 0 then
          conn:write(question)
          assert(conn:read(n)):release()
        else
          conn:write(question16)
          assert(conn:read(16 * n)):release()
        end
      end, calls)
      conn:close()
      server:stop()
    ]], 5000)
  end)

  it("filling buffers", function()
    assert_compiles([[
      local buffer, i = neap.buffer(), 0
      testing.compiles(function()
        i = i + 1
        buffer:put_u32be(i)
        buffer:put("some bytes")
        buffer:put_varint(i)
        buffer:reset()
      end, calls)
    ]], 20000)
  end)

  it("spawning and joining tasks that do not wait", function()
    assert_compiles([[
      local function nothing() end
      testing.compiles(function() neap.spawn(nothing, 1):join() end, calls)
    ]], 20000)
  end)
end)
