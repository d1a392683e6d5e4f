--- The cases of llhttp, where NEAP_VECTORS names a directory that has them: what the authors of
--- another parser expect of theirs. Passed, different and excluded ones are all of them.
---
--- llhttp does not look for a Host, so each request of HTTP/1.1 that has none is given one. It is
--- compared what was parsed and whether the input is refused, not with which words.

local helper = require("spec.helper")
local http1 = require("neap.codec.http1")
local neap = require("neap")

local directory = os.getenv("NEAP_VECTORS")
local CASES = 251
local ADDED = "added.example"
local files = {
  "request/connection", "request/content-length", "request/finish", "request/invalid",
  "request/lenient-header-value-relaxed", "request/lenient-headers", "request/lenient-version",
  "request/method", "request/pausing", "request/pipelining", "request/sample",
  "request/transfer-encoding", "request/uri", "response/connection", "response/content-length",
  "response/finish", "response/invalid", "response/lenient-version", "response/pausing",
  "response/pipelining", "response/sample", "response/transfer-encoding",
}

-- No HTTP/1.x; lenient modes, other protocols and HTTP/0.9 say so in the case itself.
local not_http = {
  ["request/invalid: HTTP protocol and ANNOUNCE method"] = "a method of RTSP",
  ["request/invalid: Invalid method"] = "a method of nobody, which is a server's business",
  ["request/method: M-SEARCH request"] = "a method of SSDP",
  ["request/method: PRI request HTTP2"] = "the preface of HTTP/2",
  ["request/sample: No HTTP version"] = "HTTP/0.9",
}

-- Where this codec refuses what llhttp takes, and why.
local stricter = {
  ["request/transfer-encoding: POST with `chunked` as last transfer-encoding"] =
    "of a request it takes no coding beside chunked",
  ["request/transfer-encoding: POST with `chunked` as last transfer-encoding (multiple headers)"] =
    "of a request it takes no coding beside chunked",
  ["request/uri: Fragment in URI"] = "RFC 9112, 3.2: a target has no fragment",
  ["request/uri: `host:port` and basic auth"] = "RFC 9110, 4.2.4: a user is an error",
}

-- ---- reading the cases ----

local escapes = { r = "\r", n = "\n", t = "\t", f = "\f" }

