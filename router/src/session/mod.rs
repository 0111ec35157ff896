//! One connection: its handshake, its traffic, its end.
//!
//! One task per session reads and writes. It never waits for another session: a full mailbox stops its
//! reading, not its writing.
//!
//! - [`traffic`]: bytes in, frames out, until something else is to be done;
//! - [`dialogue`]: what the node and the router say to each other;
//! - [`ending`]: what its end counts as;
//! - [`serving`]: the task, from the acceptance of a connection to the end of its session.

mod dialogue;
mod ending;
mod serving;
mod traffic;

pub(crate) use self::serving::Serving;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use switchboard_protocol::control::{Control, GoAway, GoAwayReason, LeftReason, Refused};
use switchboard_protocol::{RefusalCode, ServiceId};
use tracing::{debug, info, warn};

use crate::counters::HandshakeFailure;
use crate::events::What;
use crate::forward::local::Local;
use crate::forward::{self, Source, again};
use crate::mailbox::badge::Badge;
use crate::mailbox::{Ending, Mailbox};
use crate::registry::{Change, Program, Refusal};
use crate::sessions::State;
use crate::shared::Shared;
use crate::stream::{Accepted, ReadHalf, WriteHalf};
use crate::tokens::Pass;

/// The task's own part of a session. Others know it by its mailbox alone.
#[derive(Debug)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    source: Source,
    reader: ReadHalf,
    /// What was read but is not forwarded: part of a frame, or what came behind a control frame.
    tail: Vec<u8>,
    /// How much of the tail is used.
    start: usize,
    /// The tail may hold whole frames.
    backlog: bool,
    /// Bytes of an oversized frame that are still to be passed over.
    skip: u32,
    /// How many bytes of the stream were used.
    offset: u64,
    watches: bool,
    /// The mailbox knows this task's waker.
    is_owner: bool,
    /// None before its Hello is answered.
    admitted: Option<Box<Admitted>>,
}

/// What Hello said that holds for what the session registers later.
#[derive(Debug)]
struct Admitted {
    program: Program,
    pass: Pass,
}

/// What the traffic stopped for.
#[derive(Debug)]
pub(crate) enum Step {
    /// A control message.
    Control(Bytes),
    /// The session is over.
    End(End),
}

/// Why a session is over.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer closed its side, or the socket failed.
    Disconnected,
    /// What came can't be read.
    Malformed(String, u64),
    /// Hello was refused, or something else came first.
    NotAdmitted(Refusal, Option<u64>),
    /// Its last id went to a newer incarnation.
    Replaced,
    /// Someone else decided it.
    Asked(Ending),
}

/// Tells a connection why there is no place for it, and reads what it says until it leaves: closing a
/// socket with unread bytes resets it, and the peer would lose the reason. Who does not listen is not waited for.
async fn turn_away(mut reader: ReadHalf, writer: WriteHalf, message: Bytes) -> Option<Session> {
    let told = async {
        if poll_fn(|cx| reader.poll_write_ready(cx)).await.is_ok() {
            // A fresh socket takes a short frame whole.
            let _ = writer.try_write(&message);
        }
        drop(writer);
        poll_fn(|cx| traffic::poll_discard(&mut reader, cx)).await;
    };
    let _ = tokio::time::timeout(LINGER, told).await;
    None
}

impl Session {
    /// The session of a new connection, if there is a place for it.
    fn open(accepted: Accepted, shared: Arc<Shared>) -> Result<Self, serving::Work> {
        Local::with(|local| local.out.counters.connections.increment());
        let (reader, writer, peer) = match accepted.into_halves() {
            Ok(halves) => halves,
            Err(error) => {
                count_failure(HandshakeFailure::Io);
                debug!(%error, "connection failed before it began");
                return Err(Box::pin(std::future::ready(None)));
            }
        };
        let limit = shared.settings.load().limits.max_connections;
        let Some((slot, number)) = shared.sessions.open(limit) else {
            warn!(limit, "connection refused: limits.max_connections is reached");
            count_failure(HandshakeFailure::Refused(RefusalCode::LimitExceeded));
            let text = format!("this router takes {limit} connections at most");
            let refusal = Refusal::new(RefusalCode::LimitExceeded, text);
            let message = refused(&refusal, None, None).to_frame().to_bytes();
            return Err(Box::pin(turn_away(reader, writer, message)));
        };
        let now = shared.clock.now_ms();
        let mailbox = Arc::new(Mailbox::new(slot, number, writer, Badge::new(peer, now)));
        shared.sessions.seat(&mailbox);
        mailbox.heard(now);
        shared.watchdog.expect_hello(&mailbox, &shared);
        Ok(Self {
            shared,
            source: Source { mailbox, ids: Vec::new(), held: Vec::new(), spoofed: None },
            reader,
            tail: Vec::new(),
            start: 0,
            backlog: false,
            skip: 0,
            offset: 0,
            watches: false,
            is_owner: false,
            admitted: None,
        })
    }

