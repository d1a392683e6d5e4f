--- Access logs: a line for each answer, in the common format or in JSON.

local abi = require("neap.abi")
local check = require("neap.check")
local request_module = require("neap.http.request")
local task = require("neap.task")
local text_module = require("neap.http.text")
local timer = require("neap.timer")

local C = abi.C
local SETTINGS = request_module.SETTINGS
local format = string.format
local FLUSH_S = 0.5 -- seconds that a line may wait in memory

local M = {}

local function hex(c) return format("\\x%02x", c:byte()) end

-- Nothing that a client sends ends a line or a quoted part of it.
local function quoted(text)
  return text and '"' .. text:gsub('[%c"\\\127-\255]', hex) .. '"' or '"-"'
end

local function host_of(peer)
  return peer:match("^%a+://%[?(.-)%]?:%d+$") or "-"
end

local function common(entry)
  return format("%s - - [%s] %s %d %s %s %s\n", host_of(entry.peer),
    text_module.log_date(entry.time),
    quoted(("%s %s HTTP/%s"):format(entry.method, entry.target, entry.version)), entry.status,
    entry.bytes > 0 and tostring(entry.bytes) or "-", quoted(entry.referer), quoted(entry.agent))
end

local json_escapes = { ['"'] = '\\"', ["\\"] = "\\\\" }
local function json_escape(c) return json_escapes[c] or format("\\u%04x", c:byte()) end

-- What is not ASCII may be no UTF-8: it goes as Latin-1 has it.
local function json_text(text)
  return text and '"' .. text:gsub('[%c"\\\127-\255]', json_escape) .. '"' or "null"
end

local function json(entry)
  return format('{"time":%d,"peer":%s,"method":%s,"target":%s,"version":"%s","status":%d,'
    .. '"bytes":%d,"seconds":%.6f,"referer":%s,"agent":%s}\n', entry.time, json_text(entry.peer),
    json_text(entry.method), json_text(entry.target), entry.version, entry.status, entry.bytes,
    entry.seconds, json_text(entry.referer), json_text(entry.agent))
end

local formats = { common = common, json = json }

--- What writes entries. @param kind string "": nothing
--- @return function|nil write, function|nil close
function M.writer(kind, path)
  if kind == "" then return nil end
  local to_line = formats[kind]
  if not to_line then
    check.raise(('http.serve: log must be "common" or "json", got %q'):format(kind))
  end
  local file, wrong = io.stdout, nil
  if path ~= "" then file, wrong = io.open(path, "a") end
  if not file then check.raise("http.serve: log_path: " .. wrong) end
  local waits = false
  local function flush()
    waits = false
    if io.type(file) == "file" then file:flush() end
  end
  if path ~= "" then file:setvbuf("full", 65536) end
  local function close()
    if path == "" then return flush() end
    if io.type(file) == "file" then file:close() end
  end
  return function(entry)
    if io.type(file) ~= "file" then return end -- the server has stopped
    file:write(to_line(entry))
    if waits then return end
    waits = true
    timer.after(FLUSH_S, flush)
  end, close
end

--- Keeps what the line will need: the request may be gone by then.
function M.begin(request)
  request.entry = {
    began = C.neap_loop_now(task.loop), time = os.time(), peer = request.peer,
    method = request.method, target = request.target, version = request.version,
    referer = request:header("referer"), agent = request:header("user-agent"),
  }
end

--- The answer goes out.
function M.note(request, status, bytes)
  local write, entry = request[SETTINGS].log, rawget(request, "entry")
  if not write or not entry then return end
  entry.status, entry.bytes = status, bytes
  entry.seconds = C.neap_loop_now(task.loop) - entry.began
  write(entry)
end

return abi.keep("neap.http.access", M)
