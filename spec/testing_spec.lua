local neap = require("neap")
local testing = require("neap.testing")
local helper = require("spec.helper")

-- Runs specs (the body of a describe block that is watched) with the neap command.
local function specs(body, options)
  local text = ([[
local neap = require("neap")
local testing = require("neap.testing")
%s
describe("a block", function()
  testing.watch(before_each, after_each, %s)
  %s
end)
]]):format(jit.status() and "" or "jit.off()", options or "{ settle = 0.2 }", body)
  local name = helper.temporary_directory() .. "/some_spec.lua"
  return helper.sh(("%s test -o TAP %s 2>&1"):format(helper.neap, helper.file(text, name)))
end

local function says(run, text) assert.matches(text, run.out, 1, true) end

local function says_not(run, text) assert.is_nil(run.out:find(text, 1, true), run.out) end

-- Echoes lines; an empty one ends it.
local function echo_lines(conn)
  while true do
    local line, message, name = conn:read_line()
    if name == "eof" then return end
    local text = assert(line, message):str()
    line:release()
    if text == "" then return end
    conn:write(text .. "\n")
  end
end

describe("testing.pair", function()
  helper.watch(before_each, after_each)

  it("makes two connections, each the other's peer", function()
    local one, other = testing.pair()
    assert(one:write("to the other"))
    assert(other:write("to the one"))
    local a, b = assert(one:read(10)), assert(other:read(12))
    assert.equal("to the one", a:str())
    assert.equal("to the other", b:str())
    a:release()
    b:release()
    one:close()
    assert.equal("eof", select(3, other:read(1)))
    other:close()
  end)

  it("takes the options of connections", function()
    local one, other = testing.pair({ max_read = 10, timeout = 0.01 })
    assert.equal("oversized", select(3, one:read(11)))
    assert.equal("timeout", select(3, one:read(10)))
    one:close()
    other:close()
    helper.raises("no option \"port\"", function() testing.pair({ port = 1 }) end)
  end)

  it("ends idle connections in time when nothing else wakes the loop", function()
    local run = helper.script([[
      local neap, testing = require("neap"), require("neap.testing")
      local conn, other = testing.pair({ idle_timeout = 2 })
      local C, loop = require("neap.abi").C, require("neap.task").loop
      local began = C.neap_loop_now(loop)
      print(select(3, conn:read(1)), C.neap_loop_now(loop) - began)
      other:close()
    ]])
    local name, took = run.out:match("^(%a+)%s+([%d.]+)\n")
    assert.equal("timeout", name)
    assert.is_true(tonumber(took) < 60, took .. " s") -- and not never
  end)
end)

