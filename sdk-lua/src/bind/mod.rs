//! The module as Lua sees it: natives, one room each, and around them the prelude, which is written in Lua
//! because only Lua can yield.

mod aim;
pub(crate) mod answering;
mod connecting;
mod events;
#[cfg(feature = "router")]
mod hosting;
mod logging;
mod luna;
mod sending;
mod turning;
mod watching;

pub use self::luna::open as open_luna;

use std::rc::Rc;

use mlua::{Lua, Table};
use switchboard::{Class, Node, ServiceId};

use crate::failure::Failure;
use crate::reactor::{Reactor, Script};
use crate::values::Marks;

/// Opens the module in a Lua state; the second time, the same one.
pub fn open(lua: &Lua) -> mlua::Result<Table> {
    if let Some(module) = lua.named_registry_value::<Option<Table>>(KEY)? {
        return Ok(module);
    }
    Ok(open_anew(lua)?.0)
}

/// Opens the module where it is not open, for a program that has things to do beside its scripts.
pub(crate) fn open_anew(lua: &Lua) -> mlua::Result<(Table, Rc<Reactor>)> {
    let reactor = Rc::new(Reactor::start()?);
    let natives = lua.create_table()?;
    connecting::add(lua, &natives, &reactor)?;
    sending::add(lua, &natives, &reactor)?;
    answering::add(lua, &natives, &reactor)?;
    watching::add(lua, &natives, &reactor)?;
    turning::add(lua, &natives, &reactor)?;
    logging::add(lua, &natives)?;
    luna::add(lua, &natives, &reactor)?;
    natives.raw_set("null", mlua::Value::NULL)?;
    natives.raw_set("version", env!("CARGO_PKG_VERSION"))?;
    let (module, prelude): (Table, Table) =
        lua.load(PRELUDE).set_name("=switchboard").call(&natives)?;
    reactor.set_script(Script {
        deliver: prelude.raw_get("deliver")?,
        complete: prelude.raw_get("complete")?,
        hook: prelude.raw_get("hook")?,
        reset: prelude.raw_get("reset")?,
        marks: Marks {
            array: prelude.raw_get("array")?,
            map: prelude.raw_get("map")?,
            binary: prelude.raw_get("binary")?,
        },
    });
    luna::offer(lua, &module, &prelude, &natives)?;
    lua.set_named_registry_value(INNER, &prelude)?;
    lua.set_named_registry_value(KEY, &module)?;
    Ok((module, reactor))
}

/// What the prelude keeps for the other files that are written in Lua.
#[cfg(feature = "runner")]
pub(crate) fn inner(lua: &Lua) -> mlua::Result<Table> {
    lua.named_registry_value(INNER)
}

/// An id with its class's name: `matchsvr.1`.
fn written(node: &Node, id: ServiceId) -> String {
    format!("{}.{}", class_name(node, id.class()), id.instance())
}

/// A class's name, or its number where no router has named it.
fn class_name(node: &Node, class: Class) -> String {
    node.class_name(class).unwrap_or_else(|| class.to_string())
}

/// An error of Lua's where a failure is expected.
fn thrown(error: mlua::Error) -> Failure {
    Failure::new("error", error.to_string())
}

const PRELUDE: &str = include_str!("../../lua/prelude.lua");

const KEY: &str = "switchboard";
const INNER: &str = "switchboard.inner";
