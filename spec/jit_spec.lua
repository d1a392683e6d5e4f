--- The hot paths compile: LuaJIT gives up on no place in them.

local helper = require("spec.helper")

local it = jit.status() and it or pending

-- Runs code with LuaJIT's verbose mode on, and prints each aborted trace with how often.
local function aborts_of(code)
  local run = helper.script([[
    local trace = os.tmpname()
    require("jit.v").on(trace)
    local neap = require("neap")
  ]] .. code .. [[
    require("jit.v").off()
    local compiled = 0
    for line in io.lines(trace) do
      local aborted = line:match("^%[TRACE %-%-%- (.*)%]$")
      if aborted then print(aborted) else compiled = compiled + 1 end
    end
    os.remove(trace)
    assert(compiled > 0, "nothing was compiled")
  ]])
  assert.equal("", run.err)
  assert.equal(0, run.status)
  return run.out
end

-- LuaJIT tries a place about ten times before it gives up on it for good.
local function assert_compiles(code)
  local counts = {}
  for place in aborts_of(code):gmatch("[^\n]+") do
    counts[place] = (counts[place] or 0) + 1
    assert.is_true(counts[place] < 6, "aborted again and again: " .. place)
  end
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
      for _ = 1, 5000 do
        conn:write("\0\0\0\5hello")
        assert(conn:read(9)):release()
      end
      conn:close()
      listener:close()
    ]])
  end)

  it("views of what came", function()
    assert_compiles(frames .. [[
      for _ = 1, 5000 do
        conn:write("\0\0\0\5hello")
        local n = assert(conn:peek(4)):u32be(0)
        assert(conn:skip(4))
        assert(conn:read(n)):release()
      end
      conn:close()
      listener:close()
    ]])
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
      for _ = 1, 5000 do
        conn:write("hello")
        assert(conn:read(5)):release()
      end
      conn:close()
      proxy:close()
      sink:close()
    ]])
  end)

  it("an echo of whatever comes", function()
    assert_compiles([[
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        for chunk in conn:chunks() do conn:write(chunk) end
      end))
      local conn = assert(neap.connect(listener.address))
      for _ = 1, 5000 do
        conn:write("hello")
        assert(conn:read(5)):release()
      end
      conn:close()
      listener:close()
    ]])
  end)

  it("making, splitting, merging and releasing slices", function()
    assert_compiles([[
      local allocator = neap.pool():allocator()
      for i = 1, 50000 do
        local s = allocator:alloc(72)
        local header = s:split(8)
        header:set_u32be(0, i)
        assert(header:u32be(0) == i)
        local list = neap.coalesce({ header, s }, 1024)
        assert(#list == 1)
        list[1]:release()
      end
    ]])
  end)

  it("decoding heads of HTTP #pace", function()
    assert_compiles([[
      local http1 = require("neap.codec.http1")
      local text = "GET /a?b HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n"
      local source = function() return text end
      local reader = neap.reader(nil, source)
      for _ = 1, 20000 do
        local request, size = http1.decode_request(reader:peek(#text))
        assert(request.path == "/a" and request.query == "b" and request.keep_alive)
        assert(request:header("accept") == "*/*" and request.method == "GET")
        reader:skip(size)
      end
    ]])
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
      for i = 1, 3000 do
        conn:write(i % 10 == 0 and question:rep(16) or question)
        for _ = 1, i % 10 == 0 and 16 or 1 do assert(conn:read(n)):release() end
      end
      conn:close()
      server:stop()
    ]])
  end)

  it("filling buffers", function()
    assert_compiles([[
      local buffer = neap.buffer()
      for i = 1, 20000 do
        buffer:put_u32be(i)
        buffer:put("some bytes")
        buffer:put_varint(i)
        buffer:reset()
      end
    ]])
  end)

  it("spawning and joining tasks that do not wait", function()
    assert_compiles([[
      local function nothing() end
      for i = 1, 20000 do neap.spawn(nothing, i):join() end
    ]])
  end)
end)
