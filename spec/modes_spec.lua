--- The mode in which every slice is one malloc(): a program in C that writes one byte too far
--- (spec/shim/overrun.c) is caught by AddressSanitizer and by valgrind, whichever way it got the
--- slice. In a usual build the neighbour lies there, and nobody can see it.

local helper = require("spec.helper")

local BUILD_S = 120

-- Returns the program's name.
local function build(name, flags)
  local directory = "build/overrun-" .. name
  local built = helper.start(("env -u MAKEFLAGS make -s -j2 BUILD=%s %s %s/overrun"):format(
    directory, flags, directory), BUILD_S):finish()
  assert.equal("", built.err)
  assert.equal(0, built.status)
  return directory .. "/overrun"
end

describe("a slice that is one malloc()", function()
  helper.watch(before_each, after_each, BUILD_S + 60)

  it("shows AddressSanitizer one byte too far, on either side, and a use after its end", function()
    local overrun = "LD_PRELOAD= ASAN_OPTIONS=detect_leaks=0 " ..
      build("asan", "SANITIZE=address CFLAGS='-O0 -g' CPPFLAGS=-DNEAP_MODE_MALLOC")
    for _, way in ipairs { "alloc", "copy", "read", "buffer" } do
      local inside = helper.sh(("%s %s 0"):format(overrun, way))
      assert.equal("", inside.err)
      assert.equal("nothing was seen\n", inside.out)
      for _, beyond in ipairs { 1, -1 } do
        local outside = helper.sh(("%s %s %d"):format(overrun, way, beyond))
        assert.matches("heap-buffer-overflow", outside.err, 1, true)
        assert.matches("WRITE of size 1", outside.err, 1, true)
        assert.equal("", outside.out)
      end
    end
    assert.matches("heap-use-after-free", helper.sh(overrun .. " released 0").err, 1, true)
  end)

  it("shows valgrind the same", function()
    if helper.sh("valgrind --version").status ~= 0 then pending("no valgrind here") end
    local overrun = "valgrind -q " ..
      build("valgrind", "CFLAGS='-O0 -g' CPPFLAGS='-DNEAP_VALGRIND -DNEAP_MODE_MALLOC'")
    assert.equal("", helper.sh(overrun .. " alloc 0").err)
    for _, way in ipairs { "alloc", "read" } do
      local outside = helper.sh(("%s %s 1"):format(overrun, way))
      assert.matches("Invalid write of size 1", outside.err, 1, true)
    end
  end)
end)
