-- Reads what bench/micro measured and prints the Markdown table, or checks or writes the
-- recorded instruction counts.
--
--   luajit micro_summary.lua table|quick|check|record RECORDED ROWS COUNTS
--
-- ROWS: name, what, goal in ns (0: none), ns, bytes of garbage ("-": C makes none), unit.
-- COUNTS and RECORDED: name, instructions an operation. All tab-separated.

local MORE_MAX = 1.05     -- what an operation may take of the recorded instructions
local SHOWN_BYTES = 0.005 -- less garbage an operation is none: a new buf, once in many

local mode, recorded_path, rows_path, counts_path = unpack(arg)

-- Lists of fields; none when the file is not there. Lines with # are comments.
local function read_lines(path)
  local lines = {}
  local file = io.open(path)
  if not file then return lines end
  for line in file:lines() do
    local fields = {}
    for field in line:gmatch("[^\t]+") do fields[#fields + 1] = field end
    if line:sub(1, 1) ~= "#" then lines[#lines + 1] = fields end
  end
  file:close()
  return lines
end

---@return table<string, number>
local function read_counts(path)
  local counts = {}
  for _, fields in ipairs(read_lines(path)) do counts[fields[1]] = tonumber(fields[2]) end
  return counts
end

local function verdict(ns, goal)
  if goal == 0 then return "–", "" end
  local shown = ("≤ %g"):format(goal)
  if ns <= goal then return shown, ("met, by %.1f ns"):format(goal - ns) end
  return shown, ("missed by %.1f ns (%.1f ×)"):format(ns - goal, ns / goal)
end

local function print_row(cells)
  print("| " .. table.concat(cells, " | ") .. " |")
end

local function print_table(rows, counts)
  print_row { "name", "operation", "ns", "instructions", "garbage B", "goal ns", "verdict" }
  print("|---|---|---:|---:|---:|---:|---|")
  for _, row in ipairs(rows) do
    local name, what, goal, ns, garbage = unpack(row)
    local bytes = tonumber(garbage)
    local goal_shown, met = verdict(tonumber(ns), tonumber(goal))
    if mode == "quick" then met = "" end
    print_row {
      "`" .. name .. "`", what, ("%.1f"):format(tonumber(ns)),
      counts[name] and ("%.1f"):format(counts[name]) or "–",
      bytes and (bytes < SHOWN_BYTES and "0" or ("%.2f"):format(bytes)) or "–",
      goal_shown, met,
    }
  end
  if mode == "quick" then print("\nNo verdict: that takes 20 rounds of 20 ms.") end
end

-- The C library's malloc is not ours to watch, and for coalesce, and where tasks are resumed,
-- LuaJIT chooses among traces that differ by a factor of two.
local unwatched = { ["c.malloc"] = true, ["lua.coalesce"] = true, ["lua.coalesce_4096"] = true,
  ["lua.spawn"] = true, ["lua.scope"] = true, ["lua.scope_spawn"] = true,
  ["lua.deadline"] = true, ["lua.channel_0"] = true, ["lua.channel_16"] = true }

local function is_watched(name)
  return not unwatched[name]
end

local function first_line(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read("*l")
  pipe:close()
  return line or "unknown"
end

local function record(rows, counts)
  local file = assert(io.open(recorded_path, "w"))
  file:write("# Instructions an operation, written by bench/micro --record.\n",
    "# ", first_line("cc --version"), "; ", jit.version, "; ", jit.arch, "\n")
  for _, row in ipairs(rows) do
    local name = row[1]
    if is_watched(name) then file:write(("%s\t%.1f\n"):format(name, counts[name])) end
  end
  file:close()
end

-- Returns whether all is as it was, or better.
local function check(rows, counts)
  local recorded, good = read_counts(recorded_path), true
  for _, row in ipairs(rows) do
    local name = row[1]
    local before, now = recorded[name], counts[name]
    local state
    if not is_watched(name) then
      state = nil
    elseif not before then
      state = "not recorded"
      good = false
    elseif now > before * MORE_MAX then
      state = "too many"
      good = false
    elseif now < before / MORE_MAX then
      state = "fewer: record it"
    else
      state = "ok"
    end
    if state then
      print(("%-18s %8.1f  recorded %8s  %s"):format(name, now,
        before and ("%.1f"):format(before) or "–", state))
    end
  end
  return good
end

local rows, counts = read_lines(rows_path), read_counts(counts_path)
assert(#rows > 0, "nothing was measured")
if mode == "check" then
  os.exit(check(rows, counts) and 0 or 1)
elseif mode == "record" then
  record(rows, counts)
else
  print_table(rows, counts)
end
