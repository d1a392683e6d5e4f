--- The process: giving root up for good, once the ports below 1024 are bound.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")

local C = abi.C
local M = {}
local WHAT = "neap.drop_privileges"

local function id_text(value, name)
  if type(value) == "number" then
    return ("%.0f"):format(check.whole(value, 4294967294, WHAT .. ": option " .. name))
  end
  check.string(value, WHAT .. ": option " .. name)
  -- C would take the part before a zero byte for the whole
  if value:find("%z") then check.raise(WHAT .. ": option " .. name .. " has a zero byte") end
  return value
end

local function check_options(options)
  if type(options) ~= "table" then
    check.raise(WHAT .. ": needs a table such as { user = \"nobody\" }")
  end
  for name in pairs(options) do
    if name ~= "user" and name ~= "group" then
      check.raise(WHAT .. ": no option " .. tostring(name))
    end
  end
end

--- The id of the group to become, or nil, message, name.
local function find_group(options, user, found)
  local gid = ffi.new("uint32_t[1]", found.gid)
  if options.group == nil then
    if found.listed then return gid[0] end
    return errors.fail(WHAT .. ": user " .. user .. " has no entry, so name a group", "group")
  end
  local group = id_text(options.group, "group")
  if C.neap_process_find_group(group, gid) ~= 1 then
    return errors.fail(WHAT .. ": no group " .. group, "group")
  end
  return gid[0]
end

--- Become another user and group for good, with that user's groups and no capabilities. Names
--- may be looked up over the network: call it before serving. If it fails half-way the process
--- ends with status 1, since it must not go on with half of its privileges.
--- @param options { user: string|integer, group?: string|integer } group: the user's own
--- @return true|nil ok, string? message, string? name "user", "group", "permission", "system"
function M.drop_privileges(options)
  check_options(options)
  local user = id_text(options.user, "user")
  local found = ffi.new("struct neap_user")
  if C.neap_process_find_user(user, found) ~= 1 then
    return errors.fail(WHAT .. ": no user " .. user, "user")
  end
  local gid, message, name = find_group(options, user, found)
  if not gid then return nil, message, name end
  if found.uid == 0 then return errors.fail(WHAT .. ": " .. user .. " is root", "user") end
  if gid == 0 then return errors.fail(WHAT .. ": the group is root's", "group") end
  local code = C.neap_process_drop(user, gid)
  if code == 0 then return true end
  if code == C.NEAP_E_PERMISSION then
    return errors.fail(WHAT .. ": it takes root, with the capabilities CAP_SETUID and CAP_SETGID; "
      .. "nothing was changed", "permission")
  end
  return errors.failure(WHAT, code)
end

return abi.keep("neap.process", M)
