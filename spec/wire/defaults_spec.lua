local lfs = require("lfs")
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local PLAIN = [[return function() return "hello" end]]

-- --default is how whoever wraps the command gives it other defaults: everything else beats them.
describe("moonquay serve --default", function()
  local dir

  before_each(function()
    dir = temp.dir()
  end)

  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  -- A server without other words; the address that it names.
  local function start(app, options, env)
    local words = table.move(options, 1, #options, 3, { "--workers", "1" })
    return server.start({ app = app, bare = true, options = words, cwd = dir.path, env = env,
      executable = lfs.currentdir() .. "/" .. server.executable })
  end

  local function address(s)
    return s.text.stdout:match("on (http://[%d.]+):")
  end

  it("gives the addresses when nobody else does", function()
    local s = start(PLAIN, { "--default", "urls=http://127.0.0.1:0,http://127.0.0.1:0/second" })
    assert.equal("http://127.0.0.1", address(s))
    assert.equal("hello", s:get("/").body)
    assert.equal(0, s:stop())
  end)

  local givers = { -- who, app, words, environment, configuration
    { "the app's urls", [[
      local app = require("moonquay").app { urls = "http://127.0.0.2:0" }
      app:get("/", function() return "hello" end)
      return app]] },
    { "the app's url_prefixes", [[
      local app = require("moonquay").app { url_prefixes = "http://127.0.0.2:0/" }
      app:get("/", function() return "hello" end)
      return app]] },
    { "--urls", PLAIN, { "--urls", "http://127.0.0.2:0" } },
    { "--set", PLAIN, { "--set", "urls=http://127.0.0.2:0" } },
    { "MOONQUAY_URLS", PLAIN, {}, { MOONQUAY_URLS = "http://127.0.0.2:0" } },
    { "the configuration file", PLAIN, {}, nil, [[return { urls = "http://127.0.0.2:0" }]] },
  }
  for _, case in ipairs(givers) do
    it("gives way to " .. case[1] .. ", without a word", function()
      if case[5] then
        dir:write("moonquay.conf.lua", case[5])
      end
      local words = table.move(case[3] or {}, 1, #(case[3] or {}), 1, {})
      words[#words + 1] = "--default"
      words[#words + 1] = "urls=http://127.0.0.3:0"
      local s = start(case[2], words, case[4])
      assert.equal("http://127.0.0.2", address(s))
      assert.is_nil(s:stderr():find("prefixes_chosen", 1, true), s:stderr())
      assert.equal(0, s:stop())
    end)
  end

  it("gives any setting, the last one of a key", function()
    local s = start(PLAIN, { "--default", "urls=http://127.0.0.3:0", "--default=development=true",
      "--default", "urls=http://127.0.0.2:0", "--default=server_header=mine" })
    assert.equal("http://127.0.0.2", address(s))
    local response = s:get("/")
    assert.equal("mine", response.headers.server)
    assert.equal(0, s:stop())
  end)

  local wrong = {
    { { "--default" }, 64, "--default wants key=value" },
    { { "--default", "urls" }, 64, "--default wants key=value" },
    { { "--default", "=1" }, 64, "--default wants key=value" },
    { { "--default", "url=1" }, 78, "--default url: no such option" },
    { { "--default", "workers=0" }, 78, "workers" },
  }
  for _, case in ipairs(wrong) do
    it("refuses " .. table.concat(case[1], " "), function()
      local result = server.run({ "serve", dir:write("app.lua", PLAIN), table.unpack(case[1]) })
      assert.equal(case[2], result.status, result.stderr)
      assert.truthy(result.stderr:find("^moonquay: [^\n]+\n$"), result.stderr)
      assert.truthy(result.stderr:find(case[3], 1, true), result.stderr)
    end)
  end
end)
