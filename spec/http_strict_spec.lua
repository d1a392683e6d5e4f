--- What could smuggle a request past somebody else, sent to each example that speaks HTTP: it is
--- refused, the connection closes, and what stands behind it is not answered.

local asking = require("spec.asking")
local example = require("spec.example")
local helper = require("spec.helper")
local lfs = require("lfs")
local refused = require("spec.http_refused")

local HOST = asking.HOST
local BEHIND = asking.get("/behind") -- the smuggled one
local CHUNKED = HOST .. "Transfer-Encoding: chunked\r\n\r\n"

-- All that the server says until it closes.
local function all_of(server, bytes)
  return asking.rest_of(asking.dial(server.address, bytes .. BEHIND))
end

local function answers_in(text) return select(2, text:gsub("HTTP/1%.1 %d%d%d ", "")) end

describe("every example of HTTP", function()
  helper.watch(before_each, after_each)

  for name in lfs.dir("examples") do
    name = name:match("^(http_%w+)%.lua$")
    if name then
      it("refuses what can be read in two ways, and answers nothing behind it: " .. name, function()
        local server = example.start(name, { "tcp://127.0.0.1:0", helper.temporary_directory() })
        for _, case in ipairs(refused.heads) do
          local text = all_of(server, case[3])
          assert.matches("^HTTP/1.1 " .. (case[4] or 400) .. " ", text, 1, false)
          assert.matches("\r\nConnection: close\r\n", text, 1, true)
          assert.equal(1, answers_in(text), case[2])
        end
        for what, body in pairs(refused.bodies) do
          local text = all_of(server, "POST /" .. CHUNKED .. body)
          assert.equal(1, answers_in(text), what)
          text = all_of(server, "POST /notes" .. CHUNKED .. body)
          assert.equal(1, answers_in(text), what)
          if name == "http_api" then assert.matches("^HTTP/1.1 400 ", text) end
        end
        server:finish()
      end)
    end
  end
end)
