-- Notes, as JSON over HTTP, and files; both are kept in a directory.
--
--     neap examples/http_api.lua [tcp://127.0.0.1:8080] [DIRECTORY]
--
--     GET, POST /notes             all of them; a new one: {"text": "…"}
--     GET, PUT, DELETE /notes/ID
--     GET, PUT /files/NAME         up to 1 GB, streamed
--
-- What is written goes into a file of its own, which then takes the other one's place: who reads
-- finds the old bytes or the new ones, and a disk that is full changes nothing.
local cjson = require("cjson")
local http = require("neap.http")

collectgarbage("setpause", 100) -- each piece of an upload is a string for a moment
collectgarbage("setstepmul", 1000)

local directory = arg[2] or "."
local NOTES, MAX_FILE, MAX_NOTE = directory .. "/notes.json", 1e9, 10000 -- bytes

-- write(file) writes it. Returns true, or nil and what is wrong.
local temporary = 0
local function replace(path, write)
  temporary = temporary + 1
  local name = ("%s/.new-%d"):format(directory, temporary)
  local file, wrong = io.open(name, "w")
  if not file then return nil, wrong end
  local ok, done, why = pcall(write, file)
  local closed, left = file:close()
  if ok and done and closed then return os.rename(name, path) end
  os.remove(name)
  if not ok then error(done, 0) end
  return nil, why or left
end

local function read_notes()
  local file = io.open(NOTES)
  if not file then return { last = 0, by_id = {} } end
  local ok, notes = pcall(cjson.decode, file:read("*a"))
  file:close()
  return ok and notes or error(NOTES .. ": " .. tostring(notes), 0)
end

local notes = read_notes()

-- A note's text, or none any more: as soon as it is on the disk.
local function change(id, text)
  local changed = { last = math.max(notes.last, tonumber(id)), by_id = { [id] = text } }
  for other, old in pairs(notes.by_id) do
    if other ~= id then changed.by_id[other] = old end
  end
  local ok, wrong = replace(NOTES, function(file) return file:write(cjson.encode(changed)) end)
  if not ok then return http.problem(507, wrong) end
  notes = changed
end

local function put(request, id, status)
  local note = assert(request:json(MAX_NOTE))
  if type(note) ~= "table" or type(note.text) ~= "string" then
    return http.problem(422, 'a note is {"text": "…"}')
  end
  return change(id, note.text) or http.json({ id = id, text = note.text }, status)
end

local function known(handler)
  return function(request)
    local text = notes.by_id[request.params.id]
    return text and handler(request, request.params.id, text) or http.problem(404)
  end
end

local app = http.router()
app:get("/notes", function() return http.json(notes.by_id) end)
app:post("/notes", function(request) return put(request, tostring(notes.last + 1), 201) end)
app:get("/notes/:id", known(function(_, id, text) return http.json({ id = id, text = text }) end))
app:put("/notes/:id", known(function(request, id) return put(request, id) end))
app:delete("/notes/:id", known(function(_, id) return change(id, nil) or { status = 204 } end))
app:get("/files/*file", assert(http.files(directory)))
app:put("/files/:file", function(request)
  local name = request.params.file
  if not name:find("^%w[%w._-]*$") then return http.problem(422, "not a name for a file") end
  request.max_body = MAX_FILE
  local ok, wrong = replace(directory .. "/" .. name, function(file)
    for chunk in request:chunks() do
      local written, why = file:write(chunk:str())
      chunk:release()
      if not written then return nil, why end
    end
    return true
  end)
  return ok and { status = 201 } or http.problem(507, wrong)
end)

local server = assert(http.serve(arg[1] or "tcp://127.0.0.1:8080", app))
print("listening on " .. server.address)
local url = server.address:gsub("^tcp", "http")
print("try it: curl --json '{\"text\": \"a note\"}' " .. url .. "/notes")
io.stdout:flush()
