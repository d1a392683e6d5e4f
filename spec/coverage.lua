--- A helper for busted that notes which lines of lua/neap ran, for tools/coverage. Only this
--- process is looked at, not those that specs start. LuaJIT has one hook for all coroutines.

jit.off()
jit.flush()

local directory = package.searchpath("neap.abi", package.path):match("^(.*/)")
local lines = {}

local function note(_, line)
  local source = debug.getinfo(2, "S").source
  local of_file = lines[source]
  if of_file == nil then
    of_file = source:sub(2, #directory + 1) == directory and {} or false
    lines[source] = of_file
  end
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
