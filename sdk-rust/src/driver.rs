//! The task that owns the link to one router: connects, works a session, and after its end connects
//! again. A node has one for each router; the last one to end closes the node.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use switchboard_protocol::control::{Hello, Welcome};
use switchboard_protocol::{RefusalCode, ServiceId};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::backoff::{self, Backoff};
use crate::choice::Standing;
use crate::error::{CloseReason, ConnectError};
use crate::event::Event;
use crate::identity::Asked;
use crate::incoming::Incoming;
use crate::link::{Address, GreetError, Link};
use crate::links::{Age, Port};
use crate::office::Input;
use crate::session::{End, Session, heartbeat, lease, max_frame};
use crate::shared::Shared;

/// How to get links, the same for all routers of a node.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) hello: Hello,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: Backoff,
}

/// Owns the link to one router, or the lack of it.
pub(crate) struct Driver {
    crew: Arc<Crew>,
    port: Arc<Port>,
    plan: Plan,
    /// How often it has connected, or tried to.
    attempt: u64,
}

/// What the drivers of a node have in common.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Incoming>,
    plan: Plan,
    /// How many drivers there are.
    drivers: AtomicUsize,
    /// Held by the driver that takes over what a Welcome says.
    adopting: Mutex<()>,
}

/// A link that has its Welcome.
pub(crate) struct Welcomed {
    link: Link,
    welcome: Welcome,
    asked: Asked,
}

impl Crew {
    pub(crate) fn new(shared: Arc<Shared>, incoming: mpsc::Sender<Incoming>, plan: Plan) -> Self {
        Self { shared, incoming, plan, drivers: AtomicUsize::new(0), adopting: Mutex::default() }
    }

    /// The driver of one more router.
    pub(crate) fn driver(self: &Arc<Self>, port: Arc<Port>) -> Driver {
        self.drivers.fetch_add(1, Ordering::Relaxed);
        Driver { crew: Arc::clone(self), port, plan: self.plan.clone(), attempt: 0 }
    }

    /// Drivers for the routers that a router told of.
    fn follow(self: &Arc<Self>, routers: &[String]) {
        for address in routers.iter().filter_map(|text| Address::read(text).ok()) {
            if let Some(port) = self.shared.links.add(address) {
                self.driver(port).start();
            }
        }
    }
}

impl Driver {
    /// Tries once to connect.
    pub(crate) async fn connect(&mut self) -> Result<Welcomed, ConnectError> {
        self.attempt += 1;
        let shared = &self.crew.shared;
        let (asked, mut services) = shared.identity().services();
        for (class, epoch) in shared.claims() {
            let of_class = |id: u32| ServiceId::from_raw(id).is_ok_and(|id| id.class() == class);
            services.iter_mut().filter(|service| of_class(service.id)).for_each(|service| {
                service.master_since = epoch;
            });
        }
        let wanted = services.len();
        let watch = shared.watches.repaint(self.port.slot);
        let link = self.port.slot as u32;
        let attempt = self.attempt;
        let hello = Hello { services, watch, link, attempt, ..self.plan.hello.clone() };
        let router = self.port.address.to_string();
        let result = self.port.address.connect(hello, self.plan.connect_timeout).await;
        if result.is_err() {
            // No picture comes.
            shared.watches.lost(self.port.slot, &shared.links);
        }
        match result {
            Ok((link, welcome)) if welcome.ids.len() == wanted => {
                Ok(Welcomed { link, welcome, asked })
            }
            Ok((_, welcome)) => {
                let text = format!("{} ids for {wanted} services", welcome.ids.len());
                let error = io::Error::new(io::ErrorKind::InvalidData, text);
                Err(ConnectError::Unreachable { tried: vec![(router, error)] })
            }
            Err(GreetError::Io(error)) => {
                Err(ConnectError::Unreachable { tried: vec![(router, error)] })
            }
            Err(GreetError::Refused { code, text }) => {
                Err(ConnectError::Refused { router, code, text })
            }
        }
    }

    /// Takes over what a Welcome says; from then on, frames can be sent over the link.
    pub(crate) fn adopt(&self, welcomed: &Welcomed) {
        let shared = &self.crew.shared;
        let Welcomed { link, welcome, asked } = welcomed;
        // One at a time: the first one decides the ids.
        let _adopting = self.crew.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let alone = !shared.links.is_up();
        shared.change_identity(|identity| {
            if alone {
                identity.welcome(asked, &welcome.ids);
            }
            identity.learn(&welcome.classes, alone);
        });
        let slot = self.port.slot;
        self.port.grant(&welcome.ids, Age::New);
        self.port.outbox.open(max_frame(welcome) as usize, shared.identity().primary());
        let standing = match welcome.uptime_ms {
            1..YOUNG_MS => Standing::Young,
            _ => Standing::Settled,
        };
        shared.links.came_up(slot, &welcome.router, standing);
        let (name, ids) = (welcome.router.clone(), welcome.ids.clone());
        let router = self.port.address.to_string();
        shared.events.announce(Event::Connected { router, name, ids });
        let holds = |id: &ServiceId| shared.identity().holds(*id);
        let masters = welcome.masters.iter();
        let masters =
            masters.map(|(class, master)| (*class, master.id.filter(holds), master.epoch));
        let until = lease(link.greeted, heartbeat(welcome));
        shared.office(Input::Up { slot, masters: masters.collect(), until });
        shared.settle_ids(&self.port);
        shared.watches.ask(&self.port);
        self.crew.follow(&welcome.routers);
    }

