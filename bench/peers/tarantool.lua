-- A TCP echo in Tarantool, a fiber for each connection.  tarantool tarantool.lua 127.0.0.1 7000
local socket = require("socket")

local function serve(client)
  client:setsockopt("IPPROTO_TCP", "TCP_NODELAY", 1)
  while client:readable() do
    local chunk = client:sysread(16384)
    if chunk == "" or (not chunk and client:errno() ~= 11) then break end
    if chunk and not client:write(chunk) then break end
  end
end

local server = assert(socket.tcp_server(arg[1], tonumber(arg[2]), { name = "echo",
  handler = serve, backlog = 511 }))
local address = server:name()
print(("listening on tcp://%s:%d"):format(address.host, address.port))
io.stdout:flush()
