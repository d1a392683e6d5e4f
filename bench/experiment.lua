-- experiment: what a pool costs whose buffers are forgotten, and what becomes of memory that was
-- needed once. Run by ./neap; see docs/experiment.md.
--
--   ./neap bench/experiment.lua             runs all arms, prints the tables
--   ./neap bench/experiment.lua --plots DIR and draws the plots there
--   ./neap bench/experiment.lua --quick     a twentieth of it

local plot = dofile("bench/plot.lua")

local quick, plots
for i = 1, #arg do
  if arg[i] == "--quick" then quick = true
  elseif arg[i] == "--plots" then plots = assert(arg[i + 1], "--plots needs a directory")
  elseif arg[i - 1] ~= "--plots" then error("no option " .. arg[i], 0) end
end
local part = quick and 0.05 or 1

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local neap = quoted(arg[-1] or "./neap")

-- Runs an arm in a process of its own.
local function run(name)
  local of = { residents = {}, uses = {} }
  local pipe = assert(io.popen(("%s bench/experiment_arms.lua %s %g"):format(neap, name, part)))
  for line in pipe:lines() do
    local at, resident, in_use = line:match("^at (%S+) (%S+) (%S+) %S+$")
    local key, value = line:match("^result (%S+) (%S+)$")
    if at then
      at = tonumber(at)
      table.insert(of.residents, { at, resident / 1e6 })
      table.insert(of.uses, { at, in_use / 1e6 })
    elseif key then
      of[key] = tonumber(value)
    end
  end
  pipe:close()
  assert(of.resident_peak, name .. " did not come to its end")
  return of
end

local function mb(bytes)
  if not bytes then return "-" end
  if bytes >= 1e9 then return ("%.1f GB"):format(bytes / 1e9) end
  if bytes >= 1e6 then return ("%.1f MB"):format(bytes / 1e6) end
  return ("%.0f KB"):format(bytes / 1e3)
end

local function say(...) io.stdout:write(string.format(...), "\n") end

local function row(cells, widths)
  local out = {}
  for i, cell in ipairs(cells) do
    out[i] = cell .. (" "):rep(widths[i] - select(2, cell:gsub("[^\128-\191]", "")))
  end
  say("%s", (table.concat(out, "  "):gsub("%s+$", "")))
end

local function tabulate(rows)
  local widths = {}
  for _, cells in ipairs(rows) do
    for i, cell in ipairs(cells) do
      local wide = select(2, cell:gsub("[^\128-\191]", ""))
      widths[i] = math.max(widths[i] or 0, wide)
    end
  end
  for _, cells in ipairs(rows) do row(cells, widths) end
  say("")
end

-- ---- bodies ----

local body_arms = { "released", "forgotten", "detached", "naive_released", "naive_forgotten" }
local titles = {
  released = "released", forgotten = "forgotten", detached = "detached",
  naive_released = "naive, put back", naive_forgotten = "naive, not put back",
}
local body = {}
for _, name in ipairs(body_arms) do body[name] = run(name) end
local compared = run("compare")

local function figure(title, of, ...)
  local cells = { title }
  for _, name in ipairs(body_arms) do cells[#cells + 1] = of(body[name]) end
  for _, cell in ipairs { ... } do cells[#cells + 1] = cell end
  return cells
end

local head = { ("%.0f bodies of 30,000 bytes"):format(body.released.requests) }
for _, name in ipairs(body_arms) do head[#head + 1] = titles[name] end
head[#head + 1], head[#head + 2] = "Go, put back", "Go, not put back"

local function count(key)
  return function(of) return of[key] and ("%.0f"):format(of[key]) or "-" end
end

tabulate {
  head,
  figure("resident memory, mean", function(of) return mb(of.resident_mean) end, "8 MB", "46 MB"),
  figure("resident memory, most", function(of) return mb(of.resident_peak) end, "", ""),
  figure("bytes in use, at the end", function(of) return mb(of.in_use) end, "512 KB", "512 KB"),
  figure("bytes in use, most", function(of) return mb(of.in_use_peak) end, "", ""),
  figure("bytes allocated over the run", function(of) return mb(of.allocated) end, "512 KB",
    "49 GB, growing"),
  figure("time a body", function(of) return ("%.2f µs"):format(of.time_us) end, "1.02 µs",
    "8.3–10.2 µs"),
  figure("… of the processor", function(of) return ("%.2f µs"):format(of.cpu_us) end, "100 %",
    "200 %"),
  figure("of it neap's steps of the collector", function(of)
    return of.collector_share and ("%.0f %%"):format(100 * of.collector_share) or "-"
  end, "", ""),
  figure("bufs made", count("bufs_made"), "", ""),
  figure("slices released by hand", count("by_hand"), "", ""),
  figure("slices released by the collector", count("by_collector"), "", ""),
}

local function more(times) return ("%+.1f %%"):format(100 * (times - 1)) end

say("A memcpy of the same bytes to the same place, in turns with two ways to put a body into a "
  .. "pool, the\nmedian of many: memcpy %.0f ns; a slice, released: %s; a buffer, emptied: %s; the "
  .. "memcpy beside\nitself: %s.\n", compared.memcpy_ns, more(compared.released),
  more(compared.buffer), more(compared.again))

-- ---- the other traps ----

local traps = {
  { "grown", "one message of 100 MB, then small ones" },
  { "missized", "20,000 messages of 512 bytes, kept" },
  { "slivers", "10 bytes kept of each of 3,000 reads of 64 KiB" },
  { "burst", "10,000 × 64 KiB at once, then nothing" },
}
local trap, rows = {}, { { "what happens", "pool", "resident, most", "at the end",
  "held for it at the end", "of which asked for" } }
for _, of in ipairs(traps) do
  for _, kind in ipairs { "", "naive_" } do
    local got = run(kind .. of[1])
    trap[kind .. of[1]] = got
    rows[#rows + 1] = { kind == "" and of[2] or "", kind == "" and "neap" or "naive",
      mb(got.resident_peak), mb(got.resident_end), mb(got.in_use),
      got.asked and ("%.1f %%"):format(100 * got.asked / got.in_use) or "-" }
  end
end
tabulate(rows)

-- ---- plots ----

local function line(title, points, dashed)
  return { name = title, points = points, dashed = dashed }
end

local function two(name)
  return { line("neap", trap[name].residents),
    line("a naive pool", trap["naive_" .. name].residents) }
end

if plots then
  local resident, in_use = {}, {}
  for _, name in ipairs(body_arms) do
    local dashed = name == "detached" or name == "naive_released" -- which lie upon others
    table.insert(resident, line(titles[name], body[name].residents, dashed))
    table.insert(in_use, line(titles[name], body[name].uses, dashed))
  end
  plot.write(plots .. "/experiment-bodies.svg", { title = "Bodies that are released or forgotten",
    panels = {
      { title = "Resident memory, MB", series = resident },
      { title = "Bytes in use, MB (a logarithmic scale)", series = in_use,
        log = true },
    } })
  plot.write(plots .. "/experiment-traps.svg", { title = "Memory that was needed once",
    panels = {
      { title = "Resident MB: one message of 100 MB", series = two("grown") },
      { title = "Resident MB: 20,000 messages of 512 bytes", series = two("missized") },
      { title = "Resident MB: 10 bytes kept of each 64 KiB", series = two("slivers") },
      { title = "Resident MB: 10,000 × 64 KiB at once", series = two("burst") },
    } })
  say("drawn: %s/experiment-bodies.svg, %s/experiment-traps.svg", plots, plots)
end
