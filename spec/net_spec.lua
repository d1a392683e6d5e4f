local ffi = require("ffi")
local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local raises = helper.raises
local ANY_PORT = "tcp://127.0.0.1:0"
local HIGH_BYTES = 65536

local function echo(conn)
  for chunk in conn:chunks() do conn:write(chunk) end
end

describe("listening", function()
  helper.watch(before_each, after_each)

  it("picks a port for port 0 and knows its address", function()
    local listener = assert(neap.listen(ANY_PORT, echo))
    local port = tonumber(listener.address:match("^tcp://127%.0%.0%.1:(%d+)$"))
    assert.is_true(port > 0)
    assert.matches(listener.address, tostring(listener), 1, true)
    listener:close()
  end)

  it("closes once and for all, and then refuses connections", function()
    local listener = assert(neap.listen(ANY_PORT, echo))
    local address = listener.address
    listener:close()
    listener:close()
    assert.is_nil(listener.address)
    local conn, message, name = neap.connect(address)
    assert.is_nil(conn)
    assert.equal("refused", name)
    assert.matches(address, message, 1, true)
  end)

  it("leaves connections alone when it is closed", function()
    local listener = assert(neap.listen(ANY_PORT, echo))
    local conn = assert(neap.connect(listener.address))
    conn:write("a")
    conn:read(1):release()
    listener:close()
    conn:write("b")
    local answer = conn:read(1)
    assert.equal("b", answer:str())
    answer:release()
    conn:close()
  end)

  it("fails where somebody listens already", function()
    local listener = assert(neap.listen(ANY_PORT, echo))
    local second, message, name = neap.listen(listener.address, echo)
    assert.is_nil(second)
    assert.equal("address_in_use", name)
    assert.matches(listener.address, message, 1, true)
    listener:close()
  end)

  it("can listen again where a listener was closed a moment ago", function()
    local first = assert(neap.listen(ANY_PORT, echo))
    local address = first.address
    local conn = assert(neap.connect(address))
    conn:write("x")
    conn:read(1):release()
    first:close()
    conn:close()
    local second = assert(neap.listen(address, echo))
    second:close()
  end)

  it("serves IPv6 where the system has it", function()
    local listener, _, name = neap.listen("tcp://[::1]:0", echo)
    if not listener then
      assert.is_true(name == "unreachable" or name == "address")
      return
    end
    assert.matches("^tcp://%[::1%]:%d+$", listener.address)
    local conn = assert(neap.connect(listener.address))
    assert.equal(listener.address, conn.peer)
    conn:close()
    listener:close()
  end)

  local privileged = "refuses port 80 to an ordinary user"
  local first_port = io.open("/proc/sys/net/ipv4/ip_unprivileged_port_start")
  local open_to_all = first_port and first_port:read("*n") <= 80
  if first_port then first_port:close() end
  if helper.root or open_to_all then
    pending(privileged)
  else
    it(privileged, function()
      local listener, message, name = neap.listen("tcp://127.0.0.1:80", echo)
      assert.is_nil(listener)
      assert.equal("permission", name)
      assert.matches("80", message)
    end)
  end

  it("takes and answers 400 connections at once", function()
    local listener = assert(neap.listen(ANY_PORT, echo))
    local conns, opened = {}, 0
    for i = 1, 400 do
      helper.task(function()
        conns[i] = assert(neap.connect(listener.address))
        conns[i]:write(("%05d"):format(i))
        opened = opened + 1
      end)
    end
    helper.turn_until(function() return opened == 400 end)
    for i, conn in ipairs(conns) do
      local answer = assert(conn:read(5))
      assert.equal(i, tonumber(answer:str()))
      answer:release()
    end
    for _, conn in ipairs(conns) do conn:close() end
    listener:close()
  end)

  it("opens descriptors that child processes do not inherit", function()
    local count = "ls -l /proc/self/fd | grep -c socket:"
    local before = helper.sh(count).out
    local listener = assert(neap.listen(ANY_PORT, echo))
    local conn = assert(neap.connect(listener.address))
    conn:write("x")
    conn:read(1):release()
    assert.equal(before, helper.sh(count).out)
    conn:close()
    listener:close()
  end)

  it("passes on misuse at the caller's line", function()
    for _, bad in ipairs { 1, {}, true, print, 1LL, io.stdout } do
      raises("neap.listen: address", function() neap.listen(bad, echo) end)
      raises("neap.connect: address", function() neap.connect(bad) end)
    end
    raises("neap.listen: address", function() neap.listen() end)
    raises("neap.connect: address", function() neap.connect() end)
    for _, bad in ipairs { 1, "echo", {}, true, 1LL } do
      raises("neap.listen: handler", function() neap.listen(ANY_PORT, bad) end)
    end
    raises("neap.listen: handler", function() neap.listen(ANY_PORT) end)
    local listener, conn = assert(neap.listen(ANY_PORT, echo)), helper.pair()
    local others = helper.not_objects()
    others.n = others.n + 1
    others[others.n] = conn
    helper.refuses_self(listener.close, "listener:close", others)
    raises("", function() listener.slot = 1 end)
    raises("", function() listener.address = "x" end)
    conn:close()
    listener:close()
  end)
end)

