-- Unix sockets: paths, abstract names, and what is left of them.
local lfs = require("lfs")
local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises

local function echo(conn)
  for chunk in conn:chunks() do conn:write(chunk) end
end

local function exchange(address)
  local conn = assert(neap.connect(address))
  conn:write("hello")
  local answer = assert(conn:read(5))
  assert.equal("hello", answer:str())
  answer:release()
  return conn
end

describe("a unix socket", function()
  helper.watch(before_each, after_each)

  local path

  before_each(function() path = helper.temporary_directory() .. "/socket" end)

  it("serves as a TCP socket does, under its path", function()
    local listener = assert(neap.listen("unix://" .. path, echo))
    assert.equal("unix://" .. path, listener.address)
    local conn = exchange(listener.address)
    assert.equal("unix://" .. path, conn.peer)
    conn:close()
    listener:close()
  end)

  it("talks with a client that nobody here wrote", function()
    local listener = assert(neap.listen("unix://" .. path, echo))
    local answer = helper.temporary_name()
    os.execute(("(printf hello | nc -N -U %s; echo; echo end) >%s 2>&1 &"):format(path, answer))
    local text
    helper.turn_until(function()
      local file = assert(io.open(answer))
      text = file:read("*a")
      file:close()
      return text:find("end\n", 1, true)
    end)
    assert.equal("hello\nend\n", text)
    listener:close()
  end)

  it("names the path for a client without a name of its own", function()
    local seen
    local listener = assert(neap.listen("unix://" .. path, function(conn)
      seen = conn.peer
      echo(conn)
    end))
    exchange(listener.address):close()
    assert.equal("unix://" .. path, seen)
    listener:close()
  end)

  it("is removed with its listener, and only if it is still the same", function()
    local listener = assert(neap.listen("unix://" .. path, echo))
    assert.equal("socket", lfs.attributes(path, "mode"))
    listener:close()
    assert.is_nil(lfs.attributes(path))
    listener = assert(neap.listen("unix://" .. path, echo))
    os.remove(path)
    helper.file("somebody else's", path)
    listener:close()
    assert.equal("file", lfs.attributes(path, "mode"))
  end)

  it("is replaced when its server was killed, and left alone when it serves", function()
    local child = helper.start(("%s -e 'assert(require(\"neap\").listen(\"unix://%s\", print))"
      .. " print(1) io.stdout:flush()'"):format(helper.neap, path))
    assert.equal("1", child:line())
    local listener, message, name = neap.listen("unix://" .. path, echo)
    assert.is_nil(listener)
    assert.equal("address_in_use", name)
    assert.matches(path, message, 1, true)
    child:kill("KILL")
    child:finish()
    assert.equal("socket", lfs.attributes(path, "mode"))
    listener = assert(neap.listen("unix://" .. path, echo))
    exchange(listener.address):close()
    listener:close()
  end)

  it("never replaces a file that is no socket", function()
    helper.file("precious", path)
    local listener, _, name = neap.listen("unix://" .. path, echo)
    assert.is_nil(listener)
    assert.equal("address_in_use", name)
    assert.equal("file", lfs.attributes(path, "mode"))
  end)

  it("has the permissions of its mode before anybody can connect", function()
    for _, mode in ipairs { "600", "660", "777" } do
      local listener = assert(neap.listen("unix://" .. path, echo, { mode = mode }))
      local stat = assert(io.popen("stat -c %a " .. path))
      assert.equal(mode, stat:read("*l"))
      stat:close()
      listener:close()
    end
  end)

  it("refuses modes that are none", function()
    for _, mode in ipairs { "0660", "9", "888", "rw", "66", "-66" } do
      raises("mode must be three octal digits", function()
        neap.listen("unix://" .. path, echo, { mode = mode })
      end)
    end
  end)

  it("may have an abstract name, which no file has", function()
    local address = "unix://@neap-spec-" .. path
    local listener = assert(neap.listen(address, echo))
    assert.equal(address, listener.address)
    local conn = exchange(address)
    assert.equal(address, conn.peer)
    conn:close()
    local other, _, name = neap.listen(address, echo)
    assert.is_nil(other)
    assert.equal("address_in_use", name)
    listener:close()
  end)

  it("refuses paths that are relative, empty or too long", function()
    for _, address in ipairs { "unix://", "unix:///", "unix://relative", "unix://@",
      "unix://" .. ("/x"):rep(54) } do
      local listener, message, name = neap.listen(address, echo)
      if listener then listener:close() end
      assert.is_nil(listener, address)
      assert.is_true(name == "address" or name == "address_in_use", message)
      assert.matches(address, message, 1, true)
    end
    local longest = "unix://@" .. ("x"):rep(106)
    local listener = assert(neap.listen(longest, echo))
    assert.equal(longest, listener.address)
    exchange(longest):close()
    listener:close()
  end)

  it("that nobody serves refuses, whether its file is there or not", function()
    local conn, message, name = neap.connect("unix://" .. path)
    assert.is_nil(conn)
    assert.equal("refused", name, message)
    helper.file("", path)
    assert.equal("refused", select(3, neap.connect("unix://" .. path)))
  end)

  it("with a full backlog is busy, and says so at once", function()
    local script = helper.file(([[
      local neap = require("neap")
      local listener = assert(neap.listen("unix://%s", function(conn) conn:read(1) end,
        { backlog = 1, max_connections = 1 }))
      print("ready") io.stdout:flush()
    ]]):format(path))
    local child = helper.start(helper.neap .. " " .. script)
    assert.equal("ready", child:line())
    local conns, last = {}
    repeat
      local conn, _, name = neap.connect("unix://" .. path)
      conns[#conns + 1], last = conn, name
    until last or #conns == 20
    assert.equal("busy", last)
    for _, conn in ipairs(conns) do conn:close() end
    child:kill("KILL")
    child:finish()
  end)

  it("takes a reset and a half-close as TCP does", function()
    local listener = assert(neap.listen("unix://" .. path, function(conn)
      local got = {}
      for chunk in conn:chunks() do
        got[#got + 1] = chunk:str()
        chunk:release()
      end
      conn:write(table.concat(got) .. "!")
    end))
    local conn = assert(neap.connect(listener.address))
    conn:write("a")
    conn:write("b")
    conn:shutdown()
    local answer = assert(conn:read(3))
    assert.equal("ab!", answer:str())
    answer:release()
    assert.equal("eof", select(3, conn:read(1)))
    conn:close()
    listener:close()
  end)
end)
