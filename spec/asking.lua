--- Asking servers of HTTP, by bytes as they go over the wire.

local neap = require("neap")

local M = {}

local HOST = " HTTP/1.1\r\nHost: x\r\n" -- behind a method and a target
M.HOST = HOST

--- A connection, on which `bytes` were sent.
function M.dial(address, bytes)
  local conn = assert(neap.connect(address, { timeout = 10 }))
  if bytes then assert(conn:write(bytes)) end
  return conn
end

--- All that comes until the end.
function M.rest_of(conn)
  local parts = {}
  for chunk in conn:chunks() do
    parts[#parts + 1] = chunk:str()
    chunk:release()
  end
  conn:close()
  return table.concat(parts)
end

--- The next line.
function M.line_of(conn)
  local slice = assert(conn:read_line())
  local text = slice:str()
  slice:release()
  return text
end

function M.bytes_of(conn, n)
  local parts = {}
  while n > 0 do
    local slice = assert(conn:read_any(n))
    n = n - #slice
    parts[#parts + 1] = slice:str()
    slice:release()
  end
  return table.concat(parts)
end

local line_of, bytes_of = M.line_of, M.bytes_of

--- The head of the next answer: status, headers by lower-case name.
function M.head_of(conn)
  local status, headers = tonumber(line_of(conn):match("^HTTP/1%.1 (%d%d%d) ")), {}
  for line in function() return line_of(conn) end do
    if line == "" then return status, headers end
    local name, value = line:match("^([^:]+): (.*)$")
    headers[name:lower()] = value
  end
end

-- A body in chunks, and the lines behind it.
local function chunks_of(conn)
  local body, trailers = "", {}
  while true do
    local size = tonumber(line_of(conn), 16)
    if size == 0 then break end
    body = body .. bytes_of(conn, size)
    assert(line_of(conn) == "")
  end
  for line in function() return line_of(conn) end do
    if line == "" then return body, trailers end
    trailers[#trailers + 1] = line
  end
end

--- The next answer: status, headers, body.
function M.answer_of(conn)
  local status, headers = M.head_of(conn)
  local length = tonumber(headers["content-length"])
  if length then return status, headers, bytes_of(conn, length) end
  local body = ""
  if headers["transfer-encoding"] then body, headers.trailers = chunks_of(conn) end
  return status, headers, body
end

function M.get(path, headers) return "GET " .. path .. HOST .. (headers or "") .. "\r\n" end

function M.post(path, body, headers)
  return "POST " .. path .. HOST .. "Content-Length: " .. #body .. "\r\n" .. (headers or "")
    .. "\r\n" .. body
end

--- Sends a request on a connection of its own; returns the answer.
function M.ask(address, bytes)
  local conn = M.dial(address, bytes)
  local status, headers, body = M.answer_of(conn)
  conn:close()
  return status, headers, body
end

return M
