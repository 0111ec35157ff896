//! Time: timers, and the turns in which everything is handed to scripts.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mlua::{Lua, Table};

use crate::reactor::Reactor;

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>) -> mlua::Result<()> {
    // (milliseconds, milliseconds or nil): to the id that the time being over comes under.
    let r = reactor.clone();
    let timer = move |_: &Lua, (after, period): (f64, Option<f64>)| {
        // A period of nothing would leave time for nothing else.
        let period = period.map(|period| millis(period).max(SHORTEST));
        Ok(r.set_timer(millis(after), period))
    };
    natives.raw_set("timer", lua.create_function(timer)?)?;
    let r = reactor.clone();
    let cancel = move |_: &Lua, id: u64| Ok(r.cancel_timer(id));
    natives.raw_set("cancel", lua.create_function(cancel)?)?;
    // (milliseconds or nil for any time): to how much was handed over.
    let r = reactor.clone();
    let turn = move |lua: &Lua, time: Option<f64>| {
        let deadline = time.map(|time| Instant::now() + millis(time));
        r.turn(lua, deadline)
    };
    natives.raw_set("turn", lua.create_function(turn)?)?;
    let r = reactor.clone();
    let idle = move |_: &Lua, ()| Ok(r.is_idle());
    natives.raw_set("idle", lua.create_function(idle)?)?;
    let r = reactor.clone();
    let descriptor = move |_: &Lua, ()| Ok(r.descriptor()?);
    natives.raw_set("descriptor", lua.create_function(descriptor)?)?;
    let now = |_: &Lua, ()| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(since.as_secs_f64() * 1000.0)
    };
    natives.raw_set("now", lua.create_function(now)?)?;
    let begun = Instant::now();
    let uptime = move |_: &Lua, ()| Ok(begun.elapsed().as_secs_f64() * 1000.0);
    natives.raw_set("clock", lua.create_function(uptime)?)
}

/// Up to some decades; what is below 0 or no number is none.
pub(super) fn millis(millis: f64) -> Duration {
    Duration::try_from_secs_f64((millis / 1000.0).clamp(0.0, DECADES)).unwrap_or_default()
}

const SHORTEST: Duration = Duration::from_micros(1);

/// In seconds.
const DECADES: f64 = 1e9;
