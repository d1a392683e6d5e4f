--- Static files: a directory, served.
---
--- The kernel resolves each path beneath the directory (openat2), so neither ".." nor a symbolic
--- link leads out of it. What is not changed on its way the kernel sends by itself; the rest is
--- read in pieces. Both only from the page cache; while the kernel fetches what is not there the
--- loop goes on, and the task looks again. No helper thread is needed for that, and nothing is
--- handed from thread to thread. What may still wait for a disk is looking a name up that nobody
--- has asked for lately, and a file system that cannot say what is cached.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local pool = require("neap.pool")
local response = require("neap.http.response")
local task = require("neap.task")
local text_module = require("neap.http.text")

local C = abi.C
local AGAIN, BUSY, SHORT = C.NEAP_E_AGAIN, C.NEAP_E_BUSY, C.NEAP_E_SHORT
local handle_t = ffi.typeof("struct neap_handle")
local info_t, entry_t = ffi.typeof("struct neap_disk_info"), ffi.typeof("struct neap_disk_entry")
local min, format = math.min, string.format
local PIECE = 65536 -- bytes of a file that are read, and queued, at a time
local SENT = 1048576 -- and that the kernel sends by itself, before others go on
local TRIES = 10    -- looks at what is not cached, each after twice the time; then it is waited for
local FIRST_WAIT_S = 0.0005
local RANGES = 16   -- parts of a file in one answer; of more all of it is sent
local LISTED = 10000 -- entries of a listing

local M = {}

local types = {
  avif = "image/avif", bin = "application/octet-stream", bmp = "image/bmp", c = "text/plain",
  css = "text/css", csv = "text/csv", gif = "image/gif", gz = "application/gzip",
  h = "text/plain", htm = "text/html", html = "text/html", ico = "image/x-icon",
  jpeg = "image/jpeg", jpg = "image/jpeg", js = "text/javascript", json = "application/json",
  lua = "text/plain", map = "application/json", md = "text/markdown", mjs = "text/javascript",
  mp3 = "audio/mpeg", mp4 = "video/mp4", ogg = "audio/ogg", otf = "font/otf",
  pdf = "application/pdf", png = "image/png", svg = "image/svg+xml", tar = "application/x-tar",
  txt = "text/plain", wasm = "application/wasm", wav = "audio/wav", webm = "video/webm",
  webp = "image/webp", woff = "font/woff", woff2 = "font/woff2", xml = "application/xml",
  yaml = "application/yaml", zip = "application/zip",
}

local function type_of(path, own)
  local extension = (path:match("%.([^./]+)$") or ""):lower()
  local media = own[extension] or types[extension] or "application/octet-stream"
  if media:find("^text/") and not media:find(";", 1, true) then
    media = media .. "; charset=utf-8"
  end
  return media
end

-- ---- files ----

local function open(root, path)
  local made = handle_t()
  local code = C.neap_disk_open(root and root.slot or 0, root and root.gen or 0, path, made)
  if code < 0 then return nil, code end
  return ffi.gc(made, C.neap_disk_finalize)
end

local function close(file)
  ffi.gc(file, nil)
  C.neap_disk_close(file.slot, file.gen)
end

local info = info_t()

-- What is known of an open file, as a table.
local function look_at(file)
  local code = C.neap_disk_info(file.slot, file.gen, info)
  if code < 0 then return nil, code end
  local bytes, modified = tonumber(info.bytes), info.modified_s
  return { bytes = bytes, modified = modified, directory = info.directory,
    etag = format('"%x-%x.%x"', bytes, modified, info.modified_ns) }
end

-- Does what needs bytes of a file, again and again while they are fetched. Returns its code; nil,
-- text, name: it was cancelled, or a deadline is over.
local function once_cached(step, again, ...)
  local wait = FIRST_WAIT_S
  for _ = 1, TRIES do
    local code = step(false, ...)
    if code ~= again then return code end
    local slept, message, name = task.sleep(wait)
    if not slept then return nil, message, name end
    wait = wait * 2
  end
  return (step(true, ...))
