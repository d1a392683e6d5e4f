--- Scopes: tasks that end before the call that started them does.

local helper = require("spec.helper")
local neap = require("neap")
local task = require("neap.task")
local testing = require("neap.testing")

local raises = helper.raises
local RUNS = tonumber(os.getenv("MODEL_RUNS")) or 5000

local function name_of(_, _, name) return name end

-- What a script's assert does; busted has put another in its place.
local function insist(result, message)
  if not result then error(message, 0) end
  return result
end

describe("a scope", function()
  helper.watch(before_each, after_each)

  it("ends when its tasks have, and gives back what its function returned", function()
    local ended = 0
    local a, b = neap.scope(function(scope)
      for i = 1, 3 do
        scope:spawn(function()
          neap.sleep(i / 1000)
          ended = ended + 1
        end)
      end
      assert.equal("scope of 3 tasks", tostring(scope))
      return 1, 2
    end)
    assert.same({ 1, 2, 3 }, { a, b, ended })
  end)

  it("starts tasks with their arguments, which can be joined, and start others", function()
    local deepest
    neap.scope(function(scope)
      local child = scope:spawn(function(a, b, c) return c, b, a end, 1, nil, 3)
      local c, b, a = child:join()
      assert.same({ 3, nil, 1 }, { c, b, a })
      local function deeper(depth)
        neap.sleep(0)
        if depth == 10 then deepest = depth else scope:spawn(deeper, depth + 1) end
      end
      scope:spawn(deeper, 1)
    end)
    assert.equal(10, deepest)
  end)

  it("raises the first error, and cancels the others and its own function", function()
    local seen = {}
    local ok, err = pcall(neap.scope, function(scope)
      scope:spawn(function() seen[1] = name_of(neap.sleep(60)) end)
      scope:spawn(function()
        neap.sleep(0.001)
        error("the first", 0)
      end)
      scope:spawn(function() insist(neap.sleep(60)) end) -- obeys
      seen[2] = name_of(neap.sleep(60))
      seen[3] = name_of(neap.sleep(60)) -- and that stays so
    end)
    assert.is_false(ok)
    assert.equal("the first", err)
    assert.same({ "cancelled", "cancelled", "cancelled" }, seen)
    assert.is_true(neap.sleep(0)) -- and no longer
  end)

  it("tells the errors that came after the first, too", function()
    local kept
    local ok, err = pcall(neap.scope, function(scope)
      kept = scope
      scope:defer(function() error("cleaning up", 0) end)
      scope:spawn(function()
        neap.sleep(60)
        error("the second", 0)
      end)
      neap.sleep(0)
      error("the first", 0)
    end)
    assert.is_false(ok)
    assert.equal("the first\nalso: the second\nalso: cleaning up", err)
    assert.same({ "the first", "the second", "cleaning up" }, { unpack(kept.errors) })
    local thing = {}
    ok, err = pcall(neap.scope, function(scope)
      scope:spawn(error, thing)
    end)
    assert.is_false(ok)
    assert.equal(thing, err)
  end)

  it("that ends in an error is told once, with the traceback of who raised it", function()
    local run = helper.script([[
      local neap = require("neap")
      neap.spawn(function()
        neap.scope(function(scope)
          scope:spawn(function()
            error("mistake")
          end)
          assert(neap.sleep(60))
        end)
      end)]])
    assert.matches("script:5: mistake", (run.err:gsub("/tmp/lua_%w+", "script")), 1, true)
    assert.equal(1, select(2, run.err:gsub("a task ended", "")))
    assert.matches("spawned_at=%S+:2", run.err)
    assert.matches("'error'\n *%S+:5: in function", run.err)
  end)

  it("whose task met a failure of the outside world ends in that", function()
    local run = helper.script([[
      local neap = require("neap")
      local task, testing = require("neap.task"), require("neap.testing")
      neap.spawn(function()
        neap.scope(function(scope)
          local one, other = testing.pair()
          scope:defer(function() one:close() end)
          scope:spawn(function() assert(one:read(1)) end)
          other:close()
          assert(neap.sleep(60))
        end)
      end):join()
      local own, outside = task.failures()
      print(own, outside.eof)]])
    assert.equal("0\t1\n", run.out)
    assert.is_nil(run.err:find("traceback", 1, true))
  end)

  it("is cancelled with its task, and its tasks with it", function()
    local seen = {}
    local owner = neap.spawn(function()
      local result = { neap.scope(function(scope)
        scope:spawn(function() seen.child = name_of(neap.sleep(60)) end)
        return "lost"
      end) }
      return result[1], result[3]
    end)
    neap.sleep(0)
    owner:cancel()
    local result, name = owner:join()
    assert.same({ nil, "cancelled", "cancelled" }, { result, name, seen.child })
    -- also where its function waits and takes no notice
    owner = neap.spawn(function()
      return neap.scope(function(scope)
        scope:spawn(function() seen.other = name_of(neap.sleep(60)) end)
        return name_of(neap.sleep(60))
      end), neap.sleep(0)
    end)
    neap.sleep(0)
    owner:cancel()
    assert.same({ "cancelled", true }, { owner:join() })
    assert.equal("cancelled", seen.other)
  end)

  it("ends with a deadline around it", function()
    local seen
    local result, message, name = neap.deadline(0.001, function()
      return neap.scope(function(scope)
        scope:spawn(function() seen = name_of(neap.sleep(60)) end)
      end)
    end)
    assert.same({ nil, "timeout", "cancelled" }, { result, name, seen })
    assert.equal("neap.scope: it took too long", message)
  end)

  it("inside another ends with it", function()
    local order = {}
    local ok, err = pcall(neap.scope, function(outer)
      outer:spawn(function()
        neap.scope(function(inner)
          inner:spawn(function()
            order[#order + 1] = name_of(neap.sleep(60))
          end)
          inner:defer(function() order[#order + 1] = "inner" end)
        end)
      end)
      outer:defer(function() order[#order + 1] = "outer" end)
      neap.sleep(0.001)
      error("enough", 0)
    end)
    assert.same({ false, "enough" }, { ok, err })
    assert.same({ "cancelled", "inner", "outer" }, order)
  end)

  it("can cancel its tasks without an error", function()
    local seen = {}
    local result = neap.scope(function(scope)
      scope:spawn(function() seen[1] = name_of(neap.sleep(60)) end)
      neap.sleep(0)
      scope:cancel()
      scope:spawn(function() seen[2] = name_of(neap.sleep(60)) end) -- too late
      seen[3] = neap.sleep(0)
      return "done"
    end)
    assert.equal("done", result)
    assert.same({ "cancelled", "cancelled", true }, seen)
  end)

  it("tells a task again that takes no notice", function()
    local clock = testing.clock()
    local told = 0
    local owner = neap.spawn(function()
      return select(2, pcall(neap.scope, function(scope)
        scope:spawn(function()
          while told < 3 do
            if name_of(neap.sleep(60)) == "cancelled" then told = told + 1 end
          end
        end)
        neap.sleep(1)
        error("enough", 0)
      end))
    end)
    clock:advance(4)
    assert.equal(2, told)
    clock:advance(1)
    assert.equal(3, told)
    assert.equal("enough", (owner:join()))
    clock:release()
  end)

  it("runs what cleans up, the last one first, when its tasks have ended", function()
    local order = {}
    neap.scope(function(scope)
      scope:defer(function() order[#order + 1] = "first given" end)
      scope:defer(function()
        neap.sleep(0.001)
        order[#order + 1] = "last given"
      end)
      scope:spawn(function()
        neap.sleep(0.001)
        order[#order + 1] = "task"
      end)
    end)
    assert.same({ "task", "last given", "first given" }, order)
  end)

  it("lets what cleans up wait, in spite of cancels and deadlines, for 2 s", function()
    local clock = testing.clock()
    local seen = {}
    local owner = neap.spawn(function()
      neap.deadline(1, function()
        neap.scope(function(scope)
          scope:defer(function() seen[3] = name_of(neap.sleep(60)) end)
          scope:defer(function() seen[2] = neap.sleep(1.5) end)
          seen[1] = name_of(neap.sleep(60))
        end)
        seen[4] = name_of(neap.sleep(60))
      end)
      seen[5] = neap.sleep(0)
    end)
    clock:advance(1)
    owner:cancel()
    clock:advance(1.5)
    assert.is_true(seen[2])
    clock:advance(0.5)
    owner:join()
    -- the cancel came while it cleaned up: it ends the first wait after that
    assert.same({ "timeout", true, "timeout", "cancelled", true }, seen)
    clock:release()
  end)

  it("raises at the caller's line what is misused", function()
    raises("neap.scope: needs a function", function() neap.scope(1) end)
    local kept
    neap.scope(function(scope)
      kept = scope
      raises("scope:spawn: needs a function", function() scope:spawn() end)
      raises("scope:defer: needs a function", function() scope:defer({}) end)
      for _, name in ipairs { "spawn", "defer", "cancel" } do
        helper.refuses_self(scope[name], "scope:" .. name, helper.not_objects())
      end
      scope:defer(function()
        raises("scope:spawn: the scope has ended", function() scope:spawn(print) end)
      end)
    end)
    raises("scope:spawn: the scope has ended", function() kept:spawn(print) end)
    raises("scope:defer: the scope has ended", function() kept:defer(print) end)
    coroutine.wrap(function()
      raises("neap.wrap", function() neap.scope(function() end); end)
    end)()
  end)

  it("works outside of all tasks", function()
    local run = helper.stock([[
      local neap = require("neap")
      print(neap.scope(function(scope)
        scope:spawn(function() neap.sleep(0.01) print("task") end)
        return "result"
      end) == "result")
      print(pcall(neap.scope, function(scope)
        scope:spawn(function() error("mistake", 0) end)
        print(select(3, neap.sleep(60)))
      end))
      neap.spawn(neap.stop)
      print(pcall(neap.scope, function(scope) scope:spawn(neap.sleep, 60) end))
      print(neap.sleep(0))
    ]])
    assert.equal("task\ntrue\ncancelled\nfalse\tmistake\nfalse\tinterrupted\ntrue\n", run.out)
    assert.equal("", run.err)
  end)
end)

-- ---- against a model ----

-- Time is a count of turns. A child ends at its turn, or raises at it; one that is cancelled
-- ends at once, or, if it is slow, so many turns later. Returns what the scope's caller sees: the
-- result or the errors, and how each child ended.
local function expected(children, own)
  local first
  for i, child in ipairs(children) do
    if child.fails and (not first or child.turns < children[first].turns) then first = i end
  end
  local ends = {}
  local limit = first and children[first].turns
  if own.fails and (not limit or own.turns < limit) then
    first, limit = 0, own.turns
  end
  for i, child in ipairs(children) do
    ends[i] = first and child.turns > limit and "cancelled" or "by itself"
  end
  return first, ends, limit
end

-- So many turns, or until the task is cancelled.
local function turns(count)
  for _ = 1, count do
    if task.next_turn() < 0 then return false end
  end
  return true
end

describe("a scope in random interleavings", function()
  helper.watch(before_each, after_each, 300)

  local function one_run(random)
    local children, taken = {}, {}
    -- no two at the same turn: which of those is first is nobody's business
    local function some_turns()
      local count
      repeat count = random(1, 12) until not taken[count]
      taken[count] = true
      return count
    end
    for i = 1, random(0, 4) do
      children[i] = { turns = some_turns(), fails = random(3) == 1, slow = random(0, 3) }
    end
    local own = { turns = some_turns(), fails = random(4) == 1 }
    local first, ends = expected(children, own)
    local got, live = {}, 0
    local ok, err = pcall(neap.scope, function(scope)
      for i, child in ipairs(children) do
        live = live + 1
        scope:spawn(function()
          if turns(child.turns) then
            got[i] = "by itself"
          else
            got[i] = "cancelled"
            turns(child.slow)
          end
          live = live - 1
          if child.fails and got[i] == "by itself" then error(i, 0) end
        end)
      end
      task.next_turn() -- they have begun
      if turns(own.turns) and own.fails then error(0, 0) end
    end)
    assert(live == 0, "a task outlived its scope")
    assert(ok == not first, "it ended otherwise")
    assert(ok or err == first, ("error of %s, and not of %s"):format(tostring(err),
      tostring(first)))
    for i = 1, #children do assert(got[i] == ends[i], "child " .. i .. " " .. tostring(got[i])) end
  end

  it("does what a plain model does", function()
    for seed = 1, RUNS do
      math.randomseed(seed)
      local ok, err = pcall(one_run, math.random)
      if not ok then error(("seed %d: %s"):format(seed, tostring(err)), 0) end
    end
  end)
end)
