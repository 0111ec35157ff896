//! A call under construction: it is sent when it is awaited, and it has a deadline in any case.

use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use switchboard_protocol::limits::TTL_UNIT;
use switchboard_protocol::{Flags, Header};

use crate::args;
use crate::error::CallError;
use crate::node::Node;

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
    request: Result<(Header, Bytes), CallError>,
    timeout: Duration,
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
}

impl RawCall {
    pub(crate) fn new(
        node: Node,
        request: Result<(Header, Bytes), CallError>,
        timeout: Duration,
    ) -> Self {
        Self { node, request, timeout }
    }

    /// The deadline, counted from when the call is sent, in place of the node's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Bytes, CallError> {
        let (header, payload) = self.request?;
        let shared = self.node.shared();
        let mut ticket = shared.calls.open();
        let header = Header {
            flags: header.flags | Flags::CALL,
            ttl: ttl_units(self.timeout),
            call_id: ticket.number,
            ..header
        };
        shared.push(header, &payload)?;
        drop(payload);
        // The runtime's own timer: it fires whatever the driver is doing.
        match tokio::time::timeout(self.timeout, &mut ticket.answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(CallError::OutcomeUnknown),
            Err(_) => Err(CallError::Timeout),
        }
    }
}

impl<R: DeserializeOwned + 'static> IntoFuture for Call<R> {
    type Output = Result<R, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let reply = self.raw.run();
        Box::pin(async move { args::read_reply(&reply.await?).map_err(CallError::Decode) })
    }
}

impl IntoFuture for RawCall {
    type Output = Result<Bytes, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// A time in the header's units, rounded up. 0 would stand for the class's default, and the
/// longest that can be said is 655 seconds.
pub(crate) fn ttl_units(ttl: Duration) -> u16 {
    let units = ttl.as_nanos().div_ceil(TTL_UNIT.as_nanos());
    u16::try_from(units).unwrap_or(u16::MAX).max(1)
}

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
