-- Session tickets: who resumes what, with keys of the server's own and from a file.
local await = require("spec.support.await")
local certs = require("spec.support.certs")
local secure = require("spec.support.secure")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local APP = [[
return function(req)
  local file = io.open("/proc/self/stat")
  local pid = file:read("n")
  file:close()
  return { pid = pid, resumed = req.tls.resumed, sni = req.tls.sni }
end]]

local VERSIONS = { "-tls1_2", "-tls1_3" }

describe("a session ticket", function()
  local store, made

  setup(function()
    store = certs.new()
    made = store:make("a", { names = { "a.test" } })
  end)

  teardown(function()
    store:remove()
  end)

  after_each(server.stop_all)

  local function start(...)
    return secure.start({ app = APP, tls = secure.binding(made), set = { ... },
      options = { "--workers", "2" } })
  end

  local function session(version)
    return store:path("session" .. version)
  end

  -- A first connection, whose ticket is kept.
  local function begin(s, version)
    local seen = secure.ask(s, { sni = "a.test", version, "-sess_out", session(version) })
    assert.is_false(seen.json.resumed)
    return seen.json
  end

  local function again(s, version)
    local seen = secure.ask(s, { sni = "a.test", version, "-sess_in", session(version) })
    assert(seen.json, seen.text)
    assert.equal("a.test", seen.json.sni)
    return seen.json
  end

  local function key(letter)
    return letter:rep(16) .. ("m" .. letter):rep(16) .. ("c" .. letter):rep(16)
  end

  for _, version in ipairs(VERSIONS) do
    it("is taken by each worker, and counted: " .. version, function()
      local s = start()
      local pids = { [begin(s, version).pid] = true }
      local workers, asked = 1, 0
      repeat -- the kernel spreads connections over the workers
        local seen = again(s, version)
        assert.is_true(seen.resumed)
        workers = workers + (pids[seen.pid] and 0 or 1)
        pids[seen.pid] = true
        asked = asked + 1
      until workers == 2 and asked >= 5 or asked == 60
      assert.equal(2, workers)
      local counters = secure.counters(s)
      assert.equal(asked + 1, counters.tls_handshakes)
      assert.equal(asked, counters.tls_resumed)
      assert.equal(0, s:stop())
    end)

    it("outlives the worker that gave it: " .. version, function()
      local s = start()
      begin(s, version)
      for _, pid in ipairs(s:workers()) do
        sys.kill(pid, "KILL")
        s:await("worker_died [^\n]*pid=" .. pid)
      end
      await("two new workers", function()
        return #s:workers() == 2
      end)
      assert.is_true(again(s, version).resumed)
    end)

    it("is that of all machines with the same file of keys: " .. version, function()
      local file = store:write("keys", key("A"))
      local first = start("session_tickets.keys=" .. file)
      local second = start("session_tickets.keys=" .. file)
      begin(first, version)
      assert.is_true(again(second, version).resumed)
      local third = start()
      assert.is_false(again(third, version).resumed)
    end)
  end

  local function assert_all(s, resumed)
    for _, version in ipairs(VERSIONS) do
      assert.equal(resumed, again(s, version).resumed, version)
    end
  end

  local function begin_all(s)
    for _, version in ipairs(VERSIONS) do
      begin(s, version)
    end
  end

  it("is opened by a key that seals no more, and not by one that is gone", function()
    local s = start("session_tickets.rotate=2")
    s:await("ticket_keys_rotated")
    begin_all(s)
    s:await("ticket_keys_rotated.*ticket_keys_rotated")
    assert_all(s, true)
    for _, version in ipairs(VERSIONS) do
      await("a full handshake " .. version, function()
        return again(s, version).resumed == false
      end)
    end
  end)

  it("follows the file of keys", function()
    local file = store:write("keys", key("A"))
    sys.chmod(file, "644")
    local s = start("session_tickets.keys=" .. file)
    begin_all(s)
    s:await("warn key_readable [^\n]*session_tickets.keys=[^\n]*: everybody on this machine can "
      .. "read the keys")
    store:write("keys", key("B") .. key("A"))
    s:await("info ticket_keys_changed ")
    -- Opened by the old key, and sealed anew by the new one, whose name is in the ticket.
    for _, version in ipairs(VERSIONS) do
      local seen = secure.ask(s, { sni = "a.test", version, "-sess_in", session(version) })
      assert.is_true(seen.json.resumed)
      assert.truthy(seen.text:find("TLS session ticket:\n%s+0000 %- " .. ("42 "):rep(7)), seen.text)
    end
    store:write("keys", "too short")
    s:await("error ticket_keys_kept [^\n]*session_tickets.keys=[^\n]*9 bytes: must be 1 to 8 "
      .. "keys of 80 bytes each, the one that seals first; the keys before stay in use")
    assert_all(s, true)
    store:write("keys", key("C") .. key("B"))
    s:await("ticket_keys_changed .*ticket_keys_changed ")
    assert_all(s, false)
  end)

  it("may be sealed by one key for ever", function()
    local s = start("session_tickets.rotate=off")
    begin(s, "-tls1_3")
    assert.is_true(again(s, "-tls1_3").resumed)
  end)

  it("that was changed is none", function()
    local s = start()
    begin(s, "-tls1_2")
    -- The session is text (base64), and the ticket lies at its end: another letter there.
    local pem = store:read("session-tls1_2")
    local lines = {}
    for line in pem:gmatch("[^\n]+") do
      lines[#lines + 1] = line
    end
    local middle = #lines - 4
    local letter = lines[middle]:sub(20, 20)
    lines[middle] = lines[middle]:sub(1, 19) .. (letter == "A" and "B" or "A")
      .. lines[middle]:sub(21)
    store:write("session-tls1_2", table.concat(lines, "\n") .. "\n")
    assert.is_false(again(s, "-tls1_2").resumed)
  end)
end)
