-- Becomes a command in a network namespace of its own, with a loopback and nothing else, so that
-- several at once cannot take one another's ports. Without the right to make one (root has it, in
-- most containers, too) the command runs where it is.
--
--   luajit tools/own_network.lua COMMAND [ARGUMENT …]

local ffi = require("ffi")

ffi.cdef [[
struct interface_flags { char name[16]; short flags; char rest[22]; }; /* netdevice(7): ifreq */
int unshare(int flags);
int socket(int domain, int type, int protocol);
int ioctl(int fd, unsigned long request, ...);
int close(int fd);
int execvp(const char *file, const char *const *arguments);
char *strerror(int error);
]]

local CLONE_NEWNET = 0x40000000
local AF_INET, SOCK_DGRAM = 2, 2
local SIOCSIFFLAGS, IFF_UP = 0x8914, 1

local function failed(what)
  io.stderr:write(("own_network: %s: %s\n"):format(what, ffi.string(ffi.C.strerror(ffi.errno()))))
  os.exit(127)
end

if not arg[1] then
  io.stderr:write("usage: luajit tools/own_network.lua COMMAND [ARGUMENT …]\n")
  os.exit(2)
end

if ffi.C.unshare(CLONE_NEWNET) == 0 then
  local fd = ffi.C.socket(AF_INET, SOCK_DGRAM, 0)
  local loopback = ffi.new("struct interface_flags", { name = "lo", flags = IFF_UP })
  if fd < 0 or ffi.C.ioctl(fd, SIOCSIFFLAGS, loopback) < 0 then failed("lo") end
  ffi.C.close(fd)
end

local arguments = ffi.new("const char *[?]", #arg + 1)
for i = 1, #arg do arguments[i - 1] = arg[i] end
ffi.C.execvp(arg[1], arguments)
failed(arg[1])
