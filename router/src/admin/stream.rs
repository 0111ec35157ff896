//! `/api/v1/stream`: once a second a summary, as server-sent events, for as long as somebody listens. It is
//! made once for all listeners, and not at all while there are none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::StatusCode;
use hyper::body::Frame;
use tokio::time::MissedTickBehavior;

use super::Admin;
use super::answer::{Answered, of};
use super::problem::Problem;
use super::query::Query;
use super::summary::{Summary, Totals};

/// Those who listen.
#[derive(Debug, Default)]
pub(super) struct Listeners(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    all: Vec<Sender<Bytes>>,
    /// A task makes summaries.
    runs: bool,
    /// The last that it made.
    latest: Option<Bytes>,
}

/// Lets somebody listen.
pub(super) fn listen(query: &str, admin: &Arc<Admin>) -> Answered {
    Query::read(query, &[])?;
    let mut state = admin.listeners.lock();
    if state.all.len() >= MAX_LISTENERS {
        let detail = format!("{MAX_LISTENERS} listen already, and no more may");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail));
    }
    let (mut sender, body) = Channel::new(BACKLOG);
    if let Some(latest) = state.latest.clone() {
        // There is room: it is the first.
        let _ = sender.try_send(Frame::data(latest));
    }
    state.all.push(sender);
    if !std::mem::replace(&mut state.runs, true) {
        tokio::spawn(tell(admin.clone()));
    }
    Ok(of(StatusCode::OK, "text/event-stream", Either::Right(body)))
}

/// Tells those who listen, until nobody does.
async fn tell(admin: Arc<Admin>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    let mut told = admin.shared.events.count();
    loop {
        period.tick().await;
        let totals = Totals::read(&admin);
        let summary = Summary::make(&admin, before.as_ref(), &totals, told);
        told = summary.last_event().unwrap_or(told);
        before = Some(totals);
        // There is nothing in it that JSON can't say.
        let data = serde_json::to_string(&summary).unwrap_or_default();
        let message = Bytes::from(format!("event: summary\ndata: {data}\n\n"));
        if !admin.listeners.tell_all(&message) {
            return;
        }
    }
}

impl Listeners {
    /// Tells all of them. Who does not keep up is not waited for: its stream ends, and it may come again.
    /// Answers whether there are any left.
    fn tell_all(&self, message: &Bytes) -> bool {
        let mut state = self.lock();
        state.all.retain_mut(|listener| listener.try_send(Frame::data(message.clone())).is_ok());
        state.runs = !state.all.is_empty();
        state.latest = state.runs.then(|| message.clone());
        state.runs
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PERIOD: Duration = Duration::from_secs(1);
/// Each is a connection that nobody else can have.
const MAX_LISTENERS: usize = 64;
/// How many summaries a listener may be behind, besides what lies in its socket.
const BACKLOG: usize = 8;
