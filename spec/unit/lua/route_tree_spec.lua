local route_tree = require("moonquay.route_tree")

-- A tree of patterns, each "METHOD pattern" or just a pattern for any method.
local function tree_of(definitions)
  local tree = route_tree.new()
  for _, text in ipairs(definitions) do
    local method, pattern = text:match("^(%u+) (.*)$")
    assert.is_nil(tree:add(method, pattern or text, { text = text }))
  end
  return tree
end

local function shuffled_orders(list)
  local forward, backward = table.move(list, 1, #list, 1, {}), {}
  for i = #list, 1, -1 do
    backward[#backward + 1] = list[i]
  end
  return { forward, backward }
end

describe("a route tree", function()
  local definitions = {
    "GET /",
    "GET /orders",
    "POST /orders",
    "GET /orders/new",
    "GET /orders/:id",
    "PUT /orders/:id",
    "GET /orders/:id/items/:item",
    "GET /orders/*rest",
    "GET /files/*path",
    "/any",
    "GET /any",
    "GET /a/:x/c",
    "GET /a/b/d",
    "GET /:lang/about",
  }
  local cases = {
    { "GET", "/", "GET /", {} },
    { "GET", "/orders", "GET /orders", {} },
    { "POST", "/orders", "POST /orders", {} },
    { "HEAD", "/orders", "GET /orders", {} },
    { "GET", "/orders/new", "GET /orders/new", {} },
    { "GET", "/orders/7", "GET /orders/:id", { "7" } },
    { "PUT", "/orders/new", "PUT /orders/:id", { "new" } },
    { "GET", "/orders/7/items/a%2Fb", "GET /orders/:id/items/:item", { "7", "a%2Fb" } },
    { "GET", "/orders/7/other", "GET /orders/*rest", { "7/other" } },
    { "GET", "/orders/", "GET /orders/*rest", { "" } },
    { "GET", "/orders/7/", "GET /orders/*rest", { "7/" } },
    { "GET", "/files/", "GET /files/*path", { "" } },
    { "GET", "/files//x", "GET /files/*path", { "/x" } },
    { "GET", "/any", "GET /any", {} },
    { "PATCH", "/any", "/any", {} },
    { "GET", "/a/b/c", "GET /a/:x/c", { "b" } },
    { "GET", "/a/b/d", "GET /a/b/d", {} },
    { "GET", "/fr/about", "GET /:lang/about", { "fr" } },
  }
  for order, list in ipairs(shuffled_orders(definitions)) do
    local tree = tree_of(list)
    for _, case in ipairs(cases) do
      it(("gives %s %s to %s, order %d"):format(case[1], case[2], case[3], order), function()
        local route, values = tree:match(case[1], case[2])
        assert.equal(case[3], route and route.text)
        assert.same(case[4], table.move(values, 1, #route.names, 1, {}))
      end)
    end
  end

  local missing = {
    { "GET", "/order", {} },
    { "GET", "/files", {} },
    { "GET", "//about", {} },
    { "GET", "/a/b", {} },
    { "GET", "*", {} },
    { "GET", "", {} },
    { "DELETE", "/orders", { GET = true, POST = true } },
    { "DELETE", "/orders/new", { GET = true, PUT = true } },
    { "get", "/orders", { GET = true, POST = true } },
  }
  for _, case in ipairs(missing) do
    it(("has nothing for %s %q but names the methods"):format(case[1], case[2]), function()
      local route, allowed = tree_of(definitions):match(case[1], case[2])
      assert.is_nil(route)
      assert.same(case[3], allowed)
    end)
  end

  it("gives the names of a route's captures in order", function()
    local route = tree_of({ "GET /x/:a/:b/*c" }):match("GET", "/x/1/2/3/4")
    assert.same({ "a", "b", "c" }, route.names)
  end)

  local conflicts = {
    { "GET /a", "GET /a" },
    { "GET /:a", "GET /:b" },
    { "GET /x/*a", "GET /x/*b" },
    { "/a/:b/c", "/a/:x/c" },
  }
  for _, pair in ipairs(conflicts) do
    it(("returns the first of %s and %s instead of adding the second"):format(pair[1], pair[2]),
      function()
        local tree = tree_of({ pair[1] })
        local method, pattern = pair[2]:match("^(%u+) (.*)$")
        local other = tree:add(method, pattern or pair[2], {})
        assert.equal(pair[1], other and other.text)
      end)
  end

  local wrong = {
    { "a", "begins with '/'" },
    { "", "begins with '/'" },
    { "/*rest/x", "last segment" },
    { "/:", "no name" },
    { "/*", "no name" },
    { "/:a-b", "no name" },
    { "/:id/:id", "occurs twice" },
    { 7, "begins with '/'" },
  }
  for _, case in ipairs(wrong) do
    it(("refuses the pattern %s"):format(tostring(case[1])), function()
      assert.error_matches(function()
        route_tree.parse(case[1])
      end, case[2])
    end)
  end

  it("visits every exact pattern", function()
    local seen = {}
    tree_of(definitions):each_exact(function(pattern)
      seen[#seen + 1] = pattern
    end)
    table.sort(seen)
    assert.same({ "/", "/a/b/d", "/any", "/orders", "/orders/new" }, seen)
  end)
end)
