local client_of = require("spec.support.client")
local h2 = require("spec.support.h2_client")
local timed = require("spec.support.timed")

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app({ url_prefixes = "http://+:0/app/" })
app:get("/wait", function()
  moonquay.sleep(100)
end)
return app]]

describe("A connection over HTTP/2", function()
  after_each(timed.stop_all)

  it("may break when its worker remembers no more addresses that connections came to", function()
    local s = timed.start(APP, "h2.cleartext=true")
    local worker = s:workers()[1]
    for i = 0, 4200 do -- of 4096 it does
      local connection = client_of.connect(("127.1.%d.%d"):format(i // 250, 1 + i % 250), s.port)
      if i < 4200 then
        connection:send("PRI")
        connection:close()
      else
        local client = h2.over(connection)
        client:open("/app/wait")
        client:settle()
        client:reset()
      end
    end
    timed.assert_told(s, "Connection_Dropped")
    assert.same({ worker }, s:workers())
    assert.equal(0, s:stop())
  end)

  it("is closed when it ends within its preface", function()
    local s = timed.start(APP, "h2.cleartext=true")
    for length = 1, #h2.frames.PREFACE - 1 do
      local connection = s:connect()
      connection:send(h2.frames.PREFACE:sub(1, length))
      connection:half_close()
      assert.equal("closed", select(2, connection:rest()), length)
    end
    assert.equal(0, s:stop())
  end)

  it("is closed when it ends within a head", function()
    local s = timed.start(APP, "h2.cleartext=true")
    for _, open in ipairs({ true, false }) do
      local client = h2.connect(s)
      client:settle()
      local head = h2.frames.request(1, { [":path"] = "/app/" }, { open = open, goes_on = true })
      client:send(head)
      client:half_close()
      assert.equal("closed", client:rest())
    end
    assert.equal(0, s:stop())
  end)

  it("has no stream for ever, whoever refused its request", function()
    local s = timed.start(APP, "h2.cleartext=true")
    local client = h2.connect(s, { settings = { INITIAL_WINDOW_SIZE = 0 } })
    local id = client:open("/elsewhere") -- no app's
    assert.equal(404, client:head(id).status)
    client.connection.deadline = 60 -- the first 30 s are not judged
    assert.equal("CANCEL", client:response(id).reset)
    timed.assert_told(s, "Timer_MinBytesPerSecond")
    client:close()
    assert.equal(0, s:stop())
  end)
end)
