-- Answers requests of HTTP with lua-http, on cqueues, under LuaJIT.
--   luajit lua-http.lua 127.0.0.1 8080
local headers = require("http.headers")
local http_server = require("http.server")

local server = assert(http_server.listen({
  host = arg[1], port = tonumber(arg[2]), tls = false, version = 1.1,
  onstream = function(_, stream)
    assert(stream:get_headers())
    local answer = headers.new()
    answer:append(":status", "200")
    answer:append("content-type", "text/plain")
    answer:append("content-length", "6")
    assert(stream:write_headers(answer, false))
    assert(stream:write_chunk("hello\n", true))
  end,
  onerror = function() end, -- clients that go
}))
assert(server:listen())
local _, host, port = server:localname()
print(("listening on tcp://%s:%d"):format(host, port))
io.stdout:flush()
assert(server:loop())
