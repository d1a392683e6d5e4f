-- What the runtime does, as it does it: its own counters, sent to browsers as events.
--
--     neap examples/http_live.lua [tcp://127.0.0.1:8080]
local cjson = require("cjson")
local http = require("neap.http")
local neap = require("neap")

local PAGE = [[<!doctype html><html lang="en"><meta charset="utf-8">
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>neap, live</title><style>
:root { --text: #1d2330; --faint: #667085; --card: #fff; --back: #f5f7fa; --line: #2f6fed }
@media (prefers-color-scheme: dark) { :root { --text: #e3e7ee; --faint: #8b95a7;
  --card: #1d222b; --back: #14171d; --line: #82b1ff } }
body { margin: 0 auto; padding: 2rem 1rem; max-width: 60rem; background: var(--back);
  color: var(--text); font: 16px/1.4 system-ui, sans-serif }
h1 { font-size: 1.3rem; font-weight: 600; margin: 0 0 1rem } h1 span { color: var(--faint) }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)) }
section { background: var(--card); border-radius: .75rem; padding: 1rem; overflow: hidden }
h2 { font-size: .8rem; font-weight: 500; color: var(--faint); margin: 0 }
b { font-size: 1.7rem; font-weight: 600; font-variant-numeric: tabular-nums }
svg { display: block; width: 100%; height: 3rem; margin-top: .5rem; fill: none;
  stroke: var(--line); stroke-width: 1.5 }
</style><h1>neap <span id="state">connecting …</span></h1><main></main><script>
const main = document.querySelector("main"), state = document.querySelector("#state")
const cards = {}, POINTS = 120
function show(bytes) {
  for (const unit of ["", " k", " M", " G"]) {
    if (bytes < 1000) return +bytes.toPrecision(3) + unit
    bytes /= 1000
  }
}
function card(name) {
  const section = document.createElement("section")
  section.innerHTML = "<h2></h2><b></b><svg viewBox='0 0 120 40' preserveAspectRatio='none'>"
    + "<path vector-effect='non-scaling-stroke'/></svg>"
  section.querySelector("h2").textContent = name
  main.append(section)
  return cards[name] = { section, values: [] }
}
const source = new EventSource("/events")
source.onmessage = (event) => {
  state.textContent = "live"
  for (const [name, value] of JSON.parse(event.data)) {
    const { section, values } = cards[name] || card(name)
    values.push(value)
    if (values.length > POINTS) values.shift()
    const most = Math.max(...values, 1)
    section.querySelector("b").textContent = show(value)
    section.querySelector("path").setAttribute("d", "M" + values.map((v, i) =>
      `${i + POINTS - values.length} ${38 - 36 * v / most}`).join("L"))
  }
}
source.onerror = () => { state.textContent = "gone; trying again …" }
</script></html>]]

local server
local requests, rate = 0, 0

-- What is shown, in this order.
local function counters()
  local pool, stats = neap.default_pool():stats(), server:stats()
  return cjson.encode { { "requests a second", rate }, { "requests", stats.messages },
    { "connections", stats.open }, { "bytes held by the pool", pool.bytes_held },
    { "of them in use", pool.bytes_live }, { "bufs made", pool.bufs_allocated },
    { "slices alive", pool.slices_live }, { "bytes of Lua", collectgarbage("count") * 1024 } }
end

neap.every(1, function()
  rate, requests = server:stats().messages - requests, server:stats().messages
end)

local app = http.router()
app:get("/", function() return http.html(PAGE) end)
app:get("/events", function()
  return http.events(function(events)
    repeat events:send(counters()) until not neap.sleep(0.5)
  end)
end)

server = assert(http.serve(arg[1] or "tcp://127.0.0.1:8080", app))
print("listening on " .. server.address)
print("open " .. server.address:gsub("^tcp", "http") .. " and load it: wrk -c 64 -d 60 URL")
io.stdout:flush()
