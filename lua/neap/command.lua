--- The neap command: does what its command line says, as lua does, then runs the loop until
--- nothing is left.

local ffi = require("ffi")

ffi.cdef("const char *neap_host_header(void);")
ffi.cdef((ffi.string(ffi.C.neap_host_header()):gsub("const char %*neap_host_header%(void%);", "")))

local abi = require("neap.abi")
local collector = require("neap.collector")
local slice = require("neap.slice")
local task = require("neap.task")
local neap = require("neap")
local guard = require("neap.guard")
local prompt = require("neap.prompt")

local host = ffi.C

local usage = [=[
usage: neap [options] [script [arguments]]   run a script, then the loop until nothing is left
       neap [options] test [arguments]       run busted, and the specs inside the runtime
options, as those of lua and luajit:
  -e chunk   run this Lua text
  -l name    require this module
  -j cmd     control the JIT compiler
  -i         a prompt, after the script
  -v, --version  print the version
  --         no more options
  -          run standard input, no more options
and neap's own:
  --leaks=level  who made what was forgotten: off, sample (the default),
                 touch (and where it passed), all
  --gc-trace     a line for each cycle of Lua's collector
  --stats        print counters to standard error at exit
  --guard=REPORT[,ABORT]  seconds until a task that gives no control back is told of, and until the
                 process aborts (2,0; 0: never)
  --stop-timeout=SECONDS  for what runs when a signal ends the program (2)
  -h, --help print this
]=]

-- ---- what there is to do ----

local Complaint = {} -- an error that needs no traceback

local function complain(message)
  error(setmetatable({ message = message }, Complaint), 0)
end

local function loaded(chunk, message)
  return chunk or complain(message)
end

-- What is called has no name here, and no frame is lost: so a traceback says "in main chunk".
local function run_text(text, name)
  loaded(load(text, name, "t"))()
  return
end

