//! How scripts connect, offer more, and leave.

use std::rc::Rc;
use std::time::Duration;

use mlua::{FromLua, Lua, Table, Value};
use switchboard::{Builder, DEFAULT_HANDLERS_WAITING, Deliveries, Node, Service, ServiceId};

use super::events;
use crate::failure::{Failure, returned};
use crate::reactor::Reactor;
use crate::values;

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>) -> mlua::Result<()> {
    let r = reactor.clone();
    let connect = move |lua: &Lua, options: Table| returned(lua, connect(lua, &r, &options));
    natives.raw_set("connect", lua.create_function(connect)?)?;
    let r = reactor.clone();
    let register = move |lua: &Lua, (number, service): (u64, Value)| {
        returned(lua, register(lua, &r, number, &service))
    };
    natives.raw_set("register", lua.create_function(register)?)?;
    let r = reactor.clone();
    let unregister = move |lua: &Lua, (number, name): (u64, String)| {
        returned(lua, unregister(&r, number, &name))
    };
    natives.raw_set("unregister", lua.create_function(unregister)?)?;
    let r = reactor.clone();
    let leave =
        move |lua: &Lua, (number, drain): (u64, bool)| returned(lua, leave(&r, number, drain));
    natives.raw_set("leave", lua.create_function(leave)?)
}

/// Waits with all of Lua: nothing of this state runs until the node is connected or its time is over.
fn connect(lua: &Lua, reactor: &Rc<Reactor>, options: &Table) -> Result<u64, Failure> {
    let (builder, most) = (builder(lua, options)?, most_waiting(lua, options)?);
    let connected = reactor.block_on(builder.connect_with_deliveries())?;
    Ok(joined(reactor, connected, most))
}

/// Connects while the script goes on: to the id that the node's number comes under.
pub(super) fn open(lua: &Lua, reactor: &Rc<Reactor>, options: &Table) -> Result<u64, Failure> {
    let (builder, most) = (builder(lua, options)?, most_waiting(lua, options)?);
    let id = reactor.next_id();
    reactor.begin(builder.connect_with_deliveries(), move |result, lua, reactor| match result {
        Ok(connected) => reactor.complete(id, joined(reactor, connected, most), lua),
        Err(error) => reactor.complete(id, Failure::from(error), lua),
    });
    Ok(id)
}

fn joined(reactor: &Rc<Reactor>, (node, deliveries): (Node, Deliveries), most: usize) -> u64 {
    let events = node.events();
    let number = reactor.join(node, deliveries, most);
    events::follow(reactor, number, events);
    number
}

fn most_waiting(lua: &Lua, options: &Table) -> Result<usize, Failure> {
    Ok(read(lua, options, "handlers_waiting")?.unwrap_or(DEFAULT_HANDLERS_WAITING))
}

/// What a script says of its node. Options are the builder's, times in milliseconds.
fn builder(lua: &Lua, options: &Table) -> Result<Builder, Failure> {
    let first = match read::<Value>(lua, options, "service")? {
        Some(value) => described(lua, service(lua, "service", &value)?, options)?,
        None => {
            let text = "`service` is missing: say which service the node offers, such as \
                        service = \"matchsvr.1\"";
            return Err(Failure::usage(text));
        }
    };
    let mut builder = Node::builder(first);
    options
        .for_each(|key: Value, _: Value| match &key {
            Value::String(name) if OPTIONS.iter().any(|known| *name == **known) => Ok(()),
            other => Err(mlua::Error::runtime(other.to_string()?)),
        })
        .map_err(|error| {
            let name = first_line(&error);
            Failure::usage(format!("`{name}` is not an option: there are {}", OPTIONS.join(", ")))
        })?;
    for value in list(lua, options, "also")? {
        builder = builder.also(service(lua, "also", &value)?);
    }
    for value in list(lua, options, "routers")? {
        builder = builder.router(text(lua, "routers", value)?);
    }
    for value in list(lua, options, "watch")? {
        builder = builder.watch(text(lua, "watch", value)?.as_str());
    }
    if let Some(name) = read::<String>(lua, options, "name")? {
        builder = builder.name(name);
    }
    if let Some(token) = read::<String>(lua, options, "token")? {
        builder = builder.token(token);
    }
    if let Some(bytes) = read::<usize>(lua, options, "outbox_bytes")? {
        builder = builder.outbox_bytes(bytes);
    }
    if let Some(messages) = read::<usize>(lua, options, "handler_queue")? {
        builder = builder.handler_queue(messages);
    }
    if let Some(time) = time(lua, options, "heartbeat")? {
        builder = builder.heartbeat(time);
    }
    if let Some(time) = time(lua, options, "call_timeout")? {
        builder = builder.call_timeout(time);
    }
    if let Some(time) = time(lua, options, "connect_timeout")? {
        builder = builder.connect_timeout(time);
    }
    if let Some(time) = time(lua, options, "drain_timeout")? {
        builder = builder.drain_timeout(time);
    }
    Ok(builder)
}

