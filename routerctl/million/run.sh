#!/bin/sh
# A million registered connections on one router of this machine: what each costs, how long all take to come, what
# they cost while they only ping, and what a flood among a hundred others and a thousand reconnects a second are like
# beside them. As root, since limits are raised; takes 12 GB of memory, most of it the kernel's for both ends of
# each connection. `sh run.sh DIRECTORY [CONNECTIONS]`; in DIRECTORY lie `router` and `routerctl`.
set -eu
programs=${1:?"usage: sh run.sh DIRECTORY [CONNECTIONS]"}
connections=${2:-1000000}
files=$((connections + 20000))

set_to() { echo "$2" > "/proc/sys/$1" || { echo "can't set $1 to $2: not root?" >&2; exit 1; }; }
[ "$(cat /proc/sys/fs/nr_open)" -ge "$files" ] || set_to fs/nr_open "$files"
[ "$(cat /proc/sys/fs/file-max)" -ge $((files * 3)) ] || set_to fs/file-max $((files * 3))
set_to net/core/somaxconn 4096
set_to net/ipv4/tcp_max_syn_backlog 4096
set_to net/ipv4/ip_local_port_range "1024 65000"
# Connections that were closed don't keep their ports from the next ones.
set_to net/ipv4/tcp_tw_reuse 1
ulimit -n "$files" 2>/dev/null || {
    echo "this shell may have $(ulimit -Hn) open files, and $files are needed: a limit of the machine that root can't" \
        "raise here; in-a-vm.sh runs this in a virtual machine of its own" >&2
    exit 1
}

config=$(mktemp)
trap 'rm -f "$config"' EXIT
# A million heartbeats a minute are work of their own; who only stays has time.
echo 'heartbeat: {max_ms: 600000}' > "$config"
"$programs/routerctl" bench churn --router-config "$config" --idle "$connections" --heartbeat 600 --hold 30 \
    --connections 1000 --rate 1000 --senders 50 --receivers 50 --window 65536 --seconds 20 --rounds 1 --patience 300
