--- HTTPS servers under test, and openssl's client as their peer.
local await = require("spec.support.await")
local json = require("moonquay.core").json
local peer = require("spec.support.peer")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys

local secure = {}
local Session = {}
Session.__index = Session

local DEADLINE = server.sanitized and 30 or 10

--- Says what it sees of a connection.
secure.FACTS = [[
return function(req)
  local tls = req.tls
  if not tls then
    return { tls = false }
  end
  return { version = tls.version, cipher = tls.cipher, group = tls.group, sni = tls.sni,
    alpn = tls.alpn, resumed = tls.resumed, certificate = tls.client_certificate,
    scheme = req.scheme, client = req.client.ip }
end]]

--- Starts a server. options as for server.start, and: tls (the text of the setting), urls
-- ("https://127.0.0.1:PORT"), set ({ "key=value", … }). PORT stands for a free port in both.
function secure.start(options)
  local port = ports.free()
  local words = { "--log-level", "debug", "--urls",
    ((options.urls or "https://127.0.0.1:PORT"):gsub("PORT", port)), "--set",
    "tls=" .. options.tls:gsub("PORT", port) }
  for _, pair in ipairs(options.set or {}) do
    table.move({ "--set", pair }, 1, 2, #words + 1, words)
  end
  table.move(options.options or {}, 1, #(options.options or {}), #words + 1, words)
  local all = {}
  for key, value in pairs(options) do
    all[key] = value
  end
  all.options = words
  all.app = options.app or secure.FACTS
  local s = server.start(all)
  s.port = port
  return s
end

--- A binding as text, of files that certs made: names and values, then those of more.
function secure.binding(made, more)
  local words = { "certificate=" .. (made.chain or made.cert), "key=" .. made.key }
  for key, value in pairs(more or {}) do
    words[#words + 1] = key .. "=" .. value
  end
  return table.concat(words, " ")
end

local function client_words(s, options)
  local words = { "openssl", "s_client", "-ign_eof", "-connect",
    ("%s:%d"):format(options.address or "127.0.0.1", s.port) }
  if options.sni then
    table.move({ "-servername", options.sni }, 1, 2, #words + 1, words)
  else
    words[#words + 1] = "-noservername"
  end
  return table.move(options, 1, #options, #words + 1, words)
end

--- A request that ends its connection.
function secure.request(path, host)
  return ("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n"):format(path or "/",
    host or "a.test")
end

--- One connection with one request by openssl s_client. options: sni, address, request, host, and
-- further words of s_client. Returns what the client said: { exit =, text = (both outputs), leaf =
-- (the common name that the server showed), status =, json = (the answer, when it is such) }.
function secure.ask(s, options)
  local request = options.request or secure.request("/", options.host or options.sni)
  local result = peer.run(client_words(s, options), request)
  local text = result.stdout .. result.stderr
  local body = result.stdout:match("HTTP/1%.1 200 OK\r\n.-\r\n\r\n(%b{})")
  return {
    exit = result.exit,
    text = text,
    leaf = result.stdout:match("\n 0 s:CN = ([^\n]+)"),
    status = tonumber(result.stdout:match("HTTP/1%.1 (%d%d%d) ")),
    json = body and json.decode(body),
    alert = text:match("alert ([%a ]+):"),
    number = tonumber(text:match("SSL alert number (%d+)")),
  }
end

--- A connection by s_client that stays open: session:send, :read_until, :closed, :close.
function secure.open(s, options)
  options = table.move(options, 1, #options, 1,
    { sni = options.sni, address = options.address, table.unpack(options) })
  options[#options + 1] = "-quiet"
  local pid, out, err, input = sys.spawn(client_words(s, options), { env = { LD_PRELOAD = false } })
  assert(pid, out)
  return setmetatable({ pid = pid, out = out, err = err, input = input, buffer = "" }, Session)
end

--- Sends all of the bytes.
function Session:send(bytes)
  local until_time = sys.monotonic() + DEADLINE
  while #bytes > 0 do
    local written = sys.write(self.input, bytes) or 0
    bytes = bytes:sub(written + 1)
    assert(#bytes == 0 or sys.monotonic() < until_time, "the client does not take what is sent")
    if #bytes > 0 then
      sys.poll({ self.out }, 5)
    end
  end
  return self
end

--- Bytes up to and with the first match of a pattern; raises at the end or the deadline.
function Session:read_until(pattern)
  local until_time = sys.monotonic() + DEADLINE
  while true do
    local _, last = self.buffer:find(pattern)
    if last then
      local bytes = self.buffer:sub(1, last)
      self.buffer = self.buffer:sub(last + 1)
      return bytes
    end
    local left = until_time - sys.monotonic()
    local ready = left > 0 and sys.poll({ self.out }, math.ceil(left * 1000)) or {}
    local piece = #ready > 0 and sys.read(self.out, 65536, 0) or nil
    if not piece or piece == "" then
      error(("read_until %q: %s; received: %q"):format(pattern,
        left <= 0 and "the deadline" or "the end", self.buffer), 2)
    end
    self.buffer = self.buffer .. piece
  end
end

--- Waits until the client has ended, because the server has; returns its standard error.
function Session:ended()
  local status = sys.waitpid(self.pid, DEADLINE * 1000)
  assert(status, "the client does not end")
  self.status = status
  local text = sys.read(self.err, 65536, 0) or ""
  self:close()
  return text
end

function Session:close()
  if not self.status then
    sys.kill(self.pid, "KILL")
    self.status = sys.waitpid(self.pid, DEADLINE * 1000)
  end
  for _, name in ipairs({ "out", "err", "input" }) do
    if self[name] then
      sys.close(self[name])
      self[name] = nil
    end
  end
end

--- The counters of a server, and its reasons.
function secure.counters(s)
  local result = server.run({ "status", "--json", tostring(s.pid),
    env = { XDG_RUNTIME_DIR = s.runtime_dir } })
  assert(result.status == 0, result.stderr)
  local status = json.decode(result.stdout)
  return status.counters, status.reasons
end

--- Waits until a counter has this value.
function secure.await_counter(s, name, value)
  await(("%s = %d"):format(name, value), function()
    return secure.counters(s)[name] == value
  end)
end

return secure
