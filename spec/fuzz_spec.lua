--- Random scripts (spec/fuzz/script.lua), a while. FUZZ_OPERATIONS=1000000 for more, FUZZ_SEED to
--- repeat one. Compiled, or in the interpreter if the specs are (make test-interpreted).

local helper = require("spec.helper")

local operations = tonumber(os.getenv("FUZZ_OPERATIONS")) or 15000
local RUN_S = 50 + operations / 1000 -- where much else is going on
local seed = os.getenv("FUZZ_SEED") or os.time() % 1000000

describe("a random script", function()
  helper.watch(before_each, after_each, RUN_S + 10)

  it("crashes nothing, keeps its bytes, and leaves nothing", function()
    local run = helper.start(("%s %s spec/fuzz/script.lua %d %s"):format(helper.neap,
      jit.status() and "" or "-joff", operations, seed), RUN_S):finish()
    if run.status ~= 0 then
      error(("status %d with seed %s: %s%s"):format(run.status, seed, run.err, run.out:sub(-200)))
    end
    assert.matches("seed %d+: %d+ operations, %d+ %% of them succeeded", run.out)
  end)
end)
