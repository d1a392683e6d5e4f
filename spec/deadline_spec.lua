--- Deadlines around anything that waits.

local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local raises = helper.raises

-- What a script's assert does; busted has put another in its place.
local function insist(result, message)
  if not result then error(message, 0) end
  return result
end

local function name_of(_, _, name) return name end

describe("a deadline", function()
  helper.watch(before_each, after_each)

  it("gives back what its function returned in time, and does nothing afterwards", function()
    local clock = testing.clock()
    local results = { neap.deadline(1, function()
      return 1, nil, "three", false
    end) }
    assert.same({ 1, nil, "three", false }, results)
    local sleeper = neap.spawn(function()
      neap.deadline(1, function() end)
      return neap.sleep(2)
    end)
    clock:advance(3)
    assert.is_true(sleeper:join())
    clock:release()
  end)

  it("ends every wait inside with a timeout, and its function goes on", function()
    local clock = testing.clock()
    local got
    local limited = neap.spawn(function()
      return neap.deadline(1, function()
        got = { (neap.sleep(0.9)), name_of(neap.sleep(9)), name_of(neap.sleep(9)),
          name_of(neap.channel():receive()), name_of(neap.spawn(neap.sleep, 2):join()) }
        return "its result"
      end), neap.sleep(0.1)
    end)
    clock:advance(1)
    assert.same({ true, "timeout", "timeout", "timeout", "timeout" }, got)
    clock:advance(2)
    assert.same({ "its result", true }, { limited:join() })
    clock:release()
  end)

  it("loses no bytes", function()
    local conn, peer = helper.pair()
    peer:send("abc")
    assert.equal("timeout", neap.deadline(0.01, function() return name_of(conn:read(4)) end))
    peer:send("d")
    local slice = assert(conn:read(4))
    assert.equal("abcd", slice:str())
    slice:release()
    conn:close()
  end)

  it("is a failure itself when its function raises that its time was over", function()
    local conn = helper.pair()
    local result, message, name = neap.deadline(0.001, function() return insist(conn:read(1)) end)
    assert.is_nil(result)
    assert.equal("neap.deadline: it took too long", message)
    assert.equal("timeout", name)
    conn:set_timeout(0.001) -- another timeout than the deadline's is raised as it is
    local ok, err = pcall(neap.deadline, 60, function() return insist(conn:read(1)) end)
    assert.is_false(ok)
    assert.matches("read of 1 bytes: it took too long", err, 1, true)
    conn:close()
  end)

  it("raises what its function raises, with its traceback", function()
    local thing = {}
    local ok, err = pcall(neap.deadline, 1, function() error(thing) end)
    assert.is_false(ok)
    assert.equal(thing, err)
    local run = helper.script([[
      local neap = require("neap")
      local function culprit() error("mistake") end
      neap.spawn(function() neap.deadline(1, function() neap.deadline(1, culprit) end) end)
    ]])
    assert.matches("script_name:2: mistake", (run.err:gsub("/tmp/lua_%w+", "script_name")), 1, true)
    assert.matches(":2: in function", run.err, 1, true)
    assert.equal(0, run.status)
  end)

  it("inside another ends with it at the latest", function()
    local clock = testing.clock()
    local inner, outer
    local limited = neap.spawn(function()
      neap.deadline(1, function()
        neap.deadline(60, function() inner = name_of(neap.sleep(50)) end)
        outer = name_of(neap.sleep(50))
      end)
      return neap.sleep(0)
    end)
    clock:advance(1)
    assert.same({ "timeout", "timeout" }, { inner, outer })
    assert.is_true(limited:join())
    clock:release()
  end)

  it("inside another ends alone when it is the shorter one", function()
    local clock = testing.clock()
    local inner, between, outer
    neap.spawn(function()
      neap.deadline(10, function()
        neap.deadline(1, function() inner = name_of(neap.sleep(50)) end)
        between = neap.sleep(1)
        outer = name_of(neap.sleep(50))
      end)
    end)
    clock:advance(1)
    assert.same({ "timeout", nil }, { inner, between })
    clock:advance(1)
    assert.is_true(between)
    clock:advance(8)
    assert.equal("timeout", outer)
    clock:release()
  end)

  it("of no time lets nothing wait, but gives what is there", function()
    local channel = neap.channel(1)
    channel:send("there")
    local got = neap.deadline(0, function()
      return { channel:receive(), name_of(channel:receive()), name_of(neap.sleep(0)) }
    end)
    assert.same({ "there", "timeout", "timeout" }, got)
  end)

  it("whose function takes no notice lets the others go on", function()
    local going, turns = true, 0
    local careless = neap.spawn(function()
      neap.deadline(0.001, function() while going do neap.sleep(1) end end)
    end)
    neap.sleep(0.002)
    for _ = 1, 10 do
      neap.sleep(0)
      turns = turns + 1
    end
    going = false
    careless:join()
    assert.equal(10, turns)
  end)

  it("leaves a cancel what it is", function()
    local cancelled = neap.spawn(function()
      return neap.deadline(60, function() return name_of(neap.sleep(60)), neap.sleep(0) end)
    end)
    neap.sleep(0)
    cancelled:cancel()
    assert.same({ "cancelled", true }, { cancelled:join() })
    local later = neap.spawn(function()
      neap.deadline(60, function() end)
      return name_of(neap.sleep(60))
    end)
    later:cancel()
    assert.equal("cancelled", (later:join()))
  end)

  it("works outside of all tasks", function()
    local run = helper.stock([[
      local neap = require("neap")
      neap.deadline(0.01, function()
        print(select(3, neap.sleep(60)), select(3, neap.sleep(60)))
      end)
      print(neap.sleep(0), (neap.deadline(1, function() return "in time" end)))
    ]])
    assert.equal("timeout\ttimeout\ntrue\tin time\n", run.out)
    assert.equal("", run.err)
  end)

  it("raises at the caller's line what is misused", function()
    for _, bad in ipairs { -1, 0 / 0, "1", {}, 1e10 } do
      raises("neap.deadline: seconds", function() neap.deadline(bad, print) end)
    end
    raises("neap.deadline: needs a function", function() neap.deadline(1) end)
    coroutine.wrap(function()
      raises("neap.wrap", function() neap.deadline(1, function() end); end)
    end)()
  end)

  it("makes no garbage", function()
    local function nothing() end
    local bytes = math.huge
    for _ = 1, 5 do -- a trace that is compiled meanwhile is not its garbage
      collectgarbage()
      collectgarbage("stop")
      local before = collectgarbage("count")
      for _ = 1, 10000 do neap.deadline(60, nothing) end
      bytes = math.min(bytes, (collectgarbage("count") - before) * 1024 / 10000)
      collectgarbage("restart")
    end
    assert.is_true(bytes < 8 or not jit.status(), bytes .. " bytes")
  end)
end)
