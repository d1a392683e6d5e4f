--- Draws lines over an axis as SVG, for the figures in docs/.
---
---     local plot = dofile("tools/plot.lua")
---     io.write(plot.svg{
---       title = "CPU a message",
---       x = { label = "connections", log = true, ticks = { 1, 64, 512, 5000 } },
---       y = { label = "µs", from = 0 },
---       series = { { name = "neap", points = { { 1, 5.1 }, { 64, 4.9, 4.7, 5.2 } } } },
---     })
---
--- A point is {x, y} or {x, y, low, high}: a bar from low to high stands behind it. An axis takes
--- log, from, to, ticks (a list of values) and format (value → text); what is not given follows
--- from the points. A series may be dashed, or have no line (marks = true); lines = {{y, name}}
--- draws level ones. To look at one: rsvg-convert x.svg -o x.png.

local M = {}

local WIDTH, HEIGHT = 640, 400
local LEFT, RIGHT, TOP, BOTTOM = 74, 20, 40, 54 -- around the plot
local LEGEND_ROW, LETTER = 17, 6.6              -- px; a letter's width, about
local COLOURS = { "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b",
  "#e377c2", "#7f7f7f", "#bcbd22", "#111111" }
local GREY, LIGHT = "#444444", "#dddddd"

local escapes = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function escape(text) return (tostring(text):gsub('[&<>"]', escapes)) end

-- UTF-8 letters, not bytes.
local function length(text) return select(2, tostring(text):gsub("[^\128-\191]", "")) end

--- 1200000 → "1.2 M", 0.00025 → "0.00025"
function M.short(value)
  local size = math.abs(value)
  for _, unit in ipairs { { 1e9, " G" }, { 1e6, " M" }, { 1e4, " k", 1e3 } } do
    if size >= unit[1] then return ("%.4g%s"):format(value / (unit[3] or unit[1]), unit[2]) end
  end
  return ("%.4g"):format(value)
end

--- 65536 → "64 KiB"
function M.bytes(value)
  for _, unit in ipairs { { 2 ^ 30, " GiB" }, { 2 ^ 20, " MiB" }, { 2 ^ 10, " KiB" } } do
    if value >= unit[1] then return ("%.4g%s"):format(value / unit[1], unit[2]) end
  end
  return ("%.4g B"):format(value)
end

-- ---- axes ----

local function each_value(series, visit)
  for _, one in ipairs(series) do
    for _, point in ipairs(one.points) do visit(point) end
  end
end

-- The least and the largest of what an axis has to show.
local function extent(spec, which, axis)
  local low, high = math.huge, -math.huge
  local function widen(value)
    if not value or (axis.log and value <= 0) then return end
    low, high = math.min(low, value), math.max(high, value)
  end
  each_value(spec.series, function(point)
    widen(point[which])
    if which == 2 then widen(point[3]); widen(point[4]) end
  end)
  if which == 2 then
    for _, line in ipairs(spec.lines or {}) do widen(line[1]) end
  end
  assert(low <= high, "plot: there is nothing to draw")
  return axis.from or low, axis.to or high
end

-- 1, 2 or 5 times a power of ten, so that about `count` of them cover the range.
local function nice_step(range, count)
  local rough = range / count
  local power = 10 ^ math.floor(math.log10(rough))
  for _, factor in ipairs { 1, 2, 5 } do
    if factor * power >= rough then return factor * power end
  end
  return 10 * power
end

