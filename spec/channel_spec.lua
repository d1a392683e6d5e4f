--- Channels: order, room, waiting, closing, slices on their way; and every interleaving of a few
--- tasks against a plain model.

local helper = require("spec.helper")
local neap = require("neap")
local task = require("neap.task")

local raises = helper.raises

local RUNS = tonumber(os.getenv("MODEL_RUNS")) or 10000

local function failure(result, message, name)
  assert.is_nil(result)
  assert.is_string(message)
  return name
end

local function name_of(_, _, name) return name end

describe("a channel", function()
  helper.watch(before_each, after_each)

  it("hands values over in the order in which they were sent", function()
    for room = 0, 3 do
      local channel, got = neap.channel(room), {}
      local sender = neap.spawn(function()
        for i = 1, 10 do assert(channel:send(i)) end
        channel:close()
      end)
      for value in function() return (channel:receive()) end do got[#got + 1] = value end
      assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, got)
      assert.same({}, { sender:join() })
    end
  end)

  it("takes any value but nil, false too", function()
    local channel = neap.channel(3)
    local t = {}
    for _, value in ipairs { false, t, "x" } do
      if value == false or value then channel:send(value) end
    end
    assert.is_false(channel:receive())
    assert.equal(t, channel:receive())
    assert.equal("x", channel:receive())
    raises("channel:send: nil cannot be sent", function() channel:send(nil) end)
  end)

  it("without room keeps the sender until somebody receives", function()
    local channel, sent = neap.channel(), false
    local sender = neap.spawn(function() sent = channel:send("x") end)
    neap.sleep(0)
    assert.is_false(sent)
    assert.equal(0, channel:len())
    assert.equal("x", channel:receive())
    sender:join()
    assert.is_true(sent)
  end)

  it("keeps a sender only while it is full, and tells how many values it holds", function()
    local channel = neap.channel(2)
    assert(channel:send(1))
    assert(channel:send(2))
    assert.equal(2, channel:len())
    assert.equal("channel with 2 of 2 values", tostring(channel))
    assert.equal("timeout", failure(channel:send(3, 0.001)))
    assert.equal("limit", failure(channel:send(3, 0)))
    assert.equal(1, channel:receive())
    assert(channel:send(3, 0))
    assert.equal(2, channel:receive())
    assert.equal(3, channel:receive())
    assert.equal("timeout", failure(channel:receive(0)))
    assert.equal("timeout", failure(channel:receive(0.001)))
    assert.equal(0, channel:len())
  end)

  it("serves who has waited longest, and nobody who came later", function()
    local channel, order = neap.channel(), {}
    local receivers = {}
    for i = 1, 3 do
      receivers[i] = neap.spawn(function() order[i] = channel:receive() end)
    end
    neap.sleep(0)
    for i = 1, 3 do assert(channel:send(i)) end
    assert.equal("timeout", failure(channel:receive(0))) -- they have them already
    for i = 1, 3 do receivers[i]:join() end
    assert.same({ 1, 2, 3 }, order)
    for i = 1, 3 do neap.spawn(function() channel:send(i) end) end
    neap.sleep(0)
    assert.same({ 1, 2, 3 }, { channel:receive(), channel:receive(), channel:receive() })
  end)

  it("that is closed gives away what it holds, and then says so", function()
    local channel = neap.channel(2)
    assert(channel:send(1))
    assert(channel:send(2))
    local waiting = neap.spawn(function() return select(3, channel:send(3)) end)
    neap.sleep(0)
    assert.equal(0, channel:close())
    assert.equal(0, channel:close())
    assert.equal("closed", (waiting:join()))
    assert.equal("closed", failure(channel:send(4)))
    assert.equal(1, channel:receive())
    assert.equal(2, channel:receive())
    assert.equal("closed", failure(channel:receive()))
  end)

  it("that is closed wakes all receivers", function()
    local channel, tasks = neap.channel(), {}
    for i = 1, 3 do tasks[i] = neap.spawn(function() return select(3, channel:receive()) end) end
    neap.sleep(0)
    channel:close()
    for i = 1, 3 do assert.equal("closed", (tasks[i]:join())) end
  end)

  it("moves a slice: the sender's handle is stale, the receiver owns it, prefix and all", function()
    local channel = neap.channel(1)
    local slice = assert(neap.copy("..header"))
    slice:truncate_front(2)
    assert(channel:send(slice))
    raises("released or taken before", function() slice:str() end)
    raises("channel:send: x is a slice that was released", function() channel:send(slice) end)
    assert.equal(1, helper.slice_stats().live)
    local got = channel:receive()
    assert.equal("header", got:str())
    assert.is_true(got:expand_front(2))
    got:release()
  end)

  it("takes a slice also when it cannot be sent, but not when it does not wait", function()
    local channel = neap.channel()
    assert.equal("timeout", failure(channel:send(assert(neap.copy("x")), 0.001)))
    local slice = assert(neap.copy("x"))
    assert.equal("limit", failure(channel:send(slice, 0)))
    assert.equal("x", slice:str())
    channel:close()
    assert.equal("closed", failure(channel:send(slice)))
    raises("released or taken before", function() slice:str() end)
    assert.equal(0, helper.slice_stats().live)
  end)

  it("that is closed now releases what it holds, and tells how much", function()
    local channel = neap.channel(3)
    for i = 1, 3 do channel:send(assert(neap.copy("slice " .. i))) end
    local waiting = neap.spawn(function() return select(3, channel:send(neap.copy("x"))) end)
    neap.sleep(0)
    assert.equal(4, helper.slice_stats().live)
    assert.equal(3, channel:close(true))
    assert.equal("closed", (waiting:join()))
    assert.equal(0, helper.slice_stats().live)
    assert.equal("closed", failure(channel:receive()))
  end)

  it("that is forgotten has its slices released, and counted", function()
    local before = helper.default_stats().slices_collected
    do
      local channel = neap.channel(2)
      channel:send(assert(neap.copy("a")))
      channel:send(assert(neap.copy("b")))
    end
    collectgarbage()
    collectgarbage()
    assert.equal(2, tonumber(helper.default_stats().slices_collected - before))
  end)

  it("lets a value that came before the cancel be received, and the next wait tell it", function()
    local channel = neap.channel()
    local receiver = neap.spawn(function()
      local got = channel:receive()
      local text = got:str()
      got:release()
      return text, select(3, neap.sleep(60))
    end)
    neap.sleep(0)
    assert(channel:send(neap.copy("came first")))
    receiver:cancel()
    assert.same({ "came first", "cancelled" }, { receiver:join() })
  end)

  it("lets the loop turn while tasks hand values back and forth for ever", function()
    local there, back, going = neap.channel(), neap.channel(), true
    neap.spawn(function()
      while going do
        there:send(1)
        back:receive()
      end
      there:close()
    end)
    local other = neap.spawn(function()
      while there:receive() do back:send(1) end
    end)
    neap.sleep(0.002)
    going = false
    other:join()
  end)

  it("raises at the caller's line what is misused, with nothing taken", function()
    for _, bad in ipairs { -1, 1.5, 0 / 0, "1", {}, 2 ^ 25 } do
      raises("neap.channel: n must be", function() neap.channel(bad) end)
    end
    local channel = neap.channel()
    for _, name in ipairs { "send", "receive", "close", "len" } do
      helper.refuses_self(channel[name], "channel:" .. name, helper.not_objects())
    end
    for _, bad in ipairs { -1, 0 / 0, "1", {} } do
      raises("channel:send: seconds", function() channel:send(1, bad) end)
      raises("channel:receive: seconds", function() channel:receive(bad) end)
    end
    local slice = assert(neap.copy("x"))
    coroutine.wrap(function()
      raises("neap.wrap", function() channel:send(slice); end)
      raises("neap.wrap", function() channel:receive(); end)
    end)()
    slice:release()
  end)

  it("works outside of all tasks", function()
    local run = helper.stock([[
      local neap = require("neap")
      local channel = neap.channel()
      neap.spawn(function() for i = 1, 3 do channel:send(i) end channel:close() end)
      local sum = 0
      for value in function() return channel:receive() end do sum = sum + value end
      print(sum)
    ]])
    assert.equal("6\n", run.out)
    assert.equal("", run.err)
  end)
end)

