-- Reads the contract header just well enough to list what is in it, and refuses what it
-- must not contain. Used by tools/abi_check.lua and tools/exports.lua.

local M = {}

function M.fail(format, ...)
  io.stderr:write(format:format(...), "\n")
  os.exit(1)
end

-- Comments become blanks, so that every byte keeps its line.
local function without_comments(text)
  local function blank(comment) return (comment:gsub("[^\n]", " ")) end
  return (text:gsub("/%*.-%*/", blank):gsub("//[^\n]*", blank))
end

local function without_attributes(text)
  return (text:gsub("__attribute__%s*%b()", ""))
end

local function trim(text)
  return (text:gsub("^%s+", ""):gsub("%s+$", ""))
end

-- Pieces of `text` between `separator`s that stand outside of any bracket, with the
-- position each starts at.
local function split(text, separator)
  local pieces, depth, start = {}, 0, 1
  for position, char in text:gmatch("()([%(%)%[%]{}" .. separator .. "])") do
    if char:find("[%({%[]") then
      depth = depth + 1
    elseif char:find("[%)}%]]") then
      depth = depth - 1
    elseif depth == 0 then
      pieces[#pieces + 1] = { text = text:sub(start, position - 1), at = start }
      start = position + 1
    end
  end
  pieces[#pieces + 1] = { text = text:sub(start), at = start }
  return pieces
end

-- The name that `int x`, `*x[4]` or `void (*x)(int)` declares.
local function declared_name(declarator)
  return declarator:match("%(%s*%*%s*([%a_][%w_]*)") or
    declarator:gsub("%b[]", ""):match("([%a_][%w_]*)%s*$")
end

local function fields_of(body, refuse)
  local fields = {}
  for _, member in ipairs(split(body, ";")) do
    local text = trim(without_attributes(member.text))
    local inner, name = text:match("^%a+%s*%b{}()%s*([%a_]?[%w_]*)")
    if inner and name ~= "" then
      refuse("`" .. name .. "`: a struct inside a struct is defined on its own, before it")
    elseif inner then -- anonymous: its members count as ours
      for _, field in ipairs(fields_of(text:match("%b{}"):sub(2, -2), refuse)) do
        fields[#fields + 1] = field
      end
    elseif text:find(":") then
      refuse("a bit-field (" .. text .. "): its place is the compiler's choice")
    elseif text ~= "" then
      for _, declarator in ipairs(split(text, ",")) do
        fields[#fields + 1] = declared_name(declarator.text)
      end
    end
  end
  return fields
end

local function members_of(body, refuse)
  local members = {}
  for _, member in ipairs(split(body, ",")) do
    members[#members + 1] = member.text:match("[%a_][%w_]*")
    for digits in member.text:gmatch("%f[%w]%d[%w]*") do
      local value = tonumber((digits:gsub("[uUlL]+$", "")))
      if value and value > 0xffffffff then
        refuse(trim(member.text) .. ": an enum value above 32 bits")
      end
    end
  end
  return members
end

local function refuse_forbidden(text, refuse_at)
  for at, directive in text:gmatch("()#%s*(%a+)") do
    if directive ~= "pragma" then
      refuse_at(at, "#" .. directive .. ": only #pragma")
    end
  end
  for at, word in text:gmatch("()%f[%w_]([%a_][%w_]*)") do
    if word == "_Static_assert" or word == "_Atomic" or word == "typedef" or word == "inline" then
      refuse_at(at, word .. ": only enums, structs and prototypes")
    end
  end
end

-- Returns { text, structs = {{kind, name, fields}}, enums = {{name, members}},
-- functions = {names}, variables = {names} }; ends the program with a message on what may not
-- be there.
function M.parse(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()

  local clean = without_comments(text)
  local function refuse_at(at, why)
    local _, newlines = clean:sub(1, at):gsub("\n", "")
    M.fail("%s:%d: %s", path, newlines + 1, why)
  end
  refuse_forbidden(clean, refuse_at)
  clean = clean:gsub("#[^\n]*", function(line) return (" "):rep(#line) end)

  local contract = { text = text, structs = {}, enums = {}, functions = {}, variables = {} }
  for _, declaration in ipairs(split(clean, ";")) do
    local at = declaration.at + #declaration.text:match("^%s*")
    local function refuse(why) refuse_at(at, why) end
    local code = trim(without_attributes(declaration.text))
    local kind, name, body = code:match("^(%a+)%s*([%w_]*)%s*(%b{})$")
    if kind == "struct" or kind == "union" then
      local fields = fields_of(body:sub(2, -2), refuse)
      table.insert(contract.structs, { kind = kind, name = name, fields = fields })
    elseif kind == "enum" then
      local members = members_of(body:sub(2, -2), refuse)
      table.insert(contract.enums, { name = name, members = members })
    elseif code:find("^[%w_%s%*]+%b()$") then
      table.insert(contract.functions, code:match("([%a_][%w_]*)%s*%b()$"))
    elseif code:find("^extern%s+[%w_%s]+$") then
      table.insert(contract.variables, code:match("[%w_]+$"))
    elseif code ~= "" and not code:find("^struct%s+[%w_]+$") then
      refuse("not an enum, a struct, a prototype or a variable: " .. code:match("[^\n]*"))
    end
  end
  return contract
end

return M
