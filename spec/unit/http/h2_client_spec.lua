local probe = require("moonquay.probe")
local h2, h2_client = probe.h2, probe.h2_client

-- Both sides of a channel, each fed what the other sends in pieces of this size (0: whole).
local Channel = {}
Channel.__index = Channel

local function channel(options)
  options = options or {}
  local server_options = { is_channel = true, consume = true, max_concurrent_streams = 5000,
    max_request_head_bytes = 16 << 20, max_field_length = 16 << 20, max_target_bytes = 1 << 20,
    max_authorization_length = 16 << 20, max_fields = 60000, url_segment_max_length = 0,
    url_segment_max_count = 0 }
  for key, value in pairs(options.server or {}) do
    server_options[key] = value
  end
  local client_options = { consume = true, max_concurrent_calls = 5000,
    max_head_bytes = 16 << 20, max_fields = 60000 }
  for key, value in pairs(options.client or {}) do
    client_options[key] = value
  end
  local self = setmetatable({ pieces = options.pieces or 0 }, Channel)
  self.server = h2.session(server_options, options.on_server)
  self.client = h2_client.client(client_options, options.on_client)
  self:turn()
  return self
end

local function feed(side, bytes, size)
  if size == 0 then return side:receive(bytes) end
  for i = 1, #bytes, size do
    local ok, why = side:receive(bytes:sub(i, i + size - 1))
    if not ok then return nil, why end
  end
  return true
end

-- Until neither has anything to say.
function Channel:turn()
  repeat
    local out = self.client:send()
    assert(feed(self.server, out, self.pieces))
    local back = self.server:send()
    assert(feed(self.client, back, self.pieces))
  until out == "" and back == ""
end

