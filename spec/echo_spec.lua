local helper = require("spec.helper")
local neap = require("neap")

describe("the echo example", function()
  helper.watch(before_each, after_each) -- around the hooks of the blocks within

  describe("with clients of all kinds", function()
    local child, address

    local function clients_of(command) return (command:gsub("ADDRESS", address)
      :gsub("HOST", (address:match("//(.*):"))):gsub("PORT", (address:match("%d+$")))) end

    before_each(function()
      child = helper.start(helper.neap .. " examples/echo.lua tcp://127.0.0.1:0")
      local line = child:line()
      address = line and line:match("^listening on (tcp://127%.0%.0%.1:%d+)$")
      assert(address, line)
      assert.matches("nc 127.0.0.1 " .. address:match("%d+$"), child:line(), 1, true)
    end)

    after_each(function()
      child:kill("TERM")
      local run = child:finish()
      -- a client that resets is told of in a line; nothing else is wrong
      for line in run.err:gmatch("[^\n]+") do
        assert.matches("^" .. helper.logged("warn") .. "tcp://127%.0%.0%.1:%d+: "
          .. "[^\n]*reset the connection", line)
      end
      assert.equal("", run.out)
      assert.equal(0, run.status)
    end)

    local function expect(conn, bytes)
      local answer = assert(conn:read(#bytes))
      assert.is_true(answer:equals(bytes))
      answer:release()
    end

    it("sends back what comes, byte by byte", function()
      local conn = assert(neap.connect(address))
      for i = 0, 255 do
        conn:write(string.char(i))
        expect(conn, string.char(i))
      end
      conn:close()
    end)

    it("sends 8 MiB back while they still come", function()
      local bytes = helper.pattern(1048576)
      local conn = assert(neap.connect(address))
      local writing = helper.task(function()
        for _ = 1, 8 do assert(conn:write(bytes)) end
        conn:shutdown()
      end)
      for _ = 1, 8 do expect(conn, bytes) end
      assert.equal("eof", select(3, conn:read(1)))
      writing()
      conn:close()
    end)

    it("sends everything back after the client's half-close, and then ends", function()
      local conn = assert(neap.connect(address))
      conn:write("last words")
      conn:shutdown()
      expect(conn, "last words")
      assert.equal("eof", select(3, conn:read_any()))
      conn:close()
    end)

    it("serves 400 clients at once", function()
      local conns = {}
      for i = 1, 400 do conns[i] = assert(neap.connect(address)) end
      for round = 1, 3 do
        for i, conn in ipairs(conns) do conn:write(("%d:%05d"):format(round, i)) end
        for i, conn in ipairs(conns) do expect(conn, ("%d:%05d"):format(round, i)) end
      end
      for _, conn in ipairs(conns) do conn:close() end
    end)

    it("goes on when clients leave in every way", function()
      local function leave(how)
        local socket = helper.dial(address)
        socket:send("bye")
        how(socket)
      end
      leave(function(socket) socket:close() end)
      leave(function(socket) assert.equal("bye", socket:recv_exactly(3)) socket:close() end)
      leave(function(socket) socket:shutdown() socket:close() end)
      leave(function(socket) socket:shutdown() assert.equal("bye", socket:recv_all()) end)
      local conn = assert(neap.connect(address))
      conn:write("still there?")
      expect(conn, "still there?")
      conn:close()
    end)

    it("answers bash", function()
      local run = helper.sh(("exec bash -c '%s'"):format(clients_of(
        "exec 3<>/dev/tcp/HOST/PORT; echo hello >&3; read -r answer <&3; echo \"$answer\"")))
      assert.equal("hello\n", run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end)

    local has_nc = os.execute("command -v nc >/dev/null 2>&1")
    local try = (has_nc == 0 or has_nc == true) and it or pending

    try("answers nc, half-close included", function()
      local run = helper.sh(clients_of("printf \"one\\ntwo\" | nc -N HOST PORT"))
      assert.equal("one\ntwo", run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end)

    it("says when its address is in use, with status 1", function()
      local run = helper.sh(clients_of(helper.neap .. " examples/echo.lua ADDRESS"))
      assert.matches("the address is in use", run.err, 1, true)
      assert.matches(address, run.err, 1, true)
      assert.equal(1, run.status)
    end)

    it("says when its argument is no address, with status 1", function()
      local run = helper.sh(helper.neap .. " examples/echo.lua nonsense")
      assert.matches("nonsense", run.err, 1, true)
      assert.matches("tcp://", run.err, 1, true)
      assert.equal(1, run.status)
    end)
  end)

  describe("with clients that reset", function()
    local child

    after_each(function()
      child:kill("INT")
      assert.equal(0, child:finish().status)
    end)

    it("ends their connections alone", function()
      child = helper.start(helper.neap .. " examples/echo.lua tcp://127.0.0.1:0")
      local address = child:line():match("tcp://%S+")
      for _ = 1, 20 do
        local socket = helper.dial(address)
        socket:send("x")
        socket:reset()
      end
      local conn = assert(neap.connect(address))
      conn:write("alive")
      local answer = assert(conn:read(5))
      assert.equal("alive", answer:str())
      answer:release()
      conn:close()
    end)
  end)
end)
