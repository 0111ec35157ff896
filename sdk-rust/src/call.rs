//! A call under construction: it is sent when it is awaited, and it has a deadline in any case.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use switchboard_protocol::limits::TTL_UNIT;
use switchboard_protocol::{Flags, Header};
use tokio::time::{Instant, timeout_at};

use crate::args;
use crate::calls::News;
use crate::error::{CallError, ForwardError};
use crate::meter::{Meter, counted};
use crate::node::Node;
use crate::repeated::Repeated;
use crate::shared::Shared;

/// A call that is sent when it is awaited, from [`Node::call`].
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// use std::time::Duration;
/// use switchboard::{Master, Node};
///
/// let call = node.call::<u32>(Master, "gamesvr", "load", ()).timeout(Duration::from_secs(1));
/// // As a task of its own, while this one goes on.
/// let call = tokio::spawn(call.into_future());
/// assert!(call.await?.is_err());
/// # Ok(())
/// # }
/// ```
#[must_use = "a call is made when it is awaited"]
pub struct Call<R> {
    raw: RawCall,
    result: PhantomData<fn() -> R>,
}

/// A call of raw payloads that is sent when it is awaited, from [`Node::call_raw`].
#[must_use = "a call is made when it is awaited"]
pub struct RawCall {
    node: Node,
    meter: Option<Arc<Meter>>,
    request: Prepared,
    timeout: Duration,
    repeat: Repeat,
}

/// The header and payload of a call, or why it can't be made.
pub(crate) type Prepared = Result<(Header, Bytes), CallError>;

/// Whether a call may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// Only where nobody had it.
    Unless,
    /// Until its deadline.
    Always,
}

impl<R> Call<R> {
    pub(crate) fn new(raw: RawCall) -> Self {
        Self { raw, result: PhantomData }
    }

    /// The deadline, counted from when the call is sent, in place of the node's
    /// ([`Builder::call_timeout`](crate::Builder::call_timeout)). A class that parks its messages
    /// keeps the call no longer either.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw = self.raw.timeout(timeout);
        self
    }

    /// Sends the call again, until its deadline, whenever it could not be delivered, a link or an
    /// instance was lost, or no answer comes. It keeps its call id, so an instance that has it
    /// already does not run it twice, but gives the answer that it gave before.
    ///
    /// That holds for each instance by itself. Where the instance that had the call died, another
    /// may run it: what both write to belongs behind a fence, such as
    /// [`Node::epoch`](crate::Node::epoch). And [`Random`](crate::Random) and
    /// [`LeastLoaded`](crate::LeastLoaded) may pick another instance for a copy, after half of the
    /// time without an answer: what must be done once is called by
    /// [`Master`](crate::Master), [`Hash`](struct@crate::Hash) or [`Direct`](crate::Direct).
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use std::time::Duration;
    /// use switchboard::{Caller, Master, Node};
    ///
    /// // Nobody offers `gamesvr` yet. The call finds it as soon as somebody does.
    /// let charge = node.call::<u32>(Master, "gamesvr", "charge", (7, 100)).idempotent();
    /// let charge = tokio::spawn(charge.into_future());
    /// let bank = Node::builder("gamesvr.1")
    ///     .router(&address)
    ///     .on("charge", async |_: Caller, (_player, amount): (u64, u32)| Ok(amount))
    ///     .connect()
    ///     .await?;
    /// assert_eq!(charge.await??, 100);
    /// # drop(bank);
    /// # Ok(())
    /// # }
    /// ```
    pub fn idempotent(mut self) -> Self {
        self.raw = self.raw.idempotent();
        self
    }

    /// The same call, whose result is the payload of the reply as it came: an array of the results.
    pub fn raw(self) -> RawCall {
        self.raw
    }
}

impl RawCall {
    pub(crate) fn new(
        node: Node,
        meter: Option<Arc<Meter>>,
        request: Prepared,
        timeout: Duration,
    ) -> Self {
        Self { node, meter, request, timeout, repeat: Repeat::Unless }
    }

    /// The deadline, as for [`Call::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the call again until its deadline, as for [`Call::idempotent`].
    pub fn idempotent(mut self) -> Self {
        self.repeat = Repeat::Always;
        self
    }

    async fn run(self) -> Result<Bytes, CallError> {
        let (header, payload) = self.request?;
        let deadline = deadline(self.timeout);
        let header = Header { flags: header.flags | Flags::CALL, ..header };
        let shared = self.node.shared();
        let meter = self.meter.as_deref();
        match self.repeat {
            Repeat::Unless => once(shared, meter, header, &payload, deadline).await,
            Repeat::Always => Repeated::new(shared, meter, header, &payload, deadline).run().await,
        }
    }
}

/// A call that is sent again only where nobody had it: over another router.
async fn once(
    shared: &Shared,
    meter: Option<&Meter>,
    header: Header,
    payload: &[u8],
    deadline: Instant,
) -> Result<Bytes, CallError> {
    let mut tried = Vec::new();
    let mut bounced = None;
    loop {
        let (ticket, answer) = shared.calls.open_once(&header);
        let ttl = ttl_units(deadline.duration_since(Instant::now()));
        let header = Header { ttl, call_id: ticket.number, ..header };
        let sent = shared.push_call(&tried, header, payload);
        match (sent, bounced) {
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => meter.into_iter().for_each(Meter::retried),
            (Err(_), Some(reason)) => return Err(CallError::NoRoute(reason)),
            (Err(error), None) => return Err(error.into()),
        }
        // The runtime's own timer: it fires whatever the drivers are doing.
        match timeout_at(deadline, answer).await {
            Ok(Ok(News::Answer { result, .. })) => {
                return result.map_err(CallError::from_answer);
            }
            Ok(Ok(News::Bounced { slot, reason })) => {
                bounced = Some(reason);
                tried.push(slot);
            }
            Ok(Ok(News::Unsent { .. })) => return Err(ForwardError::NotConnected.into()),
            Ok(_) => return Err(CallError::OutcomeUnknown(LINK_LOST.to_owned())),
            Err(_) => return Err(CallError::Timeout),
        }
    }
}

impl<R: DeserializeOwned + 'static> IntoFuture for Call<R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let meter = self.raw.meter.clone();
        let reply = self.raw.run();
        let result = async move { args::read_reply(&reply.await?).map_err(CallError::Decode) };
        Box::pin(counted(meter, result))
    }
}

impl IntoFuture for RawCall {
    type Output = Result<Bytes, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(counted(self.meter.clone(), self.run()))
    }
}

/// When a time that begins now is over; of very long ones, in some decades.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + DECADES)
}

/// A time in the header's units, rounded up. 0 would stand for the class's default, and the
/// longest that can be said is 655 seconds.
pub(crate) fn ttl_units(ttl: Duration) -> u16 {
    let units = ttl.as_nanos().div_ceil(TTL_UNIT.as_nanos());
    u16::try_from(units).unwrap_or(u16::MAX).max(1)
}

const DECADES: Duration = Duration::from_secs(1 << 30);

pub(crate) const LINK_LOST: &str = "the link to the router was lost on the way";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_and_never_the_default() {
        let units = |ms| ttl_units(Duration::from_millis(ms));
        assert_eq!([units(0), units(1), units(10), units(11)], [1, 1, 1, 2]);
        assert_eq!(ttl_units(Duration::from_secs(3600)), u16::MAX);
    }
}