describe("an address", function()
  helper.watch(before_each, after_each)

  it("that is none fails with its text in the message", function()
    for _, text in ipairs { "", "tcp://", "127.0.0.1:80", "http://127.0.0.1:80", "tcp://127.0.0.1",
      "tcp://127.0.0.1:", "tcp://127.0.0.1:x", "tcp://127.0.0.1:65536", "tcp://127.0.0.1:-1",
      "tcp://127.0.0.1:999999", "tcp://127.0.0.1: 80", "tcp://127.0.0.1:80 ", "tcp://256.0.0.1:80",
      "tcp://::1:80", "tcp://[::1]80", "tcp://[::1", "tcp://[127.0.0.1]:80x", "tcp://:80",
      "tcp://" .. ("1"):rep(200) .. ":80", "tcp://" .. ("1"):rep(100000) } do
      for _, fn in ipairs { neap.listen, neap.connect } do
        local made, message, name = fn(text, fn == neap.listen and echo or nil)
        assert.is_nil(made)
        assert.equal("address", name)
        assert.is_truthy(message:find(text, 1, true))
      end
    end
  end)

  it("with a zero byte in it is none", function()
    local made, _, name = neap.listen("tcp://127.0.0.1:0\0junk", echo)
    if made then made:close() end
    assert.is_nil(made)
    assert.equal("address", name)
  end)
end)

