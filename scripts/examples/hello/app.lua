-- The smallest app: a string is the body of the answer.
--   curl 'http://localhost:5000/?name=moon'
return function(req)
  return "Hello, " .. (req.query.name or "world") .. "!\n"
end