local function run_file(path, arguments)
  loaded(loadfile(path))(unpack(arguments, 1, #arguments))
  return
end

local function split_commas(text)
  local words = {}
  for word in (text .. ","):gmatch("(.-),") do words[#words + 1] = word end
  return words
end

-- `on`, `off`, `flush` …, or a module jit.* with a function start: as in -jv, -jdump=+rs,x.txt
local function control_jit(command)
  local name, options = command:match("^([^=]*)=?(.*)$")
  local fn = jit[name]
  if type(fn) ~= "function" then
    local ok, module = pcall(require, "jit." .. name)
    fn = ok and type(module) == "table" and module.start
    if not fn then complain("unknown LuaJIT command, or no module jit." .. name) end
  end
  if options == "" then return fn() end
  return fn(unpack(split_commas(options)))
end

local function run_init()
  local init = os.getenv("LUA_INIT")
  if not init then return end
  if init:sub(1, 1) == "@" then return run_file(init:sub(2), {}) end
  return run_text(init, "=LUA_INIT")
end

local function run_specs()
  require("busted.runner")({ standalone = false }) -- looks at who calls it: no tail call
  return
end

-- ---- the command line ----

local steps_of = {
  e = function(text) return function() return run_text(text, "=(command line)") end end,
  l = function(name) return function() return require(name) end end,
  j = function(command) return function() return control_jit(command) end end,
}

local flags_of = {
  ["-i"] = { "interactive", "version" },
  ["-v"] = { "version" },
  ["--version"] = { "version" },
  ["-h"] = { "help" },
  ["--help"] = { "help" },
  ["--stats"] = { "stats" },
  ["--gc-trace"] = { "gc_trace" },
}

local function seconds_of(text)
  local seconds = tonumber(text)
  return seconds and seconds >= 0 and seconds <= 315360000 and seconds or nil
end

local guarded = false

local LEVELS = { off = true, sample = true, touch = true, all = true }

-- Options with a value: --name=value. Each returns how it is to be written, if it is wrong.
local values_of = {
  ["--leaks"] = function(text)
    if not LEVELS[text] then return "=LEVEL: off, sample, touch or all" end
    neap.leaks_level(text)
  end,
  ["--guard"] = function(text)
    guarded = true
    if not guard.configure(text) then return "=REPORT[,ABORT], in seconds, as in 2,10" end
  end,
  ["--stop-timeout"] = function(text)
    local seconds = seconds_of(text)
    if not seconds then return "=SECONDS" end
    task.set_stop_seconds(seconds)
  end,
}

-- -e, -l and -j: what they do, with a text that is glued to the letter or is the next word.
-- Returns the last word that it took, or nil and a complaint.
local function take_step(line, words, i, letter, text)
  if text == "" then
    i = i + 1
    text = words[i]
    if not text then return nil, "option -" .. letter .. " needs an argument" end
  end
  line.executes = line.executes or letter == "e"
  line.steps[#line.steps + 1] = steps_of[letter](text)
  return i
end

--- @return table|nil line steps, and flags by name; script: the index of the first word that is
--- no option
--- @return string|nil complaint
local function parse(words)
  local line = { steps = {}, script = #words + 1 }
  local i = 1
  while i <= #words do
    local word = words[i]
    local letter, rest = word:match("^%-([elj])(.*)$")
    local name, value = word:match("^(%-%-[^=]+)=?(.*)$")
    if word:sub(1, 1) ~= "-" or word == "-" then
      line.script, line.stdin, line.test = i, word == "-", word == "test"
      return line
    elseif word == "--" then
      line.script = i + 1
      return line
    elseif flags_of[word] then
      for _, flag in ipairs(flags_of[word]) do line[flag] = true end
    elseif values_of[name] then
      local form = values_of[name](value)
      if form then return nil, ("write %s%s, not %s"):format(name, form, word) end
    elseif letter then
      local last, complaint = take_step(line, words, i, letter, rest)
      if not last then return nil, complaint end
      i = last
    else
      return nil, "unknown option " .. word
    end
    i = i + 1
  end
  return line
end

--- The global `arg`: the script at 0, its arguments from 1, what stands before it below 0.
local function arguments_of(words, script)
  local arguments = {}
  for i = 0, #words do arguments[i - script] = words[i] end
  return arguments
end

--- Decides what to do without a script. A terminal gets a prompt, anything else is a script.
local function without_script(line)
  if line.interactive or line.executes or line.version then return end
  if host.neap_host_interactive() then
    line.interactive, line.version = true, true
  else
    line.stdin = true
  end
end

-- ---- running ----

local function run_line(line, arguments, has_script)
  run_init()
  if line.version then print("neap " .. neap.version .. ", " .. jit.version) end
  for _, step in ipairs(line.steps) do step() end
  if line.test then return run_specs() end
  if line.stdin then return run_file(nil, arguments) end
  if has_script then return run_file(arguments[0], arguments) end
end

-- The frames of this file are of no interest.
local function without_own_frames(text)
  return (text:gsub("^[^\n]*/neap/command%.lua:%d+: ", "")
    :gsub("\n%s+[^\n]*/neap/command%.lua:[^\n]*", ""))
end

local function report(err, text)
  if err == nil then return end -- as of lua; a run of busted that failed has said all there is
  local message = getmetatable(err) == Complaint and err.message or without_own_frames(text)
  io.stderr:write("neap: ", message, "\n")
end

--- Run a function in a task, and the loop until nothing is left (or, for a prompt, until the
--- function has returned).
--- @return boolean failed, boolean stopped
local function run_main(main, interactive)
  local failed = false
  local started = task.start(main, {
    on_error = function(err, text)
      failed = true
      report(err, text)
      task.stop()
    end,
  })
  local stopped = task.run_until(interactive and started or nil)
  return failed, stopped
end

-- What nobody refers to any more was forgotten; the rest is still there.
local function report_leaks()
  if neap.leaks_level() ~= "off" then
    for _ = 1, 2 do pcall(collectgarbage) end -- a finalizer may raise, or leave something behind
    slice.settle()
  end
  abi.C.neap_ledger_report()
end

local function leave_prompt()
  task.start(task.stop, {})
  task.run_until()
end

--- @param words string[] the command line, the program's own name at 0
--- @return integer the exit status
return function(words)
  local line, complaint = parse(words)
  if not line then
    io.stderr:write("neap: ", complaint, "\nneap --help lists the options.\n")
    return 1
  elseif line.help then
    io.write(usage)
    return 0
  end
  if not guarded and not line.test then guard.start() end
  if line.stats then host.neap_host_stats_at_exit() end
  if line.gc_trace then collector.trace() end
  local has_script = line.script <= #words
  if not has_script then without_script(line) end
  _G.arg = arguments_of(words, line.script)
  local main = function() return run_line(line, _G.arg, has_script) end
  local failed, stopped = run_main(main, line.interactive)
  if line.interactive and not failed and not stopped then
    if rawget(_G, "neap") == nil then _G.neap = neap end
    prompt.run()
    leave_prompt()
  end
  report_leaks()
  collector.end_trace()
  return failed and 1 or 0
end