describe("connecting", function()
  helper.watch(before_each, after_each)

  it("is refused where nobody listens", function()
    local socket = helper.listening()
    socket:close()
    local conn, message, name = neap.connect(socket.address)
    assert.is_nil(conn)
    assert.equal("refused", name)
    assert.matches(socket.address, message, 1, true)
  end)

  it("gives a connection that knows its peer", function()
    local conn, peer = helper.pair()
    assert.matches("^tcp://127%.0%.0%.1:%d+$", conn.peer)
    assert.matches(conn.peer, tostring(conn), 1, true)
    assert.equal("connection with " .. conn.peer, tostring(conn))
    conn:close()
    peer:close()
  end)

  it("fails for what is no address with a message that shows it", function()
    for address, seen in pairs { [""] = '""', ["tcp://a b:1"] = '"tcp://a b:1"',
      ["tcp://127.0.0.1:1\0x"] = '"tcp://127.0.0.1:1\\0x"', ["tcp://x:1"] = "tcp://x:1",
      ["tcp://x\ny:1"] = '"tcp://x\\ny:1"' } do
      local _, message, name = neap.connect(address)
      assert.equal("address", name)
      assert.matches("connect to " .. seen .. ": not an address", message, 1, true)
      _, message = neap.listen(address, echo)
      assert.matches("listen on " .. seen .. ": not an address", message, 1, true)
    end
  end)

  it("tells a write behind a shutdown from one on what is closed", function()
    local conn, peer = testing.pair()
    conn:shutdown()
    local ok, message, name = conn:write("x")
    assert.is_nil(ok)
    assert.equal("closed", name)
    assert.equal("unix://: write: nothing can be written behind a shutdown", message)
    conn:close()
    assert.equal("unix://: write: it is closed", (select(2, conn:write("x"))))
    peer:close()
  end)

  it("gives a connection that still names its peer when it is closed", function()
    local conn, peer = helper.pair()
    local address = conn.peer
    local text
    local reading = neap.spawn(function() text = select(2, conn:read(4)) end)
    neap.sleep(0)
    conn:close()
    reading:join()
    local other, other_peer = helper.pair() -- in its place, in the tables of neap
    assert.equal(address, conn.peer)
    assert.equal("closed connection with " .. address, tostring(conn))
    assert.equal(address .. ": read of 4 bytes: it is closed", text)
    assert.equal(address .. ": write: it is closed", (select(2, conn:write("x"))))
    for _, closed in ipairs { peer, other, other_peer } do closed:close() end
  end)

  it("knows no more with whom one was that was closed a thousand connections ago", function()
    local conn, other = testing.pair()
    conn:close()
    other:close()
    assert.equal("unix://", conn.peer)
    for _ = 1, 512 do
      local one, two = testing.pair()
      one:close()
      two:close()
      neap.sleep(0)
    end
    assert.equal("a closed connection", conn.peer)
    assert.equal("a closed connection", tostring(conn))
    assert.equal("a closed connection: read of 1 bytes: it is closed", (select(2, conn:read(1))))
  end)

  it("can be forgotten: the collector closes and counts", function()
    local before = helper.net_stats().forgotten
    local peer = select(2, helper.pair())
    collectgarbage()
    collectgarbage()
    assert.equal("", peer:recv_all())
    assert.equal(before + 1, helper.net_stats().forgotten)
    peer:close()
  end)

  it("takes no longer than the idle timeout", function()
    local server = helper.listening()
    ffi.C.listen(server.fd, 0) -- the system answers the first, and leaves the others waiting
    local tasks, name = {}, nil
    for i = 1, 4 do
      tasks[i] = neap.spawn(function()
        local conn, _, why = neap.connect(server.address, { idle_timeout = 1 })
        if conn then conn:close() else name = why end
      end)
    end
    for i = 1, 4 do tasks[i]:join() end
    server:close()
    assert.equal("timeout", name)
  end)
end)

