local helper = require("spec.helper")
local neap = require("neap")

local as_root = helper.root and it or pending

local function unprivileged_from()
  local file = assert(io.open("/proc/sys/net/ipv4/ip_unprivileged_port_start"))
  local port = file:read("*n")
  file:close()
  return port
end

local SHOW = [[
  local function show()
    local status = io.open("/proc/self/status"):read("*a")
    for _, name in ipairs { "Uid", "Gid", "Groups", "CapPrm", "CapEff", "NoNewPrivs" } do
      print(name, (status:match(name .. ":%s*([^\n]*)"):gsub("%s+$", ""):gsub("%s+", " ")))
    end
  end
]]

-- What the process is after drop_privileges with these options, run by a command such as setpriv.
local function dropped(options, command)
  local path = helper.file(SHOW .. ([[
    local neap = require("neap")
    local ok, message, name = neap.drop_privileges %s
    print(ok, message, name)
    show()
  ]]):format(options))
  return helper.sh(("exec %s %s %s"):format(command or "", helper.neap, path))
end

local function is(uid, gid, groups)
  local function four(id) return (id .. " "):rep(4):sub(1, -2) end
  return ("true\tnil\tnil\nUid\t%s\nGid\t%s\nGroups\t%s\nCapPrm\t%s\nCapEff\t%s\nNoNewPrivs\t1\n")
    :format(four(uid), four(gid), groups, ("0"):rep(16), ("0"):rep(16))
end

local function id_of(database, name)
  local pipe = io.popen("getent " .. database .. " " .. name)
  local id = pipe:read("*l"):match("^[^:]*:[^:]*:(%d+)")
  pipe:close()
  return tonumber(id)
end

describe("neap.drop_privileges", function()
  helper.watch(before_each, after_each)

  as_root("becomes the user for good, with his groups and no capabilities", function()
    local run = dropped('{ user = "nobody" }', "setpriv --groups 1,2,3")
    local nobody, group = id_of("passwd", "nobody"), id_of("group", "nogroup")
    assert.equal("", run.err)
    assert.equal(is(nobody, group, group), run.out)
  end)

  as_root("is not done twice", function()
    local run = helper.script([[
      local neap = require("neap")
      assert(neap.drop_privileges { user = "nobody" })
      print(select(3, neap.drop_privileges { user = "nobody" }))
      print(select(3, neap.drop_privileges { user = 54321, group = 54321 }))
    ]])
    assert.equal("", run.err)
    assert.equal("permission\npermission\n", run.out)
  end)

  as_root("takes numbers, which need no entry but then a group", function()
    assert.equal(is(54321, 54322, 54322), dropped("{ user = 54321, group = 54322 }").out)
    assert.equal(is(54321, 54322, 54322), dropped('{ user = "54321", group = "54322" }').out)
    local nobody, group = id_of("passwd", "nobody"), id_of("group", "nogroup")
    assert.equal(is(nobody, group, group), dropped(("{ user = %d }"):format(nobody)).out)
    local _, message, name = neap.drop_privileges { user = 54321 }
    assert.equal("group", name)
    assert.matches("user 54321 has no entry, so name a group", message, 1, true)
  end)

  as_root("takes another group than the user's own", function()
    local nobody, group = id_of("passwd", "nobody"), id_of("group", "daemon")
    assert.equal(is(nobody, group, group), dropped('{ user = "nobody", group = "daemon" }').out)
  end)

  it("names an unknown user or group, and refuses root's", function()
    for name, list in pairs {
      user = { { user = "no-such-user" }, { user = "" }, { user = "-1" }, { user = "4294967295" },
        { user = "1x" }, { user = "root" }, { user = 0 }, { user = "0", group = "nogroup" } },
      group = { { user = "nobody", group = "no-such-group" }, { user = "nobody", group = "" },
        { user = "nobody", group = "root" }, { user = "nobody", group = 0 },
        { user = "nobody", group = "4294967295" } },
    } do
      for _, options in ipairs(list) do
        local ok, message, told = neap.drop_privileges(options)
        assert.is_nil(ok)
        assert.matches("^neap.drop_privileges: ", message)
        assert.equal(name, told)
      end
    end
    assert.equal(helper.root, os.execute("test $(id -u) = 0") == 0) -- nothing was changed
  end)

  it("refuses misuse at the caller's line", function()
    local drop = neap.drop_privileges
    for _, options in ipairs { "nobody", 1, true, print } do
      helper.raises("needs a table", function() drop(options) end)
    end
    helper.raises("needs a table", function() drop() end)
    helper.raises("option user must be a string", function() drop({}) end)
    helper.raises("option user must be a string", function() drop({ group = "nogroup" }) end)
    helper.raises("no option uid", function() drop({ user = "nobody", uid = 1 }) end)
    helper.raises("option user has a zero byte", function() drop({ user = "nobody\0x" }) end)
    for _, id in ipairs { -1, 1.5, 0 / 0, 4294967295, 2 ^ 32 + 5, 1 / 0 } do
      helper.raises("option user must be a whole number", function() drop({ user = id }) end)
      helper.raises("option group must be a whole number",
        function() drop({ user = "nobody", group = id }) end)
    end
  end)

  as_root("changes nothing when root lacks the right to change groups, and says so", function()
    local run = dropped('{ user = "nobody" }', "setpriv --bounding-set=-setgid")
    assert.matches("^nil\t[^\n]*CAP_SETGID; nothing was changed\tpermission\n", run.out)
    assert.matches("\nUid\t0 0 0 0\nGid\t0 0 0 0\n", run.out, 1, true)
    assert.equal(0, run.status)
  end)

  as_root("ends the process when it fails half-way", function()
    local run = dropped('{ user = "nobody" }', "setpriv --bounding-set=-setuid")
    assert.equal("neap: dropping privileges failed half-way (setresuid): the process ends\n",
      run.err)
    assert.equal("", run.out)
    assert.equal(1, run.status)
  end)

  local low = helper.root and unprivileged_from() > 1 and it or pending
  low("leaves a low port that was bound before, and binds no other", function()
    local run = helper.script(([[
      local neap = require("neap")
      local function handler(conn) conn:write(conn:read(7)) end
      local function listen()
        local listener, message, name
        for port = %d, 1, -1 do
          listener, message, name = neap.listen("tcp://127.0.0.1:" .. port, handler)
          if name ~= "address_in_use" then break end
        end
        return listener, message, name
      end
      local listener = assert(listen())
      assert(neap.drop_privileges { user = "nobody" })
      for i = 1, 2 do
        local conn = assert(neap.connect(listener.address))
        conn:write("line " .. i .. "\n")
        local line = conn:read(7)
        io.write(line:str())
        line:release()
        conn:close()
      end
      listener:close()
      print(select(3, listen()))
    ]]):format(math.min(unprivileged_from() - 1, 1023)))
    assert.equal("", run.err)
    assert.equal("line 1\nline 2\npermission\n", run.out)
  end)
end)
