-- Reads what bench/load printed and prints the Markdown table and the verdicts.
--
--   luajit bench/summary.lua --turn-ms 250 --goal neap=0.95 --goal neap=1.2:nginx < turns
--   luajit bench/summary.lua --turn-ms 3000 --latency 1.1 < turns     (of an open loop)
--
-- Rows: the base, the base again (the A/A row: its ratios are what chance alone
-- does, and so the resolution of the table), then the others by name. A goal is a share of the
-- base, or of another target; --cpu-goal is one of CPU a message. --witness luv=0.95 names a server
-- that must not come nearer to the base, if that is a good one.

local turns = dofile("bench/turns.lua")
local median_of, ratios = turns.median_of, turns.ratios

local BASE, AGAIN, OURS = "plain C", "plain C again", "neap"
local LIMITS = { ["C on epoll"] = 3, ["C on io_uring"] = 4 } -- where they stand

-- What the house's rule asks of a figure, and where throughput stops deciding.
local ROUNDS_MIN, TURN_MIN_MS = 100, 250
local LATENCY_ROUNDS_MIN, LATENCY_TURN_MIN_MS = 9, 1000
local LOADER_BUSY_MAX, SERVER_BUSY_MIN = 0.95, 0.90

local function sort_rows(list)
  local rank = { [BASE] = 1, [AGAIN] = 2, [OURS] = 5 }
  table.sort(list, function(a, b)
    local left = rank[a.name] or LIMITS[a.name] or 6
    local right = rank[b.name] or LIMITS[b.name] or 6
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

local function print_skipped(target, columns)
  print_row { target.name, "skipped: " .. target.skipped, (" | "):rep(columns - 3) }
end

local function print_table(list, base)
  local columns = {
    "target", "msgs/s ÷ plain C", "10–90 %", "plain C's CPU ÷ CPU", "10–90 %",
    "msgs/s", "server CPU µs/msg", "server busy", "loader busy", "syscalls/msg", "p99 µs",
  }
  print_row(columns)
  print("|---|" .. ("---:|"):rep(#columns - 1))
  for _, target in ipairs(list) do
    if target.skipped then
      print_skipped(target, #columns)
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

local function print_verdict(target, other, half, goal)
  local by, why = "cpu", "CPU a message"
  if not goal.cpu then by, why = deciding(target, other) end
  local got, least = ratios(target, other)[by].median, goal.ratio
  local verdict = got >= least - half[by].span / 2 and "met"
    or ("not met, %.3f short"):format(least - got)
  print(("- %s, goal ≥ %.2f%s: %s (%s: %.3f against %.2f − %.3f)."):format(target.name, least,
    goal.of and " × " .. goal.of or "", verdict, why, got, least, half[by].span / 2))
end

local function is_there(target)
  return target and not target.skipped
end

local function print_goals(load, goals, base, half)
  for _, goal in ipairs(goals) do
    local target, other = load.by_name[goal.name], base
    if goal.of then other = load.by_name[goal.of] end
    if is_there(target) and is_there(other) then print_verdict(target, other, half, goal) end
  end
end

-- The best of the peers, by what both neap and it are limited by: CPU a message.
local function print_best_peer(list, by_name)
  local base, ours = by_name[BASE], by_name[OURS]
  local best, best_ratio
  for _, target in ipairs(list) do
    local peer = not (target.skipped or target == base or target.name:find("^" .. OURS)
      or target.name == AGAIN or LIMITS[target.name])
    local ratio = peer and ratios(target, base).cpu
    if ratio and (not best or ratio.median > best_ratio) then
      best, best_ratio = target.name, ratio.median
    end
  end
  if not best or not ours or ours.skipped then return end
  local own = ratios(ours, base).cpu.median
  print(("- %s %s every peer in CPU a message: %.3f of plain C, %s %.3f."):format(OURS,
    own > best_ratio and "is ahead of" or "is not ahead of", own, best, best_ratio))
end

local function print_credibility(by_name, witnesses)
  for _, witness in ipairs(witnesses) do
    local target = by_name[witness.name]
    if is_there(target) then
      local ratio = ratios(target, by_name[BASE])
      local reached = math.max(ratio.rate.median, ratio.cpu and ratio.cpu.median or 0)
      print(("- Is plain C credible? %s: %s reaches %.3f of it (≤ %.2f is asked)."):format(
        reached <= witness.ratio and "Yes" or "Not here", witness.name, reached, witness.ratio))
    end
  end
end

local function print_verdicts(load, options)
  local base, again = load.by_name[BASE], load.by_name[AGAIN]
  local ratio, rounds = ratios(again, base), turns.count(again)
  print(("\nResolution (A/A, 10–90 %% span): msgs/s %s, CPU %s; %d rounds of %d ms."):format(
    show("%.3f", ratio.rate.span), show("%.3f", ratio.cpu and ratio.cpu.span), rounds,
    options.turn_ms))
  print_credibility(load.by_name, options.witnesses)
  print_best_peer(load.list, load.by_name)
  if rounds < ROUNDS_MIN or options.turn_ms < TURN_MIN_MS then
    print(("No verdict: that takes %d rounds of %d ms."):format(ROUNDS_MIN, TURN_MIN_MS))
    return
  end
  print_goals(load, options.goals, base, ratio)
end

-- ---- latency, of an open loop ----

local LATENCIES = { "p50", "p99", "p999", "p9999" }

local function print_latencies(list, base)
  print_row { "target", "p50 µs", "p99 µs", "p99.9 µs", "p99.99 µs", "p99 ÷ plain C",
    "p99.9 ÷ plain C", "msgs/s", "server CPU µs/msg", "server busy" }
  print("|---|" .. ("---:|"):rep(9))
  for _, target in ipairs(list) do
    if target.skipped then
      print_skipped(target, 10)
    else
      local cells = { target.name }
      for _, field in ipairs(LATENCIES) do
        cells[#cells + 1] = show("%.0f", median_of(target, field), 1e6)
      end
      for _, field in ipairs { "p99", "p999" } do
        cells[#cells + 1] = ("%.3f"):format(median_of(target, field) / median_of(base, field))
      end
      cells[#cells + 1] = show("%.0f", median_of(target, "rate"))
      cells[#cells + 1] = show("%.2f", median_of(target, "cpu"), 1e6)
      cells[#cells + 1] = show("%.0f %%", median_of(target, "server_busy"), 100)
      print_row(cells)
    end
  end
end

local function print_latency_verdict(load, options)
  local base, ours = load.by_name[BASE], load.by_name[OURS]
  local rounds = turns.count(base)
  print(("\n%d messages/s are begun, %d %% of what the slower one can do; medians of %d rounds of "
    .. "%d ms."):format(load.rate, load.share, rounds, options.turn_ms))
  if rounds < LATENCY_ROUNDS_MIN or options.turn_ms < LATENCY_TURN_MIN_MS then
    print(("No verdict: that takes %d rounds of %d ms."):format(LATENCY_ROUNDS_MIN,
      LATENCY_TURN_MIN_MS))
  elseif ours and not ours.skipped then
    for _, field in ipairs { "p99", "p999" } do
      local one, again = median_of(base, field), median_of(load.by_name[AGAIN], field)
      local got = median_of(ours, field) / one
      print(("- %s, %s, goal ≤ %.1f × plain C: %s (%.3f; plain C again: %.3f)."):format(OURS,
        field == "p99" and "p99" or "p99.9", options.latency,
        got <= options.latency and "met" or "not met", got, again / one))
    end
  end
end

-- name=ratio, or name=ratio:other
local function parse_goal(text, by_cpu)
  local name, ratio, of = text:match("^(.+)=([%d.]+):?(.*)$")
  assert(name, "a goal is name=ratio or name=ratio:other")
  return { name = name, ratio = tonumber(ratio), of = of ~= "" and of or nil, cpu = by_cpu }
end

local function parse_arguments(arguments)
  local options = { goals = {}, witnesses = {} }
  for i = 1, #arguments, 2 do
    local value = arguments[i + 1] or ""
    if arguments[i] == "--turn-ms" then
      options.turn_ms = tonumber(value)
    elseif arguments[i] == "--latency" then
      options.latency = tonumber(value)
    elseif arguments[i] == "--goal" or arguments[i] == "--cpu-goal" then
      table.insert(options.goals, parse_goal(value, arguments[i] == "--cpu-goal"))
    elseif arguments[i] == "--witness" then
      table.insert(options.witnesses, parse_goal(value))
    else
      error("unknown argument " .. arguments[i], 0)
    end
  end
  assert(options.turn_ms, "--turn-ms is missing")
  return options
end

local options = parse_arguments(arg)
local load = assert(turns.read(io.lines())[1], "no turns")
local base = load.by_name[BASE]
assert(base and load.by_name[AGAIN], "the base and its A/A row are missing")
sort_rows(load.list)
if options.latency then
  print_latencies(load.list, base)
  print_latency_verdict(load, options)
else
  print_table(load.list, base)
  print_verdicts(load, options)
end
