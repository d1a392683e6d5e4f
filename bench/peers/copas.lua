-- A TCP echo on copas, under LuaJIT.  luajit copas.lua 127.0.0.1 7000
local copas = require("copas")
local socket = require("socket")

local server = assert(socket.bind(arg[1], tonumber(arg[2]), 511))
copas.addserver(server, function(client)
  client:setoption("tcp-nodelay", true)
  while true do
    local chunk, why, part = copas.receivePartial(client, 16384)
    chunk = chunk or part
    if (chunk or "") ~= "" then copas.send(client, chunk) end
    if why == "closed" then break end
  end
  client:close()
end)
print(("listening on tcp://%s:%d"):format(server:getsockname()))
io.stdout:flush()
copas.loop()
