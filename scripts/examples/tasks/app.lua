-- Several things at once, in plain code: tasks wait, the worker does not.
--   curl http://localhost:5000/all            three slow things in the time of the slowest
--   curl http://localhost:5000/patience       gives up after a while
--   curl -N http://localhost:5000/ticks       one line a while, until you leave
--   curl -d 'to=ann' http://localhost:5000/mail
local moonquay = require("moonquay")

local app = moonquay.app()
local STEP = tonumber(os.getenv("STEP_SECONDS")) or 0.2

local function slow(name, steps)
  return function()
    moonquay.sleep(steps * STEP)
    return name
  end
end

app:get("/all", function()
  local a, b, c = moonquay.all(slow("one", 1), slow("two", 2), slow("three", 3))
  return { a, b, c }
end)

app:get("/patience", function()
  local answer, err = moonquay.timeout(STEP, slow("too late", 1000))
  if not answer then
    return 504, { reason = err.code }
  end
  return answer
end)

-- The loop ends when the client leaves: the iterator's wait is cancelled.
app:get("/ticks", function(req, res)
  local last = tonumber(req.query.count) or math.huge
  for tick in moonquay.every(STEP) do
    if tick > last or not res:write(("tick %d\n"):format(tick)) then
      break
    end
    res:flush()
  end
end)

-- Answers at once and works on; a stop of the server waits for it.
local sent = {}
app:post("/mail", function(req)
  local form = assert(req:form())
  moonquay.background(function()
    moonquay.sleep(STEP)
    sent[#sent + 1] = form.to
    moonquay.log.info("mail sent", { to = form.to })
  end)
  return 202
end)

app:get("/mail", function()
  return moonquay.json.array({ table.unpack(sent) })
end)

-- Beside all requests, as long as the app runs.
local beats = 0
moonquay.every(STEP, function()
  beats = beats + 1
end)

app:get("/beats", function()
  return { beats = beats }
end)

return app
