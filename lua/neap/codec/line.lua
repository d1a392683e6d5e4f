--- Lines: bytes up to a line end.
---
---     local line = require("neap.codec.line")
---     neap.serve(address, { codec = line.new(), handle = function(message)
---       return "you said " .. message:str()
---     end })
---
--- The message is a view of the line without its end, which is "\n" or "\r\n".

local abi = require("neap.abi")
local check = require("neap.check")

local M = {}

local defaults = { max = 65536, ending = "\n" }

--- A codec for lines.
---
--- decode(view) gives the line, a view, and how many bytes it has with its end; nil when there is
--- none yet; or nil, text, "oversized". encode(out, x) puts x, which may be a string, a slice, a
--- view or a list of them, and a line end into a buffer or a connection.
--- @param options? table max: bytes of a line at most, without its end (64 KiB) · ending: what
--- encode puts behind a line ("\n")
--- @return table codec decode and encode
function M.new(options)
  local given = check.options(options, defaults, "neap.codec.line")
  local max, ending = given.max, given.ending
  check.whole(max, 0x3fffffff, "neap.codec.line: max")

  local function oversized()
    return nil, ("a line of more than %d bytes"):format(max), "oversized"
  end

  local function decode(view)
    local at = view:find("\n")
    if not at then
      if #view > max + 1 then return oversized() end
      return nil
    end
    local n = at
    if n > 0 and view:u8(n - 1) == 13 then n = n - 1 end
    if n > max then return oversized() end
    return view:sub(0, n), at + 1
  end

  local function encode(out, x)
    local ok, message, name = out:put(x)
    if not ok then return nil, message, name end
    return out:put(ending)
  end

  return { decode = decode, encode = encode }
end

return abi.keep("neap.codec.line", M)
