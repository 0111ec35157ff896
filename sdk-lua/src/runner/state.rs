//! The Lua state of a script: without C modules and without the `debug` library, with which a script could
//! break the memory of the process; a `debug` table with `traceback` stands in. For the same reason only text
//! is loaded: nobody checks bytecode.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use mlua::{Lua, LuaString, Table, Value, Variadic};

use super::cli::Options;
use crate::reactor::Reactor;

/// A state with the module in it, and the module.
pub(super) fn make(options: &Options) -> mlua::Result<(Lua, Table, Rc<Reactor>)> {
    let lua = Lua::new();
    let (module, reactor) = crate::bind::open_anew(&lua)?;
    lua.register_module("switchboard", &module)?;
    let globals = lua.globals();
    let debug = lua.create_table()?;
    debug.raw_set("traceback", lua.create_function(traceback)?)?;
    globals.raw_set("debug", debug)?;
    globals.raw_set("arg", arguments(&lua, options)?)?;
    search_beside(&lua, &options.script)?;
    lua.load(TEXT_ONLY).set_name("=lua-node").exec()?;
    if let Some(bytes) = options.memory_limit {
        lua.set_memory_limit(bytes)?;
    }
    Ok((lua, module, reactor))
}

/// `debug.traceback([thread,] [message [, level]])`; of another coroutine there is no stack to be had.
fn traceback(lua: &Lua, args: Variadic<Value>) -> mlua::Result<Value> {
    let mut args = args.into_iter().peekable();
    if args.next_if(|first| matches!(first, Value::Thread(_))).is_some() {
        return Ok(args.next().unwrap_or_default());
    }
    let message = args.next().unwrap_or_default();
    let level = args.next().and_then(|level| level.as_usize()).unwrap_or(1);
    let text = match &message {
        Value::Nil => None,
        Value::String(text) => Some(text.to_string_lossy()),
        Value::Integer(_) | Value::Number(_) => Some(message.to_string()?),
        _ => return Ok(message),
    };
    lua.traceback(text.as_deref(), level).map(Value::String)
}

/// `arg`: the script, and what follows `--`.
fn arguments(lua: &Lua, options: &Options) -> mlua::Result<Table> {
    let arg = lua.create_table()?;
    arg.raw_set(0, lua.create_string(options.script.as_os_str().as_bytes())?)?;
    for argument in &options.args {
        arg.raw_push(lua.create_string(argument.as_bytes())?)?;
    }
    Ok(arg)
}

/// Has `require` look beside the script first.
fn search_beside(lua: &Lua, script: &Path) -> mlua::Result<()> {
    let package: Table = lua.globals().get("package")?;
    let before: LuaString = package.get("path")?;
    let dir = script.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    let mut path = Vec::new();
    for pattern in ["?.lua;", "?/init.lua;"] {
        path.extend_from_slice(dir.join(pattern).as_os_str().as_bytes());
    }
    path.extend_from_slice(&before.as_bytes());
    package.set("path", lua.create_string(path)?)
}

/// What loads, for text alone.
const TEXT_ONLY: &str = include_str!("../../lua/text_only.lua");
