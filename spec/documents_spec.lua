-- What the documents say: their code blocks are run as a reader would run them.

local lfs = require("lfs")
local abi = require("neap.abi")
local helper = require("spec.helper")
local neap = require("neap")
local testing = require("neap.testing")

local C = abi.C

local function read(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

-- The fenced blocks of a document: { language, text }, in order.
local function blocks_of(document)
  local blocks = {}
  for language, text in read(document):gmatch("\n```(%l*)\n(.-)\n```") do
    blocks[#blocks + 1] = { language = language, text = text }
  end
  return blocks
end

-- A port that nobody has at the moment, instead of the one in the text.
local function free_port()
  local socket = helper.listening()
  local port = socket.address:match("%d+$")
  socket:close()
  return port
end

-- The commands of a console block, each with what is to be printed.
local function commands_of(text)
  local commands = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local command = line:match("^%$ (.*)$")
    if command then
      commands[#commands + 1] = { command = command, expected = {} }
    else
      local last = assert(commands[#commands], "a console block begins with a command")
      table.insert(last.expected, line)
    end
  end
  return commands
end

local MARK = "@@@@"

-- A server's lines are waited for; a killed one is, too, so that its port is free. (%1 is for
-- a terminal: a shell that runs a script counts its jobs otherwise.)
local function shell_of(step)
  local command, background = step.command:gsub("%s*&$", "")
  if background == 1 then
    return command .. " >&9 & server=$!\n"
      .. ('read -r line <&9; echo "$line"\n'):rep(#step.expected)
  end
  if command == "kill %1" then return "kill $server; wait $server\n" end
  return command .. "\n"
end

-- One script for bash: the files are written, the commands run, what they print is marked.
local function script_of(blocks)
  local script, steps = { "exec 2>&1; mkfifo up; exec 9<>up\n" }, {}
  local function add(text) script[#script + 1] = text end
  for _, block in ipairs(blocks) do
    if block.language == "lua" then
      local name = block.text:match("^%-%- ([%w_]+%.lua)")
      assert(name, "a Lua block begins with the name of its file:\n" .. block.text)
      add(("cat >%s <<'%s'\n%s\n%s\n"):format(name, MARK, block.text, MARK))
    elseif block.language == "console" then
      for _, step in ipairs(commands_of(block.text)) do
        steps[#steps + 1] = step
        add(("echo; echo %s\n"):format(MARK) .. shell_of(step))
      end
    else
      error("a block of an unknown kind: " .. block.language)
    end
  end
  return table.concat(script), steps
end

-- Lines as they are printed, with `…` for what differs from run to run.
local function same(expected, got)
  local pattern = table.concat(expected, "\n"):gsub("%p", "%%%0"):gsub("\226\128\166", ".*")
  return (got:gsub("^\n", ""):gsub("\n+$", "")):match("^" .. pattern .. "$") ~= nil
end

local function in_new_directory(fn)
  local top = helper.temporary_directory()
  assert(lfs.link(helper.neap, top .. "/neap", true))
  assert(lfs.mkdir(top .. "/work"))
  return fn(top .. "/work")
end

-- Writes the files of a document and runs its commands. Returns how many these were.
local function follow(document)
  local blocks, port = blocks_of(document), free_port()
  for _, block in ipairs(blocks) do block.text = block.text:gsub("7002", port) end
  local script, steps = script_of(blocks)
  local run = in_new_directory(function(directory)
    return helper.sh(("cd %s && exec bash %s"):format(directory, helper.file(script)))
  end)
  local outputs = {}
  for output in (run.out .. "\n" .. MARK .. "\n"):gmatch("(.-)\n" .. MARK .. "\n") do
    outputs[#outputs + 1] = output
  end
  assert.equal("", table.remove(outputs, 1)) -- before the first command
  for i, step in ipairs(steps) do
    if not same(step.expected, outputs[i] or "") then
      error(("$ %s\n%s\n-- but %s says\n%s"):format(step.command,
        outputs[i] or "(it was not reached)", document, table.concat(step.expected, "\n")))
    end
  end
  assert.equal(#steps, #outputs)
  return #steps
end

describe("docs/testing-your-protocol.md", function()
  helper.watch(before_each, after_each)

  it("prints what it says when its files are written and its commands run"
    .. " #neighbours #sizes #pace", function()
    assert.equal(2, follow("docs/testing-your-protocol.md"))
  end)
end)

describe("docs/leaks.md", function()
  helper.watch(before_each, after_each)

  it("prints what it says when its files are written and its commands run #pace", function()
    assert.equal(4, follow("docs/leaks.md"))
  end)
end)

describe("docs/tutorial.md", function()
  helper.watch(before_each, after_each)

  it("prints what it says when its files are written and its commands run", function()
    assert.is_true(follow("docs/tutorial.md") > 10)
  end)

  it("links to files that are there", function()
    local count = 0
    for _, document in ipairs { "docs/tutorial.md", "docs/reference.md", "SECURITY.md",
      "docs/testing-your-protocol.md", "docs/leaks.md" } do
      local directory = document:match("^(.*/)") or ""
      for target in read(document):gmatch("%]%(([%w_./-]+)[#)]") do
        assert(lfs.attributes(directory .. target), document .. " links to " .. target)
        count = count + 1
      end
    end
    assert.is_true(count > 5)
  end)
end)

describe("README.md", function()
  helper.watch(before_each, after_each)

  -- The frames of both come back, and what is no frame ends the connection alone and leaves
  -- nothing behind.
  local function try_server(block, says_of_hostile)
    assert.equal("lua", block.language)
    local port = free_port()
    local text, count = block.text:gsub("7001", port)
    assert.equal(1, count)
    local child = helper.start(helper.neap .. " " .. helper.file(
      text .. '\nprint("up") io.stdout:flush()'))
    assert.equal("up", child:line())
    local socket = helper.dial("tcp://127.0.0.1:" .. port)
    socket:send("\0\0\0\5hello\0\0\0\0")
    assert.equal("\0\0\0\5hello\0\0\0\0", socket:recv_exactly(13))
    local hostile = helper.dial("tcp://127.0.0.1:" .. port)
    hostile:send("\255\255\255\255")
    assert.equal("", hostile:recv_all())
    hostile:close()
    socket:shutdown()
    assert.equal("", socket:recv_all())
    socket:close()
    child:kill("TERM")
    local run = child:finish()
    assert.equal(0, run.status)
    assert.matches(says_of_hostile, run.err, 1, true)
    assert.no.matches("forgotten", run.err, 1, true)
  end

  it("has two servers for frames, which are", function()
    local blocks = blocks_of("README.md")
    assert.equal(2, #blocks)
    try_server(blocks[1], "larger than the limit")
    try_server(blocks[2], "a frame of 4294967295 bytes, where 1048576 are allowed")
  end)

  it("has a command line for a stock luajit that works", function()
    local line = read("README.md"):match("\n    (LUA_PATH=[^\n]+)\n")
    local command, count = assert(line):gsub("script%.lua$",
      helper.file([[print(require("neap").version)]]))
    assert.equal(1, count)
    if helper.neap ~= helper.top .. "/neap" then return end -- build/ belongs to another variant
    local run = helper.sh(command)
    assert.equal("", run.err)
    assert.equal(require("neap").version .. "\n", run.out)
  end)
end)

describe("SECURITY.md", function()
  helper.watch(before_each, after_each)

  it("names the limits that there are #sizes", function()
    local text = read("SECURITY.md")
    local function says(words) assert.matches(words, text, 1, true) end
    says(("| %d MiB; more is"):format(C.NEAP_MAX_READ_BYTES / 1048576))
    says(("`write` waits above %d KiB, until %d KiB are left"):format(
      C.NEAP_WRITE_HIGH_BYTES / 1024, C.NEAP_WRITE_LOW_BYTES / 1024))
    says(("| one slice, one buf | %d GiB"):format(C.NEAP_BUF_MAX_BYTES / 2 ^ 30))
    says(("cut after %d s; of what still comes %d KiB"):format(C.NEAP_LINGER_MS / 1000,
      C.NEAP_LINGER_BYTES / 1024))
    local idle, connections, backlog = read("lua/neap/net.lua"):match(
      "local IDLE_TIMEOUT, MAX_CONNECTIONS, BACKLOG = (%d+), (%d+), (%d+)\n")
    connections = connections:gsub("000$", ",000")
    says(('fails with `"timeout"` after %s s | `idle_timeout`'):format(idle))
    says(("| connections of one listener | %s; others wait in the system's backlog, of %s at most")
      :format(connections, backlog))
    text = read("README.md"):gsub("\n", " ")
    says(("listener has %s connections at most (`max_connections`; others wait)")
      :format(connections))
    says(('`"timeout"` after %s s without traffic (`idle_timeout`'):format(idle))
  end)

  it("is right that a timeout bounds one wait, and that another task can bound all", function()
    local name
    local one, conn = testing.pair({ timeout = 3 })
    local clock = testing.clock()
    neap.spawn(function()
      neap.sleep(6)
      conn:close()
    end)
    neap.spawn(function() name = select(3, conn:read(100)) end)
    for _ = 1, 60 do
      if name then break end
      one:write("x")
      clock:advance(0.2)
    end
    clock:release()
    assert.equal("closed", name)
    one:close()
  end)
end)
