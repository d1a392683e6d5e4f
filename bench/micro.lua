-- micro: what single operations cost, called from compiled Lua. Run by ./neap.
--
--   ./neap bench/micro.lua ROUNDS ROUND-MS     measures all; a line of tab-separated values
--                                              each: name, what, goal in ns, ns (the least of
--                                              the rounds), bytes of garbage an operation,
--                                              operations of one unit
--   ./neap bench/micro.lua --count NAME UNITS  runs so many units (1 or 2) of one, for
--                                              callgrind (see micro_c.c)
--   ./neap bench/micro.lua --traces            what jit.v says of each, on standard output
--
-- Time is CPU time of the thread.

local ffi = require("ffi")
local http1 = require("neap.codec.http1")
local neap = require("neap")

ffi.cdef [[
struct micro_time { long seconds, nanoseconds; };
int clock_gettime(int clock, struct micro_time *time);
]]

local THREAD_CPUTIME = 3   -- CLOCK_THREAD_CPUTIME_ID
local BATCH = 50000        -- operations between two looks at the clock
local LISTS = 4            -- the same for coalesce, which needs lists made before
local LIST_SLICES = 1000
local BUF_BYTES = 65536    -- a list lies in one buf
local CHUNK_BYTES = 72 * 227 -- as many messages as a buf of 16 KiB holds
local BODY_BYTES = 30000
local UNITS_MAX = 2
local WARM_BATCHES = 4
local GARBAGE_TRIES = 5

local small = assert(neap.pool()):allocator()
local large = assert(neap.pool({ min_size = BUF_BYTES })):allocator()
local text = ("0123456789abcdef"):rep(4)

local time = ffi.new("struct micro_time")

local function now_ns()
  ffi.C.clock_gettime(THREAD_CPUTIME, time)
  return tonumber(time.seconds) * 1e9 + tonumber(time.nanoseconds)
end

local function filled_reader()
  local bytes = ("\1"):rep(CHUNK_BYTES)
  return assert(neap.reader(nil, function() return bytes end))
end

-- What the operations compute goes here, so that none is left out.
local sum = 0

-- ---- operations: each makes a function that runs n of them ----

local function alloc()
  return function(n)
    for _ = 1, n do small:alloc(64):release() end
  end
end

-- Of such one in 17 is sampled, unless NEAP_LEAKS says otherwise.
local function alloc_body()
  local bodies = assert(neap.pool { min_size = BODY_BYTES }):allocator()
  return function(n)
    for _ = 1, n do bodies:alloc(BODY_BYTES):release() end
  end
end

local function slice_u32be()
  local s = small:copy(text)
  return function(n)
    local total = 0
    for _ = 1, n do total = total + s:u32be(4) end
    sum = sum + total
  end
end

local function set_u32be()
  local s = small:copy(text)
  return function(n)
    for i = 1, n do s:set_u32be(4, i) end
  end
end

local function view()
  local reader = filled_reader()
  return function(n)
    local total = 0
    for _ = 1, n do total = total + reader:peek(4):u32be(0) end
    sum = sum + total
  end
end

local function view_u32be()
  local reader = filled_reader()
  local peeked = reader:peek(64)
  return function(n)
    local total = 0
    for _ = 1, n do total = total + peeked:u32be(4) end
    sum = sum + total
    return reader
  end
end

-- A message comes as a slice of its own.
local function split()
  return function(n)
    local total = 0
    for _ = 1, n do
      local payload = small:alloc(72)
      local header = payload:split(8)
      total = total + header:u8(0)
      header:release()
      payload:release()
    end
    sum = sum + total
  end
end

-- Messages come many in a slice.
local function split_chunk()
  return function(n)
    local total, left = 0, 0
    local chunk = small:alloc(CHUNK_BYTES)
    for _ = 1, n do
      if left == 0 then
        chunk:release()
        chunk, left = small:alloc(CHUNK_BYTES), CHUNK_BYTES
      end
      local header, payload = chunk:split(8), chunk:split(64)
      left = left - 72
      total = total + header:u8(0)
      header:release()
      payload:release()
    end
    chunk:release()
    sum = sum + total
  end
end

local function read()
  local reader = filled_reader()
  return function(n)
    local total = 0
    for _ = 1, n do
      local header, payload = reader:read(8), reader:read(64)
      total = total + header:u8(0)
      header:release()
      payload:release()
    end
    sum = sum + total
  end
