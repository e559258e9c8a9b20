local frames = require("spec.support.h2_frames")
local h2_probe = require("spec.support.h2_probe")

local function post(id)
  return frames.request(id, { [":method"] = "POST" }, { open = true })
end

--- A session with these requests, not answered.
local function asked(...)
  local peer = h2_probe.open()
  for _, id in ipairs({ ... }) do
    assert(peer:feed(frames.request(id)))
  end
  peer:events()
  return peer
end

--- The fields of the first HEADERS that the session sends for a response.
local function head_of(response)
  local peer = asked(1)
  response.no_content = true
  peer.session:respond(1, response)
  for _, frame in ipairs(peer:frames()) do
    if frame.fields then return frame.fields end -- it may be the last of several
  end
end

describe("h2 response head (RFC 9113 section 8.3.2)", function()
  local cases = {
    { "a status alone", { status = 404 }, { { ":status", "404" } } },
    { "date, server, fields and length in the order of HTTP/1.1",
      { date = "D", server = "s", length = 5, fields = { { "X-B", "1" }, { "x-a", "2" } } },
      { { ":status", "200" }, { "date", "D" }, { "server", "s" }, { "x-b", "1" }, { "x-a", "2" },
        { "content-length", "5" } } },
    { "names in lower case, known or not, values as they are",
      { fields = { { "Content-TYPE", "Text/Plain" }, { "X-CamelCase", "Aa" } } },
      { { ":status", "200" }, { "content-type", "Text/Plain" }, { "x-camelcase", "Aa" } } },
    { "no second Date and Server",
      { date = "D", server = "s", fields = { { "SERVER", "mine" }, { "Date", "E" } } },
      { { ":status", "200" }, { "server", "mine" }, { "date", "E" } } },
    { "nothing of the connection, and no length but ours",
      { length = 3, fields = { { "Connection", "close" }, { "Keep-Alive", "1" },
        { "proxy-connection", "x" }, { "TRANSFER-ENCODING", "chunked" }, { "upgrade", "h2c" },
        { "Content-Length", "99" }, { "x", "y" } } },
      { { ":status", "200" }, { "x", "y" }, { "content-length", "3" } } },
    { "values without blanks around them", { fields = { { "x", " \ta b\t " }, { "y", "  " } } },
      { { ":status", "200" }, { "x", "a b" }, { "y", "" } } },
    { "repeated fields", { fields = { { "Set-Cookie", "a" }, { "set-cookie", "b" } } },
      { { ":status", "200" }, { "set-cookie", "a" }, { "set-cookie", "b" } } },
    { "no length with 204", { status = 204, length = 0 }, { { ":status", "204" } } },
    { "the length of a 304", { status = 304, length = 5 },
      { { ":status", "304" }, { "content-length", "5" } } },
    { "a length of zero", { length = 0 }, { { ":status", "200" }, { "content-length", "0" } } },
    { "a length of 2^63-1", { length = math.maxinteger },
      { { ":status", "200" }, { "content-length", "9223372036854775807" } } },
    { "a status of three digits, whatever it says", { status = 999 }, { { ":status", "999" } } },
  }
  for _, case in ipairs(cases) do
    it("has " .. case[1], function()
      assert.same(case[3], head_of(case[2]))
    end)
  end

  it("has more fields than a stack's room", function()
    local fields, expected = {}, { { ":status", "200" } }
    for i = 1, 300 do
      fields[i] = { "X-" .. i, ("v"):rep(i) }
      expected[i + 1] = { "x-" .. i, ("v"):rep(i) }
    end
    assert.same(expected, head_of({ fields = fields }))
  end)

  it("goes on in CONTINUATION when it is long, with nothing between", function()
    local peer = asked(1, 3)
    local value = ("\xFE"):rep(40000)
    peer.session:respond(1, { fields = { { "x", value }, { "y", value } }, content = "hello" })
    peer.session:respond(3, { no_content = true })
    local sent = peer:frames()
    local texts = table.concat(h2_probe.describe(sent), ", ")
    assert.matches("^HEADERS 1, CONTINUATION 1,[CONTIUA 1,]+ HEADERS 3 %., DATA 1 %.$", texts)
    for _, frame in ipairs(sent) do
      assert.is_true(#frame.payload <= 16384)
    end
  end)

  it("is remembered by HPACK as far as header_table_bytes allows", function()
    for _, case in ipairs({ { 4096, true }, { 0, false } }) do
      local peer = h2_probe.open({ header_table_bytes = case[1] })
      assert(peer:feed(frames.request(1) .. frames.request(3)))
      for _, id in ipairs({ 1, 3 }) do
        peer.session:respond(id, { no_content = true, fields = { { "x-a", "a value" } } })
      end
      local sent = peer:frames()
      assert.same(sent[1].fields, sent[2].fields)
      -- The first may say first that the table has another size.
      assert.equal(case[2], #sent[2].payload < #sent[1].payload - 2, case[1])
    end
  end)

  it("that is longer than what the library sends resets its stream alone", function()
    local peer = asked(1, 3)
    peer.session:respond(1, { fields = { { "x", ("v"):rep(17 << 20) } }, content = "hello" })
    peer.session:respond(3, { no_content = true })
    assert.same({ "HEADERS 3 .", "RST_STREAM 1 INTERNAL_ERROR" }, peer:sent())
    assert.same({ "closed 3 0", "closed 1 2" }, peer:happened())
  end)

  it("goes out once", function()
    local peer = asked(1)
    peer.session:respond(1, { more = true })
    peer.session:respond(1, { status = 500, content = "x" })
    local sent = peer:frames()
    assert.same({ "HEADERS 1" }, h2_probe.describe(sent))
    assert.same({ { ":status", "200" } }, sent[1].fields)
  end)

  it("comes behind any number of interim ones", function()
    local peer = asked(1)
    peer.session:inform(1, 100, {})
    peer.session:inform(1, 103, { fields = { { "Link", "</a>" }, { "connection", "x" } } })
    peer.session:respond(1, { content = "hello" })
    peer.session:inform(1, 103, {})
    local sent = peer:frames()
    assert.same({ "HEADERS 1", "HEADERS 1", "HEADERS 1", "DATA 1 ." }, h2_probe.describe(sent))
    assert.same({ { ":status", "100" } }, sent[1].fields)
    assert.same({ { ":status", "103" }, { "link", "</a>" } }, sent[2].fields)
    assert.same({ { ":status", "200" } }, sent[3].fields)
  end)
end)

describe("h2 response content", function()
  it("goes out in frames that end the stream", function()
    local peer = asked(1)
    peer.session:respond(1, { content = ("x"):rep(16384) .. "hello" })
    local sent = peer:frames()
    assert.same({ "HEADERS 1", "DATA 1", "DATA 1 ." }, h2_probe.describe(sent))
    assert.same({ ("x"):rep(16384), "hello" }, { sent[2].payload, sent[3].payload })
    assert.same({ "closed 1 0" }, peer:happened())
  end)

  it("may be nothing: the head ends the stream, or an empty frame when that was not known",
    function()
      local peer = asked(1, 3)
      peer.session:respond(1, { no_content = true })
      peer.session:respond(3, { content = "" })
      assert.same({ "HEADERS 1 .", "HEADERS 3", "DATA 3 ." }, peer:sent())
      assert.same({ "closed 1 0", "closed 3 0" }, peer:happened())
    end)

  it("waits for the owner, and goes on when told", function()
    local peer = asked(1)
    peer.session:respond(1, { content = "a", more = true })
    assert.same({ "HEADERS 1", "DATA 1" }, peer:sent())
    assert.same({}, peer:sent())
    assert.is_false(peer.session:state().wants_send)
    peer.session:content(1, "b")
    assert.is_true(peer.session:state().wants_send)
    assert.same({ "DATA 1" }, peer:sent())
    peer.session:content(1, "", true)
    assert.same({ "DATA 1 ." }, peer:sent())
    peer.session:content(1, "late", true)
    assert.same({}, peer:sent())
  end)

  it("goes on where nothing waited", function()
    local peer = asked(1)
    peer.session:content(1, "a")
    peer.session:respond(1, { more = true })
    peer.session:content(1, "b")
    local sent = peer:frames()
    assert.same({ "HEADERS 1", "DATA 1" }, h2_probe.describe(sent))
    assert.equal("ab", sent[2].payload)
  end)

  it("stays within the windows of the stream and of the connection", function()
    local peer = h2_probe.open()
    assert(peer:feed(frames.settings({ INITIAL_WINDOW_SIZE = 5 }) .. frames.request(1)))
    assert.same({ "SETTINGS 0 ACK" }, peer:sent())
    peer.session:respond(1, { content = "hello world" })
    local sent = peer:frames()
    assert.same({ "HEADERS 1", "DATA 1" }, h2_probe.describe(sent))
    assert.equal("hello", sent[2].payload)
    assert(peer:feed(frames.window_update(1, 3)))
    assert.equal(" wo", peer:frames()[1].payload)
    assert(peer:feed(frames.settings({ INITIAL_WINDOW_SIZE = 8 })))
    sent = peer:frames()
    assert.same({ "SETTINGS 0 ACK", "DATA 1 ." }, h2_probe.describe(sent))

    peer = h2_probe.open()
    assert(peer:feed(frames.settings({ INITIAL_WINDOW_SIZE = 1 << 20 }) .. frames.request(1)))
    peer.session:respond(1, { content = ("x"):rep(65536) })
    sent = peer:frames()
    local bytes = 0
    for _, frame in ipairs(sent) do
      if frame.type == "DATA" then bytes = bytes + #frame.payload end
    end
    assert.equal(65535, bytes)
    assert(peer:feed(frames.window_update(0, 1)))
    assert.same({ "DATA 1 ." }, peer:sent())
  end)

  it("is sent as far as the buffer goes, in whole frames", function()
    local peer = asked(1)
    peer.session:respond(1, { content = ("x"):rep(40000) })
    assert.same({ "HEADERS 1" }, h2_probe.describe(peer:frames(1)))
    assert.is_true(peer.session:state().wants_send)
    assert.same({ "DATA 1", "DATA 1" }, h2_probe.describe(peer:frames(16384 + 9 + 1)))
    assert.same({}, h2_probe.describe(peer:frames(0)))
    assert.same({ "DATA 1 ." }, peer:sent())
    assert.is_false(peer.session:state().wants_send)
  end)

  it("of many streams lies together in one buffer", function()
    local ids, expected = {}, {}
    for id = 1, 63, 2 do
      ids[#ids + 1] = id
    end
    local peer = asked(table.unpack(ids))
    for i, id in ipairs(ids) do
      peer.session:respond(id, { content = "hello" })
      expected[i], expected[#ids + i] = "HEADERS " .. id, ("DATA %d ."):format(id)
    end
    assert.same(expected, peer:sent())
  end)

  it("may be given while the request is read", function()
    local peer = h2_probe.open({}, function(session, event)
      if event[1] == "head" then session:respond(event[2], { more = true }) end
      if event[1] == "data" then session:content(event[2], event.bytes:upper()) end
      if event[1] == "ended" then session:content(event[2], "", true) end
    end)
    assert(peer:feed(post(1) .. frames.data(1, "a") .. frames.data(1, "b")))
    assert.same({ "HEADERS 1", "DATA 1" }, peer:sent())
    assert(peer:feed(frames.data(1, "c", true)))
    local sent = peer:frames()
    assert.same({ "DATA 1 ." }, h2_probe.describe(sent))
    assert.equal("C", sent[1].payload)
    assert.same({ "head 1", "data 1 abc", "ended 1", "closed 1 0" }, peer:happened())
  end)
end)

describe("h2 response trailers", function()
  local TRAILERS = { { "X-Sum", "1" }, { "x-b", " 2 " }, { "Connection", "close" } }
  local SENT = { { "x-sum", "1" }, { "x-b", "2" } }

  local cases = {
    { "come behind content", { content = "hello" }, { "HEADERS 1", "DATA 1", "HEADERS 1 ." } },
    { "come without content", { no_content = true }, { "HEADERS 1", "HEADERS 1 ." } },
    { "come without content that was not known to be none", { content = "" },
      { "HEADERS 1", "HEADERS 1 ." } },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local peer = asked(1)
      case[2].trailers = TRAILERS
      peer.session:respond(1, case[2])
      local sent = peer:frames()
      assert.same(case[3], h2_probe.describe(sent))
      assert.same(SENT, sent[#sent].fields)
      assert.same({ "closed 1 0" }, peer:happened())
    end)
  end

  it("that are none leave the end to the content", function()
    local peer = asked(1)
    peer.session:respond(1, { content = "x", trailers = {} })
    assert.same({ "HEADERS 1", "DATA 1 ." }, peer:sent())
  end)

  it("may be long", function()
    local peer = asked(1)
    local value = ("v"):rep(65535)
    peer.session:respond(1, { no_content = true, trailers = { { "x", value }, { "x", value } } })
    local sent = peer:frames()
    assert.same({ { "x", value }, { "x", value } }, sent[#sent].fields)
  end)
end)

describe("h2 reset", function()
  it("before the response is all that the peer sees", function()
    local peer = asked(1)
    peer.session:reset(1, 1111)
    peer.session:reset(1, 8)
    peer.session:respond(1, { content = "x" })
    assert.same({ "RST_STREAM 1 1111" }, peer:sent())
    assert.same({ "closed 1 1111" }, peer:happened())
  end)

  it("waits for heads that were handed over", function()
    local peer = asked(1)
    peer.session:inform(1, 103, {})
    peer.session:respond(1, { content = "x" })
    peer.session:reset(1, 2)
    peer.session:reset(1, 8)
    assert.same({ "HEADERS 1", "HEADERS 1", "RST_STREAM 1 INTERNAL_ERROR" }, peer:sent())
    assert.same({ "closed 1 2" }, peer:happened())
  end)

  it("waits for a head of several frames", function()
    local peer = asked(1)
    peer.session:respond(1, { fields = { { "x", ("\xFE"):rep(40000) } }, content = "x" })
    peer.session:reset(1, 2)
    local sent = peer:sent()
    assert.equal("RST_STREAM 1 INTERNAL_ERROR", sent[#sent])
    assert.equal("CONTINUATION 1", sent[#sent - 1])
  end)

  it("waits for a head of several frames and the trailers, which end the stream", function()
    local peer = asked(1)
    peer.session:respond(1, { fields = { { "x", ("\xFE"):rep(40000) } }, no_content = true,
      trailers = { { "y", "z" } } })
    peer.session:reset(1, 2)
    local sent = peer:sent()
    assert.equal("HEADERS 1 .", sent[#sent])
    assert.same({ "closed 1 0" }, peer:happened())
  end)

  it("comes behind what was pulled", function()
    local peer = asked(1)
    peer.session:respond(1, { content = ("x"):rep(50000) })
    assert.same({ "HEADERS 1", "DATA 1" }, h2_probe.describe(peer:frames(1000)))
    peer.session:reset(1, 8)
    assert.same({ "RST_STREAM 1 CANCEL" }, peer:sent())
  end)

  it("that waits is all that the owner still hears of", function()
    local peer = h2_probe.open({}, function(session, event)
      if event[1] == "head" then
        session:respond(event[2], { content = "hello" })
        session:reset(event[2], 8)
      end
    end)
    assert(peer:feed(post(1) .. frames.data(1, "a") .. post(3) .. frames.data(1, "b", true)
      .. frames.headers(3, { { "x", "y" } })))
    assert.same({ "head 1", "head 3" }, peer:happened())
    assert.same({ "HEADERS 1", "HEADERS 3", "RST_STREAM 1 CANCEL", "RST_STREAM 3 CANCEL" },
      peer:sent())
    assert.same({ "closed 1 8", "closed 3 8" }, peer:happened())
  end)

  it("may come from the pull, which then gives no end", function()
    local peer = h2_probe.open({}, function(session, event)
      if event[1] == "pull" then session:reset(event[2], 8) end
    end)
    assert(peer:feed(frames.request(1) .. frames.request(3)))
    peer.session:respond(1, { content = "hello" })
    peer.session:respond(3, { content = "", trailers = { { "x", "y" } } })
    assert.same({ "HEADERS 1", "HEADERS 3", "DATA 1", "RST_STREAM 1 CANCEL",
      "RST_STREAM 3 CANCEL" }, peer:sent())
  end)

  it("may come from the pull that gives the last of the content", function()
    local peer = h2_probe.open({}, function(session, event)
      if event[1] == "pull" then session:reset(event[2], 8) end
    end)
    assert(peer:feed(frames.request(1) .. frames.request(3)))
    peer.session:respond(1, { content = "hello", more = true })
    assert.same({ "HEADERS 1", "DATA 1", "RST_STREAM 1 CANCEL" }, peer:sent())
    assert.same({ "head 1", "head 3", "closed 1 8" }, peer:happened())
  end)

  it("ends the request whose response is complete", function()
    local peer = h2_probe.open()
    assert(peer:feed(post(1) .. frames.data(1, "x")))
    peer.session:respond(1, { content = "hello" })
    assert.same({ "HEADERS 1", "DATA 1 ." }, peer:sent())
    assert.same({ "head 1", "data 1 x" }, peer:happened())
    peer.session:reset(1, 0)
    assert.same({ "RST_STREAM 1 NO_ERROR" }, peer:sent())
    assert.same({ "closed 1 0" }, peer:happened())
    assert(peer:feed(frames.data(1, "late", true)))
    assert.same({}, peer:happened())
  end)

  it("of a stream that is gone does nothing", function()
    local peer = asked(1)
    peer.session:respond(1, { no_content = true })
    peer:frames()
    peer.session:reset(1, 8)
    assert.same({}, peer:sent())
  end)

  it("ends what is given of a request", function()
    local peer = h2_probe.open({}, function(session, event)
      if event[1] == "data" then session:reset(event[2], 8) end
    end)
    assert(peer:feed(post(1) .. frames.data(1, "a") .. frames.data(1, "b", true)))
    assert.same({ "head 1", "data 1 a" }, peer:happened())
    assert.same({ "RST_STREAM 1 CANCEL" }, peer:sent())
  end)

  it("does not count against the peer", function()
    local peer = h2_probe.open({ max_resets = 3 })
    for id = 1, 41, 2 do
      assert(peer:feed(frames.request(id)))
      peer.session:reset(id, 8)
      assert.same({ ("RST_STREAM %d CANCEL"):format(id) }, peer:sent())
    end
  end)
end)

describe("h2 priorities (RFC 9218)", function()
  -- Which stream's content goes first when both wait: after first in the order of asking.
  local function order(...)
    local peer = h2_probe.open()
    for i, request in ipairs({ ... }) do
      assert(peer:feed(request), i)
    end
    for _, event in ipairs(peer:events()) do
      peer.session:respond(event[2], { content = ("x"):rep(20000) })
    end
    local ids = {}
    for _, frame in ipairs(peer:frames()) do
      if frame.type == "DATA" then ids[#ids + 1] = frame.id end
    end
    return table.concat(ids, " ")
  end

  local function with(id, value)
    return frames.request(id, value and { { "priority", value } })
  end

  local cases = {
    { "without any, the first that was asked", { with(1), with(3) }, "1 1 3 3" },
    { "the more urgent", { with(1, "u=5"), with(3, "u=1") }, "3 3 1 1" },
    { "the more urgent than the default", { with(1), with(3, "u=2") }, "3 3 1 1" },
    { "the default before the less urgent", { with(1, "u=4"), with(3) }, "3 3 1 1" },
    { "turns for incremental ones", { with(1, "i"), with(3, "u=3, i") }, "1 3 1 3" },
    { "no turns between urgencies", { with(1, "u=4, i"), with(3, "u=3, i") }, "3 3 1 1" },
    { "a value that is malformed as none", { with(1, "u=9"), with(3, "u=2") }, "3 3 1 1" },
    { "PRIORITY_UPDATE", { with(1), with(3), frames.priority_update(3, "u=0") }, "3 3 1 1" },
    { "PRIORITY_UPDATE over the field",
      { with(1, "u=1"), with(3, "u=2"), frames.priority_update(1, "u=6") }, "3 3 1 1" },
    { "PRIORITY_UPDATE that came before the request",
      { with(1), frames.priority_update(3, "u=1"), with(3) }, "3 3 1 1" },
    { "PRIORITY_UPDATE before the request over its field",
      { with(1), frames.priority_update(3, "u=1"), with(3, "u=7") }, "3 3 1 1" },
    { "the last PRIORITY_UPDATE", { with(1), with(3), frames.priority_update(3, "u=1"),
      frames.priority_update(3, "u=5") }, "1 1 3 3" },
    { "PRIORITY_UPDATE without values as the default",
      { with(1, "u=5"), with(3), frames.priority_update(1, "") }, "1 1 3 3" },
    { "incremental by PRIORITY_UPDATE", { with(1), with(3), frames.priority_update(1, "i"),
      frames.priority_update(3, "u=3;x=1, i=?1, z=\"u=1\"") }, "1 3 1 3" },
    { "not incremental by PRIORITY_UPDATE", { with(1, "i"), with(3, "i"),
      frames.priority_update(1, "i=?0"), frames.priority_update(3, "i=?0") }, "1 1 3 3" },
    { "the last of what PRIORITY_UPDATE says twice", { with(1), with(3),
      frames.priority_update(1, "u=1, i, u=3, i=?0"), frames.priority_update(3, "i, i=?0") },
      "1 1 3 3" },
    { "no PRIORITY_UPDATE that is too long", { with(1), with(3),
      frames.priority_update(3, "u=1" .. (" "):rep(80)) }, "1 1 3 3" },
    { "no PRIORITY frame", { with(1), with(3),
      frames.frame("PRIORITY", 0, 1, "\x80\0\0\3\0") }, "1 1 3 3" },
  }
  for _, case in ipairs(cases) do
    it("send " .. case[1], function()
      assert.equal(case[3], order(table.unpack(case[2])))
    end)
  end

  it("forget those of streams that begin much later", function()
    local updates = {}
    for id = 3, 25, 2 do
      updates[#updates + 1] = frames.priority_update(id, "u=1")
    end
    assert.equal("1 1 3 3", order(table.concat(updates), with(1), with(3)))
    assert.equal("25 25 1 1", order(table.concat(updates), with(1), with(25)))
  end)

  it("survive updates of streams that are gone, however many", function()
    local peer = h2_probe.open({ max_other_frames = 100000 })
    for id = 1, 2001, 2 do
      assert(peer:feed(frames.priority_update(id, "u=1") .. frames.request(id)
        .. frames.priority_update(id, "u=2")))
      peer.session:respond(id, { content = "x" })
      assert.same({ "HEADERS " .. id, ("DATA %d ."):format(id) }, peer:sent())
      assert(peer:feed(frames.priority_update(id, "u=3")))
    end
    assert.equal(0, peer.session:state().streams)
  end)

  it("change while content is sent", function()
    local peer = asked(1, 3)
    peer.session:respond(1, { content = ("x"):rep(30000) })
    peer.session:respond(3, { content = ("x"):rep(30000) })
    assert.same({ "HEADERS 1", "HEADERS 3", "DATA 1" }, h2_probe.describe(peer:frames(1000)))
    assert(peer:feed(frames.priority_update(3, "u=0")))
    local sent = peer:sent()
    assert.same({ "DATA 3", "DATA 3 .", "DATA 1 ." }, sent)
  end)
end)
