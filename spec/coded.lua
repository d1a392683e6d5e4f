-- For specs of codecs: what one makes of bytes, and which bytes it makes.
local neap = require("neap")

local coded = {}

--- What decode says of the bytes: its results, a message as a string.
function coded.decode(codec, bytes)
  local at = 0
  local reader = assert(neap.reader(nil, function(max)
    if at == #bytes then return nil end
    local part = bytes:sub(at + 1, at + max)
    at = at + #part
    return part
  end))
  local message, consumed, name = codec.decode(assert(reader:peek(#bytes)))
  if message then message = message:str() end
  reader:close()
  return message, consumed, name
end

--- The bytes that encode puts, as a string.
function coded.encode(codec, x)
  local out = neap.buffer()
  assert(codec.encode(out, x))
  local text = ""
  for _, piece in ipairs(out:take()) do
    text = text .. piece:str()
    piece:release()
  end
  out:release()
  return text
end

return coded
