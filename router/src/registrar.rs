//! The task around the registry: takes changes from sessions, publishes the table once for as many as
//! are waiting, and sends what follows from them.

use std::sync::Arc;
use std::time::SystemTime;

use switchboard_protocol::control::{Control, Registered, Welcome};
use switchboard_protocol::{RefusalCode, ServiceId};
use tokio::sync::{mpsc, oneshot};

use crate::events::{Events, What};
use crate::forward::again;
use crate::forward::local::{Local, Published};
use crate::mailbox::Mailbox;
use crate::mailbox::outgoing::Outgoing;
use crate::parking::lots::{Changed, Lots};
use crate::registry::{Change, Effect, Effects, News, Refusal, Registry};

/// The way to the registrar's task.
#[derive(Debug, Clone)]
pub(crate) struct Registrar(mpsc::Sender<Request>);

/// The ids that a Register was granted, or why not.
type Answer = Result<Vec<ServiceId>, Refusal>;

/// A change, and what to do when it is made.
#[derive(Debug)]
pub(crate) struct Request {
    change: Change<Arc<Mailbox>>,
    greeting: Option<(Arc<Mailbox>, Greeting)>,
    answer: Option<oneshot::Sender<Answer>>,
}

/// What a session is told of the ids that it was granted.
#[derive(Debug)]
enum Greeting {
    /// Its first ones.
    Welcome(Box<Welcome>),
    /// More, by the number of its request.
    Registered(u32),
}

impl Registrar {
    /// The way, and its end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Has a change made, and waits until it is published.
    pub(crate) async fn ask(&self, change: Change<Arc<Mailbox>>) -> Answer {
        self.send(change, None).await
    }

    /// The same for a session's first Register; it is told Welcome before anything else.
    pub(crate) async fn admit(&self, change: Change<Arc<Mailbox>>, welcome: Welcome) -> Answer {
        self.grant(change, Greeting::Welcome(Box::new(welcome))).await
    }

    /// The same for a further Register; it is told Registered in its place among what else it is told
    /// of these ids.
    pub(crate) async fn register(&self, change: Change<Arc<Mailbox>>, request: u32) -> Answer {
        self.grant(change, Greeting::Registered(request)).await
    }

    async fn grant(&self, change: Change<Arc<Mailbox>>, greeting: Greeting) -> Answer {
        let Change::Register { handle, .. } = &change else { return Err(gone()) };
        let handle = handle.clone();
        self.send(change, Some((handle, greeting))).await
    }

    /// Has a change made some time.
    pub(crate) async fn tell(&self, change: Change<Arc<Mailbox>>) {
        // The registrar ends last; if it has, there is no table left to change.
        let _ = self.0.send(Request { change, greeting: None, answer: None }).await;
    }

    async fn send(
        &self,
        change: Change<Arc<Mailbox>>,
        greeting: Option<(Arc<Mailbox>, Greeting)>,
    ) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let request = Request { change, greeting, answer: Some(sender) };
        self.0.send(request).await.map_err(|_| gone())?;
        receiver.await.map_err(|_| gone())?
    }
}

fn gone() -> Refusal {
    Refusal::new(RefusalCode::Draining, "this router is leaving")
}

/// Runs until every sender is gone.
pub(crate) async fn run(
    mut registry: Registry<Arc<Mailbox>>,
    mut requests: mpsc::Receiver<Request>,
    published: Arc<Published>,
    lots: Arc<Lots>,
    events: Arc<Events>,
) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            requests = requests.recv_many(&mut batch, MAX_BATCH) => {
                if requests == 0 {
                    return;
                }
                Local::with(|local| make(&mut registry, &mut batch, &published, &events, local));
            }
            // What a session left behind may be for others, though the table stays as it is.
            () = lots.nudged() => Local::with(|local| {
                again::release(local);
                local.out.flush();
            }),
        }
    }
}

/// Makes the changes that wait, and settles them together; but the picture of a class may be large, so
/// what leads to many messages is settled before the next.
fn make(
    registry: &mut Registry<Arc<Mailbox>>,
    batch: &mut Vec<Request>,
    published: &Published,
    events: &Events,
    local: &mut Local,
) {
    let mut made = Made::default();
    for request in batch.drain(..) {
        // A session that is granted an id and loses it, or the other way round, is told in this order.
        let overtakes = made.in_order && matches!(request.change, Change::Register { .. });
        if overtakes || made.after.len() >= MAX_UNSETTLED {
            std::mem::take(&mut made).settle(registry, published, events, local);
        }
        made.take(registry, request, &mut local.out);
    }
    made.settle(registry, published, events, local);
}

