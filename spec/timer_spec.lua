--- Functions that run later, or again and again.

local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local raises = helper.raises

describe("neap.after", function()
  helper.watch(before_each, after_each)

  it("runs a function once, in a task, when its time has come", function()
    local clock = testing.clock()
    local runs = 0
    local timer = neap.after(2, function()
      neap.sleep(1)
      runs = runs + 1
    end)
    clock:advance(2.9)
    assert.equal(0, runs)
    assert.matches("^timer of 2 s %(ended%), made at .*timer_spec.lua:%d+$", tostring(timer))
    clock:advance(0.2)
    assert.equal(1, runs)
    clock:advance(100)
    assert.equal(1, runs)
    clock:release()
  end)

  it("runs nothing when it was cancelled; twice, or too late, is harmless", function()
    local clock = testing.clock()
    local runs = 0
    local function run() runs = runs + 1 end
    local first, second = neap.after(1, run), neap.after(1, run)
    first:cancel()
    first:cancel()
    clock:advance(1)
    assert.equal(1, runs)
    second:cancel()
    clock:release()
  end)

  it("goes off in the order of time, 100,000 of them too", function()
    local clock = testing.clock()
    local COUNT, runs, last, ordered = 100000, 0, 0, true
    local timers = {}
    for i = 1, COUNT do
      local at = (i * 7919) % COUNT
      timers[i] = neap.after(1 + math.floor(at / 10000), function()
        runs, ordered, last = runs + 1, ordered and at / 10000 >= last, math.floor(at / 10000)
      end)
    end
    for i = 1, COUNT, 2 do timers[i]:cancel() end
    clock:advance(20)
    assert.equal(COUNT / 2, runs)
    assert.is_true(ordered)
    clock:release()
  end)

  it("keeps the loop going until it has gone off, but not when it is cancelled", function()
    local script = [[
      local neap = require("neap")
      neap.after(0.3, function() print("later") end)
      local never = neap.after(3600, function() print("never") end)
      local count = 0
      local timer
      timer = neap.every(0.001, function()
        count = count + 1
        if count == 3 then timer:cancel() print("three") end
      end)
      never:cancel()
      neap.run()]]
    for _, run in ipairs { helper.script(script), helper.stock(script) } do
      assert.equal("three\nlater\n", run.out)
      assert.equal("", run.err)
    end
  end)

  it("tells where it was made when its function raises", function()
    local run = helper.script([[
      local neap = require("neap")
      neap.after(0, function() error("mistake") end)]])
    assert.matches(":2: mistake", run.err, 1, true)
    assert.matches("spawned_at=%S+:2", run.err)
  end)

  it("raises at the caller's line what is misused", function()
    for _, bad in ipairs { -1, 0 / 0, "1", {} } do
      raises("neap.after: seconds", function() neap.after(bad, print) end)
      raises("neap.every: seconds", function() neap.every(bad, print) end)
    end
    raises("neap.every: seconds must be at least 0.001", function() neap.every(0, print) end)
    raises("neap.after: needs a function", function() neap.after(1) end)
    raises("neap.every: needs a function", function() neap.every(1, {}) end)
    local timer = neap.after(60, print)
    helper.refuses_self(timer.cancel, "timer:cancel", helper.not_objects())
    timer:cancel()
  end)
end)

