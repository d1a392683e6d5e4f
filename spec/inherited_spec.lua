-- fd:// addresses: descriptors that the process was started with.

local helper = require("spec.helper")
local neap = require("neap")

local copy = [[
  local neap = require("neap")
  local from, to = assert(neap.connect("fd://0")), assert(neap.connect("fd://1"))
  for chunk in from:chunks() do assert(to:write(chunk)) end
  to:close()
]]

-- Runs a shell command in which NEAP is neap with the script.
local function run(command, script)
  local run_it = helper.neap .. " " .. helper.file(script)
  return helper.sh((command:gsub("NEAP", function() return run_it end)))
end

describe("standard input and output as connections", function()
  helper.watch(before_each, after_each)

  it("are the ends of a pipeline", function()
    local done = run("printf 'one\\ntwo\\n' | NEAP | cat", copy)
    assert.equal("one\ntwo\n", done.out)
    assert.equal("", done.err)
  end)

  it("pass more on than a pipe holds, to a slow reader, and lose nothing", function()
    local done = run("head -c 3000000 /dev/zero | NEAP | (sleep 0.3; wc -c)", copy)
    assert.equal("3000000\n", done.out)
    assert.equal("", done.err)
  end)

  it("may be files", function()
    local input = helper.file(helper.pattern(300000))
    local output = helper.temporary_name()
    local done = run(("NEAP <%s >%s; cmp %s %s && echo same"):format(input, output, input, output),
      copy)
    assert.equal("same\n", done.out)
    assert.equal("", done.err)
  end)

  it("append to a file that was opened so", function()
    local output = helper.file("before\n")
    run(("echo after | NEAP >>%s"):format(output), copy)
    assert.equal("before\nafter\n", helper.sh("cat " .. output).out)
  end)

  it("end when the reader of a pipe is gone", function()
    local done = run("head -c 3000000 /dev/zero | NEAP | head -c 5 | wc -c", copy)
    assert.equal("5\n", done.out)
    assert.matches("fd://1", done.err, 1, true)
  end)

  it("are named in messages, and know no other address", function()
    local done = run("printf abc | NEAP", [[
      local neap = require("neap")
      local input = assert(neap.connect("fd://0"))
      print(input.peer, input:info().address)
      print(select(2, input:read(9)))
    ]])
    assert.matches("^fd://0\tfd://0\nfd://0: read of 9 bytes: ", done.out)
  end)

  it("leave print() as it was", function()
    local done = run("NEAP | cat", [[
      local neap = require("neap")
      local output = assert(neap.connect("fd://1"))
      print("first") io.stdout:flush()
      assert(output:write("second\n"))
      assert(output:flush())
      output:close()
      print("third")
    ]])
    assert.equal("first\nsecond\nthird\n", done.out)
  end)

  it("may be a terminal, which is not left non-blocking", function()
    local script = helper.file([[
      local neap = require("neap")
      local input, output = assert(neap.connect("fd://0")), assert(neap.connect("fd://1"))
      assert(output:write("hello\n"))
      assert(output:flush())
      local flags = io.open("/proc/self/fdinfo/0"):read("*a"):match("flags:%s*(%d+)")
      print("flags " .. flags, input.peer)
    ]])
    local done = helper.sh(("script -qec '%s %s' /dev/null </dev/null"):format(helper.neap, script))
    assert.matches("hello\r?\n", done.out)
    local flags = tonumber(done.out:match("flags (%d+)"), 8)
    assert.equal(0, bit.band(flags, tonumber("4000", 8)))
  end)
end)

