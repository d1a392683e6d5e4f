--- The neap command: runs a script in a task, then the loop until nothing is left.

local task = require("neap.task")
local neap = require("neap")

local usage = [[
usage: neap script.lua [arguments]     run a script, then the loop until nothing is left
       neap test [busted arguments]    run busted specs inside the runtime
       neap -v                         print the version
]]

local function run_main(main)
  local failed = false
  task.start(main, {
    on_error = function(err, text)
      failed = true
      -- a failing busted run raises nil, having said all there is to say
      if err ~= nil then io.stderr:write("neap: ", text, "\n") end
      task.stop()
    end,
  })
  task.run()
  return failed and 1 or 0
end

local function run_script(path, arguments)
  _G.arg = arguments
  local main, message = loadfile(path)
  if not main then
    io.stderr:write("neap: ", message, "\n")
    return 1
  end
  return run_main(function() return main(unpack(arguments)) end)
end

local function run_specs(arguments)
  _G.arg = arguments
  return run_main(function()
    require("busted.runner")({ standalone = false })
  end)
end

--- @param words string[] the command line, the program's own name at 0
--- @return integer the exit status
return function(words)
  local command = words[1]
  if command == "-v" then
    print("neap " .. neap.version .. ", " .. jit.version)
    return 0
  elseif not command or command:sub(1, 1) == "-" then
    io.stderr:write(command and "neap: unknown option " .. command .. "\n" or "", usage)
    return 1
  end
  local arguments = { [0] = command, [-1] = words[0] }
  for i = 2, #words do arguments[i - 1] = words[i] end
  if command == "test" then return run_specs(arguments) end
  return run_script(command, arguments)
end