end

local function failed(what, code)
  if code < 0 and code ~= SHORT then return errors.failure(what, code) end
  return errors.fail("the file is shorter than it was", "short")
end

local function read_step(may_wait, file, offset, slice)
  local code = C.neap_disk_read(file.slot, file.gen, offset, slice.slot, slice.gen, may_wait)
  return code
end

-- Bytes of a file as a slice; waits while they are fetched. nil, text, name: it cannot be read.
local function read(file, offset, n)
  local allocator, message, name = pool.default():allocator()
  if not allocator then return nil, message, name end
  local slice
  slice, message, name = allocator:alloc(n)
  allocator:release() -- keeps no buf between pieces
  if not slice then return nil, message, name end
  local code
  code, message, name = once_cached(read_step, AGAIN, file, offset, slice)
  if code and code > 0 then
    if code < n then slice:truncate_back(n - code) end
    return slice
  end
  slice:release()
  if not code then return nil, message, name end
  return failed("read of a file", code)
end

local function send_step(may_wait, file, offset, n, out)
  return response.send_file(out, file, offset, n, may_wait)
end

-- Writes a part of a file to what writes a body. Raises when that cannot be.
local function copy(file, from, n, out)
  while n > 0 do
    local slice, message = read(file, from, min(n, PIECE))
    if not slice then error(message, 0) end
    from, n = from + #slice, n - #slice
    out:write(slice)
  end
end

-- The same, past all bufs.
local function send_part(file, from, n, out)
  while n > 0 do
    local code, message = once_cached(send_step, BUSY, file, from, min(n, SENT), out)
    local ok = code and code > 0
    if code and not ok then ok, message = failed("send of a file", code) end
    if not ok then error(message, 0) end
    from, n = from + code, n - code
    if n > 0 then
      ok, message = task.sleep(0)
      if not ok then error(message, 0) end
    end
  end
end

-- ---- conditions and ranges (RFC 9110, 13 and 14) ----

local function lists_etag(list, etag)
  if list == "*" then return true end
  for weak in list:gmatch('[^,%s]+') do
    if weak:gsub("^W/", "") == etag then return true end
  end
  return false
end

local function is_unmodified(request, about)
  local none_match = request:header("if-none-match")
  if none_match then return lists_etag(none_match, about.etag) end
  local since = request:header("if-modified-since")
  since = since and text_module.parse_date(since)
  return since ~= nil and about.modified <= since
end

local function fails_condition(request, about)
  local match = request:header("if-match")
  if match then
    return match ~= "*" and (match:find("W/", 1, true) or not lists_etag(match, about.etag))
  end
  local since = request:header("if-unmodified-since")
  since = since and text_module.parse_date(since)
  return since ~= nil and about.modified > since
end

local function one_range(text, bytes)
  local from, to = text:match("^%s*(%d*)%-(%d*)%s*$")
  if not from or (from == "" and to == "") then return nil end
  if from == "" then
    local n = min(tonumber(to), bytes)
    return n > 0 and { from = bytes - n, n = n } or false
  end
  from, to = tonumber(from), tonumber(to) or math.huge
  if to < from then return nil end
  if from >= bytes then return false end
  return { from = from, n = min(to, bytes - 1) - from + 1 }
end

