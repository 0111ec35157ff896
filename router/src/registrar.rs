//! The task around the registry: takes changes from sessions, publishes the table once for as many as
//! are waiting, and sends what follows from them.

use std::sync::Arc;

use switchboard_protocol::control::{Control, Welcome};
use switchboard_protocol::{RefusalCode, ServiceId};
use tokio::sync::{mpsc, oneshot};

use crate::forward::local::{Local, Published};
use crate::mailbox::Mailbox;
use crate::mailbox::outgoing::Outgoing;
use crate::registry::{Change, Effect, Effects, Refusal, Registry};

/// The way to the registrar's task.
#[derive(Debug, Clone)]
pub(crate) struct Registrar(mpsc::Sender<Request>);

/// The ids that a Register was granted, or why not.
type Answer = Result<Vec<ServiceId>, Refusal>;

/// A change, and what to do when it is made.
#[derive(Debug)]
pub(crate) struct Request {
    change: Change<Arc<Mailbox>>,
    welcome: Option<(Arc<Mailbox>, Welcome)>,
    answer: Option<oneshot::Sender<Answer>>,
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
        let Change::Register { handle, .. } = &change else { return Err(gone()) };
        let handle = handle.clone();
        self.send(change, Some((handle, welcome))).await
    }

    /// Has a change made some time.
    pub(crate) async fn tell(&self, change: Change<Arc<Mailbox>>) {
        // The registrar ends last; if it has, there is no table left to change.
        let _ = self.0.send(Request { change, welcome: None, answer: None }).await;
    }

    async fn send(
        &self,
        change: Change<Arc<Mailbox>>,
        welcome: Option<(Arc<Mailbox>, Welcome)>,
    ) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let request = Request { change, welcome, answer: Some(sender) };
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
) {
    let mut batch = Vec::new();
    while requests.recv_many(&mut batch, MAX_BATCH).await > 0 {
        Local::with(|local| make(&mut registry, &mut batch, &published, &mut local.out));
    }
}

/// Makes a batch of changes. ORDER: publish first, then answer, so that whoever sees Welcome is
/// reachable already.
fn make(
    registry: &mut Registry<Arc<Mailbox>>,
    batch: &mut Vec<Request>,
    published: &Published,
    out: &mut Outgoing,
) {
    let mut after = Vec::new();
    let mut answers = Vec::new();
    let mut changed = false;
    for Request { change, welcome, answer } in batch.drain(..) {
        changed |= !matches!(change, Change::Watch { .. } | Change::Unwatch { .. });
        let mut effects = Effects::default();
        let result = registry.apply(change, &mut effects);
        if let (Ok(ids), Some((mailbox, welcome))) = (&result, welcome) {
            // Nobody else knows this mailbox before the table is published, so nothing overtakes.
            let welcome = Control::Welcome(Welcome { ids: ids.clone(), ..welcome });
            mailbox.push_quietly(&welcome.to_frame().to_bytes(), out);
            out.mark_dirty(mailbox);
        }
        effects.before.into_iter().for_each(|effect| carry_out(effect, out));
        after.append(&mut effects.after);
        answers.extend(answer.map(|answer| (answer, result)));
    }
    if changed {
        published.store(Arc::new(registry.table().clone()));
    }
    after.into_iter().for_each(|effect| carry_out(effect, out));
    for (answer, result) in answers {
        // The session may have ended meanwhile; its end gives up what it was granted.
        let _ = answer.send(result);
    }
    out.flush();
}

fn carry_out(effect: Effect<Arc<Mailbox>>, out: &mut Outgoing) {
    match effect {
        Effect::Tell { to, message } => {
            let frame = message.to_frame().to_bytes();
            to.iter().for_each(|mailbox| mailbox.push(&frame, out));
        }
        Effect::Replaced { holder, message } => {
            let ids = message.ids.clone();
            holder.push(&Control::Replaced(message).to_frame().to_bytes(), out);
            holder.replace(&ids);
        }
    }
}

/// How many requests may wait; sessions that have more to say wait themselves.
const QUEUE: usize = 4_096;
/// How many are made before the table is published.
const MAX_BATCH: usize = 1_024;
