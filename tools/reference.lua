-- docs/reference.md: every public function, from the comments above it.
--
--   luajit tools/reference.lua --check    say what is not documented, or not rightly
--   luajit tools/reference.lua --write    write docs/reference.md anew, and do the same
--
-- It needs a built library: which functions there are it learns from the running neap, and
-- where each is written from debug.getinfo. A comment is in LuaCATS, as editors read it, with
-- two lines of neap's own:
--
--   --- Queues a string or a slice; it leaves at the end of this turn.
--   --- own: takes x
--   --- err: "closed", "reset", "timeout"
--   --- @param x string|neap.Slice
--   --- @return true|nil ok, string? message, string? name
--
-- `--- @class neap.Connection` stands before the methods of that kind of object; its `@field`s
-- are what it has besides methods. A class without methods is a table of options.

local DOCUMENT = "docs/reference.md"
local SOURCES = "lua/neap/"

-- The chapters, in order: a file of lua/neap/ each. A file that is not here comes behind, under
-- the first words of its first comment.
local CHAPTERS = {
  { file = "init", title = "The module" },
  { file = "net", title = "Listening and connecting" },
  { file = "conn", title = "Connections" },
  { file = "serve", title = "Servers of messages" },
  { file = "codec/frame", title = "Codecs: frames" },
  { file = "codec/line", title = "Codecs: lines" },
  { file = "codec/http1", title = "Codecs: HTTP/1" },
  { file = "http/init", title = "A server of HTTP" },
  { file = "http/request", title = "Requests of HTTP" },
  { file = "http/response", title = "Answers of HTTP" },
  { file = "http/router", title = "Routers of HTTP" },
  { file = "http/files", title = "Static files over HTTP" },
  { file = "http/multipart", title = "Forms with files" },
  { file = "http/events", title = "Events over HTTP" },
  { file = "http/gzip", title = "Compressed answers" },
  { file = "http/text", title = "Texts of HTTP" },
  { file = "task", title = "Tasks and time" },
  { file = "loop", title = "The loop" },
  { file = "guard", title = "The runaway guard" },
  { file = "timer", title = "Deadlines and timers" },
  { file = "scope", title = "Scopes" },
  { file = "channel", title = "Channels" },
  { file = "slice", title = "Slices" },
  { file = "view", title = "Views" },
  { file = "buffer", title = "Buffers that grow" },
  { file = "pool", title = "Pools" },
  { file = "allocator", title = "Allocators" },
  { file = "reader", title = "Readers over anything" },
  { file = "leaks", title = "Forgotten slices" },
  { file = "walk", title = "Who holds memory" },
  { file = "profile", title = "Memory profiles" },
  { file = "stats", title = "Counters" },
  { file = "collector", title = "The collector" },
  { file = "log", title = "The log" },
  { file = "process", title = "The process" },
  { file = "testing", title = "For specs of protocols" },
  { file = "cost", title = "For specs of costs" },
}

-- What an object is called in front of its methods, where that is not the class's own name.
local SPOKEN = { connection = "conn", httpmessage = "message", httpbody = "body",
  httprequest = "request", httpout = "out", httppart = "part", httpevents = "events",
  httprouter = "router" }

-- Modules that a script requires by name, besides "neap". Others are known by their first
-- comment, which shows how: require("neap.this")
local MODULES = { ["neap.testing"] = true }

local OWNERSHIP = { "borrows", "retains", "takes", "returns owned", "returns borrowed" }
-- What a caller has to know about: is it his to release or close?
local OWNED = { "Slice", "View", "Connection", "Listener", "Buffer", "Pool", "Allocator", "Reader" }

local ffi = require("ffi")

local problems = {}

local function problem(text, ...) problems[#problems + 1] = text:format(...) end

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function sorted_keys(t, less)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, less)
  return keys
end

