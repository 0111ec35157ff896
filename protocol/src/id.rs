//! Who is addressed: a class of service, one instance of it, and the two in one `u32`.
//!
//! ```text
//!  31      24 23                             0
//! +----------+--------------------------------+
//! |  class   |            instance            |
//! +----------+--------------------------------+
//!   1..=255            1..=16_777_215
//! ```
//!
//! [`ServiceId::new`] and its accessors are the only places that shift these bits.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A kind of service, 1..=255: all match makers, all gateways.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Class(NonZeroU8);

/// One live member of a class, 1..=16,777,215.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Instance(NonZeroU32);

/// Class and instance in one number: `class << 24 | instance`. Written `5.1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct ServiceId(NonZeroU32);

/// Why a number or a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The class byte is 0, or more than 255.
    #[error("class {0} is out of range: a class is 1 to 255")]
    Class(u64),
    /// The instance is 0, or does not fit 24 bits.
    #[error("instance {0} is out of range: an instance is 1 to 16777215")]
    Instance(u64),
    /// Not of the form `class.instance`.
    #[error("`{0}` is not a service id: write class.instance in numbers, such as 5.1")]
    Form(String),
}

impl Class {
    /// The lowest class.
    pub const MIN: Self = Self(NonZeroU8::MIN);
    /// The highest class.
    pub const MAX: Self = Self(NonZeroU8::MAX);

    /// A class from its number; for constants, where a bad number stops the build.
    ///
    /// ```
    /// use switchboard_protocol::Class;
    /// const MATCHSVR: Class = Class::of(5);
    /// assert_eq!(MATCHSVR.raw(), 5);
    /// ```
    #[must_use]
    pub const fn of(raw: u8) -> Self {
        match NonZeroU8::new(raw) {
            Some(class) => Self(class),
            None => panic!("a class is 1 to 255"),
        }
    }

    /// A class from its number.
    pub fn new(raw: u8) -> Result<Self, IdError> {
        NonZeroU8::new(raw).map(Self).ok_or(IdError::Class(0))
    }

    /// Its number.
    #[must_use]
    pub const fn raw(self) -> u8 {
        self.0.get()
    }

    /// What the target field holds when a frame addresses the class and not one instance.
    #[must_use]
    pub const fn as_target(self) -> u32 {
        (self.raw() as u32) << Instance::BITS
    }

    /// The class in a target field, whatever instance stands beside it.
    #[must_use]
    pub const fn of_target(target: u32) -> Option<Self> {
        match NonZeroU8::new((target >> Instance::BITS) as u8) {
            Some(class) => Some(Self(class)),
            None => None,
        }
    }
}

impl Instance {
    /// How many bits an instance takes.
    pub const BITS: u32 = 24;
    /// The lowest instance.
    pub const MIN: Self = Self(NonZeroU32::MIN);
    /// The highest instance.
    pub const MAX: Self = Self(NonZeroU32::new((1 << Self::BITS) - 1).expect("not zero"));
    /// The first of the instances that a router assigns to nodes that ask for any (instance 0).
    pub const FIRST_ASSIGNED: Self = Self(NonZeroU32::new(1 << 23).expect("not zero"));

    /// An instance from its number.
    pub fn new(raw: u32) -> Result<Self, IdError> {
        match NonZeroU32::new(raw) {
            Some(instance) if raw <= Self::MAX.raw() => Ok(Self(instance)),
            _ => Err(IdError::Instance(raw.into())),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0.get()
    }

    /// Whether it lies in the range that routers assign from.
    #[must_use]
    pub const fn is_assigned(self) -> bool {
        self.raw() >= Self::FIRST_ASSIGNED.raw()
    }
}

impl ServiceId {
    /// The id of one instance of a class.
    #[must_use]
    pub const fn new(class: Class, instance: Instance) -> Self {
        // Neither part is zero, so neither is the whole; `MIN` only satisfies the types.
        match NonZeroU32::new(class.as_target() | instance.raw()) {
            Some(id) => Self(id),
            None => Self(NonZeroU32::MIN),
        }
    }