describe("an inherited descriptor", function()
  helper.watch(before_each, after_each)

  it("is taken once; its number becomes /dev/null, and its peer sees the end", function()
    local done = run("NEAP 3>&1 >&2 | cat", [[
      local neap = require("neap")
      local conn = assert(neap.connect("fd://3"))
      local link = io.popen("readlink /proc/" .. io.open("/proc/self/stat"):read("*n") .. "/fd/3")
      assert(conn:write(link:read("*a")))
      local again, message, name = neap.connect("fd://3")
      assert(again == nil and message:find("fd://3", 1, true))
      assert(conn:write(name .. "\n"))
      conn:close()
      neap.sleep(0.01)
    ]])
    assert.equal("/dev/null\ndescriptor\n", done.out)
    assert.equal("", done.err)
  end)

  it("shows its peer the end at close, while the process goes on", function()
    local name = helper.temporary_name()
    os.remove(name)
    assert.equal(0, os.execute("mkfifo " .. name))
    local child = helper.start(("sh -c 'exec %s %s 3>%s'"):format(helper.neap, helper.file([[
      local neap = require("neap")
      local conn = assert(neap.connect("fd://3"))
      assert(conn:write("bytes"))
      conn:close()
      neap.sleep(15)
    ]]), name))
    assert.equal("bytes", helper.sh("cat " .. name).out) -- it ends
    child:kill("KILL")
    child:finish()
  end)

  it("is refused when it is none, is neap's own, or is no number", function()
    local conn, peer = helper.pair()
    local own = 0
    for number = 3, 60 do -- all of this process are close-on-exec
      local file = io.open("/proc/self/fdinfo/" .. number)
      if file then
        local flags = tonumber(file:read("*a"):match("flags:%s*(%d+)"), 8)
        file:close()
        if bit.band(flags, tonumber("2000000", 8)) ~= 0 then
          own = own + 1
          assert.equal("descriptor", select(3, neap.connect("fd://" .. number)))
          assert.equal("descriptor", select(3, neap.listen("fd://" .. number, function() end)))
        end
      end
    end
    assert.is_true(own > 2)
    assert.equal("descriptor", select(3, neap.connect("fd://99999")))
    for _, address in ipairs { "fd://", "fd://-1", "fd://x", "fd://3x", "fd://100000", "fd://1.5",
      "fd:// 3" } do
      assert.equal("address", select(3, neap.connect(address)), address)
    end
    conn:close()
    peer:close()
  end)

  it("that is no listening socket cannot be listened on", function()
    local done = run("NEAP 3</dev/null 4</dev/zero | cat", [[
      local neap = require("neap")
      for _, address in ipairs { "fd://0", "fd://1", "fd://3" } do
        print(select(3, neap.listen(address, function() end)))
      end
    ]])
    assert.equal("descriptor\ndescriptor\ndescriptor\n", done.out)
  end)
end)

describe("an inherited listening socket", function()
  helper.watch(before_each, after_each)

  it("serves, and cannot be connected to", function()
    local script = helper.file([[
      local neap = require("neap")
      local listener = assert(neap.listen("fd://3", function(conn)
        conn:write(assert(conn:read(5)))
        neap.stop()
      end))
      print(listener.address)
      print(select(3, neap.connect("fd://3")), select(3, neap.listen("fd://3", print)))
      io.stdout:flush()
    ]])
    -- what a supervisor does: it listens, and leaves the descriptor to who is started
    local supervisor = helper.file(([[
      local ffi = require("ffi")
      ffi.cdef("int socket(int, int, int); int listen(int, int); int dup2(int, int);"
        .. "int execl(const char *, const char *, ...);")
      local fd = ffi.C.socket(2, 1, 0)
      assert(ffi.C.listen(fd, 16) == 0)
      ffi.C.dup2(fd, 3)
      ffi.C.execl(%q, "neap", %q, ffi.cast("char *", nil))
    ]]):format(helper.neap, script))
    local child = helper.start("luajit " .. supervisor)
    local port = assert(child:line()):match("^tcp://0%.0%.0%.0:(%d+)$")
    assert.equal("descriptor\tdescriptor", child:line())
    local client = helper.dial("tcp://127.0.0.1:" .. port)
    client:send("hello")
    assert.equal("hello", client:recv_exactly(5))
    client:close()
    local done = child:finish()
    assert.equal("", done.err)
    assert.equal(0, done.status)
  end)
end)
