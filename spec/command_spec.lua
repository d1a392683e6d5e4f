local ffi = require("ffi")
local lfs = require("lfs")
local abi = require("neap.abi")
local helper = require("spec.helper")
local neap = require("neap")

local function neap_with(arguments)
  return helper.sh(helper.neap .. " " .. arguments)
end

describe("the neap command", function()
  helper.watch(before_each, after_each)

  it("prints its version and the interpreter's with -v, and --version", function()
    for _, option in ipairs { "-v", "--version" } do
      local run = neap_with(option)
      assert.equal("neap " .. neap.version .. ", " .. jit.version .. "\n", run.out)
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end
  end)

  it("explains itself on stderr, with status 1, when it does not know an option", function()
    for _, arguments in ipairs { "-x", "-E", "-vx", "-ii", "-i -x",
      "--no-such-option script.lua" } do
      local run = neap_with(arguments)
      assert.matches("^neap: unknown option %-%S+\nneap %-%-help lists", run.err)
      assert.equal("", run.out)
      assert.equal(1, run.status)
    end
  end)

  it("explains itself on stderr, with status 1, when an option lacks its argument", function()
    for _, option in ipairs { "-e", "-l", "-j" } do
      local run = neap_with("-v " .. option)
      assert.equal("neap: option " .. option .. " needs an argument\n"
        .. "neap --help lists the options.\n", run.err)
      assert.equal("", run.out)
      assert.equal(1, run.status)
    end
  end)

  it("says how an option with a value is written, when that lacks or is none", function()
    for word, form in pairs {
      ["--leaks"] = "--leaks=LEVEL: off, sample, touch or all",
      ["--leaks=some"] = "--leaks=LEVEL: off, sample, touch or all",
      ["--guard"] = "--guard=REPORT[,ABORT], in seconds, as in 2,10",
      ["--guard=x"] = "--guard=REPORT[,ABORT], in seconds, as in 2,10",
      ["--stop-timeout"] = "--stop-timeout=SECONDS",
      ["--stop-timeout=-1"] = "--stop-timeout=SECONDS",
    } do
      local run = neap_with(word .. " 5 -e 'print(1)'")
      assert.equal(("neap: write %s, not %s\nneap --help lists the options.\n"):format(form, word),
        run.err)
      assert.equal("", run.out)
      assert.equal(1, run.status)
    end
  end)

  it("explains itself on stdout, and does nothing else, with -h and --help", function()
    for _, option in ipairs { "-h", "--help" } do
      local run = neap_with("-e 'print(1)' " .. option .. " /no/such/script")
      assert.matches("^usage: neap", run.out)
      for _, known in ipairs { "-e chunk", "-l name", "-j cmd", "-i ", "-v, --version ", "-- ",
        "- ", "--stats", "-h, --help" } do
        assert.matches("\n  " .. known, run.out, 1, true)
      end
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end
  end)

  it("runs standard input when it is called without a script and that is no terminal", function()
    local script = helper.file("#!/bin/neap\nprint('in', select('#', ...), arg[0], #arg)")
    for _, options in ipairs { "", "-lstring", "-joff", "--stats" } do
      local run = neap_with(options .. " <" .. script)
      assert.equal("in\t0\tnil\t0\n", run.out)
      assert.equal(0, run.status)
    end
    local run = neap_with("<" .. helper.file("error('broken')"))
    assert.matches("^neap: stdin:1: broken\nstack traceback:", run.err)
    assert.equal(1, run.status)
  end)

  it("runs standard input with arguments for -", function()
    local script = helper.file("print(arg[0], arg[-1], ...)")
    local run = neap_with("- one -v <" .. script)
    assert.equal("-\t" .. helper.neap .. "\tone\t-v\n", run.out)
    assert.equal(0, run.status)
  end)

  it("takes no word behind -- for an option or for the command test", function()
    local directory = helper.temporary_directory()
    helper.file("print('a file', ...)", directory .. "/test")
    helper.file("print('a dash', ...)", directory .. "/-v")
    local command = ("cd %s && %s "):format(directory, helper.neap)
    assert.equal("a file\tone\n", helper.sh(command .. "-- test one").out)
    assert.equal("a dash\t--\n", helper.sh(command .. "-- -v --").out)
    assert.equal(0, helper.sh(command .. "--").status)
  end)

  it("puts the words before the script at the negative places of arg", function()
    local script = helper.file("print(arg[-3], arg[-2], arg[-1], arg[1], ...)")
    assert.equal(helper.neap .. "\t-e\tx=1\tone\tone\n",
      neap_with("-e x=1 " .. script .. " one").out)
  end)

  it("runs -e, -l and -j in their order, with what they need glued to them or behind", function()
    local directory = helper.temporary_directory()
    helper.file("print('module', ...) return {}", directory .. "/amodule.lua")
    helper.file("print('script', jit.status())", directory .. "/script.lua")
    local run = helper.sh(("cd %s && LUA_PATH='./?.lua;;' %s %s"):format(directory, helper.neap,
      [[-e 'print(1, ...)' -lamodule '-eprint(2)' -l amodule -j off -e 'print(3)' script.lua]]))
    assert.equal("", run.err)
    assert.matches("^1\nmodule\tamodule\n2\n3\nscript\tfalse", run.out)
    assert.equal(0, run.status)
  end)

  it("runs -e in a task, and the loop after it", function()
    local run = neap_with([[-e 'neap = require("neap")
      neap.spawn(function() neap.sleep(0.01) print("spawned") end)
      print(neap.sleep(0.001))']])
    assert.equal("true\nspawned\n", run.out)
    assert.equal("", run.err)
  end)

  it("stops at the first -e, -l or -j that fails, with status 1", function()
    local broken = {
      ["-e 'error(\"broken\")'"] = "^neap: %(command line%):1: broken\nstack traceback:\n.*"
        .. "%(command line%):1: in main chunk\n$",
      ["-e 'x = = 1'"] = "^neap: %(command line%):1: unexpected symbol near '='\n$",
      ["-l no.such.module"] = "^neap: module 'no.such.module' not found:",
      ["-jnosuch"] = "^neap: unknown LuaJIT command, or no module jit.nosuch\n$",
    }
    for option, message in pairs(broken) do
      local run = neap_with(option .. " -e 'print(\"never\")'")
      assert.matches(message, run.err)
      assert.equal("", run.out)
      assert.equal(1, run.status)
    end
  end)

  it("controls the JIT compiler with -j, as luajit does", function()
    local function status(option)
      return neap_with(option .. [[ -e 'print((jit.status()))']]).out
    end
    assert.equal("true\n", status("-jon"))
    assert.equal("false\n", status("-joff"))
    assert.equal("false\n", status("-j off"))
    local directory = helper.temporary_directory()
    lfs.mkdir(directory .. "/jit")
    helper.file("return { start = function(...) print('started', ...) end }",
      directory .. "/jit/ours.lua")
    local run = helper.sh(("LUA_PATH='%s/?.lua;;' %s -jours=a,b -jours -e ''"):format(directory,
      helper.neap))
    assert.equal("started\ta\tb\nstarted\n", run.out)
  end)

  it("prints its version with -v, and goes on", function()
    local run = neap_with("-v -e 'print(2)'")
    assert.equal("neap " .. neap.version .. ", " .. jit.version .. "\n2\n", run.out)
    assert.equal(0, run.status)
  end)

  it("runs LUA_INIT first: a text, or a file behind @", function()
    local function with(init, arguments)
      return helper.sh(("LUA_INIT='%s' %s %s"):format(init, helper.neap, arguments))
    end
    assert.equal("init\t0\n1\n", with([[print("init", #arg)]], "-e 'print(1)'").out)
    assert.equal("file\n1\n", with("@" .. helper.file("print('file')"), "-e 'print(1)'").out)
    for init, message in pairs { ["error(\"bad\")"] = "LUA_INIT:1: bad\nstack traceback:",
      ["x = = 1"] = "LUA_INIT:1: unexpected symbol", ["@/no/such"] = "cannot open /no/such" } do
      local run = with(init, "-e 'print(1)'")
      assert.matches("neap: " .. message, run.err, 1, true)
      assert.equal("", run.out)
      assert.equal(1, run.status)
    end
  end)

  it("may open as many descriptors as the system allows it, up to a million", function()
    local run = helper.sh("ulimit -Sn 64 && ulimit -Hn 500 && " .. helper.neap
      .. " -e 'os.execute(\"ulimit -Sn\")'")
    assert.equal("500\n", run.out)
    local hard = helper.sh("ulimit -Hn").out:match("%d+")
    local most = hard and math.min(tonumber(hard), 1048576) or 1048576
    run = helper.sh("ulimit -Sn 64 && " .. helper.neap .. " -e 'os.execute(\"ulimit -Sn\")'")
    assert.equal(most .. "\n", run.out)
  end)

  it("lets no socket become a standard descriptor that was closed", function()
    local run = neap_with([[-e 'neap = require("neap")
      assert(neap.listen("tcp://127.0.0.1:0", print)):close()
      io.stderr:write(tostring(io.read()))' <&- >&-]])
    assert.equal("nil", run.err)
    assert.equal(0, run.status)
  end)

  it("goes on when what it prints to is gone, and its children end as they always do", function()
    local script = helper.file([[
      for i = 1, 1e5 do print(i) end
      io.stderr:write("went on\n")
      os.execute("(yes; echo yes: $? >&2) | true")
    ]])
    local run = helper.sh(helper.neap .. " " .. script .. " | true")
    assert.matches("went on\n", run.err, 1, true)
    assert.matches("yes: 141\n", run.err, 1, true)
  end)

  describe("with --stats", function()
    local function names_of(struct)
      local header = ffi.string(abi.C.neap_header())
      local body = header:match("struct " .. struct .. " (%b{});"):gsub("/%*.-%*/", "")
      local names = {}
      for name in body:gmatch("uint64_t ([%w_]+);") do names[#names + 1] = name end
      return names
    end

    local function counters(text)
      local values, count = {}, 0
      for group, name, value in text:gmatch("(%l+)%.([%w_]+) (%d+)\n") do
        values[group .. "." .. name] = tonumber(value)
        count = count + 1
      end
      return values, count
    end

    local script = [[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(c) c:write("hello") end))
      local conn = assert(neap.connect(listener.address))
      conn:read(5):release()
      local own = neap.pool{}
      own:allocator():copy("x"):release()
      own, copy = nil, neap.copy("live")
      conn:close()
      listener:close()
      collectgarbage() collectgarbage()
    ]]

    it("prints every counter to stderr at exit", function()
      local run = helper.sh(helper.neap .. " --stats " .. helper.file(script))
      local values, count = counters(run.err)
      local expected = 0
      local stats = neap.stats()
      for group, struct in pairs { pools = "neap_pool_stats", slices = "neap_slice_stats",
        connections = "neap_net_stats", collector = "neap_collector_stats",
        leaks = "neap_ledger_stats" } do
        for _, name in ipairs(names_of(struct)) do
          assert(values[group .. "." .. name], "no " .. group .. "." .. name)
          assert(stats[group][name], "neap.stats() has no " .. group .. "." .. name)
          expected = expected + 1
        end
      end
      assert.equal(expected, count)
      assert.is_true(expected > 30)
      assert.equal(1, values["connections.accepted"])
      assert.equal(5, values["connections.written_bytes"])
      assert.equal("", run.out)
      assert.equal(0, run.status)
    end)

    it("counts a pool that has ended", function()
      local run = neap_with([[--stats -e 'neap = require("neap")
        do
          local own = neap.pool{}
          own:allocator():copy("x"):release()
          own:close()
        end
        collectgarbage() collectgarbage()']])
      local values = counters(run.err)
      assert.equal(1, values["pools.slices_made"])
      assert.equal(1, values["pools.bufs_allocated"])
      assert.equal(0, values["pools.bytes_held"])
    end)

    it("prints them once, also after os.exit() and after an error", function()
      for ending, status in pairs { ["os.exit(7)"] = 7, ["os.exit(3, true)"] = 3,
        ["error(1)"] = 1 } do
        local run = neap_with(("--stats --stats -e 'n = require(\"neap\") s = n.copy(\"x\") %s'")
          :format(ending))
        local values, count = counters(run.err)
        assert.equal(1, values["pools.slices_made"])
        assert.is_true(count < 100) -- twice is more
        assert.equal(status, run.status)
      end
    end)
  end)

  it("runs a script with its arguments in arg and in ...", function()
    local run = helper.script([[
      print(#arg, arg[1], arg[2], arg[3], arg[0]:match("^/tmp") ~= nil, ...)
    ]], "one 'two words' ''")
    assert.equal("3\tone\ttwo words\t\ttrue\tone\ttwo words\t\n", run.out)
    assert.equal(0, run.status)
  end)

  it("does not wait for what a script that does not wait has not started", function()
    local run = helper.script([[local neap = require("neap") print(neap.version)]])
    assert.equal(neap.version .. "\n", run.out)
    assert.equal(0, run.status)
  end)

  it("says what is wrong with a script's syntax, with status 1", function()
    local run = helper.script("local x = = 1")
    assert.matches("neap: ", run.err, 1, true)
    assert.matches(":1: unexpected symbol near '='", run.err, 1, true)
    assert.equal("", run.out)
    assert.equal(1, run.status)
  end)

  it("says that a script is missing, with status 1", function()
    local run = helper.sh(helper.neap .. " /no/such/script.lua")
    assert.matches("cannot open /no/such/script.lua", run.err, 1, true)
    assert.equal("", run.out)
    assert.equal(1, run.status)
  end)

  it("prints a mistake with the traceback from its own line on, wherever it is told", function()
    local run = helper.sh(helper.neap .. " " .. helper.file([[
      local neap = require("neap")
      local function wrong() neap.sleep(-1) end
      neap.spawn(function() wrong() end):join()
      neap.spawn(function() neap.deadline(9, function() wrong() end) end):join()
      local function main() wrong() end
      main()
    ]]))
    assert.equal(1, run.status)
    local traces = 0
    for first in run.err:gmatch("stack traceback:\n%s+([^\n]+)") do
      traces = traces + 1
      assert.matches(":2: in function '?<?wrong", first)
    end
    assert.equal(3, traces)
    assert.is_nil(run.err:find("check.lua", 1, true))
  end)

  it("prints an error with its traceback, with status 1", function()
    local run = helper.script([[
      print("before")
      local function inner() error("it broke") end
      inner()
      print("never")
    ]])
    assert.equal("before\n", run.out)
    assert.matches("^neap: /tmp/%S+:2: it broke\n", run.err)
    assert.matches("stack traceback:", run.err, 1, true)
    assert.matches("in function 'inner'", run.err, 1, true)
    assert.equal(1, run.status)
  end)

  it("survives errors that are no strings, with status 1", function()
    local unprintable = "setmetatable({}, { __tostring = error })"
    for _, value in ipairs { "{}", "42", "false", "print", unprintable } do
      local run = helper.script("error(" .. value .. ")")
      assert.equal("", run.out)
      assert.equal(1, run.status)
      assert.matches("neap: ", run.err, 1, true)
    end
  end)

  it("is silent about error(nil), with status 1", function()
    local run = helper.script("error(nil)")
    assert.equal("", run.out .. run.err)
    assert.equal(1, run.status)
  end)

  it("ends with the status that a script gives to os.exit", function()
    assert.equal(0, helper.script("os.exit(0)").status)
    assert.equal(7, helper.script("os.exit(7)").status)
    assert.equal(3, helper.script("os.exit(3, true)").status)
    assert.equal(4, helper.script([[
      local neap = require("neap")
      local s = neap.copy("live")
      assert(neap.listen("tcp://127.0.0.1:0", print))
      os.exit(#s, true)
    ]]).status)
  end)

  it("ends with status 1 when a script fails after it has started a server", function()
    local run = helper.script([[
      local neap = require("neap")
      assert(neap.listen("tcp://127.0.0.1:0", print))
      error("too late")
    ]])
    assert.matches("too late", run.err, 1, true)
    assert.equal(1, run.status)
  end)

  it("runs the script in a task: what waits can be called at its top level", function()
    local run = helper.script([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        conn:write("a line\n")
      end))
      local conn = assert(neap.connect(listener.address))
      local line = conn:read_line()
      print(line:str())
      line:release()
      conn:close()
      listener:close()
    ]])
    assert.equal("", run.err)
    assert.equal("a line\n", run.out)
    assert.equal(0, run.status)
  end)

  it("goes on with the loop after the script's end, until nothing is left", function()
    local run = helper.script([[
      local neap = require("neap")
      local listener
      listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
        for line in conn:lines() do print("served " .. line) end
        listener:close()
      end))
      neap.spawn(function()
        local conn = assert(neap.connect(listener.address))
        conn:write("a task\n")
        conn:close()
      end)
      neap.run() -- inside a task: nothing
      print("the script's end")
    ]])
    assert.equal("", run.err)
    assert.equal("the script's end\nserved a task\n", run.out)
    assert.equal(0, run.status)
  end)

  it("sends what a script wrote just before its end", function()
    local socket = helper.listening()
    local run = helper.script(([[
      local conn = assert(require("neap").connect("%s"))
      conn:write(("x"):rep(100000))
      conn:close()
    ]]):format(socket.address))
    assert.equal("", run.err)
    assert.equal(0, run.status)
    local peer = socket:accept()
    assert.equal(100000, #peer:recv_all())
  end)

  for _, signal in ipairs { "INT", "TERM" } do
    it("ends with status 0 when a server gets SIG" .. signal, function()
      local script = helper.file([[
        assert(require("neap").listen("tcp://127.0.0.1:0", print))
        print("up")
        io.stdout:flush()
      ]])
      local child = helper.start(helper.neap .. " " .. script)
      assert.equal("up", child:line())
      child:kill(signal)
      local run = child:finish()
      assert.equal("", run.err)
      assert.equal(0, run.status)
    end)
  end

  it("ends with status 0 at a signal while its script itself waits", function()
    local script = helper.file([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:read(1) end))
      local conn = assert(neap.connect(listener.address))
      neap.spawn(function() print("up") io.stdout:flush() end)
      print(select(3, conn:read(1)))
    ]])
    local child = helper.start(helper.neap .. " " .. script)
    assert.equal("up", child:line())
    child:kill("TERM")
    local run = child:finish()
    assert.equal("cancelled\n", run.out)
    assert.equal("", run.err)
    assert.equal(0, run.status)
  end)

  it("is not ended by a write to a connection that is gone", function()
    local run = helper.script([[
      local neap = require("neap")
      local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn) conn:read(1) end))
      local conn = assert(neap.connect(listener.address))
      conn:write("x")
      local name
      repeat local ok, _, why = conn:write(("x"):rep(100000)) name = why until not ok
      print(name)
      listener:close()
      conn:close()
    ]])
    assert.equal("reset\n", run.out)
    assert.equal(0, run.status)
  end)

  it("takes neither its library nor its Lua code from the current directory", function()
    local directory = helper.temporary_directory()
    lfs.mkdir(directory .. "/neap")
    lfs.mkdir(directory .. "/lua")
    lfs.mkdir(directory .. "/lua/neap")
    lfs.mkdir(directory .. "/build")
    for _, name in ipairs { "neap.lua", "neap/init.lua", "neap/command.lua", "neap/task.lua",
      "lua/neap/init.lua", "lua/neap/abi.lua" } do
      helper.file("print('hijacked') os.exit(9)", directory .. "/" .. name)
    end
    for _, name in ipairs { "libneap.so", "neap.so", "build/libneap.so" } do
      helper.file("not a library", directory .. "/" .. name)
    end
    local script = helper.file([[
      local slice = require("neap").copy("abc")
      print(#slice)
      slice:release()
    ]])
    local run = helper.sh(("cd %s && %s %s"):format(directory, helper.neap, script))
    assert.equal("", run.err)
    assert.equal("3\n", run.out)
    run = helper.sh(("cd %s && LUA_CPATH='./?.so;;' %s %s"):format(directory, helper.neap, script))
    assert.equal("3\n", run.out)
  end)

  it("finds its files when it is called through a symbolic link from elsewhere", function()
    local directory = helper.temporary_directory()
    local run = helper.sh(("cd %s && ln -s %s n && ./n -v"):format(directory, helper.neap))
    assert.matches(neap.version, run.out, 1, true)
    assert.equal(0, run.status)
  end)

  it("runs busted, and passes its verdict on as the status", function()
    local directory = helper.temporary_directory()
    helper.file([[it("passes", function() assert(true) end)]], directory .. "/good_spec.lua")
    helper.file([[it("fails", function() assert(false) end)]], directory .. "/bad_spec.lua")
    helper.file([[
      it("waits", function()
        local neap = require("neap")
        local listener = assert(neap.listen("tcp://127.0.0.1:0", function(c) c:write("x") end))
        local conn = assert(neap.connect(listener.address))
        assert.equal("x", conn:read(1):str())
        conn:close()
        listener:close()
      end)]], directory .. "/waiting_spec.lua")
    local command = ("cd %s && %s test --output=TAP "):format(directory, helper.neap)
    local run = helper.sh(command .. "good_spec.lua")
    assert.matches("ok 1 - passes", run.out, 1, true)
    assert.equal(0, run.status)
    run = helper.sh(command .. "bad_spec.lua")
    assert.matches("not ok 1 - fails", run.out, 1, true)
    assert.equal("", run.err)
    assert.equal(1, run.status)
    run = helper.sh(command .. "waiting_spec.lua")
    assert.matches("ok 1 - waits", run.out, 1, true)
    assert.equal(0, run.status)
  end)
end)

describe("the neap command as busted's interpreter", function()
  helper.watch(before_each, after_each)

  it("runs specs whose tests wait", function()
    local directory = helper.temporary_directory()
    helper.file([[it("waits", function() assert(require("neap").sleep(0.001)) end)]],
      directory .. "/good_spec.lua")
    helper.file([[it("fails", function() assert(false) end)]], directory .. "/bad_spec.lua")
    local command = ("cd %s && busted --lua=%s --output=TAP "):format(directory, helper.neap)
    local run = helper.sh(command .. "good_spec.lua")
    assert.matches("ok 1 - waits", run.out, 1, true)
    assert.equal(0, run.status)
    run = helper.sh(command .. "bad_spec.lua")
    assert.matches("not ok 1 - fails", run.out, 1, true)
    assert.is_true(run.status ~= 0)
  end)
end)

describe("the host's functions", function()
  it("are those that its header declares", function()
    local count = 0
    for name in ffi.string(ffi.C.neap_host_header()):gmatch("\n[%w ]+[ %*](neap_%l[%w_]*)%(") do
      assert(ffi.C[name] ~= nil, name)
      count = count + 1
    end
    assert.is_true(count > 5)
  end)
end)

describe("the manual page", function()
  it("has every option of the usage, and every variable of the environment", function()
    local file = assert(io.open("docs/neap.1"))
    local page = file:read("*a")
    file:close()
    for letter in ("eljivh"):gmatch(".") do
      assert.matches("\n%.It Fl " .. letter, page)
    end
    for _, text in ipairs { ".It Fl Fl\n", ".It Fl\n", ".It Fl Fl stats", "Fl Fl help",
      ".It Ev HOME", ".It Ev LUA_CPATH", ".It Ev LUA_INIT", ".It Ev LUA_PATH", ".Sh SIGNALS",
      ".Sh EXIT STATUS", ".Sh FILES", ".Sh EXAMPLES" } do
      assert.is_truthy(page:find(text, 1, true), text)
    end
  end)
end)

describe("the prompt, where standard input is no terminal,", function()
  helper.watch(before_each, after_each)

  local function prompt(input, options)
    return helper.sh(("HOME= %s -i %s <%s"):format(helper.neap, options or "",
      helper.file(input)))
  end

  local banner = "neap " .. neap.version .. ", " .. jit.version .. "\n"

  it("prints the values of expressions, and what chunks return", function()
    local run = prompt("1+1\n=3\n  = 4, nil, nil\nreturn 5, 6\nlocal a = 7\n\n-- nothing\na\n")
    assert.equal(banner .. "> 2\n> 3\n> 4\tnil\tnil\n> 5\t6\n> > > > nil\n> \n", run.out)
    assert.equal("", run.err)
    assert.equal(0, run.status)
  end)

  it("goes on reading while a chunk is not complete", function()
    local run = prompt("for i = 1, 2 do\nprint(i)\nend\n1 +\n2\nx = [[a\nb]]\n#x")
    assert.equal(banner .. "> >> >> 1\n2\n> >> 3\n> >> > 3\n> \n", run.out)
    assert.equal("", run.err)
  end)

  it("shows _PROMPT and _PROMPT2", function()
    local run = prompt("_PROMPT = 'next: ' _PROMPT2 = 'more: '\n(\n1)\n")
    assert.equal(banner .. "> next: more: 1\nnext: \n", run.out)
  end)

  it("prints an error with its traceback, and goes on", function()
    local run = prompt("error('broken')\nx y\nerror({})\nerror()\nnil()\n(nil)()\n2")
    assert.matches("^stdin:1: broken\nstack traceback:\n%s+%[C%]: in function 'error'\n"
      .. "%s+stdin:1: in main chunk\nstdin:1: '=' expected near 'y'\ntable: ", run.err)
    assert.matches("stdin:1: attempt to call a nil value", run.err, 1, true)
    assert.matches("> 2\n> \n$", run.out)
    assert.equal(0, run.status)
  end)

  it("leaves what follows a line to a chunk that reads standard input", function()
    local run = prompt("io.read()\nfor the chunk\n'next'\n")
    assert.equal(banner .. "> for the chunk\n> next\n> \n", run.out)
  end)

  it("comes after the script and the -e, and runs the loop while a chunk waits", function()
    local script = helper.file([[
      neap = require("neap")
      listener = assert(neap.listen("tcp://127.0.0.1:0", function(c) c:write("served\n") end))
      neap.sleep(0.001)
      print(...)]])
    local run = prompt("conn = neap.connect(listener.address)\nconn:lines()()\n",
      "-e 'print(1)' " .. script .. " one")
    assert.equal(banner .. "1\none\n> > served\n> \n", run.out)
    assert.equal("", run.err)
  end)

  it("does not come after a script that failed", function()
    local run = prompt("print('never')", helper.file("error('broken')"))
    assert.equal(banner, run.out)
    assert.equal(1, run.status)
  end)

  it("has the module as the global neap, unless the script made one", function()
    assert.matches("> " .. neap.version, prompt("neap.version\n").out, 1, true)
    assert.matches("> mine", prompt("neap\n", helper.file("neap = 'mine'")).out, 1, true)
    assert.equal("nil\n", helper.script("print(neap)").out)
  end)

  it("can run the loop, and be used after it", function()
    local run = prompt("neap = require('neap')\nneap.spawn(print, 'ran') and nil\nneap.run()\n2\n"
      .. "neap.stop()\nneap.sleep(0.001)\n")
    assert.equal(banner .. "> > nil\n> ran\n> 2\n> > true\n> \n", run.out)
    assert.equal("", run.err)
  end)

  it("waits no longer than for the task that a chunk joins", function()
    local run = prompt("neap = require('neap') l = neap.listen('tcp://127.0.0.1:0', print)\n"
      .. "neap.spawn(function() return 'joined' end):join()\n")
    assert.equal(banner .. "> > joined\n> \n", run.out)
  end)

  it("sends what was written before its end", function()
    local socket = helper.listening()
    local run = prompt(("conn = require('neap').connect('%s')\nconn:write(('x'):rep(50000))\n")
      :format(socket.address))
    assert.equal("", run.err)
    assert.equal(50000, #socket:accept():recv_all())
  end)
end)

-- A terminal is what script(1) of bsdutils makes; where it cannot (a chroot without /dev/pts)
-- these are skipped.
describe("the prompt on a terminal", function()
  helper.watch(before_each, after_each)

  local home

  local Terminal = {}
  Terminal.__index = Terminal

  local function terminal_for(command, environment)
    local keys = helper.temporary_name()
    os.remove(keys)
    assert(os.execute("mkfifo " .. keys) == 0)
    local child = helper.start(("env %s TERM=xterm LC_ALL=C.UTF-8 script -qefc '%s' /dev/null <%s")
      :format(environment or "HOME=" .. home, command, keys))
    return setmetatable({ child = child, keys = assert(io.open(keys, "w")), seen = "" }, Terminal)
  end

  -- exec: no shell is between, which would be sent the terminal's signals too
  local function terminal(arguments, environment)
    return terminal_for("exec " .. helper.neap .. " " .. arguments, environment)
  end

  function Terminal:type(keys)
    self.keys:write(keys)
    self.keys:flush()
  end

  --- Waits until the text is on the screen, behind what was waited for before.
  function Terminal:expect(text)
    repeat
      local from, to = self.seen:find(text, 1, true)
      if to then
        local before = self.seen:sub(1, from - 1)
        self.seen = self.seen:sub(to + 1)
        return before
      end
      local byte = self.child.pipe:read(1)
      if byte ~= "\0" then self.seen = self.seen .. (byte or "") end -- a terminal ignores it
      if not byte then error(("no %q on the screen: %q"):format(text, self.seen), 2) end
    until false
  end

  --- The prompt is there (before it the system would take a ^D), and a ^D ends it.
  function Terminal:leave()
    self:expect("> ")
    self:type("\4")
    return self:finish()
  end

  function Terminal:finish()
    local run = self.child:finish()
    self.keys:close()
    return run
  end

  local has_terminal = os.execute("script -qec true /dev/null >/dev/null 2>&1 </dev/null") == 0

  -- In a CI there is no skipping.
  local function on_terminal(name, test)
    if not has_terminal and not os.getenv("CI") then
      return pending(name .. " (needs script, of bsdutils, and /dev/pts)")
    end
    it(name, function()
      home = helper.temporary_directory()
      test()
    end)
  end

  on_terminal("is what there is without arguments, and ^D ends it", function()
    local t = terminal("")
    t:expect("neap " .. neap.version)
    t:expect("> ")
    t:type("6*7\r")
    t:expect("42")
    assert.equal(0, t:leave().status)
  end)

  on_terminal("edits the line, characters of several bytes too", function()
    local t = terminal("-i")
    t:expect("> ")
    t:type("'hllo \195\169\195\188\127'\27[D\27[D\27[D\27[D\27[D\27[De\5\r")
    t:expect("\nhello \195\169\r\n")
    assert.equal(0, t:leave().status)
  end)

  on_terminal("gives a line up at ^C, also one that a chunk goes on in", function()
    local t = terminal("-i")
    t:expect("> ")
    t:type("no such")
    t:expect("such")
    t:type("\3")
    t:expect("\n> ")
    t:type("for i = 1, 2 do\r")
    t:expect(">> ")
    t:type("\3\3")
    t:expect("\n> ")
    t:type("'on' .. 'ward'\r")
    t:expect("onward")
    local run = t:leave()
    assert.equal(0, run.status)
    assert.equal("", run.err)
  end)

  on_terminal("interrupts a chunk that waits at ^C", function()
    local t = terminal("-i")
    t:expect("> ")
    t:type("print('wai' .. 'ting') require('neap').sleep(1000)\r")
    t:expect("\nwaiting")
    t:type("\3")
    t:expect("interrupted\r\nstack traceback:")
    t:expect("> ")
    t:type("'on' .. 'ward'\r")
    t:expect("onward")
    assert.equal(0, t:leave().status)
  end)

  on_terminal("serves while keys are awaited, half a key too, and shows the line again", function()
    local t = terminal("-i -e \"neap = require([[neap]]) l = neap.listen([[tcp://127.0.0.1:0]], "
      .. "function(c) local line = c:read_line() print([[got]], line) c:write(line) end) "
      .. "print(l.address)\"")
    t:expect("tcp://127.0.0.1:")
    local port = t:expect("\r\n")
    t:expect("> ")
    t:type("'be' .. 'gun\27")
    t:expect("gun")
    local run = neap_with(([[-e 'c = require("neap").connect("tcp://127.0.0.1:%s")
      c:write("hello\n") print(c:read_any():str())']]):format(port))
    assert.equal("hello\n", run.out)
    t:expect("\r\27[Kgot\t")
    t:expect("\r\n> 'be' .. 'gun")
    t:type("[C'\r")
    t:expect("\r\nbegun\r\n")
    assert.equal(0, t:leave().status)
  end)

  on_terminal("keeps a history of 1000 lines in HOME", function()
    local path = home .. "/.neap_history"
    local old = {}
    for i = 1, 1005 do old[i] = "old" .. i end
    helper.file("_HiStOrY_V2_\n" .. table.concat(old, "\n") .. "\n", path)
    local t = terminal("-i")
    t:expect("> ")
    t:type("'the ' .. 'first'\r")
    t:expect("the first")
    t:expect("> ")
    t:type("os.exit(5)\r")
    assert.equal(5, t:finish().status)
    local lines = {}
    for line in io.lines(path) do lines[#lines + 1] = line end
    assert.equal(1001, #lines) -- with the mark that it begins with
    assert.equal("os.exit(5)", lines[#lines])
    t = terminal("-i")
    t:expect("> ")
    t:type("\27[A\27[A")
    t:expect("'the ' .. 'first'")
    t:type("\r")
    t:expect("the first")
    assert.equal(0, t:leave().status)
  end)

  on_terminal("keeps no history without HOME", function()
    local t = terminal("-i", "-u HOME")
    t:expect("> ")
    t:type("1\r")
    t:expect("\n1\r")
    assert.equal(0, t:leave().status)
    assert.is_nil(lfs.attributes(home .. "/.neap_history"))
  end)

  on_terminal("gives the terminal back as it was", function()
    local t = terminal_for("stty -a >" .. home .. "/before; " .. helper.neap
      .. " -i; stty -a >" .. home .. "/after")
    t:expect("> ")
    t:type("1\r")
    t:expect("\n1\r")
    t:leave()
    local function text(name)
      local file = assert(io.open(home .. "/" .. name))
      local all = file:read("*a")
      file:close()
      return all
    end
    assert.matches("icanon", text("before"))
    assert.equal(text("before"), text("after"))
  end)

  on_terminal("ends, with status 0, when a task calls neap.stop", function()
    local t = terminal("-i")
    t:expect("> ")
    t:type("neap = require('neap') neap.spawn(function() neap.sleep(0.01) neap.stop() end)\r")
    assert.equal(0, t:finish().status)
  end)

  for _, state in ipairs { "keys are awaited", "a chunk waits" } do
    on_terminal("ends with status 0 at SIGTERM while " .. state, function()
      local t = terminal("-i")
      t:expect("> ")
      t:type("io.open('/proc/self/stat'):read('*n')\r")
      t:expect("\n")
      local pid = t:expect("\r\n"):match("%d+")
      t:expect("> ")
      if state == "a chunk waits" then
        t:type("print('wai' .. 'ting') require('neap').sleep(1000)\r")
        t:expect("\nwaiting")
      end
      os.execute("kill -TERM " .. pid)
      local run = t:finish()
      assert.equal(0, run.status)
      assert.is_nil(run.out:find("traceback", 1, true))
    end)
  end
end)
