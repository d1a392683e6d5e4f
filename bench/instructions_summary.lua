-- Reads what callgrind counted and prints the Markdown table of instructions a message.
--
--   luajit bench/instructions_summary.lua table|profile|check|record RECORDED < counts
--
-- A line of counts: case, messages, and two files of callgrind, tab-separated; the messages are
-- what the second has more than the first. Of several lines with one case the least counts.

local recorded = dofile("bench/recorded.lua")

local mode, recorded_path = unpack(arg)
local FUNCTIONS_MAX = 25 -- with the most instructions, listed for each case

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
  for i = 1, math.min(FUNCTIONS_MAX, #list) do
    print_row { "`" .. list[i][1] .. "`", ("%.1f"):format(list[i][2]) }
  end
end

local function read_row(line)
  local case, messages, few, many = line:match("^(.-)\t(%d+)\t(.-)\t(.-)$")
  local before_columns, before = read_costs(few)
  local by_column, by_function = read_costs(many)
  local row = { case = case, messages = tonumber(messages), before = before,
    by_function = by_function, sum = 0 }
  for i = 1, #columns do
    row[i] = (by_column[i] - before_columns[i]) / row.messages
    row.sum = row.sum + row[i]
  end
  return row
end

-- Of the starts of a server, the one with the fewest; `most` is the one with the most.
local function read_rows(lines)
  local rows, by_case = {}, {}
  for line in lines do
    local row = read_row(line)
    local best = by_case[row.case]
    if not best then
      rows[#rows + 1] = row
      by_case[row.case], row.place, row.most = row, #rows, row.sum
    else
      local most = math.max(best.most, row.sum)
      if row.sum < best.sum then
        rows[best.place], by_case[row.case], row.place = row, row, best.place
        best = row
      end
      best.most = most
    end
  end
  return rows
end

local function print_table(rows)
  local heading = { "case", "instructions/msg", "most" }
  for _, column in ipairs(columns) do heading[#heading + 1] = column[1] end
  print_row(heading)
  print("|---|" .. ("---:|"):rep(#heading - 1))
  for _, row in ipairs(rows) do
    local cells = { row.case, ("%.0f"):format(row.sum), ("%.0f"):format(row.most) }
    for i = 1, #columns do cells[#cells + 1] = ("%.0f"):format(row[i] + 0) end
    print_row(cells)
  end
end

local rows = read_rows(io.lines())
local sums = {}
for i, row in ipairs(rows) do sums[i] = { row.case, row.sum } end
if mode == "check" then
  os.exit(recorded.check(recorded_path, sums) and 0 or 1)
elseif mode == "record" then
  recorded.write(recorded_path, "bench/instructions --record", sums)
else
  print_table(rows)
  if mode == "profile" then
    for _, row in ipairs(rows) do print_functions(row) end
  end
end
