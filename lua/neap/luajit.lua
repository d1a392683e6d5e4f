--- What LuaJIT gets wrong and neap keeps scripts from. Debian 12 has a LuaJIT of March 2022
--- (2.1.0-beta3); what was mended since is in docs/testing.md, "Defects of LuaJIT".

-- getmetatable(a file) in a trace was whatever lay on the recorder's stack, which ended in a
-- segmentation fault (LuaJIT's issue 1279). A `__metatable` is recorded right, and with this
-- one getmetatable returns what it always did.
local files = getmetatable(io.stdout)
if type(files) == "table" then files.__metatable = files end
