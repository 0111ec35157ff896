//! What the node is to its routers: the services that it holds, and the names of classes. Written
//! by the driver when a Welcome or a Registered comes, read whenever a name has to be a number.

use std::collections::BTreeMap;

use ahash::AHashMap;
use switchboard_protocol::control;
use switchboard_protocol::{Class, Instance, ServiceId};

/// Who this node is, as its routers see it.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    /// What the node offers, and under which ids; the first is the one that it sends under.
    held: Vec<Held>,
    keys: u32,
    last_first: Option<ServiceId>,
    /// Services for which a Register is under way, by its request number.
    asked: BTreeMap<u32, control::Service>,
    names: AHashMap<String, Class>,
}

/// A service that was asked for and, once a router has answered, the id that it got.
#[derive(Debug)]
struct Held {
    /// Tells it from the others, whatever comes and goes.
    key: u32,
    service: control::Service,
    id: Option<ServiceId>,
}

/// What a Hello asked for, so that its Welcome can be understood.
#[derive(Debug)]
pub(crate) struct Asked(Vec<u32>);

impl Identity {
    pub(crate) fn new(services: Vec<control::Service>) -> Self {
        let mut identity = Self::default();
        services.into_iter().for_each(|service| identity.hold(service, None));
        identity
    }

    /// What to ask for in Hello. An id that a router assigned is kept, unless it is somebody
    /// else's at the router that is asked.
    pub(crate) fn services(&self) -> (Asked, Vec<control::Service>) {
        let asked = self.held.iter().map(|held| held.key).collect();
        (Asked(asked), self.held.iter().map(Held::service).collect())
    }

    /// The service with an id, as other routers are asked for it.
    pub(crate) fn service(&self, id: ServiceId) -> Option<control::Service> {
        self.held.iter().find(|held| held.id == Some(id)).map(Held::service)
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

    /// The name of a class; the first of several by the alphabet.
    pub(crate) fn class_name(&self, class: Class) -> Option<&str> {
        let names = self.names.iter().filter(|(_, named)| **named == class);
        names.map(|(name, _)| name.as_str()).min()
    }

    /// Takes over what the only router says: ids in the order in which they were asked for.
    pub(crate) fn welcome(&mut self, asked: &Asked, ids: &[ServiceId]) {
        for (key, id) in asked.0.iter().zip(ids) {
            if let Some(held) = self.held.iter_mut().find(|held| held.key == *key) {
                held.id = Some(*id);
            }
        }
    }

    /// Takes over the names of classes, from the only router or from one more.
    pub(crate) fn learn(&mut self, names: &BTreeMap<Class, String>, alone: bool) {
        if alone {
            self.names.clear();
        }
        self.names.extend(names.iter().map(|(class, name)| (name.clone(), *class)));
    }

    /// An assigned id is somebody else's by now: the next router shall assign another.
    pub(crate) fn forget_assigned(&mut self) {
        self.last_first = self.primary().or(self.last_first);
        for held in &mut self.held {
            if held.is_assigned() {
                held.id = None;
            }
        }
    }

    /// Remembers a service until the router has answered the request for it.
    pub(crate) fn ask(&mut self, request: u32, service: control::Service) {
        self.asked.insert(request, service);
    }

    /// A router granted a request; answers whether this node had made it.
    pub(crate) fn grant(&mut self, request: u32, ids: &[ServiceId]) -> bool {
        let (Some(service), Some(id)) = (self.asked.remove(&request), ids.first()) else {
            return false;
        };
        self.hold(service, Some(*id));
        true
    }

    /// The router refused a request, or the link is gone that it was made on.
    pub(crate) fn deny(&mut self, request: u32) {
        self.asked.remove(&request);
    }

    pub(crate) fn remove(&mut self, ids: &[ServiceId]) {
        self.last_first = self.primary().or(self.last_first);
        self.held.retain(|held| held.id.is_none_or(|id| !ids.contains(&id)));
    }

    fn hold(&mut self, service: control::Service, id: Option<ServiceId>) {
        self.keys += 1;
        self.held.push(Held { key: self.keys, service, id });
    }

    #[cfg(test)]
    pub(crate) fn with_names<const N: usize>(names: [(&str, u8); N]) -> Self {
        let names = names.map(|(name, raw)| (name.to_owned(), Class::of(raw)));
        Self { names: names.into_iter().collect(), ..Self::default() }
    }
}

impl Held {
    /// Whether a router chose the instance.
    fn is_assigned(&self) -> bool {
        let named = match self.service.id {
            0 => self.service.instance,
            id => id & Instance::MAX.raw(),
        };
        named == 0
    }

    fn service(&self) -> control::Service {
        match self.id {
            Some(id) if self.is_assigned() => control::Service {
                id: id.raw(),
                class: String::new(),
                instance: 0,
                assigned: true,
                ..self.service.clone()
            },
            _ => self.service.clone(),
        }
    }
}
