local example = require("spec.example")
local helper = require("spec.helper")
local neap = require("neap")

local ANY_PORT = "tcp://127.0.0.1:0"
local MIB = 1048576

describe("the proxy example", function()
  helper.watch(before_each, after_each) -- around the hooks of the blocks within

  local proxy

  local function start(target)
    proxy = example.start("proxy", { ANY_PORT, target })
    assert.equal("relaying to " .. target, proxy.line)
  end

  local function expect(conn, bytes)
    local got = assert(conn:read(#bytes))
    assert.is_true(got:equals(bytes))
    got:release()
  end

  local function expect_end(conn)
    assert.equal("eof", select(3, conn:read(1)))
  end

  describe("before an echo", function()
    local echo

    before_each(function()
      echo = example.start("echo", { ANY_PORT })
      start(echo.address)
    end)

    after_each(function()
      assert.equal("", proxy:finish())
      assert.equal("", echo:finish())
    end)

    it("relays both directions at once", function()
      local bytes = helper.pattern(MIB)
      local conn = assert(neap.connect(proxy.address))
      local writing = helper.task(function()
        for _ = 1, 32 do assert(conn:write(bytes)) end
        conn:shutdown()
      end)
      for _ = 1, 32 do expect(conn, bytes) end
      expect_end(conn)
      writing()
      conn:close()
    end)

    it("relays 150 clients at once", function()
      local conns = {}
      for i = 1, 150 do conns[i] = assert(neap.connect(proxy.address)) end
      for round = 1, 3 do
        for i, conn in ipairs(conns) do conn:write(("%d:%05d"):format(round, i)) end
        for i, conn in ipairs(conns) do expect(conn, ("%d:%05d"):format(round, i)) end
      end
      for _, conn in ipairs(conns) do conn:close() end
    end)

    local function sh(command)
      local host, port = proxy.address:match("//(.*):(%d+)$")
      return helper.sh((command:gsub("HOST", host):gsub("PORT", port)))
    end

    it("relays bash", function()
      local run = sh("exec bash -c 'exec 3<>/dev/tcp/HOST/PORT; echo hello >&3; "
        .. "read -r answer <&3; echo \"$answer\"'")
      assert.equal("hello\n", run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end)

    local has_nc = os.execute("command -v nc >/dev/null 2>&1")
    local try = (has_nc == 0 or has_nc == true) and it or pending

    try("relays nc, half-close included", function()
      local run = sh("head -c 1000000 /dev/zero | nc -N HOST PORT | cksum")
      assert.equal(sh("head -c 1000000 /dev/zero | cksum").out, run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end)
  end)

  describe("before a plain socket", function()
    local listening, client, target -- the two ends

    -- What the proxy says on stderr is in `said` when the test is over.
    local function relayed(said, fn)
      return function()
        listening = helper.listening(4096)
        start(listening.address)
        client = assert(neap.connect(proxy.address))
        target = listening:accept()
        local ok, err = pcall(fn)
        client:close()
        target:close()
        local heard = proxy:finish()
        if not ok then error(err, 0) end
        assert.matches(said, heard)
      end
    end

    local NOTHING = "^$"
    local A_RESET = "^proxy: tcp://127.0.0.1:%d+: [^\n]*reset the connection\n$"

    it("passes the client's half-close on, and then what the target still says",
      relayed(NOTHING, function()
        client:write("question")
        client:shutdown()
        assert.equal("question", target:recv_all())
        target:send("answer, ")
        expect(client, "answer, ")
        target:send("late")
        target:shutdown()
        expect(client, "late")
        expect_end(client)
      end))

    it("passes the target's half-close on, and then what the client still says",
      relayed(NOTHING, function()
        target:send("greeting")
        target:shutdown()
        expect(client, "greeting")
        expect_end(client)
        client:write("so long")
        assert.equal("so long", target:recv_exactly(7))
        client:write(", then")
        client:close()
        assert.equal(", then", target:recv_all())
      end))

    it("ends the client's connection when the target resets its own", relayed(A_RESET, function()
      client:write("question")
      assert.equal("question", target:recv_exactly(8))
      target:send("part of an ans")
      expect(client, "part of an ans")
      target:reset()
      expect_end(client)
    end))

    it("ends the target's connection when the client resets its own", relayed(A_RESET, function()
      local other = helper.dial(proxy.address)
      local its_target = listening:accept()
      other:send("quest")
      assert.equal("quest", its_target:recv_exactly(5))
      its_target:send("not to be read")
      helper.turn()
      other:reset()
      assert.equal("", its_target:recv_all())
      its_target:close()
      client:write("and the first client goes on")
      assert.equal("and the first client goes on", target:recv_exactly(28))
    end))

    -- A sanitizer's build is slower, and keeps freed memory for a while.
    local maps = assert(io.open("/proc/self/maps"))
    local sanitized = maps:read("*a"):find("libasan", 1, true)
    maps:close()
    local DRAINED = (sanitized and 16 or 64) * MIB
    local GROWTH = (sanitized and 16 or 2) * MIB

    it("lets 1 GiB wait for a stalled receiver, in flat memory, and loses nothing of it"
      .. " #neighbours #sizes",
      relayed(A_RESET, function()
        local block = helper.pattern(MIB)
        local sent, failure = 0, nil
        local writing = helper.task(function()
          while not failure and sent < 1024 do
            failure = select(3, client:write(neap.slice(block)))
            sent = sent + (failure and 0 or 1)
          end
        end)
        local before, last, still = proxy:resident(), -1, 0
        while still < 5 do -- until the sender is stopped
          still, last = sent == last and still + 1 or 0, sent
          neap.sleep(0.1)
        end
        assert.is_true(sent < 512, sent .. " MiB were taken")
        assert.is_true(proxy:resident() - before < GROWTH)
        local twice, received = block .. block, 0
        while received < DRAINED do
          local part = target:recv()
          if part then
            local at = received % MIB
            assert.is_true(part == twice:sub(at + 1, at + #part))
            received = received + #part
          else
            helper.turn()
          end
        end
        assert.is_true(sent > last) -- it goes on
        assert.is_true(proxy:resident() - before < GROWTH)
        target:reset()
        writing()
        assert.equal("reset", failure)
      end))

    it("ends both when the receiver resets while much waits for it", relayed(A_RESET, function()
      local failure
      local writing = helper.task(function()
        while not failure do failure = select(3, client:write(("x"):rep(MIB))) end
      end)
      assert.equal("x", target:recv_exactly(1))
      neap.sleep(0.05)
      target:reset()
      writing()
      assert.equal("reset", failure)
    end))
  end)

  it("closes the client when the target refuses, says so, and goes on", function()
    local listening = helper.listening()
    local address = listening.address
    listening:close()
    start(address)
    for _ = 1, 2 do
      local conn = assert(neap.connect(proxy.address))
      expect_end(conn)
      conn:close()
    end
    local line = helper.logged("warn") .. "[^\n]*connect to " .. address
      .. ": nobody listens there\n"
    assert.matches("^" .. line .. line .. "$", proxy:finish())
  end)

  it("says when its address is none, with status 1", function()
    local run = helper.sh(helper.neap .. " examples/proxy.lua nonsense")
    assert.matches("listen on nonsense", run.err, 1, true)
    assert.equal(1, run.status)
  end)
end)
