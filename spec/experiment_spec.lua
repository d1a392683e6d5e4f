--- The experiment of docs/experiment.md, a twentieth of it: it runs, and shows what it shows.

local helper = require("spec.helper")

local function run(command)
  local child = helper.start("env NEAP_LEAKS=off " .. command, 120) -- what it forgets it means to
  local result = child:finish()
  assert.equal("", result.err)
  assert.equal(0, result.status)
  return result.out
end

-- The figures of one arm.
local function arm(name, part)
  local of = {}
  local out = run(("%s bench/experiment_arms.lua %s %g"):format(helper.neap, name, part))
  for key, value in out:gmatch("result (%S+) (%S+)") do of[key] = tonumber(value) end
  return of
end

describe("the experiment #programs", function()
  helper.watch(before_each, after_each, 200)

  it("E1 E3 makes no buf after the first where bodies are released, and asks for no collector"
    .. " #neighbours #pace",
    function()
      local of = arm("released", 0.02)
      assert.equal(8000, of.requests)
      assert.equal(1, of.bufs_made)
      assert.equal(8000, of.by_hand)
      assert.equal(0, of.by_collector)
      assert.equal(0, of.collector_share)
      assert.is_true(of.in_use_peak <= 32768)
    end)

  it("E2 E3 gets all bodies back that are forgotten, and counts them", function()
    local of = arm("forgotten", 0.02)
    assert.equal(0, of.by_hand)
    assert.is_true(of.by_collector > 7000 and of.by_collector <= 8000)
    assert.is_true(of.collector_share > 0)
    assert.is_true(of.in_use_peak < 40 * 1048576)
  end)

  it("W1 W3 W4 holds at the end what is in use, and a naive pool all that ever was"
    .. " #sizes", function()
    local grown, naive_grown = arm("grown", 0.5), arm("naive_grown", 0.5)
    assert.is_true(grown.in_use < naive_grown.in_use / 1000)
    local kept, naive_kept = arm("missized", 0.1), arm("naive_missized", 0.1)
    assert.is_true(kept.asked / kept.in_use > 0.9)
    assert.is_true(naive_kept.asked / naive_kept.in_use < 0.13)
    local slivers, naive_slivers = arm("slivers", 0.2), arm("naive_slivers", 0.2)
    assert.is_true(slivers.in_use <= 131072 + 8 * slivers.asked)
    assert.is_true(slivers.moved > 500)
    assert.equal(600 * 65536, naive_slivers.in_use)
  end)

  it("E3 prints both tables, and draws #neighbours #pace", function()
    local directory = helper.temporary_directory()
    local out = run(("%s bench/experiment.lua --quick --plots %s"):format(helper.neap, directory))
    for _, line in ipairs { "resident memory, mean", "bytes in use, at the end",
      "bytes allocated over the run", "time a body", "of it neap's steps of the collector",
      "slices released by hand  +20000  +0  +20000", "slices released by the collector",
      "A memcpy of the same bytes", "10 bytes kept of each of 3,000 reads" } do
      assert.matches(line, out)
    end
    for _, name in ipairs { "bodies", "traps" } do
      local file = assert(io.open(directory .. "/experiment-" .. name .. ".svg"))
      local drawn = file:read("*a")
      file:close()
      assert.matches("^<svg ", drawn)
      assert.matches("</svg>\n$", drawn)
      local _, lines = drawn:gsub("<polyline", "")
      assert.equal(name == "bodies" and 10 or 8, lines)
    end
  end)
end)
