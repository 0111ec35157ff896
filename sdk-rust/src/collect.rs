//! One question to everybody of a class, and their answers.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use switchboard_protocol::control::LeftReason;
use switchboard_protocol::{Class, Flags, Header, Reason, ServiceId};
use tokio::time::{Instant, timeout_at};

use crate::args;
use crate::call::{LINK_LOST, Prepared, deadline, ttl_units};
use crate::calls::News;
use crate::error::{CallError, ForwardError};
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
    read: Read<R>,
}

/// How an answer is read.
type Read<R> = fn(&Bytes) -> Result<R, String>;

/// Who answered what, and who did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected<R> {
    /// The answers in the order in which they came.
    pub answers: Vec<(ServiceId, Result<R, CallError>)>,
    /// To how many nodes the question went.
    pub asked: usize,
    /// Instances of the class that have not answered, as far as this node knows the class; none if
    /// every node has. A node with two of them answers for both, under one.
    pub missing: Vec<ServiceId>,
}

impl<R> Collected<R> {
    /// Whether every node that was asked has answered, with a result or an error.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.answers.len() >= self.asked
    }
}

impl<R: DeserializeOwned> Collect<R> {
    pub(crate) fn new(
        node: Node,
        meter: Option<Arc<Meter>>,
        request: Prepared,
        timeout: Duration,
    ) -> Self {
        Self { node, meter, request, timeout, read: |payload| args::read_reply(payload) }
    }
}

impl<R> Collect<R> {
    /// The deadline, counted from when the question is sent, in place of the node's
    /// ([`Builder::call_timeout`](crate::Builder::call_timeout)).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same question, whose answers are the payloads of the replies as they came: arrays of the
    /// results.
    pub fn raw(self) -> Collect<Bytes> {
        let Self { node, meter, request, timeout, read: _ } = self;
        Collect { node, meter, request, timeout, read: |payload| Ok(payload.clone()) }
    }
}

impl<R: Send> Collect<R> {
    async fn run(self) -> Result<Collected<R>, CallError> {
        let (header, payload) = self.request?;
        let deadline = deadline(self.timeout);
        let shared = self.node.shared();
        let Some(class) = Class::of_target(header.target) else {
            return Err(CallError::NoRoute(Reason::NoInstance));
        };
        // Who is there, so that it can be told who has not answered, or never will.
        let mut watcher = self.node.watch(class)?;
        if !shared.links.is_up() {
            return Err(ForwardError::NotConnected.into());
        }
        let mut tally = Tally::default();
        let known = async {
            while let Some(change) = watcher.next().await {
                match change {
                    Membership::Joined { id, .. } => drop(tally.waited.insert(id)),
                    Membership::Synced => break,
                    _ => {}
                }
            }
        };
        if timeout_at(deadline, known).await.is_err() {
            // Nobody was asked yet.
            return Err(CallError::NoRoute(Reason::Expired));
        }
        let own = shared.ids();
        tally.waited.retain(|id| !own.contains(id));

        let header = Header { flags: header.flags | Flags::CALL, ..header };
        let (ticket, mut news) = shared.calls.open_often(&header);
        let ttl = ttl_units(deadline.duration_since(Instant::now()));
        let header = Header { call_id: ticket.number, ttl, ..header };
        let mut slot = shared.push_call(&[], header, &payload)?;
        drop(payload);

        let mut answers = Vec::new();
        while !tally.is_complete() {
            let next = async {
                tokio::select! {
                    news = news.recv() => Heard::News(news),
                    change = watcher.next() => Heard::Change(change),
                }
            };
            match timeout_at(deadline, next).await {
                Err(_) => break,
                Ok(Heard::News(Some(News::Spread(targets)))) => {
                    tally.asked = Some(targets as usize);
                }
                Ok(Heard::News(Some(News::Answer { from, result }))) => {
                    tally.answered(from);
                    answers.push((from, read(self.read, result)));
                }
                Ok(Heard::News(Some(News::Bounced { reason, .. }))) => match reason {
                    // One copy, which may be told of before the count is.
                    Reason::TargetLost | Reason::Full | Reason::Evicted => tally.returned += 1,
                    reason => return Err(CallError::NoRoute(reason)),
                },
                Ok(Heard::News(Some(News::Moved { from, to }))) if from == slot => slot = to,
                Ok(Heard::News(Some(News::Unsent { .. }))) => {
                    return Err(ForwardError::NotConnected.into());
                }
                Ok(Heard::News(Some(News::Lost { slot: lost }))) if lost == slot => {
                    return Err(CallError::OutcomeUnknown(LINK_LOST.to_owned()));
                }
                Ok(Heard::News(None) | Heard::Change(None)) => {
                    return Err(CallError::OutcomeUnknown(LINK_LOST.to_owned()));
                }
                // Who gives its id up still answers.
                Ok(Heard::Change(Some(Membership::Left { id, reason })))
                    if reason != LeftReason::Unregistered =>
                {
                    tally.left(id);
                }
                Ok(Heard::News(Some(_)) | Heard::Change(_)) => {}
            }
        }
        let asked = tally.asked.ok_or(CallError::Timeout)?;
        let missing = match answers.len() >= asked {
            true => Vec::new(),
            false => tally.waited.into_iter().collect(),
        };
        Ok(Collected { answers, asked, missing })
    }
}

