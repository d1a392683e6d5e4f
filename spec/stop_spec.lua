-- How a program ends: neap.stop(), and the signals that do the same.

local bit = require("bit")
local helper = require("spec.helper")
local neap = require("neap")

-- A server in a process of its own, which says where it listens.
local function start(text, options)
  local script = helper.file(([[
    local neap = require("neap")
    local function say(...) print(...) io.stdout:flush() end
    %s
    say(listener.address)
  ]]):format(text))
  local child = helper.start(("%s %s %s"):format(helper.neap, options or "", script))
  return child, (child:line() or child:finish().err)
end

local function seconds_of(fn)
  local clock = require("neap.abi").C
  local loop = require("neap.task").loop
  local before = clock.neap_loop_now(loop)
  fn()
  return clock.neap_loop_now(loop) - before
end

local function line_of(conn)
  local line = assert(conn:read_line())
  local text = line:str()
  line:release()
  return text
end

-- Sends a signal, and waits until the child has begun to stop: it catches that one no more.
local function stop(child, signal)
  local number = signal == "INT" and 2 or 15
  child:kill(signal)
  helper.turn_until(function()
    local file = assert(io.open("/proc/" .. child.pid .. "/status"))
    local caught = tonumber(file:read("*a"):match("SigCgt:%s*%x*(%x%x%x%x%x%x%x%x)\n"), 16)
    file:close()
    return bit.band(caught, bit.lshift(1, number - 1)) == 0
  end)
end

-- Answers a line once it got another one, in the middle of which it waits in a read.
local answers_later = [[
  local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
    while true do
      local line, _, name = conn:read_line()
      if not line then say("handler", name) return end
      line:release()
      say("asked")
      neap.sleep(DELAY)
      conn:write("answer\n")
    end
  end))]]

-- Says so once nothing is accepted any more: the signal may have come a turn before that.
local tells_ending = [[
  local is_ending, told = require("neap.loop").is_ending, false
  neap.every(0.01, function()
    if is_ending() and not told then
      told = true
      say("ending")
    end
  end)
]]

