--- Many connections to the echo example for some time, with random sizes and cuts. `make soak`
--- is the long run; here are the settings:
---
---     SOAK_S            seconds of each test        (1)
---     SOAK_CONNECTIONS  open at once                (200)
---     SOAK_SEED         of everything that is random (the time); printed

local bit = require("bit")
local example = require("spec.example")
local helper = require("spec.helper")
local neap = require("neap")
local task = require("neap.task")

local C = require("neap.abi").C

local function setting(name, default) return tonumber(os.getenv(name)) or default end

local SECONDS = setting("SOAK_S", 1)
local CONNECTIONS = setting("SOAK_CONNECTIONS", 200)
local SEED = setting("SOAK_SEED", os.time() % 1000000)
local MAX_WRITE, MAX_READ = 65536, 65536   -- bytes
local MAX_SESSION = 1048576                -- bytes of one connection

-- Numbers that look random: Marsaglia's xorshift. Each connection has its own, so that the
-- order in which they run does not matter.
local function new_random(seed)
  local state = bit.bxor(seed, 0x5bd1e995)
  if state == 0 then state = 1 end
  local function random(most) -- from 1 to most
    state = bit.bxor(state, bit.lshift(state, 13))
    state = bit.bxor(state, bit.rshift(state, 17))
    state = bit.bxor(state, bit.lshift(state, 5))
    return state % most + 1
  end
  for _ = 1, 8 do random(1) end -- neighbouring seeds part
  return random
end

-- Small ones are as frequent as large ones.
local function size(random, most)
  local n = random(most)
  return bit.rshift(n, random(16) - 1) + 1
end

-- What is sent: the bytes of `bytes` over and over, from a place of the connection's own.
local bytes
do
  local random, parts = new_random(SEED), {}
  for i = 1, MAX_SESSION do parts[i] = string.char(bit.rshift(random(0x7fffffff), 8) % 256) end
  bytes = table.concat(parts):rep(2)
end

local function piece(start, at, n)
  local from = (start + at) % MAX_SESSION
  return bytes:sub(from + 1, from + n)
end

local function send(conn, random, start, total)
  local sent = 0
  while sent < total do
    local part = piece(start, sent, math.min(size(random, MAX_WRITE), total - sent))
    if not conn:write(random(2) == 1 and part or neap.slice(part)) then return end
    sent = sent + #part
    if random(16) == 1 then neap.sleep(random(20) / 1000) end
  end
  conn:shutdown()
end

-- Ways to receive: each returns how many bytes it saw, having compared them.
local ways = {
  function(conn, random, start, at)
    local slice = assert(conn:read_any(size(random, MAX_READ)))
    local n = #slice
    assert(slice:equals(piece(start, at, n)), "other bytes than were sent")
    slice:release()
    return n
  end,
  function(conn, random, start, at, left)
    local n = math.min(size(random, MAX_READ), left)
    local slice = assert(conn:read(n))
    local front = slice:split(random(n + 1) - 1)
    assert(front:equals(piece(start, at, #front)), "other bytes than were sent")
    assert(slice:equals(piece(start, at + #front, #slice)), "other bytes than were sent")
    if random(2) == 1 then slice:detach() end
    slice:release()
    front:release()
    return n
  end,
  function(conn, random, start, at, left)
    local n = math.min(size(random, MAX_READ), left)
    local view = assert(conn:peek(n))
    assert(view:equals(piece(start, at, n)), "other bytes than were sent")
    assert(conn:skip(n))
    return n
  end,
  function(conn, random, start, at, left)
    local rest = piece(start, at, math.min(MAX_READ, left))
    local newline = rest:find("\n", 1, true)
    if not newline then return 0 end
    local line = assert(conn:read_until("\n", { inclusive = true }))
    assert(line:equals(rest:sub(1, newline)), "other bytes than were sent")
    line:release()
    return newline
  end,
}

local done -- what the connections have done

-- One connection from its beginning to its end: all is received, or (one in eight) it is left
-- in the middle.
local function session(address, random)
  local start, total = random(MAX_SESSION), size(random, MAX_SESSION)
  local leave_at = random(8) == 1 and random(total) or total
  local conn = assert(neap.connect(address))
  local sender = neap.spawn(send, conn, new_random(random(0x7fffffff)), start, total)
  local at = 0
  while at < leave_at do at = at + ways[random(#ways)](conn, random, start, at, total - at) end
  if leave_at == total then
    assert(select(3, conn:read(1)) == "eof", "more bytes than were sent")
    done.complete = done.complete + 1
  else
    done.left = done.left + 1
  end
  conn:close()
  sender:join()
  done.bytes = done.bytes + at
end

-- Opens connections until the time is over.
local function keep_busy(address, seed, over)
  local random = new_random(seed)
  repeat session(address, random) until C.neap_loop_now(task.loop) >= over
end

local function soak(address)
  done = { complete = 0, left = 0, bytes = 0 }
  local over, wait_for = C.neap_loop_now(task.loop) + SECONDS, {}
  for i = 1, CONNECTIONS do wait_for[i] = helper.task(keep_busy, address, SEED + i, over) end
  for i = 1, CONNECTIONS do wait_for[i]() end
  print(("soak: %d connections, %d left in the middle, %d MiB both ways"):format(done.complete,
    done.left, done.bytes / 1048576))
end

local function own_counters()
  helper.turn() -- it reads, and keeps a buf until its next read
  collectgarbage()
  collectgarbage()
  local stats, net = helper.default_stats(), helper.net_stats()
  return { slices = stats.slices_live, bufs = stats.bufs_live, streams = net.streams,
    forgotten = stats.slices_collected + net.forgotten }
end

describe("the echo example, for a while", function()
  helper.watch(before_each, after_each, SECONDS + 120)
  print(("soak: SOAK_SEED=%d"):format(SEED))

  local function expect_own(before)
    helper.turn_until(function() return helper.net_stats().streams == before.streams end)
    assert.same(before, own_counters())
    assert.is_true(done.complete + done.left >= CONNECTIONS)
    assert.is_true(done.complete > CONNECTIONS / 2) -- one of eight is left
  end

  it("sends every byte back to many clients, and holds nothing afterwards", function()
    local before = own_counters()
    local server = example.start("echo", { "tcp://127.0.0.1:0" }, SECONDS + 120)
    local ok, err = pcall(soak, server.address)
    local said = server:finish()
    if not ok then error(err, 0) end
    expect_own(before)
    for line in said:gmatch("[^\n]+") do
      assert.matches("^" .. helper.logged("warn") .. "tcp://127%.0%.0%.1:%d+: "
        .. "[^\n]*reset the connection", line)
    end
  end)

  it("does so in one process with its clients", function()
    local before = own_counters()
    local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
      for chunk in conn:chunks() do conn:write(chunk) end
    end))
    soak(listener.address)
    listener:close()
    expect_own(before)
  end)
end)