describe("a connection", function()
  local listener, errors_of_handler

  local function serve(handler)
    errors_of_handler = {}
    listener = assert(neap.listen(ANY_PORT, function(conn)
      local ok, err = pcall(handler, conn)
      if not ok then errors_of_handler[#errors_of_handler + 1] = err end
    end))
    return listener.address
  end

  after_each(function()
    if not listener then return end
    listener:close()
    listener = nil
    assert.same({}, errors_of_handler)
  end)

  helper.watch(before_each, after_each) -- after the listener is closed

  local function expect(conn, bytes)
    local answer = assert(conn:read(#bytes))
    assert.equal(bytes, answer:str())
    answer:release()
  end

  it("echoes one byte at a time", function()
    local conn = assert(neap.connect(serve(echo)))
    for i = 0, 255 do
      assert.is_true(conn:write(string.char(i)))
      expect(conn, string.char(i))
    end
    conn:close()
  end)

  it("echoes 1 MiB, written at once, byte for byte", function()
    local bytes = helper.pattern(1048576)
    local conn = assert(neap.connect(serve(echo)))
    local finish = helper.task(function() return conn:write(bytes) end)
    expect(conn, bytes)
    assert.is_true(finish())
    conn:close()
  end)

  it("echoes 1 MiB in pieces of all sizes, strings and slices mixed", function()
    local bytes = helper.pattern(1048576)
    local conn = assert(neap.connect(serve(echo)))
    local finish = helper.task(function()
      local at, size = 0, 1
      while at < #bytes do
        local piece = bytes:sub(at + 1, at + size)
        if size % 2 == 0 then piece = assert(neap.copy(piece)) end
        assert(conn:write(piece))
        at, size = at + size, size % 9000 + 97
      end
      conn:shutdown()
    end)
    local parts = {}
    for chunk in conn:chunks() do
      parts[#parts + 1] = chunk:str()
      chunk:release()
    end
    finish()
    assert.is_true(table.concat(parts) == bytes)
    conn:close()
  end)

  it("can be shut down for writing and still reads the answer", function()
    local address = serve(function(conn)
      local text = {}
      for line in conn:lines() do text[#text + 1] = line end
      conn:write("got " .. table.concat(text, ","))
    end)
    local conn = assert(neap.connect(address))
    conn:write("a\nb\nc")
    assert.is_true(conn:shutdown())
    expect(conn, "got a,b,c")
    assert.equal("eof", select(3, conn:read(1)))
    assert.equal("closed", select(3, conn:write("more")))
    conn:close()
  end)

  it("tells its handler the end when the client half-closes, and can still answer", function()
    local socket = helper.dial(serve(function(conn)
      assert(select(3, conn:read(10)) == "short")
      assert(conn:buffered() == 3)
      local rest = conn:read_any()
      assert(select(3, conn:read_any()) == "eof")
      conn:write(rest)
    end))
    socket:send("abc")
    socket:shutdown()
    assert.equal("abc", socket:recv_all())
    socket:close()
  end)

  it("is closed when its handler returns, whatever is left to read", function()
    local socket = helper.dial(serve(function(conn) conn:read(1):release() end))
    socket:send("xyz")
    assert.equal("", socket:recv_all())
    socket:close()
  end)

  it("sends its last answer whole although the peer still sends", function()
    local bytes = helper.pattern(1048576)
    local conn = assert(neap.connect(serve(function(conn)
      conn:read_line():release()
      conn:write(bytes)
    end)))
    conn:write("give\n" .. ("x"):rep(30000))
    local half = bytes:sub(1, 500000)
    expect(conn, half)
    conn:write(("y"):rep(20000))
    expect(conn, bytes:sub(500001))
    assert.equal("eof", select(3, conn:read(1)))
    conn:close()
  end)

  it("is reset under its handler while that reads", function()
    local before = helper.net_stats().streams
    local name, kept
    local socket = helper.dial(serve(function(conn)
      name = select(3, conn:read(10))
      kept = conn:buffered()
    end))
    socket:send("abc")
    helper.turn_until(function() return helper.net_stats().streams == before + 1 end)
    helper.turn()
    socket:reset()
    helper.turn_until(function() return name end)
    assert.equal("reset", name)
    assert.equal(3, kept)
  end)

  it("is reset under its handler while that waits for room to write", function()
    local reached, name, message
    local socket = helper.dial(serve(function(conn)
      reached = true
      local bytes = ("x"):rep(1048576)
      repeat
        local ok
        ok, message, name = conn:write(bytes)
      until not ok
    end))
    helper.turn_until(function() return reached end)
    for _ = 1, 10 do helper.turn() end
    assert.is_nil(name)
    socket:reset()
    helper.turn_until(function() return name end)
    assert.equal("reset", name)
    assert.matches("127.0.0.1", message, 1, true)
  end)

  it("is reset before it is accepted", function()
    local served = 0
    local address = serve(function(conn)
      local _, _, name = conn:read(1)
      assert(name == "reset", name)
      served = served + 1
    end)
    for _ = 1, 20 do helper.dial(address):reset() end
    helper.turn_until(function() return served == 20 end)
  end)

  it("is reset after the client's half-close, while the handler answers", function()
    local name
    local socket = helper.dial(serve(function(conn)
      assert(select(3, conn:read(1)) == "eof")
      local bytes = ("x"):rep(1048576)
      repeat local ok, _, why = conn:write(bytes); name = why until not ok
    end))
    socket:shutdown()
    for _ = 1, 10 do helper.turn() end
    socket:reset()
    helper.turn_until(function() return name end)
    assert.equal("reset", name)
  end)

  it("is reset while it closes by itself, and is gone", function()
    local before, returned = helper.net_stats().streams
    local socket = helper.dial(serve(function(conn)
      neap.spawn(function() conn:write(("x"):rep(16 * 1048576)) end)
      conn:read(1):release()
      returned = true
    end))
    socket:send("x")
    helper.turn_until(function() return returned end)
    assert.equal(before + 1, helper.net_stats().streams)
    socket:reset()
    helper.turn_until(function() return helper.net_stats().streams == before end)
  end)

  it("is reset under the script after it read the last bytes", function()
    local conn, peer = helper.pair()
    peer:send("abc")
    expect(conn, "abc")
    peer:reset()
    assert.equal("reset", select(3, conn:read(1)))
    assert.equal("reset", select(3, conn:read_any()))
    assert.equal(0, conn:buffered())
    conn:close()
  end)

  it("takes a slice, whatever becomes of the write", function()
    local conn, peer = helper.pair()
    local small, large = neap.copy("small"), neap.copy(("x"):rep(8192))
    assert.is_true(conn:write(small))
    assert.is_true(conn:write(large))
    raises("slice:str", function() small:str() end)
    raises("slice:str", function() large:str() end)
    raises("conn:write", function() conn:write(small) end)
    assert.equal("small" .. ("x"):rep(8192), peer:recv_exactly(8197))
    conn:close()
    for _, bytes in ipairs { "small", ("x"):rep(8192) } do
      local late = neap.copy(bytes)
      local ok, message, name = conn:write(late)
      assert.is_nil(ok)
      assert.equal("closed", name)
      assert.matches("write", message)
      raises("slice:str", function() late:str() end)
    end
    assert.equal("closed", select(3, conn:write("a string")))
    peer:close()
  end)

  it("takes a part of a buf, and its neighbours stay", function()
    local conn, peer = helper.pair()
    local rest = neap.copy(("a"):rep(5000) .. "rest")
    local clone = rest:retain()
    local front = rest:split(5000)
    conn:write(front)
    assert.equal("rest", rest:str())
    assert.equal(("a"):rep(5000), peer:recv_exactly(5000))
    assert.equal(5004, #clone)
    rest:release()
    clone:release()
    conn:close()
    peer:close()
  end)

  it("writes empty strings and slices as nothing", function()
    local conn, peer = helper.pair()
    assert.is_true(conn:write(""))
    assert.is_true(conn:write(neap.copy("")))
    assert.equal(0, conn:queued())
    conn:write("end")
    conn:close()
    assert.equal("end", peer:recv_all())
    peer:close()
  end)

  it("makes a writer above the high watermark wait until the peer reads", function()
    local total, piece = 32 * 1048576, ("x"):rep(65536)
    local conn, peer = helper.pair()
    local written, most = 0, 0
    local finish = helper.task(function()
      while written < total do
        assert(conn:write(piece))
        written = written + #piece
        most = math.max(most, conn:queued())
      end
    end)
    for _ = 1, 200 do helper.turn() end
    assert.is_true(written < total)
    assert.is_true(conn:queued() > 0)
    local got = 0
    while got < total do got = got + #peer:recv_exactly(65536) end
    finish()
    assert.equal(total, written)
    assert.is_true(most <= HIGH_BYTES)
    assert.equal(0, conn:queued())
    conn:close()
    peer:close()
  end)

  it("makes a writer wait for a reader that is a slow task of neap", function()
    local total, written, got = 24 * 1048576, 0, 0
    local gate, opener = helper.pair()
    local conn = assert(neap.connect(serve(function(conn)
      gate:read(1):release()
      for chunk in conn:chunks() do
        got = got + #chunk
        chunk:release()
      end
    end)))
    local finish = helper.task(function()
      while written < total do
        assert(conn:write(assert(neap.copy(("y"):rep(16384)))))
        written = written + 16384
      end
      conn:close()
    end)
    for _ = 1, 200 do helper.turn() end
    assert.is_true(written < total)
    assert.equal(0, got)
    opener:send("go")
    finish()
    helper.turn_until(function() return got == total end)
    gate:close()
    opener:close()
  end)

  it("closed under a waiting reader and a waiting writer tells both", function()
    local conn, peer = helper.pair()
    local reading = helper.task(function() return select(3, conn:read(1)) end)
    local writing = helper.task(function()
      return select(3, conn:write(("x"):rep(32 * 1048576)))
    end)
    for _ = 1, 5 do helper.turn() end
    conn:close()
    assert.equal("closed", reading())
    assert.equal("closed", writing())
    peer:reset()
  end)

  it("R9 closed twice is harmless, and everything on it is closed", function()
    local conn, peer = helper.pair()
    peer:send("bytes")
    local slice = assert(conn:read(2))
    conn:close()
    conn:close()
    assert.equal("by", slice:str())
    slice:release()
    for _, fn in ipairs {
      function() return conn:read(1) end,
      function() return conn:read(0) end,
      function() return conn:read_any() end,
      function() return conn:read_line() end,
      function() return conn:read_until("x") end,
      function() return conn:write("x") end,
      function() return conn:shutdown() end,
    } do
      local result, message, name = fn()
      assert.is_nil(result)
      assert.equal("closed", name)
      assert.is_string(message)
    end
    assert.equal(0, conn:buffered())
    assert.equal(0, conn:queued())
    peer:close()
  end)

  it("lets one task read and another write", function()
    local conn = assert(neap.connect(serve(echo)))
    local bytes = helper.pattern(300000)
    local writing = helper.task(function() return conn:write(bytes) end)
    local reading = helper.task(function()
      local slice = assert(conn:read(#bytes))
      local same = slice:equals(bytes)
      slice:release()
      return same
    end)
    assert.is_true(writing())
    assert.is_true(reading())
    conn:close()
  end)

  it("refuses a second task that would read at the same time, at its line", function()
    local conn, peer = helper.pair()
    local first = helper.task(function()
      local slice = assert(conn:read(1))
      slice:release()
      return "read"
    end)
    helper.turn()
    raises("another task is already reading", function() local s = conn:read(1); s:release() end)
    peer:send("x")
    assert.equal("read", first())
    conn:close()
    peer:close()
  end)

  it("refuses a second task that would wait to write at the same time, at its line", function()
    local conn, peer = helper.pair()
    local first = helper.task(function() return conn:write(("x"):rep(32 * 1048576)) end)
    helper.turn()
    raises("another task is already writing", function() local ok = conn:write("y"); print(ok) end)
    peer:reset()
    first()
    conn:close()
  end)

  it("writes while its peer waits and reads while it writes, without a deadlock", function()
    local n = 4 * 1048576
    local address = serve(function(conn)
      local back = helper.task(function() return conn:write(("b"):rep(n)) end)
      local got = 0
      while got < n do
        local chunk = assert(conn:read_any())
        got = got + #chunk
        chunk:release()
      end
      back()
    end)
    local conn = assert(neap.connect(address))
    local writing = helper.task(function() return conn:write(("a"):rep(n)) end)
    local got = 0
    while got < n do
      local chunk = assert(conn:read_any())
      got = got + #chunk
      chunk:release()
    end
    assert.is_true(writing())
    conn:close()
  end)

  it("passes on misuse at the caller's line and changes nothing", function()
    local conn, peer = helper.pair()
    local others = helper.not_objects()
    local slice = neap.copy("bytes")
    others.n = others.n + 1
    others[others.n] = slice
    for _, name in ipairs { "write", "queued", "shutdown", "close", "read", "read_any", "read_line",
      "read_until", "chunks", "lines", "buffered" } do
      helper.refuses_self(conn[name], "conn:" .. name, others)
    end
    for _, bad in ipairs { 1, true, print, 1LL, io.stdout, ffi.new("uint8_t[4]") } do
      raises("conn:write", function() conn:write(bad) end)
    end
    raises("conn:write", function() conn:write() end)
    raises("conn:write", function() conn:write(conn) end)
    raises("", function() conn.slot = 1 end)
    raises("", function() conn.reader_gen = 1 end)
    raises("", function() conn.peer = "x" end)
    raises("", function() return conn + 1 end)
    raises("", function() return conn < conn end)
    slice:release()
    raises("conn:write", function() conn:write(slice) end)
    conn:write("ok")
    assert.equal("ok", peer:recv_exactly(2))
    conn:close()
    peer:close()
  end)

  it("is one object: equal to itself alone", function()
    local conn, peer = helper.pair()
    local other, other_peer = helper.pair()
    assert.is_true(conn == conn)
    assert.is_false(conn == other)
    assert.is_false(conn == nil)
    for _, socket in ipairs { conn, peer, other, other_peer } do socket:close() end
  end)
end)

describe("a listener that cannot accept", function()
  helper.watch(before_each, after_each)

  local function start(text)
    local child = helper.start(helper.neap .. " " .. helper.file(text))
    local address = child:line()
    return child, address, address:gsub("%p", "%%%0")
  end

  local function said(child)
    child:kill("TERM")
    return child:finish().err
  end

  it("because there are max_connections says that it waits", function()
    local child, address, pattern = start([[
      local neap, abi = require("neap"), require("neap.abi")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:read(1) end,
        { max_connections = 1 }))
      print(listener.address)
      io.stdout:flush()
      local stats = require("ffi").new("struct neap_net_stats")
      repeat
        neap.sleep(0.01)
        abi.C.neap_net_stats(stats)
      until stats.accept_limited > 0
      print("it waits")
      io.stdout:flush()
    ]])
    local clients = { helper.dial(address), helper.dial(address) }
    assert.equal("it waits", child:line())
    for _, client in ipairs(clients) do client:close() end
    assert.matches("^" .. helper.logged("warn") .. "accepting on " .. pattern
      .. " waits: 1 connections are open, as many as max_connections allows; others wait\n",
      said(child))
  end)

  it("because another process has shut an inherited socket down rests", function()
    local run = helper.script([[
      local neap, abi, ffi = require("neap"), require("neap.abi"), require("ffi")
      ffi.cdef("int socket(int, int, int); int bind(int, const void *, unsigned);"
        .. "int listen(int, int); int dup(int); int shutdown(int, int);")
      local number = ffi.C.socket(2, 1, 0)
      ffi.C.bind(number, ffi.new("uint8_t[16]", { 2, 0, 0, 0, 127, 0, 0, 1 }), 16)
      ffi.C.listen(number, 1)
      local of_another = ffi.C.dup(number)
      local listener = assert(neap.listen("fd://" .. number, print))
      ffi.C.shutdown(of_another, 0)
      local stats = ffi.new("struct neap_net_stats")
      for _ = 1, 1000 do
        neap.sleep(0.001)
        abi.C.neap_net_stats(stats)
        if stats.accept_pauses > 0 then break end
      end
      print(stats.accept_pauses > 0)
      listener:close()
    ]])
    assert.equal("true\n", run.out)
    assert.matches("^" .. helper.logged("warn") .. "accepting on [^\n]* failed: Invalid argument\n",
      run.err)
  end)

  it("because the pool is closed says that it drops connections", function()
    local child, address, pattern = start([[
      local neap = require("neap")
      print(assert(neap.listen("tcp://127.0.0.1:0", print)).address)
      io.stdout:flush()
      neap.default_pool():close()
    ]])
    local client = helper.dial(address)
    client:recv_all()
    client:close()
    assert.matches("^" .. helper.logged("warn") .. "accepting on " .. pattern
      .. " drops connections: the pool that they read into is closed\n$", said(child))
  end)
end)

describe("a server whose handler raises", function()
  helper.watch(before_each, after_each)

  it("loses that task and that connection alone, with a traceback", function()
    local run = helper.script([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        local line = conn:read_line():str()
        if line == "fail" then error("the handler's own mistake") end
        conn:write(line .. "\n")
        conn:read(1)
      end))
      local good = assert(neap.connect(listener.address))
      local bad = assert(neap.connect(listener.address))
      bad:write("fail\n")
      print((select(3, bad:read(1))))
      good:write("still here\n")
      print(good:read_line():str())
      local later = assert(neap.connect(listener.address))
      later:write("and new ones\n")
      print(later:read_line():str())
      listener:close() good:close() bad:close() later:close()
    ]])
    assert.equal("eof\nstill here\nand new ones\n", run.out)
    assert.matches("the handler's own mistake", run.err, 1, true)
    assert.matches("stack traceback:", run.err, 1, true)
    assert.matches(" spawned_at=", run.err, 1, true)
    assert.equal(0, run.status)
  end)
end)
