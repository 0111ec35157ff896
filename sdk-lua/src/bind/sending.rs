//! What scripts send: forward, call, collect. Arguments are encoded here, on the Lua thread, and names
//! what can't travel.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};
use switchboard::{
    Broadcast, CallError, Collected, Direct, Encoded, Hash, LeastLoaded, Master, Node, Random, To,
};

use super::aim::{Aim, Pick, Target, method_of, name, picked};
use crate::failure::Failure;
use crate::reactor::Reactor;
use crate::values::{self, Decoder};

/// What `node:with` says of messages.
#[derive(Debug, Clone, Copy)]
struct Options {
    flags: u8,
    /// In milliseconds; 0 stands for the default.
    time: u64,
}

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>) -> mlua::Result<()> {
    let forward = forward_native(reactor);
    natives.raw_set("forward", lua.create_function(forward)?)?;
    let call = call_native(reactor);
    natives.raw_set("call", lua.create_function(call)?)?;
    let collect = collect_native(reactor);
    natives.raw_set("collect", lua.create_function(collect)?)?;
    let load = reactor.clone();
    natives.raw_set(
        "set_load",
        lua.create_function(move |_, (number, value): (u64, u32)| {
            load.with_node(number, |node| node.set_load(value));
            Ok(())
        })?,
    )
}

/// (node, flags, ttl, mode, class, method, ...) to true.
fn forward_native(
    reactor: &Rc<Reactor>,
) -> impl Fn(&Lua, (u64, u8, u64, MultiValue)) -> mlua::Result<MultiValue> + 'static {
    let reactor = reactor.clone();
    move |lua, (number, flags, time, rest)| match forward(
        lua,
        &reactor,
        number,
        Options { flags, time },
        rest,
    ) {
        Ok(()) => true.into_lua_multi(lua),
        Err(failure) => failure.into_lua_multi(lua),
    }
}

fn forward(
    lua: &Lua,
    reactor: &Reactor,
    number: u64,
    options: Options,
    rest: MultiValue,
) -> Result<(), Failure> {
    let (aim, args) = Aim::read(lua, rest)?;
    let marks = &reactor.script().map_err(super::thrown)?.marks;
    let method = name(&aim.method)?;
    let to = Target::of(&aim.to)?;
    with_scratch(|buffer| {
        let count = values::encode_all(lua, marks, &args, "argument", buffer)
            .map_err(|why| Failure::new("bad_value", format!("`{method}`: {why}")))?;
        let args = Encoded { count, bytes: &*buffer };
        let sent = reactor.with_node(number, |node| match options {
            Options { flags: 0, time: 0 } => {
                send_plainly(node, aim.pick, to.borrow(), &method, args)
            }
            options => send(node, aim.pick, to.borrow(), &method, args, options),
        });
        sent.ok_or_else(Failure::closed)?
    })
}

fn send_plainly(
    node: &Node,
    pick: Pick,
    to: To<'_>,
    method: &str,
    args: Encoded<&Vec<u8>>,
) -> Result<(), Failure> {
    let sent = picked!(pick, word => node.forward(word, to, method, args),
        else node.forward(Broadcast, to, method, args));
    Ok(sent?)
}

fn send(
    node: &Node,
    pick: Pick,
    to: To<'_>,
    method: &str,
    args: Encoded<&Vec<u8>>,
    options: Options,
) -> Result<(), Failure> {
    let mut message = picked!(pick, word => node.message(word, to, method, args),
        else node.message(Broadcast, to, method, args));
    if options.flags & DROPPABLE != 0 {
        message = message.droppable();
    }
    if options.flags & REPORT != 0 {
        message = message.report();
    }
    if options.flags & ECHO != 0 {
        message = message.echo();
    }
    if options.time != 0 {
        message = message.ttl(Duration::from_millis(options.time));
    }
    Ok(message.send()?)
}

/// (node, flags, timeout, mode, class, method, ...) to the id that the results come under.
fn call_native(
    reactor: &Rc<Reactor>,
) -> impl Fn(&Lua, (u64, u8, u64, MultiValue)) -> mlua::Result<MultiValue> + 'static {
    let reactor = reactor.clone();
    move |lua, (number, flags, time, rest)| match call(
        lua,
        &reactor,
        number,
        Options { flags, time },
        rest,
    ) {
        Ok(id) => id.into_lua_multi(lua),
        Err(failure) => failure.into_lua_multi(lua),
    }
}

fn call(
    lua: &Lua,
    reactor: &Rc<Reactor>,
    number: u64,
    options: Options,
    rest: MultiValue,
) -> Result<u64, Failure> {
    let (aim, args) = Aim::read(lua, rest)?;
    let to = Target::of(&aim.to)?;
    let (node, method, args) = prepare(lua, reactor, number, &aim.method, &args)?;
    let to = to.borrow();
    let call = picked!(aim.pick, word => node.call::<()>(word, to, &method, args),
        else return Err(Failure::usage("a call has one answer, and BROADCAST has many: use `collect`")));
    let mut call = call.raw();
    if options.flags & IDEMPOTENT != 0 {
        call = call.idempotent();
    }
    if options.time != 0 {
        call = call.timeout(Duration::from_millis(options.time));
    }
    let id = reactor.next_id();
    reactor.begin(call.into_future(), move |result, lua, reactor| {
        reactor.complete(id, results(lua, result)?, lua)
    });
    Ok(id)
}

