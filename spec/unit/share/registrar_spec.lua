-- The book-keeper of a host, with real sockets; the spec is the master that it asks.
local await = require("spec.support.await")
local probe = require("moonquay.probe")
local new_registrar = probe.registrar.registrar
local sys, temp = probe.sys, require("spec.support.temp")

local ATTACH, WORKER, ASK, DETACH, REPLY, CHANNEL, COMMAND = 2, 3, 4, 5, 6, 7, 8
local US, STRANGER = sys.geteuid(), 12345

local function text_of(pairs_list)
  local out = {}
  for i, pair in ipairs(pairs_list) do
    out[i] = pair[1] .. "\0" .. pair[2] .. "\0"
  end
  return table.concat(out)
end

local function value_of(list, key)
  for _, pair in ipairs(list) do
    if pair[1] == key then return pair[2] end
  end
  return nil
end

local function values_of(list, key)
  local out = {}
  for _, pair in ipairs(list) do
    if pair[1] == key then out[#out + 1] = pair[2] end
  end
  return out
end

-- What an app wants: prefixes, and settings by key.
local function wish(apps)
  local list = { { "version", "1" } }
  for i, app in ipairs(apps) do
    list[#list + 1] = { (i - 1) .. ":name", app.name or "app.lua" }
    for key, value in pairs(app.settings or {}) do
      list[#list + 1] = { (i - 1) .. ":set:" .. key, value }
    end
    for _, prefix in ipairs(app) do
      list[#list + 1] = { (i - 1) .. ":+", prefix }
    end
  end
  return text_of(list)
end

describe("registrar", function()
  local dir, registrar, count

  before_each(function()
    dir, count = temp.dir(), 0
  end)

  after_each(function()
    registrar = nil
    collectgarbage()
    dir:remove()
  end)

  -- Without a uid the host is ours: we may register everything.
  local function open(uid, state)
    count = count + 1
    registrar = new_registrar(dir.path .. "/" .. count .. ".sock", uid or US, state)
    return registrar
  end

  -- Answers what is asked as a master does that finds no fault.
  local function agree()
    local asked = registrar:asked()
    for _, question in ipairs(asked) do
      local result = {}
      for _, prefix in ipairs(values_of(question.pairs, "+")) do
        result[#result + 1] = { "+", (prefix:gsub(":0/", ":5001/")) }
      end
      registrar:reply(question.number, nil, text_of(result))
    end
    registrar:turn()
    return asked
  end

  -- Attaches and returns the reply.
  local function attach(program, apps)
    program:say(ATTACH, 7, wish(apps))
    registrar:turn()
    agree()
    return program:heard()
  end

  it("asks the master for each app as a whole, and then says what it has", function()
    open()
    local program = registrar:program()
    program:say(ATTACH, 7, wish({
      { name = "shop.lua", "http://localhost:0/", "http://localhost:5002/b/",
        settings = { server_header = "x" } },
      { name = "blog.lua", "http://localhost:5003/" },
    }))
    registrar:turn()
    local asked = agree()
    assert.equal(2, #asked)
    assert.same({ "open", "0", "shop.lua", tostring(US), "x" }, {
      value_of(asked[1].pairs, "op"), value_of(asked[1].pairs, "app"),
      value_of(asked[1].pairs, "value"), value_of(asked[1].pairs, "uid"),
      value_of(asked[1].pairs, "set:server_header") })
    assert.same({ "http://localhost:0/", "http://localhost:5002/b/" },
      values_of(asked[1].pairs, "+"))
    assert.same({ "http://localhost:5003/" }, values_of(asked[2].pairs, "+"))
    local reply = program:heard()
    assert.same({ REPLY, 7 }, { reply.kind, reply.number })
    assert.same({ "http://localhost:5001/", "http://localhost:5002/b/" },
      values_of(reply.pairs, "0:+"))
    assert.same({ "http://localhost:5003/" }, values_of(reply.pairs, "1:+"))
  end)

  it("says why the master refuses, and takes the rest back", function()
    open()
    local program = registrar:program()
    program:say(ATTACH, 7, wish({ { "http://localhost:5001/" }, { "http://localhost:5002/" } }))
    registrar:turn()
    local asked = registrar:asked()
    registrar:reply(asked[1].number, nil, "+\0http://localhost:5001/\0")
    registrar:reply(asked[2].number, "the port is in use", "code\0" .. "69\0")
    registrar:turn()
    local reply = program:heard()
    assert.equal("the port is in use", value_of(reply.pairs, "wrong"))
    assert.equal("69", value_of(reply.pairs, "code"))
    asked = agree()
    assert.equal(1, #asked)
    assert.same({ "close", "0" },
      { value_of(asked[1].pairs, "op"), value_of(asked[1].pairs, "app") })
    -- Nothing of it is left, and it may try again.
    reply = attach(program, { { "http://localhost:5001/" } })
    assert.is_nil(value_of(reply.pairs, "wrong"))
  end)

  describe("lets register", function()
    local cases = {
      { "http://localhost:5000/", "everybody", allowed = true },
      { "http://localhost:0/", "everybody", allowed = true },
      { "http://localhost:1024/", "root alone", allowed = false },
      { "http://LOCALHOST:1025/a/", "everybody", allowed = true },
      { "http://+:5000/", "root alone", allowed = false },
      { "http://*:5000/", "root alone", allowed = false },
      { "http://127.0.0.1:5000/", "root alone", allowed = false },
      { "http://a.localhost:5000/", "root alone", allowed = false },
      { "https://localhost:5000/", "root alone", allowed = false },
      { "http://example.com:5000/", "root alone", allowed = false },
    }
    for _, case in ipairs(cases) do
      it(case[2] .. " " .. case[1] .. " (reference section 2.5)", function()
        open(US + 1) -- the host is another user's
        if US == 0 then
          local root = registrar:program()
          assert.is_nil(value_of(attach(root, { { case[1] } }).pairs, "wrong"))
          root:say(DETACH, 0, "keep\0" .. "0\0")
          registrar:turn()
          agree()
        end
        local stranger = registrar:program(US == 0 and STRANGER or nil)
        stranger:say(ATTACH, 7, wish({ { case[1] } }))
        registrar:turn()
        agree()
        local reply = stranger:heard()
        assert.equal(case.allowed and "nil" or "77", tostring(value_of(reply.pairs, "code")))
        assert.equal(not case.allowed,
          (value_of(reply.pairs, "wrong") or ""):find("may not register it", 1, true) ~= nil)
      end)
    end

    it("the host's own user everything", function()
      open()
      assert.is_nil(value_of(attach(registrar:program(), { { "http://+:80/" } }).pairs, "wrong"))
    end)
  end)

  it("gives a prefix to one app only", function()
    open()
    attach(registrar:program(), { { "http://localhost:5001/a/" } })
    local reply = attach(registrar:program(), { { "http://LOCALHOST:5001/A/" } })
    assert.equal("69", value_of(reply.pairs, "code"))
    assert.truthy(value_of(reply.pairs, "wrong"):find("http://localhost:5001/A/", 1, true))
    reply = attach(registrar:program(), { { "http://localhost:5001/b/" } })
    assert.is_nil(value_of(reply.pairs, "wrong"))
  end)

  it("closes an app that the master has refused when its process has left already", function()
    open()
    local program = registrar:program()
    program:say(ATTACH, 7, wish({ { "http://localhost:5001/",
      settings = { registration_grace = "off", request_queue_name = "shop" } } }))
    registrar:turn()
    local asked = registrar:asked()
    program:leave()
    registrar:turn()
    registrar:reply(asked[1].number, "the port is in use", "code\0" .. "69\0")
    registrar:turn()
    assert.equal(0, #agree())
    local reply = attach(registrar:program(), { { "http://localhost:5002/",
      settings = { request_queue_name = "shop" } } })
    assert.is_nil(value_of(reply.pairs, "wrong"))
  end)

  describe("when a process ends", function()
    it("keeps its apps, and gives them to the next of its user", function()
      open()
      local first = registrar:program()
      attach(first, { { "http://localhost:5001/" } })
      first:leave()
      registrar:turn()
      assert.equal(0, #registrar:asked())
      local second = registrar:program()
      second:say(ATTACH, 8, wish({ { "http://localhost:5001/", "http://localhost:5002/" } }))
      registrar:turn()
      local asked = agree()
      assert.same({ "open", "0" },
        { value_of(asked[1].pairs, "op"), value_of(asked[1].pairs, "app") })
      assert.is_nil(value_of(second:heard().pairs, "wrong"))
    end)

    if US == 0 then
      it("keeps its apps from other users", function()
        open()
        local first = registrar:program(STRANGER)
        attach(first, { { "http://localhost:5001/" } })
        first:leave()
        registrar:turn()
        local reply = attach(registrar:program(STRANGER + 1), { { "http://localhost:5001/" } })
        assert.equal("69", value_of(reply.pairs, "code"))
      end)
    end

    it("keeps what was in force when its next one is refused", function()
      open()
      local settings = { request_queue_name = "shop", request_queue_mode = "create_or_attach",
        request_queue_acl = "user:#7" }
      local app = { "http://localhost:5001/", settings = settings }
      local first = registrar:program()
      attach(first, { app })
      first:leave()
      registrar:turn()
      local second = registrar:program()
      settings.request_queue_acl, settings["authentication.schemes"] = "user:#8", "basic"
      second:say(ATTACH, 8, wish({ app }))
      registrar:turn()
      local asked = registrar:asked()
      assert.equal("user:#8", value_of(asked[1].pairs, "set:request_queue_acl"))
      registrar:reply(asked[1].number, "the port is in use")
      registrar:turn()
      assert.equal("the port is in use", value_of(second:heard().pairs, "wrong"))
      -- Whoever serves it next has what the master still has.
      local reply = attach(registrar:program(US == 0 and 7 or nil), { { settings = {
        request_queue_name = "shop", request_queue_mode = "attach" } } })
      assert.is_nil(value_of(reply.pairs, "wrong"))
    end)

    it("closes its apps when nobody has come back in registration_grace", function()
      open()
      local program = registrar:program()
      attach(program, { { "http://localhost:5001/", settings = { registration_grace = "0" } } })
      program:leave()
      local asked
      repeat
        registrar:wait()
        asked = registrar:asked()
      until #asked > 0
      assert.same({ "close", "0" },
        { value_of(asked[1].pairs, "op"), value_of(asked[1].pairs, "app") })
    end)

    it("closes its apps at once when it says so", function()
      open()
      local program = registrar:program()
      attach(program, { { "http://localhost:5001/" } })
      program:say(DETACH, 0, "keep\0" .. "0\0")
      registrar:turn()
      assert.equal("close", value_of(registrar:asked()[1].pairs, "op"))
    end)
  end)

  it("knows after its own restart what there was, and whose", function()
    open(nil, text_of({ { "server:drain", "30" }, { "3:open", "app.lua" },
      { "3:uid", tostring(US) }, { "3:registration_grace", "off" },
      { "3:+", "http://localhost:5001/" } }))
    local program = registrar:program()
    program:say(ATTACH, 7, wish({ { "http://localhost:5001/" } }))
    registrar:turn()
    assert.equal("3", value_of(agree()[1].pairs, "app"))
    assert.is_nil(value_of(program:heard().pairs, "wrong"))
  end)

  describe("makes channels", function()
    local function heard_channels(program)
      local all = {}
      while true do
        local message = program:heard()
        if not message then return all end
        if message.kind == CHANNEL then
          all[#all + 1] = ("%d of app %s: %d"):format(message.number,
            value_of(message.pairs, "app"), message.fds)
        end
      end
    end

    local function made()
      local all = {}
      for _, channel in ipairs(registrar:channels()) do
        all[#all + 1] = ("app %d, slot %s, worker %s, most %s"):format(channel.number,
          value_of(channel.pairs, "slot"), value_of(channel.pairs, "worker"),
          value_of(channel.pairs, "most"))
      end
      return all
    end

    it("between each worker of the host and each of a process", function()
      open()
      registrar:worker(0)
      registrar:worker(1)
      local program = registrar:program()
      program:say(WORKER, 0, "serves\0" .. "1\0")
      registrar:turn()
      assert.same({}, made()) -- it has not attached
      attach(program, { { "http://localhost:5001/",
        settings = { max_concurrent_requests = "20" } } })
      assert.same({ "app 0, slot 0, worker 0, most 20", "app 0, slot 1, worker 0, most 20" },
        made())
      assert.same({ "0 of app 0: 1", "0 of app 0: 1" }, heard_channels(program))
      program:say(WORKER, 1, "serves\0" .. "1\0")
      registrar:turn()
      assert.equal(2, #made())
    end)

    it("not for a worker that has gone for good", function()
      open()
      registrar:worker(0)
      registrar:worker(7)
      registrar:worker_gone(7)
      local program = registrar:program()
      program:say(WORKER, 0, "serves\0" .. "1\0")
      attach(program, { { "http://localhost:5001/" } })
      assert.same({ "app 0, slot 0, worker 0, most 512" }, made())
      registrar:worker(7)
      assert.equal(1, #made())
    end)

    it("anew for a worker that was replaced, on either side, and for one that is worn", function()
      open()
      registrar:worker(0)
      local program = registrar:program()
      program:say(WORKER, 0, "serves\0" .. "1\0")
      attach(program, { { "http://localhost:5001/" } })
      local process = tonumber(value_of(registrar:channels()[1].pairs, "process"))
      program:say(WORKER, 0, "serves\0" .. "1\0")
      registrar:turn()
      assert.equal(1, #made())
      registrar:worker(0)
      assert.equal(1, #made())
      registrar:renew(process, 0, 0)
      assert.equal(1, #made())
      registrar:renew(process + 1, 0, 0)
      registrar:renew(process, 9, 0)
      assert.equal(0, #made())
      program:say(WORKER, 0, "serves\0" .. "0\0")
      registrar:turn()
      registrar:worker(0)
      assert.equal(0, #made())
    end)
  end)

  describe("request queues (reference section 3.2)", function()
    local URL, OTHER = "http://localhost:5001/", "http://localhost:5002/"

    -- Attaches one app with this queue; returns the reply's "wrong", and what the master was asked.
    local function join(program, mode, prefixes, settings)
      local app = { settings = { request_queue_name = "shop", request_queue_mode = mode } }
      table.move(prefixes, 1, #prefixes, 1, app)
      for key, value in pairs(settings or {}) do app.settings[key] = value end
      program:say(ATTACH, 7, wish({ app }))
      registrar:turn()
      local asked = agree()
      local reply = program:heard()
      return value_of(reply.pairs, "wrong"), asked, reply
    end

    before_each(function()
      open()
    end)

    it("are made once", function()
      assert.is_nil((join(registrar:program(), "create", { URL })))
      assert.equal('there is a request queue "shop" already',
        (join(registrar:program(), "create", { OTHER })))
    end)

    it("must be there to be attached to, and bring no prefixes then", function()
      local wrong, asked = join(registrar:program(), "attach", { URL })
      assert.equal('there is no request queue "shop"', wrong)
      assert.same({}, asked)
      join(registrar:program(), "create", { URL })
      local reply
      wrong, asked, reply = join(registrar:program(), "attach", { OTHER })
      assert.is_nil(wrong)
      assert.same({}, asked)
      assert.same({}, values_of(reply.pairs, "0:+"))
    end)

    it("have the prefixes of all who create or attach", function()
      join(registrar:program(), "create_or_attach", { URL })
      local second = registrar:program()
      local wrong, asked, reply = join(second, "create_or_attach", { OTHER, URL },
        { max_connections = "5" })
      assert.is_nil(wrong)
      assert.same({ "0", "5" }, { value_of(asked[1].pairs, "app"),
        value_of(asked[1].pairs, "set:max_connections") })
      assert.same({ OTHER, URL }, values_of(asked[1].pairs, "+"))
      assert.same({ OTHER, URL }, values_of(reply.pairs, "0:+"))
      local third = registrar:program()
      wrong, asked = join(third, "create_or_attach", { "http://localhost:5003/" })
      assert.is_nil(wrong)
      assert.same({ "http://localhost:5003/", OTHER, URL }, values_of(asked[1].pairs, "+"))
      -- What is not wished any more goes with who says so.
      third:say(DETACH, 0, "keep\0" .. "0\0")
      registrar:turn()
      asked = registrar:asked()
      assert.same({ "unlisten", "http://localhost:5003/" },
        { value_of(asked[1].pairs, "op"), value_of(asked[1].pairs, "value") })
      assert.equal(1, #asked)
      registrar:reply(asked[1].number, nil, "")
    end)

    it("stay as long as somebody serves them", function()
      local first, second = registrar:program(), registrar:program()
      join(first, "create_or_attach", { URL })
      join(second, "create_or_attach", { URL })
      first:say(DETACH, 0, "keep\0" .. "0\0")
      registrar:turn()
      assert.same({}, registrar:asked())
      second:say(DETACH, 0, "keep\0" .. "0\0")
      registrar:turn()
      assert.equal("close", value_of(registrar:asked()[1].pairs, "op"))
    end)

    it("give channels to each process that serves them", function()
      registrar:worker(0)
      for _ = 1, 2 do
        local program = registrar:program()
        program:say(WORKER, 0, "serves\0" .. "1\0")
        join(program, "create_or_attach", { URL })
      end
      local channels = registrar:channels()
      assert.equal(2, #channels)
      assert.same({ 0, 0 }, { channels[1].number, channels[2].number })
      assert.not_equal(value_of(channels[1].pairs, "process"),
        value_of(channels[2].pairs, "process"))
    end)

    it("are called as their maker says, and let in whom it says", function()
      join(registrar:program(), "create", { URL }, { request_queue_acl = "user:#7" })
      local _, asked = join(registrar:program(), "create_or_attach", { OTHER },
        { request_queue_acl = "user:#8" })
      assert.same({ "user:#7" }, values_of(asked[1].pairs, "set:request_queue_acl"))
      assert.same({ "shop" }, values_of(asked[1].pairs, "set:request_queue_name"))
    end)

    it("keep their prefixes from other queues", function()
      join(registrar:program(), "create_or_attach", { URL })
      local reply = attach(registrar:program(), { { URL } })
      assert.truthy(value_of(reply.pairs, "wrong"):find("another app has this prefix", 1, true))
    end)

    it("want the same authentication of all", function()
      join(registrar:program(), "create_or_attach", { URL },
        { ["authentication.schemes"] = "basic" })
      local wrong = join(registrar:program(), "create_or_attach", { URL })
      assert.truthy(wrong:find('who made it has "basic"', 1, true))
      assert.is_nil((join(registrar:program(), "create_or_attach", { URL },
        { ["authentication.schemes"] = "basic" })))
    end)

    it("are found again by a registrar that was started again", function()
      registrar = nil
      collectgarbage()
      count = count + 1
      registrar = new_registrar(dir.path .. "/" .. count .. ".sock", US, text_of({
        { "3:open", "app.lua" }, { "3:uid", tostring(US) }, { "3:request_queue_name", "shop" },
        { "3:+", URL } }))
      local wrong, asked = join(registrar:program(), "create", { URL })
      assert.is_nil(wrong)
      assert.equal("3", value_of(asked[1].pairs, "app"))
    end)

    if US == 0 then
      it("are their maker's, and of those whom the list names", function()
        open(US + 1)
        join(registrar:program(STRANGER), "create_or_attach", { URL },
          { request_queue_acl = "user:#7, user:#8, -user:#8" })
        for uid, allowed in pairs({ [7] = true, [8] = false, [9] = false, [STRANGER] = true,
          [0] = true }) do
          local wrong = join(registrar:program(uid), "attach", {})
          assert.equal(not allowed, wrong ~= nil, uid)
          if wrong then
            assert.truthy(wrong:find(("user %d may not attach"):format(uid), 1, true))
          end
        end
      end)

      it("refuse everybody when the list excludes who cannot be known", function()
        open(US + 1)
        join(registrar:program(STRANGER), "create_or_attach", { URL },
          { request_queue_acl = "user:#7, -group:there-is-no-such-group" })
        assert.truthy((join(registrar:program(7), "attach", {})))
      end)

      describe("of another user that lets us in", function()
        local GUEST, THIRD = 7, 9
        local owner

        local function come(uid, prefixes, settings)
          return join(registrar:program(uid), "create_or_attach", prefixes, settings)
        end

        before_each(function()
          open(US + 1)
          owner = registrar:program(STRANGER)
          join(owner, "create_or_attach", { URL }, { request_queue_acl = "user:#" .. GUEST,
            registration_grace = "off" })
        end)

        for _, is_there in ipairs({ true, false }) do
          local when = is_there and "while it is served" or "when it is left behind"

          it("get our prefixes and nothing else, " .. when, function()
            if not is_there then
              owner:leave()
              registrar:turn()
            end
            local wrong, asked, reply = come(GUEST, { OTHER },
              { request_queue_acl = "user:#" .. THIRD, max_connections = "5" })
            assert.is_nil(wrong)
            assert.same({ { "op", "open" }, { "app", "0" }, { "value", "app.lua" },
              { "uid", tostring(STRANGER) }, { "guest", "1" }, { "+", OTHER }, { "+", URL } },
              asked[1].pairs)
            assert.same({ OTHER }, values_of(reply.pairs, "0:+"))
            assert.truthy((come(THIRD, {})))
            assert.truthy(come(THIRD, { URL }):find("user 9 may not attach", 1, true))
            reply = attach(registrar:program(THIRD), { { URL } })
            assert.truthy(value_of(reply.pairs, "wrong"):find("another app has this prefix", 1,
              true))
            wrong, asked = come(STRANGER, { URL }, { request_queue_acl = "user:#" .. GUEST })
            assert.is_nil(wrong)
            assert.same({ tostring(STRANGER) }, values_of(asked[1].pairs, "uid"))
          end)
        end

        it("let us add, and neither change nor take away", function()
          local guest = registrar:program(GUEST)
          join(guest, "create_or_attach", { OTHER })
          for _, change in ipairs({ { "unlisten", "", URL }, { "unlisten", "", OTHER },
            { "set", "enabled", "false" }, { "set", "request_queue_limit", "1" } }) do
            guest:say(ASK, 9, text_of({ { "app", "0" }, { "op", change[1] }, { "key", change[2] },
              { "value", change[3] } }))
            registrar:turn()
            local reply = guest:heard()
            assert.equal(('%s %s: user 7 may not: the request queue "shop" is user 12345\'s')
              :format(change[1], change[2] ~= "" and change[2] or change[3]),
              value_of(reply.pairs, "wrong"))
            assert.equal("77", value_of(reply.pairs, "code"))
            assert.same({}, registrar:asked())
          end
          guest:say(ASK, 9, text_of({ { "app", "0" }, { "op", "listen" }, { "key", "" },
            { "value", "http://localhost:5003/" } }))
          registrar:turn()
          assert.equal(1, #registrar:asked())
        end)
      end)
    end
  end)

  it("passes changes of a running app on, for its own apps alone", function()
    open()
    attach(registrar:program(), { { "http://localhost:5001/" } })
    local program = registrar:program()
    attach(program, { { "http://localhost:5002/" } })
    program:say(ASK, 9, text_of({ { "app", "0" }, { "op", "set" }, { "key", "enabled" },
      { "value", "false" }, { "place", "app.lua:1" } }))
    registrar:turn()
    local asked = registrar:asked()
    assert.equal("1", value_of(asked[1].pairs, "app"))
    registrar:reply(asked[1].number, nil, "ok\0done\0")
    local reply = program:heard()
    assert.same({ REPLY, 9, "done" }, { reply.kind, reply.number, value_of(reply.pairs, "ok") })
    program:say(ASK, 10, text_of({ { "app", "1" }, { "op", "set" } }))
    registrar:turn()
    assert.equal("this app is not attached", value_of(program:heard().pairs, "wrong"))
    assert.equal(0, #registrar:asked())
  end)

  describe("judges changes of a running app", function()
    local program

    local function ask(list)
      table.insert(list, { "app", "0" })
      program:say(ASK, 9, text_of(list))
      registrar:turn()
    end

    local function refused()
      assert.same({}, registrar:asked())
      return value_of(program:heard().pairs, "wrong")
    end

    before_each(function()
      open(US + 1) -- being who we are allows nothing, unless we are root
      program = registrar:program(US == 0 and STRANGER or nil)
      attach(program, { { "http://localhost:5001/" } })
    end)

    for _, op in ipairs({ "open", "close", "reserve", "release", "save", "" }) do
      it("and knows no op=" .. op .. " of a program", function()
        ask({ { "op", op }, { "value", "http://+:80/" }, { "+", "http://+:80/" } })
        assert.equal("no such change: " .. op, refused())
      end)
    end

    it("as an attach: who may not register may not listen", function()
      ask({ { "op", "listen" }, { "value", "http://+:80/" } })
      assert.truthy(refused():find("may not register it", 1, true))
    end)

    it("so that nobody takes another's prefix", function()
      attach(registrar:program(US == 0 and STRANGER + 1 or nil), { { "http://localhost:5002/" } })
      ask({ { "op", "listen" }, { "value", "http://localhost:5002/" } })
      assert.truthy(refused():find("another app has this prefix", 1, true))
    end)

    it("and settings of the server are not an app's", function()
      for _, key in ipairs({ "drain", "tls", "server.max_connections", "no.such.key", "" }) do
        ask({ { "op", "set" }, { "key", key }, { "value", "1" } })
        assert.equal(key .. " is no setting of an app", refused())
      end
    end)

    it("and passes on what it has judged, nothing else", function()
      ask({ { "op", "set" }, { "key", "enabled" }, { "value", "false" }, { "place", "a:1" },
        { "+", "http://+:80/" }, { "uid", "0" } })
      assert.same({ { "app", "0" }, { "op", "set" }, { "key", "enabled" }, { "value", "false" },
        { "place", "a:1" } }, registrar:asked()[1].pairs)
    end)

    it("and knows from then on whose a prefix is", function()
      ask({ { "op", "listen" }, { "value", "http://localhost:0/b/" } })
      registrar:reply(registrar:asked()[1].number, nil, "ok\0http://localhost:5003/b/\0")
      local other = registrar:program()
      local reply = attach(other, { { "http://localhost:5003/b/" } })
      assert.equal("69", value_of(reply.pairs, "code"))
      ask({ { "op", "unlisten" }, { "value", "http://localhost:5003/b/" } })
      registrar:reply(registrar:asked()[1].number, nil, "ok\0http://localhost:5003/b/\0")
      reply = attach(other, { { "http://localhost:5003/b/" } })
      assert.is_nil(value_of(reply.pairs, "wrong"))
    end)

    it("and hears a refusal before what was asked earlier is in force", function()
      open()
      program = registrar:program()
      attach(program, { { "http://localhost:5001/" } })
      for number, port in ipairs({ 5002, 5003 }) do
        program:say(ASK, number, text_of({ { "app", "0" }, { "op", "listen" }, { "key", "" },
          { "value", "http://localhost:" .. port .. "/" }, { "place", "" } }))
      end
      registrar:turn()
      local asked = registrar:asked()
      registrar:reply(asked[2].number, "the port is in use")
      registrar:reply(asked[1].number, nil, "ok\0http://localhost:5002/\0")
      registrar:turn()
      local first, second = program:heard(), program:heard()
      assert.same({ 2, "the port is in use" }, { first.number, value_of(first.pairs, "wrong") })
      assert.same({ 1, "http://localhost:5002/" }, { second.number, value_of(second.pairs, "ok") })
    end)

    it("and hears no more than so many that are not answered", function()
      for i = 1, 65 do
        program:say(ASK, i, text_of({ { "app", "0" }, { "op", "set" }, { "key", "enabled" },
          { "value", "false" } }))
        registrar:turn()
      end
      local asked = registrar:asked()
      assert.equal(64, #asked)
      program:heard() -- of the attach
      registrar:reply(asked[1].number, nil, "")
      ask({ { "op", "set" }, { "key", "enabled" }, { "value", "true" } })
      assert.equal(1, #registrar:asked())
    end)
  end)

  describe("performs commands", function()
    local json = require("moonquay.core").json

    -- The reply to a command of words; the master agrees unless wrong says why not.
    local function command(program, words, wrong)
      local list = {}
      local verb, noun, rest = words:match("^(%S*) ?(%S*)(.*)$")
      list[1], list[2] = { "verb", verb }, { "noun", noun }
      for name, value in rest:gmatch("([%a_]+)=(%S+)") do
        list[#list + 1] = { name, value }
      end
      program:say(COMMAND, 9, text_of(list))
      registrar:turn()
      local asked = registrar:asked()
      for _, question in ipairs(asked) do
        registrar:reply(question.number, wrong, wrong and "code\0" .. "73\0" or "")
      end
      registrar:turn()
      local reply = program:heard()
      assert.same({ REPLY, 9 }, { reply.kind, reply.number })
      return value_of(reply.pairs, "ok") or value_of(reply.pairs, "wrong"),
        tonumber(value_of(reply.pairs, "code")), asked
    end

    local function shown(program, words)
      local document, code = command(program, words)
      assert.is_nil(code, document)
      return assert(json.decode(document))
    end

    it("of its own user on a connection that attaches nothing, one after the other", function()
      open()
      local program = registrar:program()
      local answer, code, asked = command(program, "add urlacl url=http://+:80/a/ user=root")
      assert.same({ "{}", nil }, { answer, code })
      assert.equal("state", value_of(asked[1].pairs, "op"))
      assert.truthy(value_of(asked[1].pairs, "value"):find("http://+:80/a/", 1, true))
      command(program, "add urlacl url=http://+:80/b/ group=#7 listen=no delegate=yes")
      assert.same({
        { url = "http://+:80/a/", user = "root", listen = true, delegate = false },
        { url = "http://+:80/b/", group = "#7", listen = false, delegate = true },
      }, { table.unpack(shown(program, "show urlacl").urlacl) })
      assert.equal("#7", shown(program, "show urlacl url=http://+:80/B/").urlacl[1].group)
      assert.equal("{}", (command(program, "delete urlacl url=http://+:80/a/")))
      local why
      why, code = command(program, "show urlacl url=http://+:80/a/")
      assert.same({ "http://+:80/a/ is not reserved", 78 }, { why, code })
      why, code = command(program, "delete urlacl url=http://+:80/a/")
      assert.same({ "http://+:80/a/ is not reserved", 78 }, { why, code })
    end)

    it("and takes back what the master could not put in force", function()
      open()
      local program = registrar:program()
      local why, code = command(program, "add urlacl url=http://+:80/a/ user=root", "disk full")
      assert.same({ "disk full", 73 }, { why, code })
      assert.equal(0, #shown(program, "show urlacl").urlacl)
    end)

    it("and lets what was reserved decide at once", function()
      open()
      local program = registrar:program()
      command(program, "add urlacl url=http://localhost:5001/a/ user=#4711")
      local reply = attach(registrar:program(), { { "http://localhost:5001/a/b/" } })
      assert.equal("77", value_of(reply.pairs, "code"))
    end)

    for _, words in ipairs({ "add", "add nothing", "nothing urlacl", "show firewall x=y",
      "add urlacl url=http://+:80/ user=root group=root", "add urlacl url=http://+:80 user=root",
      "add urlacl url=http://+:80/", "add urlacl url=http://+:80/ user=root sddl=x" }) do
      it("and refuses as the command line does: " .. words, function()
        open()
        local why, code, asked = command(registrar:program(), words .. " ")
        assert.is_string(why)
        assert.same({ 64, {} }, { code, asked })
      end)
    end

    it("and knows no user that is not there", function()
      open()
      local why, code = command(registrar:program(), "add urlacl url=http://+:80/ user=no-such-1")
      assert.same({ "there is no user no-such-1", 78 }, { why, code })
    end)

    it("of certificates", function()
      open()
      local program = registrar:program()
      local hash = ("ab"):rep(20)
      -- The records of the state that the master is asked to put in force.
      local function wished(words)
        local asked = select(3, command(program, words))
        return json.decode(value_of(asked[1].pairs, "value")).sslcert
      end
      command(program, "add sslcert hostnameport=A.example:443 certhash=" .. hash
        .. " clientcertnegotiation=enable")
      local why, code = command(program, "add sslcert hostnameport=a.example:443 certhash=" .. hash)
      assert.same({ "a.example:443 has a certificate already", 78 }, { why, code })
      why, code = command(program, "update sslcert ipport=0.0.0.0:443 certhash=" .. hash)
      assert.same({ "0.0.0.0:443 has no certificate", 78 }, { why, code })
      command(program, "add sslcert ipport=0.0.0.0:443 cert=/a key=/b min_version=1.3")
      local records = wished("update sslcert ipport=0.0.0.0:443 cert=/c key=/d")
      assert.same({ hostnameport = "a.example:443", certhash = hash, client_certificate = "allow" },
        records[1])
      assert.same({ ipport = "0.0.0.0:443", cert = "/c", key = "/d" }, records[2])
      assert.equal(1, #wished("delete sslcert hostnameport=a.example:443"))
      why, code = command(program, "delete sslcert hostnameport=a.example:443")
      assert.same({ "a.example:443 has no certificate", 78 }, { why, code })
    end)

    it("has the master show certificates, all or that of a place", function()
      open()
      local program = registrar:program()
      for words, expected in pairs({
        [""] = { { "op", "sslcert" } },
        [" ipport=0.0.0.0:443"] = { { "op", "sslcert" }, { "ipport", "0.0.0.0:443" } },
        [" hostnameport=a.b:443"] = { { "op", "sslcert" }, { "hostnameport", "a.b:443" } },
      }) do
        assert.same(expected, select(3, command(program, "show sslcert" .. words))[1].pairs)
      end
    end)

    it("of addresses and time limits", function()
      open()
      local program = registrar:program()
      command(program, "add iplisten ipaddress=192.0.2.1")
      command(program, "add iplisten ipaddress=::")
      assert.equal(78, select(2, command(program, "add iplisten ipaddress=0::0")))
      command(program, "delete iplisten ipaddress=192.0.2.1")
      assert.same({ "::" }, { table.unpack(shown(program, "show iplisten").iplisten) })
      command(program, "add timeout timeouttype=headerwaittimeout value=0x3c")
      local timeouts = shown(program, "show timeout").timeout
      assert.equal(60, timeouts.headerwaittimeout)
      assert.is_nil(math.type(timeouts.idleconnectiontimeout))
      command(program, "delete timeout timeouttype=headerwaittimeout")
      assert.equal(78, select(2, command(program, "delete timeout timeouttype=headerwaittimeout")))
    end)

    it("and names the ports that other machines may reach", function()
      open()
      attach(registrar:program(), { { "http://localhost:5001/", "http://127.0.0.1:5002/",
        "http://a.localhost:5003/", "http://+:5004/", "http://*:5004/x/", "https://a.example:5005/",
        "http://192.0.2.9:5006/", "http://[2001:db8::9]:5007/", "http://[::1]:5008/" } })
      local ports = {}
      for i, port in ipairs(shown(registrar:program(), "show firewall").ports) do
        ports[i] = ("%s %s %d"):format(port.scheme, port.address, port.port)
      end
      assert.same({ "http 0.0.0.0 5004", "https 0.0.0.0 5005", "http 192.0.2.9 5006",
        "http 2001:db8::9 5007" }, ports)
    end)

    it("and of those the ones at which the host listens", function()
      open()
      local program = registrar:program()
      attach(registrar:program(), { { "http://+:5004/" } })
      command(program, "add iplisten ipaddress=127.0.0.1")
      assert.equal(0, #shown(program, "show firewall").ports)
      command(program, "add iplisten ipaddress=192.0.2.7")
      assert.same({ port = 5004, scheme = "http", address = "192.0.2.7" },
        shown(program, "show firewall").ports[1])
    end)

    it("and one that asks too much at once is told so", function()
      open()
      local program = registrar:program()
      for i = 1, 65 do
        program:say(COMMAND, i, text_of({ { "verb", "add" }, { "noun", "urlacl" },
          { "url", "http://+:80/" .. i .. "/" }, { "user", "root" } }))
        registrar:turn()
      end
      local reply = program:heard()
      assert.same({ 65, "64" }, { reply.number, value_of(reply.pairs, "code") })
      for i = 1, 64 do
        local asked = registrar:asked()
        assert.equal(1, #asked)
        registrar:reply(asked[1].number, nil, "")
        registrar:turn()
        assert.equal(i, program:heard().number)
      end
      assert.equal(64, #shown(program, "show urlacl").urlacl)
    end)

    if US == 0 then
      for _, words in ipairs({ "add iplisten ipaddress=::", "delete iplisten ipaddress=::",
        "add timeout timeouttype=headerwaittimeout value=1",
        "delete timeout timeouttype=headerwaittimeout", "show sslcert", "show servicestate",
        "flush logbuffer", "add sslcert ipport=0.0.0.0:443 cert=/a key=/b",
        "update sslcert ipport=0.0.0.0:443 cert=/a key=/b", "delete sslcert ipport=0.0.0.0:443",
        "add urlacl url=http://+:80/a/ user=root", "delete urlacl url=http://+:80/a/",
        "add urlacl url=http://+:80/ user=root" }) do
        it("for root and the host's user alone: " .. words, function()
          open(STRANGER + 1)
          local why, code, asked = command(registrar:program(STRANGER), words)
          assert.same({ 77, {} }, { code, asked })
          assert.truthy(why:find("user " .. STRANGER .. " may not", 1, true), why)
          assert.truthy(why:find("takes root", 1, true), why)
          assert.truthy(why:find("user " .. STRANGER + 1, 1, true), why)
          for _, uid in ipairs({ 0, STRANGER + 1 }) do
            assert.not_equal(77, select(2, command(registrar:program(uid), words)))
          end
        end)
      end

      for _, words in ipairs({ "show urlacl", "show iplisten", "show timeout", "show firewall" }) do
        it("for everybody: " .. words, function()
          open()
          assert.is_table(shown(registrar:program(STRANGER), words))
        end)
      end

      describe("of who holds a URL with delegate=yes", function()
        local root, holder

        before_each(function()
          open()
          root, holder = registrar:program(), registrar:program(STRANGER)
          command(root, "add urlacl url=http://+:80/shop/ user=#" .. STRANGER .. " delegate=yes")
        end)

        local function code_of(words)
          return (select(2, command(holder, words)))
        end

        it("strictly below it, in the same bucket", function()
          assert.is_nil(code_of("add urlacl url=http://+:80/shop/a/ user=#1"))
          assert.is_nil(code_of("add urlacl url=http://+:80/SHOP/b/c/ group=#1"))
          assert.is_nil(code_of("delete urlacl url=http://+:80/shop/a/"))
          for _, url in ipairs({ "http://+:80/shop/", "http://+:80/", "http://+:80/other/",
            "http://+:80/shopping/", "http://*:80/shop/a/", "http://+:81/shop/a/",
            "https://+:80/shop/a/", "http://localhost:80/shop/a/" }) do
            assert.equal(77, code_of("add urlacl url=" .. url .. " user=#" .. STRANGER))
            assert.equal(77, code_of("delete urlacl url=" .. url))
          end
          assert.equal(77, select(2, command(registrar:program(STRANGER + 1),
            "add urlacl url=http://+:80/shop/a/ user=#1")))
        end)

        it("and not below what it has given away, or what gives no such right", function()
          assert.is_nil(code_of("add urlacl url=http://+:80/shop/a/ user=#1 delegate=yes"))
          assert.equal(77, code_of("add urlacl url=http://+:80/shop/a/b/ user=#1"))
          assert.is_nil(select(2, command(registrar:program(1),
            "add urlacl url=http://+:80/shop/a/b/ user=#2")))
          assert.equal(77, select(2, command(registrar:program(2),
            "add urlacl url=http://+:80/shop/a/b/c/ user=#2")))
        end)

        it("up to a bound", function()
          for i = 1, 256 do
            assert.is_nil(code_of("add urlacl url=http://+:80/shop/" .. i .. "/ user=#1"))
          end
          assert.equal(78, code_of("add urlacl url=http://+:80/shop/more/ user=#1"))
          assert.is_nil(select(2, command(root, "add urlacl url=http://+:80/shop/more/ user=#1")))
          local below = "add urlacl url=http://+:80/shop/1/x/ user=#1"
          assert.is_nil(code_of("delete urlacl url=http://+:80/shop/1/"))
          assert.is_nil(code_of("delete urlacl url=http://+:80/shop/2/"))
          assert.is_nil(code_of("add urlacl url=http://+:80/shop/1/ user=#1 delegate=yes"))
          assert.equal(78, select(2, command(registrar:program(1), below)))
          assert.is_nil(code_of("delete urlacl url=http://+:80/shop/3/"))
          assert.is_nil(select(2, command(registrar:program(1), below)))
        end)
      end)
    end

    it("and needs the host's state for no question of the master", function()
      open()
      local _, _, asked = command(registrar:program(), "show urlacl")
      assert.same({}, asked)
    end)

    it("by asking the master what it alone has", function()
      open()
      attach(registrar:program(), { { "http://localhost:5001/" }, { "http://localhost:5002/" } })
      local program = registrar:program()
      local answer, _, asked = command(program, "flush logbuffer")
      assert.same({ "{}", { { "op", "flush" } } }, { answer, asked[1].pairs })
      local function said(words)
        local list = select(3, command(program, words))[1].pairs
        return value_of(list, "op"), value_of(list, "view"), value_of(list, "verbose"),
          values_of(list, "process"), values_of(list, "url")
      end
      local op, view, verbose, processes, urls = said("show servicestate")
      assert.same({ "http://localhost:5001/", "http://localhost:5002/" }, urls)
      assert.same({ "servicestate", "session", "1" }, { op, view, verbose })
      local session = processes[1]:match("^%d+")
      for i = 1, 2 do
        assert.equal(("%s %d %d %d"):format(session, sys.getpid(), US, i - 1), processes[i])
      end
      op, view, verbose = said("show servicestate view=requestq verbose=no")
      assert.same({ "servicestate", "requestq", "0" }, { op, view, verbose })
      local why, code = command(program, "show servicestate", "it is too much")
      assert.same({ "it is too much", 73 }, { why, code })
    end)
  end)

  it("does not take the answers to one attach for those to the next", function()
    open()
    local program = registrar:program()
    program:say(ATTACH, 7, wish({ { "http://localhost:5001/" }, { "http://localhost:5002/" } }))
    registrar:turn()
    local first = registrar:asked()
    registrar:reply(first[1].number, "no", "code\0" .. "69\0")
    program:say(ATTACH, 8, wish({ { "http://localhost:5003/" } }))
    registrar:turn()
    registrar:reply(first[2].number, nil, "+\0http://localhost:5002/\0")
    local second = registrar:asked()
    for _, question in ipairs(second) do
      local prefix = value_of(question.pairs, "+")
      registrar:reply(question.number, nil, prefix and "+\0" .. prefix .. "\0" or "")
    end
    registrar:turn()
    assert.equal("no", value_of(program:heard().pairs, "wrong"))
    local reply = program:heard()
    assert.equal(8, reply.number)
    assert.same({ "http://localhost:5003/" }, values_of(reply.pairs, "0:+"))
  end)

  describe("bounds what one user has:", function()
    local most = US == 0 and STRANGER or US

    -- So many prefixes from this number on; each on a port of its own, or all on one.
    local function many(from, how_many, form)
      local list = {}
      for i = 1, how_many do
        list[i] = form:format(from + i)
      end
      return list
    end

    local function why_not(program, prefixes)
      program:say(ATTACH, 7, wish({ prefixes }))
      registrar:turn()
      local said = program:heard()
      return said and value_of(said.pairs, "wrong")
    end

    before_each(function()
      open(US + 1)
    end)

    it("prefixes, those that are asked for too", function()
      if US ~= 0 then open() end
      local form = "http://localhost:5001/%d/"
      local bound = US == 0 and 1024 or 4096
      assert.truthy(why_not(registrar:program(most), many(0, bound + 1, form)):find("prefixes"))
      local first = registrar:program(most)
      assert.is_nil(why_not(first, many(0, bound, form)))
      if US == 0 then
        local second = registrar:program(most)
        assert.truthy(why_not(second, many(5000, 1, form)):find("prefixes"))
        agree()
        assert.truthy(why_not(second, many(5000, 1, form)):find("prefixes"))
        assert.is_nil(why_not(registrar:program(STRANGER + 1), many(5000, 1, form)))
      end
    end)

    if US == 0 then
      it("ports, those that are asked for too", function()
        local form = "http://localhost:%d/"
        assert.truthy(why_not(registrar:program(most), many(5000, 65, form)):find("ports"))
        local first, second = registrar:program(most), registrar:program(most)
        assert.is_nil(why_not(first, many(5000, 32, form)))
        assert.truthy(why_not(second, many(6000, 33, form)):find("ports"))
        assert.is_nil(why_not(second, many(6000, 32, form)))
        agree()
        for number, port in ipairs({ 5001, 7000 }) do
          first:heard()
          first:say(ASK, number, text_of({ { "app", "0" }, { "op", "listen" }, { "key", "" },
            { "value", ("http://localhost:%d/more/"):format(port) }, { "place", "" } }))
          registrar:turn()
        end
        assert.equal(1, #registrar:asked())
        assert.truthy(value_of(first:heard().pairs, "wrong"):find("ports"))
        assert.is_nil(why_not(registrar:program(0), many(8000, 200, form)))
      end)
    end
  end)

  if US == 0 then
    it("leaves places for other users", function()
      open()
      local code
      for i = 1, 33 do
        code = value_of(attach(registrar:program(STRANGER),
          { { "http://localhost:" .. 6000 + i .. "/" } }).pairs, "code")
        assert.equal(i == 33, code ~= nil)
      end
      assert.equal("69", code)
      assert.is_nil(value_of(attach(registrar:program(STRANGER + 1),
        { { "http://localhost:7000/" } }).pairs, "wrong"))
    end)
  end

  if US == 0 then
    it("registers nothing of an attach of which it refuses a part", function()
      open(US + 1)
      local program = registrar:program(STRANGER)
      local reply = attach(program, { { "http://localhost:5001/x/",
        settings = { registration_grace = "off" } }, { "http://+:80/y/" } })
      assert.equal("77", value_of(reply.pairs, "code"))
      assert.same({}, registrar:asked())
      reply = attach(registrar:program(STRANGER + 1), { { "http://localhost:5001/x/" } })
      assert.is_nil(value_of(reply.pairs, "wrong"))
      reply = attach(program, { { "http://localhost:5002/" } })
      assert.is_nil(value_of(reply.pairs, "wrong"))
    end)
  end

  describe("refuses", function()
    for name, case in pairs({
      ["another version"] = { text_of({ { "version", "2" }, { "0:name", "a" } }), "64" },
      ["no version"] = { text_of({ { "0:name", "a" } }), "64" },
      ["no app"] = { text_of({ { "version", "1" } }), "64" },
      ["a name that is too long"] = { wish({ { name = ("x"):rep(513) } }), "64" },
      ["a broken prefix"] = { wish({ { "http//x" } }), "78" },
      ["text that is no pairs"] = { "version", "64" },
    }) do
      it("to attach with " .. name, function()
        open()
        local program = registrar:program()
        program:say(ATTACH, 7, case[1])
        registrar:turn()
        assert.equal(case[2], value_of(program:heard().pairs, "code"))
        assert.equal(0, #registrar:asked())
      end)
    end

    it("to attach twice", function()
      open()
      local program = registrar:program()
      attach(program, { { "http://localhost:5001/" } })
      program:say(ATTACH, 8, wish({ { "http://localhost:5002/" } }))
      registrar:turn()
      assert.equal("this connection has attached already", value_of(program:heard().pairs, "wrong"))
    end)

    it("more workers times apps than one process may have", function()
      open()
      local program = registrar:program()
      for worker = 0, 255 do
        program:say(WORKER, worker, "serves\0" .. "1\0")
        registrar:turn()
      end
      local apps = {}
      for i = 1, 5 do
        apps[i] = { "http://localhost:" .. 5000 + i .. "/" }
      end
      assert.equal("64", value_of(attach(program, apps).pairs, "code"))
      table.remove(apps)
      assert.is_nil(value_of(attach(program, apps).pairs, "wrong"))
      local other = registrar:program()
      other:say(WORKER, 256, "serves\0" .. "1\0")
      registrar:turn()
      assert.is_false(other:heard())
    end)

    it("to have many descriptors on their way to one that does not read", function()
      open()
      for slot = 0, 3 do
        registrar:worker(slot)
      end
      local program = registrar:program()
      program:say(WORKER, 0, "serves\0" .. "1\0")
      attach(program, { { "http://localhost:5001/" } })
      for _ = 1, 100 do
        program:say(WORKER, 0, "serves\0" .. "1\0")
        registrar:turn()
      end
      local before = #registrar:channels()
      assert.is_true(before >= 8 and before <= 32, before)
      local read = 0
      while program:heard() do
        read = read + 1
      end
      assert.equal(before, read)
      await("the others, each once", function()
        registrar:turn()
        return #registrar:channels() > 0
      end)
    end)

    it("to make channels without end: behind many there is a pause", function()
      open()
      registrar:worker(0)
      local program = registrar:program()
      program:say(WORKER, 0, "serves\0" .. "1\0")
      attach(program, { { "http://localhost:5001/" } })
      local process = tonumber(value_of(registrar:channels()[1].pairs, "process"))
      local function given()
        local sum = 0
        for _ = 1, 500 do
          registrar:renew(process, 0, 0)
          registrar:turn()
          repeat until not program:heard()
          sum = sum + #registrar:channels()
        end
        return sum
      end
      local first = given()
      assert.is_true(first >= 64 and first <= 80, first)
      await("the next", function()
        return given() > 0
      end)
    end)

    for name, bytes in pairs({
      ["bytes that are no message"] = ("x"):rep(100),
      ["an empty datagram's neighbour"] = "x",
      ["a kind that is none"] = string.pack("<I2 I2 I4 I4", 0x4d51, 3, 99, 0),
      ["what only it says itself"] = string.pack("<I2 I2 I4 I4", 0x4d51, 3, REPLY, 0),
    }) do
      it("to hear " .. name .. ", and goes on with others", function()
        open()
        local bad, good = registrar:program(), registrar:program()
        bad:raw(bytes)
        registrar:turn()
        assert.is_false(bad:heard())
        assert.is_nil(value_of(attach(good, { { "http://localhost:5001/" } }).pairs, "wrong"))
      end)
    end

    it("more text than a program may say", function()
      open()
      local bad = registrar:program()
      local piece = string.pack("<I2 I2 I4 I4", 0x4d51, 3, 1, 0) .. ("x"):rep(32768)
      local pieces = 0
      for _ = 1, 200 do
        if bad:raw(piece) < 0 then break end
        pieces = pieces + 1
        registrar:turn()
      end
      assert.is_false(bad:heard())
      assert.is_true(pieces > 100, pieces)
    end)

    it("pieces of a message that are small: there would be no end of them", function()
      open()
      for _, size in ipairs({ 0, 1, 32767 }) do
        local bad = registrar:program()
        bad:raw(string.pack("<I2 I2 I4 I4", 0x4d51, 3, 1, 0) .. ("x"):rep(size))
        registrar:turn()
        assert.is_false(bad:heard())
      end
    end)

    it("many programs of a user that end no message", function()
      open()
      local piece = string.pack("<I2 I2 I4 I4", 0x4d51, 3, 1, 0) .. ("x"):rep(32768)
      local programs, kept = {}, 0
      for i = 1, 20 do
        local program = registrar:program()
        programs[i] = program
        program:say(COMMAND, 1, text_of({ { "verb", "show" }, { "noun", "urlacl" } }))
        registrar:turn()
        for _ = 1, 60 do
          program:raw(piece)
          registrar:turn()
        end
        program:heard()
        local is_kept = program:heard() ~= false
        assert.is_true(is_kept or i > 5)
        kept = kept + (is_kept and 1 or 0)
      end
      assert.equal(20, #programs)
      assert.equal(8, kept) -- 8 times 60 pieces are less than 16 MiB, 9 times are more
      assert.is_nil(value_of(attach(registrar:program(), { { "http://localhost:5001/" } }).pairs,
        "wrong"))
    end)
  end)
end)
