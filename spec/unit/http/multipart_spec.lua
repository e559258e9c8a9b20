local form = require("moonquay.probe").form
local pieces = require("spec.support.pieces")

local TYPE = "multipart/form-data; boundary=b"

-- A part of a table: the fields that the case names are compared, fields only when it has some.
local function part(name, data, more)
  local expected = { name = name, data = data, complete = true }
  for key, value in pairs(more or {}) do
    expected[key] = value
  end
  return expected
end

local function head(disposition, more)
  return "--b\r\nContent-Disposition: " .. disposition .. "\r\n" .. (more or "") .. "\r\n"
end

local function one(disposition, more)
  return head(disposition, more) .. "x\r\n--b--"
end

local A = head('form-data; name="a"')

local accepted = {
  { "reads a part", A .. "hello\r\n--b--\r\n", { part("a", "hello") } },
  { "reads parts in order", A .. "1\r\n" .. head("form-data; name=z") .. "2\r\n" .. A
    .. "3\r\n--b--", { part("a", "1"), part("z", "2"), part("a", "3") } },
  { "reads no part at all", "--b--", {} },
  { "ignores a preamble", "one\r\ntwo --b\r\n\r\n--c\r\n" .. A .. "1\r\n--b--",
    { part("a", "1") } },
  { "ignores a preamble of line ends", "\r\n\r\n" .. A .. "1\r\n--b--", { part("a", "1") } },
  { "ignores an epilogue", A .. "1\r\n--b--\r\nmore\r\n" .. A .. "2\r\n--b", { part("a", "1") } },
  { "ends without a line end", A .. "1\r\n--b--", { part("a", "1") } },
  { "allows padding behind a delimiter", (A:gsub("^%-%-b", "--b \t")) .. "1\r\n--b--",
    { part("a", "1") } },
  { "reads an empty part", A .. "\r\n--b--", { part("a", "") } },
  { "reads a part whose head ends in its delimiter", A .. "--b--", { part("a", "") } },
  { "keeps line ends at both ends of the data", A .. "\r\n1\r\n\r\n--b--",
    { part("a", "\r\n1\r\n") } },
  { "keeps CR LF CR LF as data", A .. "\r\n\r\n\r\n--b--", { part("a", "\r\n\r\n") } },
  { "keeps what begins like a delimiter",
    A .. "\r\n--\r\n-\r\n\r\r\n\r\n--a\r\n-\n--b\r--b\r\n--b--",
    { part("a", "\r\n--\r\n-\r\n\r\r\n\r\n--a\r\n-\n--b\r--b") } },
  { "keeps a delimiter that begins no line", A .. "x--b\r\n--b--", { part("a", "x--b") } },
  { "keeps a delimiter behind a bare LF", A .. "x\n--b\r\n--b--", { part("a", "x\n--b") } },
  { "keeps every byte", A .. "\0\1\127\128\255\r\n--b--", { part("a", "\0\1\127\128\255") } },
  { "takes the type", one("form-data; name=a", "Content-Type: text/plain; charset=utf-8\r\n"),
    { part("a", "x", { type = "text/plain; charset=utf-8" }) } },
  { "takes every field", one("form-data; name=a", "X-A:  1 \r\nx-a: 2\r\n"),
    { part("a", "x", { fields = { { "Content-Disposition", "form-data; name=a" }, { "X-A", "1" },
      { "x-a", "2" } } }) } },
  { "knows names of fields in any case",
    "--b\r\ncontent-DISPOSITION: Form-Data; NAME=a; FileName=f\r\n\r\nx\r\n--b--",
    { part("a", "x", { filename = "f" }) } },
  { "takes an empty name", one('form-data; name=""'), { part("", "x") } },
  { "takes an empty filename", one('form-data; name="a"; filename=""'),
    { part("a", "x", { filename = "" }) } },
  { "takes names above ASCII", one('form-data; name="\195\169"; filename="\226\130\172.txt"'),
    { part("\195\169", "x", { filename = "\226\130\172.txt" }) } },
  { "takes separators inside quotes", one('form-data; name="a; filename=x"; filename="c=d;e"'),
    { part("a; filename=x", "x", { filename = "c=d;e" }) } },
  { "takes escaped quotes", one([[form-data; name="a\"b"; filename="\"\\\""]]),
    { part('a"b', "x", { filename = [["\"]] }) } },
  { "keeps other backslashes", one([[form-data; name="a"; filename="C:\fotos\neu.png"]]),
    { part("a", "x", { filename = [[C:\fotos\neu.png]] }) } },
  { "decodes what browsers escape", one('form-data; name="%22a%0D%0A"; filename="%22"'),
    { part('"a\r\n', "x", { filename = '"' }) } },
  { "keeps other percent signs", one('form-data; name="100%"; filename="%41%2522%0d%2"'),
    { part("100%", "x", { filename = "%41%2522%0d%2" }) } },
  { "does not decode a token", one("form-data; name=%22a%22"), { part("%22a%22", "x") } },
  { "takes filename* where filename is missing",
    one("form-data; name=a; filename*=utf-8'en'%e2%82%AC%20x.txt"),
    { part("a", "x", { filename = "\226\130\172 x.txt" }) } },
  { "prefers filename", one("form-data; name=a; filename*=UTF-8''b; filename=c"),
    { part("a", "x", { filename = "c" }) } },
  { "ignores other parameters", one('form-data; size=3; name=a; x="y"'), { part("a", "x") } },
  { "allows missing parameters", one("form-data;; name=a ; "), { part("a", "x") } },
  { "takes the longest boundary", ("--%s\r\nContent-Disposition: form-data; name=a\r\n\r\n1"
    .. "\r\n--%s--"):format(("q"):rep(70), ("q"):rep(70)), { part("a", "1") },
    type = "multipart/form-data; boundary=" .. ("q"):rep(70) },
  { "takes a quoted boundary with every kind of byte", "--a b'()+_,-./:=?z--\r\n", {},
    type = [[multipart/form-data; boundary="a b'()+_,-./:=?z"]] },
  { "takes a boundary of dashes", "-----\r\nContent-Disposition: form-data; name=a\r\n\r\n"
    .. "--\r\n----\r\n-------", { part("a", "--\r\n----") },
    type = "multipart/form-data; boundary=---" },
  { "takes a part head as long as the limit", one("form-data; name=a"), { part("a", "x") },
    limits = { max_part_head_bytes = 42 } },
  { "takes as many parts as the limit", A .. "1\r\n" .. A .. "2\r\n--b--",
    { part("a", "1"), part("a", "2") }, limits = { max_parts = 2 } },
}

local refused = {
  { "nothing at all", "", 400 },
  { "a wrong boundary", "--c\r\n\r\nx\r\n--c--", 400 },
  { "content without a closing delimiter", A .. "hello\r\n", 400 },
  { "content that ends inside a delimiter", A .. "hello\r\n--b", 400 },
  { "content that ends inside the closing dashes", A .. "hello\r\n--b-", 400 },
  { "content that ends inside a part head", "--b\r\nContent-Dis", 400 },
  { "content that ends behind a delimiter line", A .. "1\r\n--b\r\n", 400 },
  { "bytes behind a delimiter", "--bx\r\n\r\n--b--", 400 },
  { "a longer boundary behind data", A .. "1\r\n--bb--", 400 },
  { "one dash behind a delimiter", "--b-\r\n\r\n--b--", 400 },
  { "a bare LF behind a delimiter", "--b\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b--",
    400 },
  { "a bare CR behind a delimiter", "--b\r\r\n", 400 },
  { "a closing delimiter with a space before its dashes", A .. "1\r\n--b --", 400 },
  { "a bare LF in a part head", "--b\r\nContent-Disposition: form-data; name=a\n\r\nx\r\n--b--",
    400 },
  { "a bare CR in a part head", one("form-data; name=a\rb"), 400 },
  { "a NUL in a part head", one("form-data; name=\0"), 400 },
  { "a line without a colon", one("form-data; name=a", "X-A\r\n"), 400 },
  { "a space before the colon", one("form-data; name=a", "X-A : 1\r\n"), 400 },
  { "a line without a name", one("form-data; name=a", ": 1\r\n"), 400 },
  { "a folded line", one("form-data;\r\n name=a"), 400 },
  { "a part without fields", "--b\r\n\r\nx\r\n--b--", 400 },
  { "a part without a disposition", "--b\r\nX-A: 1\r\n\r\nx\r\n--b--", 400 },
  { "a part with two dispositions",
    one("form-data; name=a", "content-disposition: form-data; name=b\r\n"), 400 },
  { "another disposition", one("attachment; name=a"), 400 },
  { "a disposition without a name", one("form-data; filename=a"), 400 },
  { "a disposition without parameters", one("form-data"), 400 },
  { "two names", one("form-data; name=a; name=b"), 400 },
  { "two filenames", one("form-data; name=a; filename=x; filename=y"), 400 },
  { "two filename*", one("form-data; name=a; filename*=utf-8''x; filename*=utf-8''y"), 400 },
  { "a name that is no token", one("form-data; name=a b"), 400 },
  { "an empty token", one("form-data; name="), 400 },
  { "a quote that does not end", one('form-data; name="a'), 400 },
  { "a quote that ends in an escape", one([[form-data; name="a\"]]), 400 },
  { "bytes behind a quoted name", one('form-data; name="a"b'), 400 },
  { "a parameter without a value", one("form-data; name=a; filename"), 400 },
  { "filename* in another charset", one("form-data; name=a; filename*=latin1''x"), 400 },
  { "filename* without a language", one("form-data; name=a; filename*=utf-8'x"), 400 },
  { "filename* with a bad escape", one("form-data; name=a; filename*=utf-8''%g0"), 400 },
  { "filename* with half an escape", one("form-data; name=a; filename*=utf-8''%4"), 400 },
  { "filename* with a NUL", one("form-data; name=a; filename*=utf-8''%00"), 400 },
  { "filename* in quotes", one([[form-data; name=a; filename*="utf-8''x"]]), 400 },
  { "a part head above its limit", one("form-data; name=a"), 413,
    limits = { max_part_head_bytes = 41 } },
  { "a part head that does not end", "--b\r\nX-A: " .. ("x"):rep(100), 413,
    limits = { max_part_head_bytes = 64 } },
  { "padding that does not end", "--b" .. (" "):rep(100), 413,
    limits = { max_part_head_bytes = 64 } },
  { "padding and head above the limit together",
    "--b" .. (" "):rep(10) .. "\r\n" .. ("X-A: 1\r\n"):rep(4), 413,
    limits = { max_part_head_bytes = 41 } },
  { "more parts than the limit", A .. "1\r\n" .. A .. "2\r\n--b--", 413,
    limits = { max_parts = 1 } },
  { "a first part where none is allowed", A .. "1\r\n--b--", 413, limits = { max_parts = 0 } },
}

local types = {
  { "no content type", "" },
  { "another type", "multipart/mixed; boundary=b" },
  { "no boundary", "multipart/form-data" },
  { "an empty boundary", 'multipart/form-data; boundary=""' },
  { "a boundary of 71 bytes", "multipart/form-data; boundary=" .. ("q"):rep(71) },
  { "a boundary with a byte that is none of its", 'multipart/form-data; boundary="a\\@b"' },
  { "a boundary above ASCII", 'multipart/form-data; boundary="\195\169"' },
  { "a boundary that ends in a space", 'multipart/form-data; boundary="a "' },
  { "two boundaries", "multipart/form-data; boundary=a; boundary=b" },
}

-- What a case says of each part, taken from what was read.
local function same_parts(expected, actual)
  assert.equal(#expected, #actual)
  assert.is_true(actual.closed)
  for i, want in ipairs(expected) do
    local got = actual[i]
    got.fields = want.fields and got.fields
    assert.same(want, got)
  end
end

local function each_split(text, check)
  check({ text })
  check(pieces(text, 1))
  check(pieces(text, 3))
  for at = 1, #text - 1 do
    check({ text:sub(1, at), text:sub(at + 1) })
  end
end

describe("multipart/form-data (RFC 7578, RFC 2046 section 5.1)", function()
  for _, case in ipairs(accepted) do
    it(case[1] .. ", however it is split", function()
      each_split(case[2], function(split)
        local parts, _, _, detail = form.multipart(case.type or TYPE, split, case.limits)
        assert.is_table(parts, detail)
        same_parts(case[3], parts)
      end)
    end)
  end

  for _, case in ipairs(refused) do
    it("refuses " .. case[1] .. ", however it is split", function()
      local _, _, reason, detail = form.multipart(TYPE, { case[2] }, case.limits)
      assert.equal(case[3] == 413 and "EntityTooLarge" or "BadRequest", reason)
      each_split(case[2], function(split)
        local answer = { form.multipart(TYPE, split, case.limits) }
        assert.same({ [2] = case[3], [3] = reason, [4] = detail }, answer)
      end)
    end)
  end

  for _, case in ipairs(types) do
    it("refuses " .. case[1], function()
      local parts, status = form.multipart(case[2], { "--b--" })
      assert.is_nil(parts)
      assert.equal(0, status)
    end)
  end

  it("joins a megabyte of near-delimiters to the same data in pieces of every size", function()
    local data = ("\r\n--\r\n\r--b\r\n-"):rep(80000)
    local text = A .. data .. "\r\n--b--"
    for _, size in ipairs({ 4096, 16384, 65521 }) do
      local parts = form.multipart(TYPE, pieces(text, size))
      assert.is_true(parts[1].data == data)
    end
  end)
end)
