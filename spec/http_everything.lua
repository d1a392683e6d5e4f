-- A server that has something of everything, for clients of HTTP that nobody here wrote
-- (http_clients_spec.lua). Its arguments: an address, and a directory.
local http = require("neap.http")

local app = http.router():use(assert(http.gzip()))
app:get("/", function() return "hello\n" end)
app:get("/page", function() return http.html("<link rel=icon href=data:,><h1>page</h1>") end)
app:on({ "POST", "PUT" }, "/echo", function(request) return assert(request:text()) end)
app:get("/arguments", function(request) return request.arguments.i end)
app:get("/gzip", function() return ("x"):rep(50000) end)
app:get("/redirect", function() return http.redirect("/") end)
app:get("/error", function() error("on purpose") end)
app:get("/files/*file", assert(http.files(arg[2])))
app:get("/stream", function()
  return { type = "application/octet-stream", body = function(out)
    for _ = 1, 200 do out:write(("y"):rep(10000)) end
    out.trailers = { ["X-End"] = "1" }
  end }
end)
app:get("/events", function()
  return http.events(function(events) events:send("one"):send("two\nlines", "named") end)
end)
app:get("/upgrade", function()
  return http.upgrade("shout", function(conn)
    for line in conn:lines() do conn:write(line:upper() .. "\n") end
  end)
end)
app:post("/form", function(request)
  local found = {}
  for part in request:parts() do
    local text = part:text()
    if part.filename then text = #text .. " " .. part.filename end
    found[#found + 1] = part.name .. "=" .. text
  end
  return table.concat(found, " ")
end)

local server = assert(http.serve(arg[1], app, { head_timeout = 3, body_timeout = 3, timeout = 3,
  idle_timeout = 5 }))
print("listening on " .. server.address)
print("ready")
io.stdout:flush()
