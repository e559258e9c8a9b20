local server = require("spec.support.server")
local socket = require("socket")

local MIB, GIB = 1 << 20, 1 << 30
local HUGE = server.sanitized and 64 * MIB or GIB

-- What a worker may need beyond what it had, whatever the size of one body: its collector lets some
-- pieces lie before it runs, and the allocator of a sanitized build keeps what was freed.
local BOUND_KIB = (server.sanitized and 320 or 16) * 1024

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app({ max_request_body_size = moonquay.UNLIMITED })
local PIECE = ("0123456789abcdef"):rep(4096)
local counter, gate = 0, false

app:post("/count", function(req)
  local bytes, pieces = 0, 0
  for chunk in req.body:chunks() do
    bytes, pieces = bytes + #chunk, pieces + 1
    if pieces % 64 == 0 then moonquay.sleep(0) end
  end
  return tostring(bytes)
end)
-- Reads nothing before /open was asked for.
app:post("/gated", function(req)
  while not gate do moonquay.sleep(0.001) end
  local bytes = 0
  for chunk in req.body:chunks() do bytes = bytes + #chunk end
  return tostring(bytes)
end)
app:get("/open", function() gate = true end)
app:get("/shut", function() gate = false end)
app:post("/echo", function(req, res)
  for chunk in req.body:chunks() do assert(res:write(chunk)) end
end)

app:get("/write", function(req, res)
  for _ = 1, tonumber(req.query.pieces) do assert(res:write(PIECE)) end
end)
app:get("/sized", function(req, res)
  local pieces = tonumber(req.query.pieces)
  res.headers["content-length"] = tostring(pieces * #PIECE)
  for _ = 1, pieces do assert(res:write(PIECE)) end
end)
app:get("/iterate", function(req)
  local left = tonumber(req.query.pieces)
  return 200, function()
    left = left - 1
    return left >= 0 and PIECE or nil
  end
end)
app:get("/string", function(req) return PIECE:rep(tonumber(req.query.pieces)) end)
app:get("/finish", function(req, res) res:finish(PIECE:rep(tonumber(req.query.pieces))) end)
app:get("/large-write", function(req, res)
  assert(res:write(PIECE:rep(tonumber(req.query.pieces))))
end)
app:get("/odd", function(_, res)
  for length = 1, 400 do assert(res:write(PIECE:sub(1, length * 97))) end
end)

-- Counts what it could write until its client has left.
app:get("/endless", function(_, res)
  repeat counter = counter + 1 until not res:write(PIECE)
end)
app:get("/counter", function() return tostring(counter) end)
return app
]]

local PIECE = ("0123456789abcdef"):rep(4096)

local function peak_kib(pid)
  local file = assert(io.open(("/proc/%d/status"):format(pid)))
  local text = file:read("a")
  file:close()
  return tonumber(text:match("VmHWM:%s*(%d+) kB"))
end

local function get(path, version)
  return ("GET %s HTTP/%s\r\nHost: h\r\n%s\r\n"):format(path, version or "1.1",
    "Connection: close\r\n")
end

local function post(path, length, lines)
  return ("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%s\r\n"):format(path, length,
    lines or "")
end

--- How many bytes come behind the head until the server closes.
local function drain(connection)
  connection:read_until("\r\n\r\n")
  local bytes, tcp = #connection.buffer, connection.tcp
  tcp:settimeout(connection.deadline)
  while true do
    local data, err, partial = tcp:receive(262144)
    bytes = bytes + #(data or partial)
    if not data then
      assert.equal("closed", err)
      return bytes
    end
  end
end

local function assert_bounded(pid, before, extra_kib)
  local grown = peak_kib(pid) - before
  assert.is_true(grown < BOUND_KIB + (extra_kib or 0), ("it grew by %d KiB"):format(grown))
end