local function linear_axis(axis, low, high)
  if low == high then low, high = low - math.abs(low) / 2 - 0.5, high + math.abs(high) / 2 + 0.5 end
  local step = nice_step(high - low, 6)
  low = axis.from or math.floor(low / step + 1e-9) * step
  high = axis.to or math.ceil(high / step - 1e-9) * step
  local ticks = {}
  for i = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) do
    ticks[#ticks + 1] = i * step + 0 -- -0 is written as 0
  end
  return low, high, ticks
end

local function log_axis(axis, low, high)
  local from, to = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
  if from == to then to = to + 1 end
  local ticks = {}
  for power = from, to do
    for _, factor in ipairs(to - from > 2 and { 1 } or { 1, 2, 5 }) do
      ticks[#ticks + 1] = factor * 10 ^ power
    end
  end
  if axis.ticks then return low, high, ticks end
  return axis.from or 10 ^ from, axis.to or 10 ^ to, ticks
end

-- Returns where a value stands (0..1), the ticks, and how they are written.
local function axis_of(spec, which)
  local axis = spec[which == 1 and "x" or "y"] or {}
  local scale = axis.log and log_axis or linear_axis
  local low, high, ticks = scale(axis, extent(spec, which, axis))
  local function place(value)
    if axis.log then return math.log(value / low) / math.log(high / low) end
    return (value - low) / (high - low)
  end
  local shown = {}
  for _, tick in ipairs(axis.ticks or ticks) do
    local at = place(tick)
    if at >= -1e-6 and at <= 1 + 1e-6 then shown[#shown + 1] = tick end
  end
  return place, shown, axis.format or M.short, axis.label
end

-- ---- drawing ----

local function text(x, y, words, more)
  return ('<text x="%.1f" y="%.1f" %s>%s</text>'):format(x, y, more or "", escape(words))
end

local function line(x1, y1, x2, y2, more)
  return ('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>'):format(x1, y1, x2, y2, more)
end

local marks = {
  function(x, y) return ('<circle cx="%.1f" cy="%.1f" r="3.2"/>'):format(x, y) end,
  function(x, y) return ('<rect x="%.1f" y="%.1f" width="6" height="6"/>'):format(x - 3, y - 3) end,
  function(x, y)
    return ('<path d="M%.1f %.1fl3.8 6.6h-7.6z"/>'):format(x, y - 4.2)
  end,
  function(x, y)
    return ('<path d="M%.1f %.1fl4 4l-4 4l-4 -4z"/>'):format(x, y - 4)
  end,
}

local function mark_of(i) return marks[(i - 1) % #marks + 1] end

local function draw_series(out, one, i, place_x, place_y)
  local colour, path = one.colour or COLOURS[(i - 1) % #COLOURS + 1], {}
  out[#out + 1] = ('<g fill="%s" stroke="%s">'):format(colour, colour)
  for _, point in ipairs(one.points) do
    local x, y = place_x(point[1]), place_y(point[2])
    if point[3] and point[4] then
      out[#out + 1] = line(x, place_y(point[3]), x, place_y(point[4]),
        'stroke-opacity="0.35" stroke-width="5"')
    end
    path[#path + 1] = ("%s%.1f %.1f"):format(#path == 0 and "M" or "L", x, y)
  end
  if not one.marks then
    out[#out + 1] = ('<path d="%s" fill="none" stroke-width="1.8"%s/>'):format(table.concat(path),
      one.dashed and ' stroke-dasharray="6 4"' or "")
  end
  if #one.points <= 40 then
    for _, point in ipairs(one.points) do
      out[#out + 1] = mark_of(i)(place_x(point[1]), place_y(point[2]))
    end
  end
  out[#out + 1] = "</g>"
end

-- Below the title, in as many rows as it takes. Returns the height.
local function draw_legend(out, series, top)
  local x, y = LEFT, top
  for i, one in ipairs(series) do
    local width = 34 + LETTER * length(one.name)
    if x + width > WIDTH - RIGHT and x > LEFT then x, y = LEFT, y + LEGEND_ROW end
    local colour = one.colour or COLOURS[(i - 1) % #COLOURS + 1]
    out[#out + 1] = ('<g fill="%s" stroke="%s">'):format(colour, colour)
    if not one.marks then
      out[#out + 1] = line(x, y - 4, x + 20, y - 4, 'stroke-width="1.8"'
        .. (one.dashed and ' stroke-dasharray="6 4"' or ""))
    end
    out[#out + 1] = mark_of(i)(x + 10, y - 4) .. "</g>"
    out[#out + 1] = text(x + 25, y, one.name)
    x = x + width
  end
  return y - top + LEGEND_ROW
end

local function draw_frame(out, spec, box, places)
  for _, tick in ipairs(places.ticks_x) do
    local x = places.x(tick)
    out[#out + 1] = line(x, box.top, x, box.bottom, 'stroke="' .. LIGHT .. '"')
    out[#out + 1] = text(x, box.bottom + 17, places.format_x(tick), 'text-anchor="middle"')
  end
  for _, tick in ipairs(places.ticks_y) do
    local y = places.y(tick)
    out[#out + 1] = line(box.left, y, box.right, y, 'stroke="' .. LIGHT .. '"')
    out[#out + 1] = text(box.left - 7, y + 4, places.format_y(tick), 'text-anchor="end"')
  end
  out[#out + 1] = ('<rect x="%d" y="%d" width="%d" height="%d" fill="none" stroke="%s"/>'):format(
    box.left, box.top, box.right - box.left, box.bottom - box.top, GREY)
  for _, level in ipairs(spec.lines or {}) do
    local y = places.y(level[1])
    out[#out + 1] = line(box.left, y, box.right, y, ('stroke="%s" stroke-dasharray="2 3"'):format(
      GREY))
    out[#out + 1] = text(box.right - 4, y - 4, level[2], 'text-anchor="end" fill="' .. GREY .. '"')
  end
  out[#out + 1] = text((box.left + box.right) / 2, HEIGHT - 12, places.label_x or "",
    'text-anchor="middle"')
  local middle = (box.top + box.bottom) / 2
  out[#out + 1] = text(16, middle, places.label_y or "",
    ('text-anchor="middle" transform="rotate(-90 16 %.1f)"'):format(middle))
end

local function head(title)
  return { ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" '
    .. 'font-family="sans-serif" font-size="12">'):format(WIDTH, HEIGHT, WIDTH, HEIGHT),
    ('<rect width="%d" height="%d" fill="white"/>'):format(WIDTH, HEIGHT),
    text(LEFT, 22, title or "", 'font-size="15" font-weight="bold"') }
end

--- @param spec table title · x, y: axes · series · lines
--- @return string svg
function M.svg(spec)
  local out = head(spec.title)
  local legend = draw_legend(out, spec.series, TOP)
  local box = { left = LEFT, right = WIDTH - RIGHT, top = TOP + legend - 6,
    bottom = HEIGHT - BOTTOM }
  local at_x, ticks_x, format_x, label_x = axis_of(spec, 1)
  local at_y, ticks_y, format_y, label_y = axis_of(spec, 2)
  local places = {
    x = function(value) return box.left + at_x(value) * (box.right - box.left) end,
    y = function(value) return box.bottom - at_y(value) * (box.bottom - box.top) end,
    ticks_x = ticks_x, ticks_y = ticks_y, format_x = format_x, format_y = format_y,
    label_x = label_x, label_y = label_y,
  }
  draw_frame(out, spec, box, places)
  for i, one in ipairs(spec.series) do draw_series(out, one, i, places.x, places.y) end
  out[#out + 1] = "</svg>\n"
  return table.concat(out, "\n")
end

return M
