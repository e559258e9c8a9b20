local await = require("spec.support.await")
local server = require("spec.support.server")
local wire = require("spec.support.wire")

-- Each case is a handler's source text; one server has them all, at "/1", "/2" …. What they note is
-- at "/notes", when the last of their functions has run.
local sources, groups = {}, {}

local function about(noun)
  groups[#groups + 1] = { noun = noun }
end

local function case(title, source, expected)
  sources[#sources + 1] = source
  expected.title, expected.path = title, "/" .. #sources
  table.insert(groups[#groups], expected)
end

local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local notes = {}
local function note(...)
  notes[#notes + 1] = table.concat({ ... }, " ")
end
local function try(fn, ...)
  local ok, err = pcall(fn, ...)
  note(ok and "done" or "raised: " .. tostring(err))
  return ok
end
-- Two functions that tell their order in a header and in the notes.
local function both(res)
  for _, name in ipairs({ "a", "b" }) do
    res:on_starting(function(_, same)
      moonquay.sleep(0)
      same.headers["x-order"] = (same.headers["x-order"] or "") .. name
      note(name)
    end)
  end
end
local function completed(res, name)
  res:on_completed(function(req, same)
    note(name, same.status, tostring(same.finished), req.path ~= nil and "req" or "")
  end)
end
local function run(path, fn)
  app:any(path, function(req, res)
    local _ <close> = setmetatable({}, { __close = function()
      res:after(function() note("over") end)
    end })
    return fn(req, res)
  end)
end
app:get("/notes", function()
  if notes[#notes] ~= "over" then return 204 end
  local text = table.concat(notes, "\n", 1, #notes - 1)
  notes = {}
  return text
end)
app:get("/spins", function(_, res)
  res:on_starting(function() res.headers["x-order"] = "run" end)
  res:on_starting(function() while true do end end)
  return "never"
end)
app:get("/known", function(_, res)
  both(res)
  res.headers["x-gone"] = "b"
  error("known")
end)
app:get("/again", function(_, res)
  both(res)
  error("again")
end)
app:on_error(function(_, res, err)
  if tostring(err):find("known") then
    res.headers["x-mine"] = "1"
    return 418, "known"
  elseif tostring(err):find("again") then
    error("and again")
  end
end)
]]

local function app_text()
  local lines = { APP }
  for i, source in ipairs(sources) do
    lines[#lines + 1] = ('run("/%d", function(req, res) %s\nend)'):format(i, source)
  end
  return table.concat(lines, "\n") .. "\nreturn app\n"
end

local PLAIN = "Content-Type: text/plain; charset=utf-8\r\n"
local SIZED = "Content-Length: %d\r\n"
local CHUNKED = "Transfer-Encoding: chunked\r\n"
local ORDER = "x-order: ba\r\n"

about("whatever starts the response")
for title, row in pairs({
  ["a write"] = { "res:write('x')", "200 OK", ORDER .. CHUNKED, "1\r\nx\r\n0\r\n\r\n" },
  ["a write of nothing"] = { "res:write('')", "200 OK", ORDER .. CHUNKED, "0\r\n\r\n" },
  ["flush"] = { "res:flush()", "200 OK", ORDER .. CHUNKED, "0\r\n\r\n" },
  ["finish"] = { "res:finish()", "200 OK", ORDER .. SIZED:format(0), "" },
  ["finish with content"] = { "res:finish('x')", "200 OK", ORDER .. SIZED:format(1), "x" },
  ["json"] = { "res:json({ 1 })", "200 OK",
    "Content-Type: application/json\r\n" .. ORDER .. SIZED:format(3), "[1]" },
  ["html"] = { "res:html('<p>')", "200 OK",
    "content-type: text/html; charset=utf-8\r\n" .. ORDER .. SIZED:format(3), "<p>" },
  ["redirect"] = { "res:redirect('/')", "303 See Other",
    "location: /\r\n" .. ORDER .. SIZED:format(0), "" },
  ["a string that is returned"] = { "return 'x'", "200 OK", PLAIN .. ORDER .. SIZED:format(1),
    "x" },
  ["a table that is returned"] = { "return { 1 }", "200 OK",
    "Content-Type: application/json\r\n" .. ORDER .. SIZED:format(3), "[1]" },
  ["a status that is returned"] = { "return 204", "204 No Content", ORDER, "" },
  ["a status with a string"] = { "return 201, 'x'", "201 Created",
    PLAIN .. ORDER .. SIZED:format(1), "x" },
  ["a status with headers"] = { "return 201, 'x', { a = 1 }", "201 Created",
    "a: 1\r\ncontent-type: text/plain; charset=utf-8\r\n" .. ORDER .. SIZED:format(1), "x" },
  ["an iterator"] = {
    "local n = 0 return function() n = n + 1 return n < 3 and 'x' or nil end", "200 OK",
    ORDER .. CHUNKED, "1\r\nx\r\n1\r\nx\r\n0\r\n\r\n" },
  ["nothing but the end of the handler"] = { "", "200 OK", ORDER .. SIZED:format(0), "" },
  ["a large string"] = { "return ('x'):rep(100000)", "200 OK",
    PLAIN .. ORDER .. SIZED:format(100000), ("x"):rep(100000) },
  ["a large finish"] = { "res:finish(('x'):rep(100000))", "200 OK",
    ORDER .. SIZED:format(100000), ("x"):rep(100000) },
  ["large JSON"] = { "return { ('x'):rep(100000) }", "200 OK",
    "Content-Type: application/json\r\n" .. ORDER .. SIZED:format(100004),
    '["' .. ("x"):rep(100000) .. '"]' },
}) do
  case(("runs the functions, last registered first: %s"):format(title), "both(res) " .. row[1],
    { answer = wire.answer(row[2], row[3], row[4]), notes = "b\na" })
end
for title, source in pairs({
  ["res:error"] = "return res:error(404)",
  ["moonquay.fail"] = "moonquay.fail(404)",
}) do
  case(("runs the functions: %s"):format(title), "both(res) " .. source,
    { matches = "^HTTP/1.1 404 Not Found\r\n.*\r\nx%-order: ba\r\n", notes = "b\na" })
end
case("runs the functions: a handler that fails, whose own headers are gone",
  "both(res) res.headers['x-gone'] = 'b' error('on purpose')",
  { matches = "^HTTP/1.1 500 .*\r\nx%-order: ba\r\n", without = "x%-gone", notes = "b\na" })
case("runs the functions: content above a limit", [[
  both(res)
  req.limits.max_request_body_size = 1
  return assert(req.body:read())]],
  { body = "abc", matches = "^HTTP/1.1 413 .*\r\nx%-order: ba\r\n", notes = "b\na" })
case("runs the functions once for all writes", "both(res) res:write('x') res:write('y')",
  { answer = wire.answer("200 OK", ORDER .. CHUNKED, "1\r\nx\r\n1\r\ny\r\n0\r\n\r\n"),
    notes = "b\na" })
case("runs no function before: an interim response", [[
  both(res)
  res:informational(103, { a = "b" })
  note("informed")]], {
    answer = "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\n"
      .. wire.answer("200 OK", ORDER .. SIZED:format(0)),
    notes = "informed\nb\na",
  })
case("runs no function when there is no response any more", [[
  both(res)
  req:abort()
  res:write("x")
  res:finish("x")]], { cut = true, notes = "" })

about("an on_starting function")
case("may change status and headers", [[
  res.headers["x-a"] = "1"
  res:on_starting(function(_, same)
    note(tostring(same.started), same.status)
    same.status = 202
    same.headers["x-a"] = nil
    same.headers["content-type"] = "text/x"
  end)
  return 201, "x"]], {
    answer = wire.answer("202 Accepted", "content-type: text/x\r\n" .. SIZED:format(1), "x"),
    notes = "false 201",
  })
case("gets the request", [[
  res:on_starting(function(same) res.headers["x-path"] = same.path end)
  req.path = "/mine"]],
  { answer = wire.answer("200 OK", "x-path: /mine\r\n" .. SIZED:format(0)), notes = "" })
case("may set the length of what is written then", [[
  res:on_starting(function() res.headers["content-length"] = 3 end)
  res:write("abc")]], { answer = wire.answer("200 OK", SIZED:format(3), "abc"), notes = "" })
case("may wait, and content waits with it", [[
  res:on_starting(function() note("begun") moonquay.sleep(0.01) note("waited") end)
  res:write("x")
  note("written")]],
  { answer = wire.answer("200 OK", CHUNKED, "1\r\nx\r\n0\r\n\r\n"),
    notes = "begun\nwaited\nwritten" })
case("may wait in a coroutine of the handler", [[
  both(res)
  coroutine.wrap(function() res:write("x") end)()]],
  { answer = wire.answer("200 OK", ORDER .. CHUNKED, "1\r\nx\r\n0\r\n\r\n"), notes = "b\na" })
case("cannot wait inside a C function, which it is told", [[
  res:on_starting(function() moonquay.sleep(0) end)
  ;("x"):gsub("x", function() try(res.write, res, "x") end)
  return "other"]],
  { matches = "\r\n\r\nother$", notes = "raised: .*cannot wait inside string.gsub: .*" })
case("may do all else inside a C function", [[
  res:on_starting(function() res.status = 202 end)
  ;("x"):gsub("x", function() res:write("x") end)]],
  { answer = wire.answer("202 Accepted", CHUNKED, "1\r\nx\r\n0\r\n\r\n"), notes = "" })
for _, what in ipairs({ "write('x')", "flush()", "finish()", "json({})" }) do
  local name, argument = what:match("^(%w+)%((.*)%)$")
  argument = argument == "" and "" or ", " .. argument
  case(("cannot start the response itself: %s"):format(name), ([[
    res:on_starting(function() try(res.%s, res%s) note(tostring(res.started)) end)
    return "x"]]):format(name, argument), {
      answer = wire.text("x"), notes = "raised: on_starting functions still run: .*\nfalse",
    })
end
case("that waits keeps another task from writing, which it is told", [[
  local held = true
  res:on_starting(function() while held do moonquay.sleep(0.001) end end)
  local writer = moonquay.spawn(function() res:write("x") end)
  moonquay.sleep(0.001)
  try(res.write, res, "y")
  held = false
  writer:join()]], {
    answer = wire.answer("200 OK", CHUNKED, "1\r\nx\r\n0\r\n\r\n"),
    notes = "raised: on_starting functions still run: .*",
  })
case("that waits in a task which nobody awaits does not hold the answer", [[
  res:on_starting(function() moonquay.sleep(60) end)
  moonquay.spawn(function() res:write("x") end)
  moonquay.sleep(0.001)
  return "x"]], { matches = "^HTTP/1.1 500 ", notes = "" })
case("is registered too late when the response has started, and where is told", [[
  res:write("x")
  try(res.on_starting, res, print)]], {
    answer = wire.answer("200 OK", CHUNKED, "1\r\nx\r\n0\r\n\r\n"),
    notes = "raised: .*the response started at .*app.lua:%d+: on_starting comes too late",
  })
case("is registered too late by one that runs", [[
  res:on_starting(function() try(res.on_starting, res, print) end)
  res:write("x")]], {
    answer = wire.answer("200 OK", CHUNKED, "1\r\nx\r\n0\r\n\r\n"),
    notes = "raised: .*were run at .*app.lua:%d+: another one comes too late",
  })
case("must be a function", "try(res.on_starting, res, 'text') return 'x'",
  { answer = wire.text("x"), notes = "raised: .*function expected, got string." })

about("an on_starting function that fails")
local FAILING = [[
  res:on_starting(function() note("never") end)
  res:on_starting(function() note("failing") res.headers["x-gone"] = "b" error("on purpose") end)
  res:on_starting(function() note("first") end)
]]
for title, source in pairs({
  ["a string is returned"] = "return 'x'",
  ["a table is returned"] = "return { 1 }",
  ["a status is returned"] = "return 202",
  ["nothing is returned"] = "res.headers['x-gone'] = 'b'",
  ["an iterator is returned"] = "return function() return nil end",
  ["a write does not catch it"] = "res.headers['x-gone'] = 'b' res:write('x')",
}) do
  case(("is answered by 500 without the others: %s"):format(title), FAILING .. source, {
    matches = "^HTTP/1.1 500 Internal Server Error\r\n", without = "x%-gone",
    notes = "first\nfailing", log = "handler_failed [^\n]*on purpose",
  })
end
for _, call in ipairs({ "write, res, 'x'", "write, res, ''", "flush, res", "finish, res",
  "finish, res, 'x'", "json, res, {}" }) do
  case(("makes the call raise, and the response can go on: res.%s"):format(call),
    FAILING .. ([[
  try(res.%s)
  note(tostring(res.started))
  try(res.on_starting, res, print)
  res.headers["x-gone"] = nil
  res.headers["content-type"] = nil
  res:write("went on")]]):format(call), {
      answer = wire.answer("200 OK", CHUNKED, "7\r\nwent on\r\n0\r\n\r\n"),
      notes = "first\nfailing\nraised: .*on purpose\nfalse\nraised: .*another one comes too late",
    })
end

about("an on_completed function")
local TWO = "completed(res, 'a') completed(res, 'b') res:after(function() note('after') end) "
for title, row in pairs({
  ["is returned"] = { "return 201, 'x'", "^HTTP/1.1 201 ", 201 },
  ["is written"] = { "res:write('x')", "\r\nx\r\n0\r\n\r\n$", 200 },
  ["is finished, when its handler has ended too"] = {
    "res:finish('x') moonquay.sleep(0.001) note('handled')", "\r\n\r\nx$", 200, "handled\n" },
  ["fails"] = { "error('on purpose')", "^HTTP/1.1 500 ", 500 },
  ["fails with a status"] = { "moonquay.fail(404)", "^HTTP/1.1 404 ", 404 },
  ["is failed by an on_starting function"] = {
    "res:on_starting(function() error('on purpose') end) return 'x'", "^HTTP/1.1 500 ", 500 },
}) do
  case(("runs when the response %s, last registered first, before those of after"):format(title),
    TWO .. row[1], {
      matches = row[2],
      notes = ("%sb %d true req\na %d true req\nafter"):format(row[4] or "", row[3], row[3]),
    })
end
for title, source in pairs({
  ["is aborted"] = "req:abort()",
  ["is aborted after its start"] = "res:write('x') res:flush() req:abort()",
  ["fails after its start"] = "res:write('x') res:flush() error('on purpose')",
  ["is shorter than declared"] = "res.headers['content-length'] = 3",
}) do
  case(("runs when the response %s"):format(title), TWO .. source,
    { cut = true, notes = "b 200 true req\na 200 true req\nafter" })
end
case("that fails is logged, and the others run", [[
  completed(res, "a")
  res:on_completed(function() error("on completion") end)
  completed(res, "b")
  res:after(function() note("after") end)
  return "x"]], {
    answer = wire.text("x"), notes = "b 200 true req\na 200 true req\nafter",
    log = "handler_failed [^\n]*on completion[^\n]*request=%x+%-%x+",
  })
case("that fails with a status is logged too", [[
  completed(res, "a")
  res:on_completed(function() moonquay.fail(404, "nobody is answered by this") end)
  return "x"]], {
    answer = wire.text("x"), notes = "a 200 true req",
    log = "handler_failed [^\n]*nobody is answered by this",
  })
case("may wait", [[
  completed(res, "a")
  res:on_completed(function() note("begun") moonquay.sleep(0.01) note("waited") end)
  return "x"]], { answer = wire.text("x"), notes = "begun\nwaited\na 200 true req" })
case("cannot change the response", [[
  res:on_completed(function() try(function() res.status = 404 end) end)
  return "x"]], { answer = wire.text("x"), notes = "raised: .*can no longer be changed" })
case("may be registered when the response has started, and when it has ended", [[
  res:write("x")
  completed(res, "a")
  res:finish()
  completed(res, "b")]], {
    answer = wire.answer("200 OK", CHUNKED, "1\r\nx\r\n0\r\n\r\n"),
    notes = "b 200 true req\na 200 true req",
  })
case("is registered too late by what runs behind the answer", [[
  res:on_completed(function() try(res.on_completed, res, print) end)
  res:after(function() try(res.on_completed, res, print) end)
  return "x"]], {
    answer = wire.text("x"),
    notes = "raised: .*on_completed comes too late\nraised: .*on_completed comes too late",
  })
case("must be a function", "try(res.on_completed, res, 'text') return 'x'",
  { answer = wire.text("x"), notes = "raised: .*function expected, got string." })

describe("Callbacks (reference section 8.1):", function()
  local s
  setup(function()
    s = server.start({ app = app_text(), options = { "--set", "cpu_limit=0.1" } })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  local function request(row)
    local connection = s:connect()
    local body = row.body or ""
    connection:send(("%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%s\r\n%s"):format(
      row.method or "GET", row.path,
      body ~= "" and ("Content-Length: %d\r\n"):format(#body) or "", body))
    local got, how = connection:rest()
    connection:close()
    return wire.dateless(got), how
  end

  -- The connection's own line comes last: left out of what a case expects.
  local function without_close(bytes)
    return (bytes:gsub("Connection: close\r\n", "", 1))
  end

  local function notes()
    local connection = s:connect()
    local response = await("the end of all functions", function()
      local seen = connection:get("/notes")
      return seen.status == 200 and seen
    end)
    connection:close()
    return response.body
  end

  for _, group in ipairs(groups) do
    describe(group.noun, function()
      for _, row in ipairs(group) do
        it(row.title, function()
          local got, how = request(row)
          assert.equal(row.cut and "reset" or "closed", how, got)
          if row.answer then
            assert.equal(row.answer, without_close(got))
          elseif row.matches then
            assert.matches(row.matches, without_close(got))
          end
          if row.without then
            assert.is_nil(got:find(row.without), got)
          end
          assert.matches("^" .. row.notes .. "$", notes())
          if row.log then
            s:await(row.log)
          end
        end)
      end
    end)
  end

  it("run for what on_error answers, on the response that it gets", function()
    local response = s:get("/known")
    assert.same({ 418, "known", "ba", "1" }, { response.status, response.body,
      response.headers["x-order"], response.headers["x-mine"] })
  end)

  it("run for the last answer, when on_error has failed", function()
    local response = s:get("/again")
    assert.same({ 500, "ba" }, { response.status, response.headers["x-order"] })
    assert.matches("^Internal Server Error %(request ", response.body)
  end)

  it("that never end fail alone, and are not run again", function()
    local response = s:get("/spins")
    assert.same({ 500 }, { response.status, response.headers["x-order"] })
    s:await("cpu_limit[^\n]*target=/spins")
  end)
end)
