-- Relays TCP: whoever connects here is connected to a target, both directions at once.
--
--     neap examples/proxy.lua [tcp://127.0.0.1:7003 [tcp://127.0.0.1:7000]]
--
-- A slow receiver slows the sender down: no more than 64 KiB and one read wait here for each
-- direction, however much is to come. The end of one direction is passed on, and the other one
-- goes on; an error of one ends both.
local neap = require("neap")

local target = arg[2] or "tcp://127.0.0.1:7000"

-- One direction, without a copy, and without a look at what passes.
local function relay(from, to)
  local bytes, message, name = from:pipe_to(to) -- waits for a slow receiver
  if bytes then return to:shutdown() end
  if name ~= "closed" then io.stderr:write("proxy: ", message, "\n") end
  from:close() -- and what the other direction waits for returns "closed"
  to:close()
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
