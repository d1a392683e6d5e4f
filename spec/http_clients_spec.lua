--- The server of HTTP, asked by programs that nobody here wrote. Each is left out, by name, where
--- it is not installed (`tools/setup ci` installs them).

local asking = require("spec.asking")
local example = require("spec.example")
local helper = require("spec.helper")

local function has(program)
  return os.execute("command -v " .. program .. " >/dev/null 2>&1") == 0
end

local function has_module(name)
  local file = has("node") and io.open("spec/npm/node_modules/" .. name .. "/package.json")
  if not file then return false end
  file:close()
  return true
end

local function when(there, name, fn)
  if there then it(name, fn) else pending(name .. " (not installed)") end
end

describe("HTTP, asked by", function()
  helper.watch(before_each, after_each, 200) -- around the hooks of the block within

describe("a program #programs:", function()
  local server, url, directory

  before_each(function()
    directory = helper.temporary_directory()
    assert.equal(0, helper.sh(("seq 100000 > %s/pattern"):format(directory)).status)
    server = example.start("../spec/http_everything", { "tcp://127.0.0.1:0", directory }, 90)
    url = server.address:gsub("^tcp", "http")
  end)

  -- It has served, holds nothing, and goes on.
  after_each(function()
    assert.equal("hello\n", (select(3, asking.ask(server.address, asking.get("/")))))
    server:finish()
  end)

  local function run(command)
    local result = helper.sh(command)
    assert.equal(0, result.status, result.out .. result.err)
    return result.out
  end

  when(has("curl"), "curl", function()
    local echo = url .. "/echo"
    local upload = helper.file(helper.pattern(900000))
    local cases = {
      { "-s " .. url, "hello\n" },
      { "-sI " .. url .. " | grep -ci '^content-length: 6'", "1\n" },
      { "-s0 " .. url, "hello\n" },
      { "-s -d 'some text' " .. echo, "some text" },
      { "-s -H Transfer-Encoding:chunked -d 'some text' " .. echo, "some text" },
      { "-s -H 'Expect: 100-continue' --expect100-timeout 20 -d late " .. echo, "late" },
      { ("-s -T %s %s | cmp - %s && echo same"):format(upload, echo, upload), "same\n" },
      { "-s " .. url .. "/stream | wc -c", "2000000\n" },
      { "-s --compressed " .. url .. "/gzip | wc -c", "50000\n" },
      { "-sL " .. url .. "/redirect", "hello\n" },
      { "-s -F a=1 -F 'f=@" .. upload .. ";filename=f.txt' " .. url .. "/form",
        "a=1 f=900000 f.txt" },
      { "-s -r 0-9 " .. url .. "/files/pattern", "1\n2\n3\n4\n5\n" },
      { ("-s %s/files/pattern -o %s/copy -C - && cmp %s/pattern %s/copy && echo same"):format(url,
        directory, directory, directory), "same\n" },
      { "-s " .. url .. "/ " .. url .. "/ -w '%{num_connects}'", "hello\n1hello\n0" },
      { "-s --path-as-is -o /dev/null -w '%{http_code}' " .. url .. "/files/../../etc/passwd",
        "404" },
      { "-s -X BREW -o /dev/null -w '%{http_code}' " .. url, "501" },
      { "-s -H 'X-Long: " .. ("x"):rep(20000) .. "' -o /dev/null -w '%{http_code}' " .. url,
        "431" },
      { "-sN " .. url .. "/events | grep -c '^data: '", "3\n" },
    }
    for _, case in ipairs(cases) do
      assert.equal(case[2], run("curl -m 90 " .. case[1]), case[1])
    end
    assert.equal(18, #cases)
  end)

  when(has("wrk"), "wrk", function()
    for _, target in ipairs { "/", "/gzip", "/files/pattern" } do
      local out = run("wrk -t1 -c32 -d1 --timeout 60 " .. url .. target)
      assert.is_nil(out:find("Non-2xx", 1, true) or out:find("Socket errors", 1, true), out)
      assert.is_true(tonumber(out:match("(%d+) requests in")) > 0, out)
    end
  end)

  when(has("ab"), "ab", function()
    local post = helper.file(("x"):rep(1000))
    for _, what in ipairs { "-k -c 16 -n 5000 %s/", "-c 16 -n 2000 %s/",
      "-k -c 16 -n 2000 -T text/plain -p " .. post .. " %s/echo" } do
      local out = run("ab -q " .. what:format(url))
      assert.matches("Failed requests:%s+0\n", out)
      assert.is_nil(out:find("Non-2xx", 1, true), out)
    end
  end)

  when(has("h2load"), "h2load", function()
    for _, what in ipairs { "-n 5000 -c 16 %s/", "-n 5000 -c 16 -m 16 %s/",
      "-n 200 -c 4 %s/stream" } do
      local out = run("h2load --h1 " .. what:format(url))
      assert.matches("[^%d]0 failed, 0 errored, 0 timeout", out)
      assert.matches("[^%d]0 4xx, 0 5xx", out)
    end
  end)

  when(has_module("undici"), "undici", function()
    assert.equal("19 passed\n", run("node spec/npm/undici.mjs " .. url))
  end)

  when(has("chromium") and has_module("playwright-core"), "Chromium", function()
    local shots = os.getenv("SCREENSHOTS") or directory
    local folder = helper.temporary_directory()
    assert.equal(0, helper.sh(("cd %s && mkdir 'a folder' && echo '<link rel=icon href=data:,>"
      .. "<h1>a page</h1>' > 'a folder/page.html' && seq 9999 > numbers.txt && touch 'a <b>.txt'")
      :format(folder)).status)
    local files = example.start("http_files", { "tcp://127.0.0.1:0", folder }, 90)
    local live = example.start("http_live", { "tcp://127.0.0.1:0" }, 90)
    local listing, counters = files.address:gsub("^tcp", "http"), live.address:gsub("^tcp", "http")
    local command = "node spec/npm/chromium.mjs $(command -v chromium) %s %s %s %s"
    assert.equal("13 passed\n", run(command:format(url, listing, counters, shots)))
    files:finish()
    live:finish()
  end)

  for mode, what in pairs { ["-H"] = "slow heads", ["-B -s 8192"] = "slow bodies",
    ["-X -k 3 -w 10 -y 20 -n 1 -z 5"] = "slow reading", ["-R"] = "many ranges" } do
    when(has("slowhttptest"), "slowhttptest, " .. what, function()
      local target = url .. (mode:find("^%-B") and "/echo" or "/files/pattern")
      local out
      for _ = 1, 3 do -- what seems late may be the machine; a server that is in the way is so again
        out = helper.sh(("slowhttptest -c 200 -r 200 -i 1 -l 6 -p 3 %s -u %s"):format(mode,
          target)).out:gsub("\27%[[%d;]*m", "")
        if not out:find("service available:%s+NO") then break end
      end
      assert.is_nil(out:find("service available:%s+NO"), out)
      assert.matches("service available:%s+YES", out)
    end)
  end
end)
end)