/// (node, flags, timeout, class, method, ...) to the id that the answers come under.
fn collect_native(
    reactor: &Rc<Reactor>,
) -> impl Fn(&Lua, (u64, u8, u64, MultiValue)) -> mlua::Result<MultiValue> + 'static {
    let reactor = reactor.clone();
    move |lua, (number, _, time, rest)| match collect(lua, &reactor, number, time, rest) {
        Ok(id) => id.into_lua_multi(lua),
        Err(failure) => failure.into_lua_multi(lua),
    }
}

fn collect(
    lua: &Lua,
    reactor: &Rc<Reactor>,
    number: u64,
    time: u64,
    mut rest: MultiValue,
) -> Result<u64, Failure> {
    let to = rest.pop_front().unwrap_or_default();
    let to = Target::of(&to)?;
    let method = method_of(rest.pop_front())?;
    let (node, method, args) = prepare(lua, reactor, number, &method, &rest)?;
    let mut question = node.collect::<()>(to.borrow(), &method, args).raw();
    if time != 0 {
        question = question.timeout(Duration::from_millis(time));
    }
    let id = reactor.next_id();
    reactor.begin(question.into_future(), move |result, lua, reactor| match result {
        Ok(collected) => reactor.complete(id, answers(lua, &node, collected)?, lua),
        Err(error) => reactor.complete(id, Failure::from(error), lua),
    });
    Ok(id)
}

/// The node, and the arguments in a buffer of their own.
fn prepare<'a>(
    lua: &Lua,
    reactor: &Reactor,
    number: u64,
    method: &LuaString,
    args: impl IntoIterator<Item = &'a Value>,
) -> Result<(Node, String, Encoded<Vec<u8>>), Failure> {
    let node = reactor.node(number).ok_or_else(Failure::closed)?;
    let method = name(method)?;
    let marks = &reactor.script().map_err(super::thrown)?.marks;
    let mut bytes = Vec::new();
    let count = values::encode_all(lua, marks, args, "argument", &mut bytes)
        .map_err(|why| Failure::new("bad_value", format!("`{method}`: {why}")))?;
    Ok((node, method, Encoded { count, bytes }))
}

/// What a call returns: its results, or `nil, text, code, detail`.
fn results(lua: &Lua, result: Result<Bytes, CallError>) -> mlua::Result<MultiValue> {
    let payload = match result {
        Ok(payload) => payload,
        Err(error) => return Failure::from(error).into_lua_multi(lua),
    };
    let mut values = MultiValue::new();
    match Decoder::new(lua, &payload).append_array("result", &mut values) {
        Ok(()) => Ok(values),
        Err(why) => Failure::new("decode", why.0).into_lua_multi(lua),
    }
}

/// What `collect` returns: a list of `{from, n, results...}` or `{from, err, code, detail}`, and a list of
/// those who have not answered.
fn answers(lua: &Lua, node: &Node, collected: Collected<Bytes>) -> mlua::Result<MultiValue> {
    let list = lua.create_table_with_capacity(collected.answers.len(), 0)?;
    for (from, result) in collected.answers {
        let answer = lua.create_table()?;
        answer.raw_set("from", super::written(node, from))?;
        let mut values = MultiValue::new();
        let read = result.map_err(Failure::from).and_then(|payload| {
            Decoder::new(lua, &payload)
                .append_array("result", &mut values)
                .map_err(|why| Failure::new("decode", why.0))
        });
        match read {
            Ok(()) => {
                answer.raw_set("n", values.len())?;
                for (place, value) in values.into_iter().enumerate() {
                    answer.raw_set(place + 1, value)?;
                }
            }
            Err(failure) => {
                answer.raw_set("err", failure.text)?;
                answer.raw_set("code", failure.code)?;
                answer.raw_set("detail", failure.detail)?;
            }
        }
        list.raw_push(answer)?;
    }
    let missing = lua.create_table()?;
    for id in collected.missing {
        missing.raw_push(super::written(node, id))?;
    }
    (list, missing).into_lua_multi(lua)
}

/// Lends a buffer, so that encoding a message allocates nothing.
fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Taken, not borrowed: reading a value may run Lua, and that may send.
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEEP_CAPACITY {
        SCRATCH.set(buffer);
    }
    result
}

/// A scratch buffer that grew beyond this is given back: 64 KiB.
const KEEP_CAPACITY: usize = 64 << 10;

const IDEMPOTENT: u8 = 1;
const DROPPABLE: u8 = 2;
const REPORT: u8 = 4;
const ECHO: u8 = 8;
