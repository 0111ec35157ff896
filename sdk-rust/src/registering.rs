//! How a node offers more services over its link, and gives them up.

use std::time::Duration;

use switchboard_protocol::control::{Register, Unregister};
use switchboard_protocol::{Control, ServiceId};
use tokio::time::timeout;

use crate::error::RegisterError;
use crate::node::Node;
use crate::service::Service;

impl Node {
    /// Offers one more service over this link, and again after each reconnect.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Node, Service};
    ///
    /// let id = node.register(Service::from("gamesvr").metadata("map", "harbour")).await?;
    /// assert!(node.ids().contains(&id));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn register(&self, service: impl Into<Service>) -> Result<ServiceId, RegisterError> {
        let service = service.into().into_wire().map_err(RegisterError::Service)?;
        let shared = self.shared();
        let ticket = shared.requests.open();
        let request = ticket.number;
        shared.change_identity(|identity| identity.ask(request, service.clone()));
        let sent =
            shared.control(&Control::Register(Register { request, services: vec![service] }));
        if let Err(error) = sent {
            shared.change_identity(|identity| identity.deny(request));
            return Err(error);
        }
        let mut ticket = ticket;
        let answer = timeout(REGISTER_TIMEOUT, &mut ticket.answer).await;
        let ids = answer.map_err(|_| RegisterError::Timeout)?;
        let ids = ids.map_err(|_| RegisterError::LinkLost)??;
        ids.first().copied().ok_or(RegisterError::LinkLost)
    }

    /// Gives up one of the node's ids. When this returns, no message for it follows. A node keeps
    /// one id at least; to give up the last, close it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = switchboard_router::Config::local().with_class("matchsvr", 5).with_class("gamesvr", 3);
    /// # let router = switchboard_router::Router::start(config)?;
    /// # let address = router.listen()[0].to_string();
    /// # let node = Node::builder("matchsvr.1").router(&address).connect().await?;
    /// use switchboard::{Node, RegisterError};
    ///
    /// let id = node.register("gamesvr.7").await?;
    /// node.unregister(id).await?;
    /// assert_eq!(node.unregister(id).await, Err(RegisterError::NotHeld(id)));
    /// assert_eq!(node.unregister(node.id()).await, Err(RegisterError::LastId(node.id())));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn unregister(&self, id: ServiceId) -> Result<(), RegisterError> {
        let shared = self.shared();
        shared.change_identity(|identity| match identity.ids().as_slice() {
            ids if !ids.contains(&id) => Err(RegisterError::NotHeld(id)),
            [_] => Err(RegisterError::LastId(id)),
            _ => {
                identity.remove(&[id]);
                Ok(())
            }
        })?;
        shared.demote(|held| held == id);
        let mut ticket = shared.requests.open();
        let unregister = Unregister { request: ticket.number, ids: vec![id], draining: false };
        if shared.control(&Control::Unregister(unregister)).is_err() {
            // Without a link the router has taken the id back already.
            return Ok(());
        }
        match timeout(REGISTER_TIMEOUT, &mut ticket.answer).await {
            Ok(Ok(Err(RegisterError::LinkLost)) | Err(_)) => Ok(()),
            Ok(Ok(answer)) => answer.map(|_| ()),
            Err(_) => Err(RegisterError::Timeout),
        }
    }
}

/// How long the answer to a registration may take.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
