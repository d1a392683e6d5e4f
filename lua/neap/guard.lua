--- The runaway guard: tells of a task that does not give control back.

local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local log = require("neap.log")
local task = require("neap.task")

local C = abi.C
local MOST_SECONDS = 1e6
local WHAT = "neap.guard"

local M = {}

local defaults = { report = 2, abort = 0 }

-- In the middle of what runs, wherever that is: nothing here may wait or raise.
local function report(trace)
  local held = C.neap_guard_held()
  if held == 0 then return end -- it comes too late
  C.neap_guard_told()
  local runaway = task.current()
  log.error(("%s has not given control back for %.1f s"):format(
    runaway and "a task" or "the loop", held), {
    traceback = (task.without_work(trace):gsub("^\n", "")),
    serving = runaway and task.served(runaway), spawned_at = runaway and task.origin(runaway),
  })
end

local host = package.loaded["neap.host"]
if host then host.on_runaway(report) end

--- Sets what happens when a task does not give control back while a listener or a connection is
--- open: a line in the log, with its peer, where it was spawned, and where it is. (Where it is
--- can be told by the neap command alone, and not of a loop that is compiled, which nothing can
--- interrupt: that line only says how long, and of whom the last event was.) Such a loop ends
--- with the process: after a second limit, if there is one, it aborts with that line, for a
--- supervisor to start it again. NEAP_GUARD=2,10 in the environment, or --guard=2,10, does the
--- same.
--- err: "system" (no timer)
--- @param options { report?: number, abort?: number } report: seconds until the line
--- (2; 0: never) · abort: until the end of the process (0: never)
--- @return true|nil ok, string? message, string? name
function M.guard(options)
  options = check.options(options, defaults, WHAT)
  for name in pairs(defaults) do
    local seconds = options[name]
    if not (seconds >= 0 and seconds <= MOST_SECONDS) then
      check.raise(("%s: %s must be a number from 0 to %d, got %s"):format(WHAT, name, MOST_SECONDS,
        tostring(seconds)))
    end
  end
  local code = C.neap_guard_set(options.report, options.abort)
  if code < 0 then return errors.failure(WHAT, code) end
  return true
end

--- What a command line or the environment says: REPORT[,ABORT]. Returns whether it was that.
function M.configure(text)
  local first, second = text:match("^([%d.]+),?([%d.]*)$")
  local report_s, abort_s = tonumber(first), second == "" and 0 or tonumber(second)
  if not report_s or not abort_s or math.max(report_s, abort_s) > MOST_SECONDS then return false end
  return M.guard({ report = report_s, abort = abort_s }) == true
end

--- For a program that said nothing of it.
function M.start()
  local text = os.getenv("NEAP_GUARD")
  if text and not M.configure(text) then
    log.warn("NEAP_GUARD must be REPORT[,ABORT], in seconds", { got = text })
  elseif not text then
    M.guard()
  end
end

if not host and os.getenv("NEAP_GUARD") then M.start() end -- the command does so itself

return abi.keep("neap.guard", M)
