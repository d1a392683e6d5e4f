--- A server and its clients in one process, which the specs of failing calls run, with the shim:
---
---     LD_PRELOAD=build/shim.so neap spec/shim/scenario.lua memory <scenario>
---     LD_PRELOAD=build/shim.so neap spec/shim/scenario.lua calls <scenario>
---
--- memory: one run, in which the request fails that SHIM names (from the start of the process on),
--- and a second one without. calls: each call fails in turn in each way it can, run after run.
--- Prints what came of it. A run ends well, or with nil, message, name; afterwards nothing is left
--- and the next run ends well.

local ffi = require("ffi")
ffi.cdef [[
  void shim_fail(const char *call, int after, int error);
  int shim_calls(void);
  int shim_failed(void);
]]
local shim = ffi.C

local ok, neap = pcall(require, "neap")
if not ok then
  io.stderr:write(tostring(neap), "\n")
  os.exit(1)
end
local abi = require("neap.abi")

local EINTR, EAGAIN, ENOMEM, EMFILE, EPIPE = 4, 11, 12, 24, 32
local ENOBUFS, ECONNABORTED, ECONNRESET, ECONNREFUSED, ENOSPC = 105, 103, 104, 111, 28
local EIO, EOPNOTSUPP, EPERM, EBUSY = 5, 95, 1, 16
local SHORT = 0
local RUNS_AT_MOST = 60 -- of one call with one error

local calls = {
  { "recv", SHORT, EINTR, EAGAIN, ECONNRESET, ENOMEM, ENOBUFS },
  { "send", SHORT, EINTR, EAGAIN, ECONNRESET, EPIPE, ENOBUFS, ENOMEM },
  { "sendmsg", SHORT, EINTR, EAGAIN, ECONNRESET, EPIPE, ENOBUFS, ENOMEM },
  { "io_uring_enter", SHORT, EINTR, EAGAIN, ENOMEM, EBUSY, EPERM },
  { "accept4", EINTR, EAGAIN, ECONNABORTED, EMFILE, ENOBUFS, ENOMEM },
  { "socket", EMFILE, ENOBUFS, ENOMEM }, { "connect", EINTR, EAGAIN, ECONNREFUSED, ENOBUFS },
  { "bind", ENOMEM }, { "listen", ENOBUFS }, { "setsockopt", ENOMEM },
  { "getsockopt", ENOBUFS }, { "getsockname", ENOBUFS }, { "getpeername", ENOBUFS },
  { "epoll_wait", EINTR, ENOMEM }, { "epoll_ctl", ENOMEM, ENOSPC },
  { "preadv2", SHORT, EINTR, EAGAIN, EIO, ENOMEM, EOPNOTSUPP }, { "fstat", EIO, ENOMEM },
  { "sendfile", SHORT, EINTR, EAGAIN, ECONNRESET, EPIPE, EIO, ENOMEM },
}

-- ---- scenarios: true, or nil, message, name ----

local WAIT_S = 2
local options = { timeout = WAIT_S }

local function listen(handler) return neap.listen("tcp://127.0.0.1:0", handler, options) end
local function connect(listener) return neap.connect(listener.address, options) end

local function echo_handler(conn)
  for chunk in conn:chunks() do assert(conn:write(chunk)) end
end

-- Writes a text, reads as much, and the end.
local function ask(conn, text)
  local done, message, name = conn:write(text)
  if done then done, message, name = conn:shutdown() end
  if not done then return nil, message, name end
  local answer, _
  answer, message, name = conn:read(#text)
  if not answer then return nil, message, name end
  local same = answer:equals(text)
  answer:release()
  if not same then error("the answer is another one", 0) end
  _, message, name = conn:skip(1)
  if name ~= "eof" then return nil, message or "more came", name or "more" end
  return true
end

local function served(listener, text)
  local conn, message, name = connect(listener)
  if not conn then return nil, message, name end
  local done
  done, message, name = ask(conn, text)
  conn:close()
  return done, message, name
end

local text = ("0123456789abcdef"):rep(10000) -- waits for room, on both sides

local function with(listener, message, name, fn)
  if not listener then return nil, message, name end
  local results = { pcall(fn, listener) }
  listener:close()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, 4)
