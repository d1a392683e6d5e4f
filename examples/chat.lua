-- A chat: everybody reads what everybody writes, line by line. Try it with two or more `nc`.
--
--     neap examples/chat.lua [tcp://127.0.0.1:7002 or unix:///PATH]
--
-- Nobody waits for a slow reader: whoever leaves more than 32 KiB unread is dropped (beyond
-- what the system holds for it), and so is whoever writes a line of more than 1,024 bytes.
local neap = require("neap")

local MAX_LINE, MAX_NAME, MAX_QUEUED = 1024, 20, 32768 -- bytes

local members = {} -- name → connection
local farewells = { oversized = "wrote too long a line", closed = "read too slowly" }

local function say(text)
  local line = text .. "\n"
  for _, conn in pairs(members) do
    conn:try_write(line)
    if conn:queued() > MAX_QUEUED then conn:close() end -- its read returns "closed"
  end
end

-- A line as a string, harmless to terminals; or nil and why there is none.
local function read_text(conn)
  local line, _, why = conn:read_line(MAX_LINE)
  if not line then return nil, why end
  local text = line:str():gsub("%c", "?")
  line:release()
  return text
end

local function read_name(conn)
  conn:try_write("your name?\n")
  for name in read_text, conn do
    if #name <= MAX_NAME and name:find("^%w+$") and not members[name] then return name end
    conn:try_write(members[name] and "that name is taken, another one?\n"
      or ("letters and digits please, %d at most\n"):format(MAX_NAME))
  end
end

local listener = assert(neap.listen(arg[1] or "tcp://127.0.0.1:7002", function(conn)
  local name = read_name(conn)
  if not name then return end
  members[name] = conn
  say("* " .. name .. " joined")
  local text, why = read_text(conn)
  while text do
    if text ~= "" then say(name .. ": " .. text) end
    neap.sleep(0) -- one line a turn: it is on its way before the next one is queued
    text, why = read_text(conn)
  end
  members[name] = nil
  say("* " .. name .. " " .. (farewells[why] or "left"))
end))

local address = listener.address
print("listening on " .. address)
print("try it: nc " .. address:gsub("^unix://", "-U "):gsub("^tcp://%[?(.-)%]?:(%d+)$", "%1 %2"))
io.stdout:flush()