    /// Answers a control message, and goes on, unless that was its last.
    async fn answer(mut self, body: Bytes) -> Option<Self> {
        match self.control(body).await {
            Some(end) => Box::pin(self.finish(end)).await,
            None => Some(self),
        }
    }

    /// Leaves the table, says why, lets the peer read what it still can, and lets go.
    async fn finish(mut self, end: End) -> Option<Self> {
        self.log(&end);
        self.count(&end);
        let mailbox = self.source.mailbox.clone();
        mailbox.enter(State::Draining);
        let farewell = self.farewell(&end);
        // Who is cut off is told at once, as far as it listens: nothing is written once its frames are
        // others'.
        let cut_off = end.cuts_off();
        if cut_off {
            self.say(farewell.as_ref());
        }
        let cut = match end {
            // Everybody leaves with it.
            End::Asked(Ending::Shutdown) => false,
            _ => self.hand_over(cut_off).await,
        };
        let ids = std::mem::take(&mut self.source.ids);
        if self.watches {
            let change = Change::Unwatch { handle: mailbox.clone(), class: None };
            self.shared.registrar.tell(change).await;
        }
        if !ids.is_empty() {
            let reason = end.left_reason();
            let change = Change::Unregister { handle: mailbox.clone(), ids, reason };
            // Nothing to refuse: ids that the session does not hold any more are passed over.
            let _ = self.shared.registrar.ask(change).await;
        }
        self.shared.lots.nudge();
        if !cut_off {
            self.say(farewell.as_ref());
        }
        let patience = match end {
            End::Asked(Ending::SlowConsumer | Ending::Broken | Ending::HeartbeatLost) => None,
            _ if cut => None,
            _ => Some(LINGER),
        };
        if let Some(patience) = patience {
            let _ = tokio::time::timeout(patience, poll_fn(|cx| self.poll_drained(cx))).await;
        }
        mailbox.close();
        poll_fn(|cx| {
            mailbox.set_owner(cx.waker());
            Local::with(|local| {
                let Some(left) = mailbox.abandon(&local.out) else { return Poll::Pending };
                if again::hand_over(&left, &mailbox, local) {
                    self.shared.lots.nudge();
                }
                forward::held::drop_all(&mut self.source, local);
                forward::send_reports(local);
                Poll::Ready(())
            })
        })
        .await;
        if !matches!(end, End::Disconnected) && patience.is_some() {
            // Closing a socket with unread bytes resets it, and the peer may lose the farewell.
            let discarded = poll_fn(|cx| traffic::poll_discard(&mut self.reader, cx));
            let _ = tokio::time::timeout(LINGER, discarded).await;
        }
        mailbox.leave();
        None
    }

    /// Takes the frames back that the peer has not got, so that others get them. ORDER: before the table
    /// says that the session left, so that none that is sent then comes before them. Answers whether the
    /// connection is cut in the middle of a frame.
    async fn hand_over(&mut self, begun: bool) -> bool {
        let mailbox = &self.source.mailbox;
        mailbox.retire();
        poll_fn(|cx| {
            mailbox.set_owner(cx.waker());
            Local::with(|local| {
                let Some(reclaimed) = mailbox.reclaim(begun, &local.out) else {
                    return Poll::Pending;
                };
                again::hand_over(&reclaimed.frames, mailbox, local);
                forward::send_reports(local);
                Poll::Ready(reclaimed.cut)
            })
        })
        .await
    }

    /// The last word, if there is one.
    fn say(&self, farewell: Option<&Control>) {
        if let Some(message) = farewell {
            self.push(message);
            // At once: nobody wakes this task when it is written later, and where the session does not
            // linger, later is never.
            Local::with(|local| self.source.mailbox.flush(&mut local.out));
        }
    }

    fn log(&self, end: &End) {
        let session = self.source.mailbox.session();
        let ids = Names(&self.source.ids, &self.shared);
        match end {
            End::Disconnected => info!(session, %ids, "disconnected"),
            End::Malformed(why, offset) => {
                warn!(session, %ids, offset, why, "closed: malformed input");
            }
            End::NotAdmitted(refusal, _) => {
                warn!(session, code = %refusal.code, why = %refusal, "not admitted");
                self.note_refused(refusal);
            }
            End::Replaced => info!(session, "closed: replaced by a newer incarnation"),
            End::Asked(Ending::SlowConsumer) => {
                let pending = self.source.mailbox.pending();
                warn!(session, %ids, pending, "closed: slow consumer");
            }
            End::Asked(Ending::HeartbeatLost) => warn!(session, %ids, "closed: heartbeat lost"),
            End::Asked(ending) => info!(session, %ids, ?ending, "closed"),
        }
    }

