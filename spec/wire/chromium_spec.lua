-- A browser loads a page with twenty resources over HTTP/2, on one connection.
local certs = require("spec.support.certs")
local json = require("moonquay.core").json
local localhost = require("spec.support.localhost")
local peer = require("spec.support.peer")
local temp = require("spec.support.temp")

-- Each script, style and image is its own request; the page's script says which of them are there.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local seen = {}

local SCRIPTS, STYLES, IMAGES = 7, 6, 7
local GIF = "GIF89a\1\0\1\0\x80\0\0\255\0\0\0\0\0!\xf9\4\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"

local function note(req)
  seen[#seen + 1] = { path = req.path, protocol = req.protocol, connection = req.connection_id,
    alpn = req.tls.alpn, version = req.tls.version }
end

app:get("/", function(req, res)
  note(req)
  local parts = { "<!DOCTYPE html><meta charset=utf-8><title>t</title>" }
  for i = 1, STYLES do parts[#parts + 1] = ("<link rel=stylesheet href=/s%d.css>"):format(i) end
  for i = 1, SCRIPTS do parts[#parts + 1] = ("<script src=/j%d.js></script>"):format(i) end
  for i = 1, IMAGES do parts[#parts + 1] = ("<img src=/i%d.gif>"):format(i) end
  parts[#parts + 1] = "<p id=result></p><script>window.onload = () => {"
    .. "const style = getComputedStyle(document.documentElement);"
    .. "const styles = [...Array(6).keys()].filter(i => style.getPropertyValue('--s' + (i + 1)));"
    .. "const images = [...document.images].filter(i => i.naturalWidth === 1);"
    .. "const protocols = new Set(performance.getEntriesByType('resource')"
    .. ".map(e => e.nextHopProtocol));"
    .. "document.getElementById('result').textContent = [window.count, styles.length,"
    .. "images.length, ...protocols].join(' '); }</script>"
  res.headers["content-type"] = "text/html"
  return table.concat(parts)
end)
app:get("/:name", function(req, res)
  local kind, number, ending = req.params.name:match("^(%a)(%d)%.(%a+)$")
  if not kind then return 404 end
  note(req)
  if ending == "js" then
    res.headers["content-type"] = "text/javascript"
    return "window.count = (window.count || 0) + 1; // " .. ("x"):rep(20000)
  elseif ending == "css" then
    res.headers["content-type"] = "text/css"
    return (":root { --s%s: 1 } /* %s */"):format(number, ("x"):rep(20000))
  end
  res.headers["content-type"] = "image/gif"
  return GIF
end)
app:get("/seen/all", function() return seen end)
return app
]]

-- Chromium's flag for a certificate that it shall not judge: the digest of its key.
local function key_digest(certificate)
  local pem = certs.openssl("x509", "-in", certificate, "-noout", "-pubkey")
  local dir = temp.dir()
  local der = dir.path .. "/key.der"
  certs.openssl("pkey", "-pubin", "-in", dir:write("key.pem", pem), "-outform", "der", "-out", der)
  certs.openssl("dgst", "-sha256", "-binary", "-out", dir.path .. "/digest", der)
  local text = certs.openssl("base64", "-in", dir.path .. "/digest")
  dir:remove()
  return (text:gsub("%s", ""))
end

describe("Chromium", function()
  local store, s, home

  setup(function()
    store = localhost.new()
    s = store:start({ app = APP })
    home = temp.dir()
  end)

  teardown(function()
    assert.equal(0, s:stop())
    store:remove()
    home:remove()
  end)

  it("loads a page with twenty resources over one HTTP/2 connection", function()
    local result = peer.run({ "env", "HOME=" .. home.path, "chromium", "--headless",
      "--no-sandbox", "--disable-gpu",
      "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--disable-breakpad",
      "--disable-dev-shm-usage", "--no-proxy-server", "--user-data-dir=" .. home.path,
      "--ignore-certificate-errors-spki-list=" .. key_digest(store.certificate), "--dump-dom",
      s.base .. "/" })
    assert.equal(0, result.exit, result.stderr)
    assert.equal("7 6 7 h2", result.stdout:match('<p id="result">(.-)</p>'), result.stdout)

    local answer = peer.run({ "curl", "-q", "-sS", "--cacert", store.authority,
      s.base .. "/seen/all" })
    local paths, connections, protocols = {}, {}, {}
    for _, request in ipairs(json.decode(answer.stdout)) do
      paths[request.path] = (paths[request.path] or 0) + 1
      connections[request.connection] = true
      protocols[("%s %s %s"):format(request.protocol, request.alpn, request.version)] = true
    end
    local expected = { ["/"] = 1 }
    for kind, count in pairs({ ["/j%d.js"] = 7, ["/s%d.css"] = 6, ["/i%d.gif"] = 7 }) do
      for i = 1, count do
        expected[kind:format(i)] = 1
      end
    end
    assert.same(expected, paths)
    assert.same({ ["HTTP/2 h2 TLSv1.3"] = true }, protocols)
    local first = next(connections)
    assert.is_nil(next(connections, first))
  end)
end)
