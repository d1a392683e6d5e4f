-- Answers requests of HTTP on copas, under LuaJIT, reading their heads line by line.
--   luajit copas.lua 127.0.0.1 8080
local copas = require("copas")
local socket = require("socket")

local ANSWER = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"

local server = assert(socket.bind(arg[1], tonumber(arg[2]), 511))
copas.addserver(server, function(client)
  client:setoption("tcp-nodelay", true)
  while true do
    local line = copas.receive(client, "*l")
    while line and line ~= "" do line = copas.receive(client, "*l") end
    if not line then break end
    copas.send(client, ANSWER)
  end
  client:close()
end)
print(("listening on tcp://%s:%d"):format(server:getsockname()))
io.stdout:flush()
copas.loop()