/// How many answers are still to come.
#[derive(Debug, Default)]
struct Tally {
    asked: Option<usize>,
    answered: usize,
    /// Copies that a router could not deliver after all.
    returned: usize,
    /// Instances that have not answered, as far as this node knows the class.
    waited: BTreeSet<ServiceId>,
    /// Those of them that died.
    gone: BTreeSet<ServiceId>,
}

impl Tally {
    fn answered(&mut self, from: ServiceId) {
        self.answered += 1;
        self.waited.remove(&from);
        self.gone.remove(&from);
    }

    fn left(&mut self, id: ServiceId) {
        if self.waited.contains(&id) {
            self.gone.insert(id);
        }
    }

    /// All have answered, or those who have not never will. An instance may be counted as gone and as
    /// returned, or share its node with another one, so both the count and the names have to say so.
    fn is_complete(&self) -> bool {
        let Some(asked) = self.asked else { return false };
        let heard = self.answered + self.returned;
        heard >= asked || (self.waited == self.gone && heard + self.gone.len() >= asked)
    }
}

enum Heard {
    News(Option<News>),
    Change(Option<Membership>),
}

fn read<R>(read: Read<R>, result: Result<Bytes, (String, String)>) -> Result<R, CallError> {
    let payload = result.map_err(CallError::from_answer)?;
    read(&payload).map_err(CallError::Decode)
}

impl<R: Send + 'static> IntoFuture for Collect<R> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(instance: u32) -> ServiceId {
        ServiceId::from_raw(5 << 24 | instance).unwrap()
    }

    /// Three nodes were asked; two of them, and a fourth, are known.
    fn tally(known: &[u32]) -> Tally {
        let waited = known.iter().copied().map(id).collect();
        Tally { asked: Some(3), waited, ..Tally::default() }
    }

    #[test]
    fn all_answers_are_enough_whoever_is_known() {
        let mut tally = tally(&[1, 2, 9]);
        for instance in 1..=3 {
            assert!(!tally.is_complete());
            tally.answered(id(instance));
        }
        assert!(tally.is_complete());
    }

    #[test]
    fn who_died_and_who_was_lost_on_the_way_are_not_waited_for() {
        let mut tally = tally(&[1, 2, 3]);
        tally.answered(id(1));
        tally.left(id(2));
        assert!(!tally.is_complete(), "the third may still answer");
        tally.left(id(3));
        assert!(tally.is_complete());

        let mut tally = self::tally(&[1, 2, 3]);
        tally.returned = 1;
        tally.left(id(2));
        tally.answered(id(1));
        assert!(!tally.is_complete(), "the one that came back may be the one that died");
        tally.answered(id(3));
        assert!(tally.is_complete());
    }

    #[test]
    fn two_instances_of_one_node_that_died_do_not_stand_for_another_node() {
        let mut tally = tally(&[1, 2, 3, 4]);
        tally.answered(id(1));
        tally.left(id(2));
        tally.left(id(3));
        assert!(!tally.is_complete(), "the fourth may still answer");
    }

    #[test]
    fn nothing_is_complete_before_the_count_is_known() {
        assert!(!Tally::default().is_complete());
    }
}
