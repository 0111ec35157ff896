//! What operators do: drain, reload, close a session, name a master.

use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use switchboard_protocol::{Instance, ServiceId};
use tracing::info;

use super::answer::{Answer, Answered, json};
use super::problem::Problem;
use super::query::Query;
use super::{Admin, body, classes, sessions};
use crate::events::What;
use crate::mailbox::Ending;
use crate::policy::Policies;
use crate::registry::Change;
use crate::reload::ReloadError;

#[derive(Debug, Serialize)]
struct Draining {
    draining: bool,
    /// How many nodes have to leave.
    sessions: usize,
    timeout_ms: u64,
}

/// Lets the nodes leave, and the router after them, as SIGTERM does.
pub(super) fn drain(query: &str, body: &Incoming, admin: &Admin) -> Answered {
    Query::read(query, &[])?;
    body::none(body)?;
    if admin.leave.receiver_count() == 0 {
        let detail = "this router is part of another program, which decides when it leaves";
        return Err(Problem::conflict(detail));
    }
    info!("an operator asks the router to leave");
    admin.leave.send_replace(true);
    let timeout_ms = admin.shared.settings.load().drain.timeout_ms;
    let sessions = admin.shared.sessions.count();
    Ok(accepted(&Draining { draining: true, sessions, timeout_ms }))
}

#[derive(Debug, Serialize)]
struct Reloaded {
    applied: Vec<String>,
    needs_restart: Vec<String>,
    changes: Vec<Changed>,
}

#[derive(Debug, Serialize)]
struct Changed {
    key: String,
    from: Value,
    to: Value,
    needs_restart: bool,
}

/// Reads the configuration again, as SIGHUP does, and tells what differs.
pub(super) async fn reload(query: &str, body: Incoming, admin: &Admin) -> Answered {
    Query::read(query, &[])?;
    body::none(&body)?;
    let difference = admin.reloader.reload().await.map_err(|error| match error {
        ReloadError::NoSource => Problem::conflict(error.to_string()),
        ReloadError::Config(mistake) => Problem::new(
            StatusCode::CONFLICT,
            "bad_config",
            format!("the old configuration stays in force: {mistake}"),
        ),
    })?;
    let changes = difference.changes.into_iter().map(|change| Changed {
        key: change.key,
        from: change.from,
        to: change.to,
        needs_restart: change.needs_restart,
    });
    Ok(json(&Reloaded {
        applied: difference.applied,
        needs_restart: difference.needs_restart,
        changes: changes.collect(),
    }))
}

#[derive(Debug, Serialize)]
struct Disconnected {
    session: u64,
}

/// Closes a session. Its node is told when it may come back.
pub(super) fn disconnect(number: &str, query: &str, body: &Incoming, admin: &Admin) -> Answered {
    let query = Query::read(query, &["reconnect_after_ms"])?;
    body::none(body)?;
    let reconnect_after_ms = match query.text("reconnect_after_ms") {
        Some("never") => None,
        None => Some(COME_BACK_AFTER_MS),
        Some(text) => match text.parse() {
            Ok(ms @ 0..=3_600_000) => Some(ms),
            _ => {
                let rule = "it is 0 to 3600000, or never";
                return Err(Problem::bad_request(format!("reconnect_after_ms: `{text}`: {rule}")));
            }
        },
    };
    let mailbox = sessions::find(number, admin)?;
    let session = mailbox.session();
    info!(session, "an operator closes a session");
    admin.shared.events.note(What::Disconnected { session });
    mailbox.end(Ending::Closed(reconnect_after_ms));
    Ok(accepted(&Disconnected { session }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Appointment {
    id: String,
}

#[derive(Debug, Serialize)]
struct Appointed {
    class: String,
    master: String,
    epoch: u64,
}

/// Makes an instance the master of its class.
pub(super) async fn appoint(
    name: &str,
    query: &str,
    headers: &HeaderMap,
    body: Incoming,
    admin: &Admin,
) -> Answered {
    Query::read(query, &[])?;
    let Appointment { id: text } = body::json(headers, body, MAX_BODY).await?;
    let policies = admin.shared.settings.load().policies.clone();
    let class = classes::find(name, &policies)?;
    let id = id_of(&text, &policies)?;
    if id.class() != class {
        let class = policies.name(class);
        return Err(Problem::bad_request(format!("id: `{text}` is not of the class {class}")));
    }
    let made = admin.shared.registrar.ask(Change::Appoint(id)).await;
    made.map_err(|refusal| Problem::conflict(refusal.text))?;
    let table = admin.shared.published.load_full();
    let epoch = table.class(class).map_or(0, |class| class.master().1);
    info!(master = policies.id_name(id), epoch, "an operator names a master");
    Ok(json(&Appointed { class: policies.name(class), master: policies.id_name(id), epoch }))
}

/// The id that is written so: `matchsvr.1` or `5.1`.
pub(super) fn id_of(text: &str, policies: &Policies) -> Result<ServiceId, Problem> {
    let wrong = || {
        let rule = "this is not an id: write a class and an instance, such as matchsvr.1 or 5.1";
        Problem::bad_request(format!("id: `{text}`: {rule}"))
    };
    let (class, instance) = text.rsplit_once('.').ok_or_else(wrong)?;
    let class = classes::find(class, policies)?;
    let instance = instance.parse().ok().and_then(|instance| Instance::new(instance).ok());
    instance.map(|instance| ServiceId::new(class, instance)).ok_or_else(wrong)
}

/// It was begun, and is not done yet.
fn accepted(content: &impl Serialize) -> Answer {
    let mut answer = json(content);
    *answer.status_mut() = StatusCode::ACCEPTED;
    answer
}

/// The longest body that is read, in bytes.
const MAX_BODY: usize = 64 << 10;
/// When a node may come back that an operator sent away, unless the operator says.
const COME_BACK_AFTER_MS: u32 = 1_000;
