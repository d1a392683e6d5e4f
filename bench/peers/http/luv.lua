-- Answers requests of HTTP on luv, under LuaJIT. It parses nothing: it looks for the blank line.
--   luajit luv.lua 127.0.0.1 8080
local uv = require("luv")

local ANSWER = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nhello\n"

-- The answers to all requests that are whole, and what is left of the bytes.
local function answers_to(bytes)
  local count, at = 0, 1
  while true do
    local _, last = bytes:find("\r\n\r\n", at, true)
    if not last then break end
    count, at = count + 1, last + 1
  end
  return count == 1 and ANSWER or ANSWER:rep(count), at > #bytes and "" or bytes:sub(at)
end

local server = uv.new_tcp()
assert(server:bind(arg[1], tonumber(arg[2])))
assert(server:listen(511, function(failure)
  assert(not failure, failure)
  local client, rest = uv.new_tcp(), ""
  server:accept(client)
  client:nodelay(true)
  client:read_start(function(wrong, chunk)
    if not chunk then
      if not client:is_closing() then client:close() end
      return wrong
    end
    local answers
    answers, rest = answers_to(rest == "" and chunk or rest .. chunk)
    if answers ~= "" then client:write(answers) end
  end)
end))

local address = server:getsockname()
print(("listening on tcp://%s:%d"):format(address.ip, address.port))
io.stdout:flush()
uv.run()
