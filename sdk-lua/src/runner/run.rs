//! A script from its start to its end: gives the runner that is written in Lua what it needs, and says what
//! came of it.

use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mlua::{Function, Lua, LuaString, MultiValue, Table, Value};
use tracing::{error, info};

use super::cli::Options;
use super::{files, instructions, signals, state};
use crate::reactor::Reactor;

/// Why a script came to a bad end.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) kind: Kind,
    /// With its place in front.
    pub(super) text: String,
    /// The text and the stack; empty where there is none.
    pub(super) traceback: String,
    /// Why it could not connect, where something else ended it after that.
    pub(super) connect: Option<String>,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Script,
    /// Of who typed the options.
    Usage,
    Connect,
}

/// Runs the script that the options name.
pub(super) fn run(options: &Options, token: Option<String>) -> Result<(), Failed> {
    // A script is told what it did by Lua; what comes here is this program's.
    begin(options, token).unwrap_or_else(|error| Err(Failed::of_program(&error)))
}

fn begin(options: &Options, token: Option<String>) -> mlua::Result<Result<(), Failed>> {
    let (lua, module, reactor) = state::make(options)?;
    let natives = lua.create_table()?;
    files::add(&lua, &natives)?;
    add(&lua, &natives, &reactor, options)?;
    let defaults = defaults(&lua, options, token)?;
    let script: Function = lua.load(RUNNER).set_name("=lua-node").call((
        natives,
        module,
        defaults,
        crate::bind::inner(&lua)?,
    ))?;
    if let Some(limit) = options.instruction_limit {
        instructions::limit(&lua, &reactor, limit)?;
    }
    let real = std::fs::canonicalize(&options.script)?;
    let mut args = MultiValue::new();
    args.push_back(text(&lua, real.as_os_str().as_bytes())?);
    args.push_back(text(&lua, options.script.as_os_str().as_bytes())?);
    for argument in &options.args {
        args.push_back(text(&lua, argument.as_bytes())?);
    }
    type Ended = (Option<LuaString>, Option<LuaString>, Option<String>, Option<LuaString>);
    let (why, traceback, kind, connect): Ended = script.call(args)?;
    let Some(why) = why else { return Ok(Ok(())) };
    let kind = match kind.as_deref() {
        Some("connect") => Kind::Connect,
        Some("usage") => Kind::Usage,
        _ => Kind::Script,
    };
    Ok(Err(Failed {
        kind,
        text: why.to_string_lossy(),
        traceback: traceback.map(|text| text.to_string_lossy()).unwrap_or_default(),
        connect: connect.filter(|_| kind == Kind::Script).map(|text| text.to_string_lossy()),
    }))
}

/// Adds what is about this process and its Lua thread.
fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>, options: &Options) -> mlua::Result<()> {
    natives.raw_set("files", lua.load(FILES).set_name("=lua-node").into_function()?)?;
    // (function of whether somebody asked): runs between messages.
    let period = Some(options.reload_every).filter(|period| !period.is_zero());
    let r = reactor.clone();
    let set_upkeep = move |_: &Lua, work: Function| {
        r.upkeep.set(work, period);
        Ok(())
    };
    natives.raw_set("set_upkeep", lua.create_function(set_upkeep)?)?;
    // Has it run in the next turn.
    let (asked, signal) = (reactor.upkeep.asked(), reactor.signal.clone());
    let ask = move |_: &Lua, ()| {
        asked.store(true, Ordering::Release);
        signal.set();
        Ok(())
    };
    natives.raw_set("ask", lua.create_function(ask)?)?;
    // Whether a signal came since the last time.
    let received = signals::watch(reactor)?;
    let signalled = move |_: &Lua, ()| Ok(received.swap(false, Ordering::AcqRel));
    natives.raw_set("signalled", lua.create_function(signalled)?)?;
    let r = reactor.clone();
    natives.raw_set("idle", lua.create_function(move |_, ()| Ok(r.is_idle()))?)?;
    let r = reactor.clone();
    natives.raw_set("last_id", lua.create_function(move |_, ()| Ok(r.last_id()))?)?;
    let r = reactor.clone();
    natives.raw_set("is_set", lua.create_function(move |_, id: u64| Ok(r.is_timer_set(id)))?)?;
    // What runs now may use up all that one turn may.
    let spent = reactor.spent.clone();
    let fresh = move |_: &Lua, ()| {
        spent.set(0);
        Ok(())
    };
    natives.raw_set("fresh", lua.create_function(fresh)?)?;
    // (milliseconds), in which nothing happens.
    let pause = |_: &Lua, millis: u64| {
        std::thread::sleep(Duration::from_millis(millis));
        Ok(())
    };
    natives.raw_set("pause", lua.create_function(pause)?)?;
    let log = |_: &Lua, (level, text): (String, String)| {
        match level.as_str() {
            "error" => error!(target: "lua_node", "{text}"),
            _ => info!(target: "lua_node", "{text}"),
        }
        Ok(())
    };
    natives.raw_set("log", lua.create_function(log)?)?;
    // (level) to the name of the file whose function runs there.
    let source = |lua: &Lua, level: usize| Ok(lua.inspect_stack(level, named).flatten());
    natives.raw_set("source", lua.create_function(source)?)?;
    natives.raw_set("placed", lua.create_function(placed)?)?;
    natives.raw_set("traceback", lua.create_function(traceback)?)
}

