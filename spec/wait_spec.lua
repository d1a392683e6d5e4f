--- Time and tasks: sleeping, joining, cancelling, and waits that end by a timeout.

local neap = require("neap")
local helper = require("spec.helper")

local raises = helper.raises

describe("a task", function()
  helper.watch(before_each, after_each)

  it("sleeps, while others go on", function()
    local order = {}
    local slow = neap.spawn(function() neap.sleep(0.02) order[#order + 1] = "slow" end)
    local fast = neap.spawn(function() neap.sleep(0.001) order[#order + 1] = "fast" end)
    slow:join()
    fast:join()
    assert.same({ "fast", "slow" }, order)
  end)

  it("never sleeps shorter than asked", function()
    local abi, task = require("neap.abi"), require("neap.task")
    for _, seconds in ipairs { 0, 0.001, 0.01 } do
      local start = abi.C.neap_loop_now(task.loop)
      assert.is_true(neap.sleep(seconds))
      assert.is_true(abi.C.neap_loop_now(task.loop) - start >= seconds)
    end
  end)

  it("is joined with what its function returned", function()
    local task = neap.spawn(function(a, b) neap.sleep(0) return b, a end, 1, 2)
    assert.same({ 2, 1 }, { task:join() })
    assert.same({ 2, 1 }, { task:join() }) -- again, after its end
  end)

  it("is joined by several", function()
    local task = neap.spawn(function() neap.sleep(0.001) return "done" end)
    local others = {}
    for i = 1, 3 do others[i] = neap.spawn(function() return task:join() end) end
    for i = 1, 3 do assert.equal("done", (others[i]:join())) end
  end)

  it("that is waited for too long goes on", function()
    local task = neap.spawn(function() neap.sleep(0.02) return "late" end)
    local result, message, name = task:join(0.001)
    assert.is_nil(result)
    assert.matches("too long", message, 1, true)
    assert.equal("timeout", name)
    assert.equal("late", (task:join()))
  end)

  it("that was cancelled while it let others go first is not woken for that later", function()
    local task = require("neap.task")
    local one = neap.spawn(function()
      local code = task.next_turn()
      return code, neap.sleep(0.01)
    end)
    neap.spawn(function() one:cancel() end)
    assert.same({ require("neap.abi").C.NEAP_E_CANCELLED, true }, { one:join() })
  end)

  it("is cancelled in its wait, and can wait again to clean up", function()
    local task = neap.spawn(function()
      local _, _, name = neap.sleep(60)
      return name, neap.sleep(0)
    end)
    neap.sleep(0)
    task:cancel()
    assert.same({ "cancelled", true }, { task:join() })
  end)

  it("is cancelled before its first wait", function()
    local task = neap.spawn(function() return select(3, neap.sleep(60)) end)
    task:cancel()
    assert.equal("cancelled", (task:join()))
    task:cancel() -- it has ended: nothing to do
    assert.equal("cancelled", (task:join()))
  end)

  it("that reads is cancelled without losing bytes", function()
    local conn, peer = helper.pair()
    peer:send("abc")
    local task = neap.spawn(function() return select(3, conn:read(4)) end)
    helper.turn_until(function() return conn:buffered() == 3 end)
    task:cancel()
    assert.equal("cancelled", (task:join()))
    peer:send("d")
    local slice = assert(conn:read(4))
    assert.equal("abcd", slice:str())
    slice:release()
    conn:close()
    peer:close()
  end)

  it("cannot wait for itself, and times are times", function()
    local task
    task = neap.spawn(function() raises("task:join", function() task:join() end) end)
    task:join()
    for _, bad in ipairs { -1, 0 / 0, math.huge, "1", {} } do
      raises("neap.sleep: seconds", function() neap.sleep(bad) end)
      raises("task:join: seconds", function() task:join(bad) end)
    end
    raises("task:join", function() task.join({}) end)
    raises("task:cancel", function() task.cancel(nil) end)
  end)
end)

describe("a wait on a connection", function()
  helper.watch(before_each, after_each)
  local conn, peer

  local function with_pair(fn)
    return function()
      conn, peer = helper.pair()
      fn()
      conn:close()
      peer:close()
    end
  end

  it("fails with timeout and keeps the bytes that came", with_pair(function()
    peer:send("abc")
    conn:set_timeout(0.02)
    local slice, message, name = conn:read(4)
    assert.is_nil(slice)
    assert.matches("^tcp://127%.0%.0%.1:%d+: read of 4 bytes: it took too long", message)
    assert.equal("timeout", name)
    assert.equal(3, conn:buffered())
    peer:send("d")
    slice = assert(conn:read(4))
    assert.equal("abcd", slice:str())
    slice:release()
  end))

  it("does not end before its time when bytes come", with_pair(function()
    conn:set_timeout(60)
    peer:send("x")
    local slice = assert(conn:read(1))
    slice:release()
    conn:set_timeout(nil)
  end))

  it("above the watermark ends with timeout, and the bytes still go out", with_pair(function()
    conn:set_timeout(0.02)
    local block, sent = ("x"):rep(65536), 0
    local ok, message, name
    repeat
      ok, message, name = conn:write(block)
      sent = sent + #block
    until not ok
    assert.equal("timeout", name, message)
    repeat -- the system may have taken some meanwhile
      ok, message, name = conn:try_write(block)
      if ok then sent = sent + #block end
    until not ok
    assert.equal("limit", name, message)
    conn:set_timeout(nil)
    local got = 0
    while got < sent do
      local part = peer:recv()
      if part then got = got + #part else helper.turn() end
    end
    assert.equal(sent, got)
    assert.is_true(conn:try_write("more"))
    assert.equal("more", peer:recv_exactly(4))
  end))

  it("refuses times that are none", with_pair(function()
    for _, bad in ipairs { -1, 0 / 0, math.huge, "1" } do
      raises("conn:set_timeout: seconds", function() conn:set_timeout(bad) end)
    end
  end))
end)

describe("a handler", function()
  helper.watch(before_each, after_each)

  it("that keeps its connection leaves it open", function()
    local kept
    local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
      conn:keep()
      kept = conn
    end))
    local conn = assert(neap.connect(listener.address))
    helper.turn_until(function() return kept end)
    helper.turn()
    assert.is_true(kept:write("still here"))
    local slice = assert(conn:read(10))
    assert.equal("still here", slice:str())
    slice:release()
    kept:close()
    conn:close()
    listener:close()
  end)

  it("of a listener with a timeout is told when its peer is silent", function()
    local name
    local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
      name = select(3, conn:read(1))
    end, { timeout = 0.02 }))
    local conn = assert(neap.connect(listener.address))
    assert.equal("eof", select(3, conn:read(1)))
    assert.equal("timeout", name)
    conn:close()
    listener:close()
  end)
end)
