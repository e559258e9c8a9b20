--- Certificates for the specs, made by the openssl command in a temporary directory.
local peer = require("spec.support.peer")
local temp = require("spec.support.temp")

local certs = {}
local Store = {}
Store.__index = Store

local KEYS = {
  ec = { "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256" },
  p384 = { "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384" },
  p224 = { "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-224" },
  rsa = { "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048" },
  rsa1024 = { "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024" },
  ed25519 = { "-algorithm", "ED25519" },
}

--- Runs openssl with these words and returns its standard output; raises when it fails.
function certs.openssl(...)
  local result = peer.run({ "openssl", ... })
  if result.exit ~= 0 then
    error(("openssl %s:\n%s"):format(table.concat({ ... }, " "), result.stderr), 2)
  end
  return result.stdout
end

--- A place for certificates; store:remove() takes all of them away.
function certs.new()
  return setmetatable({ temp = temp.dir(), made = {} }, Store)
end

function Store:path(name)
  return self.temp.path .. "/" .. name
end

function Store:write(name, text)
  return self.temp:write(name, text)
end

function Store:read(name)
  return assert(self.temp:read(name), name)
end

function Store:remove()
  self.temp:remove()
end

local function extensions(options)
  local lines = {}
  if options.authority then
    lines[#lines + 1] = "basicConstraints=critical,CA:TRUE"
    lines[#lines + 1] = "keyUsage=critical,keyCertSign,cRLSign"
  else
    lines[#lines + 1] = "basicConstraints=CA:FALSE"
  end
  local names = {}
  for _, name in ipairs(options.names or {}) do
    names[#names + 1] = "DNS:" .. name
  end
  for _, ip in ipairs(options.ips or {}) do
    names[#names + 1] = "IP:" .. ip
  end
  if #names > 0 then
    lines[#lines + 1] = "subjectAltName=" .. table.concat(names, ",")
  end
  return table.concat(lines, "\n") .. "\n"
end

--- Makes NAME.key and NAME.pem, and NAME.chain: the certificate with all that vouch for it but the
-- root. options: key (ec, rsa …), cn (NAME), names and ips (alternative names), by (the name of an
-- authority made before; without it signed by itself), authority = true, days (30), file = the
-- name of the files. Returns the paths: { cert =, key =, chain = }.
function Store:make(name, options)
  options = options or {}
  local key, request = self:path(name .. ".key"), self:path(name .. ".csr")
  local cert, ext = self:path(name .. ".pem"), self:write(name .. ".ext", extensions(options))
  certs.openssl("genpkey", "-out", key, table.unpack(KEYS[options.key or "ec"]))
  certs.openssl("req", "-new", "-key", key, "-out", request, "-subj",
    "/CN=" .. (options.cn or name))
  local by = options.by
  local sign = { "x509", "-req", "-in", request, "-out", cert, "-extfile", ext,
    "-days", tostring(options.days or 30) }
  if by then
    table.move({ "-CA", self:path(by .. ".pem"), "-CAkey", self:path(by .. ".key"),
      "-CAcreateserial" }, 1, 5, #sign + 1, sign)
  else
    table.move({ "-key", key }, 1, 2, #sign + 1, sign)
  end
  certs.openssl(table.unpack(sign))
  local issuer = by and self.made[by]
  local made = { cert = cert, key = key, chain = self:path(name .. ".chain") }
  local rest = issuer and issuer.signed and self:read(by .. ".chain") or ""
  self:write(name .. ".chain", self:read(name .. ".pem") .. rest)
  made.signed = by ~= nil
  self.made[name] = made
  return made
end

--- An authority, signed by itself or by another one.
function Store:authority(name, options)
  local all = { authority = true }
  for key, value in pairs(options or {}) do
    all[key] = value
  end
  return self:make(name, all)
end

return certs