describe("neap.select", function()
  helper.watch(before_each, after_each)

  it("does what can be done now, each case in its turn", function()
    local a, b = neap.channel(4), neap.channel(4)
    for i = 1, 4 do
      a:send("a" .. i)
      b:send("b" .. i)
    end
    local from = { 0, 0 }
    for _ = 1, 4 do
      local index = neap.select { a, b }
      from[index] = from[index] + 1
    end
    assert.same({ 2, 2 }, from)
    local c = neap.channel(1)
    assert.same({ 1, true }, { neap.select { { c, "x" } } })
    assert.same({ 2, "x" }, { neap.select { { c, "y" }, c } })
    assert.equal(0, c:len())
  end)

  it("waits for the first to receive or to send, and leaves the other queues", function()
    local a, b = neap.channel(), neap.channel()
    neap.spawn(function()
      neap.sleep(0)
      b:send("from b")
    end)
    assert.same({ 2, "from b" }, { neap.select { a, b } })
    assert.equal("limit", name_of(a:send("nobody receives", 0)))
    neap.spawn(function()
      neap.sleep(0)
      assert.equal("to b", b:receive())
    end)
    assert.same({ 2, true }, { neap.select { a, { b, "to b" } } })
    assert.equal("timeout", name_of(b:receive(0)))
  end)

  it("waits for tasks and timers", function()
    local channel = neap.channel()
    local ending = neap.spawn(function() neap.sleep(0.001) return 7, 8 end)
    assert.same({ 2, 7, 8 }, { neap.select { channel, ending } })
    assert.same({ 1, 7, 8 }, { neap.select { ending } }) -- has ended already
    local timer = neap.after(0.001, function() end)
    assert.same({ 2, true }, { neap.select { channel, timer } })
    assert.same({ 1, true }, { neap.select { timer } })
  end)

  it("tells that a channel is closed, and of its own failures without an index", function()
    local channel = neap.channel()
    assert.equal("timeout", name_of(neap.select({ channel }, 0)))
    assert.equal("timeout", name_of(neap.select({ channel }, 0.001)))
    local waiting = neap.spawn(function() return name_of(neap.select { channel }) end)
    neap.sleep(0)
    waiting:cancel()
    assert.equal("cancelled", (waiting:join()))
    neap.spawn(function() channel:close() end)
    local index, result, _, name = neap.select { channel }
    assert.same({ 1, nil, "closed" }, { index, result, name })
    index, result, _, name = neap.select { { channel, "x" } }
    assert.same({ 1, nil, "closed" }, { index, result, name })
  end)

  it("takes a slice only when it was sent", function()
    local a, b = neap.channel(), neap.channel()
    local slice = assert(neap.copy("x"))
    assert.equal("timeout", name_of(neap.select({ { a, slice }, { b, slice } }, 0.001)))
    assert.equal("x", slice:str())
    neap.spawn(function() neap.select { { a, slice }, { b, slice } } end)
    neap.sleep(0)
    local got = b:receive()
    raises("released or taken before", function() slice:str() end)
    assert.equal("x", got:str())
    got:release()
    assert.equal("timeout", name_of(a:receive(0)))
    local lost = assert(neap.copy("lost"))
    local sender = neap.spawn(function() return pcall(neap.select, { { a, lost } }) end)
    neap.sleep(0)
    lost:release()
    assert.equal("timeout", name_of(a:receive(0.001)))
    local ok, err = sender:join()
    assert.is_false(ok)
    assert.matches("neap.select: [1]: x is a slice that was released", err, 1, true)
  end)

  it("raises at the caller's line what is misused", function()
    local every = neap.every(60, print)
    raises("neap.select: cases must be a list", function() neap.select() end)
    raises("neap.select: cases must be a list", function() neap.select {} end)
    raises("neap.select: cases must be a list", function() neap.select(neap.channel()) end)
    raises("neap.select: [1] must be a channel", function() neap.select { 1 } end)
    raises("neap.select: [1] must be a channel", function() neap.select { { 1, 2 } } end)
    raises("neap.select: [1]: nil cannot", function() neap.select { { neap.channel() } } end)
    raises("must be a timer of neap.after", function() neap.select { every } end)
    raises("neap.select: seconds", function() neap.select({ neap.channel() }, -1) end)
    every:cancel()
  end)
end)

