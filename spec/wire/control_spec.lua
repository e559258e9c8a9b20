local await = require("spec.support.await")
local server = require("spec.support.server")
local sys = require("moonquay.probe").sys
local temp = require("spec.support.temp")
local unix = require("socket.unix")

local APP = [[return function() return "hello" end]]
local DEADLINE = server.sanitized and 30 or 10
local ANSWER = "^{[^\n]*}\n$"

local function socket_of(s)
  return ("%s/moonquay/%d.sock"):format(s.runtime_dir, s.pid)
end

local function start(options)
  options = options or {}
  options.app = APP
  options.options = { "--log-level", "debug", table.unpack(options.options or {}) }
  return server.start(options)
end

local function connect(s)
  local connection = unix.stream()
  connection:settimeout(DEADLINE)
  assert(connection:connect(socket_of(s)))
  return connection
end

-- Everything until the server ends the connection; it fails when that takes too long.
local function rest(connection)
  local text, err, partial = connection:receive("*a")
  assert.not_equal("timeout", err)
  connection:close()
  return text or partial
end

-- Both still do their work.
local function assert_well(s)
  assert.equal("hello", s:get("/").body)
  local result = server.run({
    env = { XDG_RUNTIME_DIR = s.runtime_dir },
    "status", "--json", tostring(s.pid),
  })
  assert.equal(0, result.status, result.stderr)
  assert.truthy(result.stdout:find(ANSWER))
end

-- Waits until the log has said so often that a client was closed for a reason.
local function await_closed(s, why, times)
  s:await((('control_closed process=master message="%s"\n.*'):format(why):rep(times)))
end

