//! `--instruction-limit`: how much a script may run from one wait to the next, so that an endless loop costs its
//! handler and not the node. Without the option none of this is there.

use mlua::debug::Debug;
use mlua::{Function, HookTriggers, Lua, Table, VmState};

use crate::reactor::Reactor;

/// Limits what scripts run from now on. To be called when what is written in Lua here has been loaded: it
/// keeps functions that don't give up, to answer for those that did.
///
/// Coroutines inherit the hook from the one that creates them, and each has its own count to the next look;
/// what a look finds is added to one sum, which the reactor sets to 0 whenever it hands Lua something.
pub(super) fn limit(lua: &Lua, reactor: &Reactor, limit: u64) -> mlua::Result<()> {
    let step = (limit / 10).clamp(LEAST_STEP, LARGEST_STEP);
    let spent = reactor.spent.clone();
    let triggers = HookTriggers::new().every_nth_instruction(step as u32);
    lua.set_global_hook(triggers, move |lua, running| {
        spent.set(spent.get() + step);
        match spent.get() > limit && !is_own(running) {
            true => Err(over(lua, 0, limit)),
            false => Ok(VmState::Continue),
        }
    })?;
    // A script that catches the error and goes on would catch the next one as well.
    let spent = reactor.spent.clone();
    let check = lua.create_function(move |lua, ()| match spent.get() > limit {
        true => Err(over(lua, 1, limit)),
        false => Ok(()),
    })?;
    let coroutine: Table = lua.globals().get("coroutine")?;
    for (library, name) in
        [(lua.globals(), "pcall"), (lua.globals(), "xpcall"), (coroutine, "resume")]
    {
        let caught: Function = library.get(name)?;
        let raising: Function = lua.load(RAISE_ON).set_name("=lua-node").call((caught, &check))?;
        library.set(name, raising)?;
    }
    Ok(())
}

/// Whether what runs is written in Lua here. It is short, and what it has begun it ends: it puts away the
/// coroutine of a handler that went over the limit, before the sum is 0 again.
fn is_own(running: &Debug<'_>) -> bool {
    running.source().source.is_some_and(|source| OWN_SOURCES.contains(&&*source))
}

/// The error, with its place from this level of the stack on.
fn over(lua: &Lua, level: usize, limit: u64) -> mlua::Error {
    let mut place = None;
    for level in level.. {
        let frame = lua.inspect_stack(level, |frame| {
            let source = frame.source();
            source.source.filter(|source| source.starts_with('@'))?;
            Some(format!("{}:{}: ", source.short_src?, frame.current_line()?))
        });
        let Some(frame) = frame else { break };
        place = frame;
        if place.is_some() {
            break;
        }
    }
    let place = place.unwrap_or_default();
    let text = format!("{place}over the instruction limit: {limit} instructions without a wait");
    // As it is, while `Error::runtime` puts words in front.
    mlua::Error::external(text)
}

/// A function that catches errors, but for the one of the limit.
const RAISE_ON: &str = "\
local caught, check = ...
local function checked(...)
  check()
  return ...
end
return function(...) return checked(caught(...)) end";

/// What Lua calls the prelude, and the runner.
const OWN_SOURCES: [&str; 2] = ["=switchboard", "=lua-node"];

/// How many instructions lie between two looks: enough for an error to be handled, and few enough for the
/// limit to be kept.
const LEAST_STEP: u64 = 1000;
const LARGEST_STEP: u64 = 10_000;
