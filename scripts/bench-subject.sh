#!/bin/bash
# Moonquay as a subject of the comparison: writes an app and becomes the server, one handler a
# scenario. BENCH_* come from the program that measures. Builtins only: the time of this shell counts
# as the server's start.
# bench: name=moonquay
# bench: skip=tls-hello,tls-hello-2w,h2-hello,hs-ecdsa,hs-rsa,hs-resumed,mem-tls-conn,ws-echo,cached,shared,static-10k,static-1m,static-100m,tls-static-10k,tls-static-1m,tls-static-100m
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

return app
' >"$BENCH_TMP/app.lua"

ulimit -n hard
exec "${BASH_SOURCE[0]%/*}/../build/release/bin/moonquay" serve "$BENCH_TMP/app.lua" \
    --urls "http://127.0.0.1:$BENCH_PORT" --workers "$BENCH_WORKERS" --access-log off
