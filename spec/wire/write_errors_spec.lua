local await = require("spec.support.await")
local server = require("spec.support.server")
local wire = require("spec.support.wire")

-- What each call did is noted: "nil reset" when it returned that, "raised reset" when it raised.
local APP = [[
local moonquay = require("moonquay")
local app = moonquay.app()
local PIECE = ("x"):rep(65536)
local notes = {}
local function note(...) notes[#notes + 1] = table.concat({ ... }, " ") end
local function attempt(what, fn, ...)
  local ok, result, err = pcall(fn, ...)
  local code = ok and err or result
  code = type(code) == "table" and code.code or tostring(code)
  note(what, ok and (result and "done" or "nil " .. code) or "raised " .. code)
  return ok and result
end
app:get("/notes", function()
  if notes[#notes] ~= "ended" then return 204 end
  local text = table.concat(notes, ", ", 1, #notes - 1)
  notes = {}
  return text
end)
app:use(function(req, res, next)
  if req.path ~= "/notes" then
    res:after(function() note("ended") end)
    note("begun")
  end
  return next()
end)

local function until_gone(req) while not req:cancelled() do moonquay.sleep(0.001) end end
app:get("/before", function(req, res)
  until_gone(req)
  attempt("first", res.write, res, "x")
  attempt("second", res.write, res, "y")
  attempt("empty", res.write, res, "")
  note(tostring(res.finished))
end)
app:get("/between", function(req, res)
  attempt("first", res.write, res, "part")
  res:flush()
  until_gone(req)
  attempt("second", res.write, res, "y")
  attempt("third", res.write, res, "z")
  note(tostring(res.finished))
end)
app:get("/unnoticed", function(_, res)
  local ok, written
  repeat ok, written = pcall(res.write, res, PIECE) until not (ok and written)
  attempt("again", res.write, res, "y")
end)
app:get("/large", function(req, res)
  until_gone(req)
  attempt("whole", res.finish, res, PIECE:rep(1000))
  note(tostring(res.finished))
end)
app:get("/last", function(req, res)
  res:write("part")
  res:flush()
  until_gone(req)
  attempt("end", res.finish, res)
end)
app:get("/last/content", function(req, res)
  res:write("part")
  res:flush()
  until_gone(req)
  attempt("end", res.finish, res, "x")
end)
app:get("/last/returned", function(req)
  until_gone(req)
  return "x"
end)
app:get("/last/nothing", function(req, res)
  res:write("part")
  res:flush()
  until_gone(req)
end)

-- A task that was cancelled is what a cancelled token is elsewhere.
local function cancelled(fn)
  local task = moonquay.spawn(function()
    moonquay.sleep(60)
    fn()
  end)
  moonquay.sleep(0)
  task:cancel()
  task:join()
end
app:get("/token/first", function(req, res)
  req:on_cancel(function(code) note("on_cancel", code) end)
  cancelled(function() attempt("first", res.write, res, "x") end)
  attempt("later", res.write, res, "y")
end)
app:get("/token/later", function(req, res)
  res:write("part")
  res:flush()
  req:on_cancel(function(code) note("on_cancel", code) end)
  cancelled(function() attempt("second", res.write, res, "x") end)
  attempt("later", res.write, res, "y")
end)
app:get("/token/pending", function(_, res)
  local _, err = moonquay.timeout(0.05, function()
    while attempt("", res.write, res, PIECE) do notes[#notes] = nil end
  end)
  note(err.code)
  attempt("later", res.write, res, "y")
end)
app:get("/token/starting", function(_, res)
  res:on_starting(function() moonquay.sleep(60) end)
  moonquay.timeout(0.01, function() attempt("first", res.write, res, "x") end)
  attempt("later", res.write, res, "y")
end)
app:get("/token/none", function(_, res)
  assert(moonquay.timeout(60, function() return res:write("x") end))
  assert(moonquay.timeout(60, function() return res:write("y") end))
  note("written")
end)
return app
]]

-- By setting: how a failed write tells it.
for setting, tells in pairs({ ["false"] = "nil", ["true"] = "raised" }) do
  describe(("Writes that fail (reference section 8.5), throw_write_errors = %s:"):format(setting),
    function()
      local s
      setup(function()
        s = server.start({ app = APP, options = { "--set", "throw_write_errors=" .. setting,
          "--set", "log_level=debug" } })
      end)
      teardown(function()
        assert.equal(0, s:stop())
      end)

      local function notes()
        local connection = s:connect()
        local text = await("the end of the handler", function()
          local response = connection:get("/notes")
          return response.status == 200 and response.body
        end)
        connection:close()
        return text
      end

      local function visit(path)
        local connection = s:connect()
        connection:send("GET " .. path .. " HTTP/1.1\r\nHost: h\r\n\r\n")
        return connection
      end

      local function expect(text)
        assert.equal("begun, " .. text:gsub("TELLS", tells), notes())
      end

      local how = setting == "true" and "raises" or "returns nil and an error, and nothing more"
      describe("when the client is gone, a write " .. how, function()
        it("before the first", function()
          local connection = visit("/before")
          connection:reset()
          expect("first TELLS reset, second TELLS reset, empty TELLS reset, true")
        end)

        it("between two", function()
          local connection = visit("/between")
          connection:read_until("part\r\n")
          connection:reset()
          expect("first done, second TELLS reset, third TELLS reset, true")
        end)

        it("after several, when nothing had told of it", function()
          local connection = visit("/unnoticed")
          connection:receive(1000)
          connection:reset()
          assert.matches("^begun, again " .. tells .. " %l+$", notes())
        end)

        it("that would have to wait", function()
          local connection = visit("/large")
          connection:half_close()
          expect("whole TELLS closed, true")
          connection:close()
        end)

        it("and the request is aborted", function()
          local connection = visit("/between")
          connection:read_until("part\r\n")
          connection:half_close() -- who could still read
          local bytes, ended = connection:rest()
          assert.equal("", bytes)
          assert.truthy(ended)
          expect("first done, second TELLS closed, third TELLS closed, true")
        end)
      end)

      describe("a write by a task that was cancelled is cancelled, and the request is aborted:",
        function()
          it("the first", function()
            local connection = visit("/token/first")
            assert.same({ "", "reset" }, { connection:rest() })
            expect("on_cancel closed, first TELLS cancelled, later TELLS closed")
          end)

          it("a later one", function()
            local connection = visit("/token/later")
            local bytes, ended = connection:rest()
            assert.same({ "4\r\npart\r\n", "reset" }, { bytes:match("\r\n\r\n(.*)$"), ended })
            expect("on_cancel closed, second TELLS cancelled, later TELLS closed")
          end)

          it("one that waits", function()
            local connection = visit("/token/pending")
            expect(" TELLS cancelled, timeout, later TELLS closed")
            assert.equal("reset", select(2, connection:rest()))
          end)

          it("one whose on_starting function waited", function()
            local connection = visit("/token/starting")
            assert.same({ "", "reset" }, { connection:rest() })
            expect("first TELLS cancelled, later TELLS closed")
          end)
        end)

      describe("that the end of the response cannot be sent is ignored:", function()
        local cases = {
          { "finish", "/last", "end nil reset", true },
          { "what the handler returned", "/last/returned", "" },
          { "the end of the handler", "/last/nothing", "", true },
        }
        for _, case in ipairs(cases) do
          it(case[1], function()
            local connection = visit(case[2])
            if case[4] then
              connection:read_until("part\r\n")
            end
            connection:reset()
            assert.equal(("begun, " .. case[3]):gsub(", $", ""), notes())
            assert.is_nil(s:stderr():find("target=" .. case[2] .. "[ \n]"))
          end)
        end

        it("but not content that goes with it", function()
          local connection = visit("/last/content")
          connection:read_until("part\r\n")
          connection:reset()
          expect("end TELLS reset")
        end)
      end)

      it("writes of a task that is not cancelled are written", function()
        local got, ended = wire.converse(s,
          "GET /token/none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert.same({ wire.answer("200 OK", "Transfer-Encoding: chunked\r\nConnection: close\r\n",
          "1\r\nx\r\n1\r\ny\r\n0\r\n\r\n"), "closed" }, { got, ended })
        expect("written")
      end)
    end)
end
