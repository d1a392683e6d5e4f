-- Is what the library exports exactly what src/neap.h declares?
--
--   luajit tools/exports.lua build/libneap.so

local header = require "tools.header"

local library = assert(arg[1], "usage: luajit tools/exports.lua build/libneap.so")
local declared, exported, wrong = {}, {}, {}
local contract = header.parse("src/neap.h")
for _, name in ipairs(contract.functions) do declared[name] = true end
for _, name in ipairs(contract.variables) do declared[name] = true end

local nm = assert(io.popen("nm -D --defined-only '" .. library .. "'"))
for line in nm:lines() do
  local name = line:match("%S+$")
  -- A sanitizer marks each global with a symbol of its own.
  if not name:find("^__%a+san[_%.]") and not name:find("^__odr_asan") then
    exported[name] = true
  end
end
nm:close()

for name in pairs(exported) do
  if not declared[name] then
    wrong[#wrong + 1] = "exported, not declared: " .. name
  end
end
for name in pairs(declared) do
  if not exported[name] then
    wrong[#wrong + 1] = "declared, not exported: " .. name
  end
end
table.sort(wrong)

if next(exported) == nil then
  header.fail("%s exports nothing, or nm failed", library)
elseif #wrong > 0 then
  header.fail("%s and src/neap.h differ:\n  %s", library, table.concat(wrong, "\n  "))
end
print(library .. " exports what src/neap.h declares")