describe("a stop", function()
  helper.watch(before_each, after_each)

  for _, signal in ipairs { "INT", "TERM" } do
    it("by SIG" .. signal .. " lets a handler finish, and accepts nobody", function()
      local child, address = start(tells_ending .. answers_later:gsub("DELAY", "0.3"))
      local conn = assert(neap.connect(address))
      conn:write("question\n")
      conn:flush()
      assert.equal("asked", child:line())
      stop(child, signal)
      assert.equal("ending", child:line())
      local late = assert(neap.connect(address)) -- the system takes it, and nobody else
      late:write("question\n")
      assert.equal("answer", line_of(conn))
      assert.equal("eof", (select(3, conn:read(1))))
      local run = child:finish()
      assert.equal("handler\tcancelled\n", run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
      assert.is_nil((late:read(1)))
      late:close()
      conn:close()
    end)
  end

  it("finishes what is pipelined in a connection", function()
    local child, address = start((answers_later:gsub("DELAY", "0.01")))
    local conn = assert(neap.connect(address))
    conn:write(("question\n"):rep(20))
    conn:flush()
    assert.equal("asked", child:line())
    child:kill("TERM")
    for _ = 1, 20 do assert(conn:read_line()):release() end
    assert.equal("eof", (select(3, conn:read(1))))
    assert.equal(0, child:finish().status)
    conn:close()
  end)

  it("cuts what is not finished by its deadline, says whom, and lets it clean up", function()
    local child, address = start([[
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        neap.scope(function(scope)
          scope:defer(function() neap.sleep(0.2) say("cleaned up") end)
          say("asked")
          say(select(3, neap.sleep(1000)))
        end)
      end))]], "--stats --stop-timeout=0.1")
    local conn = assert(neap.connect(address))
    conn:flush()
    assert.equal("asked", child:line())
    child:kill("TERM")
    local run = child:finish()
    assert.equal("cancelled\ncleaned up\n", run.out)
    assert.matches("stopped in the middle of 1 connection, after 0.1 s: tcp://127.0.0.1:%d+\n",
      run.err)
    assert.matches("\nconnections.stop_cut 1\n", run.err, 1, true)
    assert.equal(0, run.status)
    conn:close()
  end)

  it("cuts cleaning up as well, after 2 s", function()
    local child = start([[
      local listener = assert(neap.listen("unix://@]] .. helper.temporary_name() .. [[", print))
      neap.spawn(function()
        neap.scope(function(scope)
          scope:defer(function() while true do neap.next_turn() end end)
          neap.sleep(1000)
        end)
      end)
      neap.next_turn = require("neap.task").next_turn]])
    child:kill("TERM")
    local run
    local took = seconds_of(function() run = child:finish() end)
    assert.matches("stopped before 1 task had cleaned up\n", run.err, 1, true)
    assert.equal(0, run.status)
    assert.is_true(took > 1.9 and took < 60, took .. " s")
  end)

  it("does not wait for connections that are idle, for background tasks, nor for timers", function()
    local child, address = start((answers_later:gsub("DELAY", "0")) .. [[
      neap.spawn(function() while true do neap.sleep(0.05) end end)
      neap.every(0.05, function() neap.sleep(1000) end)]], "--stop-timeout=60")
    local conn = assert(neap.connect(address))
    conn:write("question\n")
    assert(conn:read_line()):release()
    local run
    local took = seconds_of(function()
      child:kill("TERM")
      run = child:finish()
    end)
    assert.equal("asked\nhandler\tcancelled\n", run.out)
    assert.equal("", run.err)
    assert.is_true(took < 50, took .. " s") -- or it would be 60
    conn:close()
  end)

  it("waits for one who is in the middle of a message", function()
    local child, address = start([[
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        assert(conn:peek(4))
        say("it came")
        conn:write(assert(conn:read_line()))
        conn:write("\n")
      end))]], "--stop-timeout=60")
    local conn = assert(neap.connect(address))
    conn:write("ques")
    conn:flush()
    assert.equal("it came", child:line())
    child:kill("TERM")
    neap.sleep(0.6) -- in which it would have ended
    conn:write("tion\n")
    assert.equal("question", line_of(conn))
    assert.equal(0, child:finish().status)
    conn:close()
  end)

  it("waits for a handler that waits for an answer from elsewhere", function()
    local child, address = start([[
      local slow = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        assert(conn:read(1)):release()
        neap.sleep(0.6)
        conn:write("answer\n")
      end))
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        assert(conn:read_line()):release()
        local other = assert(neap.connect(slow.address))
        other:write("x")
        say("asked")
        conn:write(assert(other:read_line()))
        conn:write("\n")
        other:close()
      end))]], "--stop-timeout=60")
    local conn = assert(neap.connect(address))
    conn:write("question\n")
    conn:flush()
    assert.equal("asked", child:line())
    child:kill("TERM")
    assert.equal("answer", line_of(conn))
    assert.equal(0, child:finish().status)
    conn:close()
  end)

  it("is over at once when a second signal comes, the same or another", function()
    for second, status in pairs { TERM = 143, INT = 0 } do
      local child, address = start((answers_later:gsub("DELAY", "1000")), "--stop-timeout=300")
      local conn = assert(neap.connect(address))
      conn:write("question\n")
      conn:flush()
      assert.equal("asked", child:line())
      stop(child, "TERM")
      child:kill(second)
      assert.equal(status, child:finish().status)
      conn:close()
    end
  end)

  it("takes its time from neap.stop, too", function()
    local run = helper.script([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        print(select(3, neap.sleep(1000)))
      end))
      assert(neap.connect(listener.address))
      neap.sleep(0.01)
      neap.stop(0.05)
    ]])
    assert.equal("cancelled\n", run.out)
    assert.matches("in the middle of 1 connection, after 0.05 s", run.err, 1, true)
    for _, bad in ipairs { -1, 0 / 0, "2", {} } do
      helper.raises("neap.stop: seconds", function() neap.stop(bad) end)
    end
  end)

  it("loses no answer under load", function()
    local child, address = start([[
      local answered = 0
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        for line in conn:lines() do
          answered = answered + 1
          conn:write(line .. "\n")
        end
      end))
      local function tell() say("answered", answered) end
      neap.spawn(function()
        neap.scope(function(scope) scope:defer(tell) neap.sleep(1000) end)
      end)]])
    local got, stopped = 0, false
    local clients = {}
    for i = 1, 20 do
      clients[i] = neap.spawn(function()
        local conn = assert(neap.connect(address))
        while conn:write("question\n") do
          local line = conn:read_line()
          if not line then break end
          line:release()
          got = got + 1
          if got == 2000 then
            stopped = true
            child:kill("TERM")
          end
          if stopped and i % 2 == 0 then break end -- the others go on until they are cut
        end
        conn:close()
      end)
    end
    for i = 1, 20 do clients[i]:join() end
    local run = child:finish()
    assert.equal(("answered\t%d\n"):format(got), run.out)
    assert.equal(0, run.status)
  end)
end)

describe("a stop of a program with neap.serve", function()
  helper.watch(before_each, after_each)

  local function serving(delay)
    return ([[
      local listener = assert(neap.serve("tcp://127.0.0.1:0", {
        codec = require("neap.codec.line").new(),
        handle = function(line)
          if #line > 0 then
            say("asked")
            say("slept", select(3, neap.sleep(%s)))
          end
          return "answer"
        end,
        close = function(_, why) say("closed", why) end,
      }))]]):format(delay)
  end

  it("closes idle connections at once, and lets messages that run be answered", function()
    local child, address = start(serving("0.3"), "--stop-timeout=60")
    local idle, busy = assert(neap.connect(address)), assert(neap.connect(address))
    idle:write("\n")
    assert.equal("answer", line_of(idle))
    busy:write("question\n")
    busy:flush()
    assert.equal("asked", child:line())
    child:kill("TERM")
    assert.equal("eof", (select(3, idle:read(1))))
    assert.equal("answer", line_of(busy))
    assert.equal("eof", (select(3, busy:read(1))))
    local run = child:finish()
    assert.equal("closed\tstopped\nslept\nclosed\tstopped\n", run.out)
    assert.equal("", run.err)
    assert.equal(0, run.status)
    idle:close()
    busy:close()
  end)

  it("cuts the messages that are not finished, and says whose", function()
    local child, address = start(serving("1000"), "--stats --stop-timeout=0.1")
    local conn = assert(neap.connect(address))
    conn:write("question\n")
    conn:flush()
    assert.equal("asked", child:line())
    child:kill("TERM")
    local run = child:finish()
    assert.equal("slept\tcancelled\nclosed\tstopped\n", run.out)
    assert.matches("stopped in the middle of 1 connection, after 0.1 s: tcp://127.0.0.1:%d+\n",
      run.err)
    assert.matches("\nconnections.stop_cut 1\n", run.err, 1, true)
    assert.equal(0, run.status)
    conn:close()
  end)
end)
