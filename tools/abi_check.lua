-- Asks LuaJIT for the layout of everything in the contract header and prints C that
-- asserts the same of the compiler:
--
--   luajit tools/abi_check.lua src/neap.h > build/abi_check.c
--
-- First it refuses what only one of the two readers understands: the header holds
-- enums, structs, prototypes, attributes and pragmas.

local ffi = require "ffi"
local header = require "tools.header"

local path = assert(arg[1], "usage: luajit tools/abi_check.lua src/neap.h")
local contract = header.parse(path)

local ok, message = pcall(ffi.cdef, contract.text)
if not ok then
  header.fail("%s: LuaJIT cannot read it: %s", path, message)
end

local out = {
  "/* Made by tools/abi_check.lua from " .. path .. ": what LuaJIT thinks of it. */",
  "#include <stdbool.h>",
  "#include <stddef.h>",
  "#include <stdint.h>",
  "#include <sys/types.h>",
  ('#include "%s"'):format(path:match("[^/]+$")),
}

local function assert_equal(expression, value)
  out[#out + 1] = ('_Static_assert(%s == %s, "LuaJIT says %s");')
    :format(expression, value, value)
end

for _, struct in ipairs(contract.structs) do
  local name = struct.kind .. " " .. struct.name
  out[#out + 1] = ""
  assert_equal(("sizeof(%s)"):format(name), ffi.sizeof(name))
  assert_equal(("_Alignof(%s)"):format(name), ffi.alignof(name))
  for _, field in ipairs(struct.fields) do
    assert_equal(("offsetof(%s, %s)"):format(name, field), ffi.offsetof(name, field))
  end
end

out[#out + 1] = ""
for _, enum in ipairs(contract.enums) do
  for _, member in ipairs(enum.members) do
    assert_equal(member, ("%.0f"):format(tonumber(ffi.C[member])))
  end
end

print(table.concat(out, "\n"))
