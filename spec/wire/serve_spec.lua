local issue = require("moonquay.probe").issue
local lfs = require("lfs")
local peer = require("spec.support.peer")
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local EXECUTABLE = lfs.currentdir() .. "/" .. server.executable

local function succeeds(command, ...)
  assert(os.execute(command:format(...)), command)
end

-- scripts/serve in a tree of its own, around the executable of this build. The app names the
-- addresses, which beat the usual ones; the certificates are those that the script makes.
describe("scripts/serve", function()
  local dir

  before_each(function()
    dir = temp.dir()
    succeeds("mkdir -p %s/scripts %s/build/release/bin", dir.path, dir.path)
    succeeds("cp scripts/serve scripts/packages %s/scripts", dir.path)
    succeeds("ln -s %s %s/build/release/bin/moonquay", EXECUTABLE, dir.path)
    dir:write("Makefile", "all: ;\n")
  end)

  after_each(function()
    server.stop_all()
    dir:remove()
  end)

  -- The server, and its port for https.
  local function serve()
    local port = ports.free()
    local s = server.start({
      executable = dir.path .. "/scripts/serve",
      wrap = { "sh", "-c", 'serve=$1; shift 2; exec "$serve" "$@"', "sh" },
      bare = true,
      options = { "--workers", "1", "--no-dev" },
      app = ([[
        local app = require("moonquay").app { urls = "http://127.0.0.1:0,https://localhost:%d" }
        app:get("/", function(req) return req.scheme end)
        return app]]):format(port),
    })
    return s, port
  end

  -- What curl gets that trusts the authority in this file, or the system's without one.
  local function curl(port, authority)
    local words = { "curl", "-sS", "--noproxy", "*", "--max-time", "10",
      ("https://localhost:%d/"):format(port) }
    if authority then
      words[#words + 1] = "--cacert"
      words[#words + 1] = dir.path .. "/" .. authority
    end
    return peer.run(words)
  end

  it("serves https that curl trusts with the authority of the first use", function()
    local s, port = serve()
    local said = s:stderr()
    assert.truthy(said:find("certs/localhost.pem, localhost.key: made", 1, true), said)
    local _, mentions = said:gsub("curl %-%-cacert", "")
    assert.equal(1, mentions)

    local result = curl(port, "certs/ca.pem")
    assert.equal("https", result.stdout, result.stderr)
    assert.equal("http", s:get("/").body)
    assert.equal(60, curl(port).exit) -- nobody else trusts it
    assert.equal(0, s:stop())
  end)

  it("says so once: the second start takes what is there", function()
    local first = serve()
    assert.equal(0, first:stop())
    local authority, cert = dir:read("certs/ca.pem"), dir:read("certs/localhost.pem")
    local s, port = serve()
    assert.is_nil(s:stderr():find("certs/", 1, true), s:stderr())
    assert.equal(authority, dir:read("certs/ca.pem"))
    assert.equal(cert, dir:read("certs/localhost.pem"))
    local result = curl(port, "certs/ca.pem")
    assert.equal("https", result.stdout, result.stderr)
    assert.equal(0, s:stop())
  end)

  it("makes another certificate in the place of one that has expired", function()
    local first = serve()
    assert.equal(0, first:stop())
    local now = os.time()
    local authority, authority_key = issue.authority({ now = now - 30 * 86400 })
    dir:write("certs/ca.pem", authority)
    dir:write("certs/ca.key", authority_key)
    local cert, key = issue.certificate({ names = { "localhost" }, days = 1,
      now = now - 2 * 86400 }, authority, authority_key)
    dir:write("certs/localhost.pem", cert)
    dir:write("certs/localhost.key", key)
    local s, port = serve()
    assert.truthy(s:stderr():find("renewed (0 days were left)", 1, true), s:stderr())
    assert.equal(authority, dir:read("certs/ca.pem"))
    assert.equal("https", curl(port, "certs/ca.pem").stdout)
    assert.equal(0, s:stop())
  end)
end)
