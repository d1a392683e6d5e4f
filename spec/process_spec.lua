local helper = require("spec.helper")

local as_root = helper.root and it or pending

describe("neap.drop_privileges", function()
  helper.watch(before_each, after_each)

  as_root("becomes the user for good", function()
    local run = helper.script([[
      local neap = require("neap")
      assert(neap.drop_privileges { user = "nobody" })
      print(select(3, neap.drop_privileges { user = "nobody" }))
      print(io.open("/proc/self/status"):read("*a"):match("NoNewPrivs:%s*(%d)"))
    ]])
    assert.equal("", run.err)
    assert.equal("permission\n1\n", run.out)
  end)

  it("names an unknown user", function()
    assert.equal("user", select(3, require("neap").drop_privileges { user = "no-such-user" }))
  end)
end)
