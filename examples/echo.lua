-- Sends back whatever comes, to as many clients as like.
--
--     neap examples/echo.lua [tcp://127.0.0.1:7000 or unix:///PATH]
--
-- What is read is a slice, which `write` takes: no copy, no Lua string.
local neap = require("neap")

local listener = assert(neap.listen(arg[1] or "tcp://127.0.0.1:7000", function(conn)
  for chunk in conn:chunks() do
    conn:write(chunk)
  end
end))

local address = listener.address
print("listening on " .. address)
print("try it: nc " .. address:gsub("^unix://", "-U "):gsub("^tcp://%[?(.-)%]?:(%d+)$", "%1 %2"))
io.stdout:flush()
