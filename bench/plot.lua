-- plot: lines over time, as SVG, for the experiment.
--
--   plot.write(path, { title = "…", panels = { { title = "…", unit = "MB", series = {
--     { name = "…", points = { { 0, 1 }, { 0.5, 2 } } } } } } })
--
-- Panels stand side by side; each has its own scales, which begin at 0.

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

local function draw_panel(out, panel, left)
  local function add(format, ...) out[#out + 1] = format:format(...) end
  local function text(x, y, anchor, size, words)
    add('<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" %s fill="#333">%s</text>', x, y,
      anchor, size, FONT, escaped(words))
  end
  local xs, ys = ticks(largest(panel, 1)), ticks(largest(panel, 2))
  local x_most, y_most = xs[#xs], ys[#ys]
  local wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
  local function at_x(x) return left + LEFT + x / x_most * wide end
  local function at_y(y) return TOP + high - y / y_most * high end
  text(left + LEFT, TOP - 14, "start", 13, panel.title .. ", " .. panel.unit)
  for _, y in ipairs(ys) do
    add('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>', at_x(0), at_y(y),
      at_x(x_most), at_y(y))
    text(at_x(0) - 6, at_y(y) + 4, "end", 11, ("%g"):format(y))
  end
  for _, x in ipairs(xs) do text(at_x(x), at_y(0) + 16, "middle", 11, ("%g"):format(x)) end
  text(at_x(x_most / 2), at_y(0) + 32, "middle", 11, "seconds")
  for i, series in ipairs(panel.series) do
    local points = {}
    for _, point in ipairs(series.points) do
      points[#points + 1] = ("%.1f,%.1f"):format(at_x(point[1]), at_y(point[2]))
    end
    add('<polyline fill="none" stroke="%s" stroke-width="1.6" points="%s"/>', COLORS[i],
      table.concat(points, " "))
    local y = HEIGHT + (i - 1) * LEGEND
    add('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="3"/>', left + LEFT,
      y, left + LEFT + 22, y, COLORS[i])
    text(left + LEFT + 28, y + 4, "start", 12, series.name)
  end
end

--- Writes the drawing.
function M.write(path, plot)
  local lines = 0
  for _, panel in ipairs(plot.panels) do lines = math.max(lines, #panel.series) end
  local width, height = WIDTH * #plot.panels, HEIGHT + lines * LEGEND + 6
  local out = { ('<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" '
    .. 'viewBox="0 0 %d %d">'):format(width, height, width, height),
    "<title>" .. escaped(plot.title) .. "</title>",
    '<rect width="100%" height="100%" fill="white"/>' }
  for i, panel in ipairs(plot.panels) do draw_panel(out, panel, (i - 1) * WIDTH) end
  out[#out + 1] = "</svg>"
  local file = assert(io.open(path, "w"))
  file:write(table.concat(out, "\n"), "\n")
  file:close()
end

return M
