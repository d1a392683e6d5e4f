-- Opens connections to a server, exchanges one message on each, and keeps them.
--
--     neap bench/idle.lua ADDRESS COUNT [frames|http] [warm]
--
-- `frames`: those of examples/frames.lua; `http`: requests, to examples/http_hello.lua.
--
-- `warm`: exchanges many, closes, and ends: then the server has compiled what it runs, and a
-- measurement of what connections cost does not count that.
local neap = require("neap")

local address, count = arg[1], tonumber(arg[2])
local warm = arg[4] == "warm"
local message = ({ echo = "hello", frames = "\0\0\0\5\0\1\0\7hello",
  http = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" })[arg[3]]
local last = arg[3] == "http" and "\r\n\r\nhello\n" or message -- of an answer

local connections = {}
for i = 1, count do connections[i] = assert(neap.connect(address)) end
for _ = 1, warm and 50 or 1 do
  for i = 1, count do
    connections[i]:write(message)
    assert(connections[i]:read_until(last)):release()
  end
end
print("connected " .. #connections .. "\nlistening on " .. address) -- as bench/lib.sh waits for it
io.stdout:flush()
if not warm then neap.sleep(60) end
for i = 1, count do connections[i]:close() end