/// Changes that are made, but not published.
#[derive(Default)]
struct Made {
    changed: Option<Changed>,
    /// The next Register may be about the same ids.
    in_order: bool,
    after: Vec<Effect<Arc<Mailbox>>>,
    news: Vec<News>,
    answers: Vec<(oneshot::Sender<Answer>, Answer)>,
}

impl Made {
    fn take(
        &mut self,
        registry: &mut Registry<Arc<Mailbox>>,
        request: Request,
        out: &mut Outgoing,
    ) {
        let Request { change, greeting, answer } = request;
        self.note(&change);
        let mut effects = Effects::default();
        let result = registry.apply(change, now_us(), &mut effects);
        if let (Ok(ids), Some(changed)) = (&result, &mut self.changed) {
            changed.classes.extend(ids.iter().map(|id| id.class()));
        }
        if let (Ok(ids), Some((mailbox, greeting))) = (&result, greeting) {
            mailbox.regain(ids);
            let ids = ids.clone();
            match greeting {
                Greeting::Welcome(welcome) => {
                    // Nobody else knows this mailbox before the table is published: none overtakes.
                    let classes = ids.iter().map(|id| id.class());
                    let master = |class| Some((class, registry.master(class)?));
                    let masters = classes.filter_map(master).collect();
                    let welcome = Control::Welcome(Welcome { ids, masters, ..*welcome });
                    mailbox.push_quietly(&welcome.to_frame().to_bytes(), out);
                    out.mark_dirty(mailbox);
                }
                Greeting::Registered(request) => {
                    self.in_order = true;
                    let message = Control::Registered(Registered { request, ids });
                    self.after.push(Effect::Tell { to: Arc::new(vec![mailbox]), message });
                }
            }
        }
        effects.before.into_iter().for_each(|effect| carry_out(effect, out));
        let removes = |effect: &Effect<_>| matches!(effect, Effect::Remove { .. });
        self.in_order |= effects.after.iter().any(removes);
        self.after.append(&mut effects.after);
        self.news.append(&mut effects.news);
        self.answers.extend(answer.map(|answer| (answer, result)));
    }

    /// Notes what a change is about, for those that wait.
    fn note(&mut self, change: &Change<Arc<Mailbox>>) {
        // A load is written where every snapshot of the table sees it.
        if matches!(change, Change::Watch { .. } | Change::Unwatch { .. } | Change::Load { .. }) {
            return;
        }
        let changed = self.changed.get_or_insert_default();
        match change {
            Change::Unregister { ids, .. } => {
                changed.classes.extend(ids.iter().map(|id| id.class()));
                changed.left.extend(ids);
            }
            // Who drains is still there for frames that name it.
            Change::Drain { ids, .. } => changed.classes.extend(ids.iter().map(|id| id.class())),
            Change::Claim { claim, .. } => changed.classes.extend([claim.id.class()]),
            Change::Appoint(id) | Change::Slot { id, .. } => changed.classes.extend([id.class()]),
            Change::Policies(policies) => changed.policies = Some(policies.clone()),
            _ => {}
        }
    }

    /// ORDER: publish first, then answer, so that whoever sees Welcome is reachable already.
    fn settle(
        self,
        registry: &Registry<Arc<Mailbox>>,
        published: &Published,
        events: &Events,
        local: &mut Local,
    ) {
        let publishes = self.changed.is_some();
        if let Some(changed) = self.changed {
            let version = published.load().version() + 1;
            local.lots.publish(published, registry.table().clone().with_version(version), changed);
        }
        let out = &mut local.out;
        self.after.into_iter().for_each(|effect| carry_out(effect, out));
        if !self.news.is_empty() {
            events.note_all(self.news.into_iter().map(What::News));
        }
        for (answer, result) in self.answers {
            // The session may have ended meanwhile; its end gives up what it was granted.
            let _ = answer.send(result);
        }
        if publishes {
            again::release(local);
        }
        local.out.flush();
    }
}

/// The clock that epochs follow. Before 1970 they only count.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

fn carry_out(effect: Effect<Arc<Mailbox>>, out: &mut Outgoing) {
    match effect {
        Effect::Tell { to, message } => {
            let frame = message.to_frame().to_bytes();
            to.iter().for_each(|mailbox| mailbox.push(&frame, out));
        }
        Effect::Remove { holder, id } => holder.replace(id),
    }
}

/// How many requests may wait; sessions that have more to say wait themselves.
const QUEUE: usize = 4_096;
/// How many messages may wait for the table to be published.
const MAX_UNSETTLED: usize = 256;
/// How many are made before the table is published.
const MAX_BATCH: usize = 1_024;
