local lfs = require("lfs")
local helper = require("spec.helper")
local neap = require("neap")

local top = helper.top
-- The variant that runs this spec is the one that is installed, and nothing is built here.
local build = helper.neap:sub(#top + 2):match("^(build/.+)/neap$") or "build"
local soname = "libneap.so." .. neap.version:match("^(.*)%.")

-- The outer make's settings and this neap's environment are not for those who come here.
local CLEAN = "unset MAKEFLAGS MFLAGS MAKELEVEL LUA_PATH LUA_CPATH LUA_INIT LD_LIBRARY_PATH "
  .. "LD_PRELOAD; "

local function sh(...) return helper.sh(CLEAN .. table.concat({ ... }, " ")) end

local function succeeds(...)
  local result = sh(...)
  assert.equal("", result.err)
  assert.equal(0, result.status)
  return result.out
end

local function make(goal, prefix, destdir)
  return ("cd %s && make -s -o %s/libneap.so -o %s/install/neap BUILD=%s %s PREFIX=%s DESTDIR=%s")
    :format(top, build, build, build, goal, prefix, destdir or "")
end

local function files(directory)
  return succeeds("cd", directory, "&& find . ! -type d | sort")
end

local function text_of(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- What a program needs to start with this library: a sanitizer's runtime comes first.
local PRELOAD = helper.stock_environment():match("^(LD_PRELOAD=.-) LUA_PATH=") or ""

describe("make install", function()
  helper.watch(before_each, after_each)

  local dir, prefix, elsewhere

  -- Who looks for neap in the current directory finds these.
  local function lay_traps()
    elsewhere = dir .. "/elsewhere"
    succeeds("mkdir -p", elsewhere .. "/neap", elsewhere .. "/lua/neap", elsewhere .. "/build")
    for _, name in ipairs { "neap.lua", "neap/init.lua", "neap/command.lua", "neap/abi.lua",
      "lua/neap/init.lua", "lua/neap/command.lua" } do
      helper.file("error('from the current directory')", elsewhere .. "/" .. name)
    end
    helper.file("not a library", elsewhere .. "/libneap.so")
    helper.file("not a library", elsewhere .. "/build/libneap.so")
  end

  setup(function()
    dir = succeeds("cd $(mktemp -d) && pwd -P"):match("[^\n]+")
    prefix = dir .. "/neap"
    lay_traps()
    succeeds(make("install", prefix))
    succeeds("cp examples/c/frames.c", dir)
  end)

  teardown(function()
    os.execute("rm -rf '" .. dir .. "'")
  end)

  describe("puts neap below PREFIX:", function()
    it("the command, the library, the header, neap.pc and every Lua module", function()
      local expected = { "./bin/neap", "./include/neap.h", "./lib/libneap.so", "./lib/" .. soname,
        "./lib/pkgconfig/neap.pc" }
      for module in succeeds("cd lua && find neap -name '*.lua'"):gmatch("[^\n]+") do
        expected[#expected + 1] = "./share/neap/" .. module
      end
      if lfs.attributes("docs/neap.1") then
        expected[#expected + 1] = "./share/man/man1/neap.1"
      end
      local found = {}
      for name in files(prefix):gmatch("[^\n]+") do found[#found + 1] = name end
      table.sort(expected)
      table.sort(found)
      assert.same(expected, found)
    end)

    it("with DESTDIR the same files, which know nothing of DESTDIR", function()
      local root = dir .. "/root"
      succeeds(make("install", "/usr", root))
      assert.equal(files(prefix), files(root .. "/usr"))
      assert.truthy(text_of(root .. "/usr/lib/pkgconfig/neap.pc"):find("prefix=/usr\n", 1, true))
      assert.equal("", succeeds("grep -rIlF", root, root, "|| true"))
      assert.equal("neap " .. neap.version .. ", " .. jit.version .. "\n",
        succeeds("cd", elsewhere, "&&", root .. "/usr/bin/neap -v"))
    end)

    it("nothing that names the source tree", function()
      assert.equal("", succeeds("grep -rIlF", top, prefix, "|| true"))
      local dynamic = succeeds("readelf -d", prefix .. "/bin/neap", prefix .. "/lib/" .. soname)
      local paths = {}
      for path in dynamic:gmatch("R[UN]*PATH[^\n]*%[(.-)%]") do paths[#paths + 1] = path end
      assert.same({ "$ORIGIN/../lib" }, paths)
    end)

    it("not below a PREFIX that is no path from the root", function()
      local result = sh(make("install", "here"))
      assert.truthy(result.status ~= 0)
      assert.truthy(result.err:find("PREFIX must be a path from the root, not 'here'", 1, true))
      assert.is_nil(lfs.attributes(top .. "/here"))
    end)

    it("without modules that only an older neap had", function()
      local old = dir .. "/old"
      succeeds("mkdir -p", old .. "/share/neap/neap && touch", old .. "/share/neap/neap/gone.lua")
      succeeds(make("install", old))
      assert.equal(files(prefix), files(old))
    end)

    it("and make uninstall removes it, and nothing else", function()
      local other = dir .. "/other"
      succeeds("mkdir -p", other .. "/share/neap", other .. "/lib && touch",
        other .. "/share/neap/mine.lua", other .. "/lib/libother.so")
      succeeds(make("install", other))
      succeeds(make("uninstall", other))
      assert.equal("./lib/libother.so\n./share/neap/mine.lua\n", files(other))
    end)
  end)

  -- Echoes through the loop, then tells where everything came from.
  local script = [[
    local neap = require("neap")
    local listener = assert(neap.listen("tcp://127.0.0.1:0", function(conn)
      for chunk in conn:chunks() do conn:write(chunk) end
    end))
    local conn = assert(neap.connect(listener.address))
    conn:write("hello")
    local answer = assert(conn:read(5))
    print("answer", answer:str())
    answer:release()
    conn:close()
    listener:close()
    local seen = {}
    local function tell(what, path)
      if not seen[path] then print(what, path) end
      seen[path] = true
    end
    for _, value in pairs(neap) do
      local info = type(value) == "function" and debug.getinfo(value, "S")
      if info and info.what ~= "C" then tell("source", (info.source:gsub("^@", ""))) end
    end
    for line in io.lines("/proc/self/maps") do
      local path = line:match("%s(/.*)$")
      if path then tell("mapped", path) end
    end
    for path in (package.path .. ";" .. package.cpath):gmatch("[^;]+") do tell("path", path) end
  ]]

  local function check_origins(out)
    assert.truthy(out:find("answer\thello\n", 1, true))
    local sources, libraries = 0, {}
    for what, path in out:gmatch("(%l+)\t(/[^\n]+)") do
      assert.is_nil(path:find(top .. "/", 1, true))
      if what == "source" then
        sources = sources + 1
        assert.equal(prefix .. "/", path:gsub("/bin/%.%./", "/"):sub(1, #prefix + 1))
      elseif path:find("/libneap", 1, true) then
        libraries[#libraries + 1] = path
      end
    end
    assert.truthy(sources > 1)
    assert.same({ prefix .. "/lib/" .. soname }, libraries)
  end

  describe("makes a neap that uses only what was installed:", function()
    it("the command, from any directory", function()
      local name = helper.file(script)
      check_origins(succeeds("cd", elsewhere, "&&", prefix .. "/bin/neap", name))
      check_origins(succeeds("cd / &&", prefix .. "/bin/neap", name))
    end)

    it("the command, by a symbolic link", function()
      local link = dir .. "/link"
      succeeds("ln -s", prefix .. "/bin/neap", link)
      check_origins(succeeds("cd", elsewhere, "&&", link, helper.file(script)))
    end)

    it("a stock luajit with LUA_PATH and LUA_CPATH", function()
      check_origins(succeeds("cd", elsewhere, "&& env", PRELOAD,
        ("LUA_PATH='%s/share/neap/?.lua;%s/share/neap/?/init.lua;;'"):format(prefix, prefix),
        ("LUA_CPATH='%s/lib/?.so;;' luajit"):format(prefix), helper.file(script)))
    end)
  end)

  -- A shell in the directory of frames.c that knows where neap was put.
  local function there(command)
    return ("cd %s; export PKG_CONFIG_PATH=%s/lib/pkgconfig LD_LIBRARY_PATH=%s/lib %s; %s")
      :format(dir, prefix, prefix, PRELOAD, command)
  end

  describe("lets a C program", function()
    it("ask pkg-config for the version", function()
      assert.equal(neap.version .. "\n", succeeds(there("pkg-config --modversion neap")))
    end)

    it("compile without a warning, with every compiler that is here", function()
      for _, cc in ipairs { "cc", "gcc", "clang" } do
        succeeds(there(([[
          ! command -v %s >/dev/null ||
          %s -O2 -Wall -Wextra -Wshadow -Werror $(pkg-config --cflags neap) -c frames.c]])
          :format(cc, cc)))
      end
    end)
  end)

  describe("lets examples/c/frames.c", function()
    setup(function()
      -- the linker has something to say about libasan, if this neap has one
      local result = sh(there("cc frames.c -o frames $(pkg-config --cflags --libs neap)"))
      assert.equal(0, result.status)
    end)

    local function frames(input) return sh(there("./frames"), "<", helper.file(input)) end

    local function frame(bytes)
      local n = #bytes
      return string.char(bit.rshift(n, 24), bit.band(bit.rshift(n, 16), 255),
        bit.band(bit.rshift(n, 8), 255), bit.band(n, 255)) .. bytes
    end

    local few = frame("hello") .. frame("") .. frame("more than a preview has room for")
      .. frame(("\0\1\255\n"):rep(100))
    local few_printed = "frame 1: 5 bytes: hello\n"
      .. "frame 2: 0 bytes: \n"
      .. "frame 3: 32 bytes: more than a prev...\n"
      .. "frame 4: 400 bytes: ...................\n"
      .. "bufs: 1 allocated, 0 reused, 0 live\n"
      .. "slices: 8 made, 0 live; bytes moved: 0\n"

    it("print each frame and, at the end, the counters of the pool #neighbours #sizes", function()
      assert.same({ status = 0, out = few_printed, err = "" }, frames(few))
    end)

    it("do the same when the bytes come one by one #neighbours #sizes", function()
      -- the next byte goes into the pipe when the last one has been read
      local dribble = helper.file([[
        local ffi = require("ffi")
        ffi.cdef("int ioctl(int, unsigned long, ...); int sched_yield(void);")
        ffi.cdef("ssize_t write(int, const void *, size_t);")
        local FIONREAD, waiting = 0x541B, ffi.new("int[1]")
        for byte in io.read("*a"):gmatch(".") do
          assert(ffi.C.write(1, byte, 1) == 1)
          repeat
            ffi.C.sched_yield()
            assert(ffi.C.ioctl(1, FIONREAD, waiting) == 0)
          until waiting[0] == 0
        end
      ]])
      local result = sh(there("luajit"), dribble, "<", helper.file(few), "| ./frames")
      -- an idle reader gives its buf back and takes it again
      result.out = result.out:gsub("%d+ reused", "0 reused")
      assert.same({ status = 0, out = few_printed, err = "" }, result)
    end)

    it("end well when nothing comes", function()
      assert.same({ status = 0, err = "", out = "bufs: 1 allocated, 0 reused, 0 live\n"
        .. "slices: 0 made, 0 live; bytes moved: 0\n" }, frames(""))
    end)

    it("read many frames of the largest size within its pool's limit", function()
      local result = frames(frame(("x"):rep(65536)):rep(50))
      assert.equal("", result.err)
      assert.equal(0, result.status)
      assert.truthy(result.out:find("\nframe 50: 65536 bytes: xxxxxxxxxxxxxxxx...\n", 1, true))
      assert.truthy(result.out:find("slices: 100 made, 0 live", 1, true))
    end)

    local function fails(message, input)
      local result = frames(input)
      assert.equal("frames: " .. message .. "\n", result.err)
      assert.equal(1, result.status)
      assert.truthy(result.out:find(" 0 live; ", 1, true))
    end

    it("refuse input that ends within a frame, wherever it is cut", function()
      local whole = frame("hello")
      for cut = 1, #whole - 1 do
        fails("frame 2: the input ends within it", frame("first") .. whole:sub(1, cut))
      end
    end)

    it("refuse a frame above its limit, whether or not the bytes follow", function()
      fails("frame 1: it is longer than 65536 bytes", "\0\1\0\1")
      fails("frame 2: it is longer than 65536 bytes", few:sub(1, 9) .. "\255\255\255\255xyz")
      fails("frame 1: it is longer than 65536 bytes", frame(("x"):rep(65537)))
    end)

    it("say why it cannot read or write", function()
      local result = sh(there("./frames"), "<&-")
      assert.equal("frames: frame 1: Bad file descriptor\n", result.err)
      assert.equal(1, result.status)
      result = sh(there("./frames"), "</dev/null >/dev/full")
      assert.equal("frames: standard output: No space left on device\n", result.err)
      assert.equal(1, result.status)
    end)

    it("do and print what docs/c.md shows #neighbours", function()
      local page, example = text_of("docs/c.md"), text_of("examples/c/frames.c")
      local pieces, commands = 0, 0
      for piece in page:gmatch("\n```c\n(.-)```") do
        pieces = pieces + 1
        if not example:find(piece, 1, true) then error("frames.c has no such lines:\n" .. piece) end
      end
      for session in page:gmatch("\n```console\n(.-)```") do
        for command, shown in (session .. "$ "):gmatch("([^\n]*)\n(.-)%f[$]") do
          commands = commands + 1
          local result = sh("exec 2>&1;", there(command:match("^%$ (.*)")))
          assert.equal(shown, (result.out:gsub("[^\n]*libasan[^\n]*\n", "")))
        end
      end
      assert.truthy(pieces > 0 and commands > 0)
    end)
  end)
end)