/// A service by name or id, or a table of service, weight and metadata.
fn service(lua: &Lua, option: &str, value: &Value) -> Result<Service, Failure> {
    match value {
        Value::String(name) => Ok(Service::from(name.to_string_lossy())),
        Value::Integer(raw) => {
            let id = u32::try_from(*raw).ok().and_then(|raw| ServiceId::from_raw(raw).ok());
            let wrong = || wrong(option, "a service id: class << 24 | instance, neither of them 0");
            id.map(Service::from).ok_or_else(wrong)
        }
        Value::Table(table) => {
            let name: String = read(lua, table, "service")?
                .ok_or_else(|| wrong(option, "a service such as \"matchsvr.1\""))?;
            described(lua, Service::from(name), table)
        }
        _ => Err(wrong(option, "a service such as \"matchsvr.1\"")),
    }
}

/// A service with the weight and the metadata that a table says.
fn described(lua: &Lua, mut service: Service, table: &Table) -> Result<Service, Failure> {
    if let Some(weight) = read::<u16>(lua, table, "weight")? {
        service = service.weight(weight);
    }
    if let Some(metadata) = read::<Table>(lua, table, "metadata")? {
        for pair in metadata.pairs::<String, String>() {
            let (key, value) = pair.map_err(|_| wrong("metadata", "a table of texts by name"))?;
            service = service.metadata(key, value);
        }
    }
    Ok(service)
}

/// One value, or a list of them.
fn list(lua: &Lua, options: &Table, name: &'static str) -> Result<Vec<Value>, Failure> {
    match read::<Value>(lua, options, name)? {
        None => Ok(Vec::new()),
        Some(Value::Table(list)) if list.raw_len() > 0 || list.is_empty() => {
            list.sequence_values().collect::<mlua::Result<_>>().map_err(|_| wrong(name, "a list"))
        }
        Some(one) => Ok(vec![one]),
    }
}

fn time(lua: &Lua, options: &Table, name: &'static str) -> Result<Option<Duration>, Failure> {
    let millis: Option<f64> = read(lua, options, name)?;
    let wrong = || wrong(name, "a number of milliseconds above 0");
    match millis {
        None => Ok(None),
        Some(millis) if millis > 0.0 => {
            Duration::try_from_secs_f64(millis / 1000.0).map(Some).map_err(|_| wrong())
        }
        Some(_) => Err(wrong()),
    }
}

fn text(lua: &Lua, option: &str, value: Value) -> Result<String, Failure> {
    String::from_lua(value, lua).map_err(|_| wrong(option, "a text"))
}

fn read<T: FromLua>(lua: &Lua, options: &Table, name: &'static str) -> Result<Option<T>, Failure> {
    let value: Value = options.get(name).map_err(|_| wrong(name, "readable"))?;
    let kind = values::kind(&value);
    match value {
        Value::Nil => Ok(None),
        value => T::from_lua(value, lua).map(Some).map_err(|_| {
            let expected = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
            let expected = match expected {
                "u16" => "a whole number from 0 to 65535",
                "usize" => "a whole number",
                "f64" => "a number of milliseconds above 0",
                "Table" => "a table",
                _ => "a text",
            };
            Failure::usage(format!("`{name}` is {expected}, not a {kind}"))
        }),
    }
}

fn wrong(option: &str, expected: &str) -> Failure {
    Failure::usage(format!("`{option}` is {expected}"))
}

fn first_line(error: &mlua::Error) -> String {
    let text = match error {
        mlua::Error::RuntimeError(text) => text.clone(),
        other => other.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// To the id that the new service's name comes under.
fn register(lua: &Lua, reactor: &Rc<Reactor>, number: u64, value: &Value) -> Result<u64, Failure> {
    let node = reactor.node(number).ok_or_else(Failure::closed)?;
    let service = service(lua, "service", value)?;
    let id = reactor.next_id();
    let named = node.clone();
    let asking = async move { node.register(service).await };
    reactor.begin(asking, move |result, lua, reactor| match result {
        Ok(registered) => reactor.complete(id, super::written(&named, registered), lua),
        Err(error) => reactor.complete(id, Failure::from(error), lua),
    });
    Ok(id)
}

/// To the id that `true` comes under.
fn unregister(reactor: &Rc<Reactor>, number: u64, name: &str) -> Result<u64, Failure> {
    let node = reactor.node(number).ok_or_else(Failure::closed)?;
    let held = node
        .ids()
        .into_iter()
        .find(|id| super::written(&node, *id) == name || id.to_string() == name);
    let held = held.ok_or_else(|| Failure::usage(format!("this node does not hold {name}")))?;
    let id = reactor.next_id();
    let asking = async move { node.unregister(held).await };
    reactor.begin(asking, move |result, lua, reactor| match result {
        Ok(()) => reactor.complete(id, true, lua),
        Err(error) => reactor.complete(id, Failure::from(error), lua),
    });
    Ok(id)
}

/// Closes a node, or drains it first. To the id that `true` comes under.
fn leave(reactor: &Rc<Reactor>, number: u64, drain: bool) -> Result<u64, Failure> {
    let node = reactor.node(number).ok_or_else(Failure::closed)?;
    let id = reactor.next_id();
    let leaving = async move {
        match drain {
            true => node.drain().await,
            false => node.close().await,
        }
    };
    reactor.begin(leaving, move |(), lua, reactor| reactor.complete(id, true, lua));
    Ok(id)
}

const OPTIONS: [&str; 15] = [
    "service",
    "also",
    "routers",
    "name",
    "token",
    "weight",
    "metadata",
    "watch",
    "heartbeat",
    "call_timeout",
    "connect_timeout",
    "drain_timeout",
    "outbox_bytes",
    "handler_queue",
    "handlers_waiting",
];
