#!/bin/bash
# Moonquay as a subject of the comparison: writes an app and becomes the server, one handler a
# scenario. BENCH_* come from the program that measures. Builtins only: the time of this shell counts
# as the server's start. Large bodies come from memory, through the handler.
# bench: name=moonquay
# bench: skip=ws-echo,cached,shared,static-10k,static-1m,static-100m
set -eu

echo '
local app = require("moonquay").app()

app:get("/hello", function()
  return "Hello, World!" -- a text is text/plain
end)

app:get("/hello-typed", function(_, res)
  res.headers["content-type"] = "text/plain"
  return "Hello, World!"
end)

app:get("/json", function()
  return { message = "Hello, World!" }
end)

local files = {}
app:get("/static/:name", function(req, res)
  local name = req.params.name
  if not files[name] then
    local file = assert(io.open(os.getenv("BENCH_DOCROOT") .. "/static/" .. name, "rb"))
    files[name] = file:read("a")
    file:close()
  end
  res.headers["content-type"] = "application/octet-stream"
  return files[name]
end)

return app
' >"$BENCH_TMP/app.lua"

ulimit -n hard
exec "${BASH_SOURCE[0]%/*}/../build/release/bin/moonquay" serve "$BENCH_TMP/app.lua" \
    --urls "http://127.0.0.1:$BENCH_PORT,https://127.0.0.1:$BENCH_TLS_PORT,https://127.0.0.1:$BENCH_RSA_PORT" \
    --set tls="port=$BENCH_TLS_PORT certificate=$BENCH_CERT key=$BENCH_KEY; port=$BENCH_RSA_PORT certificate=$BENCH_RSA_CERT key=$BENCH_RSA_KEY" \
    --workers "$BENCH_WORKERS" --access-log off --set cpu_limit=off
