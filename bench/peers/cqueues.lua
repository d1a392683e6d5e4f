-- A TCP echo on cqueues, under LuaJIT.  luajit cqueues.lua 127.0.0.1 7000
local cqueues = require("cqueues")
local socket = require("cqueues.socket")

local function serve(client)
  client:setmode("bn", "bn") -- bytes, and no output buffer
  client:setbufsiz(16384, 16384)
  while true do
    local chunk = client:read(-16384) -- what is there, up to so much
    if not chunk or not client:write(chunk) then break end
  end
  client:close()
end

local loop = cqueues.new()
local server = socket.listen({ host = arg[1], port = tonumber(arg[2]), nodelay = true,
  reuseaddr = true })
assert(server:listen())
local _, host, port = server:localname()
print(("listening on tcp://%s:%d"):format(host, port))
io.stdout:flush()
loop:wrap(function()
  for client in server:clients() do loop:wrap(serve, client) end
end)
assert(loop:loop())
