--- Random scripts: operations of the public API in several tasks, on objects of every kind
--- that are live, ended, forgotten, or no objects at all, with arguments that mostly fit.
---
---     neap spec/fuzz/script.lua [operations] [seed]
---
--- 20,000 operations, and a seed from the clock, if not told. TRACE=file gets each operation
--- before it is done: the last line is the one that crashed. What must hold: nothing crashes; what
--- raises is the script's mistake, told at its line; a failure is nil, message, name; a
--- slice shows what it showed; the counters add up, and all is gone at the end.

local ffi = require("ffi")
local neap = require("neap")
local testing = require("neap.testing")

local OPERATIONS = tonumber(arg and arg[1]) or 20000
local SEED = tonumber(arg and arg[2]) or os.time() % 2 ^ 31
local ACTORS, KEEP, STALE = 6, 12, 16
local SHOWN = 200 -- bytes of a slice that are compared
local here = debug.getinfo(1, "S").short_src

local trace = os.getenv("TRACE") and assert(io.open(os.getenv("TRACE"), "w"))

-- ---- chance ----

local state = SEED % (2 ^ 31 - 2) + 1

local function below(n) -- Park and Miller's generator
  state = state * 48271 % (2 ^ 31 - 1)
  return math.floor(state / (2 ^ 31 - 1) * n)
end

