--- A helper for busted that notes which lines of lua/neap ran, for tools/coverage. Only this
--- process is looked at, not those that specs start. LuaJIT has one hook for all coroutines.

jit.off()
jit.flush()

local directory = package.searchpath("neap.abi", package.path):match("^(.*/)")
local lines = {}

local of_function = {} -- asked once of each: the hook is what takes the time
local getinfo = debug.getinfo

local function lines_of(fn)
  local source = getinfo(fn, "S").source
  local ours = source:sub(2, #directory + 1) == directory
  lines[source] = lines[source] or ours and {}
  of_function[fn] = lines[source] or false
  return of_function[fn]
end

local function note(_, line)
  local fn = getinfo(2, "f").func
  local of_file = of_function[fn]
  if of_file == nil then of_file = lines_of(fn) end
  if of_file then of_file[line] = true end
end

debug.sethook(note, "l")

require("busted").subscribe({ "suite", "end" }, function()
  debug.sethook()
  local file = assert(io.open(os.getenv("COVERAGE"), "w"))
  for source, of_file in pairs(lines) do
    for line in pairs(of_file or {}) do
      file:write(source:sub(#directory + 2), " ", line, "\n")
    end
  end
  file:close()
  return nil, true
end)
