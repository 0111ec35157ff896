//! `lua-node`: runs a Lua script as a node, with Lua inside.

#![forbid(unsafe_code)]

use mlua::Lua;

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let script = std::env::args().nth(1).unwrap_or_default();
    let lua = Lua::new();
    lua.register_module("switchboard", switchboard_lua::open(&lua)?)?;
    lua.load(std::path::PathBuf::from(script)).exec()?;
    Ok(())
}
