//! What scripts send: forward, call, collect. Arguments are encoded here, on the Lua thread, and names
//! what can't travel.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mlua::{IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};
use switchboard::{
    Broadcast, CallError, Collected, Direct, Encoded, Hash, Key, LeastLoaded, Master, Node, Random,
    To,
};

use crate::failure::Failure;
use crate::reactor::Reactor;
use crate::values::{self, Decoder};

/// How to pick, whom, and what for.
struct Aim {
    pick: Pick,
    /// A class, or with `Direct` an instance.
    to: Value,
    method: LuaString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pick {
    Direct,
    Master,
    Hash(u64),
    Random,
    LeastLoaded,
    Broadcast,
}

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
    let (aim, args) = Aim::read(rest)?;
    let marks = &reactor.script().map_err(thrown)?.marks;
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

/// Has the body run with the word of the SDK that goes with a pick.
macro_rules! picked {
    ($pick:expr, $word:ident => $body:expr, else $broadcast:expr) => {
        match $pick {
            Pick::Direct => {
                let $word = Direct;
                $body
            }
            Pick::Master => {
                let $word = Master;
                $body
            }
            Pick::Hash(key) => {
                let $word = Hash(key);
                $body
            }
            Pick::Random => {
                let $word = Random;
                $body
            }
            Pick::LeastLoaded => {
                let $word = LeastLoaded;
                $body
            }
            Pick::Broadcast => $broadcast,
        }
    };
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
    let (aim, args) = Aim::read(rest)?;
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
    let begun = reactor.begin(call.into_future(), move |result, lua, reactor| {
        reactor.complete(id, results(lua, result)?, lua)
    });
    match begun {
        None => Ok(id),
        Some(Err(error)) => Err(error.into()),
        // Its answer can't be there before it has left.
        Some(Ok(_)) => Err(Failure::new("decode", "an answer came before the call")),
    }
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
    let begun = reactor.begin(question.into_future(), move |result, lua, reactor| match result {
        Ok(collected) => reactor.complete(id, answers(lua, &node, collected)?, lua),
        Err(error) => reactor.complete(id, Failure::from(error), lua),
    });
    match begun {
        None => Ok(id),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(_)) => Err(Failure::new("decode", "answers came before the question")),
    }
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
    let marks = &reactor.script().map_err(thrown)?.marks;
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

impl Aim {
    /// Takes mode, class and method off the front of what a script passed.
    fn read(mut rest: MultiValue) -> Result<(Self, MultiValue), Failure> {
        let mode = rest.pop_front().unwrap_or_default();
        let (pick, to) = match &mode {
            Value::String(word) => (word_pick(word)?, rest.pop_front().unwrap_or_default()),
            Value::Table(mode) => table_pick(mode, &mut rest)?,
            other => return Err(not_a_mode(other.type_name())),
        };
        let method = method_of(rest.pop_front())?;
        Ok((Self { pick, to, method }, rest))
    }
}

fn word_pick(word: &LuaString) -> Result<Pick, Failure> {
    match &*word.as_bytes() {
        b"master" => Ok(Pick::Master),
        b"random" => Ok(Pick::Random),
        b"broadcast" => Ok(Pick::Broadcast),
        b"least_loaded" => Ok(Pick::LeastLoaded),
        other => Err(not_a_mode(&format!("\"{}\"", String::from_utf8_lossy(other)))),
    }
}

/// `HASH(key)` or `DIRECT(id)`.
fn table_pick(mode: &Table, rest: &mut MultiValue) -> Result<(Pick, Value), Failure> {
    let direct: Value = mode.raw_get("direct").map_err(thrown)?;
    if !direct.is_nil() {
        return Ok((Pick::Direct, direct));
    }
    let key: Value = mode.raw_get("hash").map_err(thrown)?;
    let key = match &key {
        Value::Integer(key) => key.key(),
        Value::String(key) => key.as_bytes().key(),
        Value::Number(_) => {
            return Err(Failure::usage("HASH takes a whole number or a string as its key"));
        }
        other if other.is_nil() => return Err(not_a_mode("table")),
        other => {
            let text = format!(
                "HASH takes a whole number or a string as its key, not a {}",
                other.type_name()
            );
            return Err(Failure::usage(text));
        }
    };
    Ok((Pick::Hash(key), rest.pop_front().unwrap_or_default()))
}

fn not_a_mode(what: &str) -> Failure {
    Failure::usage(format!(
        "{what} is not a mode: pass MASTER, HASH(key), RANDOM, BROADCAST, LEAST_LOADED or DIRECT(id)"
    ))
}

fn method_of(value: Option<Value>) -> Result<LuaString, Failure> {
    match value {
        Some(Value::String(method)) => Ok(method),
        other => Err(Failure::usage(format!(
            "the method is a string, not a {}",
            other.unwrap_or_default().type_name()
        ))),
    }
}

fn name(method: &LuaString) -> Result<String, Failure> {
    match method.to_str() {
        Ok(method) => Ok(method.to_owned()),
        Err(_) => Err(Failure::usage("the name of a method is UTF-8")),
    }
}

/// A class or an instance, as a script named it.
enum Target {
    Name(String),
    Number(u8),
}

impl Target {
    fn of(value: &Value) -> Result<Self, Failure> {
        match value {
            Value::String(name) => Ok(Self::Name(name.to_string_lossy())),
            // Of a Direct: the number of an instance; of the others: of a class.
            Value::Integer(number) => match u8::try_from(*number) {
                Ok(class) => Ok(Self::Number(class)),
                Err(_) => match u32::try_from(*number) {
                    Ok(raw) => Ok(Self::Name(format!("{}.{}", raw >> 24, raw & 0xff_ffff))),
                    Err(_) => {
                        Err(Failure::usage(format!("{number} is not a class or an instance")))
                    }
                },
            },
            // Who sent a message.
            Value::Table(from) => match from.raw_get::<Option<String>>("name") {
                Ok(Some(name)) => Ok(Self::Name(name)),
                _ => Err(Failure::usage("a table is not a class or an instance")),
            },
            other => Err(Failure::usage(format!(
                "a class is a name or a number and an instance is written gamesvr.2, not a {}",
                other.type_name()
            ))),
        }
    }

    fn borrow(&self) -> To<'_> {
        match self {
            Self::Name(name) => To::Name(name),
            Self::Number(number) => To::Number(*number),
        }
    }
}

fn thrown(error: mlua::Error) -> Failure {
    Failure::new("error", error.to_string())
}

/// Lends a buffer, so that encoding a message allocates nothing.
fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|buffer| {
        buffer.clear();
        let result = work(buffer);
        if buffer.capacity() > KEEP_CAPACITY {
            *buffer = Vec::new();
        }
        result
    })
}

/// A scratch buffer that grew beyond this is given back: 64 KiB.
const KEEP_CAPACITY: usize = 64 << 10;

const IDEMPOTENT: u8 = 1;
const DROPPABLE: u8 = 2;
const REPORT: u8 = 4;
const ECHO: u8 = 8;
