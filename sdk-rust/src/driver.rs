//! The task that owns the link: connects, works a session, and after its end connects again, or
//! closes the node for good.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use switchboard_protocol::RefusalCode;
use switchboard_protocol::control::{Hello, Welcome};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::error::{CallError, CloseReason, ConnectError, RegisterError};
use crate::event::Event;
use crate::link::{Address, GreetError, Link};
use crate::runner::Incoming;
use crate::session::{End, Session, max_frame};
use crate::shared::Shared;

/// How to get a link.
#[derive(Debug)]
pub(crate) struct Plan {
    routers: Vec<Address>,
    /// The router to try first.
    next: usize,
    hello: Hello,
    connect_timeout: Duration,
    backoff: Backoff,
}

/// Owns the link of a node, or the lack of one.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    incoming: mpsc::Sender<Incoming>,
    plan: Plan,
}

impl Plan {
    pub(crate) fn new(
        routers: Vec<Address>,
        hello: Hello,
        connect_timeout: Duration,
        backoff: Backoff,
    ) -> Self {
        Self { routers, next: 0, hello, connect_timeout, backoff }
    }

    /// Tries each router once. Where one says no, that is what is told.
    async fn connect(&mut self, shared: &Shared) -> Result<(Link, Welcome), ConnectError> {
        let mut tried: Vec<(String, io::Error)> = Vec::new();
        let mut refused = None;
        for _ in 0..self.routers.len() {
            let address = &self.routers[self.next % self.routers.len()];
            self.next = (self.next + 1) % self.routers.len();
            let hello = Hello {
                services: shared.identity().services(),
                watch: shared.watches.repaint(),
                ..self.hello.clone()
            };
            let asked = hello.services.len();
            match address.connect(hello, self.connect_timeout).await {
                Ok((link, welcome)) if welcome.ids.len() == asked => return Ok((link, welcome)),
                Ok((_, welcome)) => {
                    let text = format!("{} ids for {asked} services", welcome.ids.len());
                    let error = io::Error::new(io::ErrorKind::InvalidData, text);
                    tried.push((address.to_string(), error));
                }
                Err(GreetError::Io(error)) => tried.push((address.to_string(), error)),
                Err(GreetError::Refused { code, text }) => {
                    let router = address.to_string();
                    let refusal = ConnectError::Refused { router, code, text };
                    // What one router has no room for, another may have.
                    if !matches!(code, RefusalCode::Draining | RefusalCode::LimitExceeded) {
                        return Err(refusal);
                    }
                    refused = Some(refusal);
                }
            }
        }
        Err(refused.unwrap_or(ConnectError::Unreachable { tried }))
    }
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, incoming: mpsc::Sender<Incoming>, plan: Plan) -> Self {
        Self { shared, incoming, plan }
    }

    /// The first connection, whose failure is told to whoever builds the node.
    pub(crate) async fn first(&mut self) -> Result<(Link, Welcome), ConnectError> {
        self.plan.connect(&self.shared).await
    }

    /// Opens the node for business over a new link: from now on it is who the router says it is,
    /// and may send.
    pub(crate) fn adopt(&self, welcome: &Welcome) {
        let shared = &self.shared;
        shared.change_identity(|identity| identity.welcome(&welcome.ids, &welcome.classes));
        shared.outbox.open(max_frame(welcome) as usize, shared.identity().primary());
        let (router, ids) = (welcome.router.clone(), welcome.ids.clone());
        shared.events.announce(Event::Connected { router, ids });
        shared.watches.ask(&shared.outbox);
    }

    /// Works until the node is closed for good.
    pub(crate) async fn run(mut self, link: Link, welcome: Welcome) {
        let mut connected = Some((link, welcome));
        while let Some((link, welcome)) = connected {
            self.plan.backoff.reset();
            let session = Session::new(&self.shared, &self.incoming, &welcome);
            let end = session.run(link).await;
            connected = match end {
                End::Final(reason) => {
                    self.close(reason);
                    None
                }
                End::Lost { why, come_back } => {
                    self.lost(why);
                    if let Some(delay) = come_back {
                        self.plan.backoff.ask(delay);
                    }
                    self.reconnect().await
                }
            };
        }
    }

    /// Tries until there is a link; `None` if the node was closed meanwhile.
    async fn reconnect(&mut self) -> Option<(Link, Welcome)> {
        let shared = Arc::clone(&self.shared);
        let mut why = None;
        loop {
            let after = self.plan.backoff.next(RandomState::new().hash_one(0));
            let attempt = self.plan.backoff.attempt();
            let because = why.take();
            shared.events.announce(Event::Reconnecting { after, attempt, why: because });
            let attempt = async {
                sleep(after).await;
                self.plan.connect(&shared).await
            };
            let result = tokio::select! {
                result = attempt => result,
                () = shared.lifecycle.close_requested() => {
                    self.close(CloseReason::Local);
                    return None;
                }
            };
            match result {
                Ok(connected) => {
                    self.adopt(&connected.1);
                    return Some(connected);
                }
                Err(ConnectError::Refused {
                    code: RefusalCode::OutdatedIncarnation, text, ..
                }) => {
                    let code = RefusalCode::OutdatedIncarnation;
                    self.close(CloseReason::Refused { code, text });
                    return None;
                }
                Err(ConnectError::Refused { code, text, router }) => {
                    why = Some(format!("{router} refuses: {text}"));
                    shared.events.announce(Event::Refused { code, text });
                }
                Err(error) => why = Some(error.to_string()),
            }
        }
    }

    fn lost(&self, why: String) {
        let unsent = self.let_go();
        self.shared.events.announce(Event::Lost { why, unsent });
    }

    /// ORDER: the reason stands before the outbox closes, so that whoever finds it closed finds
    /// the reason as well.
    fn close(&self, reason: CloseReason) {
        let reason = self.shared.lifecycle.condemn(reason);
        self.let_go();
        self.shared.watches.end();
        self.shared.events.announce(Event::Closed(reason));
        self.shared.lifecycle.close();
    }

    /// Nothing that was under way on the link can be known any more; says how many bytes were not
    /// sent.
    ///
    /// ORDER: first the outbox, then the calls: a call that gets past the outbox before it closes
    /// is among those that are answered here.
    fn let_go(&self) -> usize {
        let unsent = self.shared.outbox.close();
        self.shared.calls.answer_all(|| Err(CallError::OutcomeUnknown));
        self.shared.requests.answer_all(|| Err(RegisterError::LinkLost));
        self.shared.change_identity(crate::identity::Identity::deny_all);
        self.shared.demote(|_| true);
        if let Some(event) = self.shared.drops.take() {
            self.shared.events.announce(event);
        }
        unsent
    }
}
