local apps = require("spec.support.apps")
local json = require("moonquay.core").json
local server = require("spec.support.server")
local socket = require("socket")
local sys = require("moonquay.probe").sys
local timed = require("spec.support.timed")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app({
  url_prefixes = { "URL/NAME/" },
  timeouts = { min_send_bytes_per_second = RATE },
})

local function endless(req, res)
  local piece = ("x"):rep(65536)
  local ok, err
  repeat
    ok, err = res:write(piece)
  until not ok
  moonquay.log.info("the writer for " .. req.query.name .. " got " .. err.code .. ".")
end

app:any("/", function() return "ok" end)
app:any("/endless", endless)
app:get("/off", { min_send_bytes_per_second = "off" }, endless)
app:get("/request/:rate", function(req, res)
  req.limits.min_send_bytes_per_second = tonumber(req.params.rate) or req.params.rate
  return endless(req, res)
end)
app:get("/slow", function(_, res)
  while res:write("x") and res:flush() do
    moonquay.sleep(0.1)
  end
end)
app:put("/rate/:value", function(req)
  app.settings.timeouts.min_send_bytes_per_second = req.params.value
  return 204
end)
return app]]

local SECONDS = 60 -- a peer is judged after 30 s and its window at the least rate, here 45 s
local WINDOW = 2304

-- Each: what it asks for, how many bytes a second it reads (from a second on), what it sends all
-- the time, and whether it is dropped. Those that are must be slower than the rate, 150 unless the
-- path says another; the others must be faster, or free.
local peers = {
  reads_400 = { "/rated/endless", rate = 400 },
  reads_50 = { "/rated/endless", rate = 50, dropped = true },
  reads_nothing = { "/rated/endless", rate = 0, dropped = true },
  only_sends_content = { "/rated/endless", rate = 0, sends = "x", length = 1000000,
    dropped = true },
  only_sends_requests = { "/rated/endless", rate = 0, sends = timed.request("/rated/"),
    dropped = true },
  stops_for_20_s = { "/rated/endless", rate = 1000, from = 20 },
  reads_50_of_another_request_at_20 = { "/rated/request/20", rate = 50 },
  reads_400_where_the_request_wants_1000 = { "/rated/request/1000", rate = 400, dropped = true },
  reads_nothing_of_a_request_that_is_off = { "/rated/request/off", rate = 0 },
  reads_nothing_of_a_route_that_is_off = { "/rated/off", rate = 0 },
  reads_nothing_of_an_app_that_is_off = { "/free/endless", rate = 0 },
  only_sends_to_an_app_that_is_off = { "/free/endless", rate = 0, sends = "x",
    length = 1000000 },
  reads_nothing_once_it_is_off = { "/changed/endless", rate = 0, changed = true },
  has_a_slow_handler = { "/rated/slow", rate = math.huge },
}

-- A peer whose window was small from the first packet on.
local function connect(peer)
  local tcp = socket.tcp4()
  tcp:settimeout(5)
  assert(tcp:setoption("recv-buffer-size", WINDOW))
  assert(tcp:connect(apps.ip, apps.port))
  local ip, port = tcp:getsockname()
  peer.tcp, peer.ip, peer.port, peer.got = tcp, ip, port, 0
end

local function ask(name, peer)
  local content = peer.length and ("Content-Length: %d\r\n"):format(peer.length) or ""
  assert(peer.tcp:send(("%s %s?name=%s HTTP/1.1\r\nHost: h\r\n%s\r\n"):format(
    peer.length and "POST" or "GET", peer[1], name, content)))
  peer.tcp:settimeout(0)
end

-- Reads what the rate allows until now and sends a little. What has ended stays so.
local function go_on(peer, seconds)
  local allowed = math.min(peer.rate * math.max(seconds - (peer.from or 0), 0), 1 << 30)
  local due = math.floor(allowed) - peer.got
  if due > 0 and not peer.ended then
    local bytes, err, part = peer.tcp:receive(math.min(due, 65536))
    peer.got = peer.got + #(bytes or part or "")
    peer.ended = not bytes and err ~= "timeout"
  end
  if peer.sends then
    peer.tcp:send(peer.sends)
  end
end

describe("The minimum send rate (reference section 13, DESIGN section 5)", function()
  local s, log

  lazy_setup(function()
    local words, dir = timed.words({ "timeouts.idle_connection=3600" })
    local files = {}
    for name, rate in pairs({ rated = "nil", free = '"off"', changed = "150" }) do
      files[#files + 1] = name .. ".lua"
      files[#files + 1] = APP:gsub("NAME", name):gsub("RATE", rate)
    end
    s = timed.watch(apps.start(files, words), dir)
    for _, peer in pairs(peers) do
      connect(peer)
      if peer.changed then
        local setter = apps.connect()
        assert.equal(204, setter:request("PUT", "/changed/rate/off").status)
        setter:close()
      end
    end
    for name, peer in pairs(peers) do
      ask(name, peer)
    end
    local since = sys.monotonic()
    while sys.monotonic() - since < SECONDS do
      for _, peer in pairs(peers) do
        go_on(peer, sys.monotonic() - since)
      end
      sys.poll({}, 50)
    end
    log = s:stderr()
  end)

  lazy_teardown(function()
    for _, peer in pairs(peers) do
      if peer.tcp then
        peer.tcp:close()
      end
    end
    apps.stop_all()
    timed.stop_all()
  end)

  for name, peer in pairs(peers) do
    it(("%s who %s"):format(peer.dropped and "drops" or "keeps", name:gsub("_", " ")), function()
      local line = ("connection_closed [^\n]*reason=([%%w_]+) connection=%%d+ peer=%s:%d\n"):format(
        peer.ip:gsub("%.", "%%."), peer.port)
      local reason = log:match(line)
      local told = s.http_log:read("http.log") or ""
      local in_http_log = told:find((" %s %d "):format(peer.ip, peer.port), 1, true) ~= nil
      assert.equal(peer.dropped and "Timer_MinBytesPerSecond" or nil, reason)
      assert.equal(peer.dropped or false, in_http_log, told)
      if peer.dropped then
        assert.truthy(log:find(("the writer for %s got timeout."):format(name), 1, true), log)
      else
        assert.is_false(peer.ended or false)
      end
    end)
  end

  it("counts each drop, and keeps serving", function()
    local dropped = 0
    for _, peer in pairs(peers) do
      dropped = dropped + (peer.dropped and 1 or 0)
    end
    assert.equal(dropped, timed.reasons(s).Timer_MinBytesPerSecond)
    assert.equal("ok", apps.get("/rated/").body)
  end)

  it("is the setting of that name, 150 unless it is changed", function()
    local result = server.run({ "status", "--json", tostring(s.pid),
      env = { XDG_RUNTIME_DIR = s.runtime_dir } })
    local rates = {}
    for _, app in ipairs(json.decode(result.stdout).apps) do
      rates[app.name:match("[^/]+$")] = app.settings["timeouts.min_send_bytes_per_second"]
    end
    assert.same({ ["rated.lua"] = "150", ["free.lua"] = "off", ["changed.lua"] = "off" }, rates)
  end)
end)