    /// An id from the number on the wire.
    pub fn from_raw(raw: u32) -> Result<Self, IdError> {
        let class = Class::of_target(raw).ok_or(IdError::Class(0))?;
        let instance = Instance::new(raw & Instance::MAX.raw())?;
        Ok(Self::new(class, instance))
    }

    /// The number on the wire.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0.get()
    }

    /// Its class.
    #[must_use]
    pub const fn class(self) -> Class {
        match Class::of_target(self.raw()) {
            Some(class) => class,
            None => Class::MIN,
        }
    }

    /// Its instance.
    #[must_use]
    pub const fn instance(self) -> Instance {
        match NonZeroU32::new(self.raw() & Instance::MAX.raw()) {
            Some(instance) => Instance(instance),
            None => Instance::MIN,
        }
    }
}

impl FromStr for ServiceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let form = || IdError::Form(text.to_owned());
        let (class, instance) = text.split_once('.').ok_or_else(form)?;
        let number = |part: &str| match part.as_bytes().first() {
            // `parse` alone takes a sign.
            Some(b'0'..=b'9') => part.parse::<u64>().map_err(|_| form()),
            _ => Err(form()),
        };
        let (class, instance) = (number(class)?, number(instance)?);
        let class_byte = u8::try_from(class).map_err(|_| IdError::Class(class))?;
        let instance_word = u32::try_from(instance).map_err(|_| IdError::Instance(instance))?;
        Ok(Self::new(Class::new(class_byte)?, Instance::new(instance_word)?))
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.raw())
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.class(), self.instance())
    }
}

// The debug form of an id is the id: it stands in error messages and assertions.
impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<u8> for Class {
    type Error = IdError;
    fn try_from(raw: u8) -> Result<Self, IdError> {
        Self::new(raw)
    }
}

impl TryFrom<u32> for Instance {
    type Error = IdError;
    fn try_from(raw: u32) -> Result<Self, IdError> {
        Self::new(raw)
    }
}

impl TryFrom<u32> for ServiceId {
    type Error = IdError;
    fn try_from(raw: u32) -> Result<Self, IdError> {
        Self::from_raw(raw)
    }
}

impl From<Class> for u8 {
    fn from(class: Class) -> Self {
        class.raw()
    }
}

impl From<Instance> for u32 {
    fn from(instance: Instance) -> Self {
        instance.raw()
    }
}

impl From<ServiceId> for u32 {
    fn from(id: ServiceId) -> Self {
        id.raw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_class_and_instance_in_one_number() {
        let id: ServiceId = "5.1".parse().unwrap();
        assert_eq!(id.raw(), 0x0500_0001);
        assert_eq!((id.class(), id.instance()), (Class::of(5), Instance::new(1).unwrap()));
        assert_eq!(id.to_string(), "5.1");
        assert_eq!("255.16777215".parse::<ServiceId>().unwrap().raw(), u32::MAX);
    }

    #[test]
    fn what_is_not_an_id_says_what_would_be() {
        let error = |text: &str| text.parse::<ServiceId>().unwrap_err().to_string();
        assert_eq!(error("0.1"), "class 0 is out of range: a class is 1 to 255");
        assert_eq!(error("256.1"), "class 256 is out of range: a class is 1 to 255");
        assert_eq!(error("5.0"), "instance 0 is out of range: an instance is 1 to 16777215");
        assert_eq!(
            error("5.16777216"),
            "instance 16777216 is out of range: an instance is 1 to 16777215"
        );
        assert_eq!(
            error("matchsvr"),
            "`matchsvr` is not a service id: write class.instance in numbers, such as 5.1"
        );
        assert!(error("+5.1").starts_with("`+5.1` is not a service id"));
        assert!(error("5.").starts_with("`5.` is not a service id"));
        assert_eq!(ServiceId::from_raw(0), Err(IdError::Class(0)));
        assert_eq!(ServiceId::from_raw(5 << 24), Err(IdError::Instance(0)));
    }
}