    /// Keeps a refusal for operators to see.
    fn note_refused(&self, refusal: &Refusal) {
        let mailbox = &self.source.mailbox;
        let (session, peer) = (mailbox.session(), mailbox.badge().peer());
        let (code, text) = (refusal.code, refusal.text.clone());
        self.shared.events.note(What::Refused { session, peer, code, text });
    }

    /// What the peer is told at the end, if there is anything to tell.
    fn farewell(&self, end: &End) -> Option<Control> {
        let go_away = |reason| Control::GoAway(GoAway { reason, reconnect_after_ms: None });
        let come_back = |reason| Control::GoAway(GoAway { reason, reconnect_after_ms: Some(0) });
        Some(match end {
            // Who is cut off at the end of a drain was told when it began, and when to come back.
            End::Disconnected | End::Asked(Ending::Broken | Ending::Shutdown) => return None,
            End::Malformed(why, offset) => {
                refused(&Refusal::new(RefusalCode::Malformed, why), Some(*offset), None)
            }
            End::NotAdmitted(refusal, offset) => refused(refusal, *offset, None),
            End::Replaced => go_away(GoAwayReason::Replaced),
            End::Asked(Ending::HandshakeTimeout) => {
                let text = "no Hello came in time: it is the first frame of a session";
                refused(&Refusal::new(RefusalCode::HandshakeTimeout, text), None, None)
            }
            End::Asked(Ending::SlowConsumer) => come_back(GoAwayReason::SlowConsumer),
            End::Asked(Ending::HeartbeatLost) => come_back(GoAwayReason::HeartbeatLost),
            End::Asked(Ending::Closed(reconnect_after_ms)) => {
                let (reason, reconnect_after_ms) = (GoAwayReason::Closed, *reconnect_after_ms);
                Control::GoAway(GoAway { reason, reconnect_after_ms })
            }
        })
    }

    /// Sends a message to the peer.
    fn push(&self, message: &Control) {
        let frame = message.to_frame().to_bytes();
        Local::with(|local| self.source.mailbox.push(&frame, &mut local.out));
    }

    fn refuse(&self, refusal: &Refusal, request: Option<u32>) {
        Local::with(|local| self.refuse_with(refusal, None, request, local));
    }

    fn refuse_with(
        &self,
        refusal: &Refusal,
        offset: Option<u64>,
        request: Option<u32>,
        local: &mut Local,
    ) {
        let mailbox = &self.source.mailbox;
        debug!(session = mailbox.session(), code = %refusal.code, %refusal, "refused");
        mailbox.push(&refused(refusal, offset, request).to_frame().to_bytes(), &mut local.out);
    }
}

/// A connection that never became a session was not admitted.
fn count_failure(failure: HandshakeFailure) {
    Local::with(|local| local.out.counters.handshake_failed(failure));
}

fn refused(refusal: &Refusal, offset: Option<u64>, request: Option<u32>) -> Control {
    let (code, text) = (refusal.code.raw(), refusal.text.clone());
    Control::Refused(Refused { code, text, offset, request })
}

impl End {
    /// Whether the peer is not waited for, because it is gone or does not read.
    fn cuts_off(&self) -> bool {
        matches!(
            self,
            Self::Disconnected
                | Self::Asked(Ending::SlowConsumer | Ending::Broken | Ending::HeartbeatLost)
        )
    }

    fn left_reason(&self) -> LeftReason {
        match self {
            Self::Disconnected | Self::NotAdmitted(..) | Self::Asked(Ending::Broken) => {
                LeftReason::Disconnected
            }
            Self::Malformed(..) => LeftReason::Malformed,
            Self::Replaced => LeftReason::Replaced,
            Self::Asked(Ending::SlowConsumer) => LeftReason::SlowConsumer,
            Self::Asked(Ending::HeartbeatLost) => LeftReason::HeartbeatLost,
            Self::Asked(Ending::HandshakeTimeout | Ending::Shutdown | Ending::Closed(_)) => {
                LeftReason::Closed
            }
        }
    }
}

/// Ids as people know them, for a log line.
struct Names<'a>(&'a [ServiceId], &'a Shared);

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let policies = &self.1.settings.load().policies;
        let names: Vec<String> = self.0.iter().map(|id| policies.id_name(*id)).collect();
        f.write_str(&names.join(","))
    }
}

/// How long a session that ends may take to read what it is still sent.
const LINGER: Duration = Duration::from_secs(2);