local function unescape(text)
  return (text:gsub("\\([rntf])", escapes)
    :gsub("\\x(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
    :gsub("\\([0-7][0-7]?[0-7]?)", function(octal) return string.char(tonumber(octal, 8)) end))
end

local function input_of(block)
  return unescape(block:gsub("\n$", ""):gsub("\\\n", ""):gsub("\n", "\r\n"))
end

-- Requests of HTTP/1.1 without a Host get one.
local function with_hosts(input)
  local function complete(before, line, at)
    local head = input:sub(at, (input:find("\r\n\r\n", at - 2, true) or #input))
    if ("\n" .. head):lower():find("\nhost:", 1, true) then return before .. line end
    return before .. line .. "Host: " .. ADDED .. "\r\n"
  end
  local request_line = "(\n)([A-Z%-]+ [^ \r\n]+ HTTP/1%.1\r\n)()"
  return (("\n" .. input):gsub(request_line, function(before, line, at)
    return complete(before, line, at - 1)
  end):sub(2))
end

local spans = {
  method = "method", url = "target", version = "version", status = "reason", body = "body",
}

-- What the log of a case tells: its messages and how it ends.
local function expected_of(log)
  local result, message, name = { messages = {} }, nil, nil
  for line in log:gmatch("[^\n]+") do
    local span, value = line:match("span%[([%w_]+)%]=(.*)$")
    if span then value = value == "cr" and "\r" or value == "lf" and "\n"
      or unescape(value:match('^"(.*)"$')) end
    if line:find("message begin") then
      message, name = { headers = {}, body = "" }, nil
      result.messages[#result.messages + 1] = message
    elseif span == "protocol" then
      result.protocol = value
    elseif span == "header_field" then
      name = (name or "") .. value
    elseif span == "header_value" then
      message.value = (message.value or "") .. value
    elseif line:find("header_value complete") then
      local text = (message.value or ""):gsub("[ \t]+$", "")
      message.headers[#message.headers + 1] = name .. "=" .. text
      name, message.value = nil, nil
    elseif spans[span] then
      message[spans[span]] = (message[spans[span]] or "") .. value
    elseif line:find("headers complete") then
      message.head = true
    elseif line:find("message complete") then
      message.complete = true
    elseif line:find("error code=2[23]") then
      result.upgrade = true
    elseif line:find(" error ") then
      result.refused = true
    elseif line:find("finish=") then
      result.finish = tonumber(line:match("finish=(%d)"))
    end
  end
  return result
end

local function cases_of(file)
  local cases, seen = {}, {}
  local handle = assert(io.open(("%s/llhttp/%s.md"):format(directory, file)))
  local text = handle:read("*a")
  handle:close()
  local function latin1(byte) return string.char(byte:byte() + 64) end
  text = text:gsub("\xc3([\x80-\xbf])", latin1)
  for before, meta, input, log in text:gmatch(
    "(.-)<!%-%- meta=(.-) %-%->.-```http\n(.-)```.-```log\n(.-)```") do
    local title
    for heading in ("\n" .. before):gmatch("\n#+ ([^\n]+)") do title = heading end
    seen[title] = (seen[title] or 0) + 1
    if seen[title] > 1 then title = title .. " #" .. seen[title] end
    cases[#cases + 1] = { name = file .. ": " .. title, type = meta:match('"type": ?"([%w%-]+)"'),
      skip_body = meta:find('"skipBody": true') ~= nil, input = input_of(input),
      expected = expected_of(log) }
  end
  return cases
end

local function exclusion_of(case)
  if case.type:find("lenient") then return "a lenient mode: " .. case.type end
  if case.expected.protocol and case.expected.protocol:find("^[RI][TC][SE]") then
    return "another protocol: " .. case.expected.protocol
  end
  for _, message in ipairs(case.expected.messages) do
    if message.version == "0.9" then return "HTTP/0.9" end
  end
  return not_http[case.name]
end

-- ---- what the codec makes of an input ----

local function parse_body(reader, message, found)
  local body = http1.body(message)
  while not body.done do
    local view = reader:peek(reader:buffered())
    local skip, n = body:next(view)
    if not skip then
      if n then return "refused" end
      return "open"
    end
    reader:skip(skip)
    local take = math.min(n, reader:buffered())
    if take > 0 then
      local slice = reader:read(take)
      found.body = found.body .. slice:str()
      slice:release()
      body:took(take)
    elseif skip == 0 then
      return body:ended() and "ended" or "open"
    end
  end
  for name, value in (body.trailers and body.trailers:headers() or function() end) do
    found.headers[#found.headers + 1] = name .. "=" .. value
  end
  found.complete = true
end

local function parse_message(reader, decode, case, result)
  local message, size = decode(reader:peek(reader:buffered()))
  if not message then return size and "refused" or "open" end
  local found = { headers = {}, body = "", head = true, method = message.method,
    target = message.target, version = message.version, reason = message.reason }
  result.messages[#result.messages + 1] = found
  for name, value in message:headers() do
    if value ~= ADDED then found.headers[#found.headers + 1] = name .. "=" .. value end
  end
  message:keep()
  reader:skip(size)
  local tunnel = message.method == "CONNECT" or message.status == 101
  if case.skip_body or tunnel then
    found.complete = true
  else
    local ending = parse_body(reader, message, found)
    if ending then return ending end
  end
  if tunnel or message.upgrade and message.method then return "upgrade" end
  local rest = reader:peek(reader:buffered()):str()
  if not message.keep_alive then return rest:find("[^\r\n]") and "refused" or "idle" end
end

local function parse(case)
  local given = with_hosts(case.input)
  local reader = neap.reader(nil, function()
    local bytes = given
    given = nil
    return bytes
  end)
  reader:peek(#given)
  local decode = case.type:find("^request") and http1.decode_request or http1.decode_response
  local result = { messages = {} }
  while not result.ending do
    if reader:buffered() == 0 then
      result.ending = "idle"
    else
      result.ending = parse_message(reader, decode, case, result)
    end
  end
  reader:close()
  return result
end

-- ---- the comparison ----

local finishes = { [0] = "idle", [1] = "ended", [2] = "open" }
local compared = { "method", "target", "version", "reason", "body", "head", "complete" }

local function shown(message)
  local out = {}
  for _, name in ipairs(compared) do
    local value = message[name]
    if value == "" then value = nil end
    out[#out + 1] = name .. "=" .. tostring(value)
  end
  out[#out + 1] = table.concat(message.headers, "|")
  return table.concat(out, " ")
end

-- Nil, or how they differ.
local function difference(case, expected, found)
  local refused = found.ending == "refused"
  if refused ~= (expected.refused or false) then
    return refused and "refused" or "not refused"
  end
  if expected.upgrade and found.ending ~= "upgrade" then return "no upgrade" end
  if expected.finish and finishes[expected.finish] ~= found.ending then return found.ending end
  local whole = {}
  for i, message in ipairs(expected.messages) do
    -- what is refused may be so before or after its head was told of
    if message.head and (not refused or found.messages[i]) then whole[#whole + 1] = message end
  end
  if #whole ~= #found.messages then return "not as many messages" end
  for i, message in ipairs(whole) do
    -- where the end of the input ends the message, only `finish` tells; a tunnel has no body
    if found.ending == "ended" or found.ending == "upgrade" then
      message.complete = found.messages[i].complete
    end
    local a, b = shown(message), shown(found.messages[i])
    if a ~= b then return "expected " .. a .. "\n but got " .. b end
  end
end

describe("the cases of llhttp", function()
  helper.watch(before_each, after_each)

  if not directory then
    pending("NEAP_VECTORS names no directory that has them")
    return
  end

  local count = { passed = 0, different = 0, excluded = 0 } -- if none fails

  for _, file in ipairs(files) do
    for _, case in ipairs(cases_of(file)) do
      local why = exclusion_of(case)
      if why then
        count.excluded = count.excluded + 1
        if os.getenv("SHOW_EXCLUDED") then print("excluded", case.name, why) end
      elseif stricter[case.name] then
        count.different = count.different + 1
        it(case.name .. " (refused: " .. stricter[case.name] .. ")", function()
          assert.equal("refused", difference(case, case.expected, parse(case)))
        end)
      else
        count.passed = count.passed + 1
        it(case.name, function()
          assert.is_nil(difference(case, case.expected, parse(case)))
        end)
      end
    end
  end

  it("are all there", function()
    assert.equal(CASES, count.passed + count.different + count.excluded)
  end)
end)
