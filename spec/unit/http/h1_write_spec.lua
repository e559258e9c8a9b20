local http = require("moonquay.probe").http

describe("h1 response head (RFC 9112 section 4)", function()
  local cases = {
    { "a known length", { framing = "known", length = 13, date = "D", server = "s" },
      "HTTP/1.1 200 OK\r\nDate: D\r\nServer: s\r\nContent-Length: 13\r\n\r\n" },
    { "a length of zero", { framing = "known", length = 0 },
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
    { "the largest length", { framing = "known", length = math.maxinteger },
      "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n" },
    { "no length", { framing = "absent" }, "HTTP/1.1 200 OK\r\n\r\n" },
    { "chunks", { framing = "chunked" },
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" },
    { "an end by close", { framing = "close", close = true },
      "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" },
    { "keep-alive for HTTP/1.0", { framing = "known", length = 1, keep_alive_10 = true },
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n" },
    { "close, which wins over keep-alive", { close = true, keep_alive_10 = true },
      "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" },
    { "another status with its phrase", { status = 404 }, "HTTP/1.1 404 Not Found\r\n\r\n" },
    { "a status without phrase", { status = 901 }, "HTTP/1.1 901 \r\n\r\n" },
    { "a phrase of the handler", { status = 200, reason = "Fine" }, "HTTP/1.1 200 Fine\r\n\r\n" },
    { "an empty phrase of the handler", { status = 404, reason = "" }, "HTTP/1.1 404 \r\n\r\n" },
    { "no length with 204", { status = 204, framing = "known", length = 5 },
      "HTTP/1.1 204 No Content\r\n\r\n" },
    { "no coding with 204", { status = 204, framing = "chunked" },
      "HTTP/1.1 204 No Content\r\n\r\n" },
    { "no length with 101", { status = 101, framing = "known" },
      "HTTP/1.1 101 Switching Protocols\r\n\r\n" },
    { "the length of a 304", { status = 304, framing = "known", length = 5 },
      "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n" },
  }
  for _, case in ipairs(cases) do
    it("writes " .. case[1], function()
      assert.equal(case[3], http.write_head(case[2]))
    end)
  end

  it("writes fields in their order and spelling", function()
    local fields = http.fields({ { "X-b", "1" }, { "X-A", "" }, { "x-B", "2" } })
    local expected = "HTTP/1.1 200 OK\r\nDate: D\r\n" ..
      "X-b: 1\r\nX-A: \r\nx-B: 2\r\nContent-Length: 0\r\n\r\n"
    assert.equal(expected, http.write_head({ fields = fields, date = "D", framing = "known" }))
  end)

  it("writes no framing and no Connection but its own", function()
    local fields = http.fields({
      { "Content-Length", "99" }, { "transfer-encoding", "gzip" }, { "CONNECTION", "x" },
      { "X", "y" }, { "content-length", "98" },
    })
    assert.equal("HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
      http.write_head({ fields = fields, framing = "known", length = 3, close = true }))
    assert.equal("HTTP/1.1 200 OK\r\nX: y\r\n\r\n", http.write_head({ fields = fields }))
  end)

  it("writes no second Date or Server", function()
    local fields = http.fields({ { "date", "mine" }, { "SERVER", "me" } })
    assert.equal("HTTP/1.1 200 OK\r\ndate: mine\r\nSERVER: me\r\n\r\n",
      http.write_head({ fields = fields, date = "D", server = "s" }))
  end)

  it("writes a head far longer than a buffer's first room", function()
    local lines, expected = {}, { "HTTP/1.1 200 OK\r\n" }
    for i = 1, 300 do
      lines[i] = { "X-" .. i, ("v"):rep(i) }
      expected[i + 1] = ("X-%d: %s\r\n"):format(i, ("v"):rep(i))
    end
    assert.equal(table.concat(expected) .. "\r\n",
      http.write_head({ fields = http.fields(lines) }))
  end)
end)

describe("h1 interim response (RFC 9110 section 15.2)", function()
  it("is a status line, its fields and nothing of a length", function()
    assert.equal("HTTP/1.1 100 Continue\r\n\r\n", http.write_interim(100))
    local fields = http.fields({ { "Link", "</a.css>; rel=preload" }, { "Content-Length", "5" } })
    assert.equal("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
      http.write_interim(103, fields))
  end)
end)

describe("h1 chunks (RFC 9112 section 7.1)", function()
  it("are size, data and line end", function()
    assert.equal("5\r\nhello\r\n", http.write_chunk("hello"))
    assert.equal("10\r\n0123456789abcdef\r\n", http.write_chunk("0123456789abcdef"))
    assert.equal("fffff\r\n" .. ("x"):rep(0xFFFFF) .. "\r\n", http.write_chunk(("x"):rep(0xFFFFF)))
  end)

  it("are never empty, which would end the content", function()
    assert.equal("", http.write_chunk(""))
  end)

  it("end with the last chunk and the trailers", function()
    assert.equal("0\r\n\r\n", http.write_end())
    assert.equal("0\r\nX: y\r\nZ: \r\n\r\n",
      http.write_end(http.fields({ { "X", "y" }, { "Content-Length", "5" }, { "Z", "" } })))
  end)

  it("are read back by the reader", function()
    local head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    local text = head .. http.write_chunk("hello ") .. http.write_chunk("world") ..
      http.write_end(http.fields({ { "X-Sum", "1" } }))
    assert.same({ "hello world", { { "X-Sum", "1" } }, #text }, { http.read_content({ text }) })
  end)
end)
