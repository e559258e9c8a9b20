-- A link carries what its clients give up, and ends for none of it.
local hostile = require("spec.support.hostile_app")

local WAITING = [[
local moonquay = require("moonquay")
local begun, ended = 0, 0
app:get("/wait", function()
  begun = begun + 1
  local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
  while moonquay.sleep(60) do end
end)
app:get("/counts", function() return { begun = begun, ended = ended } end)
]]

describe("5,000 requests that their clients cancel", function()
  local target

  setup(function()
    target = hostile.start({ workers = 1, app = WAITING,
      options = { "--set", "h2.cleartext=true" } })
  end)

  teardown(function()
    target:stop()
    hostile.stop_all()
  end)

  for _, how in ipairs({ "h1", "h2" }) do
    it(("end all handlers of a real app, and no link (%s)"):format(how), function()
      local told = target:attack(([[
import urllib.request
def counts():
    with urllib.request.urlopen("http://localhost:%%d/good/counts" %% PORT) as answer:
        return json.load(answer)
before = counts()
rounds = 0
def begun():
    global rounds
    rounds += 1
    while counts()["begun"] < before["begun"] + 100 * rounds:
        pass
cancel_by_%s("/good/wait", begun)
while counts()["ended"] < before["ended"] + 5000:
    pass
tell(begun=counts()["begun"] - before["begun"])]]):format(how))
      assert.equal(5000, told.begun)
      assert.is_nil(target.events.app_link_broken) -- nor a line in the log
    end)
  end

  for _, how in ipairs({ "h1", "h2" }) do
    it(("do not end the one link of an app (%s)"):format(how), function()
      local told = target:attack(([[
control = Control()
control.serve()
control.attach()
link, = control.links(1)
rounds = 0
def begun():
    global rounds
    rounds += 1
    until([link], lambda: len(link.asked) == 100 * rounds)
cancel_by_%s("/evil/", begun)
until([link], lambda: len(link.resets) == 5000)
tell(asked=len(link.asked), same=set(link.asked) == set(link.resets),
     other=len(control.channels), status=well_behaved([link], ask()))]]):format(how))
      assert.same({ asked = 5000, same = true, other = 0, status = 200 },
        { asked = told.asked, same = told.same, other = told.other, status = told.status })
    end)
  end
end)
