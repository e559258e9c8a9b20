local core = require("moonquay.core")
local moonquay = require("moonquay")

-- What the comments declare: class → set of names.
local function declared()
  local classes = {}
  for name in io.popen("ls lua/moonquay/*.lua"):lines() do
    local class
    for line in io.lines(name) do
      local new = line:match("^%-%-%-@class moonquay%.(%w+)")
      if new then
        class = {}
        classes[new] = class
      end
      local field = line:match("^%-%-%-@field ([%w_]+)")
      if field and class then
        class[field] = true
      end
    end
  end
  return classes
end

describe("the types for editors", function()
  local classes = declared()
  local members = {
    Request = { core.request.methods, core.request.getters },
    Response = { core.response.methods },
    Body = { core.body.methods },
  }
  for class, tables in pairs(members) do
    it(("declare every member of %s that the library adds"):format(class), function()
      for _, members_of in ipairs(tables) do
        for name in pairs(members_of) do
          assert.is_true(classes[class][name], name)
        end
      end
    end)
  end

  it("declare every method of a group and an app", function()
    local app = moonquay.app()
    for _, verb in ipairs({ "get", "post", "put", "patch", "delete", "head", "options", "any" }) do
      assert.is_function(app[verb])
      assert.is_true(classes.Group[verb], verb)
    end
  end)
end)
