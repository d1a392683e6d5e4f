local ffi = require("ffi")
local abi = require("neap.abi")
local helper = require("spec.helper")
local neap = require("neap")

describe("the boundary to C", function()
  helper.watch(before_each, after_each)

  it("declares what the library's own header says", function()
    local header = ffi.string(abi.C.neap_header())
    assert.matches("int neap_slice_release(uint32_t slot, uint32_t gen);", header, 1, true)
    local count = 0
    for name in header:gmatch("[%s%*](neap_%l[%w_]*)%(") do
      assert(abi.C[name] ~= nil, name)
      count = count + 1
    end
    assert.is_true(count > 50)
  end)

  it("knows the library's version", function()
    assert.equal(ffi.string(abi.C.neap_version()), neap.version)
    assert.matches("^%d+%.%d+%.%d+$", neap.version)
  end)

  it("S0 gives scripts handles that are two numbers and cannot be written", function()
    for _, kind in ipairs { "slice", "pool", "allocator", "listener" } do
      local ctype = ffi.typeof("struct neap_lua_" .. kind)
      local handle = ctype(1, 2)
      assert.equal(8, ffi.sizeof(ctype))
      assert.equal(1, handle.slot)
      assert.is_false(pcall(function() handle.slot = 5 end))
      assert.is_false(pcall(function() handle.gen = 5 end))
      assert.equal(2, handle.gen)
      assert.equal("ffi", getmetatable(handle)) -- a word, not the table
    end
    assert.equal(24, ffi.sizeof("struct neap_lua_stream")) -- two handles, and how far serve is
  end)

  it("is the same module after package.loaded was emptied", function()
    local names = { "neap", "neap.abi", "neap.task", "neap.net", "neap.slice", "neap.pool",
      "neap.allocator", "neap.reader", "neap.errors" }
    local before = {}
    for _, name in ipairs(names) do
      before[name] = require(name)
      package.loaded[name] = nil
    end
    for _, name in ipairs(names) do assert.equal(before[name], require(name)) end
    local slice = require("neap").copy("works")
    assert.equal("works", slice:str())
    slice:release()
  end)
end)

describe("the library", function()
  helper.watch(before_each, after_each)

  local script = [[
    local ok, err = pcall(require, "neap")
    local slice = ok and err.copy("abc")
    print(ok, ok and #slice or err)
    if ok then slice:release() end
  ]]

  it("is found beside package.cpath by a stock luajit", function()
    local run = helper.stock(script)
    assert.equal("", run.err)
    assert.equal("true\t3\n", run.out)
  end)

  it("is never taken from the current directory", function()
    local directory = helper.temporary_directory()
    local build = (";" .. package.cpath):match(";(/[^;]*)/%?%.so")
    local name = helper.file(script)
    assert.equal(0, helper.sh(("cp %s/libneap.so %s"):format(build, directory)).status)
    for _, cpath in ipairs { "./?.so", "?.so", "" } do
      local run = helper.sh(("cd %s && %s LUA_CPATH='%s' luajit %s"):format(directory,
        helper.stock_environment(), cpath, name))
      assert.matches("^false\t", run.out)
      assert.matches("cannot load libneap.so", run.out, 1, true)
      assert.matches("LUA_CPATH", run.out, 1, true)
    end
  end)
end)
