//! What scripts are sent: a message becomes a call of the prelude's `deliver`, and what comes back, at once
//! or later, its answer.

use std::rc::Rc;

use mlua::{Lua, LuaString, MultiValue, Table, Value};
use switchboard::{Delivery, Encoded, HandlerError, Mode};
use tracing::{error, warn};

use crate::reactor::Reactor;
use crate::values::{self, Decoder, MAX_VALUES};

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>) -> mlua::Result<()> {
    // (token, ok, ...): the handler of a message that has waited is done.
    let answering = reactor.clone();
    natives.raw_set(
        "answer",
        lua.create_function(move |lua, (token, rest): (u64, MultiValue)| {
            if let Some(delivery) = answering.take_begun(token) {
                answer(lua, &answering, delivery, rest);
            }
            Ok(())
        })?,
    )
}

/// Has a message handled.
pub(crate) fn hand_over(
    lua: &Lua,
    reactor: &Rc<Reactor>,
    number: u64,
    delivery: Delivery,
) -> mlua::Result<()> {
    let (Some(method), Some(args)) = (delivery.method(), delivery.args()) else {
        delivery.no_method();
        return Ok(());
    };
    let token = reactor.next_id();
    // A count is only announced.
    let mut values = MultiValue::with_capacity(args.count.min(MAX_VALUES) + 8);
    values.push_back(Value::Integer(number as i64));
    values.push_back(Value::Integer(token as i64));
    let (name, key) = match (lua.create_string(method), key(lua, &delivery)) {
        (Ok(name), Ok(key)) => (Value::String(name), key),
        (Err(error), _) | (_, Err(error)) => {
            not_handed_over(delivery, &error);
            return Ok(());
        }
    };
    values.push_back(name);
    values.push_back(Value::Integer(delivery.from().raw().into()));
    values.push_back(kind(&delivery));
    values.push_back(key);
    if let Err(why) = Decoder::new(lua, args.bytes).append(args.count, "argument", &mut values) {
        warn!(from = %delivery.from(), method, why = why.0, "arguments without a Lua value");
        delivery.bad_args(&why.0);
        return Ok(());
    }
    let returned: MultiValue = match reactor.script()?.deliver.call(values) {
        Ok(returned) => returned,
        Err(error) => {
            reactor.reset(&error);
            not_handed_over(delivery, &error);
            return Ok(());
        }
    };
    match returned.front() {
        Some(Value::Boolean(_)) => answer(lua, reactor, delivery, returned),
        Some(Value::Integer(_)) => {
            if !delivery.wants_reply() && reactor.unheard.is_first(method) {
                warn!(from = %delivery.from(), method, "no handler for a one-way message; told once");
            }
            delivery.no_method();
        }
        _ => {
            let mut delivery = delivery;
            delivery.begin();
            reactor.keep(token, number, delivery);
        }
    }
    Ok(())
}

/// What went wrong is not the handler's, which is called protected: Lua has no memory left, mostly.
fn not_handed_over(delivery: Delivery, error: &mlua::Error) {
    let method = delivery.method().unwrap_or_default();
    error!(from = %delivery.from(), method, %error, "a message could not be handed over");
    delivery.answer(Err(HandlerError::new(HandlerError::ERROR, error.to_string())));
}

/// Answers a message: `true, results...` or `false, failure`.
fn answer(lua: &Lua, reactor: &Reactor, delivery: Delivery, mut returned: MultiValue) {
    let result = match returned.pop_front() {
        Some(Value::Boolean(true)) => encoded(lua, reactor, &returned, delivery.wants_reply()),
        _ => Err(failed(&delivery, returned.pop_front().unwrap_or_default())),
    };
    delivery.answer(result);
}

fn encoded(
    lua: &Lua,
    reactor: &Reactor,
    results: &MultiValue,
    wanted: bool,
) -> Result<Encoded<Vec<u8>>, HandlerError> {
    let mut bytes = Vec::new();
    if !wanted {
        return Ok(Encoded { count: 0, bytes });
    }
    let marks = &reactor.script().map_err(HandlerError::from)?.marks;
    match values::encode_all(lua, marks, results, "result", &mut bytes) {
        Ok(count) => Ok(Encoded { count, bytes }),
        Err(why) => Err(HandlerError::new("bad_value", why)),
    }
}

/// The error of a handler: to the log with its traceback, and to the caller.
fn failed(delivery: &Delivery, failure: Value) -> HandlerError {
    let method = delivery.method().unwrap_or_default();
    let Value::Table(failure) = failure else {
        // Lua asks nobody what to make of an error when it has no memory left, or no stack.
        let why = failure.to_string().unwrap_or_else(|_| "the handler failed".to_owned());
        error!(from = %delivery.from(), method, error = why, "handler failed");
        return HandlerError::new(HandlerError::ERROR, why);
    };
    let text = |name: &str| {
        let text = failure.raw_get::<Option<LuaString>>(name).ok().flatten();
        text.map(|text| text.to_string_lossy())
    };
    let why = text("text").unwrap_or_else(|| "the handler failed".to_owned());
    match text("code") {
        // Raised on purpose, as `fail(code, text)`.
        Some(code) => HandlerError::new(code, why),
        None => {
            let traceback = text("traceback").unwrap_or_default();
            error!(from = %delivery.from(), method, error = why, "handler failed\n{traceback}");
            HandlerError::new(HandlerError::ERROR, why)
        }
    }
}

/// The key that this node was picked by.
fn key(lua: &Lua, delivery: &Delivery) -> mlua::Result<Value> {
    let key = delivery.key().map(|key| values::from_integer(lua, key as i64));
    key.unwrap_or(Ok(Value::Nil))
}

/// How this node was picked, and whether an answer is waited for, in one number.
fn kind(delivery: &Delivery) -> Value {
    let mode = match delivery.mode() {
        Mode::Direct => 1,
        Mode::Master => 2,
        Mode::Hash => 3,
        Mode::Random => 4,
        Mode::Broadcast => 5,
        Mode::LeastLoaded => 6,
    };
    Value::Integer(mode + if delivery.wants_reply() { CALL } else { 0 })
}

/// Added where an answer is waited for.
const CALL: i64 = 16;
