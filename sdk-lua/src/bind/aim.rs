//! Whom a message is for, as scripts say it: a mode, a class or an instance, and a method.

use mlua::{Lua, LuaString, MultiValue, Table, Value};
use switchboard::{Key, To};

use crate::failure::Failure;
use crate::values;

/// How to pick, whom, and what for.
pub(super) struct Aim {
    pub(super) pick: Pick,
    /// A class, or with `Direct` an instance.
    pub(super) to: Value,
    pub(super) method: LuaString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    Direct,
    Master,
    Hash(u64),
    Random,
    LeastLoaded,
    Broadcast,
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

pub(super) use picked;

impl Aim {
    /// Takes mode, class and method off the front of what a script passed.
    pub(super) fn read(lua: &Lua, mut rest: MultiValue) -> Result<(Self, MultiValue), Failure> {
        let mode = rest.pop_front().unwrap_or_default();
        let (pick, to) = match &mode {
            Value::String(word) => (word_pick(word)?, rest.pop_front().unwrap_or_default()),
            Value::Table(mode) => table_pick(lua, mode, &mut rest)?,
            other => return Err(not_a_mode(values::kind(other))),
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
fn table_pick(lua: &Lua, mode: &Table, rest: &mut MultiValue) -> Result<(Pick, Value), Failure> {
    let direct: Value = mode.raw_get("direct").map_err(super::thrown)?;
    if !direct.is_nil() {
        return Ok((Pick::Direct, direct));
    }
    let key: Value = mode.raw_get("hash").map_err(super::thrown)?;
    let key = match &key {
        Value::Integer(key) => key.key(),
        Value::String(key) => key.as_bytes().key(),
        Value::Number(_) => {
            return Err(Failure::usage("HASH takes a whole number or a string as its key"));
        }
        Value::Nil => return Err(not_a_mode("table")),
        // LuaJIT's integers beyond its numbers.
        other => match values::integer(lua, other).map_err(super::thrown)? {
            Some(key) => (key as u64).key(),
            None => {
                let kind = values::kind(other);
                let text =
                    format!("HASH takes a whole number or a string as its key, not a {kind}");
                return Err(Failure::usage(text));
            }
        },
    };
    Ok((Pick::Hash(key), rest.pop_front().unwrap_or_default()))
}

fn not_a_mode(what: &str) -> Failure {
    Failure::usage(format!(
        "{what} is not a mode: pass MASTER, HASH(key), RANDOM, BROADCAST, LEAST_LOADED or DIRECT(id)"
    ))
}

pub(super) fn method_of(value: Option<Value>) -> Result<LuaString, Failure> {
    match value {
        Some(Value::String(method)) => Ok(method),
        other => Err(Failure::usage(format!(
            "the method is a string, not a {}",
            values::kind(&other.unwrap_or_default())
        ))),
    }
}

pub(super) fn name(method: &LuaString) -> Result<String, Failure> {
    match method.to_str() {
        Ok(method) => Ok(method.to_owned()),
        Err(_) => Err(Failure::usage("the name of a method is UTF-8")),
    }
}

/// A class or an instance, as a script named it.
pub(super) enum Target {
    Name(String),
    Number(u8),
}

impl Target {
    pub(super) fn of(value: &Value) -> Result<Self, Failure> {
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
                values::kind(other)
            ))),
        }
    }

    pub(super) fn borrow(&self) -> To<'_> {
        match self {
            Self::Name(name) => To::Name(name),
            Self::Number(number) => To::Number(*number),
        }
    }
}
