-- Notes kept in memory: routes, parameters, a group, middleware, JSON, redirects, cookies.
--   curl -d '{"text":"buy milk"}' -H 'content-type: application/json' http://localhost:5000/notes
--   curl http://localhost:5000/notes/1
-- Run it with --workers 1: each worker process has notes of its own.
local moonquay = require("moonquay")

local app = moonquay.app()
local notes, last = {}, 0

-- Around every route: how long the handler took.
app:use(function(_, res, next)
  local start = moonquay.now()
  local function timed(...)
    if not res.started then
      res.headers["server-timing"] = ("app;dur=%.3f"):format((moonquay.now() - start) * 1000)
    end
    return ...
  end
  return timed(next())
end)

app:get("/", function(_, res)
  return res:redirect("/notes")
end)

local function find(req)
  local id = math.tointeger(tonumber(req.params.id))
  return notes[id] or moonquay.fail(404, "There is no such note.")
end

app:group("/notes", { max_request_body_size = "64KiB" }, function(group)
  group:get("/", function(_, res)
    return res:redirect("/notes", 308)
  end)

  group:get("/:id", { name = "note" }, function(req)
    return find(req)
  end)

  group:put("/:id", function(req)
    local note = find(req)
    note.text = assert(req:json()).text
    return note
  end)

  group:delete("/:id", function(req)
    notes[find(req).id] = nil
    return 204
  end)
end)

app:get("/notes", function()
  local list = moonquay.json.array()
  for id = 1, last do
    list[#list + 1] = notes[id]
  end
  return list
end)

app:post("/notes", function(req)
  local body = assert(req:json())
  if type(body) ~= "table" or type(body.text) ~= "string" then
    moonquay.fail(422, "A note has a text.")
  end
  last = last + 1
  notes[last] = { id = last, text = body.text }
  return 201, notes[last], { location = app:url("note", { id = last }) }
end)

-- A wildcard takes what is left of the path; the cookie counts the visits of one browser.
app:get("/visit/*place", function(req, res)
  local count = (math.tointeger(tonumber(req.cookies.visits)) or 0) + 1
  res:cookie("visits", tostring(count), { path = "/visit/", http_only = true, same_site = "lax" })
  return ("visit %d, now at %s\n"):format(count, req.params.place)
end)

app:not_found(function(req)
  return ("Nothing at %s; there is /notes.\n"):format(req.path)
end)

return app
