#!/bin/bash
# Moonquay as a subject of the comparison: writes an app and becomes the server, one handler a
# scenario. BENCH_* come from the program that measures.
# bench: name=moonquay
# bench: skip=tls-hello,tls-hello-2w,h2-hello,hs-ecdsa,hs-rsa,hs-resumed,mem-tls-conn,ws-echo,cached,shared,static-10k,static-1m,static-100m,tls-static-10k,tls-static-1m,tls-static-100m
set -eu
tree=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)

cat >"$BENCH_TMP/app.lua" <<'LUA'
local app = require("moonquay").app()

app:get("/hello", function(_, res)
  res.headers["content-type"] = "text/plain"
  return "Hello, World!"
end)

app:get("/json", function()
  return { message = "Hello, World!" }
end)

return app
LUA

ulimit -n "$(ulimit -H -n)"
exec "$tree/build/release/bin/moonquay" serve "$BENCH_TMP/app.lua" \
    --urls "http://127.0.0.1:$BENCH_PORT" --workers "$BENCH_WORKERS" --access-log off
