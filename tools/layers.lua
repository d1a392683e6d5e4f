-- Who may use whom, checked, and drawn as docs/layers.svg.
--
--   luajit tools/layers.lua            check, and draw with Graphviz
--   luajit tools/layers.lua --check    check only; say so if the drawing is out of date
--   luajit tools/layers.lua --dot      print the drawing as Graphviz reads it
--
-- A file uses its own layer and those that stand before it.

-- C: a layer is a directory of src/, or a file there. Scanners know bytes, not bufs.
local C_LAYERS = { "neap.h", "base", "scan", "iobuf", "net", "host" }

-- Lua: a layer is a list of modules of lua/neap/. A codec is more of the same kind, so
-- "codec/" stands for the whole directory; it knows nothing of sockets. `rest` is where a
-- file that no other layer names belongs: the servers and clients over codecs.
local LUA_LAYERS = {
  { name = "contract", "luajit", "abi", "errors", "check", "format", "bytes" },
  { name = "buffers", "collector", "site", "slice", "walk", "view", "put", "pool", "allocator",
    "buffer", "reader" },
  { name = "scheduler", "wait", "loop", "task", "scope", "timer", "channel", "log" },
  { name = "network", "net", "conn", "pipe", "listener", "udp", "unix", "tls", "dns", "address" },
  { name = "codecs", "codec/", never = { network = true, scheduler = true } },
  { name = "servers and clients", rest = true },
  { name = "operations", "ops", "metrics", "guard", "leaks", "profile", "stats", "inspector",
    "cost", "inventory", "testing", "process" },
  { name = "the whole", "init" },
  { name = "the command", "prompt", "command" },
}

-- What the two halves have to do with each other; only drawn.
local ACROSS = {
  { "Lua", "contract", "C", "neap.h", "ffi.cdef" },
  { "C", "host", "Lua", "the command", "starts" },
}

-- Some headers are for one place only.
local RESERVED = {
  { header = "ev.h", only = "one file", count = 1 },
  { header = "lua.h", only = "src/host/", under = "host/" },
  { header = "lauxlib.h", only = "src/host/", under = "host/" },
  { header = "lualib.h", only = "src/host/", under = "host/" },
  { header = "luajit.h", only = "src/host/", under = "host/" },
}

local DRAWING = "docs/layers.svg"
local bit = require "bit"

