--- What is forgotten is found, counted and told, with the line that made it; and who uses what is
--- gone hears where it went.

local ffi = require("ffi")
local abi = require("neap.abi")
local helper = require("spec.helper")
local neap = require("neap")
local site = require("neap.site")
local slice_module = require("neap.slice")

local C = abi.C

-- A script with a line to point at, run with a level. Its name is `file` in what comes back.
local function run(level, text, arguments)
  local name = helper.file(text)
  local result = helper.sh(("%s --leaks=%s %s %s"):format(helper.neap, level, arguments or "",
    name))
  result.file = name
  return result
end

local forgets = [[
local neap = require("neap")
local allocator = neap.pool():allocator()
local function handle(n)
  local body = allocator:alloc(n)
  body:split(10):release()
end
for _ = 1, 1000 do handle(30000) end
handle(10)
]]

local function watched_at(level, fn)
  local before = neap.leaks_level(level)
  local ok, err = pcall(fn)
  neap.leaks_level(before)
  if not ok then error(err, 0) end
end

-- The kind of forgotten slices that was made on a line of this file.
local function made_at(line)
  for _, kind in ipairs(neap.leaks().sites) do
    if kind.made_at:find("leaks_spec.lua:" .. line .. " ", 1, true) then return kind end
  end
end

local function here() return debug.getinfo(2, "l").currentline end

local function collect()
  collectgarbage()
  collectgarbage()
end

describe("the level of watching", function()
  helper.watch(before_each, after_each)

  it("is sample at first, and can be asked for and set", function()
    local result = helper.sh(helper.neap .. " -e 'print(require(\"neap\").leaks_level())'")
    assert.equal("sample\n", result.out)
    local before = neap.leaks_level("off")
    assert.equal("off", neap.leaks_level("touch"))
    assert.equal("touch", neap.leaks_level())
    assert.equal("touch", neap.leaks_level(before))
  end)

  it("is set by --leaks= and by NEAP_LEAKS, of which the first is stronger", function()
    local show = " -e 'print(require(\"neap\").leaks_level())' "
    for _, level in ipairs { "off", "sample", "touch", "all" } do
      assert.equal(level .. "\n", helper.sh(helper.neap .. " --leaks=" .. level .. show).out)
      local by_environment = "NEAP_LEAKS=" .. level .. " " .. helper.neap .. show
      assert.equal(level .. "\n", helper.sh(by_environment).out)
    end
    assert.equal("off\n", helper.sh("NEAP_LEAKS=all " .. helper.neap .. " --leaks=off" .. show).out)
  end)

  it("has four names, and says so", function()
    helper.raises('level must be "off", "sample", "touch" or "all", got "most"', function()
      neap.leaks_level("most")
    end)
    local result = helper.sh(helper.neap .. " --leaks=most -e ''")
    assert.equal(1, result.status)
    assert.matches("--leaks needs a level: off, sample, touch or all, not most", result.err,
      1, true)
    result = helper.sh("NEAP_LEAKS=most " .. helper.neap .. " -e 'require(\"neap\")'")
    assert.matches("NEAP_LEAKS knows off, sample, touch and all unknown=most", result.err, 1, true)
    assert.equal(0, result.status)
  end)
end)