-- Events of one side by name: the last one, all bytes of data joined.
local function gather(events)
  local all = { data = "", order = {} }
  for _, event in ipairs(events) do
    if event[1] ~= "data" or all.order[#all.order] ~= "data" then
      all.order[#all.order + 1] = event[1]
    end
    if event[1] == "data" then
      all.data = all.data .. event.bytes
    else
      all[event[1]] = event
    end
  end
  return all
end

local function value_of(fields, name)
  for _, field in ipairs(fields) do
    if field[1] == name then return field[2] end
  end
end

describe("h2 between host and attached app", function()
  for _, pieces in ipairs({ 0, 1, 7 }) do
    describe("in pieces of " .. (pieces == 0 and "any size" or pieces), function()
      it("carries a request and its response", function()
        local c = channel({ pieces = pieces })
        local id = c.client:call({ path = "/a?b", authority = "h:80", fields = {
          { "X-Mixed", "one" }, { "x-skip", "never" }, { "connection", "keep-alive" } },
          more = { { "moonquay-request", "id" }, { "moonquay-tls", "t" } } })
        c:turn()
        local got = gather(c.server:events())
        assert.equal("GET", got.head.method)
        assert.equal("/a?b", got.head.target)
        assert.equal("h:80", got.head.host)
        assert.is_true(got.head.ended)
        assert.same({ { "x-mixed", "one" }, { "connection", "keep-alive" },
          { "moonquay-request", "id" }, { "moonquay-tls", "t" } }, got.head.fields)
        c.server:respond(id, { status = 203, fields = { { "X-Back", "two" } }, length = 5,
          content = "hello" })
        c:turn()
        local back = gather(c.client:events())
        assert.equal(203, back.head.status)
        assert.same({ { "x-back", "two" }, { "content-length", "5" } }, back.head.fields)
        assert.equal("hello", back.data)
        assert.same({ "head", "data", "ended", "closed" }, back.order)
        assert.equal(0, back.closed.code)
      end)

      it("spells a reserved name seldom, although its values are kept out of the table", function()
        local c = channel({ pieces = pieces })
        local function call(churn)
          c.client:call({ more = { { "moonquay-request", "\x80\0\1\xff" } },
            fields = { { "x-churn", churn or "" } } })
          local bytes = c.client:send()
          assert(feed(c.server, bytes, pieces))
          c:turn()
          local got = gather(c.server:events())
          assert.equal("\x80\0\1\xff", value_of(got.head.fields, "moonquay-request"))
          return #bytes
        end
        call()
        local short = call()
        call(("y"):rep(2900)) -- two of these drive all others out
        call(("z"):rep(2900))
        call()
        local long = call()
        assert.truthy(long > short + 8, long .. " and " .. short)
        for _ = 7, 65 do
          call()
        end
        assert.equal(short, call())
      end)

      it("carries content, trailers and interim responses both ways", function()
        local c = channel({ pieces = pieces })
        local id = c.client:call({ method = "POST", content = ("x"):rep(100), last = false,
          trailers = { { "x-sum", "1" } } })
        c:turn()
        c.server:inform(id, 103, { fields = { { "link", "</a>" } } })
        c.client:content(id, "end", true)
        c:turn()
        local got = gather(c.server:events())
        assert.equal(("x"):rep(100) .. "end", got.data)
        assert.same({ { "x-sum", "1" } }, got.ended.trailers)
        c.server:respond(id, { content = "a", trailers = { { "x-after", "2" } } })
        c:turn()
        local back = gather(c.client:events())
        assert.equal(103, back.interim.status)
        assert.same({ { "link", "</a>" } }, back.interim.fields)
        assert.same({}, back.head.fields)
        assert.same({ { "x-after", "2" } }, back.ended.trailers)
      end)

      it("carries notes on their stream, in order with the response", function()
        local c = channel({ pieces = pieces })
        local id = c.client:call({})
        c:turn()
        c.client:note(id, "to=app\0")
        c.server:note(id, "entity_body\0" .. "5000\0")
        c.server:respond(id, { no_content = true })
        c:turn()
        assert.equal("to=app\0", gather(c.server:events()).note.pairs)
        local back = gather(c.client:events())
        assert.same({ "note", "head", "closed" }, back.order)
        assert.equal("entity_body\0" .. "5000\0", back.note.pairs)
      end)
    end)
  end

  it("passes an HTTP/1.0 request without a host", function()
    local c = channel()
    c.client:call({ path = "/" })
    c:turn()
    local got = gather(c.server:events())
    assert.is_nil(got.head.status)
    assert.equal("", got.head.host)
  end)

  it("opens a tunnel (RFC 8441)", function()
    local c = channel()
    local id = c.client:call({ method = "CONNECT", protocol = "websocket", path = "/chat",
      authority = "h", content = "", last = false })
    c:turn()
    local got = gather(c.server:events())
    assert.equal("websocket", got.head.protocol)
    assert.is_false(got.head.ended)
    c.server:respond(id, { content = "down", more = true })
    c.client:content(id, "up", false)
    c:turn()
    assert.equal("up", gather(c.server:events()).data)
    assert.equal("down", gather(c.client:events()).data)
  end)

  it("holds a response back by the window of its stream alone", function()
    local c = channel({ client = { consume = false, stream_window_bytes = 1000 } })
    local slow, quick = c.client:call({}), c.client:call({})
    c:turn()
    c.server:respond(slow, { content = ("s"):rep(5000) })
    c:turn()
    assert.equal(1000, #gather(c.client:events()).data)
    c.server:respond(quick, { content = "q" })
    c:turn()
    assert.equal("q", gather(c.client:events()).data)
    c.client:consumed(slow, 1000)
    c:turn()
    assert.equal(1000, #gather(c.client:events()).data)
  end)

  for _, code in ipairs({ 0, 2, 7, 8, 0x1234 }) do
    it("tells both sides of a reset with code " .. code, function()
      local c = channel()
      local a, b = c.client:call({ content = "", last = false }), c.client:call({})
      c:turn()
      c.client:reset(a, code)
      c.server:reset(b, code)
      c:turn()
      local closed = {}
      for _, event in ipairs(c.client:events()) do
        closed[event[2]] = event.code
      end
      -- A response that is not complete was broken off, whatever the code says.
      assert.same({ [a] = code, [b] = code > 0 and code or 2 }, closed)
      assert.equal(code, gather(c.server:events()).closed.code)
      assert.equal(0, c.client:state().calls)
    end)
  end

  it("is not ended by 5,000 calls that are cancelled", function()
    local c = channel()
    for _ = 1, 50 do
      for _ = 1, 100 do
        local id = c.client:call({ fields = { { "x-a", "b" } } })
        c.client:reset(id, 8)
      end
      c:turn()
      for _ = 1, 50 do
        local id = c.client:call({})
        c:turn()
        c.client:reset(id, 8)
      end
      c:turn()
    end
    assert.equal(0, c.client:state().calls)
    c.client:events()
    local id = c.client:call({})
    c:turn()
    c.server:respond(id, { content = "still here" })
    c:turn()
    assert.equal("still here", gather(c.client:events()).data)
  end)

  it("is worn when its stream ids are used, and finishes what runs", function()
    local c = channel({ client = { most_stream_id = 9 } })
    local last
    for _ = 1, 5 do
      assert.is_true(c.client:state().room)
      last = c.client:call({})
    end
    assert.equal(9, last)
    assert.is_true(c.client:state().worn)
    assert.is_false(c.client:state().room)
    c:turn()
    c.server:respond(last, { content = "x" })
    c:turn()
    assert.equal("x", gather(c.client:events()).data)
  end)

  it("begins no more calls than either side allows", function()
    local c = channel({ server = { max_concurrent_streams = 3 } })
    for _ = 1, 3 do
      c.client:call({})
    end
    assert.is_false(c.client:state().room)
  end)

  it("learns that the app leaves, while what runs goes on", function()
    local c = channel()
    local id = c.client:call({})
    c:turn()
    c.server:shut_down(true)
    c:turn()
    c.server:respond(id, { content = "x" })
    c:turn()
    local back = gather(c.client:events())
    assert.truthy(back.leaving)
    assert.equal("x", back.data)
    assert.is_false(c.client:state().room)
  end)

  it("carries the longest head that a server takes", function()
    local c = channel()
    local fields = { { "authorization", ("a"):rep(65500) } }
    for i = 1, 4 do
      fields[#fields + 1] = { "x-" .. i, ("v"):rep(16000) }
    end
    local id = c.client:call({ fields = fields })
    c:turn()
    local got = gather(c.server:events())
    assert.is_nil(got.head.status)
    assert.equal(65500, #value_of(got.head.fields, "authorization"))
    c.server:respond(id, { fields = fields, content = "x" })
    c:turn()
    assert.equal(16000, #value_of(gather(c.client:events()).head.fields, "x-4"))
  end)

  it("refuses a field that the other end could not read, and goes on", function()
    local c = channel()
    assert.is_nil(c.client:call({ fields = { { "x", ("a"):rep(65536) } } }))
    local id = c.client:call({ fields = { { "x", ("a"):rep(65535) } } })
    c:turn()
    c.server:respond(id, { content = "x" })
    c:turn()
    assert.equal("x", gather(c.client:events()).data)
  end)

  it("resets a response whose field the host could not read, and goes on", function()
    local c = channel()
    local long, other = c.client:call({}), c.client:call({})
    c:turn()
    c.server:respond(long, { fields = { { "x", ("{"):rep(70000) } }, content = "x" })
    c.server:respond(other, { content = "fine" })
    c:turn()
    local back = gather(c.client:events())
    assert.equal("fine", back.data)
    local state = c.client:state()
    assert.equal(0, state.calls)
  end)

  it("resets a response with a head above its limit, and goes on", function()
    local c = channel({ client = { max_head_bytes = 1000, max_fields = 10 } })
    local many = {}
    for i = 1, 20 do
      many[i] = { "x-" .. i, "v" }
    end
    for _, fields in ipairs({ { { "x", ("a"):rep(2000) } }, many }) do
      local id = c.client:call({})
      c:turn()
      c.server:respond(id, { fields = fields, content = "x" })
      c:turn()
      local back = gather(c.client:events())
      assert.is_nil(back.head)
      assert.equal(2, back.closed.code)
    end
    local id = c.client:call({})
    c:turn()
    c.server:respond(id, { fields = { { "x-a", "b" } }, content = "fine" })
    c:turn()
    assert.equal("fine", gather(c.client:events()).data)
  end)
end)

-- A frame: type, flags, stream, payload.
local function frame(kind, flags, stream, payload)
  return string.pack(">I3 B B I4", #payload, kind, flags, stream) .. payload
end

-- A field block of literals without indexing.
local function block(fields)
  local out = {}
  for _, field in ipairs(fields) do
    assert(#field[1] < 127 and #field[2] < 127)
    out[#out + 1] = string.pack("B s1 s1", 0, field[1], field[2])
  end
  return table.concat(out)
end

local HEADERS, DATA, END_STREAM, END_HEADERS = 1, 0, 1, 4

describe("h2 with an app that breaks the rules", function()
  local function fresh()
    local client = h2_client.client({ consume = true })
    local id = client:call({})
    client:send()
    assert(client:receive(frame(4, 0, 0, "") .. frame(4, 1, 0, "")))
    client:events()
    return client, id
  end

  -- What ends its stream alone.
  for name, fields in pairs({
    ["no status"] = { { "x", "y" } },
    ["a status of two digits"] = { { ":status", "20" } },
    ["a status of letters"] = { { ":status", "abc" } },
    ["a status below 100"] = { { ":status", "099" } },
    ["two statuses"] = { { ":status", "200" }, { ":status", "200" } },
    ["another pseudo-field"] = { { ":status", "200" }, { ":path", "/" } },
    ["101"] = { { ":status", "101" } },
    ["a line break in a value"] = { { ":status", "200" }, { "x", "a\r\nset-cookie: b" } },
    ["a NUL in a value"] = { { ":status", "200" }, { "x", "a\0b" } },
    ["a colon in a name"] = { { ":status", "200" }, { "x: y", "z" } },
    ["an empty name"] = { { ":status", "200" }, { "", "z" } },
  }) do
    it("resets a response with " .. name, function()
      local client, id = fresh()
      assert(client:receive(frame(HEADERS, END_HEADERS, id, block(fields))))
      client:send()
      local got = gather(client:events())
      assert.is_nil(got.head)
      assert.is_nil(got.interim)
      assert.equal(2, got.closed.code)
    end)
  end

  it("resets a stream whose interim heads have no end", function()
    local client = h2_client.client({ consume = true, max_head_bytes = 1000 })
    local id = client:call({})
    client:send()
    assert(client:receive(frame(4, 0, 0, "") .. frame(4, 1, 0, "")))
    client:events()
    local hint = frame(HEADERS, END_HEADERS, id, block({ { ":status", "103" }, { "x", "y" } }))
    local heads = 0
    for _ = 1, 100 do
      assert(client:receive(hint))
      client:send()
      local got = gather(client:events())
      heads = heads + (got.interim and 1 or 0)
      if got.closed then
        assert.equal(2, got.closed.code)
        break
      end
    end
    assert.equal(13, heads) -- of 42 and 34 bytes, as lines count
  end)

  it("resets an interim response that ends the stream", function()
    local client, id = fresh()
    assert(client:receive(frame(HEADERS, END_HEADERS | END_STREAM, id,
      block({ { ":status", "103" } }))))
    client:send()
    assert.equal(2, gather(client:events()).closed.code)
  end)

  for _, code in ipairs({ 0, 2, 11 }) do
    it("takes the answer behind a GOAWAY with code " .. code .. ", however it is cut", function()
      local bytes = frame(7, 0, 0, string.pack(">I4 I4", 1, code))
        .. frame(HEADERS, END_HEADERS | END_STREAM, 1, block({ { ":status", "204" } }))
      for _, size in ipairs({ #bytes, 1 }) do
        local client = fresh()
        for i = 1, #bytes, size do
          assert(client:receive(bytes:sub(i, i + size - 1)))
        end
        assert.same({ "leaving", "head", "closed" }, gather(client:events()).order)
      end
    end)
  end

  it("ignores notes that are too long, and those on no stream of ours", function()
    local client, id = fresh()
    assert(client:receive(frame(0xe1, 0, 99, "x\0y\0")))
    assert(client:receive(frame(0xe1, 0, 0, "x\0y\0")))
    assert(client:receive(frame(0xe1, 0, id, "x\0y\0")))
    assert.same({ "note" }, gather(client:events()).order)
  end)

  -- What ends the session.
  for name, bytes in pairs({
    ["a pushed stream"] = frame(5, END_HEADERS, 1, string.pack(">I4", 2)),
    ["a stream of its own"] = frame(HEADERS, END_HEADERS, 2, block({ { ":status", "200" } })),
    ["content without a head"] = frame(DATA, END_STREAM, 1, "x"),
    ["content on no stream"] = frame(DATA, 0, 0, "x"),
    ["a block that HPACK cannot read"] = frame(HEADERS, END_HEADERS, 1, "\255\255\255\255\255"),
    ["SETTINGS of a wrong size"] = frame(4, 0, 0, "x"),
    ["a frame that is too large"] = frame(DATA, 0, 1, ("x"):rep(16385)),
    ["a window that overflows"] = frame(8, 0, 0, string.pack(">I4", 0x7fffffff)),
    ["CONTINUATION of nothing"] = frame(9, END_HEADERS, 1, "x"),
  }) do
    it("ends the session for " .. name, function()
      local client = fresh()
      local ok, why = client:receive(bytes)
      if ok then
        local _, trouble = client:send()
        ok, why = trouble == nil, trouble
      end
      assert.is_falsy(ok)
      assert.truthy(why)
      assert.is_false(client:state().room)
    end)
  end

  it("ends the session of one that floods and does not read", function()
    for _, flood in ipairs({ frame(6, 0, 0, ("p"):rep(8)), frame(4, 0, 0, "") }) do
      local client = fresh()
      local ok
      for _ = 1, 20 do
        ok = client:receive(flood:rep(2000))
        if not ok then break end
      end
      assert.is_falsy(ok)
    end
  end)
end)
