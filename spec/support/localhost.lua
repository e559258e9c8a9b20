--- HTTPS on localhost, with certificates of `moonquay cert create`, as a developer has it.
local ports = require("spec.support.ports")
local server = require("spec.support.server")
local temp = require("spec.support.temp")

local localhost = {}
local Store = {}
Store.__index = Store

--- Certificates for localhost, the authority behind them, and those of the clients that are named.
-- store.authority, .certificate, .key; store:client(name) is certificate and key; store:remove().
function localhost.new(...)
  local dir = temp.dir()
  local self = setmetatable({ dir = dir, path = dir.path .. "/certs" }, Store)
  for _, words in ipairs({ {}, table.unpack({ ... }) }) do
    local client = type(words) == "string" and { "--client", words } or {}
    local result = server.run({ "cert", "create", "--dir", self.path, table.unpack(client) })
    assert(result.status == 0, result.stderr)
  end
  self.authority = self.path .. "/ca.pem"
  self.certificate, self.key = self:client("localhost")
  return self
end

function Store:client(name)
  return ("%s/%s.pem"):format(self.path, name), ("%s/%s.key"):format(self.path, name)
end

--- A file of these, by its path.
function localhost.read(path)
  local file = assert(io.open(path))
  local text = file:read("a")
  file:close()
  return text
end

function Store:remove()
  self.dir:remove()
end

--- The words that make a server of it, and those of more ({ name = value } of the binding).
function Store:words(more)
  local binding = { "certificate=" .. self.certificate, "key=" .. self.key }
  for name, value in pairs(more or {}) do
    binding[#binding + 1] = name .. "=" .. value
  end
  return { "--urls", ("https://localhost:%d"):format(ports.free()), "--set",
    "tls=" .. table.concat(binding, " ") }
end

--- Starts a server. options as for server.start, and binding: more for the binding. s.base is the
-- beginning of its URLs.
function Store:start(options)
  local words = self:words(options.binding)
  local all = {}
  for name, value in pairs(options) do
    all[name] = value
  end
  all.options = table.move(options.options or {}, 1, #(options.options or {}), #words + 1, words)
  local s = server.start(all)
  s.base = ("https://localhost:%d"):format(s.port)
  return s
end

return localhost
