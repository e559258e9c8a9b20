local await = require("spec.support.await")
local h2 = require("spec.support.h2_client")
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local frames = h2.frames

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
app:get("/a", function() return "hello" end)
app:post("/p", function(req) return req:text() end)
app:get("/fail", function() error("oops") end)
app:get("/abort", function(req) req:abort() end)
app:get("/breaks", function(_, res)
  res:write("part")
  res:flush()
  error("oops")
end)
app:get("/waits", function(_, res)
  res:write("part")
  res:flush()
  moonquay.log.info("it waits")
  moonquay.sleep(60)
end)
app:post("/short", function(req) return (assert(req:text(2))) end)
return app]]

-- What differs from run to run.
local function plain(text)
  return (text
    :gsub("%d%d/%a%a%a/%d%d%d%d:%d%d:%d%d:%d%d %+0000", "TIME")
    :gsub("%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ", "TIME")
    :gsub("%x%x%x%x%x%x%x%x%x%x%x%x%-%x+", "ID")
    :gsub('"duration_ms":[%d.]+', '"duration_ms":MS'))
end

local function lines_of(dir, name, count)
  local text = ""
  pcall(await, "lines", function()
    text = dir:read(name) or ""
    return select(2, text:gsub("\n", "")) >= count
  end)
  return text
end

