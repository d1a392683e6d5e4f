--- For specs of protocols: connections without a port, an input cut everywhere, a clock that the
--- spec moves, and a watch over what a spec leaves behind.
---
---     local testing = require("neap.testing")
---     describe("my protocol", function()
---       testing.watch(before_each, after_each)
---       it("answers", function()
---         assert.equal("pong\n", testing.cut("ping\n", my_handler))
---       end)
---     end)

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local cost = require("neap.cost")
local inventory = require("neap.inventory")
local leaks = require("neap.leaks")
local net = require("neap.net")
local slice = require("neap.slice")
local task = require("neap.task")

local C = abi.C
local loop = task.loop
local M = { pair = net.pair, allocates = cost.allocates, compiles = cost.compiles }

local net_stats = ffi.new("struct neap_net_stats")

-- ---- until nothing happens any more ----

local QUIET_TURNS = 4    -- without traffic, new tasks or connections that end
local TURNS_AT_MOST = 10000

local function activity()
  C.neap_net_stats(net_stats)
  local traffic = net_stats.read_bytes + net_stats.written_bytes + net_stats.accepted
    + net_stats.connected
  return tonumber(traffic) + inventory.tasks_started(),
    tonumber(net_stats.streams_live + net_stats.listeners_live)
end

-- Turns the loop until what was sent has arrived, and whoever waited for it has gone on.
local function settle()
  local quiet, events, open = 0, activity()
  for _ = 1, TURNS_AT_MOST do
    task.next_turn()
    local events_now, open_now = activity()
    quiet = events_now == events and open_now == open and quiet + 1 or 0
    if quiet == QUIET_TURNS then return end
    events, open = events_now, open_now
  end
end

-- ---- an input, cut everywhere ----

local SHOWN_BEFORE, SHOWN_BYTES, LINE_BYTES = 16, 64, 16

