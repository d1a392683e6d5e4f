-- Serves a directory: its files, and pages that list them.
--
--     neap examples/http_files.lua [tcp://127.0.0.1:8080] [DIRECTORY]
local http = require("neap.http")

local PAGE = [[<!doctype html><html lang="en"><meta charset="utf-8">
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>%s</title><style>
:root { --text: #1d2330; --faint: #667085; --line: #e4e7ec; --back: #fff; --hover: #f5f7fa;
  --link: #1759c4; --folder: #b7791f }
@media (prefers-color-scheme: dark) { :root { --text: #e3e7ee; --faint: #8b95a7;
  --line: #2a303b; --back: #14171d; --hover: #1d222b; --link: #82b1ff; --folder: #e3b341 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2.5rem 1.25rem; max-width: 56rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.3rem; font-weight: 600; margin: 0 0 1.25rem; overflow-wrap: anywhere }
h1 a { color: var(--link); text-decoration: none } h1 span { color: var(--faint) }
table { width: 100%%; border-collapse: collapse; font-variant-numeric: tabular-nums }
th { text-align: left; font-size: .8rem; font-weight: 500; color: var(--faint) }
th, td { padding: .5rem .75rem; border-bottom: 1px solid var(--line) }
tr:hover td { background: var(--hover) }
td a { display: flex; gap: .6em; color: var(--text); text-decoration: none;
  overflow-wrap: anywhere }
td a:hover { color: var(--link); text-decoration: underline }
svg { flex: none; width: 1.1em; height: 1.1em; margin-top: .2em; fill: var(--faint) }
.folder svg { fill: var(--folder) }
.size, .time { text-align: right; white-space: nowrap; color: var(--faint) }
p { color: var(--faint); font-size: .85rem; margin-top: 1rem }
@media (max-width: 34rem) { .time { display: none } body { padding: 1.25rem .5rem }
  th, td { padding: .7rem .5rem } }
</style><h1>%s</h1><table><tr><th>Name<th class="size">Size<th class="time">Changed (UTC)
%s</table><p>%s, %s, %s</p></html>]]
local ROW = '<tr%s><td><a href="%s"><svg viewBox="0 0 16 16"><path d="%s"/></svg>%s</a>'
  .. '<td class="size">%s<td class="time">%s\n'
local IS_FOLDER = ' class="folder"'
local FOLDER = "M1.5 3h4.3l1.5 1.7h7.2c.6 0 1 .4 1 1V12c0 .6-.4 1-1 1h-13a1 1 0 0 1-1-1V4"
  .. "c0-.6.4-1 1-1z"
local FILE = "M3 1h6.6L13 4.4V15H3z M9 1.8V5h3.2z"

local function size_of(bytes)
  if bytes < 1000 then return bytes .. " B" end
  for _, unit in ipairs { "kB", "MB", "GB", "TB" } do
    bytes = bytes / 1000
    if bytes < 999.5 then return ("%.3g %s"):format(bytes, unit) end
  end
  return ("%.0f TB"):format(bytes)
end

local function counted(n, what)
  return n .. " " .. what .. (n == 1 and "" or "s")
end

-- The path, with a link to each directory on the way.
local function trail_of(path)
  local html, url = '<a href="/">⌂</a> <span>/</span> ', "/"
  for part in path:gmatch("[^/]+") do
    url = url .. part .. "/"
    html = html .. ('<a href="%s">%s</a> <span>/</span> '):format(
      http.escape(url), http.escape(http.unescape(part)))
  end
  return html
end

local function listing(entries, request)
  local rows, folders, bytes = {}, 0, 0
  if request.path ~= "/" then rows[1] = ROW:format(IS_FOLDER, "../", FOLDER, "..", "", "") end
  for _, entry in ipairs(entries) do
    local folder = entry.directory
    folders, bytes = folders + (folder and 1 or 0), bytes + (folder and 0 or entry.bytes)
    rows[#rows + 1] = ROW:format(folder and IS_FOLDER or "", "./" .. http.escape_url(entry.name)
      .. (folder and "/" or ""), folder and FOLDER or FILE, http.escape(entry.name),
      folder and "" or size_of(entry.bytes), os.date("!%Y-%m-%d %H:%M", entry.modified))
  end
  return http.html(PAGE:format(http.escape(http.unescape(request.path)), trail_of(request.path),
    table.concat(rows), counted(folders, "folder"), counted(#entries - folders, "file"),
    size_of(bytes)))
end

local app = http.router():use(http.gzip() or function(request, next) return next(request) end)
app:get("/*file", assert(http.files(arg[2] or ".", { listing = listing })))
local server = assert(http.serve(arg[1] or "tcp://127.0.0.1:8080", app))
print("listening on " .. server.address)
print("open " .. server.address:gsub("^tcp", "http"))
io.stdout:flush()
