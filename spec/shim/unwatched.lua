--- Connections that the system refuses to watch, for good: they fail with an error, and the loop
--- rests. Run by the specs of failing calls, with the shim.

local ffi = require("ffi")
ffi.cdef [[
  void shim_fail(const char *call, int after, int error);
  void shim_fail_on(const char *call, int error);
  int shim_calls(void);
  int shim_failed(void);
]]
local shim = ffi.C
local neap = require("neap")
local testing = require("neap.testing")
local abi = require("neap.abi")
neap.log.configure { level = "error" }

local ENOMEM, ENOSPC = 12, 28
local net = ffi.new("struct neap_net_stats")

local function counted(name)
  abi.C.neap_net_stats(net)
  return tonumber(net[name])
end

-- Are all failures of these calls, and few of them, in a while that nothing else happens in?
local function fails(error_number, what, fn)
  local before = counted("unwatched")
  shim.shim_fail_on("epoll_ctl", error_number)
  local result, message, name = fn()
  neap.sleep(0.05)
  assert(shim.shim_calls() < 10, what .. ": the system was asked again and again")
  shim.shim_fail("", -1, 0)
  assert(counted("unwatched") == before + 1, what .. ": is not counted")
  if result == "cut" then return end
  assert(result == nil and name == "memory", what .. ": " .. tostring(name))
  assert(message:find("fs.epoll.max_user_watches is reached", 1, true), message)
end

-- One that has as many connections as it takes: the next one waits for the system.
local function full_listener()
  local clients = {}
  local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:skip(1) end,
    { max_connections = 1, backlog = 1 }))
  repeat
    local client = neap.connect(listener.address, { timeout = 0.05 })
    clients[#clients + 1] = client
  until not client
  return listener, clients
end

local function all_gone()
  for _ = 1, 200 do
    if counted("streams_live") == 0 then return true end
    neap.sleep(0.01)
  end
end

for _, error_number in ipairs { ENOMEM, ENOSPC } do
  local conn, other = testing.pair()
  fails(error_number, "a read", function() return conn:read(1) end)
  local _, _, name = conn:write("x")
  assert(name == "memory", "a later write: " .. tostring(name))
  conn:close()
  other:close()

  conn, other = testing.pair()
  fails(error_number, "a write", function() return conn:write(("x"):rep(2 ^ 23)) end)
  conn:close()
  other:close()

  conn, other = testing.pair()
  for _ = 1, 1000 do -- until the system takes no more
    conn:try_write(("x"):rep(60000))
    neap.sleep(0)
    if conn:queued() > 0 then break end
  end
  fails(error_number, "a close", function()
    conn:close()
    return "cut"
  end)
  other:close()

  local listener, clients = full_listener()
  fails(error_number, "a connect", function() return neap.connect(listener.address) end)
  listener:close()
  for _, client in ipairs(clients) do client:close() end

  -- once may pass
  conn, other = testing.pair()
  shim.shim_fail("epoll_ctl", 0, error_number)
  neap.spawn(function()
    neap.sleep(0.01)
    assert(other:write("hello"))
  end)
  assert(conn:read(5)):release()
  assert(shim.shim_failed() == 1)
  conn:close()
  other:close()
  assert(all_gone(), "connections are left")
end
print("unwatched:", counted("unwatched"))
os.exit(0)
