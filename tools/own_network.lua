-- Becomes a command in a network namespace of its own, with a loopback and nothing else, so that
-- several at once cannot take one another's ports. Without the rights that this takes (root has
-- them, but not in most containers) the command runs where it is.
--
--   luajit tools/own_network.lua COMMAND [ARGUMENT …]

local ffi = require("ffi")

ffi.cdef [[
struct interface_flags { char name[16]; short flags; char rest[22]; }; /* netdevice(7): ifreq */
int unshare(int flags);
int setns(int fd, int type);
int open(const char *path, int flags, ...);
int socket(int domain, int type, int protocol);
int ioctl(int fd, unsigned long request, ...);
int close(int fd);
int execvp(const char *file, const char *const *arguments);
char *strerror(int error);
]]

local CLONE_NEWNET = 0x40000000
local AF_INET, SOCK_DGRAM = 2, 2
local SIOCSIFFLAGS, IFF_UP = 0x8914, 1
local O_RDONLY = 0

local function failed(what)
  io.stderr:write(("own_network: %s: %s\n"):format(what, ffi.string(ffi.C.strerror(ffi.errno()))))
  os.exit(127)
end

if not arg[1] then
  io.stderr:write("usage: luajit tools/own_network.lua COMMAND [ARGUMENT …]\n")
  os.exit(2)
end

local function bring_up_loopback()
  local fd = ffi.C.socket(AF_INET, SOCK_DGRAM, 0)
  local loopback = ffi.new("struct interface_flags", { name = "lo", flags = IFF_UP })
  local up = fd >= 0 and ffi.C.ioctl(fd, SIOCSIFFLAGS, loopback) == 0
  ffi.C.close(fd)
  return up
end

local old = ffi.C.open("/proc/self/ns/net", O_RDONLY)
if old >= 0 and ffi.C.unshare(CLONE_NEWNET) == 0 and not bring_up_loopback()
  and ffi.C.setns(old, CLONE_NEWNET) ~= 0 then
  failed("the way back from a network without a loopback")
end
ffi.C.close(old)

local arguments = ffi.new("const char *[?]", #arg + 1)
for i = 1, #arg do arguments[i - 1] = arg[i] end
ffi.C.execvp(arg[1], arguments)
failed(arg[1])
