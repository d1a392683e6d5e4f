local frame = require("neap.codec.frame")
local helper = require("spec.helper")
local line = require("neap.codec.line")
local neap = require("neap")
local testing = require("neap.testing")

local raises = helper.raises

describe("serve", function()
  helper.watch(before_each, after_each) -- around the hooks of the block within

describe("and", function()
  local server, said

  before_each(function()
    said = {}
    rawset(neap.log, "limited", function(_, message, fields)
      said[#said + 1] = { message = message, fields = fields }
    end)
  end)

  after_each(function()
    if server then server:stop(0) end
    server = nil
    rawset(neap.log, "limited", nil)
  end)

  local function start(protocol, options)
    protocol.codec = protocol.codec or line.new()
    server = assert(neap.serve("tcp://127.0.0.1:0", protocol, options))
    return server
  end

  local function dial() return assert(neap.connect(server.address)) end

  local function line_of(conn)
    local got, message, name = conn:read_line()
    if not got then return nil, message, name end
    local text = got:str()
    got:release()
    return text
  end

  -- All that comes until the end.
  local function rest_of(conn)
    local text = ""
    for chunk in conn:chunks() do
      text = text .. chunk:str()
      chunk:release()
    end
    return text
  end

  local function echo(message) return message end

  -- Until the server has noticed what its peers did.
  local function until_stats(name, value)
    helper.turn_until(function() return server:stats()[name] == value end)
  end

  describe("answers", function()
    it("each message with what its handler returns", function()
      start { handle = function(message) return "you said " .. message:str() end }
      local conn = dial()
      conn:write("hello\nwor")
      assert.equal("you said hello", line_of(conn))
      conn:write("ld\n")
      assert.equal("you said world", line_of(conn))
      conn:close()
      assert.equal(2, server:stats().messages)
    end)

    it("what comes a byte at a time", function()
      start { handle = echo }
      local peer = helper.dial(server.address)
      for byte in ("hello\r\nworld\n"):gmatch(".") do
        peer:send(byte)
        helper.turn()
      end
      assert.equal("hello\nworld\n", peer:recv_exactly(12))
    end)

    it("messages that came together in order, and in one write #sizes", function()
      start { handle = echo }
      local peer = helper.dial(server.address)
      local many = {}
      for i = 1, 500 do many[i] = "message " .. i .. "\n" end
      many = table.concat(many)
      peer:send(many)
      helper.turn_until(function() return server:stats().messages == 500 end)
      helper.turn()
      assert.equal(many, peer:recv(#many + 1)) -- all of it is here at once
    end)

    it("with strings, slices, views, lists of them, and nothing", function()
      local kept
      start { handle = function(message)
        local kind = message:str()
        if kind == "string" then return "a string" end
        if kind == "slice" then return neap.copy("a slice") end
        if kind == "view" then return message:sub(1, 3) end
        if kind == "list" then return { "a ", neap.copy("li"), message:sub(2, 2) } end
        if kind == "keep" then kept = message:retain() end
        if kind == "kept" then return kept:retain() end
      end }
      local conn = dial()
      conn:write("nothing\nstring\nslice\nview\nlist\nkeep\nkept\n")
      for _, answer in ipairs { "a string", "a slice", "iew", "a list", "keep" } do
        assert.equal(answer, line_of(conn))
      end
      kept:release()
      conn:close()
    end)

    it("with what the handler itself writes, in its order", function()
      start { handle = function(message, conn)
        conn:write("before ")
        conn:put(message):put_u8(33):put("\n")
        return "after"
      end }
      local conn = dial()
      conn:write("this\nthat\n")
      for _, answer in ipairs { "before this!", "after", "before that!", "after" } do
        assert.equal(answer, line_of(conn))
      end
      conn:close()
    end)

    it("large messages without a copy of their bytes in Lua", function()
      start { codec = frame.new { whole = true }, handle = echo }
      local conn = dial()
      local size = 300000
      local bytes = "\0\4\147\224" .. helper.pattern(size)
      assert.equal(bytes:byte(2) * 65536 + bytes:byte(3) * 256 + bytes:byte(4), size)
      neap.spawn(function() conn:write { bytes, bytes } end)
      for _ = 1, 2 do
        local got = assert(conn:read(#bytes))
        assert.is_true(got:equals(bytes))
        got:release()
      end
      conn:close()
    end)

    it("many connections at once", function()
      start { handle = echo }
      local conns = {}
      for i = 1, 200 do
        conns[i] = dial()
        conns[i]:write("first " .. i .. "\n")
      end
      for i = 1, 200 do
        assert.equal("first " .. i, line_of(conns[i]))
        conns[i]:write("second " .. i .. "\n")
      end
      for i = 1, 200 do
        assert.equal("second " .. i, line_of(conns[i]))
        conns[i]:close()
      end
      until_stats("open", 0)
    end)
  end)

  describe("a handler", function()
    it("may wait, while others are served, and its connection keeps its order", function()
      local gate = neap.channel(1)
      start { handle = function(message)
        if message:equals("wait") then assert(gate:receive()) end
        return message -- still what it was
      end }
      local slow, quick = dial(), dial()
      slow:write("wait\nthen\n")
      quick:write("now\n")
      assert.equal("now", line_of(quick))
      assert.equal(0, slow:buffered())
      assert.equal(1, server:stats().in_flight)
      quick:write("again\n")
      assert.equal("again", line_of(quick))
      gate:send("go")
      assert.equal("wait", line_of(slow))
      assert.equal("then", line_of(slow))
      slow:close()
      quick:close()
    end)

    it("has its message and parts of it when it has waited for long", function()
      local gate = neap.channel(1)
      start { handle = function(message)
        if message:equals("wait for me") then
          local part = message:sub(0, 4)
          assert(gate:receive())
          assert.equal("wait", part:str())
        end
        return message
      end }
      local slow, quick = dial(), dial()
      slow:write("wait for me\n")
      until_stats("in_flight", 1)
      for i = 1, 100 do
        quick:write(("x\n"):rep(100))
        helper.turn_until(function() return server:stats().messages == 1 + i * 100 end)
        for _ = 1, 100 do assert.equal("x", line_of(quick)) end
      end
      gate:send("go")
      assert.equal("wait for me", line_of(slow))
      slow:close()
      quick:close()
    end)

    it("sends what it answered before it waits", function()
      local gate = neap.channel(1)
      start { handle = function(message)
        if message:equals("wait") then assert(gate:receive()) end
        return message
      end }
      local conn = dial()
      conn:write("one\ntwo\nwait\n")
      assert.equal("one", line_of(conn))
      assert.equal("two", line_of(conn))
      gate:send("go")
      assert.equal("wait", line_of(conn))
      conn:close()
    end)

    it("may read on its connection what follows the message", function()
      start { handle = function(message, conn)
        local n = tonumber(message:str():match("^body (%d+)$"))
        if not n then return message end
        assert(conn:read_line()):release() -- the message itself
        local body = assert(conn:read(n))
        return { "got ", body }
      end }
      local conn = dial()
      conn:write("before\nbody 5\nhel")
      helper.turn()
      conn:write("lobody 0\nafter\n")
      for _, answer in ipairs { "before", "got hello", "got ", "after" } do
        assert.equal(answer, line_of(conn))
      end
      conn:close()
    end)

    it("that raises ends its connection alone, is told with its peer and message", function()
      local failed
      start {
        handle = function(message)
          if message:equals("raise") then error("oh no") end
          return message
        end,
        fail = function(_, text, name)
          failed = { text, name }
          return "sorry"
        end,
      }
      local conn, other = dial(), dial()
      conn:write("fine\nraise\nnever\n")
      assert.equal("fine\nsorry\n", rest_of(conn))
      assert.matches("oh no", failed[1])
      assert.equal("error", failed[2])
      assert.equal(1, #said)
      assert.matches("a task ended in an error: .*serve_spec.lua:%d+: oh no", said[1].message)
      assert.matches("^tcp://127.0.0.1:%d+, its message view of 5 bytes \"raise\"$",
        said[1].fields.serving)
      other:write("still here\n")
      assert.equal("still here", line_of(other))
      local stats = server:stats()
      assert.equal(1, stats.error)
      assert.equal(0, stats.in_flight)
      conn:close()
      other:close()
    end)

    it("that raises after a wait is no different", function()
      start {
        handle = function()
          neap.sleep(0)
          error("late")
        end,
        fail = function() return "x" end,
      }
      local conn = dial()
      conn:write("a\nb\n")
      assert.equal("x\n", rest_of(conn))
      conn:close()
      assert.equal(0, server:stats().in_flight)
    end)

    it("fails a message with nil, text, name", function()
      local closed
      start {
        handle = function() return nil, "no such thing", "missing", 404 end,
        fail = function(_, text, name, detail) return name .. ": " .. text .. " " .. detail end,
        close = function(_, why) closed = why end,
      }
      local conn = dial()
      conn:write("x\ny\n")
      assert.equal("missing: no such thing 404\n", rest_of(conn))
      assert.equal(1, server:stats().missing)
      helper.turn_until(function() return closed end)
      assert.equal("missing", closed)
      conn:close()
    end)

    it("may close its connection", function()
      local closed
      start {
        handle = function(_, conn)
          conn:write("bye\n")
          conn:close()
          return "never sent"
        end,
        close = function(conn, why) closed = { conn, why } end,
      }
      local conn = dial()
      conn:write("x\ny\n")
      assert.equal("bye\n", rest_of(conn))
      helper.turn_until(function() return closed end)
      assert.equal("closed", closed[2])
      conn:close()
    end)

    it("finds a stale view when it comes back to one", function()
      local kept
      start { handle = function(message)
        if kept then return tostring(kept) end
        kept = message
        return message
      end }
      local conn = dial()
      conn:write("first\n")
      assert.equal("first", line_of(conn))
      conn:write("second\n")
      assert.equal("view (stale)", line_of(conn))
      conn:close()
    end)
  end)

  -- Where many messages are here they are handled in one go, and answers that are the very bytes
  -- that came leave together: nothing of that shows.
  describe("one of many messages that came together", function()
    local COUNT = 12
    local codec = frame.new { length = "u8", whole = true }
    local gate

    local function message(text) return string.char(#text) .. text end

    -- What the special one of the messages does, and what it answers.
    local kinds = {
      echoes = { function(m) return m end, message "special" },
      ["answers with a part"] = { function(m) return m:sub(1, 3) end, "spe" },
      ["answers with a string"] = { function() return "text" end, "text" },
      ["answers with a slice"] = { function(m) return m:retain() end, message "special" },
      ["answers with a list"] = { function(m) return { "<", m, ">" } end,
        "<" .. message "special" .. ">" },
      ["answers nothing"] = { function() end, "" },
      writes = { function(m, conn)
        conn:write("written ")
        return m
      end, "written " .. message "special" },
      ["puts its answer"] = { function(m, conn)
        conn:put(m)
        conn:put_u8(33)
      end, message "special" .. "!" },
      waits = { function(m)
        neap.sleep(0)
        return m
      end, message "special" },
      ["lets the peer see what was answered before, and waits"] = { function(m)
        assert(gate:receive())
        return m
      end, message "special" },
      peeks = { function(m, conn)
        local view = conn:peek(8)
        return view:str()
      end, message "special" },
      ["asks what is there"] = { function(m, conn)
        assert.is_true(conn:buffered() >= #m)
        return m
      end, message "special" },
      ["reads itself"] = { function(_, conn)
        local own = assert(conn:read(8))
        return { "(", own, ")" }
      end, "(" .. message "special" .. ")" },
      ["skips itself and the next one"] = { function(m, conn)
        local n = #m
        assert(conn:skip(n))
        local rest = assert(conn:read(2))
        return { "skipped with ", rest }
      end, "skipped with ", skips = true },
      ["waits and reads itself"] = { function(_, conn)
        neap.sleep(0)
        local own = assert(conn:read(8))
        return own
      end, message "special" },
      raises = { function() error("on purpose") end, "failed: error", ends = true },
      ["raises after a wait"] = { function()
        neap.sleep(0)
        error("on purpose")
      end, "failed: error", ends = true },
      ["fails the message"] = { function() return nil, "no", "refused" end, "failed: refused",
        ends = true },
      closes = { function(_, conn)
        conn:close()
        return "never"
      end, "", ends = true },
    }

    for name, kind in pairs(kinds) do
      it(name .. ", wherever it stands", function()
        for at = 1, COUNT do
          gate = neap.channel(1)
          start {
            codec = codec,
            handle = function(m, conn)
              if m:sub(1, #m - 1):equals("special") then return kind[1](m, conn) end
              return m
            end,
            fail = function(_, _, why) return "failed: " .. why end,
          }
          local sent, before, after = {}, "", ""
          for i = 1, COUNT do
            sent[i] = message(i == at and "special" or tostring(i % 10))
            if i < at then before = before .. sent[i] end
            if i > at then after = after .. sent[i] end
          end
          if kind.ends then after = "" end
          if kind.skips then
            sent[#sent + 1] = "\1z"
            after = after .. "\1z"
          end
          local conn = dial()
          conn:write(table.concat(sent))
          conn:shutdown()
          local got = ""
          if name:find("lets the peer see") then
            while #got < #before do
              local chunk = assert(conn:read_any())
              got = got .. chunk:str()
              chunk:release()
            end
            assert.equal(before, got)
            gate:send(true)
          end
          got = got .. rest_of(conn)
          conn:close()
          assert.equal(before .. kind[2] .. after, got)
          server:stop(0)
        end
      end)
    end

    it("is named when its handler raises", function()
      start { codec = codec, handle = function(m)
        if m:sub(1, #m - 1):equals("special") then error("on purpose") end
        return m
      end }
      local conn = dial()
      conn:write(message("a"):rep(9) .. message("special") .. message("b"):rep(9))
      assert.equal(message("a"):rep(9), rest_of(conn))
      assert.matches('its message view of 8 bytes ".special"$', said[1].fields.serving)
      conn:close()
    end)

    it("finds its peer gone", function()
      gate = neap.channel(1)
      local closed
      start { codec = codec, handle = function(m)
        if m:sub(1, #m - 1):equals("special") then gate:receive() end
        return m
      end, close = function(_, why) closed = why end }
      local peer = helper.dial(server.address)
      peer:send(message("a"):rep(9) .. message("special") .. message("b"):rep(9))
      until_stats("in_flight", 1)
      peer:reset()
      helper.turn()
      gate:send(true)
      helper.turn_until(function() return closed end)
      assert.equal("reset", closed)
    end)
  end)

  describe("a connection", function()
    it("is greeted, and its end is told", function()
      local events = {}
      start {
        open = function(conn)
          events[#events + 1] = "open " .. conn.peer
          return "welcome"
        end,
        handle = echo,
        close = function(conn, why) events[#events + 1] = "close " .. tostring(why) end,
      }
      local conn = dial()
      assert.equal("welcome", line_of(conn))
      conn:write("x\n")
      assert.equal("x", line_of(conn))
      conn:close()
      helper.turn_until(function() return #events == 2 end)
      assert.matches("^open tcp://127.0.0.1:%d+$", events[1])
      assert.equal("close nil", events[2])
    end)

    it("may be greeted by a function that waits", function()
      start { open = function() neap.sleep(0.001) return "welcome" end, handle = echo }
      local conn = dial()
      conn:write("early\n")
      assert.equal("welcome", line_of(conn))
      assert.equal("early", line_of(conn))
      conn:close()
    end)

    it("is the same object for each message, so that tables can be keyed by it", function()
      local seen = {}
      start { handle = function(_, conn)
        seen[conn] = (seen[conn] or 0) + 1
        return tostring(seen[conn])
      end }
      local one, two = dial(), dial()
      for i = 1, 3 do
        one:write("x\n")
        assert.equal(tostring(i), line_of(one))
      end
      two:write("x\n")
      assert.equal("1", line_of(two))
      one:close()
      two:close()
    end)

    it("may be written to and closed by anybody", function()
      local members, reasons = {}, {}
      start {
        open = function(conn) members[#members + 1] = conn end,
        handle = function(message)
          for _, member in ipairs(members) do member:put(message):put("\n") end
        end,
        close = function(_, why) reasons[#reasons + 1] = why end,
      }
      local one, two = dial(), dial()
      helper.turn_until(function() return #members == 2 end)
      one:write("to all\n")
      assert.equal("to all", line_of(one))
      assert.equal("to all", line_of(two))
      members[1]:close()
      members[2]:close()
      assert.equal("", rest_of(one))
      assert.equal("", rest_of(two))
      helper.turn_until(function() return #reasons == 2 end)
      assert.same({ "closed", "closed" }, reasons)
      assert.equal(0, server:stats().open)
      one:close()
      two:close()
    end)

    it("that ends inside a message, or is reset, is counted and told", function()
      local reasons = {}
      start { handle = echo, close = function(_, why) reasons[#reasons + 1] = why end }
      local conn = dial()
      conn:write("half")
      conn:shutdown()
      assert.equal("", rest_of(conn))
      conn:close()
      local peer = helper.dial(server.address)
      peer:send("half")
      helper.turn()
      peer:reset()
      helper.turn_until(function() return #reasons == 2 end)
      assert.same({ "short", "reset" }, reasons)
      assert.equal(1, server:stats().short)
      assert.equal(1, server:stats().reset)
      assert.matches("serving tcp://127.0.0.1:%d+: the peer closed its side before all bytes came, "
        .. "4 bytes into a message", said[1].message)
    end)

    it("that half-closes gets the answers to all that it sent", function()
      start { handle = function(message) neap.sleep(0) return message end }
      local conn = dial()
      conn:write("a\nb\nc\n")
      conn:shutdown()
      assert.equal("a\nb\nc\n", rest_of(conn))
      conn:close()
    end)
  end)

  describe("limits", function()
    local failures

    before_each(function() failures = {} end)

    local function fail(_, text, name)
      failures[#failures + 1] = name .. ": " .. text
      return name
    end

    it("a message, before it comes and while it does", function()
      start({ codec = frame.new { max = 1e6 }, handle = echo, fail = fail },
        { max_message = 1000 })
      local conn = dial()
      conn:write("\0\0\3\229" .. ("x"):rep(10)) -- 997 and a header
      assert.equal("\0\0\0\9oversized", rest_of(conn))
      conn:close()
      server:stop(0)
      start({ handle = echo, fail = fail }, { max_message = 100 })
      conn = dial()
      neap.spawn(function() conn:write(("x"):rep(1000)) end)
      assert.equal("oversized\n", rest_of(conn))
      conn:close()
      assert.same({ "oversized: a message of more than 1000 bytes",
        "oversized: a message of more than 100 bytes" }, failures)
      assert.equal(1, server:stats().oversized)
    end)

    it("what a codec calls wrong", function()
      start({ codec = frame.new { length = "netstring" }, handle = echo, fail = fail })
      local conn = dial()
      conn:write("1:a,2:xyz")
      assert.equal("1:a,9:malformed,", rest_of(conn))
      conn:close()
      assert.same({ "malformed: a netstring ends with a comma" }, failures)
      assert.equal(1, server:stats().malformed)
    end)

    it("connections, in all and from one address", function()
      start({ handle = echo }, { max_connections = 2 })
      local one, two, three = dial(), dial(), dial()
      for _, conn in ipairs { one, two, three } do conn:write("x\n") end
      assert.equal("x", line_of(one))
      assert.equal("x", line_of(two))
      assert.equal(2, server:stats().open)
      two:close()
      assert.equal("x", line_of(three)) -- it waited for its turn
      one:close()
      three:close()
      server:stop(0)
      start({ handle = echo }, { max_per_address = 2 })
      one, two, three = dial(), dial(), dial()
      assert.equal("", rest_of(three))
      one:write("x\n")
      assert.equal("x", line_of(one))
      assert.equal(1, server:stats().refused_per_address)
      three:close()
      two:close()
      until_stats("open", 1)
      three = dial()
      three:write("x\n")
      assert.equal("x", line_of(three))
      one:close()
      three:close()
    end)

    it("messages in flight; the others wait, and come in turn", function()
      local gate = neap.channel(10)
      local running, most = 0, 0
      start({ handle = function(message)
        running = running + 1
        most = math.max(most, running)
        assert(gate:receive())
        running = running - 1
        return message
      end }, { max_in_flight = 2 })
      local conns = {}
      for i = 1, 5 do
        conns[i] = dial()
        conns[i]:write(i .. "\n")
      end
      until_stats("paused_in_flight", 3)
      conns[4]:close() -- while it waits for its turn
      for _ = 1, 5 do gate:send(true) end
      for _, i in ipairs { 1, 2, 3, 5 } do
        assert.equal(tostring(i), line_of(conns[i]))
        conns[i]:close()
      end
      assert.equal(2, most)
      until_stats("open", 0)
      assert.equal(0, server:stats().in_flight)
    end)

    it("answers that a peer does not read, and how long it may leave them", function()
      local clock = testing.clock()
      finally(function() clock:release() end)
      start({ handle = function() return ("x"):rep(100000) end },
        { send_timeout = 5, idle_timeout = 0 })
      local peer = helper.dial(server.address)
      peer:send(("y\n"):rep(1000))
      clock:advance(1)
      local stats = server:stats()
      assert.is_true(stats.paused_full >= 1)
      assert.is_true(stats.messages < 200)
      assert.equal(1, stats.in_flight)
      clock:advance(3)
      assert.equal(1, server:stats().open)
      clock:advance(2)
      assert.equal(0, server:stats().open)
      assert.equal(1, server:stats().unread)
      clock:advance(3) -- what closes is cut
    end)

    it("the time of a message, from its first byte to its last", function()
      local clock = testing.clock()
      finally(function() clock:release() end)
      start({ handle = echo, fail = fail }, { message_timeout = 8 })
      local silent, slow, good = dial(), dial(), dial()
      slow:write("a")
      good:write("b")
      for _ = 1, 7 do
        clock:advance(1)
        slow:write("a") -- always something, and never a whole one
      end
      good:write("\nc")
      clock:advance(2)
      assert.equal("timeout\n", rest_of(slow))
      assert.equal("b", line_of(good))
      clock:advance(5)
      good:write("\n")
      clock:advance(0)
      assert.equal("c", line_of(good))
      assert.equal(2, server:stats().open)
      assert.equal(1, server:stats().timeout)
      assert.same({ "timeout: a message took more than 8 s to come" }, failures)
      for _, conn in ipairs { silent, slow, good } do conn:close() end
    end)

    it("the time without traffic", function()
      local clock = testing.clock()
      finally(function() clock:release() end)
      local why
      start({ handle = echo, close = function(_, reason) why = reason end }, { idle_timeout = 5 })
      local conn = dial()
      clock:advance(4)
      conn:write("x\n")
      clock:advance(4)
      assert.equal("x", line_of(conn))
      clock:advance(2)
      assert.equal("timeout", why)
      assert.equal(1, server:stats().timeout)
      assert.same({}, said) -- it had nothing to say any more: counted, and no news
      assert.equal("", rest_of(conn))
      conn:close()
    end)

    it("the time of a handler", function()
      local clock = testing.clock()
      finally(function() clock:release() end)
      start({ handle = function(message)
        if message:equals("slow") then
          local ok, text, name = neap.sleep(10)
          if not ok then return nil, text, name end
        end
        return message
      end, fail = fail }, { handle_timeout = 3 })
      local conn = dial()
      conn:write("quick\nslow\n")
      clock:advance(2)
      assert.equal("quick", line_of(conn))
      clock:advance(2)
      assert.equal("timeout\n", rest_of(conn))
      conn:close()
    end)

    it("the time of each wait of a handler on its connection, which may have another", function()
      local clock = testing.clock()
      finally(function() clock:release() end)
      local limits = { none = false, short = 2 }
      start({ handle = function(message, conn)
        local text = message:str()
        conn:skip(#text + 1) -- the message itself
        local limit = limits[text]
        if limit ~= nil then conn:set_timeout(limit or nil) end
        local more, _, name = conn:read_line()
        if not more then return name .. " of " .. text .. "\n" end
        more:release()
        return "in time\n"
      end }, { timeout = 5, idle_timeout = 0 })
      for text, seconds in pairs { usual = 5, short = 2, none = 1000 } do
        local conn = dial()
        conn:write(text .. "\n")
        clock:advance(seconds - 1)
        conn:write(text == "none" and "late\n" or "")
        clock:advance(1.5)
        assert.equal(text == "none" and "in time" or "timeout of " .. text, line_of(conn))
        conn:close()
        helper.turn()
      end
    end)
  end)

  -- Each state that a peer who does next to nothing can hold a connection in, with the limit that
  -- ends it. `every` is what it sends each second, to look alive.
  describe("a slow loris", function()
    local TIMES = { idle_timeout = 10, message_timeout = 8, send_timeout = 5, handle_timeout = 4 }
    local states = {
      { "that says nothing", ends = "timeout", within = 11 },
      { "that stops inside a length", first = "\0\3", ends = "timeout", within = 10 },
      { "that sends a payload byte by byte", first = "\0\0\3\232", every = "x", ends = "timeout",
        within = 10 },
      { "that begins a message behind a whole one", first = "\0\0\0\1x\0\0\3", ends = "timeout",
        within = 10 },
      { "that reads no answers", first = ("\0\0\0\4many"):rep(200), ends = "unread", within = 8 },
      { "whose message waits in its handler", first = "\0\0\0\4wait", every = "\0",
        ends = "timeout", within = 6 },
      { "that goes on after a message was refused", first = "\255\255\255\255", every = "x",
        ends = "oversized", within = 1 },
    }
    for _, state in ipairs(states) do
      it(state[1] .. " is gone in time, and others are served meanwhile", function()
        local clock = testing.clock()
        finally(function() clock:release() end)
        local why
        start({
          codec = frame.new(),
          handle = function(message)
            if message:equals("many") then return ("x"):rep(100000) end
            if message:equals("wait") then
              local ok, text, name = neap.sleep(100)
              if not ok then return nil, text, name end
            end
            return message
          end,
          close = function(_, reason) why = why or reason end,
        }, TIMES)
        local streams = helper.net_stats().streams
        local peer = helper.dial(server.address)
        if state.first then peer:send(state.first) end
        for second = 1, state.within do
          clock:advance(1)
          if state.every and not why then pcall(peer.send, peer, state.every) end
          if second == 1 then
            local other = dial()
            other:write("\0\0\0\5hello")
            clock:advance(0)
            local got = assert(other:read(9))
            got:release()
            other:close()
            clock:advance(0)
          end
        end
        assert.equal(state.ends, why)
        assert.equal(0, server:stats().open)
        assert.equal(0, server:stats().in_flight)
        clock:advance(3) -- a closing connection without progress is cut after 2 s
        assert.is_true(helper.net_stats().streams <= streams)
      end)
    end
  end)

  describe("when it stops", function()
    it("closes who has nothing to do, and lets the others finish", function()
      local gate = neap.channel(1)
      local reasons = {}
      start {
        handle = function(message)
          if message:equals("wait") then assert(gate:receive()) end
          return message
        end,
        close = function(_, why) reasons[#reasons + 1] = why end,
      }
      local idle, busy, partial = dial(), dial(), dial()
      idle:write("x\n")
      assert.equal("x", line_of(idle))
      busy:write("wait\nlast\n")
      partial:write("begun")
      until_stats("messages", 2)
      helper.turn()
      local stopped = helper.task(function() return server:stop() end)
      assert.equal("", rest_of(idle))
      local refused, _, name = neap.connect(server.address or "tcp://127.0.0.1:1")
      assert.is_nil(refused)
      assert.equal("refused", name)
      partial:write(" and ended\n")
      assert.equal("begun and ended\n", rest_of(partial))
      gate:send(true)
      assert.equal("wait\nlast\n", rest_of(busy))
      assert.is_true(stopped())
      helper.turn_until(function() return #reasons == 3 end)
      assert.same({ "stopped", "stopped", "stopped" }, reasons)
      for _, conn in ipairs { idle, busy, partial } do conn:close() end
    end)

    it("cuts what is not done in time, and says so", function()
      local cancelled
      start { handle = function()
        local _, _, name = neap.sleep(100)
        cancelled = name
      end }
      local conn = dial()
      conn:write("x\n")
      until_stats("in_flight", 1)
      local ok, message, name = server:stop(0.01)
      assert.is_nil(ok)
      assert.equal("server:stop: 1 connections were cut", message)
      assert.equal("timeout", name)
      assert.equal("", rest_of(conn))
      helper.turn_until(function() return cancelled end)
      assert.equal("cancelled", cancelled)
      assert.equal(1, server:stats().cut)
      conn:close()
    end)

    it("waits for no more than a message of a peer that is always in the middle of one", function()
      start { handle = echo }
      local conn, answers = dial(), 0
      conn:write("x\nx")
      local client = helper.task(function()
        while line_of(conn) do
          answers = answers + 1
          conn:write("\nx")
        end
      end)
      helper.turn_until(function() return answers > 100 end)
      local before = answers
      assert.is_true(server:stop())
      client()
      assert.is_true(answers - before <= 2, answers - before .. " answers since")
      assert.equal(server:stats().messages, answers)
      conn:close()
    end)

    it("loses no answer under load", function()
      start { handle = function(message)
        if #message % 3 == 0 then neap.sleep(0) end
        return message
      end }
      local handled = {}
      local clients = {}
      for i = 1, 20 do
        clients[i] = helper.task(function()
          local conn = dial()
          handled[i] = 0
          neap.spawn(function()
            for n = 1, 1e6 do
              if n > 20000 or not conn:write("message " .. n .. "\n") then return end
              if n % 20 == 0 then neap.sleep(0) end
            end
          end)
          local text, _, name = line_of(conn)
          while text do
            handled[i] = handled[i] + 1
            assert.equal("message " .. handled[i], text)
            text, _, name = line_of(conn)
          end
          assert.is_true(name == "eof" or name == "reset", name) -- it still sends
          conn:close()
        end)
      end
      helper.turn_until(function() return server:stats().messages > 2000 end)
      assert.is_true(server:stop())
      local sum = 0
      for i = 1, 20 do
        clients[i]()
        sum = sum + handled[i]
      end
      assert.equal(server:stats().messages, sum) -- all that were handled were answered
    end)

    it("lets what its handler holds be collected, whatever had begun to come", function()
      local held = setmetatable({}, { __mode = "v" })
      local function serve()
        local what = {}
        held[1] = what
        start { handle = function(message) return what and message end }
      end
      serve()
      local conn = dial()
      conn:write("x\nbegun")
      assert.equal("x", line_of(conn))
      conn:close()
      assert.is_true(server:stop())
      server = nil
      helper.turn() -- in which its workers end
      jit.flush()   -- a trace has the handler
      for _ = 1, 4 do collectgarbage() end -- one weak table leads to another
      assert.is_nil(held[1])
    end)

    it("only stops listening when it is closed", function()
      start { handle = echo }
      local address = server.address
      local conn = dial()
      conn:write("x\n")
      assert.equal("x", line_of(conn))
      server:close()
      server:close()
      assert.is_nil(server.address)
      assert.equal("refused", select(3, neap.connect(address)))
      conn:write("y\n")
      assert.equal("y", line_of(conn))
      conn:close()
    end)
  end)

  it("has no task while its connections are idle", function()
    start { handle = echo }
    local conns = {}
    for i = 1, 50 do
      conns[i] = dial()
      conns[i]:write("x\n")
      assert.equal("x", line_of(conns[i]))
    end
    assert.equal(0, server:stats().in_flight)
    assert.equal(50, server:stats().open)
    for i = 1, 50 do conns[i]:close() end
  end)

  it("raises for protocols and options that are none #sizes", function()
    local function serve(protocol, options)
      return function() return (neap.serve("tcp://127.0.0.1:0", protocol, options)) end
    end
    local codec = line.new()
    raises("protocol must be a table, got nil", serve(nil))
    raises("the protocol needs a codec with a function decode", serve { handle = echo })
    raises("the protocol needs a codec", serve { codec = {}, handle = echo })
    raises("the protocol needs a function handle", serve { codec = codec })
    raises("handle must be a function, got string", serve { codec = codec, handle = "x" })
    raises("a protocol has no on_message", serve { codec = codec, on_message = echo })
    raises("max_read is called max_message here",
      serve({ codec = codec, handle = echo }, { max_read = 5 }))
    raises('neap.serve: no option "x"', serve({ codec = codec, handle = echo }, { x = 5 }))
    for wrong, meant in pairs { max_mesage = "max_message", backlogs = "backlog" } do
      raises(("neap.serve: no option %q (is it %s?)"):format(wrong, meant),
        serve({ codec = codec, handle = echo }, { [wrong] = 5 }))
    end
    raises("max_message must be at least 1",
      serve({ codec = codec, handle = echo }, { max_message = 0 }))
    raises("max_queued must be at least 65536",
      serve({ codec = codec, handle = echo }, { max_queued = 1000 }))
    raises("message_timeout must be", serve({ codec = codec, handle = echo },
      { message_timeout = -1 }))
    assert.equal("address", select(3, neap.serve("nonsense", { codec = codec, handle = echo })))
    raises("server:stats: called on table, not on a server",
      function() start { handle = echo }.stats({}) end)
    raises("it has no fields to set", function() server.x = 1 end)
  end)

  it("raises for a codec that takes no bytes, or more than there are", function()
    for _, taken in ipairs { 0, -1, 1.5, 3, "2", false } do
      said = {}
      start { codec = { decode = function() return "message", taken or nil end }, handle = echo }
      local conn = dial()
      conn:write("xy")
      assert.equal("", rest_of(conn))
      assert.matches("decode took .* of 2 bytes", said[1].message)
      conn:close()
      server:stop(0)
    end
  end)
end)
end)
