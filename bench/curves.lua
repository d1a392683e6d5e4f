-- Draws one of the curves of bench/curves and prints its table.
--
--   luajit bench/curves.lua CURVE DIRECTORY < measured

local plot = dofile("tools/plot.lua")
local turns = dofile("bench/turns.lua")

local curve, directory = arg[1], arg[2]
local BASE, AGAIN = "plain C", "plain C again"

local function print_row(cells)
  print("| " .. table.concat(cells, " | ") .. " |")
end

-- Prints a table with a column for each series and writes a picture of the same.
-- rows: the x values in order; value(series, x) → number or nil, low, high
local function show(name, spec, names, rows, value, format)
  local heading = { spec.x.label }
  for _, series in ipairs(names) do heading[#heading + 1] = series end
  print(("### %s\n"):format(spec.title))
  print(("![%s](curves/%s.svg)\n"):format(spec.title, name))
  print_row(heading)
  print("|---:|" .. ("---:|"):rep(#names))
  for _, x in ipairs(rows) do
    local cells = { (spec.x.format or tostring)(x) }
    for _, series in ipairs(names) do
      local y = value(series, x)
      cells[#cells + 1] = y and format:format(y) or "–"
    end
    print_row(cells)
  end
  print()
  spec.series = {}
  for _, series in ipairs(names) do
    local points = {}
    for _, x in ipairs(rows) do
      local y, low, high = value(series, x)
      if y then points[#points + 1] = { x, y, low, high } end
    end
    if #points > 0 then
      spec.series[#spec.series + 1] = { name = series, points = points,
        dashed = series:find(BASE, 1, true) ~= nil, colour = spec.colours and spec.colours[series] }
    end
  end
  local file = assert(io.open(("%s/%s.svg"):format(directory, name), "w"))
  file:write(plot.svg(spec))
  file:close()
end

-- ---- of bench/table ----

local RANK = { "neap", BASE, AGAIN, "C on epoll", "C on io_uring", "luv", "cqueues", "copas",
  "tarantool", "node", "go" }

local function names_in(loads)
  local names = {}
  for _, name in ipairs(RANK) do
    for _, load in ipairs(loads) do
      if load.by_name[name] and not load.by_name[name].skipped then
        names[#names + 1] = name
        break
      end
    end
  end
  return names
end

local function throughput_and_cpu(loads, key, axis, what)
  local by_x, rows = {}, {}
  for _, load in ipairs(loads) do
    rows[#rows + 1] = load[key]
    by_x[load[key]] = load
  end
  axis.ticks, axis.log = rows, true
  local names = names_in(loads)
  local function target(name, x)
    local found = by_x[x].by_name[name]
    return found and not found.skipped and found, by_x[x].by_name[BASE]
  end
  show(curve .. "-throughput", { title = "Throughput: " .. what, x = axis,
    y = { label = "messages/s ÷ plain C", from = 0 } }, names, rows,
    function(name, x)
      local found, base = target(name, x)
      if not found then return nil end
      local rate = turns.ratios(found, base).rate
      return rate.median, name ~= BASE and rate.low or nil, rate.high
    end, "%.3f")
  show(curve .. "-cpu", { title = "CPU a message: " .. what, x = axis,
    y = { label = "server CPU, µs a message", from = curve == "connections" and 0 or nil,
      log = curve ~= "connections" } }, names, rows,
    function(name, x)
      local found = target(name, x)
      return found and turns.median_of(found, "cpu") * 1e6
    end, "%.2f")
end

local draw = {}

function draw.connections(lines)
  throughput_and_cpu(turns.read(lines), "connections", { label = "connections" },
    "64 bytes, by connections")
end

function draw.sizes(lines)
  throughput_and_cpu(turns.read(lines), "size", { label = "bytes a message",
    format = plot.bytes }, "64 connections, by size")
end

function draw.pipelining(lines)
  throughput_and_cpu(turns.read(lines), "at_once", { label = "messages at once" },
    "64 × 64 bytes, by messages at once")
end

local LATENCIES = {
  { "p50", "p50", "#1f77b4" }, { "p99", "p99", "#2ca02c" }, { "p999", "p99.9", "#ff7f0e" },
  { "p9999", "p99.99", "#d62728" },
}

function draw.latency(lines)
  local by_rate, rows, names, fields, colours = {}, {}, {}, {}, {}
  for _, load in ipairs(turns.read(lines)) do
    if load.rate then
      rows[#rows + 1] = load.share
      by_rate[load.share] = load
    end
  end
  for _, pair in ipairs(LATENCIES) do
    for _, server in ipairs { "neap", BASE } do
      local name = server .. ", " .. pair[2]
      names[#names + 1], fields[name], colours[name] = name, { server, pair[1] }, pair[3]
    end
  end
  show("latency", { title = "Latency: 64 connections × 64 bytes, open loop", colours = colours,
    x = { label = "load, % of the capacity of the slower one" },
    y = { label = "µs from when it was due", log = true } }, names, rows,
    function(name, x)
      local server, field = unpack(fields[name])
      local target = by_rate[x].by_name[server]
      return target and turns.median_of(target, field) * 1e6
    end, "%.0f")
end

-- ---- tab-separated values: name, count, value ----

local function read_values(lines)
  local names, values, rows = {}, {}, {}
  for line in lines do
    local name, count, value = line:match("^([^\t]+)\t(%d+)\t(-?[%d.]+)$")
    local skipped, why = line:match("^skipped\t(.-)\t(.*)$")
    if skipped then
      print(("%s is skipped: %s\n"):format(skipped, why))
    elseif name then
      if not values[name] then
        names[#names + 1], values[name], rows[name] = name, {}, {}
      end
      count = tonumber(count)
      if not values[name][count] then table.insert(rows[name], count) end
      values[name][count] = math.min(values[name][count] or math.huge, tonumber(value))
    end
  end
  return names, values, rows
end

local IDLE = { neap = "neap, a task each", neap_serve = "neap.serve", echo_c = BASE }

function draw.memory(lines)
  local names, values, rows = read_values(lines)
  for i, name in ipairs(names) do
    local title = IDLE[name] or name
    names[i], values[title], rows[title] = title, values[name], rows[name]
  end
  show("memory", { title = "Memory: idle connections, one message each",
    x = { label = "connections", ticks = rows[names[1]], log = true },
    y = { label = "resident MiB more than without", log = true } }, names, rows[names[1]],
    function(name, count)
      local bytes = values[name][count]
      return bytes > 0 and bytes / 2 ^ 20 or nil -- less than a page shows
    end, "%.2f")
end

local GROWTH = {
  slices = { "a slice allocated and released", "live slices" },
  bufs = { "a buf taken and given back", "free bufs" },
  timers = { "a timer set and cleared", "pending timers" },
  turns = { "a turn of the loop, with a sleep(0)", "pending timers" },
}

function draw.growth(lines)
  local names, values, rows = read_values(lines)
  for _, name in ipairs(names) do
    local title, label = unpack(GROWTH[name])
    local counts, none = {}, values[name][0] -- for which a logarithmic axis has no place
    for i, count in ipairs(rows[name]) do counts[i] = math.max(count, 1) end
    values[name][1] = values[name][1] or none
    show("growth-" .. name, { title = "Growth: " .. title,
      x = { label = label, log = true, ticks = counts,
        format = function(count) return none and count == 1 and "0" or plot.short(count) end },
      y = { label = "ns", from = 0 } }, { "neap" }, counts,
      function(_, count) return values[name][count] end, "%.1f")
  end
end

draw[curve](io.lines())
