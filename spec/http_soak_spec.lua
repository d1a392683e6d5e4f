--- The examples of HTTP under each kind of load for some time: the resident memory stays as it is
--- after a third of that, and nothing is held when the clients have gone. `make soak` is the long
--- run; the settings are those of soak_spec.lua:
---
---     SOAK_S=60 make soak

local asking = require("spec.asking")
local example = require("spec.example")
local helper = require("spec.helper")
local neap = require("neap")
local task = require("neap.task")

local C = require("neap.abi").C

local SECONDS = tonumber(os.getenv("SOAK_S")) or 1
local sanitized = helper.stock_environment():find("LD_PRELOAD", 1, true)
-- That the memory may grow by, from a third of the time on. In a run that is shorter pools, traces
-- and the collector still settle (events are so few that its first cycle comes late); one of a
-- second says nothing.
local ALLOWED = sanitized and math.huge or SECONDS >= 60 and 0.03 or SECONDS >= 10 and 0.25
  or math.huge
-- On a machine that does much else it may settle later: what leaks grows as much each time.
local ROUNDS = 3
local MIB = 1048576

local function now() return C.neap_loop_now(task.loop) end

-- ---- clients ----

-- Reads the head of an answer, and its body. Returns the status.
local function take_answer(conn)
  local status, length
  for line in conn:lines() do
    if line == "" then break end
    status = status or line:match("^HTTP/1%.1 (%d+)")
    length = length or line:match("^Content%-Length: (%d+)")
  end
  local left = tonumber(length)
  while left > 0 do
    local slice = assert(conn:read_any(left))
    left = left - #slice
    slice:release()
  end
  return status
end

-- What asks for `path` again and again, `at_once` times before it reads.
local function asks(path, at_once)
  local request = asking.get(path):rep(at_once)
  return function(conn)
    assert(conn:write(request))
    for _ = 1, at_once do assert(take_answer(conn) == "200") end
    return at_once
  end
end

local body = helper.pattern(MIB)
local chunks = {}
for from = 1, MIB, 65536 do
  chunks[#chunks + 1] = "10000\r\n" .. body:sub(from, from + 65535) .. "\r\n"
end
chunks = table.concat(chunks) .. "0\r\n\r\n"

local function uploads(conn, client, turn)
  local head = ("PUT /files/f%d HTTP/1.1\r\nHost: x\r\n"):format(client)
  if turn % 2 == 0 then
    assert(conn:write(head .. "Content-Length: " .. MIB .. "\r\n\r\n" .. body))
  else
    assert(conn:write(head .. "Transfer-Encoding: chunked\r\n\r\n" .. chunks))
  end
  assert(take_answer(conn) == "201")
  return 1
end

local function listens(conn, _, turn)
  if turn == 1 then assert(conn:write(asking.get("/events"))) end
  for line in conn:lines() do
    if line:find("^data: ") then return 1 end
  end
end

-- ---- loads: name, example, connections, what each does again and again ----

local loads = {
  { "hello, 64 connections", "http_hello", 64, asks("/", 1) },
  { "hello, 64 connections, 16 at once", "http_hello", 64, asks("/", 16) },
  { "a file of 1 MiB, 16 connections", "http_files", 16, asks("/mib.bin", 1) },
  { "uploads of 1 MiB, 16 connections", "http_api", 16, uploads },
  { "events, 64 connections", "http_live", 64, listens },
}

local function client(address, number, act, over, counts)
  local conn = assert(neap.connect(address, { timeout = 20 }))
  local turn = 0
  repeat
    turn = turn + 1
    local answers = act(conn, number, turn) -- others count meanwhile
    counts.answers = counts.answers + answers
  until now() >= over
  conn:close()
end

local function median(list, from, to)
  local part = {}
  for i = from, to do part[#part + 1] = list[i] end
  table.sort(part)
  return part[math.ceil(#part / 2)]
end

-- Returns how many answers there were, and the resident memory: the medians of ten looks after a
-- third of the time, and of ten at its end, and the most of all since that third.
local function load_server(server, connections, act)
  local counts, begin = { answers = 0 }, now()
  local wait_for = {}
  for i = 1, connections do
    wait_for[i] = helper.task(client, server.address, i, act, begin + SECONDS, counts)
  end
  neap.sleep(SECONDS / 3)
  local looks, most = {}, 0
  repeat
    looks[#looks + 1] = server:resident()
    most = math.max(most, looks[#looks])
    neap.sleep(SECONDS / 60)
  until now() >= begin + SECONDS
  for i = 1, connections do wait_for[i]() end
  local n = #looks
  return counts.answers, median(looks, 1, math.min(10, n)), median(looks, math.max(1, n - 9), n),
    most
end

describe("an example of HTTP, for a while:", function()
  helper.watch(before_each, after_each, ROUNDS * SECONDS + 120)

  for _, load in ipairs(loads) do
    local name, which, connections, act = unpack(load)
    it(name .. ": its memory is flat, and it holds nothing afterwards", function()
      local directory = helper.temporary_directory()
      helper.file(body, directory .. "/mib.bin")
      local server = example.start(which, { "tcp://127.0.0.1:0", directory },
        ROUNDS * SECONDS + 120)
      local base, grown
      for _ = 1, ROUNDS do
        local answers, first, last, most = load_server(server, connections, act)
        print(("soak: %s, %d s: %d answers; resident %.2f MiB after a third, %.2f at the end, "
          .. "%.2f at most"):format(name, SECONDS, answers, first / MIB, last / MIB, most / MIB))
        assert.is_true(answers >= connections)
        base, grown = base or first, last - first
        if grown <= ALLOWED * base then break end
      end
      assert.equal("", server:finish())
      assert.is_true(grown <= ALLOWED * base, ("it grew by %d bytes"):format(grown))
    end)
  end
end)
