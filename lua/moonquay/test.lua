--- Requests to an app without a port, for specs in plain busted: the real HTTP/1.1 engine over a
-- socket pair, so that limits, framing and fields are exercised as over the network.
--
--   local client = require("moonquay.test").client("app.lua")
--   local response = client:get("/hello/ann")

local core = require("moonquay.core")
local boot = require("moonquay.boot")
local names_of = require("moonquay.names")
local reader = require("moonquay.test_reader")
local url = require("moonquay.url")

boot.install()

local test = {}

local DEADLINE = 10 -- seconds until the next piece of an answer

---@class moonquay.TestOptions
---@field headers? table<string, string|string[]> sent with every request
---@field cookies? boolean keep cookies from response to request
---@field deadline? number seconds to wait for the next piece of an answer (10)
---@field prefixes? string[] what the app is served at: "http://test:80/shop/"; else everything
---@field shared? boolean behind a host, as if the app were a process of its own

---@class moonquay.TestRequest
---@field headers? table<string, string|string[]>
---@field body? string|string[]|fun(): string? pieces are sent with chunked framing
---@field trailers? table<string, string> after a body in pieces
---@field query? table<string, string|number|(string|number)[]>
---@field json? any is encoded
---@field form? table<string, string|number|(string|number)[]> is sent urlencoded

---@alias moonquay.TestCall fun(self, path: string, r?: moonquay.TestRequest): moonquay.TestResponse

---@class moonquay.TestClient
---@field get moonquay.TestCall
---@field post moonquay.TestCall
---@field put moonquay.TestCall
---@field patch moonquay.TestCall
---@field delete moonquay.TestCall
---@field head moonquay.TestCall
---@field options moonquay.TestCall
local Client = {}
Client.__index = Client
Client.__name = "moonquay.TestClient"

-- Adds "name: value" lines; a list as value repeats the name.
local function add_fields(lines, fields)
  for _, name in ipairs(names_of(fields or {})) do
    local values = type(fields[name]) == "table" and fields[name] or { fields[name] }
    for _, value in ipairs(values) do
      lines[#lines + 1] = ("%s: %s"):format(name, value)
    end
  end
end

-- A function that returns the pieces of a body one by one.
local function pieces_of(body)
  if type(body) == "function" then
    return body
  end
  local at = 0
  return function()
    at = at + 1
    return body[at]
  end
end

-- Ends early when the server does not read on: its answer says why.
local function send_pieces(connection, request)
  for piece in pieces_of(request.body) do
    if piece ~= "" and not connection:send(("%x\r\n%s\r\n"):format(#piece, piece)) then
      return
    end
  end
  local lines = { "0" }
  add_fields(lines, request.trailers)
  connection:send(table.concat(lines, "\r\n") .. "\r\n\r\n")
end

local function cookie_text(jar)
  local list = names_of(jar)
  for i, name in ipairs(list) do
    list[i] = name .. "=" .. jar[name]
  end
  return list[1] and table.concat(list, "; ")
end

-- Keeps the cookies of a response; Max-Age=0 forgets one.
local function keep_cookies(jar, response)
  for _, text in ipairs(response.headers:all("set-cookie")) do
    local name, value = text:match("^([^=]+)=([^;]*)")
    local age = tonumber(text:lower():match(";%s*max%-age=(%-?%d+)"))
    jar[name] = not (age and age <= 0) and value or nil
  end
end

-- The request with its body as text or pieces, and the fields that follow from it.
local function complete(client, path, given)
  local request = { path = path, body = given.body, trailers = given.trailers }
  local fields = { host = "test" }
  if given.json ~= nil then
    request.body, fields["content-type"] = core.json.encode(given.json), "application/json"
  elseif given.form then
    request.body = url.encode_query(given.form)
    fields["content-type"] = "application/x-www-form-urlencoded"
  end
  if given.query then
    local mark = path:find("?", 1, true) and "&" or "?"
    request.path = path .. mark .. url.encode_query(given.query)
  end
  if type(request.body) == "string" then
    fields["content-length"] = #request.body
  elseif request.body then
    fields["transfer-encoding"] = "chunked"
  end
  fields.cookie = client.jar and cookie_text(client.jar)
  for _, more in ipairs({ client.headers, given.headers or {} }) do
    for name, value in pairs(more) do
      fields[name:lower()] = value
    end
  end
  request.fields = fields
  return request
end

-- The body goes in a task of its own: a handler may answer while it reads.
local function send_request(connection, method, request)
  local lines = { ("%s %s HTTP/1.1"):format(method, request.path) }
  add_fields(lines, request.fields)
  connection:send(table.concat(lines, "\r\n") .. "\r\n\r\n")
  if type(request.body) == "string" then
    return core.spawn(connection.send, connection, request.body)
  elseif request.body then
    return core.spawn(send_pieces, connection, request)
  end
end

--- Sends a request and reads the response. Nil when the connection ended without one.
---@param method string
---@param path string
---@param request? moonquay.TestRequest
---@return moonquay.TestResponse?
function Client:request(method, path, request)
  local connection = self.server:connect()
  local _ <close> = setmetatable({}, {
    __close = function()
      connection:close()
    end,
  })
  local sending = send_request(connection, method, complete(self, path, request or {}))
  local response = reader.read(connection, method, self.deadline)
  if sending and sending.done then
    local ok, err = sending:join()
    if not ok then
      error(err, 2) -- the spec's own function for the pieces failed
    end
  elseif sending then
    sending:cancel()
  end
  if response and self.jar then
    keep_cookies(self.jar, response)
  end
  return response
end

for _, verb in ipairs({ "get", "post", "put", "patch", "delete", "head", "options" }) do
  local method = verb:upper()
  Client[verb] = function(self, path, request)
    return self:request(method, path, request)
  end
end

--- A client of an app: a file, what such a file returns, or a handler.
---@param app string|moonquay.App|moonquay.Handler
---@param options? moonquay.TestOptions
---@return moonquay.TestClient
function test.client(app, options)
  options = options or {}
  local handler, more
  if type(app) == "string" then
    handler, more = core.load_app(app)
  else
    handler, more = boot.handler(app)
  end
  if not handler then
    error(tostring(more), 2)
  end
  return setmetatable({
    server = core.server(handler, more, options.prefixes, options.shared),
    headers = options.headers or {},
    jar = options.cookies and {} or nil,
    deadline = options.deadline or DEADLINE,
  }, Client)
end

return test
