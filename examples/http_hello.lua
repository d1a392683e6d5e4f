-- The least server of HTTP: what it says does not depend on what it is asked.
--
--     neap examples/http_hello.lua [tcp://127.0.0.1:8080]
local http = require("neap.http")

local server = assert(http.serve(arg[1] or "tcp://127.0.0.1:8080", function()
  return "hello\n"
end))

print("listening on " .. server.address)
print("try it: curl -i " .. server.address:gsub("^tcp", "http"))
io.stdout:flush()
