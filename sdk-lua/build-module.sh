#!/bin/sh
# Builds the module for a Lua of your own and puts it into a directory, as switchboard.so:
#
#     sdk-lua/build-module.sh lua54|luajit DIRECTORY [PROFILE]
#
# Then LUA_CPATH="DIRECTORY/?.so" lua5.4 script.lua, or luajit. Needs cargo and a C compiler, no headers of Lua.
# PROFILE is cargo's, and `release` unless it is given.
set -eu

usage() {
    echo "$1; use: build-module.sh lua54|luajit DIRECTORY [PROFILE]" >&2
    exit 2
}

[ $# -eq 2 ] || [ $# -eq 3 ] || usage "there are $# arguments"
lua=$1
profile=${3:-release}
case $lua in
    lua54 | luajit) ;;
    *) usage "\`$lua\` is not a Lua that the module is built for" ;;
esac
mkdir -p "$2"
to=$(cd "$2" && pwd)
cd "$(dirname "$0")/module"
target=${SWITCHBOARD_MODULE_TARGET:-$(cd ../.. && pwd)/target/module}
mkdir -p "$target"

# Both builds share what they have in common, and end in a file of the same name: one after the other.
exec 9>"$target/.building"
if command -v flock >/dev/null; then flock 9; fi

cargo build --quiet --locked --profile "$profile" --no-default-features --features "$lua" --target-dir "$target"
case $profile in dev) built=$target/debug ;; *) built=$target/$profile ;; esac
case $(uname) in Darwin) suffix=dylib ;; *) suffix=so ;; esac
# Moved into place, since a process may have the old one loaded.
cp "$built/libswitchboard.$suffix" "$to/.switchboard.so.$$"
mv "$to/.switchboard.so.$$" "$to/switchboard.so"
