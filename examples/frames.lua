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

-- By type. A payload is borrowed; the answer is a slice or a string, or nil and what is wrong.
local handlers = {
  function(payload) return payload:retain() end, -- no copy: the bytes that came are sent
  function(payload)
    if #payload % 4 ~= 0 then return nil, "not a whole count of u32be numbers" end
    local sum = 0
    for offset = 0, #payload - 4, 4 do sum = sum + payload:u32be(offset) end
    return numbers:put_u64be(sum):take()[1]
  end,
  function() return numbers:put_u64be(os.time()):take()[1] end,
}

-- The request's header is the answer's, with what differs written over it; write takes both.
local function answer(conn, header, kind, payload)
  header:pack(">I4I2", 0, #payload, kind)
  conn:write({ header, payload })
end

local listener = assert(neap.listen(arg[1] or "tcp://127.0.0.1:7001", function(conn)
  while true do
    local view, message, name = conn:peek(HEADER) -- a look at it, where it lies
    if name == "eof" then return end
    local length, kind = assert(view, message):unpack(">I4I2", 0)
    if length > MAX_PAYLOAD then
      return answer(conn, conn:read(HEADER), ERROR, "the payload is too long")
    end
    local payload = assert(conn:read(HEADER + length)) -- the whole frame, side by side, …
    local header = payload:split(HEADER)               -- … cut in two without a copy
    local handle = handlers[kind]
    local result, problem = nil, "there is no such type"
    if handle then result, problem = handle(payload) end
    payload:release()
    answer(conn, header, result and kind or ERROR, result or problem)
  end
end))

print("listening on " .. listener.address)
print("try it: neap examples/frames_client.lua " .. listener.address)
io.stdout:flush()