describe("HTTP/2 in the logs:", function()
  local dir, s, client
  before_each(function()
    dir = temp.dir()
  end)
  after_each(function()
    client:close()
    assert.equal(0, s:stop())
    dir:remove()
  end)

  local function start(...)
    s = server.start({ app = APP, options = { "--set", "h2.cleartext=true", "--access-log",
      dir.path .. "/access", "--set", "http_error_log=" .. dir.path .. "/errors", ... } })
    client = h2.connect(s)
  end

  local function ask()
    client:request("/a?b=%22c", { { "user-agent", 'say "x"' }, { "referer", "http://r/" } })
    client:request("/p", { method = "POST", body = "12345" })
  end

  it("the access log has a combined line for each stream", function()
    start()
    ask()
    assert.equal('127.0.0.1 - - [TIME] "GET /a?b=%22c HTTP/2" 200 5 "http://r/" "say \\"x\\"" ID\n'
      .. '127.0.0.1 - - [TIME] "POST /p HTTP/2" 200 5 "-" "-" ID\n',
      plain(lines_of(dir, "access", 2)))
  end)

  it("the access log has a JSON line for each stream", function()
    start("--access-log-format", "json")
    ask()
    assert.equal('{"time":"TIME","id":"ID","client":"127.0.0.1","user":null,"method":"GET",'
      .. '"host":"test","target":"/a?b=%22c","protocol":"HTTP/2","status":200,'
      .. '"request_bytes":0,"response_bytes":5,"duration_ms":MS,"referer":"http://r/",'
      .. '"user_agent":"say \\"x\\"","aborted":false}\n'
      .. '{"time":"TIME","id":"ID","client":"127.0.0.1","user":null,"method":"POST",'
      .. '"host":"test","target":"/p","protocol":"HTTP/2","status":200,"request_bytes":5,'
      .. '"response_bytes":5,"duration_ms":MS,"referer":null,"user_agent":null,'
      .. '"aborted":false}\n', plain(lines_of(dir, "access", 2)))
  end)

  -- What is asked for, the end of its line in the access log, and of that in the HTTP error log.
  local function get(path)
    return function()
      client:request(path)
    end
  end
  local cases = {
    { "an answer", get("/a"), '"GET /a HTTP/2" 200 5 "-" "-" ID' },
    { "a failure", get("/fail"), '"GET /fail HTTP/2" 500 BYTES "-" "-" ID' },
    { "an abort", get("/abort"), '"GET /abort HTTP/2" 000 0 "-" "-" ID aborted',
      "HTTP/2 GET /abort 1 - - Request_Cancelled -" },
    { "a broken answer", get("/breaks"), '"GET /breaks HTTP/2" 200 4 "-" "-" ID aborted',
      "HTTP/2 GET /breaks 1 - - Request_Cancelled -" },
    { "a client that resets", function()
      local id = client:open("/waits?x")
      client:body(id, 4)
      client:send(frames.rst_stream(id, "CANCEL"))
      client:settle()
    end, '"GET /waits?x HTTP/2" 200 4 "-" "-" ID aborted',
      "HTTP/2 GET /waits?x 1 - - Connection_Dropped -" },
    { "a client that leaves", function()
      client:body(client:open("/waits"), 4)
      client:reset()
    end, '"GET /waits HTTP/2" 200 4 "-" "-" ID aborted',
      "HTTP/2 GET /waits 1 - - Connection_Dropped -" },
    { "a long field", function()
      client:request("/a", { { "x", ("x"):rep(17000) } })
    end, '"GET /a HTTP/2" 431 BYTES "-" "-" ID', "HTTP/2 GET /a 1 431 - FieldLength -" },
    { "two hosts", function()
      client:request("/a", { { "host", "other" } })
    end, '"GET /a HTTP/2" 400 BYTES "-" "-" ID', "HTTP/2 GET /a 1 400 - Hostname -" },
    { "too much content", function()
      client:request("/short", { method = "POST", body = "abc" })
    end, '"POST /short HTTP/2" 413 BYTES "-" "-" ID' },
    { "a later stream", function()
      client:open("/a")
      client:request("/a/../../b")
    end, '"GET /a/../../b HTTP/2" 403 BYTES "-" "-" ID',
      "HTTP/2 GET /a/../../b 3 403 - Forbidden -" },
  }
  for _, case in ipairs(cases) do
    it("have what became of " .. case[1], function()
      start()
      local _, port = client.connection.tcp:getsockname()
      case[2]()
      local text = ""
      pcall(await, "a line", function()
        text = plain(dir:read("access") or ""):gsub("(HTTP/2\" [45]%d%d) %d+", "%1 BYTES")
        return text:find(case[3] .. "\n", 1, true)
      end)
      assert.truthy(text:find("[TIME] " .. case[3] .. "\n", 1, true), text)
      local errors = lines_of(dir, "errors", case[4] and 5 or 4)
      if case[4] then
        local address = (" 127.0.0.1 %s 127.0.0.1 %d "):format(port, s.port)
        assert.truthy(errors:find(address .. case[4] .. "\n", 1, true), errors)
      end
      local _, lines = errors:gsub("\n", "")
      assert.equal(case[4] and 5 or 4, lines, errors) -- four of them are comments
    end)
  end

  it("have what http_503_verbosity=basic refused without a word", function()
    start("--set", "enabled=false", "--set", "http_503_verbosity=basic", "--set",
      "request_queue_name=shop")
    client:request("/a")
    assert.equal('127.0.0.1 - - [TIME] "GET /a HTTP/2" 000 0 "-" "-" ID aborted\n',
      plain(lines_of(dir, "access", 1)))
    assert.truthy(lines_of(dir, "errors", 5):find(" HTTP/2 GET /a 1 503 - Disabled shop\n", 1,
      true))
  end)

  it("have the same id for a request: access log, error log, answer", function()
    start()
    local id = client:request("/fail").body:match("%x+%-%x+")
    assert.is_truthy(id)
    s:await("request=" .. id:gsub("%-", "%%-"))
    assert.truthy(lines_of(dir, "access", 1):find(id, 1, true))
  end)

  it("have a line for what ends a connection, of no stream", function()
    start()
    client:settle():send(frames.data(0, "x"))
    client:rest()
    assert.truthy(lines_of(dir, "errors", 5):find(" %- %- %- %- %- %- H2_Protocol %-\n"))
    s:await("info session_ended [^\n]*reason=H2_Protocol ")
  end)
end)
