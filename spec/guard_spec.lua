-- The runaway guard.

local helper = require("spec.helper")

-- A server whose handler runs `body` for whoever comes, and its client.
local function program(body, before)
  return ([[
    local neap = require("neap")
    local ffi, C = require("ffi"), require("neap.abi").C
    local function seconds() return C.neap_log_time() end
    %s
    local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
      assert(conn:read(1)):release()
      %s
    end))
    local conn = assert(neap.connect(listener.address))
    conn:write("x")
    conn:read(1)
    conn:close()
    listener:close()
    print("end")
  ]]):format(before or "", body)
end

-- Both count what they take of the processor: the time of a machine that does something else
-- meanwhile is not theirs.
local interpreted = [[
  jit.off()
  local over = os.clock() + 0.6
  while os.clock() < over do end]]

-- A loop that calls nothing is compiled, and gives the interpreter no control.
local compiled = [[
  local sum, rounds = 0, 1e6
  local function run() for i = 1, rounds do sum = sum + i % 7 end end
  run()
  local before = os.clock()
  run()
  rounds = rounds * math.max(1, 1.5 / math.max(0.001, os.clock() - before))]]

local endless = "local n = 0 while true do n = n + 1 end"

local function run(options, body, before)
  local path = helper.file(program(body, before))
  return helper.sh(("%s %s %s"):format(helper.neap, options, path))
end

describe("the runaway guard", function()
  helper.watch(before_each, after_each)

  it("tells of a task that gives no control back: its peer, its origin, where it is", function()
    local got = run("--guard=0.2 --stats", interpreted)
    assert.equal("end\n", got.out)
    assert.matches("error a task has not given control back for %d+%.%d s", got.err)
    assert.matches("serving=tcp://127.0.0.1:%d+", got.err)
    assert.matches("spawned_at=%S+:5\n", got.err)
    assert.matches("traceback:\n.-in function <[^\n]*:5>\n", got.err)
    assert.matches("\nconnections.runaways 1\n", got.err, 1, true)
    assert.equal(0, got.status)
  end)

  local it_compiled = jit.status() and it or pending

  it_compiled("tells of a compiled loop, and where it was once that has ended", function()
    local got = run("--guard=0.2", "run()", compiled)
    assert.equal("end\n", got.out)
    assert.matches("control back for %d+%.%d s, in code that cannot be interrupted; the last event "
      .. "was of tcp://127.0.0.1:%d+\n", got.err)
    assert.equal(0, got.status)
  end)

  it_compiled("aborts the process after a second limit", function()
    local got = run("--guard=0.1,0.4", endless)
    assert.equal("", got.out)
    assert.matches("back for %d+%.%d s, [^\n]*: the process aborts\n", got.err)
    assert.equal(134, got.status)
  end)

  it("says nothing where all give control back, nor where nobody else waits", function()
    local busy = [[
      jit.off()
      for _ = 1, 30 do
        local over = seconds() + %g / 10
        while seconds() < over do end
        neap.sleep(0)
      end]]
    local got
    for _, limit in ipairs { 0.2, 1, 5 } do -- where the machine stands still it is right to tell
      got = run("--guard=" .. limit, busy:format(limit))
      assert.equal("end\n", got.out)
      if got.err == "" then break end
    end
    assert.equal("", got.err)
    got = helper.sh(("%s --guard=0.05 -e %q"):format(helper.neap, [[
      local C = require('neap.abi').C
      local over = C.neap_log_time() + 0.3
      while C.neap_log_time() < over do end]]))
    assert.equal("", got.err)
  end)

  it("leaves a hook of the script's own in its place", function()
    local got = run("--guard=0.2", [[
      local count = 0
      debug.sethook(function() count = count + 1 end, "", 1000)
      ]] .. interpreted .. [[
      local before = count
      for _ = 1, 10000 do assert(debug.gethook()) end
      print(count > before)]])
    assert.equal("true\nend\n", got.out)
    assert.matches("not given control back", got.err, 1, true)
  end)

  it("is set by a call and by the environment, in a stock luajit, too", function()
    local path = helper.file(program("neap.guard { report = 0.1, abort = 0.3 }\n" .. endless))
    local stock = "env " .. helper.stock_environment()
    local got = helper.sh(("%s luajit -joff %s"):format(stock, path))
    assert.matches("the process aborts", got.err, 1, true)
    path = helper.file(program(endless))
    for _, command in ipairs { stock .. " NEAP_GUARD=0.1,0.3 luajit",
      "env NEAP_GUARD=0.1,0.3 " .. helper.neap } do
      got = helper.sh(command .. " " .. path)
      assert.matches("the process aborts", got.err, 1, true)
    end
  end)

  it("takes a turn of the loop for a sign of life, though pipes alone go on in it", function()
    local C, loop = require("neap.abi").C, require("neap.wait").loop
    local before = C.neap_guard_beat().count
    C.neap_loop_poll(loop, 0)
    assert.equal(before + 1, C.neap_guard_beat().count)
  end)

  it("refuses what are no seconds", function()
    local neap = require("neap")
    for _, bad in ipairs { -1, 0 / 0, 1e9 } do
      helper.raises("neap.guard: report must be", function() neap.guard({ report = bad }) end)
      helper.raises("neap.guard: abort must be", function() neap.guard({ abort = bad }) end)
    end
    helper.raises("no option", function() neap.guard({ reports = 1 }) end)
    local got = helper.sh(helper.neap .. " --guard=soon -e 'print(1)'")
    assert.matches("write --guard=REPORT[,ABORT], in seconds, as in 2,10, not --guard=soon",
      got.err, 1, true)
    assert.equal(1, got.status)
    got = helper.sh(("env NEAP_GUARD=soon %s -e 'print(1)'"):format(helper.neap))
    assert.matches("NEAP_GUARD must be REPORT[,ABORT], in seconds got=soon", got.err, 1, true)
  end)
end)
