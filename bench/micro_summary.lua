-- Reads what bench/micro measured and prints the Markdown table, or checks or writes the
-- recorded instruction counts.
--
--   luajit bench/micro_summary.lua table|quick|check|record RECORDED ROWS COUNTS
--   luajit bench/micro_summary.lua watched RECORDED ROWS    prints the rows that check looks at
--
-- ROWS: name, what, goal in ns (0: none), ns, bytes of garbage ("-": C makes none), unit.
-- COUNTS and RECORDED: name, instructions an operation. All tab-separated.

local recorded = dofile("bench/recorded.lua")

local SHOWN_BYTES = 0.005 -- less garbage an operation is none: a new buf, once in many

local MALLOC_TIMES_MAX = 2.5 -- of malloc and free, for a slice allocated and released

local mode, recorded_path, rows_path, counts_path = unpack(arg)

-- Lists of fields. Lines with # are comments.
local function read_lines(path)
  local lines = {}
  local file = assert(io.open(path))
  for line in file:lines() do
    local fields = {}
    for field in line:gmatch("[^\t]+") do fields[#fields + 1] = field end
    if line:sub(1, 1) ~= "#" then lines[#lines + 1] = fields end
  end
  file:close()
  return lines
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

-- A slice beside what the C library takes for as many bytes, in the same run.
local function print_beside_malloc(rows)
  local ns = {}
  for _, row in ipairs(rows) do ns[row[1]] = tonumber(row[4]) end
  if not ns["c.alloc"] or not ns["c.malloc"] then return end
  local times = ns["c.alloc"] / ns["c.malloc"]
  print(("\n- `c.alloc`, goal ≤ %.1f × `c.malloc`: %s (%.2f)."):format(MALLOC_TIMES_MAX,
    times <= MALLOC_TIMES_MAX and "met" or "not met", times))
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
  if mode == "quick" then
    print("\nNo verdict: that takes 20 rounds of 20 ms.")
  else
    print_beside_malloc(rows)
  end
end

-- The C library's malloc is not ours to watch, and for coalesce, and where tasks are resumed,
-- LuaJIT chooses among traces that differ by a factor of two.
local unwatched = { ["c.malloc"] = true, ["lua.coalesce"] = true, ["lua.coalesce_4096"] = true,
  ["lua.spawn"] = true, ["lua.scope"] = true, ["lua.scope_spawn"] = true,
  ["lua.deadline"] = true, ["lua.channel_0"] = true, ["lua.channel_16"] = true }

-- Name and count of what is watched, in the order of the rows.
local function watched(rows, counts)
  local list = {}
  for _, row in ipairs(rows) do
    if not unwatched[row[1]] then list[#list + 1] = { row[1], counts[row[1]] } end
  end
  return list
end

local rows = read_lines(rows_path)
assert(#rows > 0, "nothing was measured")
if mode == "watched" then
  for _, row in ipairs(rows) do
    if not unwatched[row[1]] then print(table.concat(row, "\t")) end
  end
  os.exit(0)
end

local counts = recorded.read(counts_path)
if mode == "check" then
  os.exit(recorded.check(recorded_path, watched(rows, counts)) and 0 or 1)
elseif mode == "record" then
  recorded.write(recorded_path, "bench/micro --record", watched(rows, counts))
else
  print_table(rows, counts)
end
