--- Answers compressed with gzip, by zlib, where the client takes that.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local response = require("neap.http.response")

local type, pairs, ipairs, tostring = type, pairs, ipairs, tostring
local concat = table.concat
local FINISH, SYNC = 4, 2            -- Z_FINISH, Z_SYNC_FLUSH
local DEFLATED, GZIP_WINDOW, MEMORY = 8, 15 + 16, 8
local ROOM = 16384                   -- bytes of output at a time
local WHOLE = 262144                 -- bytes that are compressed in one go; more in pieces

local M = {}
local zlib -- false: not there

ffi.cdef [[
struct neap_z_stream {
  const char *next_in; unsigned int avail_in; unsigned long total_in;
  char *next_out; unsigned int avail_out; unsigned long total_out;
  const char *msg; void *state; void *zalloc; void *zfree; void *opaque;
  int data_type; unsigned long adler; unsigned long reserved;
};
const char *neap_z_version(void) __asm__("zlibVersion"); // names that no script declares, too
int neap_z_begin(struct neap_z_stream *stream, int level, int method, int window_bits,
  int memory_level, int strategy, const char *version, int stream_size) __asm__("deflateInit2_");
int neap_z_deflate(struct neap_z_stream *stream, int flush) __asm__("deflate");
int neap_z_end(struct neap_z_stream *stream) __asm__("deflateEnd");
]]
local stream_t = ffi.typeof("struct neap_z_stream")
local room = ffi.new("char[?]", ROOM)

local function load()
  if zlib ~= nil then return zlib end
  local ok, library = pcall(ffi.load, "libz.so.1")
  zlib = ok and library or false
  return zlib
end

-- Compresses a string behind those before it. @return string out
local function deflate(stream, text, flush)
  local parts = {}
  stream.next_in, stream.avail_in = text, #text
  repeat
    stream.next_out, stream.avail_out = room, ROOM
    zlib.neap_z_deflate(stream, flush)
    parts[#parts + 1] = ffi.string(room, ROOM - stream.avail_out)
  until stream.avail_out > 0 and #text >= 0 -- zlib reads the text until here: it must live
  return concat(parts)
end

-- Returns nil where there is no memory.
local function new_stream(level)
  local stream = stream_t()
  if zlib.neap_z_begin(stream, level, DEFLATED, GZIP_WINDOW, MEMORY, 0, zlib.neap_z_version(),
    ffi.sizeof(stream_t)) ~= 0 then
    return nil
  end
  return ffi.gc(stream, zlib.neap_z_end)
end

local function free(stream)
  ffi.gc(stream, nil)
  zlib.neap_z_end(stream)
end

-- ---- what is worth it ----

local function accepts(request)
  local list = request:header("accept-encoding")
  if not list then return false end
  for part in list:lower():gmatch("[^,]+") do
    local name, parameters = part:match("^%s*([%w%-*]+)(.*)$")
    if name == "gzip" then return not parameters:find("q%s*=%s*0%.?0*%s*$") end
  end
  return false
end

local function is_worth_it(media)
  media = media:lower()
  return (media:find("^text/") and not media:find("^text/event%-stream"))
    or media:find("json", 1, true) or media:find("xml", 1, true)
    or media:find("javascript", 1, true) or media:find("wasm", 1, true) ~= nil
end

local function header_of(answer, wanted)
  for name, value in pairs(answer.headers or {}) do
    if name:lower() == wanted then return tostring(value), name end
  end
end

local function fits(answer, min)
  if (answer.status or 200) ~= 200 or header_of(answer, "content-encoding") then return false end
  local media = answer.type or header_of(answer, "content-type") or "text/plain"
  if not is_worth_it(media) then return false end
  if type(answer.body) == "function" then return true end
  return answer.body ~= nil and response.size_of(answer.body) >= min
end

-- ---- compressed bodies ----

-- A body as one string; its slices go.
local function text_of(body)
  if type(body) == "string" then return body end
  if type(body) ~= "table" then
    local text = body:str()
    response.release(body)
    return text
  end
  local parts = {}
  for i, x in ipairs(body) do parts[i] = text_of(x) end
  return concat(parts)
end

local Out = {}

--- As `out:write`, of what goes through zlib first.
function Out:write(x)
  local text = text_of(x)
  if text ~= "" then self.out:write(deflate(self.stream, text, SYNC)) end
  return self
end

local out_metatable = { __index = function(self, key) return Out[key] or self.out[key] end,
  __newindex = function(self, key, value) self.out[key] = value end, __metatable = "neap.httpOut" }

local function writer(body, level)
  return function(out)
    local stream = new_stream(level)
    if not stream then error("zlib has no memory", 0) end
    local ok, wrong = pcall(function()
      body(setmetatable({ out = out, stream = stream }, out_metatable))
      out:write(deflate(stream, "", FINISH))
    end)
    free(stream)
    if not ok then error(wrong, 0) end
  end
end

local function pieces_of(text)
  return function(out)
    for at = 1, #text, WHOLE do out:write(text:sub(at, at + WHOLE - 1)) end
  end
end

local function compressed(body, level)
  if type(body) == "function" then return writer(body, level) end
  local text = text_of(body)
  if #text > WHOLE then return writer(pieces_of(text), level) end
  local stream = new_stream(level)
  if not stream then return nil, text end
  local out = deflate(stream, text, FINISH)
  free(stream)
  return out
end

-- The headers of the answer, for another body.
local function headers_of(answer)
  local headers = {}
  for name, value in pairs(answer.headers or {}) do
    local lower = name:lower()
    if lower == "etag" and tostring(value):sub(1, 1) == '"' then value = "W/" .. value end
    if lower ~= "content-length" and lower ~= "accept-ranges" then headers[name] = value end
  end
  return headers
end

local function compress(request, answer, options)
  if not fits(answer, options.min) then return answer end
  local headers = headers_of(answer)
  local vary, name = header_of(answer, "vary")
  headers[name or "Vary"] = (vary and vary .. ", " or "") .. "Accept-Encoding"
  local made = { status = answer.status, type = answer.type, close = answer.close,
    headers = headers, body = answer.body }
  if request.method == "HEAD" or not accepts(request) then
    made.headers = answer.headers or {}
    made.headers.Vary = headers[name or "Vary"]
    return made
  end
  local body, plain = compressed(answer.body, options.level)
  made.body = body or plain
  if body then headers["Content-Encoding"] = "gzip" end
  return made
end

local defaults = { level = 6, min = 1024 }

--- Middleware that compresses what is worth it (text, JSON, XML, JavaScript, WebAssembly) for
--- clients that take gzip; not streams of events, which are small. It needs zlib (libz.so.1).
--- err: "missing" (zlib)
--- @param options? table level: from 1, fast, to 9, small (6) · min: bytes below which it is not
--- worth it (1024)
--- @return function|nil middleware for `router:use`, string? message, string? name
function M.gzip(options)
  local given = check.options(options, defaults, "http.gzip")
  check.whole(given.min, 0x7fffffff, "http.gzip: min")
  check.whole(given.level, 9, "http.gzip: level")
  if not load() then return nil, "http.gzip: libz.so.1 is not there (Debian: zlib1g)", "missing" end
  return function(request, next)
    local answer, text, name = next(request)
    if answer == nil then return nil, text, name end
    return compress(request, response.of(answer), given)
  end
end

return abi.keep("neap.http.gzip", M)
