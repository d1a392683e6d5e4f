-- Relays TCP: whoever connects here is connected to a target, both directions at once.
--
--     neap examples/proxy.lua [tcp://127.0.0.1:7003 [tcp://127.0.0.1:7000]]
--
-- A slow receiver slows the sender down: no more than 64 KiB and one read wait here for each
-- direction, however much is to come. The end of one direction is passed on, and the other one
-- goes on; an error of one ends both.
local neap = require("neap")

local target = arg[2] or "tcp://127.0.0.1:7000"

-- One direction: chunk in, chunk out, without a copy.
local function relay(from, to)
  while true do
    local chunk, message, name = from:read_any()
    if name == "eof" then return to:shutdown() end
    if chunk then chunk, message, name = to:write(chunk) end -- waits for a slow receiver
    if not chunk then
      if name ~= "closed" then io.stderr:write("proxy: ", message, "\n") end
      from:close() -- and what the other direction waits for returns "closed"
      to:close()
      return
    end
  end
end

local listener = assert(neap.listen(arg[1] or "tcp://127.0.0.1:7003", function(client)
  local server = assert(neap.connect(target)) -- or the client is closed, and stderr says why
  local back = neap.spawn(relay, server, client)
  relay(client, server)
  back:join()
  server:close()
end))

print("listening on " .. listener.address)
print("relaying to " .. target)
io.stdout:flush()
