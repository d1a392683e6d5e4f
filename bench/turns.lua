--- Reads what bench/load printed, turn by turn, and takes medians and ratios of it.

local M = {}

--- @class Target
--- @field name string
--- @field turns table<integer, Turn> by round
--- @field calls_per_message number?
--- @field skipped string? the reason

--- @class Turn
--- @field rate number messages/s
--- @field cpu number? server CPU seconds per message
--- @field loader_busy number 0..1
--- @field server_busy number? 0..1
--- @field p50 number seconds
--- @field p99 number seconds
--- @field p999 number seconds
--- @field p9999 number seconds

--- The q-quantile (0..1) of a list of numbers, interpolated; nil when it is empty.
function M.quantile(list, q)
  if #list == 0 then return nil end
  local sorted = {}
  for i, value in ipairs(list) do sorted[i] = value end
  table.sort(sorted)
  local position = 1 + (#sorted - 1) * q
  local below = math.floor(position)
  local above = math.min(below + 1, #sorted)
  return sorted[below] + (sorted[above] - sorted[below]) * (position - below)
end

function M.median_of(target, field)
  local list = {}
  for _, turn in pairs(target.turns) do list[#list + 1] = turn[field] end
  return M.quantile(list, 0.5)
end

--- @return {median: number, low: number, high: number, span: number}?
function M.spread(list)
  if #list == 0 then return nil end
  local low, high = M.quantile(list, 0.1), M.quantile(list, 0.9)
  return { median = M.quantile(list, 0.5), low = low, high = high, span = high - low }
end

--- Ratios are taken within a round only: that is what interleaving is for. Above 1 means better
--- than the base: more messages a second, less CPU a message.
function M.ratios(target, base)
  local rate, cpu = {}, {}
  for round, turn in pairs(target.turns) do
    local against = assert(base.turns[round], "a round without the base")
    rate[#rate + 1] = turn.rate / against.rate
    if turn.cpu and against.cpu then cpu[#cpu + 1] = against.cpu / turn.cpu end
  end
  return { rate = M.spread(rate), cpu = M.spread(cpu) }
end

local function parse_turn(fields)
  local messages, seconds = tonumber(fields[3]), tonumber(fields[4])
  local loader, server = tonumber(fields[5]), tonumber(fields[6]) -- server "-": nil
  return {
    rate = messages / seconds,
    cpu = server and server / messages,
    loader_busy = loader / seconds,
    server_busy = server and server / seconds,
    p50 = fields[7] / 1e9, p99 = fields[8] / 1e9, p999 = fields[9] / 1e9, p9999 = fields[10] / 1e9,
  }
end

local Load = {}
Load.__index = Load

function Load:target(name)
  if not self.by_name[name] then
    self.by_name[name] = { name = name, turns = {} }
    self.list[#self.list + 1] = self.by_name[name]
  end
  return self.by_name[name]
end

function Load:add(fields)
  local round = tonumber(fields[1])
  if round then
    self:target(fields[2]).turns[round] = parse_turn(fields)
  elseif fields[1] == "syscalls" then
    self:target(fields[2]).calls_per_message = tonumber(fields[3]) / tonumber(fields[4])
  elseif fields[1] == "skipped" then
    self:target(fields[2]).skipped = fields[3]
  elseif fields[1] == "rate" then
    self.rate, self.share = tonumber(fields[2]), tonumber(fields[3])
  end
end

--- Loads in the order of their lines "load"; without one there is just one load.
--- @return table[] loads list, by_name (of targets) · connections, size, at_once · rate, share (%)
function M.read(lines)
  local loads = {}
  local function next_load(connections, size, at_once)
    loads[#loads + 1] = setmetatable({ list = {}, by_name = {}, connections = connections,
      size = size, at_once = at_once }, Load)
  end
  for line in lines do
    local fields = {}
    for field in line:gmatch("[^\t]+") do fields[#fields + 1] = field end
    if fields[1] == "load" then
      next_load(tonumber(fields[2]), tonumber(fields[3]), tonumber(fields[4]))
    else
      if #loads == 0 then next_load() end
      loads[#loads]:add(fields)
    end
  end
  return loads
end

--- The number of turns that a target had.
function M.count(target)
  local n = 0
  for _ in pairs(target.turns) do n = n + 1 end
  return n
end

return M