-- Some bytes of a text around an offset (from 0), as hexdump -C shows them.
local function dump(text, offset)
  local from = math.max(0, offset - SHOWN_BEFORE)
  from = from - from % LINE_BYTES
  local out = { ("%d bytes"):format(#text) .. (from > 0 and (", from byte %d"):format(from) or "") }
  for at = from, math.min(#text, from + SHOWN_BYTES) - 1, LINE_BYTES do
    local line = text:sub(at + 1, math.min(at + LINE_BYTES, from + SHOWN_BYTES))
    local hex = line:gsub(".", function(c) return ("%02x "):format(c:byte()) end)
    out[#out + 1] = ("  %08x  %-48s |%s|"):format(at, hex, (line:gsub("[^\32-\126]", ".")))
  end
  if from + SHOWN_BYTES < #text then out[#out + 1] = "  …" end
  return table.concat(out, "\n")
end

local function first_difference(a, b)
  local low, high = 0, math.min(#a, #b) -- the first `low` bytes are the same
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if a:sub(low + 1, middle) == b:sub(low + 1, middle) then low = middle else high = middle - 1 end
  end
  return low
end

-- A peer may close before it has read everything: then the rest is of no interest.
local function feed(conn, pieces)
  for i = 1, #pieces do
    if not conn:write(pieces[i]) then return end
    settle()
  end
  conn:shutdown()
end

local function read_all(conn)
  local parts = {}
  while true do
    local chunk, _, name = conn:read_any(65536)
    if not chunk then return table.concat(parts), name end
    parts[#parts + 1] = chunk:str()
    chunk:release()
  end
end

-- Runs the handler on an input in pieces. Returns what it wrote, or nil and its error.
local function answer_to(pieces, handler)
  local conn, other = M.pair()
  if not conn then return nil, other end
  local failure
  local server = task.spawn(function()
    local ok, err = xpcall(handler, function(err)
      return type(err) == "string" and debug.traceback(err, 2) or err
    end, other)
    if not ok then failure = { err } end
    other:close()
  end)
  local feeder = task.spawn(feed, conn, pieces)
  local answer, name = read_all(conn)
  feeder:join()
  server:join()
  conn:close()
  settle()
  if failure then return nil, "the handler raised: " .. tostring(failure[1]) end
  if name ~= "eof" then return nil, "its answer ended with \"" .. tostring(name) .. '"' end
  return answer
end

local function try(pieces, handler, how, whole)
  local answer, wrong = answer_to(pieces, handler)
  if not answer then
    check.raise(("testing.cut: with the input %s, %s"):format(how, wrong))
  elseif whole and answer ~= whole then
    local offset = first_difference(answer, whole)
    check.raise(("testing.cut: with the input %s, the answer differs at byte %d:\n%s\n"
      .. "but with the input whole it is\n%s"):format(how, offset, dump(answer, offset),
      dump(whole, offset)))
  end
  return answer
end

--- Runs a server's handler on an input that comes whole, then in two pieces, cut at every byte,
--- then a byte at a time; the peer's end follows. Raises, naming the cut, if the handler raises, or
--- if not all answers are the same.
--- own: the handler's connection is closed when it returns, as a listener's would be
--- @param bytes string the input
--- @param handler fun(conn: neap.Connection) serves one connection, as for `neap.listen`
--- @return string answer all that the handler wrote until it ended
function M.cut(bytes, handler)
  check.string(bytes, "testing.cut: bytes")
  check.fn(handler, "testing.cut: handler")
  local whole = try({ bytes }, handler, "whole")
  for at = 1, #bytes - 1 do
    try({ bytes:sub(1, at), bytes:sub(at + 1) }, handler,
      ("cut after %d of %d bytes"):format(at, #bytes), whole)
  end
  local single = {}
  for at = 1, #bytes do single[at] = bytes:sub(at, at) end
  if #bytes > 2 then try(single, handler, "a byte at a time", whole) end
  return whole
end

-- ---- a clock that the spec moves ----

--- What `neap.testing.clock` gives: the time of sleeps, timeouts and idle timeouts, which stands
--- still until it is moved.
--- @class neap.Clock
local Clock = {}
local standing = false
local clock = setmetatable({}, { __index = Clock, __metatable = "neap.clock",
  __tostring = function() return standing and "clock that stands" or "clock that runs" end })

local function check_clock(self, name)
  if self ~= clock then
    check.raise("clock:" .. name .. ": called on " .. type(self) .. ", not on a clock")
  end
end

--- Stops the clock that sleeps, timeouts and idle timeouts follow: from now on they end when
--- `clock:advance` moves it there. Connections are read and written as ever.
--- @return neap.Clock clock stands until `clock:release`
function M.clock()
  if standing then check.raise("testing.clock: it stands already") end
  C.neap_clock_freeze(loop)
  standing = true
  return clock
end

--- Moves the clock. All that is due meanwhile happens at its time and in its order, and whoever
--- goes on by it runs, with all that it sends and spawns, before the clock moves further.
--- @param seconds number how far; 0: only what is under way happens
function Clock:advance(seconds)
  check_clock(self, "advance")
  check.seconds(seconds, "clock:advance: seconds")
  if not standing then check.raise("clock:advance: it runs, since it was released") end
  settle()
  local target = C.neap_loop_now(loop) + seconds
  while C.neap_clock_advance(loop, target) do settle() end
end

--- Lets the clock run, from where it stands. Twice is harmless.
function Clock:release()
  check_clock(self, "release")
  C.neap_clock_thaw(loop)
  standing = false
end

-- ---- a deadline for a spec ----

local GRACE_S = 5 -- for a spec that was told to end; the process ends after it
local ALARM = C.neap_signal_number("ALRM")
local here = debug.getinfo(1, "S").source
local neap_directory = here:match("^(.*/)")
local unnamed = "a spec (before it began)"
local spec_name = unnamed

local function full_name(busted, element)
  local names = {}
  local trace = element.trace
  while element and element.descriptor ~= "file" and (element.name or element.descriptor) do
    table.insert(names, 1, element.name or element.descriptor)
    element = busted.parent(element)
  end
  return ('"%s"'):format(table.concat(names, " "))
    .. (trace and (" (%s:%d)"):format(trace.short_src, trace.currentline) or "")
end

local function is_neaps_own(source)
  return source ~= here and source:sub(1, #neap_directory) == neap_directory
end

local before_hook -- the hook that was there, and whether the JIT compiler was on

local function unhook()
  if not before_hook then return end
  debug.sethook(unpack(before_hook, 1, 3))
  if before_hook.compiles then jit.on() end
  before_hook = nil
end

-- Raises `message` in a task when it leaves neap's code next: what neap has registered for its
-- wait is in order then. One that is back in busted has ended. (Compiled code runs no hooks.)
local function raise_in(target, message)
  unhook()
  before_hook = { debug.gethook() }
  before_hook.compiles = jit.status()
  jit.off()
  jit.flush()
  debug.sethook(function()
    if coroutine.running() ~= target.co then return end
    local source = debug.getinfo(2, "S").source
    if is_neaps_own(source) then return end
    unhook()
    if source:find("/busted/", 1, true) then return end
    error(target.co and message or debug.traceback(message, 2), 0)
  end, "", 1)
end

local function where_all_wait(before)
  local lines = {}
  for name, what in pairs(inventory.things()) do
    if name:find("^task ") and not before.things[name] then lines[#lines + 1] = what end
  end
  table.sort(lines)
  return table.concat(lines, "\n")
end

local watches = {} -- of the spec that runs: one for each describe that has one

local function watch_deadline(seconds)
  local text = ("neap.testing: %s did not give control back for %g s: the process ends\n"):format(
    spec_name, seconds + GRACE_S)
  C.neap_watchdog_set(seconds, seconds + GRACE_S, text)
end

local function deadline_passed()
  local watch = watches[#watches]
  if not watch then return end
  local others = where_all_wait(watch.before)
  watch.hung = watch.hung or ("%s took longer than %g s\n%s%s"):format(spec_name, watch.deadline,
    task.whereabouts(watch.task), others ~= "" and "\n" .. others or "")
  raise_in(watch.task, watch.hung)
  task.interrupt(watch.task)
end

-- The name is known once the spec begins, which is after what comes before it.
local function note_names()
  note_names = function() end
  local ok, busted = pcall(require, "busted")
  if not ok or not busted.subscribe then return end
  busted.subscribe({ "test", "start" }, function(element)
    spec_name = full_name(busted, element)
    local watch = watches[#watches]
    if watch then watch_deadline(watch.deadline) end
    return nil, true -- others are told, too
  end)
  busted.subscribe({ "test", "end" }, function(_, _, status)
    for _, watch in ipairs(watches) do
      watch.passed = status == "success"
      watch.failed = status == "failure" or status == "error"
    end
    return nil, true
  end)
end

local function begin(given)
  spec_name = unnamed
  task.on_signal(ALARM, deadline_passed)
  local before = inventory.take()
  watches[#watches + 1] = { deadline = given.deadline, task = task.running(), before = before,
    level = leaks.level(given.leaks) }
  watch_deadline(given.deadline)
end

-- Returns what was left behind, or nil. One that failed has not come to its end, where it would
-- have cleaned up.
local function finish(watch, settle_s)
  unhook()
  local excused = watch.hung or watch.failed
  C.neap_watchdog_set(0, settle_s + GRACE_S, "neap.testing: what came after " .. spec_name
    .. " did not give control back: the process ends\n")
  local stood = standing
  clock:release()
  local left = not excused and inventory.left_since(watch.before, settle_s) or nil
  leaks.level(watch.level)
  C.neap_watchdog_set(0, 0, "")
  task.on_signal(ALARM, nil)
  if left or excused then
    collectgarbage() -- so that the next one starts clean
    collectgarbage()
    slice.settle()
  end
  if excused or not stood then return left end
  return (left and left .. "\n" or "") .. "a clock that stands: release it"
end

local watch_options = { deadline = 5, settle = 4, leaks = "all" }

--- Has every spec of a describe block watched. One that takes too long fails, with where its tasks
--- wait, whether or not the clock stands; if it does not even give control back, the process ends
--- and names it. After each, the tasks, connections, listeners, descriptors and slices are as they
--- were before it, or it fails and names what was left, slices with the lines that made them
--- (unless it has failed before it could clean up). An after_each that cleans up is written before
--- the call.
--- @param before_each function busted's
--- @param after_each function busted's
--- @param options? table deadline: seconds that a spec may take (5) · settle: seconds after it in
--- which its connections and tasks must have ended (4) · leaks: the level of watching slices in
--- it ("all"; see neap.leaks_level)
function M.watch(before_each, after_each, options)
  check.fn(before_each, "testing.watch: before_each")
  check.fn(after_each, "testing.watch: after_each")
  local given = check.options(options, watch_options, "neap.testing.watch")
  note_names()
  before_each(function() begin(given) end)
  after_each(function()
    local watch = table.remove(watches)
    local wrong = finish(watch, given.settle)
    if watch.hung then
      if watch.passed then error(watch.hung, 0) end -- it has caught what was raised
    elseif wrong then
      error(spec_name .. " left behind:\n" .. wrong, 0)
    end
  end)
end

-- As assertions of busted, where that is there; their messages are those of what raises.
local function register_assertions()
  local ok, assertions = pcall(require, "luassert")
  if not ok then return end
  for _, name in ipairs { "allocates", "compiles" } do
    assertions:register("assertion", name, function(_, arguments)
      M[name](arguments[1], arguments[2])
      return true
    end)
  end
end

if package.loaded.luassert then register_assertions() end

return abi.keep("neap.testing", M)
