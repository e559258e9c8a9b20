local http = require("moonquay.probe").http
local pieces = require("spec.support.pieces")

local HOST = "Host: h\r\n"
local GET = "GET / HTTP/1.1\r\n" .. HOST
local POST = "POST / HTTP/1.1\r\n" .. HOST
local CHUNKED = POST .. "Transfer-Encoding: chunked\r\n\r\n"

-- Small, so that each of them is passed by one of the messages.
local LIMITS = {
  max_request_head_bytes = 160, max_target_bytes = 40, max_field_length = 50,
  max_authorization_length = 70, max_fields = 6, url_segment_max_length = 20,
}

local messages = {
  -- good
  GET .. "\r\n",
  "\r\n\r\n" .. GET .. "\r\n",
  GET .. "\r\nGET /next HTTP/1.1\r\n\r\n",
  "GET /a/../b%20c?d HTTP/1.1\r\n" .. HOST .. "Accept: */*\r\nX:\r\nConnection: close\r\n\r\n",
  "OPTIONS * HTTP/1.1\r\n" .. HOST .. "\r\n",
  "CONNECT h:443 HTTP/1.1\r\n" .. HOST .. "\r\n",
  "GET http://x:80/a HTTP/1.1\r\n" .. HOST .. "\r\n",
  "GET / HTTP/1.0\r\n\r\n",
  "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
  GET .. "Authorization: " .. ("t"):rep(55) .. "\r\n\r\n",
  GET .. "X: " .. ("v"):rep(47) .. "\r\n\r\n",
  POST .. "Content-Length: 5\r\n\r\nhello",
  POST .. "Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET",
  CHUNKED .. "0\r\n\r\n",
  CHUNKED .. "5\r\nhello\r\n6;a=\"b c\"\r\n\r\nworl\r\n0\r\n\r\n",
  CHUNKED .. "5\r\nhello\r\n0\r\nX: y\r\nTE: z\r\nAuthorization: " .. ("t"):rep(50) ..
    "\r\n\r\nPUT",
  -- unfinished
  "", "\r", "\r\n", "G", GET, GET .. "X", GET .. "X: y\r", GET .. "X: y\r\n\r",
  POST .. "Content-Length: 5\r\n\r\nhell", CHUNKED, CHUNKED .. "5", CHUNKED .. "5\r",
  CHUNKED .. "5\r\nhello", CHUNKED .. "5\r\nhello\r", CHUNKED .. "0\r\nX: y\r\n",
  -- bad
  "\n" .. GET .. "\r\n",
  "\r\r\n" .. GET .. "\r\n",
  "GET  / HTTP/1.1\r\n" .. HOST .. "\r\n",
  "GET /\r HTTP/1.1\r\n" .. HOST .. "\r\n",
  "GET /\n HTTP/1.1\r\n" .. HOST .. "\r\n",
  "GET / HTTP/2.0\r\n" .. HOST .. "\r\n",
  "GET /.. HTTP/1.1\r\n" .. HOST .. "\r\n",
  ("M"):rep(33) .. " / HTTP/1.1\r\n" .. HOST .. "\r\n",
  "GET /" .. ("x"):rep(40) .. " HTTP/1.1\r\n" .. HOST .. "\r\n",
  "GET /" .. ("x"):rep(200),
  ("M"):rep(82) .. "\r\n", ("M"):rep(82) .. "\rM\r\n",
  ("M"):rep(83) .. "\r\n", ("M"):rep(83) .. "\n",
  "GET / HTTP/1.1\r\n\r\n",
  GET .. HOST .. "\r\n",
  GET .. " X: y\r\n\r\n",
  GET .. "X : y\r\n\r\n",
  GET .. "X: y\n\r\n",
  GET .. "X: y\rz\r\n\r\n",
  GET .. "X: y\r\r\n\r\n",
  GET .. "X: \0\r\n\r\n",
  GET .. "X: y\r\n z\r\n\r\n",
  GET .. "X: " .. ("v"):rep(48) .. "\r\n\r\n",
  GET .. "X: " .. ("v"):rep(48) .. "\n\r\n",
  GET .. "X: " .. ("v"):rep(47) .. "\r\r\n\r\n",
  GET .. "X: " .. ("v"):rep(500),
  GET .. "Authorization: " .. ("t"):rep(56) .. "\r\n\r\n",
  GET .. "Authorizatiom: " .. ("t"):rep(36) .. "\r\n\r\n",
  GET .. "Authorization: " .. ("t"):rep(500),
  GET .. ("X: " .. ("v"):rep(40) .. "\r\n"):rep(3) .. "\r\n",
  GET .. ("X: " .. ("v"):rep(40) .. "\r\n"):rep(2) .. "Y: " .. ("v"):rep(39) .. "\r\n\r\n",
  GET .. ("X:\r\n"):rep(6) .. "\r\n",
  GET .. ("X:\r\n"):rep(5) .. "\n",
  ("\r\n"):rep(100),
  POST .. "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
  POST .. "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
  POST .. "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
  POST .. "Expect: else\r\n\r\n",
  CHUNKED .. "5\nhello\r\n0\r\n\r\n",
  CHUNKED .. "5;a\rb\r\nhello\r\n0\r\n\r\n",
  CHUNKED .. "5\r\nhellox\r\n0\r\n\r\n",
  CHUNKED .. "5\r\nhello\rx0\r\n\r\n",
  CHUNKED .. "5\r\nhello\n0\r\n\r\n",
  CHUNKED .. "8000000000000000\r\n",
  CHUNKED .. "0\r\nX : y\r\n\r\n",
  CHUNKED .. "0\r\nHost: y\r\n\r\n",
  CHUNKED .. "0\r\nX: " .. ("v"):rep(48) .. "\r\n\r\n",
  CHUNKED .. "0\r\n" .. ("X: " .. ("v"):rep(46) .. "\r\n"):rep(4) .. "\r\n",
  CHUNKED .. "0\r\n\r\r\n",
}

--- All that both readers say of a message in these pieces.
local function answer(list)
  return { head = table.pack(http.read_head(list, LIMITS)),
    content = table.pack(http.read_content(list, LIMITS)) }
end

describe("h1 readers, however the bytes are split", function()
  for number, text in ipairs(messages) do
    it(("give one answer to message %d: %q"):format(number, text:sub(1, 60)), function()
      local whole = answer({ text })
      for _, size in ipairs({ 1, 2, 3, 7 }) do
        assert.same(whole, answer(pieces(text, size)), ("in pieces of %d"):format(size))
      end
      for at = 0, #text do
        local two = { text:sub(1, at), text:sub(at + 1) }
        assert.same(whole, answer(two), ("split at %d"):format(at))
      end
    end)
  end

  it("give one answer to each message cut off at each byte", function()
    for _, text in ipairs(messages) do
      for to = 0, #text do
        local part = text:sub(1, to)
        assert.same(answer({ part }), answer(pieces(part, 1)), ("%q"):format(part))
      end
    end
  end)

  it("give one answer to each message with one byte changed", function()
    local bytes = { "\r", "\n", "\0", " ", ":", "v", "\xFF" }
    for number, text in ipairs(messages) do
      for at = 1, #text do
        local other = text:sub(1, at - 1) .. bytes[(at + number) % #bytes + 1] .. text:sub(at + 1)
        assert.same(answer({ other }), answer(pieces(other, 1)), ("%q"):format(other))
      end
    end
  end)
end)
