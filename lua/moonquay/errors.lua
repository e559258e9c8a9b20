--- Raising an answer.

local core = require("moonquay.core")

local errors = {}

---@class moonquay.Error
---@field code string "timeout", "closed", "cancelled", "too_large" …: compare this, not the message
---@field message string for people; tostring(err) gives it
---@field op? string "form", "lines", "text", "save", "pipe", "os.exit": the call that set the error
---@field cause? any
---@field status? integer the answer, when this error ends a handler

--- Ends the handler with an error response: problem details (RFC 9457), or a page for a client that
-- prefers HTML. The message and the members (detail, type, instance, your own) are sent.
---@param status integer 400 to 599
---@param message? string what the client may read
---@param members? table
function errors.fail(status, message, members)
  if math.type(status) ~= "integer" or status < 400 or status > 599 then
    error(("%s is no status of an error: 400 to 599"):format(tostring(status)), 2)
  elseif message ~= nil and type(message) ~= "string" then
    error(("the message must be a text, not a %s"):format(type(message)), 2)
  end
  local text = message or core.reason(status)
  error(core.fail("fail", text, { status = status, problem = members }), 0)
end

return errors
