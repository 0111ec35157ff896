//! What scripts may know of a class and of themselves: who is there, who is master, what was counted.

use std::rc::Rc;

use mlua::{IntoLuaMulti, Lua, MultiValue, Table, Value};
use switchboard::{Direction, Membership, Node, Watcher};
use tokio::sync::oneshot;

use crate::failure::{Failure, returned};
use crate::reactor::Reactor;

/// Adds the natives of this room.
pub(super) fn add(lua: &Lua, natives: &Table, reactor: &Rc<Reactor>) -> mlua::Result<()> {
    // (node, class) to the id that each change comes under, and nil at the end.
    let r = reactor.clone();
    let watch =
        move |lua: &Lua, (number, class): (u64, String)| returned(lua, watch(&r, number, &class));
    natives.raw_set("watch", lua.create_function(watch)?)?;
    let r = reactor.clone();
    let unwatch = move |_: &Lua, id: u64| {
        r.cancel(id);
        Ok(())
    };
    natives.raw_set("unwatch", lua.create_function(unwatch)?)?;
    let r = reactor.clone();
    let ids = move |_: &Lua, number: u64| {
        let written = |node: &Node| {
            node.ids().into_iter().map(|id| super::written(node, id)).collect::<Vec<_>>()
        };
        Ok(r.with_node(number, written))
    };
    natives.raw_set("ids", lua.create_function(ids)?)?;
    let r = reactor.clone();
    let epoch = move |_: &Lua, (number, class): (u64, String)| {
        let epoch = |node: &Node| node.class(&class).and_then(|class| node.epoch(class));
        Ok(r.with_node(number, epoch).flatten())
    };
    natives.raw_set("epoch", lua.create_function(epoch)?)?;
    // (node, id) to its name, its class's name and its instance.
    let r = reactor.clone();
    let describe = move |_: &Lua, (number, raw): (u64, u32)| {
        let described = r.with_node(number, |node| {
            let id = switchboard::ServiceId::from_raw(raw).ok()?;
            let class = super::class_name(node, id.class());
            Some((super::written(node, id), class, id.instance().raw()))
        });
        Ok(described.flatten().unwrap_or_else(|| (raw.to_string(), String::new(), 0)))
    };
    natives.raw_set("describe", lua.create_function(describe)?)?;
    let r = reactor.clone();
    let stats = move |lua: &Lua, number: u64| match r.node(number) {
        Some(node) => stats(lua, &node).map(Value::Table),
        None => Ok(Value::Nil),
    };
    natives.raw_set("stats", lua.create_function(stats)?)
}

fn watch(reactor: &Rc<Reactor>, number: u64, class: &str) -> Result<u64, Failure> {
    let node = reactor.node(number).ok_or_else(Failure::closed)?;
    let watcher = node.watch(class)?;
    let id = reactor.next_id();
    let cancelled = reactor.cancellable(id);
    follow(reactor, id, node, watcher, cancelled);
    Ok(id)
}

/// Hands the changes of a class on, one by one, until the node is closed or nobody wants them.
fn follow(
    reactor: &Rc<Reactor>,
    id: u64,
    node: Node,
    mut watcher: Watcher,
    mut cancelled: oneshot::Receiver<()>,
) {
    let next = async move {
        let change = tokio::select! {
            biased;
            _ = &mut cancelled => None,
            change = watcher.next() => change,
        };
        (change, node, watcher, cancelled)
    };
    reactor.begin(next, move |(change, node, watcher, cancelled), lua, reactor| {
        let Some(change) = change else {
            reactor.cancel(id);
            return reactor.complete(id, Value::Nil, lua);
        };
        let change = told(lua, &node, change);
        // ORDER: first what keeps the changes coming. What is told to the script may fail.
        follow(reactor, id, node, watcher, cancelled);
        reactor.complete(id, change?, lua)
    });
}

fn told(lua: &Lua, node: &Node, change: Membership) -> mlua::Result<MultiValue> {
    let table = lua.create_table()?;
    match change {
        Membership::Joined { id, metadata } => {
            table.raw_set("kind", "joined")?;
            table.raw_set("id", super::written(node, id))?;
            table.raw_set("metadata", lua.create_table_from(metadata)?)?;
        }
        Membership::Left { id, reason } => {
            table.raw_set("kind", "left")?;
            table.raw_set("id", super::written(node, id))?;
            table.raw_set("reason", reason.to_string())?;
        }
        Membership::Master { id, epoch } => {
            table.raw_set("kind", "master")?;
            table.raw_set("id", id.map(|id| super::written(node, id)))?;
            table.raw_set("epoch", epoch)?;
        }
        _ => table.raw_set("kind", "synced")?,
    }
    table.into_lua_multi(lua)
}

fn stats(lua: &Lua, node: &Node) -> mlua::Result<Table> {
    let stats = node.stats();
    let table = lua.create_table()?;
    let methods = lua.create_table()?;
    for counted in &stats {
        let method = lua.create_table()?;
        let direction = match counted.direction {
            Direction::Called => "called",
            Direction::Served => "served",
        };
        method.raw_set("direction", direction)?;
        method.raw_set("class", &*counted.class_name)?;
        method.raw_set("method", &*counted.method)?;
        method.raw_set("calls", counted.calls)?;
        method.raw_set("in_flight", counted.in_flight)?;
        method.raw_set("retries", counted.retries)?;
        let outcomes = lua.create_table()?;
        for (outcome, count) in counted.outcomes.iter() {
            outcomes.raw_set(outcome.to_string(), count)?;
        }
        method.raw_set("outcomes", outcomes)?;
        let messages = lua.create_table()?;
        for (outcome, count) in counted.messages.iter() {
            messages.raw_set(outcome.to_string(), count)?;
        }
        method.raw_set("messages", messages)?;
        let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        method.raw_set("p50_ms", millis(counted.latency.p50()))?;
        method.raw_set("p99_ms", millis(counted.latency.p99()))?;
        method.raw_set("max_ms", millis(counted.latency.max()))?;
        methods.raw_push(method)?;
    }
    table.raw_set("methods", methods)?;
    table.raw_set("open_calls", stats.open_calls)?;
    table.raw_set("handler_queue", stats.handler_queue)?;
    table.raw_set("outbox_bytes", stats.outbox_bytes)?;
    table.raw_set("window_calls", stats.window_calls)?;
    table.raw_set("routers", stats.routers)?;
    Ok(table)
}
