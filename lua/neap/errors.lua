--- What the numbers of enum neap_err are called, and how failures are told.

local ffi = require("ffi")
local abi = require("neap.abi")

local M = {}
local C = abi.C

ffi.cdef("char *strerror(int);")

local SYSTEM = C.NEAP_E_SYSTEM

-- code → name for programs, text for people
local known = {
  [C.NEAP_E_EOF] = { "eof", "the peer has closed its side" },
  [C.NEAP_E_SHORT] = { "short", "the peer closed its side before all bytes came" },
  [C.NEAP_E_CLOSED] = { "closed", "it is closed" },
  [C.NEAP_E_LIMIT] = { "limit", "a limit is reached" },
  [C.NEAP_E_MEMORY] = { "memory", "the system has no memory" },
  [C.NEAP_E_UNWATCHED] = { "memory", "the system has no memory left to watch it, or "
    .. "fs.epoll.max_user_watches is reached" },
  [C.NEAP_E_OVERSIZED] = { "oversized", "larger than the limit" },
  [C.NEAP_E_STALE] = { "closed", "it is closed" },
  [C.NEAP_E_SHUTDOWN] = { "closed", "nothing can be written behind a shutdown" },
  [C.NEAP_E_RANGE] = { "range", "outside its bytes" },
  [C.NEAP_E_OVERLAP] = { "overlap", "another live slice has a claim on these bytes" },
  [C.NEAP_E_READ_ONLY] = { "read_only", "its memory can only be read" },
  [C.NEAP_E_BUSY] = { "busy", "it can take no more at the moment" },
  [C.NEAP_E_RESET] = { "reset", "the peer reset the connection" },
  [C.NEAP_E_REFUSED] = { "refused", "nobody listens there" },
  [C.NEAP_E_TIMEOUT] = { "timeout", "it took too long" },
  [C.NEAP_E_CANCELLED] = { "cancelled", "the task was cancelled" },
  [C.NEAP_E_UNREACHABLE] = { "unreachable", "there is no way to that address (to listen on, it "
    .. "must be one of this machine; 0.0.0.0 is all of them)" },
  [C.NEAP_E_MALFORMED] = { "malformed", "bytes that the protocol does not allow" },
  [C.NEAP_E_IDLE] = { "timeout", "nothing came or went for too long (see idle_timeout)" },
  [C.NEAP_E_DESCRIPTOR] = { "descriptor", "the process was not started with such a descriptor, "
    .. "or it is of another kind, or taken already" },
  [C.NEAP_E_ADDRESS] = { "address", "not an address: write tcp://IP:PORT (IPv6 in brackets, PORT "
    .. "from 0 to 65535), unix:///PATH (107 bytes at most), unix://@NAME or fd://N; names other "
    .. "than localhost, UDP and TLS are not spoken yet" },
  [C.NEAP_E_ADDRESS_IN_USE] = { "address_in_use", "the address is in use: is another server "
    .. "running? (port 0 picks a free one)" },
  [C.NEAP_E_PERMISSION] = { "permission", "not permitted (a port below 1024 needs root, "
    .. "a unix socket the right to write at its path)" },
  [C.NEAP_E_THREAD] = { "thread", "it is another thread's" },
  [C.NEAP_E_DESCRIPTORS] = { "descriptors", "no file descriptor is left (see ulimit -n)" },
}

--- The name that code compares. @param code integer @return string
function M.name(code)
  return known[code] and known[code][1] or "system"
end

--- What people read. @param code integer @return string
function M.text(code)
  return known[code] and known[code][2] or ffi.string(ffi.C.strerror(SYSTEM - code))
end

--- Told of every failure that a script is told of: the scheduler knows by it whether a task
--- ended in an error of its own or in one of the outside world.
function M.noted(_message, _name) end

--- The outside world failed: `nil, message, name`.
--- @param message string what was tried, where, with whom, and why it failed
function M.fail(message, name)
  M.noted(message, name)
  return nil, message, name
end

--- The same, for an enum neap_err.
--- @param what string what was tried, where, with whom
--- @param code integer a negative enum neap_err
function M.failure(what, code)
  return M.fail(what .. ": " .. M.text(code), M.name(code))
end

return abi.keep("neap.errors", M)