-- ---- against a model ----

-- The model is lists and nothing else. In one batch all operations happen before anybody who
-- waited goes on; so one that was cancelled may still be served in it.
local Model = {}
Model.__index = Model

local function new_model(room)
  return setmetatable({ room = room, values = {}, senders = {}, receivers = {}, results = {} },
    Model)
end

function Model:send(id)
  if self.closed then
    self.results[id] = "closed"
  elseif self.receivers[1] then
    self.results[table.remove(self.receivers, 1)] = id
    self.results[id] = true
  elseif #self.values < self.room then
    table.insert(self.values, id)
    self.results[id] = true
  else
    table.insert(self.senders, id)
  end
end

function Model:receive(id)
  if self.values[1] then
    self.results[id] = table.remove(self.values, 1)
    local sender = table.remove(self.senders, 1)
    if sender then
      table.insert(self.values, sender)
      self.results[sender] = true
    end
  elseif self.senders[1] then
    local sender = table.remove(self.senders, 1)
    self.results[id], self.results[sender] = sender, true
  elseif self.closed then
    self.results[id] = "closed"
  else
    table.insert(self.receivers, id)
  end
end

function Model:close()
  self.closed = true
  for _, list in ipairs { self.senders, self.receivers } do
    while list[1] do self.results[table.remove(list, 1)] = "closed" end
  end