describe("a report at the end", function()
  helper.watch(before_each, after_each)

  it("E2 names at all every slice that was forgotten, and where it passed #neighbours", function()
    for _, jit in ipairs { "", "-joff" } do
      local result = run("all", forgets, jit)
      local text = result.err:gsub("held 32%d+", "held 32…")
      assert.equal(("neap: leaks (all): 1001 slices were forgotten and left to the collector: "
        .. "29990000 bytes, which held 32…\n"
        .. "  1001 slices, 29990000 bytes, held 32…: made at %s:4 (handle)\n"
        .. "    split at %s:5 (handle)\n"):format(result.file, result.file), text)
    end
  end)

  it("E2 estimates at sample, and says so", function()
    for _, jit in ipairs { "", "-joff" } do
      local result = run("sample", forgets, jit)
      local count, kinds = result.err:match("^neap: leaks %(sample%): (%d+) slices were forgotten "
        .. "and left to the collector: 29990000 bytes, which held %d+\n"
        .. "  by line, estimated from the %d+ of them that were sampled:\n(.*)$")
      assert.equal("1001", count)
      local slices, where = kinds:match("^  (%d+) slices, %d+ bytes, held %d+: made at ([^\n]+)\n$")
      assert.equal(result.file .. ":4 (handle)", where)
      assert.is_true(tonumber(slices) > 500 and tonumber(slices) < 1500, slices)
    end
  end)

  it("is not there at off, nor at sample if nothing was forgotten, else it is", function()
    local tidy = 'local s = require("neap").copy("x") s:release()'
    assert.equal("", run("off", forgets).err)
    assert.equal("", run("sample", tidy).err)
    assert.equal("neap: leaks (touch): no slice was forgotten\n", run("touch", tidy).err)
    assert.equal("neap: leaks (all): no slice was forgotten\n", run("all", tidy).err)
  end)

  it("says that no sample was taken", function()
    local result = run("sample", 'require("neap").copy("x")')
    assert.matches("1 slice was forgotten", result.err, 1, true)
    assert.matches("none of them was sampled; --leaks=all tells where they were made",
      result.err, 1, true)
  end)

  it("tells what the script still holds from what it forgot", function()
    local result = run("all", 'KEPT = require("neap").copy("kept")')
    assert.equal(("neap: leaks (all): no slice was forgotten\n  and 1 is still there at the end:\n"
      .. "  1 slice, 4 bytes: made at %s:1 (main chunk)\n"):format(result.file), result.err)
  end)

  it("is there after os.exit, after an error, and in a stock luajit", function()
    local result = run("all", forgets .. "collectgarbage() neap.leaks() os.exit(3)")
    assert.equal(3, result.status)
    assert.matches("leaks (all): 1001 slices", result.err, 1, true)
    result = run("all", forgets .. "error('broken')")
    assert.equal(1, result.status)
    assert.matches("leaks (all): 1001 slices", result.err, 1, true)
    result = helper.stock('require("neap").leaks_level("all") ' .. forgets)
    assert.equal(0, result.status)
    assert.matches("leaks (all): 1001 slices", result.err, 1, true)
  end)

  it("begins with the worst", function()
    local result = run("all", [[
local neap = require("neap")
for _ = 1, 3 do neap.copy("few") end
for _ = 1, 2 do neap.copy(("x"):rep(50000)) end
neap.copy(("x"):rep(100))
]])
    local lines = {}
    for line in result.err:gmatch("made at [^\n]-:(%d)") do lines[#lines + 1] = line end
    assert.equal("3", lines[1])
    assert.equal(3, #lines)
  end)
end)

describe("neap.leaks", function()
  helper.watch(before_each, after_each)

  it("E2 has all that was forgotten, by the line that made it", function()
    watched_at("all", function()
      local allocator = neap.pool():allocator()
      local before, line = neap.leaks(), here() + 1
      local function forget() allocator:alloc(20000):split(5):release() end
      for _ = 1, 7 do forget() end
      collect()
      local after = neap.leaks()
      assert.equal(before.slices + 7, after.slices)
      assert.equal(before.bytes + 7 * 19995, after.bytes)
      local kind = made_at(line)
      assert.equal(7, kind.slices)
      assert.equal(7, kind.watched)
      assert.equal(7 * 19995, kind.bytes)
      assert.is_true(kind.pinned >= 6 * 20000)
      assert.matches("^split at .*leaks_spec%.lua:" .. line .. " %(", kind.last[1])
      allocator:release()
    end)
  end)

  it("knows the script's line of whatever makes slices, and none of neap's", function()
    watched_at("all", function()
      local pool = neap.pool()
      local allocator = pool:allocator()
      local text, lines = ("x"):rep(100), {}
      local reader = neap.reader(pool, function() return text .. "\n" end)
      local conn, other = require("neap.testing").pair()
      other:write(("y"):rep(200) .. "\n")
      local buffer = neap.buffer(pool):put(text)
      local ways = {
        function() lines[#lines + 1] = here() local s = allocator:alloc(10) return s end,
        function() lines[#lines + 1] = here() local s = allocator:copy(text) return s end,
        function() lines[#lines + 1] = here() local s = neap.copy(text) return s end,
        function() lines[#lines + 1] = here() local s = neap.slice(text) return s end,
        function() lines[#lines + 1] = here() local s = reader:read(10) return s end,
        function() lines[#lines + 1] = here() local s = reader:read_any(10) return s end,
        function() lines[#lines + 1] = here() local s = reader:read_line() return s end,
        function() lines[#lines + 1] = here() local s = reader:read_until("x") return s end,
        function() lines[#lines + 1] = here() local s = reader:peek(3):retain() return s end,
        function() lines[#lines + 1] = here() local s = reader:chunks()(reader) return s end,
        function() lines[#lines + 1] = here() local s = conn:read(100) return s end,
        function() lines[#lines + 1] = here() local s = conn:read_line() return s end,
        function() lines[#lines + 1] = here() local s = buffer:take()[1] return s end,
        function() lines[#lines + 1] = here() local s = neap.copy(text)
          lines[#lines] = here() + 1
          local clone = s:retain()
          s:release() return clone end,
      }
      for i, way in ipairs(ways) do
        do local s = way() assert(s, i) end
        collect()
        assert(made_at(lines[i]), "no slice that was made on line " .. lines[i])
      end
      for _, kind in ipairs(neap.leaks().sites) do
        assert.is_nil(kind.made_at:find("/neap/", 1, true), kind.made_at)
      end
      reader:close()
      buffer:release()
      allocator:release()
      conn:close()
      other:close()
    end)
  end)

  it("keeps the line that made a slice through 10,000 touches, and the last four places", function()
    watched_at("all", function()
      local line = here() + 1
      local s = neap.copy(("x"):rep(20000))
      for _ = 1, 9999 do s:split(1):release() end
      local channel = neap.channel(1)
      channel:send(s)
      s = channel:receive()
      local clone = s:retain()
      clone:release()
      s, clone = nil, nil -- luacheck: ignore
      collect()
      local last = made_at(line).last
      assert.equal(4, #last)
      assert.matches("^retained at .*leaks_spec%.lua:" .. line + 5 .. " %(", last[1])
      assert.matches("^received at .*leaks_spec%.lua:" .. line + 4 .. " %(", last[2])
      assert.matches("^sent at .*leaks_spec%.lua:" .. line + 3 .. " %(", last[3])
      assert.matches("^split at .*leaks_spec%.lua:" .. line + 1 .. " %(", last[4])
    end)
  end)

  it("counts at off, and knows no lines", function()
    watched_at("off", function()
      local before, line = neap.leaks(), here() + 1
      local function forget() neap.copy("text") end
      forget()
      collect()
      local after = neap.leaks()
      assert.equal("off", after.level)
      assert.equal(before.slices + 1, after.slices)
      assert.equal(before.watched, after.watched)
      assert.is_nil(made_at(line))
    end)
  end)

  it("counts double releases and uses of what is gone", function()
    local before = neap.leaks()
    local s = neap.copy("x")
    s:release()
    assert.is_false(pcall(function() s:release() end))
    assert.is_false(pcall(function() s:str() end))
    local after = neap.leaks()
    assert.equal(before.double_releases + 1, after.double_releases)
    assert.is_true(after.stale_uses > before.stale_uses)
  end)

  it("says that a tail call has dropped the line", function()
    local number = coroutine.wrap(site.here)()
    assert.equal("(no line of a script: a tail call has dropped it)", site.text(number))
  end)
end)

describe("the log", function()
  helper.watch(before_each, after_each)

  it("E2 tells of forgotten slices at the end of the turn, and not again for each", function()
    local result = run("all", [[
local neap = require("neap")
for _ = 1, 50 do
  neap.copy("forgotten")
  collectgarbage()
  neap.sleep(0.001)
end
]])
    local lines, place = 0, result.file:gsub("%p", "%%%0") .. ":3 %(main chunk%)"
    for line in result.err:gmatch("[^\n]+") do
      if line:find(" warn ", 1, true) then
        lines = lines + 1
        assert.matches("^" .. helper.logged("warn") .. "%d+ slices? w%a+ forgotten, and left to "
          .. 'the collector bytes=%d+ made_at="' .. place .. '" pinned=%d+$', line)
      end
    end
    assert.equal(1, lines)
    assert.matches("leaks (all): 50 slices were forgotten", result.err, 1, true)
  end)

  it("is silent at off, and says at sample that nothing was sampled", function()
    local text = [[
local neap = require("neap")
neap.copy("forgotten")
collectgarbage()
neap.sleep(0.001)
]]
    assert.equal("", run("off", text).err)
    assert.matches("warn  1 slice was forgotten, and none was sampled: --leaks=all tells",
      run("sample", text).err, 1, true)
  end)
end)

describe("a handle whose slice is gone", function()
  helper.watch(before_each, after_each)

  local function raises(text, fn) return helper.raises(text, fn) end

  it("B3 tells where it was released first, and the message says where again", function()
    local line = here() + 2
    local s = neap.copy("x")
    s:release()
    local message = raises("slice:release: ", function() s:release() end)
    assert.matches("^slice:release: the slice was released or taken before %(released at "
      .. "%S*leaks_spec%.lua:" .. line .. " %(.-%), made at %S*leaks_spec%.lua:" .. line - 1
      .. " %(.-%)%)$", message)
  end)

  it("S3 tells of every use where it went: written, sent, merged, released", function()
    local conn, other = require("neap.testing").pair()
    local channel = neap.channel(1)
    local allocator = neap.pool():allocator()
    local ends = {
      ["written at "] = function(s) conn:write(s) end,
      ["sent at "] = function(s)
        channel:send(s)
        channel:receive():release()
      end,
      ["merged at "] = function(s)
        local first = s:split(1)
        neap.coalesce({ first, s }, 100)
        first:release()
      end,
      ["released at "] = function(s)
        local later = allocator:alloc(1)
        later:release_previous(s)
        later:release()
      end,
    }
    local uses = {
      ["slice:u8: "] = function(s) s:u8(0) end,
      ["slice:str: "] = function(s) s:str() end,
      ["slice:split: "] = function(s) s:split(1) end,
      ["slice:retain: "] = function(s) s:retain() end,
      ["slice:detach: "] = function(s) s:detach() end,
      ["slice:set_u8: "] = function(s) s:set_u8(0, 1) end,
      ["slice:equals: "] = function(s) s:equals("x") end,
      ["slice:truncate_front: "] = function(s) s:truncate_front(1) end,
      ["slice:release: "] = function(s) s:release() end,
      ["conn:write: argument "] = function(s) conn:write(s) end,
      ["conn:write: argument["] = function(s) conn:write({ s }) end,
      ["channel:send: x "] = function(s) channel:send(s) end,
      ["neap.coalesce: element 1 "] = function(s) neap.coalesce({ s }, 10) end,
    }
    for how, finish in pairs(ends) do
      local s = allocator:copy("some bytes")
      finish(s)
      for name, use in pairs(uses) do
        local ok, message = pcall(use, s)
        assert.is_false(ok)
        assert.matches(name, message, 1, true)
        assert.matches("released or taken before (" .. how, message, 1, true)
        assert.matches("leaks_spec.lua:", message:match("%(" .. how .. "(.*)"), 1, true)
      end
    end
    allocator:release()
    conn:close()
    other:close()
  end)

  it("S3 is refused for ever at touch and all: no handle is used again", function()
    for _, level in ipairs { "touch", "all" } do
      watched_at(level, function()
        local s = neap.copy("old")
        s:release()
        for _ = 1, 40000 do neap.copy("new"):release() end
        helper.raises("slice:str: ", function() s:str() end)
      end)
    end
  end)

  it("S3 of before a change of the level is not used again either", function()
    local old = {}
    watched_at("off", function()
      for i = 1, 10 do old[i] = neap.copy("old") end
      for i = 1, 5 do old[i]:release() end
      neap.leaks_level("all")
      for i = 6, 10 do old[i]:release() end
      local kept = {}
      for i = 1, 20000 do kept[i] = neap.copy("kept") end
      for i = 1, 10 do assert.is_false(pcall(old[i].str, old[i])) end
      for i = 1, 20000 do kept[i]:release() end
    end)
  end)

  it("names the operation at every level", function()
    for _, level in ipairs { "off", "sample", "touch", "all" } do
      watched_at(level, function()
        local s = neap.copy("x")
        s:release()
        helper.raises("slice:release: the slice was released or taken before", function()
          s:release()
        end)
        helper.raises("slice:u8: the slice was released or taken before", function() s:u8(0) end)
      end)
    end
  end)

  it("goes, at touch, without a finalizer to run once it was released", function()
    watched_at("touch", function()
      collect()
      local before = neap.collector_stats().finalizers
      for _ = 1, 5000 do neap.copy("x"):release() end
      collect()
      assert.is_true(neap.collector_stats().finalizers - before < 100)
    end)
  end)
end)

describe("--gc-trace", function()
  helper.watch(before_each, after_each)

  it("writes a line for each cycle, with the time of the steps that neap took", function()
    local result = helper.sh(("%s --leaks=off --gc-trace %s"):format(helper.neap, helper.file([[
      local neap = require("neap")
      local allocator = neap.pool():allocator()
      for _ = 1, 4000 do allocator:alloc(65536) end
      io.stderr:write("steps ", neap.collector_stats().cycles, "\n")
    ]])))
    local timed, less, finalizers = 0, 0, 0
    for line in result.err:gmatch("[^\n]+") do
      local number, before, after, count, ms = line:match("^gc (%d+): lua %d+ %-> %d+, handles "
        .. "(%d+) %-> (%d+) bytes, (%d+) finalizers, ([%d.]+) ms in %d+ steps?$")
      if number then
        timed = timed + 1
        finalizers = finalizers + tonumber(count)
        if tonumber(after) < tonumber(before) then less = less + 1 end
        assert.is_true(tonumber(ms) > 0)
      elseif not line:find("^gc %d+: .*, by Lua itself, not timed$")
        and not line:find("^gc %d+: .*, [%d.]+ ms in %d+ steps?, ended by Lua itself, not timed$")
      then
        assert.matches("^steps %d+$", line)
      end
    end
    local cycles = tonumber(result.err:match("steps (%d+)"))
    assert.is_true(cycles > 5)
    -- Where the machine is busy a step is over before a cycle is, and Lua may end that.
    assert.is_true(math.abs(cycles - timed) <= cycles / 4, timed .. " of " .. cycles)
    assert.is_true(less > timed / 2)
    assert.is_true(finalizers > 3000)
    assert.equal(0, result.status)
  end)

  it("tells of Lua's own cycles too", function()
    local result = helper.sh(helper.neap .. " --gc-trace " .. helper.file([[
      require("neap")
      local t for i = 1, 200000 do t = { i } end
      return t
    ]]))
    local count = 0
    for number in result.err:gmatch("gc (%d+): lua %d+ %-> %d+, handles 0 %-> 0 bytes, "
      .. "0 finalizers, by Lua itself, not timed\n") do
      count = count + 1
      assert.equal(count, tonumber(number))
    end
    assert.is_true(count >= 2)
  end)
end)

describe("a slice at touch and all", function()
  helper.watch(before_each, after_each)

  local function each_level(fn)
    for _, level in ipairs { "touch", "all" } do watched_at(level, fn) end
  end

  it("E2 comes back in the turn after a cycle, whoever it was moved to", function()
    each_level(function()
      local pool = neap.pool()
      local allocator, channel = pool:allocator(), neap.channel(10)
      local kept = {}
      for i = 1, 5000 do
        local s = allocator:copy("0123456789")
        s:split(3):release()
        if i % 5 == 0 then kept[#kept + 1] = s:retain() end
        if i % 7 == 0 then
          channel:send(s)
          channel:receive()
        end
      end
      collectgarbage()
      neap.sleep(0)
      neap.sleep(0)
      local slices = ffi.new("struct neap_slice_stats")
      C.neap_slice_stats(slices) -- and not pool:stats(), which looks itself
      assert.equal(#kept, tonumber(slices.live))
      assert.equal(5000, pool:stats().slices_collected)
      for _, s in ipairs(kept) do assert.equal("3456789", s:str()) end
      for _, s in ipairs(kept) do s:release() end
      allocator:release()
      pool:close()
    end)
  end)

  it("E2 comes back without a turn, in time, and is found after the level changed"
    .. " #neighbours #sizes", function()
    for _, level in ipairs { "touch", "all" } do
      local result = run(level, [[
        local neap = require("neap")
        local pool = neap.pool()
        local allocator = pool:allocator()
        for _ = 1, 20000 do allocator:alloc(30000) end
        print(pool:stats().bytes_allocated)
        neap.leaks_level("off")
        collectgarbage()
        print(pool:stats().slices_live, pool:stats().slices_collected)
      ]])
      local bytes, live, collected = result.out:match("^(%d+)\n(%d+)\t(%d+)\n$")
      assert.is_true(tonumber(bytes) < 50 * 2 ^ 20, bytes)
      assert.equal("0 20000", live .. " " .. collected)
    end
  end)

  it("S3 gives no handle without a finalizer to a slice of later", function()
    each_level(function()
      local pool = neap.pool()
      local allocator, held, is_held = pool:allocator(), {}, {}
      for i = 1, 100 do
        held[i] = allocator:copy("held")
        is_held[held[i]] = true -- the very handle
      end
      neap.leaks_level("sample")
      for i = 1, 100, 2 do held[i]:release() end
      for i = 2, 100, 2 do neap.coalesce({ allocator:copy(""), held[i] }, 0) end
      for i = 2, 100, 2 do held[i]:release() end
      for _ = 1, 30000 do
        local s = allocator:copy("later")
        assert(not is_held[s])
        s:release()
      end
      allocator:release()
      collectgarbage()
      assert.equal(0, pool:stats().slices_live)
      pool:close()
    end)
  end)
end)

it("gives a handle that was not needed back at every level", function()
  for _, level in ipairs { "sample", "all" } do
    watched_at(level, function()
      local handle = slice_module.fresh()
      slice_module.unused(handle)
      assert.is_true(rawequal(handle, slice_module.fresh()))
    end)
  end
end)
