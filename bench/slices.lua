-- slices: frames as examples/frames.lua has them, of type 1, but read as slices: a header, a
-- payload, and the first part of it. Of all servers here it makes the most slices a message, so
-- what watching them costs is seen best in it.
local neap = require("neap")

local HEADER, PART = 8, 4 -- bytes

local server = assert(neap.listen(arg[1] or "tcp://127.0.0.1:0", function(conn)
  while true do
    local header, message, name = conn:read(HEADER)
    if not header then return name ~= "eof" and error(message, 0) end
    local payload = assert(conn:read(header:u32be(0)))
    local part = payload:split(math.min(PART, #payload))
    conn:write { header, part, payload }
  end
end))

print("listening on " .. server.address)
io.stdout:flush()
