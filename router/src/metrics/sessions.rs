//! Connections and sessions: how many, in which state, why they ended or never began, and who is held up.

use super::names::{
    ACCEPT_FAILURES, CONNECTIONS, HANDSHAKE_FAILURES, HEARTBEATS_MISSED, PAUSED_SOURCES, SESSIONS,
    SESSIONS_ENDED, SOURCE_PAUSES,
};
use super::series::{Page, Series};
use super::total;
use crate::counters::{HandshakeFailure, SessionEnd};
use crate::sessions::State;
use crate::shared::Shared;

pub(super) fn add(page: &mut Page, shared: &Shared) {
    let count = |read: fn(&crate::counters::Counters) -> u64| total(shared, read) as f64;
    page.add_one(&CONNECTIONS, count(|counters| counters.connections.read()));
    page.add_one(&ACCEPT_FAILURES, count(|counters| counters.accept_failures.read()));
    let mut sessions = Series::of(&SESSIONS);
    for (state, alive) in State::ALL.into_iter().zip(shared.sessions.by_state()) {
        sessions.count(&[state.name()], alive as u64);
    }
    page.add(sessions);
    let mut ended = Series::of(&SESSIONS_ENDED);
    for end in SessionEnd::ALL {
        let sessions = total(shared, |counters| counters.read_session_ends(end));
        ended.count(&[end.name()], sessions);
    }
    page.add(ended);
    let mut failures = Series::of(&HANDSHAKE_FAILURES);
    for failure in HandshakeFailure::all() {
        let connections = total(shared, |counters| counters.read_handshake_failures(failure));
        failures.count(&[failure.name()], connections);
    }
    page.add(failures);
    page.add_one(&HEARTBEATS_MISSED, count(|counters| counters.heartbeats_missed.read()));
    // ORDER: a thread counts a pause before its end, so of these two the end is read first.
    let resumes = total(shared, |counters| counters.resumes.read());
    let pauses = total(shared, |counters| counters.pauses.read());
    page.add_one(&PAUSED_SOURCES, pauses.saturating_sub(resumes) as f64);
    page.add_one(&SOURCE_PAUSES, pauses as f64);
}