describe("testing.cut", function()
  helper.watch(before_each, after_each)

  it("returns the answer that every cut has", function()
    assert.equal("one\ntwo\n", testing.cut("one\ntwo\n\n", echo_lines))
    assert.equal("", testing.cut("", echo_lines))
    assert.equal("x\n", testing.cut("x\n", echo_lines))
  end)

  it("cuts at every byte, and cuts off every byte", function()
    local inputs = {}
    testing.cut("abcd", function(conn)
      local pieces = {}
      for chunk in conn:chunks() do
        pieces[#pieces + 1] = chunk:str()
        chunk:release()
      end
      inputs[#inputs + 1] = table.concat(pieces, "|")
    end)
    assert.same({ "abcd", "a|bcd", "ab|cd", "abc|d", "a|b|c|d" }, inputs)
  end)

  it("finds a handler that takes what is there for a message", function()
    local message = helper.raises("with the input cut after 1 of 6 bytes, the answer differs at "
      .. "byte 2", function()
      testing.cut("abcdef", function(conn)
        for chunk in conn:chunks() do
          conn:write("<")
          conn:write(chunk)
          conn:write(">")
        end
      end) return nil end)
    assert.matches("00000000  3c 61 3e 3c", message, 1, true)
    assert.matches("|<a><bcdef>|", message, 1, true)
    assert.matches("|<abcdef>|", message, 1, true)
  end)

  it("shows long answers around the place where they differ", function()
    local calls = 0
    local message = helper.raises("differs at byte 5000", function()
      testing.cut("ab", function(conn)
        calls = calls + 1
        conn:write(("x"):rep(5000) .. calls .. ("y"):rep(5000))
      end) return nil end)
    assert.matches("10001 bytes, from byte 4976", message, 1, true)
    assert.is_true(#message < 1500)
  end)

  it("names the cut at which the handler raises, with its traceback", function()
    local message = helper.raises("with the input cut after 2 of 3 bytes, the handler raised: ",
      function() testing.cut("abc", function(conn)
        local chunk = conn:read_any()
        local size = #chunk
        chunk:release()
        if size == 2 then error("two at once") end
      end) return nil end)
    assert.matches("two at once", message, 1, true)
    assert.matches("testing_spec.lua", message, 1, true)
  end)

  it("is content with a handler that ends before the input does", function()
    assert.equal("no", testing.cut(("x"):rep(50), function(conn)
      conn:read(1):release()
      conn:write("no")
    end))
  end)

  it("passes an answer larger than what a connection queues", function()
    local answer = testing.cut("ab", function(conn)
      conn:write(("x"):rep(1000000))
      conn:read(2):release()
    end)
    assert.equal(1000000, #answer)
  end)

  it("refuses what is no string and no function, at the caller's line", function()
    helper.raises("bytes must be a string", function() testing.cut(nil, echo_lines) end)
    helper.raises("handler must be a function", function() testing.cut("", {}) end)
  end)
end)

describe("testing.clock", function()
  local clock

  after_each(function() clock:release() end) -- before the look at what is left
  helper.watch(before_each, after_each)
  before_each(function() clock = testing.clock() end)

  it("lets tasks sleep until it is moved there, in the order of their times", function()
    local order = {}
    local function sleeper(seconds, name)
      neap.spawn(function()
        neap.sleep(seconds)
        order[#order + 1] = name
      end)
    end
    sleeper(600, "third")
    sleeper(0.1, "first")
    sleeper(60, "second")
    clock:advance(0)
    assert.same({}, order)
    clock:advance(59.5)
    assert.same({ "first" }, order)
    clock:advance(3600)
    assert.same({ "first", "second", "third" }, order)
  end)

  it("counts sums of fractions as people do", function()
    for _ = 1, 20 do
      local woken = false
      neap.spawn(function()
        neap.sleep(1)
        woken = true
      end)
      for _ = 1, 9 do clock:advance(0.1) end
      assert.is_false(woken)
      clock:advance(0.1)
      assert.is_true(woken)
    end
  end)

  it("lets who is woken go on, and sleep again, before it moves further", function()
    local at = {}
    neap.spawn(function()
      for i = 1, 5 do
        neap.sleep(10)
        at[i] = true
      end
    end)
    clock:advance(39)
    assert.equal(3, #at)
    clock:advance(11)
    assert.equal(5, #at)
  end)

  it("does not keep a sleep of no length waiting", function()
    local woken = 0
    neap.spawn(function()
      for _ = 1, 3 do
        neap.sleep(0)
        woken = woken + 1
      end
    end)
    clock:advance(0)
    assert.equal(3, woken)
    assert(neap.sleep(0))
  end)

  it("moves the timeouts of waits, and a wait that got its bytes has none", function()
    local conn, peer = testing.pair({ timeout = 600 })
    local names = {}
    local reading = neap.spawn(function()
      for _ = 1, 2 do
        local got, _, name = conn:read(1)
        names[#names + 1] = name or got:str()
        if got then got:release() end
      end
    end)
    clock:advance(599)
    peer:write("x")
    clock:advance(599)
    assert.same({ "x" }, names)
    clock:advance(1)
    assert.same({ "x", "timeout" }, names)
    reading:join()
    conn:close()
    peer:close()
  end)

  it("moves idle timeouts, from the last traffic on", function()
    local conn, peer = testing.pair({ idle_timeout = 600 })
    local name
    neap.spawn(function()
      while not name do
        local got, _, why = conn:read(1)
        name = why
        if got then got:release() end
      end
    end)
    for _ = 1, 3 do
      clock:advance(599.8)
      assert.is_nil(name)
      peer:write("x")
      clock:advance(0)
    end
    clock:advance(599.8)
    assert.is_nil(name)
    assert.is_true(math.abs(conn:info().idle - 599.8) < 0.2)
    clock:advance(0.2)
    assert.equal("timeout", name)
    conn:close()
    peer:close()
  end)

  it("lets the I/O of a step happen before the next", function()
    local log = {}
    local conn, served = testing.pair()
    local serving = neap.spawn(function()
      for line in served:lines() do
        log[#log + 1] = "server " .. line
        served:write("re " .. line .. "\n")
      end
      served:close()
    end)
    for i = 1, 3 do
      neap.spawn(function()
        neap.sleep(i)
        conn:write(i .. "\n")
      end)
    end
    local reading = neap.spawn(function()
      for line in conn:lines() do log[#log + 1] = "client " .. line end
    end)
    clock:advance(3)
    assert.same({ "server 1", "client re 1", "server 2", "client re 2", "server 3",
      "client re 3" }, log)
    conn:shutdown()
    reading:join()
    serving:join()
    conn:close()
  end)

  it("goes on from where it stands when it is released", function()
    local woken, idle
    local conn, peer = testing.pair({ idle_timeout = 60 })
    clock:advance(3000)
    local fresh, other = testing.pair({ idle_timeout = 60 })
    local sleeper = neap.spawn(function()
      neap.sleep(0.02)
      woken = true
    end)
    local reading = neap.spawn(function() idle = select(3, fresh:read(1)) end)
    clock:advance(0)
    assert.is_nil(woken)
    clock:release()
    sleeper:join()
    assert.is_true(woken)
    assert.equal("timeout", select(3, conn:read(1)))
    neap.sleep(0.2)
    assert.is_nil(idle) -- what was new when the clock stood is new still
    fresh:close()
    reading:join()
    for _, c in ipairs { conn, peer, other } do c:close() end
  end)

  it("refuses to stand twice, to run backwards, and to be moved when it runs", function()
    helper.raises("it stands already", function() testing.clock() end)
    helper.raises("seconds must be a number", function() clock:advance(-1) end)
    helper.raises("seconds must be a number", function() clock:advance("1") end)
    helper.raises("called on nil", function() clock.advance(nil, 1) end)
    clock:release()
    clock:release()
    helper.raises("it runs", function() clock:advance(1) end)
    clock = testing.clock()
  end)
end)

describe("testing.watch", function()
  helper.watch(before_each, after_each)

  it("is content with a spec that cleans up, also if that takes a moment", function()
    local run = specs([[
      it("is tidy", function()
        local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
          for chunk in conn:chunks() do conn:write(chunk) end
        end))
        local conn = assert(neap.connect(listener.address))
        conn:write("x")
        conn:read(1):release()
        conn:close()
        listener:close()
        neap.spawn(neap.sleep, 0.05)
      end)]], "{ settle = 5 }")
    assert.equal(0, run.status, run.out)
  end)

  it("names what a spec leaves behind", function()
    local run = specs([[
      it("keeps slices", function() KEPT = { neap.copy("12345"), neap.copy("678") } end)
      it("keeps a listener", function()
        LISTENER = assert(neap.listen("unix://@neap-left-]] .. helper.temporary_name() .. [[",
          print))
      end)
      it("keeps a connection", function()
        LISTENER = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:keep() end))
        PEER = LISTENER.address
        CONN = assert(neap.connect(PEER))
        LISTENER:close()
        print("the peer is " .. PEER)
      end)
      it("keeps a file", function() FILE = io.open("/proc/self/status") end)
      it("keeps a task", function()
        neap.spawn(function() neap.sleep(1000) end)
      end)
      it("keeps nothing", function() end)]])
    assert.equal(1, run.status)
    says(run, '"a block keeps slices"')
    says(run, "2 slices with 8 bytes")
    assert.matches("2 made at %S*some_spec.lua:%d+ %(function at line %d+%)", run.out)
    says(run, "a listener on unix://@neap-left-")
    says(run, "a connection with " .. run.out:match("the peer is (tcp://[%d.:]+)"))
    assert.matches("descriptor %d+, which is /proc/%d+/status", run.out)
    says(run, "spawned at ")
    says(run, "a task that waits")
    assert.matches("some_spec.lua:%d+: in function", run.out)
    says_not(run, '"a block keeps nothing"')
  end)

  it("finds a slice that was forgotten before the collector does", function()
    local run = specs([[
      for i = 1, 5 do
        it("forgets " .. i, function() neap.copy("12345") end)
      end]])
    says(run, "1 slice with 5 bytes")
  end)

  it("watches all slices meanwhile, or as many as it is told to", function()
    local run = specs([[
      it("tells", function() print("level " .. neap.leaks_level()) end)]])
    says(run, "level all")
    run = specs([[
      it("tells", function() print("level " .. neap.leaks_level()) end)
      it("forgets", function() neap.copy("12345") end)]], '{ leaks = "off" }')
    says(run, "level off")
    says(run, "1 slice with 5 bytes")
    says_not(run, "made at")
  end)

  it("does not ask of a spec that failed that it has cleaned up", function()
    local run = specs([[
      it("fails", function()
        testing.clock()
        KEPT = neap.copy("12345")
        error("for another reason")
      end)
      it("sleeps", function() assert(neap.sleep(0.01)) end)]])
    says(run, "for another reason")
    says_not(run, "left behind")
    says(run, "ok 2 - a block sleeps")
    says_not(run, "not ok 2")
  end)

  it("releases a clock that stands, and tells of it", function()
    local run = specs([[
      it("stops it", function() testing.clock() end)
      it("sleeps", function() assert(neap.sleep(0.01)) end)]])
    says(run, '"a block stops it" (')
    says(run, "a clock that stands: release it")
    says_not(run, '"a block sleeps"')
  end)

  it("ends a spec that waits too long, with where it and its tasks wait", function()
    local run = specs([[
      it("waits", function()
        local one, other = testing.pair()
        neap.spawn(function() other:read_line() end)
        one:read(1)
      end)
      it("waits while the clock stands", function()
        testing.clock()
        neap.sleep(1)
      end)
      it("ends", function() end)]], "{ deadline = 1, settle = 0.2 }")
    assert.equal(1, run.status)
    assert.matches('"a block waits" %([^)]*some_spec.lua:%d+%) took longer than 1 s', run.out)
    assert.matches("in function 'read'", run.out)
    assert.matches("in function 'read_line'", run.out)
    says(run, '"a block waits while the clock stands" (')
    says(run, "in function 'sleep'")
    says(run, "not ok 1 - a block waits")
    says(run, "not ok 2 - a block waits while the clock stands")
    says(run, "ok 3 - a block ends")
    says_not(run, "not ok 3")
  end)

  it("ends one that goes on after every wait, and one that catches what is raised", function()
    local run = specs([[
      it("goes on", function()
        while true do neap.sleep(0.001) end
      end)
      it("catches", function()
        pcall(neap.sleep, 100)
      end)
      it("ends in its wait", function()
        return neap.sleep(100)
      end)
      it("ends", function() end)]], "{ deadline = 1, settle = 0.2 }")
    says(run, '"a block goes on" (')
    says(run, '"a block catches" (')
    says(run, '"a block ends in its wait" (')
    says(run, "a block ends\n")
    says_not(run, '"a block ends"')
  end)

  it("ends the process when a spec gives control back to nobody, and names it", function()
    local run = specs([[
      it("spins", function() while true do end end)]], "{ deadline = 1, settle = 0.2 }")
    says(run, '"a block spins" (')
    says(run, "did not give control back for 6 s: the process ends")
    assert.equal(142, run.status)
  end)

  it("watches specs in a stock luajit, where they are no tasks", function()
    local spec = helper.file([[
      local neap, testing = require("neap"), require("neap.testing")
      describe("a block", function()
        testing.watch(before_each, after_each, { deadline = 1, settle = 0.2 })
        it("waits", function()
          local one, other = testing.pair()
          one:read(1)
          other:close() -- till here the collector leaves it alone
        end)
        it("leaves", function() neap.spawn(neap.sleep, 100) end)
        it("ends", function() assert.equal("x", testing.cut("x", function(conn)
          conn:write(conn:read(1))
        end)) end)
      end)]], helper.temporary_directory() .. "/some_spec.lua")
    local run = helper.stock(([[
      arg = { "-o", "TAP", %q, [0] = "busted" }
      require("busted.runner")({ standalone = false })]]):format(spec))
    says(run, '"a block waits" (')
    says(run, "took longer than 1 s")
    says(run, "some_spec.lua:7: in function") -- where it reads
    says(run, '"a block leaves" (')
    says(run, "ok 4 - a block ends")
    says_not(run, "not ok 4")
  end)

  it("refuses options that it has not, and what busted does not give", function()
    helper.raises("testing.watch: before_each must be a function", function() testing.watch() end)
    helper.raises("testing.watch: after_each must be a function, got table", function()
      testing.watch(print, {})
    end)
    helper.raises('no option "limit"', function() testing.watch(print, print, { limit = 1 }) end)
  end)
end)

describe("what a function costs", function()
  helper.watch(before_each, after_each)

  local compiled = jit.status() and it or pending

  compiled("is no garbage and no new buf where it is so #neighbours", function()
    local allocator = neap.pool():allocator()
    assert.equal(0, testing.allocates(0, function() allocator:alloc(64):release() end))
    assert.allocates(0, function() allocator:alloc(64):release() end)
    allocator:release()
  end)

  compiled("is what it takes of Lua's memory, or of bufs", function()
    local kept
    helper.raises("testing.allocates: a call takes ", function()
      testing.allocates(0, function() kept = { 1, 2, 3 } end)
    end)
    assert.is_true(testing.allocates(1000, function() kept = { 1, 2, 3 } end) > 20)
    assert.equal(3, #kept)
    local allocator, slices = neap.pool({ min_size = 2048 }):allocator(), {}
    for i = 1, 4000 do slices[i] = false end
    local n = 0
    local function keep()
      n = n + 1
      slices[n] = allocator:alloc(2048)
    end
    local message = helper.raises("and may take 1000", function() testing.allocates(1000, keep) end)
    -- handles come many at a time, so it is not just the buf
    assert.is_true(tonumber(message:match("takes ([%d.]+)")) > 1500)
    for i = 1, n do slices[i]:release() end
    allocator:release()
    assert.has_error(function() assert.allocates(0, function() kept = {} end) end)
    assert.same({}, kept)
  end)

  compiled("is no trace where LuaJIT gives up", function()
    local pool = neap.pool()
    local allocator = pool:allocator()
    testing.compiles(function() allocator:alloc(64):release() end)
    assert.compiles(function() allocator:alloc(64):release() end)
    local strange = setmetatable({}, { __call = function() return newproxy(true) end })
    local message = helper.raises("testing.compiles: ", function()
      testing.compiles(function()
        for i = 1, 200 do local made = function() return i end made() end
        return strange()
      end)
    end)
    assert.matches("testing_spec.lua:", message, 1, true)
    allocator:release()
  end)

  compiled("does not mind a trace given up that is compiled the next time", function()
    local calls, made = 0, nil
    testing.compiles(function()
      calls = calls + 1
      for i = 1, 200 do
        if calls < 40 then made = function() return calls end end
      end
    end, 3000)
    assert.equal(3000, made())
  end)

  it("is not measured of what is no function", function()
    helper.raises("testing.allocates: needs a function", function() testing.allocates(0, 1) end)
    helper.raises("testing.compiles: needs a function", function() testing.compiles("x") end)
    helper.raises("testing.compiles: calls must be a whole", function()
      testing.compiles(print, 0.5)
    end)
    helper.raises("testing.allocates: bytes must be a whole number", function()
      testing.allocates("0", print)
    end)
  end)

  compiled("leaves the level of watching as it was", function()
    local level = neap.leaks_level("touch")
    testing.allocates(1e6, function() neap.copy("x"):release() end)
    assert.is_false(pcall(testing.compiles, function() error("broken") end))
    assert.equal("touch", neap.leaks_level(level))
  end)
end)
