--- Server-sent events (the event streams of the HTML standard): what EventSource reads.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local response = require("neap.http.response")
local task = require("neap.task")
local timer = require("neap.timer")

local type, error, xpcall = type, error, xpcall
local M = {}

--- What the function of `http.events` sends with.
--- @class neap.HttpEvents
local Events = {}
local metatable = { __index = Events, __metatable = "neap.httpEvents" }

local function check_self(self, name)
  if type(self) ~= "table" or not self.out then
    check.raise("events:" .. name .. ": called on " .. type(self) .. ", not on a stream of events")
  end
end

local function check_line(text, what)
  check.string(text, what)
  if text:find("[\r\n%z]") then check.raise(what .. " must be one line") end
end

local function write(self, text)
  if self.gone then
    errors.fail(self.gone, "closed")
    error(self.gone, 0)
  end
  self.out:write(text)
  return self
end

--- Sends an event. Raises when the client has gone, which ends the function without a line in the
--- log.
--- @param data string any lines
--- @param event? string its name ("message", which onmessage gets)
--- @param id? string what the client says (Last-Event-ID) when it comes again
--- @return neap.HttpEvents events
function Events:send(data, event, id)
  check_self(self, "send")
  check.string(data, "events:send: data")
  local text = ""
  if event ~= nil then
    check_line(event, "events:send: event")
    text = "event: " .. event .. "\n"
  end
  if id ~= nil then
    check_line(id, "events:send: id")
    text = text .. "id: " .. id .. "\n"
  end
  data = data:gsub("\r\n", "\n"):gsub("\r", "\n"):gsub("\n", "\ndata: ")
  return write(self, text .. "data: " .. data .. "\n\n")
end

--- Tells the client how long to wait before it comes again, when the stream has ended.
--- @param seconds number to wait
--- @return neap.HttpEvents events
function Events:retry(seconds)
  check_self(self, "retry")
  check.seconds(seconds, "events:retry: seconds")
  return write(self, ("retry: %d\n\n"):format(seconds * 1000))
end

-- Notices that the client has gone while the function waits for something else, and sends a comment
-- now and then, so that nobody on the way takes the connection for dead.
local function watch(self, owner, heartbeat)
  local conn = self.out.conn
  local function more() return conn:peek(conn:buffered() + 1) end
  while true do
    local view, text, name = timer.deadline(heartbeat, more)
    if name == "cancelled" then return end
    if name == "timeout" then
      response.try_write(self.out, ":\n\n")
    elseif not view then
      self.gone = text
      return owner:cancel()
    end
  end
end

local defaults = { heartbeat = 15 }

--- An answer that is a stream of events, which a function sends for as long as it likes; when the
--- client goes its waits fail with "cancelled".
--- @param fn fun(events: neap.HttpEvents) sends them
--- @param options? table heartbeat: seconds without an event, after which a comment is sent (15)
--- @return neap.HttpAnswer answer
function M.events(fn, options)
  check.fn(fn, "http.events: fn")
  local given = check.options(options, defaults, "http.events")
  check.seconds(given.heartbeat, "http.events: heartbeat")
  return { type = "text/event-stream", headers = { ["Cache-Control"] = "no-cache" },
    body = function(out)
      local self = setmetatable({ out = out, gone = false }, metatable)
      out:write(":\n\n") -- the client sees at once that the stream is open
      local watcher = task.spawn(watch, self, task.running(), given.heartbeat)
      local ok, wrong = xpcall(fn, task.note_error, self)
      watcher:cancel()
      watcher:join()
      if not ok then error(wrong, 0) end
    end }
end

return abi.keep("neap.http.events", M)