/// The text and the stack, without what is this program's.
fn traceback(lua: &Lua, text: LuaString) -> mlua::Result<String> {
    let stack = lua.traceback(None, 2)?.to_string_lossy();
    let is_own = |line: &str| OWN_CHUNKS.iter().any(|chunk| line.trim_start().starts_with(chunk));
    let mut lines: Vec<&str> = Vec::new();
    for line in stack.lines() {
        if !is_own(line) {
            lines.push(line);
        } else if lines.last().is_some_and(|last| last.ends_with("in function 'xpcall'")) {
            lines.pop();
        }
    }
    Ok(format!("{}\n{}", text.to_string_lossy(), lines.join("\n")))
}

/// The text with its place in a file in front, unless it begins with one.
fn placed(lua: &Lua, text: LuaString) -> mlua::Result<LuaString> {
    let mut place = None;
    for level in 1.. {
        let frame = lua.inspect_stack(level, |frame| {
            named(frame)?;
            let short = frame.source().short_src?.into_owned();
            Some((short, frame.current_line()?))
        });
        let Some(frame) = frame else { break };
        let Some((source, line)) = frame else { continue };
        if text.as_bytes().starts_with(format!("{source}:").as_bytes()) {
            return Ok(text);
        }
        place = place.or(Some(format!("{source}:{line}: ")));
    }
    let Some(place) = place else { return Ok(text) };
    lua.create_string([place.as_bytes(), &text.as_bytes()].concat())
}

/// The file of a function; none where it is not from a file.
fn named(frame: &mlua::debug::Debug<'_>) -> Option<String> {
    let source = frame.source().source?;
    source.strip_prefix('@').map(str::to_owned)
}

/// What `connect` is not told otherwise.
fn defaults(lua: &Lua, options: &Options, token: Option<String>) -> mlua::Result<Table> {
    let defaults = lua.create_table()?;
    defaults.raw_set("service", options.service.as_deref())?;
    defaults.raw_set("routers", options.routers.clone())?;
    if !options.also.is_empty() {
        defaults.raw_set("also", options.also.clone())?;
    }
    defaults.raw_set("token", token)?;
    defaults.raw_set("name", options.name.as_deref())?;
    defaults.raw_set("weight", options.weight)?;
    Ok(defaults)
}

fn text(lua: &Lua, bytes: &[u8]) -> mlua::Result<Value> {
    lua.create_string(bytes).map(Value::String)
}

impl Failed {
    fn of_program(error: &mlua::Error) -> Self {
        let text = error.to_string();
        Self { kind: Kind::Script, traceback: String::new(), text, connect: None }
    }
}

/// The names of what is written in Lua here.
const OWN_CHUNKS: [&str; 2] = ["lua-node:", "switchboard:"];
const RUNNER: &str = include_str!("../../lua/runner.lua");
const FILES: &str = include_str!("../../lua/files.lua");
