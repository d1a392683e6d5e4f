-- An echo, or a server of HTTP, that does one thing wrong, for load_test: bench/load must notice.
--
--     neap bench/broken.lua <what is wrong> [at which read of the connection [http]]
local neap = require("neap")

local wrong, at, http = arg[1], tonumber(arg[2] or "100"), arg[3] == "http"

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
  twice = function(bytes) return bytes .. bytes end,
  silent = function() return "" end,
  close = function() return nil end,
  status = function(bytes) return (bytes:gsub("200 OK", "404 No")) end,
  length = function(bytes) return (bytes:gsub("Length: 6", "Length: 7")) end,
  no_length = function(bytes) return (bytes:gsub("Content%-Length: 6\r\n", "")) end,
  late = function(bytes) -- and all other connections with it
    local over = os.clock() + 0.1
    while os.clock() < over do end
    return bytes
  end,
}

local fault = assert(faults[wrong], "no such fault")

-- Answers to the requests that came, which are whole: the loader sends few.
local function answers_to(requests)
  local _, count = requests:gsub("\r\n\r\n", "")
  return ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"):rep(count)
end

local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
  local count = 0
  for chunk in conn:chunks() do
    count = count + 1
    local answer = chunk:str()
    chunk:release()
    if http then answer = answers_to(answer) end
    if count == at then answer = fault(answer) end
    if not answer then return end
    if answer ~= "" then conn:write(answer) end
  end
end))

print("listening on " .. listener.address)
io.stdout:flush()
