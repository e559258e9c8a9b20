--- Which route a path belongs to: a tree of path segments, free of requests and handlers.
-- A pattern is literal segments, `:name` for one segment that is not empty, and at its end `*name`
-- for all that is left, which may be nothing. At each segment the literal is tried before the
-- parameter and the parameter before the wildcard, whatever the order of definition. A pattern that
-- fits the path but not the method lets a less exact one have the request; only when none has the
-- method is the answer a list of those that are allowed. Slashes count: "/a" and "/a/" differ.

local find, sub = string.find, string.sub

local route_tree = {}
route_tree.__index = route_tree

local function new_node()
  return { exact = {} }
end

--- An empty tree.
function route_tree.new()
  return setmetatable({ root = new_node() }, route_tree)
end

--- The segments of a pattern, each { kind = "exact"|"param"|"rest", text = … }, and the names of
-- its captures in order; raises a text without a place when the pattern is not one.
function route_tree.parse(pattern)
  if type(pattern) ~= "string" or sub(pattern, 1, 1) ~= "/" then
    error(("a path pattern begins with '/', this is %q"):format(tostring(pattern)), 0)
  end
  local segments, names, seen = {}, {}, {}
  for text in pattern:gmatch("/([^/]*)") do
    if segments[#segments] and segments[#segments].kind == "rest" then
      error(("the wildcard must be the last segment of %q"):format(pattern), 0)
    end
    local mark = sub(text, 1, 1)
    local kind = mark == ":" and "param" or mark == "*" and "rest" or "exact"
    if kind ~= "exact" then
      text = sub(text, 2)
      if not find(text, "^[%a_][%w_]*$") then
        error(("%q is no name for a parameter, in %q"):format(text, pattern), 0)
      elseif seen[text] then
        error(("the parameter %q occurs twice in %q"):format(text, pattern), 0)
      end
      seen[text] = true
      names[#names + 1] = text
    end
    segments[#segments + 1] = { kind = kind, text = text }
  end
  return segments, names
end

local function child_of(node, segment)
  if segment.kind == "exact" then
    node.exact[segment.text] = node.exact[segment.text] or new_node()
    return node.exact[segment.text]
  end
  node[segment.kind] = node[segment.kind] or new_node()
  return node[segment.kind]
end

--- Adds a route for a method, or for all methods when it is nil. The route is any table; its field
-- `names` is set to the names of its captures. Returns the route that is already there instead of
-- adding a second one with the same shape (names of parameters do not tell routes apart).
function route_tree:add(method, pattern, route)
  local segments, names = route_tree.parse(pattern)
  local node = self.root
  for _, segment in ipairs(segments) do
    node = child_of(node, segment)
  end
  local leaf = node.leaf or { methods = {} }
  local other
  if method then
    other = leaf.methods[method]
  else
    other = leaf.any
  end
  if other then
    return other
  end
  route.names = names
  if method then
    leaf.methods[method] = route
  else
    leaf.any = route
  end
  node.leaf = leaf
  return nil
end

-- The leaf's route for the method; else its methods are noted as allowed.
local function accept(leaf, method, allowed)
  local methods = leaf.methods
  local route = methods[method] or method == "HEAD" and methods.GET or leaf.any
  if not route then
    for name in pairs(methods) do
      allowed[name] = true
    end
  end
  return route
end

local function walk(node, search, from, depth)
  local path, values = search.path, search.values
  local slash = find(path, "/", from, true)
  local segment = sub(path, from, slash and slash - 1 or -1)
  local route
  local child = node.exact[segment]
  if child then
    if slash then
      route = walk(child, search, slash + 1, depth)
    elseif child.leaf then
      route = accept(child.leaf, search.method, search.allowed)
    end
    if route then
      return route
    end
  end
  child = node.param
  if child and segment ~= "" then
    if slash then
      route = walk(child, search, slash + 1, depth + 1)
    elseif child.leaf then
      route = accept(child.leaf, search.method, search.allowed)
    end
    if route then
      values[depth + 1] = segment
      return route
    end
  end
  child = node.rest
  if child then
    route = accept(child.leaf, search.method, search.allowed)
    if route then
      values[depth + 1] = sub(path, from)
    end
  end
  return route
end

--- The route for a method and a path with the list of its captures; or nil and the set of methods
-- that the path has (empty when no pattern fits). Visits each node at most once.
function route_tree:match(method, path)
  local search = { method = method, path = path, values = {}, allowed = {} }
  local route = sub(path, 1, 1) == "/" and walk(self.root, search, 2, 0)
  if route then
    return route, search.values
  end
  return nil, search.allowed
end

local function visit(node, prefix, each)
  if node.leaf then
    each(prefix, node.leaf.methods, node.leaf.any)
  end
  for text, child in pairs(node.exact) do
    visit(child, prefix .. "/" .. text, each)
  end
end

--- Calls each(path, methods, any) for every pattern without captures.
function route_tree:each_exact(each)
  visit(self.root, "", each)
end

return route_tree
