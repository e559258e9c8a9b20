local flatten = require("moonquay.flat_settings")

-- "key=value" for each option, "key[]=value" for lists.
local function flat(settings)
  local options, message = flatten(settings)
  if not options then
    return message
  end
  local texts = {}
  for i, option in ipairs(options) do
    texts[i] = ("%s%s=%s"):format(option.key, option.is_list and "[]" or "",
      tostring(option.value))
  end
  return table.concat(texts, " ")
end

describe("settings in tables", function()
  local endless = {}
  endless.a = endless

  local cases = {
    { "none", {}, "" },
    { "are ordered by name", { b = 1, a = "x", c = true }, "a=x b=1 c=true" },
    { "have dotted names in groups", { timeouts = { cancel = 5, handler = "off" } },
      "timeouts.cancel=5 timeouts.handler=off" },
    { "may have dotted names themselves", { ["timeouts.cancel"] = 5 }, "timeouts.cancel=5" },
    { "are lists with commas", { urls = { "a", "b", 3 } }, "urls[]=a,b,3" },
    { "may be lists of nothing", { url_prefixes = {} }, "url_prefixes[]=" },
    { "may be lists in groups", { authentication = { schemes = { "ntlm", "basic" } } },
      "authentication.schemes[]=ntlm,basic" },
    { "know one scheme", { authentication = "negotiate" },
      "authentication.schemes=negotiate authentication.allow_anonymous=false" },
    { "know a list of schemes", { authentication = { "ntlm", "negotiate" } },
      "authentication.schemes[]=ntlm,negotiate authentication.allow_anonymous=false" },
    { "may hold nothing about authentication", { authentication = {} }, "authentication[]=" },
    { "are bindings", { tls = { { certificate = "c", key = "k", port = 443 }, { name = "b" } } },
      "tls[]=certificate=c key=k port=443; name=b" },
    { "are bindings with several files",
      { tls = { { certificate = { "a", "b c" }, key = { "k", "l" } } } },
      'tls[]=certificate=a certificate="b c" key=k key=l' },
    { "quote bindings", { tls = { { certificate = 'my "c";\\', key = "" } } },
      [[tls[]=certificate="my \"c\";\\" key=""]] },
    { "take bindings as text", { tls = "key=k" }, "tls=key=k" },
    { "may have no bindings", { tls = {} }, "tls[]=" },

    { "are named", { 1 }, "settings are named, as in { workers = 2 }" },
    { "are named in groups", { a = { b = { [true] = 1 } } },
      "settings of a.b are named, as in { workers = 2 }" },
    { "are not lists and groups at once", { a = { "x", b = 1 } },
      "a: either a list or named settings, not both in one table" },
    { "have no holes in lists", { a = { "x", [3] = "y" } },
      "a: either a list or named settings, not both in one table" },
    { "have texts in lists", { a = { "x", {} } }, "a: item 2 must be a text, not a table" },
    { "have no commas in items", { a = { "x,y" } },
      "a: item 1 holds a comma, which separates items" },
    { "have an end", endless, ("a."):rep(7) .. "a: tables in tables without end" },
    { "have tables as bindings", { tls = { "x" } },
      "tls: binding 1 must be a table, not a string" },
    { "have a list of bindings", { tls = { key = "k" } },
      "tls: a list of bindings is needed, tls = { { certificate = FILE, key = FILE } }" },
    { "have texts in bindings", { tls = { { key = "k" }, { key = true } } },
      "tls: binding 2: key: must be a text, not a boolean" },
    { "have texts in the lists of bindings", { tls = { { key = { "k", true } } } },
      "tls: binding 1: key: must be a text, not a boolean" },
    { "have lists in bindings", { tls = { { key = { "k", x = "l" } } } },
      "tls: binding 1: key: either a list or named settings, not both in one table" },
    { "have words as keys of bindings", { tls = { { ["a b"] = 1 } } },
      "tls: binding 1: a b: no such key" },
    { "have named values in bindings", { tls = { { 7 } } },
      "settings of a tls binding are named, as in { workers = 2 }" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.equal(case[3], flat(case[2]))
    end)
  end

  it("keep a function, for the app", function()
    local function check() end
    assert.equal(check, flatten({ authentication = { schemes = check } })[1].value)
    assert.equal(check, flatten({ authentication = check })[1].value)
  end)
end)
