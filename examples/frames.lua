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

local HEADER, MAX_PAYLOAD = 8, 65536 -- bytes
local ERROR = 0

local numbers = neap.buffer() -- where answers are put together

-- The header of the request, with what differs written over it, and the answer's payload. Nothing
-- is copied: the frame is cut where it lies, and write takes both.
local function answer(frame, kind, payload)
  local header = frame:split(HEADER)
  frame:release()
  header:pack(">I4I2", 0, #payload, kind)
  return { header, payload }
end

-- By type. A handler takes the frame and returns what is written.
local handlers = {
  function(frame) return frame end, -- as it came, from where it lies
  function(frame)
    if #frame % 4 ~= 0 then return answer(frame, ERROR, "not a whole count of u32be numbers") end
    local sum = 0
    for offset = HEADER, #frame - 4, 4 do sum = sum + frame:u32be(offset) end
    return answer(frame, 2, numbers:put_u64be(sum):take()[1])
  end,
  function(frame) return answer(frame, 3, numbers:put_u64be(os.time()):take()[1]) end,
}

local function unknown(frame) return answer(frame, ERROR, "there is no such type") end

local listener = assert(neap.listen(arg[1] or "tcp://127.0.0.1:7001", function(conn)
  while true do
    local view, message, name = conn:peek(HEADER) -- a look at it, where it lies
    if name == "eof" then return end
    local length, kind = assert(view, message):unpack(">I4I2")
    if length > MAX_PAYLOAD then
      conn:write(answer(conn:read(HEADER), ERROR, "the payload is too long"))
      return
    end
    local frame = assert(conn:read(HEADER + length)) -- header and payload, side by side
    conn:write((handlers[kind] or unknown)(frame))
  end
end))

print("listening on " .. listener.address)
print("try it: neap examples/frames_client.lua " .. listener.address)
io.stdout:flush()
