#!/usr/bin/env bash
# The whole cluster on this machine: a router, five nodes in Lua, one in Rust. Ends with the account of a game
# server; exits with 1 if it does not close, or if one of them does not start.
set -euo pipefail
cd "$(dirname "$0")/../../.."

cargo build --release --quiet -p switchboard-router -p switchboard-lua
cargo build --release --quiet -p switchboard --example scoreboard
bin=${CARGO_TARGET_DIR:-$PWD/target}/release
here=$PWD/sdk-lua/examples/cluster
logs=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$logs"' EXIT

# Waits up to ten seconds until a file holds a pattern; else shows the log and gives up.
expect() {
  for _ in {1..200}; do
    if grep -q "$2" "$1"; then return; fi
    sleep 0.05
  done
  echo "$3 did not start:" >&2
  cat "$4" >&2
  exit 1
}

# Port 0: any that is free. The ready line says which.
"$bin/router" --config "$here/router.yaml" --listen 127.0.0.1:0 --admin 127.0.0.1:0 >"$logs/router" 2>"$logs/router.log" &
pids+=($!)
expect "$logs/router" '127\.0\.0\.1:[0-9]' "the router" "$logs/router.log"
router=$(grep -o '127\.0\.0\.1:[0-9]*' "$logs/router" | head -1)

nodes=()
start() {
  "$bin/lua-node" "$here/$1.lua" --service "$2" --router "$router" 2>"$logs/$2.log" &
  pids+=($!)
  nodes+=("$2")
}
start dbagent dbagent.1
start dbagent dbagent.2
start mailsvr mailsvr.1
start matchsvr matchsvr.1
start matchsvr matchsvr.2
"$bin/examples/scoreboard" "$router" >"$logs/scoreboard.log" 2>&1 &
pids+=($!)
nodes+=(scoreboard)
for node in "${nodes[@]}"; do expect "$logs/$node.log" '\bconnected\b' "$node" "$logs/$node.log"; done

"$bin/lua-node" "$here/gamesvr.lua" --service gamesvr.1 --router "$router" -- --players 20 --rounds 5
