//! What happens to a node: to the log, and to the hooks of its script.

use std::rc::Rc;

use mlua::{IntoLuaMulti, Lua, MultiValue};
use switchboard::{Class, Event, Events, Node, Reason};
use tracing::{debug, info, warn};

use crate::reactor::Reactor;

/// Hands a node's events on, one by one, until its last.
pub(super) fn follow(reactor: &Rc<Reactor>, number: u64, mut events: Events) {
    let next = async move {
        let event = events.next().await;
        (event, events)
    };
    reactor.begin(next, move |(event, events), lua, reactor| {
        told(lua, reactor, number, event, events)
    });
}

fn told(
    lua: &Lua,
    reactor: &Rc<Reactor>,
    number: u64,
    event: Option<Event>,
    events: Events,
) -> mlua::Result<()> {
    let Some(event) = event else { return Ok(()) };
    let closed = matches!(event, Event::Closed(_));
    let node = reactor.node(number);
    // ORDER: first what keeps the events coming. What is told to the script may fail.
    match closed {
        true => reactor.part(number),
        false => follow(reactor, number, events),
    }
    let Some(node) = node else { return Ok(()) };
    log(&node, &event);
    let Some((hook, values)) = hook(lua, &node, event)? else { return Ok(()) };
    let mut all = (number, hook).into_lua_multi(lua)?;
    all.extend(values);
    reactor.script()?.hook.call::<()>(all)
}

/// The hook of an event, and what it is called with.
fn hook(lua: &Lua, node: &Node, event: Event) -> mlua::Result<Option<(&'static str, MultiValue)>> {
    let class_name = |class: Class| super::class_name(node, class);
    let hook = match event {
        Event::Connected { router, name, ids } => {
            let ids: Vec<_> = ids.into_iter().map(|id| super::written(node, id)).collect();
            ("on_connected", (router, name, ids).into_lua_multi(lua)?)
        }
        Event::Lost { router, why, unsent } => {
            ("on_lost", (router, why, unsent).into_lua_multi(lua)?)
        }
        Event::Promoted { class, epoch } => {
            ("on_promoted", (epoch, class_name(class)).into_lua_multi(lua)?)
        }
        Event::Demoted { class } => ("on_demoted", class_name(class).into_lua_multi(lua)?),
        Event::Undelivered { reason, class, id, key, .. } => {
            let to = id.map_or_else(|| class_name(class), |id| super::written(node, id));
            let key = key.map(|key| key as i64);
            ("on_undelivered", (to, reason.to_string(), key).into_lua_multi(lua)?)
        }
        Event::Overloaded { messages, replies, expired } => {
            ("on_overloaded", (messages, replies, expired).into_lua_multi(lua)?)
        }
        Event::Replaced { ids } => {
            let ids: Vec<_> = ids.into_iter().map(|id| super::written(node, id)).collect();
            ("on_replaced", ids.into_lua_multi(lua)?)
        }
        Event::Refused { code, text } => {
            ("on_refused", (text, code.to_string()).into_lua_multi(lua)?)
        }
        Event::Missed(count) => ("on_missed", count.into_lua_multi(lua)?),
        Event::Closed(reason) => ("on_closed", reason.to_string().into_lua_multi(lua)?),
        _ => return Ok(None),
    };
    Ok(Some(hook))
}

fn log(node: &Node, event: &Event) {
    let id = super::written(node, node.id());
    match event {
        Event::Connected { router, name, .. } => info!(node = id, router, name, "connected"),
        Event::Lost { router, why, unsent } => warn!(node = id, router, why, unsent, "link lost"),
        Event::Reconnecting { router, after, attempt, why } => {
            let (after_ms, why) = (after.as_millis() as u64, why.as_deref().unwrap_or_default());
            debug!(node = id, router, after_ms, attempt, why, "reconnecting");
        }
        Event::Promoted { class, epoch } => {
            info!(node = id, class = super::class_name(node, *class), epoch, "promoted");
        }
        Event::Demoted { class } => {
            info!(node = id, class = super::class_name(node, *class), "demoted");
        }
        Event::Replaced { .. } => warn!(node = id, "a newer incarnation took over"),
        Event::Undelivered { reason, class, .. } => {
            let class = super::class_name(node, *class);
            match reason {
                Reason::Full => warn!(node = id, class, %reason, "undelivered"),
                _ => debug!(node = id, class, %reason, "undelivered"),
            }
        }
        Event::Overloaded { messages, replies, expired } => {
            warn!(node = id, messages, replies, expired, "overloaded: these were dropped");
        }
        // The handler's error is in the log already.
        Event::Failed { method, code, .. } => debug!(node = id, method, code, "message failed"),
        Event::Refused { code, text } => warn!(node = id, %code, text, "refused"),
        Event::GoAway { router, reason, .. } => {
            info!(node = id, router, ?reason, "the router asks to go");
        }
        Event::Closed(reason) => info!(node = id, %reason, "closed"),
        Event::Missed(count) => warn!(node = id, count, "events went by unread"),
        other => debug!(node = id, event = ?other, "event"),
    }
}
