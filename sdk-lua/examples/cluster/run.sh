#!/usr/bin/env bash
# The whole cluster on this machine: a router, five nodes in Lua, one in Rust. Ends with the account of a game
# server; exits with 1 if it does not close.
set -euo pipefail
cd "$(dirname "$0")/../../.."

cargo build --release --quiet -p switchboard-router -p switchboard-lua
cargo build --release --quiet -p switchboard --example scoreboard
bin=$PWD/target/release
here=$PWD/sdk-lua/examples/cluster
logs=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$logs"' EXIT

# Port 0: any that is free. The ready line says which.
"$bin/router" --config "$here/router.yaml" --listen 127.0.0.1:0 --admin 127.0.0.1:0 >"$logs/router" 2>"$logs/router.log" &
pids+=($!)
until router=$(grep -o '127\.0\.0\.1:[0-9]*' "$logs/router" | head -1) && [ -n "$router" ]; do sleep 0.05; done

start() {
  "$bin/lua-node" "$here/$1.lua" --service "$2" --router "$router" 2>"$logs/$2.log" &
  pids+=($!)
}
start dbagent dbagent.1
start dbagent dbagent.2
start mailsvr mailsvr.1
start matchsvr matchsvr.1
start matchsvr matchsvr.2
"$bin/examples/scoreboard" "$router" &
pids+=($!)

"$bin/lua-node" "$here/gamesvr.lua" --service gamesvr.1 --router "$router" -- --players 20 --rounds 5
