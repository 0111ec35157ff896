//! From a builder to a node: the first router, then the others, then the first handler.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use switchboard_protocol::RefusalCode;
use switchboard_protocol::control::Hello;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::builder::{Builder, DEFAULT_ROUTER, Watched};
use crate::deliveries::Deliveries;
use crate::driver::{Crew, Driver, Plan, Welcomed};
use crate::error::ConnectError;
use crate::identity::Identity;
use crate::incoming::Incoming;
use crate::link::Address;
use crate::links::MAX_ROUTERS;
use crate::node::Node;
use crate::runner::Runner;
use crate::shared::Shared;
use crate::target::To;

impl Builder {
    /// Connects, and returns when the node is reachable under its ids.
    ///
    /// Tries each router once. From then on the node reconnects by itself, and says so in its
    /// [`Event`](crate::Event)s. Must be called in a tokio runtime, which the node lives in.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// use switchboard::{ConnectError, Node};
    ///
    /// let error = Node::builder("matchsvr.one").router(&address).connect().await.unwrap_err();
    /// assert!(matches!(error, ConnectError::Option { option: "builder", .. }));
    ///
    /// let error = Node::builder("bakery.1").router(&address).connect().await.unwrap_err();
    /// assert!(matches!(error, ConnectError::Refused { .. }));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Node, ConnectError> {
        let waiting = Arc::new(Semaphore::new(self.handlers_waiting));
        let (node, queue) = self.join().await?;
        let shared = Arc::clone(node.shared());
        let runner = Runner { shared, node: node.downgrade(), queue, waiting };
        tokio::spawn(runner.run());
        Ok(node)
    }

    /// Connects like [`Builder::connect`], and hands the messages that come to the program, which
    /// answers them itself. Handlers set with [`Builder::on`] are not run.
    pub async fn connect_with_deliveries(self) -> Result<(Node, Deliveries), ConnectError> {
        let (node, queue) = self.join().await?;
        let deliveries = Deliveries::new(Arc::clone(node.shared()), node.downgrade(), queue);
        Ok((node, deliveries))
    }

    /// A node that is reachable, and what it is sent.
    async fn join(self) -> Result<(Node, mpsc::Receiver<Incoming>), ConnectError> {
        let mut services = Vec::new();
        for (option, service) in std::iter::once(("builder", self.first))
            .chain(self.more.into_iter().map(|service| ("also", service)))
        {
            let wire = service.into_wire();
            services.push(wire.map_err(|why| ConnectError::Option { option, why })?);
        }
        let routers = match self.routers.is_empty() {
            true => vec![DEFAULT_ROUTER.to_owned()],
            false => self.routers,
        };
        let routers: Result<Vec<_>, _> = routers.iter().map(|text| Address::read(text)).collect();
        let routers = routers.map_err(|why| ConnectError::Option { option: "router", why })?;
        if routers.len() > MAX_ROUTERS {
            let why = format!("{} routers are over the limit of {MAX_ROUTERS}", routers.len());
            return Err(ConnectError::Option { option: "router", why });
        }

        let incarnation = incarnation();
        let identity = Identity::new(services);
        let shared = Arc::new(Shared::new(identity, incarnation, self.handlers, self.options));
        shared.set_stop(self.on_stop);
        for watched in &self.watches {
            if let Watched::Class(class) = watched {
                shared.watches.keep(*class);
            }
        }
        let (incoming, queue) = mpsc::channel(self.handler_queue);
        shared.set_queue(incoming.downgrade());
        let plan = Plan {
            hello: Hello { incarnation, ..self.hello },
            connect_timeout: self.connect_timeout,
            backoff: Backoff::new(self.backoff.0, self.backoff.1),
        };
        let crew = Arc::new(Crew::new(Arc::clone(&shared), incoming, plan));
        let ports = routers.into_iter().filter_map(|address| shared.links.add(address));
        let drivers: Vec<Driver> = ports.map(|port| crew.driver(port)).collect();
        drop(crew);
        let (first, welcomed, others) = first_link(drivers).await?;
        first.adopt(&welcomed);
        for watched in &self.watches {
            if let Watched::Name(name) = watched {
                let class = shared.class(To::Name(name)).map_err(|error| ConnectError::Option {
                    option: "watch",
                    why: error.to_string(),
                })?;
                shared.watches.keep(class);
            }
        }
        shared.links.up().iter().for_each(|port| shared.watches.ask(port));
        let node = Node::new(Arc::clone(&shared));
        tokio::spawn(first.run(Ok(welcomed)));
        // The others have a moment to come up as well; who takes longer does so behind the scenes.
        let mut others: Vec<_> = others.into_iter().map(Driver::start).collect();
        let tried = async {
            for other in &mut others {
                let _ = other.wait_for(|tried| *tried).await;
            }
        };
        let _ = timeout(OTHERS, tried).await;
        if let Some(start) = self.on_start {
            start(node.clone()).await;
        }
        Ok((node, queue))
    }
}

/// The first router that takes the node, and the drivers of the others. Only then the others are
/// asked: an id that one assigns is to be the same with all.
async fn first_link(drivers: Vec<Driver>) -> Result<(Driver, Welcomed, Vec<Driver>), ConnectError> {
    let mut tried = Vec::new();
    let mut refused = None;
    let mut others = Vec::new();
    let mut drivers = drivers.into_iter();
    while let Some(mut driver) = drivers.next() {
        match driver.connect().await {
            Ok(welcomed) => {
                others.extend(drivers);
                return Ok((driver, welcomed, others));
            }
            Err(ConnectError::Unreachable { tried: one }) => tried.extend(one),
            // What one router has no room for, another may have; and while tokens are changed, one
            // router knows of it before another.
            Err(
                refusal @ ConnectError::Refused {
                    code:
                        RefusalCode::Draining
                        | RefusalCode::LimitExceeded
                        | RefusalCode::Unauthorized
                        | RefusalCode::NotAllowed,
                    ..
                },
            ) => refused = Some(refusal),
            Err(error) => return Err(error),
        }
        others.push(driver);
    }
    Err(refused.unwrap_or(ConnectError::Unreachable { tried }))
}

/// Grows each time that a program starts: microseconds since 1970.
fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// How long a new node waits for its second router and those behind it.
const OTHERS: Duration = Duration::from_millis(250);
