local rows = dofile("tools/rows.lua")

describe("the rows of the buffer contract", function()
  it("are covered in C and in Lua, by the tests that docs/buffers.md names", function()
    assert.same({}, rows.problems())
  end)
end)
