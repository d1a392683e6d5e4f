local cjson = require("cjson")
local helper = require("spec.helper")

local TIME = "%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ"

-- What a script with `neap` and `log` writes to standard error, and the run.
local function logged(text, environment)
  local path = helper.file("local neap = require('neap') local log = neap.log " .. text)
  local run = helper.sh(("exec env %s %s %s"):format(environment or "", helper.neap, path))
  assert.equal(0, run.status, run.err)
  return run.err, run
end

-- The same in a luajit whose standard error is a fifo: the shell command that comes before says
-- who reads it. The script gets its name.
local function with_fifo(before, text)
  local fifo = helper.temporary_directory() .. "/fifo"
  os.execute("mkfifo " .. fifo)
  local run = helper.sh(("FIFO=%s; %s exec env %s luajit %s $FIFO"):format(fifo, before,
    helper.stock_environment(), helper.file(text)))
  assert.equal(0, run.status) -- 124: the loop stood still, 141: SIGPIPE
  return run.out
end

describe("neap.log as text", function()
  helper.watch(before_each, after_each)

  it("is a line with time, level, message, and the fields in order", function()
    local err = logged([[
      log.error("it broke", { zeta = 1, alpha = "word", flag = false, big = 2 ^ 53 })
      log.warn("odd")
      log.info("known", { text = "with space", empty = "", path = "/a/b:1" })
      log.debug("not asked for")
    ]])
    assert.matches("^" .. TIME .. " error it broke alpha=word big=9.007199254741e%+15 flag=false "
      .. "zeta=1\n" .. TIME .. " warn  odd\n" .. TIME
      .. ' info  known empty="" path=/a/b:1 text="with space"\n$', err)
  end)

  it("tells the time", function()
    local run = select(2, logged([[print(os.time()) log.info("x") print(os.time())]]))
    local year, month, day, hour, minute, second = run.err:match(
      "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)%.")
    local midnight = os.time { year = year, month = month, day = day, hour = 0, isdst = false }
    local utc = os.time(os.date("!*t", midnight)) - midnight
    local told = midnight - utc + hour * 3600 + minute * 60 + second
    local before, after = run.out:match("(%d+)\n(%d+)")
    assert.is_true(tonumber(before) <= told and told <= tonumber(after))
  end)

  it("escapes what would forge an entry or command a terminal", function()
    local err = logged([[
      local bad = "a\nb\r\t\27[2J\127\0 \194\155 \226\128\168\226\128\174\226\129\166 \255\192\128"
      log.warn(bad, { field = bad, quote = 'a"b\\c' })
    ]])
    local shown = "a\\nb\\r\\t\\x1b[2J\\x7f\\x00 \\u{9b} "
      .. "\\u{2028}\\u{202e}\\u{2066} \\xff\\xc0\\x80"
    assert.equal(1, select(2, err:gsub("\n", "")))
    assert.matches(" warn  " .. shown .. ' field="' .. shown .. '" quote="a\\"b\\\\c"\n', err, 1,
      true)
  end)

  it("leaves words of other languages as they are", function()
    local words = "größer 漢字 🐙 …"
    assert.matches("warn  " .. words .. ' word="' .. words .. '"\n',
      logged(("log.warn(%q, { word = %q })"):format(words, words)), 1, true)
  end)

  it("puts a traceback on indented lines, whatever is in it", function()
    local err = logged([[
      log.error("x", { a = 1, traceback = "stack:\n\tone\n"
        .. "2026-01-01T00:00:00.000Z warn  forged\27" })
    ]])
    assert.matches("error x a=1\n  stack:\n    one\n  2026%-01%-01T00:00:00.000Z warn  "
      .. "forged\\x1b\n$", err)
  end)

  it("cuts strings of more than 8 KiB, between characters", function()
    local err = logged([[
      log.info(("x"):rep(8191) .. "ü" .. ("y"):rep(10000), { a = ("z"):rep(8193) })
      log.info(("\128"):rep(10000), { b = ("z"):rep(8192) })
    ]])
    assert.matches("info  " .. ("x"):rep(8191) .. "… (18193 bytes) ", err, 1, true)
    assert.matches('a="' .. ("z"):rep(8192) .. '… (8193 bytes)"', err, 1, true)
    assert.matches("… (10000 bytes) b=" .. ("z"):rep(8192) .. "\n", err, 1, true)
  end)
end)

