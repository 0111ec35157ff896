-- For luarocks, which has cargo build the module: `luarocks make` in this directory, for the Lua 5.4 or the LuaJIT
-- that luarocks is set up for. It takes cargo, a C compiler, and the rock luarocks-build-rust-mlua.
rockspec_format = "3.0"
package = "switchboard"
version = "0.1.0-1"

-- The checkout that it lies in.
source = { url = "file://." }

description = {
  summary = "A node for Switchboard, the router for clusters of processes that call each other",
  detailed = "Forward and call by id, by hash, at random, to all, to the least loaded, or to the master of a class.",
  license = "MIT OR Apache-2.0",
}

-- 5.1 stands for LuaJIT. cargo refuses the others, for which the module has no feature.
dependencies = { "lua >= 5.1, < 5.5" }
build_dependencies = { "luarocks-build-rust-mlua >= 0.2.3" }

build = {
  type = "rust-mlua",
  modules = { "switchboard" },
  -- The backend adds `lua54` or `luajit`.
  default_features = false,
  target_path = "../../target/module",
}
