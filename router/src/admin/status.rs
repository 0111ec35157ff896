//! `/api/v1/routers`, `config` and `openapi.yaml`: which router this is, which others nodes are told of, what
//! it was told itself, and what it can be asked.

use hyper::StatusCode;
use serde::Serialize;

use super::Admin;
use super::answer::{Answered, json, whole};
use super::query::Query;
use crate::reload::shown;

#[derive(Debug, Serialize)]
struct Routers<'a> {
    this: This<'a>,
    /// As they stand in the configuration: this router does not talk to them.
    others: &'a [String],
}

#[derive(Debug, Serialize)]
struct This<'a> {
    name: &'a str,
    version: &'static str,
    uptime_ms: u64,
    listen: Vec<String>,
    admin: String,
    draining: bool,
    sessions: usize,
    shards: usize,
}

/// This router, and those that its nodes are told of.
pub(super) fn routers(query: &str, admin: &Admin) -> Answered {
    Query::read(query, &[])?;
    let shared = &admin.shared;
    let this = This {
        name: &shared.name,
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: shared.clock.uptime_ms(),
        listen: admin.listen.iter().map(ToString::to_string).collect(),
        admin: admin.address.to_string(),
        draining: shared.is_draining(),
        sessions: shared.sessions.count(),
        // The control thread counts too, and forwards only what was parked.
        shards: shared.counters.len() - 1,
    };
    let settings = shared.settings.load();
    Ok(json(&Routers { this, others: &settings.routers }))
}

/// All of this, for programs.
pub(super) fn description(query: &str) -> Answered {
    Query::read(query, &[])?;
    Ok(whole(StatusCode::OK, "application/yaml", OPENAPI))
}

/// The configuration in force, every default filled in and every secret left out.
pub(super) fn config(query: &str, admin: &Admin) -> Answered {
    Query::read(query, &[])?;
    Ok(json(&shown(&admin.reloader.config())))
}

const OPENAPI: &str = include_str!("../../../docs/openapi.yaml");