end

function Model:end_batch(cancelled)
  for id in pairs(cancelled) do
    for _, list in ipairs { self.senders, self.receivers } do
      for i = #list, 1, -1 do
        if list[i] == id then self.results[table.remove(list, i)] = "cancelled" end
      end
    end
  end
end

local function outcome(results, id, value, _, name)
  if value == nil then value = name end
  results[id] = value
end

local function one_run(random)
  local room = random(0, 2)
  local channel, model = neap.channel(room), new_model(room)
  local results, tasks, log = {}, {}, {}
  -- half of them as a case of a select, whose other one never happens
  local never = neap.channel()
  local function strip(index, ...)
    if index then return ... end
    return nil, ...
  end
  local function send(id)
    if id % 2 == 0 then return outcome(results, id, channel:send(id)) end
    outcome(results, id, strip(neap.select { never, { channel, id } }))
  end
  local function receive(id)
    if id % 4 < 2 then return outcome(results, id, channel:receive()) end
    outcome(results, id, strip(neap.select { channel, never }))
  end
  local function run(what, id)
    log[#log + 1] = what .. " " .. id
    if what == "send" then
      model:send(id)
      tasks[id] = neap.spawn(function() send(id) end)
    elseif what == "receive" then
      model:receive(id)
      tasks[id] = neap.spawn(function() receive(id) end)
    elseif what == "close" then
      model:close()
      neap.spawn(function() channel:close() end)
    end
  end
  local id = 0
  local function batch()
    local cancelled = {}
    for _ = 1, random(1, 3) do
      id = id + 1
      local kind = random(1, 20)
      if kind <= 8 then run("send", id)
      elseif kind <= 16 then run("receive", id)
      elseif kind == 20 and random(1, 3) == 1 then run("close", id)
      else
        local victim = random(1, id)
        if tasks[victim] then
          log[#log + 1] = "cancel " .. victim
          cancelled[victim] = true
          local target = tasks[victim]
          neap.spawn(function() target:cancel() end)
        end
      end
    end
    task.next_turn()
    model:end_batch(cancelled)
    for i = 1, id do
      if results[i] ~= model.results[i] then
        error(("room %d: %s: operation %d gave %s, the model %s"):format(model.room,
          table.concat(log, ", "), i, tostring(results[i]), tostring(model.results[i])), 0)
      end
    end
    if channel:len() ~= #model.values then error(table.concat(log, ", "), 0) end
  end
  for _ = 1, 4 do batch() end
  channel:close()
  task.next_turn()
end

describe("a channel in random interleavings", function()
  helper.watch(before_each, after_each, 300)

  it("does what a plain model does #pace", function()
    for seed = 1, RUNS do
      math.randomseed(seed)
      one_run(math.random)
    end
  end)
end)
