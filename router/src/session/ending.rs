//! What the end of a session counts as.

use switchboard_protocol::RefusalCode;
use switchboard_protocol::limits::MISSED_HEARTBEATS;

use super::{End, Session};
use crate::counters::{HandshakeFailure, SessionEnd};
use crate::forward::local::Local;
use crate::mailbox::Ending;

impl Session {
    /// Counts the end, once.
    pub(super) fn count(&self, end: &End) {
        Local::with(|local| {
            let counters = &local.out.counters;
            counters.session_ended(end.counts_as());
            if self.admitted.is_none() {
                counters.handshake_failed(end.handshake_failure());
            }
            if self.source.mailbox.is_paused() {
                counters.resumes.increment();
            }
            if matches!(end, End::Asked(Ending::HeartbeatLost)) {
                counters.heartbeats_missed.add(MISSED_HEARTBEATS.into());
            }
        });
    }
}

impl End {
    fn counts_as(&self) -> SessionEnd {
        match self {
            Self::Disconnected => SessionEnd::Disconnected,
            Self::Malformed(..) => SessionEnd::Malformed,
            Self::NotAdmitted(..) => SessionEnd::NotAdmitted,
            Self::Replaced => SessionEnd::Replaced,
            Self::Asked(Ending::SlowConsumer) => SessionEnd::SlowConsumer,
            Self::Asked(Ending::HeartbeatLost) => SessionEnd::HeartbeatLost,
            Self::Asked(Ending::HandshakeTimeout) => SessionEnd::HandshakeTimeout,
            Self::Asked(Ending::Broken) => SessionEnd::Broken,
            Self::Asked(Ending::Shutdown) => SessionEnd::Shutdown,
            Self::Asked(Ending::Closed(_)) => SessionEnd::Closed,
        }
    }

    /// The same for a session that was not admitted.
    fn handshake_failure(&self) -> HandshakeFailure {
        match self {
            Self::NotAdmitted(refusal, _) => HandshakeFailure::Refused(refusal.code),
            Self::Malformed(..) => HandshakeFailure::Refused(RefusalCode::Malformed),
            Self::Asked(Ending::HandshakeTimeout) => {
                HandshakeFailure::Refused(RefusalCode::HandshakeTimeout)
            }
            Self::Asked(Ending::Shutdown) => HandshakeFailure::Refused(RefusalCode::Draining),
            Self::Asked(Ending::Closed(_)) => HandshakeFailure::Closed,
            Self::Disconnected | Self::Replaced | Self::Asked(_) => HandshakeFailure::Disconnected,
        }
    }
}