end

local scenarios = {}

function scenarios.echo()
  local listener, message, name = listen(echo_handler)
  return with(listener, message, name, function()
    local done, why, what = served(listener, "hello")
    if done then done, why, what = served(listener, text) end
    return done, why, what
  end)
end

-- Many at once: what is written leaves in calls that they share.
function scenarios.crowd()
  local CLIENTS = 8
  local listener, message, name = listen(echo_handler)
  return with(listener, message, name, function()
    local tasks, done, why, what = {}, true, nil, nil
    for i = 1, CLIENTS do tasks[i] = neap.spawn(served, listener, text:sub(1, 10 ^ (i % 5))) end
    for i = 1, CLIENTS do
      local good, its_message, its_name = tasks[i]:join()
      if its_name == "error" then error(its_message, 0) end
      if not good then done, why, what = nil, its_message, its_name end
    end
    return done, why, what
  end)
end

-- A length and a payload, cut where they lie; the answer is a list, and goes out in one call.
function scenarios.frames()
  local listener, message, name = listen(function(conn)
    while true do
      local header, why, what = conn:read(4)
      if what == "eof" then return end
      local payload = assert(conn:read(assert(header, why):u32be(0)))
      local front = payload:split(math.min(7, #payload))
      assert(conn:write({ header, front, payload, "" }))
    end
  end)
  return with(listener, message, name, function()
    local b, bad, failure = neap.buffer()
    if not b then return nil, bad, failure end
    for _, size in ipairs { 0, 5, 5000, 40000 } do
      local put, why, what = b:put_u32be(size)
      if put then put, why, what = b:put(text:sub(1, size)) end
      if not put then
        b:release()
        return nil, why, what
      end
    end
    local parts = {}
    for i, piece in ipairs(b:take()) do
      parts[i] = piece:str()
      piece:release()
    end
    b:release()
    return served(listener, table.concat(parts))
  end)
end

local function relay(from, to)
  for chunk in from:chunks() do assert(to:write(chunk)) end
  to:shutdown()
end

function scenarios.proxy()
  local target, message, name = listen(echo_handler)
  return with(target, message, name, function()
    local listener, why, what = listen(function(client)
      local server = assert(connect(target))
      neap.scope(function(scope)
        scope:defer(function() server:close() end)
        scope:spawn(relay, server, client)
        relay(client, server)
      end)
    end)
    return with(listener, why, what, function() return served(listener, text:sub(1, 100000)) end)
  end)
end

-- Messages by a codec, and no task while nothing comes.
function scenarios.serve()
  local line = require("neap.codec.line").new { max = 100000 }
  local server, message, name = neap.serve("tcp://127.0.0.1:0", { codec = line,
    handle = function(it) return it end }, options)
  return with(server, message, name, function()
    local done, why, what = served(server, "hello\nworld\n")
    if done then done, why, what = served(server, (text:sub(1, 500) .. "\n"):rep(300)) end
    return done, why, what
  end)
end

-- Asks, reads the answer, and compares its body.
local function fetch(conn, path, body)
  local done, message, name = conn:write("GET " .. path .. " HTTP/1.1\r\nHost: x\r\n"
    .. "Connection: close\r\n\r\n")
  if done then done, message, name = conn:shutdown() end
  if not done then return nil, message, name end
  local status, length
  repeat
    local line
    line, message, name = conn:read_line()
    if not line then return nil, message, name end
    local part = line:str()
    line:release()
    status = status or part:match("^HTTP/1.1 (%d+)")
    length = length or part:match("^Content%-Length: (%d+)")
  until part == ""
  local slice
  slice, message, name = conn:read(tonumber(length))
  if not slice then return nil, message, name end
  local same = slice:equals(body)
  slice:release()
  if status ~= "200" then return nil, "status " .. status, "system" end
  if not same then error("the answer is another one", 0) end
  return true
end

local files

-- A small file, and one that goes out piece by piece.
function scenarios.files()
  local http = require("neap.http")
  local message, name, server
  if not files then files, message, name = http.files(arg[3]) end
  if not files then return nil, message, name end
  server, message, name = http.serve("tcp://127.0.0.1:0", files, options)
  return with(server, message, name, function()
    for path, body in pairs { ["/small"] = "hello", ["/large"] = text } do
      local conn, why, what = connect(server)
      if not conn then return nil, why, what end
      local done
      done, why, what = fetch(conn, path, body)
      conn:close()
      if not done then return nil, why, what end
    end
    return true
  end)
end

-- ---- one run, and what it leaves ----

local net, slices = ffi.new("struct neap_net_stats"), ffi.new("struct neap_slice_stats")

local function left()
  abi.C.neap_net_stats(net)
  abi.C.neap_slice_stats(slices)
  return tonumber(net.streams_live + net.listeners_live), tonumber(slices.live)
end

-- Connections may take a moment to close.
local function settled()
  local connections, live
  for i = 0, 100 do
    neap.sleep(0.0005 * i)
    if i % 10 == 5 then collectgarbage() end -- what an error has thrown away
    connections, live = left()
    if connections == 0 and live == 0 then return true end
  end
  return false, ("%d connections and %d slices are left"):format(connections, live)
end

local function adds_up()
  local s = neap.default_pool():stats()
  return s.bytes_held == s.bytes_free + s.bytes_live and s.slices_made == s.slices_released
    + s.slices_taken + s.slices_dropped + s.slices_collected + s.slices_live
end

local function fail(format, ...)
  print("WRONG: " .. format:format(...))
  os.exit(2)
end

-- An error that a scenario raises is a failure of its assertions, told as the outside world's.
local function run(scenario, about)
  local good, done, message, name = pcall(scenario)
  if not good then fail("%s raised %s", about, tostring(done)) end
  if not done and (type(message) ~= "string" or type(name) ~= "string") then
    fail("%s: not nil, message, name but %s, %s", about, tostring(message), tostring(name))
  end
  return done and "ok" or name
end

local function check_after(scenario, about)
  shim.shim_fail("", -1, 0)
  local well, what = settled()
  if not well then fail("%s: %s", about, what) end
  if not adds_up() then fail("%s: the counters do not add up", about) end
  local next_one = run(scenario, about)
  if next_one ~= "ok" then fail("%s: the next run: %s", about, next_one) end
  well, what = settled()
  if not well then fail("%s, and a good one: %s", about, what) end
end

local mode, which = arg[1], arg[2]
local scenario = scenarios[which]
neap.log.configure { level = "error" } -- peers that reset are to be expected

if mode == "memory" then
  local result = run(scenario, "the run")
  check_after(scenario, "the run, which ended with " .. result)
  print(result)
  os.exit(0)
end

run(scenario, "the first run")
settled()
local total, counts = 0, {}
for _, call in ipairs(calls) do
  -- a crowd's are then sent one by one, as in the others, and each waits until it times out
  local last = which == "crowd" and call[1] == "send" and 0 or #call
  for i = 2, last do
    for after = 0, RUNS_AT_MOST do
      local about = ("%s with error %d, the %d.,"):format(call[1], call[i], after + 1)
      io.stderr:write(about, "\n") -- the last one says where it crashed
      shim.shim_fail(call[1], after, call[i])
      local result = run(scenario, about)
      if shim.shim_failed() == 0 then break end
      if after == RUNS_AT_MOST then fail("%s: it is made again and again", about) end
      counts[result] = (counts[result] or 0) + 1
      total = total + 1
      if result == "timeout" then
        io.stderr:write("  ended with timeout\n")
        local sent = call[1]:find("^send") and (call[i] == ENOBUFS or call[i] == ENOMEM)
        if sent then fail("%s nobody hears of the answer that is lost", about) end
      end
      check_after(scenario, about .. " which ended with " .. result)
    end
  end
end
local parts = {}
for result, n in pairs(counts) do parts[#parts + 1] = result .. " " .. n end
table.sort(parts)
print(("%s: %d calls failed: %s"):format(which, total, table.concat(parts, ", ")))
os.exit(0)
