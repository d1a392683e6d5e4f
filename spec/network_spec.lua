--- Bad networks: packets lost between two network namespaces that the spec makes (veth, nft's
--- numgen), a link that goes down in every state of a connection, one that delays, doubles and
--- loses packets and puts them out of order (spec/shim/bad_link.c: a kernel may have no netem), and
--- a relay that cuts and delays.

local helper = require("spec.helper")
local neap = require("neap")

local CLIENT, SERVER = "10.213.77.1", "10.213.77.2"
local build = helper.top .. "/" .. (os.getenv("BUILD") or "build")
local name = "neap-spec-" .. helper.sh("echo $$").out:match("%d+")
local a, b = name .. "-a", name .. "-b"

local function sh(format, ...)
  local run = helper.sh(format:format(...))
  return run.status == 0, run.err
end

local setup = ([[set -e
  ip netns add %s && ip netns add %s
  ip -n %s link add v0 type veth peer name v1 netns %s
  ip -n %s addr add %s/24 dev v0 && ip -n %s link set v0 up && ip -n %s link set lo up
  ip -n %s addr add %s/24 dev v1 && ip -n %s link set v1 up && ip -n %s link set lo up
  for ns in %s %s; do
    ip netns exec $ns nft "add table ip t"
    ip netns exec $ns nft "add chain ip t i { type filter hook input priority 0; }"
  done]]):format(a, b, a, b, a, CLIENT, a, a, b, SERVER, b, b, a, b)

local function remove()
  sh("ip netns del %s", a)
  sh("ip netns del %s", b)
end

-- Made by each test, or it is skipped by its name.
local function make_network()
  local made, why = sh("%s", setup)
  if not made then
    remove()
    pending("no network namespaces here: " .. tostring(why):match("[^\n]*"))
  end
end

-- The same, but with spec/shim/bad_link.c between them. Returns it.
local function make_bad_link(seed, late, lost, doubled)
  local made, why = sh("ip netns add %s && ip netns add %s", a, b)
  local link = made and helper.start(("%s/bad_link %s %s %d %d %d %d"):format(build, a, b, seed,
    late, lost, doubled), 60)
  if not link or link:line() ~= "ready" then
    if link then why = link:finish().err end
    remove()
    pending("no TUN devices in network namespaces here: " .. tostring(why):match("[^\n]*"))
  end
  for ns, address in pairs { [a] = CLIENT, [b] = SERVER } do
    assert(sh("ip -n %s addr add %s/24 dev bad && ip -n %s link set bad up", ns, address, ns))
  end
  return link
end

local function lose(percent)
  for _, ns in ipairs { a, b } do
    assert(sh('ip netns exec %s nft "add rule ip t i numgen random mod 100 < %d drop"', ns,
      percent))
  end
end

-- Says again and again how many connections it has, and how many there were.
local server = [[
  local neap = require("neap")
  local abi, ffi = require("neap.abi"), require("ffi")
  local net = ffi.new("struct neap_net_stats")
  local listener = assert(neap.listen("tcp://]] .. SERVER .. [[:7000", function(conn)
    for chunk in conn:chunks() do
      if chunk:equals("fill") then
        chunk:release()
        conn:write(("x"):rep(4000000))
      else
        conn:write(chunk)
      end
    end
  end, { idle_timeout = tonumber(arg[1]) }))
  print(listener.address)
  io.stdout:flush()
  neap.every(0.2, function()
    abi.C.neap_net_stats(net)
    print(("%d of %d"):format(tonumber(net.streams_live), tonumber(net.accepted)))
    io.stdout:flush()
  end)
]]

