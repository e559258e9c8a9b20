local hosting = require("moonquay.probe").settings.hosting

local PREFIX = "http://+:80/shop/"
local URL = "http://localhost:7000"
local DEFAULT = "http://localhost:5000/"

-- url_prefixes, urls, prefer_urls, attached: the list, whether it is urls, the warning.
describe("what an app serves (reference section 2.6)", function()
  local dropped = "--urls: dropped, since the app has url_prefixes"
  local cleared = "url_prefixes of the app: cleared, since --urls and prefer_urls are given"
  local cases = {
    { "its prefixes without urls", PREFIX, nil, false, false, PREFIX, false },
    { "its prefixes without urls, whatever is preferred", PREFIX, nil, true, false, PREFIX, false },
    { "its prefixes and not the urls", PREFIX, URL, false, false, PREFIX, false, dropped },
    { "its prefixes, and malformed urls are not parsed", PREFIX, "://;", false, false, PREFIX,
      false, dropped },
    { "the urls that are preferred", PREFIX, URL, true, false, URL, true, cleared },
    { "the urls, and malformed prefixes are not parsed", "://;", URL, true, false, URL, true,
      cleared },
    { "the urls where it has no prefixes", "", URL, false, false, URL, true },
    { "the urls where it has no prefixes, whatever is preferred", " , ", URL, true, false, URL,
      true },
    { "the urls when it is attached", nil, URL, false, true, URL, true },
    { "the default where nobody says anything", "", nil, false, false, DEFAULT, false },
    { "the default where urls are empty", nil, " ,", true, false, DEFAULT, false },
    { "nothing by default when it is attached to a queue", "", nil, false, true, "", false },
    { "its prefixes when it is attached", PREFIX, nil, false, true, PREFIX, false },
  }
  local OTHER = "http://localhost:1,https://localhost:2"
  local defaults = { -- whether the other default is what it serves
    { "its prefixes", PREFIX, nil, false, PREFIX },
    { "the urls", nil, URL, false, URL },
    { "nothing, attached", nil, nil, true, "" },
    { "another default", "", " ,", false, OTHER },
  }
  for _, case in ipairs(defaults) do
    it("is " .. case[1] .. ", where there is another default", function()
      local list, is_urls, warning = hosting(case[2], case[3], "", false, case[4], OTHER)
      assert.equal(case[5], list)
      assert.equal(list == URL, is_urls)
      assert.is_nil(warning)
    end)
  end

  it("is the default where another one has no item", function()
    assert.equal(DEFAULT, (hosting(nil, nil, "", false, false, " ,")))
  end)

  for _, case in ipairs(cases) do
    it("is " .. case[1], function()
      local list, is_urls, warning = hosting(case[2], case[3], "--urls", case[4], case[5])
      assert.equal(case[6], list)
      assert.equal(case[7], is_urls)
      assert.equal(case[8], warning)
    end)
  end

  it("is told with a name for urls of which nobody knows who gave them", function()
    local _, _, warning = hosting(PREFIX, URL, nil, false, false)
    assert.equal("urls: dropped, since the app has url_prefixes", warning)
  end)
end)
