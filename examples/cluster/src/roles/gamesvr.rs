//! A game server: players who send messages to everybody, at a steady rate.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use switchboard::{
    Broadcast, CallError, Caller, Class, Direct, ForwardError, Hash, LeastLoaded, Master,
    Membership, Mode, Node, Random, Reason, Watcher,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Part, builder, connect, work};
use crate::ledger::Ledger;
use crate::news::{Failure, News, Order, Why, tell};
use crate::stream::{GAMESVRS, MATCHSVR, Manner, Stamp, Stream, now};

/// Lets its players play until told to leave.
pub async fn run(part: &Part, orders: mpsc::UnboundedReceiver<Order>) -> anyhow::Result<()> {
    let ledger = Ledger::default();
    let mut builder = builder("gamesvr", part).watch(MATCHSVR);
    for stream in [Stream::Chat, Stream::Announce] {
        let notes = ledger.clone();
        builder = builder.on(stream.method(), move |from: Caller, args: (Stamp, String)| {
            notes.handled(from.id(), stream, args.0);
            async { Ok(()) }
        });
    }
    let node = connect(builder, part).await?;
    tokio::spawn(watch(node.watch(MATCHSVR)?));
    let players = Players {
        node: node.clone(),
        ledger: ledger.clone(),
        part: part.clone(),
        turns: 0,
        order: 0,
        numbers: BTreeMap::new(),
        calls: JoinSet::new(),
    };
    let (to_players, their_orders) = mpsc::unbounded_channel();
    let playing = tokio::spawn(players.run(their_orders));
    work(node, &ledger, orders, Some(to_players)).await?;
    playing.await?
}

/// Takes in that the router could not deliver a message.
pub fn undelivered(node: &Node, ledger: &Ledger, reason: Reason, mode: Mode, class: Class) {
    let classes = Stream::ALL.map(Stream::class);
    let name = classes.into_iter().find(|name| node.class(name) == Some(class));
    match name.and_then(|name| Stream::reported_as(name, mode.name())) {
        Some(stream) => ledger.told(stream, format!("{reason:?}")),
        None => tell(&News::Trouble { what: format!("{reason:?} of class {class} by {mode:?}") }),
    }
}

/// Tells who comes and goes among the match servers.
async fn watch(mut watcher: Watcher) {
    while let Some(change) = watcher.next().await {
        let at = now();
        match change {
            Membership::Left { id, reason } => {
                let (id, reason) = (id.to_string(), format!("{reason:?}"));
                tell(&News::SawLeft { id, reason, at });
            }
            Membership::Master { id, epoch } => {
                tell(&News::SawMaster { id: id.map(|id| id.to_string()), epoch, at });
            }
            _ => {}
        }
    }
}

/// The players of one game server.
struct Players {
    node: Node,
    ledger: Ledger,
    part: Part,
    /// How many messages they wanted to send so far.
    turns: u64,
    /// How many one-way messages they sent.
    order: u64,
    /// The last number of each stream.
    numbers: BTreeMap<Stream, u64>,
    /// Calls under way.
    calls: JoinSet<()>,
}

