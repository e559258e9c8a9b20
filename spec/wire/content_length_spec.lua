local server = require("spec.support.server")
local wire = require("spec.support.wire")

-- Row by row. Each case is a handler's source text; one server has them all, at "/1", "/2" ….
local groups, sources = {}, {}

local function about(row)
  groups[#groups + 1] = { row = row }
end

local function case(title, source, expected)
  sources[#sources + 1] = source
  expected.title, expected.path = title, "/" .. #sources
  table.insert(groups[#groups], expected)
end

local function app_text()
  local lines = { [[
local moonquay = require("moonquay")
local app = moonquay.app()
local told = "nothing"
local function declare(res, length) res.headers["content-length"] = length end
local function try(fn, ...)
  local ok, message = pcall(fn, ...)
  told = ok and "done" or tostring(message):match("[^: ][^:]*$")
  return ok
end
app:get("/told", function()
  local last = told
  told = "nothing"
  return last
end)]] }
  for i, source in ipairs(sources) do
    lines[#lines + 1] = ('app:any("/%d", function(req, res) %s\nend)'):format(i, source)
  end
  return table.concat(lines, "\n") .. "\nreturn app\n"
end

local SIZED = "Content-Length: %d\r\n"
local PLAIN = "Content-Type: text/plain; charset=utf-8\r\n"
local CHUNKED = "Transfer-Encoding: chunked\r\n"
local MORE = "more content than the Content-Length header says"
local FEWER = "fewer bytes were written than the Content-Length header says"

local function sized(bytes, body, lines)
  return wire.answer("200 OK", (lines or "") .. SIZED:format(bytes), body)
end

about("CL 20, nothing or only 5 bytes written: the connection is aborted")
case("when nothing is written", "declare(res, 20)", { cut = true, log = "response_short" })
case("when 5 bytes are written", "declare(res, 20) res:write('abcde')",
  { cut = true, log = "response_short" })
case("when 5 bytes are returned", "declare(res, 20) return 'abcde'",
  { cut = true, log = "response_short" })
case("when an iterator gives 5 bytes", [[
  declare(res, 20)
  local given
  return 200, function() given = not given return given and "abcde" or nil end]],
  { cut = true, log = "handler_failed" })
case("when finish is called too early, which raises", [[
  declare(res, 20)
  res:write("abcde")
  try(res.finish, res)]], { cut = true, told = FEWER })

about("a single first write that is larger than CL: nothing is sent")
case("and a handler that catches it can answer otherwise", [[
  declare(res, 5)
  try(res.write, res, "abcdef")
  declare(res, nil)
  return tostring(res.started)]], { answer = wire.text("false"), told = MORE })
case("and one that does not has failed", "declare(res, 5) res:write('abcdef')",
  { status = 500, log = "more content than the Content%-Length header says" })
case("and what is returned counts likewise", "declare(res, 5) return 'abcdef'",
  { status = 500, log = "response_long [^\n]*request=%x+%-%x+" })
case("and so does a whole answer", "declare(res, 5) try(res.finish, res, 'abcdef') return 'other'",
  { answer = sized(5, "other", PLAIN), told = MORE })

about("CL 10, 5 then 6: the second write raises and the response is aborted")
case("when it is caught", "declare(res, 10) res:write('abcde') try(res.write, res, 'abcdef')",
  { cut = true, told = MORE, log = "response_short" })
case("when it is not", "declare(res, 10) res:write('abcde') res:write('abcdef')",
  { cut = true, log = "handler_failed" })

about("CL 10, 10 then 9: the first completes the response, the second raises")
case("when it is caught", [[
  declare(res, 10)
  res:write("abcdefghij")
  try(res.write, res, "klmnopqrs")]], { answer = sized(10, "abcdefghij"), told = MORE })
case("when it is not", "declare(res, 10) res:write('abcdefghij') res:write('klmnopqrs')",
  { answer = sized(10, "abcdefghij"), log = "handler_failed" })
case("as finished, when it was finished", [[
  declare(res, 10)
  res:finish("abcdefghij")
  try(res.write, res, "klmnopqrs")]],
  { answer = sized(10, "abcdefghij"), told = "the response has been finished" })

about("a write of nothing after completion is ignored")
case("behind all that was declared", [[
  declare(res, 3)
  res:write("abc")
  try(res.write, res, "")]], { answer = sized(3, "abc"), told = "done" })
case("behind finish", "res:finish('abc') try(res.write, res, '')",
  { answer = sized(3, "abc"), told = "done" })
case("behind an end in chunks", "res:write('abc') res:finish() try(res.write, res, '')",
  { answer = wire.answer("200 OK", CHUNKED, "3\r\nabc\r\n0\r\n\r\n"), told = "done" })

about("a first write of nothing starts the response")
case("in chunks", "res:write('') try(function() res.status = 404 end)", {
  answer = wire.answer("200 OK", CHUNKED, "0\r\n\r\n"),
  told = "its status can no longer be changed",
})
case("of the declared length", "declare(res, 3) res:write('') res:write('abc')",
  { answer = sized(3, "abc") })

about("a CL value with blanks around it, in any spelling of the name")
case("is accepted", "res.headers['cOnTeNt-LENGTH'] = ' \t3 ' return 'abc'",
  { answer = sized(3, "abc", PLAIN) })
case("is accepted as a number", "res.headers['content-length'] = 3 res:write('abc')",
  { answer = sized(3, "abc") })

about("a negative CL is a range error")
for _, value in ipairs({ "-1", "'-1'", "'+1'", "1.5", "'0x10'", "''", "'1 0'", "'ten'",
  "'99999999999999999999'" }) do
  case("and so is " .. value, ([[
    try(declare, res, %s)
    return tostring(res.headers["content-length"])]]):format(value),
    { answer = wire.text("nil"), matches = "Content%-Length must be a number of bytes from 0 on" })
end

about("HEAD: any CL is allowed and sent, with no content")
case("when nothing is written", "declare(res, 1000)", { method = "HEAD", answer = sized(1000) })
case("when less is written", "declare(res, 20) res:write('abc')",
  { method = "HEAD", answer = sized(20) })
case("when more is written", "declare(res, 2) res:write('abc') res:write('def')",
  { method = "HEAD", answer = sized(2) })
case("when less is returned", "declare(res, 20) return 'abc'",
  { method = "HEAD", answer = sized(20, "", PLAIN) })

about("204 and 304: content that a handler writes is dropped")
for status, phrase in pairs({ [204] = "No Content", [304] = "Not Modified" }) do
  local line = ("%d %s"):format(status, phrase)
  case(("of %d"):format(status), ("res.status = %d res:write('abc')"):format(status),
    { answer = wire.answer(line, "") })
  case(("of %d, whatever was declared"):format(status),
    ("res.status = %d declare(res, 20) res:write('abc')"):format(status),
    { answer = wire.answer(line, "") })
end

describe("Content-Length (reference section 8.4)", function()
  local s
  setup(function()
    s = server.start({ app = app_text() })
  end)
  teardown(function()
    assert.equal(0, s:stop())
  end)

  -- The request, and behind it another on the same connection, which shows that it goes on.
  local function ask(row)
    local line = "%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n"
    local bytes = line:format(row.method or "GET", row.path, "")
    if row.cut then
      return wire.converse(s, bytes)
    end
    local got, how = wire.converse(s, bytes .. line:format("GET", "/told", "Connection: close\r\n"))
    local first, told = got:match("^(.*)(HTTP/1.1 200 OK\r\n.*)$")
    return first, how, told and told:match("\r\n\r\n(.*)$")
  end

  for _, group in ipairs(groups) do
    describe(group.row .. ":", function()
      for _, row in ipairs(group) do
        it(row.title, function()
          local got, how, told = ask(row)
          assert.equal(row.cut and "reset" or "closed", how, got)
          if row.cut then
            told = s:get("/told").body
          end
          if row.answer then
            assert.equal(row.answer, got)
          elseif row.status then
            assert.matches("^HTTP/1.1 " .. row.status .. " ", got)
          end
          if row.matches then
            assert.matches(row.matches, told)
          else
            assert.equal(row.told or "nothing", told)
          end
          if row.log then
            s:await(row.log .. "[^\n]*target=" .. row.path .. "[ \n]")
          end
        end)
      end
    end)
  end

  it("the log line 'fewer bytes' has the request's id", function()
    local id = s:await("response_short [^\n]*fewer bytes were written[^\n]*request=(%x+%-%x+)")
    assert.matches("^%x+%-%x+$", id)
  end)
end)
