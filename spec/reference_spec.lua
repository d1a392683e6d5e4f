local helper = require("spec.helper")

-- tools/reference.lua on this tree, or on a copy of it.
local function check(directory)
  return helper.sh(("cd %s && exec env %s luajit tools/reference.lua --check"):format(
    directory or helper.top, helper.stock_environment()))
end

local function read(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- A copy of the tree in which one text of one file is another.
local function changed(name, old, new)
  local directory = helper.temporary_directory()
  assert.equal(0, helper.sh(("cp -r lua tools docs %s"):format(directory)).status)
  local text = read(directory .. "/" .. name)
  local from, to = text:find(old, 1, true)
  assert(from, name .. " has no longer: " .. old)
  helper.file(text:sub(1, from - 1) .. new .. text:sub(to + 1), directory .. "/" .. name)
  return check(directory)
end

local function finds(problem, name, old, new)
  local run = changed(name, old, new)
  assert.equal(1, run.status)
  assert.matches(problem, run.err, 1, true)
end

describe("docs/reference.md", function()
  helper.watch(before_each, after_each)

  it("says what the comments say, and they describe every public function", function()
    local run = check()
    assert.equal("", run.err)
    assert.equal(0, run.status)
  end)

  it("names the functions of the module and of every kind of object", function()
    local text = read("docs/reference.md")
    for _, heading in ipairs { "neap.listen(", "conn:write(", "conn:read(", "listener:close(",
      "task:join(", "slice:split(", "view:retain(", "conn:put(", "buffer:pack(", "pool:stats(",
      "allocator:alloc(", "reader:close(", "channel:send(", "server:stop(",
      "neap.testing.cut(", "neap.log.warn(", "neap.codec.frame.new(", "router:get(" } do
      assert.matches("\n#### " .. heading, text, 1, true)
    end
    for _, module in ipairs { "neap", "neap.http", "neap.testing", "neap.codec.http1" } do
      for name, value in pairs(require(module)) do
        if type(value) == "function" then
          assert.matches("\n#### " .. module .. "." .. name .. "(", text, 1, true)
        end
      end
    end
  end)

  it("links to headings that are there", function()
    local text, known = read("docs/reference.md"), {}
    for heading in text:gmatch("\n#+ ([^\n]+)") do
      known[heading:lower():gsub("[^%w %-_]", ""):gsub(" ", "-")] = true
    end
    local count = 0
    for anchor in text:gmatch("%]%(#([^)]*)%)") do
      assert.is_true(known[anchor], anchor)
      count = count + 1
    end
    assert.is_true(count > 50)
  end)
end)

describe("tools/reference.lua", function()
  helper.watch(before_each, after_each)

  it("notices a document that is not what the comments say", function()
    finds("docs/reference.md is not what the comments say", "docs/reference.md", "# Reference",
      "# reference")
    finds("docs/reference.md is not what the comments say", "lua/neap/task.lua",
      "--- Waits; other tasks", "--- Waits: other tasks")
  end)

  it("notices a function of the module without a comment", function()
    finds("neap.undescribed: has no comment", "lua/neap/init.lua", "local copier",
      "function M.undescribed() end\n\nlocal copier")
  end)

  it("notices a method without a comment", function()
    finds("conn:undescribed: has no comment", "lua/neap/conn.lua", "ffi.metatype(stream_t",
      "function Stream:undescribed() end\n\nffi.metatype(stream_t")
    finds("reader:undescribed: has no comment", "lua/neap/reader.lua", "local reader_options",
      "function Reader:undescribed() end\n\nlocal reader_options")
  end)

  it("notices a module whose first comment shows how to require it", function()
    finds("neap.errors.text: `@param code` needs a type and a text", "lua/neap/errors.lua",
      "--- What the numbers of enum neap_err are called, and how failures are told.\n",
      '--- Public now.\n---     local errors = require("neap.errors")\n')
  end)

  it("notices a value of the module without a comment", function()
    finds("neap.undescribed: no `@field undescribed`", "lua/neap/init.lua", "local copier",
      "M.undescribed = 1\n\nlocal copier")
  end)

  it("notices a kind of object that it has not seen", function()
    finds("no neap.unseen was made", "lua/neap/pool.lua", "return abi.keep",
      'function M.unseen() return setmetatable({}, { __metatable = "neap.unseen" }) end\n'
        .. "return abi.keep")
  end)

  it("notices parameters that are not the function's", function()
    finds("conn:skip: takes (n), but its annotation has (count)", "lua/neap/reader.lua",
      "--- @param n integer bytes\n  --- @return true|nil", "--- @param count integer bytes\n"
        .. "  --- @return true|nil")
    finds("neap.spawn: takes (fn, ...), but its annotation has (fn)", "lua/neap/task.lua",
      "--- @param ... any its arguments\n", "")
  end)

  it("notices a parameter without a type, or without words", function()
    finds("`@param n` needs a type and a text", "lua/neap/allocator.lua",
      "--- @param n integer bytes", "--- @param n integer")
  end)

  it("notices that nobody says who owns a slice", function()
    finds("conn:read: an `own:` line must say who owns what", "lua/neap/reader.lua",
      "--- own: returns owned\n", "")
    finds("conn:write: an `own:` line must say who owns what", "lua/neap/conn.lua",
      "--- own: takes slices, borrows strings", "--- own: it does something with x")
  end)

  it("notices failures without names, and names that no failure has", function()
    finds("neap.sleep: fails, but no `err:` line", "lua/neap/task.lua",
      '--- err: "cancelled", "timeout" (of a deadline around it), "memory"\n', "")
    finds('neap.sleep: no error is called "tired"', "lua/neap/task.lua",
      '--- err: "cancelled", "timeout" (of', '--- err: "cancelled", "tired" (of')
  end)

  it("notices an option that is in no annotation", function()
    finds("neap.pool: its option `poison`", "lua/neap/pool.lua",
      " · poison: overwrite recycled bufs (false)", "")
    finds("neap.connect: its option `keepalive`", "lua/neap/net.lua",
      "idle_timeout (0), no_delay, keepalive:", "idle_timeout (0), no_delay:")
  end)
end)
