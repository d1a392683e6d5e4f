--- System calls and requests for memory that fail, each in turn, in a server with clients
--- (spec/shim/scenario.lua): the result is an error or success, nothing is left, the counters add
--- up, and the next connection works.

local helper = require("spec.helper")

local build = os.getenv("BUILD") or "build"
local shim = helper.top .. "/" .. build .. "/shim.so"
local SCENARIOS = { "echo", "crowd", "frames", "proxy", "serve", "files" }
local REQUESTS = 300 -- of memory at most
local AT_ONCE = 6  -- processes
local RUN_S = 300 -- where much else is going on

local built = io.open(shim, "rb")
if built then built:close() end
-- a sanitizer takes the same calls for itself
local possible = built and not helper.stock_environment():find("LD_PRELOAD", 1, true)

local directory

local function start(environment, what, scenario)
  return helper.start(("env %s LD_PRELOAD=%s %s %s spec/shim/scenario.lua %s %s %s 3>&1"):format(
    environment, shim, helper.neap, jit.status() and "" or "-joff", what, scenario, directory),
    RUN_S)
end

-- What the scenario "files" serves.
local function make_files()
  directory = helper.temporary_directory()
  helper.file("hello", directory .. "/small")
  helper.file(("0123456789abcdef"):rep(10000), directory .. "/large")
end

describe("a server whose system calls fail", function()
  helper.watch(before_each, after_each, RUN_S + 10)
  before_each(make_files)

  it("loses nothing by any call that fails, and goes on: " .. table.concat(SCENARIOS, ", ")
    .. " #sizes", function()
    if not possible then pending("no shim") end
    local children = {} -- at once: they rest after many a failure
    for i, scenario in ipairs(SCENARIOS) do children[i] = start("", "calls", scenario) end
    local results = {}
    for i, child in ipairs(children) do results[i] = child:finish() end
    for i, result in ipairs(results) do
      if result.status ~= 0 then error(SCENARIOS[i] .. result.out .. result.err:sub(-500)) end
      local count = tonumber(result.out:match(": (%d+) calls failed"))
      assert.is_true(count > 50, result.out)
    end
  end)
end)

describe("an answer that the system refuses to send", function()
  helper.watch(before_each, after_each, RUN_S + 10)

  it("is a reset for the peer: neither a wait nor an end", function()
    if not possible then pending("no shim") end
    local result = helper.start(("env LD_PRELOAD=%s %s %s spec/shim/lost.lua"):format(shim,
      helper.neap, jit.status() and "" or "-joff"), RUN_S):finish()
    assert.equal("reset\n", result.out)
  end)
end)

describe("a connection that the system refuses to watch", function()
  helper.watch(before_each, after_each, RUN_S + 10)

  it("fails, is counted, and lets the loop rest; once may pass", function()
    if not possible then pending("no shim") end
    local result = helper.start(("env LD_PRELOAD=%s %s --stats %s spec/shim/unwatched.lua"):format(
      shim, helper.neap, jit.status() and "" or "-joff"), RUN_S):finish()
    if result.status ~= 0 then error(result.out .. result.err:sub(-500)) end
    assert.equal("unwatched:\t8\n", result.out)
    assert.matches("\nconnections.unwatched 8\n", result.err, 1, true)
  end)
end)

-- Runs begin(0) to begin(most), some at once; gives each number and what came of it, in order.
local function in_turn(most, begin)
  return coroutine.wrap(function()
    for first = 0, most, AT_ONCE do
      local children, results = {}, {}
      for i = 1, AT_ONCE do children[i] = begin(first + i - 1) end
      for i = 1, AT_ONCE do results[i] = children[i]:finish() end
      for i = 1, AT_ONCE do coroutine.yield(first + i - 1, results[i]) end
    end
  end)
end

describe("a server that gets no memory", function()
  helper.watch(before_each, after_each, RUN_S + 10)
  before_each(make_files)

  for _, scenario in ipairs(SCENARIOS) do
    it(scenario .. " tells so, at each request from the start of the process on", function()
      if not possible then pending("no shim") end
      local failed, starts = 0, 0
      local function begin(after)
        return start("SHIM_TELLS=3 SHIM=memory:" .. after .. ":12", "memory", scenario)
      end
      for after, result in in_turn(REQUESTS, begin) do
        if result.out:find("shim: 0", 1, true) then break end
        failed = failed + 1
        -- or the process could not even begin
        local started = ("\n" .. result.out):match("\n(%a+)\n")
        starts = starts + (started and 0 or 1)
        local told = started or result.err:find("memory", 1, true)
        if not told or result.status > 1 then
          error(("request %d: status %d, %s%s"):format(after + 1, result.status, result.out,
            result.err))
        end
      end
      assert.is_true(failed > 5 and failed < REQUESTS, "failed: " .. failed)
      assert.is_true(starts < failed, "none of them came so far")
    end)
  end
end)
