local Values = require("moonquay.values")

describe("values (query, form, cookies)", function()
  local values = Values.new({ "a", "1", "b", "2", "a", "3", "all", "x", "get", "y" })

  it("give the first value of a name", function()
    assert.equal("1", values.a)
    assert.is_nil(values.c)
  end)

  it("list all values of a name in order", function()
    assert.same({ "1", "3" }, values:all("a"))
    assert.same({}, values:all("c"))
  end)

  it("keep their methods whatever names a client sends", function()
    assert.is_function(values.all)
    assert.is_function(values.get)
    assert.equal("x", values:get("all"))
    assert.same({ "y" }, values:all("get"))
  end)

  it("come in order from pairs, repeated names each time", function()
    local seen = {}
    for name, value in pairs(values) do
      seen[#seen + 1] = name .. "=" .. value
    end
    assert.equal("a=1 b=2 a=3 all=x get=y", table.concat(seen, " "))
  end)

  it("cannot be assigned", function()
    assert.error_matches(function()
      values.a = "2"
    end, "cannot be changed")
  end)
end)
