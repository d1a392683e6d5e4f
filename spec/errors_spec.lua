local ffi = require("ffi")
local abi = require("neap.abi")
local errors = require("neap.errors")
local helper = require("spec.helper")

local C = abi.C

describe("errors", function()
  helper.watch(before_each, after_each)

  -- all of enum neap_err, as the header has them
  local codes = {}
  for name in ffi.string(C.neap_header()):match("enum neap_err (%b{})"):gmatch("NEAP_E_[%u_]+") do
    codes[name] = C[name]
  end

  it("have a name and a text for each code of the header", function()
    local count = 0
    for constant, code in pairs(codes) do
      count = count + 1
      assert.is_true(code < 0)
      assert.matches("^%l[%l_]*$", errors.name(code), nil, constant)
      assert.is_true(#errors.text(code) > 0, constant)
    end
    assert.is_true(count >= 20)
  end)

  it("have the names that programs compare", function()
    for name, code in pairs {
      eof = C.NEAP_E_EOF, short = C.NEAP_E_SHORT, closed = C.NEAP_E_CLOSED, limit = C.NEAP_E_LIMIT,
      memory = C.NEAP_E_MEMORY, oversized = C.NEAP_E_OVERSIZED, reset = C.NEAP_E_RESET,
      refused = C.NEAP_E_REFUSED, timeout = C.NEAP_E_TIMEOUT, unreachable = C.NEAP_E_UNREACHABLE,
      address = C.NEAP_E_ADDRESS, address_in_use = C.NEAP_E_ADDRESS_IN_USE,
      permission = C.NEAP_E_PERMISSION, descriptors = C.NEAP_E_DESCRIPTORS,
      system = C.NEAP_E_SYSTEM,
    } do
      assert.equal(name, errors.name(code))
    end
  end)

  it("call what is stale closed, as a script sees it", function()
    assert.equal("closed", errors.name(C.NEAP_E_STALE))
  end)

  it("name another failure of the system, and tell what its errno says", function()
    assert.equal("No such file or directory", errors.text(C.NEAP_E_SYSTEM - 2))
    assert.equal("system", errors.name(-12345))
  end)

  it("are told as nil, message, name", function()
    local result = { errors.failure("tcp://10.0.0.1:80: read of 4 bytes", C.NEAP_E_RESET) }
    assert.same({ nil, "tcp://10.0.0.1:80: read of 4 bytes: the peer reset the connection",
      "reset" }, result)
  end)
end)
