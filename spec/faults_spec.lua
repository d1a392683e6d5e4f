--- Bad input and faults: each gets an error that names what, where and whose, loses and leaks
--- nothing, and the server goes on. Servers run as child processes, with a witness inside that
--- counts what they hold; a test ends when that is as before and a new client was served. Here are
--- the mistakes of handlers; "examples" is example_faults_spec.lua, which has what clients do, for
--- each example.
---
---     what goes wrong                            where it is tested
---     half a message and gone, or half-closed    examples; wait_spec (timeouts)
---     a reset before the first byte              examples; net_spec ("before it is accepted")
---     … in the middle of a read                  examples; net_spec ("while that reads")
---     … while what the server wrote is queued    examples; net_spec ("waits for room to write")
---     … after the client's half-close            examples; net_spec
---     … after the server's half-close            here
---     … while the server closes                  here; net_spec ("while it closes by itself")
---     a client that never reads                  examples; net_spec ("high watermark")
---     one byte at a time                         examples; net_spec
---     no line end, for ever                      here; reader_spec (the limit itself)
---     2,000 connections opened and dropped       examples; net_spec (400 that stay)
---     no descriptors                             examples
---     a handler that makes mistakes              here; net_spec ("whose handler raises")
---     a wait across table.sort                   here; task_spec
---     malformed and oversized messages           examples; http_strict_spec
---     clients killed under load                  examples
---     a body that its handler leaves half way    http_server_spec
---     a disk that is full                        http_examples_spec
---     a script's syntax, a missing script        command_spec
---     an address in use, or none                 echo_spec; net_spec
---     a port below 1024                          here (as root); net_spec (as another user)

local helper = require("spec.helper")
local watched = require("spec.watched")

local MIB = watched.MIB
local own_address, push, start = watched.own_address, watched.push, watched.start
local stop_running, text_of = watched.stop_running, watched.text_of

-- ---- what handlers do ----

