local certs = require("spec.support.certs")
local issue = require("moonquay.probe").issue

describe("tls_verify", function()
  local store, now
  local text = {} -- by name

  setup(function()
    store = certs.new()
    now = os.time()
    store:authority("root")
    store:authority("other")
    store:authority("middle", { by = "root" })
    store:make("leaf", { by = "middle", names = { "a.test" } })
    store:make("self", { names = { "a.test" } })
    for _, name in ipairs({ "root", "other", "middle", "leaf", "self" }) do
      text[name] = store:read(name .. ".pem")
    end
    local authority, key = assert(issue.authority({ now = now }))
    text.client = assert(issue.certificate({ now = now, client = "alice" }, authority, key))
    text.ours = authority
  end)

  teardown(function()
    store:remove()
  end)

  local right = {
    { "the chain", { "leaf", "middle" }, { "root" } },
    { "the chain with its root", { "leaf", "middle", "root" }, { "root" } },
    { "one authority of several", { "leaf", "middle" }, { "other", "root" } },
    { "one that is trusted itself", { "self" }, { "self" } },
  }
  local wrong = { -- what, certificate, authorities, seconds from now, why
    { "another authority", { "leaf", "middle" }, { "other" }, 0,
      "unable to get local issuer certificate (middle)" },
    { "a chain with a gap", { "leaf" }, { "root" }, 0,
      "unable to get local issuer certificate (leaf)" },
    { "one signed by itself", { "self" }, { "root" }, 0, "self-signed certificate (self)" },
    { "one for clients", { "client" }, { "ours" }, 0, "unsuitable certificate purpose (alice)" },
    { "one that has expired", { "leaf", "middle" }, { "root" }, 31 * 86400,
      "certificate has expired (root)" },
    { "one that is not valid yet", { "leaf", "middle" }, { "root" }, -86400,
      "certificate is not yet valid (root)" },
    { "no authority", { "leaf", "middle" }, {}, 0,
      'no certificate in it (PEM, "BEGIN CERTIFICATE")' },
  }

  local function join(names)
    local list = {}
    for i, name in ipairs(names) do
      list[i] = text[name]
    end
    return table.concat(list)
  end

  for _, case in ipairs(right) do
    it("takes " .. case[1], function()
      assert.is_true(issue.verify(join(case[2]), join(case[3]), now + 60))
    end)
  end

  for _, case in ipairs(wrong) do
    it("refuses " .. case[1], function()
      local ok, why, code = issue.verify(join(case[2]), join(case[3]), now + case[4])
      assert.is_nil(ok)
      assert.equal(case[5], why)
      assert.equal("invalid", code)
    end)
  end
end)
