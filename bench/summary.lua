-- Reads what bench/load printed and prints the Markdown table and the verdicts.
--
--   luajit summary.lua --turn-ms 250 --goal neap=0.95 < turns
--
-- Rows: the base, the base again (the A/A row: its ratios are what chance alone
-- does, and so the resolution of the table), then the others by name.

local BASE, AGAIN = "plain C", "plain C again"

-- What the house's rule asks of a figure, and where throughput stops deciding.
local ROUNDS_MIN, TURN_MIN_MS = 100, 250
local LOADER_BUSY_MAX, SERVER_BUSY_MIN = 0.95, 0.90

---@class Target
---@field name string
---@field turns table<integer, Turn> by round
---@field calls_per_message number?
---@field skipped string? the reason

---@class Turn
---@field rate number messages/s
---@field cpu number? server CPU seconds per message
---@field loader_busy number 0..1
---@field server_busy number? 0..1
---@field p99 number seconds

-- The q-quantile (0..1) of a list of numbers, interpolated; nil when it is empty.
local function quantile(list, q)
  if #list == 0 then return nil end
  local sorted = {}
  for i, value in ipairs(list) do sorted[i] = value end
  table.sort(sorted)
  local position = 1 + (#sorted - 1) * q
  local below = math.floor(position)
  local above = math.min(below + 1, #sorted)
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below)
end

local function median_of(target, field)
  local list = {}
  for _, turn in pairs(target.turns) do list[#list + 1] = turn[field] end
  return quantile(list, 0.5)
end

---@return {median: number, low: number, high: number, span: number}?
local function spread(list)
  if #list == 0 then return nil end
  local low, high = quantile(list, 0.1), quantile(list, 0.9)
  return { median = quantile(list, 0.5), low = low, high = high, span = high - low }
end

-- Ratios are taken within a round only: that is what interleaving is for. Above 1
-- means better than the base: more messages a second, less CPU a message.
local function ratios(target, base)
  local rate, cpu = {}, {}
  for round, turn in pairs(target.turns) do
    local against = assert(base.turns[round], "a round without the base")
    rate[#rate + 1] = turn.rate / against.rate
    if turn.cpu and against.cpu then cpu[#cpu + 1] = against.cpu / turn.cpu end
  end
  return { rate = spread(rate), cpu = spread(cpu) }
end

local function parse_turn(fields)
  local messages, seconds = tonumber(fields[3]), tonumber(fields[4])
  local loader, server = tonumber(fields[5]), tonumber(fields[6]) -- server "-": nil
  return {
    rate = messages / seconds,
    cpu = server and server / messages,
    loader_busy = loader / seconds,
    server_busy = server and server / seconds,
    p99 = tonumber(fields[8]) / 1e9,
  }
end

---@return Target[] list, table<string, Target> by_name, integer rounds
local function read_targets(lines)
  local list, by_name, rounds = {}, {}, 0
  local function target_named(name)
    if not by_name[name] then
      by_name[name] = { name = name, turns = {} }
      list[#list + 1] = by_name[name]
    end
    return by_name[name]
  end
  for line in lines do
    local fields = {}
    for field in line:gmatch("[^\t]+") do fields[#fields + 1] = field end
    local round = tonumber(fields[1])
    if round then
      rounds = math.max(rounds, round)
      target_named(fields[2]).turns[round] = parse_turn(fields)
    elseif fields[1] == "syscalls" then
      target_named(fields[2]).calls_per_message = tonumber(fields[3]) / tonumber(fields[4])
    elseif fields[1] == "skipped" then
      target_named(fields[2]).skipped = fields[3]
    end
  end
  return list, by_name, rounds
end

local function sort_rows(list)
  local rank = { [BASE] = 1, [AGAIN] = 2 }
  table.sort(list, function(a, b)
    local left, right = rank[a.name] or 3, rank[b.name] or 3
    if left ~= right then return left < right end
    return a.name < b.name
  end)
end

local function show(format, value, scale)
  return value and format:format(value * (scale or 1)) or "–"
end

local function show_spread(s)
  if not s then return "–", "–" end
  return ("%.3f"):format(s.median), ("%.3f–%.3f"):format(s.low, s.high)
end

local function print_row(cells)
  print("| " .. table.concat(cells, " | ") .. " |")
end

local function print_table(list, base)
  print_row {
    "target", "msgs/s ÷ plain C", "10–90 %", "plain C's CPU ÷ CPU", "10–90 %",
    "msgs/s", "server CPU µs/msg", "server busy", "loader busy", "syscalls/msg", "p99 µs",
  }
  print("|---|" .. ("---:|"):rep(10))
  for _, target in ipairs(list) do
    if target.skipped then
      print_row { target.name, "skipped: " .. target.skipped, (" | "):rep(8) }
    else
      local ratio = ratios(target, base)
      local rate, rate_span = show_spread(ratio.rate)
      local cpu, cpu_span = show_spread(ratio.cpu)
      print_row {
        target.name, rate, rate_span, cpu, cpu_span,
        show("%.0f", median_of(target, "rate")),
        show("%.2f", median_of(target, "cpu"), 1e6),
        show("%.0f %%", median_of(target, "server_busy"), 100),
        show("%.0f %%", median_of(target, "loader_busy"), 100),
        show("%.2f", target.calls_per_message),
        show("%.0f", median_of(target, "p99"), 1e6),
      }
    end
  end
end

-- Where the loader or something else held the servers back, messages a second say
-- nothing about them, and CPU a message decides. Returns "rate" or "cpu", and why.
local function deciding(target, base)
  for _, row in ipairs { base, target } do
    local loader, server = median_of(row, "loader_busy"), median_of(row, "server_busy")
    if server and loader >= LOADER_BUSY_MAX then
      return "cpu", ("CPU a message decides, for the loader was %.0f %% busy with %s"):format(
        loader * 100, row.name)
    elseif server and server < SERVER_BUSY_MIN then
      return "cpu", ("CPU a message decides, for %s was only %.0f %% busy"):format(
        row.name, server * 100)
    end
  end
  return "rate", "messages a second decide"
end

local function print_verdict(target, base, again, goal)
  local by, why = deciding(target, base)
  local got, half = ratios(target, base)[by].median, ratios(again, base)[by].span / 2
  local verdict = got >= goal - half and "met"
    or ("not met, %.3f short"):format(goal - got)
  print(("- %s, goal ≥ %.2f: %s (%s: %.3f against %.2f − %.3f)."):format(
    target.name, goal, verdict, why, got, goal, half))
end

local function print_verdicts(list, by_name, goals, rounds, turn_ms)
  local base, again = by_name[BASE], by_name[AGAIN]
  local ratio = ratios(again, base)
  print(("\nResolution (A/A, 10–90 %% span): msgs/s %s, CPU %s; %d rounds of %d ms."):format(
    show("%.3f", ratio.rate.span), show("%.3f", ratio.cpu and ratio.cpu.span), rounds, turn_ms))
  if rounds < ROUNDS_MIN or turn_ms < TURN_MIN_MS then
    print(("No verdict: that takes %d rounds of %d ms."):format(ROUNDS_MIN, TURN_MIN_MS))
    return
  end
  for _, target in ipairs(list) do
    if goals[target.name] and not target.skipped then
      print_verdict(target, base, again, goals[target.name])
    end
  end
end

local function parse_arguments(arguments)
  local turn_ms, goals = nil, {}
  for i = 1, #arguments, 2 do
    local value = arguments[i + 1] or ""
    if arguments[i] == "--turn-ms" then
      turn_ms = tonumber(value)
    elseif arguments[i] == "--goal" then
      local name, goal = value:match("^(.+)=([%d.]+)$")
      goals[assert(name, "--goal takes name=ratio")] = tonumber(goal)
    else
      error("unknown argument " .. arguments[i], 0)
    end
  end
  return assert(turn_ms, "--turn-ms is missing"), goals
end

local turn_ms, goals = parse_arguments(arg)
local list, by_name, rounds = read_targets(io.lines())
assert(by_name[BASE] and by_name[AGAIN], "the base and its A/A row are missing")
sort_rows(list)
print_table(list, by_name[BASE])
print_verdicts(list, by_name, goals, rounds, turn_ms)
