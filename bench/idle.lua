-- Opens connections to an echo server, exchanges one message on each, and keeps them.
local neap = require("neap")

local address, count = arg[1], tonumber(arg[2])
local connections = {}
for i = 1, count do
  local conn = assert(neap.connect(address))
  conn:write("hello")
  assert(conn:read(5)):release()
  connections[i] = conn
end
print("connected " .. #connections .. "\nlistening on " .. address) -- as bench/lib.sh waits for it
io.stdout:flush()
neap.sleep(60)
