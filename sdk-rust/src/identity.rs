//! What the node is to its router: the services that it holds, and the names of classes. Written
//! by the driver when a Welcome or a Registered comes, read whenever a name has to be a number.

use std::collections::BTreeMap;

use ahash::AHashMap;
use switchboard_protocol::control;
use switchboard_protocol::{Class, ServiceId};

/// Who this node is, as its router sees it.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// What the node offers, and under which ids; the first is the one that it sends under.
    held: Vec<Held>,
    last_first: Option<ServiceId>,
    /// Services for which a Register is under way, by its request number.
    asked: BTreeMap<u32, control::Service>,
    names: AHashMap<String, Class>,
}

/// A service that was asked for and, once the router has answered, the id that it got.
#[derive(Debug)]
struct Held {
    service: control::Service,
    id: Option<ServiceId>,
}

impl Identity {
    pub(crate) fn new(services: Vec<control::Service>) -> Self {
        let held = services.into_iter().map(|service| Held { service, id: None }).collect();
        Self { held, ..Self::default() }
    }

    /// What to ask for in Hello. An assigned instance is asked for anew each time: another node
    /// may have been given the number in the meantime.
    pub(crate) fn services(&self) -> Vec<control::Service> {
        self.held.iter().map(|held| held.service.clone()).collect()
    }

    pub(crate) fn ids(&self) -> Vec<ServiceId> {
        self.held.iter().filter_map(|held| held.id).collect()
    }

    /// The first id, or the last that was first once all are gone.
    pub(crate) fn first(&self) -> ServiceId {
        self.primary().or(self.last_first).expect("a node exists since its first Welcome")
    }

    pub(crate) fn primary(&self) -> Option<ServiceId> {
        self.held.iter().find_map(|held| held.id)
    }

    pub(crate) fn holds(&self, id: ServiceId) -> bool {
        self.held.iter().any(|held| held.id == Some(id))
    }

    /// The id under which a frame to `class` reached this node.
    pub(crate) fn of_class(&self, class: Class) -> Option<ServiceId> {
        self.held.iter().filter_map(|held| held.id).find(|id| id.class() == class)
    }

    /// A class by its name, or by its number in digits.
    pub(crate) fn class(&self, name: &str) -> Option<Class> {
        self.names.get(name).copied().or_else(|| Class::new(name.parse().ok()?).ok())
    }

    /// Takes over what Welcome says: ids in the order of the services, and names.
    pub(crate) fn welcome(&mut self, ids: &[ServiceId], names: &BTreeMap<Class, String>) {
        for (index, held) in self.held.iter_mut().enumerate() {
            held.id = ids.get(index).copied();
        }
        self.names = names.iter().map(|(class, name)| (name.clone(), *class)).collect();
    }

    /// Remembers a service until the router has answered the request for it.
    pub(crate) fn ask(&mut self, request: u32, service: control::Service) {
        self.asked.insert(request, service);
    }

    /// The router granted a request.
    pub(crate) fn grant(&mut self, request: u32, ids: &[ServiceId]) {
        if let (Some(service), Some(id)) = (self.asked.remove(&request), ids.first()) {
            self.held.push(Held { service, id: Some(*id) });
        }
    }

    /// The router refused a request, or the link is gone that it was made on.
    pub(crate) fn deny(&mut self, request: u32) {
        self.asked.remove(&request);
    }

    /// No request that is under way will be answered.
    pub(crate) fn deny_all(&mut self) {
        self.asked.clear();
    }

    pub(crate) fn remove(&mut self, ids: &[ServiceId]) {
        self.last_first = self.primary().or(self.last_first);
        self.held.retain(|held| held.id.is_none_or(|id| !ids.contains(&id)));
    }

    #[cfg(test)]
    pub(crate) fn with_names<const N: usize>(names: [(&str, u8); N]) -> Self {
        let names = names.map(|(name, raw)| (name.to_owned(), Class::of(raw)));
        Self { names: names.into_iter().collect(), ..Self::default() }
    }
}
