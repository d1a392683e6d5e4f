-- unix:// addresses: sockets with a path, and with an abstract name.

local lfs = require("lfs")
local helper = require("spec.helper")
local neap = require("neap")

local function nothing() end

-- The address of a path in a directory of its own.
local function fresh()
  local path = helper.temporary_directory() .. "/s"
  return "unix://" .. path, path
end

local function echo(conn)
  for chunk in conn:chunks() do conn:write(chunk) end
end

local function answers(address)
  local conn = assert(neap.connect(address))
  assert(conn:write("hello"))
  local got = assert(conn:read(5))
  local text = got:str()
  got:release()
  conn:close()
  return text
end

-- A socket file whose server was killed.
local function left_over(path)
  local child = helper.start(helper.neap .. " " .. helper.file(([[
    local neap = require("neap")
    assert(neap.listen("unix://%s", function() end))
    print("up") io.stdout:flush()]]):format(path)))
  assert.equal("up", child:line())
  child:kill("KILL")
  child:finish()
  assert.equal("socket", lfs.attributes(path, "mode"))
end

describe("a unix socket", function()
  helper.watch(before_each, after_each)

  it("serves, tells its address, and removes its path when it is closed", function()
    local address, path = fresh()
    local listener = assert(neap.listen(address, echo))
    assert.equal(address, listener.address)
    assert.equal("socket", lfs.attributes(path, "mode"))
    assert.equal("hello", answers(address))
    listener:close()
    assert.is_nil(lfs.attributes(path))
  end)

  it("has its address as the peer on both sides, and in messages", function()
    local address = fresh()
    local peer, message
    local listener = assert(neap.listen(address, function(conn)
      peer = conn.peer
      message = select(2, conn:read(9))
    end))
    local conn = assert(neap.connect(address))
    assert.equal(address, conn.peer)
    conn:close()
    assert.equal(address, conn.peer)
    helper.turn_until(function() return message end)
    assert.equal(address, peer)
    assert.matches(address, message, 1, true)
    listener:close()
  end)

  it("with an abstract name has no file, and is taken as long as somebody listens", function()
    local address = "unix://@" .. helper.temporary_name()
    local listener = assert(neap.listen(address, echo))
    assert.equal(address, listener.address)
    assert.equal("hello", answers(address))
    assert.equal("address_in_use", select(3, neap.listen(address, nothing)))
    listener:close()
    assert.equal("refused", select(3, neap.connect(address)))
    assert(neap.listen(address, nothing)):close()
  end)

  it("whose path nobody listens at is refused", function()
    local address, path = fresh()
    assert.equal("refused", select(3, neap.connect(address)))
    left_over(path)
    assert.equal("refused", select(3, neap.connect(address)))
  end)

  it("replaces the path that a killed server left behind", function()
    local address, path = fresh()
    left_over(path)
    local listener = assert(neap.listen(address, echo))
    assert.equal("hello", answers(address))
    listener:close()
    assert.is_nil(lfs.attributes(path))
  end)

  it("does not replace the path of a server that lives", function()
    local address = fresh()
    local listener = assert(neap.listen(address, echo))
    local other, message, name = neap.listen(address, nothing)
    assert.is_nil(other)
    assert.equal("address_in_use", name)
    assert.matches(address, message, 1, true)
    assert.equal("hello", answers(address))
    listener:close()
  end)

  it("does not replace a file, a directory, or a link to a socket that was left", function()
    local address, path = fresh()
    left_over(path)
    assert(lfs.link(path, path .. "link", true))
    helper.file("precious", path .. "file")
    assert(lfs.mkdir(path .. "directory"))
    for _, what in ipairs { "link", "file", "directory" } do
      assert.equal("address_in_use", select(3, neap.listen(address .. what, nothing)))
    end
    assert.equal("link", lfs.symlinkattributes(path .. "link", "mode"))
    assert.equal(8, lfs.attributes(path .. "file", "size"))
  end)

  it("leaves a path that is no longer its own", function()
    local address, path = fresh()
    local listener = assert(neap.listen(address, nothing))
    assert(os.rename(path, path .. "moved"))
    local other = assert(neap.listen(address, echo))
    listener:close()
    assert.equal("hello", answers(address))
    other:close()
    listener = assert(neap.listen(address, nothing))
    os.remove(path)
    helper.file("precious", path)
    listener:close()
    assert.equal(8, lfs.attributes(path, "size"))
  end)

  it("removes its path when the program ends", function()
    local address, path = fresh()
    local child = helper.start(helper.neap .. " " .. helper.file(([[
      local neap = require("neap")
      assert(neap.listen("%s", function() end))
      print("up") io.stdout:flush()]]):format(address)))
    assert.equal("up", child:line())
    child:kill("TERM")
    assert.equal(0, child:finish().status)
    assert.is_nil(lfs.attributes(path))
  end)

  it("has the mode that was asked for", function()
    for mode, shown in pairs { ["600"] = "rw-------", ["660"] = "rw-rw----",
      ["777"] = "rwxrwxrwx" } do
      local address, path = fresh()
      local listener = assert(neap.listen(address, nothing, { mode = mode }))
      assert.equal(shown, lfs.attributes(path, "permissions"))
      listener:close()
    end
    for _, wrong in ipairs { "66", "0660", "888", "rw-" } do
      helper.raises("mode must be three octal digits", function()
        local _ = neap.listen("unix://@x", nothing, { mode = wrong })
      end)
    end
  end)

  it("takes a path of 107 bytes, and none of 108", function()
    local directory = helper.temporary_directory() .. "/"
    local longest = directory .. ("x"):rep(107 - #directory)
    local listener = assert(neap.listen("unix://" .. longest, echo))
    assert.equal("unix://" .. longest, listener.address)
    assert.equal("hello", answers("unix://" .. longest))
    listener:close()
    assert.is_nil(lfs.attributes(longest))
    assert.equal("address", select(3, neap.listen("unix://" .. longest .. "x", nothing)))
    assert.equal("address", select(3, neap.connect("unix://" .. longest .. "x")))
    local name = "unix://@" .. ("x"):rep(106)
    listener = assert(neap.listen(name, echo))
    assert.equal(name, listener.address)
    listener:close()
    assert.equal("address", select(3, neap.listen(name .. "x", nothing)))
  end)

  it("needs an absolute path or a name", function()
    for _, address in ipairs { "unix://", "unix:///", "unix://@", "unix://s", "unix://./s",
      "unix:/tmp/s", "unix:///tmp/a\0b" } do
      if address ~= "unix:///" then
        assert.equal("address", select(3, neap.listen(address, nothing)), address)
        assert.equal("address", select(3, neap.connect(address)), address)
      end
    end
  end)

  it("in a directory that is not there fails with a message that names it", function()
    local address, path = fresh()
    local listener, message = neap.listen(address .. "/deeper", nothing)
    assert.is_nil(listener)
    assert.matches(path .. "/deeper", message, 1, true)
  end)

  it("whose backlog is full is busy", function()
    local address = fresh()
    local listener = assert(neap.listen(address, function(conn) conn:read(1) end,
      { backlog = 0, max_connections = 1 }))
    local conns, name = {}, nil
    for _ = 1, 8 do
      local conn, _, why = neap.connect(address)
      conns[#conns + 1], name = conn, name or why
    end
    assert.equal("busy", name)
    for _, conn in ipairs(conns) do conn:close() end
    listener:close()
  end)
end)
