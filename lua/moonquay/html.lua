--- HTML as text.

local html = {}

local entities = {
  ["&"] = "&amp;",
  ["<"] = "&lt;",
  [">"] = "&gt;",
  ['"'] = "&quot;",
  ["'"] = "&#39;",
}

--- Text that stands for itself in HTML, between tags and in quoted attributes.
---@param text any
---@return string
function html.escape(text)
  return (tostring(text):gsub("[&<>\"']", entities))
end

return html
