//! What a node offers: a class, an instance of it, and what others may know about it.

use switchboard_protocol::control;
use switchboard_protocol::{Class, Instance, ServiceId};

/// A service that a node registers.
///
/// Written as `"matchsvr.1"`, `"5.1"`, a [`ServiceId`], or, with an instance that the router
/// assigns, `"matchsvr"`, `"5"` or a [`Class`]. Names of classes are the router's.
///
/// ```
/// use switchboard::Service;
///
/// let service = Service::from("gatesvr.3").weight(2).metadata("zone", "eu");
/// # let _ = service;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    wire: control::Service,
    mistake: Option<String>,
}

impl Service {
    /// Its share of [`Random`](crate::Random) messages against the other instances'; 1 unless set,
    /// and 0 takes none.
    #[must_use]
    pub fn weight(mut self, weight: u16) -> Self {
        self.wire.weight = weight;
        self
    }

    /// Adds something that watchers of the class are told of it.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.wire.metadata.insert(key.into(), value.into());
        self
    }

    /// As it goes into Hello or Register, or what is wrong with it.
    pub(crate) fn into_wire(self) -> Result<control::Service, String> {
        match self.mistake {
            None => Ok(self.wire),
            Some(mistake) => Err(mistake),
        }
    }
}

impl From<ServiceId> for Service {
    fn from(id: ServiceId) -> Self {
        Self { wire: control::Service::of(id), mistake: None }
    }
}

impl From<Class> for Service {
    fn from(class: Class) -> Self {
        Self { wire: control::Service::any_of(class), mistake: None }
    }
}

impl From<&str> for Service {
    fn from(text: &str) -> Self {
        match read(text) {
            Ok(wire) => Self { wire, mistake: None },
            Err(mistake) => Self { wire: control::Service::default(), mistake: Some(mistake) },
        }
    }
}

impl From<String> for Service {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&String> for Service {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

fn read(text: &str) -> Result<control::Service, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("`{text}` is not a service: {why}");
    let (class, instance) = match text.rsplit_once('.') {
        Some((class, instance)) => {
            let instance: u32 = instance.parse().map_err(|_| wrong(&FORM))?;
            (class, Instance::new(instance).map_err(|error| wrong(&error))?.raw())
        }
        None => (text, 0),
    };
    if class.is_empty() {
        return Err(wrong(&FORM));
    }
    let mut service = control::Service::default();
    if class.bytes().all(|byte| byte.is_ascii_digit()) {
        let raw: u8 = class.parse().map_err(|_| wrong(&"a class is 1 to 255"))?;
        service.id = Class::new(raw).map_err(|error| wrong(&error))?.as_target() | instance;
    } else {
        class.clone_into(&mut service.class);
        service.instance = instance;
    }
    Ok(service)
}

const FORM: &str = "write matchsvr.1 or 5.1, or matchsvr to have an instance assigned";

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(service: impl Into<Service>) -> control::Service {
        service.into().into_wire().unwrap()
    }

    #[test]
    fn a_service_is_an_id_or_a_name_with_or_without_an_instance() {
        let named = |class: &str, instance| control::Service {
            class: class.to_owned(),
            instance,
            ..control::Service::default()
        };
        let id: ServiceId = "5.1".parse().unwrap();
        assert_eq!(wire("5.1"), control::Service::of(id));
        assert_eq!(wire(id), control::Service::of(id));
        assert_eq!(wire("5"), control::Service::any_of(Class::of(5)));
        assert_eq!(wire(Class::of(5)), control::Service::any_of(Class::of(5)));
        assert_eq!(wire("matchsvr.1"), named("matchsvr", 1));
        assert_eq!(wire("matchsvr"), named("matchsvr", 0));
    }

    #[test]
    fn what_is_not_a_service_says_what_would_be() {
        let mistake = |text: &str| Service::from(text).into_wire().unwrap_err();
        assert_eq!(
            mistake("matchsvr.one"),
            "`matchsvr.one` is not a service: write matchsvr.1 or 5.1, or matchsvr to have an \
             instance assigned"
        );
        assert!(mistake("").contains("is not a service"));
        assert!(mistake(".1").contains("is not a service"));
        assert!(mistake("300.1").contains("a class is 1 to 255"));
        assert!(mistake("5.0").contains("an instance is 1 to 16777215"));
    }
}
