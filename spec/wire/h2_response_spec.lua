local await = require("spec.support.await")
local h2 = require("spec.support.h2_client")
local timed = require("spec.support.timed")

local frames = h2.frames

-- Each case is a handler's source text; one server has them all, at "/1", "/2" …. What they note is
-- at "/notes", when the last of their functions has run.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local notes, gate = {}, require("moonquay.core").event()
local function note(...)
  local list = table.pack(...)
  for i = 1, list.n do list[i] = tostring(list[i]) end
  notes[#notes + 1] = table.concat(list, " ")
end
local function try(fn, ...)
  local ok, err = pcall(fn, ...)
  note(ok and "done" or "raised " .. tostring(err):match("[^: ][^:]*$"))
  return ok
end
local function told(what, result, err)
  note(what, result, err and err.code or "")
  return result
end
local function declare(res, length) res.headers["content-length"] = length end
local PIECE = ("x"):rep(65536)

-- Until /go was asked for, which waits for who holds.
local held = false
local function hold()
  held = true
  gate:wait()
  gate:clear()
  held = false
end
app:get("/go", function()
  while not held do moonquay.sleep(0.001) end
  gate:set()
end)
app:get("/notes", function()
  if notes[#notes] ~= "over" then return 204 end
  local text = table.concat(notes, ", ", 1, #notes - 1)
  notes = {}
  return text
end)
app:any("/hello", function() return "hello" end)
app:get("/last", function(_, res)
  res:close_connection()
  return "last"
end)
local function run(path, fn)
  app:any(path, function(req, res)
    local _ <close> = setmetatable({}, { __close = function()
      res:after(function() note("over") end)
    end })
    return fn(req, res)
  end)
end
]]

local sources = {}

local function path_of(source)
  sources[#sources + 1] = source
  return "/" .. #sources
end

-- ---- what is the same over HTTP/1.1; each title with a handler, or { handler, method =, body = }

local same = {
  ["nothing"] = "res.status = 202",
  ["a string"] = "return 'hi'",
  ["an empty string"] = "return ''",
  ["a table"] = "return { a = 1 }",
  ["a status and headers"] = "return 201, 'x', { ['x-a'] = { '1', '2' }, b = 3 }",
  ["an iterator"] = "local n = 0 return function() n = n + 1 return n < 4 and n .. ',' or nil end",
  ["a head of nearly a MiB"] = [[local list = {}
    for i = 1, 40000 do list[i] = "12345678901234567890" end
    res.headers["x-a"] = list
    return "x"]],
  ["a large string"] = "return PIECE:rep(4)",
  ["a large table"] = "return { PIECE, PIECE }",
  ["what is wrong"] = "return true",
  ["an error of its own"] = "return nil, 'the reason'",
  ["something beside what was written"] = "res:write('a') return 'b'",
  ["json"] = "return res:json({ 1 }, 201)",
  ["html"] = "return res:html('<p>')",
  ["a redirect"] = "return res:redirect('/hello')",
  ["an error page"] = "return res:error(404, 'gone')",
  ["a failure"] = "res.headers.a = 'b' moonquay.fail(418, 'teapot', { more = 1 })",
  ["a status without content"] = "return 204",
  ["content of 204"] = "res.status = 204 res:write('abc')",
  ["content of 304"] = "res.status = 304 res:write('abc')",
  ["the length of 304"] = "res.status = 304 declare(res, 20)",
  ["the length of 204"] = "res.status = 204 declare(res, 20)",
  ["content of 205"] = "res.status = 205",
  ["an unknown status"] = "return 799, 'x'",
  ["a status that is none"] = "try(function() res.status = 101 end) res.status = 1000",
  ["headers in any spelling"] = "res.headers['X-MiXeD'] = 'A' res.headers['x-mixed2'] = 'b'",
  ["many values"] = "res.headers.a = { '1', '', '2' } res:cookie('c', '1') res:cookie('d', '2')",
  ["blanks around a value"] = "res.headers.a = ' \\t x y\\t '",
  ["bytes in a value"] = "res.headers.a = 'caf\\xe9'",
  ["a header with a line end"] = "try(function() res.headers.a = 'b\\nc' end)",
  ["a header that is the server's own"] = [[
    for _, name in ipairs({ "transfer-encoding", "upgrade", "keep-alive" }) do
      try(function() res.headers[name] = "x" end)
    end]],
  ["a server of its own"] = "res.headers.server = 'mine' res.headers.date = 'today'",
  ["pieces"] = "res:write('a') res:write('b') res:flush() res:write('c')",
  ["a flush alone"] = "res:flush()",
  ["a write of nothing"] = "res:write('')",
  ["finish"] = "res:finish('abc') try(res.write, res, 'd') try(res.write, res, '')",
  ["finish and more work"] = "res:write('a') res:finish('b') moonquay.sleep(0) note('worked')",
  ["headers after the start"] = [[
    res:write("x")
    try(function() res.status = 404 end)
    try(function() res.headers.a = "b" end)]],
  ["pieces of a declared length"] = "declare(res, 10) res:write('01234') res:write('56789')",
  ["HEAD"] = { "return 'hi'", method = "HEAD" },
  ["HEAD of what is written"] = { "res:write('abc') res:write('def')", method = "HEAD" },
  ["HEAD of a declared length"] = { "declare(res, 1000)", method = "HEAD" },
  ["HEAD of a declared length, written"] = { "declare(res, 2) res:write('abc')", method = "HEAD" },
  ["HEAD with content"] = { "return req.body:read('a')", method = "HEAD", body = "abc" },
  ["an echo"] = { "req.body:pipe(res)", method = "POST", body = "abc" },
  ["interim responses"] = [[
    res:informational(103, { link = "</a>", ["X-B"] = { "1", "2" } })
    res:informational(199)
    try(res.informational, res, 101)
    try(res.informational, res, 200)
    res:write("x")
    try(res.informational, res, 103)]],

  ["Content-Length: nothing written"] = "declare(res, 20)",
  ["Content-Length: less written"] = "declare(res, 20) res:write('abcde')",
  ["Content-Length: less returned"] = "declare(res, 20) return 'abcde'",
  ["Content-Length: less finished"] = "declare(res, 20) res:write('abcde') try(res.finish, res)",
  ["Content-Length: less iterated"] = [[
    declare(res, 20)
    local given
    return 200, function() given = not given return given and "abcde" or nil end]],
  ["Content-Length: more in one"] = [[
    declare(res, 5)
    try(res.write, res, "abcdef")
    declare(res, nil)
    return tostring(res.started)]],
  ["Content-Length: more in one, uncaught"] = "declare(res, 5) res:write('abcdef')",
  ["Content-Length: more returned"] = "declare(res, 5) return 'abcdef'",
  ["Content-Length: 5 then 6"] =
    "declare(res, 10) res:write('abcde') try(res.write, res, 'abcdef')",
  ["Content-Length: 10 then 9"] =
    "declare(res, 10) res:write('abcdefghij') try(res.write, res, 'klmnopqrs')",
  ["Content-Length: 10 then 9, uncaught"] =
    "declare(res, 10) res:write('abcdefghij') res:write('klmnopqrs')",
  ["Content-Length: nothing behind all"] =
    "declare(res, 3) res:write('abc') try(res.write, res, '')",
  ["Content-Length: not a number"] = "try(declare, res, '-1') try(declare, res, '0x10')",
  ["Content-Length: with blanks"] = "res.headers['cOnTeNt-LENGTH'] = ' \\t3 ' return 'abc'",

  ["trailers"] = "res:write('abc') res.trailers['X-Sum'] = '42'",
  ["trailers alone"] = "res:flush() res.trailers.a = '1'",
  ["trailers of many values"] = "res:write('abc') res.trailers.a = { '1', '', '2' }",
  ["large trailers"] = "res:write('abc') for i = 1, 6 do res.trailers['a' .. i] = PIECE:sub(2) end",
  ["trailers behind the end"] =
    "res:write('abc') res:finish() try(function() res.trailers.a = '1' end)",
  ["trailers that are none"] = { no_note = "done", [[
    res:write("abc")
    for _, name in ipairs({ "Transfer-Encoding", "Content-Length", "Host", "Cache-Control",
      "Expect", "Max-Forwards", "Pragma", "Range", "TE", "If-Match", "If-None-Match",
      "If-Modified-Since", "If-Unmodified-Since", "If-Range", "WWW-Authenticate", "Authorization",
      "Proxy-Authenticate",
      "Proxy-Authorization", "Set-Cookie", "Cookie", "Age", "Expires", "Date", "Location",
      "Retry-After", "Vary", "Warning", "Content-Encoding", "Content-Type", "Content-Range",
      "Trailer", "Connection" }) do
      try(function() res.trailers[name] = "x" end)
    end]] },

  ["on_starting"] = [[
    res:on_starting(function() res.headers.a = (res.headers.a or "") .. "1" note("1") end)
    res:on_starting(function() res.headers.a = "2" note("2") moonquay.sleep(0) end)
    res:write("x")
    note("written")]],
  ["on_starting of what is returned"] = [[
    res:on_starting(function(_, same) same.status = 202 note(res.started) end)
    return 201, "x"]],
  ["on_starting that fails"] = [[
    res:on_starting(function() error("on purpose") end)
    try(res.write, res, "x")
    return "y"]],
  ["on_starting that fails behind the handler"] = [[
    res.headers.a = "b"
    res:on_starting(function() error("on purpose") end)
    return "y"]],
  ["on_starting after the start"] = "res:write('x') try(res.on_starting, res, function() end)",
  ["on_completed and after"] = [[
    res:on_completed(function() note("completed 1", res.status, res.finished) end)
    res:on_completed(function() moonquay.sleep(0) note("completed 2") end)
    res:after(function() note("after 1", req.path ~= nil) end)
    res:after(function() note("after 2") end)
    res:write("x")
    note(res.started, res.finished)]],
  ["on_completed of a handler that fails"] = [[
    res:on_completed(function() note("completed", res.status) end)
    error("on purpose")]],
  ["on_completed of an answer that breaks"] = [[
    res:on_completed(function() note("completed", res.status, res.finished) end)
    res:write("part")
    res:flush()
    error("on purpose")]],

  ["an error before the start"] =
    "res.status = 201 res.headers.a = 'b' res.trailers.a = 'b' error('on purpose')",
  ["an error after the start"] = "res:write('part') res:flush() error('on purpose')",
  ["an error after the start, of known length"] =
    "declare(res, 10) res:write('part') error('on purpose')",
  ["an error after the end"] = "res:finish('whole') error('on purpose')",
  ["an abort behind the end"] = [[
    req:on_cancel(function() note("on_cancel") end)
    res:finish("whole")
    req:abort()
    note(req:cancelled())]],
}

local not_compared = { connection = true, ["transfer-encoding"] = true, date = true }

-- What a client has of a response; ids are unlike.
local function essence(response)
  local fields = {}
  for name, value in pairs(response.headers) do
    if not not_compared[name] and name:sub(1, 1) ~= ":" then
      fields[name] = value
    end
  end
  local interim = {}
  for i, one in ipairs(response.interim) do
    local headers = {}
    for name, value in pairs(one.headers) do
      if name:sub(1, 1) ~= ":" then
        headers[name] = value
      end
    end
    interim[i] = { one.status, headers }
  end
  local function anonymous(text)
    return (text:gsub("%x+%-%x+", "ID"))
  end
  if response.headers["content-type"] == "application/problem+json" then
    fields["content-length"] = nil
  end
  return { response.status, fields, anonymous(response.body), response.trailers, interim }
end

local same_list = {}
for title, case in pairs(same) do
  case = type(case) == "table" and case or { case }
  case.title, case.path = title, path_of(case[1])
  same_list[#same_list + 1] = case
end
table.sort(same_list, function(a, b)
  return a.title < b.title
end)

-- ---- what HTTP/2 does in its own way: title, handler, and the frames, fields and code

local PLAIN = { "content-type", "text/plain; charset=utf-8" }
local DATE, SERVER, OK = { "date", "D" }, { "server", "moonquay" }, { ":status", "200" }

local function length(bytes)
  return { "content-length", tostring(bytes) }
end

local own = {
  { "names are in lower case, and values as they were", "res.headers['X-A'] = 'B' return 'hi'",
    { "HEADERS", "DATA ." }, { OK, DATE, SERVER, { "x-a", "B" }, PLAIN, length(2) } },
  { "a list is one line each", "res.headers.a = { '1', '2' } res:cookie('c', '1') return 204",
    { "HEADERS ." },
    { { ":status", "204" }, DATE, SERVER, { "a", "1" }, { "a", "2" }, { "set-cookie", "c=1" } } },
  { "fields of the connection are left out", [[
    res.headers.connection = "keep-alive"
    res.headers["proxy-connection"] = "close"
    return "hi"]], { "HEADERS", "DATA ." }, { OK, DATE, SERVER, PLAIN, length(2) } },
  { "no content ends with the head", "", { "HEADERS ." }, { OK, DATE, SERVER, length(0) } },
  { "HEAD ends with the head", "return 'hi'", { "HEADERS ." },
    { OK, DATE, SERVER, PLAIN, length(2) }, method = "HEAD" },
  { "304 ends with the head", "return 304", { "HEADERS ." },
    { { ":status", "304" }, DATE, SERVER } },
  { "what is written in one turn goes together, without a length",
    "res:write('a') res:write('b')", { "HEADERS", "DATA ." }, { OK, DATE, SERVER } },
  { "what is flushed goes by itself", "res:write('a') res:flush() res:write('b')",
    { "HEADERS", "DATA", "DATA ." }, { OK, DATE, SERVER } },
  { "a flush alone sends the head", "res:flush() moonquay.sleep(0)", { "HEADERS", "DATA ." },
    { OK, DATE, SERVER } },
  { "a declared length is one field", "declare(res, 2) res:write('a') res:write('b')",
    { "HEADERS", "DATA ." }, { OK, DATE, SERVER, length(2) } },
  { "trailers end the stream", "res:write('a') res.trailers['X-Sum'] = '7'",
    { "HEADERS", "DATA", "HEADERS ." }, { OK, DATE, SERVER } },
  { "trailers end a stream without content", "res:finish() res.trailers = nil", { "HEADERS ." },
    { OK, DATE, SERVER, length(0) } },
  { "trailers go behind a declared length",
    "declare(res, 1) res.trailers.a = '7' res:write('a')", { "HEADERS", "DATA", "HEADERS ." },
    { OK, DATE, SERVER, length(1) } },
  { "trailers go behind a head of HEAD", "res:write('abc') res.trailers.a = '7'",
    { "HEADERS", "HEADERS ." }, { OK, DATE, SERVER }, method = "HEAD" },
  { "interim responses are heads", "res:informational(103, { Link = '</a>' }) return 204",
    { "HEADERS", "HEADERS ." }, { { ":status", "204" }, DATE, SERVER } },
  { "a large answer goes in frames of 16384 bytes", "return PIECE:sub(1, 40000)",
    { "HEADERS", "DATA", "DATA", "DATA ." }, { OK, DATE, SERVER, PLAIN, length(40000) } },

  { "a short answer ends by INTERNAL_ERROR", "declare(res, 20) res:write('abcde')",
    { "HEADERS", "DATA", "RST_STREAM INTERNAL_ERROR" }, { OK, DATE, SERVER, length(20) } },
  { "so does one of which nothing was written", "declare(res, 20)",
    { "RST_STREAM INTERNAL_ERROR" } },
  { "so does one whose handler fails behind the start", "res:write('part') error('on purpose')",
    { "HEADERS", "DATA", "RST_STREAM INTERNAL_ERROR" }, { OK, DATE, SERVER } },
  { "and one whose handler writes and returns", "res:write('part') return 'more'",
    { "HEADERS", "DATA", "RST_STREAM INTERNAL_ERROR" }, { OK, DATE, SERVER } },
}
for _, case in ipairs(own) do
  case.path = path_of(case[2])
end

-- ---- req:abort and req:reset (reference sections 8.6 and 16)

local RESETS = "req:on_cancel(function(code) note('on_cancel', code) end) "
local resets = {
  { "an abort before the start is CANCEL", RESETS .. [[
    note(req:cancelled())
    req:abort()
    note(req:cancelled(), res.finished)
    told("write", res:write("x"))
    told("sleep", moonquay.sleep(60))
    told("finish", res:finish())
    return "x"]], { "RST_STREAM CANCEL" },
    notes = "false, closed true, on_cancel closed, write nil closed, sleep nil closed, "
      .. "finish nil closed" },
  { "an abort after the start is CANCEL behind what was written", RESETS .. [[
    res:write("part")
    req:abort()
    told("write", res:write("x"))]], { "HEADERS", "DATA", "RST_STREAM CANCEL" },
    notes = "on_cancel closed, write nil closed" },
  { "an abort that comes twice is one", RESETS .. "req:abort() moonquay.sleep(0) req:abort()",
    { "RST_STREAM CANCEL" }, notes = "on_cancel closed" },
  { "a reset before the head sends nothing else", RESETS .. "res.status = 404 req:reset(1)",
    { "RST_STREAM PROTOCOL_ERROR" }, notes = "on_cancel closed" },
  { "a reset with the head sends the head before", "res:flush() req:reset(2)",
    { "HEADERS", "RST_STREAM INTERNAL_ERROR" }, notes = "" },
  { "a reset during content sends the content before", "res:write('part') req:reset(1111)",
    { "HEADERS", "DATA", "RST_STREAM 1111" }, notes = "" },
  { "a reset during content of a declared length, likewise",
    "declare(res, 10) res:write('part') req:reset(8)",
    { "HEADERS", "DATA", "RST_STREAM CANCEL" }, notes = "" },
  { "a reset may have any code", "req:reset(0xffffffff)", { "RST_STREAM 4294967295" }, notes = "" },
  { "a reset may be without an error", "req:reset(0)", { "RST_STREAM NO_ERROR" }, notes = "" },
  { "a reset behind the whole answer is nothing", "res:finish('whole') req:reset(1)",
    { "HEADERS", "DATA ." }, notes = "" },
  { "a reset behind a whole answer without content is nothing", "res:finish() req:reset(1)",
    { "HEADERS ." }, notes = "" },
  { "a reset behind the answer to a request that goes on tells it so",
    "res:finish('enough') req:reset(0)", { "HEADERS", "DATA .", "RST_STREAM NO_ERROR" },
    open = true, notes = "" },
  { "a reset behind trailers to a request that goes on tells it so",
    "res:write('a') res.trailers.b = 'c' res:finish() req:reset(1111)",
    { "HEADERS", "DATA", "HEADERS .", "RST_STREAM 1111" }, open = true, notes = "" },
  { "an abort behind the answer to a request that goes on is nothing",
    "res:finish('enough') req:abort() req:reset(7)",
    { "HEADERS", "DATA .", "RST_STREAM REFUSED_STREAM" }, open = true, notes = "" },
  { "a reset behind the answer to a request that was read is nothing",
    "req.body:read('a') res:finish('enough') req:reset(1)", { "HEADERS", "DATA ." },
    body = "abc", notes = "" },
  { "a code that is none raises", [[
    for _, code in ipairs({ -1, 1 << 32, 1.5, "x" }) do
      note(pcall(req.reset, req, code) and "passed" or "raised")
    end
    return "x"]], { "HEADERS", "DATA ." }, notes = "raised, raised, raised, raised" },
  { "a reset fails the pending read of another task, and later ones", [[
    local reader = moonquay.spawn(function()
      note("first", req.body:read())
      told("pending", req.body:read())
      told("later", req.body:read())
    end)
    hold()
    req:reset(0xb)
    while not reader.done do moonquay.sleep(0) end]], { "RST_STREAM ENHANCE_YOUR_CALM" },
    body = "abc", open = true, go = true,
    notes = "first abc, pending nil closed, later nil closed" },
  { "a reset fails the pending write of another task", [[
    local writer = moonquay.spawn(function()
      while told("", res:write(PIECE)) do notes[#notes] = nil end
    end)
    hold()
    req:reset(0xb)
    writer:join()]], { "HEADERS", "DATA", "DATA", "DATA", "DATA" }, window = 0, go = true,
    unsent = true, notes = " nil closed" },
  { "an abort leaves the functions behind the answer", [[
    res:on_completed(function() note("on_completed", res.finished) end)
    res:after(function() note("after", req.path ~= nil) end)
    req:abort()]], { "RST_STREAM CANCEL" }, notes = "on_completed true, after true" },
}
for _, case in ipairs(resets) do
  case.path = path_of(case[2])
end

local pieces = path_of("res:write('first') res:flush() hold() res:write('second')")
local flushed = path_of("res:flush() hold()")
local closes_by_header = path_of("res.headers.connection = 'close' return 'x'")
local closes_late = path_of("res:write('x') res:close_connection()")
local unread = path_of("return 'unread'")
local writes_later = path_of([[
  res:write("part")
  res:flush()
  req:on_cancel(function(code) note("on_cancel", code) end)
  while not req:cancelled() do moonquay.sleep(0.001) end
  for _ = 1, 2 do
    local ok, result, err = pcall(res.write, res, "x")
    note(ok, ok and result, (ok and err or result).code)
  end
  note(res.finished)]])

local function app_text()
  local lines = { APP }
  for i, source in ipairs(sources) do
    lines[#lines + 1] = ('run("/%d", function(req, res) %s\nend)'):format(i, source)
  end
  return table.concat(lines, "\n") .. "\nreturn app\n"
end

describe("A response over HTTP/2", function()
  local s, client
  setup(function()
    s = timed.start(app_text(), "h2.cleartext=true")
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)
  before_each(function()
    client = h2.connect(s)
  end)
  after_each(function()
    client:close()
  end)

  local function notes()
    return await("the end of the handler", function()
      local response = s:get("/notes")
      return response.status == 200 and response.body
    end)
  end

  -- Of one stream, without its id.
  local function frames_of(id, from)
    local list = {}
    for _, text in ipairs(from or client:sent()) do
      local kind, of, more = text:match("^(%S+) (%d+) ?(.*)$")
      if of == tostring(id) and kind ~= "WINDOW_UPDATE" then
        list[#list + 1] = (kind .. " " .. more):gsub(" $", "")
      end
    end
    return list
  end

  describe("is what it is over HTTP/1.1:", function()
    for _, case in ipairs(same_list) do
      it(case.title, function()
        local connection = s:connect()
        local request = ("%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n%s\r\n%s"):format(
          case.method or "GET", case.path,
          case.body and ("Content-Length: %d\r\n"):format(#case.body) or "", case.body or "")
        connection:send(request)
        local whole, first = pcall(connection.response, connection,
          { head = case.method == "HEAD" })
        local _, how = connection:rest()
        connection:close()
        local first_notes = notes()
        whole = whole and how == "closed" and not first.truncated

        local more = { method = case.method, body = case.body }
        more[1] = case.body and { "content-length", tostring(#case.body) } or nil
        local second = client:request(case.path, more)
        assert.equal(first_notes, notes())
        assert.is_nil(case.no_note and first_notes:find(case.no_note))
        assert.equal(whole, second.finished or false)
        if whole then
          assert.same(essence(first), essence(second))
        else
          assert.equal("INTERNAL_ERROR", second.reset)
        end
        assert.equal("hello", client:request("/hello").body)
      end)
    end
  end)

  describe("goes in frames:", function()
    for _, case in ipairs(own) do
      it(case[1], function()
        local id = client:open(case.path, { method = case.method })
        local response = client:response(id)
        notes()
        client:settle()
        assert.same(case[3], frames_of(id))
        for _, field in ipairs(response.header_list or {}) do
          if field[1] == "date" then
            assert.matches("^%a%a%a, %d%d %a%a%a %d%d%d%d %d%d:%d%d:%d%d GMT$", field[2])
            field[2] = "D"
          end
        end
        assert.same(case[4], response.header_list)
      end)
    end

  end)

  it("leaves piece by piece, as it is flushed", function()
    local id = client:open(pieces)
    client:body(id, 5)
    assert.same({ "HEADERS", "DATA" }, frames_of(id))
    assert.equal("first", client:stream(id).body)
    s:get("/go")
    assert.equal("firstsecond", client:response(id).body)
    notes()
  end)

  it("begins at a flush", function()
    local id = client:open(flushed)
    client:head(id)
    assert.same({ "HEADERS" }, frames_of(id))
    s:get("/go")
    client:response(id)
    assert.same({ "DATA ." }, frames_of(id))
    notes()
  end)

  it("waits for no other", function()
    local first = client:open(pieces)
    client:body(first, 5)
    assert.equal("hello", client:request("/hello").body)
    s:get("/go")
    assert.equal("firstsecond", client:response(first).body)
    notes()
  end)

  describe("is broken off:", function()
    for _, case in ipairs(resets) do
      it(case[1], function()
        local connection = case.window
          and h2.connect(s, { credit = false }) or client
        local id = connection:open(case.path, { method = (case.body or case.open) and "POST",
          open = case.open, body = case.body })
        if case.go then
          assert.equal(200, s:get("/go").status)
        end
        assert.equal(case.notes, notes())
        if not case.unsent then
          connection:response(id)
        end
        connection:settle()
        assert.same(case[3], frames_of(id, connection:sent()))
        assert.equal("hello", client:request("/hello").body)
        if connection ~= client then
          connection:close()
        end
      end)
    end
  end)

  describe("that is the last one (res:close_connection)", function()
    it("has GOAWAY before it, and the client goes on for 200 more requests", function()
      local parked = client:open(pieces)
      client:body(parked, 5)
      client:sent()
      local last = client:request("/last")
      assert.equal("last", last.body)
      assert.is_nil(last.headers.connection)
      assert.same({ "GOAWAY 2147483647 NO_ERROR", "HEADERS 3", "DATA 3 ." }, client:sent())
      for i = 1, 200 do
        assert.equal(1, #client.goaways, i)
        assert.equal("hello", client:request("/hello").body)
      end
      client:await("the last GOAWAY", function()
        return client.goaways[2]
      end)
      assert.same({ 403, "NO_ERROR" }, { client.goaways[2].last, client.goaways[2].code })
      -- What comes now has been told that it is not served.
      client:open("/hello")
      s:get("/go")
      assert.equal("firstsecond", client:response(parked).body)
      assert.equal("closed", client:rest())
      assert.is_nil(client:stream(405).status)
      notes()
    end)

    it("may be said by a header, and often", function()
      assert.equal("x", client:request(closes_by_header).body)
      assert.equal("x", client:request(closes_by_header).body)
      assert.equal("last", client:request("/last").body)
      client:settle()
      assert.equal(1, #client.goaways)
      assert.equal(2147483647, client.goaways[1].last)
    end)

    it("is not, when it has started", function()
      assert.equal("x", client:request(closes_late).body)
      client:settle()
      assert.is_nil(client.goaways)
    end)
  end)

  describe("to a request whose content nobody reads", function()
    it("is complete, and a client that goes on for long is told to stop", function()
      local id = client:open(unread, { method = "POST", open = true })
      assert.equal("unread", client:response(id).body)
      client:settle()
      assert.is_nil(client:stream(id).reset)
      client:upload(id, ("x"):rep(1 << 20)) -- as much as is read away
      client:settle()
      assert.is_nil(client:stream(id).reset)
      client:data(id, "more")
      client:await("a reset", function()
        return client:stream(id).reset
      end)
      assert.equal("NO_ERROR", client:stream(id).reset)
      assert.equal("hello", client:request("/hello").body)
      notes()
    end)

    it("is complete, and a client that stops is told nothing", function()
      local id = client:open(unread, { method = "POST", open = true })
      assert.equal("unread", client:response(id).body)
      client:data(id, "", true)
      client:settle()
      assert.is_nil(client:stream(id).reset)
      notes()
    end)

    it("is followed by a reset at last, when the client neither goes on nor stops", function()
      local other = timed.start(app_text(), "h2.cleartext=true", "timeouts.drain_entity_body=0.2")
      local connection = h2.connect(other)
      local id = connection:open(unread, { method = "POST", open = true })
      assert.equal("unread", connection:response(id).body)
      connection:await("a reset", function()
        return connection:stream(id).reset
      end)
      assert.equal("NO_ERROR", connection:stream(id).reset)
      connection:close()
      other:stop()
    end)
  end)

  -- Reference section 8.5: whether it raises, and what it says.
  for setting, told in pairs({ ["false"] = "true nil reset", ["true"] = "false false reset" }) do
    it(("cannot be written when its client has reset it, throw_write_errors = %s"):format(setting),
      function()
        local other = timed.start(app_text(), "h2.cleartext=true", "throw_write_errors=" .. setting)
        local connection = h2.connect(other)
        local id = connection:open(writes_later)
        connection:body(id, 4)
        connection:send(frames.rst_stream(id, "CANCEL"))
        local text = await("the end of the handler", function()
          local response = connection:request("/notes")
          return response.status == 200 and response.body
        end)
        assert.equal(("on_cancel reset, %s, %s, true"):format(told, told), text)
        timed.assert_told(other, "Connection_Dropped")
        assert.equal(0, other:stop())
      end)
  end

  -- Reference section 14.3: whom the core refuses itself.
  for verbosity, detail in pairs({ basic = false, limited = false, full = true }) do
    it("of 503 is as http_503_verbosity has it: " .. verbosity, function()
      local other = timed.start(app_text(), "h2.cleartext=true", "enabled=false",
        "http_503_verbosity=" .. verbosity)
      local connection = h2.connect(other)
      for _ = 1, 2 do
        local response = connection:request("/hello")
        if verbosity == "basic" then
          assert.equal("REFUSED_STREAM", response.reset)
          assert.is_nil(response.status)
        else
          assert.equal(503, response.status)
          assert.equal("1", response.headers["retry-after"])
          assert.equal(detail, response.body:find("disabled", 1, true) ~= nil)
        end
      end
      timed.assert_told(other, "Disabled", 503, 2)
      assert.equal(0, other:stop())
    end)
  end
end)
