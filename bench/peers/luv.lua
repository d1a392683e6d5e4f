-- A TCP echo on luv, the binding of libuv, under LuaJIT.  luajit luv.lua 127.0.0.1 7000
local uv = require("luv")

local server = uv.new_tcp()
assert(server:bind(arg[1], tonumber(arg[2])))
assert(server:listen(511, function(failure)
  assert(not failure, failure)
  local client = uv.new_tcp()
  server:accept(client)
  client:nodelay(true)
  client:read_start(function(wrong, chunk)
    if chunk then client:write(chunk) elseif not client:is_closing() then client:close() end
    return wrong
  end)
end))

local address = server:getsockname()
print(("listening on tcp://%s:%d"):format(address.ip, address.port))
io.stdout:flush()
uv.run()
