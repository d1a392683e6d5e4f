--- Pools: where the bufs that slices lie in come from.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local slice = require("neap.slice")

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

local DETACH_AFTER = 16 -- turns
local defaults = {
  min_size = 0, limit = 0, soft_limit = 0, retain = 0, detach_after = DETACH_AFTER,
  classes = true, poison = false, calibrate = true,
}

-- What C is told. A limit on what is held is one on what is live, too.
local function told(given)
  return options_t(given.min_size or 0, given.limit, given.soft_limit, given.retain,
    given.detach_after, given.classes or false, given.poison or false, not given.calibrate)
end

local function bad_sizes(what)
  check.raise(what .. ": sizes must be whole numbers: min_size from 0 to 2^30, limit, soft_limit "
    .. "and retain from 0 to 2^53, detach_after from 0 to 255")
end

--- Makes a pool of its own, for what shall have a limit of its own or be counted by itself.
--- own: returns owned
--- err: "memory"
--- @param options? table min_size: bytes of the smallest buf (16 KiB) · limit: bytes held at
--- most (none) · soft_limit: bytes in use, above which connections pause reading (three quarters
--- of limit) · retain: free bytes kept at most (64 MiB) · detach_after: turns of the loop that a
--- slice is left alone before it is moved out of a buf that it wastes (16; 0: never) · calibrate:
--- adapt to the traffic (true) · classes: round sizes up to size classes
--- (true) · poison: overwrite recycled bufs (false). docs/memory.md says more of each.
--- @return neap.Pool|nil pool, string? message, string? name
function M.new(options)
  local given = check.options(options, defaults, "neap.pool")
  local made = handle_t()
  local code = C.neap_pool_create(told(given), made)
  if code == C.NEAP_E_RANGE then bad_sizes("neap.pool") end
  if code < 0 then return errors.failure("neap.pool", code) end
  return ffi.gc(pool_t(made.slot, made.gen), C.neap_pool_finalize)
end

local default -- made with the module: whoever needs it has it

--- The pool that everything uses that was given none.
--- own: returns borrowed, for ever
--- @return neap.Pool pool
function M.default()
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

local settings_t = ffi.typeof("struct neap_pool_settings")
local settings_names = { "min_size", "limit", "soft_limit", "reserve", "retain", "retain_now",
  "keep_largest", "detach_after" }

--- The limits of the pool, in bytes, as they are now (0: none).
--- @return table settings min_size, limit, soft_limit, retain, detach_after, calibrate: as for
--- neap.pool · reserve: what of the limit is set aside for a connection that must end a message ·
--- retain_now, keep_largest: free bytes, and the largest buf, that are kept, as adapted to the
--- traffic
function Pool:settings()
  check_self(self, "settings")
  local settings, result = settings_t(), {}
  C.neap_pool_settings(self.slot, self.gen, settings)
  for i = 1, #settings_names do result[settings_names[i]] = settings[settings_names[i]] end
  result.calibrate = not settings.fixed
  return result
end

local changeable = { limit = true, soft_limit = true, retain = true, detach_after = true,
  calibrate = true }

--- Changes limits; what is not named stays. What is in use above a new limit stays in use, and
--- nothing is added to it.
--- err: "limit" (connections that use the pool may read more at once than a fourth of it)
--- @param options table limit, soft_limit, retain, detach_after, calibrate: as for neap.pool; 0 is
--- the default
--- @return true|nil ok, string? message, string? name
function Pool:configure(options)
  check_self(self, "configure")
  local known, now = {}, self:settings()
  for name in pairs(changeable) do known[name] = now[name] end
  local given = check.options(options, known, "pool:configure")
  if options and options.limit and not options.soft_limit then given.soft_limit = 0 end
  local code = C.neap_pool_configure(self.slot, self.gen, told(given))
  if code == C.NEAP_E_RANGE then bad_sizes("pool:configure") end
  if code == C.NEAP_E_LIMIT then
    return errors.fail(("pool:configure: a limit of %.0f bytes is too low for connections that may "
      .. "read so much at once (see max_read): %.0f bytes at least"):format(given.limit,
      4 * now.reserve), "limit")
  end
  return true
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
  slice.settle()
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
  slice.settle()
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

default = assert(M.new())

return abi.keep("neap.pool", M)
