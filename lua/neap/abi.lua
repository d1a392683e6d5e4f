--- The library and its declarations: everything else in neap reaches C through here.

local ffi = require("ffi")
require("neap.luajit")

local M = {}

local minimal = [[ const char *neap_header(void); ]]

-- Handles as scripts hold them: their fields can be read and not written. What changes in a
-- connection is changed by way of its `fields`.
local handles = [[
struct neap_lua_slice { const uint32_t slot; const uint32_t gen; };
struct neap_lua_pool { const uint32_t slot; const uint32_t gen; };
struct neap_lua_allocator { const uint32_t slot; const uint32_t gen; };
struct neap_lua_buffer { const uint32_t slot; const uint32_t gen; };
struct neap_lua_view {
  const uint32_t slot; const uint32_t gen; const uint32_t epoch;
  const uint32_t at; const uint32_t size;
};
struct neap_lua_listener { const uint32_t slot; const uint32_t gen; };
struct neap_lua_stream {
  const uint32_t slot; const uint32_t gen;
  const uint32_t reader_slot; const uint32_t reader_gen;
  const uint32_t epoch; const int32_t handled;
};
struct neap_lua_stream_fields {
  uint32_t slot; uint32_t gen; uint32_t reader_slot; uint32_t reader_gen;
  uint32_t epoch;  /* of the reader, when the message was found that is being handled */
  int32_t handled; /* unread bytes in front of that which were, too; -1: those are dropped, …
                    -2: and nothing is unread but the message that is being handled */
};
]]

local function readable(path)
  local file = io.open(path, "rb")
  if file then file:close() end
  return file ~= nil
end

-- Beside the C modules of package.cpath, but never in the current directory: a library
-- that lies there is not ours to run.
local function library_path()
  for template in package.cpath:gmatch("[^;]+") do
    local directory = template:match("^(/.*)/[^/]*$")
    local path = directory and directory .. "/libneap.so"
    if path and readable(path) then return path end
  end
  return "neap" -- wherever the system's loader looks
end

local function load_library()
  local path = library_path()
  local ok, library = pcall(ffi.load, path)
  if ok then return library end
  error("neap: cannot load libneap.so (" .. tostring(library) .. "): put its directory, an "
    .. "absolute one, into LUA_CPATH, as in LUA_CPATH='/usr/local/lib/?.so;;'", 0)
end

ffi.cdef(minimal)
M.C = load_library()
ffi.cdef((ffi.string(M.C.neap_header()):gsub("const char %*neap_header%(void%);", "")))
ffi.cdef(handles)

-- The handle that a C function fills in.
M.out_t = ffi.typeof("struct neap_handle *")

--- A module that was loaded once stays the one that `require` finds, also after somebody
--- emptied package.loaded (busted does, between files): tasks and handles are in its locals.
function M.keep(name, module)
  package.preload[name] = function() return module end
  return module
end

return M.keep("neap.abi", M)