describe("a client of the control socket", function()
  after_each(server.stop_all)

  it("may send its line in any pieces, and end its side behind it", function()
    local s = start()
    local connection = connect(s)
    for piece in ("status\n"):gmatch(".") do
      assert(connection:send(piece))
    end
    connection:shutdown("send")
    assert.truthy(rest(connection):find(ANSWER))
    assert.equal(0, s:stop())
  end)

  local rubbish = {
    { "another word", "reload\n", "what is no command" },
    { "an empty line", "\n", "what is no command" },
    { "the word with more behind it", "status \n", "what is no command" },
    { "NULs", "status\0\n", "what is no command" },
    { "the longest line that is none", ("x"):rep(255) .. "\n", "what is no command" },
    { "two lines", "status\nstatus\n", "more than a line" },
    { "a line and a byte", "status\nx", "more than a line" },
    { "256 bytes that end no line", ("x"):rep(256), "more than a line" },
    { "a megabyte", ("status "):rep(150000), "more than a line" },
    { "an HTTP request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "more than a line" },
  }
  for _, case in ipairs(rubbish) do
    it("that sends " .. case[1] .. " is closed and disturbs nobody", function()
      local s = start()
      local connection = connect(s)
      connection:send(case[2]) -- fails when the server has closed before it was all sent
      assert.equal("", rest(connection))
      await_closed(s, "a client sent " .. case[3], 1)
      assert_well(s)
      assert.equal(0, s:stop())
    end)
  end

  it("that leaves before its line is complete is forgotten", function()
    local s = start()
    local connection = connect(s)
    assert(connection:send("stat"))
    connection:close()
    await_closed(s, "a client left before its line was complete", 1)
    assert_well(s)
    assert.equal(0, s:stop())
  end)

  it("that leaves without its answer is forgotten", function()
    local s = start()
    for _ = 1, 20 do
      local connection = connect(s)
      assert(connection:send("status\n"))
      connection:close()
    end
    await("a place for one more", function() -- the last of them may not have been noticed yet
      return pcall(assert_well, s)
    end)
    assert_well(s)
    assert.equal(0, s:stop())
  end)

  it("that sends nothing is closed, and nobody waits for it", function()
    local s = start()
    local silent = connect(s)
    assert_well(s)
    assert.equal("", rest(silent))
    await_closed(s, "a client sends no line", 1)
    assert.equal(0, s:stop())
  end)

  it("is one of eight at a time; a ninth is closed at once", function()
    local s = start()
    local eight = {}
    for i = 1, 8 do
      eight[i] = connect(s)
    end
    assert.equal("", rest(connect(s)))
    await_closed(s, "too many clients", 1)
    -- One that was there before still gets its answer, and leaves its place.
    assert(eight[8]:send("status\n"))
    assert.truthy(rest(eight[8]):find(ANSWER))
    assert_well(s)
    -- All of them give up theirs.
    for i = 1, 7 do
      assert.equal("", rest(eight[i]))
    end
    await_closed(s, "a client sends no line", 7)
    assert_well(s)
    assert.equal(0, s:stop())
  end)

  it("does not keep a server from its end", function()
    local s = start()
    local silent = connect(s)
    assert.equal(0, s:stop())
    assert.equal("", rest(silent))
  end)
end)

-- A place that other users can reach, with the executable and its library: as installed.
local function public_place()
  local place = temp.dir()
  sys.chmod(place.path, "0755")
  assert(os.execute(("d=%s; mkdir -p $d/bin $d/share/lua && cp %s $d/bin/ && "
    .. "cp -r lua $d/share/lua/5.4"):format(place.path, server.executable)))
  place.executable = place.path .. "/bin/moonquay"
  return place
end

-- Words that run a command as a user whom nobody else is.
local USER = tostring(100000 + sys.getpid())
local AS_USER = { "setpriv", "--reuid", USER, "--regid", USER, "--clear-groups" }

describe("the control socket and other users", function()
  local place
  local own_dir = "/tmp/moonquay-" .. USER -- of that user, who has no XDG_RUNTIME_DIR
  before_each(function()
    place = public_place()
  end)
  after_each(function()
    server.stop_all()
    place:remove()
    sys.rmtree(own_dir)
  end)

  local function as_root(title, check)
    it(title, function()
      if sys.geteuid() ~= 0 then
        pending("needs root")
        return
      end
      check()
    end)
  end

  -- A server of that user.
  local function start_theirs(options)
    options = options or {}
    options.executable, options.wrap = place.executable, AS_USER
    options.path = place:write("app.lua", APP)
    options.options = { "--log-level", "debug" }
    return server.start(options)
  end

  as_root("keeps them out by the modes of directory and file", function()
    local s = start()
    local function mode(path)
      return io.popen("stat -c %a " .. path):read("l")
    end
    assert.equal("700", mode(s.runtime_dir .. "/moonquay"))
    assert.equal("600", mode(socket_of(s)))
    local result = server.run({
      executable = place.executable, wrap = AS_USER, "status", "--socket", socket_of(s),
    })
    assert.equal(77, result.status, result.stderr)
    assert.equal(0, s:stop())
  end)

  as_root("refuses them when they get in, and says so", function()
    local s = start()
    sys.chmod(s.runtime_dir, "0755")
    sys.chmod(s.runtime_dir .. "/moonquay", "0755")
    sys.chmod(socket_of(s), "0666")
    for _ = 1, 9 do -- they take nobody's place
      local result = server.run({
        executable = place.executable, wrap = AS_USER, "status", "--socket", socket_of(s),
      })
      assert.equal(69, result.status, result.stderr)
      assert.equal("", result.stdout)
      assert.truthy(result.stderr:find("gives no answer", 1, true), result.stderr)
    end
    s:await("warn control_refused [^\n]*uid=" .. USER .. " pid=%d+\n")
    assert_well(s)
    assert.equal(0, s:stop())
  end)

  as_root("hears root, and the user by the directory of its own", function()
    local s = start_theirs()
    local path = ("%s/%d.sock"):format(own_dir, s.pid)
    for _, words in ipairs({
      { "status", "--json", "--socket", path },
      { "status", "--json", wrap = AS_USER, executable = place.executable },
    }) do
      local result = server.run(words)
      assert.equal(0, result.status, result.stderr)
      assert.truthy(result.stdout:find('"pid":' .. s.pid .. ",", 1, true), result.stdout)
    end
    assert.equal(0, s:stop())
    assert.same({}, sys.list(own_dir))
  end)

  as_root("is not made in an XDG_RUNTIME_DIR that belongs to another user", function()
    local others = temp.dir()
    sys.chmod(others.path, "0777")
    local s = start_theirs({ env = { XDG_RUNTIME_DIR = others.path } })
    assert.same({}, sys.list(others.path))
    assert.same({ s.pid .. ".sock" }, sys.list(own_dir))
    assert.equal(0, s:stop())
    others:remove()
  end)

  local traps = {
    { "belongs to another user", "mkdir %s", "belongs to another user (uid 0)" },
    { "is a link", "ln -s /tmp %s", "is no directory" },
    { "lets others write", "mkdir -m 0777 %s && chown " .. USER .. " %s", "others can write into" },
  }
  for _, case in ipairs(traps) do
    as_root("does without when the directory " .. case[1], function()
      assert(os.execute((case[2]:gsub("%%s", own_dir))))
      local s = start_theirs()
      local line = s:await("warn (control_off [^\n]*)\n")
      assert.truthy(line:find(own_dir .. " " .. case[3], 1, true)
        or line:find(case[3] .. " " .. own_dir, 1, true), line)
      assert.equal("hello", s:get("/").body)
      local result = server.run({ executable = place.executable, wrap = AS_USER, "status" })
      assert.equal(69, result.status)
      assert.equal(0, s:stop())
    end)
  end
end)

-- A socket whose maker is dead: bound, closed and left.
local function leave_dead(path)
  local dead = unix.stream()
  assert(dead:bind(path))
  assert(dead:listen(1))
  dead:close()
end

describe("the file of the control socket", function()
  after_each(server.stop_all)

  it("goes with the server", function()
    local s = start({ options = { "--workers", "2" } })
    local shared = temp.dir()
    assert.same({ s.pid .. ".sock" }, sys.list(s.runtime_dir .. "/moonquay"))
    local other = start({ env = { XDG_RUNTIME_DIR = shared.path } })
    assert.same({ other.pid .. ".sock" }, sys.list(shared.path .. "/moonquay"))
    assert.equal(0, other:stop())
    assert.same({}, sys.list(shared.path .. "/moonquay"))
    assert_well(s)
    assert.equal(0, s:stop())
    shared:remove()
  end)

  it("goes with a start that fails", function()
    local shared = temp.dir()
    local result = server.run({
      "serve", shared:write("app.lua", 'error("broken")'),
      "--urls", "http://127.0.0.1:0", "--workers", "2",
      env = { XDG_RUNTIME_DIR = shared.path },
    })
    assert.equal(65, result.status)
    assert.same({ "app.lua" }, sys.list(shared.path))
    -- The first worker loads the app, the second does not.
    result = server.run({
      "serve", shared:write("app.lua", ([[
        local name = %q
        if io.open(name) then error("broken") end
        assert(io.open(name, "w")):close()
        return function() end]]):format(shared.path .. "/loaded")),
      "--urls", "http://127.0.0.1:0", "--workers", "2", "--log-level", "debug",
      env = { XDG_RUNTIME_DIR = shared.path },
    })
    assert.equal(65, result.status)
    assert.truthy(result.stderr:find("control_open", 1, true), result.stderr)
    assert.same({}, sys.list(shared.path .. "/moonquay"))
    shared:remove()
  end)

  it("is left alone when it is another's by now", function()
    local s = start()
    local path = socket_of(s)
    assert(os.remove(path))
    leave_dead(path)
    local shared = s.runtime_dir .. "/moonquay"
    s:signal("TERM")
    assert.equal(0, s:wait(10).exit)
    assert.same({ s.pid .. ".sock" }, sys.list(shared))
    assert.equal(0, s:stop())
  end)

  it("of a server that was killed is removed by the next", function()
    local shared = temp.dir()
    local dir = shared.path .. "/moonquay"
    local env = { XDG_RUNTIME_DIR = shared.path }
    local killed = start({ env = env })
    killed:signal("KILL")
    killed:wait(10)
    assert.same({ killed.pid .. ".sock" }, sys.list(dir))
    -- Nobody listens at these, but they are not ours to judge: a living process, other names.
    leave_dead(("%s/%d.sock"):format(dir, sys.getpid()))
    leave_dead(dir .. "/0.sock")
    leave_dead(dir .. "/x.sock")
    -- No such process here, but somebody listens: in a container that shares the directory.
    local elsewhere = unix.stream()
    assert(elsewhere:bind(dir .. "/99999999.sock"))
    assert(elsewhere:listen(5))
    local s = start({ env = env })
    local left = { "0.sock", "99999999.sock", sys.getpid() .. ".sock", s.pid .. ".sock", "x.sock" }
    table.sort(left)
    local seen = sys.list(dir)
    table.sort(seen)
    assert.same(left, seen)
    elsewhere:close()
    assert.equal(0, s:stop())
    shared:remove()
  end)
end)

-- From the day on which the setting is there.
if server.run({ "options" }).stdout:find("control_socket", 1, true) then
  describe("control_socket", function()
    local dir
    before_each(function()
      dir = temp.dir()
    end)
    after_each(function()
      server.stop_all()
      dir:remove()
    end)

    local function asked(path)
      return server.run({ "status", "--json", "--socket", path })
    end

    it("names the place of the socket, which goes with the server", function()
      local path = dir.path .. "/named"
      leave_dead(path)
      local s = start({ options = { "--set", "control_socket=" .. path } })
      assert.is_nil(sys.list(s.runtime_dir .. "/moonquay"))
      local result = asked(path)
      assert.equal(0, result.status, result.stderr)
      assert.truthy(result.stdout:find('"control_socket":"' .. path .. '"', 1, true))
      assert.equal(0, s:stop())
      assert.same({}, sys.list(dir.path))
    end)

    it("is off when that is said", function()
      local s = start({ options = { "--set", "control_socket=off" } })
      assert.is_nil(sys.list(s.runtime_dir .. "/moonquay"))
      assert.equal("hello", s:get("/").body)
      assert.is_nil(s:stderr():find("control_off", 1, true))
      assert.equal(0, s:stop())
    end)

    local cases = {
      { "a directory that is not there", "none/socket", "No such file or directory" },
      { "more bytes than a socket's path has", ("x"):rep(120),
        "must be printable text of at most 107 bytes" },
      { "a file that is no socket", "app.lua", "is there and is no socket" },
      { "a server that listens", "taken", "another program listens at" },
    }
    for _, case in ipairs(cases) do
      it("that names " .. case[1] .. " ends the start with 78", function()
        local path = dir.path .. "/" .. case[2]
        local taken = unix.stream()
        assert(taken:bind(dir.path .. "/taken"))
        assert(taken:listen(1))
        local result = server.run({
          "serve", dir:write("app.lua", APP), "--urls", "http://127.0.0.1:0",
          "--set", "control_socket=" .. path,
        })
        assert.equal(78, result.status, result.stderr)
        assert.truthy(result.stderr:find("^moonquay: [^:]*control_socket[=:]"), result.stderr)
        assert.truthy(result.stderr:find(case[3], 1, true), result.stderr)
        assert.truthy(result.stderr:find(path:sub(1, 100), 1, true), result.stderr)
        assert.is_false(result.left_behind)
        local left = sys.list(dir.path)
        table.sort(left)
        assert.same({ "app.lua", "taken" }, left)
        taken:close()
      end)
    end
  end)
end
