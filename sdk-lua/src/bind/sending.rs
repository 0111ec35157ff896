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
use crate::failure::{Failure, returned};
use crate::reactor::Reactor;
use crate::values::{self, Decoder};

/// What `node:with` says of messages.
#[derive(Debug, Clone, Copy)]
struct Options {
    flags: u8,
    /// In milliseconds; 0 stands for the default.
    time: u64,
}

/// What every native of sending takes: node, flags, time, and the rest.
type Sent = (u64, u8, u64, MultiValue);

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>) -> mlua::Result<()> {
    // (node, flags, ttl, mode, class, method, ...) to true.
    let r = reactor.clone();
    let forward = move |lua: &Lua, (number, flags, time, rest): Sent| {
        returned(lua, forward(lua, &r, number, Options { flags, time }, rest).map(|()| true))
    };
    natives.raw_set("forward", lua.create_function(forward)?)?;
    // (node, flags, timeout, mode, class, method, ...) to the id that the results come under.
    let r = reactor.clone();
    let call = move |lua: &Lua, (number, flags, time, rest): Sent| {
        returned(lua, call(lua, &r, number, Options { flags, time }, rest))
    };
    natives.raw_set("call", lua.create_function(call)?)?;
    // (node, flags, timeout, class, method, ...) to the id that the answers come under.
    let r = reactor.clone();
    let collect = move |lua: &Lua, (number, _, time, rest): Sent| {
        returned(lua, collect(lua, &r, number, time, rest))
    };
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

fn forward(
    lua: &Lua,
    reactor: &Reactor,
    number: u64,
    options: Options,
    rest: MultiValue,
) -> Result<(), Failure> {
    let (aim, args) = Aim::read(lua, rest)?;
    let method = name(&aim.method)?;
    let to = Target::of(&aim.to)?;
    with_scratch(|buffer| {
        let count = encode(lua, reactor, &method, &args, buffer)?;
        let args = Encoded { count, bytes: &*buffer };
        let sent = reactor
            .with_node(number, |node| send(node, aim.pick, to.borrow(), &method, args, options));
        sent.ok_or_else(Failure::closed)?
    })
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
    let mut bytes = Vec::new();
    let count = encode(lua, reactor, &method, args, &mut bytes)?;
    Ok((node, method, Encoded { count, bytes }))
}

/// Appends the arguments for a method; how many they are.
fn encode<'a>(
    lua: &Lua,
    reactor: &Reactor,
    method: &str,
    args: impl IntoIterator<Item = &'a Value>,
    to: &mut Vec<u8>,
) -> Result<usize, Failure> {
    let marks = &reactor.script().map_err(super::thrown)?.marks;
    values::encode_all(lua, marks, args, "argument", to)
        .map_err(|why| Failure::new("bad_value", format!("`{method}`: {why}")))
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
