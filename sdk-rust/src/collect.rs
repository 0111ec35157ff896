//! One question to everybody of a class, and their answers.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use switchboard_protocol::{Class, Flags, Header, Reason, ServiceId};
use tokio::time::{Instant, timeout_at};

use crate::args;
use crate::call::{LINK_LOST, Prepared, ttl_units};
use crate::calls::News;
use crate::error::CallError;
use crate::links::Way;
use crate::meter::{Meter, counted};
use crate::node::Node;
use crate::watch::Membership;

/// A question to everybody that is sent when it is awaited, from [`Node::collect`].
#[must_use = "a question is asked when it is awaited"]
pub struct Collect<R> {
    node: Node,
    meter: Option<Arc<Meter>>,
    request: Prepared,
    timeout: Duration,
    result: PhantomData<fn() -> R>,
}

/// Who answered what, and who did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected<R> {
    /// The answers in the order in which they came.
    pub answers: Vec<(ServiceId, Result<R, CallError>)>,
    /// To how many nodes the question went.
    pub asked: usize,
    /// Instances of the class that have not answered, as far as this node knows the class. One that
    /// shares its node with another instance of the class is never asked by itself, and is not
    /// listed once the other has answered for all: that is, if every node has.
    pub missing: Vec<ServiceId>,
}

impl<R> Collected<R> {
    /// Whether every node that was asked has answered, with a result or an error.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.answers.len() >= self.asked
    }
}

impl<R> Collect<R> {
    pub(crate) fn new(
        node: Node,
        meter: Option<Arc<Meter>>,
        request: Prepared,
        timeout: Duration,
    ) -> Self {
        Self { node, meter, request, timeout, result: PhantomData }
    }

    /// The deadline, counted from when the question is sent, in place of the node's
    /// ([`Builder::call_timeout`](crate::Builder::call_timeout)).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl<R: DeserializeOwned + Send> Collect<R> {
    async fn run(self) -> Result<Collected<R>, CallError> {
        let (header, payload) = self.request?;
        let deadline = Instant::now() + self.timeout;
        let shared = self.node.shared();
        let Some(class) = Class::of_target(header.target) else {
            return Err(CallError::NoRoute(Reason::NoInstance));
        };
        // Who is there, so that it can be told who has not answered, or never will.
        let mut watcher = self.node.watch(class)?;
        let mut members = BTreeSet::new();
        let known = async {
            while let Some(change) = watcher.next().await {
                match change {
                    Membership::Joined { id, .. } => drop(members.insert(id)),
                    Membership::Synced => break,
                    _ => {}
                }
            }
        };
        let _ = timeout_at(deadline, known).await;

        let header = Header { flags: header.flags | Flags::CALL, ..header };
        let (ticket, mut news) = shared.calls.open_often(&header);
        let ttl = ttl_units(deadline.duration_since(Instant::now()));
        let header = Header { call_id: ticket.number, ttl, ..header };
        shared.push_call(Way::Chosen, header, &payload)?;
        drop(payload);

        let mut answers = Vec::new();
        let mut asked = None;
        // Answers that will not come: copies that were lost, and nodes that died.
        let mut lost = 0;
        while asked.is_none_or(|asked| answers.len() + lost < asked) {
            let next = async {
                tokio::select! {
                    news = news.recv() => Heard::News(news),
                    change = watcher.next() => Heard::Change(change),
                }
            };
            match timeout_at(deadline, next).await {
                Err(_) => break,
                Ok(Heard::News(Some(News::Spread(targets)))) => asked = Some(targets as usize),
                Ok(Heard::News(Some(News::Answer { from, result }))) => {
                    members.remove(&from);
                    answers.push((from, read(result)));
                }
                // Before the count it is the answer to the whole, after it one copy's.
                Ok(Heard::News(Some(News::Bounced { reason, .. }))) => match asked {
                    None => return Err(CallError::NoRoute(reason)),
                    Some(_) => lost += 1,
                },
                Ok(Heard::News(Some(News::Unsent))) => {
                    return Err(crate::error::ForwardError::NotConnected.into());
                }
                Ok(Heard::News(Some(News::Lost { .. }) | None)) => {
                    return Err(CallError::OutcomeUnknown(LINK_LOST.to_owned()));
                }
                Ok(Heard::Change(Some(Membership::Left { id, .. }))) if members.contains(&id) => {
                    lost += 1;
                }
                Ok(Heard::Change(None)) => {
                    return Err(CallError::OutcomeUnknown(LINK_LOST.to_owned()));
                }
                Ok(Heard::News(Some(News::Shaken { .. })) | Heard::Change(_)) => {}
            }
        }
        let asked = asked.unwrap_or(answers.len() + members.len());
        let missing = match answers.len() >= asked {
            true => Vec::new(),
            false => members.into_iter().collect(),
        };
        Ok(Collected { answers, asked, missing })
    }
}

enum Heard {
    News(Option<News>),
    Change(Option<Membership>),
}

fn read<R: DeserializeOwned>(result: Result<Bytes, (String, String)>) -> Result<R, CallError> {
    let payload = result.map_err(|(code, text)| CallError::from_answer(code, text))?;
    args::read_reply(&payload).map_err(CallError::Decode)
}

impl<R: DeserializeOwned + Send + 'static> IntoFuture for Collect<R> {
    type Output = Result<Collected<R>, CallError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(counted(self.meter.clone(), self.run()))
    }
}

impl<R> std::fmt::Debug for Collect<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collect").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