end

local function str()
  local s = small:copy(text)
  return function(n)
    local total = 0
    for _ = 1, n do total = total + #s:str() end
    sum = sum + total
  end
end

local function equals()
  local s = small:copy(text)
  return function(n)
    local total = 0
    for _ = 1, n do total = total + (s:equals(text) and 1 or 0) end
    sum = sum + total
  end
end

local function put()
  local buffer = assert(neap.buffer())
  return function(n)
    local room = 0
    for i = 1, n do
      if room == 0 then
        buffer:reset()
        room = 240 -- of 68 bytes are in a buf of 16 KiB
      end
      room = room - 1
      buffer:put_u32be(i):put(text)
    end
  end
end

local lists = {}

-- The rest of the buf is used up, so that each list begins a new one.
local function fill_list(list)
  for i = 1, LIST_SLICES do list[i] = large:alloc(64) end
  large:alloc(BUF_BYTES - LIST_SLICES * 64):release()
end

local function prepare_lists(n)
  for i = 1, n do
    local list = lists[i] or {}
    lists[i] = list
    for j = #list, 1, -1 do
      list[j]:release()
      list[j] = nil
    end
    fill_list(list)
  end
end

local function coalesce_up_to(max_bytes)
  local expected = math.ceil(LIST_SLICES * 64 / max_bytes)
  return function()
    return function(n)
      for i = 1, n do
        assert(#neap.coalesce(lists[i], max_bytes) == expected, "neighbours were not merged")
      end
    end
  end
end

local function nothing() end

local function spawn_join()
  return function(n)
    for _ = 1, n do neap.spawn(nothing):join() end
  end
end

local function scope()
  return function(n)
    for _ = 1, n do neap.scope(nothing) end
  end
end

local function scope_spawn()
  local function body(s) s:spawn(nothing) end
  return function(n)
    for _ = 1, n do neap.scope(body) end
  end
end

local function deadline()
  return function(n)
    for _ = 1, n do neap.deadline(60, nothing) end
  end
end

-- Another task receives what this one sends.
local function channel(room)
  return function()
    local made = neap.channel(room)
    neap.spawn(function()
      while made:receive() do sum = sum + 1 end
    end)
    return function(n)
      for i = 1, n do made:send(i) end
    end
  end
end

-- The head that a browser sent, as other parsers are measured with: 562 bytes, and nine headers.
local http_head = table.concat({
  "GET /wp-content/uploads/2010/03/hello-kitty-darth-vader-pink.jpg HTTP/1.1",
  "Host: www.kittyhell.com",
  "User-Agent: Mozilla/5.0 (Macintosh; U; Intel Mac OS X 10.6; ja-JP-mac; rv:1.9.2.3) "
    .. "Gecko/20100401 Firefox/3.6.3 Pathtraq/0.9",
  "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  "Accept-Language: ja,en-us;q=0.7,en;q=0.3", "Accept-Encoding: gzip,deflate",
  "Accept-Charset: Shift_JIS,utf-8;q=0.7,*;q=0.7", "Keep-Alive: 115", "Connection: keep-alive",
  "Cookie: " .. ("x"):rep(90), "", "",
}, "\r\n")
assert(#http_head == 562)

local function decode_head()
  local reader = assert(neap.reader(nil, function() return http_head end))
  local head = reader:peek(#http_head)
  return function(n)
    local total = 0
    for _ = 1, n do
      local request = http1.decode_request(head)
      total = total + #request:header("host") + #request:header("user-agent")
    end
    sum = sum + total
    return reader
  end
end

-- ---- measuring ----

---@class Micro
---@field name string
---@field what string
---@field goal number? ns
---@field make fun(): fun(n: integer)
---@field prepare fun(n: integer)? before each run, untimed

---@type Micro[]
local micros = {
  { "lua.alloc", "a slice of 64 bytes, allocated and released", 25, alloc },
  { "lua.body", "a slice of 30,000 bytes, allocated and released", nil, alloc_body },
  { "lua.u32be", "u32be of a slice", nil, slice_u32be },
  { "lua.set_u32be", "set_u32be of a slice", nil, set_u32be },
  { "lua.view", "a view of 4 bytes, and its u32be", 10, view },
  { "lua.view_u32be", "u32be of a view that is there", nil, view_u32be },
  { "lua.split", "a message of 8 + 64 bytes allocated, split, released", 60, split },
  { "lua.split_chunk", "8 and 64 bytes split off a large slice, released", 60, split_chunk },
  { "lua.read", "8 and 64 bytes read from a full reader, released", 60, read },
  { "lua.coalesce", "coalesce 1000 neighbours into one, for each", nil,
    coalesce_up_to(BUF_BYTES), prepare_lists },
  { "lua.coalesce_4096", "coalesce 1000 neighbours up to 4096 bytes, for each", nil,
    coalesce_up_to(4096), prepare_lists },
  { "lua.str", "str of 64 bytes that Lua has as a string already", nil, str },
  { "lua.equals", "equals with a string of 64 bytes", nil, equals },
  { "lua.put", "put_u32be and put of a string of 64 bytes", nil, put },
  { "lua.spawn", "a task spawned and joined", 300, spawn_join },
  { "lua.scope", "an empty scope", 300, scope },
  { "lua.scope_spawn", "a scope of one task", nil, scope_spawn },
  { "lua.deadline", "a deadline that does not come", 300, deadline },
  { "lua.channel_0", "a value sent to another task, without room", 300, channel(0) },
  { "lua.http_head", "an HTTP head of 562 bytes decoded, and two headers looked up", 500,
    decode_head },
  { "lua.channel_16", "a value sent to another task, room for 16", 300, channel(16) },
}

for i, m in ipairs(micros) do
  micros[i] = { name = m[1], what = m[2], goal = m[3], make = m[4], prepare = m[5] }
end

local function batch_of(m) return m.prepare and LISTS or BATCH end
local function operations_of(m) return m.prepare and LISTS * LIST_SLICES or BATCH end

local function warm_up(m, run)
  for _ = 1, m.prepare and 10 * WARM_BATCHES or WARM_BATCHES do
    if m.prepare then m.prepare(LISTS) end
    run(batch_of(m))
  end
end

local function round_ns(m, run, least_ns)
  local spent, count = 0, 0
  while spent < least_ns do
    if m.prepare then m.prepare(LISTS) end
    local before = now_ns()
    run(batch_of(m))
    spent, count = spent + now_ns() - before, count + operations_of(m)
  end
  return spent / count
end

-- Bytes an operation. A trace that is compiled meanwhile is not the operation's: the least of
-- several tries.
local function garbage(m, run)
  local least = math.huge
  for _ = 1, GARBAGE_TRIES do
    if m.prepare then m.prepare(LISTS) end
    collectgarbage()
    collectgarbage("stop")
    local before = collectgarbage("count")
    run(batch_of(m))
    local bytes = (collectgarbage("count") - before) * 1024
    collectgarbage("restart")
    least = math.min(least, bytes / operations_of(m))
  end
  return least
end

local function measure(m, rounds, least_ns)
  local run, least = m.make(), math.huge
  warm_up(m, run)
  for _ = 1, rounds do least = math.min(least, round_ns(m, run, least_ns)) end
  print(("%s\t%s\t%g\t%.3f\t%.3g\t%d"):format(m.name, m.what, m.goal or 0, least,
    garbage(m, run), operations_of(m)))
end

-- The collector rests: when it runs is not the operation's doing.
local function count(name, units)
  for _, m in ipairs(micros) do
    if m.name == name then
      local run = m.make()
      warm_up(m, run)
      collectgarbage()
      collectgarbage("stop")
      if m.prepare then m.prepare(UNITS_MAX * LISTS) end
      run(units * batch_of(m))
      os.exit(0)
    end
  end
  error("no such name: " .. tostring(name), 0)
end

local function traces()
  for _, m in ipairs(micros) do
    print("# " .. m.name)
    io.stdout:flush()
    local run = m.make()
    jit.flush()
    require("jit.v").on()
    warm_up(m, run)
    require("jit.v").off()
  end
end

if arg[1] == "--count" then
  count(arg[2], tonumber(arg[3]))
elseif arg[1] == "--traces" then
  traces()
else
  local wanted = {}
  for i = 3, #arg do wanted[arg[i]] = true end
  for _, m in ipairs(micros) do
    if #arg == 2 or wanted[m.name] then measure(m, tonumber(arg[1]), tonumber(arg[2]) * 1e6) end
  end
end
assert(sum == sum)
os.exit(0) -- who still receives would wait for ever
