//! One call that may be sent again: sends copies under one call id, over one router or another,
//! until an answer comes. What to do when a copy comes to nothing is `retry`'s decision.

use std::time::Duration;

use bytes::Bytes;
use switchboard_protocol::{Class, Flags, Header, Kind, Mode, ServiceId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backoff;
use crate::call::{LINK_LOST, ttl_units};
use crate::calls::{News, Ticket};
use crate::error::{CallError, ForwardError};
use crate::handlers::HandlerError;
use crate::meter::Meter;
use crate::retry::{Outcome, Retry, Step};
use crate::shared::Shared;

/// A call under way.
pub(crate) struct Repeated<'a> {
    shared: &'a Shared,
    meter: Option<&'a Meter>,
    ticket: Ticket<'a>,
    news: UnboundedReceiver<News>,
    header: Header,
    payload: &'a [u8],
    deadline: Instant,
    retry: Retry,
    /// Whether a copy was sent.
    sent: bool,
    /// The routers that were tried in this round, the last one last.
    tried: Vec<usize>,
}

/// What the caller is told.
type Result = std::result::Result<Bytes, CallError>;

impl<'a> Repeated<'a> {
    pub(crate) fn new(
        shared: &'a Shared,
        meter: Option<&'a Meter>,
        header: Header,
        payload: &'a [u8],
        deadline: Instant,
    ) -> Self {
        let now = Instant::now();
        // A callee forgets no call before this has passed.
        let deadline = deadline.min(now + LONGEST);
        let whole = deadline.duration_since(now);
        let attempt = match header.kind {
            // A copy finds another instance, which runs it too.
            Kind::Data(Mode::Random | Mode::LeastLoaded) => whole / 2,
            _ => (whole / 4).clamp(SHORT_ATTEMPT, LONG_ATTEMPT),
        };
        // All copies have one source: with the call id it is what the callee knows the call by.
        let source = shared.identity().primary().map_or(0, ServiceId::raw);
        let header = Header { source, ..header };
        let header = Header { flags: header.flags | Flags::CALL | Flags::IDEMPOTENT, ..header };
        let (ticket, news) = shared.calls.open_often(&header);
        let header = Header { call_id: ticket.number, ..header };
        let retry = Retry::new(deadline.into_std(), attempt);
        let (sent, tried) = (false, Vec::new());
        Self { shared, meter, ticket, news, header, payload, deadline, retry, sent, tried }
    }

    /// Sends copies until there is an answer, or no time is left.
    pub(crate) async fn run(mut self) -> Result {
        if let Some(class) = Class::of_target(self.header.target) {
            // So that the death of an instance that has the call is heard of.
            self.shared.watches.listen(class, &self.shared.links);
        }
        let mut elsewhere = false;
        loop {
            if !self.has_source() {
                // Under another id it would be another call.
                return Err(self.retry.expired().into());
            }
            let outcome = match self.send(elsewhere) {
                Ok(()) => {
                    let ends = self.retry.attempt_ends(Instant::now().into_std());
                    self.wait(ends.into()).await
                }
                Err(error) => Err(Outcome::NotSent(error)),
            };
            let outcome = match outcome {
                Ok(result) => return result,
                Err(outcome) => outcome,
            };
            let now = Instant::now().into_std();
            let (until, next) =
                match self.retry.step(outcome, self.others_untried(), now, backoff::random()) {
                    Step::Again { after, elsewhere } => (now + after, elsewhere),
                    Step::GiveUp(failure) => return Err(failure.into()),
                    // The newest copy is the only one that steps are asked for.
                    Step::Wait => (now, false),
                };
            if let Some(result) = self.rest(until.into()).await {
                return result;
            }
            if Instant::now() >= self.deadline {
                // A copy that nobody waits for is not sent.
                return Err(self.retry.expired().into());
            }
            elsewhere = next;
        }
    }