-- A client's first line says what the handler does.
local deeds = { name = "deeds", says = "hello\n", hears = "hello\n", script = [[
  local neap = require("neap")
  local kept
  local deeds = {
    hello = function(conn) conn:write("hello\n") end,
    raises = function() error("the handler's mistake") end,
    ["raises with slices"] = function(conn)
      local copy, read = neap.copy("copy"), conn:read(4)
      conn:write("queued")
      error("a mistake with " .. #copy + #read .. " bytes")
    end,
    ["raises a table"] = function() error({}) end,
    forgets = function(conn) for _ in conn:chunks() do end end,
    ["releases twice"] = function(conn)
      local slice = conn:read(4)
      slice:release()
      slice:release()
    end,
    ["uses what it released"] = function(conn)
      local slice = conn:read(4)
      slice:release()
      local text = slice:str()
      return text
    end,
    ["writes a slice twice"] = function(conn)
      local slice = conn:read(4)
      conn:write(slice)
      conn:write(slice)
    end,
    keeps = function(conn) kept = conn:read(4) end,
    uses = function(conn)
      conn:write(kept:str() .. "\n")
      conn:write(kept)
    end,
    ["keeps a view"] = function(conn)
      local view = conn:peek(4)
      conn:close()
      local text = view:str()
      return text
    end,
    ["sorts, waiting"] = function(conn)
      table.sort({ 3, 1, 2 }, function() conn:read(100) end)
    end,
    ["leaves a task"] = function(conn) neap.spawn(function() assert(conn:read(100)) end) end,
    ["leaves a writer"] = function(conn)
      neap.spawn(function() conn:write(("x"):rep(16 * 1048576)) end)
      conn:read(4):release()
    end,
    ends = function() end,
    ["half-closes"] = function(conn)
      conn:shutdown()
      assert(conn:read(100))
    end,
    ["reads a short line"] = function(conn) assert(conn:read_line(64)) end,
    ["reads a line"] = function(conn) assert(conn:read_line()) end,
    ["reads lines"] = function(conn) for _ in conn:lines() do end end,
    ["reads what it is told"] = function(conn)
      local length = conn:read(4)
      assert(conn:read(length:u32be(0)))
    end,
  }
  local listener = assert(neap.listen(arg[1], function(conn)
    local line = assert(conn:read_line())
    local deed = line:str()
    line:release()
    deeds[deed](conn)
  end))
  print(listener.address)
  io.stdout:flush()
]] }

local function ask(server, deed)
  local client = helper.dial(server.address)
  client:send(deed .. "\n")
  return client, own_address(client)
end

describe("a server whose handler", function()
  after_each(stop_running)
  helper.watch(before_each, after_each)

  -- deed, what is told, "collect": slices that it held are left to the collector
  for _, mistake in ipairs {
    { "raises", "the handler's mistake" },
    { "raises with slices", "a mistake with 8 bytes", "collect" },
    { "raises a table", "table: 0x" },
    { "releases twice", "slice:release: the slice was released" },
    { "uses what it released", "slice:str: the slice was released" },
    { "writes a slice twice", "conn:write: argument is a slice that was released or taken" },
    { "keeps a view", "view:str: the reader has read, peeked or skipped since" },
    { "sorts, waiting", "nothing can wait inside table.sort" },
  } do
    local deed, text, word = unpack(mistake)
    it(deed .. " says what, where and for whom, and goes on", function()
      local server = start(deeds)
      local client, peer = ask(server, deed)
      client:send("data")
      client:recv_all()
      client:close()
      server:is_as_before(word)
      assert.equal(1, server:count().failures)
      local run = server:stop()
      assert.equal(0, run.status)
      assert.matches("^" .. helper.logged("error") .. "a task ended in an error: [^\n]*"
        .. text:gsub("%p", "%%%0"), run.err)
      assert.matches("stack traceback:", run.err, 1, true)
      assert.matches(" serving=" .. peer, run.err, 1, true)
      assert.matches(" spawned_at=%S+:%d+\n", run.err)
    end)
  end

  it("forgets what it reads is cleared up after by the collector #sizes", function()
    local server = start(deeds)
    local client = ask(server, "forgets")
    local sent, most_held = 0, 0
    while sent < 256 * MIB do
      local n = push(client, ("x"):rep(65536), 16 * MIB)
      assert.is_true(n >= 16 * MIB)
      sent, most_held = sent + n, math.max(most_held, server:count().held)
    end
    assert.is_true(most_held < 40 * MIB, "held: " .. most_held)
    local counts = server:count()
    assert.is_true(counts.collected > 1000, "collected: " .. counts.collected)
    client:close()
    server:is_as_before("collect")
    local said = server:told(nil, nil, true)
    assert.matches("slices? w%a+ forgotten, and ", said) -- the first of them may not be sampled
    assert.matches("neap: leaks (sample): ", said, 1, true)
    assert.matches(": made at /", said, 1, true)
  end)

  it("keeps a slice can use it when the connection is closed", function()
    local server = start(deeds)
    local client = ask(server, "keeps")
    client:send("data")
    assert.equal("", client:recv_all())
    client:close()
    client = ask(server, "uses")
    assert.equal("data\ndata", client:recv_all())
    client:close()
    server:is_as_before()
    server:told()
  end)

  for deed, text in pairs {
    ["leaves a task"] = ": read of 100 bytes: it is closed",
    ["leaves a writer"] = "",
  } do
    it(deed .. " closes under it", function()
      local server = start(deeds)
      local client, peer = ask(server, deed)
      client:send("data")
      client:recv(1)
      client:reset()
      server:is_as_before()
      assert.equal(0, server:count().failures)
      assert.matches(text == "" and "" or peer .. text, server:stop().err, 1, true)
    end)
  end

  it("has ended, so that the server has half-closed, takes a reset", function()
    local server = start(deeds)
    local client = ask(server, "ends")
    assert.equal("", client:recv_all())
    client:send("more")
    client:reset()
    server:is_as_before()
    server:told()
  end)

  it("reads on after its own half-close is told of a reset", function()
    local server = start(deeds)
    local client, peer = ask(server, "half-closes")
    assert.equal("", client:recv_all())
    client:send("more")
    client:reset()
    server:is_as_before()
    server:told({ peer }, "read of 100 bytes: the peer reset the connection")
  end)

  for deed, most in pairs {
    ["reads a short line"] = 64 * 1024, ["reads a line"] = MIB, ["reads lines"] = MIB,
  } do
    it(deed .. " closes when no line end comes, and no memory grows", function()
      local server = start(deeds)
      local held = server:count().held
      local client, peer = ask(server, deed)
      local sent, gone = push(client, ("x"):rep(65536), 1024 * MIB)
      assert.is_true(gone)
      assert.is_true(sent < 32 * MIB, "took " .. sent)
      client:close()
      held = server:count().held - held
      assert.is_true(held <= 4 * most, "held " .. held .. " more")
      server:is_as_before()
      server:told({ peer }, "read of a line (see max_read): larger than the limit")
    end)
  end

  it("reads as much as a peer tells it refuses 4 GiB before any memory is taken"
    .. " #neighbours", function()
    local server = start(deeds)
    local held = server:count().held
    local client, peer = ask(server, "reads what it is told")
    client:send("\255\255\255\255data")
    client:recv_all()
    client:close()
    assert.equal(held, server:count().held)
    server:is_as_before("collect")
    server:told({ peer }, "read of 4294967295 bytes (see max_read): larger than the limit",
      true)
  end)
end)

describe("an ordinary user's server", function()
  after_each(stop_running)
  helper.watch(before_each, after_each)

  local nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups "
  local name = "says that port 80 is not permitted, with status 1"
  local first_port = tonumber(text_of("/proc/sys/net/ipv4/ip_unprivileged_port_start"))
  local run = helper.root and helper.sh(nobody .. helper.neap .. " -v")
  helper.remove_files()
  if not run or run.status ~= 0 or first_port <= 80 then
    pending(name)
  else
    it(name, function()
      run = helper.sh(nobody .. helper.neap .. " examples/echo.lua tcp://127.0.0.1:80")
      assert.matches("listen on tcp://127.0.0.1:80: not permitted (a port below 1024 needs root",
        run.err, 1, true)
      assert.equal("", run.out)
      assert.equal(1, run.status)
    end)
  end
end)

describe("a server that was started with its standard streams closed", function()
  helper.watch(before_each, after_each)

  it("sends what it prints to nobody", function()
    local result = helper.temporary_name()
    local script = helper.file([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        conn:write("answer")
        for _ = 1, 10 do
          print("printed")
          io.stdout:flush()
          io.stderr:write("said")
          neap.sleep(0)
        end
        error("reported")
      end))
      local conn = assert(neap.connect(listener.address))
      local file, answer = assert(io.open(arg[1], "w")), conn:read(6)
      file:write(answer:str(), " and ", select(3, conn:read(1)))
      file:close()
      conn:close()
      listener:close()
    ]])
    for _, closed in ipairs { "<&- >&- 2>&-", ">&- 2>&-", "2>&-", "<&- 2>&-" } do
      local run = helper.sh(("%s %s %s %s"):format(helper.neap, script, result, closed))
      assert.equal(0, run.status)
      assert.equal("answer and eof", text_of(result))
    end
  end)
end)

describe("a connection that the peer resets", function()
  helper.watch(before_each, after_each)

  it("ends in reset for its reader too when a write has met the reset first", function()
    local conn, peer = helper.pair()
    peer:send("abc")
    assert(conn:read(3)):release()
    peer:reset()
    assert.is_true(conn:write("x"))
    helper.turn_until(function() return select(3, conn:write("y")) == "reset" end)
    local bytes, message, name = conn:read(1)
    assert.is_nil(bytes)
    assert.equal("reset", name)
    assert.matches(conn.peer .. ": read of 1 bytes: the peer reset", message, 1, true)
    conn:close()
  end)

  it("after its own end ends in eof for the reader, and in reset for the writer", function()
    local conn, peer = helper.pair()
    peer:send("abc")
    peer:shutdown()
    assert.is_true(conn:write("unread"))
    helper.turn()
    peer:close() -- with bytes unread: a reset, behind the end
    helper.turn_until(function() return select(3, conn:write("y")) == "reset" end)
    local bytes = assert(conn:read(3))
    assert.equal("abc", bytes:str())
    bytes:release()
    assert.equal("eof", select(3, conn:read(1)))
    conn:close()
  end)
end)
