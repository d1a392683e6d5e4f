-- Adds up what tools/coverage has gathered: luajit tools/coverage.lua <build> <directory>
--
-- C by gcov. Of Lua, every line that has bytecode can run; those that tools/coverage_hook.c wrote
-- into files of the directory did. Ends with status 1 if less than the goal of a directory ran.

local GOALS = { ["src/iobuf"] = 95, ["src/net"] = 90, ["lua/neap"] = 90 }
local util = require("jit.util")

local build, lua_lines = arg[1], arg[2]

local function output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

local function files(directory, extension)
  local list = {}
  local found = output(("find %s -name '*.%s' | sort"):format(directory, extension))
  for path in found:gmatch("[^\n]+") do
    list[#list + 1] = path
  end
  return list
end

-- How many lines can run, and those that did not, in order.
local function c_file(path)
  local object = ("%s/obj/%s"):format(build, (path:gsub("%.c$", "")))
  local text = output(("gcov -t %s.gcda 2>/dev/null"):format(object))
  local count, left, here = 0, {}, false
  for line in text:gmatch("[^\n]+") do
    local times, number, source = line:match("^ *([%d#=%-]+)%*?: *(%d+):(.*)$")
    if number == "0" and source:find("^Source:") then here = source == "Source:" .. path end
    if here and times and times ~= "-" and number ~= "0" then
      count = count + 1
      if times:find("^[#=]") then left[#left + 1] = tonumber(number) end
    end
  end
  return count, left
end

local function active_lines(proto, lines)
  local info = util.funcinfo(proto)
  for pc = 1, info.bytecodes - 1 do
    local line = util.funcinfo(proto, pc).currentline
    if line and line > 0 then lines[line] = true end
  end
  for i = -1, -info.gcconsts, -1 do
    local constant = util.funck(proto, i)
    if type(constant) == "proto" then active_lines(constant, lines) end
  end
end

local ran = {}
for _, path in ipairs(files(lua_lines, "lua.txt")) do
  for line in io.lines(path) do
    local name, number = line:match("^(%S+) (%d+)$")
    ran[name] = ran[name] or {}
    ran[name][tonumber(number)] = true
  end
end

local function lua_file(path)
  local lines, count, left = {}, 0, {}
  active_lines(assert(loadfile(path)), lines)
  local text = {}
  for line in io.lines(path) do text[#text + 1] = line end
  local of_file = ran[path:match("^lua/neap/(.*)$")] or {}
  for line in pairs(lines) do
    -- what only ends something has bytecode, but is no line of its own
    if text[line] and not text[line]:find("^%s*end[%s%),]*$") then
      count = count + 1
      if not of_file[line] then left[#left + 1] = line end
    end
  end
  table.sort(left)
  return count, left
end

local function ranges(list)
  local parts, from = {}, nil
  for i, line in ipairs(list) do
    from = from or line
    if list[i + 1] ~= line + 1 then
      parts[#parts + 1] = from == line and tostring(line) or from .. "-" .. line
      from = nil
    end
  end
  return table.concat(parts, " ")
end

local short = false
for _, directory in ipairs { "src/iobuf", "src/net", "lua/neap" } do
  local is_c = directory:find("^src") ~= nil
  local all, all_left, rows = 0, 0, {}
  for _, path in ipairs(files(directory, is_c and "c" or "lua")) do
    local count, left = (is_c and c_file or lua_file)(path)
    all, all_left = all + count, all_left + #left
    rows[#rows + 1] = ("  %-24s %5d lines %6.1f %%  %s"):format(path, count,
      100 * (count - #left) / math.max(1, count), ranges(left))
  end
  local percent = 100 * (all - all_left) / math.max(1, all)
  print(("%s: %.1f %% of %d lines (goal %d %%)"):format(directory, percent, all,
    GOALS[directory]))
  print(table.concat(rows, "\n"))
  short = short or percent < GOALS[directory]
end
os.exit(short and 1 or 0)
