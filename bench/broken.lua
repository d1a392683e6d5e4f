-- An echo that does one thing wrong, for load_test: bench/load must notice.
--
--     neap bench/broken.lua <what is wrong> [at which read of the connection]
local neap = require("neap")

local wrong, at = arg[1], tonumber(arg[2] or "100")

-- What is sent for the bytes that came; nil closes.
local faults = {
  nothing = function(bytes) return bytes end,
  byte = function(bytes)
    return bytes:sub(1, -2) .. string.char(255 - bytes:byte(-1))
  end,
  header = function(bytes) -- the number of a frame
    return bytes:sub(1, 6) .. string.char(255 - bytes:byte(7)) .. bytes:sub(8)
  end,
  order = function(bytes) return bytes:sub(#bytes / 2 + 1) .. bytes:sub(1, #bytes / 2) end,
  missing = function(bytes) return bytes:sub(1, -2) end,
  extra = function(bytes) return bytes .. bytes:sub(1, 1) end,
  silent = function() return "" end,
  close = function() return nil end,
  late = function(bytes) -- and all other connections with it
    local over = os.clock() + 0.1
    while os.clock() < over do end
    return bytes
  end,
}

local fault = assert(faults[wrong], "no such fault")

local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
  local count = 0
  for chunk in conn:chunks() do
    count = count + 1
    local answer = chunk:str()
    chunk:release()
    if count == at then answer = fault(answer) end
    if not answer then return end
    if answer ~= "" then conn:write(answer) end
  end
end))

print("listening on " .. listener.address)
io.stdout:flush()
