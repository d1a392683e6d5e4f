--- From one connection to another: what comes goes out again in the turn in which it came, and the
--- task that asked for it goes on only when that is over.

local ffi = require("ffi")
local abi = require("neap.abi")
local check = require("neap.check")
local errors = require("neap.errors")
local task = require("neap.task")

local C = abi.C
local OK, EOF, AGAIN, BUSY = C.NEAP_OK, C.NEAP_E_EOF, C.NEAP_E_AGAIN, C.NEAP_E_BUSY
local TIMEOUT, LIMIT = C.NEAP_E_TIMEOUT, C.NEAP_E_LIMIT
local running, isyieldable = coroutine.running, coroutine.isyieldable
local pcall, error = pcall, error
local prepare, wait, wake = task.prepare, task.wait, task.wake
local pipe_t = ffi.typeof("struct neap_pipe")

local M = {}

--- Moves what can be: bytes have come, or there is room for more.
function M.run(pipe)
  local code = C.neap_pipe_move(pipe.state)
  if code == AGAIN or code == BUSY then return end
  pipe.code = code
  return wake(pipe.task, 0)
end

-- A timeout is for the time in which nothing moved.
local function until_over(pipe, me, seconds)
  local state = pipe.state
  local moved = state.moved
  local code = wait(me, seconds)
  if code == 0 then code = pipe.code end
  if code == AGAIN then code = C.neap_pipe_move(state) end -- it was a close that woke us
  if code == TIMEOUT and not me.cut and state.moved > moved then code = AGAIN end
  if code == AGAIN or code == BUSY then return until_over(pipe, me, seconds) end
  return code
end

--- @param methods table gets the method
--- @param kind table
---   check(self, name), check_other(to): raise when that is no connection, or not to be read from
---   readers, writers: who waits, by slot · sources, sinks: pipes, by slot
---   timeout_of(slot) → seconds that a wait may take, or nil
---   check_free(waiting, what): raises when somebody waits already
---   peer_of(self) → string
function M.install(methods, kind)
  local readers, writers = kind.readers, kind.writers
  local sources, sinks, timeout_of = kind.sources, kind.sinks, kind.timeout_of

  -- Whoever else has the slot by then keeps it.
  local function clear(list, slot, mine)
    if list[slot] == mine then list[slot] = false end
  end

  local function wait_for_end(self, to, state)
    local me, from_slot, to_slot = prepare(running(), isyieldable()), self.slot, to.slot
    kind.check_free(readers[from_slot], "reading")
    kind.check_free(writers[to_slot], "writing")
    local pipe = { task = me, state = state, code = AGAIN }
    readers[from_slot], writers[to_slot] = me, me
    sources[from_slot], sinks[to_slot] = pipe, pipe
    local ok, code = pcall(until_over, pipe, me, timeout_of(from_slot))
    C.neap_stream_forgo(from_slot, self.gen)
    clear(sources, from_slot, pipe)
    clear(sinks, to_slot, pipe)
    clear(readers, from_slot, me)
    clear(writers, to_slot, me)
    if not ok then error(code, 0) end
    return code
  end

  -- Whose fault it is, and why, for a message.
  local function told(self, to, n, code, moved)
    local source, target = kind.peer_of(self), kind.peer_of(to)
    if C.neap_stream_write_bytes(to.slot, to.gen, "", 0, true) < 0 then
      return errors.failure(("%s: write of what came from %s"):format(target, source), code)
    elseif code == EOF then
      return errors.fail(("%s: the peer closed its side after %.0f of %.0f bytes for %s"):format(
        source, moved, n, target), "short")
    elseif code == TIMEOUT and C.neap_reader_waits(self.reader_slot, self.reader_gen) == 1 then
      code = LIMIT -- it was the pool that kept it waiting, and not the peer
    end
    return errors.failure(("%s: read of what goes to %s"):format(source, target), code)
  end

  --- What comes on this connection is written to another one, as it comes and without a copy:
  --- n bytes, or all until the end (which is not passed on: see shutdown). Waits until they are
  --- queued there; reads no further while more than 64 KiB wait to be sent. A timeout of this
  --- connection is for the time in which nothing moved.
  --- err: "short" (the end came before n bytes), "timeout", "cancelled", "closed" and "reset"
  --- (either of them), "limit" (the pool's), "memory", "system". What was not moved stays unread.
  --- @param to neap.Connection may be the same one
  --- @param n? integer bytes; nil: until the end
  --- @return integer|nil bytes, string? message, string? name, integer? moved bytes all the same
  function methods:pipe_to(to, n)
    kind.check(self, "pipe_to")
    kind.check_other(to)
    if type(n) ~= "nil" then check.whole(n, 0x1p53, "conn:pipe_to: n") end
    local state = pipe_t({ self.slot, self.gen }, { to.slot, to.gen }, n or math.huge, 0)
    local code = C.neap_pipe_move(state)
    if code == AGAIN or code == BUSY then code = wait_for_end(self, to, state) end
    if code == OK or code == EOF and not n then return state.moved end
    local _, message, name = told(self, to, n, code, state.moved)
    return nil, message, name, state.moved
  end
end

return abi.keep("neap.pipe", M)
