local await = require("spec.support.await")
local h2 = require("spec.support.h2_client")
local server = require("spec.support.server")

local frames = h2.frames

local WINDOW = 65535
local MIB = 1 << 20

-- What a worker may need beyond what it had; the allocator of a sanitized build keeps what was
-- freed.
local BOUND_KIB = (server.sanitized and 320 or 16) * 1024

-- Handlers go on when they are let: /let/NAME/COUNT gives so many steps to those of this name.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app({ max_request_body_size = moonquay.UNLIMITED })
local PIECE = ("0123456789abcdef"):rep(4096)
local steps, counts, waiting = {}, {}, {}

local function step(name)
  waiting[name] = (waiting[name] or 0) + 1
  while (steps[name] or 0) == 0 do
    if not moonquay.sleep(0.001) then return false end
  end
  waiting[name] = waiting[name] - 1
  steps[name] = steps[name] - 1
  return true
end
app:get("/let/:name/:count", function(req)
  local name = req.params.name
  steps[name] = (steps[name] or 0) + math.tointeger(req.params.count)
  return 204
end)
app:get("/counts/:name", function(req) return tostring(counts[req.params.name] or 0) end)
app:get("/waiting/:name", function(req) return tostring(waiting[req.params.name] or 0) end)
app:any("/hello", function() return "hello" end)

-- Reads so many bytes a step, or all there are.
app:post("/read/:name/:bytes", function(req)
  local bytes, name = math.tointeger(req.params.bytes), req.params.name
  counts[name] = counts[name] or 0
  while true do
    if not step(name) then return end
    local left = bytes
    while left > 0 do
      local data = req.body:read(left)
      if not data then return tostring(counts[name]) end
      counts[name], left = counts[name] + #data, left - #data
    end
  end
end)
app:post("/never/:name", function(req)
  step(req.params.name)
  return "unread"
end)
app:post("/count", function(req)
  local bytes = 0
  for chunk in req.body:chunks() do bytes = bytes + #chunk end
  return tostring(bytes)
end)
app:post("/echo", function(req, res)
  for chunk in req.body:chunks() do assert(res:write(chunk)) end
end)

-- Writes pieces until it cannot; how many is counted.
app:get("/write/:name/:pieces", function(req, res)
  local name = req.params.name
  for i = 1, math.tointeger(req.params.pieces) do
    local ok, err = res:write(PIECE)
    if not ok then
      counts[name] = err.code
      return
    end
    counts[name] = i
  end
end)
app:get("/bytes/:count", function(req) return (PIECE:rep(40):sub(1, req.params.count)) end)
app:get("/exact", function(_, res)
  res:write(PIECE:sub(2))
  if res:flush() then moonquay.sleep(0.01) end
  res.trailers["x-sum"] = "1"
end)
app:get("/exact/finished", function() return PIECE:sub(2) end)
app:get("/exact/flushed", function(_, res)
  res:write(PIECE:sub(2))
  res:flush()
  moonquay.sleep(0.01)
end)
return app
]]

