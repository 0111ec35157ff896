//! luna's surface: what `lua/luna.lua` and `lua/hosting.lua` need besides the other natives, and the way to
//! it, `require "switchboard.luna"`.

use std::rc::Rc;
use std::thread;

use mlua::{Function, Lua, Table};

use super::{connecting, turning};
use crate::failure::returned;
use crate::reactor::Reactor;

/// Opens luna's surface, and the module that it stands on.
pub fn open(lua: &Lua) -> mlua::Result<Table> {
    super::open(lua)?;
    let package: Table = lua.globals().get("package")?;
    let loader: Function = package.get::<Table>("preload")?.get(NAME)?;
    loader.call(NAME)
}

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>) -> mlua::Result<()> {
    // (options) to the id that the node's number comes under. The other `connect` waits with all of Lua.
    let r = reactor.clone();
    let open = move |lua: &Lua, options: Table| returned(lua, connecting::open(lua, &r, &options));
    natives.raw_set("open", lua.create_function(open)?)?;
    let pause = |_: &Lua, time: f64| {
        thread::sleep(turning::millis(time));
        Ok(())
    };
    natives.raw_set("pause", lua.create_function(pause)?)?;
    #[cfg(feature = "router")]
    super::hosting::add(lua, natives)?;
    Ok(())
}

/// Has `require "switchboard.luna"` open the surface, over the module and what its prelude keeps for itself.
pub(super) fn offer(lua: &Lua, module: &Table, inner: &Table, natives: &Table) -> mlua::Result<()> {
    // A Lua without `require` has no use for it.
    let Ok(package) = lua.globals().get::<Table>("package") else { return Ok(()) };
    let preload: Table = package.get("preload")?;
    let hosting = lua.load(HOSTING).set_name("=switchboard.luna.hosting").into_function()?;
    let luna = lua.load(LUNA).set_name("=switchboard.luna").into_function()?;
    preload.set(NAME, luna.bind((module, inner, natives, hosting))?)
}

const NAME: &str = "switchboard.luna";
const LUNA: &str = include_str!("../../lua/luna.lua");
const HOSTING: &str = include_str!("../../lua/hosting.lua");