-- A list of parts, {} if none of them is in the file; nil: all of the file is to be sent.
local function ranges_of(request, about)
  local text = request.method == "GET" and request:header("range")
  local list = text and text:match("^bytes=(.+)$")
  if not list then return nil end
  local only_if = request:header("if-range")
  if only_if and only_if ~= about.etag and text_module.parse_date(only_if) ~= about.modified then
    return nil
  end
  local found, sum = {}, 0
  for part in (list .. ","):gmatch("([^,]*),") do
    local range = one_range(part, about.bytes)
    if range == nil then return nil end -- not a range: as if it were not there
    if range then
      found[#found + 1] = range
      sum = sum + range.n
    end
  end
  if #found > RANGES or sum > about.bytes then return nil end
  return found
end

local function content_range(range, bytes)
  return format("bytes %.0f-%.0f/%.0f", range.from, range.from + range.n - 1, bytes)
end

-- ---- answers ----

-- The last of what writes a body closes the file, also when the client goes.
local function writer(file, ranges, between)
  return function(out)
    local ok, wrong = pcall(function()
      for i, range in ipairs(ranges) do
        if between then out:write(between[i]) end
        local put = response.takes_files(out) and send_part or copy
        put(file, range.from, range.n, out)
      end
      if between then out:write(between[#ranges + 1]) end
    end)
    close(file)
    if not ok then error(wrong, 0) end
  end
end

local boundaries = 0

local function several_ranges(file, about, ranges, media)
  boundaries = boundaries + 1
  local boundary = format("neap-%x-%x", os.time(), boundaries)
  local between, length = {}, 0
  for i, range in ipairs(ranges) do
    between[i] = format("\r\n--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n", boundary,
      media, content_range(range, about.bytes))
    length = length + #between[i] + range.n
  end
  between[#ranges + 1] = "\r\n--" .. boundary .. "--\r\n"
  length = length + #between[#ranges + 1]
  return "multipart/byteranges; boundary=" .. boundary, length, writer(file, ranges, between)
end

-- A body that is there at once goes with its head; a larger one is written piece by piece.
local function body_of(file, range)
  if range.n == 0 then
    close(file)
    return ""
  end
  if range.n > PIECE then return writer(file, { range }) end
  local slice = read(file, range.from, range.n)
  close(file)
  if slice and #slice == range.n then return slice end
  if slice then slice:release() end
  return nil
end

local function headers_of(about, options)
  local headers = { ETag = about.etag, ["Last-Modified"] = text_module.date(about.modified),
    ["Accept-Ranges"] = "bytes", ["X-Content-Type-Options"] = "nosniff" }
  if options.max_age > 0 then headers["Cache-Control"] = "max-age=" .. options.max_age end
  return headers
end

-- The status, and with 206 the ranges.
local function status_of(request, about)
  if fails_condition(request, about) then return 412 end
  if is_unmodified(request, about) then return 304 end
  local ranges = ranges_of(request, about)
  if not ranges then return 200 end
  if #ranges == 0 then return 416 end
  return 206, ranges
end

-- An answer without anything of the file.
local function answer_without(status, about, headers)
  if status == 304 then return { status = 304, headers = headers } end
  if status == 416 then headers["Content-Range"] = format("bytes */%.0f", about.bytes) end
  return response.problem(status, nil, headers)
end

-- Completes an answer with one range of the file, or all of it.
local function send_range(answer, request, file, path, range)
  if request.method == "HEAD" then
    close(file)
    answer.body = function() end
  else
    answer.body = body_of(file, range)
    if not answer.body then return nil, "a file could not be read: " .. path end
  end
  if type(answer.body) == "function" then
    answer.headers["Content-Length"] = format("%.0f", range.n)
  end
  return answer
end

local function send(request, file, about, path, options)
  local headers = headers_of(about, options)
  local status, ranges = status_of(request, about)
  if status ~= 200 and status ~= 206 then
    close(file)
    return answer_without(status, about, headers)
  end
  local answer = { status = status, type = type_of(path, options.types), headers = headers }
  if not ranges then
    return send_range(answer, request, file, path, { from = 0, n = about.bytes })
  elseif #ranges == 1 then
    headers["Content-Range"] = content_range(ranges[1], about.bytes)
    return send_range(answer, request, file, path, ranges[1])
  end
  local length
  answer.type, length, answer.body = several_ranges(file, about, ranges, answer.type)
  headers["Content-Length"] = format("%.0f", length)
  return answer
end

-- ---- directories ----

local entry = entry_t()

-- The entries of a directory, those that are no files or directories left out: directories first.
local function list(file, options)
  local found = {}
  while #found < LISTED do
    local code = C.neap_disk_next(file.slot, file.gen, entry)
    if code <= 0 then break end
    local name = ffi.string(entry.name)
    local shown = name ~= "." and name ~= ".." and (options.hidden or name:sub(1, 1) ~= ".")
    if shown and (entry.directory or entry.regular) then
      found[#found + 1] = { name = name, directory = entry.directory,
        bytes = tonumber(entry.bytes), modified = entry.modified_s }
    end
  end
  table.sort(found, function(a, b)
    if a.directory ~= b.directory then return a.directory end
    return a.name < b.name
  end)
  return found
end

local function directory(request, root, file, path, options)
  local url = request.path
  if url:sub(-1) ~= "/" then
    close(file)
    -- nothing but a path: "//" would be another server
    return response.redirect((url:gsub("^/+", "/")) .. "/"
      .. (request.query and "?" .. request.query or ""), 301)
  end
  local index = options.index ~= "" and open(root, path .. "/" .. options.index)
  local about = index and look_at(index)
  if about and not about.directory then
    close(file)
    return send(request, index, about, options.index, options)
  end
  if index then close(index) end
  if not options.listing then
    close(file)
    return response.problem(404)
  end
  local entries = list(file, options)
  close(file)
  return options.listing(entries, request)
end

-- ---- handlers ----

-- The path beneath the root; nil: there can be none.
local function beneath(request, options)
  local path = request.params and request.params.file
  if not path then path = text_module.unescape(request.path) end
  if not path or path:find("[%z\\]") then return nil end
  local parts = {}
  for part in path:gmatch("[^/]+") do
    if part == ".." or (part:sub(1, 1) == "." and not options.hidden) then return nil end
    parts[#parts + 1] = part
  end
  return #parts > 0 and table.concat(parts, "/") or "."
end

local function answer(request, root, options)
  if request.method ~= "GET" and request.method ~= "HEAD" then
    return response.problem(405, nil, { Allow = "GET, HEAD" })
  end
  local path = beneath(request, options)
  if not path then return response.problem(404) end
  local file, code = open(root, path)
  if not file then
    if code == C.NEAP_E_DESCRIPTORS or code == C.NEAP_E_MEMORY then return response.problem(503) end
    return response.problem(404) -- also what may not be read: nobody needs to know that it is there
  end
  local about = look_at(file)
  if about and about.directory then return directory(request, root, file, path, options) end
  if about and request.path:sub(-1) ~= "/" then
    return send(request, file, about, path, options)
  end
  close(file)
  return response.problem(404)
end

local defaults = { index = "index.html", max_age = 0, hidden = false, types = {} }

--- A handler that serves the files of a directory: with ETag and Last-Modified, answers to
--- conditional requests and ranges (several, too); no file is held in memory. What no path leads to
--- beneath the directory is a 404: "..", symbolic links to elsewhere, devices, hidden files. With a
--- route such as "/static/*file" it takes the parameter `file` for the path, else all of it.
--- err: "system" and others: there is no such directory
--- @param root string the directory
--- @param options? table index: what stands for a directory ("index.html"; "": nothing) · listing:
--- function of a directory's entries { name, directory, bytes, modified } and the request, whose
--- answer is sent where there is no index · max_age: seconds that clients may keep a file without
--- asking (0: not said) · hidden: names with a dot in front, too (false) · types: Content-Type by
--- extension, besides the usual ones
--- @return function|nil handler, string? message, string? name
function M.files(root, options)
  check.string(root, "http.files: root")
  local own, listing = options, nil
  if type(options) == "table" then
    own, listing = {}, options.listing
    for name, value in pairs(options) do own[name] = value end
    own.listing = nil
  end
  if listing ~= nil then check.fn(listing, "http.files: option listing") end
  own = check.options(own, defaults, "http.files")
  check.whole(own.max_age, 0x7fffffff, "http.files: max_age")
  own.listing = listing
  local file, code = open(nil, root)
  if not file then return errors.failure("http.files: " .. root, code) end
  local about = look_at(file)
  if not about or not about.directory then
    close(file)
    return errors.fail("http.files: " .. root .. " is no directory", "system")
  end
  return function(request) return answer(request, file, own) end
end

return abi.keep("neap.http.files", M)
