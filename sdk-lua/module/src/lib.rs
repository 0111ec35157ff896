//! `require "switchboard"` in a Lua of your own: the library that Lua 5.4 or LuaJIT loads. The module itself is
//! the crate `switchboard-lua`; here is only what a host program doesn't bring, a log.
#![forbid(unsafe_code)]

use std::io::{self, IsTerminal};

use mlua::{Error, Lua, Table};
use tracing_subscriber::EnvFilter;

/// Called by `require`, once in each Lua state.
#[mlua::lua_module(name = "switchboard")]
fn open(lua: &Lua) -> mlua::Result<Table> {
    log()?;
    switchboard_lua::open(lua)
}

/// The same for `require "switchboard.luna"`, where it comes first.
#[mlua::lua_module(name = "switchboard_luna")]
fn open_luna(lua: &Lua) -> mlua::Result<Table> {
    log()?;
    switchboard_lua::open_luna(lua)
}

/// Has the log written to standard error, unless that is done already: by an earlier state of the process.
fn log() -> mlua::Result<()> {
    let filter = std::env::var(LEVEL).unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|mistake| {
        Error::runtime(format!("{LEVEL}: `{filter}`: {mistake}; a level is right, such as debug"))
    })?;
    // An error says that it is done.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
    Ok(())
}

/// The variable that says what is logged.
const LEVEL: &str = "SWITCHBOARD_LOG";
