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
end)
