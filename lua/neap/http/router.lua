--- Routers: which handler a request is for, by its path and method.

local abi = require("neap.abi")
local check = require("neap.check")
local response = require("neap.http.response")
local text_module = require("neap.http.text")

local type, pairs, ipairs = type, pairs, ipairs

local M = {}

--- What `http.router` gives: it is a handler for `http.serve`.
--- @class neap.HttpRouter
local Router = {}
local state_of = setmetatable({}, { __mode = "k" })

local function check_router(self, name)
  local state = state_of[self]
  if state then return state end
  check.raise("router:" .. name .. ": called on " .. type(self) .. ", not on a router")
end

-- ---- routes ----

-- A node: `names` by literal segment, `any` (a parameter) and `rest` as further nodes; `handlers`
-- by method.
local function new_node() return { names = {} } end

local function step_to(node, segment, params, what)
  local mark, name = segment:match("^([:*])(.*)$")
  if not mark then
    node.names[segment] = node.names[segment] or new_node()
    return node.names[segment]
  end
  if not name:find("^[%a_][%w_]*$") then
    check.raise(("%s: %q is no name of a parameter"):format(what, name))
  end
  params[#params + 1] = name
  local which = mark == ":" and "any" or "rest"
  node[which] = node[which] or new_node()
  return node[which]
end

local function add(state, method, path, handler, what)
  check.string(path, what .. ": path")
  if path:sub(1, 1) ~= "/" then check.raise(what .. ': path must begin with "/"') end
  if path:find("%*[^/]*/") then check.raise(what .. ": nothing comes behind a *") end
  check.fn(handler, what .. ": handler")
  local node, params = state.root, {}
  for segment in (path:sub(2) .. "/"):gmatch("([^/]*)/") do
    node = step_to(node, segment, params, what)
  end
  node.handlers = node.handlers or {}
  if node.handlers[method] then
    check.raise(("%s: %s %s has a handler already"):format(what, method, path))
  end
  node.handlers[method] = { handler = handler, params = params }
end

-- Segments of a path, decoded; nil: it cannot be.
local function segments_of(path)
  local list, n = {}, 0
  for segment in (path:sub(2) .. "/"):gmatch("([^/]*)/") do
    segment = text_module.unescape(segment)
    if not segment then return nil end
    n = n + 1
    list[n] = segment
  end
  return list
end

-- The route of a node for the method; or nil, and its handlers are those of other methods.
local function route_of(node, search)
  local handlers = node.handlers
  if not handlers then return nil end
  local route = handlers[search.method] or (search.method == "HEAD" and handlers.GET)
  if route then return route end
  search.others = search.others or {}
  for method in pairs(handlers) do search.others[method] = true end
  return nil
end

-- Literal names go before parameters, and those before what takes the rest.
local function find(node, segments, i, search)
  if i > #segments then return route_of(node, search) end
  local next_node, values = node.names[segments[i]], search.values
  local found = next_node and find(next_node, segments, i + 1, search)
  if found then return found end
  if node.any and segments[i] ~= "" then
    values[#values + 1] = segments[i]
    found = find(node.any, segments, i + 1, search)
    if found then return found end
    values[#values] = nil
  end
  found = node.rest and route_of(node.rest, search)
  if found then values[#values + 1] = table.concat(segments, "/", i) end
  return found
end

local function allow_of(handlers)
  local names = { "OPTIONS" }
  for name in pairs(handlers) do
    if name ~= "OPTIONS" then names[#names + 1] = name end
  end
  if handlers.GET and not handlers.HEAD then names[#names + 1] = "HEAD" end
  table.sort(names)
  return table.concat(names, ", ")
end

local function without_handler(handlers, method)
  local allow = { Allow = allow_of(handlers) }
  if method == "OPTIONS" then return { status = 204, headers = allow } end
  return response.problem(405, nil, allow)
end

local function dispatch(state, request)
  local path, method = request.path, request.method
  if path:sub(1, 1) ~= "/" then -- "*", of OPTIONS
    return { status = 204, headers = { Allow = table.concat(state.methods, ", ") } }
  end
  local segments, search = segments_of(path), { method = method, values = {} }
  if not segments then return response.problem(400) end
  local route = find(state.root, segments, 1, search)
  if not route then
    return search.others and without_handler(search.others, method) or response.problem(404)
  end
  local params = {}
  for i, name in ipairs(route.params) do params[name] = search.values[i] end
  request.params = params
  return route.handler(request)
end

-- ---- what scripts call ----

local function chained(middleware, handler)
  for i = #middleware, 1, -1 do
    local around, inner = middleware[i], handler
    handler = function(request) return around(request, inner) end
  end
  return handler
end

--- The function that a server calls.
function M.handler_of(self)
  local state = state_of[self]
  return chained(state.middleware, function(request) return dispatch(state, request) end)
end

--- Has requests of a method, or of several, and a path handled by a function. A path is made of
--- names, of parameters (":id") and, at its end, what takes all the rest ("*file"); parameters are
--- in `request.params`, decoded. Names go before parameters. GET answers HEAD as well, and OPTIONS
--- is answered by itself.
--- @param methods string|string[] such as "GET"
--- @param path string such as "/notes/:id"
--- @param handler fun(request: neap.HttpRequest): any returns the answer
--- @return neap.HttpRouter router
function Router:on(methods, path, handler)
  local state = check_router(self, "on")
  if type(methods) ~= "table" then methods = { check.string(methods, "router:on: methods") } end
  if #methods == 0 then check.raise("router:on: methods must be at least one") end
  for _, method in ipairs(methods) do
    check.string(method, "router:on: methods")
    add(state, method, path, handler, "router:on")
    if not state.known[method] then
      state.known[method] = true
      state.methods[#state.methods + 1] = method
    end
  end
  return self
end

--- As `on` with "GET".
--- @param path string such as "/notes/:id"
--- @param handler fun(request: neap.HttpRequest): any returns the answer
--- @return neap.HttpRouter router
function Router:get(path, handler) return Router.on(self, "GET", path, handler) end

--- As `on` with "POST".
--- @param path string such as "/notes"
--- @param handler fun(request: neap.HttpRequest): any returns the answer
--- @return neap.HttpRouter router
function Router:post(path, handler) return Router.on(self, "POST", path, handler) end

--- As `on` with "PUT".
--- @param path string such as "/notes/:id"
--- @param handler fun(request: neap.HttpRequest): any returns the answer
--- @return neap.HttpRouter router
function Router:put(path, handler) return Router.on(self, "PUT", path, handler) end

--- As `on` with "DELETE".
--- @param path string such as "/notes/:id"
--- @param handler fun(request: neap.HttpRequest): any returns the answer
--- @return neap.HttpRouter router
function Router:delete(path, handler) return Router.on(self, "DELETE", path, handler) end

--- Puts a function around all handlers: it may answer itself, or return what next(request) does.
--- The first is the outermost.
--- @param middleware function of the request and what is within; returns the answer
--- @return neap.HttpRouter router
function Router:use(middleware)
  local state = check_router(self, "use")
  state.middleware[#state.middleware + 1] = check.fn(middleware, "router:use: middleware")
  return self
end

local metatable = {
  __index = Router,
  __newindex = function() check.raise("router: it has no fields to set") end,
  __metatable = "neap.httpRouter",
}

--- A router without routes: what it has none for is a 404, or a 405 with the methods that there
--- are.
--- @return neap.HttpRouter router
function M.new()
  local router = setmetatable({}, metatable)
  state_of[router] = { root = new_node(), middleware = {}, methods = { "OPTIONS" },
    known = { OPTIONS = true } }
  return router
end

return abi.keep("neap.http.router", M)
