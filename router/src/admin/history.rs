//! `/api/v1/events`: what happened lately, and each event as it is told.

use serde::Serialize;
use switchboard_protocol::control::{Left, LeftReason};

use super::Admin;
use super::answer::{Answered, json};
use super::query::Query;
use crate::events::{Event, What};
use crate::policy::Policies;
use crate::registry::News;

/// An event as operators read it.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    pub number: u64,
    at_ms: u64,
    #[serde(flatten)]
    what: Kind,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Kind {
    Joined { id: String },
    Left { id: String, reason: LeftReason },
    Master { class: String, id: Option<String>, epoch: u64 },
    Refused { session: u64, peer: String, code: &'static str, text: String },
    Disconnected { session: u64 },
    Reloaded { applied: Vec<String>, needs_restart: Vec<String> },
    NotReloaded { mistake: String },
    Draining { sessions: usize },
}

#[derive(Debug, Serialize)]
struct List {
    events: Vec<Told>,
}

/// The latest events, oldest first.
pub(super) fn list(query: &str, admin: &Admin) -> Answered {
    let query = Query::read(query, &["since"])?;
    let since = query.value("since")?.unwrap_or(0);
    Ok(json(&List { events: since_number(since, admin) }))
}

/// The events behind this number.
pub(super) fn since_number(number: u64, admin: &Admin) -> Vec<Told> {
    let policies = admin.shared.settings.load().policies.clone();
    let events = admin.shared.events.since(number).into_iter();
    events.map(|event| Told::of(event, &policies)).collect()
}

impl Told {
    fn of(event: Event, policies: &Policies) -> Self {
        let what = match event.what {
            What::News(News::Joined(id)) => Kind::Joined { id: policies.id_name(id) },
            What::News(News::Left(Left { id, reason })) => {
                Kind::Left { id: policies.id_name(id), reason }
            }
            What::News(News::Master(class, master)) => Kind::Master {
                class: policies.name(class),
                id: master.id.map(|id| policies.id_name(id)),
                epoch: master.epoch,
            },
            What::Refused { session, peer, code, text } => {
                Kind::Refused { session, peer: peer.to_string(), code: code.name(), text }
            }
            What::Disconnected { session } => Kind::Disconnected { session },
            What::Reloaded { applied, needs_restart } => Kind::Reloaded { applied, needs_restart },
            What::NotReloaded { mistake } => Kind::NotReloaded { mistake },
            What::Draining { sessions } => Kind::Draining { sessions },
        };
        Self { number: event.number, at_ms: event.at_ms, what }
    }
}
