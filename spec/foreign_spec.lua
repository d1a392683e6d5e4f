local helper = require("spec.helper")
local neap = require("neap")

local raises = helper.raises
local MIB = 1048576

describe("a slice of a string", function()
  helper.watch(before_each, after_each)

  -- KiB that Lua holds once neap was asked again and all garbage is gone.
  local function held()
    assert(neap.slice("ask")):release()
    assert(neap.slice("again")):release()
    collectgarbage()
    collectgarbage()
    return collectgarbage("count")
  end

  it("S7 shows the bytes, finds, compares, unpacks, splits and retains without a copy", function()
    local s = assert(neap.slice("\0\4bodytail"))
    assert.equal("\0\4bodytail", s:str())
    assert.equal(10, #s)
    assert.equal(2, s:find("body"))
    assert.is_nil(s:find("x"))
    assert.equal(4, s:u16be(0))
    assert.same({ "body", 6 }, { s:unpack(">s2") })
    local front, clone = s:split(6), s:retain()
    assert.is_true(s:equals("tail"))
    assert.is_true(s:equals(clone))
    assert.equal("\0\4body", front:str())
    front:release()
    s:release()
    assert.equal("tail", clone:str())
    clone:release()
  end)

  it("S7 of no bytes is one too", function()
    local s = assert(neap.slice(""))
    assert.equal("", s:str())
    local front = s:split(0)
    assert.equal(0, #front + #s)
    front:release()
    s:release()
  end)

  it("S7 shares the bytes of one string among slices of it", function()
    local a, b = assert(neap.slice("same")), assert(neap.slice("same"))
    a:release()
    assert.equal("same", b:str())
    b:release()
  end)

  it("S7 never expands", function()
    local s = assert(neap.slice("headbody"))
    local front = s:split(4)
    s:truncate_front(2)
    assert.is_false(s:expand_front(2))
    assert.is_false(s:expand_front(1))
    assert.is_true(s:expand_front(0))
    raises("slice:free_entire_prefix: ", function() s:free_entire_prefix() end)
    assert.is_false(s:release_previous(front))
    assert.is_false(s:expand_front(1))
    assert.equal("dy", s:str())
    s:release()
  end)

  it("S7 never merges", function()
    local s = assert(neap.slice("headbody"))
    local list = neap.coalesce({ s:split(4), s }, 100)
    assert.equal(2, #list)
    assert.equal("head", list[1]:str())
    assert.equal("body", list[2]:str())
    list[1]:release()
    list[2]:release()
  end)

  it("S13 can be read and not written", function()
    local text = "12345678"
    local s = assert(neap.slice(text))
    for _, name in ipairs { "u8", "i16be", "u24le", "u32be", "u48le", "u64be", "i64le", "f32be",
      "f64le" } do
      local set = s["set_" .. name]
      raises("slice:set_" .. name, function() set(s, 0, 0) end)
    end
    raises("slice:copy_from: ", function() s:copy_from("x") end)
    raises("slice:pack: ", function() s:pack("B", 0, 1) end)
    assert.equal("12345678", s:str())
    assert.equal("1234" .. "5678", text)
    s:release()
  end)

  it("S13 keeps the string until its last owner is gone and neap was asked again", function()
    local before = held()
    local s = assert(neap.slice(("x"):rep(4 * MIB)))
    local front, clone = s:split(10), s:retain()
    for _, owner in ipairs { s, clone, front } do
      assert.is_true(held() - before > 3072)
      owner:release()
    end
    assert.is_true(held() - before < 1024)
  end)

  it("S13 lets the string of a forgotten slice go", function()
    local before = held()
    local function forget() assert(neap.slice(("y"):rep(4 * MIB))) end
    forget()
    collectgarbage()
    collectgarbage()
    assert.is_true(held() - before < 1024)
  end)

  it("S13 keeps the string while a write of it is queued", function()
    local conn, peer = helper.pair(4096)
    local before = held()
    local n = 8 * MIB
    local written = helper.task(function()
      return conn:write(assert(neap.slice(("0123456789abcdef"):rep(n / 16))))
    end)
    helper.turn()
    assert.is_true(held() - before > 7168)
    local seen = 0
    while seen < n do
      local part = peer:recv()
      if part then
        local whole = seen % 16 == 0 and #part % 16 == 0
        if whole then assert.equal(("0123456789abcdef"):rep(#part / 16), part) end
        assert.equal(("%x"):format(seen % 16), part:sub(1, 1))
        seen = seen + #part
      else
        helper.turn()
      end
    end
    written()
    conn:close()
    peer:recv_all()
    peer:close()
    helper.turn()
    assert.is_true(held() - before < 2048)
  end)

  it("S13 of a small string is written before the string may go", function()
    local conn, peer = helper.pair()
    for i = 1, 20 do assert(conn:write(assert(neap.slice("part " .. i .. ";")))) end
    collectgarbage()
    collectgarbage()
    conn:close()
    local expected = {}
    for i = 1, 20 do expected[i] = "part " .. i .. ";" end
    assert.equal(table.concat(expected), (peer:recv_all()))
    peer:close()
  end)

  it("takes strings only", function()
    for _, bad in ipairs { 1, {}, true, print, 1LL, io.stdout, 0 / 0 } do
      raises("neap.slice: bytes", function() neap.slice(bad) end)
    end
    raises("neap.slice: bytes", function() neap.slice() end)
  end)
end)