-- Sends some 150 KB on each of so many connections while it reads them back; says how many
-- connections gave all bytes.
local client = [[
  local neap = require("neap")
  local tasks, good = {}, 0
  for i = 1, tonumber(arg[1]) do
    tasks[i] = neap.spawn(function()
      local conn = assert(neap.connect("tcp://]] .. SERVER .. [[:7000", { timeout = 15 }))
      local text = {}
      for k = 1, 15000 do text[k] = ("%d:%d;"):format(i, k * i) end
      text = table.concat(text)
      local sent = neap.spawn(function()
        assert(conn:write(text))
        assert(conn:shutdown())
      end)
      local answer = assert(conn:read(#text))
      good = good + (answer:equals(text) and 1 or 0)
      answer:release()
      sent:join()
      conn:close()
    end)
  end
  for _, task in ipairs(tasks) do task:join() end
  print(good)
]]

local function start(ns, text, ...)
  return helper.start(("ip netns exec %s %s %s %s"):format(ns, helper.neap, helper.file(text),
    table.concat({ ... }, " ")))
end

describe("a network between two namespaces", function()
  after_each(remove)
  helper.watch(before_each, after_each)

  it("that loses every twentieth packet delivers every byte", function()
    make_network()
    local serving = start(b, server, 60)
    assert.matches(":7000", serving:line(), 1, true)
    lose(5)
    local asked = start(a, client, 20):finish()
    serving:kill("TERM")
    serving:finish()
    assert.equal("", asked.err)
    assert.equal("20\n", asked.out)
  end)

  it("that disorders, delays, doubles and loses packets delivers every byte", function()
    local link = make_bad_link(7, 20, 1, 2)
    local serving = start(b, server, 60)
    assert.matches(":7000", serving:line(), 1, true)
    local asked = start(a, client, 6):finish()
    serving:kill("TERM")
    serving:finish()
    link:kill("TERM")
    local sums = link:finish().out
    assert.equal("", asked.err)
    assert.equal("6\n", asked.out)
    for what, least in pairs { delivered = 1000, overtaken = 100, lost = 10, doubled = 10 } do
      assert.is_true(tonumber(sums:match(what .. " (%d+)")) >= least, sums)
    end
  end)

  it("that goes down in every state of a connection keeps none of them", function()
    make_network()
    local serving = start(b, server, 3)
    assert.matches(":7000", serving:line(), 1, true)
    local asking = start(a, [[
      local neap = require("neap")
      local function connect() return assert(neap.connect("tcp://]] .. SERVER .. [[:7000")) end
      local idle, half, full, closing, ended = connect(), connect(), connect(), connect(), connect()
      half:write("half")
      full:write("fill")
      closing:write("fill")
      closing:shutdown()
      ended:shutdown()
      for _, conn in ipairs { half, full, closing } do conn:read(4):release() end
      print("ready")
      io.stdout:flush()
      neap.sleep(60)
    ]])
    assert.equal("ready", asking:line())
    assert(sh("ip -n %s link set v1 down", b))
    repeat -- idle timeout, and what lingers
      local line = assert(serving:line())
    until line == "0 of 5"
    asking:kill("KILL")
    asking:finish()
    assert(sh("ip -n %s link set v1 up", b))
    local again = start(a, [[
      local neap = require("neap")
      local conn = assert(neap.connect("tcp://]] .. SERVER .. [[:7000", { timeout = 10 }))
      conn:write("hello")
      print(assert(conn:read(5)):str())
      os.exit(0)
    ]]):finish()
    serving:kill("TERM")
    local served = serving:finish()
    assert.equal("", again.err)
    assert.equal("hello\n", again.out)
    assert.equal(0, served.status)
  end)
end)

describe("a relay that cuts and delays", function()
  helper.watch(before_each, after_each)

  local function relay(from, to)
    for chunk in from:chunks() do
      while #chunk > 0 do
        local part = chunk:split(math.min(#chunk, math.random(1, 3000)))
        if math.random(4) == 1 then neap.sleep(math.random(0, 3) / 1000) end
        if not to:write(part) then break end
      end
      chunk:release()
    end
    to:shutdown()
  end

  it("delivers every byte of many connections, both ways at once", function()
    local target = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
      for chunk in conn:chunks() do conn:write(chunk) end
    end))
    local bad = assert(neap.listen("tcp://127.0.0.1:0", function(from)
      local other = assert(neap.connect(target.address))
      local back = neap.spawn(relay, other, from)
      relay(from, other)
      back:join()
      other:close()
    end))
    local text, good = helper.pattern(150000), 0
    neap.scope(function(scope)
      for _ = 1, 12 do
        scope:spawn(function()
          local conn = assert(neap.connect(bad.address))
          scope:spawn(function()
            assert(conn:write(text))
            conn:shutdown()
          end)
          local answer = assert(conn:read(#text))
          good = good + (answer:equals(text) and 1 or 0)
          answer:release()
          conn:close()
        end)
      end
    end)
    assert.equal(12, good)
    bad:close()
    target:close()
  end)
end)
