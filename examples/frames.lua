-- Requests and answers in frames: a header of 8 bytes, then the payload.
--
--     neap examples/frames.lua [tcp://127.0.0.1:7001 or unix:///PATH]
--
--     length u32be    bytes of the payload, 65,536 at most
--     type   u16be    1 echo · 2 sum of its u32be numbers, a u64be · 3 time in s, a u64be
--     id     u16be    the client's; the answer has it too
--
-- Answers come in the order of the requests, of which a client may send many at once. What
-- cannot be answered gets a frame of type 0 with a text: an unknown type, a payload that the
-- type does not take, a length above the limit. The last one ends the connection, and so does,
-- without an answer, a frame that stops in the middle.
local neap = require("neap")
local frame = require("neap.codec.frame")

local HEADER, MAX_PAYLOAD = 8, 65536 -- bytes
local ERROR = 0

local out = neap.buffer() -- where answers are put together

-- An answer to the request with this header.
local function answer(header, kind, put, payload)
  out:put_u32be(0):put_u16be(kind):put(header:sub(6, 2))
  put(out, payload)
  return out:set_u32be(0, #out - HEADER):take()
end

-- By type: what is sent for a request, a view of its frame.
local handlers = {
  function(request) return request end, -- as it came, from where it lies
  function(request)
    if #request % 4 ~= 0 then
      return answer(request, ERROR, out.put, "not a whole count of u32be numbers")
    end
    local sum = 0
    for offset = HEADER, #request - 4, 4 do sum = sum + request:u32be(offset) end
    return answer(request, 2, out.put_u64be, sum)
  end,
  function(request) return answer(request, 3, out.put_u64be, os.time()) end,
}

local function unknown(request) return answer(request, ERROR, out.put, "there is no such type") end

local server = assert(neap.serve(arg[1] or "tcp://127.0.0.1:7001", {
  -- The length does not count the 4 bytes of the header that are behind it.
  codec = frame.new { length = "u32be", adjust = 4, max = MAX_PAYLOAD + 4, whole = true },
  handle = function(request) return (handlers[request:u16be(4)] or unknown)(request) end,
  fail = function(conn, _, name)
    if name ~= "oversized" or conn:buffered() < HEADER then return nil end
    return answer(conn:peek(HEADER), ERROR, out.put, "the payload is too long")
  end,
}))

print("listening on " .. server.address)
print("try it: ./neap examples/frames_client.lua " .. server.address)
io.stdout:flush()
