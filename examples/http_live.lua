-- What the runtime does, as it does it: its own counters, sent to browsers as events.
--
--     neap examples/http_live.lua [tcp://127.0.0.1:8080]
local http = require("neap.http")
local neap = require("neap")

local PAGE = [[<!doctype html><html lang="en"><meta charset="utf-8">
<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>neap, live</title><style>
:root { --text: #1b2130; --faint: #5f6b80; --card: #fff; --back: #f3f5f9; --edge: #e3e8f0;
  --line: #2563eb; --button: #2563eb; --live: #15803d }
@media (prefers-color-scheme: dark) { :root { --text: #e6eaf1; --faint: #93a0b5; --card: #1a1f29;
  --back: #11141a; --edge: #2a313e; --line: #7fb0ff; --button: #2f6bff; --live: #4ade80 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 2rem 1rem; max-width: 62rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif }
header { display: flex; align-items: center; gap: .75rem; margin-bottom: 1.25rem }
h1 { font-size: 1.5rem; margin: 0; letter-spacing: -.02em }
#state { flex: 1; color: var(--faint); font-size: .9rem }
#state::before { content: ""; display: inline-block; width: .55rem; height: .55rem;
  margin-right: .45rem; border-radius: 50%; background: currentcolor }
#state.live { color: var(--live) }
button { padding: .55rem 1.1rem; border: 0; border-radius: .6rem; background: var(--button);
  color: #fff; font: 600 .95rem/1.5 inherit; font-family: inherit; cursor: pointer }
main { display: grid; gap: .9rem; grid-template-columns: repeat(4, 1fr) }
section { padding: 1rem 1.1rem 0; border: 1px solid var(--edge);
  border-radius: .9rem; background: var(--card); overflow: hidden }
section:first-child { grid-column: 1 / -1 }
h2 { margin: 0; color: var(--faint); font-size: .85rem; font-weight: 500 }
b { font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums }
small { color: var(--faint); font-size: .95rem } section:first-child b { font-size: 2.6rem }
svg { display: block; width: calc(100% + 2.2rem); height: 3rem; margin: .35rem -1.1rem 0 }
section:first-child svg { height: 9rem } polygon { fill: var(--line); opacity: .13 }
path { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round }
p { color: var(--faint); font-size: .9rem } code { color: var(--text); font-size: .85rem;
  overflow-wrap: anywhere }
@media (max-width: 40rem) { body { padding: 1.1rem .8rem } main { gap: .7rem;
    grid-template-columns: 1fr 1fr }
  section:first-child svg { height: 6rem } b { font-size: 1.3rem } }
</style><header><h1>neap</h1><span id="state">connecting …</span>
<button>Load it from here</button></header><main></main>
<p>Each number is the server’s own; it sends them twice a second, as events. For more than a browser
can ask: <code>wrk -t 1 -c 64 -d 30 <span id="url"></span>/hello</code></p><script>
const get = (name) => document.querySelector(name), cards = {}, POINTS = 60
get("#url").textContent = location.origin
function show(value) {
  for (const unit of ["", "k", "M", "G"]) {
    if (value < 999.5) return [+value.toPrecision(3), unit]
    value /= 1000
  }
}
function card(name) {
  const section = document.createElement("section")
  section.innerHTML = "<h2></h2><b></b> <small></small><svg viewBox='0 0 59 40' "
    + "preserveAspectRatio='none'><polygon/><path vector-effect='non-scaling-stroke'/></svg>"
  section.querySelector("h2").textContent = name
  get("main").append(section)
  return cards[name] = { values: [], get: (part) => section.querySelector(part) }
}
function draw(name, value, unit) {
  const { values, get } = cards[name] || card(name)
  values.push(value)
  if (values.length > POINTS) values.shift()
  const most = Math.max(...values, 1), first = POINTS - values.length
  const points = values.map((v, i) => `${first + i} ${(38 - 34 * v / most).toFixed(2)}`)
  const [number, prefix] = show(value)
  get("b").textContent = number
  get("small").textContent = prefix + unit
  get("path").setAttribute("d", "M" + points.join("L"))
  get("polygon").setAttribute("points", `${first} 40 ${points.join(" ")} 59 40`)
}
const source = new EventSource("/events")
function say(text, name) { get("#state").textContent = text; get("#state").className = name }
source.onmessage = (event) => {
  say("live", "live")
  for (const counter of JSON.parse(event.data)) draw(...counter)
}
source.onerror = () => say("gone; trying again …", "")
let loading = false
async function ask() {
  while (loading) await fetch("/hello", { cache: "no-store" }).then((it) => it.text(), () => {
    loading = false
  })
  get("button").textContent = "Load it from here"
}
get("button").onclick = () => {
  loading = !loading
  get("button").textContent = "Stop"
  if (loading) for (let i = 0; i < 5; i++) ask()
}
</script></html>]]

local server
local requests, rate = 0, 0

-- What is shown, in this order: name, number, unit.
local function counters()
  local pool, stats = neap.default_pool():stats(), server:stats()
  local list = { { "requests a second", rate, "" }, { "requests so far", stats.messages, "" },
    { "connections", stats.open, "" }, { "Lua memory", collectgarbage("count") * 1024, "B" },
    { "pool memory", pool.bytes_held, "B" }, { "of it in use", pool.bytes_live, "B" },
    { "slices alive", pool.slices_live, "" }, { "bufs made", pool.bufs_allocated, "" },
    { "bufs reused", pool.bufs_reused, "" } }
  for i, counter in ipairs(list) do list[i] = ('["%s",%.0f,"%s"]'):format(unpack(counter)) end
  return "[" .. table.concat(list, ",") .. "]"
end

neap.every(0.5, function()
  rate, requests = 2 * (server:stats().messages - requests), server:stats().messages
end)

local app = http.router()
app:get("/", function() return http.html(PAGE) end)
app:get("/hello", function() return "hello\n" end)
app:get("/events", function()
  return http.events(function(events)
    repeat events:send(counters()) until not neap.sleep(0.5)
  end)
end)

server = assert(http.serve(arg[1] or "tcp://127.0.0.1:8080", app))
local url = server.address:gsub("^tcp", "http")
print("listening on " .. server.address)
print("open " .. url .. " and load it: wrk -t 1 -c 64 -d 30 " .. url .. "/hello")
io.stdout:flush()
