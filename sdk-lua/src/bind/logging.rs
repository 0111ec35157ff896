//! The log of scripts: the same that the node writes to. And where in a script something happens; a Lua
//! without its `debug` library can't say it itself.

use mlua::{Lua, LuaString, Table};
use tracing::{debug, error, info, trace, warn};

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table) -> mlua::Result<()> {
    // (level, text, where)
    let log = |_: &Lua, (level, text, place): (String, LuaString, String)| {
        let text = text.to_string_lossy();
        match level.as_str() {
            "error" => error!(target: "script", at = place, "{text}"),
            "warn" => warn!(target: "script", at = place, "{text}"),
            "info" => info!(target: "script", at = place, "{text}"),
            "debug" => debug!(target: "script", at = place, "{text}"),
            _ => trace!(target: "script", at = place, "{text}"),
        }
        Ok(())
    };
    natives.raw_set("log", lua.create_function(log)?)?;
    // (text) to the text and the stack above the function that asks.
    let traceback = |lua: &Lua, text: LuaString| lua.traceback(Some(&text.to_string_lossy()), 2);
    natives.raw_set("traceback", lua.create_function(traceback)?)?;
    // To file:line of who called the function that asks.
    let place = |lua: &Lua, ()| {
        let place = lua.inspect_stack(2, |frame| {
            let source = frame.source().short_src.map(|source| source.into_owned());
            format!("{}:{}", source.unwrap_or_default(), frame.current_line().unwrap_or_default())
        });
        Ok(place.unwrap_or_default())
    };
    natives.raw_set("place", lua.create_function(place)?)
}