describe("Flow control (RFC 9113 section 5.2)", function()
  local s, other, client
  setup(function()
    s = server.start({ app = APP, options = { "--set", "h2.cleartext=true" } })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)
  before_each(function()
    other = h2.connect(s)
  end)
  after_each(function()
    other:close()
    client:close()
  end)

  local number = 0
  local function new_name()
    number = number + 1
    return "n" .. number
  end

  local function let(name, count)
    assert.equal(204, other:request(("/let/%s/%d"):format(name, count or 1)).status)
  end

  local function count(name)
    return other:request("/counts/" .. name).body
  end

  local function await_count(name, expected)
    local seen
    pcall(await, "a count", function()
      seen = count(name)
      return seen == tostring(expected)
    end)
    assert.equal(tostring(expected), seen)
  end

  local function await_waiting(name, expected)
    await("waiting handlers", function()
      return other:request("/waiting/" .. name).body == tostring(expected)
    end)
  end

  describe("of uploads", function()
    it("gives back to the stream what the handler has read, and no more", function()
      client = h2.connect(s)
      local name = new_name()
      local id = client:open(("/read/%s/40000"):format(name), { method = "POST", open = true })
      client:data(id, ("x"):rep(WINDOW))
      client:settle()
      assert.equal(0, client:stream(id).credit)
      assert.equal("0", count(name))
      let(name)
      await_count(name, 40000)
      client:settle()
      assert.equal(40000, client:stream(id).credit)
      client:data(id, ("y"):rep(40000))
      client:settle()
      assert.equal(40000, client:stream(id).credit)
      let(name)
      await_count(name, 80000)
      client:settle()
      assert.equal(80000, client:stream(id).credit)
      client:data(id, "", true)
      let(name)
      assert.equal(tostring(WINDOW + 40000), client:response(id).body)
    end)

    it("does not let a client beyond its window", function()
      client = h2.connect(s)
      local name = new_name()
      local id = client:open(("/read/%s/40000"):format(name), { method = "POST", open = true })
      client:data(id, ("x"):rep(WINDOW))
      client:settle()
      assert.is_nil(client:stream(id).reset)
      client:data(id, "x")
      assert.equal("FLOW_CONTROL_ERROR", client:response(id).reset)
      assert.equal("hello", client:request("/hello").body)
      let(name)
    end)

    it("has the window that h2.stream_window_bytes says", function()
      local small = server.start({ app = APP, options = { "--set", "h2.cleartext=true", "--set",
        "h2.stream_window_bytes=2000" } })
      client = h2.connect(small)
      client:settle()
      assert.equal(2000, client.settings.INITIAL_WINDOW_SIZE)
      local id = client:open("/never/x", { method = "POST", open = true })
      client:data(id, ("x"):rep(2000))
      client:settle()
      assert.is_nil(client:stream(id).reset)
      client:data(id, "x")
      assert.equal("FLOW_CONTROL_ERROR", client:response(id).reset)
      client:request("/let/x/1")
      id = client:open("/count", { method = "POST", open = true })
      client:upload(id, ("x"):rep(100000), true)
      assert.equal("100000", client:response(id).body)
      assert.equal(0, small:stop())
    end)

    it("of many that nobody reads does not close the connection for others", function()
      client = h2.connect(s)
      local name = new_name()
      for i = 1, 60 do
        local id = client:open("/never/" .. name, { method = "POST", open = true })
        client:upload(id, ("x"):rep(WINDOW))
        assert.equal(0, client:stream(id).credit, i)
      end
      await_waiting(name, 60)
      local id = client:open("/count", { method = "POST", open = true })
      client:upload(id, ("x"):rep(2 * MIB), true)
      assert.equal(tostring(2 * MIB), client:response(id).body)
      let(name, 60)
      for i = 1, 60 do
        assert.equal("unread", client:response(2 * i - 1).body)
      end
    end)

    -- What nobody reads of a stream that ends must not be missing in the connection's window.
    local ways = {
      { "reset by the client", "/never/NAME", function(connection, id)
        connection:send(frames.rst_stream(id, "CANCEL"))
      end },
      { "answered without reading", "/hello", function() end },
      { "refused", "/%zz", function() end },
    }
    for _, way in ipairs(ways) do
      it("keeps the connection's window through streams that are " .. way[1], function()
        client = h2.connect(s)
        local name = new_name()
        for _ = 1, 40 do
          local id = client:open(way[2]:gsub("NAME", name), { method = "POST", open = true })
          client:upload(id, ("x"):rep(WINDOW))
          way[3](client, id)
        end
        local id = client:open("/count", { method = "POST", open = true })
        client:upload(id, ("x"):rep(2 * MIB), true)
        assert.equal(tostring(2 * MIB), client:response(id).body)
        let(name, 40)
      end)
    end

    it("counts padding, and gives it back", function()
      client = h2.connect(s)
      local id = client:open("/count", { method = "POST", open = true })
      local frame = frames.frame("DATA", frames.PADDED, id, "\255x" .. ("\0"):rep(255))
      local most = client:settle():room(id)
      for _ = 1, 1000 do
        if client:room(id) < 257 then
          client:await("room", function()
            return client:room(id) >= 257
          end)
        end
        client:send(frame)
        for _, of in ipairs({ 0, id }) do
          client:stream(of).used = client:stream(of).used + 257
        end
      end
      client:data(id, "", true)
      assert.equal("1000", client:response(id).body)
      assert.is_true(most < 257 * 1000)
    end)
  end)

  describe("of downloads", function()
    it("stalls at the stream's window, and goes on by what it gets", function()
      client = h2.connect(s, { credit = false, window = 10 * MIB })
      local id = client:open("/write/x/40")
      client:body(id, WINDOW)
      client:settle()
      assert.equal(WINDOW, #client:stream(id).body)
      client:send(frames.window_update(id, 1000))
      client:body(id, WINDOW + 1000)
      client:settle()
      assert.equal(WINDOW + 1000, #client:stream(id).body)
      client:send(frames.window_update(id, 40 * 65536))
      assert.is_true(client:response(id).finished)
      assert.equal(40 * 65536, #client:stream(id).body)
    end)

    it("stalls at the connection's window, and goes on by what it gets", function()
      client = h2.connect(s, { credit = false, settings = { INITIAL_WINDOW_SIZE = 10 * MIB } })
      local id = client:open("/write/x/40")
      client:body(id, WINDOW)
      client:settle()
      assert.equal(WINDOW, #client:stream(id).body)
      client:send(frames.window_update(0, 1))
      client:body(id, WINDOW + 1)
      client:settle()
      assert.equal(WINDOW + 1, #client:stream(id).body)
      client:send(frames.window_update(0, 40 * 65536))
      assert.is_true(client:response(id).finished)
      assert.equal(40 * 65536, #client:stream(id).body)
    end)

    it("follows SETTINGS_INITIAL_WINDOW_SIZE while it runs, also below nothing", function()
      client = h2.connect(s, { credit = false, window = 10 * MIB,
        settings = { INITIAL_WINDOW_SIZE = 0 } })
      local id = client:open("/write/x/4")
      client:head(id)
      local function expect(bytes)
        client:body(id, bytes)
        client:settle()
        assert.equal(bytes, #client:stream(id).body)
      end
      local function initial(bytes)
        client:send(frames.settings({ INITIAL_WINDOW_SIZE = bytes }))
      end
      expect(0)
      initial(5000)
      expect(5000)
      initial(20000)
      expect(20000)
      initial(1000) -- now the stream's window is -19000
      expect(20000)
      client:send(frames.window_update(id, 19000))
      expect(20000)
      client:send(frames.window_update(id, 7))
      expect(20007)
      initial(MIB)
      assert.equal(4 * 65536, #client:response(id).body)
    end)

    it("lets a handler wait whose client takes nothing, and wakes it", function()
      client = h2.connect(s, { credit = false, window = 10 * MIB })
      local name = new_name()
      local id = client:open(("/write/%s/40"):format(name))
      client:body(id, WINDOW)
      client:settle()
      local written = tonumber(count(name))
      assert.is_true(written >= 1 and written <= 4, written .. " pieces")
      client:send(frames.window_update(id, 65536))
      client:body(id, WINDOW + 65536)
      await("another piece", function()
        return tonumber(count(name)) > written
      end)
      client:send(frames.window_update(id, 40 * 65536))
      assert.equal(40 * 65536, #client:response(id).body)
      await_count(name, 40)
    end)

    it("wakes a handler that waits when its client resets the stream", function()
      client = h2.connect(s, { credit = false })
      local name = new_name()
      local id = client:open(("/write/%s/40"):format(name))
      client:body(id, WINDOW)
      client:settle():send(frames.rst_stream(id, "CANCEL"))
      await_count(name, "reset")
    end)

    it("wakes a handler that waits when its client leaves", function()
      client = h2.connect(s, { credit = false })
      local name = new_name()
      local id = client:open(("/write/%s/40"):format(name))
      client:body(id, WINDOW)
      client:settle():reset()
      await_count(name, "reset")
    end)

    -- The library sends no empty frame where a window is closed, so that what ends later waits.
    it("lets what fits into the window just end with it, and by one byte of room", function()
      client = h2.connect(s, { credit = false, window = 10 * MIB })
      local response = client:request("/exact/finished")
      assert.same({ WINDOW, true }, { #response.body, response.finished })
      for _, path in ipairs({ "/exact/flushed", "/exact" }) do
        local id = client:open(path)
        client:body(id, WINDOW)
        client:send(frames.window_update(id, 1))
        response = client:response(id)
        assert.same({ WINDOW, true }, { #response.body, response.finished })
        assert.equal(path == "/exact" and "1" or nil, response.trailers["x-sum"])
      end
    end)

    for _, path in ipairs({ "/bytes/200000", "/exact/flushed" }) do
      it(("ends with a client that has ended its side, and opens no window: %s"):format(path),
        function()
          client = h2.connect(s, { credit = false })
          local id = client:open(path)
          client:body(id, WINDOW)
          client:settle():half_close()
          assert.equal("closed", client:rest())
          assert.equal(WINDOW, #client:stream(id).body)
        end)
    end

    it("of one that is stalled holds no other", function()
      client = h2.connect(s, { credit = false, window = 10 * MIB })
      local stalled = {}
      for i = 1, 20 do
        stalled[i] = client:open("/write/x/40")
      end
      for _, id in ipairs(stalled) do
        client:body(id, WINDOW)
      end
      local id = client:open("/bytes/60000")
      assert.equal(60000, #client:response(id).body)
      client:send(frames.window_update(stalled[7], 40 * 65536))
      assert.equal(40 * 65536, #client:response(stalled[7]).body)
      assert.equal(WINDOW, #client:stream(stalled[1]).body)
      assert.equal("hello", client:request("/hello").body)
    end)

    it("ends a connection whose window is said to be too large", function()
      client = h2.connect(s)
      client:send(frames.window_update(0, 0x7fffffff))
      client:await("GOAWAY", function()
        return client.goaways
      end)
      assert.equal("FLOW_CONTROL_ERROR", client.goaways[1].code)
    end)
  end)

  describe("and order (RFC 9218):", function()
    -- The frames of these streams in the order in which they came, once the connection's window
    -- is opened for all of them at once.
    local function order_of(open)
      client = h2.connect(s, { credit = false, settings = { INITIAL_WINDOW_SIZE = MIB } })
      local filler = client:open("/bytes/" .. WINDOW)
      client:response(filler)
      local ids, names = open(), {}
      for name, id in pairs(ids) do
        client:head(id)
        names[id] = name
      end
      client:settle():sent()
      client:send(frames.window_update(0, MIB))
      for _, id in pairs(ids) do
        client:response(id)
      end
      local list = {}
      for _, text in ipairs(client:sent()) do
        local id = tonumber(text:match("^DATA (%d+)"))
        list[#list + 1] = names[id]
      end
      return table.concat(list)
    end

    local function get(priority, bytes)
      return client:open("/bytes/" .. (bytes or 40000), { { "priority", priority } })
    end

    it("the more urgent is sent before the less urgent, whatever came first", function()
      assert.equal("aaabbbcccddd", order_of(function()
        return { d = get("u=7"), b = get("u=1"), c = client:open("/bytes/40000"), a = get("u=0") }
      end))
    end)

    it("of equal urgency one is sent behind the other", function()
      assert.equal("aaabbbccc", order_of(function()
        return { a = get("u=3"), b = get("u=3"), c = get("u=3") }
      end))
    end)

    it("of equal urgency those that are incremental take turns", function()
      local order = order_of(function()
        return { a = get("u=3, i"), b = get("u=3, i"), c = get("u=3, i") }
      end)
      assert.equal(9, #order)
      for at = 1, 7, 3 do
        local turn = { order:byte(at, at + 2) }
        table.sort(turn)
        assert.equal("abc", string.char(table.unpack(turn)), order)
      end
    end)

    it("PRIORITY_UPDATE changes the place of a request", function()
      assert.equal("cccaaabbb", order_of(function()
        local ids = { a = get("u=2"), b = get("u=1"), c = get("u=7") }
        client:send(frames.priority_update(ids.c, "u=0"), frames.priority_update(ids.b, "u=4"))
        return ids
      end))
    end)

    it("PRIORITY_UPDATE may come before its request, and counts more than its field", function()
      assert.equal("cccaaabbb", order_of(function()
        client:send(frames.priority_update(client.next_id + 4, "u=0"))
        return { a = get("u=1"), b = get("u=2"), c = get("u=7") }
      end))
    end)
  end)

  describe("and memory:", function()
    local function peak_kib(pid)
      local file = assert(io.open(("/proc/%d/status"):format(pid)))
      local text = file:read("a")
      file:close()
      return tonumber(text:match("VmHWM:%s*(%d+) kB"))
    end

    -- Of a worker that serves nothing else.
    local function assert_bounded(check)
      local own = server.start({ app = APP, options = { "--set", "h2.cleartext=true" } })
      local pid = own:workers()[1]
      local first = h2.connect(own)
      first:request("/hello")
      first:close()
      local before = peak_kib(pid)
      client = h2.connect(own, check.options)
      check.run()
      local grown = peak_kib(pid) - before
      assert.is_true(grown < BOUND_KIB, ("it grew by %d KiB"):format(grown))
      client:close()
      assert.equal(0, own:stop())
    end

    it("100 downloads that nobody takes need little", function()
      assert_bounded({
        options = { credit = false, window = 100 * MIB },
        run = function()
          for _ = 1, 99 do
            client:open("/write/x/1000")
          end
          for id = 1, 197, 2 do
            client:body(id, WINDOW)
          end
          client:settle()
          assert.equal("hello", client:request("/hello").body)
        end,
      })
    end)

    it("100 uploads that nobody reads need little", function()
      assert_bounded({
        run = function()
          for _ = 1, 99 do
            local id = client:open("/never/x", { method = "POST", open = true })
            client:upload(id, ("x"):rep(WINDOW))
          end
          client:settle()
          assert.equal("hello", client:request("/hello").body)
        end,
      })
    end)

    it("a long body that goes both ways needs little", function()
      local piece, total = ("x"):rep(WINDOW), server.sanitized and 300 or 1000
      assert_bounded({
        run = function()
          local id = client:open("/echo", { method = "POST", open = true })
          local got, stream = 0, client:stream(id)
          for i = 1, total do
            client:upload(id, piece, i == total)
            got, stream.body, stream.pieces = got + #stream.body, "", {}
            client:sent()
          end
          client:response(id)
          assert.equal(total * WINDOW, got + #stream.body)
        end,
      })
    end)
  end)
end)
