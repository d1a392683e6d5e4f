-- Which tests cover which row of the buffer contract, and whether docs/buffers.md says so.
--
--   luajit tools/rows.lua            check
--   luajit tools/rows.lua --write    write the lists of tests in docs/buffers.md anew
--
-- A test names its rows first: S4_S10_bytes_that_…, it("S4 release_previous …"). The lists
-- stand in the document between `<!-- tests S4 -->` and `<!-- -->`. tools/mutants.lua and
-- spec/rows_spec.lua use what this file returns.

local DOCUMENT = "docs/buffers.md"
local MUTANTS = "spec/mutants.lua"

local M = {}

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local function files(pattern)
  local pipe, found = assert(io.popen("ls " .. pattern)), {}
  for path in pipe:lines() do found[#found + 1] = path end
  pipe:close()
  table.sort(found)
  return found
end

-- The rows at the front of a name.
local function rows_of(name)
  if name:match("^counters[_ ]") then return { "counters" } end
  local rows, at = {}, 1
  while true do
    local row, behind = name:match("^([PBSCARWE]%d+)[_ ,]+()", at)
    if not row then return rows end
    rows[#rows + 1], at = row, behind
  end
end

local function names_in(path, half)
  local text, names = contents(path), {}
  if half == "C" then
    for name in text:gmatch("TEST%(([%w_]+)%)") do names[#names + 1] = name end
  else
    for name in text:gmatch("%f[%w]it%(\"(.-)\"") do names[#names + 1] = name:gsub(" #%a+", "") end
  end
  return names
end

--- The tests of each row. @return table row → { C = { { file, name }, … }, Lua = { … } }
function M.tests()
  local rows = {}
  for half, pattern in pairs { C = "spec/c/*_test.c", Lua = "spec/*_spec.lua" } do
    for _, path in ipairs(files(pattern)) do
      for _, name in ipairs(names_in(path, half)) do
        for _, row in ipairs(rows_of(name)) do
          rows[row] = rows[row] or { C = {}, Lua = {} }
          table.insert(rows[row][half], { file = path, name = name })
        end
      end
    end
  end
  return rows
end

-- Which half's tests look at a file. Of the host only Lua does.
local function half_of(file)
  return (file:match("%.lua$") or file:match("^src/host/")) and "Lua" or "C"
end

--- spec/mutants.lua, with names for its columns.
function M.mutants()
  local list = {}
  for i, m in ipairs(dofile(MUTANTS)) do
    list[i] = { row = m[1], breaks = m[2], file = m[3], text = m[4], instead = m[5],
      half = half_of(m[3]) }
  end
  return list
end

local function list_of(tests)
  local lines = {}
  for _, half in ipairs { "C", "Lua" } do
    for _, test in ipairs(tests[half]) do
      local quoted = half == "C" and "`" .. test.name .. "`" or "“" .. test.name .. "”"
      lines[#lines + 1] = ("- %s (%s)"):format(quoted, test.file)
    end
  end
  return "\n" .. table.concat(lines, "\n") .. "\n"
end

-- The document with its lists as they must be, and the rows it has a list for.
local function written(text, tests)
  local seen = {}
  return text:gsub("(<!%-%- tests (%w+) %-%->\n).-(<!%-%- %-%->)", function(head, row, foot)
    seen[row] = true
    return head .. list_of(tests[row] or { C = {}, Lua = {} }) .. "\n" .. foot
  end), seen
end

--- What is wrong: rows without a test on either side, tests that the document does not name.
--- @return string[]
function M.problems()
  local tests, text = M.tests(), contents(DOCUMENT)
  local problems, checked = {}, {}
  local right, seen = written(text, tests)
  for _, mutant in ipairs(M.mutants()) do
    local row = mutant.row
    for _, half in ipairs(checked[row] and {} or { "C", "Lua" }) do
      if not tests[row] or #tests[row][half] == 0 then
        problems[#problems + 1] = ("%s: no test in %s has it in its name"):format(row, half)
      end
    end
    checked[row] = true
  end
  for row in pairs(tests) do
    if not seen[row] then
      problems[#problems + 1] = ("%s: %s has no list of its tests"):format(row, DOCUMENT)
    end
  end
  for row in pairs(seen) do
    if not checked[row] and not tests[row] then
      problems[#problems + 1] = ("%s: %s names it, but nothing tests it"):format(row, DOCUMENT)
    end
  end
  if right ~= text then
    problems[#problems + 1] = DOCUMENT .. " lists other tests than there are: luajit "
      .. "tools/rows.lua --write"
  end
  table.sort(problems)
  return problems
end

local function main(word)
  if word == "--write" then
    local right = written(contents(DOCUMENT), M.tests())
    local file = assert(io.open(DOCUMENT, "wb"))
    file:write(right)
    file:close()
  end
  local problems = M.problems()
  for _, problem in ipairs(problems) do io.stderr:write(problem, "\n") end
  os.exit(#problems == 0 and 0 or 1)
end

if arg and arg[0] and arg[0]:match("rows%.lua$") then main(arg[1]) end
return M
