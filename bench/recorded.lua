--- Instruction counts that were committed, and what is counted now.

local M = {}

local MORE_MAX = 1.05 -- what may be taken of the recorded instructions

local function first_line(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read("*l")
  pipe:close()
  return line or "unknown"
end

--- @param counts {[1]: string, [2]: number}[] name, instructions
function M.write(path, command, counts)
  local file = assert(io.open(path, "w"))
  file:write("# Instructions, written by ", command, ".\n",
    "# ", first_line("cc --version"), "; ", jit.version, "; ", jit.arch, "\n")
  for _, count in ipairs(counts) do file:write(("%s\t%.1f\n"):format(count[1], count[2])) end
  file:close()
end

--- Counts by name; none when the file is not there. Lines with # are comments.
function M.read(path)
  local counts = {}
  local file = io.open(path)
  if not file then return counts end
  for line in file:lines() do
    local name, count = line:match("^([^#\t]+)\t([%d.]+)$")
    if name then counts[name] = tonumber(count) end
  end
  file:close()
  return counts
end

--- Prints a line for each. Returns whether all is as it was, or better.
function M.check(path, counts)
  local recorded, good = M.read(path), true
  for _, count in ipairs(counts) do
    local name, now = count[1], count[2]
    local before, state = recorded[name], "ok"
    if not before then
      state, good = "not recorded", false
    elseif now > before * MORE_MAX then
      state, good = "too many", false
    elseif now < before / MORE_MAX then
      state = "fewer: record it"
    end
    print(("%-18s %8.1f  recorded %8s  %s"):format(name, now,
      before and ("%.1f"):format(before) or "–", state))
  end
  return good
end

return M
