local bit = require("bit")
local example = require("spec.example")
local helper = require("spec.helper")
local neap = require("neap")

local ERROR, ECHO, SUM, TIME = 0, 1, 2, 3
local MAX_PAYLOAD = 65536

local function u32be(n)
  return string.char(bit.band(bit.rshift(n, 24), 255), bit.band(bit.rshift(n, 16), 255),
    bit.band(bit.rshift(n, 8), 255), bit.band(n, 255))
end

local function header(length, kind, id)
  return u32be(length) .. u32be(kind * 65536 + id)
end

local function frame(kind, id, payload) return header(#payload, kind, id) .. payload end

describe("the frames example", function()
  helper.watch(before_each, after_each) -- around the hooks of the blocks within

  describe("with clients", function()
    local server, conn, said

    before_each(function()
      server = example.start("frames", { "tcp://127.0.0.1:0" })
      conn = assert(neap.connect(server.address))
      said = "^$" -- what the server may say on stderr
    end)

    after_each(function()
      conn:close()
      assert.matches(said, server:finish())
    end)

    local function expect_bytes(bytes)
      local got = assert(conn:read(#bytes))
      assert.equal(bytes, got:str())
      got:release()
    end

    local function expect(kind, id, payload) expect_bytes(frame(kind, id, payload)) end

    local function expect_end() assert.equal("eof", select(3, conn:read(1))) end

    it("sends an echo back, of any size and content", function()
      for id, payload in ipairs { "hello", "", "\0", helper.pattern(4095), helper.pattern(4096),
        helper.pattern(MAX_PAYLOAD) } do
        conn:write(frame(ECHO, id, payload))
        expect(ECHO, id, payload)
      end
    end)

    it("adds numbers up", function()
      conn:write(frame(SUM, 1, u32be(1) .. u32be(2) .. u32be(39)))
      expect(SUM, 1, ("\0"):rep(7) .. "\42")
      conn:write(frame(SUM, 2, ""))
      expect(SUM, 2, ("\0"):rep(8))
      conn:write(frame(SUM, 3, ("\255"):rep(MAX_PAYLOAD))) -- 16,384 × (2^32 - 1)
      expect(SUM, 3, "\0\0\63\255\255\255\192\0")
    end)

    it("tells the time", function()
      local before = os.time()
      conn:write(frame(TIME, 65535, ""))
      local answer = assert(conn:read(16))
      local time = answer:u53be(8)
      assert.equal(8, answer:u32be(0))
      assert.equal(65535, answer:u16be(6))
      assert.is_true(before <= time and time <= os.time())
      answer:release()
    end)

    it("answers many requests sent at once, in their order", function()
      local requests, answers = {}, {}
      for id = 1, 1000 do
        local payload = helper.pattern(id % 300)
        local known = id % 10 ~= 0
        requests[id] = frame(known and ECHO or 77, id, payload)
        answers[id] = known and frame(ECHO, id, payload)
          or frame(ERROR, id, "there is no such type")
      end
      local writing = helper.task(function() assert(conn:write(table.concat(requests))) end)
      expect_bytes(table.concat(answers))
      writing()
    end)

    it("answers requests that come byte by byte", function()
      local request = frame(ECHO, 1, "abc") .. frame(9, 2, "de") .. frame(ECHO, 3, "")
      local socket = helper.dial(server.address)
      for i = 1, #request do
        socket:send(request:sub(i, i))
        helper.turn()
      end
      local answers = frame(ECHO, 1, "abc") .. frame(ERROR, 2, "there is no such type")
        .. frame(ECHO, 3, "")
      assert.equal(answers, socket:recv_exactly(#answers))
      socket:shutdown()
      assert.equal("", socket:recv_all())
    end)

    it("says that a type is unknown or a payload unfit, and goes on", function()
      for _, kind in ipairs { 0, 4, 256, 65535 } do
        conn:write(frame(kind, 7, "x"))
        expect(ERROR, 7, "there is no such type")
      end
      conn:write(frame(SUM, 8, "12345"))
      expect(ERROR, 8, "not a whole count of u32be numbers")
      conn:write(frame(ECHO, 9, "fine"))
      expect(ECHO, 9, "fine")
    end)

    it("says that a payload is too long before it comes, and closes", function()
      for _, length in ipairs { MAX_PAYLOAD + 1, 0x7fffffff, 0x80000000, 0xffffffff } do
        conn:write(header(length, ECHO, 5))
        expect(ERROR, 5, "the payload is too long")
        expect_end()
        conn:close()
        conn = assert(neap.connect(server.address))
      end
      said = "^" .. (helper.logged("warn") .. "serving tcp://127.0.0.1:%d+: a frame of "
        .. "%d+ bytes, where 65540 are allowed\n"):rep(4) .. "$"
    end)

    it("answers what came before a frame that is too long", function()
      conn:write(frame(ECHO, 1, "first") .. header(MAX_PAYLOAD + 1, ECHO, 2) .. "and some of it")
      expect(ECHO, 1, "first")
      expect(ERROR, 2, "the payload is too long")
      expect_end()
      said = "^" .. helper.logged("warn") .. "serving [^\n]* a frame of 65541 bytes[^\n]*\n$"
    end)

    it("closes when a frame stops in the middle", function()
      local whole = frame(ECHO, 1, "payload")
      said = "^" .. helper.logged("warn") .. "serving tcp://127.0.0.1:%d+: the peer closed its "
        .. "side before all bytes came, 7 bytes into a message\n[^\n]*, 12 bytes into a message\n$"
      for _, size in ipairs { 7, 12 } do
        conn:write(whole .. whole:sub(1, size))
        conn:shutdown()
        expect_bytes(whole)
        expect_end()
        conn:close()
        conn = assert(neap.connect(server.address))
      end
    end)

    it("waits for a client that asks and does not read, and loses nothing #neighbours", function()
      local request = frame(ECHO, 1, helper.pattern(MAX_PAYLOAD))
      local count, sent = 1024, 0
      local writing = helper.task(function()
        for _ = 1, count do
          assert(conn:write(request))
          sent = sent + 1
        end
      end)
      local before, last, still = server:resident(), -1, 0
      while still < 5 do -- until the server has stopped reading
        still, last = sent == last and still + 1 or 0, sent
        neap.sleep(0.1)
      end
      assert.is_true(sent < count)
      assert.is_true(server:resident() - before < 2 * 1048576)
      for _ = 1, count do expect_bytes(request) end
      writing()
    end)

    it("answers its client, which prints what it is told", function()
      local run = helper.sh(helper.neap .. " examples/frames_client.lua " .. server.address)
      assert.equal("", run.err)
      assert.equal(0, run.status)
      assert.matches("^1\thello\n2\tthe sum is 42\n3\tit is 20%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d UTC"
        .. "\n4\terror: there is no such type\n$", run.out)
    end)

    it("answers bash", function()
      local host, port = server.address:match("//(.*):(%d+)$")
      local run = helper.sh(("exec bash -c 'exec 3<>/dev/tcp/%s/%s; printf %s >&3; "
        .. "head -c 10 <&3 | od -An -tx1'"):format(host, port, "\"\\0\\0\\0\\2\\0\\1\\0\\7hi\""))
      assert.equal(" 00 00 00 02 00 01 00 07 68 69\n", run.out)
      assert.equal("", run.err)
    end)
  end)
end)

describe("the client of the frames example", function()
  helper.watch(before_each, after_each)

  it("says when nobody listens, with status 1", function()
    local nobody = helper.listening()
    local address = nobody.address
    nobody:close()
    local run = helper.sh(helper.neap .. " examples/frames_client.lua " .. address)
    assert.matches("nobody listens there", run.err, 1, true)
    assert.equal(1, run.status)
  end)
end)
