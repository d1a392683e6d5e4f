local ffi = require("ffi")
local helper = require("spec.helper")
local neap = require("neap")

local MAX_LINE = 1024

describe("the chat example", function()
  helper.watch(before_each, after_each) -- around the hooks of the blocks within

  describe("with clients", function()
    local child, address

    before_each(function()
      child = helper.start(helper.neap .. " examples/chat.lua tcp://127.0.0.1:0")
      local line = child:line()
      address = line and line:match("^listening on (tcp://127%.0%.0%.1:%d+)$")
      assert(address, line)
      assert.matches("nc 127.0.0.1 " .. address:match("%d+$"), child:line(), 1, true)
    end)

    after_each(function()
      child:kill("TERM")
      local run = child:finish()
      assert.equal("", run.err)
      assert.equal("", run.out)
      assert.equal(0, run.status)
    end)

    local function read(conn)
      local line = assert(conn:read_line())
      local text = line:str()
      line:release()
      return text
    end

    local function enter()
      local conn = assert(neap.connect(address))
      assert.equal("your name?", read(conn))
      return conn
    end

    local function join(name)
      local conn = enter()
      conn:write(name .. "\n")
      assert.equal("* " .. name .. " joined", read(conn))
      return conn
    end

    local function leave(...)
      for _, conn in ipairs { ... } do conn:close() end
    end

    it("tells everybody what everybody says, who joins and who leaves", function()
      local ann = join("ann")
      local bob = join("bob")
      assert.equal("* bob joined", read(ann))
      ann:write("hello\nanybody here?\n")
      bob:write("me\n")
      local heard = {}
      for i = 1, 3 do
        heard[i] = read(ann)
        assert.equal(heard[i], read(bob)) -- in the same order
      end
      table.sort(heard)
      assert.same({ "ann: anybody here?", "ann: hello", "bob: me" }, heard)
      bob:close()
      assert.equal("* bob left", read(ann))
      ann:close()
    end)

    it("says when somebody's connection is reset", function()
      local ann = join("ann")
      local socket = helper.dial(address)
      socket:send("bob\n")
      assert.equal("* bob joined", read(ann))
      assert.equal("your name?\n* bob joined\n", socket:recv_exactly(24))
      socket:reset()
      assert.equal("* bob left", read(ann))
      ann:close()
    end)

    it("asks again for a name that is taken, until it is free", function()
      local ann, other = join("ann"), enter()
      other:write("ann\n")
      assert.equal("that name is taken, another one?", read(other))
      ann:close()
      local third = join("third") -- everybody has heard by now that ann has left
      other:write("ann\n")
      assert.equal("* ann joined", read(other))
      leave(other, third)
    end)

    it("asks again for a name that is none", function()
      local conn = enter()
      for _, name in ipairs { "", "two words", "*", "tab\there", ("n"):rep(21), "\27[2J" } do
        conn:write(name .. "\n")
        assert.equal("letters and digits please, 20 at most", read(conn))
      end
      conn:write(("n"):rep(20) .. "\n")
      assert.equal("* " .. ("n"):rep(20) .. " joined", read(conn))
      conn:close()
    end)

    it("tells nobody of a client that leaves without a name", function()
      local ann, nameless = join("ann"), enter()
      nameless:close()
      local silent = enter()
      silent:write("no end of line")
      silent:close()
      local bob = join("bob")
      assert.equal("* bob joined", read(ann))
      leave(ann, bob)
    end)

    it("passes on lines of 1,024 bytes and ends the connection of who writes more", function()
      local ann, bob = join("ann"), join("bob")
      assert.equal("* bob joined", read(ann))
      bob:write(("x"):rep(MAX_LINE) .. "\n")
      assert.equal("bob: " .. ("x"):rep(MAX_LINE), read(ann))
      assert.equal("bob: " .. ("x"):rep(MAX_LINE), read(bob))
      bob:write(("x"):rep(MAX_LINE + 1) .. "\n")
      assert.equal("* bob wrote too long a line", read(ann))
      assert.equal("eof", select(3, bob:read(1)))
      leave(ann, bob)
    end)

    it("does not wait for the end of a line that is too long already", function()
      local ann, bob, nameless = join("ann"), join("bob"), enter()
      bob:write(("x"):rep(MAX_LINE + 1))
      nameless:write(("x"):rep(MAX_LINE + 1))
      assert.equal("* bob joined", read(ann))
      assert.equal("* bob wrote too long a line", read(ann))
      assert.equal("eof", select(3, bob:read(1)))
      assert.equal("eof", select(3, nameless:read(1)))
      leave(ann, bob, nameless)
    end)

    it("shows nobody what a terminal would obey, and no empty lines", function()
      local ann = join("ann")
      ann:write("\n\r\n\27[2Jboo\r\n")
      assert.equal("ann: ?[2Jboo", read(ann))
      ann:close()
    end)

    it("drops a slow reader, while the others go on #sizes #pace", function()
      local ann, bob = join("ann"), join("bob")
      assert.equal("* bob joined", read(ann))
      local slow = helper.dial(address)
      local room = ffi.new("int[1]", 4096) -- so that little waits in its system
      assert.equal(0, ffi.C.setsockopt(slow.fd, 1, 8, room, 4))
      slow:send("slow\n")
      assert.equal("* slow joined", read(ann))
      assert.equal("* slow joined", read(bob))
      local line, said, told = ("x"):rep(1000), 0, {}
      local function hear(conn)
        local heard = read(conn)
        if heard ~= "* slow read too slowly" then return heard end
        told[conn] = true
        return read(conn)
      end
      repeat
        ann:write(line .. "\n")
        said = said + 1
        assert.equal("ann: " .. line, hear(ann))
        assert.equal("ann: " .. line, hear(bob))
      until told[bob]
      assert.is_true(said > 32) -- 32 KiB may wait
      bob:write("still here\n")
      assert.equal("bob: still here", hear(ann))
      assert.is_true(told[ann])
      leave(ann, bob)
    end)

    it("drops nobody because somebody says much at once #pace", function()
      local talker, listener = join(("t"):rep(20)), join("listener")
      local lines = 8000 -- come with one read, and are 184 KB to tell
      talker:write(("!\n"):rep(lines))
      local heard = ("t"):rep(20) .. ": !"
      for _ = 1, lines do assert.equal(heard, read(listener)) end
      leave(talker, listener)
    end)

    local function clients_of(command) return (command
      :gsub("HOST", (address:match("//(.*):"))):gsub("PORT", (address:match("%d+$")))) end

    it("talks with bash", function()
      local run = helper.sh(("exec bash -c '%s'"):format(clients_of(
        "exec 3<>/dev/tcp/HOST/PORT; printf \"carl\\nhello\\n\" >&3; "
        .. "for i in 1 2 3; do read -r line <&3; echo \"$line\"; done")))
      assert.equal("your name?\n* carl joined\ncarl: hello\n", run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end)

    local has_nc = os.execute("command -v nc >/dev/null 2>&1")
    local try = (has_nc == 0 or has_nc == true) and it or pending

    try("talks with nc, whose last words are heard", function()
      local ann = join("ann")
      local run = helper.sh(clients_of("printf \"carl\\nbye\\n\" | nc -N HOST PORT"))
      assert.equal("your name?\n* carl joined\ncarl: bye\n", run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
      for _, line in ipairs { "* carl joined", "carl: bye", "* carl left" } do
        assert.equal(line, read(ann))
      end
      ann:close()
    end)
  end)
end)