impl Players {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) -> anyhow::Result<()> {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Start => {
                    if let Some(Order::Stop { others }) = self.play(&mut orders).await {
                        self.finish(&others).await?;
                    }
                }
                other => bail!("{other:?} comes before the start"),
            }
        }
        Ok(())
    }

    /// Sends what is due every millisecond, until the next order.
    async fn play(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Option<Order> {
        let per_second = self.rate();
        let start = Instant::now();
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => return order,
                _ = ticks.tick() => {}
            }
            let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            let due = micros.saturating_mul(per_second) / 1_000_000;
            while self.turns < due {
                if !self.take_turn() {
                    break;
                }
                if self.turns.is_multiple_of(BURST) {
                    // The link writes while these players take a breath.
                    tokio::task::yield_now().await;
                }
            }
            while self.calls.try_join_next().is_some() {}
        }
    }

    /// How many messages these players send in a second.
    fn rate(&self) -> u64 {
        self.population() * self.part.rate
    }

    /// How many of all players are on this game server.
    fn population(&self) -> u64 {
        let (servers, place) = (u64::from(GAMESVRS), u64::from(self.part.instance - 1));
        (self.part.players + servers - 1 - place) / servers
    }

    /// The next player sends its next message. Answers whether the node took it.
    fn take_turn(&mut self) -> bool {
        let population = self.population().max(1);
        let (seat, round) = (self.turns % population, self.turns / population);
        let player = seat * u64::from(GAMESVRS) + u64::from(self.part.instance);
        // Players don't all do the same at the same time.
        let stream = Stream::of_turn(round.wrapping_add(seat.wrapping_mul(SPREAD)));
        let number = self.numbers.get(&stream).copied().unwrap_or_default() + 1;
        let one_way = stream.manner() == Manner::OneWay;
        let order = if one_way { self.order + 1 } else { 0 };
        let stamp = Stamp { number, order, sent: now() };
        if one_way {
            let lost = self.part.lose_one && stream == Stream::Save && number == LOSE;
            if !lost && self.forward(stream, stamp, player).is_err() {
                // It is tried again, under the same number, when there is room.
                self.ledger.refused(stream);
                return false;
            }
            self.order = order;
        } else {
            self.call(stream, stamp, player);
        }
        self.numbers.insert(stream, number);
        self.ledger.sent(stream, stamp);
        self.turns += 1;
        true
    }

    fn forward(&self, stream: Stream, stamp: Stamp, player: u64) -> Result<(), ForwardError> {
        let node = &self.node;
        let method = stream.method();
        // `report`: what can't be delivered comes back as an event, so nothing is lost in silence.
        match stream {
            Stream::Save => {
                let row = (stamp, player, (stamp.number % 60) as u32);
                node.message(Hash(player), "dbagent", method, row).report().send()
            }
            Stream::Mail => {
                let user = format!("user-{player}");
                node.message(Hash(&user), "mailsvr", method, (stamp, &user)).report().send()
            }
            Stream::Notify => {
                node.message(LeastLoaded, "mailsvr", method, (stamp, player)).report().send()
            }
            Stream::JoinMatch => {
                let args = (stamp, player, "ranked");
                node.message(Master, MATCHSVR, method, args).report().send()
            }
            Stream::Chat => {
                let other = format!("gamesvr.{}", self.part.instance % GAMESVRS + 1);
                node.message(Direct, &other, method, (stamp, "well played!")).report().send()
            }
            Stream::Announce => {
                let news = (stamp, "a dragon was seen");
                node.message(Broadcast, "gamesvr", method, news).report().send()
            }
            Stream::Load | Stream::Query | Stream::FindMatch => Ok(()),
        }
    }

    fn call(&mut self, stream: Stream, stamp: Stamp, player: u64) {
        let (node, ledger) = (self.node.clone(), self.ledger.clone());
        let method = stream.method();
        self.calls.spawn(async move {
            let answer = match stream {
                Stream::Load => node
                    .call::<(u32, u64)>(Hash(player), "dbagent", method, (stamp, player))
                    .await
                    .map(drop),
                // What may be asked twice, and what is run once though it is sent twice, survives
                // the death of a callee and of a router.
                Stream::Query => {
                    let call = node.call::<usize>(Random, "dbagent", method, (stamp,));
                    call.idempotent().await.map(drop)
                }
                _ => {
                    let call = node.call::<u64>(Master, MATCHSVR, method, (stamp, player));
                    call.idempotent().await.map(drop)
                }
            };
            match answer {
                Ok(()) => ledger.answered(stream, stamp),
                Err(error) => {
                    let Stamp { number, sent, .. } = stamp;
                    ledger.failed(stream, Failure { number, why: why(error), sent, at: now() });
                }
            }
        });
    }

    /// Waits for the answers to all calls, and until all others have handled what was sent to them.
    async fn finish(&mut self, others: &[String]) -> anyhow::Result<()> {
        while self.calls.join_next().await.is_some() {}
        let mut fences = BTreeMap::new();
        for other in others {
            let fence = self.node.call::<()>(Direct, other, "fence", ()).timeout(FENCE);
            fence.await.with_context(|| format!("the last message to {other}"))?;
            let class = other.split('.').next().unwrap_or_default();
            *fences.entry(class.to_owned()).or_default() += 1;
        }
        tell(&News::Stopped { fences });
        Ok(())
    }
}

fn why(error: CallError) -> Why {
    match error {
        CallError::NotSent(_) => Why::NotSent,
        CallError::NoRoute(Reason::TargetLost) => Why::TargetLost,
        CallError::NoRoute(_) => Why::NoRoute,
        CallError::Remote { code, .. } | CallError::Refused { code, .. } => Why::Remote(code),
        CallError::OutcomeUnknown(_) => Why::Unknown,
        CallError::Timeout => Why::Timeout,
        other => Why::Other(other.to_string()),
    }
}

/// How often messages are sent that are due.
const PACE: Duration = Duration::from_millis(1);
/// How many are sent without letting the link write.
const BURST: u64 = 64;
/// How far a player's deck is ahead of its neighbour's.
const SPREAD: u64 = 1;
/// How long the others may take to work off what they were sent.
const FENCE: Duration = Duration::from_secs(30);
/// The number of the message that is not sent where one is to be lost.
const LOSE: u64 = 100;
