-- Asks the server of frames.lua some things, all at once, and prints what it answers.
--
--     neap examples/frames_client.lua [tcp://127.0.0.1:7001]
local neap = require("neap")

local HEADER = 8 -- bytes: length u32be, type u16be, id u16be
local ERROR, ECHO, SUM, TIME = 0, 1, 2, 3

local conn = assert(neap.connect(arg[1] or "tcp://127.0.0.1:7001"))

local requests, count = neap.buffer(), 0

-- Appends a request; puts(b) appends its payload, whose length is filled in afterwards.
local function request(kind, puts)
  count = count + 1
  local start = #requests
  requests:pack(">I4I2I2", 0, kind, count)
  puts(requests)
  requests:set_u32be(start, #requests - start - HEADER)
end

request(ECHO, function(b) b:put("hello") end)
request(SUM, function(b) b:put_u32be(40):put_u32be(2) end)
request(TIME, function() end)
request(99, function(b) b:put("what is this?") end)

assert(conn:write(requests:take()))
conn:shutdown() -- nothing more to ask; the answers still come

local show = {
  [ERROR] = function(payload) return "error: " .. payload:str() end,
  [ECHO] = function(payload) return payload:str() end,
  [SUM] = function(payload) return "the sum is " .. payload:u53be(0) end,
  [TIME] = function(payload) return os.date("!it is %F %T UTC", payload:u53be(0)) end,
}

for _ = 1, count do
  local header = assert(conn:read(HEADER))
  local length, kind, id = header:unpack(">I4I2I2", 0)
  header:release()
  local payload = assert(conn:read(length))
  print(id, show[kind](payload))
  payload:release()
end
conn:close()
