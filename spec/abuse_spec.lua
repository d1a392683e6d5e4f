--- What a script may do that no well-meaning one does: odd tables, finalizers that run in the
--- middle of things, errors that cannot be shown. Each was a bug once.

local neap = require("neap")
local helper = require("spec.helper")

local raises = helper.raises

describe("a script that means no good", function()
  helper.watch(before_each, after_each)

  it("gives coalesce a list that makes its elements up", function()
    local allocator = neap.pool():allocator()
    local a, b = allocator:copy("a"), allocator:copy("b")
    local made_up = setmetatable({ n = 2 }, { __index = function(_, i)
      neap.coalesce({}, 1)
      return i == 1 and a or b
    end })
    raises("neap.coalesce: element 1", function() neap.coalesce(made_up, 10) end)
    assert.equal("ab", a:str() .. b:str())
    a:release()
    b:release()
    allocator:release()
  end)

  it("merges a few slices after a list that was refused, and then many", function()
    raises("neap.coalesce: element 1", function() neap.coalesce({ n = 1 }, 10) end)
    local allocator = neap.pool():allocator()
    for _, count in ipairs { 1, 1000, 2, 1024, 1025 } do
      local list = {}
      for i = 1, count do list[i] = allocator:copy("x") end
      neap.coalesce(list, 2000)
      local size = 0
      for _, s in ipairs(list) do
        size = size + #s
        s:release()
      end
      assert.equal(count, size)
    end
    allocator:release()
  end)

  it("merges slices in a finalizer that runs while slices are merged", function()
    local run = helper.script([[
      local neap = require("neap")
      local allocator = neap.pool():allocator()
      local merged = 0
      local function arm()
        getmetatable(newproxy(true)).__gc = function()
          local list = {}
          for i = 1, 2000 do list[i] = allocator:alloc(1) end
          neap.coalesce(list, 1e6)
          for _, s in ipairs(list) do s:release() end
          merged = merged + 1
        end
      end
      collectgarbage("setpause", 10)
      for _ = 1, 40 do
        arm()
        local list = {}
        for i = 1, 300 do list[i] = allocator:copy("x") end
        neap.coalesce(list, 1e6)
        assert(list[1]:str() == ("x"):rep(#list[1]))
        for _, s in ipairs(list) do s:release() end
      end
      collectgarbage()
      assert(merged > 0)
      print("done")
    ]])
    assert.equal("", run.err)
    assert.equal("done\n", run.out)
  end)

  it("releases a slice in a finalizer that runs while its bytes are copied #pace", function()
    local run = helper.script([[
      jit.off()
      local neap = require("neap")
      local victim, released = nil, 0
      local function arm()
        getmetatable(newproxy(true)).__gc = function()
          if victim and pcall(victim.release, victim) then released = released + 1 end
          victim = nil
        end
      end
      collectgarbage("setpause", 10)
      collectgarbage() -- the pause counts from now on
      local bytes = ("y"):rep(5000)
      for _ = 1, 200 do
        local pool = neap.pool { classes = false, min_size = 5000 }
        local allocator = pool:allocator()
        local s = allocator:copy(bytes)
        allocator:release()
        pool:close()
        arm()
        victim = s
        for from = 1, 50 do
          local ok, text = pcall(s.str, s, from, from + 40)
          assert(not ok or text == bytes:sub(from, from + 40))
        end
        if victim then victim = nil s:release() end
      end
      assert(released > 0)
      print("done")
    ]])
    assert.equal("", run.err)
    assert.equal("done\n", run.out)
  end)

  it("makes slices of strings in a finalizer that runs while one is made", function()
    local run = helper.script([[
      local neap = require("neap")
      local kept, made = {}, 0
      local function arm()
        getmetatable(newproxy(true)).__gc = function()
          made = made + 1
          kept[made] = neap.slice(("k" .. made):rep(500))
          if made < 500 then arm() end
        end
      end
      for _ = 1, 20 do arm() end
      for i = 1, 20000 do neap.slice("outer" .. i):release() end
      for _ = 1, 5 do collectgarbage() end
      assert(made > 20)
      for i, s in ipairs(kept) do assert(s:str() == ("k" .. i):rep(500)) end
      print("done")
    ]])
    assert.equal("", run.err)
    assert.equal("done\n", run.out)
  end)

  it("sets the fields of a reader", function()
    local r = assert(neap.reader(nil, function() return "bytes" end))
    raises("reader: it has no fields", function() r.left = "x" end)
    raises("reader: it has no fields", function() r.reader_slot = 7 end)
    assert.is_false(pcall(rawset, r, "source", print))
    assert.is_nil(r.source)
    local fake = newproxy(true)
    getmetatable(fake).__metatable = "neap.reader"
    raises("reader:read: called on userdata", function() r.read(fake, 1) end)
    r:close()
  end)

  it("reads a reader from its own source, or from two tasks", function()
    local r
    r = assert(neap.reader(nil, function() return (r:read(1)) end))
    local ok, message = pcall(r.read, r, 1)
    assert.is_false(ok)
    assert.matches("already reading", message, 1, true)
    r:close()
    local asked = 0
    local shared = assert(neap.reader(nil, function()
      asked = asked + 1
      neap.sleep(0)
      return "x"
    end))
    local first = neap.spawn(function() local s = shared:read(1) s:release() end)
    neap.spawn(function()
      raises("already reading", function() shared:read(1) end)
    end):join()
    first:join()
    assert.equal(1, asked)
    shared:close()
  end)

  it("raises errors that cannot be shown, and the others go on", function()
    local run = helper.script([[
      local neap = require("neap")
      neap.spawn(function()
        error(setmetatable({}, { __tostring = function() error("no") end }))
      end)
      neap.spawn(function() print("alive") end)
    ]])
    assert.matches("an error that cannot be shown", run.err, 1, true)
    assert.equal("alive\n", run.out)
    assert.equal(0, run.status)
  end)

  it("writes where it cannot wait: that raises, and the slice stays its own", function()
    local conn, peer = helper.pair()
    local s = assert(neap.copy(("x"):rep(100000)))
    local ok, message = coroutine.resume(coroutine.create(function() conn:write(s) end))
    assert.is_false(ok)
    assert.matches("neap.wrap", message, 1, true)
    assert.equal(100000, #s)
    assert.equal(0, conn:queued())
    s:release()
    conn:close()
    peer:close()
  end)

  it("joins a task again and again with a timeout, and nothing piles up", function()
    local task = neap.spawn(function() neap.sleep(0.05) end)
    for _ = 1, 1000 do task:join(0) end
    assert.is_true(#(task.joiners or {}) < 10)
    task:join()
  end)

  it("gives a NULL pointer for a time, which equals nil and is none", function()
    local null = require("ffi").cast("char *", 0)
    local channel, task = neap.channel(), neap.spawn(neap.sleep, 0)
    local conn, peer = helper.pair()
    raises("channel:send: seconds", function() channel:send("x", null) end)
    raises("channel:receive: seconds", function() channel:receive(null) end)
    raises("neap.select: seconds", function() neap.select({ channel }, null) end)
    raises("conn:set_timeout: seconds", function() conn:set_timeout(null) end)
    raises("task:join: seconds", function() task:join(null) end)
    task:join()
    conn:close()
    peer:close()
  end)

  it("keeps a connection that is closed, which keeps no other one", function()
    local conn, peer = helper.pair()
    conn:close()
    conn:keep()
    peer:close()
  end)
end)

describe("the end of a script", function()
  it("does not wait for the pools", function()
    local run = helper.script([[
      local neap = require("neap")
      neap.copy(("x"):rep(100000)):release()
      local task, abi = require("neap.task"), require("neap.abi")
      start = abi.C.neap_loop_now(task.loop)
      getmetatable(newproxy(true)).__gc = function()
        print(abi.C.neap_loop_now(task.loop) - start < 0.5)
      end
    ]])
    assert.equal("", run.err)
    assert.equal("true\n", run.out)
  end)

  it("sends what was queued when it is stopped, if the peer takes it", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        neap.spawn(neap.stop)
        conn:write(("A"):rep(4000000))
      end))
      print(listener.address:match("%d+$"))
      io.stdout:flush()
    ]])
    file:close()
    local run = helper.sh(("%s %s | bash -c 'read -r port; exec 3<>/dev/tcp/127.0.0.1/$port; "
      .. "wc -c <&3'"):format(helper.neap, path))
    os.remove(path)
    assert.equal("", run.err)
    assert.equal("4000000", run.out:match("%d+"))
  end)
end)