local problems = {}
local function problem(format, ...)
  problems[#problems + 1] = format:format(...)
end

local function find(directory, extensions)
  local files = {}
  local pipe = assert(io.popen("find " .. directory .. " -type f 2>/dev/null"))
  for path in pipe:lines() do
    if extensions[path:match("%.(%a+)$")] then
      files[#files + 1] = path:sub(#directory + 2)
    end
  end
  pipe:close()
  table.sort(files)
  return files
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

-- Comments become blanks, so that what they quote is no use and lines keep their number.
local function code_of(path)
  local function blank(comment) return (comment:gsub("[^\n]", " ")) end
  local text = read(path)
  if path:find("%.lua$") then
    return (text:gsub("%-%-%[%[.-%]%]", blank):gsub("%-%-[^\n]*", blank))
  end
  return (text:gsub("/%*.-%*/", blank):gsub("//[^\n]*", blank))
end

-- The number and the capture of each place in `path` where `pattern` matches.
local function matches(path, pattern)
  return coroutine.wrap(function()
    local number = 0
    for line in (code_of(path) .. "\n"):gmatch("(.-)\n") do
      number = number + 1
      for name in line:gmatch(pattern) do
        coroutine.yield(number, name)
      end
    end
  end)
end

-- A graph: layers in their order, for each unit (a module: one .lua, or .c and .h of one
-- name) its layer, and uses[unit][other] where a file of one names a file of the other.
local function new_graph(name, layers)
  return { name = name, layers = layers, layer_of = {}, units = {}, uses = {}, never = {} }
end

local function add_unit(graph, unit, layer)
  if not graph.layer_of[unit] then
    graph.layer_of[unit] = layer
    graph.uses[unit] = {}
    graph.units[#graph.units + 1] = unit
  end
end

local function add_use(graph, where, from, to)
  if from == to then
    return
  end
  graph.uses[from][to] = true
  local mine, other = graph.layer_of[from], graph.layer_of[to]
  if other > mine then
    problem("%s uses %s: %s stands before %s", where, to, graph.layers[mine], graph.layers[other])
  elseif graph.never[mine] and graph.never[mine][graph.layers[other]] then
    problem("%s uses %s: %s know nothing of %s", where, to, graph.layers[mine], graph.layers[other])
  end
end

local function c_unit(path)
  return path == "neap.h" and path or (path:gsub("%.[ch]$", ""))
end

local function c_graph()
  local graph, index = new_graph("C", C_LAYERS), {}
  for i, layer in ipairs(C_LAYERS) do
    index[layer] = i
  end
  local files = find("src", { c = true, h = true })
  for _, path in ipairs(files) do
    local layer = path:match("^[^/]+")
    if index[layer] then
      add_unit(graph, c_unit(path), index[layer])
    else
      problem("src/%s: no layer of that name", path)
    end
  end
  for _, path in ipairs(files) do
    for line, include in matches("src/" .. path, '#%s*include%s*"([^"]+)"') do
      local where = ("src/%s:%d"):format(path, line)
      if not graph.layer_of[c_unit(include)] then
        problem('%s includes "%s": no such file below src/', where, include)
      elseif graph.layer_of[c_unit(path)] then
        add_use(graph, where, c_unit(path), c_unit(include))
      end
    end
  end
  return graph, files
end

local function check_reserved(files)
  for _, rule in ipairs(RESERVED) do
    local users = {}
    for _, path in ipairs(files) do
      for line, header in matches("src/" .. path, "#%s*include%s*<([^>]+)>") do
        if header:match("[^/]+$") == rule.header then
          users[#users + 1] = ("src/%s:%d"):format(path, line)
          if rule.under and path:sub(1, #rule.under) ~= rule.under then
            problem("src/%s:%d includes %s: only %s may", path, line, rule.header, rule.only)
          end
        end
      end
    end
    if rule.count and #users > rule.count then
      problem("%s include %s: only %s may", table.concat(users, ", "), rule.header, rule.only)
    end
  end
end

local function lua_layer_of(module)
  local rest
  for i, layer in ipairs(LUA_LAYERS) do
    rest = layer.rest and i or rest
    for _, name in ipairs(layer) do
      if module == name or name:find("/$") and module:find("^" .. name) then
        return i
      end
    end
  end
  return rest
end

local function lua_graph()
  local graph = new_graph("Lua", {})
  for i, layer in ipairs(LUA_LAYERS) do
    graph.layers[i], graph.never[i] = layer.name, layer.never
  end
  local files = find("lua/neap", { lua = true })
  for _, path in ipairs(files) do
    local module = path:gsub("%.lua$", "")
    add_unit(graph, module, lua_layer_of(module))
  end
  for _, path in ipairs(files) do
    local from = path:gsub("%.lua$", "")
    for line, name in matches("lua/neap/" .. path, "require%s*%(?%s*[\"']neap([%w_%.]*)[\"']") do
      local where = ("lua/neap/%s:%d"):format(path, line)
      local to = name == "" and "init" or name:sub(2):gsub("%.", "/")
      to = graph.layer_of[to] and to or to .. "/init"
      if not graph.layer_of[to] then
        problem("%s requires neap%s: no such module below lua/neap/", where, name)
      else
        add_use(graph, where, from, to)
      end
    end
  end
  return graph
end

-- Does `from` use `to` only through others as well? Such an edge tells nothing new.
local function implied(edges, from, to)
  for between in pairs(edges[from]) do
    if between ~= to and edges[between] and edges[between][to] then
      return true
    end
  end
  return false
end

-- Layers use layers: the edges of a graph, seen from far away.
local function layer_edges(graph)
  local edges = {}
  for i in ipairs(graph.layers) do
    edges[i] = {}
  end
  for from, uses in pairs(graph.uses) do
    for to in pairs(uses) do
      local a, b = graph.layer_of[from], graph.layer_of[to]
      if a ~= b then
        edges[a][b] = true
      end
    end
  end
  return edges
end

local function sorted_keys(set)
  local keys = {}
  for key in pairs(set) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return keys
end

local COLORS = { "#e8eef4", "#dbe9f1", "#cfe4ec", "#d3ecdf", "#e3efd2", "#f4efcf", "#f7e3cf",
  "#f4d9d6", "#ead9ec" }

-- A layer is a box that lists its files; the one that uses stands above the one used.
local function box(graph, i)
  local names, cells = {}, {}
  for _, unit in ipairs(graph.units) do
    if graph.layer_of[unit] == i then
      names[#names + 1] = unit
    end
  end
  if #names == 0 then
    return nil
  end
  table.sort(names)
  local layer = graph.layers[i]
  for at, unit in ipairs(names) do
    names[at] = unit:gsub("^" .. layer:gsub("%p", "%%%0") .. "/", "")
  end
  local width = math.ceil(#names / math.ceil(#names / 6)) -- of even lines
  for at = 1, #names, width do
    cells[#cells + 1] = table.concat(names, " · ", at, math.min(at + width - 1, #names))
  end
  local files = table.concat(cells, "<br/>")
  if files == layer then
    files = "the contract of C and Lua"
  end
  return ('  %s%d [fillcolor="%s" label=<<b>%s</b><br/><font point-size="10">%s</font>>];')
    :format(graph.name, i, COLORS[(i - 1) % #COLORS + 1], layer, files)
end

local function draw_graph(out, graph, title)
  local function add(format, ...)
    out[#out + 1] = format:format(...)
  end
  add("subgraph cluster_%s {", graph.name)
  add('  label="%s"; fontsize=13; style="rounded"; color="#b0b8c0"; margin=16;', title)
  local last
  for i = #graph.layers, 1, -1 do
    local node = box(graph, i)
    if node then
      out[#out + 1] = node
      if last then -- the order of the table, from the top down
        add("  %s%d -> %s%d [style=invis weight=100];", graph.name, last, graph.name, i)
      end
      last = i
    end
  end
  local edges = layer_edges(graph)
  for from in ipairs(graph.layers) do
    for _, to in ipairs(sorted_keys(edges[from])) do
      if not implied(edges, from, to) then
        add("  %s%d -> %s%d [constraint=false];", graph.name, from, graph.name, to)
      end
    end
  end
  add("}")
end

local function node_of(graph, layer)
  for i, candidate in ipairs(graph == "C" and C_LAYERS or LUA_LAYERS) do
    if candidate == layer or candidate.name == layer then
      return graph .. i
    end
  end
end

local function dot_source(c, lua)
  local out = {
    "digraph neap {",
    '  rankdir=TB; nodesep=0.5; ranksep=0.35; fontname="Helvetica"; bgcolor="white"; pad=0.2;',
    '  node [shape=box style="rounded,filled" color="#8090a0" fontname="Helvetica" fontsize=12];',
    '  edge [color="#607080" arrowsize=0.7];',
  }
  draw_graph(out, lua, "lua/neap/")
  draw_graph(out, c, "src/")
  for _, across in ipairs(ACROSS) do
    out[#out + 1] = ('%s -> %s [label=" %s " fontname="Helvetica" fontsize=10 constraint=false];')
      :format(node_of(across[1], across[2]), node_of(across[3], across[4]), across[5])
  end
  out[#out + 1] = "}"
  return table.concat(out, "\n") .. "\n"
end

-- FNV-1a: tells one drawing from the next, whatever version of Graphviz made it.
local function fingerprint(text)
  local hash = 0x811c9dc5
  for i = 1, #text do
    hash = bit.bxor(hash, text:byte(i))
    hash = bit.tobit(hash + bit.lshift(hash, 1) + bit.lshift(hash, 4) + bit.lshift(hash, 7) +
      bit.lshift(hash, 8) + bit.lshift(hash, 24))
  end
  return "layers " .. bit.tohex(hash)
end

local function current(source)
  local file = io.open(DRAWING)
  local text = file and file:read("*a") or ""
  if file then
    file:close()
  end
  return text:find(fingerprint(source), 1, true) ~= nil
end

local function draw(source)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(source)
  file:close()
  local pipe = assert(io.popen("dot -Tsvg " .. path))
  local svg = pipe:read("*a")
  pipe:close()
  os.remove(path)
  if not svg:find("</svg>", 1, true) then
    problem("dot (Graphviz) drew nothing")
    return
  end
  svg = svg:gsub("<!%-%- Generated by graphviz.-%-%->%s*", "")
  svg = svg:gsub("(<svg)", "<!-- " .. fingerprint(source) .. ", by tools/layers.lua -->\n%1", 1)
  file = assert(io.open(DRAWING, "w"))
  file:write(svg)
  file:close()
end

local c, c_files = c_graph()
check_reserved(c_files)
local lua = lua_graph()
local source = dot_source(c, lua)

if arg[1] == "--dot" then
  io.write(source)
  os.exit(0)
elseif arg[1] == "--check" then
  if not current(source) then
    print(DRAWING .. " is out of date: make layers")
  end
elseif not current(source) then
  draw(source)
end

for _, text in ipairs(problems) do
  io.stderr:write(text, "\n")
end
if #problems > 0 then
  os.exit(1)
end
print(("layers: %d C files, %d Lua modules, no use of a later layer")
  :format(#c_files, #lua.units))
