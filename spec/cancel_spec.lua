--- A cancel, or a deadline, at every single wait of a task that uses all that waits.

local lfs = require("lfs")
local abi = require("neap.abi")
local errors = require("neap.errors")
local helper = require("spec.helper")
local neap = require("neap")
local task = require("neap.task")

local BIG = 200000 -- more than a connection queues without waiting
local TIMEOUT = abi.C.NEAP_E_TIMEOUT

local function release(x)
  if type(x) == "cdata" then x:release() end
  return x
end

local function descriptors()
  local count = 0
  for _ in lfs.dir("/proc/self/fd") do count = count + 1 end
  return count
end

-- Closes what it opened, whatever happens.
local function with(conn, fn)
  local ok, err = pcall(fn, conn)
  conn:close()
  if not ok then error(err, 0) end
end

-- Takes everything, answers a line with a line, and is slow to begin.
local function serve(conn)
  neap.sleep(0.001)
  local line = conn:read_line()
  if not line then return end
  conn:write(line)
  conn:write("\n")
  for chunk in conn:chunks() do chunk:release() end
end

-- Uses what waits. Each result may be a failure; it goes on all the same.
local function scenario(address)
  local conn = neap.connect(address)
  if conn then
    with(conn, function()
      conn:write("line\n")
      release(conn:read_line())
      conn:write(assert(neap.copy(("x"):rep(BIG))))
      conn:flush()
      conn:shutdown()
    end)
  end
  neap.sleep(0)
  local channel = neap.channel()
  neap.scope(function(scope)
    scope:spawn(function()
      channel:send(assert(neap.copy("one")))
      channel:send(assert(neap.copy("two")))
      release(channel:receive())
    end)
    release(channel:receive())
    neap.sleep(0)
    release(channel:receive())
    channel:send(assert(neap.copy("three")))
    scope:spawn(neap.sleep, 0.001):join()
    channel:close()
  end)
  neap.scope(function(outer)
    outer:defer(function() neap.sleep(0) end)
    outer:spawn(function()
      neap.scope(function(inner)
        inner:defer(function() neap.sleep(0) end)
        inner:spawn(neap.sleep, 0.001)
        neap.sleep(0)
      end)
    end)
    neap.sleep(0)
  end)
  neap.deadline(5, function() neap.sleep(0.001) end)
  channel:close(true)
end

describe("every wait", function()
  helper.watch(before_each, after_each, 120)

  local listener
  local subject_of = scenario

  -- Calls fn() right after a task has begun to wait. (The number of its wait is odd then.)
  local function on_wait(subject, fn)
    local number, methods = subject.wait, debug.getmetatable(subject).__index
    subject.wait = nil
    debug.setmetatable(subject, {
      __metatable = "neap.task",
      __index = function(_, key) if key == "wait" then return number end return methods[key] end,
      __newindex = function(self, key, value)
        if key ~= "wait" then return rawset(self, key, value) end
        number = value
        if value % 2 == 1 then fn() end
      end,
    })
  end

  -- Runs the scenario, and interrupt(task) at the n-th wait of its task. Returns how many there
  -- were, and the names of the failures that its calls met.
  local function run(n, interrupt)
    local waits, names = 0, {}
    local subject = neap.spawn(subject_of, listener.address)
    on_wait(subject, function()
      waits = waits + 1
      if waits == n then interrupt(subject) end
    end)
    local noted = errors.noted
    errors.noted = function(message, name)
      if task.running() == subject then names[name] = true end
      return noted(message, name)
    end
    local _, message, name = subject:join()
    errors.noted = noted
    if name then error(message, 0) end
    return waits, names
  end

  local function counts()
    return { helper.slice_stats().live, helper.net_stats().streams,
      descriptors() }
  end

  -- What is left after a while, for a peer's end takes its time.
  local function settled(before)
    local now = counts()
    for _ = 1, 1000 do
      if now[1] == before[1] and now[2] == before[2] and now[3] == before[3] then break end
      neap.sleep(0.002)
      now = counts()
    end
    return now
  end

  local function at_each(what, interrupt)
    listener = assert(neap.listen("tcp://127.0.0.1:0", serve))
    local _, streams = unpack(counts())
    run(0, interrupt)
    helper.turn_until(function() return counts()[2] == streams end) -- what it needs is there now
    local before = counts()
    collectgarbage("stop") -- which would hide what was forgotten
    local most = run(0, interrupt)
    for n = 1, most do
      local _, names = run(n, interrupt)
      assert.is_true(names[what], ("wait %d of %d was not cut"):format(n, most))
      assert.same(before, settled(before))
    end
    collectgarbage("restart")
    listener:close()
    io.stdout:write(("%s at each of %d waits\n"):format(what, most))
    assert.is_true(most >= 12, most .. " waits")
  end

  it("can be cancelled, and nothing is left behind", function()
    at_each("cancelled", function(subject) subject:cancel() end)
  end)

  it("can be the one at which a deadline is over, and nothing is left behind", function()
    local bound
    local function limited(where)
      local me = task.running()
      bound = { over = false }
      task.enter(me, bound)
      local ok, err = pcall(scenario, where)
      task.leave(me, bound)
      if not ok then error(err, 0) end
    end
    subject_of = limited
    at_each("timeout", function(subject) task.end_bound(subject, bound, TIMEOUT, true) end)
    subject_of = scenario
  end)
end)
