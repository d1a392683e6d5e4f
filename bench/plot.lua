-- plot: lines over time, as SVG, for the experiment.
--
--   plot.write(path, { title = "…", panels = { { title = "…, MB", series = {
--     { name = "…", points = { { 0, 1 }, { 0.5, 2 } } } } } } })
--
-- Two panels stand side by side; each has its own scales, which begin at 0, or are powers of ten
-- (log = true). A series may be dashed, to be seen with what lies below it.

local M = {}

local WIDTH, HEIGHT = 400, 260          -- of a panel, with what is around it
local LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 40
local LEGEND = 18                       -- a line of it
local COLORS = { "#1b6ca8", "#c8553d", "#4a8f4d", "#8a63a8", "#b08a2e", "#5f6b75" }
local FONT = 'font-family="Helvetica, Arial, sans-serif"'

-- A round number at or above n: 1, 2 or 5 times a power of ten.
local function round_up(n)
  local power = 10 ^ math.floor(math.log(n) / math.log(10))
  for _, step in ipairs { 1, 2, 5, 10 } do
    if n <= step * power * 1.0001 then return step * power end
  end
end

local COLUMNS = 2

-- Powers of ten around what is above 0.
local function decades(panel)
  local low, high = math.huge, 0
  for _, series in ipairs(panel.series) do
    for _, point in ipairs(series.points) do
      if point[2] > 0 then low, high = math.min(low, point[2]), math.max(high, point[2]) end
    end
  end
  local result = {}
  for power = math.floor(math.log10(low)), math.ceil(math.log10(high)) do
    result[#result + 1] = 10 ^ power
  end
  return result
end

local function ticks(most)
  local step = round_up(most / 5)
  local result = {}
  for i = 0, math.ceil(most / step - 1e-9) do result[#result + 1] = i * step end
  return result
end

local function escaped(text)
  return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }))
end

local function largest(panel, column)
  local most = 0
  for _, series in ipairs(panel.series) do
    for _, point in ipairs(series.points) do most = math.max(most, point[column]) end
  end
  return most > 0 and most or 1
end

local function draw_panel(out, panel, left, top)
  local function add(format, ...) out[#out + 1] = format:format(...) end
  local function text(x, y, anchor, size, words)
    add('<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" %s fill="#333">%s</text>', x, y,
      anchor, size, FONT, escaped(words))
  end
  local xs = ticks(largest(panel, 1))
  local ys = panel.log and decades(panel) or ticks(largest(panel, 2))
  local x_most, y_least, y_most = xs[#xs], ys[1], ys[#ys]
  local wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
  local function at_x(x) return left + LEFT + x / x_most * wide end
  local function at_y(y)
    local part = panel.log and math.log(y / y_least) / math.log(y_most / y_least) or y / y_most
    return top + TOP + high - part * high
  end
  text(left + LEFT, top + TOP - 14, "start", 13, panel.title)
  for _, y in ipairs(ys) do
    add('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>', at_x(0), at_y(y),
      at_x(x_most), at_y(y))
    text(at_x(0) - 6, at_y(y) + 4, "end", 11, ("%g"):format(y))
  end
  local bottom = at_y(y_least)
  for _, x in ipairs(xs) do text(at_x(x), bottom + 16, "middle", 11, ("%g"):format(x)) end
  text(at_x(x_most / 2), bottom + 32, "middle", 11, "seconds")
  for i, series in ipairs(panel.series) do
    local points = {}
    for _, point in ipairs(series.points) do
      if not panel.log or point[2] > 0 then
        points[#points + 1] = ("%.1f,%.1f"):format(at_x(point[1]), at_y(point[2]))
      end
    end
    local dashes = series.dashed and ' stroke-dasharray="5 5"' or ""
    add('<polyline fill="none" stroke="%s" stroke-width="1.6"%s points="%s"/>', COLORS[i], dashes,
      table.concat(points, " "))
    local y = top + HEIGHT + (i - 1) * LEGEND
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="3"%s/>', left + LEFT,
      y, left + LEFT + 22, y, COLORS[i], dashes)
    text(left + LEFT + 28, y + 4, "start", 12, series.name)
  end
end

--- Writes the drawing.
function M.write(path, plot)
  local lines = 0
  for _, panel in ipairs(plot.panels) do lines = math.max(lines, #panel.series) end
  local row_high = HEIGHT + lines * LEGEND + 6
  local width, height = WIDTH * COLUMNS, row_high * math.ceil(#plot.panels / COLUMNS)
  local out = { ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
    .. 'viewBox="0 0 %d %d">'):format(width, height, width, height),
    "<title>" .. escaped(plot.title) .. "</title>",
    '<rect width="100%" height="100%" fill="white"/>' }
  for i, panel in ipairs(plot.panels) do
    local column = (i - 1) % COLUMNS
    draw_panel(out, panel, column * WIDTH, (i - 1 - column) / COLUMNS * row_high)
  end
  out[#out + 1] = "</svg>"
  local file = assert(io.open(path, "w"))
  file:write(table.concat(out, "\n"), "\n")
  file:close()
end

return M
