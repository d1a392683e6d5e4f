-- Breaks each rule of the buffer contract, and sees whether a test of its row fails.
--
--   luajit tools/mutants.lua [row…]       all mutants of spec/mutants.lua, or those of some rows
--   luajit tools/mutants.lua --record     the same, and write docs/mutants.md
--
-- Each worker has a copy of the tree and changes one file of it at a time. A mutant in C is
-- shown to the C tests whose names carry its row, one in Lua or in the host to such specs. It must
-- be caught by one of them: a test that fails, crashes or does not come to its end.

local WORKERS = 2
local LIMIT_S = 30 -- for one program
local RECORD = "docs/mutants.md"
local COPIED = "Makefile .busted neap.pc.in src lua spec tools bench docs examples"
local BUILD = "make -s BUILD=build CFLAGS=-O0 "

local rows = dofile("tools/rows.lua")

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function put(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

-- What a shell command printed, and its exit status.
local function run(command)
  local pipe = assert(io.popen("{ " .. command .. "\n} 2>&1; s=$?; echo; echo $s"))
  local text, status = pipe:read("*a"):match("^(.*)\n(%d+)\n$")
  pipe:close()
  return text, tonumber(status)
end

local function must(command)
  local text, status = run(command)
  if status ~= 0 then error(command .. "\n" .. text, 0) end
end

-- ---- one mutant ----

-- How often `text` stands in `whole`, and `whole` with the last of them replaced.
local function replaced(whole, text, instead)
  local count, at, result = 0, 1, nil
  while true do
    local from, to = whole:find(text, at, true)
    if not from then return count, result end
    count, at = count + 1, to + 1
    result = whole:sub(1, from - 1) .. instead .. whole:sub(to + 1)
  end
end

-- The files that hold tests of a row, in one half.
local function files_of(tests)
  local files, seen = {}, {}
  for _, test in ipairs(tests) do
    if not seen[test.file] then files[#files + 1] = test.file end
    seen[test.file] = true
  end
  return files
end

local function program_of(file)
  return "build/spec/" .. file:match("([%w_]+)%.c$")
end

-- cmocka's and busted's lines: the tests that ran, and the first that did not end well.
local function verdict(text, status, tests)
  local current, ran = nil, 0
  local function known()
    for _, test in ipairs(tests) do
      if current and current:sub(-#test.name) == test.name then return test.name end
    end
  end
  for line in text:gmatch("[^\n]+") do
    local started = line:match("^%[ RUN      %] (.*)")
    if started then
      current, ran = started:gsub(" #%w+", ""), ran + 1 -- a name without its tags
    elseif line:find("[  FAILED  ]", 1, true) or line:find("[  ERROR   ]", 1, true) then
      return known() or current or "?", ran
    elseif line:find("[       OK ]", 1, true) then
      current = nil
    end
  end
  if status == 124 or status == 137 then return (known() or "?") .. " (did not end)", ran end
  if status ~= 0 then return known(), ran end
  return nil, ran
end

-- One program at a time, until one fails. @return string|nil caught, string|nil problem
local function try(mutant, tests)
  local all = 0
  for _, file in ipairs(files_of(tests)) do
    local command
    if mutant.half == "C" then
      command = ("CMOCKA_MESSAGE_OUTPUT=stdout TEST_FILTER='%s' timeout -k 2 %d %s"):format(
        (mutant.row == "counters" and "" or "*") .. mutant.row .. "_*", LIMIT_S,
        program_of(file))
    else
      command = ("SETTLE_S=2 timeout -k 2 %d ./neap test %s --output=gtest --filter='%s'")
        :format(LIMIT_S, file, "%f[%w]" .. mutant.row .. "[ ,]")
    end
    local text, status = run(command)
    local caught, ran = verdict(text, status, tests)
    if caught then return caught end
    if status ~= 0 then return nil, "does not run:\n" .. text end
    all = all + ran
  end
  if all == 0 then return nil, "the row's name selects no test" end
end

local function build_for(mutant, tests)
  if mutant.half == "Lua" then return run(BUILD .. "all") end
  local programs = {}
  for i, file in ipairs(files_of(tests)) do programs[i] = program_of(file) end
  return run(BUILD .. table.concat(programs, " "))
end

-- In the copy that is the current directory.
local function judge(mutant, tests)
  local whole = contents(mutant.file)
  local _, broken = replaced(whole, mutant.text, mutant.instead)
  put(mutant.file, broken)
  local text, status = "", 0
  if mutant.file:match("%.c$") or mutant.file:match("%.h$") then
    text, status = build_for(mutant, tests)
  end
  local caught, problem
  if status == 0 then
    caught, problem = try(mutant, tests)
  else
    problem = "does not compile:\n" .. text
  end
  put(mutant.file, whole)
  if mutant.file:match("^src/host/") then must(BUILD .. "all") end
  return caught, problem
end

-- ---- workers ----

-- The first worker takes mutants from the front, the second from the back, until they meet.
local function work(directory, number)
  io.stdout:setvbuf("line")
  local mutants, tests = rows.mutants(), rows.tests()
  local chosen = {}
  for line in io.lines(directory .. "/chosen") do chosen[#chosen + 1] = tonumber(line) end
  local from, to, step = 1, #chosen, 1
  if number == 2 then from, to, step = #chosen, 1, -1 end
  for i = from, to, step do
    local which = chosen[i]
    local mine = select(2, run("mkdir " .. directory .. "/claimed/" .. which)) == 0
    if mine then
      local mutant = mutants[which]
      local caught, problem = judge(mutant, tests[mutant.row][mutant.half])
      print(("%d\t%s\t%s"):format(which, caught and "caught" or "alive",
        ((caught or problem or ""):gsub("\n", "\\n"))))
    end
  end
end

-- ---- the whole ----

-- The chosen mutants' numbers, file by file, so that each file is compiled anew seldom.
local function choose(mutants, words)
  local wanted, chosen = {}, {}
  for _, word in ipairs(words) do wanted[word] = true end
  for i, mutant in ipairs(mutants) do
    if #words == 0 or wanted[mutant.row] then chosen[#chosen + 1] = i end
  end
  table.sort(chosen, function(a, b)
    if mutants[a].file ~= mutants[b].file then return mutants[a].file > mutants[b].file end
    return a < b
  end)
  return chosen
end

local function check_table(mutants, tests)
  local problems = {}
  for _, m in ipairs(mutants) do
    local what = ("%s, %s, %q: "):format(m.row, m.file, m.breaks)
    local count = replaced(contents(m.file), m.text, m.instead)
    if count ~= 1 then
      problems[#problems + 1] = what .. ("its text stands there %d times"):format(count)
    end
    if not tests[m.row] or #tests[m.row][m.half] == 0 then
      problems[#problems + 1] = what .. "no test in " .. m.half .. " has its row in its name"
    end
  end
  return problems
end

-- Without a mutant every test of these rows passes.
local function check_unbroken()
  local c, lua, tests = {}, {}, rows.tests()
  for _, of in pairs(tests) do
    for _, file in ipairs(files_of(of.C)) do c[program_of(file)] = true end
    for _, file in ipairs(files_of(of.Lua)) do lua[file] = true end
  end
  local function passes(command)
    local text, status = run(command)
    if status == 0 then return end
    error("without any mutant " .. (verdict(text, status, {}) or command) .. " fails", 0)
  end
  for program in pairs(c) do passes("CMOCKA_MESSAGE_OUTPUT=stdout " .. program) end
  for file in pairs(lua) do
    passes("SETTLE_S=2 ./neap test " .. file .. " --output=gtest --filter='%f[%w][PBSCAR]%d+[ ,]'")
  end
end

-- The current directory is the first worker's.
local function prepare(directory)
  must("mkdir " .. directory .. "/claimed")
  must(BUILD .. "all tests")
  check_unbroken()
  for i = 2, WORKERS do must(("cp -a %s/1 %s/%d"):format(directory, directory, i)) end
end

local function markdown(mutants, results)
  local lines = {
    "# Mutants", "",
    "Each rule of the [buffers](buffers.md), broken on purpose, and the test that noticed.",
    "Written by `luajit tools/mutants.lua --record`; `make mutants` checks it.", "",
    "| row | what is broken | where | noticed by |", "|---|---|---|---|",
  }
  for i, m in ipairs(mutants) do
    if results[i] then
      lines[#lines + 1] = ("| %s | %s | %s | %s |"):format(m.row, m.breaks, m.file,
        results[i].status == "caught" and results[i].text or "**nothing**")
    end
  end
  return table.concat(lines, "\n") .. "\n"
end

local function report(mutants, results, chosen, seconds)
  local alive = {}
  for _, i in ipairs(chosen) do
    local m, result = mutants[i], results[i] or { status = "alive", text = "not judged" }
    if result.status ~= "caught" then
      alive[#alive + 1] = ("ALIVE: %s, %s, %q %s"):format(m.row, m.file, m.breaks,
        (result.text:gsub("\\n", "\n")))
    end
  end
  table.sort(alive)
  for _, line in ipairs(alive) do print(line) end
  print(("%d mutants, %d caught, %d alive, %d s"):format(#chosen, #chosen - #alive, #alive,
    seconds))
  return #alive == 0
end

local function main(directory, top, words, record)
  local mutants, tests, results = rows.mutants(), rows.tests(), {}
  local problems = check_table(mutants, tests)
  for _, problem in ipairs(rows.problems()) do problems[#problems + 1] = problem end
  for _, problem in ipairs(problems) do print(problem) end
  if #problems > 0 then return false end

  local started, chosen = os.time(), choose(mutants, words)
  put(directory .. "/chosen", table.concat(chosen, "\n") .. "\n")
  prepare(directory)
  local commands = {}
  for i = 1, WORKERS do
    commands[i] = ("(cd %s/%d && exec luajit tools/mutants.lua --work %s %d) &"):format(directory,
      i, directory, i)
  end
  local pipe = assert(io.popen("( " .. table.concat(commands, "\n") .. "\nwait ) 2>&1"))
  for line in pipe:lines() do
    local which, status, text = line:match("^(%d+)\t(%a+)\t(.*)$")
    if which then results[tonumber(which)] = { status = status, text = text } else print(line) end
  end
  pipe:close()

  local text = markdown(mutants, results)
  if record then put(top .. "/" .. RECORD, text) end
  print(text)
  if not record and #words == 0 and contents(RECORD) ~= text then
    print(RECORD .. " says otherwise: luajit tools/mutants.lua --record")
  end
  return report(mutants, results, chosen, os.time() - started)
end

-- A shell holds the copies, and removes them however this ends.
local function in_a_directory()
  local words = table.concat(arg, "' '")
  local status = os.execute(([[d=$(mktemp -d) || exit 1
    trap 'rm -rf "$d"' EXIT; trap 'exit 130' INT TERM HUP
    top=$PWD; mkdir "$d/1" && cp -r %s "$d/1" && cd "$d/1" || exit 1
    nice luajit tools/mutants.lua --in "$d" "$top" '%s']]):format(COPIED, words))
  os.exit((status == 0 or status == true) and 0 or 1)
end

if arg[1] == "--work" then
  work(arg[2], tonumber(arg[3]))
elseif arg[1] == "--in" then
  local words, record = {}, false
  for i = 4, #arg do
    if arg[i] == "--record" then
      record = true
    elseif arg[i] ~= "" then
      words[#words + 1] = arg[i]
    end
  end
  local ok, result = pcall(main, arg[2], arg[3], words, record)
  if not ok then io.stderr:write("mutants: ", tostring(result), "\n") end
  os.exit(ok and result and 0 or 1)
else
  in_a_directory()
end