describe("neap.every", function()
  helper.watch(before_each, after_each)

  local function beats(body, advance, step)
    local clock = testing.clock()
    local passed, times = 0, {}
    local timer = neap.every(1, function()
      times[#times + 1] = passed
      body(#times)
    end)
    for _ = 1, advance / step do
      passed = passed + step
      clock:advance(step)
    end
    timer:cancel()
    clock:advance(10)
    clock:release()
    return times
  end

  it("runs a function each time a period has passed", function()
    assert.same({ 1, 2, 3, 4 }, beats(function() end, 4.5, 0.5))
  end)

  it("leaves out the beats at which the function still runs, and keeps the rhythm", function()
    assert.same({ 1, 4, 7 }, beats(function() neap.sleep(2.5) end, 8, 0.5))
    assert.same({ 1, 2, 5, 6 }, beats(function(run) if run == 2 then neap.sleep(2.5) end end,
      6, 0.5))
  end)

  it("goes on after an error", function()
    local run = helper.script([[
      local neap = require("neap")
      local count, timer = 0, nil
      timer = neap.every(0.001, function()
        count = count + 1
        if count == 1 then error("the first one") end
        timer:cancel()
        print(count)
      end)]])
    assert.equal("2\n", run.out)
    assert.matches("the first one", run.err, 1, true)
    assert.matches("spawned_at=%S+:3", run.err)
  end)

  it("does not begin again when its own function has cancelled it", function()
    local clock = testing.clock()
    local runs, timer = 0, nil
    timer = neap.every(1, function()
      runs = runs + 1
      timer:cancel()
      neap.sleep(0.5)
    end)
    clock:advance(10)
    assert.equal(1, runs)
    clock:release()
  end)
end)

describe("100,000 timers that are pending", function()
  helper.watch(before_each, after_each)

  it("cost little to set, to clear and to fire, and keep nobody else from his", function()
    local COUNT = 100000
    local timers, fired, slept = {}, 0, 0
    local function fire() fired = fired + 1 end
    local began = os.clock()
    for i = 1, COUNT do timers[i] = neap.after(1000 + (i * 7919) % COUNT, fire) end
    for _ = 1, 10 do
      neap.sleep(0.001)
      assert.equal("timeout", (select(3, neap.deadline(0.001, function()
        return neap.sleep(1000)
      end))))
      slept = slept + 1
    end
    for i = 1, COUNT do timers[i]:cancel() end
    for i = 1, COUNT do timers[i] = neap.after(0, fire) end
    helper.turn_until(function() return fired == COUNT end)
    assert.equal(10, slept)
    -- some 0.5 s of CPU time; were a timer's cost its place among the others it would be minutes
    assert.is_true(os.clock() - began < 20)
  end)
end)

-- The wall clock of a child that sets it: only that, not the monotonic one, is another's.
describe("a step of the system's clock", function()
  helper.watch(before_each, after_each)

  -- a sanitizer's runtime wants to be loaded before it
  local it = helper.stock_environment():find("LD_PRELOAD", 1, true) and pending or it

  it("moves no sleep, deadline, timer or timeout", function()
    local clock = helper.file("+0\n")
    local script = helper.file([[
      local neap, testing = require("neap"), require("neap.testing")
      local function uptime() -- which no library can fake
        local file = assert(io.open("/proc/uptime"))
        local seconds = file:read("*n")
        file:close()
        return seconds
      end
      local function step(text)
        local file = assert(io.open(os.getenv("FAKETIME_TIMESTAMP_FILE"), "w"))
        file:write(text, "\n")
        file:close()
      end
      local began = os.time()
      for _, hours in ipairs { -5, 5 } do
        local beats, due, later = 0, 0, nil
        local timer = neap.every(0.1, function() beats = beats + 1 end)
        neap.after(0.2, function() later = uptime() end)
        local one, other = testing.pair({ timeout = 0.3 })
        local before = uptime()
        step(("%+d"):format(hours * 3600))
        assert(math.abs(os.time() - began - hours * 3600) < 100, "the wall clock did not move")
        assert(select(3, one:read(1)) == "timeout")
        due = uptime() - before
        assert(select(3, neap.deadline(0.3, function() return neap.sleep(1000) end)) == "timeout")
        neap.sleep(0.3)
        local took = uptime() - before
        timer:cancel()
        one:close()
        other:close()
        -- never too early, and on a busy machine later, but not by hours
        assert(due >= 0.28 and took >= 0.88 and took < 30, took)
        assert(later - before >= 0.18 and beats >= 1 and beats <= took / 0.1 + 1, beats)
        print("unmoved")
      end
    ]])
    local run = helper.sh(("faketime -f +0 env -u FAKETIME FAKETIME_TIMESTAMP_FILE=%s "
      .. "FAKETIME_NO_CACHE=1 DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 %s %s")
      :format(clock, helper.neap, script))
    assert.equal("", run.err)
    assert.equal("unmoved\nunmoved\n", run.out)
    assert.equal(0, run.status)
  end)
end)
