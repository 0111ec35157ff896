//! What a node has done, as plain data: a copy of its counters, and what its queues hold.

use std::sync::Arc;

use switchboard_protocol::Class;

use crate::latency::Latency;
use crate::meter::Meter;
use crate::node::Node;
use crate::outcome::Outcomes;
use crate::shared::Shared;
use crate::tally::{MAX_METHODS, Table};
use crate::target::To;

/// What a node has done since it was built, from [`Node::stats`].
///
/// Methods are counted by direction, the class of the other side, and name. Two names are special:
///
/// - `""` are payloads that name no method, as [`Node::call_raw`] and [`Node::forward_raw`] send them;
/// - `"other"` are methods without an entry of their own. In each direction there are
///   [`Stats::MAX_METHODS`] entries, whoever comes first; and of what is served only methods that
///   have a handler get one, so that no caller can fill the table with names.
///
/// What is sent to a name that no router knows as a class has no entry, and is not counted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    methods: Vec<MethodStats>,
    /// Calls that wait for their answers. A question to a class counts once.
    pub open_calls: usize,
    /// Idempotent calls that this node runs, or remembers the answers of.
    pub window_calls: usize,
    /// The bytes of these answers.
    pub window_bytes: usize,
    /// Messages that wait for their handlers.
    pub handler_queue: usize,
    /// Bytes that wait for their routers.
    pub outbox_bytes: usize,
    /// Routers to which there is a link.
    pub routers: usize,
}

/// Whether this node is the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// This node calls others.
    Called,
    /// Others call this node.
    Served,
}

/// What there is to say of one method, from [`Stats`].
///
/// `calls` is `outcomes.total()` and the calls that are under way.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MethodStats {
    /// Who is called.
    pub direction: Direction,
    /// The class of the other side: of the callee, or of the caller.
    pub class: Class,
    /// Its name, or its number if no router has named it.
    pub class_name: String,
    /// The method.
    pub method: Arc<str>,
    /// Calls that were begun. A [`Node::collect`] is one call.
    pub calls: u64,
    /// How those of them ended that have ended. A call served that was turned away, or is a copy of
    /// another, is among them.
    pub outcomes: Outcomes,
    /// One-way messages. Of those that go out it is known whether they are in the outbox, of those
    /// that come in how their handlers ended.
    pub messages: Outcomes,
    /// Calls under way; where this node serves, calls and messages whose handlers wait for something.
    pub in_flight: u64,
    /// Copies of calls that were sent, beyond the first of each.
    pub retries: u64,
    /// How long calls took until their end, or handlers. Calls that were not sent or that nobody
    /// waited for are left out, and the time in the queue of handlers is not the handler's.
    pub latency: Latency,
}

impl Node {
    /// What this node has done so far: calls and messages by class and method, how they ended, how
    /// long they took, and what is under way. Costs nothing until it is asked for, but for a few
    /// additions to each message.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Caller, Master, Node, Outcome};
    ///
    /// node.on("level", async |_: Caller, (player,): (u64,)| Ok(player % 60));
    /// node.call::<u64>(Master, "matchsvr", "level", (4711,)).await?;
    /// node.call::<u64>(Master, "gamesvr", "level", (4711,)).await.unwrap_err();
    ///
    /// let stats = node.stats();
    /// let level = stats.called("matchsvr", "level").ok_or("has been called")?;
    /// assert_eq!((level.calls, level.outcomes.count(Outcome::Ok)), (1, 1));
    /// assert!(level.latency.p99() <= level.latency.max());
    /// for method in &stats {
    ///     for (outcome, count) in method.outcomes.iter() {
    ///         println!("{:?} {} {} {outcome} {count}", method.direction, method.class_name, method.method);
    ///     }
    /// }
    /// assert_eq!(stats.iter().map(|method| method.outcomes.count(Outcome::NoRoute)).sum::<u64>(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::read(self.shared())
    }
}

impl Stats {
    /// How many methods have entries of their own, in each direction. The same method of two classes
    /// is two.
    pub const MAX_METHODS: usize = MAX_METHODS;

    pub(crate) fn read(shared: &Shared) -> Self {
        let read = |direction, table: &Table| {
            let meters = table.meters().map(|meter| MethodStats::read(direction, meter, shared));
            meters.collect::<Vec<_>>()
        };
        let mut methods = read(Direction::Called, &shared.tally.called);
        methods.extend(read(Direction::Served, &shared.tally.served));
        methods.sort_by(|a, b| a.key().cmp(&b.key()));
        let (window_calls, window_bytes) = {
            let window = shared.window();
            (window.len(), window.bytes())
        };
        let up = shared.links.up();
        Self {
            methods,
            open_calls: shared.calls.len(),
            window_calls,
            window_bytes,
            handler_queue: shared.handler_queue(),
            outbox_bytes: up.iter().map(|port| port.outbox.queued()).sum(),
            routers: up.len(),
        }
    }

    /// All methods that were called or served, by direction, class and name.
    pub fn iter(&self) -> std::slice::Iter<'_, MethodStats> {
        self.methods.iter()
    }

    /// A method that this node has called, or sent messages to.
    #[must_use]
    pub fn called<'a>(&self, class: impl Into<To<'a>>, method: &str) -> Option<&MethodStats> {
        self.find(Direction::Called, class.into(), method)
    }

    /// A method that this node has served to a class of callers.
    #[must_use]
    pub fn served<'a>(&self, class: impl Into<To<'a>>, method: &str) -> Option<&MethodStats> {
        self.find(Direction::Served, class.into(), method)
    }

    fn find(&self, direction: Direction, class: To<'_>, method: &str) -> Option<&MethodStats> {
        let by_name = |name: &str| {
            let named = self.methods.iter().find(|method| method.class_name == name);
            named.map(|method| method.class).or_else(|| Class::new(name.parse().ok()?).ok())
        };
        let key = (direction, class.class(by_name).ok()?, method);
        let found = self.methods.binary_search_by(|entry| entry.key().cmp(&key)).ok()?;
        self.methods.get(found)
    }
}

impl<'a> IntoIterator for &'a Stats {
    type Item = &'a MethodStats;
    type IntoIter = std::slice::Iter<'a, MethodStats>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl MethodStats {
    fn read(direction: Direction, meter: &Meter, shared: &Shared) -> Self {
        let class = meter.class;
        let name = shared.identity().class_name(class).map(str::to_owned);
        let (calls, outcomes) = meter.calls();
        Self {
            direction,
            class,
            class_name: name.unwrap_or_else(|| class.to_string()),
            method: Arc::clone(&meter.method),
            calls,
            outcomes,
            messages: meter.messages(),
            in_flight: meter.in_flight(),
            retries: meter.retries(),
            latency: meter.latency(),
        }
    }

    fn key(&self) -> (Direction, Class, &str) {
        (self.direction, self.class, &self.method)
    }
}
