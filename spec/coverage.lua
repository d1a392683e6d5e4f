--- A helper for busted that notes which lines of lua/neap ran, for tools/coverage. Only this
--- process is looked at, not those that specs start.

jit.off()
jit.flush()

local hook = assert(os.getenv("COVERAGE_HOOK"))
local start = assert(package.loadlib(hook, "coverage_start"))
local write = assert(package.loadlib(hook, "coverage_write"))

start(package.searchpath("neap.abi", package.path):match("^(.*/)"))

require("busted").subscribe({ "suite", "end" }, function()
  write(os.getenv("COVERAGE"))
  return nil, true
end)
