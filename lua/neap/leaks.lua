--- Forgotten slices, told: which level of watching, in the log while the program runs, and all of
--- it for whoever asks. What stands on standard error at the end is written by C
--- (src/iobuf/report.c), which is there after os.exit(), too.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local log = require("neap.log")
local site = require("neap.site")
local slice = require("neap.slice")
local task = require("neap.task")

local C = abi.C
local sort = table.sort

local EVERY_S = 10 -- between two reports in the log …
local WORST = 3    -- … which name so many kinds of slices at most

local LEVELS = { off = C.NEAP_LEAKS_OFF, sample = C.NEAP_LEAKS_SAMPLE, touch = C.NEAP_LEAKS_TOUCH,
  all = C.NEAP_LEAKS_ALL }
local NAMES = {}
for name, level in pairs(LEVELS) do NAMES[tonumber(level)] = name end

local M = {}

local forgotten = ffi.new("struct neap_forgotten")
local totals = ffi.new("struct neap_ledger_stats")
local slice_stats = ffi.new("struct neap_slice_stats")

-- ---- the level ----

--- Which slices are watched, so that a report can tell who made one that was forgotten: `off`,
--- `sample` (the start: about one for each 512 KiB made), `touch` (and the last places that it
--- passed) or `all`. At `touch` and `all` no handle is used again, so that every use of one after
--- its release is found. What is watched already stays so. `--leaks=` and NEAP_LEAKS set it at the
--- start.
--- @param level? string the new one; nil: it stays
--- @return string level the one that there was
function M.level(level)
  local before = NAMES[C.neap_ledger_level()]
  if level == nil then return before end
  if not LEVELS[level] then
    check.raise("neap.leaks_level: level must be \"off\", \"sample\", \"touch\" or \"all\", got "
      .. (type(level) == "string" and ("%q"):format(level) or tostring(level)))
  end
  slice.set_level(LEVELS[level])
  return before
end

-- ---- all of it ----

local function places_of(kind)
  local places = {}
  for i = 0, C.NEAP_PLACES - 1 do
    local place = kind.last[i]
    if place.deed == C.NEAP_DEED_NONE then break end
    places[i + 1] = ffi.string(C.neap_deed_text(place.deed)) .. " at "
      .. (site.text(place.site) or "?")
  end
  return places
end

local function kinds()
  local list, i = {}, 0
  while C.neap_ledger_forgotten(i, forgotten) == 0 do
    i = i + 1
    list[i] = { slices = forgotten.slices, bytes = forgotten.bytes, pinned = forgotten.pinned,
      watched = tonumber(forgotten.watched), made_at = site.text(forgotten.born) or "?",
      last = places_of(forgotten) }
  end
  return list
end

local function worse(a, b)
  if a.pinned ~= b.pinned then return a.pinned > b.pinned end
  if a.bytes ~= b.bytes then return a.bytes > b.bytes end
  return a.slices > b.slices
end

--- Of that, what is exact at every level.
function M.totals()
  slice.settle()
  C.neap_ledger_stats(totals)
  return { level = M.level(), slices = tonumber(totals.slices), bytes = tonumber(totals.bytes),
    pinned = tonumber(totals.pinned), watched = tonumber(totals.watched),
    live = tonumber(totals.live), missed = tonumber(totals.missed) }
end

--- What was forgotten since the start, and left to the collector.
--- @return table leaks level · slices, bytes, pinned (bytes of the bufs that they were the last to
--- hold): exact at every level · watched: how many of them · live: watched
--- now · missed: how many could not be watched · sites: a list, the worst first, of
--- made_at, slices, bytes, pinned (estimates, where not all were watched), watched, and last: where
--- the latest of them had passed, the last place first · double_releases, stale_uses
function M.leaks()
  local result = M.totals()
  result.sites = kinds()
  sort(result.sites, worse)
  C.neap_slice_stats(slice_stats)
  result.double_releases = tonumber(slice_stats.double_releases)
  result.stale_uses = tonumber(slice_stats.stale_uses)
  return result
end

-- ---- in the log ----

local told, told_slices, told_watched = {}, 0, 0 -- by kind, in the order of C; and in all
local next_at = 0
local timer = {}

local function since(kind, before)
  if not before then return kind end
  return { slices = kind.slices - before.slices, bytes = kind.bytes - before.bytes,
    pinned = kind.pinned - before.pinned, made_at = kind.made_at, last = kind.last }
end

local function count_of(n)
  return n < 1.5 and "1 slice was" or ("%.0f slices were"):format(n)
end

local function whole(n) return math.floor(n + 0.5) end

local function say(kind, estimated)
  log.limited("warn", count_of(kind.slices) .. " forgotten, and left to the collector", {
    made_at = kind.made_at, last = kind.last[1], bytes = whole(kind.bytes),
    pinned = whole(kind.pinned), estimated = estimated or nil })
end

local function report()
  timer.set = false
  next_at = C.neap_loop_now(task.loop) + EVERY_S
  local all, news = kinds(), {}
  for i, kind in ipairs(all) do
    local fresh = since(kind, told[i])
    if fresh.slices > 0 then news[#news + 1] = fresh end
  end
  sort(news, worse)
  C.neap_ledger_stats(totals)
  local slices, watched = tonumber(totals.slices), tonumber(totals.watched)
  local estimated = slices - told_slices > watched - told_watched
  for i = 1, math.min(#news, WORST) do say(news[i], estimated) end
  if #news > WORST then
    log.limited("warn", ("slices made at %d other lines were forgotten: neap.leaks() has all")
      :format(#news - WORST))
  elseif #news == 0 and slices > told_slices then
    log.limited("warn", count_of(slices - told_slices)
      .. " forgotten, and none was sampled: --leaks=all tells where they were made")
  end
  told, told_slices, told_watched = all, slices, watched
end

timer.on_timer = report

task.on_forgotten(function()
  if C.neap_ledger_level() == C.NEAP_LEAKS_OFF or timer.set then return end
  local wait = next_at - C.neap_loop_now(task.loop)
  if wait <= 0 then return report() end
  timer.set = task.set_timer(timer, wait) == 0
end)

-- ---- the start ----

local function read_environment(text)
  if LEVELS[text] then return slice.set_level(LEVELS[text]) end
  slice.set_level(C.NEAP_LEAKS_SAMPLE)
  if text ~= "" then
    log.warn("NEAP_LEAKS knows off, sample, touch and all", { unknown = text })
  end
end

read_environment(os.getenv("NEAP_LEAKS") or "")
C.neap_ledger_report_at_exit()

return abi.keep("neap.leaks", M)
