//! How a node offers more services over its link, and gives them up.

use std::time::Duration;

use switchboard_protocol::control::{Register, Unregister};
use switchboard_protocol::{Control, ServiceId};
use tokio::time::timeout;

use crate::error::RegisterError;
use crate::links::Port;
use crate::node::Node;
use crate::office::Input;
use crate::requests::Ticket;
use crate::service::Service;
use crate::shared::Shared;

impl Node {
    /// Offers one more service, to all routers, and again after each reconnect.
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
        let ports = shared.links.up();
        let (first, others) = ports.split_first().ok_or_else(|| shared.not_asked())?;
        let ticket = shared.requests.open(first.slot);
        let request = ticket.number;
        shared.change_identity(|identity| identity.ask(request, service.clone()));
        let register = Register { request, services: vec![service] };
        let asked = ask(shared, first, ticket, &Control::Register(register)).await;
        if asked.is_err() {
            shared.change_identity(|identity| identity.deny(request));
        }
        let id = asked?.first().copied().ok_or(RegisterError::LinkLost)?;
        // The others were asked when the first one granted it. Who refuses has been announced.
        for port in others {
            let _ = timeout(REGISTER_TIMEOUT, port.settled(id)).await;
        }
        Ok(id)
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
        shared.office(Input::Gone { ids: vec![id] });
        let mut result = Ok(());
        let ports = shared.links.up().into_iter().filter(|port| port.ids().contains(&id));
        for port in ports {
            port.revoke(&[id]);
            let ticket = shared.requests.open(port.slot);
            let unregister = Unregister { request: ticket.number, ids: vec![id], draining: false };
            match ask(shared, &port, ticket, &Control::Unregister(unregister)).await {
                // Without a link the router has taken the id back already.
                Ok(_) | Err(RegisterError::LinkLost | RegisterError::NotConnected) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }
}

/// Asks a router for something, and waits for the answer.
async fn ask(
    shared: &Shared,
    port: &Port,
    mut ticket: Ticket<'_>,
    request: &Control,
) -> Result<Vec<ServiceId>, RegisterError> {
    shared.control(port, request)?;
    match timeout(REGISTER_TIMEOUT, &mut ticket.answer).await {
        Ok(answer) => answer.unwrap_or(Err(RegisterError::LinkLost)),
        Err(_) => Err(RegisterError::Timeout),
    }
}

/// How long the answer to a registration may take.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
