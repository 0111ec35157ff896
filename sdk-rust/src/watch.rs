//! Watching a class: who is in it, across reconnects. What is known of a class, and what a watcher
//! has yet to be told, is `view`'s business.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use switchboard_protocol::control::{self, LeftReason};
use switchboard_protocol::{Class, ServiceId};

use crate::inbox::Inbox;
use crate::links::{Links, Port};
use crate::shared::Shared;
use crate::view::View;

/// What an instance told of itself when it registered.
pub type Metadata = BTreeMap<String, String>;

/// A change in a class.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Membership {
    /// An instance is there. Comes again if it returns with other metadata.
    Joined {
        /// Who.
        id: ServiceId,
        /// What it told of itself.
        metadata: Metadata,
    },
    /// An instance is gone.
    Left {
        /// Who.
        id: ServiceId,
        /// Why; `Other` if it left while this node's link was away.
        reason: LeftReason,
    },
    /// The class has another master.
    Master {
        /// The master; none while the class has no live instance.
        id: Option<ServiceId>,
        /// Grows with every change.
        epoch: u64,
    },
    /// What came before is the whole picture, as of now. Comes again after each reconnect.
    Synced,
}

/// The changes of one class, from [`Node::watch`](crate::Node::watch).
///
/// It starts with who is there already, goes on across reconnects with the difference, and
/// coalesces: a reader that is slow sees fewer steps, and never a wrong end.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
/// # let router = switchboard_router::Router::start(config)?;
/// # let address = router.listen()[0].to_string();
/// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
/// use switchboard::{Membership, Node};
///
/// let mut matchers = node.watch("matchsvr")?;
/// let mut there = Vec::new();
/// loop {
///     match matchers.next().await {
///         Some(Membership::Joined { id, .. }) => there.push(id),
///         Some(Membership::Left { id, .. }) => there.retain(|other| *other != id),
///         Some(Membership::Synced) => break,
///         Some(_) => {}
///         None => return Ok(()), // the node was closed
///     }
/// }
/// assert_eq!(there, [node.id()]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    class: Class,
    inbox: Arc<Inbox>,
}

/// Every watched class.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    views: Mutex<AHashMap<Class, View>>,
}

impl Watcher {
    /// The class that is watched.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The next change; `None` when the node is closed. Safe to give up and ask again.
    pub async fn next(&mut self) -> Option<Membership> {
        self.inbox.next().await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.watches.forget(self.class, &self.inbox, &self.shared.links);
    }
}

// A lock on the views is held while an outbox is locked, and never the other way round: whether
// a router has been asked for a class, and the asking, are one step.
impl Watches {
    /// A watcher, told of what is known already.
    pub(crate) fn watch(&self, class: Class, shared: &Arc<Shared>) -> Watcher {
        let mut views = self.lock();
        let view = views.entry(class).or_default();
        let inbox = view.open();
        shared.links.up().iter().for_each(|port| view.ask(class, port));
        drop(views);
        Watcher { shared: Arc::clone(shared), class, inbox }
    }

    /// Keeps an eye on a class, watchers or none.
    pub(crate) fn keep(&self, class: Class) {
        self.lock().entry(class).or_default().kept = true;
    }

    /// Hears from now on when an instance of a class dies.
    pub(crate) fn listen(&self, class: Class, links: &Links) {
        let mut views = self.lock();
        let view = views.entry(class).or_default();
        if !view.listened {
            view.listened = true;
            links.up().iter().for_each(|port| view.ask(class, port));
        }
    }

    fn forget(&self, class: Class, inbox: &Arc<Inbox>, links: &Links) {
        let mut views = self.lock();
        let Some(view) = views.get_mut(&class) else { return };
        view.close(inbox);
        if !view.is_wanted() && !view.listened {
            links.up().iter().for_each(|port| view.take_back(class, port));
            views.remove(&class);
        }
    }

    /// The classes to ask a new link for in Hello. From here on its pictures are painted anew.
    pub(crate) fn repaint(&self, slot: usize) -> Vec<Class> {
        let mut views = self.lock();
        let wanted = views.iter_mut().filter(|(_, view)| view.is_wanted());
        let repainted = wanted.map(|(class, view)| {
            view.repaint(slot);
            *class
        });
        repainted.collect()
    }

    /// Asks for what was not in Hello, or came too late for it.
    pub(crate) fn ask(&self, port: &Port) {
        for (class, view) in self.lock().iter_mut() {
            view.ask(*class, port);
        }
    }

    /// Takes in what a router says of a class.
    pub(crate) fn apply(&self, slot: usize, event: control::Event, links: &Links) {
        if let Some(view) = self.lock().get_mut(&event.class) {
            let chosen = links.chosen(event.class);
            view.apply(slot, event, chosen);
        }
    }

    /// A link is gone.
    pub(crate) fn lost(&self, slot: usize, links: &Links) {
        for (class, view) in self.lock().iter_mut() {
            view.lost(slot, links.chosen(*class));
        }
    }

    /// The node is closed: watchers come to their end.
    pub(crate) fn end(&self) {
        self.lock().values().for_each(View::end);
    }

    fn lock(&self) -> MutexGuard<'_, AHashMap<Class, View>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
