--- What LuaJIT gets wrong and neap keeps scripts from (lua/neap/luajit.lua): each in a process of
--- its own, which it may end.

local helper = require("spec.helper")

-- The handler leaves its bytes on the stack on which the compiler then works.
local files = [[
require("neap")
local function stir()
  for i = 1, 3 do
    string.format("%5.1f %s %d", i, "x", i)
    table.sort { 3, 2, 1, 5, 6, 7 }
  end
end
local out, right = io.stdout, 0
local expected = getmetatable(out)
local kept, latest = {}, nil
local function keep(x) latest = x end
jit.attach(stir, "record")
for i = 1, 300 do
  local metatable = getmetatable(out)
  kept.latest, kept[i] = metatable, metatable
  keep(metatable)
end
jit.attach(stir)
for i = 1, 300 do if kept[i] == expected then right = right + 1 end end
print(right, kept.latest == expected, latest == expected, expected.__index.write == out.write)
]]

-- Tasks that raise while a trace is recorded, and a count of traces that begin before the last one
-- has ended. The number of that one would name freed memory when all traces are flushed.
local raising = [==[
local neap = require("neap")
neap.log.configure { level = "error" }
local open, lost = false, 0
jit.attach(function(what)
  if what == "start" then
    if open then lost = lost + 1 end
    open = true
  elseif what == "stop" or what == "abort" then open = false end
end, "trace")
local raises = [[
  local assert, t = assert, {}
  return function(n)
    for i = 1, 10 do
      t[i % 4] = i
      assert(i < n, "as it should")
    end
  end]]
jit.opt.start("hotloop=3", "hotexit=2")
local function fine() return 1 end
for round = 1, 300 do
  for _ = 1, 20 do neap.spawn(fine) end
  for k = 1, 8 do
    local fn, n = loadstring(raises)(), 2 + (round * 7 + k) % 5
    neap.spawn(function() fn(n) end)
    neap.spawn(function() neap.sleep(0) fn(n) end)
  end
  neap.sleep(0)
end
print(lost)
]==]

describe("LuaJIT, with neap", function()
  helper.watch(before_each, after_each)

  it("knows the metatable of a file in a trace", function()
    local name = helper.file(files)
    for _ = 1, 5 do
      local run = helper.sh(helper.neap .. " " .. name)
      assert.equal("", run.err)
      assert.equal("300\ttrue\ttrue\ttrue\n", run.out)
      assert.equal(0, run.status)
    end
  end)

  it("records no trace while another one is, whenever a task raises", function()
    if not jit.status() then pending("no compiler") end
    for _ = 1, 3 do
      assert.equal("0\n", helper.sh(helper.neap .. " " .. helper.file(raising)).out)
    end
  end)
end)