    /// Whether the id that the copies come from is still this node's.
    fn has_source(&self) -> bool {
        let source = ServiceId::from_raw(self.header.source);
        source.is_ok_and(|source| self.shared.identity().holds(source))
    }

    fn send(&mut self, elsewhere: bool) -> std::result::Result<(), ForwardError> {
        let ttl = ttl_units(self.deadline.duration_since(Instant::now()));
        let header = Header { ttl, ..self.header };
        if !elsewhere {
            self.tried.clear();
        }
        let slot = self.shared.push_call(&self.tried, header, self.payload)?;
        self.tried.push(slot);
        if std::mem::replace(&mut self.sent, true) {
            self.meter.into_iter().for_each(Meter::retried);
        }
        Ok(())
    }

    /// Waits for what becomes of the newest copy.
    async fn wait(&mut self, until: Instant) -> std::result::Result<Result, Outcome> {
        loop {
            let Ok(news) = timeout_at(until, self.news.recv()).await else {
                return Err(Outcome::Quiet);
            };
            let Some(news) = news else {
                return Ok(Err(CallError::OutcomeUnknown(LINK_LOST.to_owned())));
            };
            let newest = |slot| self.tried.last() == Some(&slot);
            match news {
                News::Answer { result: Err((code, _)), .. } if code == HandlerError::BUSY => {
                    return Err(Outcome::Busy);
                }
                News::Answer { result, .. } => return Ok(result.map_err(CallError::from_answer)),
                News::Unsent { slot } if newest(slot) => {
                    self.retry.unsent();
                    return Err(Outcome::NotSent(ForwardError::NotConnected));
                }
                News::Bounced { slot, reason } if newest(slot) => {
                    return Err(Outcome::Bounced(reason));
                }
                News::Bounced { .. } | News::Unsent { .. } => self.retry.unsent(),
                News::Moved { from, to } => self.moved(from, to),
                News::Lost { slot } if newest(slot) => return Err(Outcome::Lost),
                News::Shaken { slot } if newest(slot) => return Err(Outcome::Shaken),
                // Of an older copy, while a newer one is on its way.
                _ => {}
            }
        }
    }

    /// Lets a delay pass. An older copy may be answered in it, and a link may come up that nobody
    /// has to wait longer for.
    async fn rest(&mut self, until: Instant) -> Option<Result> {
        let connected = self.shared.links.is_up();
        let mut changes = self.shared.links.changes();
        loop {
            tokio::select! {
                () = sleep_until(until) => return None,
                _ = changes.changed(), if !connected => return None,
                news = self.news.recv() => match news {
                    Some(News::Answer { result: Err((code, _)), .. })
                        if code == HandlerError::BUSY => self.retry.unsent(),
                    Some(News::Answer { result, .. }) => return Some(result.map_err(CallError::from_answer)),
                    Some(News::Bounced { .. } | News::Unsent { .. }) => self.retry.unsent(),
                    Some(News::Moved { from, to }) => self.moved(from, to),
                    Some(_) => {}
                    None => {
                        return Some(Err(CallError::OutcomeUnknown(LINK_LOST.to_owned())));
                    }
                },
            }
        }
    }

    /// The newest copy had not left, and takes another router.
    fn moved(&mut self, from: usize, to: usize) {
        if let Some(last) = self.tried.last_mut().filter(|last| **last == from) {
            *last = to;
        }
    }

    fn others_untried(&self) -> bool {
        self.shared.links.up().iter().any(|port| !self.tried.contains(&port.slot))
    }
}

impl std::fmt::Debug for Repeated<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repeated").field("call", &self.ticket.number).finish_non_exhaustive()
    }
}

/// The longest that a call is repeated for: what a header's ttl can say.
const LONGEST: Duration = Duration::from_secs(655);

/// The bounds of the time after which a copy that nobody answers is followed by another; between
/// them it is a quarter of the whole.
const SHORT_ATTEMPT: Duration = Duration::from_millis(50);
const LONG_ATTEMPT: Duration = Duration::from_secs(1);
