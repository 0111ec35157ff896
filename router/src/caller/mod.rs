//! The router as a caller: a call that came over HTTP goes out as a node's would, from a session with itself.
//!
//! The session is a socket pair, whose other end is dealt to a shard like any connection. So a call takes the
//! journey that all frames take, and nothing on it knows of HTTP. The link is made for the first call.
//!
//! - [`link`]: the connection and its two tasks; `pending`: the calls that wait for an answer.
//!
//! The admin server calls it; it knows frames, and neither JSON nor HTTP.

mod link;
mod pending;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use switchboard_protocol::{Class, Flags, Frame, Header, Kind, Mode, Reason, ServiceId};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use self::link::Link;
use self::pending::Outcome;
use crate::listener::Dealer;

/// The class that the router calls from, while any class takes calls over HTTP.
pub(crate) const CLASS: u8 = 255;
/// What it is called.
pub(crate) const CLASS_NAME: &str = "http-calls";

/// Makes calls.
#[derive(Debug)]
pub(crate) struct Caller {
    dealer: Dealer,
    link: Mutex<Option<Arc<Link>>>,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// To one instance.
    Direct(ServiceId),
    /// To one of a class, by a mode that needs no key.
    Class(Class, Mode),
    /// To the one that a key leads to.
    Hash(Class, u64),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Who answers.
    pub from: u32,
    /// It is an error.
    pub error: bool,
    /// What it says.
    pub payload: Bytes,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// It never left.
    #[error("the call was not sent: {0}")]
    NotSent(String),
    /// It is longer than the router takes.
    #[error("the call makes a frame of {length} bytes, over the limit of {max}")]
    TooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        max: u32,
    },
    /// It found nobody.
    #[error("no route: {0}")]
    NoRoute(Reason),
    /// Nobody answered in time; the call may have been run.
    #[error("no answer came within {0:?}; the outcome is unknown")]
    Timeout(Duration),
    /// The way back is gone; the call may have been run.
    #[error("the router's link to itself was lost; the outcome is unknown")]
    LinkLost,
}

impl Caller {
    /// A caller without a link.
    pub(crate) fn new(dealer: Dealer) -> Self {
        Self { dealer, link: Mutex::default() }
    }

    /// Calls, and waits for an answer, but never longer than `patience`.
    pub(crate) async fn call(
        &self,
        target: Target,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let deadline = Instant::now() + patience;
        let late = || Failure::NotSent(format!("there was no room to send it within {patience:?}"));
        let link = timeout_at(deadline, self.link()).await.map_err(|_| late())??;
        let mut call = link.begin().ok_or_else(leaving)?;
        let header = header(link.id, target, call.id, patience);
        let frame = Frame::new(header, payload);
        if frame.len() > link.max_frame as usize {
            return Err(Failure::TooLarge { length: frame.len(), max: link.max_frame });
        }
        let sent = timeout_at(deadline, link.send(frame.to_bytes())).await.map_err(|_| late())?;
        sent.map_err(|_| Failure::NotSent("the router is leaving".to_owned()))?;
        match timeout_at(deadline, call.outcome()).await {
            Ok(Some(Outcome::Answered(answer))) => Ok(answer),
            Ok(Some(Outcome::Bounced(reason))) => Err(Failure::NoRoute(reason)),
            Ok(None) => Err(Failure::LinkLost),
            Err(_) => Err(Failure::Timeout(patience)),
        }
    }

    /// The link, made anew if it was lost.
    async fn link(&self) -> Result<Arc<Link>, Failure> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_lost()) {
            return Ok(link.clone());
        }
        let link = Link::open(&self.dealer).await.map_err(Failure::NotSent)?;
        Ok(current.insert(Arc::new(link)).clone())
    }
}

fn leaving() -> Failure {
    Failure::NotSent("the router is leaving".to_owned())
}

fn header(source: ServiceId, target: Target, call_id: u64, patience: Duration) -> Header {
    let mut header = match target {
        Target::Direct(id) => Header::direct(source, id),
        Target::Class(class, mode) => Header::to_class(source, mode, class),
        Target::Hash(class, key) => Header { key, ..Header::to_class(source, Mode::Hash, class) },
    };
    debug_assert_ne!(header.kind, Kind::Data(Mode::Broadcast), "one answer is waited for");
    header.flags = Flags::CALL;
    header.call_id = call_id;
    // Whoever finds it waiting when nobody waits for the answer any more need not begin with it.
    header.ttl = u16::try_from(patience.as_millis().div_ceil(10)).unwrap_or(u16::MAX);
    header
}
