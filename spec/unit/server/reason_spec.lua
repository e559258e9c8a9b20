local probe = require("moonquay.probe").logs

-- Where the sources name a reason by its word: behind a status (as in a struct refusal), in a call
-- without one, in the table of closes, in an initialiser; and what is written as only HTTP.sys
-- writes.
local SHAPES = {
  "%f[%d][45]%d%d,%s*\"([^\"%s]+)\"%s*[,}]",
  "refuse%([^\"()]*,%s*\"([^\"%s]+)\"%s*,",
  "refuse_busy%([^\"()]*,%s*\"([^\"%s]+)\"%s*,",
  "%[CLOSE_[%u_]+%] = \"(%u[^\"%s]*)\"",
  "%.reason = \"([^\"%s]+)\"",
  "\"(%u%a*_%u%l[%a/_]*)\"",
  "\"(H2_%u%a*)\"",
}

local function sources()
  local list = {}
  local find = assert(io.popen("find core -name '*.c' | sort"))
  for path in find:lines() do
    if path ~= "core/server/reason.c" then
      list[#list + 1] = path
    end
  end
  find:close()
  return list
end

-- Each word with the first file that has it.
local function words_used()
  local words = {}
  for _, path in ipairs(sources()) do
    local file = assert(io.open(path, "rb"))
    local text = file:read("a")
    file:close()
    for _, shape in ipairs(SHAPES) do
      for word in text:gmatch(shape) do
        words[word] = words[word] or path
      end
    end
  end
  return words
end

describe("a reason (reference http-sys.md section 18.1)", function()
  it("has a name of its own, which finds it", function()
    local names, seen = probe.reasons(), {}
    assert.is_true(#names >= 38)
    for place, name in ipairs(names) do
      assert.is_nil(seen[name], name)
      seen[name] = true
      assert.same({ place, name }, { probe.reason_find(name) })
    end
  end)

  it("has a name that is one field of a line", function()
    for _, name in ipairs(probe.reasons()) do
      assert.matches("^%u[%w/_]+$", name)
    end
  end)

  it("is found for each word that the table has and a server of ours can mean", function()
    for _, name in ipairs({
      "AppOffline", "AppShutdown", "Disabled", "ConnLimit", "QueueFull", "N/A",
      "Connections_Refused", "BadRequest", "Verb", "URL", "Header", "Hostname", "Invalid_CR/LF",
      "Number", "FieldLength", "RequestLength", "URL_Length", "Forbidden", "Precondition",
      "EntityTooLarge", "Internal", "N/I", "Version_N/S", "NotFound", "Client_Reset",
      "Connection_Dropped", "Connection_Abandoned_By_ReqQueue", "Request_Cancelled",
      "Timer_ConnectionIdle", "Timer_HeaderWait", "Timer_EntityBody", "Timer_MinBytesPerSecond",
      "Timer_ReqQueue", "Timer_SslRenegotiation",
      "AuthRequired", "ProxyHeader", "Timer_Handler", -- ours
      "H2_Streams", "H2_Resets", "H2_Settings", "H2_Pings", "H2_EmptyFrames", "H2_OtherFrames",
      "H2_Continuations", "H2_Preface", "H2_Protocol",
    }) do
      assert.is_true(probe.reason_find(name) > 0, name)
    end
  end)

  it("is none for other words", function()
    for _, name in ipairs({ "", "-", "badrequest", "BadRequests", "BadReques", "done" }) do
      assert.same({ 0, "-" }, { probe.reason_find(name) })
    end
  end)
end)

describe("the words for reasons in the sources", function()
  local words = words_used()

  it("are seen by this spec", function()
    for _, word in ipairs({
      "BadRequest", "Invalid_CR/LF", "Number", "N/I", "URL", "Hostname", "Forbidden",
      "Version_N/S", "AppOffline", "QueueFull", "Disabled", "H2_Resets",
    }) do
      assert.is_truthy(words[word], word)
    end
  end)

  it("name reasons that exist", function()
    for word, path in pairs(words) do
      assert.is_true(probe.reason_find(word) > 0, path .. ": " .. word)
    end
  end)
end)
