local helper = require("spec.helper")
local neap = require("neap")
local task = require("neap.task")

local raises = helper.raises

describe("a task", function()
  helper.watch(before_each, after_each)

  it("runs with the arguments it was given, however many", function()
    local got
    local function keep(...) got = { n = select("#", ...), ... } end
    neap.spawn(keep, 1, nil, "three", false, 5, nil)
    helper.turn_until(function() return got end)
    assert.equal(6, got.n)
    assert.same({ 1, nil, "three", false, 5, n = 6 }, got)
  end)

  it("starts in the order in which tasks were spawned, after its spawner gave way", function()
    local order = {}
    for i = 1, 5 do neap.spawn(function() order[#order + 1] = i end) end
    assert.same({}, order)
    helper.turn_until(function() return #order == 5 end)
    assert.same({ 1, 2, 3, 4, 5 }, order)
  end)

  it("can spawn tasks that spawn tasks", function()
    local depth = 0
    local function deeper()
      depth = depth + 1
      if depth < 500 then neap.spawn(deeper) end
    end
    neap.spawn(deeper)
    helper.turn_until(function() return depth == 500 end)
  end)

  it("of a wrapped function starts at each call, with its arguments", function()
    local got = {}
    local wrapped = neap.wrap(function(a, b) got[#got + 1] = a + b end)
    wrapped(1, 2)
    wrapped(3, 4)
    helper.turn_until(function() return #got == 2 end)
    assert.same({ 3, 7 }, got)
  end)

  it("is made of a function: anything else raises at the caller's line", function()
    for _, bad in ipairs { 1, "x", {}, true, 1LL, io.stdout } do
      raises("neap.spawn", function() neap.spawn(bad) end)
      raises("neap.wrap", function() neap.wrap(bad) end)
    end
    raises("neap.spawn", function() neap.spawn() end)
    raises("neap.wrap", function() neap.wrap() end)
  end)

  it("does nothing when it calls run()", function()
    local before, after
    neap.spawn(function()
      before = true
      neap.run()
      after = true
    end)
    helper.turn_until(function() return before end)
    assert.is_true(after)
  end)

  it("that waits can be woken by another one", function()
    local conn, peer = helper.pair()
    local got
    local first = helper.task(function()
      local line = assert(conn:read_line())
      got = line:str()
      line:release()
    end)
    neap.spawn(function() peer:send("wake up\n") end)
    first()
    assert.equal("wake up", got)
    conn:close()
    peer:close()
  end)

  it("cannot wait in a coroutine that the script made; that raises and names neap.wrap", function()
    local conn, peer = helper.pair()
    local own = coroutine.create(function()
      raises("neap.wrap", function() conn:read(1); end)
      raises("neap.wrap", function() for _ in conn:chunks() do error("no") end end)
      raises("neap.wrap", function() neap.sleep(1); end)
    end)
    local ok, err = coroutine.resume(own)
    assert(ok, err)
    -- and nothing was broken by it
    peer:send("x")
    assert(conn:read(1)):release()
    conn:close()
    peer:close()
  end)

  it("can read what is there already in a coroutine of its own", function()
    local conn, peer = helper.pair()
    peer:send("ab")
    assert(conn:read(1)):release()
    local got = coroutine.wrap(function()
      local slice = assert(conn:read(1))
      local text = slice:str()
      slice:release()
      return text
    end)()
    assert.equal("b", got)
    conn:close()
    peer:close()
  end)

  it("can resume coroutines of its own between its waits", function()
    local conn, peer = helper.pair()
    local numbers = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
    local sum = 0
    for _ = 1, 3 do
      peer:send("x")
      assert(conn:read(1)):release()
      sum = sum + numbers()
    end
    assert.equal(6, sum)
    conn:close()
    peer:close()
  end)

  it("waits inside pcall, and its errors come out of it", function()
    local conn, peer = helper.pair()
    peer:send("x")
    local ok, slice = pcall(conn.read, conn, 1)
    assert.is_true(ok)
    slice:release()
    local function fail() conn:read(1) error("mine", 0) end
    local finish = helper.task(function() return pcall(fail) end)
    peer:shutdown()
    local failed, err = finish()
    assert.is_false(failed)
    assert.equal("mine", err)
    conn:close()
    peer:close()
  end)
end)

describe("the coroutine of a task that has ended", function()
  helper.watch(before_each, after_each)

  local function coroutine_of(fn, ...)
    return neap.spawn(function(...)
      if fn then fn(...) end
      return coroutine.running()
    end, ...):join()
  end

  it("is used for the next one", function()
    assert.equal(coroutine_of(), coroutine_of())
    assert.equal(coroutine_of(neap.sleep, 0), coroutine_of())
  end)

  it("is not, where the task raised or yielded to nobody", function()
    local quiet = { on_error = function() end }
    for _, ends in ipairs { error, coroutine.yield } do
      local first = coroutine_of()
      assert.equal("error", (select(3, task.start(ends, quiet, "x"):join())))
      assert.not_equal(first, coroutine_of())
    end
  end)

  it("can be resumed by a script that kept it, and nothing happens", function()
    local kept = coroutine_of()
    assert.same({ true }, { coroutine.resume(kept, print, 1) })
    assert.equal("suspended", coroutine.status(kept))
    assert.equal(kept, coroutine_of())
  end)

  it("holds nothing of what the task had", function()
    local weak = setmetatable({}, { __mode = "v" })
    coroutine_of(function(x) weak[1] = x neap.sleep(0) return x end, {})
    collectgarbage()
    assert.is_nil(weak[1])
  end)
end)

describe("a task that is joined before it began", function()
  helper.watch(before_each, after_each)

  it("starts there at once, if it is the next to start, and nobody waits", function()
    local turned = false
    neap.spawn(function() turned = true end):join()
    assert.is_true(turned)
    turned = false
    local first = neap.spawn(function(...) return ... end, 1, nil, 3, 4, 5)
    neap.spawn(function() turned = true end)
    assert.same({ 1, nil, 3, 4 }, { first:join() })
    assert.is_false(turned)
  end)

  it("does not overtake those that were spawned before it", function()
    local order = {}
    for i = 1, 3 do neap.spawn(function() order[i] = #order + 1 end) end
    neap.spawn(function() order[4] = #order + 1 end):join()
    assert.same({ 1, 2, 3, 4 }, order)
  end)

  it("may do the same, however deep", function()
    local function deeper(n)
      return n == 0 and "the ground" or (neap.spawn(deeper, n - 1):join())
    end
    assert.equal("the ground", deeper(500))
  end)

  it("may wait, and the joiner with it", function()
    local slept = neap.spawn(function() neap.sleep(0.001) return "slept" end)
    assert.equal("slept", slept:join())
    local never = neap.spawn(neap.sleep, 1000)
    assert.equal("timeout", (select(3, never:join(0.001))))
    never:cancel()
    assert.is_nil((never:join()))
  end)

  it("costs no garbage beyond the task itself", function()
    local function nothing() end
    local function bytes(n)
      collectgarbage()
      collectgarbage("stop")
      local before = collectgarbage("count")
      for _ = 1, n do neap.spawn(nothing):join() end
      local made = (collectgarbage("count") - before) * 1024
      collectgarbage("restart")
      return made / n
    end
    bytes(1000)
    local least = math.huge
    for _ = 1, 5 do least = math.min(least, bytes(2000)) end
    assert.is_true(least <= 272, least .. " bytes")
  end)
end)

-- what ends up on stderr, or might not end at all, runs in a process of its own
describe("the tasks of a script", function()
  helper.watch(before_each, after_each)

  it("that raise end alone, with their traceback and where they were spawned", function()
    local run = helper.script([[
      local neap = require("neap")
      neap.spawn(function() error("mistake") end)
      neap.spawn(function() error({}) end)
      neap.spawn(function() error() end)
      neap.spawn(function() print("the next one") end)
    ]])
    assert.equal("the next one\n", run.out)
    assert.matches(":2: mistake", run.err, 1, true)
    assert.matches("stack traceback:", run.err, 1, true)
    assert.matches("spawned_at=%S+:2", run.err)
    assert.matches("spawned_at=%S+:3", run.err)
    assert.equal(0, run.status)
  end)

  it("that yield to nobody end with an error that says so", function()
    local run = helper.script([[
      local neap = require("neap")
      neap.spawn(function() coroutine.yield(1) print("never") end)
      neap.spawn(function() print("the next one") end)
    ]])
    assert.equal("the next one\n", run.out)
    assert.matches("coroutine.yield", run.err, 1, true)
    assert.equal(0, run.status)
  end)

  it("that end in an error of the outside world are told of in one line, and counted", function()
    local run = helper.script([[
      local neap = require("neap")
      local task = require("neap.task")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        assert(conn:read(4))
      end))
      for _ = 1, 3 do
        local conn = assert(neap.connect(listener.address))
        conn:write("abc")
        conn:shutdown()
        assert(select(3, conn:read(1)) == "eof")
      end
      listener:close()
      local own, outside = task.failures()
      print(own, outside.short)
    ]])
    assert.equal("0\t3\n", run.out)
    local line = helper.logged("warn") .. "%S+:4: tcp://[^\n]* after 3 of these bytes\n"
    assert.equal(3, select(2, run.err:gsub(line, "")))
    assert.is_nil(run.err:find("traceback", 1, true))
    assert.equal(0, run.status)
  end)

  it("go on after a wait that could not give control up across a C function", function()
    local run = helper.script([[
      local neap = require("neap")
      local waiting
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        for chunk in conn:chunks() do conn:write(chunk) end
      end))
      local conn = assert(neap.connect(listener.address))
      print(pcall(table.sort, { 1, 2 }, function() conn:read(1) end))
      print(pcall(string.gsub, "x", "x", function() conn:read(1) end))
      -- another task may read now, and a close wakes nobody who does not wait
      local function show(byte) print(byte:str()) byte:release() end
      neap.spawn(function() waiting = true show(conn:read(1)) end)
      conn:write("a")
      local other = assert(neap.connect(listener.address))
      other:write("b")
      show(other:read(1))
      pcall(table.sort, { 1, 2 }, function() other:read(1) end)
      other:close()
      conn:close()
      local third = assert(neap.connect(listener.address))
      third:close()
      listener:close()
      print("end")
    ]])
    assert.equal("", run.err)
    assert.matches("^false\t[^\n]*:7: neap: nothing can wait inside table.sort, [^\n]*you sort\n"
      .. "false\t[^\n]*:8: neap: nothing can wait inside string.gsub, [^\n]*\n", run.out)
    assert.matches("\na\n", run.out)
    assert.matches("\nb\n", run.out)
    assert.matches("\nend\n$", run.out)
    assert.equal(0, run.status) -- 124: it never ended
  end)

  it("name require and dofile as well, where they stand in the way", function()
    local path = helper.file("neap = require('neap') neap.sleep(0)")
    local run = helper.script(([[
      local path = %q
      package.preload.waits = function() require("neap").sleep(0) end
      print(pcall(require, "waits"))
      print(pcall(dofile, path))
      print(pcall(function() assert(loadfile(path))() end))
    ]]):format(path))
    assert.equal("", run.err)
    assert.matches("inside require, ", run.out, 1, true)
    assert.matches("inside dofile, .*loadfile%(path%)", run.out)
    assert.matches("true\n$", run.out)
  end)

  it("that would wait for each other, or for themselves, are told so", function()
    local run = helper.script([[
      local neap = require("neap")
      local one, other
      one = neap.spawn(function() return other:join() end)
      other = neap.spawn(function() return pcall(one.join, one) end)
      print(one:join())
      local me
      me = neap.spawn(function() print(pcall(me.join, me)) end)
      me:join()
    ]])
    assert.equal("", run.err)
    assert.matches("task cannot wait for itself, nor for one that waits for it\t", run.out, 1, true)
    assert.matches("\nfalse\t[^\n]*a task cannot wait for itself\n$", run.out)
    assert.equal(0, run.status)
  end)

  it("stop with the loop, whatever they wait for", function()
    local run = helper.script([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:read(1) end))
      local conn = assert(neap.connect(listener.address))
      neap.spawn(function() print(select(3, conn:read(1))) end)
      neap.spawn(neap.stop)
    ]])
    assert.equal("cancelled\n", run.out)
    assert.equal("", run.err)
    assert.equal(0, run.status)
  end)
end)

describe("a script that has started a server", function()
  helper.watch(before_each, after_each)

  it("ends when it calls stop() at its top level", function()
    local run = helper.script([[
      local neap = require("neap")
      assert(neap.listen("tcp://127.0.0.1:0", print))
      neap.stop()
      print("the script's end")
    ]])
    assert.equal("the script's end\n", run.out)
    assert.equal("", run.err)
    assert.equal(0, run.status)
  end)
end)

describe("an error that is shown", function()
  helper.watch(before_each, after_each)

  it("cannot wait meanwhile, nor run the loop", function()
    local run = helper.script([[
      local neap = require("neap")
      local err = setmetatable({}, { __tostring = function()
        print(pcall(neap.sleep, 0))
        print(neap.run())
        return "shown"
      end })
      for _ = 1, 2 do neap.spawn(error, err) end
      neap.sleep(0.01)
      print("end")
    ]])
    local once = "false\t[^\n]*:%d+: neap: nothing can wait in the __tostring of an error\n\n"
    assert.matches("^" .. once .. once .. "end\n$", run.out)
    assert.equal(0, run.status)
  end)
end)

describe("a handler of a signal", function()
  helper.watch(before_each, after_each)

  it("is of a signal, not of a number near it", function()
    for _, number in ipairs { 1.5, 0 / 0, -1, 0, 65, 2 ^ 32 + 1 } do
      raises("is no signal that a program can catch", function()
        neap.on_signal(number, print)
      end)
    end
  end)

  it("leaves a signal that ends the program to the loop, once it is gone", function()
    local run = helper.script([[
      local neap = require("neap")
      neap.on_signal("TERM", print)
      neap.on_signal("TERM", nil)
      os.execute("kill -TERM $PPID")
      neap.sleep(60)
    ]])
    assert.equal("", run.err)
    assert.equal(0, run.status)
  end)
end)

describe("in a stock luajit", function()
  helper.watch(before_each, after_each)

  it("a call that waits runs the loop until it is done", function()
    local run = helper.stock([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        for line in conn:lines() do
          conn:write("echo " .. line .. "\n")
          return
        end
      end))
      local conn = assert(neap.connect(listener.address))
      conn:write("hello\n")
      print(conn:lines()())
      print(select(3, conn:read(1)))
      listener:close()
    ]])
    assert.equal("", run.err)
    assert.equal("echo hello\neof\n", run.out)
    assert.equal(0, run.status)
  end)

  it("a wait that a stop interrupts leaves nothing behind", function()
    local run = helper.stock([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        neap.sleep(0.05)
        conn:write("x")
        neap.sleep(0.05)
      end))
      local conn = assert(neap.connect(listener.address))
      neap.spawn(neap.stop)
      print(pcall(conn.read, conn, 1))
      local other = neap.spawn(function() neap.sleep(0.05) end)
      neap.spawn(neap.stop)
      print(pcall(other.join, other))
      print(neap.sleep(0.1)) -- the byte comes, and the other task ends
      local byte = conn:read(1)
      print(#byte)
      byte:release()
    ]])
    assert.equal("", run.err)
    assert.equal("false\tinterrupted\nfalse\tinterrupted\ntrue\n1\n", run.out)
  end)

  it("a write above the watermark runs the loop too", function()
    local run = helper.stock([[
      local neap = require("neap")
      local got = 0
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        for chunk in conn:chunks() do got = got + #chunk chunk:release() end
        print("got", got)
      end))
      local conn = assert(neap.connect(listener.address))
      print("wrote", conn:write(("x"):rep(24 * 1048576)))
      conn:close()
      listener:close()
      neap.run()
    ]])
    assert.equal("", run.err)
    assert.equal("wrote\ttrue\ngot\t" .. 24 * 1048576 .. "\n", run.out)
    assert.equal(0, run.status)
  end)

  it("run() returns when nothing is left, and can be called again", function()
    local run = helper.stock([[
      local neap = require("neap")
      neap.run()
      for i = 1, 2 do
        neap.spawn(function() print("task", i) end)
        neap.run()
      end
      print("end")
    ]])
    assert.equal("", run.err)
    assert.equal("task\t1\ntask\t2\nend\n", run.out)
    assert.equal(0, run.status)
  end)

  it("stop() makes run() return while a server listens", function()
    local run = helper.stock([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        neap.stop()
      end))
      neap.spawn(function() neap.connect(listener.address) end)
      neap.run()
      print("end")
    ]])
    assert.equal("", run.err)
    assert.equal("end\n", run.out)
    assert.equal(0, run.status)
  end)

  it("stop() lets who wants to connect wait, without spinning, until the next run()", function()
    local run = helper.stock([[
      local neap, testing = require("neap"), require("neap.testing")
      local one, other = testing.pair()
      one:try_write(("x"):rep(8388608)) -- keeps the loop draining
      local accepted = 0
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function()
        accepted = accepted + 1
        other:close()
        one:close()
        neap.stop()
      end))
      neap.spawn(function()
        neap.sleep(0.01)
        neap.stop()
        neap.connect(listener.address)
      end)
      local C, loop = require("neap.abi").C, require("neap.task").loop
      local before, began = os.clock(), C.neap_loop_now(loop)
      neap.run()
      print(accepted, os.clock() - before < (C.neap_loop_now(loop) - began) / 4)
      neap.run()
      print(accepted)
    ]])
    assert.matches("stopped before 1 connection had taken all bytes", run.err, 1, true)
    assert.equal("0\ttrue\n1\n", run.out)
  end)

  it("stop() in a task ends a wait of the main chunk with an error, and later ones work", function()
    local run = helper.stock([[
      local neap = require("neap")
      neap.stop() -- nothing to stop
      neap.spawn(function() neap.sleep(0.001) neap.stop() end)
      print(pcall(neap.sleep, 1000))
      print(neap.sleep(0.001))
    ]])
    assert.equal("false\tinterrupted\ntrue\n", run.out)
    assert.equal("", run.err)
    assert.equal(0, run.status)
  end)

  it("a wait of the main chunk ends with the task that it waits for", function()
    local run = helper.stock([[
      local neap = require("neap")
      live = assert(neap.listen("tcp://127.0.0.1:0", print))
      print((neap.spawn(function() return "joined" end):join()))
    ]])
    assert.equal("joined\n", run.out)
    assert.equal(0, run.status)
  end)

  it("a wait in a coroutine that the script made raises and names neap.wrap", function()
    local run = helper.stock([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:read(1) end))
      local conn = assert(neap.connect(listener.address))
      print(coroutine.resume(coroutine.create(function()
        conn:read(1)
      end)))
    ]])
    assert.matches("^false\t%S+:5: [^\n]*neap%.wrap", run.out)
    assert.equal(0, run.status)
  end)

  it("an error ends the process with status 1, live things or not", function()
    local run = helper.stock([[
      local neap = require("neap")
      live = { neap.copy("x"), assert(neap.listen("tcp://127.0.0.1:0", print)),
        neap.pool(), neap.pool():allocator() }
      error("done")
    ]])
    assert.matches("done", run.err, 1, true)
    assert.equal(1, run.status)
  end)
end)
