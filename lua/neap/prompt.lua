--- The prompt of `neap -i`: reads a chunk, runs it, prints what it returns, and again.
---
--- It is outside of all tasks: a chunk that waits runs the loop until it need not wait any
--- more, and so does the prompt itself while it waits for keys. The line is edited in C
--- (src/host/prompt.c).

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local task = require("neap.task")

local C = abi.C
local host = ffi.C
local loop = task.loop

local SIGINT = 2

local M = {}

local reading -- who waits for keys; nil while a chunk runs
local answer                 -- enum neap_prompt_answer
local interrupted = false    -- by SIGINT
local leaving = false        -- the process was told to end

-- ---- lines ----

local function on_input()
  if not reading then return end
  answer = host.neap_prompt_feed()
  if answer == host.NEAP_PROMPT_MORE then
    C.neap_loop_watch_input(loop, true)
  else
    task.wake(reading, 0)
  end
end

-- SIGINT gives up what is being typed, or the wait of a chunk; SIGTERM ends the process.
local function on_signal(number)
  if number == SIGINT then interrupted = true else leaving = true end
  task.stop()
end

local function wait_for_line()
  reading = task.prepare(coroutine.running(), true)
  C.neap_loop_watch_input(loop, true)
  task.wait(reading)
end

--- @return string|nil line nil: it was given up, or there are no more and `leaving` is set
local function read_line(prompt)
  task.catch_endings(true) -- a chunk that ran the loop gave them back
  interrupted = false
  host.neap_prompt_show(prompt)
  local ok, err = pcall(wait_for_line)
  reading = nil
  C.neap_loop_watch_input(loop, false)
  if not ok then
    host.neap_prompt_cancel()
    if err ~= "interrupted" then error(err, 0) end
    leaving = leaving or not interrupted -- a task called neap.stop()
  elseif answer == host.NEAP_PROMPT_LINE then
    return ffi.string(host.neap_prompt_line(), host.neap_prompt_line_size())
  else
    leaving = true
    print()
  end
end

-- ---- chunks ----

local function ends_too_early(message)
  return message:sub(-7) == "'<eof>'"
end

--- An expression yields its values behind a nil: a `return f(x)` alone would be a tail call, and
--- an error in it had no place.
--- @return function|nil chunk, integer|string which of its values is the first to print, or what
--- is wrong with it; nil, nil: there must be more lines
local function compile(text)
  local expression, as_expression = load("return nil, " .. text, "=stdin", "t")
  if expression then return expression, 2 end
  local chunk, message = load(text, "=stdin", "t")
  if chunk then return chunk, 1 end
  if ends_too_early(message) or ends_too_early(as_expression) then return nil end
  return nil, message
end

local function prompt_of(name, default)
  local prompt = rawget(_G, name)
  return prompt ~= nil and tostring(prompt) or default
end

--- Lines, until they are a chunk: as compile(), but nil, nil when they were given up.
local function read_chunk()
  local text = read_line(prompt_of("_PROMPT", "> "))
  if not text then return nil end
  text = text:gsub("^%s*=", "")
  while true do
    local chunk, message = compile(text)
    if chunk or message then return chunk, message end
    local line = read_line(prompt_of("_PROMPT2", ">> "))
    if not line then return nil end
    text = text .. "\n" .. line
  end
end

local function complain(message)
  io.stderr:write(message, "\n")
end

-- The frames of the prompt itself are of no interest.
local function with_traceback(err)
  if err == nil then return nil end
  local text = check.traceback(task.shown(err))
  return text:match("^(.*)\n%s*%[C%]: in function 'xpcall'\n") or text
end

local function tell(first, ok, ...)
  if not ok then
    local message = ...
    if message and not leaving then complain(message) end
  elseif select("#", ...) >= first then
    local printed, err = pcall(print, select(first, ...))
    if not printed then complain("print failed: " .. task.shown(err)) end
  end
end

local function history_path()
  local home = os.getenv("HOME")
  return home and home ~= "" and home .. "/.neap_history" or nil
end

--- Read and run chunks until there are no more, or until a signal that ends the process.
function M.run()
  host.neap_prompt_open(history_path())
  task.on_ready(C.NEAP_READY_INPUT, on_input)
  task.on_ending(on_signal)
  task.before_poll(function() host.neap_prompt_refresh() end)
  while not leaving do
    local chunk, first = read_chunk()
    if chunk then tell(first, xpcall(chunk, with_traceback))
    elseif first then complain(first) end
  end
  task.before_poll(nil)
end

return abi.keep("neap.prompt", M)
