--- Random scripts (spec/fuzz/script.lua), a while. FUZZ_OPERATIONS=1000000 for more, FUZZ_SEED to
--- repeat one. Compiled, or in the interpreter if the specs are (make test-interpreted).

local helper = require("spec.helper")

local operations = tonumber(os.getenv("FUZZ_OPERATIONS")) or 15000
local RUN_S = 200 + operations / 1000 -- where much else is going on
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

-- Runs what is left of the cases. Returns the number of the next one, or nil, and what was printed.
local function run_fields(first)
  local run = helper.start(("%s %s --leaks=off spec/fuzz/fields.lua %d"):format(helper.neap,
    jit.status() and "" or "-joff", first), RUN_S):finish()
  if run.status == 0 then return nil, run.out end
  local last = ("\n" .. run.out):match(".*\n(%d+ [^\n]+)\n$") or "no case at all"
  if run.status ~= 1 then error(("status %d at %s: %s"):format(run.status, last, run.err)) end
  return tonumber(last:match("^%d+")) + 1, last
end

describe("a script that writes into neap's tables", function()
  helper.watch(before_each, after_each, 2 * RUN_S)

  it("makes errors of its own, and of no timer and no channel", function()
    local next_one, text = 1
    repeat
      next_one, text = run_fields(next_one)
      assert.is_nil(next_one and (text:match("^%d+ timer") or text:match("^%d+ beat")
        or text:match("channel")))
    until not next_one
    assert.matches("\ndone: %d%d%d\n$", text)
  end)
end)