describe("neap.log as JSON", function()
  helper.watch(before_each, after_each)

  local ENTRIES = [[
    for byte = 0, 255 do log.warn(("%c"):format(byte) .. "x", { byte = string.char(byte) }) end
    log.error("a/b \\ \" \194\155 \226\128\168 ü", { t = true, n = 1 / 3, i = 2 ^ 53, nan = 0 / 0,
      inf = 1 / 0, minus = -1 / 0, traceback = "one\n\ttwo", s = "\255" })
  ]]

  it("is an object in each line, which cjson reads", function()
    local err = logged(ENTRIES, "NEAP_LOG=json")
    local list = {}
    for line in err:gmatch("([^\n]*)\n") do list[#list + 1] = cjson.decode(line) end
    assert.equal(257, #list)
    for byte = 0, 255 do
      local told = byte < 128 and string.char(byte) or "\239\191\189"
      assert.equal(told .. "x", list[byte + 1].message)
      assert.equal(told, list[byte + 1].byte)
    end
    local last = list[257]
    assert.matches("^" .. TIME .. "$", last.time)
    last.time = nil
    assert.same({ level = "error", message = 'a/b \\ " \194\155 \226\128\168 ü', t = true,
      n = 1 / 3, i = 2 ^ 53, nan = "nan", inf = "inf", minus = "-inf", traceback = "one\n\ttwo",
      s = "\239\191\189" }, last)
    assert.is_nil(err:find("\194\155", 1, true)) -- a terminal would obey
  end)

  for name, program in pairs {
    node = [[require("fs").readFileSync(0).toString().trim().split("\n").forEach(l =>
      console.log([...JSON.parse(l).message].map(c => c.codePointAt(0)).join(" ")))]],
    python3 = "import json, sys\n"
      .. "for l in sys.stdin.buffer: print(*[ord(c) for c in json.loads(l)[\"message\"]])",
  } do
    local there = os.execute("command -v " .. name .. " >/dev/null") == 0
    local test = there and it or pending
    test("is read by " .. name, function()
      local err = logged(ENTRIES, "NEAP_LOG=json")
      local run = helper.sh(("%s %s %s <%s"):format(name, name == "node" and "-e" or "-c",
        "\"$(cat " .. helper.file(program) .. ")\"", helper.file(err)))
      local lines = {}
      for byte = 0, 255 do lines[#lines + 1] = (byte < 128 and byte or 65533) .. " 120\n" end
      assert.equal("", run.err)
      assert.equal(table.concat(lines) .. "97 47 98 32 92 32 34 32 155 32 8232 32 252\n", run.out)
    end)
  end
end)

describe("neap.log", function()
  helper.watch(before_each, after_each)

  it("writes what its level lets through", function()
    local all = { "error", "warn", "info", "debug" }
    for i, level in ipairs(all) do
      local text = ([[assert(log.configure { level = %q }) print(log.level)
        for _, name in ipairs { "error", "warn", "info", "debug" } do log[name](name) end]])
        :format(level)
      local err, run = logged(text)
      assert.equal(level .. "\n", run.out)
      assert.equal(i, select(2, err:gsub("\n", "")))
      for j, name in ipairs(all) do
        assert.equal(j <= i, err:find(helper.logged(name) .. name) ~= nil)
      end
    end
  end)

  it("is set by NEAP_LOG at the start, and says what it does not know", function()
    local text = "log.debug('x') print(log.level, log.format)"
    local err, run = logged(text, "NEAP_LOG=debug,json")
    assert.equal("debug\tjson\n", run.out)
    assert.equal("x", cjson.decode(err).message)
    err, run = logged(text, "NEAP_LOG=loud,error")
    assert.equal("error\ttext\n", run.out)
    assert.matches("^[^\n]* warn  NEAP_LOG [^\n]*unknown=loud\n$", err)
  end)

  it("changes what configure names, and nothing else", function()
    local _, run = logged([[
      log.configure { format = "json" }
      print(log.level, log.format)
      log.configure { level = "warn" }
      print(log.level, log.format)
      print(pcall(log.configure, { level = "error", format = "xml" }))
      print(log.level, log.format)
    ]])
    assert.matches('^info\tjson\nwarn\tjson\nfalse\t[^\n]*no format "xml"\nwarn\tjson\n$', run.out)
  end)

  it("does without lua-cjson as long as nobody wants JSON", function()
    local run = helper.sh(("exec env NEAP_LOG=json %s luajit %s"):format(helper.stock_environment(),
      helper.file([[
        package.preload.cjson = function() error("none") end
        local log = require("neap").log
        print(log.format, select(2, log.configure { level = "debug", format = "json" }))
        print(log.level)
      ]])))
    assert.equal("text\tneap.log.configure: JSON needs lua-cjson, which is not there\tmissing\n"
      .. "info\n", run.out)
    assert.matches("^" .. TIME .. " warn  NEAP_LOG: JSON needs lua%-cjson[^\n]*\n$", run.err)
  end)

  it("refuses what is no entry, at the caller's line", function()
    local log = require("neap").log
    for _, name in ipairs { "error", "warn", "info", "debug" } do
      helper.raises(name .. ": message must be a string", function() log[name](1) end)
    end
    for _, fields in ipairs { 1, "x", { "x" }, { ["a b"] = 1 }, { ["a=b"] = 1 }, { [""] = 1 },
      { x = {} }, { x = print }, { level = "x" }, { message = "x" }, { time = 1 },
      { dropped = 1 }, { limited = 1 } } do
      helper.raises("neap.log.error: ", function() log.error("x", fields) end)
    end
    helper.raises("needs a table", function() log.configure() end)
    helper.raises("no option", function() log.configure({ colour = true }) end)
    helper.raises("no level", function() log.configure({ level = "loud" }) end)
    helper.raises("level\" must be a string", function() log.configure({ level = 1 }) end)
    helper.raises("use neap.log.configure", function() log.level = "debug" end)
  end)
end)

describe("an error that a peer can provoke", function()
  helper.watch(before_each, after_each)

  it("is told ten times a second, and how often it was not", function()
    local err, run = logged([[
      local clock, loop = require("neap.abi").C, require("neap.task").loop
      local began = clock.neap_loop_now(loop)
      local tasks = {}
      for i = 1, 45 do
        tasks[2 * i] = neap.spawn(function() error("mistake") end)
        tasks[2 * i - 1] = neap.spawn(function()
          local _, message = neap.connect("nonsense")
          error(message)
        end)
      end
      for _, task in ipairs(tasks) do task:join() end
      neap.sleep(1.1) -- since the last of them
      neap.spawn(function() error("mistake") end)
      neap.spawn(function() error((select(2, neap.connect("nonsense")))) end)
      neap.sleep(0)
      print(clock.neap_loop_now(loop) - began)
    ]])
    local seconds = tonumber(run.out)
    for level, text in pairs { error = "a task ended in an error: [^\n]*mistake",
      warn = "[^\n]*connect to nonsense: not an address" } do
      local told, limited = 0, 0
      for line in err:gmatch("[^\n]+") do
        if line:find("^" .. helper.logged(level) .. text) then
          told, limited = told + 1, limited + (line:match(" limited=(%d+)") or 0)
        end
      end
      assert.equal(46, told + limited, level)
      -- ten in each second that it took, and one that began just before; at least once ten and one
      assert.is_true(told >= 11 and told <= 10 * (math.ceil(seconds) + 1), level .. ": " .. told)
    end
  end)

  it("has its place, its peer and its birth as fields", function()
    local err = logged([[
      local function handler() error("the\nmistake") end
      local listener = assert(neap.listen("tcp://127.0.0.1:0", handler))
      local conn = assert(neap.connect(listener.address))
      conn:read(1)
      listener:close()
    ]])
    assert.matches("^" .. helper.logged("error") .. "a task ended in an error: %S+:1: the\\n"
      .. "mistake serving=tcp://127%.0%.0%.1:%d+ spawned_at=/tmp/%S+:2\n  stack traceback:\n"
      .. "    [^\n]+\n", err)
  end)
end)

describe("standard error that takes nothing", function()
  helper.watch(before_each, after_each)

  it("does not stop the loop: entries are dropped, counted, and told of", function()
    local out = with_fifo("exec 4<>$FIFO 2>$FIFO;", [[
      local neap = require("neap")
      local log = neap.log
      local turns = 0
      for i = 1, 3000 do
        log.info("entry " .. i, { filler = ("x"):rep(100) })
        if i % 100 == 0 then neap.sleep(0) turns = turns + 1 end
      end
      local dropped = log.dropped()
      local reader = io.open(arg[1])
      for i = 1, 3000 - dropped do assert(reader:read("*l"):find("entry " .. i .. " ", 1, true)) end
      log.info("the next")
      local told = tonumber(reader:read("*l"):match("the next dropped=(%d+)$"))
      print(turns, dropped > 2000, told == dropped)
      log.info("one more")
      print(reader:read("*l"):match("one more.*"), log.dropped() == dropped)
    ]])
    assert.equal("30\ttrue\ttrue\none more\ttrue\n", out)
  end)

  -- an entry larger than what a pipe takes at once
  local HALVES = [[
    local fields = { filler = ("x"):rep(8192), more = ("y"):rep(8192) }
    local written = 0
    while log.dropped() == 0 do
      log.info("entry " .. written, fields)
      if log.dropped() == 0 then written = written + 1 end
    end
    for _ = 1, 9 do log.info("no room", fields) end
    local got = take() -- what was there
    local whole = select(2, got:gsub("\n", ""))
    print("begun", whole < written, got:sub(-1) ~= "\n")
    log.info("the next")
    got = got .. take()
    local count = 0
    for one in got:gmatch("([^\n]*)\n") do
      local n, x, y, rest = one:match("^%S+Z info  entry (%d+) filler=(x+) more=(y+)(.*)$")
      if n then
        assert(tonumber(n) == count and #x == 8192 and #y == 8192 and rest == "")
        count = count + 1
      else
        print(one:match("Z (.*)"))
      end
    end
    print(count == written, got:sub(-1) == "\n", log.dropped())
  ]]

  it("is given the rest of an entry before the next one", function()
    local out = with_fifo("exec 4<>$FIFO 2>$FIFO;", [[
      local ffi = require("ffi")
      ffi.cdef "int open(const char *, int); long read(int, void *, unsigned long);"
      local log = require("neap").log
      local fd, room = ffi.C.open(arg[1], 0x800), ffi.new("char[1048576]") -- O_NONBLOCK
      local function take()
        local parts = {}
        local n = tonumber(ffi.C.read(fd, room, 1048576))
        while n > 0 do
          parts[#parts + 1] = ffi.string(room, n)
          n = tonumber(ffi.C.read(fd, room, 1048576))
        end
        return table.concat(parts)
      end
    ]] .. HALVES)
    assert.equal("begun\ttrue\ttrue\ninfo  the next dropped=10\ntrue\ttrue\t10\n", out)
  end)

  it("is a socket, and the same holds", function()
    local run = helper.stock([[
      local ffi = require("ffi")
      ffi.cdef "int socketpair(int, int, int, int *); int dup2(int, int);"
      ffi.cdef "long recv(int, void *, unsigned long, int);"
      local pair, room = ffi.new("int[2]"), ffi.new("char[1048576]")
      assert(ffi.C.socketpair(1, 1, 0, pair) == 0 and ffi.C.dup2(pair[1], 2) == 2)
      local log = require("neap").log
      local function take()
        local parts = {}
        local n = tonumber(ffi.C.recv(pair[0], room, 1048576, 0x40)) -- MSG_DONTWAIT
        while n > 0 do
          parts[#parts + 1] = ffi.string(room, n)
          n = tonumber(ffi.C.recv(pair[0], room, 1048576, 0x40))
        end
        return table.concat(parts)
      end
    ]] .. HALVES:gsub('print%("begun"[^\n]*', ""))
    assert.equal("info  the next dropped=10\ntrue\ttrue\t10\n", run.out)
    assert.equal(0, run.status)
  end)

  it("is a pipe whose reader has gone, and the process goes on", function()
    local out = with_fifo("exec 4<>$FIFO 2>$FIFO; exec 4<&-;", [[
      local neap = require("neap")
      for _ = 1, 3 do neap.log.warn("to nobody") end
      neap.sleep(0)
      print(neap.log.dropped())
      local reader = io.popen("cat " .. arg[1]) -- somebody came
      local before
      repeat
        before = neap.log.dropped()
        neap.log.warn("to somebody")
        neap.sleep(0.01)
      until neap.log.dropped() == before
      print(reader:read("*l"):match("warn  to somebody dropped=%d+") ~= nil)
      os.exit(0, false)
    ]])
    assert.equal("3\ntrue\n", out)
  end)

  it("is closed, and a connection that has its number is not sent the log", function()
    local text = [[
      local neap = require("neap")
      local ffi = require("ffi")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        print(conn:read(4):str(), select(3, conn:read(1)))
      end))
      %s
      local conn = assert(neap.connect(listener.address))
      ffi.cdef "int getpeername(int, void *, unsigned int *);"
      local room, size = ffi.new("char[128]"), ffi.new("unsigned int[1]", 128)
      print(ffi.C.getpeername(2, room, size)) -- 0: a connection
      neap.log.error("secret")
      print(neap.log.dropped())
      conn:write("data")
      conn:shutdown()
      conn:read(1)
      listener:close()
      neap.run()
    ]]
    local closing = text:format('ffi.cdef "int close(int);" ffi.C.close(2)')
    assert.equal("0\n1\ndata\teof\n", helper.script(closing).out)
    assert.equal("0\n1\ndata\teof\n", helper.stock(closing).out)
    -- closed before: something of the loop has the number
    local run = helper.sh(("exec env %s luajit %s 2>&-"):format(helper.stock_environment(),
      helper.file(text:format(""))))
    assert.equal("-1\n1\ndata\teof\n", run.out)
  end)
end)
