-- Descriptors that the process was started with: standard streams, pipes, files, sockets.
local helper = require("spec.helper")
local neap = require("neap")

local function run(text, shell)
  local script = helper.file(text)
  local result = helper.sh((shell:gsub("NEAP", helper.neap .. " " .. script)))
  result.out = result.out:gsub("\n$", "")
  return result
end

local COPY = [[
  local neap = require("neap")
  local out = assert(neap.connect("fd://1"))
  for chunk in assert(neap.connect("fd://0")):chunks() do assert(out:write(chunk)) end
]]

describe("standard input and output as connections", function()
  helper.watch(before_each, after_each)

  it("copy a pipe to a pipe, all of it", function()
    local result = run(COPY, "seq 1 200000 | NEAP | cksum; seq 1 200000 | cksum")
    local got, expected = result.out:match("^(%d+ %d+)\n(%d+ %d+)$")
    assert.equal(expected, got, result.err)
    assert.equal("", result.err)
  end)

  it("wait for a reader that takes its time, also at the end", function()
    local result = run(COPY, "head -c 300000 /dev/zero | NEAP | (sleep 3; wc -c)")
    assert.equal("300000", result.out:match("%d+"))
  end)

  it("read lines as they come, and the end", function()
    local result = run([[
      local input = assert(require("neap").connect("fd://0"))
      for line in input:lines() do print("[" .. line .. "]") end
      print(select(3, input:read(1)), input.peer)
    ]], "printf 'a\\nb' | NEAP")
    assert.equal("[a]\n[b]\neof\tfd://0", result.out)
  end)

  it("copy files, which are always ready", function()
    local from = helper.file(helper.pattern(300000))
    local to = helper.temporary_name()
    local result = run(COPY, "NEAP <" .. from .. " >" .. to .. " && cmp " .. from .. " " .. to)
    assert.equal("", result.out .. result.err)
    assert.equal(0, result.status)
  end)

  it("go on beside print and io.read", function()
    local result = run([[
      local neap = require("neap")
      local out = assert(neap.connect("fd://1"))
      print("first") io.stdout:flush()
      out:write("second\n") out:flush()
      out:close()
      print("third") io.stdout:flush()
      print(io.read())
    ]], "echo fourth | NEAP")
    assert.equal("first\nsecond\nthird\nfourth", result.out)
  end)

  it("leave a terminal as blocking as it was", function()
    if os.execute("script -qec true /dev/null >/dev/null 2>&1 </dev/null") ~= 0 then
      return pending("there is no pseudo-terminal")
    end
    local script = helper.file([[
      local neap = require("neap")
      local out = assert(neap.connect("fd://1"))
      out:write("written\n") out:flush()
      os.execute("grep flags /proc/self/fdinfo/0 /proc/self/fdinfo/1")
    ]])
    local result = helper.sh(("script -qec '%s %s' /dev/null"):format(helper.neap, script))
    assert.matches("written", result.out)
    local count = 0
    for flags in result.out:gmatch("flags:%s*(%d+)") do
      count = count + 1
      assert.equal(0, math.floor(tonumber(flags, 8) / 2048) % 2, result.out) -- O_NONBLOCK
    end
    assert.equal(2, count, result.out)
  end)

  it("tell a writer that its reader has gone", function()
    local result = run([[
      local neap = require("neap")
      local out = assert(neap.connect("fd://1"))
      local ok, message, name
      repeat
        ok, message, name = out:write(("x"):rep(65536))
      until not ok
      io.stderr:write(name, " ", message)
    ]], "NEAP | true")
    assert.matches("^reset fd://1: write: ", result.err)
    assert.equal(0, result.status)
  end)

  it("cannot be read where only written can be, and the other way round", function()
    local result = run([[
      local neap = require("neap")
      print(neap.connect("fd://3"):read(1))
      local input = assert(neap.connect("fd://0"))
      input:write("x")
      print(input:flush())
    ]], "echo | NEAP 3>/dev/null")
    assert.matches("nil\tfd://3: read of 1 bytes: Bad file descriptor\tsystem", result.out)
    assert.matches("\nnil\tfd://0: flush: Bad file descriptor\tsystem", result.out)
  end)
end)

describe("an inherited descriptor", function()
  helper.watch(before_each, after_each)

  it("is refused when there is none, when it is ours, and when it was taken", function()
    local result = run([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", print))
      for fd = 4, 9 do -- a shell may have left some from 10 on
        local conn, _, name = neap.connect("fd://" .. fd)
        if conn or name ~= "descriptor" then print(fd, conn, name) end
      end
      local first = assert(neap.connect("fd://3"))
      print(select(3, neap.connect("fd://3")))
      first:close()
      print(select(3, neap.connect("fd://3")))
      for _, address in ipairs { "fd://", "fd://x", "fd://-1", "fd://3 ", "fd://100000" } do
        print(select(3, neap.connect(address)))
      end
      listener:close()
    ]], "NEAP 3</dev/null")
    assert.equal(("descriptor\n"):rep(2) .. ("address\n"):rep(4) .. "address", result.out)
    assert.equal("", result.err)
  end)

  it("of another kind is refused", function()
    local result = run([[
      local neap = require("neap")
      print(select(3, neap.listen("fd://3", print)))
      print(select(3, neap.listen("fd://0", print)))
    ]], "NEAP 3</dev/null </dev/null")
    assert.equal("descriptor\ndescriptor", result.out)
  end)

  it("ends for its peer when the connection closes", function()
    local result = run([[
      local neap = require("neap")
      local pipe = assert(neap.connect("fd://3"))
      pipe:write("all of it\n")
      pipe:close()
      -- the process goes on until the reader has seen the end
      while not io.open(arg[1]) do neap.sleep(0.01) end
    ]], ("f=%s; rm $f; { NEAP $f 3>&1 >&2 | { cat; : >$f; }; }"):format(helper.temporary_name()))
    assert.equal("all of it", result.out)
    assert.equal(0, result.status, result.err)
  end)

  it("that listens serves what a parent has opened", function()
    local script = helper.file([[
      local neap = require("neap")
      local listener = assert(neap.listen("fd://3", function(conn)
        for chunk in conn:chunks() do conn:write(chunk) end
      end))
      print(listener.address)
      io.stdout:flush()
    ]])
    -- the parent: a neap that leaves its descriptor open for its child
    local parent = helper.file(([[
      local ffi = require("ffi")
      ffi.cdef("int dup2(int, int); int listen(int, int); int socket(int, int, int);"
        .. "int execl(const char *, const char *, ...);")
      local fd = ffi.C.socket(2, 1, 0)
      assert(ffi.C.listen(fd, 16) == 0)
      ffi.C.dup2(fd, 3)
      ffi.C.execl(%q, "neap", %q, ffi.cast("char *", nil))
    ]]):format(helper.neap, script))
    local child = helper.start("luajit " .. parent)
    local port = assert(child:line()):match("^tcp://0%.0%.0%.0:(%d+)$")
    local conn = assert(neap.connect("tcp://127.0.0.1:" .. port))
    conn:write("hello")
    local answer = assert(conn:read(5))
    assert.equal("hello", answer:str())
    answer:release()
    conn:close()
    child:kill("TERM")
    assert.equal(0, child:finish().status)
  end)
end)
