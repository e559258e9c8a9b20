local socket = require("socket")

local client_of = require("spec.support.client")
local h2 = require("spec.support.h2_client")
local sys = require("moonquay.probe").sys
local timed = require("spec.support.timed")

local frames = h2.frames

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()

local function endless(req, res)
  local piece = ("x"):rep(65536)
  local ok, err
  repeat
    ok, err = res:write(piece)
  until not ok
  moonquay.log.info("the writer for " .. req.query.name .. " got " .. err.code .. ".")
end

app:any("/", function() return "ok" end)
app:get("/endless", endless)
app:get("/off", { min_send_bytes_per_second = "off" }, endless)
app:get("/request/:rate", function(req, res)
  req.limits.min_send_bytes_per_second = tonumber(req.params.rate) or req.params.rate
  return endless(req, res)
end)
app:get("/finished", function() return ("x"):rep(100000) end)
app:get("/ends-late", function(_, res)
  res:write(("x"):rep(65535)) -- a window
  res:flush()
  moonquay.sleep(0.1)
end)
app:get("/slow", function(_, res)
  while res:write("x") and res:flush() do
    moonquay.sleep(0.1)
  end
end)
return app]]

local SECONDS = 55 -- a stream is judged after 30 s, a connection after its window, too

-- Each stream: what it asks for, how many bytes a second it gets room for behind its first window,
-- and whether it is dropped. All are on one connection, whose own window never closes.
local streams = {
  takes_400 = { "/endless", rate = 400 },
  takes_50 = { "/endless", rate = 50, dropped = true },
  takes_nothing = { "/endless", rate = 0, dropped = true },
  takes_nothing_of_what_is_finished = { "/finished", rate = 0, dropped = true, finished = true },
  takes_all_but_the_end = { "/ends-late", rate = 0, dropped = true, finished = true },
  takes_50_of_another_request_at_20 = { "/request/20", rate = 50 },
  takes_400_where_the_request_wants_1000 = { "/request/1000", rate = 400, dropped = true },
  takes_nothing_of_a_request_that_is_off = { "/request/off", rate = 0 },
  takes_nothing_of_a_route_that_is_off = { "/off", rate = 0 },
  has_a_slow_handler = { "/slow", rate = 1000 },
}

-- Each connection: the streams of a client that reads nothing at all, and whether it is dropped.
local connections = {
  reads_nothing = { "/endless", "/endless", dropped = true },
  reads_nothing_with_one_stream_that_is_off = { "/endless", "/off" },
}

-- One whose socket holds little.
local function connect_small(s)
  local connection = client_of.connect(s.host, s.port)
  local tcp = socket.tcp4()
  tcp:settimeout(5)
  assert(tcp:setoption("recv-buffer-size", 2304))
  assert(tcp:connect(s.host, s.port))
  connection.tcp:close()
  connection.tcp = tcp
  return h2.over(connection, { window = 1 << 30, settings = { INITIAL_WINDOW_SIZE = 1 << 30 } })
end

describe("The minimum send rate of a stream (reference section 13)", function()
  local s, client, log

  lazy_setup(function()
    s = timed.start(APP, "h2.cleartext=true")
    client = h2.connect(s, { credit = false, window = 1 << 30 })
    for name, stream in pairs(streams) do
      stream.id, stream.given = client:open(stream[1] .. "?name=" .. name), 0
    end
    for name, row in pairs(connections) do
      row.client = connect_small(s)
      for _, path in ipairs(row) do
        row.client:open(path .. "?name=" .. name)
      end
    end
    local since = sys.monotonic()
    while sys.monotonic() - since < SECONDS do
      for _, stream in pairs(streams) do
        local due = math.floor(stream.rate * (sys.monotonic() - since)) - stream.given
        if due > 0 and not client:stream(stream.id).reset then
          client:send(frames.window_update(stream.id, due))
          stream.given = stream.given + due
        end
      end
      while client:readable(0.1) do
        assert(client:frame(), client.ended)
      end
    end
    log = s:stderr()
  end)

  lazy_teardown(function()
    for _, row in pairs(connections) do
      row.client:close()
    end
    client:close()
    assert.equal(0, s:stop())
    timed.stop_all()
  end)

  for name, stream in pairs(streams) do
    it(("%s one that %s"):format(stream.dropped and "drops" or "keeps", name:gsub("_", " ")),
      function()
        assert.equal(stream.dropped and "CANCEL" or nil, client:stream(stream.id).reset)
        local line = ("stream_closed [^\n]*reason=([%%w_]+) connection=%%d+ stream=%d "):format(
          stream.id)
        assert.equal(stream.dropped and "Timer_MinBytesPerSecond" or nil, log:match(line))
        local told = s.http_log:read("http.log") or ""
        local in_log = told:find((" %d - - Timer_MinBytesPerSecond -\n"):format(stream.id), 1, true)
        assert.equal(stream.dropped or false, in_log ~= nil, told)
        if stream.dropped and not stream.finished then
          assert.truthy(log:find(("the writer for %s got timeout."):format(name), 1, true), log)
        end
      end)
  end

  for name, row in pairs(connections) do
    it(("%s a connection that %s"):format(row.dropped and "drops" or "keeps", name:gsub("_", " ")),
      function()
        local _, port = row.client.connection.tcp:getsockname()
        local line = "connection_closed [^\n]*reason=([%w_]+) [^\n]*:" .. port .. "\n"
        assert.equal(row.dropped and "Timer_MinBytesPerSecond" or nil, log:match(line))
        local told = log:find("writer for " .. name .. " got", 1, true) ~= nil
        assert.equal(row.dropped or false, told)
      end)
  end

  it("counts each drop, and the connection goes on", function()
    local dropped = 1 -- a connection
    for _, stream in pairs(streams) do
      dropped = dropped + (stream.dropped and 1 or 0)
    end
    assert.equal(dropped, timed.reasons(s).Timer_MinBytesPerSecond)
    assert.equal("ok", client:request("/").body)
    assert.is_nil(client.goaways)
  end)
end)