describe("Streaming", function()
  local s, worker, before

  setup(function()
    s = server.start({ app = APP })
    worker = s:workers()[1]
    s:get("/counter")
  end)
  teardown(function()
    s:stop()
  end)
  before_each(function()
    -- The peak counts from here on.
    local file = io.open(("/proc/%d/clear_refs"):format(worker), "w")
    assert(file and file:write("5"))
    file:close()
    before = peak_kib(worker)
  end)

  local function bounded(extra_kib)
    assert_bounded(worker, before, extra_kib)
  end

  describe("an upload", function()
    it("of any size needs no more memory (Content-Length)", function()
      local connection = s:connect()
      connection:send(post("/count", HUGE))
      local block = ("x"):rep(MIB)
      for _ = 1, HUGE // MIB do connection:send(block) end
      assert.equal(tostring(HUGE), connection:response().body)
      connection:close()
      bounded()
    end)

    it("of any size needs no more memory (chunked)", function()
      local connection = s:connect()
      connection:send("POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
      local block = ("3e8\r\n" .. ("x"):rep(1000) .. "\r\n"):rep(1000)
      for _ = 1, HUGE // 8000000 do connection:send(block) end
      connection:send("0\r\n\r\n")
      assert.equal(tostring(HUGE // 8000000 * 1000000), connection:response().body)
      connection:close()
      bounded()
    end)

    it("stops while the handler does not read", function()
      assert.equal(200, s:get("/shut").status)
      local connection = s:connect()
      local total = 256 * MIB
      connection:send(post("/gated", total))
      local block, sent = ("x"):rep(MIB), 0
      repeat
        local taken = connection:send_some(block, 0.2)
        sent = sent + taken
      until taken < #block or sent >= total
      assert.is_true(sent < 64 * MIB, sent .. " bytes were taken that nobody reads")
      bounded()
      assert.equal(200, s:get("/open").status)
      while sent < total do
        local left = total - sent
        connection:send(left < #block and block:sub(1, left) or block)
        sent = sent + math.min(left, #block)
      end
      assert.equal(tostring(total), connection:response().body)
      connection:close()
      bounded()
    end)
  end)

  describe("a download", function()
    local pieces = HUGE // #PIECE
    local CHUNK_EXTRA, LAST_CHUNK = #"10000\r\n\r\n", #"0\r\n\r\n"
    local cases = {
      { "by res:write, in chunks", "/write?pieces=%d", "1.1", CHUNK_EXTRA, LAST_CHUNK },
      { "by res:write, of a declared length", "/sized?pieces=%d", "1.1", 0, 0 },
      { "by res:write, to the end of the connection", "/write?pieces=%d", "1.0", 0, 0 },
      { "by an iterator, in chunks", "/iterate?pieces=%d", "1.1", CHUNK_EXTRA, LAST_CHUNK },
    }
    for i, case in ipairs(cases) do
      it(("of any size needs no more memory: %s"):format(case[1]), function()
        local count = i == 1 and pieces or pieces // 8
        local connection = s:connect()
        connection:send(get(case[2]:format(count), case[3]))
        assert.equal(count * (#PIECE + case[4]) + case[5], drain(connection))
        connection:close()
        bounded()
      end)
    end

    it("arrives as it was written, whatever the size of the pieces", function()
      local response = s:get("/odd")
      local expected = {}
      for length = 1, 400 do expected[length] = PIECE:sub(1, length * 97) end
      assert.is_true(table.concat(expected) == response.body)
      assert.is_true(PIECE:rep(100) == s:get("/string?pieces=100").body)
      assert.is_true(PIECE:rep(100) == s:get("/large-write?pieces=100").body)
    end)

    --- The counter, when it has not moved during many turns of the server's loop.
    local function parked_counter(connection)
      local last, same = nil, 0
      repeat
        local now = tonumber(connection:get("/counter").body)
        same = now == last and same + 1 or 0
        last = now
      until same == 200
      return last
    end

    it("parks the handler while the client does not read", function()
      local reader, other = s:connect(), s:connect()
      reader:send(get("/endless"))
      reader:read_until("\r\n\r\n")
      local first = parked_counter(other)
      assert.is_true(first * #PIECE < 32 * MIB, first .. " pieces were written to nobody")
      reader:receive(8 * MIB)
      assert.is_true(parked_counter(other) >= first + 8 * MIB // #PIECE - 64)
      bounded()
      reader:close()
      other:close()
    end)

    it("needs a bounded buffer for each client that does not read", function()
      local readers, other = {}, s:connect()
      for i = 1, 50 do
        readers[i] = s:connect()
        readers[i]:send(get("/endless"))
      end
      parked_counter(other)
      bounded(50 * 256)
      for _, reader in ipairs(readers) do reader:close() end
      other:close()
    end)
  end)

  it("goes both ways at once, within bounded buffers", function()
    local connection = s:connect()
    local total, block = HUGE // 8, ("both ways "):rep(6400)
    total = total // #block * #block
    connection:send(post("/echo", total, "Connection: close\r\n"))
    local tcp, sent, left, got = connection.tcp, 0, block, {}
    local until_time = socket.gettime() + 10 * connection.deadline
    local bytes, ended = 0, false
    tcp:settimeout(0)
    while not ended do
      assert(socket.gettime() < until_time, "it stopped")
      local readable, writable = socket.select({ tcp }, sent < total and { tcp } or nil,
        connection.deadline)
      if #writable > 0 then
        local ok, _, partial = tcp:send(left)
        local taken = ok or partial
        sent = sent + taken
        left = left:sub(taken + 1)
        if left == "" then left = block end
      end
      if #readable > 0 then
        local data, err, partial = tcp:receive(65536)
        data = data or partial
        bytes = bytes + #data
        got[#got + 1] = #got < 4 and data or nil
        ended = err == "closed"
      end
    end
    connection:close()
    assert.equal(total, sent)
    assert.is_true(bytes > total and bytes < total * 1.1 + 1000, bytes .. " bytes came back")
    assert.matches("both ways both ways ", table.concat(got))
    bounded()
  end)
end)

describe("Streaming one large string", function()
  -- A server for each: a collector that has seen much memory lets more lie.
  for _, path in ipairs({ "/string", "/finish", "/large-write" }) do
    it("needs that string and no more: " .. path, function()
      local s = server.start({ app = APP })
      local worker = s:workers()[1]
      s:get("/counter")
      local before, count = peak_kib(worker), 64 * MIB // #PIECE
      local connection = s:connect()
      connection:send(get(path .. "?pieces=" .. count, "1.0"))
      assert.equal(64 * MIB, drain(connection))
      connection:close()
      -- Twice: Lua builds a large string in a buffer of its own.
      assert_bounded(worker, before, 2 * 64 * 1024)
      s:stop()
    end)
  end
end)
