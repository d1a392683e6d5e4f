--- Pools: where the bufs that slices lie in come from.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")

local C = abi.C
local pool_t = ffi.typeof("struct neap_lua_pool")
local options_t = ffi.typeof("struct neap_pool_options")
local stats_t = ffi.typeof("struct neap_pool_stats")
local handle_t = ffi.typeof("struct neap_handle")
local use = ffi.new("uint64_t[2]")

local M = {}

--- A pool hands out bufs, the memory that slices lie in, and takes them back with the last slice
--- of each. What connections read into is the default pool.
--- @class neap.Pool
local Pool = {}

local defaults = { min_size = 0, limit = 0, retain = 0, classes = true, poison = false }

--- Makes a pool of its own, for what shall have a limit of its own or be counted by itself.
--- own: returns owned
--- err: "memory"
--- @param options? table min_size: bytes of the smallest buf (16 KiB) · limit: bytes held at
--- most (none) · retain: free bytes kept at most (64 MiB) · classes: round sizes up to size
--- classes (true) · poison: overwrite recycled bufs (false)
--- @return neap.Pool|nil pool, string? message, string? name
function M.new(options)
  local given = check.options(options, defaults, "neap.pool")
  local made = handle_t()
  local code = C.neap_pool_create(options_t(given), made)
  if code == C.NEAP_E_RANGE then
    check.raise("neap.pool: sizes must be whole numbers: min_size from 0 to 2^30, limit and "
      .. "retain from 0 to 2^53")
  end
  if code < 0 then return errors.failure("neap.pool", code) end
  return ffi.gc(pool_t(made.slot, made.gen), C.neap_pool_finalize)
end

local default

--- The pool that everything uses that was given none.
--- own: returns borrowed, for ever
--- @return neap.Pool pool
function M.default()
  default = default or assert(M.new())
  return default
end

function M.is_pool(x)
  return ffi.istype(pool_t, x)
end

local function check_self(self, name)
  if not ffi.istype(pool_t, self) then
    check.raise("pool:" .. name .. ": called on " .. type(self) .. ", not on a pool")
  end
end

--- Later requests fail with "closed"; slices stay valid. Twice is harmless.
function Pool:close()
  check_self(self, "close")
  C.neap_pool_close(self.slot, self.gen)
end

--- Gives all free bufs back to the system.
--- @return number bytes that went
function Pool:trim()
  check_self(self, "trim")
  return C.neap_pool_trim(self.slot, self.gen)
end

local stat_names = {}
for name in ffi.string(C.neap_header()):match("struct neap_pool_stats (%b{})")
  :gmatch("uint64_t ([%w_]+);") do
  stat_names[#stat_names + 1] = name
end

--- The counters, by name, as numbers: what was made, reused, is live and is held now, how slices
--- ended, why bufs were given back. `struct neap_pool_stats` in src/neap.h says what each is; and
--- bytes_payload (of the live slices), bytes_pinned (what their bufs hold beyond them).
--- @return table<string, number> counters as of now
function Pool:stats()
  check_self(self, "stats")
  local stats, result = stats_t(), {}
  C.neap_pool_stats(self.slot, self.gen, stats)
  for _, name in ipairs(stat_names) do result[name] = tonumber(stats[name]) end
  C.neap_pool_use(self.slot, self.gen, use, use + 1)
  result.bytes_payload, result.bytes_pinned = tonumber(use[0]), tonumber(use[1])
  return result
end

--- What is live in it, for tools.
--- @return table[] bufs of each: bytes · holders (slices, readers, allocators) · unread (bytes
--- that a reader still holds) · slices: of each free, base, bound (offsets in the buf), queued (by
--- neap, to be sent), and if it is watched (neap.leaks_level) made_at and last
function Pool:walk()
  check_self(self, "walk")
  return require("neap.walk").pool(self.slot, self.gen)
end

--- An allocator of this pool.
--- own: returns owned
--- err: "closed" (the pool), "memory"
--- @param reserve? integer bytes of free prefix for each slice (0)
--- @return neap.Allocator|nil allocator, string? message, string? name
function Pool:allocator(reserve)
  check_self(self, "allocator")
  reserve = check.whole(reserve or 0, C.NEAP_BUF_MAX_BYTES, "pool:allocator: reserve")
  return require("neap.allocator").new(self, reserve)
end

ffi.metatype(pool_t, {
  __index = Pool,
  __metatable = "neap.pool",
  __tostring = function(self)
    local stats = stats_t()
    C.neap_pool_stats(self.slot, self.gen, stats)
    return ("pool (%d bufs and %d slices live, %d bytes held)"):format(
      tonumber(stats.bufs_live), tonumber(stats.slices_live), tonumber(stats.bytes_held))
  end,
})

return abi.keep("neap.pool", M)
