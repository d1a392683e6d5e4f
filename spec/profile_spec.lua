--- The memory profile is what pprof reads, and says what the counters say.

local helper = require("spec.helper")
local neap = require("neap")

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- ---- protocol buffers: what a message is made of ----

local function varint(text, at)
  local value, scale = 0, 1
  while true do
    local byte = assert(text:byte(at), "the message ends inside a number")
    value, scale, at = value + byte % 128 * scale, scale * 128, at + 1
    if byte < 128 then return value, at end
  end
end

-- Field number → list of values: numbers, and strings for what has a length.
local function fields(text)
  local result, at = {}, 1
  while at <= #text do
    local key, value
    key, at = varint(text, at)
    local field, wire = math.floor(key / 8), key % 8
    value, at = varint(text, at)
    if wire == 2 then
      assert(at + value - 1 <= #text, "a field reaches past its message")
      value, at = text:sub(at, at + value - 1), at + value
    else
      assert.equal(0, wire)
    end
    result[field] = result[field] or {}
    table.insert(result[field], value)
  end
  return result
end

local function packed(text)
  local list, at = {}, 1
  while at <= #text do list[#list + 1], at = varint(text, at) end
  return list
end

-- What stands in a profile: names of the values, and for each line its values.
local function decode(text)
  local profile = fields(text)
  local strings = profile[6]
  assert.equal("", strings[1])
  local functions, locations, result = {}, {}, { types = {}, lines = {}, period = profile[12][1],
    time = profile[9][1] }
  for i, kind in ipairs(profile[1]) do
    local f = fields(kind)
    result.types[i] = strings[f[1][1] + 1] .. "/" .. strings[f[2][1] + 1]
  end
  for _, message in ipairs(profile[5] or {}) do
    local f = fields(message)
    functions[f[1][1]] = { name = strings[f[2][1] + 1], file = strings[f[4][1] + 1] }
  end
  for _, message in ipairs(profile[4] or {}) do
    local f = fields(message)
    local line = fields(f[4][1])
    local fn = assert(functions[line[1][1]], "a location in a function that is not there")
    locations[f[1][1]] = ("%s:%d %s"):format(fn.file, line[2][1], fn.name)
  end
  for _, message in ipairs(profile[2] or {}) do
    local f = fields(message)
    local ids = packed(f[1][1])
    assert.equal(1, #ids)
    result.lines[assert(locations[ids[1]])] = packed(f[2][1])
  end
  return result
end

local script = [[
local neap = require("neap")
local allocator = neap.pool():allocator()
local kept = {}
local function keep(n) kept[#kept + 1] = allocator:alloc(n) end
local function pass(n)
  local s = allocator:alloc(n)
  s:release()
end
for _ = 1, 30 do keep(1000) end
for _ = 1, 200 do pass(5000) end
assert(neap.profile(...))
for _, s in ipairs(kept) do s:release() end
]]

local function profile_of(level)
  local name, path = helper.file(script), helper.temporary_name()
  local run = helper.sh(("%s --leaks=%s %s %s"):format(helper.neap, level, name, path))
  assert.equal(0, run.status)
  return read(path), name, path
end

describe("neap.profile", function()
  helper.watch(before_each, after_each)

  it("has what every line made, and what is live of it: exact at all", function()
    local text, name = profile_of("all")
    local profile = decode(text)
    assert.same({ "alloc_objects/count", "alloc_space/bytes", "inuse_objects/count",
      "inuse_space/bytes" }, profile.types)
    assert.equal(1, profile.period)
    assert.same({
      [name .. ":4 keep"] = { 30, 30000, 30, 30000 },
      [name .. ":6 pass"] = { 200, 1000000, 0, 0 },
    }, profile.lines)
    assert.is_true(math.abs(profile.time / 1e9 - os.time()) < 60)
  end)

  it("estimates at sample", function()
    local text = [[
      local neap = require("neap")
      local allocator = neap.pool():allocator()
      for _ = 1, 20000 do
        local s = allocator:alloc(3000)
        s:release()
      end
      assert(neap.profile(...))
    ]]
    local path = helper.temporary_name()
    local run = helper.sh(("%s %s %s"):format(helper.neap, helper.file(text), path))
    assert.equal("", run.err)
    local profile = decode(read(path))
    local _, values = next(profile.lines)
    assert.equal(524288, profile.period)
    assert.is_true(values[1] > 12000 and values[1] < 28000, values[1])
    assert.is_true(math.abs(values[2] / values[1] - 3000) < 1)
    assert.equal(0, values[4])
  end)

  it("is a profile without lines at off", function()
    local profile = decode((profile_of("off")))
    assert.same({}, profile.lines)
    assert.equal(4, #profile.types)
  end)

  local has_go = os.execute("command -v go >/dev/null 2>&1") == 0
  local with_go = has_go and it or pending

  with_go("is read by go tool pprof", function()
    local _, name, path = profile_of("all")
    local pprof = "HOME=/tmp go tool pprof -top "
    local run = helper.sh(pprof .. "-sample_index=alloc_space " .. path)
    assert.equal(0, run.status)
    assert.matches("976%.56kB%s+97%.09%%%s+97%.09%%%s+976%.56kB%s+97%.09%%  pass", run.out)
    run = helper.sh(pprof .. "-lines -sample_index=inuse_objects " .. path)
    assert.matches("30%s+100%%%s+100%%%s+30%s+100%%  keep " .. name:gsub("%p", "%%%0") .. ":4",
      run.out)
  end)

  it("says which file it cannot write", function()
    local ok, message, kind = neap.profile("/no/such/directory/x")
    assert.is_nil(ok)
    assert.matches("neap.profile: /no/such/directory/x: ", message, 1, true)
    assert.equal("system", kind)
    ok, message = neap.profile("/dev/full")
    assert.is_nil(ok)
    assert.matches("neap.profile: .*[Nn]o space", message)
    helper.raises("neap.profile: path must be a string", function() neap.profile(1) end)
  end)
end)