local function one_in(n) return below(n) == 0 end
local function one_of(list) return list[below(#list) + 1] end

local texts = { "", "a", "hello\n", "aab", "\0\0\0\5hello", ("x"):rep(100), ("line\r\n"):rep(50),
  ("y"):rep(5000), ("z"):rep(70000) }

local function size()
  local kind = below(12)
  if kind < 8 then return below(20) end
  if kind < 11 then return below(300) end
  return one_of { 4096, 16384, 16385, 70000, 2 ^ 20 + 1, 2 ^ 30 + 1, 2 ^ 32 + 5, 2 ^ 53 }
end

local function seconds() return below(3) / 1000 end
local function text() return texts[below(below(8) == 0 and #texts or 7) + 1] end

local formats = { ">I4", "<i2 B", "s1", "z", "c5", "d", ">I2s4", "I8", "i17", "!", "xx", "" }
local numbers = { "u8", "i8", "u16be", "i16le", "u24be", "i32le", "u32be", "f32be", "f64le",
  "u48be", "i64be", "u64le" }

-- ---- objects ----

local kinds = { "slice", "pool", "allocator", "buffer", "channel", "conn", "listener", "reader",
  "view", "timer", "task", "scope" }
local live, ended, shown = {}, {}, setmetatable({}, { __mode = "k" })
for _, kind in ipairs(kinds) do live[kind], ended[kind] = {}, {} end

local finish = { -- how an object ends that is not wanted any more
  slice = function(x) x:release() end,
  pool = function(x) x:close() end,
  allocator = function(x) x:release() end,
  buffer = function(x) x:release() end,
  channel = function(x) x:close(true) end,
  conn = function(x) x:close() end,
  listener = function(x) x:close() end,
  reader = function(x) x:close() end,
  timer = function(x) x:cancel() end,
  task = function(x) x:cancel() end,
}

local function size_of(x) return #x end

local function is_cdata(x, kind) -- cdata hides its metatable
  return type(x) == "cdata" and tostring(ffi.typeof(x)):find("struct neap_lua_" .. kind) ~= nil
end

local function is_neaps(x)
  return is_cdata(x, "") or tostring(getmetatable(x)):find("^neap%.") ~= nil
end

-- The bytes of a slice, unless there are many.
local function bytes_of(slice)
  return #slice <= SHOWN and slice:str() or nil
end

-- May it be used still? Of others what an operation says of them tells, in retire().
local function is_usable(kind, x)
  if kind == "slice" then return (pcall(size_of, x)) end -- else a write, a merge, a channel took it
  return kind ~= "view" or not is_cdata(x, "view") or not x:is_stale()
end

local function bury(kind, x)
  local list = ended[kind]
  list[#list < STALE and #list + 1 or below(STALE) + 1] = x
end

local function drop(kind, index)
  local list = live[kind]
  local x = list[index]
  list[index] = list[#list]
  list[#list] = nil
  if not is_usable(kind, x) then return bury(kind, x) end
  -- forgotten: the collector ends it; but a timer goes on
  if one_in(10) and kind ~= "timer" then return end
  if finish[kind] then pcall(finish[kind], x) end
  bury(kind, x)
end

local function add(kind, x)
  local list = live[kind]
  if #list >= KEEP then drop(kind, below(#list) + 1) end
  list[#list + 1] = x
  if kind == "slice" then shown[x] = bytes_of(x) end
  return x
end

-- It is closed, or has come to its end: one of the ended from now on.
local function retire(kind, x)
  local list = live[kind]
  for i = 1, list and #list or 0 do
    if rawequal(list[i], x) then
      list[i] = list[#list]
      list[#list] = nil
      return bury(kind, x)
    end
  end
end

local odd = { false, 0 / 0, -1, 1.5, 2 ^ 53 + 2, math.huge, "1", true, {}, print, io.stdout,
  io.stderr, coroutine.create(print), 1LL, -1LL, 2ULL, ffi.new("uint8_t[4]"),
  ffi.new("int[2]", 7), ffi.cast("void *", 0), ffi.cast("char *", 0), newproxy(true),
  setmetatable({}, { __index = function() return 1 end }), ffi.new("struct { int slot, gen; }") }

-- An object of a kind: mostly a live one.
local function pick(kind)
  local list = live[kind]
  while #list > 0 and not one_in(16) do
    local index = below(#list) + 1
    local x = list[index]
    if is_usable(kind, x) then return x end
    drop(kind, index)
  end
  if one_in(3) then return one_of(live[one_of(kinds)]) end
  return #ended[kind] > 0 and one_of(ended[kind]) or one_of(odd)
end

-- ---- what arguments are made of ----

local step -- one random operation; below

local function bytes()
  return one_in(2) and pick("slice") or one_in(5) and pick("view") or text()
end
local function list_of_bytes()
  local list = {}
  for i = 1, below(4) do list[i] = bytes() end
  return list
end
local function slices()
  local list = { n = below(6) }
  for i = 1, list.n do list[i] = pick("slice") end
  return list
end
local function fits(self) -- an offset or length within it
  local ok, n = pcall(size_of, self)
  return ok and type(n) == "number" and below(n + 2) or size()
end
local function fits_number(name) -- an offset at which a number is within it, most often
  local width = tonumber(name:match("%d+")) / 8
  return function(self)
    local ok, n = pcall(size_of, self)
    if not ok or type(n) ~= "number" or n < width or one_in(8) then return fits(self) end
    return below(n - width + 1)
  end
end
local function value() return one_of { 0, 1, 127, 255, 65535, -1, 2 ^ 31, 2 ^ 53, 0.5, 3LL } end
local function format_text() return one_of(formats) end
local function steps() return function() for _ = 1, below(3) do step() end end end
local function anything() return one_in(2) and pick(one_of(kinds)) or one_of(odd) end
local function maybe(make) return function(self) if not one_in(3) then return make(self) end end end
local function constant(x) return function() return x end end

local function pools() if one_in(2) then return pick("pool") end end
local function pool_options()
  return { min_size = one_of { 0, 1, 8, 64, 500, 16384 }, classes = one_in(2), poison = one_in(2),
    limit = one_of { 0, 0, 0, 1000, 100000 }, retain = one_of { 0, 0, 10000 } }
end
local function source()
  local left = below(5)
  return function(max)
    left = left - 1
    if left < 0 then return nil end
    if left == 3 and one_in(5) then return nil, "the source failed", "reset" end
    if left == 2 and one_in(20) then return pick("slice") end
    local t = text():sub(1, max)
    return #t > 0 and t or "x"
  end
end
local function delimiter() return one_of { "\n", "a", "aab", "\r\n", "x", "" } end
local function select_cases()
  local cases = {}
  for i = 1, 1 + below(3) do
    local kind = below(4)
    cases[i] = kind == 0 and { pick("channel"), anything() } or kind == 1 and pick("task")
      or kind == 2 and pick("timer") or pick("channel")
  end
  return cases
end

-- ---- operations: { kind or a function of the module, name, arguments, what comes out } ----

local operations, weights = {}, 0

local function op(weight, kind, name, arguments, out)
  operations[#operations + 1] = { kind = kind, name = name, arguments = arguments or {},
    out = out, weight = weight, count = {} }
  weights = weights + weight
end

local S, V, B, C, R = "slice", "view", "buffer", "conn", "reader"
op(1, S, "release") op(2, S, "retain", {}, S) op(4, S, "split", { fits }, S) op(2, S, "detach")
op(2, S, "truncate_front", { fits }) op(2, S, "truncate_back", { fits })
op(3, S, "expand_front", { fits }) op(2, S, "free_entire_prefix")
op(3, S, "release_previous", { function() return pick(S) end }) op(2, S, "size")
op(3, S, "equals", { bytes }) op(3, S, "copy_from", { bytes, maybe(fits) })
op(3, S, "str", { maybe(fits), maybe(fits) }) op(3, S, "find", { text, maybe(fits) })
op(1, S, "hexdump") op(2, S, "unpack", { format_text, maybe(fits) })
op(2, S, "pack", { format_text, fits, value, value })
op(2, V, "sub", { fits, fits }, V) op(1, V, "is_stale")
op(2, V, "equals", { text }) op(2, V, "retain", {}, S) op(2, V, "str", { maybe(fits), maybe(fits) })
op(2, V, "find", { text, maybe(fits) }) op(1, V, "hexdump")
op(2, V, "unpack", { format_text, maybe(fits) })
op(4, B, "put", { bytes }) op(2, B, "put_varint", { value }) op(2, B, "reserve", { size })
op(1, B, "pack", { format_text, value, value }) op(2, B, "reset") op(1, B, "release")
op(3, B, "take")
for _, name in ipairs(numbers) do
  local within = fits_number(name)
  op(0.5, S, name, { within })
  op(0.5, S, "set_" .. name, { within, value })
  op(0.3, V, name, { within })
  op(0.3, B, "put_" .. name, { value })
  op(0.3, B, "set_" .. name, { within, value })
end
op(1, "pool", "close") op(1, "pool", "trim") op(1, "pool", "stats")
op(2, "pool", "allocator", { maybe(fits) }, "allocator")
op(10, "allocator", "alloc", { size }, S) op(10, "allocator", "copy", { text }, S)
op(1, "allocator", "release")
op(2, "channel", "send", { anything, constant(0) }) op(2, "channel", "receive", { constant(0) })
op(1, "channel", "send", { function() return pick(S) end, seconds })
op(1, "channel", "receive", { seconds }, nil) op(0.2, "channel", "close", { maybe(constant(true)) })
op(1, "channel", "len")
for _, kind in ipairs { C, R } do
  op(3, kind, "read", { size }, S) op(2, kind, "read_any", { maybe(size) }, S)
  op(2, kind, "read_until", { delimiter, maybe(constant({ max = 100, inclusive = true })) }, S)
  op(2, kind, "read_line", { maybe(size) }, S) op(3, kind, "peek", { size }, V)
  op(1, kind, "skip", { size }) op(1, kind, "buffered") op(1, kind, "chunks") op(1, kind, "lines")
  op(0.3, kind, "close")
end
op(4, C, "write", { bytes }) op(2, C, "write", { list_of_bytes }) op(2, C, "try_write", { bytes })
op(1, C, "try_write", { list_of_bytes }) op(1, C, "flush") op(1, C, "queued")
op(1, C, "pipe_to", { function() return pick(C) end, maybe(size) })
op(0.3, C, "shutdown") op(1, C, "info") op(1, C, "keep") op(1, C, "set_timeout", { seconds })
op(0.3, "listener", "close")
op(1, "timer", "cancel") op(0.3, "task", "cancel") op(0.5, "task", "join", { seconds })
op(1, "scope", "spawn", { steps }, "task") op(1, "scope", "defer", { steps })
op(0.3, "scope", "cancel")

-- functions of the module
local function call(weight, name, arguments, out) op(weight, nil, name, arguments, out) end
call(4, "copy", { text }, S) call(4, "slice", { text }, S)
call(4, "coalesce", { slices, size }) call(2, "pool", { pool_options }, "pool")
call(3, "buffer", { pools }, B) call(2, "channel", { maybe(function() return below(4) end) },
  "channel")
call(2, "reader", { pools, source, maybe(constant({ max_read = 300 })) }, R)
call(0.2, "sleep", { seconds }) call(0.3, "spawn", { steps }, "task")
call(0.3, "after", { seconds, steps }, "timer") call(0.1, "every", { seconds, steps }, "timer")
call(0.3, "deadline", { seconds, steps }) call(0.5, "select", { select_cases, seconds })
call(0.3, "scope", { function()
  return function(scope)
    add("scope", scope)
    for _ = 1, below(3) do scope:spawn(steps()) end
  end
end })
call(0.1, "wrap", { steps }) call(0.1, "collector_stats") call(0.1, "default_pool")

local function pick_operation()
  local at = below(weights * 10) / 10
  for _, operation in ipairs(operations) do
    at = at - operation.weight
    if at < 0 then return operation end
  end
  return operations[1]
end

-- ---- one operation ----

local done, over = 0, false

local function failed(message)
  io.stderr:write(("%s (operation %d of seed %d)\n"):format(message, done, SEED))
  os.exit(1)
end

local function count(operation, outcome)
  operation.count[outcome] = (operation.count[outcome] or 0) + 1
end

-- Slices that no operation was about show what they showed.
local function look_at_a_slice()
  local x = #live.slice > 0 and one_of(live.slice)
  if not x or not pcall(size_of, x) then return end
  local before, now = shown[x], bytes_of(x)
  if before and now and #before == #now and before ~= now then
    failed(("a slice changed from %q to %q"):format(before, now))
  end
  shown[x] = now
end

local function told_at_our_line(message)
  return type(message) ~= "string" or message:sub(1, #here) == here
    or message:find("^%[string") ~= nil
end

local function came_out(operation, x)
  if type(x) == "table" and operation.name == "take" then
    for _, slice in ipairs(x) do add(S, slice) end
  elseif operation.out and x ~= nil then
    add(operation.out, x)
  elseif operation.name == "receive" and is_cdata(x, "slice") and pcall(size_of, x) then
    add(S, x)
  end
end

-- Changes that are the operation's own are no news.
local function note(...)
  for i = 1, select("#", ...) do
    local x = select(i, ...)
    if type(x) == "cdata" and shown[x] ~= nil and pcall(size_of, x) then shown[x] = bytes_of(x) end
  end
end

local function result(operation, self, ok, x, message, name)
  if not ok then
    if not told_at_our_line(x) and not tostring(x):find("neap.wrap", 1, true) then
      failed(operation.name .. " raised at a line that is not the script's: " .. tostring(x))
    end
    return count(operation, "raised")
  end
  if x == nil and message ~= nil and name ~= nil then
    if type(message) ~= "string" or type(name) ~= "string" then
      failed(("%s failed with %s, %s, and not nil, message, name"):format(operation.name,
        tostring(message), tostring(name)))
    end
    if name == "closed" or name == "eof" then retire(operation.kind, self) end
    return count(operation, name)
  end
  if operation.name == "release" or operation.name == "close" then
    retire(operation.kind, self)
  end
  count(operation, "ok")
  came_out(operation, x)
end

local function written(x)
  local ok, shape = pcall(tostring, x)
  return ok and shape:gsub("[^%w :%[%]().-]", "?"):sub(1, 60) or type(x)
end

local function trace_line(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = written((select(i, ...))) end
  trace:write(done, " ", table.concat(parts, ", "), "\n")
  trace:flush()
end

local function call_method(self, name, ...) return self[name](self, ...) end

local methods = {} -- of each kind, found once: called on anything

local function run(operation)
  local self = operation.kind and pick(operation.kind)
  local a = {}
  for i, make in ipairs(operation.arguments) do
    a[i] = make(self)
    if one_in(40) then a[i] = anything() end
  end
  local n = #operation.arguments
  if trace then trace_line(operation.kind, operation.name, self, unpack(a, 1, n)) end
  if not operation.kind then
    result(operation, nil, pcall(neap[operation.name], unpack(a, 1, n)))
  else
    local key = operation.kind .. "." .. operation.name
    local live_one = live[operation.kind][1]
    methods[key] = methods[key] or (live_one and live_one[operation.name])
    if methods[key] then
      result(operation, self, pcall(methods[key], self, unpack(a, 1, n)))
    elseif is_neaps(self) then -- others have methods of their own
      result(operation, self, pcall(call_method, self, operation.name, unpack(a, 1, n)))
    end
  end
  note(self, unpack(a, 1, n))
end

-- What is no operation of the object, but a script can write it all the same.
local manners = {
  function(x, y) return x + y end, function(x) return -x end, function(x, y) return x .. y end,
  function(x, y) return x == y end, function(x, y) return x < y end, function(x) return #x end,
  function(x) return x() end, function(x) return tostring(x) end,
  -- what is a table of Lua (a task, a timer, a channel) takes any field: only new ones, then
  function(x) if type(x) ~= "table" then x.slot, x.gen = 7, 1 end end,
  function(x) if type(x) ~= "table" then x.gen = 1 end end, function(x) x[0] = 1 end,
  function(x) x.anything = {} end, function(x) return x.slot, x.gen, x.str, x.peer end,
  function(x) return x[0], x[1], x[-1] end, function(x) return pairs(x) end,
  function(x) return setmetatable(x, {}) end, function(x) return getmetatable(x).x end,
  function(x) rawset(x, "other", 1) end, function(x) return x % 2 ^ 3 end,
  function(x) return tonumber(x), ("x"):rep(x) end, function(x) return table.concat({ x }) end,
  function(x) return ({})[x] end, function(x) return next(x) end,
  function(x) return string.format("%s %d", x, x) end,
}
local odd_manners = { name = "(bad manners)", count = {}, weight = 0 }

-- Our own tables are none, and what ffi alone gives may point anywhere.
local function may_be_treated_badly(x)
  return is_neaps(x) or type(x) == "number"
end

local function bad_manners()
  local x, y, manner = pick(one_of(kinds)), anything(), one_of(manners)
  if not may_be_treated_badly(x) or y == io.stdout then return end
  if trace then trace_line("manner", x, y) end
  count(odd_manners, pcall(manner, x, y) and "ok" or "raised")
end

-- The same in a loop until it is compiled, then with something else: a method, a manner, or
-- what the libraries say of anything. Each has a loop, and so traces, of its own.
local loop_text = [[
  local pcall, once = ...
  return function(list, a, b)
    local good = 0
    for i = 1, #list do if pcall(once, list[i], a, b) then good = good + 1 end end
    return good
  end
]]
local loops, calls = {}, {}
local function loop_of(once)
  loops[once] = loops[once] or assert(loadstring(loop_text, "=[string loop]"))(pcall, once)
  return loops[once]
end

local function call_of(name)
  calls[name] = calls[name] or assert(loadstring(("return function(x, a, b) return x:%s(a, b) end")
    :format(name), "=[string call]"))()
  return calls[name]
end

local hot = { name = "(in a loop)", count = {}, weight = 0 }

local function loop(what, once, list, a, b)
  if trace then trace_line("loop", what, list[1], list[65], list[68], list[70], a) end
  local good = loop_of(once)(list, a, b)
  hot.count.ok = (hot.count.ok or 0) + good
  hot.count.raised = (hot.count.raised or 0) + #list - good
  done = done + #list - 1
  for _, slice in ipairs(list) do note(slice) end
end

local function loop_list(x, ...)
  local list = {}
  for i = 1, 70 do list[i] = x end
  list[65], list[68], list[70] = ...
  return list
end

local function a_method_in_a_loop()
  local name = one_of { "u8", "u32be", "size", "str", "find", "equals", "set_u8", "expand_front",
    "truncate_front", "retain", "truncate_back", "i64be", "f64le", "f32be" }
  local a = name == "find" and "a" or name == "equals" and text() or below(8)
  loop(name, call_of(name), loop_list(pick(S), pick(S), anything(), one_of(ended.slice) or 1), a,
    below(8))
end

local function a_manner_in_a_loop()
  local x, y, z = pick(one_of(kinds)), anything(), anything()
  if not may_be_treated_badly(x) or y == io.stdout then return end
  local other = pick(one_of(kinds))
  if not may_be_treated_badly(other) then other = x end
  loop("manner", one_of(manners), loop_list(x, other, ended.slice[1] or x, x), y, z)
end

local questions = { function(x) return getmetatable(x), type(x) end,
  function(x) return tostring(getmetatable(x)):find("^neap%.") end,
  function(x, y) return x == y, rawequal(x, y), tostring(x) end, function(x) return io.type(x) end,
  function(x, y) return select(2, y, x), next({}, nil) end }

local function a_question_in_a_loop()
  loop("question", one_of(questions), loop_list(anything(), anything(), anything(), anything()),
    anything())
end

local function in_a_loop()
  return one_of { a_method_in_a_loop, a_manner_in_a_loop, a_question_in_a_loop }()
end

local function connect()
  local conn, other = testing.pair()
  if not conn then return end
  conn:set_timeout(0.002)
  other:set_timeout(0.002)
  add(C, conn)
  add(C, other)
end

-- A protocol whose handler does anything, and whose messages are kept.
local protocol = { codec = require("neap.codec.line").new { max = 200 },
  handle = function(message, conn)
    add(V, message)
    add(C, conn)
    for _ = 1, below(3) do step() end
    if one_in(200) then error("the handler's mistake") end
    if one_in(50) then return nil, "no", "refused" end
    return one_of { "answer", message, bytes(), false } or nil
  end }

local address = "unix://@neap-fuzz-" .. SEED .. "-" .. os.time()
local function serve()
  address = address .. "x"
  if #address > 90 then address = address:gsub("x+$", "") end
  local listen = one_in(2) and neap.listen or function(at, _, options)
    return neap.serve(at, protocol, options)
  end
  local listener = listen(address, function(conn)
    conn:set_timeout(0.002)
    for _ = 1, below(4) do
      add(C, conn) -- somebody may use it after it was closed
      step()
    end
    if one_in(200) then error("the handler's mistake") end
  end, { max_connections = 1 + below(3) })
  if not listener then return end
  add("listener", listener)
  for _ = 1, below(4) do
    local conn = neap.connect(address, { timeout = 0.002 })
    if conn then add(C, conn) end
    if conn then pcall(conn.write, conn, "one\ntwo\nthree\n") end
  end
end

local function forget()
  if one_in(100) then return collectgarbage() end
  collectgarbage("step", 200)
end

function step()
  if over then return end
  done = done + 1
  local kind = below(1000)
  if kind < 40 then return bad_manners() end
  if kind < 44 then return in_a_loop() end
  if kind < 50 then return connect() end
  if kind < 51 then return serve() end
  if kind < 56 then return forget() end
  if kind < 150 then look_at_a_slice() end
  run(pick_operation())
end

-- ---- all of it ----

local function adds_up(stats, whose)
  local ends = stats.slices_released + stats.slices_taken + stats.slices_dropped
    + stats.slices_collected
  if stats.slices_made ~= ends + stats.slices_live
    or stats.bytes_held ~= stats.bytes_free + stats.bytes_live then
    failed("the counters of " .. whose .. " do not add up")
  end
end

local function act()
  local turn = 0
  while done < OPERATIONS do
    step()
    turn = turn + 1
    -- a cancelled task ends here, half-way through whatever it was about
    if turn % 50 == 0 and select(3, neap.sleep(0)) == "cancelled" then return end
    if turn % 2000 == 0 then
      adds_up(neap.default_pool():stats(), "the default pool")
      for _, pool in ipairs(live.pool) do adds_up(pool:stats(), "a pool") end
    end
  end
end

local function end_everything()
  for _, kind in ipairs(kinds) do
    for _, x in ipairs(live[kind]) do if finish[kind] then pcall(finish[kind], x) end end
    live[kind], ended[kind] = {}, {}
  end
end

local function report()
  local sums, all, good = {}, 0, 0
  operations[#operations + 1], operations[#operations + 2] = odd_manners, hot
  for _, operation in ipairs(operations) do
    local name = (operation.kind or operation.weight == 0 and "" or "neap") .. " " .. operation.name
    sums[name] = sums[name] or {}
    for outcome, n in pairs(operation.count) do
      sums[name][outcome] = (sums[name][outcome] or 0) + n
      all = all + n
      good = good + (outcome == "ok" and n or 0)
    end
  end
  local names = {}
  for name in pairs(sums) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local parts = {}
    for outcome, n in pairs(sums[name]) do parts[#parts + 1] = outcome .. " " .. n end
    table.sort(parts)
    print(("%-24s %s"):format(name, table.concat(parts, ", ")))
  end
  print(("seed %d: %d operations, %.0f %% of them succeeded"):format(SEED, all, 100 * good / all))
  return good / all
end

neap.log.configure { level = "error" }
io.stderr:write(("seed %d\n"):format(SEED))
local actors = {}
for i = 1, ACTORS do actors[i] = neap.spawn(act) end
while done < OPERATIONS do
  neap.sleep(0.01)
  local i = below(ACTORS) + 1
  if one_in(4) then
    actors[i]:cancel()
    actors[i]:join(1)
    actors[i] = neap.spawn(act)
  end
end
for _, actor in ipairs(actors) do
  while select(3, actor:join(0.1)) == "timeout" do actor:cancel() end
end
over = true
end_everything()
shown = {}
neap.sleep(2) -- a wait was 1.5 s at most
for _ = 1, 20 do
  collectgarbage()
  neap.sleep(0.01)
end
local stats = neap.default_pool():stats()
adds_up(stats, "the default pool")
if stats.slices_live > 0 then failed(stats.slices_live .. " slices are left") end
if stats.bytes_referenced > 0 then failed(stats.bytes_referenced .. " bytes are referenced") end
if report() < 0.5 then failed("less than half succeeded") end
os.exit(0)