    /// Works until the node is closed, connecting first.
    pub(crate) fn start(mut self) -> watch::Receiver<bool> {
        // Whether the first attempt is over.
        let (tried, receiver) = watch::channel(false);
        tokio::spawn(async move {
            let shared = Arc::clone(&self.crew.shared);
            let first = tokio::select! {
                first = self.connect() => first,
                // A node that ends makes no new links.
                () = shared.lifecycle.drain_requested() => return self.end(),
            };
            if let Ok(welcomed) = &first {
                self.adopt(welcomed);
            }
            tried.send_replace(true);
            drop(tried);
            self.run(first).await;
        });
        receiver
    }

    /// Works until the node is closed, beginning with what came of the first attempt.
    pub(crate) async fn run(mut self, first: Result<Welcomed, ConnectError>) {
        let mut connected = match first {
            Ok(welcomed) => Some(welcomed),
            Err(error) => self.reconnect(Some(error)).await,
        };
        while let Some(Welcomed { link, welcome, .. }) = connected {
            self.plan.backoff.reset();
            let crew = Arc::clone(&self.crew);
            let session = Session::new(&crew.shared, &self.port, &crew.incoming, &welcome);
            let end = session.run(link).await;
            connected = match end {
                End::Final(reason) => {
                    self.stop(reason);
                    None
                }
                End::Lost { why, come_back } => {
                    self.lost(why);
                    if let Some(delay) = come_back {
                        self.plan.backoff.ask(delay);
                    }
                    self.reconnect(None).await
                }
            };
        }
        self.end();
    }

    async fn reconnect(&mut self, failed: Option<ConnectError>) -> Option<Welcomed> {
        let shared = Arc::clone(&self.crew.shared);
        let mut failed = failed;
        loop {
            let why = match failed.take() {
                None => None,
                Some(error) => Some(self.failed(error)?),
            };
            let router = self.port.address.to_string();
            let after = self.plan.backoff.next(backoff::random());
            let attempt = self.plan.backoff.attempt();
            shared.events.announce(Event::Reconnecting { router, after, attempt, why });
            let attempt = async {
                sleep(after).await;
                self.connect().await
            };
            let result = tokio::select! {
                result = attempt => result,
                () = shared.lifecycle.drain_requested() => return None,
            };
            match result {
                Ok(welcomed) => {
                    self.adopt(&welcomed);
                    return Some(welcomed);
                }
                Err(error) => failed = Some(error),
            }
        }
    }

    /// Why an attempt came to nothing; `None` if there is no use in another.
    fn failed(&self, error: ConnectError) -> Option<String> {
        let shared = &self.crew.shared;
        let ConnectError::Refused { code, text, router } = error else {
            return Some(error.to_string());
        };
        let why = format!("{router} refuses: {text}");
        match code {
            RefusalCode::OutdatedIncarnation => {
                self.stop(CloseReason::Refused { code, text });
                return None;
            }
            // The same router under another address: one link to it is enough, while it lasts.
            RefusalCode::AlreadyRegistered if shared.links.is_up() => return Some(why),
            RefusalCode::IdTaken if !shared.links.is_up() => {
                shared.change_identity(crate::identity::Identity::forget_assigned);
            }
            _ => {}
        }
        shared.events.announce(Event::Refused { code, text });
        Some(why)
    }

    fn lost(&self, why: String) {
        let router = self.port.address.to_string();
        let unsent = self.let_go();
        self.crew.shared.events.announce(Event::Lost { router, why, unsent });
    }

    /// This link is over for good, and with it the node, unless only this router does not want it.
    fn stop(&self, reason: CloseReason) {
        let shared = &self.crew.shared;
        let sent_away = matches!(reason, CloseReason::SentAway(_));
        if !sent_away || !shared.links.others(self.port.slot) {
            shared.lifecycle.condemn(reason);
            shared.lifecycle.request_close();
        }
    }

    /// Gives up what belongs to the link; says how many bytes were not sent.
    fn let_go(&self) -> usize {
        let (shared, slot) = (&self.crew.shared, self.port.slot);
        shared.office(Input::Down { slot });
        let unsent = shared.links.went_down(slot, &shared.calls);
        shared.calls.lost(slot);
        shared.requests.lost(slot);
        shared.watches.lost(slot, &shared.links);
        if let Some(event) = shared.drops.take() {
            shared.events.announce(event);
        }
        unsent
    }

    /// The end of a driver; the last one is the end of the node.
    fn end(self) {
        self.let_go();
        let shared = &self.crew.shared;
        if self.crew.drivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            let reason = shared.lifecycle.condemn(CloseReason::Local);
            shared.calls.close();
            shared.watches.end();
            shared.events.announce(Event::Closed(reason));
            shared.lifecycle.close();
        }
    }
}

/// A router that has been up for less than this may not have met all nodes yet: five seconds.
const YOUNG_MS: u64 = 5_000;
