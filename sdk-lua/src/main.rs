//! The binary `lua-node`: runs a Lua script as a node, with Lua inside. All of it is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    switchboard_lua::runner::main()
}