local function shell_line(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read("*l")
  pipe:close()
  return line
end

-- ---- the running neap ----

local top = shell_line("pwd")
package.path = top .. "/lua/?.lua;" .. top .. "/lua/?/init.lua;" .. package.path
package.cpath = package.cpath .. ";" .. top .. "/build/?.so"

-- Scripts see neither the method tables nor the metatables, so they are noted as they are made.
local metatables = {} -- by the name that getmetatable() tells a script

local function note(metatable)
  local name = type(metatable) == "table" and rawget(metatable, "__metatable")
  if type(name) == "string" and name:find("^neap%.") then metatables[name] = metatable end
end

local metatype, set = ffi.metatype, setmetatable
ffi.metatype = function(ctype, metatable)
  note(metatable)
  return metatype(ctype, metatable)
end
rawset(_G, "setmetatable", function(t, metatable)
  note(metatable)
  return set(t, metatable)
end)

local neap = require("neap")
local check = require("neap.check")
local errors = require("neap.errors")
local abi = require("neap.abi")

local options_of = {} -- function's name → what its options are called
local look_at_names = check.names

-- Who hands a part of them on has all of them looked at first.
function check.names(given, known, what, renamed)
  options_of[what] = options_of[what] or known
  return look_at_names(given, known, what, renamed)
end

-- One of each kind that is not there from the start, and one call of each function that has
-- options. What these answer is of no interest.
local function exercise()
  local function nothing() end
  neap.spawn(nothing)
  neap.channel()
  neap.scope(nothing)
  neap.after(0, nothing):cancel()
  local reader = assert(neap.reader(nil, nothing, {}))
  note(debug.getmetatable(reader))
  reader:read_until("x", {})
  neap.listen("no address", nothing, {})
  neap.connect("no address", {})
  local codec = { decode = nothing }
  neap.serve("tcp://127.0.0.1:0", { codec = codec, handle = nothing }, {}):stop()
  require("neap.codec.frame").new {}
  require("neap.codec.line").new {}
  neap.pool({}):allocator():release()
  local http1 = require("neap.codec.http1")
  local head = "GET / HTTP/1.0\r\n\r\n"
  http1.body(http1.decode_request(neap.reader(nil, function() return head end):peek(#head)))
  require("neap.testing").watch(nothing, nothing, {})
  local http, request = require("neap.http"), require("neap.http.request")
  http.serve("tcp://127.0.0.1:0", http.router(), {}):stop()
  require("neap.http.response").out()
  local part = '--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
  request.methods.parts({ header = function() return "multipart/form-data; boundary=b" end,
    read = function() return neap.copy(part) end })()
  http.files("/", {})
  http.gzip {}
  pcall(http.events(nothing, {}).body, { write = error })
  http1.request_decoder(request.methods, request.getters, #head)(
    neap.reader(nil, function() return head end):peek(#head))
end

exercise()

-- An __index that is a function has the methods in an upvalue.
local function methods_of(metatable)
  local index = metatable.__index
  if type(index) ~= "function" then return index or {} end
  for i = 1, debug.getinfo(index, "u").nups do
    local _, value = debug.getupvalue(index, i)
    if type(value) == "table" and next(value) ~= nil then
      local functions = true
      for _, method in pairs(value) do functions = functions and type(method) == "function" end
      if functions then return value end
    end
  end
  return {}
end

-- ---- comments ----

local lines_of = {}

local function lines(path)
  if not lines_of[path] then
    local list = {}
    for line in (contents(path) .. "\n"):gmatch("(.-)\n") do list[#list + 1] = line end
    lines_of[path] = list
  end
  return lines_of[path]
end

-- The `---` lines right before a line, without their dashes; tags begin a line.
local function comment_before(path, line)
  local found, text = lines(path), {}
  line = line - 1
  while line >= 1 and found[line]:match("^%s*%-%-%-") do
    table.insert(text, 1, (found[line]:gsub("^%s*%-%-%- ?", "")))
    line = line - 1
  end
  return table.concat(text, "\n"):gsub("([^\n]) (@%l+ )", "%1\n%2")
end

-- A type at the front of a text, and where the rest begins.
local function take_type(text)
  local depth, in_function, at = 0, false, 1
  while at <= #text do
    local char = text:sub(at, at)
    in_function = in_function or (depth == 0 and text:find("^fun%(", at) ~= nil)
    if char:find("[%(<{%[]") then depth = depth + 1
    elseif char:find("[%)>}%]]") then depth = depth - 1
    elseif depth == 0 and char == "," and not in_function then break
    elseif depth == 0 and char == " " and not (in_function and text:sub(1, at - 1):find("[:,]$"))
    then break end
    at = at + 1
  end
  return text:sub(1, at - 1), at
end

local function parse_param(text)
  local name, optional, rest = text:match("^([%w_%.]+)(%??)%s*(.*)$")
  if not name then return nil end
  local kind, at = take_type(rest)
  return { name = name, optional = optional == "?", type = kind,
    text = rest:sub(at):gsub("^%s+", "") }
end

-- `type name, type name comment` → the list, with the comment at its last.
local function parse_returns(text, list)
  while true do
    local kind, at = take_type(text)
    local rest = text:sub(at)
    local item = { type = kind, text = "" }
    list[#list + 1] = item
    local name, behind = rest:match("^%s+([%a_][%w_]*)()")
    if name and rest:sub(behind):find("^[%s,]") or behind == #rest + 1 then
      item.name, rest = name, rest:sub(behind)
    end
    local more = rest:match("^,%s*(.*)$")
    if not more then
      item.text = rest:gsub("^%s+", ""):gsub("^%.%.%. ", "")
      return
    end
    text = more
  end
end

-- The parts of a comment. A line that begins no part goes on with the one before it.
local function parse(comment)
  local doc = { about = "", params = {}, returns = {}, fields = {}, operators = {} }
  local parts = { { tag = "about", text = "" } }
  for line in (comment .. "\n"):gmatch("(.-)\n") do
    local tag, text = line:match("^@(%l+) ?(.*)$")
    if not tag then tag, text = line:match("^(%l%l%l): (.*)$") end
    if tag and (tag == "own" or tag == "err" or line:sub(1, 1) == "@") then
      parts[#parts + 1] = { tag = tag, text = text }
    else
      local last = parts[#parts]
      last.text = last.text .. (last.text ~= "" and "\n" or "") .. line
    end
  end
  for _, part in ipairs(parts) do
    local one_line = part.text:gsub("%s*\n%s*", " ")
    if part.tag == "about" then doc.about = part.text
    elseif part.tag == "param" then doc.params[#doc.params + 1] = parse_param(one_line)
    elseif part.tag == "field" then doc.fields[#doc.fields + 1] = parse_param(one_line)
    elseif part.tag == "operator" then doc.operators[#doc.operators + 1] = one_line
    elseif part.tag == "return" then parse_returns(one_line, doc.returns)
    elseif part.tag == "class" then doc.class = one_line
    else doc[part.tag] = one_line end
  end
  return doc
end

-- ---- what there is ----

-- entries: one for each place where functions are written
--   file, line, doc, params, method, names = { "slice:u16be", … }, owner = "slice"
local entries, by_place = {}, {}
local classes = {} -- "Slice" → { doc, file, spoken, entries, shared, has_methods }

local function width_then_name(a, b)
  local width_a, width_b = tonumber(a:match("%d+") or 0), tonumber(b:match("%d+") or 0)
  if width_a ~= width_b then return width_a < width_b end
  return a < b
end

local function parameters(fn, info, method)
  local names = {}
  for i = method and 2 or 1, info.nparams do names[#names + 1] = debug.getlocal(fn, i) end
  if info.isvararg then names[#names + 1] = "..." end
  return names
end

local added = {}

-- A function under its public name. One that stands under several owners belongs to the first.
local function add(owner, name, fn, method)
  if added[name] then return end
  added[name] = true
  local info = debug.getinfo(fn, "Su")
  local file = info.source:match("^@.*/lua/neap/([%w_/]+)%.lua$")
  if not file then return problem("%s: it is not written in %s", name, SOURCES) end
  local place = file .. ":" .. info.linedefined
  local entry = by_place[place]
  if not entry then
    entry = {
      file = file, line = info.linedefined, owner = owner, names = {}, method = method,
      doc = parse((comment_before(SOURCES .. file .. ".lua", info.linedefined))),
      params = parameters(fn, info, method), as = {},
    }
    by_place[place] = entry
    entries[#entries + 1] = entry
  end
  if entry.owner == owner then
    entry.names[#entry.names + 1] = name
  else
    entry.as[owner] = entry.as[owner] or {}
    table.insert(entry.as[owner], name)
  end
  return entry
end

local chapter_of = {}
for i, chapter in ipairs(CHAPTERS) do chapter_of[chapter.file] = i end

local function title_of(file)
  local first = lines(SOURCES .. file .. ".lua")[1]:match("^%-%-%- ?([^.:]+)")
  return first or file
end

local function add_chapter(file)
  if chapter_of[file] then return end
  CHAPTERS[#CHAPTERS + 1] = { file = file, title = title_of(file) }
  chapter_of[file] = #CHAPTERS
end

local function source_files()
  local pipe, found = assert(io.popen("find " .. SOURCES .. " -name '*.lua'")), {}
  for path in pipe:lines() do found[#found + 1] = path end
  pipe:close()
  table.sort(found)
  return found
end

local function read_classes()
  for _, path in ipairs(source_files()) do
    local list, at = lines(path), 1
    while at <= #list do
      local behind = at
      while behind <= #list and list[behind]:match("^%s*%-%-%-") do behind = behind + 1 end
      local text = behind > at and table.concat(list, "\n", at, behind - 1) or ""
      local name = text:match("%-%-%- ?@class neap%.?([%w_]*)")
      if name then
        local spoken = SPOKEN[name:lower()] or name:lower()
        classes[name] = { name = name, doc = parse((comment_before(path, behind))), spoken = spoken,
          file = path:match(SOURCES:gsub("%p", "%%%0") .. "(.-)%.lua$") }
      end
      at = behind + 1
    end
    for name in table.concat(list, "\n"):gmatch('__metatable = "(neap%.[%w_]+)"') do
      if not metatables[name] then
        problem("%s: no %s was made: let exercise() in tools/reference.lua make one", path, name)
      end
    end
  end
end

local function class_of(metatable_name)
  local name = metatable_name:match("^neap%.(.*)$")
  return name and (name:gsub("^%l", string.upper))
end

local function has_functions(t)
  for _, value in pairs(t) do
    if type(value) == "function" then return true end
  end
  return false
end

-- A table of functions is a module inside the module.
local function walk_module(prefix, t, fields)
  for _, key in ipairs(sorted_keys(t)) do
    local value, name = t[key], prefix .. key
    if type(value) == "function" then
      add(prefix, name, value, false)
    elseif type(value) == "table" and prefix == "neap." and has_functions(value) then
      walk_module(name .. ".", value, {})
    elseif not fields[key] then
      problem("%s: no `@field %s` tells what it is", name, key)
    end
  end
end

local function public_modules()
  local found = {}
  for _, path in ipairs(source_files()) do
    local module = "neap." .. path:sub(#SOURCES + 1):gsub("%.lua$", ""):gsub("/init$", "")
      :gsub("/", ".")
    local head = contents(path):match("^%-%-%-[^\n]*\n(.-)\n[^%-]") or ""
    local shown = head:find('require("' .. module .. '")', 1, true)
      or head:find('require "' .. module .. '"', 1, true)
    if MODULES[module] or shown then found[#found + 1] = module end
  end
  return found
end

local function names_of_fields(doc)
  local names = {}
  for _, field in ipairs(doc and doc.fields or {}) do names[field.name] = true end
  return names
end

local function walk()
  read_classes()
  local module = classes[""]
  if not module then problem("lua/neap/init.lua: no `@class neap`") end
  walk_module("neap.", neap, names_of_fields(module and module.doc))
  for _, name in ipairs(public_modules()) do
    local value = require(name)
    if type(value) == "table" then walk_module(name .. ".", value, {}) end
  end
  local function earlier(a, b)
    local first, second = classes[class_of(a)], classes[class_of(b)]
    local i = first and chapter_of[first.file] or math.huge
    local j = second and chapter_of[second.file] or math.huge
    if i ~= j then return i < j end
    return a < b
  end
  for _, name in ipairs(sorted_keys(metatables, earlier)) do
    local class = classes[class_of(name)]
    if not class then
      problem("%s: no `@class neap.%s` tells what it is", name, class_of(name))
    else
      class.has_methods = true
      local methods = methods_of(metatables[name])
      for _, key in ipairs(sorted_keys(methods)) do
        if type(methods[key]) == "function" and not key:find("^__") then
          add(class.spoken, class.spoken .. ":" .. key, methods[key], true)
        end
      end
    end
  end
  for _, entry in ipairs(entries) do
    table.sort(entry.names, width_then_name)
    for _, names in pairs(entry.as) do table.sort(names, width_then_name) end
  end
  table.sort(entries, function(a, b)
    if a.file ~= b.file then return a.file < b.file end
    return a.line < b.line
  end)
end

-- ---- are the comments right? ----

local error_names = {}
-- Names that Lua code gives without an enum neap_err; others of the kind are found in the source.
local OWN_ERRORS = { error = "the task that was waited for ended in an error" }

local function read_errors()
  local enum = ffi.string(abi.C.neap_header()):match("enum neap_err (%b{})")
  for code in enum:gmatch("(NEAP_E_[%u_]+) =") do
    local value = tonumber(abi.C[code])
    local name, text = errors.name(value), errors.text(value)
    local known = error_names[name]
    if name == "system" then text = "another failure of the system: the message has its words" end
    error_names[name] = known and known ~= text and known .. "; or " .. text or text
  end
  for _, path in ipairs(source_files()) do
    for name in contents(path):gmatch('fail(%b())') do
      name = name:match('"(%l[%l_]*)"%)$')
      if name and not error_names[name] then
        error_names[name] = OWN_ERRORS[name] or "see the message"
      end
    end
  end
end

local function mentions(types, names)
  for _, name in ipairs(names) do
    if types:find("neap%." .. name .. "%f[^%w_]") then return true end
  end
  return false
end

local function says_ownership(text)
  for _, word in ipairs(OWNERSHIP) do
    if (text or ""):find("%f[%w]" .. word .. "%f[^%w]") then return true end
  end
  return false
end

local function check_params(entry, where)
  local annotated = {}
  for i, param in ipairs(entry.doc.params) do
    annotated[i] = param.name
    if param.type == "" or param.text == "" then
      problem("%s: `@param %s` needs a type and a text (what it is, its unit)", where, param.name)
    end
  end
  local given, real = table.concat(annotated, ", "), table.concat(entry.params, ", ")
  if given ~= real then
    problem("%s: takes (%s), but its annotation has (%s)", where, real, given)
  end
end

local function check_results(entry, where)
  local doc, returned, taken = entry.doc, "", ""
  for _, item in ipairs(doc.returns) do
    if item.name ~= "self" then returned = returned .. " " .. item.type end
  end
  for _, param in ipairs(doc.params) do taken = taken .. " " .. param.type end
  if (mentions(returned, OWNED) or mentions(taken, { "Slice", "View" }))
    and not says_ownership(doc.own) then
    problem("%s: an `own:` line must say who owns what (%s)", where, table.concat(OWNERSHIP, ", "))
  end
  local third = doc.returns[3]
  if third and third.name == "name" and not (doc.err or third.text):find('"') then
    problem('%s: fails, but no `err:` line says with which names ("closed", …)', where)
  end
  for name in (doc.err or ""):gmatch('"([^"]*)"') do
    if not error_names[name] then problem("%s: no error is called %q", where, name) end
  end
end

local function options_text(entry)
  local text = {}
  for _, param in ipairs(entry.doc.params) do
    local class = classes[param.type:match("^neap%.([%w_]+)") or false]
    text[#text + 1] = param.text
    for _, field in ipairs(class and class.doc.fields or {}) do text[#text + 1] = field.name end
  end
  return table.concat(text, " ")
end

local function check_options(entry, where)
  local text = options_text(entry)
  local elsewhere = options_of[text:match("the other options of ([%w_.]+)") or false] or {}
  for _, name in ipairs(entry.names) do
    local known = options_of[name] or options_of[name:match("^neap%.(.*)$") or ""]
      or options_of[name:match("^(.*)%.new$") or ""]
    for _, option in ipairs(sorted_keys(known or {})) do
      if elsewhere[option] == nil and not text:find("%f[%w_]" .. option .. "%f[^%w_]") then
        problem("%s: its option `%s` is in no annotation", where, option)
      end
    end
  end
end

local function check_entry(entry)
  local where = ("%s%s.lua:%d: %s"):format(SOURCES, entry.file, entry.line, entry.names[1])
  if not entry.doc.about:find("%S") then
    return problem("%s: has no comment that says what it does", where)
  end
  check_params(entry, where)
  check_results(entry, where)
  check_options(entry, where)
end

-- ---- the document ----

local out, anchors

local function put(text, ...) out[#out + 1] = select("#", ...) > 0 and text:format(...) or text end

-- What renderers of Markdown make of a heading.
local function anchor_of(heading)
  return (heading:lower():gsub("[^%w %-_]", ""):gsub(" ", "-"))
end

local function heading_of(entry)
  local call = ("%s(%s)"):format(entry.names[1], table.concat(entry.params, ", "))
  if #entry.names == 1 then return call end
  return ("%s and %d like it"):format(call, #entry.names - 1)
end

local function link(entry, text)
  return ("[%s](#%s)"):format(text or heading_of(entry), anchor_of(heading_of(entry)))
end

local function code_list(names)
  local list = {}
  for i, name in ipairs(names) do list[i] = "`" .. name .. "`" end
  return table.concat(list, " ")
end

-- Comments show code indented by five blanks, as Markdown wants four.
local function paragraphs(text)
  return (text:gsub("\n     ", "\n    "))
end

local function full_stop(text)
  return text == "" and "" or text:find("[.:!?]$") and text or text .. "."
end

local function put_returns(returns)
  if #returns == 0 then return put("Returns nothing.\n") end
  local fails = #returns == 3 and returns[2].name == "message" and returns[3].name == "name"
  local list = {}
  for i = 1, fails and 1 or #returns do
    local item = returns[i]
    local kind = fails and item.type:gsub("|nil$", "") or item.type
    list[i] = "`" .. kind .. "`" .. (item.name and " " .. item.name or "")
      .. ((not fails and item.text ~= "") and " (" .. item.text .. ")" or "")
  end
  local text = "Returns " .. table.concat(list, ", ")
  if fails then
    text = text .. "; or `nil, message, name`"
    if returns[3].text ~= "" then text = text .. ": " .. returns[3].text end
  end
  put(full_stop(text) .. "\n")
end

local function put_entry(entry)
  local doc, heading = entry.doc, heading_of(entry)
  local anchor = anchor_of(heading)
  if anchors[anchor] then problem("two headings of the same name: %s", heading) end
  anchors[anchor] = true
  put("#### %s\n", heading)
  if #entry.names > 1 then put("%s\n", code_list(entry.names)) end
  put(paragraphs(doc.about) .. "\n")
  for _, param in ipairs(doc.params) do
    put("- `%s` (`%s`%s): %s", param.name, param.type, param.optional and ", optional" or "",
      full_stop(param.text))
  end
  if #doc.params > 0 then put("") end
  put_returns(doc.returns)
  if doc.err then put("Errors: %s\n", full_stop(doc.err)) end
  if doc.own then put("Ownership: %s\n", full_stop(doc.own)) end
end

local function put_fields(class)
  for _, field in ipairs(class.doc.fields) do
    local name = class.has_methods and class.spoken .. "." .. field.name
      or class.name == "" and "neap." .. field.name or field.name
    put("- `%s` (`%s`%s): %s", name, field.type, field.optional and ", optional" or "",
      full_stop(field.text))
  end
  for _, operator in ipairs(class.doc.operators) do
    local result, text = operator:match("^len: ?([%w_]+) ?(.*)$")
    if result then put("- `#%s` (`%s`): %s", class.spoken, result, full_stop(text)) end
  end
  if #class.doc.fields + #class.doc.operators > 0 then put("") end
end

-- Methods that another class has as well, and that are described there.
local function put_shared(class)
  local by_owner = {}
  for _, entry in ipairs(entries) do
    if entry.as[class.spoken] then
      by_owner[entry.owner] = by_owner[entry.owner] or {}
      table.insert(by_owner[entry.owner], link(entry, ("%s%s"):format(
        entry.as[class.spoken][1]:match(":(.*)$"), #entry.as[class.spoken] > 1 and " …" or "")))
    end
  end
  for _, owner in ipairs(sorted_keys(by_owner)) do
    put("As `%s:` has them: %s.\n", owner, table.concat(by_owner[owner], " · "))
  end
end

-- Those of the class's own file first.
local function methods_in(class)
  local own, others = {}, {}
  for _, entry in ipairs(entries) do
    if entry.method and entry.owner == class.spoken then
      local list = entry.file == class.file and own or others
      list[#list + 1] = entry
    end
  end
  for _, entry in ipairs(others) do own[#own + 1] = entry end
  return own
end

local function put_class(class)
  local title = class.name == "" and "neap" or "neap." .. class.name
  if class.name ~= "" then put("### %s%s\n", title, class.has_methods and "" or " (a table)") end
  put(paragraphs(class.doc.about) .. "\n")
  put_fields(class)
  for _, entry in ipairs(methods_in(class)) do put_entry(entry) end
  put_shared(class)
end

local function classes_in(file)
  local found = {}
  for _, name in ipairs(sorted_keys(classes)) do
    if classes[name].file == file then found[#found + 1] = classes[name] end
  end
  return found
end

local function functions_in(file)
  local found = {}
  for _, entry in ipairs(entries) do
    if not entry.method and entry.file == file then found[#found + 1] = entry end
  end
  return found
end

local function entries_of_chapter(chapter)
  local found = functions_in(chapter.file)
  for _, class in ipairs(classes_in(chapter.file)) do
    for _, entry in ipairs(methods_in(class)) do found[#found + 1] = entry end
  end
  return found
end

local INTRODUCTION = [[
# Reference

Every public function of neap, generated from the comments in its source (`luajit
tools/reference.lua --write`). [The tutorial](tutorial.md) is the place to start;
[buffers.md](buffers.md) says what the buffers promise, [../SECURITY.md](../SECURITY.md) what
the limits are for.

Sizes and offsets are bytes, times are seconds. Offsets count from 0; a range is (offset,
length); only `str(from, to)` counts as `string.sub` does.

A failure of the outside world comes back as `nil, message, name`: the message is for people,
the name for code. A mistake of the script (a wrong type, an offset past the end, a handle that
was released) raises at the script's line, and nothing has changed then.

Ownership is told in five words. *Borrows*: until the call returns. *Retains*: it keeps a
reference of its own. *Takes*: the caller's handle is gone, also when the call fails with `nil,
message, name`. *Returns owned*: the caller ends it, with `release` or `close`. *Returns
borrowed*: valid until the event that is named. What a script forgets to end the collector ends
later, and counts.

Functions that wait (`neap.sleep`, `neap.connect`, the reads and writes of a connection,
`task:join`) let other tasks run meanwhile.
]]

local function put_index()
  put("## Index\n")
  for _, chapter in ipairs(CHAPTERS) do
    local list = {}
    for i, entry in ipairs(entries_of_chapter(chapter)) do
      local name = entry.names[1]
      list[i] = link(entry, "`" .. name .. (#entry.names > 1 and " …" or "") .. "`")
    end
    put("- [%s](#%s): %s", chapter.title, anchor_of(chapter.title), table.concat(list, " · "))
  end
  put("- [Names of errors](#names-of-errors)\n")
end

local function put_errors()
  put("## Names of errors\n")
  put("The third result of a failure, and what it says to people where nothing more is known.\n")
  local used = {}
  for _, entry in ipairs(entries) do
    for name in (entry.doc.err or ""):gmatch('"([^"]*)"') do used[name] = error_names[name] end
  end
  for _, name in ipairs(sorted_keys(used)) do
    put("- `\"%s\"`: %s", name, full_stop(error_names[name]))
  end
end

local function document()
  out, anchors = {}, {}
  for _, entry in ipairs(entries) do
    if not entry.method then add_chapter(entry.file) end
  end
  for _, name in ipairs(sorted_keys(classes)) do add_chapter(classes[name].file) end
  put(INTRODUCTION)
  put_index()
  for _, chapter in ipairs(CHAPTERS) do
    put("## %s\n", chapter.title)
    local module = chapter.file == "init" and classes[""]
    if module then
      put(paragraphs(module.doc.about) .. "\n")
      put_fields(module)
    end
    for _, entry in ipairs(functions_in(chapter.file)) do put_entry(entry) end
    for _, class in ipairs(classes_in(chapter.file)) do
      if class.name ~= "" then put_class(class) end
    end
  end
  put_errors()
  return (table.concat(out, "\n"):gsub("\n\n\n+", "\n\n"):gsub("%s+$", "") .. "\n")
end

-- ---- the command ----

local function main(word)
  walk()
  read_errors()
  for _, entry in ipairs(entries) do check_entry(entry) end
  local text = document()
  if word == "--write" then
    local file = assert(io.open(DOCUMENT, "wb"))
    file:write(text)
    file:close()
  else
    local file = io.open(DOCUMENT, "rb")
    if not file or file:read("*a") ~= text then
      problem("%s is not what the comments say: luajit tools/reference.lua --write", DOCUMENT)
    end
    if file then file:close() end
  end
  for _, line in ipairs(problems) do io.stderr:write(line, "\n") end
  os.exit(#problems == 0 and 0 or 1)
end

main(arg[1])
