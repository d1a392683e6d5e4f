-- Reads what callgrind counted and prints the Markdown table of instructions a message.
--
--   luajit instructions_summary.lua [functions] < counts
--
-- A line of counts: case, messages, and two files of callgrind, tab-separated; the messages are
-- what the second has more than the first. `functions`: how many of those with the most
-- instructions to list for each case.

local functions_max = tonumber(arg[1] or 0)

-- Where an object's instructions are counted, by a pattern of its path. What LuaJIT compiled
-- has no object.
local columns = {
  { "libneap", "libneap" },
  { "libev", "libev" },
  { "LuaJIT's own", "luajit" },
  { "compiled Lua", "^%?%?%?$" },
  { "libc", "/libc[.-]" },
  { "other", "" },
}

local function column_of(object)
  for i, column in ipairs(columns) do
    if object:find(column[2]) then return i end
  end
end

-- callgrind writes a name once, as (id) name, and then (id).
local function name_of(names, text)
  local id, name = text:match("^(%(%d+%)) ?(.*)$")
  if not id then return text end
  if name ~= "" then names[id] = name end
  return assert(names[id], "a name that was not given before")
end

--- Self cost. The line behind calls= is what the callee took, which is counted there.
--- @return integer[] by_column, table<string, integer> by_function
local function read_costs(path)
  local objects, functions = {}, {}
  local by_column, by_function = {}, {}
  for i = 1, #columns do by_column[i] = 0 end
  local column, fn, skip = #columns, "?", false
  for line in io.lines(path) do
    local key, value = line:match("^(%l+)=(.*)$")
    if key == "ob" then column = column_of(name_of(objects, value))
    elseif key == "cob" then name_of(objects, value)
    elseif key == "fn" then fn = name_of(functions, value)
    elseif key == "cfn" then name_of(functions, value)
    elseif key == "calls" then skip = true
    elseif not key and line:find("^[%d+*-]") then
      local cost = tonumber(line:match(" (%d+)$") or 0)
      if not skip then
        local name = columns[column][1] .. ": " .. fn
        by_column[column] = by_column[column] + cost
        by_function[name] = (by_function[name] or 0) + cost
      end
      skip = false
    end
  end
  return by_column, by_function
end

local function print_row(cells)
  print("| " .. table.concat(cells, " | ") .. " |")
end

local function print_functions(row)
  local list = {}
  for name, cost in pairs(row.by_function) do
    list[#list + 1] = { name, (cost - (row.before[name] or 0)) / row.messages }
  end
  table.sort(list, function(a, b) return a[2] > b[2] end)
  print(("\n### %s\n"):format(row.case))
  print_row { "function", "instructions/msg" }
  print("|---|---:|")
  for i = 1, math.min(functions_max, #list) do
    print_row { "`" .. list[i][1] .. "`", ("%.1f"):format(list[i][2]) }
  end
end

local rows = {}
for line in io.lines() do
  local case, messages, few, many = line:match("^(.-)\t(%d+)\t(.-)\t(.-)$")
  local before_columns, before = read_costs(few)
  local by_column, by_function = read_costs(many)
  local row = { case = case, messages = tonumber(messages), before = before,
    by_function = by_function, sum = 0 }
  for i = 1, #columns do
    row[i] = (by_column[i] - before_columns[i]) / row.messages
    row.sum = row.sum + row[i]
  end
  rows[#rows + 1] = row
end

local heading = { "case", "instructions/msg" }
for _, column in ipairs(columns) do heading[#heading + 1] = column[1] end
print_row(heading)
print("|---|" .. ("---:|"):rep(#heading - 1))
for _, row in ipairs(rows) do
  local cells = { row.case, ("%.0f"):format(row.sum) }
  for i = 1, #columns do cells[#cells + 1] = ("%.0f"):format(row[i]) end
  print_row(cells)
end
if functions_max > 0 then
  for _, row in ipairs(rows) do print_functions(row) end
end
