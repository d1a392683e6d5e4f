--- Writes each field of what neap gives as tables (timers, tasks, channels, scopes) and uses them:
---
---     neap spec/fuzz/fields.lua [first]
---
--- A case is one object, one field and one value; its number is printed before. Its error may end
--- the process, and then whoever runs this goes on behind it (spec/fuzz_spec.lua). What must hold:
--- no signal does, so nothing of it has reached memory.

local neap = require("neap")

local values = { "nil", "true", "-1", "0/0", "2^32 + 5", "'x'", "{}", "1LL", "neap.copy('x')" }

local function waits() neap.sleep(0.5) end
local function turn(x)
  neap.sleep(0)
  return x
end

local function channel_with(n, waiter)
  local channel = neap.channel(n)
  for _ = 1, n do channel:send(1) end
  for _ = 1, 2 do neap.spawn(waiter, channel) end
  return turn(channel)
end

local makers = {
  { "timer", function() return neap.after(0.001, function() end) end },
  { "beat", function() return neap.every(0.001, function() end) end },
  { "task", function() return turn(neap.spawn(waits)) end },
  { "task in a deadline", function()
    return turn(neap.spawn(function() neap.deadline(0.002, waits) end))
  end },
  { "ended task", function() return turn(neap.spawn(turn)) end },
  { "full channel", function()
    return channel_with(1, function(channel) channel:send(neap.copy("x"), 0.002) end)
  end },
  { "empty channel", function()
    return channel_with(0, function(channel) channel:receive(0.002) end)
  end },
  { "scope", function()
    local scope
    neap.spawn(neap.scope, function(it)
      scope = it
      it:defer(turn)
      it:spawn(waits)
      neap.sleep(0.005)
    end)
    return turn(scope) or scope
  end },
}

local uses = {
  tostring, function(x) return x:cancel() end, function(x) return x:join(0.001) end,
  function(x) return x:send(neap.copy("y"), 0.001) end, function(x) return x:receive(0.001) end,
  function(x) return x:len() end, function(x) return x:spawn(turn) end,
  function(x) return x:defer(turn) end, function(x) return neap.select({ x }, 0.001) end,
  function(x) return neap.select({ { x, 1 } }, 0.001) end, function() return neap.sleep(0.003) end,
  function(x) return x:cancel() end, function(x) return x:close() end,
}

local first, number = tonumber(arg[1] or 1), 0

local function case(name, make, key, value)
  number = number + 1
  if number < first then return end
  io.write(("%d %s.%s = %s\n"):format(number, name, tostring(key), value))
  io.flush()
  local x = make()
  x[key] = assert(loadstring("local neap = ... return " .. value))(neap)
  for _, use in ipairs(uses) do pcall(use, x) end
end

neap.log.configure { level = "error" }
for _, maker in ipairs(makers) do
  local name, make = maker[1], maker[2]
  local keys = {}
  for key in pairs(make()) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    for _, value in ipairs(values) do case(name, make, key, value) end
  end
end
neap.sleep(0.05)
collectgarbage()
print("done: " .. number)
os.exit(0)
