-- neap.on_signal, in programs of their own.

local helper = require("spec.helper")
local neap = require("neap")

-- A script that says "up" once its signals are caught, and then waits.
local function program(text)
  return ([[
    local neap = require("neap")
    local function say(...) print(...) io.stdout:flush() end
    local listener = assert(neap.listen("unix://@%s", function() end)) -- keeps it going
    %s
    say("up")
    neap.run()
  ]]):format(helper.temporary_name(), text)
end

local commands = {
  ["the neap command"] = function(script) return helper.neap .. " " .. script end,
  ["a stock luajit"] = function(script)
    return "env " .. helper.stock_environment() .. " luajit " .. script
  end,
}

for where, command in pairs(commands) do
  local function start(text)
    local child = helper.start(command(helper.file(program(text))))
    assert.equal("up", child:line() or child:finish().err)
    return child
  end

  describe("neap.on_signal in " .. where, function()
    helper.watch(before_each, after_each)

    it("runs a handler in a task, each time", function()
      local child = start([[
        local count = 0
        neap.on_signal("HUP", function()
          neap.sleep(0.001) -- only a task can, here
          count = count + 1
          say("HUP", count)
        end)
        neap.on_signal("USR1", function() say("USR1") end)]])
      child:kill("HUP")
      assert.equal("HUP\t1", child:line())
      child:kill("USR1")
      assert.equal("USR1", child:line())
      child:kill("HUP")
      assert.equal("HUP\t2", child:line())
      child:kill("TERM")
      assert.equal(0, child:finish().status)
    end)

    it("takes a number as well", function()
      local child = start([[neap.on_signal(10, function() say("ten") end)]])
      child:kill("USR1")
      assert.equal("ten", child:line())
      child:kill("TERM")
      child:finish()
    end)

    it("goes on after a handler that raises, and tells of it", function()
      local child = start([[
        local count = 0
        neap.on_signal("USR1", function()
          count = count + 1
          say(count)
          if count == 1 then error("a bad handler") end
        end)]])
      child:kill("USR1")
      assert.equal("1", child:line())
      child:kill("USR1")
      assert.equal("2", child:line())
      child:kill("TERM")
      local run = child:finish()
      assert.equal(0, run.status)
      assert.matches("a bad handler", run.err, 1, true)
    end)

    it("with nil gives the default back", function()
      local child = start([[
        neap.on_signal("USR1", function() say("caught") end)
        neap.on_signal("USR1", nil)]])
      child:kill("USR1")
      local run = child:finish()
      assert.equal("", run.out)
      assert.equal(128 + 10, run.status)
    end)

    it("replaces what TERM and INT do, again and again", function()
      local child = start([[
        for _, name in ipairs { "TERM", "INT" } do
          neap.on_signal(name, function() say(name) end)
        end
        neap.on_signal("HUP", neap.stop)]])
      for _ = 1, 2 do
        for _, name in ipairs { "TERM", "INT" } do
          child:kill(name)
          assert.equal(name, child:line())
        end
      end
      child:kill("HUP")
      assert.equal(0, child:finish().status)
    end)

    it("runs the handlers of all that came in one turn, once each", function()
      local child = start([[
        local seen = {}
        for _, name in ipairs { "HUP", "USR1", "USR2" } do
          neap.on_signal(name, function()
            seen[name] = (seen[name] or 0) + 1
            if seen.HUP and seen.USR1 and seen.USR2 then
              say(seen.HUP, seen.USR1, seen.USR2)
              neap.stop()
            end
          end)
        end
        neap.spawn(function()
          os.execute("for s in HUP USR1 HUP USR2; do kill -$s $PPID; done") -- the loop stands
        end)]])
      local run = child:finish()
      assert.equal(0, run.status)
      assert.equal("1\t1\t1\n", run.out)
    end)
  end)
end

describe("neap.on_signal", function()
  helper.watch(before_each, after_each)

  it("refuses what cannot be caught", function()
    for _, signal in ipairs { "KILL", "STOP", "SEGV", "NONE", "SIGHUP", "hup", "", 0, 9, 65, -1,
      1e9, 0.5, 0 / 0, 1 / 0, {}, true } do
      helper.raises("is no signal that a program can catch", function()
        neap.on_signal(signal, function() end)
      end)
    end
    helper.raises("is no signal that a program can catch", function()
      neap.on_signal(nil, function() end)
    end)
    helper.raises("needs a function, or nil, got string", function()
      neap.on_signal("HUP", "ignore")
    end)
  end)
end)
