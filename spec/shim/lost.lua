--- An answer that the system refuses to send, for want of memory: the peer hears that it is lost.
--- Prints what the client's read fails with.
---
---     LD_PRELOAD=build/shim.so ./neap spec/shim/lost.lua

local ffi = require("ffi")
local line = require("neap.codec.line")
local neap = require("neap")

ffi.cdef [[
  void shim_fail(const char *call, int after, int error);
  int shim_failed(void);
]]
local ENOBUFS, NEVER_S = 105, 5

neap.log.configure { level = "error" }
local server = assert(neap.serve("tcp://127.0.0.1:0", {
  codec = line.new(),
  handle = function(message) return message end,
}))
local client = assert(neap.connect(server.address, { timeout = NEVER_S }))
client:write("hello\n")
client:flush()
ffi.C.shim_fail("send", 0, ENOBUFS)
local _, _, name = client:read(1)
assert(ffi.C.shim_failed() > 0, "nothing failed")
print(name)
client:close()
server:stop(0)
